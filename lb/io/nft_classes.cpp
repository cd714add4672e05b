// Size classes: how their numbers and chains are called, and the rules of one.

#include <algorithm>
#include <array>
#include <string>

#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>

#include "lb/core/slots.hpp"
#include "lb/io/nft_schema_parts.hpp"

namespace muster::lb::nft {
namespace {

/// Any number that all nodes have alike.
constexpr std::uint32_t kHashSeed = 0x6D757374;

constexpr std::array kPolicies{Policy::random, Policy::round_robin, Policy::source_hash};
constexpr std::array kPolicyNames{"random_", "rr_", "hash_"};

std::string class_chain(const Selector& selector, Protocol protocol) {
  std::string name = kPolicyNames[static_cast<std::size_t>(selector.policy)];
  name += std::to_string(selector.size) + "_";
  if (selector.affinity_seconds > 0) name += std::to_string(selector.affinity_seconds) + "s_";
  return name += to_string(protocol);
}

/// Not for IPv6: nft 1.0.6 lists such rules and cannot read them back. VipTable has those clients
/// hashed, which is as good while backends stay.
bool remembers(Family family, const Selector& selector) {
  return selector.affinity_seconds > 0 && family == Family::v4;
}

std::string remember_chain(const Selector& selector, Protocol protocol) {
  return "remember_" + class_chain(selector, protocol);
}

/// One size class being written.
class ClassWriter : private FlowWriter {
 public:
  ClassWriter(netlink::Writer& out, netlink::Socket& socket, const SchemaOptions& options)
      : FlowWriter{out, socket, options} {}

  SchemaCounts write(const SizeClass& size_class, bool first_with_affinity) {
    const auto& [family, protocol, selector] = size_class;
    if (remembers(family, selector)) {
      affinity_rules(selector, protocol);
      if (first_with_affinity) affinity_dispatch(protocol);
      class_element(selector, affine_name(protocol), NFT_JUMP, remember_chain(selector, protocol));
    } else {
      class_rules(selector, protocol);
    }
    class_element(selector, classes_name(protocol), NFT_GOTO, class_chain(selector, protocol));
    return counts_;
  }

 private:
  /// numgen random mod N
  void number(const Selector& selector, std::uint32_t to) {
    expression("numgen", [&] {
      out_.u32_be(NFTA_NG_DREG, to);
      out_.u32_be(NFTA_NG_MODULUS, selector.size);
      out_.u32_be(NFTA_NG_TYPE,
                  selector.policy == Policy::random ? NFT_NG_RANDOM : NFT_NG_INCREMENTAL);
      out_.u32_be(NFTA_NG_OFFSET, 0);
    });
  }

  /// jhash ip saddr mod N
  void hash(const Selector& selector, std::uint32_t to) {
    load_source(to + 1);
    expression("hash", [&] {
      out_.u32_be(NFTA_HASH_SREG, to + 1);
      out_.u32_be(NFTA_HASH_DREG, to);
      out_.u32_be(NFTA_HASH_LEN, address_size());
      out_.u32_be(NFTA_HASH_MODULUS, selector.size);
      out_.u32_be(NFTA_HASH_SEED, kHashSeed);
      out_.u32_be(NFTA_HASH_TYPE, NFT_HASH_JENKINS);
    });
  }

  /// ip daddr . tcp dport . numgen random mod N map @slots_tcp
  void choose(const Selector& selector, Protocol protocol, std::uint32_t to) {
    load_service(protocol);
    if (selector.policy == Policy::source_hash) {
      hash(selector, after_address() + 1);
    } else {
      number(selector, after_address() + 1);
    }
    lookup(set_name(Set::slots, protocol), to);
  }

  void dnat(std::uint32_t to) {
    expression("nat", [&] {
      out_.u32_be(NFTA_NAT_TYPE, NFT_NAT_DNAT);
      out_.u32_be(NFTA_NAT_FAMILY, family_);
      out_.u32_be(NFTA_NAT_REG_ADDR_MIN, to);
      out_.u32_be(NFTA_NAT_REG_PROTO_MIN, to + address_size() / 4);
    });
  }

  void translate(const Selector& selector, Protocol protocol) {
    choose(selector, protocol, kReg);
    dnat(kReg);
  }

  /// What comes first in each class: the priority has done its work.
  void begin_class(Protocol protocol) {
    load_zero();
    set_priority();
    if (protocol != Protocol::tcp || !options_.syn_failover) return;
    set_timeout(kTimeoutPolicy);
  }

  void class_rules(const Selector& selector, Protocol protocol) {
    const std::string name = class_chain(selector, protocol);
    chain(name);
    rule(name, [&] {
      begin_class(protocol);
      translate(selector, protocol);
    });
    // Reached only if the slot was gone: the table shrank between this packet's two look-ups, or
    // was seen (before Linux 6.17) in the instant one element takes another's place.
    rule(name, [&] { translate(selector, protocol); });
  }

  /// Who was here before goes where he went; others are balanced as without affinity.
  void affinity_rules(const Selector& selector, Protocol protocol) {
    const std::string name = class_chain(selector, protocol);
    chain(name);
    rule(name, [&] {
      begin_class(protocol);
      load_client(protocol);
      lookup(affinity_name(protocol), after_client());
      dnat(after_client());
    });
    rule(name, [&] { translate(selector, protocol); });
    rule(name, [&] { translate(selector, protocol); });
    const std::string remember = remember_chain(selector, protocol);
    chain(remember);
    rule(remember, [&] {
      load_original_client(protocol);
      load_reply_source(after_client());
      dynset(affinity_name(protocol), NFT_DYNSET_OP_UPDATE, after_client(),
             selector.affinity_seconds);
    });
  }

