#include "dev/master_json_parts.hpp"

#include <algorithm>

namespace muster::dev {

namespace {

void key_values(JsonWriter& out, const std::vector<Label>& labels) {
  out.begin_array("labels");
  for (const Label& label : labels) {
    out.begin_object().text("key", label.key).text("value", label.value).end_object();
  }
  out.end_array();
}

void port_mappings(JsonWriter& out, const std::vector<PortForward>& forwards) {
  if (forwards.empty()) return;
  out.begin_array("port_mappings");
  for (const PortForward& forward : forwards) {
    out.begin_object()
        .integer("host_port", forward.host_port)
        .integer("container_port", forward.container_port)
        .text("protocol", forward.protocol)
        .end_object();
  }
  out.end_array();
}

void resource_end(JsonWriter& out, ResourceForm form) {
  if (form == ResourceForm::total || form == ResourceForm::allocated) out.text("role", "*");
  if (form == ResourceForm::task || form == ResourceForm::allocated) {
    out.begin_object("allocation_info").text("role", "*").end_object();
  }
  out.end_object();
}

}  // namespace

void Allocation::add(const MesosTask& task) {
  cpus += task.cpus;
  mem += task.mem;
  disk += task.disk;
  ports.insert(ports.end(), task.ports.begin(), task.ports.end());
}

std::vector<PortRange> merged(std::vector<std::uint16_t> ports) {
  std::sort(ports.begin(), ports.end());
  std::vector<PortRange> out;
  for (const std::uint16_t port : ports) {
    if (!out.empty() && port <= out.back().end + 1) {
      out.back().end = std::max(out.back().end, port);
    } else {
      out.push_back({.begin = port, .end = port});
    }
  }
  return out;
}

void v0_resources(JsonWriter& out, std::string_view key, const Allocation& has,
                  const std::vector<PortRange>& ports) {
  out.begin_object(key)
      .number("disk", has.disk)
      .number("mem", has.mem)
      .number("gpus", 0)
      .number("cpus", has.cpus);
  if (!ports.empty()) {
    std::string text;
    for (const PortRange& range : ports) {
      text += text.empty() ? "[" : ", ";
      text += std::to_string(range.begin) + "-" + std::to_string(range.end);
    }
    out.text("ports", text + "]");
  }
  out.end_object();
}

void v1_scalar(JsonWriter& out, std::string_view name, double value, ResourceForm form) {
  out.begin_object().text("name", name).text("type", "SCALAR");
  out.begin_object("scalar").number("value", value).end_object();
  resource_end(out, form);
}

void v1_ranges(JsonWriter& out, const std::vector<PortRange>& ports, ResourceForm form) {
  if (ports.empty()) return;
  out.begin_object().text("name", "ports").text("type", "RANGES");
  out.begin_object("ranges").begin_array("range");
  for (const PortRange& range : ports) {
    out.begin_object().integer("begin", range.begin).integer("end", range.end).end_object();
  }
  out.end_array().end_object();
  resource_end(out, form);
}

void nested_labels(JsonWriter& out, const std::vector<Label>& labels) {
  if (labels.empty()) return;
  out.begin_object("labels");
  key_values(out, labels);
  out.end_object();
}

void flat_labels(JsonWriter& out, const std::vector<Label>& labels) {
  if (!labels.empty()) key_values(out, labels);
}

void discovery(JsonWriter& out, const MesosTask& task) {
  out.begin_object("discovery").text("visibility", "FRAMEWORK").text("name", task.discovery_name);
  out.begin_object("ports");
  if (!task.discovery_ports.empty()) {
    out.begin_array("ports");
    for (const MesosPort& port : task.discovery_ports) {
      out.begin_object().integer("number", port.number);
      if (port.name) out.text("name", *port.name);
      out.text("protocol", port.protocol);
      nested_labels(out, port.labels);
      out.end_object();
    }
    out.end_array();
  }
  out.end_object().end_object();
}

void container(JsonWriter& out, const MesosContainer& has) {
  out.begin_object("container").text("type", has.docker ? "DOCKER" : "MESOS");
  if (has.docker) {
    out.begin_object("docker").text("image", has.image);
    if (!has.network_name.empty()) out.text("network", has.network_name);
    port_mappings(out, has.forwards);
    out.boolean("privileged", false).boolean("force_pull_image", false).end_object();
  } else if (!has.network_name.empty()) {
    out.begin_array("network_infos").begin_object().text("name", has.network_name);
    port_mappings(out, has.forwards);
    out.end_object().end_array();
  }
  out.end_object();
}

void health_check(JsonWriter& out, const MesosHealthCheck& check) {
  out.begin_object("health_check")
      .number("delay_seconds", check.delay_seconds)
      .number("interval_seconds", check.interval_seconds)
      .number("timeout_seconds", check.timeout_seconds)
      .integer("consecutive_failures", check.consecutive_failures)
      .number("grace_period_seconds", check.grace_period_seconds);
  switch (check.kind) {
    case HealthKind::http:
      out.text("type", "HTTP").begin_object("http");
      out.text("protocol", "IPv4").text("scheme", "http").integer("port", check.port);
      out.text("path", check.path).end_object();
      break;
    case HealthKind::tcp:
      out.text("type", "TCP").begin_object("tcp");
      out.text("protocol", "IPv4").integer("port", check.port).end_object();
      break;
    case HealthKind::command:
      out.text("type", "COMMAND").begin_object("command");
      out.boolean("shell", true).text("value", check.command).end_object();
      break;
  }
  out.end_object();
}

void network_infos(JsonWriter& out, const std::vector<MesosNetwork>& networks) {
  if (networks.empty()) return;
  out.begin_array("network_infos");
  for (const MesosNetwork& network : networks) {
    out.begin_object().begin_array("ip_addresses");
    for (const std::string& address : network.addresses) {
      const bool v6 = address.find(':') != std::string::npos;
      out.begin_object().text("protocol", v6 ? "IPv6" : "IPv4").text("ip_address", address);
      out.end_object();
    }
    out.end_array();
    if (!network.name.empty()) out.text("name", network.name);
    port_mappings(out, network.forwards);
    out.end_object();
  }
  out.end_array();
}

double seconds(WallTime time) noexcept {
  return static_cast<double>(time) / 1e9;
}

}  // namespace muster::dev
