#include "lb/io/nft_schema.hpp"

#include <algorithm>
#include <array>
#include <netinet/in.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>

#include "lb/core/slots.hpp"
#include "lb/io/nft_notes.hpp"
#include "lb/io/nft_rules.hpp"

namespace muster::lb::nft {
namespace {

// DNAT just ahead of everybody else's (-100), because a connection is translated only once, by
// whoever comes first; behind conntrack (-200). The guard right behind it, where what still goes
// to a Vip was not balanced. Masquerading ahead of everybody else's (100).
constexpr std::int32_t kDnatPriority = -110;
constexpr std::int32_t kGuardPriority = -90;
constexpr std::int32_t kMasqueradePriority = 90;
// Behind conntrack, which must see the refusal first, and ahead of everything that might count it.
constexpr std::int32_t kRetryPriority = -150;

/// A client repeats its SYN after 1 s. By then the first attempt must be forgotten, so that the
/// repeated one is balanced anew.
constexpr std::uint32_t kSynSentSeconds = 1;
constexpr std::string_view kTimeoutPolicy = "syn";

/// A flow that was reset is forgotten at once: a refused client repeats its SYN after 1 s, from
/// when it sent the first one, which is a moment before any timer that the refusal starts.
constexpr std::uint32_t kClosedSeconds = 0;
constexpr std::string_view kRetriedSet = "retried";
constexpr std::uint64_t kRetriedMilliseconds = 10'000;
constexpr std::uint32_t kMaxRetried = 65536;  // above it refusals are passed on

constexpr std::uint32_t kTranslated = IPS_DST_NAT;
constexpr std::uint32_t kTranslatedOrStood = IPS_DST_NAT | IPS_ASSURED;

/// Clients of Vips with affinity remembered at once, for each protocol; others are
/// balanced as if there were no affinity.
constexpr std::uint32_t kMaxClients = 65536;

/// Any number that all nodes have alike.
constexpr std::uint32_t kHashSeed = 0x6D757374;

constexpr std::array kPolicies{Policy::random, Policy::round_robin, Policy::source_hash};
constexpr std::array kPolicyNames{"random_", "rr_", "hash_"};
constexpr std::array kProtocols{Protocol::tcp, Protocol::udp};

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

std::string remember_name(Protocol protocol) {
  return "remember_" + std::string{to_string(protocol)};
}
std::string remember_chain(const Selector& selector, Protocol protocol) {
  return "remember_" + class_chain(selector, protocol);
}
/// The classes whose clients are remembered.
std::string affine_name(Protocol protocol) {
  return "affine_" + std::string{to_string(protocol)};
}

/// One table being written.
class SchemaWriter : private TableWriter {
 public:
  SchemaWriter(netlink::Writer& out, netlink::Socket& socket, const SchemaOptions& options)
      : TableWriter{out, socket, options.table, options.family}, options_{options} {}

  SchemaCounts write() {
    table(schema_comment(options_));
    if (options_.syn_failover) timeout_policy(kTimeoutPolicy, kSynSentSeconds, kClosedSeconds);
    sets();
    service_chain();
    hook("prerouting", NF_INET_PRE_ROUTING, "nat", kDnatPriority);
    rule("prerouting", [this] { jump(NFT_JUMP, "services"); });
    hook("output", NF_INET_LOCAL_OUT, "nat", kDnatPriority);
    rule("output", [this] { jump(NFT_JUMP, "services"); });
    masquerade_chain();
    guard_chains();
    if (options_.syn_failover) retry_chain();
    return counts_;
  }

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
  void sets() {
    const auto [service, service_size] =
        std::pair{service_shape().key_type, service_shape().key_size};
    const auto host_order_key = Notes{}.number(0, 1).bytes();
    const auto host_order_data = Notes{}.number(0, 0).number(1, 1).bytes();
    for (const Protocol protocol : kProtocols) {
      set(set_name(Set::vips, protocol), {.key_type = service,
                                          .key_size = service_size,
                                          .data_type = kTypeClassid,
                                          .data_size = 4,
                                          .notes = host_order_data});
      set(classes_name(protocol), {.key_type = kTypeClassid,
                                   .key_size = 4,
                                   .data_type = kTypeVerdict,
                                   .data_size = 0,
                                   .notes = host_order_key});
      set(set_name(Set::slots, protocol), {.key_type = concat(service, kTypeInteger),
                                           .key_size = service_size + 4,
                                           .data_type = service,
                                           .data_size = service_size,
                                           .counted = true,
                                           .notes = slots_notes(options_.family, protocol)});
      set(set_name(Set::refused, protocol), service_shape());
      if (!v4_) continue;
      dynamic_set(affinity_name(protocol),
                  {.key_type = concat(concat(address_type(), address_type()), kTypeService),
                   .key_size = 2 * address_size() + 4,
                   .data_type = service,
                   .data_size = service_size},
                  0, kMaxClients);
      set(affine_name(protocol), {.key_type = kTypeClassid,
                                  .key_size = 4,
                                  .data_type = kTypeVerdict,
                                  .data_size = 0,
                                  .notes = host_order_key});
    }
    if (options_.syn_failover) {
      dynamic_set(kRetriedSet, service_shape(), kRetriedMilliseconds, kMaxRetried);
    }
    set(kHairpinSet,
        {.key_type = concat(address_type(), address_type()), .key_size = 2 * address_size()});
    set(kBridgesSet, {.key_type = concat(kTypeIfindex, kTypeIfindex), .key_size = 8});
  }

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

