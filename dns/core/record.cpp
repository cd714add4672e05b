#include "dns/core/record.hpp"

#include <utility>

#include "dns/core/types.hpp"

namespace muster::dns {

Record address_record(std::string owner, const IpAddress& address) {
  const auto octets = address.octets();
  return {std::move(owner), address.is_v4() ? type::kA : type::kAaaa,
          std::string{octets.begin(), octets.end()}};
}

Record srv_record(std::string owner, std::string_view target, Port port, std::uint16_t weight) {
  std::string data;
  data.reserve(6 + target.size());
  for (const unsigned value : {0U, unsigned{weight}, unsigned{port.number()}}) {
    data += static_cast<char>(value >> 8);
    data += static_cast<char>(value & 0xFF);
  }
  data += target;
  return {std::move(owner), type::kSrv, std::move(data)};
}

Record name_record(std::string owner, std::uint16_t rtype, std::string target) {
  return {std::move(owner), rtype, std::move(target)};
}

}  // namespace muster::dns
