#include "lb/io/nft_schema.hpp"

#include <utility>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>

#include "lb/io/nft_notes.hpp"
#include "lb/io/nft_schema_parts.hpp"

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

/// One table being written.
class SchemaWriter : private FlowWriter {
 public:
  SchemaWriter(netlink::Writer& out, netlink::Socket& socket, const SchemaOptions& options)
      : FlowWriter{out, socket, options} {}

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
};

}  // namespace

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

}  // namespace muster::lb::nft
