#include "lb/io/nft_schema.hpp"

#include <arpa/inet.h>
#include <array>
#include <endian.h>
#include <vector>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_cttimeout.h>

#include "lb/core/slots.hpp"

namespace muster::lb::nft {
namespace {

// nft's numbers for its data types (datatype.h): the kernel only keeps them, nft prints by them.
constexpr std::uint32_t kTypeInteger = 4;
constexpr std::uint32_t kTypeIpv4 = 7;
constexpr std::uint32_t kTypeIpv6 = 8;
constexpr std::uint32_t kTypeService = 13;
constexpr std::uint32_t kTypeIfindex = 20;
constexpr std::uint32_t kTypeClassid = 23;
constexpr std::uint32_t kTypeVerdict = 0xFFFFFF00;
constexpr std::uint32_t concat(std::uint32_t left, std::uint32_t right) {
  return (left << 6) | right;
}

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

// Registers of four octets. Concatenations use them in a row.
constexpr std::uint32_t kReg = NFT_REG32_00;

constexpr std::uint32_t kTranslated = IPS_DST_NAT;
constexpr std::uint32_t kTranslatedOrStood = IPS_DST_NAT | IPS_ASSURED;

/// A number as the kernel compares it; lives as long as `number`.
netlink::Bytes octets_of(const std::uint32_t& number) {
  return {reinterpret_cast<const std::uint8_t*>(&number), sizeof number};
}

constexpr std::array kPolicies{Policy::random, Policy::round_robin};
constexpr std::array kProtocols{Protocol::tcp, Protocol::udp};

std::uint8_t number_of(Protocol protocol) {
  return protocol == Protocol::tcp ? IPPROTO_TCP : IPPROTO_UDP;
}

std::string class_chain(const Selector& selector, Protocol protocol) {
  return std::string{selector.policy == Policy::random ? "random_" : "rr_"} +
         std::to_string(selector.size) + "_" + std::string{to_string(protocol)};
}

/// nft's notes beside a set: nested (type, length, value) octets. Without them nft could not read
/// back what it prints of a map whose key holds a slot number.
class Notes {
 public:
  Notes& note(std::uint8_t type, const std::vector<std::uint8_t>& value) {
    bytes_.push_back(type);
    bytes_.push_back(static_cast<std::uint8_t>(value.size()));
    bytes_.insert(bytes_.end(), value.begin(), value.end());
    return *this;
  }
  Notes& number(std::uint8_t type, std::uint32_t value) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(&value);
    return note(type, {data, data + sizeof value});
  }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
};

std::vector<std::uint8_t> payload_note(std::uint32_t header, std::uint32_t field) {
  constexpr std::uint32_t kPayload = 7;
  Notes where;
  where.number(0, header).number(1, field);
  return Notes{}.number(0, kPayload).note(1, where.bytes()).bytes();
}

std::vector<std::uint8_t> concat_note(const std::vector<std::vector<std::uint8_t>>& parts) {
  constexpr std::uint32_t kConcat = 13;
  Notes inner;
  for (std::uint8_t i = 0; i < parts.size(); ++i) inner.note(i, parts[i]);
  return Notes{}.number(0, kConcat).note(1, inner.bytes()).bytes();
}

/// typeof ip daddr . tcp dport . numgen inc mod 2 : ip daddr . tcp dport
std::vector<std::uint8_t> slots_notes(Family family, Protocol protocol) {
  constexpr std::uint32_t kNumgen = 23;
  const auto address = family == Family::v4 ? payload_note(12, 12) : payload_note(13, 9);
  const auto port = payload_note(protocol == Protocol::tcp ? 8 : 6, 2);
  Notes inc_mod_2;
  inc_mod_2.number(0, 0).number(1, 2).number(2, 0);
  const auto numgen = Notes{}.number(0, kNumgen).note(1, inc_mod_2.bytes()).bytes();
  return Notes{}
      .number(0, 0)
      .number(1, 0)
      .note(3, concat_note({address, port, numgen}))
      .note(4, concat_note({address, port}))
      .bytes();
}

/// One table being written.
class SchemaWriter {
 public:
  SchemaWriter(netlink::Writer& out, netlink::Socket& socket, const SchemaOptions& options)
      : out_{out},
        socket_{socket},
        options_{options},
        family_{nf_family(options.family)},
        v4_{options.family == Family::v4} {}

