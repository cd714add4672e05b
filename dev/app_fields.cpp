#include "dev/app_fields.hpp"

#include <algorithm>

namespace muster::dev {

namespace {

/// Marathon's PathId: parts of lower-case letters, digits, '-' and inner dots.
bool valid_id_part(std::string_view part) {
  const auto word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (part.empty() || !word(part.front()) || !word(part.back())) return false;
  for (std::size_t i = 0; i < part.size(); ++i) {
    if (part[i] == '.' && !(part[i - 1] != '.' && word(part[i - 1]) && word(part[i + 1]))) {
      return false;
    }
    if (!word(part[i]) && part[i] != '-' && part[i] != '.') return false;
  }
  return true;
}

std::vector<std::string> protocols(const JsonPlace& place) {
  const std::string text = place.text();
  std::vector<std::string> out;
  std::size_t from = 0;
  while (from <= text.size()) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    std::string one = text.substr(from, comma - from);
    if (one != "tcp" && one != "udp") place.expected("\"tcp\", \"udp\" or \"udp,tcp\"");
    out.push_back(std::move(one));
    from = comma + 1;
  }
  return out;
}

std::string health_path(const JsonPlace& place) {
  std::string path = place.text();
  const bool clean = std::all_of(path.begin(), path.end(), [](char c) {
    return static_cast<unsigned char>(c) > ' ' && c != '\x7f';
  });
  if (!path.starts_with('/') || !clean) place.expected("a path such as \"/health\"");
  return path;
}

void read_health_command(const JsonPlace& place, AppHealthCheck& check) {
  const auto command = place.find("command");
  if (check.kind == HealthKind::command) {
    if (!command) place.fail("COMMAND needs \"command\": {\"value\": \"...\"}");
    command->only({"value"});
    const auto value = command->find("value");
    if (!value) command->fail("needs a value: the shell command to run");
    check.command = value->text();
  } else if (command) {
    command->fail("only protocol COMMAND takes a command");
  }
}

}  // namespace

std::string app_id_field(const JsonPlace& place, const std::string& group) {
  const std::string written = place.text();
  std::string id = written.starts_with('/') ? written : group + "/" + written;
  std::string_view rest{id};
  while (!rest.empty()) {
    rest.remove_prefix(1);  // the slash
    const std::size_t end = std::min(rest.find('/'), rest.size());
    if (!valid_id_part(rest.substr(0, end))) {
      place.expected(
          "an id such as /group/web: parts of lower-case letters, digits, '-' and inner dots");
    }
    rest.remove_prefix(end);
  }
  return id;
}

std::vector<Label> labels_field(const JsonPlace& place) {
  std::vector<Label> out;
  for (const auto& member : place.object()) {
    const std::string key{member.key()};
    const std::optional<JsonPlace> value = place.find(key);
    if (!value) place.fail("\"" + key + "\" has no value; expected a string");
    out.push_back({.key = key, .value = value->text()});
  }
  return out;
}

/// Environment: names must be usable, and a secret reference ({"secret": ...}) has no value here.
std::vector<Label> environment_field(const JsonPlace& place) {
  std::vector<Label> out;
  for (const auto& member : place.object()) {
    const std::string name{member.key()};
    const std::optional<JsonPlace> value = place.find(name);
    if (!value) continue;
    if (name.empty() || name.find('=') != std::string::npos) {
      value->fail("an environment variable's name is not empty and has no '='");
    }
    if (value->value().is_object()) value->fail("secrets are not supported; write the value");
    out.push_back({.key = name, .value = value->text()});
  }
  return out;
}

AppPort port_definition_field(const JsonPlace& place, bool require_ports) {
  place.only({"port", "protocol", "name", "labels"});
  AppPort out;
  if (const auto port = place.find("port")) {
    const auto number = static_cast<std::uint16_t>(port->integer(0, 65535));
    // Without requirePorts this number is Marathon's service port: no instance listens on it.
    if (require_ports && number != 0) out.fixed_host_port = number;
  }
  if (const auto protocol = place.find("protocol")) out.protocols = protocols(*protocol);
  if (const auto name = place.find("name")) out.name = name->text();
  if (const auto labels = place.find("labels")) out.labels = labels_field(*labels);
  return out;
}

