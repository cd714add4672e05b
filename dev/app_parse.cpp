#include <algorithm>
#include <set>

#include <boost/json/parser.hpp>

#include "dev/app.hpp"
#include "dev/app_fields.hpp"
#include "dev/app_reader.hpp"

namespace muster::dev {

namespace json = boost::json;

namespace {

constexpr unsigned kMaxInstances = 1000;  // each is a process on this machine
constexpr std::size_t kMaxApps = 1000;
constexpr std::size_t kMaxPorts = 100;   // of one app
constexpr unsigned kMaxGroupDepth = 16;  // groups in groups

class AppReader {
 public:
  AppReader(const JsonPlace& place, const std::string& group, std::vector<std::string>& notices)
      : place_{place}, notices_{notices} {
    const auto id = place.find("id");
    if (!id) place.fail("an app needs an id, such as \"/web\"");
    app_.id = app_id_field(*id, group);
  }

  App read() {
    check_fields();
    read_command();
    read_sizes();
    read_network();
    read_ports();
    if (const auto labels = place_.find("labels")) app_.labels = labels_field(*labels);
    if (const auto env = place_.find("env")) app_.env = environment_field(*env);
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
    if (auto outer = container->find("portMappings")) return outer;
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
        app_.ports.push_back(port_mapping_field(item, app_.network));
      }
    } else if (definitions) {
      if (app_.network != NetworkMode::host) {
        definitions->fail("a container network takes container/portMappings instead");
      }
      for (const JsonPlace& item : definitions->items()) {
        app_.ports.push_back(port_definition_field(item, require));
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
      AppHealthCheck check = health_check_field(item, app_.ports);
      if (!check.by_mesos) ignore(item, "Marathon's own check: Mesos never sees its result");
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
  const std::string inner = !id || id->text() == "/" ? group : app_id_field(*id, group);
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