  SchemaCounts write() {
    table();
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
  void open(std::uint16_t message, std::uint16_t flags) {
    nft::begin(out_, message, static_cast<std::uint16_t>(NLM_F_CREATE | flags),
               socket_.next_sequence(), family_);
  }

  void table() {
    open(NFT_MSG_NEWTABLE, 0);
    out_.text(NFTA_TABLE_NAME, options_.table);
    const std::string comment = schema_comment(options_);
    std::vector<std::uint8_t> text{comment.begin(), comment.end()};
    text.push_back(0);
    out_.attribute(NFTA_TABLE_USERDATA, Notes{}.note(0, text).bytes());
    out_.end();
  }

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

  void retried_set() {
    ++counts_.objects;
    open(NFT_MSG_NEWSET, 0);
    out_.text(NFTA_SET_TABLE, options_.table);
    out_.text(NFTA_SET_NAME, kRetriedSet);
    out_.u32_be(NFTA_SET_FLAGS, NFT_SET_EVAL | NFT_SET_TIMEOUT);
    out_.u32_be(NFTA_SET_KEY_TYPE, concat(v4_ ? kTypeIpv4 : kTypeIpv6, kTypeService));
    out_.u32_be(NFTA_SET_KEY_LEN, address_size() + 4);
    const std::uint64_t timeout = htobe64(kRetriedMilliseconds);
    out_.attribute(NFTA_SET_TIMEOUT, {reinterpret_cast<const std::uint8_t*>(&timeout), 8});
    out_.nest(NFTA_SET_DESC, [this] { out_.u32_be(NFTA_SET_DESC_SIZE, kMaxRetried); });
    out_.u32_be(NFTA_SET_ID, ++set_id_);
    out_.end();
  }

  struct SetShape {
    std::uint32_t key_type = 0;
    std::uint32_t key_size = 0;
    std::uint32_t data_type = 0;  // 0: a set, not a map
    std::uint32_t data_size = 0;
    bool counted = false;
    std::vector<std::uint8_t> notes = {};
  };

  void set(std::string_view name, const SetShape& shape) {
    ++counts_.objects;
    open(NFT_MSG_NEWSET, 0);
    out_.text(NFTA_SET_TABLE, options_.table);
    out_.text(NFTA_SET_NAME, name);
    out_.u32_be(NFTA_SET_FLAGS, shape.data_type != 0 ? std::uint32_t{NFT_SET_MAP} : 0);
    out_.u32_be(NFTA_SET_KEY_TYPE, shape.key_type);
    out_.u32_be(NFTA_SET_KEY_LEN, shape.key_size);
    if (shape.data_type != 0) {
      out_.u32_be(NFTA_SET_DATA_TYPE, shape.data_type);
      out_.u32_be(NFTA_SET_DATA_LEN, shape.data_size);
    }
    out_.u32_be(NFTA_SET_ID, ++set_id_);
    if (!shape.notes.empty()) out_.attribute(NFTA_SET_USERDATA, shape.notes);
    if (shape.counted) {
      out_.nest(NFTA_SET_EXPR, [this] {
        out_.text(NFTA_EXPR_NAME, "counter");
        out_.nest(NFTA_EXPR_DATA, [] {});
      });
    }
    out_.end();
  }

  void sets() {
    const std::uint32_t address_type = v4_ ? kTypeIpv4 : kTypeIpv6;
    const std::uint32_t address_size = v4_ ? 4 : 16;
    const std::uint32_t service = concat(address_type, kTypeService);
    const std::uint32_t service_size = address_size + 4;
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
      set(set_name(Set::refused, protocol), {.key_type = service, .key_size = service_size});
    }
    if (options_.syn_failover) retried_set();
    set(kHairpinSet,
        {.key_type = concat(address_type, address_type), .key_size = 2 * address_size});
    set(kBridgesSet, {.key_type = concat(kTypeIfindex, kTypeIfindex), .key_size = 8});
  }

  void chain(std::string_view name) {
    ++counts_.objects;
    open(NFT_MSG_NEWCHAIN, 0);
    out_.text(NFTA_CHAIN_TABLE, options_.table);
    out_.text(NFTA_CHAIN_NAME, name);
    out_.end();
  }

  void hook(std::string_view name, std::uint32_t number, std::string_view type,
            std::int32_t priority) {
    ++counts_.objects;
    open(NFT_MSG_NEWCHAIN, 0);
    out_.text(NFTA_CHAIN_TABLE, options_.table);
    out_.text(NFTA_CHAIN_NAME, name);
    out_.text(NFTA_CHAIN_TYPE, type);
    out_.nest(NFTA_CHAIN_HOOK, [&] {
      out_.u32_be(NFTA_HOOK_HOOKNUM, number);
      out_.u32_be(NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(priority));
    });
    out_.end();
  }

