#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.hpp"
#include "cli/import_mesos_dns.hpp"
#include "cli/keys.hpp"
#include "cli/resolv.hpp"
#include "daemon/config.hpp"
#include "daemon/daemon.hpp"
#include "daemon/logging.hpp"
#include "daemon/version.hpp"
#include "lb/io/balancer.hpp"
#include "lb/io/driver_choice.hpp"

namespace {

using namespace muster;

daemon::Overrides overrides(const std::vector<std::string>& set) {
  daemon::Overrides out = daemon::Overrides::from_environment();
  out.set = set;
  return out;
}

int run_agent(const std::string& path, const std::vector<std::string>& set) {
  const auto load = [path, given = overrides(set)] { return daemon::load_config(path, given); };
  const daemon::Config config = load();
  daemon::set_up_logging(config.log);
  return daemon::Daemon{config, load}.run();
}

int check_config(const std::string& path, const std::vector<std::string>& set) {
  daemon::Config config = daemon::load_config(path, overrides(set));
  // Only reads: else this node's identity would be made, or its epoch moved, by root.
  config.state.directory.clear();
  const daemon::Daemon never_run{std::move(config), {}};
  std::printf("%s: good\n", path.c_str());
  return 0;
}

// Of a file that is not there, or is wrong: the defaults.
daemon::Config::Lb lb_config(const std::string& path, const std::vector<std::string>& set) {
  try {
    return daemon::load_config(path, overrides(set)).lb;
  } catch (const daemon::ConfigError&) {
    return {};
  }
}

void show(const lb::Finding& finding) {
  const char* mark = finding.level == lb::Finding::Level::missing  ? "missing"
                     : finding.level == lb::Finding::Level::advice ? "advice "
                                                                   : "good   ";
  std::printf("  %s  %s\n", mark, finding.what.c_str());
  if (!finding.remedy.empty()) std::printf("           mend: %s\n", finding.remedy.c_str());
}

// What this machine lacks for each driver, and what would mend it. Exit status 1: none works.
int preflight(const std::string& config_file) {
  const lb::BalancerOptions options;
  lb::DriverConfig config;
  config.range_v4 = lb::Prefix::parse(options.vip_range_v4);
  config.range_v6 = lb::Prefix::parse(options.vip_range_v6);
  bool one_works = false;
  for (const char* name : {"ipvs", "nft", "bpf"}) {
    std::printf("driver %s\n", name);
    bool works = true;
    for (const lb::Finding& finding : lb::check_driver(name, config)) {
      works = works && finding.level != lb::Finding::Level::missing;
      show(finding);
    }
    one_works = one_works || works;
  }
  const daemon::Config::Lb lb = lb_config(config_file, {});
  if (!lb.namespace_folders.empty()) {
    std::printf("namespaces of containers that bypass the node\n");
    for (const auto& finding : lb::check_namespaces(lb.namespace_folders, lb.namespace_helper)) {
      show(finding);
    }
  }
  std::error_code ignored;
  if (!config_file.empty() && std::filesystem::exists(config_file, ignored)) {
    std::printf("configuration\n  ");
    (void)check_config(config_file, {});
  }
  return one_works ? 0 : 1;
}

int cleanup(const std::string& config_file, const std::vector<std::string>& set) {
  const daemon::Config::Lb config = lb_config(config_file, set);
  const auto removed = lb::cleanup("muster", config.namespace_folders, config.namespace_helper);
  if (!removed) {
    std::fprintf(stderr, "muster: cannot clean up: %s (is this root?)\n",
                 removed.error().message().c_str());
    return 1;
  }
  for (const std::string& what : *removed) std::printf("removed %s\n", what.c_str());
  if (removed->empty()) std::printf("nothing of muster's was there\n");
  return 0;
}

// What the kernel holds for `vip`, read through the `name`d driver: the one the daemon writes with.
cli::KernelView look_into_kernel(const Vip& vip, const std::string& name) {
  const lb::BalancerOptions options;
  cli::KernelView view;
  lb::DriverConfig config;
  config.table = options.table;
  config.range_v4 = lb::Prefix::parse(options.vip_range_v4);
  config.range_v6 = lb::Prefix::parse(options.vip_range_v6);
  config.check_only = true;
  const auto made = lb::make_driver(name);
  if (!made) {
    view.problem = "not looked into: " + made.error().message();
    return view;
  }
  lb::Driver& driver = **made;
  const auto opened = driver.open(config);
  if (!opened) {
    view.problem = "not looked into: " + opened.error().message();
    return view;
  }
  const auto state = driver.read();
  if (!state) {
    view.problem = "not looked into: " + state.error().message();
    return view;
  }
  const auto found = state->vips.find(vip);
  if (found == state->vips.end()) return view;
  view.balanced = found->second.selector.has_value();
  std::set<Endpoint> backends;
  for (const auto& slot : found->second.slots) {
    if (slot) backends.insert(*slot);
  }
  view.backends.assign(backends.begin(), backends.end());
  return view;
}

// What the command line said.
struct Arguments {
  std::string config_file = "/etc/muster/muster.toml";
  std::vector<std::string> set;  // section.key=value
  bool print_config = false;
  bool reference = false;
  std::string address = "127.0.0.1:61421";
  bool json = false;
  std::string wanted;  // the name that a command is about
  cli::TopOptions top;
  cli::ResolveOptions question;
  std::string dns_server;
  std::string action;
  cli::ResolvOptions resolver;
  cli::KeysOptions keys;
};

using Run = std::function<int(Arguments&)>;

// Thrown for arguments that CLI11 takes and we do not.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

Endpoint endpoint_of(const char* option, const std::string& text, const char* example) {
  const auto endpoint = Endpoint::parse(text);
  if (endpoint) return *endpoint;
  throw UsageError{std::string{option} + ": expected an address and port like " + example +
                   ", got \"" + text + "\""};
}

cli::Target target_of(const Arguments& given) {
  return {endpoint_of("--address", given.address, "127.0.0.1:61421"), given.json};
}

int agent_command(Arguments& given) {
  if (!given.print_config) return run_agent(given.config_file, given.set);
  std::fputs(daemon::print_config(given.config_file, overrides(given.set)).c_str(), stdout);
  return 0;
}

int check_config_command(Arguments& given) {
  if (!given.reference) return check_config(given.config_file, given.set);
  std::fputs(daemon::config_reference().c_str(), stdout);
  return 0;
}

int resolve(Arguments& given) {
  if (!given.dns_server.empty()) {
    given.question.server = endpoint_of("--server", given.dns_server, "127.0.0.1:53");
  }
  return cli::resolve(target_of(given), given.question);
}

int resolv(Arguments& given) {
  if (given.action == "install") return cli::resolv_install(given.resolver);
  if (given.action == "remove") return cli::resolv_remove(given.resolver);
  return cli::resolv_check(given.resolver);
}

// Every command, what it takes, and what it does: the one that is given ends up in `chosen`.
class Commands {
 public:
  Commands(CLI::App& app, Arguments& given, Run& chosen)
      : app_{app}, given_{given}, chosen_{chosen} {}

