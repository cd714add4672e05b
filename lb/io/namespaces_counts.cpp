// The part of Namespaces that counts what goes through them, for whoever looks.

#include <utility>

#include <boost/asio/post.hpp>

#include "lb/io/namespaces.hpp"

namespace muster::lb {
namespace {

/// Nobody has looked for so long: nobody does.
constexpr Duration kInterest{300'000};
/// After a reading all are left alone for so many times as long as it took: however many there are,
/// and of whatever size, it is one part in a hundred of a processor.
constexpr int kPause = 100;

}  // namespace

/// One at a time, in turn.
void Namespaces::count(TimePoint now) {
  if (counting_ || now < count_due_ || by_key_.empty()) return;
  const Duration age = shared_.options.reconcile_interval / 3;  // 10 s, as the node's own
  if (now - hooks_.last_look() > kInterest) {
    count_due_ = now + age;
    return;
  }
  auto next = by_key_.upper_bound(counted_);
  if (next == by_key_.end()) next = by_key_.begin();
  const auto served = next->second.lock();
  if (served->counted_at && now - *served->counted_at < age) {
    count_due_ = *served->counted_at + age;
    return;
  }
  counted_ = next->first;
  served->counted_at = now;
  counting_ = true;
  // As with reading: who departs meanwhile lives until this is done.
  asio::post(*worker_, [this, weak = weak_from_this(), control = shared_.control, served,
                        &driver = served->driver()] {
    const TimePoint began = Clock::now();
    read_counts(*served, driver);
    const auto took = std::chrono::ceil<Duration>(Clock::now() - began);
    asio::post(control, [weak, took] {
      const auto self = weak.lock();
      if (!self) return;
      self->counting_ = false;
      self->count_due_ = Clock::now() + took * kPause;
      self->hooks_.wake();
    });
  });
}

/// On the worker. One that cannot be read has counted nothing, as far as is known.
void Namespaces::read_counts(Served& served, Driver& driver) const {
  const auto counts = driver.read_counts();
  if (!counts) return;
  const ConnectionTotals growth = served.growth.update(*counts);
  if (!growth.empty()) hooks_.counted(growth);
}

}  // namespace muster::lb
