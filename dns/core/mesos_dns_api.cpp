#include "dns/core/mesos_dns_api.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>

#include "base/json_text.hpp"
#include "dns/core/name.hpp"
#include "dns/core/text.hpp"
#include "dns/core/types.hpp"

namespace muster::dns::mesos_dns_api {
namespace {

constexpr std::size_t kFixedSize = 12;  // of a rendered record, before its data
constexpr std::size_t kSrvFixed = 6;    // priority, weight, port

// JSON text, written forwards. Commas come by themselves.
class Json {
 public:
  Json& open(char bracket) {
    comma();
    out_ += bracket;
    first_ = true;
    return *this;
  }
  Json& close(char bracket) {
    out_ += bracket;
    first_ = false;
    return *this;
  }
  Json& key(std::string_view name) {
    comma();
    append_json_string(out_, name);
    out_ += ':';
    first_ = true;
    return *this;
  }
  Json& text(std::string_view value) {
    comma();
    append_json_string(out_, value);
    return *this;
  }
  Json& number(std::uint64_t value) {
    comma();
    out_ += std::to_string(value);
    return *this;
  }
  Json& boolean(bool value) {
    comma();
    out_ += value ? "true" : "false";
    return *this;
  }
  Json& texts(const std::vector<std::string>& values) {
    open('[');
    for (const std::string& value : values) text(value);
    return close(']');
  }
  std::string done() && { return std::move(out_) + '\n'; }

