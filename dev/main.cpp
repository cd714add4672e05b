#include <CLI/CLI.hpp>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <unistd.h>
#include <vector>

#include "dev/app.hpp"
#include "dev/commands.hpp"
#include "dev/load.hpp"
#include "dev/network_plan.hpp"
#include "dev/serve.hpp"
#include "dev/supervisor.hpp"

namespace fs = std::filesystem;
using namespace muster::dev;

namespace {

/// What the user wrote is wrong: exit status 2, as for every configuration error.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string read_file(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  if (!in) throw UsageError{path + ": cannot be read"};
  return {std::istreambuf_iterator<char>{in}, {}};
}

std::vector<App> load_apps(const std::vector<std::string>& files) {
  std::vector<App> apps;
  for (const std::string& file : files) {
    auto parsed = parse_apps(read_file(file));
    if (!parsed) {
      throw UsageError{file + ": " + parsed.error().where + ": " + parsed.error().what};
    }
    for (const std::string& notice : parsed->notices) {
      std::fprintf(stderr, "muster-dev: note: %s: %s\n", file.c_str(), notice.c_str());
    }
    for (App& app : parsed->apps) {
      for (const App& other : apps) {
        if (other.id == app.id) throw UsageError{file + ": app " + app.id + " is given twice"};
      }
      apps.push_back(std::move(app));
    }
  }
  return apps;
}

std::string own_folder() {
  return fs::read_symlink("/proc/self/exe").parent_path().string();
}

