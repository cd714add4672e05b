#include "lb/io/firewall.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/xt_comment.h>
#include <linux/netfilter/xt_conntrack.h>

#include "lb/io/nft_notes.hpp"
#include "lb/io/nft_rules.hpp"

namespace muster::lb::firewall {
namespace {

using forward::Accepted;
using forward::Chain;
using forward::Kind;
using forward::Table;

constexpr int kTries = 3;  // of a read that somebody's change has torn

std::uint8_t number_of(Kind kind) {
  return kind == Kind::ip ? NFPROTO_IPV4 : kind == Kind::ip6 ? NFPROTO_IPV6 : NFPROTO_INET;
}

std::optional<Kind> kind_of(std::uint8_t family) {
  if (family == NFPROTO_IPV4) return Kind::ip;
  if (family == NFPROTO_IPV6) return Kind::ip6;
  if (family == NFPROTO_INET) return Kind::inet;
  return std::nullopt;
}

/// Chains by these names in these tables are iptables-nft's, whoever has made them.
bool is_iptables(const Table& table, std::string_view chain) {
  constexpr std::array<std::string_view, 4> kTables{"filter", "mangle", "raw", "security"};
  return table.kind != Kind::inet && (chain == "FORWARD" || chain == forward::kDockerUser) &&
         std::find(kTables.begin(), kTables.end(), table.name) != kTables.end();
}

Result<void> dump(netlink::Socket& socket, const netlink::Writer& request,
                  const std::function<void()>& clear,
                  const std::function<void(const netlink::Message&)>& each) {
  Result<void> done;
  for (int i = 0; i < kTries; ++i) {
    clear();
    done = socket.request(request.bytes(), each);
    if (done || done.error().value() != EINTR) return done;
  }
  return {};  // a rule too many or too few is seen by the next read
}

Result<std::vector<Table>> read_chains(netlink::Socket& socket) {
  netlink::Writer out;
  nft::begin(out, NFT_MSG_GETCHAIN, NLM_F_DUMP, socket.next_sequence(), NFPROTO_UNSPEC);
  out.end();
  std::map<std::pair<Kind, std::string>, Table> all;
  const auto done = dump(
      socket, out, [&all] { all.clear(); },
      [&all](const netlink::Message& message) {
        const auto header = message.fixed<nfgenmsg>();
        const auto kind = header ? kind_of(header->nfgen_family) : std::nullopt;
        if (!kind) return;
        const netlink::Bytes attributes = message.attributes(sizeof(nfgenmsg));
        const std::string table{netlink::find(attributes, NFTA_CHAIN_TABLE).text()};
        Table& entry = all.try_emplace({*kind, table}, Table{*kind, table, {}}).first->second;
        Chain& chain = entry.chains[std::string{netlink::find(attributes, NFTA_CHAIN_NAME).text()}];
        const netlink::Bytes hook = netlink::find(attributes, NFTA_CHAIN_HOOK).value;
        chain.on_forward = netlink::find(hook, NFTA_HOOK_HOOKNUM).u32_be() == NF_INET_FORWARD &&
                           netlink::find(attributes, NFTA_CHAIN_TYPE).text() == "filter";
        chain.policy_drops =
            chain.on_forward && netlink::find(attributes, NFTA_CHAIN_POLICY).u32_be() == NF_DROP;
      });
  if (!done) return done.error();
  std::vector<Table> tables;
  for (auto& [key, table] : all) {
    const bool forwards = std::any_of(table.chains.begin(), table.chains.end(),
                                      [](const auto& chain) { return chain.second.on_forward; });
    if (forwards && tables.size() < kMaxTables) tables.push_back(std::move(table));
  }
  return tables;
}

/// What one rule of somebody else's, or ours, does.
struct Rule {
  bool conditional = false;
  bool drops = false;
  int translated = 0;  // so many of its expressions are those of `ct status dnat accept`, or -1
  std::string jump;
  std::string note;
};
constexpr int kTranslatedAll = 4;

netlink::Bytes verdict_of(netlink::Bytes data) {
  return netlink::find(netlink::find(data, NFTA_IMMEDIATE_DATA).value, NFTA_DATA_VERDICT).value;
}

/// Whether this is what follows the first `done` expressions of `ct status dnat accept`.
bool goes_on(int done, std::string_view name, netlink::Bytes data) {
  const auto number = [&](std::uint16_t type) {
    return netlink::find(netlink::find(data, type).value, NFTA_DATA_VALUE).u32();
  };
  switch (done) {
    case 0:
      return name == "ct" && netlink::find(data, NFTA_CT_KEY).u32_be() == NFT_CT_STATUS;
    case 1:
      return name == "bitwise" && number(NFTA_BITWISE_MASK) == IPS_DST_NAT &&
             number(NFTA_BITWISE_XOR) == 0U;
    case 2:
      return name == "cmp" && netlink::find(data, NFTA_CMP_OP).u32_be() == NFT_CMP_NEQ &&
             number(NFTA_CMP_DATA) == 0U;
    case 3:
      return name == "immediate" &&
             netlink::find(verdict_of(data), NFTA_VERDICT_CODE).u32_be() == NF_ACCEPT;
    default:
      return false;
  }
}

void read_verdict(netlink::Bytes data, Rule& rule) {
  const netlink::Bytes verdict = verdict_of(data);
  const auto code = netlink::find(verdict, NFTA_VERDICT_CODE).u32_be();
  if (!code) return;  // a value for a register
  if (*code == NF_DROP) rule.drops = true;
  if (static_cast<int>(*code) == NFT_JUMP || static_cast<int>(*code) == NFT_GOTO) {
    rule.jump = netlink::find(verdict, NFTA_VERDICT_CHAIN).text();
  }
}

void read_expression(netlink::Bytes expression, Rule& rule) {
  const auto name = netlink::find(expression, NFTA_EXPR_NAME).text();
  const netlink::Bytes data = netlink::find(expression, NFTA_EXPR_DATA).value;
  if (name != "counter")
    rule.translated = goes_on(rule.translated, name, data) ? rule.translated + 1 : -1;
  if (name == "immediate") {
    read_verdict(data, rule);
  } else if (name == "reject") {
    rule.drops = true;
  } else if (name == "target") {
    const auto target = netlink::find(data, NFTA_TARGET_NAME).text();
    rule.drops = rule.drops || target == "REJECT" || target == "DROP";
  } else if (name == "match" && netlink::find(data, NFTA_MATCH_NAME).text() == "comment") {
    rule.note = netlink::Attribute{0, netlink::find(data, NFTA_MATCH_INFO).value}.text();
  } else if (name == "lookup") {
    // A verdict map: where it leads is in its elements. It may drop.
    const auto to = netlink::find(data, NFTA_LOOKUP_DREG).u32_be();
    rule.drops = rule.drops || to == NFT_REG_VERDICT;
    rule.conditional = true;
  } else if (name != "counter" && name != "log") {
    rule.conditional = true;
  }
}

/// nft's own comment: type 0, one octet of length, text with its zero.
std::string comment_of(netlink::Bytes notes) {
  if (notes.size() <= 2 || notes[0] != 0) return {};
  return std::string{netlink::Attribute{0, notes.subspan(2)}.text()};
}

Rule rule_of(netlink::Bytes attributes) {
  Rule rule;
  rule.note = comment_of(netlink::find(attributes, NFTA_RULE_USERDATA).value);
  netlink::Attributes expressions{netlink::find(attributes, NFTA_RULE_EXPRESSIONS).value};
  while (const auto expression = expressions.next()) read_expression(expression->value, rule);
  return rule;
}

void note_jump(const Rule& rule, Chain& chain) {
  const bool first = chain.jumps.insert(rule.jump).second;
  if (!rule.conditional) chain.jumps_always.insert(rule.jump);
  const bool past_users = chain.jumps_always.contains(std::string{forward::kDockerUser});
  if (first && !past_users) chain.ways.push_back(rule.jump);
}

void note_rule(const netlink::Message& message, std::string_view tag, bool ours_only,
               Table& table) {
  const netlink::Bytes attributes = message.attributes(sizeof(nfgenmsg));
  const auto chain =
      table.chains.find(std::string{netlink::find(attributes, NFTA_RULE_CHAIN).text()});
  if (netlink::find(attributes, NFTA_RULE_TABLE).text() != table.name ||
      chain == table.chains.end()) {
    return;
  }
  const Rule rule = rule_of(attributes);
  const auto handle = netlink::find(attributes, NFTA_RULE_HANDLE).u64_be();
  if (handle && forward::is_note(tag, rule.note)) {
    chain->second.ours.emplace(rule.note, *handle);
    chain->second.passed.emplace(*handle, chain->second.ways.size());
    return;
  }
  if (ours_only) {
    chain->second.drops = true;  // for all we know
    return;
  }
  const bool first = !chain->second.drops && chain->second.jumps.empty();
  if (first && rule.translated == kTranslatedAll) chain->second.accepts_translated = true;
  chain->second.drops = chain->second.drops || rule.drops;
  chain->second.drops_rest = chain->second.drops_rest || (rule.drops && !rule.conditional);
  if (rule.jump.empty()) return;
  note_jump(rule, chain->second);
}

Result<void> read_rules(netlink::Socket& socket, std::string_view tag, std::size_t& read,
                        Table& table) {
  netlink::Writer out;
  nft::begin(out, NFT_MSG_GETRULE, NLM_F_DUMP, socket.next_sequence(), number_of(table.kind));
  out.text(NFTA_RULE_TABLE, table.name);
  out.end();
  const auto chains = table.chains;
  const std::size_t before = read;
  return dump(
      socket, out,
      [&] {
        table.chains = chains;
        read = before;
      },
      [&](const netlink::Message& message) { note_rule(message, tag, ++read > kMaxRules, table); });
}

/// One rule into a table of somebody else's.
class RuleWriter : private nft::TableWriter {
 public:
  RuleWriter(netlink::Writer& out, netlink::Socket& socket, const Table& table,
             const Accepted& accepted)
      : TableWriter{out, socket, table.name, accepted.to.address.family()}, accepted_{accepted} {
    family_ = number_of(table.kind);
  }