  template <class Fill>
  void rule(std::string_view chain, Fill fill) {
    ++counts_.rules;
    open(NFT_MSG_NEWRULE, NLM_F_APPEND);
    out_.text(NFTA_RULE_TABLE, options_.table);
    out_.text(NFTA_RULE_CHAIN, chain);
    out_.nest(NFTA_RULE_EXPRESSIONS, fill);
    out_.end();
  }

  template <class Fill>
  void expression(std::string_view name, Fill fill) {
    out_.nest(NFTA_LIST_ELEM, [&] {
      out_.text(NFTA_EXPR_NAME, name);
      out_.nest(NFTA_EXPR_DATA, fill);
    });
  }

  void data(std::uint16_t type, netlink::Bytes value) {
    out_.nest(type, [&] { out_.attribute(NFTA_DATA_VALUE, value); });
  }
  void data(std::uint16_t type, std::uint32_t value) {
    data(type, {reinterpret_cast<const std::uint8_t*>(&value), sizeof value});
  }

  void payload(std::uint32_t base, std::uint32_t offset, std::uint32_t size, std::uint32_t to) {
    expression("payload", [&] {
      out_.u32_be(NFTA_PAYLOAD_DREG, to);
      out_.u32_be(NFTA_PAYLOAD_BASE, base);
      out_.u32_be(NFTA_PAYLOAD_OFFSET, offset);
      out_.u32_be(NFTA_PAYLOAD_LEN, size);
    });
  }
  std::uint32_t address_size() const { return v4_ ? 4 : 16; }
  std::uint32_t after_address() const { return kReg + address_size() / 4; }
  void load_source(std::uint32_t to) {
    payload(NFT_PAYLOAD_NETWORK_HEADER, v4_ ? 12 : 8, address_size(), to);
  }
  void load_destination(std::uint32_t to) {
    payload(NFT_PAYLOAD_NETWORK_HEADER, v4_ ? 16 : 24, address_size(), to);
  }
  /// ip daddr . tcp dport, into the registers from kReg on.
  void load_service(Protocol protocol) {
    match_protocol(protocol);
    load_destination(kReg);
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, after_address());
  }

  void meta_load(std::uint32_t key, std::uint32_t to) {
    expression("meta", [&] {
      out_.u32_be(NFTA_META_KEY, key);
      out_.u32_be(NFTA_META_DREG, to);
    });
  }
  void set_priority() {
    expression("meta", [&] {
      out_.u32_be(NFTA_META_KEY, NFT_META_PRIORITY);
      out_.u32_be(NFTA_META_SREG, kReg);
    });
  }
  void compare(std::uint32_t operation, netlink::Bytes value) {
    expression("cmp", [&] {
      out_.u32_be(NFTA_CMP_SREG, kReg);
      out_.u32_be(NFTA_CMP_OP, operation);
      data(NFTA_CMP_DATA, value);
    });
  }
  void mask(netlink::Bytes bits) {
    expression("bitwise", [&] {
      out_.u32_be(NFTA_BITWISE_SREG, kReg);
      out_.u32_be(NFTA_BITWISE_DREG, kReg);
      out_.u32_be(NFTA_BITWISE_LEN, static_cast<std::uint32_t>(bits.size()));
      data(NFTA_BITWISE_MASK, bits);
      data(NFTA_BITWISE_XOR, std::vector<std::uint8_t>(bits.size()));
    });
  }
  void match_protocol(Protocol protocol) {
    meta_load(NFT_META_L4PROTO, kReg);
    const std::uint8_t number = number_of(protocol);
    compare(NFT_CMP_EQ, {&number, 1});
  }
  void match_range() {
    const Prefix& range = *options_.range;
    const auto octets = range.address.octets();
    const std::uint32_t offset = v4_ ? 16 : 24;
    const std::uint32_t whole = range.length / 8U;
    // The way nft writes it, and so prints it as a prefix again.
    if (range.length % 8 == 0) {
      payload(NFT_PAYLOAD_NETWORK_HEADER, offset, whole, kReg);
      compare(NFT_CMP_EQ, octets.first(whole));
      return;
    }
    std::vector<std::uint8_t> bits(octets.size());
    for (std::uint32_t i = 0; i < whole; ++i) bits[i] = 0xFF;
    bits[whole] = static_cast<std::uint8_t>(0xFF00U >> (range.length % 8U));
    load_destination(kReg);
    mask(bits);
    compare(NFT_CMP_EQ, octets);
  }
  /// ct state new, ct status dnat: one bit of a number that conntrack keeps.
  void match_conntrack(std::uint32_t key, std::uint32_t bit) {
    conntrack(key);
    const std::uint32_t zero = 0;
    mask(octets_of(bit));
    compare(NFT_CMP_NEQ, octets_of(zero));
  }

