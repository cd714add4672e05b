#include <algorithm>
#include <chrono>
#include <functional>
#include <string_view>

#include "base/io/bulk.hpp"
#include "mesos/core/recordio.hpp"
#include "mesos/io/observer_impl.hpp"
#include "mesos/io/worker.hpp"

// Reading a master: its stream, or its /state again and again.

namespace muster::mesos {
namespace {

// A record of this size parses in about a tenth of a millisecond; a slice stays far under 20 ms.
constexpr std::size_t kMaxInlineRecord = std::size_t{64} * 1024;
constexpr std::size_t kEventsPerSlice = 16;
constexpr int kMissedHeartbeats = 5;  // as master.proto advises
constexpr double kMaxHeartbeatSeconds = 300;
constexpr Duration kForcedResubscribe{5 * 60'000};  // at most one in that time
constexpr unsigned kPollSlowdown = 4;  // of the time, a master spends at most a fifth on us

/// What a worker makes of one /state.
struct Polled {
  bool unchanged = false;
  Fingerprint fingerprint{};
  Result<Snapshot, ParseError> snapshot = ParseError::not_json;
};

}  // namespace

asio::awaitable<Ending> Observer::Impl::stream(Opened opened) {
  Ending ending;
  RecordQueue queue{control_};
  heartbeat_seconds_ = kDefaultHeartbeatSeconds;
  const auto peer = opened.session.peer();
  targets_.leads(opened.target);
  co_await either(read_records(opened.session, queue),
                  take_records(opened.target.url, peer, queue, ending));
  if (!ending.error.empty()) ending.error = sentence(opened.target.url, ending.error);
  co_return ending;
}

/// Empties the socket, whatever is being parsed. Ends only by cancellation, so that what is in
/// the queue is still taken after the stream has ended.
asio::awaitable<void> Observer::Impl::read_records(HttpSession& session, RecordQueue& queue) {
  RecordIoDecoder decoder{options_.max_response_bytes};
  std::vector<char> piece(kReadSize);
  std::string why;
  while (why.empty()) {
    const auto size = co_await session.read_some(piece, silence_limit());
    if (!size) {
      why = "the stream ended: " + size.error().message();
    } else if (*size == 0) {
      why = "the master closed the stream";
    } else {
      decoder.feed({piece.data(), *size});
      while (auto record = decoder.next()) {
        if (!queue.push(std::move(*record))) why = "the master sends faster than this node parses";
      }
      if (decoder.error()) why = std::string{to_string(*decoder.error())};
    }
  }
  queue.end(why);
  asio::steady_timer for_ever{control_, asio::steady_timer::time_point::max()};
  co_await for_ever.async_wait(asio::use_awaitable);
}

asio::awaitable<void> Observer::Impl::take_records(MasterUrl url, std::optional<Endpoint> peer,
                                                   RecordQueue& queue, Ending& ending) {
  std::size_t in_slice = 0;
  for (;;) {
    auto record = co_await queue.pop();
    if (!record) {
      ending.error = queue.reason();
      co_return;
    }
    if (leaving()) co_return;  // a former leader's last words
    const bool go_on = co_await take_record(std::move(*record), peer, url, ending);
    if (!go_on) co_return;
    if (++in_slice % kEventsPerSlice == 0) co_await yield_to_others(control_);
  }
}

/// Parses and applies one record. False: the stream is of no more use, `ending` says why.
asio::awaitable<bool> Observer::Impl::take_record(std::string record, std::optional<Endpoint> peer,
                                                  MasterUrl url, Ending& ending) {
  const std::size_t octets = record.size();
  const TimePoint begun = Clock::now();
  Result<Event, ParseError> event = ParseError::not_json;
  if (octets <= kMaxInlineRecord) {
    event = parse_event(record, state_.hosts());
  } else {
    auto parse = [text = std::move(record), hosts = state_.hosts()]() mutable {
      return consume_event(std::move(text), hosts);
    };
    // Each step by itself: GCC 12 destroys a lambda inside a co_await expression twice.
    auto parsing = on_worker<Result<Event, ParseError>>(workers_, std::move(parse));
    event = co_await std::move(parsing);
  }
  metrics_.parse_seconds.Observe(std::chrono::duration<double>(Clock::now() - begun).count());
  if (leaving()) co_return false;
  note_arrival();
  if (!event) {
    metrics_.count_problem("event", "an event is " + std::string{to_string(event.error())});
    if (!ending.learnt) ending.error = "the first record is no SUBSCRIBED event";
    co_return ending.learnt;  // later ones cost only themselves
  }
  metrics_.count_event(event->type);
  metrics_.count(event->problems);
  if (auto* snapshot = std::get_if<Snapshot>(&event->content)) {
    heartbeat_seconds_ = std::clamp(snapshot->heartbeat_seconds.value_or(kDefaultHeartbeatSeconds),
                                    0.1, kMaxHeartbeatSeconds);
    if (peer) leader_ = Master{*peer, url.host, true};
    take_snapshot(*snapshot, octets);
    retire(std::move(*snapshot));
    ending.learnt = true;
    metrics_.subscribed.Set(1);
    show("subscribed", to_string(url));
    co_return true;
  }
  if (!ending.learnt) {
    ending.error = "the first record is no SUBSCRIBED event";
    co_return false;
  }
  Problems problems;
  const TimePoint now = Clock::now();
  const bool was_recovering = state_.recovering();
  Observation observation = state_.take(*event, now, problems);
  metrics_.count(problems);
  if (!is_empty(observation) || was_recovering != state_.recovering()) {
    publish(std::move(observation));
  }
  const bool rested = !forced_ || now - *forced_ >= kForcedResubscribe;
  if (std::holds_alternative<Heartbeat>(event->content) && rested && state_.needs_snapshot(now)) {
    forced_ = now;
    ending.error = "a task's agent or framework stayed unknown; subscribing anew";
    co_return false;
  }
  co_return true;
}

Duration Observer::Impl::silence_limit() const {
  if (options_.silence_limit) return *options_.silence_limit;
  return Duration{static_cast<std::int64_t>(heartbeat_seconds_ * 1000 * kMissedHeartbeats)};
}

asio::awaitable<Ending> Observer::Impl::poll(Target target, std::optional<TimePoint> until) {
  bool learnt = false;
  polled_.reset();  // who asks anew is told all
  for (;;) {
    const TimePoint begun = Clock::now();
    Ending ending = co_await poll_once(target);
    ending.learnt = ending.learnt || learnt;
    learnt = ending.learnt;
    if (!ending.error.empty()) co_return ending;
    if (until && Clock::now() >= *until) co_return ending;
    const auto taken = std::chrono::duration_cast<Duration>(Clock::now() - begun);
    co_await sleep_for(std::max(options_.poll_interval, taken * kPollSlowdown));
    target = targets_.next();
  }
}

asio::awaitable<Ending> Observer::Impl::poll_once(Target target) {
  HttpRequest request;
  request.target = "/state";
  auto opened = co_await open(std::move(target), std::move(request));
  if (!opened) co_return Ending{.error = opened.error()};
  const MasterUrl url = opened->target.url;
  if (opened->head.status != 200) {
    std::string error = co_await refusal(std::move(*opened));
    co_return Ending{.error = std::move(error)};
  }
  std::string body;
  const std::string broken = co_await read_body(*opened, body);
  if (!broken.empty()) co_return Ending{.error = sentence(url, broken)};
  const TimePoint begun = Clock::now();
  auto parse = [text = std::move(body), hosts = state_.hosts(), before = polled_]() mutable {
    Polled polled;
    polled.fingerprint = Fingerprint::of(text);
    polled.unchanged = before == polled.fingerprint;
    if (!polled.unchanged) polled.snapshot = consume_state(std::move(text), hosts);
    return polled;
  };
  auto parsing = on_worker<Polled>(workers_, std::move(parse));
  Polled polled = co_await std::move(parsing);
  if (leaving()) co_return Ending{};
  if (polled.unchanged) {
    metrics_.unchanged_states.Increment();
    note_arrival();
    status_.last_snapshot = Clock::now();
    status_.last_error.clear();
    targets_.leads(opened->target);
    show("polling", to_string(url));
    co_return Ending{.learnt = true};
  }
  metrics_.parse_seconds.Observe(std::chrono::duration<double>(Clock::now() - begun).count());
  if (!polled.snapshot) {
    const std::string what{to_string(polled.snapshot.error())};
    metrics_.count_problem("state", sentence(url, what));
    co_return Ending{.error = sentence(url, "/state is " + what)};
  }
  if (polled.snapshot->not_leading) {
    targets_.forget_leader();
    co_return Ending{.error = sentence(url, "this master does not lead, and does not redirect")};
  }
  take_polled(*opened, *polled.snapshot, polled.fingerprint.octets);
  polled_ = polled.fingerprint;
  retire(std::move(*polled.snapshot));
  co_return Ending{.learnt = true};
}

void Observer::Impl::take_polled(Opened& opened, Snapshot& snapshot, std::size_t octets) {
  note_arrival();
  targets_.leads(opened.target);
  const MasterUrl& url = opened.target.url;
  if (const auto& named = snapshot.observation.masters; named && !named->empty()) {
    leader_ = named->front();
  } else if (const auto peer = opened.session.peer()) {
    leader_ = Master{*peer, url.host, true};
  }
  take_snapshot(snapshot, octets);
  show("polling", to_string(url));
}

}  // namespace muster::mesos
