#pragma once

#include <optional>
#include <string>
#include <vector>

/// The subcommands that talk to a running cluster. Each returns the process's exit status and
/// throws std::runtime_error with a sentence for the user.
namespace muster::dev {

int command_ps(const std::string& name, bool json);
int command_wait(const std::string& name, unsigned seconds, bool apps_only);
int command_logs(const std::string& name, const std::string& which, bool follow);
int command_exec(const std::string& name, unsigned node, bool container,
                 const std::vector<std::string>& argv);

struct KillOptions {
  std::string task;
  std::string app;
  unsigned instance = 1;
  std::optional<int> signal;
};
int command_kill(const std::string& name, const KillOptions& options);
int command_scale(const std::string& name, const std::string& app, unsigned instances);
/// `command` is "kill-agent", "start-agent", "cut" or "heal".
int command_node(const std::string& name, const std::string& command, unsigned node, bool restart);
int command_master(const std::string& name, const std::string& action);
int command_stop(const std::string& name);

/// "TERM", "SIGTERM" or "15".
std::optional<int> parse_signal(const std::string& text);

}  // namespace muster::dev
