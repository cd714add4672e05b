#include <algorithm>
#include <fcntl.h>
#include <stdexcept>
#include <unistd.h>

#include "dev/cluster_impl.hpp"

namespace muster::dev {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

constexpr auto kPoll = std::chrono::milliseconds{100};
// Long enough for the answer to leave before everything else does.
constexpr auto kFarewell = std::chrono::milliseconds{50};

std::string text(const json::object& request, std::string_view key) {
  const json::value* found = request.if_contains(key);
  return found != nullptr && found->is_string() ? std::string{found->get_string()} : std::string{};
}

bool flag(const json::object& request, std::string_view key) {
  const json::value* found = request.if_contains(key);
  return found != nullptr && found->is_bool() && found->get_bool();
}

std::optional<std::int64_t> integer(const json::object& request, std::string_view key) {
  const json::value* found = request.if_contains(key);
  if (found == nullptr || !found->is_int64()) return std::nullopt;
  return found->get_int64();
}

ControlAnswer said(std::string_view what) {
  ControlAnswer out;
  out.body["said"] = what;
  return out;
}

Fd copy_of(const Fd& fd) {
  return Fd{::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)};
}

}  // namespace

unsigned Cluster::node_number(const json::object& request) const {
  const std::int64_t number = integer(request, "node").value_or(0);
  if (number < 1 || number > options_.nodes) {
    throw std::runtime_error{"no such node; there are 1 to " + std::to_string(options_.nodes)};
  }
  return static_cast<unsigned>(number);
}

asio::awaitable<ControlAnswer> Cluster::control(json::object request,
                                                ControlServer::Progress progress) {
  ControlAnswer out;
  try {
    out = co_await answer(std::move(request), std::move(progress));
  } catch (const boost::system::system_error& error) {
    if (error.code() == asio::error::operation_aborted) throw;
    out.body["error"] = error.what();
  } catch (const std::runtime_error& error) {
    out.body["error"] = error.what();
  }
  co_return out;
}

asio::awaitable<ControlAnswer> Cluster::answer(json::object request,
                                               ControlServer::Progress progress) {
  const std::string command = text(request, "command");
  ControlAnswer out;
  if (command == "ps") {
    out = co_await show();
  } else if (command == "wait") {
    const double seconds = static_cast<double>(integer(request, "seconds").value_or(60));
    out = co_await wait_ready(seconds, flag(request, "apps"), progress);
  } else if (command == "exec") {
    out = enter(node_number(request), flag(request, "container"));
  } else if (command == "logs") {
    out = logs(text(request, "which"));
  } else if (command == "kill") {
    out = kill(request);
  } else if (command == "scale") {
    const std::string app = text(request, "app");
    const std::int64_t to = integer(request, "instances").value_or(-1);
    if (to < 0 || to > 1000) throw std::runtime_error{"instances: expected 0 to 1000"};
    if (!launcher_->scale(app, static_cast<unsigned>(to))) {
      throw std::runtime_error{"no app " + app + "; see muster-dev ps"};
    }
    out = said(app + ": " + std::to_string(to) + " instances");
  } else if (command == "kill-agent") {
    const unsigned node = node_number(request);
    if (!daemons_->kill(node, flag(request, "restart"))) {
      throw std::runtime_error{"muster does not run there"};
    }
    out = said("killed muster on node" + std::to_string(node));
  } else if (command == "start-agent") {
    const unsigned node = node_number(request);
    if (!daemons_->start(node)) throw std::runtime_error{"muster runs there already"};
    out = said("started muster on node" + std::to_string(node));
  } else if (command == "master") {
    out = master_command(text(request, "action"));
  } else if (command == "cut" || command == "heal") {
    out = cut(node_number(request), command == "heal");
  } else if (command == "stop") {
    auto timer = std::make_shared<asio::steady_timer>(io_, kFarewell);
    timer->async_wait([timer](const boost::system::error_code&) { ::_exit(0); });
    out = said("stopped");
  } else {
    throw std::runtime_error{"unknown command; is this muster-dev another version?"};
  }
  co_return out;
}

