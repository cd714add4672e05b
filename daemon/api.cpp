#include "daemon/api.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>
#include <utility>

#include <boost/json.hpp>

#include "daemon/mesh.hpp"
#include "daemon/version.hpp"
#include "dns/core/listing.hpp"
#include "dns/core/mesos_dns_api.hpp"
#include "metrics/page/page.hpp"

namespace muster::daemon {
namespace {

namespace json = boost::json;
using metrics::HttpRequest;
using metrics::HttpResponse;
using Answer = std::function<HttpResponse()>;

constexpr std::size_t kDefaultRecords = 1'000;
constexpr std::size_t kMaxRecords = 100'000;  // some 10 MB of JSON

HttpResponse as_json(const json::value& value, unsigned status = 200) {
  return {status, "application/json", json::serialize(value) + '\n', {}};
}

HttpResponse as_text(std::string body, unsigned status = 200) {
  return {status, "text/plain; charset=utf-8", std::move(body), {}};
}

// Whole seconds since `then`; null if it never was.
json::value seconds_since(TimePoint then, TimePoint now) {
  if (then == TimePoint{}) return nullptr;
  return std::chrono::duration_cast<std::chrono::seconds>(now - then).count();
}

template <class Range, class Text>
json::array texts(const Range& range, Text text) {
  json::array list;
  for (const auto& item : range) list.emplace_back(text(item));
  return list;
}

json::array addresses_of(const std::vector<IpAddress>& addresses) {
  return texts(addresses, [](const IpAddress& address) { return address.to_string(); });
}

json::object observation(const ApiSources& from, TimePoint now) {
  json::object out;
  if (from.mesh == nullptr) {
    out = {{"source", "this node"}, {"reason", "without gossip every node asks the master itself"}};
  } else {
    const auto& mesh = from.mesh->status();
    const bool own = mesh.role == cluster::Role::publisher;
    out = {{"source", own                      ? std::string{"this node"}
                      : mesh.publisher.empty() ? std::string{"nobody"}
                                               : "node " + mesh.publisher.str()},
           {"reason",
            own ? "this node publishes what all nodes read" : "one node asks the master for all"}};
  }
  const mesos::Observer::Status none;
  const auto& status = from.observer != nullptr ? from.observer->status() : none;
  out.emplace("state", status.state);
  out.emplace("master", status.master);
  out.emplace("last_event_seconds", seconds_since(status.last_event, now));
  out.emplace("last_snapshot_seconds", seconds_since(status.last_snapshot, now));
  out.emplace("last_error", status.last_error);
  return out;
}

/// Who says what runs on this node.
json::object agent_part(const ApiSources& from, TimePoint now) {
  if (from.agent == nullptr) return {{"source", "master"}};
  const auto& poller = from.agent->status();
  const auto status = from.cluster.status(now);
  return {
      {"source", "agent"},
      {"state", poller.state},
      {"agent", poller.agent},
      {"id", poller.id.str()},
      {"tasks", status.own_tasks},
      {"held_tasks", status.own_held},
      {"last_answer_seconds", seconds_since(poller.last_answer, now)},
      {"last_change_seconds", seconds_since(poller.last_change, now)},
      {"last_error", poller.last_error},
  };
}

std::string said(const Member& member, std::string_view key) {
  const auto found = member.metadata.find(std::string{key});
  return found == member.metadata.end() ? std::string{} : found->second;
}

json::object gossip_part(const ApiSources& from) {
  if (from.mesh == nullptr) return {{"enabled", false}};
  const auto& status = from.mesh->status();
  return {
      {"enabled", true},
      {"id", from.mesh->self().str()},
      {"role", to_string(status.role)},
      {"publisher", status.publisher.str()},
      {"members_alive", status.alive},
      {"members_known", status.known},
      {"held_host_deaths", status.held},
  };
}

Answer nodes_answer(const ApiSources& from) {
  std::vector<Member> members;
  NodeId self;
  if (from.mesh != nullptr) {
    members = from.mesh->members();
    self = from.mesh->self();
  }
  return [members = std::move(members), self] {
    json::array nodes;
    for (const Member& member : members) {
      // The dead hold no seat, whatever they said last.
      const bool alive = member.status == MemberStatus::alive;
      const std::string role = alive ? said(member, cluster::kRoleKey) : std::string{};
      nodes.push_back(json::object{
          {"id", member.id.str()},
          {"status", to_string(member.status)},
          {"endpoints", texts(member.endpoints, [](const Endpoint& e) { return to_string(e); })},
          {"agent", member.agent_endpoint ? json::value(to_string(*member.agent_endpoint))
                                          : json::value(nullptr)},
          {"self", member.id == self},
          {"observer", role == "publisher" || role == "standby"},
          {"publisher", role == "publisher"},
          {"role", role},
          {"version", said(member, "version")},
          {"source", said(member, kSourceKey)},
          {"epoch", member.epoch},
      });
    }
    return as_json(json::object{{"nodes", std::move(nodes)}});
  };
}

json::object cluster_part(const ApiSources& from, TimePoint now) {
  const auto status = from.cluster.status(now);
  const auto& view = from.cluster.view();
  return {
      {"complete", status.complete},
      {"recovering", status.recovering},
      {"held_tasks", status.held_tasks},
      {"held_seconds", seconds_since(status.held_since.value_or(TimePoint{}), now)},
      {"tasks", view.tasks().size()},
      {"agents", view.agents().size()},
      {"frameworks", view.frameworks().size()},
      {"masters", view.masters().size()},
      {"vips", view.vips().size()},
      {"speaking_agents", status.speakers},
  };
}

json::object lb_part(const ApiSources& from, TimePoint now) {
  if (from.balancer == nullptr) return {{"driver", "off"}};
  const auto status = from.balancer->status();
  return {
      {"driver", status.driver},
      {"healthy", status.healthy},
      {"vips", status.applied_vips},
      {"backends", status.applied_backends},
      {"last_reconcile_seconds", seconds_since(status.last_reconcile, now)},
      {"last_error", status.last_error},
      {"dropping", texts(status.dropping, [](const std::string& chain) { return chain; })},
  };
}

json::object dns_part(const ApiSources& from) {
  if (from.dns == nullptr) return {{"listen", "off"}};
  const auto status = from.dns->status();
  return {
      {"listen", texts(from.dns->bound(), [](const Endpoint& e) { return to_string(e); })},
      {"ready", status.ready},
      {"names", status.names},
      {"records", status.records},
      {"serial", status.serial},
      {"last_error", status.last_error},
  };
}

Answer status_answer(const ApiSources& from) {
  const TimePoint now = Clock::now();
  const std::vector<std::string> reasons = not_ready(from);
  json::array addresses;
  if (from.config.node.v4) addresses.emplace_back(from.config.node.v4->to_string());
  if (from.config.node.v6) addresses.emplace_back(from.config.node.v6->to_string());
  json::object status{
      {"version", kVersion},
      {"uptime_seconds", seconds_since(from.started, now)},
      {"ready", reasons.empty()},
      {"not_ready", texts(reasons, [](const std::string& reason) { return reason; })},
      {"node", json::object{{"addresses", std::move(addresses)}}},
      {"observation", observation(from, now)},
      {"agent", agent_part(from, now)},
      {"gossip", gossip_part(from)},
      {"cluster", cluster_part(from, now)},
      {"lb", lb_part(from, now)},
      {"dns", dns_part(from)},
  };
  return [status = std::move(status)] { return as_json(status); };
}

// DC/OS's form of the answer ("vip", "protocol", "backend": [{"ip", "port"}]) with more in it.
json::object vip_json(const lb::Balancer::VipStatus& vip) {
  const std::string endpoint = to_string(vip.vip.endpoint);
  const std::string port = std::to_string(vip.vip.endpoint.port.number());
  json::array backends;
  for (const auto& backend : vip.backends) {
    backends.push_back(json::object{
        {"ip", backend.endpoint.address.to_string()},
        {"port", backend.endpoint.port.number()},
        {"endpoint", to_string(backend.endpoint)},
        {"weight", backend.weight},
        {"connections", backend.connections},
        {"ejected", backend.rests},
        {"starting", backend.starts},
        {"pending", backend.pending},
    });
  }
  return {
      {"vip", vip.name.empty() ? endpoint : vip.name + ".l4lb.thisdcos.directory:" + port},
      {"protocol", to_string(vip.vip.protocol)},
      {"address", endpoint},
      {"quarantined", vip.quarantined},
      {"backend", std::move(backends)},
  };
}

Answer vips_answer(const ApiSources& from) {
  std::vector<lb::Balancer::VipStatus> vips;
  if (from.balancer != nullptr) vips = from.balancer->vips();
  return [vips = std::move(vips)] {
    json::array list;
    list.reserve(vips.size());
    for (const auto& vip : vips) list.push_back(vip_json(vip));
    return as_json(list);
  };
}

std::string vip_text(const VipLabel& label) {
  const auto* name = std::get_if<VipName>(&label.host);
  const std::string host =
      name != nullptr ? name->str() : std::get<IpAddress>(label.host).to_string();
  return host + ':' + std::to_string(label.port.number()) + '/' +
         std::string{to_string(label.protocol)};
}

json::object port_json(const TaskPort& port) {
  return {
      {"name", port.name},
      {"protocol", port.protocol},
      {"number", port.number.number()},
      {"endpoints", texts(port.endpoints, [](const Endpoint& e) { return to_string(e); })},
      {"vips", texts(port.vips, vip_text)},
  };
}

json::object task_json(const Task& task) {
  return {
      {"id", task.id.str()},
      {"name", task.name},
      {"discovery_name", task.discovery_name},
      {"framework", task.framework_name},
      {"framework_id", task.framework_id.str()},
      {"agent_id", task.agent_id.str()},
      {"agent_addresses", addresses_of(task.agent_addresses)},
      {"agent_zone", task.agent_zone},
      {"state", to_string(task.state)},
      {"health", to_string(task.health)},
      {"host_down", task.host_down},
      {"addresses", addresses_of(task.addresses)},
      {"ports", texts(task.ports, port_json)},
  };
}

// `web.marathon:80/tcp`, as the labels of a port say it.
bool declares(const Task& task, std::string_view vip) {
  return std::ranges::any_of(task.ports, [&](const TaskPort& port) {
    return std::ranges::any_of(port.vips,
                               [&](const VipLabel& label) { return vip_text(label) == vip; });
  });
}

// `vip`: only the tasks that declare it; empty: all.
Answer tasks_answer(const ApiSources& from, std::string vip) {
  std::vector<std::shared_ptr<const Task>> tasks;
  tasks.reserve(from.cluster.view().tasks().size());
  for (const auto& [key, task] : from.cluster.view().tasks()) tasks.push_back(task);
  return [tasks = std::move(tasks), vip = std::move(vip)] {
    std::string body = "[";  // task by task: a tree of 100,000 tasks would be many times its text
    for (const auto& task : tasks) {
      if (!vip.empty() && !declares(*task, vip)) continue;
      if (body.size() > 1) body += ",\n";
      body += json::serialize(task_json(*task));
    }
    return HttpResponse{200, "application/json", body + "]\n", {}};
  };
}

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

// All of Mesos-DNS's HTTP API.
Answer mesos_dns_answer(const ApiSources& from, const std::string& path) {
  if (path == "/v1/version") return version_answer(from);
  if (path == "/v1/config") return config_answer(from);
  if (path == "/v1/enumerate") return enumerate_answer(from);
  if (path == "/v1/axfr") return axfr_answer(from);
  return hosts_or_services_answer(from, path);
}

Answer changes_answer(const ApiSources& from) {
  json::array list;
  for (const auto& change : from.changes.all()) {
    const std::chrono::duration<double> at = change.at.time_since_epoch();
    list.push_back(json::object{
        {"id", change.id}, {"at", at.count()}, {"what", change.what}, {"text", change.text}});
  }
  return [list = std::move(list)] { return as_json(json::object{{"changes", list}}); };
}

std::string parameter(const HttpRequest& request, const std::string& name) {
  const auto found = request.query.find(name);
  return found == request.query.end() ? std::string{} : found->second;
}

Answer records_answer(const ApiSources& from, const HttpRequest& request) {
  if (from.dns == nullptr) return [] { return as_text("DNS is switched off\n", 404); };
  const std::string given = parameter(request, "limit");
  std::size_t limit = kDefaultRecords;
  const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), limit);
  if (!given.empty() && (error != std::errc{} || end != given.data() + given.size())) {
    return [] { return as_text("limit: expected a number\n", 400); };
  }
  limit = std::min(limit, kMaxRecords);
  return [zones = from.dns->snapshot(), part = parameter(request, "contains"), limit] {
    const dns::Listing found = dns::list_records(*zones, part, limit);
    const auto row = [](const dns::RecordView& record) {
      return json::object{{"name", record.name}, {"type", record.type}, {"data", record.data}};
    };
    return as_json(json::object{
        {"serial", zones->serial()}, {"more", found.more}, {"records", texts(found.records, row)}});
  };
}