  /// At the head of the chain.
  void write(std::string_view chain, std::string_view note, bool as_iptables) {
    open(NFT_MSG_NEWRULE, 0);
    out_.text(NFTA_RULE_TABLE, name_);
    out_.text(NFTA_RULE_CHAIN, chain);
    out_.nest(NFTA_RULE_EXPRESSIONS, [&] {
      if (as_iptables) {
        match_conntrack();
        match_comment(note);
      } else {
        match_original();
      }
      expression("counter", [] {});
      accept();
    });
    if (!as_iptables) {
      std::vector<std::uint8_t> text{note.begin(), note.end()};
      text.push_back(0);
      out_.attribute(NFTA_RULE_USERDATA, nft::Notes{}.note(0, text).bytes());
    }
    out_.end();
  }

 private:
  template <class Info>
  void match(std::string_view name, std::uint32_t revision, const Info& info) {
    constexpr std::size_t kAligned = (sizeof info + 7) & ~std::size_t{7};  // XT_ALIGN
    std::vector<std::uint8_t> octets(kAligned);
    std::memcpy(octets.data(), &info, sizeof info);
    expression("match", [&] {
      out_.text(NFTA_MATCH_NAME, name);
      out_.u32_be(NFTA_MATCH_REV, revision);
      out_.attribute(NFTA_MATCH_INFO, octets);
    });
  }

