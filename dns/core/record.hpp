#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/endpoint.hpp"

namespace muster::dns {

/// One record as somebody contributes it; owner and data in wire form. The TTL is the catalog's.
struct Record {
  std::string owner;  // lower-cased wire name
  std::uint16_t type = 0;
  std::string data;  // RDATA, uncompressed
  friend auto operator<=>(const Record&, const Record&) = default;
};

Record address_record(std::string owner, const IpAddress&);
/// Priority 0, as Mesos-DNS has it.
Record srv_record(std::string owner, std::string_view target, Port port, std::uint16_t weight = 1);
Record name_record(std::string owner, std::uint16_t type, std::string target);

/// The target's wire name inside SRV data.
inline std::string_view srv_target(std::string_view data) {
  return data.substr(6);
}

/// A record for people and for /v1/records.
struct RecordView {
  std::string name;
  std::string type;
  std::string data;
  friend auto operator<=>(const RecordView&, const RecordView&) = default;
};

}  // namespace muster::dns
