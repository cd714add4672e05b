#include "daemon/only_one.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <boost/system/errc.hpp>
#include <doctest/doctest.h>

namespace muster::daemon {
namespace {

std::string own_name(const char* what) {
  return std::string{"muster-test-"} + what + std::to_string(::getpid());
}

TEST_CASE("only one can have the name, and the next one once it has gone") {
  const std::string name = own_name("only");
  {
    const auto first = OnlyOne::take(name);
    REQUIRE(first.has_value());
    CHECK(first->taken());
    for (int again = 0; again < 3; ++again) {
      const auto second = OnlyOne::take(name);
      REQUIRE_FALSE(second.has_value());
      CHECK(second.error() == boost::system::errc::address_in_use);
    }
  }
  CHECK(OnlyOne::take(name)->taken());
}

TEST_CASE("a name that some other user has taken keeps nobody from serving") {
  if (::geteuid() != 0) return;  // only root can become somebody else
  const std::string name = own_name("other");
  int ready[2];
  int end[2];
  REQUIRE(::pipe(ready) == 0);
  REQUIRE(::pipe(end) == 0);
  const int child = ::fork();
  if (child == 0) {
    ::close(end[1]);
    if (::setuid(65534) != 0) ::_exit(1);
    const auto held = OnlyOne::take(name);
    char octet = held && held->taken() ? 'y' : 'n';
    if (::write(ready[1], &octet, 1) == 1) (void)!::read(end[0], &octet, 1);
    ::_exit(0);
  }
  char octet = 0;
  REQUIRE(::read(ready[0], &octet, 1) == 1);
  CHECK(octet == 'y');
  const auto mine = OnlyOne::take(name);
  REQUIRE(mine.has_value());
  CHECK_FALSE(mine->taken());
  for (const int fd : {ready[0], ready[1], end[0], end[1]}) ::close(fd);
  ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace muster::daemon
