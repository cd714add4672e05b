#include "mesos/io/observer.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <openssl/evp.h>
#include <set>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>

#include "base/assert.hpp"
#include "base/io/resolver.hpp"
#include "base/rng.hpp"
#include "mesos/core/master_state.hpp"
#include "mesos/core/recordio.hpp"
#include "mesos/io/http_session.hpp"
#include "mesos/io/observer_metrics.hpp"
#include "mesos/io/record_queue.hpp"
#include "mesos/io/redirect.hpp"
#include "mesos/io/worker.hpp"

namespace muster::mesos {
namespace asio = boost::asio;
namespace {

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kMaxRedirects = 5;
// A record of this size parses in about a tenth of a millisecond; a slice stays far under 20 ms.
constexpr std::size_t kMaxInlineRecord = 64 * 1024;
constexpr std::size_t kEventsPerSlice = 16;
constexpr std::size_t kReadSize = 64 * 1024;
constexpr std::size_t kMaxErrorBody = 200;
constexpr Duration kMaxTransfer{10 * 60'000};  // of one /state, however slowly it trickles
constexpr int kMissedHeartbeats = 5;           // as master.proto advises
constexpr double kDefaultHeartbeatSeconds = 15;
constexpr double kMaxHeartbeatSeconds = 300;
// A master that subscribes us and hangs up at once must not be asked for its state four times a
// second.
constexpr Duration kStable{10'000};
constexpr Duration kStreamRetry{5 * 60'000};        // after polling because streaming was refused
constexpr Duration kForcedResubscribe{5 * 60'000};  // at most one in that time
constexpr Duration kResolveLimit{5'000};
constexpr Duration kResolveRetry{60'000};
// A starting master answers 404 to everything for some milliseconds.
constexpr int kNotFoundBeforePolling = 3;
constexpr unsigned kPollSlowdown = 4;  // of the time, a master spends at most a fifth on us

std::string sentence(const MasterUrl& url, std::string_view what) {
  return to_string(url) + ": " + std::string{what};
}

/// Both run; the first to end ends the other. A bug in either surfaces as itself.
asio::awaitable<void> either(asio::awaitable<void> one, asio::awaitable<void> other) {
  const auto executor = co_await asio::this_coro::executor;
  auto [order, first, second] =
      co_await asio::experimental::make_parallel_group(
          asio::co_spawn(executor, std::move(one), asio::deferred),
          asio::co_spawn(executor, std::move(other), asio::deferred))
          .async_wait(asio::experimental::wait_for_one{}, asio::use_awaitable);
  const auto rethrow_bug = [](const std::exception_ptr& failure) {
    if (!failure) return;
    try {
      std::rethrow_exception(failure);
    } catch (const boost::system::system_error& error) {
      if (error.code() != asio::error::operation_aborted) throw;
    }
  };
  rethrow_bug(first);
  rethrow_bug(second);
}

asio::awaitable<void> sleep_for(Duration time) {
  asio::steady_timer timer{co_await asio::this_coro::executor, time};
  co_await timer.async_wait(kToken);
}

/// Why asking one master came to an end.
struct Ending {
  std::string error{};  // one sentence; empty: nothing is wrong, ask again
  bool learnt = false;  // a snapshot came from it
};

}  // namespace

class Observer::Impl {
 public:
  Impl(asio::any_io_executor control, asio::thread_pool& workers, ObserverOptions options,
       prometheus::Registry& registry, OnObservation on_observation)
      : control_{std::move(control)},
        workers_{workers},
        options_{std::move(options)},
        on_observation_{std::move(on_observation)},
        metrics_{registry},
        resolver_{control_},
        resolve_now_{control_, asio::steady_timer::time_point::max()},
        change_{control_, asio::steady_timer::time_point::max()},
        rng_{options_.seed},
        targets_{options_.masters} {
    MUSTER_ASSERT(!options_.masters.empty());
    status_.state = "waiting";
  }

  asio::awaitable<void> run() { co_await either(watch_masters(), resolve_names()); }

  const Status& status() const { return status_; }

  void set_active(bool active) {
    if (active == active_) return;
    active_ = active;
    change_.cancel();
  }
  void restart() {
    restart_ = true;
    change_.cancel();
  }

 private:
  struct Opened {
    HttpSession session;
    HttpHead head;
    Target target;
  };

  asio::awaitable<void> watch_masters();
  asio::awaitable<void> visit_next(Ending& ending);
  asio::awaitable<void> until_changed();
  asio::awaitable<Ending> visit(Target target);
  asio::awaitable<Result<Opened, std::string>> open(Target target, HttpRequest request);
  asio::awaitable<Result<Opened, std::string>> open_once(Target target, HttpRequest request);
  asio::awaitable<std::string> load_certificates();
  asio::awaitable<std::string> refusal(Opened opened);
  asio::awaitable<Ending> stream(Opened opened);
  asio::awaitable<void> read_records(HttpSession& session, RecordQueue& queue);
  asio::awaitable<void> take_records(MasterUrl url, std::optional<Endpoint> peer,
                                     RecordQueue& queue, Ending& ending);
  asio::awaitable<bool> take_record(std::string record, std::optional<Endpoint> peer, MasterUrl url,
                                    Ending& ending);
  asio::awaitable<Ending> poll(Target target, std::optional<TimePoint> until);
  asio::awaitable<Ending> poll_once(Target target);
  asio::awaitable<std::string> read_body(Opened& opened, std::string& body);
  asio::awaitable<void> resolve_names();

  std::string authorization(const Target& target) const;
  void publish(Observation observation);
  void take_snapshot(Snapshot& snapshot, std::size_t octets);
  void retire(Snapshot snapshot);
  std::vector<Master> all_masters(std::optional<Master> leader) const;
  void show(std::string_view state, const std::string& master);
  void fail(const std::string& error);
  void note_arrival();
  Duration backoff();
  Duration silence_limit() const;

  asio::any_io_executor control_;
  asio::thread_pool& workers_;
  const ObserverOptions options_;
  OnObservation on_observation_;
  ObserverMetrics metrics_;
  Resolver resolver_;
  asio::steady_timer resolve_now_;  // cancelled to wake resolve_names()
  asio::steady_timer change_;       // cancelled when active_ or restart_ has changed
  bool active_ = true;
  bool restart_ = false;
  bool names_are_new_ = false;
  asio::ssl::context tls_{asio::ssl::context::tls_client};
  bool certificates_loaded_ = false;
  Rng rng_;
  MasterState state_;
  Status status_;
  Targets targets_;
  std::map<std::string, std::vector<IpAddress>> master_addresses_;  // of names in the list
  std::optional<Master> leader_;
  std::vector<Master> masters_;  // as last published
  double heartbeat_seconds_ = kDefaultHeartbeatSeconds;
  std::size_t rounds_ = 0;  // of the whole list, without success
  int not_found_ = 0;
  std::optional<TimePoint> forced_;
};

// ---------------------------------------------------------------------------------------------
// Which master to ask, and when.

asio::awaitable<void> Observer::Impl::watch_masters() {
  for (;;) {
    restart_ = false;
    if (!active_) {
      show("idle", {});
      status_.last_error.clear();
      co_await until_changed();
      continue;
    }
    const TimePoint begun = Clock::now();
    Ending ending;
    co_await either(visit_next(ending), until_changed());
    metrics_.subscribed.Set(0);
    metrics_.reconnects.Increment();
    if (!active_ || restart_) continue;
    if (!ending.error.empty()) fail(ending.error);
    const bool stable = ending.learnt && Clock::now() - begun >= kStable;
    if (stable) rounds_ = 0;
    // The list is gone through without a pause: one of them leads.
    const bool round_is_over = targets_.failed(ending.learnt);
    if (!round_is_over && !ending.learnt) continue;
    show("waiting", {});
    co_await either(sleep_for(backoff()), until_changed());
    if (!stable) ++rounds_;
  }
}

asio::awaitable<void> Observer::Impl::visit_next(Ending& ending) {
  ending = co_await visit(targets_.next());
}

asio::awaitable<void> Observer::Impl::until_changed() {
  const bool active = active_;
  // Something else may have cancelled the wait, or ended it before it began.
  while (active == active_ && !restart_) co_await change_.async_wait(kToken);
}

/// Exponential from backoff_min to backoff_max, then anywhere in its upper half.
Duration Observer::Impl::backoff() {
  const auto doublings = std::min<std::size_t>(rounds_, 16);
  const auto full = std::min(options_.backoff_max.count(),
                             options_.backoff_min.count() * (std::int64_t{1} << doublings));
  const auto half = static_cast<std::uint64_t>(std::max<std::int64_t>(full / 2, 0));
  return Duration{static_cast<std::int64_t>(half + rng_.below(half + 1))};
}

asio::awaitable<Ending> Observer::Impl::visit(Target target) {
  if (options_.mode == ObserverOptions::Mode::poll) {
    co_return co_await poll(std::move(target), std::nullopt);
  }
  HttpRequest subscribe;
  subscribe.post = true;
  subscribe.target = "/api/v1";
  subscribe.body = R"({"type":"SUBSCRIBE"})";
  auto opened = co_await open(target, std::move(subscribe));
  if (!opened) co_return Ending{.error = opened.error()};
  const unsigned status = opened->head.status;
  const Target found = opened->target;
  if (status == 200) {
    not_found_ = 0;
    co_return co_await stream(std::move(*opened));
  }
  if (status == 404 && ++not_found_ < kNotFoundBeforePolling) {
    co_return Ending{.error = sentence(found.url, "404: not ready, or no Mesos master")};
  }
  if (!refuses_streaming(status)) {
    std::string error = co_await refusal(std::move(*opened));
    co_return Ending{.error = std::move(error)};
  }
  not_found_ = 0;
  metrics_.count_problem("streaming_refused",
                         sentence(found.url, "SUBSCRIBE was refused with " +
                                                 std::to_string(status) + "; polling /state"));
  opened = std::string{};  // closes the connection
  co_return co_await poll(found, Clock::now() + kStreamRetry);
}

/// Asks, and follows redirects to the leader; a POST is sent again as it was.
asio::awaitable<Result<Observer::Impl::Opened, std::string>> Observer::Impl::open(
    Target target, HttpRequest request) {
  for (std::size_t hop = 0; hop <= kMaxRedirects; ++hop) {
    auto opened = co_await open_once(target, request);
    if (!opened || !is_redirect(opened->head.status)) co_return opened;
    auto next = targets_.redirect(target, opened->head.location);
    if (!next) co_return sentence(target.url, next.error());
    target = std::move(*next);
  }
  targets_.forget_leader();
  co_return sentence(target.url, "more than 5 redirects; do the masters agree on who leads?");
}

asio::awaitable<Result<Observer::Impl::Opened, std::string>> Observer::Impl::open_once(
    Target target, HttpRequest request) {
  const MasterUrl& url = target.url;
  show("connecting", to_string(url));
  if (url.tls) {
    std::string error = co_await load_certificates();
    if (!error.empty()) co_return error;
  }
  auto addresses = co_await resolver_.resolve(url.host, options_.connect_timeout);
  if (!addresses) {
    co_return sentence(url, "cannot find the address: " + addresses.error().message());
  }
  if (!IpAddress::parse(url.host) && target.configured) {
    master_addresses_.insert_or_assign(url.host, *addresses);
  }
  HttpSession session{control_, url, tls_};
  const auto connected = co_await session.connect(*addresses, options_.connect_timeout);
  if (!connected) {
    co_return sentence(url, "cannot connect: " + connected.error().message());
  }
  request.authorization = authorization(target);
  const auto head = co_await session.ask(std::move(request), options_.response_timeout);
  if (!head) co_return sentence(url, "no answer: " + head.error().message());
  co_return Opened{std::move(session), *head, std::move(target)};
}

/// Once, before TLS is first used: reading the system's certificates takes tens of milliseconds.
asio::awaitable<std::string> Observer::Impl::load_certificates() {
  if (certificates_loaded_) co_return std::string{};
  auto load = [this] {
    ErrorCode error;
    if (options_.ca_file.empty()) {
      tls_.set_default_verify_paths(error);
    } else {
      tls_.load_verify_file(options_.ca_file, error);
    }
    return error ? "ca_file " + options_.ca_file + ": " + error.message() : std::string{};
  };
  auto loading = on_worker<std::string>(workers_, std::move(load));
  std::string error = co_await std::move(loading);
  certificates_loaded_ = error.empty();
  co_return error;
}

/// One sentence about an answer that is of no use.
asio::awaitable<std::string> Observer::Impl::refusal(Opened opened) {
  const unsigned status = opened.head.status;
  std::string what = std::to_string(status);
  if (status == 401) {
    const bool sent = !authorization(opened.target).empty();
    const bool has = sent || !options_.basic_user.empty() || !options_.bearer_token.empty();
    what += sent  ? ": the master does not accept these credentials"
            : has ? ": the master wants credentials, which are kept for the masters in the list"
                  : ": the master wants credentials and none are configured";
    if (!opened.head.www_authenticate.empty()) {
      what += " (" + in_quotes(opened.head.www_authenticate) + ")";
    }
  } else {
    std::array<char, kMaxErrorBody> body{};
    const auto size = co_await opened.session.read_some(body, options_.connect_timeout);
    if (size && *size > 0) what += ": " + in_quotes(std::string_view{body.data(), *size});
  }
  co_return sentence(opened.target.url, what);
}

std::string Observer::Impl::authorization(const Target& target) const {
  if (!target.trusted) return {};
  if (!options_.bearer_token.empty()) return "Bearer " + options_.bearer_token;
  if (options_.basic_user.empty() && options_.basic_secret.empty()) return {};
  const std::string plain = options_.basic_user + ':' + options_.basic_secret;
  std::string encoded(4 * (plain.size() / 3 + 1) + 1, '\0');  // and EVP's closing zero
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(plain.data()),
                                   static_cast<int>(plain.size()));
  encoded.resize(static_cast<std::size_t>(size));
  return "Basic " + encoded;  // Mesos matches the scheme with its case
}

// ---------------------------------------------------------------------------------------------
// The stream.

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
    const bool go_on = co_await take_record(std::move(*record), peer, url, ending);
    if (!go_on) co_return;
    if (++in_slice % kEventsPerSlice == 0) co_await asio::post(control_, asio::use_awaitable);
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

// ---------------------------------------------------------------------------------------------
// Polling.

asio::awaitable<Ending> Observer::Impl::poll(Target target, std::optional<TimePoint> until) {
  bool learnt = false;
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
  const std::size_t octets = body.size();
  const TimePoint begun = Clock::now();
  auto parse = [text = std::move(body), hosts = state_.hosts()]() mutable {
    return consume_state(std::move(text), hosts);
  };
  auto parsing = on_worker<Result<Snapshot, ParseError>>(workers_, std::move(parse));
  auto snapshot = co_await std::move(parsing);
  metrics_.parse_seconds.Observe(std::chrono::duration<double>(Clock::now() - begun).count());
  if (!snapshot) {
    metrics_.count_problem("state", sentence(url, to_string(snapshot.error())));
    co_return Ending{.error =
                         sentence(url, "/state is " + std::string{to_string(snapshot.error())})};
  }
  if (snapshot->not_leading) {
    targets_.forget_leader();
    co_return Ending{.error = sentence(url, "this master does not lead, and does not redirect")};
  }
  note_arrival();
  targets_.leads(opened->target);
  if (const auto& named = snapshot->observation.masters; named && !named->empty()) {
    leader_ = named->front();
  } else if (const auto peer = opened->session.peer()) {
    leader_ = Master{*peer, url.host, true};
  }
  take_snapshot(*snapshot, octets);
  retire(std::move(*snapshot));
  show("polling", to_string(url));
  co_return Ending{.learnt = true};
}

/// Reads all of the answer; returns what went wrong, or nothing.
asio::awaitable<std::string> Observer::Impl::read_body(Opened& opened, std::string& body) {
  const std::string too_large = "the answer is larger than max_response_bytes";
  const auto length = opened.head.content_length;
  if (length && *length > options_.max_response_bytes) co_return too_large;
  body.reserve(std::min<std::size_t>(length.value_or(0), RecordIoDecoder::kMaxReserve));
  std::vector<char> piece(kReadSize);
  const TimePoint begun = Clock::now();
  for (;;) {
    const auto size = co_await opened.session.read_some(piece, options_.response_timeout);
    if (!size) co_return "the answer broke off: " + size.error().message();
    if (*size == 0) co_return std::string{};
    if (body.size() + *size > options_.max_response_bytes) co_return too_large;
    if (Clock::now() - begun > kMaxTransfer) co_return std::string{"the answer takes too long"};
    body.append(piece.data(), *size);
  }
}

// ---------------------------------------------------------------------------------------------
// What is learnt.

void Observer::Impl::take_snapshot(Snapshot& snapshot, std::size_t octets) {
  metrics_.count(snapshot.problems);
  metrics_.snapshot_bytes.Set(static_cast<double>(octets));
  const TimePoint now = Clock::now();
  Observation observation = state_.take(snapshot, now);
  masters_ = all_masters(leader_);
  observation.masters = masters_;
  status_.last_snapshot = now;
  status_.last_error.clear();
  publish(std::move(observation));
  names_are_new_ = true;
  resolve_now_.cancel();
}

/// The former tables of a large cluster take long to destroy.
void Observer::Impl::retire(Snapshot snapshot) {
  asio::post(workers_, [former = std::move(snapshot)]() mutable { former = {}; });
}

void Observer::Impl::publish(Observation observation) {
  status_.tasks = state_.tasks();
  status_.agents = state_.agents();
  status_.frameworks = state_.frameworks();
  metrics_.tasks.Set(static_cast<double>(state_.tasks()));
  metrics_.agents.Set(static_cast<double>(state_.agents()));
  metrics_.frameworks.Set(static_cast<double>(state_.frameworks()));
  metrics_.waiting_tasks.Set(static_cast<double>(state_.waiting()));
  on_observation_(std::move(observation));
}

void Observer::Impl::note_arrival() {
  status_.last_event = Clock::now();
  const auto unix_time = std::chrono::system_clock::now().time_since_epoch();
  metrics_.last_event_timestamp_seconds.Set(std::chrono::duration<double>(unix_time).count());
}

/// The leader and all that are configured, by endpoint, each once.
std::vector<Master> Observer::Impl::all_masters(std::optional<Master> leader) const {
  std::map<Endpoint, Master> out;
  for (const MasterUrl& url : options_.masters) {
    std::vector<IpAddress> addresses;
    if (const auto literal = IpAddress::parse(url.host)) {
      addresses.push_back(*literal);
    } else if (const auto known = master_addresses_.find(url.host);
               known != master_addresses_.end()) {
      addresses = known->second;
    }
    for (const IpAddress& address : addresses) {
      const Endpoint endpoint{address, url.port};
      out.emplace(endpoint, Master{endpoint, url.host, false});
    }
  }
  if (leader) out.insert_or_assign(leader->endpoint, *leader);
  std::vector<Master> masters;
  for (auto& [endpoint, master] : out) masters.push_back(std::move(master));
  return masters;
}

/// Finds the addresses of agents and masters that are known by name only, and says them later.
asio::awaitable<void> Observer::Impl::resolve_names() {
  for (;;) {
    resolve_now_.expires_after(kResolveRetry);
    if (!names_are_new_) co_await resolve_now_.async_wait(kToken);
    names_are_new_ = false;
    for (const std::string& host : state_.unresolved_hosts()) {
      const auto addresses = co_await resolver_.resolve(host, kResolveLimit);
      if (!addresses) {
        metrics_.count_problem("address", "agent host " + in_quotes(host) +
                                              " has no address: " + addresses.error().message());
        continue;
      }
      Observation observation = state_.resolved(host, *addresses);
      if (!is_empty(observation)) publish(std::move(observation));
    }
    for (const MasterUrl& url : options_.masters) {
      if (IpAddress::parse(url.host)) continue;
      const auto addresses = co_await resolver_.resolve(url.host, kResolveLimit);
      if (addresses) master_addresses_.insert_or_assign(url.host, *addresses);
    }
    auto masters = all_masters(leader_);
    if (status_.last_snapshot == TimePoint{} || masters == masters_) continue;
    masters_ = masters;
    Observation observation;
    observation.recovering = state_.recovering();
    observation.masters = std::move(masters);
    publish(std::move(observation));
  }
}

void Observer::Impl::show(std::string_view state, const std::string& master) {
  status_.state = state;
  status_.master = master.empty() ? master : master.substr(master.find("//") + 2);
}

void Observer::Impl::fail(const std::string& error) {
  status_.last_error = error;
  metrics_.count_problem("master", error);
}

Observer::Observer(asio::any_io_executor control, asio::thread_pool& workers,
                   ObserverOptions options, prometheus::Registry& registry,
                   OnObservation on_observation)
    : impl_{std::make_unique<Impl>(std::move(control), workers, std::move(options), registry,
                                   std::move(on_observation))} {}
Observer::~Observer() = default;

asio::awaitable<void> Observer::run() {
  return impl_->run();
}
void Observer::set_active(bool active) {
  impl_->set_active(active);
}
void Observer::restart() {
  impl_->restart();
}
const Observer::Status& Observer::status() const {
  return impl_->status();
}

}  // namespace muster::mesos
