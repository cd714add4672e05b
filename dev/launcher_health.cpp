#include <csignal>
#include <sys/wait.h>

#include <boost/asio/as_tuple.hpp>

#include "dev/launcher.hpp"

namespace muster::dev {

namespace asio = boost::asio;

namespace {

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
// Health checkers look whether their task is still there this often.
constexpr double kNapSeconds = 0.25;

}  // namespace

asio::awaitable<bool> Launcher::pause(Slot& slot, double seconds, std::string task_id) {
  const TimePoint until = Clock::now() + in_clock(seconds);
  asio::steady_timer nap{context_.executor};
  const auto there = [&] { return slot.task && slot.task->id == task_id && !slot.kill; };
  while (there() && Clock::now() < until) {
    nap.expires_at(std::min(until, Clock::now() + in_clock(kNapSeconds)));
    co_await nap.async_wait(asio::use_awaitable);
  }
  co_return there();
}

asio::awaitable<void> Launcher::check_health(Slot& slot, std::string task_id) {
  const AppHealthCheck& check = *slot.app->health;
  HealthState state{check};
  double wait = check.delay_seconds;
  for (;;) {
    const bool there = co_await pause(slot, wait, task_id);
    if (!there) co_return;
    wait = check.interval_seconds;
    const bool passed = co_await probe(slot);
    if (!slot.task || slot.task->id != task_id || slot.kill || slot.exit_status) co_return;
    const double age = std::chrono::duration<double>(Clock::now() - slot.task->started).count();
    const HealthState::Verdict verdict = state.result(passed, age);
    if (!verdict.report) continue;
    slot.task->healthy = verdict.healthy;
    if (check.by_mesos) {
      update(slot, MesosState::running,
             {.reason = StatusReason::health_check_updated, .healthy = verdict.healthy});
    }
    if (verdict.kill) {
      slot.unhealthy_kill = slot.kill = true;
      slot.wake.cancel();
      co_return;
    }
  }
}

asio::awaitable<bool> Launcher::probe(Slot& slot) {
  const AppHealthCheck& check = *slot.app->health;
  if (check.kind == HealthKind::command) {
    const bool passed = co_await probe_command(slot);
    co_return passed;
  }
  const std::uint16_t port = health_port(*slot.app, slot.task->at).value_or(0);
  int socket = -1;
  try {
    socket = socket_in(net_of(*slot.task)).release();
  } catch (const std::exception&) {
    co_return false;
  }
  const bool passed = co_await probe_port(socket, port, check.kind == HealthKind::http, check.path,
                                          check.timeout_seconds);
  co_return passed;
}

asio::awaitable<bool> Launcher::probe_command(Slot& slot) {
  const AppHealthCheck& check = *slot.app->health;
  std::optional<int> ended;
  asio::steady_timer limit{context_.executor};
  int pid = 0;
  try {
    pid = spawn({.argv = {"/bin/sh", "-c", check.command},
                 .environment = slot.task->environment,
                 .directory = slot.task->sandbox,
                 .entry = entry_of(*slot.task)});
  } catch (const std::exception&) {
    co_return false;
  }
  // Whatever ends this coroutine: the reaper must not call into a frame that is gone.
  struct Watch {
    Reaper& reaper;
    int pid;
    ~Watch() { reaper.forget(pid); }
  } const watch{context_.reaper, pid};
  limit.expires_after(in_clock(check.timeout_seconds));
  context_.reaper.watch(pid, [&](int status) {
    ended = status;
    limit.cancel();
  });
  co_await limit.async_wait(kNoThrow);
  if (!ended) signal_session(pid, SIGKILL);
  co_return ended&& WIFEXITED(*ended) && WEXITSTATUS(*ended) == 0;
}

}  // namespace muster::dev
