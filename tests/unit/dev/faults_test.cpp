#include <doctest/doctest.h>

#include "dev/master_faults.hpp"

using namespace muster::dev;

namespace {

/// Faults that note what they ask for.
struct Told {
  std::vector<std::string> acts;
  MasterFaults faults{{
      .say = [this](std::string record) { return note("say " + record); },
      .hang_up = [this] { return note("hang up"); },
      .agent =
          [this](std::string_view act, std::int64_t node) {
            return note(std::string{act} + ' ' + std::to_string(node));
          },
      .framework = [this](std::string_view act) { return note(std::string{act}); },
      .fail_over = [this] { return std::string{"nobody leads just now"}; },
  }};

  std::string note(std::string what) {
    acts.push_back(std::move(what));
    return {};
  }
  ApiResponse post(const std::string& body) {
    auto response = faults.control({.method = "POST",
                                    .target = "/dev/faults",
                                    .content_type = std::nullopt,
                                    .accept = std::nullopt,
                                    .body = body});
    REQUIRE(response.has_value());
    return *response;
  }
  ApiResponse spoilt(const std::string& target) {
    ApiResponse response;
    response.body = "a state with an element";
    faults.spoil({.method = "GET",
                  .target = target,
                  .content_type = std::nullopt,
                  .accept = std::nullopt,
                  .body = ""},
                 response);
    return response;
  }
};

}  // namespace

TEST_SUITE_BEGIN("dev/master_faults");

TEST_CASE("a fault that is none is refused, and what stands before it is done") {
  Told told;
  for (const char* body : {"", "{", "5", "[5]", "{}", R"({"fault":"fly"})",
                           R"({"fault":"redirect"})", R"({"fault":"replace"})",
                           R"({"fault":"status","status":99})", R"({"fault":"fail_over"})"}) {
    CAPTURE(body);
    CHECK(told.post(body).status == 400);
  }
  CHECK(told.acts.empty());
  CHECK(told.post(R"([{"fault":"hang_up"},{"fault":"fly"},{"fault":"hang_up"}])").status == 400);
  CHECK(told.acts == std::vector<std::string>{"hang up"});
  CHECK_FALSE(told.faults
                  .control({.method = "GET",
                            .target = "/state",
                            .content_type = std::nullopt,
                            .accept = std::nullopt,
                            .body = ""})
                  .has_value());
}

TEST_CASE("what waits is used up by requests of its path, in order") {
  Told told;
  CHECK(told.post(R"([{"fault":"status","on":"/state","status":503,"body":"not yet","times":2},
                      {"fault":"truncate","after":7},
                      {"fault":"stall","on":"/state","after":9},
                      {"fault":"trickle","on":"/state","ms":3},
                      {"fault":"redirect","on":"/state","to":"//10.66.0.251:5050"},
                      {"fault":"replace","on":"/state","find":"element","with":"elephant"}])")
            .status == 200);
  CHECK(told.spoilt("/state?x=y").status == 503);
  const ApiResponse cut = told.spoilt("/api/v1");
  CHECK(cut.delivery.octets == 7U);
  CHECK_FALSE(cut.delivery.stalls);
  CHECK(told.spoilt("/api/v1").delivery.octets == std::nullopt);
  CHECK(told.spoilt("/state").body == "not yet");
  const ApiResponse stalled = told.spoilt("/state");
  CHECK(stalled.delivery.octets == 9U);
  CHECK(stalled.delivery.stalls);
  CHECK(told.spoilt("/state").delivery.pause_ms == 3);
  CHECK(told.spoilt("/state").headers.at(0).second == "//10.66.0.251:5050");
  CHECK(told.spoilt("/state").body == "a state with an elephant");
  CHECK(told.spoilt("/state").body == "a state with an element");
}

TEST_CASE("what happens at once does, and what waits can be seen and forgotten") {
  Told told;
  CHECK(told.post(R"([{"fault":"say","record":"}{"},{"fault":"agent","act":"return","node":2},
                      {"fault":"framework","act":"teardown"},{"fault":"stall","on":"/state"}])")
            .status == 200);
  CHECK(told.acts == std::vector<std::string>{"say }{", "return 2", "teardown"});
  const ApiRequest get{.method = "GET",
                       .target = "/dev/faults",
                       .content_type = std::nullopt,
                       .accept = std::nullopt,
                       .body = ""};
  CHECK(told.faults.control(get)->body == R"([{"fault":"stall","on":"/state","times":1}])");
  told.post(R"({"fault":"clear"})");
  CHECK(told.faults.control(get)->body == "[]");
}

TEST_SUITE_END();
