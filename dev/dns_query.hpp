#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/endpoint.hpp"

/// As much DNS as a load generator needs to ask for addresses (RFC 1035). Not for anybody else:
/// no compression on the way out, answers believed if id and question match.
namespace muster::dev {

/// A query for the A or AAAA records of `name`; empty if it is no domain name.
std::string dns_query(std::uint16_t id, std::string_view name, Family family);

struct DnsAnswer {
  unsigned rcode = 0;
  std::vector<IpAddress> addresses;
};
/// Nothing if `packet` is not the answer to the query with this id.
std::optional<DnsAnswer> parse_dns_answer(std::span<const std::uint8_t> packet, std::uint16_t id,
                                          Family family);

/// The nameserver addresses of resolv.conf's text; 127.0.0.1 if there is none (resolv.conf(5)).
std::vector<IpAddress> nameservers(std::string_view resolv_conf);

}  // namespace muster::dev
