#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "dns/core/query.hpp"
#include "dns/core/zone_snapshot.hpp"

namespace muster::dns {

/// One zone as the messages of an AXFR reply (RFC 5936), made one at a time, so that a large zone
/// neither holds up others nor fills memory. Holds its snapshot: what it sends is one state.
class Transfer {
 public:
  static constexpr std::size_t kMessageSize = 16'384;  // about; RFC 5936 §3.4's advice

  /// `query` is an AXFR or IXFR query for the apex of `zone`, `message` what it was parsed from.
  Transfer(std::shared_ptr<const ZoneSnapshot> zones, std::uint8_t zone,
           std::span<const std::byte> message, const Query& query);

  /// The next message; empty after the last.
  std::vector<std::byte> next();

 private:
  struct Place {
    const std::byte* node;
    std::uint8_t set;
    std::uint16_t record;
  };
  void put_soa(std::vector<std::byte>& out) const;
  void put_record(std::vector<std::byte>& out, const Place& place) const;
  void refill();

  std::shared_ptr<const ZoneSnapshot> zones_;
  std::uint8_t zone_;
  std::uint16_t id_;
  std::uint16_t flags_;
  std::vector<std::byte> question_;
  std::vector<Place> waiting_;  // of the part that is under way, in reverse
  std::size_t part_ = 0;
  bool begun_ = false;
  bool ended_ = false;
};

/// A NOTIFY message for the zone at `apex`, in wire form (RFC 1996 §3.7).
std::vector<std::byte> make_notify(std::string_view apex, std::uint16_t id);

}  // namespace muster::dns