  /// ct reply ip saddr . ct reply proto-src: the backend. Not as fields of the packet: nft would
  /// leave out the protocol when it lists the rule, without which it cannot read it.
  void load_reply_source(std::uint32_t to) {
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

  void load_original_client(Protocol protocol) {
    match_protocol(protocol);
    original(v4_ ? NFT_CT_SRC_IP : NFT_CT_SRC_IP6, kReg);
    original(v4_ ? NFT_CT_DST_IP : NFT_CT_DST_IP6, after_address());
    original(NFT_CT_PROTO_DST, after_client() - 1);
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

  /// The packet's priority carries the class from one map to the next: nft has no words for one
  /// look-up feeding another, and could not read its own listing back. It is put to 0 again; a
  /// flow's first packet thereby loses what SO_PRIORITY gave it.
  void dispatch(Protocol protocol) {
    load_service(protocol);
    lookup(set_name(Set::vips, protocol), kReg);
    set_priority();
    meta_load(NFT_META_PRIORITY, kReg);
    lookup(classes_name(protocol), NFT_REG_VERDICT);
  }

  void service_chain() {
    chain("services");
    for (const Protocol protocol : kProtocols) {
      rule("services", [&] { dispatch(protocol); });
    }
    if (!options_.range) return;
    for (const Protocol protocol : kProtocols) {  // as in class_rules(): a second look
      rule("services", [&] {
        match_range(*options_.range);
        dispatch(protocol);
      });
    }
  }

  void masquerade_chain() {
    hook("postrouting", NF_INET_POST_ROUTING, "nat", kMasqueradePriority);
    for (const Protocol protocol : kProtocols) {  // empty until a Vip has affinity
      if (!v4_) break;
      chain(remember_name(protocol));
      rule("postrouting", [&] {
        match_conntrack(NFT_CT_STATUS, IPS_DST_NAT);
        match_protocol(protocol);
        jump(NFT_JUMP, remember_name(protocol));
      });
    }
    rule("postrouting", [this] {
      match_conntrack(NFT_CT_STATUS, IPS_DST_NAT);
      load_source(kReg);
      load_destination(after_address());
      must_be_in(kHairpinSet);
      masquerade();
    });
    rule("postrouting", [this] {
      match_conntrack(NFT_CT_STATUS, IPS_DST_NAT);
      meta_load(NFT_META_IIF, kReg);
      meta_load(NFT_META_OIF, kReg + 1);
      must_be_in(kBridgesSet);
      masquerade();
    });
  }

  /// Whatever is new and still bound for a Vip was not balanced. It is refused before it is routed
  /// (IPv6 answers for a route through `lo` with "no route", and a client waits for more) and
  /// before conntrack confirms it: no entry is left that would keep a udp flow from the Vip's first
  /// backend.
  void guard_chains() {
    refusing_chain("refuse");
    chain("guard");
    if (options_.range) {
      rule("guard", [this] {
        match_range(*options_.range);
        jump(NFT_GOTO, "refuse");
      });
    }
    for (const Protocol protocol : kProtocols) {
      rule("guard", [&] {
        load_service(protocol);
        must_be_in(set_name(Set::refused, protocol));
        jump(NFT_GOTO, "refuse");
      });
    }
    for (const auto& [name, number] : {std::pair{"guard_prerouting", NF_INET_PRE_ROUTING},
                                       std::pair{"guard_output", NF_INET_LOCAL_OUT}}) {
      hook(name, number, "filter", kGuardPriority);
      rule(name, [this] {
        match_new();
        jump(NFT_JUMP, "guard");
      });
    }
  }

  /// A reset that answers a SYN: a client's first one is swallowed, where its Vip has another slot
  /// to try. The client repeats its SYN after 1 s and is balanced anew; a second refusal it gets.
  /// So a backend that has just died costs those who met it a second and not the connection.
  void retry_chain() {
    chain("refused_once");
    if (v4_) {
      rule("refused_once", [this] {  // the client's affinity is not with whoever refuses
        load_original_client(Protocol::tcp);
        load_reply_source(after_client());
        dynset(affinity_name(Protocol::tcp), NFT_DYNSET_OP_DELETE, after_client());
      });
    }
    rule("refused_once", [this] {
      match_protocol(Protocol::tcp);  // known already; nft needs it to read its own listing
      match_other_slots();
      swallow_once();
    });
    rule("refused_once", [this] {
      load_zero();
      set_priority();
    });
    // What comes from elsewhere, and what a backend of this very node says to a container.
    for (const auto& [name, where] :
         {std::pair{"retry", NF_INET_PRE_ROUTING}, std::pair{"retry_own", NF_INET_LOCAL_OUT}}) {
      hook(name, where, "filter", kRetryPriority);
      rule(name, [this] {
        match_protocol(Protocol::tcp);
        match_refusal();
        jump(NFT_JUMP, "refused_once");
      });
    }
  }

  /// tcp flags & (syn | rst) == rst, in answer to a flow that was translated and never stood.
  void match_refusal() {
    constexpr std::uint8_t kSynAndReset = 0x06;
    constexpr std::uint8_t kReset = 0x04;
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, kReg);
    mask({&kSynAndReset, 1});
    compare(NFT_CMP_EQ, {&kReset, 1});
    conntrack(NFT_CT_DIRECTION);
    constexpr std::uint8_t kReply = IP_CT_DIR_REPLY;
    compare(NFT_CMP_EQ, {&kReply, 1});
    conntrack(NFT_CT_STATUS);
    mask(octets_of(kTranslatedOrStood));
    compare(NFT_CMP_EQ, octets_of(kTranslated));
  }

  /// Its Vip is one of ours and has more than one slot. Goes by the packet's priority, as
  /// dispatch() does and for the same reason.
  void match_other_slots() {
    original(v4_ ? NFT_CT_DST_IP : NFT_CT_DST_IP6, kReg);
    original(NFT_CT_PROTO_DST, after_address());
    lookup(set_name(Set::vips, Protocol::tcp), kReg);
    set_priority();
    constexpr std::uint32_t kSize = 0xFFFF;
    constexpr std::uint32_t kSingle = 1;
    meta_load(NFT_META_PRIORITY, kReg);
    mask(octets_of(kSize));
    compare(NFT_CMP_NEQ, octets_of(kSingle));
  }

  void swallow_once() {
    original(v4_ ? NFT_CT_SRC_IP : NFT_CT_SRC_IP6, kReg);
    original(NFT_CT_PROTO_SRC, after_address());
    must_not_be_in(kRetriedSet);
    dynset(kRetriedSet, NFT_DYNSET_OP_ADD);
    drop();
  }

  const SchemaOptions& options_;
};

}  // namespace

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

std::string schema_comment(const SchemaOptions& options) {
  std::string comment = "muster schema " + std::to_string(kSchemaVersion);
  if (options.range) comment += " range " + options.range->to_string();
  if (!options.syn_failover) comment += " without syn failover";
  return comment;
}

SchemaCounts write_schema(netlink::Writer& out, netlink::Socket& socket,
                          const SchemaOptions& options) {
  return SchemaWriter{out, socket, options}.write();
}

SchemaCounts write_class(netlink::Writer& out, netlink::Socket& socket,
                         const SchemaOptions& options, const SizeClass& size_class,
                         bool first_with_affinity) {
  return SchemaWriter{out, socket, options}.write(size_class, first_with_affinity);
}

}  // namespace muster::lb::nft
