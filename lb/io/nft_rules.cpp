#include "lb/io/nft_rules.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_cttimeout.h>

#include "lb/io/nft_notes.hpp"

namespace muster::lb::nft {
namespace {

void batch_mark(netlink::Writer& out, std::uint16_t type, std::uint32_t sequence) {
  const nfgenmsg header{
      .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};
  out.begin(type, NLM_F_REQUEST, sequence, header);
  out.end();
}

}  // namespace

std::uint8_t number_of(Protocol protocol) noexcept {
  return protocol == Protocol::tcp ? IPPROTO_TCP : IPPROTO_UDP;
}

std::uint8_t nf_family(Family family) noexcept {
  return family == Family::v4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

void begin(netlink::Writer& out, std::uint16_t message, std::uint16_t flags, std::uint32_t sequence,
           std::uint8_t family) {
  const nfgenmsg header{.nfgen_family = family, .version = NFNETLINK_V0, .res_id = 0};
  out.begin(static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message),
            static_cast<std::uint16_t>(NLM_F_REQUEST | flags), sequence, header);
}

void begin_batch(netlink::Writer& out, std::uint32_t sequence) {
  batch_mark(out, NFNL_MSG_BATCH_BEGIN, sequence);
}
void end_batch(netlink::Writer& out, std::uint32_t sequence) {
  batch_mark(out, NFNL_MSG_BATCH_END, sequence);
}

void TableWriter::open(std::uint16_t message, std::uint16_t flags) {
  nft::begin(out_, message, static_cast<std::uint16_t>(NLM_F_CREATE | flags),
             socket_.next_sequence(), family_);
}

void TableWriter::table(std::string_view comment) {
  open(NFT_MSG_NEWTABLE, 0);
  out_.text(NFTA_TABLE_NAME, name_);
  std::vector<std::uint8_t> text{comment.begin(), comment.end()};
  text.push_back(0);
  out_.attribute(NFTA_TABLE_USERDATA, Notes{}.note(0, text).bytes());
  out_.end();
}

void TableWriter::open_set(std::string_view name, const SetShape& shape, std::uint32_t flags) {
  ++counts_.objects;
  open(NFT_MSG_NEWSET, 0);
  out_.text(NFTA_SET_TABLE, name_);
  out_.text(NFTA_SET_NAME, name);
  out_.u32_be(NFTA_SET_FLAGS, flags | (shape.data_type != 0 ? std::uint32_t{NFT_SET_MAP} : 0));
  out_.u32_be(NFTA_SET_KEY_TYPE, shape.key_type);
  out_.u32_be(NFTA_SET_KEY_LEN, shape.key_size);
  if (shape.data_type != 0) {
    out_.u32_be(NFTA_SET_DATA_TYPE, shape.data_type);
    out_.u32_be(NFTA_SET_DATA_LEN, shape.data_size);
  }
  out_.u32_be(NFTA_SET_ID, ++set_id_);
}

void TableWriter::set(std::string_view name, const SetShape& shape) {
  open_set(name, shape, 0);
  if (!shape.notes.empty()) out_.attribute(NFTA_SET_USERDATA, shape.notes);
  if (shape.counted) {
    out_.nest(NFTA_SET_EXPR, [this] {
      out_.text(NFTA_EXPR_NAME, "counter");
      out_.nest(NFTA_EXPR_DATA, [] {});
    });
  }
  out_.end();
}

void TableWriter::dynamic_set(std::string_view name, const SetShape& shape,
                              std::uint64_t milliseconds, std::uint32_t most) {
  open_set(name, shape, NFT_SET_EVAL | NFT_SET_TIMEOUT);
  if (milliseconds > 0) out_.u64_be(NFTA_SET_TIMEOUT, milliseconds);
  out_.nest(NFTA_SET_DESC, [&] { out_.u32_be(NFTA_SET_DESC_SIZE, most); });
  out_.end();
}

void TableWriter::timeout_policy(std::string_view name, std::uint32_t syn_sent,
                                 std::optional<std::uint32_t> close) {
  ++counts_.objects;
  open(NFT_MSG_NEWOBJ, 0);
  out_.text(NFTA_OBJ_TABLE, name_);
  out_.text(NFTA_OBJ_NAME, name);
  out_.u32_be(NFTA_OBJ_TYPE, NFT_OBJECT_CT_TIMEOUT);
  out_.nest(NFTA_OBJ_DATA, [&] {
    out_.u16_be(NFTA_CT_TIMEOUT_L3PROTO, v4_ ? NFPROTO_IPV4 : NFPROTO_IPV6);
    out_.u8(NFTA_CT_TIMEOUT_L4PROTO, IPPROTO_TCP);
    out_.nest(NFTA_CT_TIMEOUT_DATA, [&] {
      out_.u32_be(CTA_TIMEOUT_TCP_SYN_SENT, syn_sent);
      if (close) out_.u32_be(CTA_TIMEOUT_TCP_CLOSE, *close);
    });
  });
  out_.end();
}

void TableWriter::chain(std::string_view name) {
  ++counts_.objects;
  open(NFT_MSG_NEWCHAIN, 0);
  out_.text(NFTA_CHAIN_TABLE, name_);
  out_.text(NFTA_CHAIN_NAME, name);
  out_.end();
}

void TableWriter::hook(std::string_view name, std::uint32_t number, std::string_view type,
                       std::int32_t priority) {
  ++counts_.objects;
  open(NFT_MSG_NEWCHAIN, 0);
  out_.text(NFTA_CHAIN_TABLE, name_);
  out_.text(NFTA_CHAIN_NAME, name);
  out_.text(NFTA_CHAIN_TYPE, type);
  out_.nest(NFTA_CHAIN_HOOK, [&] {
    out_.u32_be(NFTA_HOOK_HOOKNUM, number);
    out_.u32_be(NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(priority));
  });
  out_.end();
}

void TableWriter::data(std::uint16_t type, netlink::Bytes value) {
  out_.nest(type, [&] { out_.attribute(NFTA_DATA_VALUE, value); });
}

void TableWriter::payload(std::uint32_t base, std::uint32_t offset, std::uint32_t size,
                          std::uint32_t to) {
  expression("payload", [&] {
    out_.u32_be(NFTA_PAYLOAD_DREG, to);
    out_.u32_be(NFTA_PAYLOAD_BASE, base);
    out_.u32_be(NFTA_PAYLOAD_OFFSET, offset);
    out_.u32_be(NFTA_PAYLOAD_LEN, size);
  });
}

void TableWriter::load_source(std::uint32_t to) {
  payload(NFT_PAYLOAD_NETWORK_HEADER, v4_ ? 12 : 8, address_size(), to);
}

void TableWriter::load_destination(std::uint32_t to) {
  payload(NFT_PAYLOAD_NETWORK_HEADER, v4_ ? 16 : 24, address_size(), to);
}

void TableWriter::load_service(Protocol protocol) {
  match_protocol(protocol);
  load_destination(kReg);
  payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, after_address());
}

