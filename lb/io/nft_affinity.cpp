#include "lb/io/nft_affinity.hpp"

#include <algorithm>
#include <cerrno>
#include <span>
#include <string>
#include <vector>

#include "lb/io/nft_fields.hpp"
#include "lb/io/nft_link.hpp"
#include "lb/io/nft_rules.hpp"
#include "lb/io/nft_schema.hpp"

namespace muster::lb::nft {
namespace {

/// Elements in one transaction. One that has just run out of time spoils it, and each is then
/// tried by itself.
constexpr std::size_t kTogether = 200;
/// A dump may lack elements while the kernel rehashes or anybody writes. That nothing stale is left
/// is believed when so many dumps in a row say so; after kMaxDumps it is time to go.
constexpr int kAgreeing = 2;
constexpr int kMaxDumps = 8;

struct Where {
  std::string_view table;
  Family family;
  std::string set;
};

/// ip saddr . ip daddr . tcp dport : the backend
std::optional<Fields> stale(netlink::Bytes element, Family family, Protocol protocol,
                            const UdpKeep& keep) {
  netlink::Bytes key = data_of(element, NFTA_SET_ELEM_KEY);
  netlink::Bytes value = data_of(element, NFTA_SET_ELEM_DATA);
  const auto client = read_address(key, family);
  const auto dialled = read_endpoint(key, family);
  const auto backend = read_endpoint(value, family);
  if (!client || !dialled || !backend) return std::nullopt;
  const auto vip = keep.find({protocol, *dialled});
  if (vip == keep.end() || vip->second.contains(*backend)) return std::nullopt;
  return Fields{}.address(*client).endpoint(*dialled);
}

Result<void> remove(netlink::Socket& socket, const Where& where, std::span<const Fields> keys) {
  netlink::Writer out;
  begin_batch(out, socket.next_sequence());
  begin(out, NFT_MSG_DELSETELEM, 0, socket.next_sequence(), nf_family(where.family));
  out.text(NFTA_SET_ELEM_LIST_TABLE, where.table);
  out.text(NFTA_SET_ELEM_LIST_SET, where.set);
  out.nest(NFTA_SET_ELEM_LIST_ELEMENTS, [&] {
    for (const Fields& key : keys) {
      out.nest(NFTA_LIST_ELEM, [&] {
        out.nest(NFTA_SET_ELEM_KEY, [&] { out.attribute(NFTA_DATA_VALUE, key.bytes()); });
      });
    }
  });
  out.end();
  return commit(socket, out);
}

Result<void> remove_all(netlink::Socket& socket, const Where& where, std::span<const Fields> keys) {
  while (!keys.empty()) {
    const auto part = keys.first(std::min(keys.size(), kTogether));
    keys = keys.subspan(part.size());
    auto done = remove(socket, where, part);
    for (std::size_t i = 0; !done && done.error().value() == ENOENT && i < part.size(); ++i) {
      const auto one = remove(socket, where, part.subspan(i, 1));
      if (!one && one.error().value() != ENOENT) return one;
      if (i + 1 == part.size()) done = {};
    }
    if (!done) return done;
  }
  return {};
}

Result<std::size_t> forget_in(netlink::Socket& socket, const Where& where, Protocol protocol,
                              const UdpKeep& keep) {
  std::size_t count = 0;
  int clean = 0;
  for (int dump = 0; dump < kMaxDumps && clean < kAgreeing; ++dump) {
    std::vector<Fields> keys;
    const auto read = dump_set(socket, where.family, where.table, where.set,
                               [&](const netlink::Message& message) {
                                 each_element(message, [&](netlink::Bytes element) {
                                   if (auto key = stale(element, where.family, protocol, keep))
                                     keys.push_back(*key);
                                 });
                               });
    if (!read) return read.error();
    if (const auto done = remove_all(socket, where, keys); !done) return done.error();
    count += keys.size();
    clean = keys.empty() ? clean + 1 : 0;
  }
  return count;
}

}  // namespace

Result<std::size_t> forget_clients(netlink::Socket& socket, std::string_view table,
                                   const UdpKeep& keep) {
  std::size_t count = 0;
  constexpr Family kFamily = Family::v4;  // IPv6 clients are hashed, not remembered
  for (const Protocol protocol : {Protocol::tcp, Protocol::udp}) {
    const bool concerned = std::any_of(keep.begin(), keep.end(), [&](const auto& entry) {
      return entry.first.protocol == protocol && entry.first.endpoint.address.family() == kFamily;
    });
    if (!concerned) continue;
    const auto forgotten =
        forget_in(socket, {table, kFamily, affinity_name(protocol)}, protocol, keep);
    if (!forgotten) return forgotten.error();
    count += *forgotten;
  }
  return count;
}

}  // namespace muster::lb::nft
