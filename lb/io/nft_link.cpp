#include "lb/io/nft_link.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <sys/socket.h>
#include <vector>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "lb/io/nft_elements.hpp"
#include "lb/io/nft_schema.hpp"
#include "lb/io/routes.hpp"

namespace muster::lb::nft {
namespace {

/// The kernel calls a dump interrupted when anything in any table has changed. Where others do that
/// all the time no read would ever succeed; and of changes to our own table we know.
Result<void> whatever_interrupted(Result<void> done) {
  if (!done && done.error().value() == EINTR) return {};
  return done;
}

/// Bridged packets already pass the rules: br_netfilter is on.
bool bridges_call_us(Family family) {
  std::ifstream file{family == Family::v4 ? "/proc/sys/net/bridge/bridge-nf-call-iptables"
                                          : "/proc/sys/net/bridge/bridge-nf-call-ip6tables"};
  int on = 0;
  return file >> on && on == 1;
}

}  // namespace

std::uint32_t generation(netlink::Socket& socket) {
  netlink::Writer out;
  begin(out, NFT_MSG_GETGEN, NLM_F_ACK, socket.next_sequence(), AF_UNSPEC);
  out.end();
  std::uint32_t generation = 0;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    generation =
        netlink::find(message.attributes(sizeof(nfgenmsg)), NFTA_GEN_ID).u32_be().value_or(0);
  });
  return done ? generation : 0;
}

Result<TableInfo> read_table(netlink::Socket& socket, Family family, std::string_view name) {
  netlink::Writer out;
  begin(out, NFT_MSG_GETTABLE, NLM_F_ACK, socket.next_sequence(), nf_family(family));
  out.text(NFTA_TABLE_NAME, name);
  out.end();
  TableInfo table;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    const netlink::Bytes attributes = message.attributes(sizeof(nfgenmsg));
    const netlink::Bytes note = netlink::find(attributes, NFTA_TABLE_USERDATA).value;
    // type 0, one octet of length, text with its zero
    if (note.size() > 2 && note[0] == 0) {
      table.comment = netlink::Attribute{0, note.subspan(2)}.text();
    }
    table.there = true;
    table.objects = netlink::find(attributes, NFTA_TABLE_USE).u32_be().value_or(0);
    table.flags = netlink::find(attributes, NFTA_TABLE_FLAGS).u32_be().value_or(0);
  });
  if (!done && done.error().value() != ENOENT) return done.error();
  return table;
}

Result<std::size_t> count_chains(netlink::Socket& socket, Family family, std::string_view table,
                                 std::string_view chain) {
  netlink::Writer out;
  begin(out, NFT_MSG_GETCHAIN, NLM_F_ACK, socket.next_sequence(), nf_family(family));
  out.text(NFTA_CHAIN_TABLE, table);
  out.text(NFTA_CHAIN_NAME, chain);
  out.end();
  const auto done = socket.request(out.bytes(), [](const netlink::Message&) {});
  if (!done && done.error().value() != ENOENT) return done.error();
  return done ? std::size_t{1} : std::size_t{0};
}

Result<std::uint32_t> count_rules(netlink::Socket& socket, Family family, std::string_view table) {
  netlink::Writer out;
  begin(out, NFT_MSG_GETRULE, NLM_F_DUMP, socket.next_sequence(), nf_family(family));
  out.text(NFTA_RULE_TABLE, table);
  out.end();
  std::uint32_t count = 0;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    const netlink::Bytes attributes = message.attributes(sizeof(nfgenmsg));
    if (netlink::find(attributes, NFTA_RULE_TABLE).text() == table) ++count;
  });
  if (const auto counted = whatever_interrupted(done); !counted) return counted.error();
  return count;
}

Result<void> dump_set(netlink::Socket& socket, Family family, std::string_view table,
                      std::string_view set,
                      const std::function<void(const netlink::Message&)>& each) {
  netlink::Writer out;
  begin(out, NFT_MSG_GETSETELEM, NLM_F_DUMP, socket.next_sequence(), nf_family(family));
  out.text(NFTA_SET_ELEM_LIST_TABLE, table);
  out.text(NFTA_SET_ELEM_LIST_SET, set);
  out.end();
  return whatever_interrupted(socket.request(out.bytes(), each));
}

/// "Add, delete" is nft's way to say so.
void write_removal(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                   Family family) {
  for (const std::uint16_t message : {NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE}) {
    const std::uint16_t flags = message == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0;
    begin(out, message, flags, socket.next_sequence(), nf_family(family));
    out.text(NFTA_TABLE_NAME, table);
    out.end();
  }
}

void write_flush(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                 Family family, std::string_view chain) {
  begin(out, NFT_MSG_DELRULE, 0, socket.next_sequence(), nf_family(family));
  out.text(NFTA_RULE_TABLE, table);
  out.text(NFTA_RULE_CHAIN, chain);
  out.end();
}

Result<void> commit(netlink::Socket& socket, netlink::Writer& out) {
  // On the last message rather than on the end mark, whose acknowledgement came with Linux 6.10.
  out.flag_last(NLM_F_ACK);
  end_batch(out, socket.next_sequence());
  return socket.transact(out.bytes());
}

Result<void> commit_unnoticed(netlink::Socket& socket, netlink::Writer& out, Monitor& monitor) {
  const std::uint32_t before = generation(socket);
  monitor.pause();
  auto done = commit(socket, out);
  const std::string detail = socket.detail();
  monitor.resume();
  if (before == 0 || generation(socket) != before + (done ? 1U : 0U)) monitor.suspect();
  if (!done) socket.keep_detail(detail);
  return done;
}

Result<std::size_t> publish_bridges(netlink::Socket& nft, netlink::Socket& routes, Family family,
                                    std::string_view table, std::string_view ids, bool elsewhere) {
  std::vector<std::uint32_t> wanted;
  if (elsewhere || !bridges_call_us(family)) {
    auto found = routes::bridges(routes);
    if (!found) return found.error();
    wanted = std::move(*found);
  }
  std::vector<std::uint32_t> there;
  const auto read = dump_set(nft, family, table, kBridgesSet, [&](const netlink::Message& message) {
    read_bridges(message, there);
  });
  if (!read) return read.error();
  std::sort(there.begin(), there.end());
  std::vector<std::uint32_t> added;
  std::vector<std::uint32_t> removed;
  std::set_difference(wanted.begin(), wanted.end(), there.begin(), there.end(),
                      std::back_inserter(added));
  std::set_difference(there.begin(), there.end(), wanted.begin(), wanted.end(),
                      std::back_inserter(removed));
  if (added.empty() && removed.empty()) return std::size_t{0};
  netlink::Writer out;
  begin_batch(out, nft.next_sequence());
  write_bridges(out, nft, table, family, ids, added, removed);
  const auto done = commit(nft, out);
  if (!done) return done.error();
  return added.size() + removed.size();
}

}  // namespace muster::lb::nft
