#include "mesos/io/observer.hpp"

#include <string>

#include <doctest/doctest.h>

#include "cluster_text.hpp"
#include "observer_fixture.hpp"

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;

namespace {

const std::string kAgent = agent_v1("S0", "slave(1)@10.0.0.1:5051");
const std::string kFramework = framework_v1("F0", "marathon");

std::string first_record(std::string_view tasks = "") {
  return record(subscribed(get_state(tasks, kAgent, kFramework)));
}

const std::string kHeartbeat = record(R"({"type":"HEARTBEAT"})");

Reply streaming(std::string records, bool hang = true) {
  return {{stream_head(), chunk(records)}, hang};
}

std::string polled(std::string_view id) {
  return state_v0(task_v0({.id = id}));
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE_BEGIN("mesos/io/observer");

TEST_CASE("a master's URL is http or https with host and port, or says what is wrong") {
  struct Row {
    const char* text;
    const char* error;
  };
  const Row bad[] = {
      {"", "not a URL"},
      {"leader.mesos:5050", "http"},
      {"http://leader.mesos", "port"},
      {"http://leader.mesos:0", "port"},
      {"http://leader.mesos:99999", "port"},
      {"http://:5050", "host"},
      {"ftp://leader.mesos:21", "neither"},
      {"zk://10.0.0.1:2181/mesos", "ZooKeeper"},
      {"http://user:secret@leader.mesos:5050", "password"},
      {"http://leader.mesos:5050/state", "more than a host"},
      {"http://leader.mesos:5050?x", "more than a host"},
      {"http://leader mesos:5050", "not a URL"},
  };
  for (const Row& row : bad) {
    CAPTURE(row.text);
    const auto url = MasterUrl::parse(row.text);
    REQUIRE_FALSE(url.has_value());
    CHECK(contains(url.error(), row.error));
    CHECK_FALSE(contains(url.error(), "\n"));
  }
  for (const char* text :
       {"http://leader.mesos:5050", "https://10.0.0.1:5050", "http://[fd01::1]:5050"}) {
    const auto url = MasterUrl::parse(text);
    REQUIRE(url.has_value());
    CHECK(to_string(*url) == text);
  }
  CHECK(MasterUrl::parse("http://[fd01::1]:5050/")->host == "fd01::1");
}

TEST_CASE("the stream is asked for as Mesos wants it, and told event by event") {
  Observed observed;
  observed.master().script = {streaming(first_record(task_v1("a", "TASK_RUNNING")) + kHeartbeat +
                                        record(task_added(task_v1("b", "TASK_STAGING"))))};
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() == 2; }));
  CHECK(observed.seen[0].snapshot);
  CHECK(observed.seen[0].tasks.size() == 1);
  REQUIRE(observed.seen[0].masters.has_value());
  REQUIRE(observed.seen[0].masters->size() == 1);
  CHECK(observed.seen[0].masters->front().leading);
  CHECK(observed.seen[0].masters->front().endpoint.port.number() == observed.master().port());
  CHECK_FALSE(observed.seen[1].snapshot);
  CHECK(observed.seen[1].tasks.at(0).id.str() == "b");

  const std::string& request = observed.master().requests.at(0);
  CHECK(request.starts_with("POST /api/v1 HTTP/1.1\r\n"));
  CHECK(contains(request, "\r\nAccept: application/json\r\n"));
  CHECK(contains(request, "\r\nContent-Type: application/json\r\n"));
  CHECK(contains(request, "\r\nHost: 127.0.0.1:"));
  CHECK_FALSE(contains(request, "Authorization"));
  CHECK(request.ends_with("\r\n\r\n{\"type\":\"SUBSCRIBE\"}"));
  const Observer::Status& status = observed.observer->status();
  CHECK(status.state == "subscribed");
  CHECK(status.master == "127.0.0.1:" + std::to_string(observed.master().port()));
  CHECK(status.last_error.empty());
  CHECK(status.tasks == 2);
  CHECK(status.agents == 1);
  CHECK(observed.counts("muster_mesos_events_total{type=\"HEARTBEAT\"} 1"));
  CHECK(observed.counts("muster_mesos_tasks 2"));
  CHECK(observed.counts("muster_mesos_subscribed 1"));
}

