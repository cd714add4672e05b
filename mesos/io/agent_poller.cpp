#include "mesos/io/agent_poller.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <prometheus/registry.h>

#include "base/io/resolver.hpp"
#include "base/rng.hpp"
#include "mesos/core/agent_state.hpp"
#include "mesos/io/either.hpp"
#include "mesos/io/http_ask.hpp"
#include "mesos/io/redirect.hpp"
#include "mesos/io/worker.hpp"

// GCC 12 does not see that a coroutine frame's new and delete are a pair.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace muster::mesos {
namespace asio = boost::asio;
namespace {

// A slow agent is busy with something else: it is asked for at most a tenth of the time.
constexpr int kSlowdown = 10;
constexpr unsigned kMaxDoublings = 16;

/// Two answers, or one and nothing.
struct Answers {
  std::string state;
  std::string agent;  // of the operator API
  bool operator_api = false;
};

struct Parsed {
  Fingerprint fingerprint;
  bool unchanged = false;
  Result<Snapshot, ParseError> snapshot = ParseError::not_json;
};

/// Whether another way of asking may fare better: not there, or not for us.
bool refuses(unsigned status) noexcept {
  return status == 403 || status == 404 || status == 405;
}

class Metrics : public AskMetrics {
 public:
  explicit Metrics(prometheus::Registry& registry)
      : AskMetrics{registry,
                   {.who = "agent",
                    .log = "Mesos agent",
                    .problems = "muster_mesos_agent_problems_total",
                    .expiry = "muster_mesos_agent_certificate_expiry_timestamp_seconds"}},
        polls_{prometheus::BuildCounter()
                   .Name("muster_mesos_agent_polls_total")
                   .Help("Questions to this node's Mesos agent, by what came of them")
                   .Register(registry)},
        tasks{add_gauge(registry, "muster_mesos_agent_tasks", "Tasks that this node's agent runs")},
        answering{add_gauge(registry, "muster_mesos_agent_answering",
                            "1 while this node's agent answers what it is asked")},
        last_answer{add_gauge(registry, "muster_mesos_agent_last_answer_timestamp_seconds",
                              "Unix time of the agent's last answer, changed or not")} {}

  void count_poll(const char* result) { polls_.Add({{"result", result}}).Increment(); }

 private:
  prometheus::Family<prometheus::Counter>& polls_;

 public:
  prometheus::Gauge& tasks;
  prometheus::Gauge& answering;
  prometheus::Gauge& last_answer;
};

}  // namespace

class AgentPoller::Impl {
 public:
  Impl(asio::any_io_executor control, asio::thread_pool& workers, AgentPollerOptions options,
       prometheus::Registry& registry, OnObservation on_observation)
      : control_{std::move(control)},
        workers_{workers},
        options_{std::move(options)},
        on_observation_{std::move(on_observation)},
        metrics_{registry},
        resolver_{control_},
        asker_{control_,
               workers_,
               options_.access,
               {options_.connect_timeout, options_.response_timeout},
               metrics_},
        rng_{options_.seed},
        gap_{options_.changing} {
    const std::string url = to_string(options_.agent);
    status_.agent = url.substr(url.find("//") + 2);
    status_.state = "connecting";
  }

  asio::awaitable<void> run();
  const Status& status() const { return status_; }

 private:
  /// What asking once came to.
  struct Outcome {
    std::string error{};  // one sentence; empty: it answered
    bool changed = false;
  };
  /// One answer: its status, and what is wrong, if anything is.
  struct Asked {
    unsigned status = 0;  // 0: none came
    std::string error{};
  };

  asio::awaitable<Outcome> poll();
  asio::awaitable<Asked> ask(HttpRequest request, std::string& body);
  asio::awaitable<std::string> ask_all(Answers& answers);
  asio::awaitable<Asked> ask_operator_api(Answers& answers);
  Outcome take(Parsed parsed);
  Duration backoff();

  asio::any_io_executor control_;
  asio::thread_pool& workers_;
  const AgentPollerOptions options_;
  OnObservation on_observation_;
  Metrics metrics_;
  Resolver resolver_;
  Asker asker_;
  Rng rng_;
  Status status_;
  bool operator_api_ = false;  // what worked last
  std::optional<Fingerprint> last_;
  Duration gap_;
  unsigned failures_ = 0;  // one after another
};

asio::awaitable<void> AgentPoller::Impl::run() {
  for (;;) {
    const TimePoint begun = Clock::now();
    const Outcome outcome = co_await poll();
    const auto cancelled = co_await asio::this_coro::cancellation_state;
    if (cancelled.cancelled() != asio::cancellation_type::none) co_return;
    const auto taken = std::chrono::duration_cast<Duration>(Clock::now() - begun);
    if (!outcome.error.empty()) {
      status_.state = "waiting";
      status_.last_error = outcome.error;
      metrics_.answering.Set(0);
      metrics_.count_poll("failed");
      metrics_.count_problem("agent", outcome.error);
      gap_ = options_.changing;
      co_await sleep_for(backoff());
      ++failures_;
      continue;
    }
    failures_ = 0;
    status_.state = "polling";
    status_.last_error.clear();
    status_.last_answer = Clock::now();
    const auto unix_time = std::chrono::system_clock::now().time_since_epoch();
    metrics_.last_answer.Set(std::chrono::duration<double>(unix_time).count());
    metrics_.answering.Set(1);
    metrics_.count_poll(outcome.changed ? "changed" : "unchanged");
    gap_ = outcome.changed ? options_.changing : std::min(gap_ * 2, options_.idle);
    co_await sleep_for(std::max(gap_, taken * kSlowdown));
  }
}

