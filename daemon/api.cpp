#include "daemon/api.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>
#include <utility>

#include "daemon/api_parts.hpp"
#include "dns/core/listing.hpp"
#include "metrics/page/page.hpp"

namespace muster::daemon {
namespace {

constexpr std::size_t kDefaultRecords = 1'000;
constexpr std::size_t kMaxRecords = 100'000;  // some 10 MB of JSON

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