TEST_CASE("records are whole however they are cut into chunks and packets") {
  const std::string records = first_record() + record(task_added(task_v1("a", "TASK_STAGING"))) +
                              record(task_updated("a", "TASK_RUNNING"));
  for (const std::size_t size : {std::size_t{1}, std::size_t{7}, std::size_t{100}}) {
    CAPTURE(size);
    Observed observed;
    Reply reply{{stream_head()}, true};
    for (std::size_t at = 0; at < records.size(); at += size) {
      const std::string whole = chunk(std::string_view{records}.substr(at, size));
      reply.pieces.push_back(whole.substr(0, 2));  // a packet may end inside a chunk's header
      reply.pieces.push_back(whole.substr(2));
    }
    observed.master().script = {reply};
    observed.start();
    REQUIRE(observed.until([&] { return observed.seen.size() == 3; }));
    CHECK(observed.seen[2].tasks.at(0).state == TaskState::running);
  }
}

TEST_CASE("a large snapshot is parsed on a worker and keeps its place before later events") {
  Observed observed;
  std::string tasks = task_v1("t0", "TASK_RUNNING");
  for (int i = 1; i < 2000; ++i) tasks += "," + task_v1("t" + std::to_string(i), "TASK_RUNNING");
  std::string records = first_record(tasks);
  for (int i = 0; i < 100; ++i) {
    records += record(task_updated("t" + std::to_string(i), "TASK_KILLED"));
  }
  observed.master().script = {streaming(records)};
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() == 101; }));
  CHECK(observed.seen[0].tasks.size() == 2000);
  CHECK(observed.seen[100].tasks_gone.at(0).key.task.str() == "t99");
  CHECK(observed.observer->status().tasks == 1900);
}

TEST_CASE("malformed events lose nothing but themselves") {
  Observed observed;
  observed.master().script = {
      streaming(first_record() + record("}{") +
                record(R"({"type":"TASK_ADDED","task_added":{"task":null}})") + record("") +
                record(R"({"type":"SOMETHING_NEW","x":1})") +
                record(task_added(task_v1("a", "TASK_RUNNING"))))};
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() == 2; }));
  CHECK(observed.seen[1].tasks.at(0).id.str() == "a");
  CHECK(observed.master().requests.size() == 1);
  CHECK(observed.counts("muster_mesos_events_total{type=\"other\"} 1"));
  CHECK(observed.counts("muster_mesos_problems_total{kind=\"event\"} 2"));
  CHECK(observed.counts("muster_mesos_problems_total{kind=\"task\"} 1"));
}