void TableWriter::load_original_service(Protocol protocol) {
  match_protocol(protocol);
  original(v4_ ? NFT_CT_DST_IP : NFT_CT_DST_IP6, kReg);
  original(NFT_CT_PROTO_DST, after_address());
}

void TableWriter::load_client(Protocol protocol) {
  match_protocol(protocol);
  load_source(kReg);
  load_destination(after_address());
  payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, after_client() - 1);
}

void TableWriter::load_zero(std::uint32_t to) {
  expression("immediate", [&] {
    out_.u32_be(NFTA_IMMEDIATE_DREG, to);
    data(NFTA_IMMEDIATE_DATA, std::uint32_t{0});
  });
}

void TableWriter::meta_load(std::uint32_t key, std::uint32_t to) {
  expression("meta", [&] {
    out_.u32_be(NFTA_META_KEY, key);
    out_.u32_be(NFTA_META_DREG, to);
  });
}

void TableWriter::conntrack(std::uint32_t key) {
  expression("ct", [&] {
    out_.u32_be(NFTA_CT_KEY, key);
    out_.u32_be(NFTA_CT_DREG, kReg);
  });
}

void TableWriter::original(std::uint32_t key, std::uint32_t to) {
  expression("ct", [&] {
    out_.u32_be(NFTA_CT_KEY, key);
    out_.u32_be(NFTA_CT_DREG, to);
    out_.u8(NFTA_CT_DIRECTION, IP_CT_DIR_ORIGINAL);
  });
}

void TableWriter::compare(std::uint32_t operation, netlink::Bytes value) {
  expression("cmp", [&] {
    out_.u32_be(NFTA_CMP_SREG, kReg);
    out_.u32_be(NFTA_CMP_OP, operation);
    data(NFTA_CMP_DATA, value);
  });
}