  void add_daemon() {
    auto* agent = add("agent", "Run the daemon of this node", agent_command);
    agent->add_option("--config", given_.config_file, "TOML file")->capture_default_str();
    agent->add_option("--set", given_.set, "An option over the file's, like dns.ttl_seconds=10");
    agent->add_flag("--print-config", given_.print_config, "Print what is in force, and end");
    auto* check =
        add("check-config", "Read a configuration and say what is wrong", check_config_command);
    check->add_option("file", given_.config_file, "TOML file")->capture_default_str();
    check->add_option("--set", given_.set, "An option over the file's, like dns.ttl_seconds=10");
    check->add_flag("--reference", given_.reference, "Print every option there is, and end");
    auto* import = add("import", "Turn a Mesos-DNS configuration into muster.toml",
                       [](Arguments& given) { return cli::import_mesos_dns(given.wanted); });
    import->add_option("file", given_.wanted, "Mesos-DNS's JSON file")->required();
    auto* preflighted = add("check", "Say what this machine lacks, and what would mend it",
                            [](Arguments& given) { return preflight(given.config_file); });
    preflighted->add_option("--config", given_.config_file, "TOML file, read if it is there")
        ->capture_default_str();
    auto* cleaned = add("cleanup", "Remove everything that muster put into the kernel",
                        [](Arguments& given) { return cleanup(given.config_file, given.set); });
    cleaned->add_option("--config", given_.config_file, "TOML file, read if it is there")
        ->capture_default_str();
    cleaned->add_option("--set", given_.set, "An option over the file's");
    auto* resolver = add("resolv", "Make this machine's resolver ask muster, or undo that", resolv);
    resolver->add_option("action", given_.action, "install, remove or check")
        ->required()
        ->check(CLI::IsMember({"install", "remove", "check"}));
    resolver->add_option("--root", given_.resolver.root, "Where / is")->group("");
  }

