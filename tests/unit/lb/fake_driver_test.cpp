#include "tests/support/fake_driver.hpp"

#include <doctest/doctest.h>

#include "tests/support/driver_contract.hpp"

namespace muster::testing {
namespace {

TEST_CASE("the fake driver keeps the drivers' contract") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  REQUIRE(driver.open({}).has_value());
  DriverContract{driver}.run();
}

}  // namespace
}  // namespace muster::testing
