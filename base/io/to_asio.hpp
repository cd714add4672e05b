#pragma once

#include <boost/asio/ip/address.hpp>

#include "base/endpoint.hpp"

namespace muster {

/// Asio's form of an address of ours.
inline boost::asio::ip::address to_asio(const IpAddress& address) {
  if (address.is_v4()) return boost::asio::ip::address_v4{address.v4()};
  return boost::asio::ip::address_v6{address.v6()};
}

/// The same with a port: to_asio<boost::asio::ip::tcp::endpoint>(endpoint).
template <class AsioEndpoint>
AsioEndpoint to_asio(const Endpoint& endpoint) {
  return {to_asio(endpoint.address), endpoint.port.number()};
}

}  // namespace muster