 private:
  void comma() {
    if (!std::exchange(first_, false)) out_ += ',';
  }
  std::string out_;
  bool first_ = true;
};

// What Mesos-DNS makes of a name in a path: every ".*" is left out, and the final dot is there.
std::string cleaned(std::string_view text) {
  std::string out{text};
  for (std::size_t at = out.find(".*"); at != std::string::npos; at = out.find(".*", at)) {
    out.erase(at, 2);
  }
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  if (out.empty() || out.back() != '.') out += '.';
  return out;
}

const std::byte* find(const ZoneSnapshot& zones, std::string_view wire) {
  std::array<char, Name::kMaxWireSize + 1 + Query::kPadding> padded{};
  std::memcpy(padded.data(), wire.data(), wire.size());
  return zones.find(padded.data(), wire.size());
}

// The data of every record of one type at a node.
template <class Visit>
void each_data(NodeView node, std::uint16_t rtype, Visit visit) {
  for (std::size_t i = 0; i < node.set_count(); ++i) {
    const RenderedSet set = node.set(i);
    if (set.type != rtype) continue;
    for (std::size_t record = 0; record < set.count; ++record) {
      const std::size_t at = node.offset(set, record) + kFixedSize;
      visit(std::string_view{reinterpret_cast<const char*>(node.answers(set)) + at,
                             node.offset(set, record + 1) - at});
    }
  }
}

std::string shown(std::uint16_t rtype, std::string_view data) {
  return data_text(rtype, std::as_bytes(std::span{data}), 0, data.size());
}

std::string port_of(std::string_view srv) {
  const auto octet = [&](std::size_t at) {
    return static_cast<unsigned>(static_cast<unsigned char>(srv[at]));
  };
  return std::to_string(octet(4) << 8 | octet(5));
}

// "host.:port", as Mesos-DNS writes an SRV record's target.
std::string target_text(std::string_view srv) {
  return wire_text(srv.substr(kSrvFixed)) + ':' + port_of(srv);
}

std::vector<std::string> all(const std::byte* node, std::uint16_t rtype) {
  std::vector<std::string> out;
  if (node == nullptr) return out;
  each_data(NodeView{node}, rtype, [&](std::string_view data) {
    out.push_back(rtype == type::kSrv ? target_text(data) : shown(rtype, data));
  });
  return out;
}

void put_task(Json& json, const Task& task, const Suffixes& suffixes) {
  const std::vector<Record> records = task_records(task, suffixes, nullptr);
  if (records.empty()) return;
  json.open('{').key("name").text(task.name).key("id").text(task.id.str());
  json.key("records").open('[');
  for (const Record& record : records) {
    const bool served =
        record.type == type::kA || record.type == type::kAaaa || record.type == type::kSrv;
    if (!served || !record.owner.ends_with(suffixes.mesos)) continue;
    json.open('{').key("name").text(wire_text(record.owner));
    json.key("host").text(record.type == type::kSrv ? target_text(record.data)
                                                    : shown(record.type, record.data));
    json.key("rtype").text(type_text(record.type)).close('}');
  }
  json.close(']').close('}');
}

}  // namespace

std::string version(std::string_view version) {
  Json json;
  json.open('{')
      .key("Service")
      .text("Mesos-DNS")
      .key("URL")
      .text("https://github.com/mesosphere/mesos-dns");
  json.key("Version").text("muster " + std::string{version}).close('}');
  return std::move(json).done();
}

std::string config(const MesosDnsSettings& from, std::uint32_t serial) {
  Json json;
  json.open('{');
  json.key("RefreshSeconds").number(from.refresh_seconds).key("Port").number(from.port);
  json.key("Timeout").number(from.timeout).key("StateTimeoutSeconds").number(from.timeout);
  json.key("ZkDetectionTimeout").number(0).key("HttpPort").number(from.http_port);
  json.key("TTL").number(from.ttl).key("SRVRecordDefaultWeight").number(from.srv_weight);
  json.key("SOASerial").number(serial).key("SOARefresh").number(from.soa_refresh);
  json.key("SOARetry").number(from.soa_retry).key("SOAExpire").number(from.soa_expire);
  json.key("SOAMinttl").number(from.soa_minimum).key("SOAMname").text(from.soa_mname);
  json.key("SOARname").text(from.soa_rname).key("Masters").texts(from.masters);
  json.key("ZoneResolvers").open('{');
  for (const auto& [zone, resolvers] : from.zone_resolvers) json.key(zone).texts(resolvers);
  json.close('}').key("Resolvers").texts(from.resolvers);
  json.key("IPSources").texts(from.ip_sources).key("Zk").text("");
  json.key("Domain").text(from.domain).key("File").text(from.file);
  json.key("Listener").text(from.listener).key("HTTPListener").text(from.http_listener);
  json.key("RecurseOn").boolean(from.external_on).key("DnsOn").boolean(true);
  json.key("HttpOn").boolean(true).key("ExternalOn").boolean(from.external_on);
  json.key("EnforceRFC952").boolean(from.rfc952).key("SetTruncateBit").boolean(true);
  json.key("EnumerationOn").boolean(from.enumeration_on).key("MesosHTTPSOn").boolean(false);
  json.key("CACertFile").text("").key("CertFile").text("").key("KeyFile").text("");
  json.key("MesosCredentials").open('{').key("Principal").text("").key("Secret").text("");
  json.close('}').key("IAMConfigFile").text("").key("MesosAuthentication").text("");
  json.close('}');
  return std::move(json).done();
}

std::string hosts(const ZoneSnapshot& zones, std::string_view host) {
  const std::string name = cleaned(host);
  Json json;
  json.open('[');
  const auto put = [&](std::string_view of, std::string_view ip) {
    json.open('{').key("host").text(of).key("ip").text(ip).close('}');
  };
  bool any = false;
  if (const auto parsed = Name::parse(name)) {
    const std::byte* const node = find(zones, parsed->wire());
    for (const std::uint16_t rtype : {type::kA, type::kAaaa}) {
      for (const std::string& ip : all(node, rtype)) {
        put(name, ip);
        any = true;
      }
    }
  }
  if (!any) put("", "");
  json.close(']');
  return std::move(json).done();
}

std::string services(const ZoneSnapshot& zones, std::string_view service) {
  Json json;
  json.open('[');
  const auto put = [&](std::string_view of, std::string_view host, std::string_view ip,
                       std::string_view port) {
    json.open('{').key("service").text(of).key("host").text(host);
    json.key("ip").text(ip).key("port").text(port).close('}');
  };
  bool any = false;
  const auto parsed = Name::parse(cleaned(service));
  const std::byte* const node = parsed ? find(zones, parsed->wire()) : nullptr;
  if (node != nullptr) {
    each_data(NodeView{node}, type::kSrv, [&](std::string_view srv) {
      const std::string_view target = srv.substr(kSrvFixed);
      const std::byte* const at = find(zones, target);
      for (const std::uint16_t rtype : {type::kA, type::kAaaa}) {
        const std::vector<std::string> addresses = all(at, rtype);
        if (addresses.empty()) continue;
        put(service, wire_text(target), addresses.front(), port_of(srv));
        any = true;
      }
    });
  }
  if (!any) put("", "", "", "");
  json.close(']');
  return std::move(json).done();
}

std::string enumerate(std::span<const std::shared_ptr<const Framework>> frameworks,
                      std::span<const std::shared_ptr<const Task>> tasks,
                      const Suffixes& suffixes) {
  std::map<FrameworkId, std::pair<std::string, std::vector<const Task*>>> by_framework;
  for (const auto& framework : frameworks) by_framework[framework->id].first = framework->name;
  for (const auto& task : tasks) {
    auto& [name, of] = by_framework[task->framework_id];
    if (name.empty()) name = task->framework_name;
    of.push_back(task.get());
  }
  Json json;
  json.open('{').key("frameworks").open('[');
  for (const auto& [id, framework] : by_framework) {
    json.open('{').key("tasks").open('[');
    for (const Task* const task : framework.second) put_task(json, *task, suffixes);
    json.close(']').key("name").text(framework.first).close('}');
  }
  json.close(']').close('}');
  return std::move(json).done();
}

std::string axfr(const ZoneSnapshot& zones, const MesosDnsSettings& settings) {
  using Sets = std::map<std::string, std::vector<std::string>>;
  const std::array<std::pair<const char*, std::uint16_t>, 3> kinds{
      {{"As", type::kA}, {"AAAAs", type::kAaaa}, {"SRVs", type::kSrv}}};
  std::array<Sets, kinds.size()> sets;
  zones.for_each([&](NodeView node) {
    if (node.zone() != 0) return;  // the domain is the first zone
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      std::vector<std::string> values = all(node.data(), kinds[i].second);
      if (values.empty()) continue;
      std::sort(values.begin(), values.end());
      sets[i].emplace(wire_text(node.name()), std::move(values));
    }
  });
  Json json;
  json.open('{').key("TTL").number(settings.ttl).key("Serial").number(zones.serial());
  json.key("RefreshSeconds").number(settings.refresh_seconds);
  json.key("Mname").text(settings.soa_mname).key("Rname").text(settings.soa_rname);
  json.key("Domain").text(settings.domain).key("Records").open('{');
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    json.key(kinds[i].first).open('{');
    for (const auto& [name, values] : sets[i]) json.key(name).texts(values);
    json.close('}');
  }
  json.close('}').close('}');
  return std::move(json).done();
}

}  // namespace muster::dns::mesos_dns_api