/// Exponential from `changing` to backoff_max, then anywhere in its upper half.
Duration AgentPoller::Impl::backoff() {
  const auto full = std::min(options_.backoff_max.count(),
                             options_.changing.count() << std::min(failures_, kMaxDoublings));
  const auto half = static_cast<std::uint64_t>(std::max<std::int64_t>(full / 2, 0));
  return Duration{static_cast<std::int64_t>(half + rng_.below(half + 1))};
}

asio::awaitable<AgentPoller::Impl::Outcome> AgentPoller::Impl::poll() {
  Answers answers;
  std::string error = co_await ask_all(answers);
  if (!error.empty()) co_return Outcome{.error = std::move(error)};
  auto parse = [answers = std::move(answers), before = last_, at = options_.at]() {
    Parsed parsed;
    parsed.fingerprint = Fingerprint::of(answers.state);
    // Two in one: an answer that moves from one to the other does not happen.
    parsed.fingerprint.octets += answers.agent.size();
    parsed.fingerprint.hash ^= Fingerprint::of(answers.agent).hash * 31;
    parsed.unchanged = before == parsed.fingerprint;
    if (parsed.unchanged) return parsed;
    parsed.snapshot = answers.operator_api ? parse_agent_get_state(answers.state, answers.agent, at)
                                           : parse_agent_state(answers.state, at);
    return parsed;
  };
  auto parsing = on_worker<Parsed>(workers_, std::move(parse));
  Parsed parsed = co_await std::move(parsing);
  co_return take(std::move(parsed));
}

AgentPoller::Impl::Outcome AgentPoller::Impl::take(Parsed parsed) {
  if (parsed.unchanged) return {};
  if (!parsed.snapshot) {
    return {.error = to_string(options_.agent) + ": what it answers is " +
                     std::string{to_string(parsed.snapshot.error())}};
  }
  Snapshot& snapshot = *parsed.snapshot;
  metrics_.count(snapshot.problems);
  if (snapshot.observation.agents.empty()) {
    return {.error = to_string(options_.agent) + ": it has no id yet: no master has accepted it"};
  }
  last_ = parsed.fingerprint;
  status_.id = snapshot.observation.agents.front().id;
  status_.tasks = snapshot.observation.tasks.size();
  status_.last_change = Clock::now();
  metrics_.tasks.Set(static_cast<double>(status_.tasks));
  on_observation_(std::move(snapshot.observation));
  return {.changed = true};
}

/// The way that worked last, then the other one; returns what is wrong, or nothing.
asio::awaitable<std::string> AgentPoller::Impl::ask_all(Answers& answers) {
  Asked asked;
  for (unsigned attempt = 0; attempt < 2; ++attempt) {
    if (operator_api_) {
      asked = co_await ask_operator_api(answers);
    } else {
      HttpRequest request;
      request.target = "/state";
      asked = co_await ask(std::move(request), answers.state);
    }
    if (asked.error.empty()) co_return std::string{};
    if (!refuses(asked.status)) break;
    operator_api_ = !operator_api_;
  }
  co_return asked.error;
}

asio::awaitable<AgentPoller::Impl::Asked> AgentPoller::Impl::ask_operator_api(Answers& answers) {
  answers.operator_api = true;
  HttpRequest request;
  request.post = true;
  request.target = "/api/v1";
  request.body = R"({"type":"GET_STATE"})";
  HttpRequest of_agent = request;
  of_agent.body = R"({"type":"GET_AGENT"})";
  Asked asked = co_await ask(std::move(request), answers.state);
  if (!asked.error.empty()) co_return asked;
  co_return co_await ask(std::move(of_agent), answers.agent);
}

asio::awaitable<AgentPoller::Impl::Asked> AgentPoller::Impl::ask(HttpRequest request,
                                                                 std::string& body) {
  const MasterUrl& url = options_.agent;
  const auto failed = [&url](unsigned status, const std::string& what) {
    return Asked{status, sentence(url, what)};
  };
  auto addresses = co_await resolver_.resolve(url.host, options_.connect_timeout);
  if (!addresses) {
    co_return failed(0, "cannot find the address: " + addresses.error().message());
  }
  request.authorization = authorization(options_.access);
  const bool has_credentials = !request.authorization.empty();
  auto asking = asker_.ask(url, std::move(*addresses), std::move(request));
  auto answer = co_await std::move(asking);
  if (!answer) co_return Asked{0, answer.error()};
  const HttpHead& head = answer->head;
  if (head.status == 200) {
    body.clear();
    const std::string broken = co_await read_answer(
        answer->session, head, body, {options_.max_response_bytes, options_.response_timeout});
    co_return broken.empty() ? Asked{200, {}} : failed(200, broken);
  }
  if (is_redirect(head.status)) {
    co_return failed(head.status, "redirects to " + in_quotes(head.location) +
                                      "; an agent speaks for itself, so that is not followed");
  }
  if (head.status == 401) {
    co_return failed(401, has_credentials ? "401: it does not accept these credentials"
                                          : "401: it wants credentials and none are configured");
  }
  const std::string what =
      co_await refusal_text(answer->session, head.status, options_.connect_timeout);
  co_return failed(head.status, what);
}

AgentPoller::AgentPoller(asio::any_io_executor control, asio::thread_pool& workers,
                         AgentPollerOptions options, prometheus::Registry& registry,
                         OnObservation on_observation)
    : impl_{std::make_unique<Impl>(std::move(control), workers, std::move(options), registry,
                                   std::move(on_observation))} {}
AgentPoller::~AgentPoller() = default;

asio::awaitable<void> AgentPoller::run() {
  return impl_->run();
}
const AgentPoller::Status& AgentPoller::status() const {
  return impl_->status();
}

}  // namespace muster::mesos
