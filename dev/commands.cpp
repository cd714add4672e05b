#include "dev/commands.hpp"

#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <stdexcept>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/json/serialize.hpp>

#include "dev/control.hpp"
#include "dev/terminal.hpp"

namespace muster::dev {

namespace json = boost::json;

namespace {

// How long a stopped cluster may take to be gone: the kernel kills its processes at once.
constexpr int kStopTenths = 100;
constexpr useconds_t kFollowEvery = 200'000;

std::string text(const json::object& from, std::string_view key) {
  const json::value& value = from.at(key);
  if (value.is_string()) return std::string{value.get_string()};
  if (value.is_bool()) return value.get_bool() ? "yes" : "no";
  if (value.is_number()) {
    const auto number = value.to_number<std::int64_t>();
    return number <= 0 ? "-" : std::to_string(number);
  }
  return "";
}

int say(const std::string& name, const json::object& request) {
  const ControlAnswer answer = ControlClient{name}.call(request);
  std::printf("%s\n", text(answer.body, "said").c_str());
  return 0;
}

[[noreturn]] void enter_and_exec(const ControlAnswer& answer, const std::string& directory,
                                 const std::vector<std::string>& argv) {
  // Should this command be killed with -9, what it runs goes too.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int kinds[] = {CLONE_NEWUTS, CLONE_NEWNET, CLONE_NEWNS};
  const std::size_t order[] = {3, 1, 2};
  for (std::size_t i = 0; i < 3; ++i) {
    if (::setns(answer.descriptors[order[i]].get(), kinds[i]) != 0) {
      std::fprintf(stderr, "muster-dev: entering the node: %s\n", std::strerror(errno));
      ::_exit(125);
    }
  }
  if (::chdir(directory.c_str()) != 0 && ::chdir("/") != 0) ::_exit(125);
  ::setenv("PATH", text(answer.body, "path").c_str(), 1);
  std::vector<char*> words;
  words.reserve(argv.size() + 1);
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execvp(words[0], words.data());
  std::fprintf(stderr, "muster-dev: %s: %s\n", words[0], std::strerror(errno));
  ::_exit(errno == ENOENT ? 127 : 126);  // as a shell says
}

}  // namespace

int command_ps(const std::string& name, bool as_json) {
  const ControlAnswer answer = ControlClient{name}.call({{"command", "ps"}});
  if (as_json) {
    std::printf("%s\n", json::serialize(answer.body).c_str());
    return 0;
  }
  std::printf("cluster %s, up %s, master %s\n\n", text(answer.body, "name").c_str(),
              text(answer.body, "age").c_str(), text(answer.body, "master").c_str());
  std::vector<std::vector<std::string>> rows{{"NODE", "ADDRESS", "IPV6", "MUSTER", "READY", "PID"}};
  for (const json::value& value : answer.body.at("nodes").as_array()) {
    const json::object& node = value.as_object();
    rows.push_back({text(node, "node"), text(node, "address"), text(node, "address6"),
                    text(node, "muster"), text(node, "ready"), text(node, "pid")});
  }
  std::printf("%s\n", aligned(rows, "").c_str());
  rows = {{"APP", "#", "STATE", "HEALTH", "NODE", "ADDRESS", "PID", "TASK"}};
  for (const json::value& value : answer.body.at("tasks").as_array()) {
    const json::object& task = value.as_object();
    const std::string note = text(task, "note");
    rows.push_back({text(task, "app"), text(task, "instance"), text(task, "state"),
                    text(task, "health"), text(task, "node"), text(task, "address"),
                    text(task, "pid"), note.empty() ? text(task, "task") : note});
  }
  std::printf("%s", aligned(rows, "").c_str());
  return 0;
}

int command_wait(const std::string& name, unsigned seconds, bool apps_only) {
  Terminal terminal;
  ControlClient client = [&] {
    // A script that has just started the cluster in the background is quicker than that.
    for (unsigned tenth = 0;; ++tenth) {
      try {
        return ControlClient{name};
      } catch (const std::runtime_error&) {
        if (tenth >= seconds * 10) throw;
      }
      terminal.status("waiting: the cluster is not there yet");
      ::usleep(100'000);
    }
  }();
  const ControlAnswer answer =
      client.call({{"command", "wait"}, {"seconds", seconds}, {"apps", apps_only}},
                  [&](const std::string& why) { terminal.status("waiting: " + why); });
  terminal.settle(text(answer.body, "said") + " (" + terminal.age() + ")");
  return 0;
}

int command_logs(const std::string& name, const std::string& which, bool follow) {
  const ControlAnswer answer = ControlClient{name}.call({{"command", "logs"}, {"which", which}});
  if (answer.descriptors.empty()) throw std::runtime_error{"no log came"};
  const int log = answer.descriptors[0].get();
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(log, buffer, sizeof buffer);
    if (got < 0) return 1;
    if (got == 0) {
      if (!follow) return 0;
      std::fflush(stdout);
      ::usleep(kFollowEvery);
    } else {
      std::fwrite(buffer, 1, static_cast<std::size_t>(got), stdout);
    }
  }
}

int command_exec(const std::string& name, unsigned node, bool container,
                 const std::vector<std::string>& argv) {
  const ControlAnswer answer =
      ControlClient{name}.call({{"command", "exec"}, {"node", node}, {"container", container}});
  if (answer.descriptors.size() != 4)
    throw std::runtime_error{"the node's namespaces did not come"};
  char directory[4096];
  if (::getcwd(directory, sizeof directory) == nullptr) std::strcpy(directory, "/");
  if (::setns(answer.descriptors[0].get(), CLONE_NEWPID) != 0) {
    throw std::runtime_error{std::string{"entering the cluster: "} + std::strerror(errno)};
  }
  const int pid = ::fork();
  if (pid < 0) throw std::runtime_error{"the cluster is gone"};
  if (pid == 0) enter_and_exec(answer, directory, argv);
  // The terminal sends these to both; it is the command's to decide what they mean.
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGQUIT, SIG_IGN);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return 125;
  }
  // Not exit(): should the cluster be gone by now, a leak checker could not start its thread.
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int command_kill(const std::string& name, const KillOptions& options) {
  json::object request{{"command", "kill"}};
  if (!options.task.empty()) request["task"] = options.task;
  if (!options.app.empty()) {
    request["app"] = options.app;
    request["instance"] = options.instance;
  }
  if (options.signal) request["signal"] = *options.signal;
  return say(name, request);
}

