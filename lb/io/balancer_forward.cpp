// The part of Balancer that looks after what other programs' firewalls do to forwarded packets.

#include <algorithm>
#include <spdlog/spdlog.h>
#include <utility>

#include <boost/asio/post.hpp>

#include "lb/io/balancer_impl.hpp"

namespace muster::lb {
namespace {

/// Between two looks. One lists some hundred rules in a millisecond, and other programs change
/// theirs one by one; each change of ours is news, too, and looked at once more.
constexpr Duration kFirewallPause{200};

std::string joined(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

}  // namespace

/// `anyway`: also if nothing else is to be accepted than the last time.
void Balancer::Impl::keep_forward(bool anyway) {
  if (forwarding_) return;
  forward::Acceptance acceptance;
  if (shared_.options.forward_accept) {
    acceptance = forward::accept(shared_.range_v4, shared_.range_v6, host_->programmer().applied());
  }
  acceptance.translated = capabilities_.driver != "ipvs";
  if (!anyway && accepted_ == acceptance) return;
  accepted_ = acceptance;
  forwarding_ = true;
  forward_due_.reset();
  last_forward_ = Clock::now();
  asio::post(worker_, [weak = weak_from_this(), control = control_, &driver = host_->driver(),
                       acceptance = std::move(acceptance)] {
    const auto outcome = driver.keep_forward(acceptance);
    asio::post(control, [weak, outcome] {
      if (const auto self = weak.lock()) self->forward_kept(outcome);
    });
  });
}

void Balancer::Impl::forward_later() {
  if (!shared_.options.forward_accept || forward_due_) return;
  forward_due_ = std::max<TimePoint>(Clock::now(), last_forward_ + kFirewallPause);
  wake_.cancel();
}

void Balancer::Impl::forward_kept(const Result<ForwardOutcome>& outcome) {
  forwarding_ = false;
  wake_.cancel();
  if (!outcome) {
    shared_.metrics.error("forward");
    shared_.log.warn("lb: the firewalls cannot be read: " + outcome.error().message());
    return;
  }
  for (const std::string& refused : outcome->refused) {
    shared_.metrics.error("forward");
    shared_.log.warn("lb: no rule that accepts VIP traffic could be put into the firewall chain " +
                     refused);
  }
  if (outcome->beyond > 0) {
    shared_.log.warn(
        "lb: more VIPs outside the range, or firewall chains, than are looked after: " +
        std::to_string(outcome->beyond) + " are left out (docs/limits.md)");
  }
  if (outcome->changed > 0 && outcome->standing.empty()) {
    spdlog::info("lb: the firewall rules that accepted VIP traffic are taken away");
  } else if (outcome->changed > 0) {
    spdlog::info("lb: the firewall chains {} accept VIP traffic now", joined(outcome->standing));
  }
  dropping_ = outcome->dropping;
  if (!dropping_.empty()) {
    shared_.log.warn(
        "lb: the firewall drops what it does not know of forwarded packets (" + joined(dropping_) +
        "), and so what containers with addresses of their own send to VIPs, unless it has "
        "a rule for their bridges; lb.forward_accept = true has muster keep one "
        "(docs/data-plane.md)");
  }
  shared_.metrics.accepting.Set(static_cast<double>(outcome->standing.size()));
  shared_.metrics.dropping.Set(static_cast<double>(dropping_.size()));
  // What has changed meanwhile: a Vip outside the range.
  if (shared_.options.forward_accept) keep_forward(false);
}

}  // namespace muster::lb
