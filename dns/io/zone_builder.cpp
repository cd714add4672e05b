#include "dns/io/zone_builder.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <boost/asio/post.hpp>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

namespace muster::dns {
namespace {

// A large change is built in steps, so that what is done shows and stop() need not wait long.
// Publishing what a step touched costs about as much again.
constexpr std::chrono::milliseconds kStagePerStep{50};
constexpr std::chrono::milliseconds kStageUnasked{500};  // before anybody can ask: after a restart
constexpr std::size_t kManyNames = 10'000;               // putting them anew takes milliseconds
constexpr std::size_t kChangesPerLook = 16;              // between two looks at the clock
// Deltas that wait for a large one; what comes above joins the last of them.
constexpr std::size_t kMaxQueued = 256;

prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

// A client must never be given the address of a VIP that the kernel no longer serves.
bool withdraws(const ClusterDelta& delta) {
  return std::any_of(delta.vips.begin(), delta.vips.end(),
                     [](const auto& change) { return change.before != nullptr; });
}

bool is_small(const ClusterDelta& delta) {
  return delta.vips.size() <= ZoneBuilder::kInlineVips &&
         Catalog::changes_in(delta) - delta.vips.size() <= ZoneBuilder::kInlineChanges;
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

void append(ClusterDelta& to, const ClusterDelta& more) {
  to.complete = to.complete || more.complete;
  append(to.tasks, more.tasks);
  append(to.agents, more.agents);
  append(to.frameworks, more.frameworks);
  append(to.masters, more.masters);
  append(to.vips, more.vips);
}

}  // namespace

ZoneBuilder::ZoneBuilder(boost::asio::any_io_executor control, boost::asio::any_io_executor builder,
                         CatalogOptions options, prometheus::Registry& registry,
                         std::function<void()> changed)
    : control_{std::move(control)},
      builder_{std::move(builder)},
      catalog_{std::move(options)},
      changed_{std::move(changed)},
      problems_{prometheus::BuildCounter()
                    .Name("muster_dns_problems_total")
                    .Help("Things of the cluster that no DNS record could be made of")
                    .Register(registry)},
      names_{gauge(registry, "muster_dns_names", "Names served")},
      records_{gauge(registry, "muster_dns_records", "Records served")},
      serial_{gauge(registry, "muster_dns_serial", "Serial of the zones")},
      queued_{gauge(registry, "muster_dns_queued_changes",
                    "Changes of the cluster that DNS does not show yet")},
      flush_timer_{control_} {
  published();
}

ZoneBuilder::~ZoneBuilder() {
  stop();
}

void ZoneBuilder::apply(const ClusterDelta& delta) {
  if (!building_ && is_small(delta)) {
    catalog_.stage(delta, 0, Catalog::changes_in(delta));
    staged_complete_ = staged_complete_ || delta.complete;
    const TimePoint due = last_publish_ + kBatch;
    const bool now_complete = delta.complete && !snapshot_->complete();
    if (withdraws(delta)) return show_staged();
    if (now_complete || Clock::now() >= due) return flush();
    return flush_at(due);
  }
  if (queue_.size() < kMaxQueued) {
    queue_.push_back(delta);
  } else {
    append(queue_.back(), delta);
  }
  build_next();
  count_queued();
}

void ZoneBuilder::when_whole(std::function<void()> done) {
  if (building_) {
    when_whole_ = std::move(done);
    return;
  }
  serving_ = true;
  done();
}

void ZoneBuilder::stop() {
  {
    const std::scoped_lock lock{gate_->mutex};  // until a step that runs has ended
    gate_->closed = true;
  }
  flush_timer_.cancel();
}

// Everything that is staged becomes visible, at once if that does not take long.
void ZoneBuilder::flush() {
  if (catalog_.names() >= kManyNames && catalog_.publish_grows()) {
    queue_.emplace_back();
    return build_next();
  }
  show_staged();
}

void ZoneBuilder::show_staged() {
  flush_timer_.cancel();
  flushing_ = false;
  publish(std::exchange(staged_complete_, false));
  published();
}

void ZoneBuilder::flush_at(TimePoint due) {
  if (std::exchange(flushing_, true)) return;
  flush_timer_.expires_at(due);
  flush_timer_.async_wait([this, gate = gate_](const boost::system::error_code& error) {
    if (error || gate->closed || !flushing_) return;
    flush();
  });
}

void ZoneBuilder::build_next() {
  if (building_ || queue_.empty()) return;
  building_ = true;
  flush_timer_.cancel();  // the first step publishes what is staged
  flushing_ = false;
  job_ = std::move(queue_.front());
  queue_.pop_front();
  job_size_ = left_ = Catalog::changes_in(job_);
  post_step();
}

void ZoneBuilder::post_step() {
  boost::asio::post(builder_, [this, gate = gate_] {
    const std::scoped_lock lock{gate->mutex};
    if (gate->closed) return;
    const std::size_t left = step();
    boost::asio::post(control_, [this, gate, left] {
      if (!gate->closed) step_done(left);
    });
  });
}

// On the builder: stages of the job for some time and publishes. Returns what is left.
std::size_t ZoneBuilder::step() {
  const TimePoint end = Clock::now() + (serving_ ? kStagePerStep : kStageUnasked);
  std::size_t done = job_size_ - left_;
  while (done < job_size_ && Clock::now() < end) {
    catalog_.stage(job_, done, kChangesPerLook);
    done = std::min(job_size_, done + kChangesPerLook);
  }
  const bool whole = done == job_size_;
  const bool before = std::exchange(staged_complete_, false);
  publish(before || (whole && job_.complete));
  if (whole) job_ = {};
  return job_size_ - done;
}

void ZoneBuilder::step_done(std::size_t left) {
  left_ = left;
  published();
  if (left > 0) {
    post_step();
  } else {
    building_ = false;
    // What came meanwhile is not waited for: that may go on for long.
    if (when_whole_) when_whole(std::exchange(when_whole_, nullptr));
    build_next();
  }
  count_queued();
}

// Whoever has the catalog.
void ZoneBuilder::publish(bool complete) {
  const ZoneSnapshot* const before = catalog_.snapshot().get();
  const auto& after = catalog_.publish(complete);
  if (after.get() == before) return;
  cell_.publish(after);
  last_publish_ = Clock::now();
}

// On the control thread, with nothing under way at the builder.
void ZoneBuilder::published() {
  const bool another = std::exchange(snapshot_, catalog_.snapshot()) != catalog_.snapshot();
  for (const Problem& problem : catalog_.take_problems()) {
    problems_.Add({{"kind", problem.kind}}).Increment();
    log_.warn(problem.where + ": " + problem.what);
  }
  shown_names_ = catalog_.names();
  shown_records_ = catalog_.records();
  names_.Set(static_cast<double>(shown_names_));
  records_.Set(static_cast<double>(shown_records_));
  serial_.Set(static_cast<double>(snapshot_->serial()));
  if (another) changed_();
}

void ZoneBuilder::count_queued() {
  std::size_t waiting = building_ ? left_ : 0;
  for (const ClusterDelta& delta : queue_) waiting += Catalog::changes_in(delta);
  queued_.Set(static_cast<double>(waiting));
}

}  // namespace muster::dns