  void must_be_in(std::string_view set) {
    expression("lookup", [&] {
      out_.text(NFTA_LOOKUP_SET, set);
      out_.u32_be(NFTA_LOOKUP_SREG, kReg);
    });
  }
  void lookup(std::string_view map, std::uint32_t to) {
    expression("lookup", [&] {
      out_.text(NFTA_LOOKUP_SET, map);
      out_.u32_be(NFTA_LOOKUP_SREG, kReg);
      out_.u32_be(NFTA_LOOKUP_DREG, to);
    });
  }
  void jump(int code, std::string_view to) {
    expression("immediate", [&] {
      out_.u32_be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      out_.nest(NFTA_IMMEDIATE_DATA, [&] { verdict(code, to); });
    });
  }
  void verdict(int code, std::string_view to) {
    out_.nest(NFTA_DATA_VERDICT, [&] {
      out_.u32_be(NFTA_VERDICT_CODE, static_cast<std::uint32_t>(code));
      out_.text(NFTA_VERDICT_CHAIN, to);
    });
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
        match_range();
        dispatch(protocol);
      });
    }
  }

  void masquerade() {
    expression("masq", [this] { out_.u32_be(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY); });
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

  void reject(std::uint32_t type, std::uint8_t code) {
    expression("reject", [&] {
      out_.u32_be(NFTA_REJECT_TYPE, type);
      out_.u8(NFTA_REJECT_ICMP_CODE, code);
    });
  }

  /// Whatever is new and still bound for a Vip was not balanced. It is refused before it is routed
  /// (IPv6 answers for a route through `lo` with "no route", and a client waits for more) and
  /// before conntrack confirms it: no entry is left that would keep a udp flow from the Vip's first
  /// backend.
  void guard_chains() {
    chain("refuse");
    rule("refuse", [this] {
      match_protocol(Protocol::tcp);
      reject(NFT_REJECT_TCP_RST, 0);
    });
    rule("refuse", [this] { reject(NFT_REJECT_ICMP_UNREACH, v4_ ? 3 : 4); });  // port unreachable
    chain("guard");
    if (options_.range) {
      rule("guard", [this] {
        match_range();
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
        match_conntrack(NFT_CT_STATE, 1U << (IP_CT_NEW + 1));  // NF_CT_STATE_BIT(IP_CT_NEW)
        jump(NFT_JUMP, "guard");
      });
    }
  }

  void original(std::uint32_t key, std::uint32_t to) {
    expression("ct", [&] {
      out_.u32_be(NFTA_CT_KEY, key);
      out_.u32_be(NFTA_CT_DREG, to);
      out_.u8(NFTA_CT_DIRECTION, IP_CT_DIR_ORIGINAL);
    });
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
    expression("immediate", [this] {
      out_.u32_be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      out_.nest(NFTA_IMMEDIATE_DATA, [this] {
        out_.nest(NFTA_DATA_VERDICT, [this] { out_.u32_be(NFTA_VERDICT_CODE, NF_DROP); });
      });
    });
  }

  void conntrack(std::uint32_t key) {
    expression("ct", [&] {
      out_.u32_be(NFTA_CT_KEY, key);
      out_.u32_be(NFTA_CT_DREG, kReg);
    });
  }
  void load_zero() {
    expression("immediate", [&] {
      out_.u32_be(NFTA_IMMEDIATE_DREG, kReg);
      data(NFTA_IMMEDIATE_DATA, std::uint32_t{0});
    });
  }

  netlink::Writer& out_;
  netlink::Socket& socket_;
  const SchemaOptions& options_;
  std::uint8_t family_;
  bool v4_;
  std::uint32_t set_id_ = 0;
  SchemaCounts counts_;
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

std::uint8_t nf_family(Family family) noexcept {
  return family == Family::v4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
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

void begin(netlink::Writer& out, std::uint16_t message, std::uint16_t flags, std::uint32_t sequence,
           std::uint8_t family) {
  const nfgenmsg header{.nfgen_family = family, .version = NFNETLINK_V0, .res_id = 0};
  out.begin(static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message),
            static_cast<std::uint16_t>(NLM_F_REQUEST | flags), sequence, header);
}

namespace {
void batch_mark(netlink::Writer& out, std::uint16_t type, std::uint32_t sequence) {
  const nfgenmsg header{
      .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};
  out.begin(type, NLM_F_REQUEST, sequence, header);
  out.end();
}
}  // namespace

void begin_batch(netlink::Writer& out, std::uint32_t sequence) {
  batch_mark(out, NFNL_MSG_BATCH_BEGIN, sequence);
}
void end_batch(netlink::Writer& out, std::uint32_t sequence) {
  batch_mark(out, NFNL_MSG_BATCH_END, sequence);
}

}  // namespace muster::lb::nft
