#include <csignal>

#include "dev/launcher.hpp"

namespace muster::dev {

namespace {

std::string reachable_at(const App& app, const Placement& at) {
  std::string node_ports;
  std::string own_ports;
  for (std::size_t i = 0; i < app.ports.size(); ++i) {
    if (at.host_ports[i]) {
      node_ports += " " + std::to_string(*at.host_ports[i]);
    } else if (app.ports[i].container_port) {
      own_ports += " " + std::to_string(*app.ports[i].container_port);
    }
  }
  std::string out;
  if (!node_ports.empty()) out = node_address(at.node) + ":" + node_ports.substr(1);
  if (!own_ports.empty()) {
    if (!out.empty()) out += ", ";
    out += container_address(at.node, at.container_host) + ":" + own_ports.substr(1);
  }
  if (out.empty() && at.container_host != 0) {
    out = container_address(at.node, at.container_host);
  }
  return out;
}

}  // namespace

std::string Launcher::label(const Slot& slot) const {
  return slot.app->id + " #" + std::to_string(slot.index) +
         (slot.task ? " on " + context_.nodes[slot.task->at.node - 1].name() : "");
}

std::vector<Launcher::Row> Launcher::rows() const {
  std::vector<Row> out;
  for (const Running& running : apps_) {
    for (const Slot& slot : running.slots) {
      if (!slot.wanted && !slot.task) continue;
      Row& row = out.emplace_back();
      row.app = running.app.id;
      row.instance = slot.index;
      row.note = slot.note;
      row.state = "waiting";
      row.health = running.app.health ? "unknown" : "-";
      if (!slot.task) continue;
      row.state = std::string{to_string(slot.task->state)}.substr(5);  // without TASK_
      if (slot.task->healthy) row.health = *slot.task->healthy ? "healthy" : "unhealthy";
      row.node = slot.task->at.node;
      row.address = reachable_at(running.app, slot.task->at);
      row.task_id = slot.task->id;
      row.pid = slot.task->pid;
    }
  }
  return out;
}

bool Launcher::all_running(std::string& why) const {
  unsigned wanted = 0;
  unsigned good = 0;
  for (const Running& running : apps_) {
    wanted += running.wanted;
    for (const Slot& slot : running.slots) {
      if (!slot.wanted || !slot.task || slot.task->state != MesosState::running) continue;
      if (running.app.health && slot.task->healthy != true) continue;
      ++good;
    }
  }
  why = std::to_string(good) + "/" + std::to_string(wanted) + " tasks running";
  return good == wanted;
}

std::optional<std::string> Launcher::kill(Slot& slot, std::optional<int> signal) {
  if (!slot.task || slot.task->pid == 0) return std::nullopt;
  const std::string what = label(slot) + " (" + slot.task->id + ")";
  if (signal) {
    // To the session and not to its first process alone: killing a shell would leave its child.
    signal_session(slot.task->pid, *signal);
    return "sent signal " + std::to_string(*signal) + " to " + what;
  }
  slot.kill = true;
  slot.wake.cancel();
  return "killing " + what;
}

std::optional<std::string> Launcher::kill(const std::string& id, std::optional<int> signal) {
  for (Running& running : apps_) {
    for (Slot& slot : running.slots) {
      if (slot.task && slot.task->id == id) return kill(slot, signal);
    }
  }
  return std::nullopt;
}

std::optional<std::string> Launcher::kill(const std::string& app_id, unsigned instance,
                                          std::optional<int> signal) {
  for (Running& running : apps_) {
    if (running.app.id != app_id && running.app.id != "/" + app_id) continue;
    for (Slot& slot : running.slots) {
      if (slot.index == instance) return kill(slot, signal);
    }
  }
  return std::nullopt;
}

bool Launcher::scale(const std::string& app_id, unsigned instances) {
  for (Running& running : apps_) {
    if (running.app.id != app_id && running.app.id != "/" + app_id) continue;
    running.wanted = instances;
    ensure_slots(running);
    return true;
  }
  return false;
}

std::optional<std::string> Launcher::log_of(const std::string& which) const {
  const std::size_t hash = which.find('#');
  const std::string app = which.substr(0, hash);
  const unsigned index =
      hash == std::string::npos ? 1 : static_cast<unsigned>(std::atoi(which.c_str() + hash + 1));
  for (const Running& running : apps_) {
    const bool named = running.app.id == app || running.app.id == "/" + app;
    for (const Slot& slot : running.slots) {
      const bool this_one = slot.task && slot.task->id == which;
      if ((this_one || (named && slot.index == index)) && !slot.log.empty()) {
        return slot.log;
      }
    }
  }
  return std::nullopt;
}

}  // namespace muster::dev