TEST_CASE("a stream that ends or cannot be read is begun anew") {
  struct Row {
    std::string what;
    Reply reply;
  };
  const Row rows[] = {
      {"a bare FIN, as a killed master leaves", streaming(first_record(), false)},
      {"the last chunk, as a dropped subscriber gets it",
       {{stream_head(), chunk(first_record()), "0\r\n\r\n"}, false}},
      {"a record cut short", {{stream_head(), chunk(first_record() + "100\n{")}, false}},
      {"a bad record header", streaming(first_record() + "garbage")},
      {"a record larger than the limit", streaming(first_record() + "9999999999\n")},
      {"a bad chunk header", {{stream_head(), chunk(first_record()), "xyz\r\n"}, true}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Observed observed;
    observed.master().script = {row.reply, streaming(first_record(task_v1("b", "TASK_RUNNING")))};
    observed.start();
    REQUIRE(observed.until([&] { return observed.seen.size() == 2; }));
    CHECK(observed.seen[1].snapshot);
    CHECK(observed.seen[1].tasks.size() == 1);
    CHECK(observed.counts("muster_mesos_reconnects_total 1"));
  }
}

TEST_CASE("answers that are none, and first records that are no snapshot, are tried again") {
  struct Row {
    std::string what;
    Reply reply;
    const char* error;
  };
  const Row rows[] = {
      {"nothing at all", {{}, false}, "no answer"},
      {"not HTTP", {{"SSH-2.0-OpenSSH_9.2\r\n\r\n"}, false}, "no answer"},
      {"another first event", streaming(kHeartbeat), "first record"},
      {"a first record that is no JSON", streaming(record("nope")), "first record"},
      {"recovering",
       {{answer("503 Service Unavailable", "", "Master has not finished recovery")}, false},
       "503: \"Master has not finished recovery\""},
      {"no leader", {{answer("503 Service Unavailable", "", "No leader elected")}, false}, "503"},
      {"starting", {{answer("404 Not Found", "", "Not Found.")}, false}, "404"},
      {"wrong credentials",
       {{answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"mesos-master-readwrite\"\r\n",
                "401 Unauthorized.")},
        false},
       "wants credentials and none are configured"},
      {"a redirect to nowhere",
       {{answer("307 Temporary Redirect", "Location: nonsense\r\n", "")}, false},
       "redirects, but"},
      {"a redirect without location",
       {{answer("307 Temporary Redirect", "", "")}, false},
       "redirects, but"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Observed observed;
    observed.master().script = {row.reply, streaming(first_record())};
    observed.start();
    std::string error;
    REQUIRE(observed.until([&] {
      if (!observed.observer->status().last_error.empty()) {
        error = observed.observer->status().last_error;
      }
      return observed.seen.size() == 1;
    }));
    CHECK(contains(error, row.error));
    CHECK(observed.observer->status().last_error.empty());
  }
}

TEST_CASE("a master that falls silent is left") {
  Observed observed;
  SUBCASE("before it answers") {
    observed.options.response_timeout = Duration{30};
    observed.master().script = {{{}, true}, streaming(first_record())};
  }
  SUBCASE("in the middle of its stream") {
    observed.options.silence_limit = Duration{30};
    observed.master().script = {streaming(first_record() + "50\n{"), streaming(first_record())};
  }
  observed.start();
  CHECK(observed.until([&] { return observed.master().requests.size() >= 2; }));
}

TEST_CASE("a stream may be silent for five of its own heartbeats, and any octet counts") {
  Observed observed;
  std::string quick = subscribed(get_state("", kAgent, kFramework));
  quick.replace(quick.find("15.0"), 4, "0.1");
  Reply beats{{stream_head(), chunk(record(quick))}, true};
  beats.between = std::chrono::milliseconds{100};
  for (int i = 0; i < 12; ++i) beats.pieces.push_back(chunk(kHeartbeat));
  observed.master().script = {beats, streaming(first_record())};
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() == 1; }));
  const auto begun = std::chrono::steady_clock::now();
  REQUIRE(observed.until([&] { return observed.master().requests.size() == 2; }));
  // Twelve heartbeats, then 500 ms of silence.
  CHECK(std::chrono::steady_clock::now() - begun >= std::chrono::milliseconds{1600});
  CHECK(observed.counts("muster_mesos_events_total{type=\"HEARTBEAT\"} 12"));
}

TEST_CASE("a redirect is followed to the leader, which is then asked first") {
  Observed observed{2};
  observed.options.masters = {*MasterUrl::parse(observed.master(0).url())};
  observed.master(0).script = {
      {{answer("307 Temporary Redirect",
               "Location: //127.0.0.1:" + std::to_string(observed.master(1).port()) + "/api/v1\r\n",
               "")},
       false}};
  observed.master(1).script = {streaming(first_record(), false), streaming(first_record())};
  observed.options.access.basic_user = "muster";
  observed.options.access.basic_secret = "se:cret";
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() == 2; }));
  CHECK(observed.master(0).requests.size() == 1);
  REQUIRE(observed.master(1).requests.size() == 2);
  const std::string& request = observed.master(1).requests[0];
  CHECK(request.starts_with("POST /api/v1 "));
  CHECK(request.ends_with("{\"type\":\"SUBSCRIBE\"}"));
  CHECK(contains(request, "\r\nAuthorization: Basic bXVzdGVyOnNlOmNyZXQ=\r\n"));
  REQUIRE(observed.seen[0].masters.has_value());
  REQUIRE(observed.seen[0].masters->size() == 2);
  for (const Master& master : *observed.seen[0].masters) {
    CHECK(master.leading == (master.endpoint.port.number() == observed.master(1).port()));
  }
}

