#pragma once

// Private to nft_schema.cpp, which writes what every table has, and nft_classes.cpp, which writes
// the rules of one size class into it: what both must call and look up alike.

#include <array>
#include <string>
#include <string_view>

#include "lb/io/netlink.hpp"
#include "lb/io/nft_rules.hpp"
#include "lb/io/nft_schema.hpp"

namespace muster::lb::nft {

inline constexpr std::array kProtocols{Protocol::tcp, Protocol::udp};

/// The timeout policy of balanced tcp flows.
inline constexpr std::string_view kTimeoutPolicy = "syn";

/// The chain that remembers clients, of all classes with affinity.
std::string remember_name(Protocol protocol);
/// The classes whose clients are remembered.
std::string affine_name(Protocol protocol);

/// A TableWriter that knows what a flow was before any translation, and after.
class FlowWriter : protected TableWriter {
 protected:
  FlowWriter(netlink::Writer& out, netlink::Socket& socket, const SchemaOptions& options)
      : TableWriter{out, socket, options.table, options.family}, options_{options} {}

  /// ct reply ip saddr . ct reply proto-src: the backend. Not as fields of the packet: nft would
  /// leave out the protocol when it lists the rule, without which it cannot read it.
  void load_reply_source(std::uint32_t to);
  /// The client, and what it dialled.
  void load_original_client(Protocol protocol);

  const SchemaOptions& options_;
};

}  // namespace muster::lb::nft
