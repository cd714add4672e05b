#include "lb/io/nft_schema.hpp"

#include <array>
#include <netinet/in.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink_cttimeout.h>

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

constexpr std::array kPolicies{Policy::random, Policy::round_robin};
constexpr std::array kProtocols{Protocol::tcp, Protocol::udp};

std::string class_chain(const Selector& selector, Protocol protocol) {
  return std::string{selector.policy == Policy::random ? "random_" : "rr_"} +
         std::to_string(selector.size) + "_" + std::string{to_string(protocol)};
}

/// One table being written.
class SchemaWriter : private TableWriter {
 public:
  SchemaWriter(netlink::Writer& out, netlink::Socket& socket, const SchemaOptions& options)
      : TableWriter{out, socket, options.table, options.family}, options_{options} {}

  SchemaCounts write() {
    table(schema_comment(options_));
    if (options_.syn_failover) timeout_policy();
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

  SchemaCounts write(const SizeClass& size_class) {
    class_rules(size_class.selector, size_class.protocol);
    class_element(size_class);
    return counts_;
  }

 private:
  void timeout_policy() {
    ++counts_.objects;
    open(NFT_MSG_NEWOBJ, 0);
    out_.text(NFTA_OBJ_TABLE, options_.table);
    out_.text(NFTA_OBJ_NAME, kTimeoutPolicy);
    out_.u32_be(NFTA_OBJ_TYPE, NFT_OBJECT_CT_TIMEOUT);
    out_.nest(NFTA_OBJ_DATA, [this] {
      out_.u16_be(NFTA_CT_TIMEOUT_L3PROTO, v4_ ? NFPROTO_IPV4 : NFPROTO_IPV6);
      out_.u8(NFTA_CT_TIMEOUT_L4PROTO, IPPROTO_TCP);
      // What is not said here the kernel takes from the system's own timeouts.
      out_.nest(NFTA_CT_TIMEOUT_DATA, [this] {
        out_.u32_be(CTA_TIMEOUT_TCP_SYN_SENT, kSynSentSeconds);
        out_.u32_be(CTA_TIMEOUT_TCP_CLOSE, kClosedSeconds);
      });
    });
    out_.end();
  }

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
    }
    if (options_.syn_failover) {
      dynamic_set(kRetriedSet, service_shape(), kRetriedMilliseconds, kMaxRetried);
    }
    set(kHairpinSet,
        {.key_type = concat(address_type(), address_type()), .key_size = 2 * address_size()});
    set(kBridgesSet, {.key_type = concat(kTypeIfindex, kTypeIfindex), .key_size = 8});
  }

  /// dnat to ip daddr . tcp dport . numgen random mod N map @slots_tcp
  void translate(const Selector& selector, Protocol protocol) {
    load_service(protocol);
    expression("numgen", [&] {
      out_.u32_be(NFTA_NG_DREG, after_address() + 1);
      out_.u32_be(NFTA_NG_MODULUS, selector.size);
      out_.u32_be(NFTA_NG_TYPE,
                  selector.policy == Policy::random ? NFT_NG_RANDOM : NFT_NG_INCREMENTAL);
      out_.u32_be(NFTA_NG_OFFSET, 0);
    });
    lookup(set_name(Set::slots, protocol), kReg);
    expression("nat", [&] {
      out_.u32_be(NFTA_NAT_TYPE, NFT_NAT_DNAT);
      out_.u32_be(NFTA_NAT_FAMILY, family_);
      out_.u32_be(NFTA_NAT_REG_ADDR_MIN, kReg);
      out_.u32_be(NFTA_NAT_REG_PROTO_MIN, after_address());
    });
  }

  void class_rules(const Selector& selector, Protocol protocol) {
    const std::string name = class_chain(selector, protocol);
    chain(name);
    rule(name, [&] {
      load_zero();
      set_priority();
      if (protocol == Protocol::tcp && options_.syn_failover) {
        expression("objref", [&] {
          out_.u32_be(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_CT_TIMEOUT);
          out_.text(NFTA_OBJREF_IMM_NAME, kTimeoutPolicy);
        });
      }
      translate(selector, protocol);
    });
    // Reached only if the slot was gone: the table shrank between this packet's two look-ups, or
    // was seen (before Linux 6.17) in the instant one element takes another's place.
    rule(name, [&] { translate(selector, protocol); });
  }

  /// Not a verdict in `vips` itself: each change there would have the kernel walk all of them to
  /// look for loops, 2.3 ms with 10,000 Vips.
  void class_element(const SizeClass& size_class) {
    open(NFT_MSG_NEWSETELEM, NLM_F_EXCL);
    out_.text(NFTA_SET_ELEM_LIST_TABLE, options_.table);
    out_.text(NFTA_SET_ELEM_LIST_SET, classes_name(size_class.protocol));
    out_.nest(NFTA_SET_ELEM_LIST_ELEMENTS, [&] {
      out_.nest(NFTA_LIST_ELEM, [&] {
        data(NFTA_SET_ELEM_KEY, class_id(size_class.selector));
        out_.nest(NFTA_SET_ELEM_DATA, [&] {
          verdict(NFT_GOTO, class_chain(size_class.selector, size_class.protocol));
        });
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
    rule("refused_once", [this] {
      match_protocol(Protocol::tcp);  // known already; nft needs it to read its own listing
      match_other_slots();
      swallow_once();
    });
    rule("refused_once", [this] {
      load_zero();
      set_priority();
    });
    hook("retry", NF_INET_PRE_ROUTING, "filter", kRetryPriority);
    rule("retry", [this] {
      match_protocol(Protocol::tcp);
      match_refusal();
      jump(NFT_JUMP, "refused_once");
    });
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
    for (const Policy policy : kPolicies) {
      const std::uint32_t single = class_id({policy, 1});
      meta_load(NFT_META_PRIORITY, kReg);
      compare(NFT_CMP_NEQ, octets_of(single));
    }
  }

  void swallow_once() {
    original(v4_ ? NFT_CT_SRC_IP : NFT_CT_SRC_IP6, kReg);
    original(NFT_CT_PROTO_SRC, after_address());
    expression("lookup", [this] {
      out_.text(NFTA_LOOKUP_SET, kRetriedSet);
      out_.u32_be(NFTA_LOOKUP_SREG, kReg);
      out_.u32_be(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
    });
    expression("dynset", [this] {
      out_.text(NFTA_DYNSET_SET_NAME, kRetriedSet);
      out_.u32_be(NFTA_DYNSET_OP, NFT_DYNSET_OP_ADD);
      out_.u32_be(NFTA_DYNSET_SREG_KEY, kReg);
    });
    drop();
  }

  const SchemaOptions& options_;
};

}  // namespace

std::string classes_name(Protocol protocol) {
  return "classes_" + std::string{to_string(protocol)};
}

std::string set_name(Set set, Protocol protocol) {
  std::string name = set == Set::vips ? "vips_" : set == Set::slots ? "slots_" : "refused_";
  return name += to_string(protocol);
}

std::uint32_t class_id(const Selector& selector) noexcept {
  return static_cast<std::uint32_t>(selector.policy) << 16 | selector.size;
}

std::optional<Selector> selector_of(std::uint32_t class_id) noexcept {
  const std::uint32_t size = class_id & 0xFFFF;
  if (class_id >> 16 >= kPolicies.size() || !is_size_class(size)) return std::nullopt;
  return Selector{kPolicies[class_id >> 16], size};
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
                         const SchemaOptions& options, const SizeClass& size_class) {
  return SchemaWriter{out, socket, options}.write(size_class);
}

}  // namespace muster::lb::nft
