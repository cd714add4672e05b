#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "lb/io/monitor.hpp"
#include "lb/io/netlink.hpp"
#include "lb/io/nft_rules.hpp"

/// What a driver asks of nf_tables about a table of its own, and how it has a batch carried out.
/// Errors: what the kernel said; Socket::detail() may have its words.
namespace muster::lb::nft {

struct TableInfo {
  bool there = false;
  std::string comment;  // kept by Linux 5.10 and later
  std::uint32_t objects = 0;
  std::uint32_t flags = 0;  // dormant, or owned by a program
};
Result<TableInfo> read_table(netlink::Socket& socket, Family family, std::string_view table);

/// 1 if the table has a chain of that name, else 0.
Result<std::size_t> count_chains(netlink::Socket& socket, Family family, std::string_view table,
                                 std::string_view chain);
Result<std::uint32_t> count_rules(netlink::Socket& socket, Family family, std::string_view table);

/// Each message of the elements of one set. May be torn if others change the ruleset meanwhile.
Result<void> dump_set(netlink::Socket& socket, Family family, std::string_view table,
                      std::string_view set,
                      const std::function<void(const netlink::Message&)>& each);

/// Appends what removes a table, whether or not it is there.
void write_removal(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                   Family family);

/// Appends what removes all rules of a chain.
void write_flush(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                 Family family, std::string_view chain);

/// The ruleset's generation: up by one with every transaction of anybody. 0 if it is not told.
std::uint32_t generation(netlink::Socket& socket);

/// Ends the batch that `out` holds and has the kernel carry it out.
Result<void> commit(netlink::Socket& socket, netlink::Writer& out);
/// The same for a large batch: `monitor` does not listen meanwhile, and is told if somebody else
/// changed something in that time.
Result<void> commit_unnoticed(netlink::Socket& socket, netlink::Writer& out, Monitor& monitor);
/// From here on that pays.
inline constexpr std::size_t kNoticedCommands = 200;

/// Makes the table's set of bridges, on which answers pass the rules by, what it has to be: all
/// bridges, or none if br_netfilter brings bridged packets to the rules. `ids` as write_bridges()
/// has it. Returns what changed.
///
/// br_netfilter's settings are those of the calling thread's namespace. `elsewhere`: the sockets
/// are another's, where it is taken to be off.
Result<std::size_t> publish_bridges(netlink::Socket& nft, netlink::Socket& routes, Family family,
                                    std::string_view table, std::string_view ids = {},
                                    bool elsewhere = false);

}  // namespace muster::lb::nft