Answer readyz_answer(const ApiSources& from) {
  std::string body;
  for (const std::string& reason : not_ready(from)) body += reason + '\n';
  return
      [body = std::move(body)] { return body.empty() ? as_text("ready\n") : as_text(body, 503); };
}

Answer nothing_at(std::string path) {
  return [path = std::move(path)] { return as_text("nothing here: " + path + "\n", 404); };
}

using Route = Answer (*)(const ApiSources&);

const std::map<std::string, Route, std::less<>>& routes() {
  static const std::map<std::string, Route, std::less<>> all{
      {"/healthz", [](const ApiSources&) -> Answer { return [] { return as_text("ok\n"); }; }},
      {"/readyz", readyz_answer},
      {"/metrics",
       [](const ApiSources& from) -> Answer {
         return [&exposition = from.exposition] { return exposition.render(); };
       }},
      {"/v1/status", status_answer},
      {"/v1/nodes", nodes_answer},
      {"/v1/vips", vips_answer},
      {"/v1/changes", changes_answer},
  };
  return all;
}

}  // namespace

std::vector<std::string> not_ready(const ApiSources& from) {
  std::vector<std::string> reasons;
  if (!from.cluster.status(Clock::now()).complete) {
    const std::string error =
        from.observer != nullptr ? from.observer->status().last_error : std::string{};
    reasons.push_back("no complete state from a master yet" +
                      (error.empty() ? std::string{} : ": " + error));
  }
  if (from.balancer != nullptr && !from.balancer->status().healthy) {
    reasons.push_back("the kernel does not hold what it should: " +
                      from.balancer->status().last_error);
  }
  if (from.dns != nullptr && !from.dns->status().ready) reasons.emplace_back("DNS is not ready");
  return reasons;
}

metrics::Handler make_api(ApiSources from) {
  return [from](const HttpRequest& request) -> Answer {
    if (auto page = metrics::page_response(request.path)) {
      return [page = *std::move(page)] { return page; };
    }
    if (request.path == "/v1/records") return records_answer(from, request);
    if (request.path == "/v1/tasks") return tasks_answer(from, parameter(request, "vip"));
    const auto route = routes().find(request.path);
    if (route != routes().end()) return route->second(from);
    if (Answer answer = mesos_dns_answer(from, request.path)) return answer;
    return nothing_at(request.path);
  };
}

metrics::Handler make_mesos_dns_api(ApiSources from) {
  return [from](const HttpRequest& request) -> Answer {
    if (Answer answer = mesos_dns_answer(from, request.path)) return answer;
    return nothing_at(request.path);
  };
}

}  // namespace muster::daemon
