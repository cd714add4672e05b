#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "base/endpoint.hpp"
#include "lb/io/netlink.hpp"

/// Keys and values of set elements, octet by octet. Each field takes a multiple of four octets;
/// addresses and ports are in network order, slot numbers and class ids in the host's: what the
/// expressions leave in their registers.
namespace muster::lb::nft {

/// Octets of a key or value: at most two IPv6 addresses and a port.
class Fields {
 public:
  Fields& address(const IpAddress& address) {
    for (const std::uint8_t octet : address.octets()) octets_[size_++] = octet;
    return *this;
  }
  Fields& port(Port port) {
    octets_[size_++] = static_cast<std::uint8_t>(port.number() >> 8);
    octets_[size_++] = static_cast<std::uint8_t>(port.number() & 0xFF);
    size_ += 2;
    return *this;
  }
  Fields& endpoint(const Endpoint& endpoint) {
    return address(endpoint.address).port(endpoint.port);
  }
  Fields& host(std::uint32_t value) {
    std::memcpy(octets_.data() + size_, &value, sizeof value);
    size_ += sizeof value;
    return *this;
  }
  netlink::Bytes bytes() const { return {octets_.data(), size_}; }

 private:
  std::array<std::uint8_t, 36> octets_{};
  std::size_t size_ = 0;
};

// Each takes its field off the front of `rest`; none: there is no such thing.
std::optional<IpAddress> read_address(netlink::Bytes& rest, Family family);
std::optional<Endpoint> read_endpoint(netlink::Bytes& rest, Family family);
std::optional<std::uint32_t> read_host(netlink::Bytes& rest);

/// NFTA_SET_ELEM_KEY or _DATA of an element.
inline netlink::Bytes data_of(netlink::Bytes element, std::uint16_t type) {
  return netlink::find(netlink::find(element, type).value, NFTA_DATA_VALUE).value;
}

/// Hands each element of one message of a set's dump to `each`.
template <class Each>
void each_element(const netlink::Message& message, Each each) {
  if (message.header.nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM)) return;
  netlink::Attributes list{
      netlink::find(message.attributes(sizeof(nfgenmsg)), NFTA_SET_ELEM_LIST_ELEMENTS).value};
  while (const auto element = list.next()) each(element->value);
}

}  // namespace muster::lb::nft
