#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <set>
#include <string>

#include "cli/commands.hpp"
#include "cli/resolv.hpp"
#include "daemon/config.hpp"
#include "daemon/daemon.hpp"
#include "daemon/logging.hpp"
#include "daemon/version.hpp"
#include "lb/io/balancer.hpp"
#include "lb/io/nft_driver.hpp"

namespace {

using namespace muster;

constexpr int kBadUsage = 2;

int run_agent(const std::string& path) {
  const daemon::Config config = daemon::load_config(path);
  daemon::set_up_logging(config.log);
  return daemon::Daemon{config}.run();
}

int check_config(const std::string& path) {
  const daemon::Daemon never_run{daemon::load_config(path)};
  std::printf("%s: good\n", path.c_str());
  return 0;
}

int cleanup() {
  const auto removed = lb::cleanup();
  if (!removed) {
    std::fprintf(stderr, "muster: cannot clean up: %s (is this root?)\n",
                 removed.error().message().c_str());
    return 1;
  }
  for (const std::string& what : *removed) std::printf("removed %s\n", what.c_str());
  if (removed->empty()) std::printf("nothing of muster's was there\n");
  return 0;
}

// What the kernel holds for `vip`, read through the same driver that the daemon writes with.
cli::KernelView look_into_kernel(const Vip& vip) {
  const lb::BalancerOptions options;
  lb::NftDriver driver;
  cli::KernelView view;
  const auto opened = driver.open({options.table, lb::Prefix::parse(options.vip_range_v4),
                                   lb::Prefix::parse(options.vip_range_v6)});
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

int resolv(const std::string& action, const cli::ResolvOptions& options) {
  if (action == "install") return cli::resolv_install(options);
  if (action == "remove") return cli::resolv_remove(options);
  return cli::resolv_check(options);
}

// CLI11's own failures, with the exit status that the rest of muster uses for wrong usage.
int usage_error(const CLI::App& app, const CLI::ParseError& error) {
  return app.exit(error) == 0 ? 0 : kBadUsage;
}

int run(int argc, char** argv) {
  CLI::App app{"muster: stable addresses, names and load balancing for apps on Apache Mesos"};
  app.set_version_flag("--version", std::string{"muster "} + daemon::kVersion);
  app.require_subcommand(1);
  app.set_help_flag("-h,--help", "Say how this is used");

  std::string config_file = "/etc/muster/muster.toml";
  auto* agent = app.add_subcommand("agent", "Run the daemon of this node");
  agent->add_option("--config", config_file, "TOML file")->capture_default_str();
  auto* check = app.add_subcommand("check-config", "Read a configuration and say what is wrong");
  check->add_option("file", config_file, "TOML file")->capture_default_str();

  std::string address = "127.0.0.1:61421";
  bool json = false;
  const auto client = [&](const char* name, const char* help) {
    auto* command = app.add_subcommand(name, help);
    command->add_option("--address", address, "HTTP address of the daemon")->capture_default_str();
    return command;
  };
  const auto with_json = [&](CLI::App* command) {
    command->add_flag("--json", json, "Print the daemon's JSON");
    return command;
  };
  auto* status = with_json(client("status", "How this node is and what it holds"));
  auto* vips = with_json(client("vips", "Virtual addresses and their backends"));
  auto* tasks = with_json(client("tasks", "What runs in the cluster"));
  auto* members = with_json(client("members", "The nodes of the cluster and how they are"));
  auto* changes = with_json(client("changes", "What happened last, newest first"));
  auto* records = with_json(client("records", "DNS records of the cluster"));
  std::string wanted;
  records->add_option("part", wanted, "Only names that contain this");
  auto* vip = with_json(client("vip", "One VIP: why each backend is in or out"));
  vip->add_option("name", wanted, "web, web.marathon:80, its domain name or its address")
      ->required();
  auto* trace =
      with_json(client("trace", "Follow a connection from label to backend and say what is wrong"));
  trace->add_option("name", wanted, "NAME:PORT, or NAME:PORT/udp")->required();
  auto* top = with_json(client("top", "The busiest VIPs, again and again"));
  cli::TopOptions often;
  top->add_option("--interval", often.interval_seconds, "Seconds between samples")
      ->capture_default_str()
      ->check(CLI::Range(1, 3600));
  top->add_option("--count", often.count, "Samples before it ends; 0: until interrupted")
      ->capture_default_str();
  top->add_option("--rows", often.rows, "VIPs shown; 0: what the terminal has room for")
      ->capture_default_str();
  auto* resolv_conf =
      app.add_subcommand("resolv", "Make this machine's resolver ask muster, or undo that");
  std::string action;
  resolv_conf->add_option("action", action, "install, remove or check")
      ->required()
      ->check(CLI::IsMember({"install", "remove", "check"}));
  cli::ResolvOptions resolver;
  resolv_conf->add_option("--root", resolver.root, "Where / is")->group("");
  auto* resolve = client("resolve", "Ask the daemon's DNS server for a name");
  cli::ResolveOptions question;
  std::string dns_server;
  resolve->add_option("name", question.name, "Domain name")->required();
  resolve->add_option("type", question.type, "A, AAAA, SRV, PTR, SOA, NS, TXT, ANY or a number")
      ->capture_default_str();
  resolve->add_option("--server", dns_server, "DNS address to ask, like 127.0.0.1:53");
  auto* clean = app.add_subcommand("cleanup", "Remove everything that muster put into the kernel");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error);
  }
  if (agent->parsed()) return run_agent(config_file);
  if (check->parsed()) return check_config(config_file);
  if (clean->parsed()) return cleanup();
  if (resolv_conf->parsed()) return resolv(action, resolver);

  const auto daemon_at = Endpoint::parse(address);
  if (!daemon_at) {
    std::fprintf(
        stderr,
        "muster: --address: expected an address and port like 127.0.0.1:61421, got \"%s\"\n",
        address.c_str());
    return kBadUsage;
  }
  const cli::Target target{*daemon_at, json};
  if (status->parsed()) return cli::status(target);
  if (vips->parsed()) return cli::vips(target);
  if (tasks->parsed()) return cli::tasks(target);
  if (members->parsed()) return cli::members(target);
  if (changes->parsed()) return cli::changes(target);
  if (records->parsed()) return cli::records(target, wanted);
  if (vip->parsed()) return cli::vip(target, wanted);
  if (trace->parsed()) return cli::trace(target, {wanted, look_into_kernel});
  if (top->parsed()) return cli::top(target, often);
  if (resolve->parsed() && !dns_server.empty()) {
    question.server = Endpoint::parse(dns_server);
    if (!question.server) {
      std::fprintf(stderr,
                   "muster: --server: expected an address and port like 127.0.0.1:53, got \"%s\"\n",
                   dns_server.c_str());
      return kBadUsage;
    }
  }
  return cli::resolve(target, question);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const daemon::ConfigError& error) {
    std::fprintf(stderr, "muster: %s\n", error.what());
    return kBadUsage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "muster: %s\n", error.what());
    return 1;
  }
}
