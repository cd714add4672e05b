// The part of Namespaces that serves those that are there: turns, what is due, and what they tell.

#include <algorithm>
#include <array>
#include <sys/epoll.h>
#include <unistd.h>
#include <utility>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/io/bulk.hpp"
#include "lb/io/namespaces.hpp"

namespace muster::lb {
namespace {

/// How long a turn may hold the control thread. A step that has begun takes some 3 ms more.
constexpr Duration kTurn{4};
/// Changes that wait for a namespace's turn; beyond, they are taken in at once.
constexpr std::size_t kMaxPending = 1024;
/// One that has told something is not listened to for so long: who shouts does not hold us up.
constexpr Duration kDeaf{20};

/// What of a namespace became readable: its key, and one bit.
constexpr std::uint64_t kMonitor = 0;
constexpr std::uint64_t kUnanswered = 1;

}  // namespace

void Namespaces::take(std::span<const Vip> vips, bool complete) {
  if (served_.empty()) return;
  announce(std::make_shared<const Change>(Change{{vips.begin(), vips.end()}, true, complete}));
}

void Namespaces::touch(std::span<const Vip> vips) {
  if (served_.empty() || vips.empty()) return;
  announce(std::make_shared<const Change>(Change{{vips.begin(), vips.end()}, false, false}));
}

void Namespaces::announce(std::shared_ptr<const Change> change) {
  for (const auto& [id, served] : served_) {
    served->pending.push_back(change);
    if (served->pending.size() > kMaxPending) {
      while (!served->pending.empty()) take_in(*served);
    }
    enqueue(*served);
  }
}

void Namespaces::take_in(Served& served) {
  const std::shared_ptr<const Change> change = std::move(served.pending.front());
  served.pending.pop_front();
  if (change->declared) {
    served.programmer().take(change->vips, change->complete);
  } else {
    served.programmer().touch(change->vips);
  }
}

void Namespaces::trust() {
  doubting_ = false;
  for (const auto& [id, served] : served_) {
    if (served->programmer().trust()) enqueue(*served);
  }
}

void Namespaces::enqueue(Served& served) {
  if (served.queued) return;
  served.queued = true;
  queue_.push_back(std::static_pointer_cast<Served>(served.shared_from_this()));
  turn_later();
}

void Namespaces::turn_later() {
  if (turn_posted_) return;
  turn_posted_ = true;
  post_bulk(shared_.control, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->turn_posted_ = false;
    self->turn();
  });
}

void Namespaces::turn() {
  const TimePoint began = Clock::now();
  while (!queue_.empty() && !hooks_.host_busy()) {
    const auto served = queue_.front().lock();
    queue_.pop_front();
    if (!served || served->retired()) continue;
    served->queued = false;
    if (turn_of(*served)) enqueue(*served);
    if (Clock::now() - began >= kTurn) break;
  }
  if (!queue_.empty()) turn_later();
}

/// One step; true: there is more to do.
bool Namespaces::turn_of(Served& served) {
  if (!served.pending.empty()) take_in(served);
  const Kernel::Turn done = served.step();
  served.programmer().take_counts();
  if (done == Kernel::Turn::blocked) return false;  // until it is read
  if (done == Kernel::Turn::more || !served.pending.empty()) return true;
  if (served.may_settle()) served.settle();
  return false;
}

void Namespaces::listen(Served& served) {
  epoll_event interest{};
  interest.events = EPOLLIN | EPOLLONESHOT;
  interest.data.u64 = served.key << 1 | kMonitor;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, served.driver().monitor_fd(), &interest);
  if (served.driver().unanswered_fd() < 0) return;
  interest.data.u64 = served.key << 1 | kUnanswered;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, served.driver().unanswered_fd(), &interest);
}

void Namespaces::deafen(Served& served) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, served.driver().monitor_fd(), nullptr);
  if (served.driver().unanswered_fd() < 0) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, served.driver().unanswered_fd(), nullptr);
}

void Namespaces::hear(std::uint64_t what) {
  const auto found = by_key_.find(what >> 1);
  const auto served = found == by_key_.end() ? nullptr : found->second.lock();
  if (!served) return;
  Driver& driver = served->driver();
  if ((what & 1) == kUnanswered) {
    hooks_.unanswered(driver.take_unanswered());
  } else {
    const bool ours = driver.drain_monitor();
    driver.take_firewall_change();
    if (ours) served->foreign_change();
  }
  deaf_.emplace_back(Clock::now() + kDeaf, what);
}

void Namespaces::hear() {
  std::array<epoll_event, 16> events{};
  const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), 0);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t what = events[static_cast<std::size_t>(i)].data.u64;
    if (what != 0) {
      hear(what);
      continue;
    }
    folder_watch_.drain();
    look_soon();
  }
  if (count > 0) hooks_.wake();
}

asio::awaitable<void> Namespaces::watch() {
  asio::posix::stream_descriptor descriptor{shared_.control, ::dup(epoll_.get())};
  for (;;) {
    co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
    hear();
  }
}

void Namespaces::listen_again(std::uint64_t what) {
  const auto found = by_key_.find(what >> 1);
  const auto served = found == by_key_.end() ? nullptr : found->second.lock();
  if (!served) return;
  epoll_event interest{};
  interest.events = EPOLLIN | EPOLLONESHOT;
  interest.data.u64 = what;
  Driver& driver = served->driver();
  const int fd = (what & 1) == kUnanswered ? driver.unanswered_fd() : driver.monitor_fd();
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &interest);
}

void Namespaces::tick(TimePoint now) {
  while (!deaf_.empty() && deaf_.front().first <= now) {
    listen_again(deaf_.front().second);
    deaf_.pop_front();
  }
  if (!looking_ && now >= look_due_) look(now);
  count(now);
  for (const auto& [id, served] : served_) served->tick(now);
}

TimePoint Namespaces::next_due(TimePoint now) const {
  TimePoint next = looking_ ? now + Duration{30'000} : look_due_;
  if (!deaf_.empty()) next = std::min(next, deaf_.front().first);
  if (!counting_ && !served_.empty()) next = std::min(next, count_due_);
  for (const auto& [id, served] : served_) next = std::min(next, served->next_due(now));
  return next;
}

}  // namespace muster::lb
