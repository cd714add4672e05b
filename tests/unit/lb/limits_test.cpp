#include "lb/io/limits.hpp"

#include <doctest/doctest.h>

#include "tests/support/lb_samples.hpp"

namespace muster::lb {
namespace {

using namespace testing;

TEST_CASE("ports are counted for each remote endpoint by itself, and only those that are drawn") {
  PortUse use{32768, 60999};
  CHECK(use.ports() == 28232);
  CHECK_FALSE(use.busiest().has_value());
  for (std::uint16_t i = 0; i < 10; ++i)
    use.add(static_cast<std::uint16_t>(40000 + i), at("11.0.0.1:80"));
  for (std::uint16_t i = 0; i < 9; ++i)
    use.add(static_cast<std::uint16_t>(40000 + i), at("11.0.0.1:81"));
  // A server's own side: its port was not drawn.
  for (int i = 0; i < 20; ++i) use.add(80, at("11.0.0.2:5000"));
  REQUIRE(use.busiest().has_value());
  CHECK(use.busiest()->first == at("11.0.0.1:80"));
  CHECK(use.busiest()->second == 10);
}

TEST_CASE("a range of ports that makes no sense has none") {
  CHECK(PortUse{40000, 30000}.ports() == 0);
  CHECK(Limit{.name = "ports", .used = 5, .most = 0}.ratio() == 0);
}

TEST_CASE("a limit that is nearly used up is shown, and warned of once") {
  prometheus::Registry registry;
  LimitWatch watch{registry};
  LogOnce log;
  const std::vector<Limit> limits{
      {.name = "conntrack", .used = 9, .most = 10, .what = "conntrack", .remedy = "raise it"},
      {.name = "ports", .used = 1, .most = 10, .what = "ports", .remedy = "widen it"}};
  watch.publish(limits, log);
  const auto families = registry.Collect();
  REQUIRE(families.size() == 1);
  CHECK(families[0].name == "muster_lb_limit_used_ratio");
  REQUIRE(families[0].metric.size() == 2);
  CHECK(families[0].metric[0].gauge.value + families[0].metric[1].gauge.value ==
        doctest::Approx(1.0));
  // It was said: no second time.
  CHECK_FALSE(log.warn("lb: conntrack: more than 80 % used: raise it"));
}

TEST_CASE("this machine's limits can be read") {
  for (const Limit& limit : read_limits()) {
    CAPTURE(limit.name);
    CHECK(limit.most > 0);
    CHECK(limit.ratio() <= 1.5);
    CHECK_FALSE(limit.remedy.empty());
  }
}

}  // namespace
}  // namespace muster::lb
