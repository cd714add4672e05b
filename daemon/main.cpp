#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>

#include "cli/commands.hpp"
#include "cli/import_mesos_dns.hpp"
#include "daemon/config.hpp"
#include "daemon/daemon.hpp"
#include "daemon/logging.hpp"
#include "daemon/version.hpp"
#include "lb/io/balancer.hpp"

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
  auto* resolve = client("resolve", "Ask the daemon's DNS server for a name");
  cli::ResolveOptions question;
  std::string dns_server;
  resolve->add_option("name", question.name, "Domain name")->required();
  resolve->add_option("type", question.type, "A, AAAA, SRV, PTR, SOA, NS, TXT, ANY or a number")
      ->capture_default_str();
  resolve->add_option("--server", dns_server, "DNS address to ask, like 127.0.0.1:53");
  auto* import = app.add_subcommand("import", "Turn a Mesos-DNS configuration into muster.toml");
  std::string imported_file;
  import->add_option("file", imported_file, "Mesos-DNS's JSON file")->required();
  auto* clean = app.add_subcommand("cleanup", "Remove everything that muster put into the kernel");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error);
  }
  if (agent->parsed()) return run_agent(config_file);
  if (check->parsed()) return check_config(config_file);
  if (clean->parsed()) return cleanup();
  if (import->parsed()) return cli::import_mesos_dns(imported_file);

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
