#include "daemon/changes.hpp"

#include <map>
#include <optional>
#include <utility>

namespace muster::daemon {
namespace {

constexpr std::chrono::seconds kSameSummary{5};  // one snapshot comes as several deltas

using Weights = std::map<std::pair<VipLabel, Endpoint>, std::uint16_t>;
using Lines = std::vector<std::pair<std::string, std::string>>;  // what, text

std::string text_of(const VipLabel& label) {
  const auto* name = std::get_if<VipName>(&label.host);
  const std::string port = std::to_string(label.port.number());
  const std::string protocol = '/' + std::string{to_string(label.protocol)};
  if (name != nullptr) return name->str() + ':' + port + protocol;
  return to_string(Endpoint{std::get<IpAddress>(label.host), label.port}) + protocol;
}

Weights weights_of(const Task* task) {
  Weights out;
  const auto weight = task == nullptr ? std::nullopt : backend_weight(*task);
  if (!weight) return out;
  for (const TaskPort& port : task->ports) {
    for (VipLabel label : port.vips) {
      label.policy = {};
      for (const Endpoint& endpoint : port.endpoints) out[{label, endpoint}] = *weight;
    }
  }
  return out;
}

std::string why_drains(const Task& task) {
  if (task.state == TaskState::killing) return "being killed";
  return task.health == Health::pending ? "waits for its first health check" : "unhealthy";
}

void describe(const Change<Task>& change, Lines& lines) {
  const Weights before = weights_of(change.before.get());
  const Weights after = weights_of(change.after.get());
  const auto about = [](const auto& key) {
    return text_of(key.first) + ": " + to_string(key.second);
  };
  for (const auto& [key, weight] : before) {
    if (!after.contains(key)) lines.emplace_back("left", about(key) + " left");
  }
  for (const auto& [key, weight] : after) {
    const auto old = before.find(key);
    if (weight > 0 && old == before.end()) {
      lines.emplace_back("joined", about(key) + " joined");
    } else if (weight > 0 && old->second == 0) {
      lines.emplace_back("back", about(key) + " takes connections");
    } else if (weight == 0 && (old == before.end() || old->second > 0)) {
      lines.emplace_back("draining",
                         about(key) + " gets no new connections: " + why_drains(*change.after));
    }
  }
  if (!before.empty() || !after.empty()) return;
  const bool ran = change.before != nullptr && is_serving(*change.before);
  const bool runs = change.after != nullptr && is_serving(*change.after);
  if (ran == runs) return;
  const Task& task = runs ? *change.after : *change.before;
  lines.emplace_back("other",
                     "task " + task.name + '.' + task.framework_name + (runs ? " runs" : " ended"));
}

void describe(const Change<VipAllocation>& change, Lines& lines) {
  const VipAllocation& vip = change.after != nullptr ? *change.after : *change.before;
  if (change.after == nullptr) {
    lines.emplace_back("other", vip.name.str() + " gave its address back");
  } else if (const auto& address = vip.v4 ? vip.v4 : vip.v6; address) {
    lines.emplace_back("other", vip.name.str() + " has the address " + address->to_string());
  }
}

void describe(const Change<Agent>& change, Lines& lines) {
  if ((change.before == nullptr) == (change.after == nullptr)) return;
  const Agent& agent = change.after != nullptr ? *change.after : *change.before;
  lines.emplace_back(
      "other", "agent " + agent.hostname + (change.after != nullptr ? " registered" : " is gone"));
}

void describe(const Change<Master>& change, Lines& lines) {
  const bool led = change.before != nullptr && change.before->leading;
  if (change.after == nullptr || !change.after->leading || led) return;
  lines.emplace_back("other", "the leading master is " + to_string(change.after->endpoint));
}

template <class T>
bool describe_all(const std::vector<Change<T>>& changes, Lines& lines) {
  for (const auto& change : changes) {
    describe(change, lines);
    if (lines.size() > RecentChanges::kMaxPerDelta) return false;
  }
  return true;
}

}  // namespace

void RecentChanges::take(const ClusterDelta& delta, WallTime at) {
  Lines lines;
  if (!describe_all(delta.masters, lines) || !describe_all(delta.agents, lines) ||
      !describe_all(delta.vips, lines) || !describe_all(delta.tasks, lines)) {
    return summarise(delta.tasks.size(), delta.vips.size(), at);
  }
  for (auto& [what, text] : lines) note(std::move(what), std::move(text), at);
}

void RecentChanges::note_members(std::vector<std::string> lines, WallTime at) {
  if (lines.size() > kMaxPerDelta) {
    return note("other", std::to_string(lines.size()) + " nodes changed at once", at);
  }
  for (std::string& line : lines) note("other", std::move(line), at);
}

void RecentChanges::note(std::string what, std::string text, WallTime at) {
  if (text.size() > kMaxText) {
    std::size_t end = kMaxText;  // not inside a character of UTF-8
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
    text.resize(end);
  }
  changes_.push_front({++last_id_, at, std::move(what), std::move(text)});
  if (changes_.size() > kMax) changes_.pop_back();
}

void RecentChanges::summarise(std::size_t tasks, std::size_t vips, WallTime at) {
  const bool grows = !changes_.empty() && changes_.front().id == summary_id_ &&
                     at - changes_.front().at < kSameSummary;
  summary_tasks_ = tasks + (grows ? summary_tasks_ : 0);
  summary_vips_ = vips + (grows ? summary_vips_ : 0);
  if (grows) changes_.pop_front();
  note("other",
       std::to_string(summary_tasks_) + " tasks and " + std::to_string(summary_vips_) +
           " names of VIPs changed at once",
       at);
  summary_id_ = last_id_;
}

}  // namespace muster::daemon