asio::awaitable<ControlAnswer> Cluster::show() {
  json::array nodes;
  for (const Node& node : network_.nodes) {
    const Daemons::Daemon& daemon = daemons_->of(node.number);
    const bool ready = co_await node_ready(node.number);
    const int pid =
        daemon.pid == 0 ? 0 : host_pid(handles_.host_proc.get(), handles_.host_pid, daemon.pid);
    nodes.push_back({{"node", node.name()},
                     {"address", node_address(node.number)},
                     {"address6", node_address6(node.number)},
                     {"muster", daemon.pid == 0 ? daemon.note : "running"},
                     {"pid", pid},
                     {"ready", ready}});
  }
  json::array tasks;
  for (const Launcher::Row& row : launcher_->rows()) {
    const int pid =
        row.pid == 0 ? 0 : host_pid(handles_.host_proc.get(), handles_.host_pid, row.pid);
    tasks.push_back({{"app", row.app},
                     {"instance", row.instance},
                     {"state", row.state},
                     {"health", row.health},
                     {"node", row.node == 0 ? "" : "node" + std::to_string(row.node)},
                     {"address", row.address},
                     {"task", row.task_id},
                     {"note", row.note},
                     {"pid", pid}});
  }
  ControlAnswer out;
  out.body["name"] = options_.name;
  out.body["age"] = terminal_.age();
  out.body["master"] = !master_up_                                ? "gone"
                       : master_->phase() != MasterPhase::leading ? "recovering"
                       : master_->has_recovered_agents()          ? "agents coming back"
                                                                  : "leading";
  out.body["nodes"] = std::move(nodes);
  out.body["tasks"] = std::move(tasks);
  co_return out;
}

asio::awaitable<ControlAnswer> Cluster::wait_ready(double seconds, bool apps_only,
                                                   ControlServer::Progress progress) {
  const TimePoint until =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(
                         std::chrono::duration<double>{std::min(seconds, 86400.0)});
  std::string told;
  asio::steady_timer timer{io_};
  for (;;) {
    std::string why;
    const bool ready = co_await all_ready(apps_only, &why);
    if (ready) co_return said("ready: " + why);
    if (why != told) progress(why);
    told = why;
    if (Clock::now() >= until) throw std::runtime_error{"not ready in time: " + why};
    timer.expires_after(kPoll);
    co_await timer.async_wait(asio::use_awaitable);
  }
}

ControlAnswer Cluster::enter(unsigned number, bool container) {
  const Node& node = network_.nodes[number - 1];
  ControlAnswer out;
  out.descriptors.emplace_back(::open("/proc/1/ns/pid", O_RDONLY | O_CLOEXEC));
  out.descriptors.push_back(copy_of(container ? node.neighbour : node.spaces.net));
  out.descriptors.push_back(copy_of(node.spaces.mount));
  out.descriptors.push_back(copy_of(node.spaces.uts));
  out.body["path"] = options_.path;
  return out;
}

ControlAnswer Cluster::logs(const std::string& which) {
  std::string path;
  const std::string digits = which.starts_with("node") ? which.substr(4) : which;
  if (!digits.empty() && digits.find_first_not_of("0123456789") == std::string::npos) {
    const unsigned long node = std::strtoul(digits.c_str(), nullptr, 10);
    if (node < 1 || node > options_.nodes) throw std::runtime_error{"no such node"};
    path = daemons_->log_of(static_cast<unsigned>(node));
  } else if (const auto found = launcher_->log_of(which)) {
    path = *found;
  } else {
    throw std::runtime_error{"no such task; give a node's number, a task id, /app or /app#2"};
  }
  ControlAnswer out;
  out.descriptors.emplace_back(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!out.descriptors.back()) throw std::runtime_error{"it has printed nothing yet"};
  return out;
}

ControlAnswer Cluster::kill(const json::object& request) {
  std::optional<int> signal;
  if (const auto number = integer(request, "signal")) signal = static_cast<int>(*number);
  const std::string task = text(request, "task");
  const std::string app = text(request, "app");
  const auto instance = static_cast<unsigned>(integer(request, "instance").value_or(1));
  const auto done =
      task.empty() ? launcher_->kill(app, instance, signal) : launcher_->kill(task, signal);
  if (!done) throw std::runtime_error{"no such task runs; see muster-dev ps"};
  return said(*done);
}

ControlAnswer Cluster::master_command(const std::string& action) {
  if (action == "failover") {
    const std::string problem = fail_over();
    if (!problem.empty()) throw std::runtime_error{problem};
    return said("the other master takes over; the agents follow in a few seconds");
  }
  if (action == "kill") {
    if (!master_up_ || master_->phase() != MasterPhase::leading) {
      throw std::runtime_error{master_up_ ? "it is still coming back" : "it is gone already"};
    }
    master_up_ = false;
    master_->set_phase(MasterPhase::starting);  // so that nothing is announced meanwhile
    leading_http().close();
    return said("the master is gone");
  }
  if (master_up_) throw std::runtime_error{"the master runs"};
  tasks_.spawn(bring_master_back());
  return said("the master comes back; its agents follow in a few seconds");
}

ControlAnswer Cluster::cut(unsigned node, bool heal) {
  // Its port of the switch: the node itself notices nothing but silence.
  run_tool({"ip", "link", "set", "p" + std::to_string(node), heal ? "up" : "down"}, "", {});
  return said("node" + std::to_string(node) + (heal ? " is back on" : " is cut off") +
              " the network");
}

}  // namespace muster::dev
