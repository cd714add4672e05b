#include <chrono>
#include <string>

#include <doctest/doctest.h>

#include "cluster_text.hpp"
#include "observer_fixture.hpp"

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;

namespace {

std::string polled(std::string_view id) {
  return state_v0(task_v0({.id = id}));
}

Reply state_of(std::string_view id) {
  return {{answer("200 OK", "", polled(id))}, false};
}

}  // namespace

TEST_SUITE_BEGIN("mesos/io/observer polling");

TEST_CASE("polling says each state as it is, also when it is suddenly empty") {
  Observed observed;
  observed.options.mode = ObserverOptions::Mode::poll;
  observed.master().script = {
      {{answer("200 OK", "", polled("a"))}, false},
      {{answer("200 OK", "", state_v0("", ""))}, false},
      {{answer("200 OK", "", "{\"frameworks\":[")}, false},
      {{answer("503 Service Unavailable", "", "")}, false},
      {{"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"}, false},
      {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(polled("c").substr(0, 9)),
        chunk(polled("c").substr(9)), "0\r\n\r\n"},
       false}};
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() >= 3; }));
  CHECK(observed.seen[0].tasks.size() == 1);
  CHECK(observed.seen[1].snapshot);
  CHECK(observed.seen[1].tasks.empty());
  CHECK(observed.seen[2].tasks.at(0).id.str() == "c");
  REQUIRE(observed.seen[0].masters.has_value());
  CHECK(observed.seen[0].masters->size() == 2);  // the leader of the state, and the configured one
  CHECK(observed.counts("muster_mesos_problems_total{kind=\"state\"} 1"));
}

TEST_CASE("a master that does not lead is not believed when it is polled") {
  Observed observed{2};
  observed.options.mode = ObserverOptions::Mode::poll;
  observed.master(0).script = {
      {{answer(
           "200 OK", "",
           R"({"pid":"master@10.0.0.1:5050","leader":"master@10.0.0.9:5050","slaves":[],"frameworks":[]})")},
       false}};
  observed.master(1).script = {{{answer("200 OK", "", polled("a"))}, false}};
  observed.start();
  REQUIRE(observed.until([&] { return !observed.seen.empty(); }));
  CHECK(observed.seen[0].tasks.size() == 1);
}

namespace {

const std::string kAgents =
    R"({"type":"GET_AGENTS","get_agents":{"agents":[{"agent_info":{"id":{"value":"S1"},"hostname":)"
    R"("127.0.0.9"}},{"agent_info":{"id":{"value":"S2"},"hostname":"x"},"pid":)"
    R"("slave(1)@10.0.0.2:5051"},{"agent_info":{"id":{"value":"S3"},"hostname":"no.invalid"}}]}})";

Result<std::vector<IpAddress>, std::string> agents_of(Observed& observed) {
  std::optional<Result<std::vector<IpAddress>, std::string>> got;
  boost::asio::co_spawn(observed.context, observed.observer->agents(),
                        [&](std::exception_ptr failure, auto found) {
                          CHECK_FALSE(failure);
                          got = std::move(found);
                        });
  REQUIRE(observed.until([&] { return got.has_value(); }));
  return *got;
}

}  // namespace

TEST_CASE("an idle node asks the leader for its agents, wherever it is, and observes nothing") {
  Observed observed{3};
  const std::string leader = "//127.0.0.1:" + std::to_string(observed.master(2).port());
  observed.master(0).script = {{{answer("503 Service Unavailable", "", "")}, false}};
  observed.master(1).script = {
      {{answer("307 Temporary Redirect", "Location: " + leader + "\r\n", "")}, false}};
  observed.master(2).script = {{{answer("200 OK", "", kAgents)}, false}};
  observed.options.access.bearer_token = "t";
  observed.start();
  observed.observer->set_active(false);
  REQUIRE(observed.until([&] { return observed.observer->status().state == "idle"; }));
  const std::size_t before = observed.master(2).requests.size();
  const auto found = agents_of(observed);
  REQUIRE(found.has_value());
  CHECK(*found == std::vector{*IpAddress::parse("127.0.0.9"), *IpAddress::parse("10.0.0.2")});
  CHECK(observed.observer->status().state == "idle");
  CHECK(observed.seen.empty());
  REQUIRE(observed.master(2).requests.size() == before + 1);
  CHECK(observed.master(2).requests.back().find("GET_AGENTS") != std::string::npos);
  CHECK(observed.master(2).requests.back().find("Bearer t") != std::string::npos);
}

