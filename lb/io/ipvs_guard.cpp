#include "lb/io/ipvs_guard.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>

#include "lb/io/nft_notes.hpp"
#include "lb/io/nft_schema.hpp"

namespace muster::lb::ipvs {
namespace {

constexpr unsigned kGuardVersion = 2;
constexpr std::array kProtocols{Protocol::tcp, Protocol::udp};

/// A client repeats its SYN after a second. What is not said is as the system has it.
constexpr std::uint32_t kSynSentSeconds = 1;
constexpr std::string_view kTimeoutPolicy = "syn";

// IPVS itself takes packets at 99 of the input hook and at -98 of the output hook
// (ip_vs_core.c: NF_IP_PRI_NAT_SRC - 1, NF_IP_PRI_NAT_DST + 2).
//
// Ahead of everybody else's DNAT (-100), behind the nft driver's (-110): while both are there it
// is the nft driver that balances.
constexpr std::int32_t kKeepPriority = -105;
constexpr std::int32_t kRefusedInput = -90;
// All translation happens at -100, whatever the priority among those who translate: behind it, so
// that what the nft driver has balanced is not refused.
constexpr std::int32_t kRefusedOutput = -99;
constexpr std::int32_t kBridgeInput = 90;
constexpr std::int32_t kUnservedInput = 110;
constexpr std::int32_t kUnservedOutput = -90;
constexpr std::int32_t kMasqueradePriority = 90;

class GuardWriter : private nft::TableWriter {
 public:
  GuardWriter(netlink::Writer& out, netlink::Socket& socket, const GuardOptions& options)
      : TableWriter{out, socket, options.table, options.family}, options_{options} {}

  nft::SchemaCounts write() {
    table("muster, around IPVS");
    chain(guard_mark(options_));
    if (options_.hears_unanswered) timeout_policy(kTimeoutPolicy, kSynSentSeconds, std::nullopt);
    sets();
    keep_chains();
    refusing_chain("refuse");
    refused_chains();
    unserved_chains();
    bridge_chain();
    masquerade_chain();
    return counts_;
  }

 private:
  static std::string vips(Protocol protocol) { return nft::set_name(nft::Set::vips, protocol); }

  void sets() {
    for (const Protocol protocol : kProtocols) {
      set(vips(protocol), service_shape());
      set(nft::set_name(nft::Set::refused, protocol), service_shape());
    }
    set(kAddressesSet, {.key_type = address_type(), .key_size = address_size()});
    set(nft::kHairpinSet,
        {.key_type = nft::concat(address_type(), address_type()), .key_size = 2 * address_size()});
    set(nft::kBridgesSet,
        {.key_type = nft::concat(nft::kTypeClassid, nft::kTypeIfindex), .key_size = 8});
    set(kBridgeIdsMap, {.key_type = nft::kTypeIfindex,
                        .key_size = 4,
                        .data_type = nft::kTypeClassid,
                        .data_size = 4,
                        .notes = nft::Notes{}.number(0, 1).number(1, 1).bytes()});
  }

  /// A flow's first packet alone comes here, which is when conntrack may be told for how long it is
  /// to remember. A Vip is translated to itself: then nobody else translates it. Docker would,
  /// where a container has the Vip's port as its host port, because to this node a Vip is an
  /// address of its own.
  void keep_chains() {
    chain("keep");
    for (const Protocol protocol : kProtocols) {
      rule("keep", [&] {
        load_service(protocol);
        must_be_in(vips(protocol));
        if (protocol == Protocol::tcp && options_.hears_unanswered) set_timeout(kTimeoutPolicy);
        load_destination(nft::kReg);
        expression("nat", [&] {
          out_.u32_be(NFTA_NAT_TYPE, NFT_NAT_DNAT);
          out_.u32_be(NFTA_NAT_FAMILY, family_);
          out_.u32_be(NFTA_NAT_REG_ADDR_MIN, nft::kReg);
        });
      });
    }
    for (const auto& [name, number] :
         {std::pair{"prerouting", NF_INET_PRE_ROUTING}, std::pair{"output", NF_INET_LOCAL_OUT}}) {
      hook(name, number, "nat", kKeepPriority);
      rule(name, [this] { jump(NFT_JUMP, "keep"); });
    }
  }

