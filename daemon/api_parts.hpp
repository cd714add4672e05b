#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "daemon/api.hpp"

/// What the files of the HTTP API share. An answer is prepared on the control thread, and made
/// where there is time.
namespace muster::daemon {

namespace json = boost::json;
using metrics::HttpRequest;
using metrics::HttpResponse;
using Answer = std::function<HttpResponse()>;

inline HttpResponse as_json(const json::value& value, unsigned status = 200) {
  return {status, "application/json", json::serialize(value) + '\n', {}};
}

inline HttpResponse as_text(std::string body, unsigned status = 200) {
  return {status, "text/plain; charset=utf-8", std::move(body), {}};
}

// Whole seconds since `then`; null if it never was.
inline json::value seconds_since(TimePoint then, TimePoint now) {
  if (then == TimePoint{}) return nullptr;
  return std::chrono::duration_cast<std::chrono::seconds>(now - then).count();
}

template <class Range, class Text>
json::array texts(const Range& range, Text text) {
  json::array list;
  for (const auto& item : range) list.emplace_back(text(item));
  return list;
}

inline json::array addresses_of(const std::vector<IpAddress>& addresses) {
  return texts(addresses, [](const IpAddress& address) { return address.to_string(); });
}

/// api_status.cpp: `/v1/status` and `/v1/nodes`.
Answer status_answer(const ApiSources&);
Answer nodes_answer(const ApiSources&);

/// api_mesos_dns.cpp: all of Mesos-DNS's HTTP API; null for a path that is not of it.
Answer mesos_dns_answer(const ApiSources&, const std::string& path);

}  // namespace muster::daemon