  /// What was translated is remembered on its way out, where its backend is known to conntrack:
  /// nft has no words for an element whose value is a look-up. By the packet's priority, as in
  /// dispatch().
  void affinity_dispatch(Protocol protocol) {
    const std::string name = remember_name(protocol);
    rule(name, [&] {
      load_original_service(protocol);
      lookup(set_name(Set::vips, protocol), kReg);
      set_priority();
      meta_load(NFT_META_PRIORITY, kReg);
      lookup(affine_name(protocol), NFT_REG_VERDICT);
    });
    rule(name, [&] {
      load_original_service(protocol);
      lookup(set_name(Set::vips, protocol), kReg);
      set_priority();  // or nft would not list the look-up
      load_zero();
      set_priority();
    });
  }

  /// Not a verdict in `vips` itself: each change there would have the kernel walk all of them to
  /// look for loops, 2.3 ms with 10,000 Vips.
  void class_element(const Selector& selector, std::string_view map, int code,
                     std::string_view to) {
    open(NFT_MSG_NEWSETELEM, NLM_F_EXCL);
    out_.text(NFTA_SET_ELEM_LIST_TABLE, options_.table);
    out_.text(NFTA_SET_ELEM_LIST_SET, map);
    out_.nest(NFTA_SET_ELEM_LIST_ELEMENTS, [&] {
      out_.nest(NFTA_LIST_ELEM, [&] {
        data(NFTA_SET_ELEM_KEY, class_id(selector));
        out_.nest(NFTA_SET_ELEM_DATA, [&] { verdict(code, to); });
      });
    });
    out_.end();
  }
};

}  // namespace

std::string remember_name(Protocol protocol) {
  return "remember_" + std::string{to_string(protocol)};
}

std::string affine_name(Protocol protocol) {
  return "affine_" + std::string{to_string(protocol)};
}

void FlowWriter::load_reply_source(std::uint32_t to) {
  const auto field = [this](std::uint32_t key, std::uint32_t reg) {
    expression("ct", [&] {
      out_.u32_be(NFTA_CT_KEY, key);
      out_.u32_be(NFTA_CT_DREG, reg);
      out_.u8(NFTA_CT_DIRECTION, IP_CT_DIR_REPLY);
    });
  };
  field(v4_ ? NFT_CT_SRC_IP : NFT_CT_SRC_IP6, to);
  field(NFT_CT_PROTO_SRC, to + address_size() / 4);
}

void FlowWriter::load_original_client(Protocol protocol) {
  match_protocol(protocol);
  original(v4_ ? NFT_CT_SRC_IP : NFT_CT_SRC_IP6, kReg);
  original(v4_ ? NFT_CT_DST_IP : NFT_CT_DST_IP6, after_address());
  original(NFT_CT_PROTO_DST, after_client() - 1);
}

std::string classes_name(Protocol protocol) {
  return "classes_" + std::string{to_string(protocol)};
}

std::string affinity_name(Protocol protocol) {
  return "affinity_" + std::string{to_string(protocol)};
}

std::string set_name(Set set, Protocol protocol) {
  std::string name = set == Set::vips ? "vips_" : set == Set::slots ? "slots_" : "refused_";
  return name += to_string(protocol);
}

std::uint32_t class_id(const Selector& selector) noexcept {
  std::uint32_t affinity = 0;  // counted from 1
  if (selector.affinity_seconds > 0) {
    const auto step =
        std::find(kAffinitySeconds.begin(), kAffinitySeconds.end(), selector.affinity_seconds);
    affinity = static_cast<std::uint32_t>(step - kAffinitySeconds.begin()) + 1;
  }
  return affinity << 20 | static_cast<std::uint32_t>(selector.policy) << 16 | selector.size;
}

std::optional<Selector> selector_of(std::uint32_t class_id) noexcept {
  const std::uint32_t size = class_id & 0xFFFF;
  const std::uint32_t policy = class_id >> 16 & 0xF;
  const std::uint32_t affinity = class_id >> 20;
  if (policy >= kPolicies.size() || affinity > kAffinitySeconds.size() || !is_size_class(size)) {
    return std::nullopt;
  }
  return Selector{kPolicies[policy], size, affinity == 0 ? 0 : kAffinitySeconds[affinity - 1]};
}

SchemaCounts class_counts(const std::set<SizeClass>& classes, Family family) {
  SchemaCounts counts;
  std::set<Protocol> affine;
  for (const SizeClass& one : classes) {
    if (one.family != family) continue;
    const bool affinity = remembers(family, one.selector);
    counts.objects += affinity ? 2 : 1;
    counts.rules += affinity ? 4 : 2;
    if (affinity && affine.insert(one.protocol).second) counts.rules += 2;
  }
  return counts;
}

bool has_affinity(const std::set<SizeClass>& classes, Family family, Protocol protocol) {
  return std::any_of(classes.begin(), classes.end(), [&](const SizeClass& one) {
    return one.family == family && one.protocol == protocol && remembers(family, one.selector);
  });
}

SchemaCounts write_class(netlink::Writer& out, netlink::Socket& socket,
                         const SchemaOptions& options, const SizeClass& size_class,
                         bool first_with_affinity) {
  return ClassWriter{out, socket, options}.write(size_class, first_with_affinity);
}

}  // namespace muster::lb::nft