std::string caller_path() {
  const char* path = std::getenv("PATH");
  return path != nullptr ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/// The one asked for, or beside this program, in the build tree, or in PATH.
std::string find_muster(const std::string& asked) {
  std::vector<std::string> candidates;
  if (!asked.empty()) {
    candidates.push_back(asked);
  } else {
    candidates = {own_folder() + "/muster", own_folder() + "/../daemon/muster"};
    std::string path = caller_path();
    for (std::size_t from = 0; from <= path.size();) {
      const std::size_t colon = std::min(path.find(':', from), path.size());
      candidates.push_back(path.substr(from, colon - from) + "/muster");
      from = colon + 1;
    }
  }
  for (const std::string& candidate : candidates) {
    std::error_code ignored;
    if (!fs::is_regular_file(candidate, ignored) || ::access(candidate.c_str(), X_OK) != 0)
      continue;
    std::string found = fs::canonical(candidate).string();
    if (found.starts_with("/run/")) throw UsageError{found + ": nodes do not see /run; move it"};
    return found;
  }
  throw UsageError{asked.empty() ? "no muster beside muster-dev or in PATH; give --muster PATH"
                                 : asked + ": no such program"};
}

struct RunOptions {
  std::vector<std::string> files;
  unsigned nodes = 1;
  std::string muster;
  std::string extra_config;
  std::string source = "master";
  std::string ready_file;
};

[[noreturn]] void run(const std::string& name, const RunOptions& options) {
  ClusterOptions cluster;
  cluster.name = name;
  cluster.nodes = options.nodes;
  cluster.source = options.source;
  cluster.apps = load_apps(options.files);
  cluster.muster = find_muster(options.muster);
  if (!options.extra_config.empty()) cluster.extra_config = read_file(options.extra_config);
  cluster.path =
      own_folder() + ":" + fs::path{cluster.muster}.parent_path().string() + ":" + caller_path();
  if (::geteuid() != 0) {
    throw std::runtime_error{"needs root: it makes network namespaces. Try: sudo muster-dev ..."};
  }
  std::string ready_file = options.ready_file;
  if (!ready_file.empty()) ready_file = fs::absolute(ready_file).string();
  supervise(std::move(cluster), ready_file);
}

unsigned node_argument(const std::string& text) {
  const std::string digits = text.starts_with("node") ? text.substr(4) : text;
  char* end = nullptr;
  const unsigned long number = std::strtoul(digits.c_str(), &end, 10);
  if (digits.empty() || *end != '\0' || number == 0 || number > kMaxNodes) {
    throw UsageError{"\"" + text + "\": expected a node such as 1 or node1"};
  }
  return static_cast<unsigned>(number);
}

/// Every option of every subcommand, and what to do once they are parsed.
class CommandLine {
 public:
  CommandLine() {
    add_run();
    add_cluster_commands();
    add_task_commands();
    add_node_commands();
    add_traffic();
  }

  int run(int argc, char** argv) {
    // What follows -- is somebody else's command line.
    int own = 0;
    while (own < argc && std::string_view{argv[own]} != "--") ++own;
    for (int i = own + 1; i < argc; ++i) argv_.emplace_back(argv[i]);
    try {
      app_.parse(own, argv);
    } catch (const CLI::ParseError& error) {
      const int status = app_.exit(error);
      return status == 0 ? 0 : 2;
    }
    return action_();
  }

 private:
  CLI::App* add(const std::string& name, const std::string& what, std::function<int()> action) {
    CLI::App* command = app_.add_subcommand(name, what);
    command->callback([this, action] { action_ = action; });
    return command;
  }

  CLI::App* add_named(const std::string& name, const std::string& what,
                      std::function<int()> action) {
    CLI::App* command = add(name, what, std::move(action));
    name_option(command);
    return command;
  }

  void name_option(CLI::App* command) {
    command->add_option("--name", name_, "Which cluster, if several run")
        ->envname("MUSTER_DEV_NAME")
        ->capture_default_str();
  }

  void add_run() {
    app_.require_subcommand(0, 1);
    name_option(&app_);
    app_.add_option("APP.json", run_.files, "Marathon app definitions to run");
    app_.add_option("--nodes", run_.nodes, "How many nodes")
        ->check(CLI::Range(1U, kMaxNodes))
        ->capture_default_str();
    app_.add_option("--muster", run_.muster, "The muster to start on each node");
    app_.add_option("--extra-config", run_.extra_config,
                    "A TOML file to append to every node's configuration");
    app_.add_option("--source", run_.source, "Who tells each muster what runs on its node")
        ->check(CLI::IsMember({"master", "agent"}))
        ->capture_default_str();
    app_.add_option("--ready-file", run_.ready_file,
                    "Written once every app runs and every node is ready");
    action_ = [this]() -> int {
      if (run_.files.empty()) {
        std::printf("%s", app_.help().c_str());
        return 2;
      }
      ::run(name_, run_);
    };
  }

  void add_cluster_commands() {
    CLI::App* ps =
        add_named("ps", "Show nodes and tasks", [this] { return command_ps(name_, json_); });
    ps->add_flag("--json", json_, "As one JSON object");
    CLI::App* wait = add_named("wait", "Wait until every app runs and every node is ready",
                               [this] { return command_wait(name_, seconds_, apps_only_); });
    wait->add_option("--seconds", seconds_, "Give up after")->capture_default_str();
    wait->add_flag("--apps", apps_only_, "Do not wait for the nodes' muster");
    add_named("stop", "Stop the cluster", [this] { return command_stop(name_); });
    CLI::App* master =
        add_named("master", "Take the Mesos master away, bring it back, or let the other one lead",
                  [this] { return command_master(name_, what_); });
    master->add_option("ACTION", what_)
        ->required()
        ->check(CLI::IsMember({"kill", "start", "failover"}));
  }

  void add_task_commands() {
    CLI::App* kill = add_named("kill", "Kill a task; another is started", [this] {
      if (kill_.task.empty() == kill_.app.empty()) throw UsageError{"give TASK or --app APP"};
      if (!what_.empty()) {
        kill_.signal = parse_signal(what_);
        if (!kill_.signal) throw UsageError{"\"" + what_ + "\": expected a signal, such as KILL"};
      }
      return command_kill(name_, kill_);
    });
    kill->add_option("TASK", kill_.task, "A task id of muster-dev ps");
    kill->add_option("--app", kill_.app, "Or an app");
    kill->add_option("--instance", kill_.instance, "and its instance")->capture_default_str();
    kill->add_option("--signal", what_,
                     "Send this as a crash would; without it the task is ended in order, with "
                     "TASK_KILLING, SIGTERM and a grace period");
    CLI::App* scale = add_named("scale", "Change how many instances an app has",
                                [this] { return command_scale(name_, what_, instances_); });
    scale->add_option("APP", what_)->required();
    scale->add_option("N", instances_)->required()->check(CLI::Range(0U, 1000U));
    CLI::App* logs = add_named("logs", "Show what a node's muster or a task printed",
                               [this] { return command_logs(name_, what_, follow_); });
    logs->add_option("WHICH", what_, "A node (1), a task id, /app or /app#2")->required();
    logs->add_flag("-f,--follow", follow_, "Go on as more is printed");
  }

  void add_node_commands() {
    CLI::App* exec = add_named("exec", "Run a command on a node", [this] {
      if (argv_.empty()) throw UsageError{"give a command after --, such as: exec 1 -- sh"};
      return command_exec(name_, node_argument(node_), container_, argv_);
    });
    exec->add_option("NODE", node_)->required();
    exec->add_flag("--container", container_, "In a container behind the node");
    exec->footer("The command and its arguments follow after --, as in: muster-dev exec 1 -- sh");
    const auto node_command = [this](const std::string& name, const std::string& what) {
      CLI::App* command = add_named(name, what, [this, name] {
        return command_node(name_, name, node_argument(node_), restart_);
      });
      command->add_option("NODE", node_)->required();
      return command;
    };
    node_command("kill-agent", "kill -9 the muster of a node")
        ->add_flag("--restart", restart_, "and start it again at once");
    node_command("start-agent", "Start the muster of a node again");
    node_command("cut", "Cut a node off the network");
    node_command("heal", "Put it back on");
  }

  void add_traffic() {
    CLI::App* serve = add("serve", "A tiny server that says which task answers",
                          [this] { return run_serve(serve_); });
    serve->add_option("--http", serve_.http, "TCP port");
    serve->add_option("--udp", serve_.udp, "UDP port: echoes");
    serve->add_option("--text", serve_.text, "Something to say besides");
    serve->add_option("--health-file", serve_.health_file,
                      "/health is 503 while this does not exist");
    serve->add_option("--delay-ms", serve_.delay_ms, "Before each HTTP answer");
    serve->add_option("--linger", serve_.linger_seconds,
                      "Seconds that it takes new connections after it was asked to end");
    CLI::App* load =
        add("load", "Open-loop load, a connection and a lookup for each request", [this] {
          if (url_.empty() == udp_.empty()) throw UsageError{"give --url or --udp"};
          if (url_.empty()) {
            parse_udp_target(udp_, load_);
          } else {
            parse_url(url_, load_);
          }
          return run_load(load_);
        });
    load->add_option("--url", url_, "http://NAME:PORT/PATH");
    load->add_option("--udp", udp_, "NAME:PORT");
    load->add_option("--rate", load_.rate, "Requests a second")
        ->check(CLI::Range(0.1, 100000.0))
        ->capture_default_str();
    load->add_option("--seconds", load_.seconds, "For how long")
        ->check(CLI::Range(0.1, 86400.0))
        ->capture_default_str();
    load->add_option("--timeout", load_.timeout_seconds, "Seconds for one request")
        ->check(CLI::Range(0.01, 3600.0))
        ->capture_default_str();
    load->add_flag("--json", load_.json, "The report as one JSON object");
  }

  CLI::App app_{
      "A whole Mesos-like cluster on one machine: master, nodes, tasks and muster.\n"
      "Start one: muster-dev --nodes 3 examples/web.json"};
  std::function<int()> action_;
  std::string name_ = "default";
  RunOptions run_;
  KillOptions kill_;
  ServeOptions serve_;
  LoadOptions load_;
  bool json_ = false;
  bool apps_only_ = false;
  bool follow_ = false;
  bool container_ = false;
  bool restart_ = false;
  unsigned seconds_ = 60;
  unsigned instances_ = 1;
  std::string what_;
  std::string node_;
  std::string url_;
  std::string udp_;
  std::vector<std::string> argv_;
};

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  // A cluster holds four descriptors a node and one a container; load one a request under way.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  try {
    return CommandLine{}.run(argc, argv);
  } catch (const UsageError& error) {
    std::fprintf(stderr, "muster-dev: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "muster-dev: %s\n", error.what());
    return 1;
  }
}