  /// -m conntrack --ctorigdst PREFIX [--ctproto PROTOCOL --ctorigdstport PORT]
  void match_conntrack() {
    xt_conntrack_mtinfo3 info{};
    const auto address = accepted_.to.address.octets();
    std::memcpy(&info.origdst_addr, address.data(), address.size());
    const auto bits = mask_bits();
    std::memcpy(&info.origdst_mask, bits.data(), bits.size());
    info.match_flags = XT_CONNTRACK_ORIGDST;
    if (accepted_.service) {
      const auto& [protocol, port] = *accepted_.service;
      info.match_flags |= XT_CONNTRACK_PROTO | XT_CONNTRACK_ORIGDST_PORT;
      info.l4proto = nft::number_of(protocol);
      info.origdst_port = info.origdst_port_high = port.number();
    }
    match("conntrack", 3, info);
  }

  void match_comment(std::string_view note) {
    xt_comment_info info{};
    note.copy(info.comment, sizeof info.comment - 1);
    match("comment", 0, info);
  }

  /// ct original ip daddr PREFIX [ct original protocol … ct original proto-dst …]
  void match_original() {
    if (accepted_.service) {
      const auto& [protocol, port] = *accepted_.service;
      original(NFT_CT_PROTOCOL, nft::kReg);
      const std::uint8_t number = nft::number_of(protocol);
      compare(NFT_CMP_EQ, {&number, 1});
      original(NFT_CT_PROTO_DST, nft::kReg);
      const std::array<std::uint8_t, 2> octets{static_cast<std::uint8_t>(port.number() >> 8),
                                               static_cast<std::uint8_t>(port.number() & 0xFF)};
      compare(NFT_CMP_EQ, octets);
    }
    original(v4_ ? NFT_CT_DST_IP : NFT_CT_DST_IP6, nft::kReg);
    const auto address = accepted_.to.address.octets();
    if (accepted_.to.length < address.size() * 8) mask(mask_bits());
    compare(NFT_CMP_EQ, address);
  }

