#include "dev/launcher.hpp"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/wait.h>

#include <boost/asio/as_tuple.hpp>

namespace muster::dev {

namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
// An executor needs a moment between the two updates; Mesos' took 9 ms (mesos-live recordings).
constexpr auto kStartingToRunning = std::chrono::milliseconds{9};
// A launch that finds no port or address is tried again, as offers come again.
constexpr double kOfferSeconds = 1;
// An instance that ran this long has not failed at once: its app's launch delay starts anew.
constexpr double kStableSeconds = 20;

std::string exit_message(int status) {
  if (WIFSIGNALED(status)) {
    return std::string{"Command terminated with signal "} + ::strsignal(WTERMSIG(status));
  }
  return "Command exited with status " + std::to_string(WEXITSTATUS(status));
}

std::string short_seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g s", seconds);
  return text;
}

}  // namespace

WallTime wall_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Launcher::Launcher(Context context)
    : context_{std::move(context)}, rng_{context_.seed}, tasks_{context_.executor} {}

void Launcher::start(std::vector<App> apps) {
  for (App& app : apps) {
    Running& running = apps_.emplace_back();
    running.wanted = app.instances;
    running.app = std::move(app);
    ensure_slots(running);
  }
}

void Launcher::ensure_slots(Running& running) {
  while (running.slots.size() < running.wanted) {
    running.slots.emplace_back(running.app, static_cast<unsigned>(running.slots.size() + 1),
                               context_.executor);
  }
  for (Slot& slot : running.slots) {
    slot.wanted = slot.index <= running.wanted;
    if (slot.wanted && !slot.live) {
      slot.live = true;
      slot.uuid = make_uuid(rng_);
      slot.incarnation = 0;
      tasks_.spawn(live(slot));
    } else if (!slot.wanted) {
      slot.kill = true;
      slot.wake.cancel();
    }
  }
}

asio::awaitable<void> Launcher::live(Slot& slot) {
  while (slot.wanted) {
    const bool launched = co_await launch(slot);
    if (!launched) {
      co_await rest(slot, kOfferSeconds);
      continue;
    }
    co_await until_over(slot);
    const double age = std::chrono::duration<double>(Clock::now() - slot.task->started).count();
    if (age >= kStableSeconds) slot.backoff.succeeded();
    if (finish(slot) && slot.wanted) {
      const double delay = slot.backoff.failed();
      slot.note = "again in " + short_seconds(delay);
      co_await rest(slot, delay);
    }
  }
  slot.live = false;
  slot.kill = false;
  slot.note.clear();
  // Scaled up again while the last task was still ending.
  for (Running& running : apps_) {
    if (&running.app == slot.app) ensure_slots(running);
  }
}

std::optional<Placement> Launcher::place(const Slot& slot) {
  std::vector<NodeLoad> loads;
  for (const Node& node : context_.nodes) {
    loads.push_back({.node = node.number, .of_this_app = 0, .of_all = 0});
  }
  for (const Running& running : apps_) {
    for (const Slot& other : running.slots) {
      if (!other.task) continue;
      NodeLoad& load = loads[other.task->at.node - 1];
      ++load.of_all;
      if (other.app == slot.app) ++load.of_this_app;
    }
  }
  while (!loads.empty()) {
    const unsigned number = choose_node(loads);
    Node& node = context_.nodes[number - 1];
    std::erase_if(loads, [&](const NodeLoad& load) { return load.node == number; });
    auto ports = take_ports(*slot.app, node.ports);
    if (!ports) continue;
    Placement at{.node = number, .host_ports = std::move(*ports), .container_host = 0};
    if (slot.app->network == NetworkMode::host) return at;
    if (const auto host = node.take_container()) {
      at.container_host = *host;
      return at;
    }
    give_back_ports(at.host_ports, node.ports);
  }
  return std::nullopt;
}

void Launcher::prepare(Slot& slot, Placement at) {
  Task& task = *(slot.task = Task{});
  task.id = task_id(slot.app->id, slot.uuid, ++slot.incarnation);
  task.container_id = make_uuid(rng_);
  task.at = std::move(at);
  Node& node = node_of(task);
  // As tasks see it: their node's /run is this folder.
  task.sandbox = "/run/muster-dev/tasks/" + task.id;
  fs::create_directories(outside(task));
  // One file per instance and not per task: what a crashed one said last is in it.
  slot.log = node.root + "/muster-dev/logs/" + task.id.substr(0, task.id.find(".instance-")) + "." +
             std::to_string(slot.index);
  task.environment = task_environment(*slot.app, task.at, task.id, task.sandbox, context_.path);
  task.started = Clock::now();
  context_.master.add_task(mesos_task(*slot.app, task.at, task.id, node.agent_id));
  context_.publish();
  if (task.at.container_host == 0) return;
  task.container = node.add_container(task.at.container_host);
  const MesosNetwork network = mesos_networks(*slot.app, task.at, true).front();
  const MesosTask info = mesos_task(*slot.app, task.at, "", "");
  for (const PortForward& forward : info.container->forwards) {
    node.host_ports.push_back(
        {.forward = forward, .container = container_address(task.at.node, task.at.container_host)});
  }
  if (!info.container->forwards.empty()) node.apply_host_ports();
}