AppPort port_mapping_field(const JsonPlace& place, NetworkMode network) {
  place.only(
      {"containerPort", "hostPort", "servicePort", "protocol", "name", "labels", "networkNames"});
  AppPort out;
  out.container_port = std::uint16_t{0};
  if (const auto port = place.find("containerPort")) {
    out.container_port = static_cast<std::uint16_t>(port->integer(0, 65535));
  }
  // Marathon: bridge gives a host port unless told otherwise, container does not.
  out.wants_host_port = network == NetworkMode::bridge;
  if (const auto port = place.find("hostPort")) {
    const auto number = static_cast<std::uint16_t>(port->integer(0, 65535));
    out.wants_host_port = true;
    if (number != 0) out.fixed_host_port = number;
  }
  if (const auto port = place.find("servicePort")) port->integer(0, 65535);
  if (!out.wants_host_port && out.container_port == std::uint16_t{0}) {
    place.fail("needs a containerPort or a hostPort");
  }
  if (const auto protocol = place.find("protocol")) out.protocols = protocols(*protocol);
  if (const auto name = place.find("name")) out.name = name->text();
  if (const auto labels = place.find("labels")) out.labels = labels_field(*labels);
  return out;
}

AppHealthCheck health_check_field(const JsonPlace& place, const std::vector<AppPort>& ports) {
  place.only({"protocol", "path", "portIndex", "port", "command", "delaySeconds",
              "gracePeriodSeconds", "intervalSeconds", "timeoutSeconds", "maxConsecutiveFailures",
              "ignoreHttp1xx", "ipProtocol"});
  AppHealthCheck check;
  const auto protocol = place.find("protocol");
  const std::string kind = protocol ? protocol->text() : "HTTP";  // Marathon's default
  if (kind == "MESOS_HTTP" || kind == "HTTP") {
    check.kind = HealthKind::http;
  } else if (kind == "MESOS_TCP" || kind == "TCP") {
    check.kind = HealthKind::tcp;
  } else if (kind == "COMMAND") {
    check.kind = HealthKind::command;
  } else {
    protocol->expected("\"MESOS_HTTP\", \"MESOS_TCP\", \"COMMAND\", \"HTTP\" or \"TCP\"");
  }
  check.by_mesos = kind.starts_with("MESOS_") || kind == "COMMAND";
  if (const auto path = place.find("path")) check.path = health_path(*path);
  if (const auto index = place.find("portIndex")) {
    if (ports.empty()) index->fail("the app has no ports");
    check.port_index = index->integer(0, ports.size() - 1);
  }
  if (const auto port = place.find("port")) {
    check.port = static_cast<std::uint16_t>(port->integer(1, 65535));
  }
  read_health_command(place, check);
  if (check.kind != HealthKind::command && ports.empty() && !check.port) {
    place.fail("the app has no ports to check");
  }
  const auto seconds = [&](std::string_view key, double least, double& into) {
    if (const auto field = place.find(key)) into = field->number(least, kMaxSeconds);
  };
  seconds("delaySeconds", 0, check.delay_seconds);
  seconds("gracePeriodSeconds", 0, check.grace_period_seconds);
  // Marathon takes whole seconds; tenths make a demonstration quick.
  seconds("intervalSeconds", 0.1, check.interval_seconds);
  seconds("timeoutSeconds", 0.1, check.timeout_seconds);
  if (const auto field = place.find("maxConsecutiveFailures")) {
    check.max_consecutive_failures = static_cast<unsigned>(field->integer(0, 1'000'000'000));
  }
  return check;
}

}  // namespace muster::dev
