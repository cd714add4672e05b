#include <string>

#include <boost/asio/io_context.hpp>
#include <doctest/doctest.h>
#include <prometheus/registry.h>

#include "lb/io/balancer.hpp"
#include "lb/io/driver_choice.hpp"

namespace muster::lb {
namespace {

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("a muster that was built without driver bpf says so, and what would mend it") {
  SUBCASE("muster check") {
    const auto findings = check_driver("bpf", {});
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].level == Finding::Level::missing);
    CHECK(says(findings[0].what, "built without driver bpf"));
    CHECK(says(findings[0].remedy, "deploy/install-deps build bpf"));
  }
  SUBCASE("muster agent") {
    boost::asio::io_context context;
    prometheus::Registry registry;
    auto driver = make_driver("bpf");
    REQUIRE(driver.has_value());
    Balancer balancer{context.get_executor(), *std::move(driver), {}, registry};
    const auto started = balancer.start();
    REQUIRE_FALSE(started.has_value());
    CHECK(started.error() == Errc::no_bpf_build);
    CHECK(says(balancer.status().last_error, "built without driver bpf"));
    CHECK(says(started.error().message(), "deploy/install-deps build bpf"));
  }
}

}  // namespace
}  // namespace muster::lb