TEST_CASE("credentials go no further than to whom a configured master redirects") {
  Observed observed{3};
  observed.options.masters = {*MasterUrl::parse(observed.master(0).url())};
  observed.options.access.bearer_token = "t0ken";
  const auto redirect_to = [&](std::size_t index) {
    return Reply{
        {answer("307 Temporary Redirect",
                "Location: //127.0.0.1:" + std::to_string(observed.master(index).port()) + "\r\n",
                "")},
        false};
  };
  observed.master(0).script = {redirect_to(1)};
  observed.master(1).script = {redirect_to(2)};
  observed.master(2).script = {streaming(first_record())};
  observed.start();
  REQUIRE(observed.until([&] { return !observed.seen.empty(); }));
  CHECK(contains(observed.master(0).requests[0], "Authorization: Bearer t0ken\r\n"));
  CHECK(contains(observed.master(1).requests[0], "Authorization: Bearer t0ken\r\n"));
  CHECK_FALSE(contains(observed.master(2).requests[0], "Authorization"));
}

TEST_CASE("masters that send each other round in circles are left in the end") {
  Observed observed{2};
  for (const std::size_t index : {0U, 1U}) {
    observed.master(index).script = {
        {{answer(
             "307 Temporary Redirect",
             "Location: //127.0.0.1:" + std::to_string(observed.master(1 - index).port()) + "\r\n",
             "")},
         false}};
  }
  observed.start();
  CHECK(observed.until(
      [&] { return contains(observed.observer->status().last_error, "5 redirects"); }));
}

TEST_CASE("the list is tried in turn, and the leader is kept to") {
  Observed observed{3};
  observed.master(0).script = {{{}, false}};
  observed.master(1).script = {
      {{answer("503 Service Unavailable", "", "No leader elected")}, false}};
  observed.master(2).script = {streaming(first_record(), false), streaming(first_record())};
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() == 2; }));
  CHECK(observed.master(0).requests.size() == 1);
  CHECK(observed.master(1).requests.size() == 1);
  CHECK(observed.master(2).requests.size() == 2);
}

TEST_CASE("where streaming is refused the state is polled") {
  for (const char* status :
       {"403 Forbidden", "405 Method Not Allowed", "415 Unsupported Media Type",
        "501 Not Implemented", "400 Bad Request"}) {
    CAPTURE(status);
    Observed observed;
    observed.master().script = {{{answer(status, "", "no")}, false},
                                {{answer("200 OK", "", polled("a"))}, false},
                                {{answer("200 OK", "", polled("b"))}, false}};
    observed.start();
    REQUIRE(observed.until([&] { return observed.seen.size() == 2; }));
    CHECK(observed.observer->status().state == "polling");
    CHECK(observed.seen[0].tasks.at(0).id.str() == "a");
    CHECK(observed.seen[1].tasks.at(0).id.str() == "b");
    CHECK(observed.master().requests[1].starts_with("GET /state HTTP/1.1\r\n"));
  }
}

TEST_CASE("one 404 is a master that starts, several are one that cannot stream") {
  Observed observed;
  const Reply not_found{{answer("404 Not Found", "", "Not Found.")}, false};
  observed.master().script = {
      not_found, not_found, not_found, {{answer("200 OK", "", polled("a"))}, false}};
  observed.start();
  REQUIRE(observed.until([&] { return !observed.seen.empty(); }));
  CHECK(observed.master().requests[2].starts_with("POST"));
  CHECK(observed.master().requests[3].starts_with("GET"));
}

TEST_CASE("an agent known by name only gets its address in an observation of its own") {
  Observed observed;
  observed.master().script = {streaming(record(subscribed(
      get_state(task_v1("a", "TASK_RUNNING"), agent_v1("S0", "", "localhost"), kFramework))))};
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() == 2; }));
  CHECK(observed.seen[0].tasks.at(0).agent_addresses.empty());
  CHECK(observed.seen[1].tasks.at(0).agent_addresses.at(0).is_loopback());
  CHECK(observed.seen[1].agents.size() == 1);
}

TEST_CASE("it can be stopped at any instant") {
  for (int steps = 0; steps < 60; ++steps) {
    CAPTURE(steps);
    Observed observed;
    std::string tasks = task_v1("t0", "TASK_RUNNING");
    for (int i = 1; i < 400; ++i) tasks += "," + task_v1("t" + std::to_string(i), "TASK_RUNNING");
    observed.master().script = {streaming(first_record(tasks) + kHeartbeat, steps % 2 == 0)};
    observed.start();
    for (int i = 0; i < steps; ++i) observed.context.run_one_for(std::chrono::milliseconds{5});
  }
}

TEST_SUITE_END();