  void add_client() {
    show("status", "How this node is and what it holds", cli::status);
    show("vips", "Virtual addresses and their backends", cli::vips);
    show("tasks", "What runs in the cluster", cli::tasks);
    show("members", "The nodes of the cluster and how they are", cli::members);
    show("changes", "What happened last, newest first", cli::changes);
    about("vip", "One VIP: why each backend is in or out",
          "web, web.marathon:80, its domain name or its address", cli::vip)
        ->required();
    about("records", "DNS records of the cluster", "Only names that contain this", cli::records);
    about("trace", "Follow a connection from label to backend and say what is wrong",
          "NAME:PORT, or NAME:PORT/udp",
          [](const cli::Target& target, const std::string& name) {
            return cli::trace(target, {name, look_into_kernel});
          })
        ->required();
    add_keys();
    add_top();
    add_resolve();
  }

 private:
  CLI::App* add(const char* name, const char* help, Run run) {
    auto* command = app_.add_subcommand(name, help);
    command->callback([this, run = std::move(run)] { chosen_ = run; });
    return command;
  }
  CLI::App* client(const char* name, const char* help, Run run) {
    auto* command = add(name, help, std::move(run));
    command->add_option("--address", given_.address, "HTTP address of the daemon")
        ->capture_default_str();
    return command;
  }
  CLI::App* with_json(CLI::App* command) {
    command->add_flag("--json", given_.json, "Print JSON");
    return command;
  }
  void show(const char* name, const char* help, int (*run)(const cli::Target&)) {
    with_json(client(name, help, [run](Arguments& given) { return run(target_of(given)); }));
  }
  CLI::Option* about(const char* name, const char* help, const char* what,
                     std::function<int(const cli::Target&, const std::string&)> run) {
    auto* command = with_json(client(name, help, [run = std::move(run)](Arguments& given) {
      return run(target_of(given), given.wanted);
    }));
    return command->add_option("name", given_.wanted, what);
  }
  void add_keys() {
    auto* command = with_json(
        add("keys", "The keys that seal gossip, and their rotation", [](Arguments& given) {
          given.keys.json = given.json;
          return cli::keys(given.keys);
        }));
    command->add_option("action", given_.keys.action, "list, new, add (from stdin), use or drop")
        ->capture_default_str()
        ->check(CLI::IsMember({"list", "new", "add", "use", "drop"}));
    command->add_option("id", given_.keys.id, "Of the key to use or drop");
    command->add_option("--socket", given_.keys.socket, "Control socket of the daemon")
        ->capture_default_str();
    command->add_flag("--force", given_.keys.force, "Even if nodes are cut off by it");
  }
  void add_top() {
    auto* top = with_json(client("top", "The busiest VIPs, again and again", [](Arguments& given) {
      return cli::top(target_of(given), given.top);
    }));
    top->add_option("--interval", given_.top.interval_seconds, "Seconds between samples")
        ->capture_default_str()
        ->check(CLI::Range(1, 3600));
    top->add_option("--count", given_.top.count, "Samples before it ends; 0: until interrupted")
        ->capture_default_str();
    top->add_option("--rows", given_.top.rows, "VIPs shown; 0: what the terminal has room for")
        ->capture_default_str();
  }
  void add_resolve() {
    auto* command = client("resolve", "Ask the daemon's DNS server for a name", resolve);
    command->add_option("name", given_.question.name, "Domain name")->required();
    command
        ->add_option("type", given_.question.type,
                     "A, AAAA, SRV, PTR, SOA, NS, TXT, ANY or a number")
        ->capture_default_str();
    command->add_option("--server", given_.dns_server, "DNS address to ask, like 127.0.0.1:53");
  }

  CLI::App& app_;
  Arguments& given_;
  Run& chosen_;
};

int run(int argc, char** argv) {
  CLI::App app{"muster: stable addresses, names and load balancing for apps on Apache Mesos"};
  app.set_version_flag("--version", std::string{"muster "} + daemon::kVersion);
  app.require_subcommand(1);
  app.set_help_flag("-h,--help", "Say how this is used");
  Arguments given;
  Run chosen;
  Commands commands{app, given, chosen};
  commands.add_daemon();
  commands.add_client();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11's own failures, with the exit status that the rest of muster uses for wrong usage.
    return app.exit(error) == 0 ? 0 : cli::kUsage;
  }
  return chosen(given);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const daemon::ConfigError& error) {
    std::fprintf(stderr, "muster: %s\n", error.what());
    return cli::kUsage;
  } catch (const UsageError& error) {
    std::fprintf(stderr, "muster: %s\n", error.what());
    return cli::kUsage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "muster: %s\n", error.what());
    return 1;
  }
}