  void at(const char* name, std::uint32_t hook_number, std::int32_t priority, const char* to) {
    hook(name, hook_number, "filter", priority);
    rule(name, [&] {
      match_new();
      jump(NFT_JUMP, to);
    });
  }

  /// Ahead of IPVS, which may still have the service for the sake of its old connections.
  void refused_chains() {
    chain("refused");
    for (const Protocol protocol : kProtocols) {
      rule("refused", [&] {
        load_service(protocol);
        must_be_in(nft::set_name(nft::Set::refused, protocol));
        jump(NFT_GOTO, "refuse");
      });
    }
    at("refused_input", NF_INET_LOCAL_IN, kRefusedInput, "refused");
    at("refused_output", NF_INET_LOCAL_OUT, kRefusedOutput, "refused");
  }

  /// Behind IPVS: what is new and still bound for a Vip's address was not balanced, and must not
  /// reach what this node listens on everywhere. Ahead of conntrack's confirmation, so that no
  /// entry is left which would keep a udp flow from the Vip's first backend.
  void unserved_chains() {
    chain("unserved");
    if (options_.range) {
      rule("unserved", [this] {
        match_range(*options_.range);
        jump(NFT_GOTO, "refuse");
      });
    }
    rule("unserved", [this] {
      load_destination(nft::kReg);
      must_be_in(kAddressesSet);
      jump(NFT_GOTO, "refuse");
    });
    at("unserved_input", NF_INET_LOCAL_IN, kUnservedInput, "unserved");
    at("unserved_output", NF_INET_LOCAL_OUT, kUnservedOutput, "unserved");
  }

  /// When a packet leaves IPVS, nobody knows any more where it came in. So the priority of a flow's
  /// first packet, if it came from a bridge, carries the bridge's number from here to
  /// masquerade_chain().
  void bridge_chain() {
    hook("bridge_input", NF_INET_LOCAL_IN, "filter", kBridgeInput);
    for (const Protocol protocol : kProtocols) {
      rule("bridge_input", [&] {
        match_new();
        load_service(protocol);
        must_be_in(vips(protocol));
        meta_load(NFT_META_IIF, nft::kReg);
        lookup(kBridgeIdsMap, nft::kReg);
        set_priority();
      });
    }
  }

  void masquerade_chain() {
    hook("postrouting", NF_INET_POST_ROUTING, "nat", kMasqueradePriority);
    rule("postrouting", [this] {  // a container that was sent to itself
      load_source(nft::kReg);
      load_destination(after_address());
      must_be_in(nft::kHairpinSet);
      masquerade();
    });
    for (const Protocol protocol : kProtocols) {  // back out of the bridge it came from
      rule("postrouting", [&] {
        load_original_service(protocol);
        must_be_in(vips(protocol));
        meta_load(NFT_META_PRIORITY, nft::kReg);
        meta_load(NFT_META_OIF, nft::kReg + 1);
        must_be_in(nft::kBridgesSet);
        masquerade();
      });
    }
  }

  const GuardOptions& options_;
};

}  // namespace

std::string guard_table(std::string_view table) {
  return std::string{table} + "_ipvs";
}

std::string guard_mark(const GuardOptions& options) {
  std::string mark = "schema_" + std::to_string(kGuardVersion);
  if (!options.hears_unanswered) mark += "_deaf";
  if (options.range) mark += "_" + options.range->to_string();
  std::replace(mark.begin(), mark.end(), ':', '_');  // nft's names have no colons
  return mark;
}

nft::SchemaCounts write_guard(netlink::Writer& out, netlink::Socket& socket,
                              const GuardOptions& options) {
  return GuardWriter{out, socket, options}.write();
}

}  // namespace muster::lb::ipvs
