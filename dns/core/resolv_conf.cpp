#include "dns/core/resolv_conf.hpp"

#include <algorithm>

namespace muster::dns {
namespace {

constexpr std::uint64_t kDnsPort = 53;
constexpr std::size_t kMaxServers = 16;

std::string_view take_word(std::string_view& line) {
  constexpr std::string_view kBlank = " \t\r";
  line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
  const std::size_t size = std::min(line.find_first_of(kBlank), line.size());
  const std::string_view word = line.substr(0, size);
  line.remove_prefix(size);
  return word;
}

}  // namespace

std::vector<Endpoint> parse_resolv_conf(std::string_view text, const std::vector<Endpoint>& own) {
  std::vector<Endpoint> out;
  while (!text.empty() && out.size() < kMaxServers) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (take_word(line) != "nameserver") continue;
    const auto address = IpAddress::parse(take_word(line));
    if (!address) continue;
    const Endpoint server{*address, *Port::from(kDnsPort)};
    const auto is = [&](const std::vector<Endpoint>& in) {
      return std::find(in.begin(), in.end(), server) != in.end();
    };
    if (!is(own) && !is(out)) out.push_back(server);
  }
  return out;
}

}  // namespace muster::dns