int command_scale(const std::string& name, const std::string& app, unsigned instances) {
  return say(name, {{"command", "scale"}, {"app", app}, {"instances", instances}});
}

int command_node(const std::string& name, const std::string& command, unsigned node, bool restart) {
  return say(name, {{"command", command}, {"node", node}, {"restart", restart}});
}

int command_master(const std::string& name, const std::string& action) {
  return say(name, {{"command", "master"}, {"action", action}});
}

int command_stop(const std::string& name) {
  say(name, {{"command", "stop"}});
  for (int tenth = 0; tenth < kStopTenths; ++tenth) {  // gone when its name is free again
    try {
      const ControlClient still{name};
    } catch (const std::runtime_error&) {
      return 0;
    }
    ::usleep(100'000);
  }
  throw std::runtime_error{"it has not ended after 10 s"};
}

std::optional<int> parse_signal(const std::string& text) {
  char* end = nullptr;
  const long number = std::strtol(text.c_str(), &end, 10);
  if (!text.empty() && *end == '\0') {
    return number > 0 && number < NSIG ? std::optional{static_cast<int>(number)} : std::nullopt;
  }
  const std::string wanted = text.starts_with("SIG") ? text.substr(3) : text;
  for (int signal = 1; signal < NSIG; ++signal) {
    const char* known = ::sigabbrev_np(signal);
    if (known != nullptr && wanted == known) return signal;
  }
  return std::nullopt;
}

}  // namespace muster::dev