asio::awaitable<bool> Launcher::launch(Slot& slot) {
  auto at = place(slot);
  if (!at) {
    slot.note = "no node has the ports it asks for";
    co_return false;
  }
  slot.note.clear();
  slot.exit_status.reset();
  slot.kill = slot.unhealthy_kill = false;
  std::string failure;
  try {
    prepare(slot, std::move(*at));
    Task& task = *slot.task;
    const Fd log{::open(slot.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)};
    ::dprintf(log.get(), "--- %s\n", task.id.c_str());
    task.pid = spawn({.argv = task_argv(*slot.app),
                      .environment = task.environment,
                      .directory = task.sandbox,
                      .entry = entry_of(task),
                      .output = log.get()});
    context_.reaper.watch(task.pid, [&slot](int status) {
      slot.exit_status = status;
      slot.wake.cancel();
    });
  } catch (const std::exception& error) {
    failure = error.what();
  }
  if (!failure.empty()) {
    context_.report(label(slot) + ": " + failure);
    slot.exit_status = 127 << 8;  // as a shell says: not found
    update(slot, MesosState::failed, {.message = failure});
    co_return true;
  }
  update(slot, MesosState::starting);
  asio::steady_timer moment{context_.executor, kStartingToRunning};
  co_await moment.async_wait(asio::use_awaitable);
  update(slot, MesosState::running);
  if (slot.app->health) tasks_.spawn(check_health(slot, slot.task->id));
  co_return true;
}

asio::awaitable<void> Launcher::until_over(Slot& slot) {
  bool asked = false;
  TimePoint kill_at = TimePoint::max();
  while (!slot.exit_status) {
    if (slot.kill && !asked) {
      asked = true;
      update(slot, MesosState::killing);
      signal_session(slot.task->pid, SIGTERM);
      kill_at = Clock::now() + in_clock(slot.app->kill_grace_seconds);
    }
    slot.wake.expires_at(kill_at);
    co_await slot.wake.async_wait(kNoThrow);
    if (Clock::now() >= kill_at && !slot.exit_status) {
      signal_session(slot.task->pid, SIGKILL);
      kill_at = TimePoint::max();
    }
  }
}

bool Launcher::finish(Slot& slot) {
  const int status = *slot.exit_status;
  Task& task = *slot.task;
  // What the command left running in its session goes with it, as Mesos destroys a container.
  if (task.pid > 0) signal_session(task.pid, SIGKILL);
  const std::string message = exit_message(status);
  const bool failed = !slot.kill;
  if (!is_terminal(task.state)) {
    MesosStatus last{.message = message};
    if (slot.unhealthy_kill) last.healthy = false;
    update(slot,
           slot.kill                                       ? MesosState::killed
           : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? MesosState::finished
                                                           : MesosState::failed,
           std::move(last));
  }
  context_.report(label(slot) +
                  (slot.unhealthy_kill ? " killed as unhealthy: "
                   : slot.kill         ? " killed: "
                                       : " ended: ") +
                  message);
  release(task);
  slot.task.reset();
  return failed || slot.unhealthy_kill;
}

std::string Launcher::outside(const Task& task) const {
  return context_.nodes[task.at.node - 1].root + task.sandbox.substr(std::strlen("/run"));
}

void Launcher::release(Task& task) {
  Node& node = node_of(task);
  std::error_code ignored;
  fs::remove_all(outside(task), ignored);
  give_back_ports(task.at.host_ports, node.ports);
  if (task.at.container_host == 0) return;
  const std::string address = container_address(task.at.node, task.at.container_host);
  const std::size_t removed = std::erase_if(
      node.host_ports, [&](const HostPort& port) { return port.container == address; });
  try {
    if (removed > 0) node.apply_host_ports();
  } catch (const std::exception& error) {
    context_.report(node.name() + ": " + error.what());
  }
  node.containers.erase(task.at.container_host);
}

void Launcher::update(Slot& slot, MesosState state, MesosStatus status) {
  Task& task = *slot.task;
  task.state = state;
  status.state = state;
  status.time = wall_now();
  status.container_id = task.container_id;
  status.networks = mesos_networks(*slot.app, task.at, state != MesosState::starting);
  status.executor_pid = task.pid;
  context_.master.update_task(task.id, std::move(status));
  context_.publish();
}

int Launcher::net_of(const Task& task) {
  return task.container ? task.container.get() : node_of(task).spaces.net.get();
}

Entry Launcher::entry_of(const Task& task) {
  Entry entry = node_of(task).spaces.entry();
  entry.net = net_of(task);
  return entry;
}

asio::awaitable<void> Launcher::rest(Slot& slot, double seconds) {
  const TimePoint until = Clock::now() + in_clock(seconds);
  while (slot.wanted && Clock::now() < until) {
    slot.wake.expires_at(until);
    co_await slot.wake.async_wait(kNoThrow);
  }
}

void Launcher::stop() {
  tasks_.stop();
}

asio::awaitable<void> Launcher::join() {
  return tasks_.join();
}

}  // namespace muster::dev
