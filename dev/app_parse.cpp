#include <algorithm>
#include <set>

#include <boost/json/parser.hpp>

#include "dev/app.hpp"
#include "dev/app_reader.hpp"

namespace muster::dev {

namespace json = boost::json;

namespace {

constexpr unsigned kMaxInstances = 1000;  // each is a process on this machine
constexpr std::size_t kMaxApps = 1000;
constexpr std::size_t kMaxPorts = 100;           // of one app
constexpr unsigned kMaxGroupDepth = 16;          // groups in groups
constexpr double kMaxSeconds = 7 * 24 * 3600.0;  // a week: more is a slip

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

std::string app_id(const JsonPlace& place, const std::string& group) {
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

std::vector<Label> text_map(const JsonPlace& place) {
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
std::vector<Label> environment(const JsonPlace& place) {
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

AppPort port_definition(const JsonPlace& place, bool require_ports) {
  place.only({"port", "protocol", "name", "labels"});
  AppPort out;
  if (const auto port = place.find("port")) {
    const auto number = static_cast<std::uint16_t>(port->integer(0, 65535));
    // Without requirePorts this number is Marathon's service port: no instance listens on it.
    if (require_ports && number != 0) out.fixed_host_port = number;
  }
  if (const auto protocol = place.find("protocol")) out.protocols = protocols(*protocol);
  if (const auto name = place.find("name")) out.name = name->text();
  if (const auto labels = place.find("labels")) out.labels = text_map(*labels);
  return out;
}

AppPort port_mapping(const JsonPlace& place, NetworkMode network) {
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
  if (const auto labels = place.find("labels")) out.labels = text_map(*labels);
  return out;
}

class AppReader {
 public:
  AppReader(const JsonPlace& place, const std::string& group, std::vector<std::string>& notices)
      : place_{place}, notices_{notices} {
    const auto id = place.find("id");
    if (!id) place.fail("an app needs an id, such as \"/web\"");
    app_.id = app_id(*id, group);
  }

  App read() {
    check_fields();
    read_command();
    read_sizes();
    read_network();
    read_ports();
    if (const auto labels = place_.find("labels")) app_.labels = text_map(*labels);
    if (const auto env = place_.find("env")) app_.env = environment(*env);
    read_health();
    read_timing();
    return std::move(app_);
  }

 private:
  void check_fields() {
    // What Marathon accepts and a launcher of local processes has no use for.
    for (const std::string_view field :
         {"upgradeStrategy", "constraints", "acceptedResourceRoles", "fetch", "uris", "storeUrls",
          "dependencies", "secrets", "user", "executor", "residency", "readinessChecks", "gpus",
          "killSelection", "unreachableStrategy", "role", "check", "tty", "resourceLimits"}) {
      if (const auto ignored = place_.find(field)) ignore(*ignored, "has no effect here");
    }
    place_.only({"id",
                 "cmd",
                 "args",
                 "env",
                 "instances",
                 "cpus",
                 "mem",
                 "disk",
                 "ports",
                 "portDefinitions",
                 "requirePorts",
                 "networks",
                 "container",
                 "labels",
                 "healthChecks",
                 "taskKillGracePeriodSeconds",
                 "backoffSeconds",
                 "backoffFactor",
                 "maxLaunchDelaySeconds",
                 "upgradeStrategy",
                 "constraints",
                 "acceptedResourceRoles",
                 "fetch",
                 "uris",
                 "storeUrls",
                 "dependencies",
                 "secrets",
                 "user",
                 "executor",
                 "residency",
                 "readinessChecks",
                 "gpus",
                 "killSelection",
                 "unreachableStrategy",
                 "role",
                 "check",
                 "tty",
                 "resourceLimits",
                 "version",
                 "versionInfo"});
  }

  void read_command() {
    if (const auto cmd = place_.find("cmd")) app_.cmd = cmd->text();
    if (const auto args = place_.find("args")) {
      for (const JsonPlace& arg : args->items()) app_.args.push_back(arg.text());
      if (!app_.cmd.empty() && !app_.args.empty()) args->fail("give cmd or args, not both");
    }
    if (app_.cmd.empty() && app_.args.empty()) {
      place_.fail("needs cmd or args: the command is run as a local process (images are not)");
    }
  }

  void read_sizes() {
    if (const auto n = place_.find("instances")) {
      app_.instances = static_cast<unsigned>(n->integer(0, kMaxInstances));
    }
    if (const auto n = place_.find("cpus")) app_.cpus = n->number(0, 1e6);
    if (const auto n = place_.find("mem")) app_.mem = n->number(0, 1e9);
    if (const auto n = place_.find("disk")) app_.disk = n->number(0, 1e12);
  }

  void read_network() {
    if (const auto container = place_.find("container")) {
      container->only({"type", "docker", "portMappings", "volumes", "linuxInfo"});
      for (const std::string_view field : {"volumes", "linuxInfo"}) {
        if (const auto ignored = container->find(field)) ignore(*ignored, "has no effect here");
      }
      app_.container.emplace();
      if (const auto type = container->find("type")) {
        const std::string text = type->text();
        if (text != "MESOS" && text != "DOCKER") type->expected("\"MESOS\" or \"DOCKER\"");
        app_.container->docker = text == "DOCKER";
      }
      if (const auto docker = container->find("docker")) read_docker(*docker);
    }
    if (const auto networks = place_.find("networks")) read_networks(*networks);
    if (app_.network == NetworkMode::bridge && app_.network_name.empty()) {
      app_.network_name = "mesos-bridge";  // Marathon's default for the Mesos containerizer
    }
    if (app_.network == NetworkMode::container && app_.network_name.empty()) {
      app_.network_name = "dcos";
    }
  }

  void read_docker(const JsonPlace& docker) {
    docker.only({"image", "network", "portMappings", "privileged", "parameters", "forcePullImage",
                 "pullConfig", "credential"});
    if (const auto image = docker.find("image")) {
      app_.container->image = image->text();
      ignore(*image, "not pulled: cmd runs as a local process");
    }
    if (const auto network = docker.find("network")) {
      const std::string text = network->text();
      if (text == "BRIDGE") {
        app_.network = NetworkMode::bridge;
      } else if (text == "USER") {
        app_.network = NetworkMode::container;
      } else if (text != "HOST") {
        network->expected("\"HOST\", \"BRIDGE\" or \"USER\"");
      }
    }
  }

  void read_networks(const JsonPlace& networks) {
    const std::vector<JsonPlace> items = networks.items();
    if (items.size() > 1) items[1].fail("one network per app is supported");
    for (const JsonPlace& item : items) {
      item.only({"mode", "name", "labels"});
      std::string mode = "container";
      if (const auto field = item.find("mode")) {
        mode = field->text();
        if (mode != "host" && mode != "container" && mode != "container/bridge") {
          field->expected("\"host\", \"container/bridge\" or \"container\"");
        }
      }
      app_.network = mode == "host"        ? NetworkMode::host
                     : mode == "container" ? NetworkMode::container
                                           : NetworkMode::bridge;
      if (const auto name = item.find("name")) app_.network_name = name->text();
    }
  }

  std::optional<JsonPlace> mappings() const {
    const auto container = place_.find("container");
    if (!container) return std::nullopt;
    if (const auto outer = container->find("portMappings")) return outer;
    const auto docker = container->find("docker");
    return docker ? docker->find("portMappings") : std::nullopt;
  }

  void read_ports() {
    bool require = false;
    if (const auto field = place_.find("requirePorts")) require = field->boolean();
    const auto definitions = place_.find("portDefinitions");
    const auto numbers = place_.find("ports");
    if (const auto list = mappings()) {
      if (app_.network == NetworkMode::host) {
        list->fail(
            "portMappings need a container network: add \"networks\": [{\"mode\": "
            "\"container/bridge\"}]");
      }
      if (definitions) definitions->fail("give portDefinitions or portMappings, not both");
      for (const JsonPlace& item : list->items()) {
        app_.ports.push_back(port_mapping(item, app_.network));
      }
    } else if (definitions) {
      if (app_.network != NetworkMode::host) {
        definitions->fail("a container network takes container/portMappings instead");
      }
      for (const JsonPlace& item : definitions->items()) {
        app_.ports.push_back(port_definition(item, require));
      }
    } else if (numbers) {
      for (const JsonPlace& item : numbers->items()) {
        const auto number = static_cast<std::uint16_t>(item.integer(0, 65535));
        AppPort port;
        if (require && number != 0) port.fixed_host_port = number;
        app_.ports.push_back(std::move(port));
      }
    } else if (app_.network == NetworkMode::host) {
      app_.ports.emplace_back().name = "default";  // as Marathon does
    }
    if (app_.ports.size() > kMaxPorts)
      place_.fail("more than " + std::to_string(kMaxPorts) + " ports");
  }

  void read_health() {
    const auto list = place_.find("healthChecks");
    if (!list) return;
    for (const JsonPlace& item : list->items()) {
      AppHealthCheck check = health_check(item);
      if (check.by_mesos && app_.health && app_.health->by_mesos) {
        item.fail("a Mesos task has one health check");
      }
      // Mesos' own check is the one other components see, so it wins the one place we have.
      if (!app_.health || check.by_mesos) {
        app_.health = std::move(check);
      } else {
        ignore(item, "only the first health check is run");
      }
    }
  }

  AppHealthCheck health_check(const JsonPlace& place) {
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
    if (!check.by_mesos) ignore(place, "Marathon's own check: Mesos never sees its result");
    if (const auto path = place.find("path")) check.path = health_path(*path);
    if (const auto index = place.find("portIndex")) {
      if (app_.ports.empty()) index->fail("the app has no ports");
      check.port_index = index->integer(0, app_.ports.size() - 1);
    }
    if (const auto port = place.find("port")) {
      check.port = static_cast<std::uint16_t>(port->integer(1, 65535));
    }
    read_health_command(place, check);
    if (check.kind != HealthKind::command && app_.ports.empty() && !check.port) {
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

  static std::string health_path(const JsonPlace& place) {
    std::string path = place.text();
    const bool clean = std::all_of(path.begin(), path.end(), [](char c) {
      return static_cast<unsigned char>(c) > ' ' && c != '\x7f';
    });
    if (!path.starts_with('/') || !clean) place.expected("a path such as \"/health\"");
    return path;
  }

  static void read_health_command(const JsonPlace& place, AppHealthCheck& check) {
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

  void read_timing() {
    const auto seconds = [&](std::string_view key, double least, double& into) {
      if (const auto field = place_.find(key)) into = field->number(least, kMaxSeconds);
    };
    seconds("taskKillGracePeriodSeconds", 0, app_.kill_grace_seconds);
    seconds("backoffSeconds", 0, app_.backoff_seconds);
    seconds("maxLaunchDelaySeconds", 0, app_.max_launch_delay_seconds);
    if (const auto field = place_.find("backoffFactor")) {
      app_.backoff_factor = field->number(1, 1000);
    }
  }

  void ignore(const JsonPlace& place, std::string_view why) {
    notices_.push_back(place.path() + ": " + std::string{why});
  }

  JsonPlace place_;
  std::vector<std::string>& notices_;
  App app_;
};

void read_all(const JsonPlace& place, const std::string& group, unsigned depth, AppFile& out) {
  if (depth > kMaxGroupDepth) place.fail("groups are nested too deep");
  if (place.value().is_array()) {
    for (const JsonPlace& item : place.items()) read_all(item, group, depth + 1, out);
    return;
  }
  if (!place.value().is_object()) place.expected("an app, a list of apps or a group with \"apps\"");
  const auto apps = place.find("apps");
  const auto groups = place.find("groups");
  if (!apps && !groups) {
    if (out.apps.size() == kMaxApps) place.fail("more than " + std::to_string(kMaxApps) + " apps");
    out.apps.push_back(AppReader{place, group, out.notices}.read());
    return;
  }
  place.only({"id", "apps", "groups", "dependencies", "version", "pods", "enforceRole"});
  if (const auto pods = place.find("pods")) {
    if (!pods->items().empty()) pods->fail("pods are not supported");
  }
  const auto id = place.find("id");
  const std::string inner = !id || id->text() == "/" ? group : app_id(*id, group);
  if (apps) {
    for (const JsonPlace& item : apps->items()) {
      if (out.apps.size() == kMaxApps) item.fail("too many apps");
      out.apps.push_back(AppReader{item, inner, out.notices}.read());
    }
  }
  if (groups) {
    for (const JsonPlace& item : groups->items()) read_all(item, inner, depth + 1, out);
  }
}

AppError syntax_error(std::string_view text, std::size_t at, const json::error_code& why) {
  const std::string_view before = text.substr(0, std::min(at, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t start =
      before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return {.where = "line " + std::to_string(line) + ", column " +
                   std::to_string(before.size() - start + 1),
          .what = "not JSON: " + why.message()};
}

}  // namespace

Result<AppFile, AppError> parse_apps(std::string_view text) {
  json::parser parser;
  json::error_code error;
  const std::size_t read = parser.write_some(text.data(), text.size(), error);
  if (error) return syntax_error(text, read, error);
  if (text.find_first_not_of(" \t\r\n", read) != std::string_view::npos) {
    return AppError{.where = "after the end", .what = "expected one JSON document, found more"};
  }
  const json::value document = parser.release();
  try {
    AppFile out;
    read_all(JsonPlace{document, ""}, "", 0, out);
    if (out.apps.empty()) JsonPlace{document, ""}.fail("no app in it");
    std::set<std::string> ids;
    for (const App& app : out.apps) {
      if (!ids.insert(app.id).second) {
        return AppError{.where = "/", .what = "app " + app.id + " is there twice"};
      }
    }
    return out;
  } catch (const AppFault& fault) {
    return fault.error;
  }
}

std::string marathon_name(std::string_view id) {
  std::string out;
  while (!id.empty()) {
    const std::size_t slash = id.rfind('/');
    const std::string_view part = slash == std::string_view::npos ? id : id.substr(slash + 1);
    if (!part.empty()) out += (out.empty() ? "" : ".") + std::string{part};
    id = slash == std::string_view::npos ? std::string_view{} : id.substr(0, slash);
  }
  return out;
}

}  // namespace muster::dev