void TableWriter::mask(netlink::Bytes bits) {
  expression("bitwise", [&] {
    out_.u32_be(NFTA_BITWISE_SREG, kReg);
    out_.u32_be(NFTA_BITWISE_DREG, kReg);
    out_.u32_be(NFTA_BITWISE_LEN, static_cast<std::uint32_t>(bits.size()));
    data(NFTA_BITWISE_MASK, bits);
    data(NFTA_BITWISE_XOR, std::vector<std::uint8_t>(bits.size()));
  });
}

void TableWriter::match_protocol(Protocol protocol) {
  meta_load(NFT_META_L4PROTO, kReg);
  const std::uint8_t number = number_of(protocol);
  compare(NFT_CMP_EQ, {&number, 1});
}

void TableWriter::match_range(const Prefix& range) {
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

void TableWriter::match_conntrack(std::uint32_t key, std::uint32_t bit) {
  conntrack(key);
  const std::uint32_t zero = 0;
  mask(octets_of(bit));
  compare(NFT_CMP_NEQ, octets_of(zero));
}

void TableWriter::match_new() {
  match_conntrack(NFT_CT_STATE, 1U << (IP_CT_NEW + 1));  // NF_CT_STATE_BIT(IP_CT_NEW)
}

void TableWriter::must_be_in(std::string_view set) {
  expression("lookup", [&] {
    out_.text(NFTA_LOOKUP_SET, set);
    out_.u32_be(NFTA_LOOKUP_SREG, kReg);
  });
}

void TableWriter::must_not_be_in(std::string_view set) {
  expression("lookup", [&] {
    out_.text(NFTA_LOOKUP_SET, set);
    out_.u32_be(NFTA_LOOKUP_SREG, kReg);
    out_.u32_be(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  });
}

void TableWriter::dynset(std::string_view set, std::uint32_t operation, std::uint32_t data,
                         std::uint32_t seconds) {
  expression("dynset", [&] {
    out_.text(NFTA_DYNSET_SET_NAME, set);
    out_.u32_be(NFTA_DYNSET_OP, operation);
    out_.u32_be(NFTA_DYNSET_SREG_KEY, kReg);
    if (data != 0) out_.u32_be(NFTA_DYNSET_SREG_DATA, data);
    if (seconds > 0) out_.u64_be(NFTA_DYNSET_TIMEOUT, std::uint64_t{seconds} * 1000);
  });
}

void TableWriter::lookup(std::string_view map, std::uint32_t to) {
  expression("lookup", [&] {
    out_.text(NFTA_LOOKUP_SET, map);
    out_.u32_be(NFTA_LOOKUP_SREG, kReg);
    out_.u32_be(NFTA_LOOKUP_DREG, to);
  });
}

void TableWriter::set_priority(std::uint32_t from) {
  expression("meta", [&] {
    out_.u32_be(NFTA_META_KEY, NFT_META_PRIORITY);
    out_.u32_be(NFTA_META_SREG, from);
  });
}

void TableWriter::jump(int code, std::string_view to) {
  expression("immediate", [&] {
    out_.u32_be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    out_.nest(NFTA_IMMEDIATE_DATA, [&] { verdict(code, to); });
  });
}

void TableWriter::verdict(int code, std::string_view to) {
  out_.nest(NFTA_DATA_VERDICT, [&] {
    out_.u32_be(NFTA_VERDICT_CODE, static_cast<std::uint32_t>(code));
    out_.text(NFTA_VERDICT_CHAIN, to);
  });
}

void TableWriter::set_timeout(std::string_view policy) {
  expression("objref", [&] {
    out_.u32_be(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_CT_TIMEOUT);
    out_.text(NFTA_OBJREF_IMM_NAME, policy);
  });
}

void TableWriter::drop() {
  expression("immediate", [this] {
    out_.u32_be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    out_.nest(NFTA_IMMEDIATE_DATA, [this] {
      out_.nest(NFTA_DATA_VERDICT, [this] { out_.u32_be(NFTA_VERDICT_CODE, NF_DROP); });
    });
  });
}

void TableWriter::masquerade() {
  expression("masq", [this] { out_.u32_be(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY); });
}

void TableWriter::reject(std::uint32_t type, std::uint8_t code) {
  expression("reject", [&] {
    out_.u32_be(NFTA_REJECT_TYPE, type);
    out_.u8(NFTA_REJECT_ICMP_CODE, code);
  });
}

void TableWriter::refusing_chain(std::string_view name) {
  chain(name);
  rule(name, [this] {
    match_protocol(Protocol::tcp);
    reject(NFT_REJECT_TCP_RST, 0);
  });
  rule(name, [this] { reject(NFT_REJECT_ICMP_UNREACH, v4_ ? 3 : 4); });  // port unreachable
}

}  // namespace muster::lb::nft