  void accept() {
    expression("immediate", [this] {
      out_.u32_be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      out_.nest(NFTA_IMMEDIATE_DATA, [this] {
        out_.nest(NFTA_DATA_VERDICT, [this] { out_.u32_be(NFTA_VERDICT_CODE, NF_ACCEPT); });
      });
    });
  }

  std::vector<std::uint8_t> mask_bits() const {
    std::vector<std::uint8_t> bits(accepted_.to.address.octets().size());
    for (std::size_t bit = 0; bit < accepted_.to.length; ++bit) {
      bits[bit / 8] = static_cast<std::uint8_t>(bits[bit / 8] | (0x80U >> (bit % 8)));
    }
    return bits;
  }

  const Accepted& accepted_;
};

}  // namespace

Result<std::vector<Table>> read(netlink::Socket& socket, std::string_view tag) {
  auto tables = read_chains(socket);
  if (!tables) return tables;
  std::size_t rules = 0;
  for (Table& table : *tables) {
    if (const auto done = read_rules(socket, tag, rules, table); !done) return done.error();
  }
  return tables;
}

void write(netlink::Writer& out, netlink::Socket& socket, const Table& table,
           const forward::Edit& edit, std::string_view tag) {
  for (const std::uint64_t handle : edit.remove) {
    nft::begin(out, NFT_MSG_DELRULE, 0, socket.next_sequence(), number_of(table.kind));
    out.text(NFTA_RULE_TABLE, table.name);
    out.text(NFTA_RULE_CHAIN, edit.chain);
    out.u64_be(NFTA_RULE_HANDLE, handle);
    out.end();
  }
  // Each goes before those that are there already.
  for (auto accepted = edit.add.rbegin(); accepted != edit.add.rend(); ++accepted) {
    RuleWriter{out, socket, table, *accepted}.write(edit.chain, forward::note_of(tag, *accepted),
                                                    is_iptables(table, edit.chain));
  }
}

}  // namespace muster::lb::firewall
