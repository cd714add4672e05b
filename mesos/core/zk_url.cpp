#include "mesos/core/zk_url.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace muster::mesos {
namespace {

constexpr std::string_view kScheme = "zk://";
constexpr std::uint16_t kDefaultPort = 2181;
constexpr std::size_t kMaxPath = 512;
constexpr std::size_t kMaxHost = 253;
constexpr std::size_t kMaxAuth = 1024;

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
std::optional<ZkUrl::Server> server_of(std::string_view text) {
  std::string_view host = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    host = text.substr(1, close - 1);
    port = text.substr(close + 1);
    if (!IpAddress::parse(host) || (!port.empty() && !port.starts_with(':'))) return std::nullopt;
  } else if (const std::size_t colon = text.find(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon);
  }
  const auto number = port.empty() ? Port::from(kDefaultPort) : Port::parse(port.substr(1));
  const bool is_host = !host.empty() && host.size() <= kMaxHost &&
                       std::none_of(host.begin(), host.end(), [](char c) {
                         return c <= ' ' || c == '/' || c == '@' || c == '\x7f';
                       });
  if (!number || !is_host) return std::nullopt;
  return ZkUrl::Server{std::string{host}, *number};
}

/// What ZooKeeper itself accepts, and no more: absolute, no empty step, no slash at the end.
bool is_path(std::string_view path) {
  if (path == "/") return true;
  const bool plain = std::none_of(path.begin(), path.end(),
                                  [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; });
  return path.starts_with('/') && !path.ends_with('/') && path.size() <= kMaxPath && plain &&
         path.find("//") == std::string_view::npos &&
         (std::string{path} + '/').find("/./") == std::string::npos &&
         (std::string{path} + '/').find("/../") == std::string::npos;
}

}  // namespace

Result<ZkUrl, std::string> ZkUrl::parse(std::string_view text) {
  const std::string given = '"' + without_credentials(text.substr(0, 2 * kMaxPath)) + '"';
  const std::string wanted = ": write zk://host1:2181,host2:2181/path";
  if (!text.starts_with(kScheme)) return given + " is no ZooKeeper URL" + wanted;
  std::string_view rest = text.substr(kScheme.size());
  ZkUrl url;
  // The last one: a password may hold an '@'. A path may not: it would be taken for the end of it.
  if (const std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
    url.auth = rest.substr(0, at);
    rest.remove_prefix(at + 1);
    const std::size_t colon = url.auth.find(':');
    if (colon == 0 || colon == std::string::npos || url.auth.size() > kMaxAuth) {
      return given + ": what stands before the @ must be user:password";
    }
  }
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return given + " needs a path, such as /mesos" + wanted;
  url.path = rest.substr(slash);
  if (!is_path(url.path)) return given + ": its path is not one of ZooKeeper" + wanted;
  std::string_view hosts = rest.substr(0, slash);
  for (;;) {
    const std::size_t comma = std::min(hosts.find(','), hosts.size());
    auto server = server_of(hosts.substr(0, comma));
    if (!server) return given + " needs hosts, each with or without a port" + wanted;
    if (url.servers.size() == kMaxServers) return given + " names more than 32 hosts";
    url.servers.push_back(std::move(*server));
    if (comma == hosts.size()) return url;
    hosts.remove_prefix(comma + 1);
  }
}

std::string to_string(const ZkUrl& url) {
  std::string out{kScheme};
  for (const ZkUrl::Server& server : url.servers) {
    if (&server != &url.servers.front()) out += ',';
    const bool v6 = server.host.find(':') != std::string::npos;
    out +=
        (v6 ? "[" + server.host + "]" : server.host) + ':' + std::to_string(server.port.number());
  }
  return out + url.path;
}

std::string without_credentials(std::string_view text) {
  const std::size_t at = text.rfind('@');
  if (at == std::string_view::npos) return std::string{text};
  const std::size_t scheme = text.find("://");
  const bool has_scheme = scheme != std::string_view::npos && scheme < at;
  if (!has_scheme && text.substr(0, at).find(':') == std::string_view::npos) {
    return std::string{text};  // a name before an @ is no secret
  }
  const std::size_t from = has_scheme ? scheme + 3 : 0;
  return std::string{text.substr(0, from)} + "***" + std::string{text.substr(at)};
}

}  // namespace muster::mesos
