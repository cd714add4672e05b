#include "mesos/io/master_url.hpp"

#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>

namespace muster::mesos {

Result<MasterUrl, std::string> MasterUrl::parse(std::string_view text) {
  const std::string given = "\"" + std::string{text.substr(0, 200)} + "\"";
  const std::string wanted = ": write http://host:port or https://host:port";
  if (text.starts_with("zk://")) {
    return given + ": this is where ZooKeeper is asked for masters, not one of them";
  }
  const auto url = boost::urls::parse_uri(boost::urls::string_view{text.data(), text.size()});
  if (!url) return given + " is not a URL" + wanted;
  const bool tls = url->scheme() == "https";
  if (!tls && url->scheme() != "http") return given + " is neither http nor https" + wanted;
  if (url->has_userinfo()) return given + ": user and password have settings of their own";
  if ((!url->encoded_path().empty() && url->encoded_path() != "/") || url->has_query() ||
      url->has_fragment()) {
    return given + " has more than a host and a port" + wanted;
  }
  const std::string port_text = url->port();
  const auto port = port_text.empty() ? std::nullopt : Port::parse(port_text);
  if (!port) return given + " needs a port, 1 to 65535" + wanted;
  // Without the brackets of an IPv6 address, which no resolver wants.
  const std::string host = url->host_address();
  if (host.empty() || host.size() > 253) return given + " needs a host" + wanted;
  return MasterUrl{tls, host, *port};
}

std::string to_string(const MasterUrl& url) {
  const bool v6 = url.host.find(':') != std::string::npos;
  return std::string{url.tls ? "https://" : "http://"} + (v6 ? "[" + url.host + "]" : url.host) +
         ':' + std::to_string(url.port.number());
}

}  // namespace muster::mesos
