#include <algorithm>
#include <string_view>
#include <utility>

#include "daemon/api_parts.hpp"
#include "daemon/version.hpp"
#include "dns/core/mesos_dns_api.hpp"

namespace muster::daemon {
namespace {

dns::MesosDnsSettings mesos_dns_settings(const ApiSources& from) {
  const Config::Dns& dns = from.config.dns;
  dns::MesosDnsSettings out;
  out.masters = from.config.mesos.masters;
  for (const dns::Upstream& upstream : dns.upstreams.value_or(std::vector<dns::Upstream>{})) {
    out.resolvers.push_back(to_string(upstream));
  }
  for (const auto& [zone, upstreams] : dns.zones) {
    out.zone_resolvers[zone] = std::vector<std::string>(upstreams.size());
    std::transform(upstreams.begin(), upstreams.end(), out.zone_resolvers[zone].begin(),
                   [](const dns::Upstream& upstream) { return to_string(upstream); });
  }
  out.ip_sources = dns.ip_sources;
  out.domain = dns.domain;
  if (!dns.listen.empty()) {
    out.listener = dns.listen.front().address.to_string();
    out.port = dns.listen.front().port.number();
  }
  const Endpoint& http =
      dns.http_listen.empty() ? from.config.metrics.listen : dns.http_listen.front();
  out.http_listener = http.address.to_string();
  out.http_port = http.port.number();
  const auto dotted = [](std::string name) { return name.ends_with('.') ? name : name + '.'; };
  out.soa_mname = dotted(dns.soa_mname.empty() ? "ns1." + dns.domain : dns.soa_mname);
  out.soa_rname = dotted(dns.soa_rname.empty() ? "root." + out.soa_mname : dns.soa_rname);
  out.ttl = dns.ttl_seconds;
  out.refresh_seconds = 1;  // changes show at once; pollers should not come more often
  out.timeout = 5;
  out.soa_refresh = dns.soa_refresh;
  out.soa_retry = dns.soa_retry;
  out.soa_expire = dns.soa_expire;
  out.soa_minimum = dns.soa_minimum;
  out.srv_weight = dns.srv_weight;
  out.rfc952 = dns.rfc952;
  out.external_on = !dns.upstreams || !dns.upstreams->empty();
  out.enumeration_on = dns.enumerate;
  return out;
}

Answer enumerate_answer(const ApiSources& from) {
  if (from.dns == nullptr || !from.config.dns.enumerate) return {};
  std::vector<std::shared_ptr<const Framework>> frameworks;
  for (const auto& [id, framework] : from.cluster.view().frameworks()) {
    frameworks.push_back(framework);
  }
  std::vector<std::shared_ptr<const Task>> tasks;
  tasks.reserve(from.cluster.view().tasks().size());
  for (const auto& [key, task] : from.cluster.view().tasks()) tasks.push_back(task);
  return [frameworks = std::move(frameworks), tasks = std::move(tasks),
          suffixes = from.dns->suffixes()] {
    return HttpResponse{
        200, "application/json", dns::mesos_dns_api::enumerate(frameworks, tasks, suffixes), {}};
  };
}

Answer axfr_answer(const ApiSources& from) {
  if (from.dns == nullptr || !from.config.dns.enumerate) return {};
  return [zones = from.dns->snapshot(), settings = mesos_dns_settings(from)] {
    return HttpResponse{200, "application/json", dns::mesos_dns_api::axfr(*zones, settings), {}};
  };
}

Answer config_answer(const ApiSources& from) {
  if (from.dns == nullptr) return {};
  return [settings = mesos_dns_settings(from), serial = from.dns->status().serial] {
    return HttpResponse{200, "application/json", dns::mesos_dns_api::config(settings, serial), {}};
  };
}

Answer version_answer(const ApiSources&) {
  return [] {
    return HttpResponse{200, "application/json", dns::mesos_dns_api::version(kVersion), {}};
  };
}

// `/v1/hosts/{host}`, `/v1/hosts/{host}/ports` and `/v1/services/{service}`.
Answer hosts_or_services_answer(const ApiSources& from, std::string_view path) {
  constexpr std::string_view kHosts = "/v1/hosts/";
  constexpr std::string_view kServices = "/v1/services/";
  constexpr unsigned kNotImplemented = 501;
  if (from.dns == nullptr) return {};
  const bool host = path.starts_with(kHosts);
  if (!host && !path.starts_with(kServices)) return {};
  std::string name{path.substr(host ? kHosts.size() : kServices.size())};
  if (host && name.ends_with("/ports")) {
    return [] { return as_text("To be implemented...", kNotImplemented); };
  }
  if (name.find('/') != std::string::npos) return {};
  return [zones = from.dns->snapshot(), name = std::move(name), host] {
    return HttpResponse{
        200,
        "application/json",
        host ? dns::mesos_dns_api::hosts(*zones, name) : dns::mesos_dns_api::services(*zones, name),
        {}};
  };
}

}  // namespace

Answer mesos_dns_answer(const ApiSources& from, const std::string& path) {
  if (path == "/v1/version") return version_answer(from);
  if (path == "/v1/config") return config_answer(from);
  if (path == "/v1/enumerate") return enumerate_answer(from);
  if (path == "/v1/axfr") return axfr_answer(from);
  return hosts_or_services_answer(from, path);
}

}  // namespace muster::daemon