TEST_CASE("agents that no master tells of are an error in one sentence") {
  for (const std::string& said :
       {answer("403 Forbidden", "", "not yours"), answer("200 OK", "", "{}"),
        answer("200 OK", "", "[1,"), std::string{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"}}) {
    CAPTURE(said);
    Observed observed;
    observed.master().script = {{{said}, false}};
    observed.start();
    observed.observer->set_active(false);
    const auto found = agents_of(observed);
    REQUIRE(found.has_error());
    CHECK(found.error().starts_with(observed.master().url()));
  }
}

TEST_CASE("an answer larger than the limit is refused, announced or not") {
  Observed observed;
  observed.options.mode = ObserverOptions::Mode::poll;
  observed.options.max_response_bytes = 2000;
  const std::string large(3000, ' ');
  observed.master().script = {
      {{answer("200 OK", "", large)}, false},
      {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(large), "0\r\n\r\n"}, false},
      {{answer("200 OK", "", polled("a"))}, false}};
  observed.start();
  REQUIRE(observed.until([&] { return !observed.seen.empty(); }));
  CHECK(observed.master().requests.size() >= 3);
}

TEST_CASE("a state that is the same as the one before is told once, and counts as heard") {
  Observed observed;
  observed.options.mode = ObserverOptions::Mode::poll;
  observed.master().script = {state_of("a"), state_of("a"), state_of("a"), state_of("b")};
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() == 2; }));
  CHECK(observed.seen[0].tasks.at(0).id.str() == "a");
  CHECK(observed.seen[1].tasks.at(0).id.str() == "b");
  REQUIRE(observed.until([&] { return observed.master().requests.size() >= 6; }));
  CHECK(observed.seen.size() == 2);
  CHECK_FALSE(observed.counts("muster_mesos_unchanged_states_total 0"));
  const Observer::Status& status = observed.observer->status();
  CHECK(status.last_error.empty());
  // Whoever asks anew is told all, changed or not.
  observed.observer->restart();
  REQUIRE(observed.until([&] { return observed.seen.size() == 3; }));
  CHECK(observed.seen[2].snapshot);
  CHECK(observed.seen[2].tasks.at(0).id.str() == "b");
}

TEST_CASE("one octet makes another state") {
  Observed observed;
  observed.options.mode = ObserverOptions::Mode::poll;
  std::string other = polled("a");
  other.replace(other.find("10.0.0.1"), 8, "10.0.0.2");  // of the agent
  observed.master().script = {state_of("a"), {{answer("200 OK", "", other)}, false}};
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() == 2; }));
  CHECK(observed.seen[0].agents != observed.seen[1].agents);
}

TEST_CASE("a slow master is asked less often: at most a fifth of its time") {
  Observed observed;
  observed.options.mode = ObserverOptions::Mode::poll;
  Reply slow = state_of("a");
  slow.delay = std::chrono::milliseconds{60};
  observed.master().script = {slow};
  observed.start();
  REQUIRE(observed.until([&] { return observed.master().requests.size() == 1; }));
  const auto first = std::chrono::steady_clock::now();
  REQUIRE(observed.until([&] { return observed.master().requests.size() == 3; }));
  // Two answers of 60 ms or more, and four times as long after each. Slower machines only wait
  // longer; the 5 ms of poll_interval would have made it 130.
  CHECK(std::chrono::steady_clock::now() - first >= std::chrono::milliseconds{590});
}

TEST_CASE("an answer that trickles is taken, one that stalls is left") {
  Observed observed;
  observed.options.mode = ObserverOptions::Mode::poll;
  observed.options.response_timeout = Duration{150};
  const std::string whole = answer("200 OK", "", polled("a"));
  Reply drops;
  drops.between = std::chrono::milliseconds{1};
  for (std::size_t at = 0; at < whole.size(); at += 20) {
    drops.pieces.push_back(whole.substr(at, 20));
  }
  Reply stalls{{whole.substr(0, whole.size() - 1)}, true};
  observed.master().script = {stalls, drops};
  observed.start();
  REQUIRE(observed.until([&] { return !observed.seen.empty(); }));
  CHECK(observed.master().requests.size() >= 2);
  CHECK(observed.seen[0].tasks.at(0).id.str() == "a");
}

TEST_SUITE_END();
