#include "base/io/resolver.hpp"

#include <array>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <doctest/doctest.h>

#include "base/io/task_group.hpp"

using namespace muster;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

/// A DNS server on loopback that answers every question with the same records, or not at all.
class FakeDns {
 public:
  explicit FakeDns(asio::io_context& context)
      : socket_{context, {asio::ip::address_v4::loopback(), 0}}, group_{context.get_executor()} {
    group_.spawn(serve());
  }

  Endpoint endpoint() const {
    return {IpAddress{IpAddress::V4{127, 0, 0, 1}}, *Port::from(socket_.local_endpoint().port())};
  }
  void stop() { group_.stop(); }
  asio::awaitable<void> join() { return group_.join(); }

  std::size_t asked = 0;
  bool silent = false;
  unsigned rcode = 0;
  std::vector<std::array<std::uint8_t, 4>> v4;
  std::optional<std::array<std::uint8_t, 16>> v6;

 private:
  asio::awaitable<void> serve() {
    std::array<char, 512> question{};
    for (;;) {
      asio::ip::udp::endpoint sender;
      const std::size_t size =
          co_await socket_.async_receive_from(asio::buffer(question), sender, asio::use_awaitable);
      ++asked;
      if (silent || size < 17) continue;
      const std::string reply = answer({question.data(), size});
      co_await socket_.async_send_to(asio::buffer(reply), sender, asio::use_awaitable);
    }
  }

  std::string answer(const std::string& question) const {
    const std::size_t end = question.find('\0', 12) + 5;  // name, type, class
    const bool wants_v6 = question[end - 3] == 28;
    std::string records;
    const auto add = [&records](char type, const auto& octets) {
      records += std::string{"\xc0\x0c\0", 3} + type + std::string{"\0\1\0\0\0\5\0", 7};
      records += static_cast<char>(octets.size());
      records.append(octets.begin(), octets.end());
    };
    std::size_t count = 0;
    if (!wants_v6) {
      for (const auto& octets : v4) add(1, octets);
      count = v4.size();
    } else if (v6) {
      add(28, *v6);
      count = 1;
    }
    std::string out = question.substr(0, 2) + "\x81";
    out += static_cast<char>(0x80U | rcode);
    out += std::string{"\0\1\0", 3} + static_cast<char>(count) + std::string(4, '\0');
    return out + question.substr(12, end - 12) + records;
  }

  asio::ip::udp::socket socket_;
  TaskGroup group_;
};

using Answer = Result<std::vector<IpAddress>>;

/// Runs one resolve() against `dns`, which is then stopped.
struct Lookup {
  asio::io_context context;
  FakeDns dns{context};

  Answer operator()(std::string host, Duration limit = 20s) {
    Resolver resolver{context.get_executor(), {.servers = {dns.endpoint()}}};
    std::optional<Answer> answer;
    asio::co_spawn(context, ask(resolver, std::move(host), limit, answer),
                   [](std::exception_ptr failure) { CHECK_FALSE(failure); });
    context.run();
    REQUIRE(answer.has_value());
    return *answer;
  }

 private:
  asio::awaitable<void> ask(Resolver& resolver, std::string host, Duration limit,
                            std::optional<Answer>& out) {
    out = co_await resolver.resolve(std::move(host), limit);
    dns.stop();
    co_await dns.join();
  }
};

IpAddress ip(const char* text) {
  return *IpAddress::parse(text);
}

}  // namespace

TEST_SUITE_BEGIN("base/io/resolver");

TEST_CASE("a name that is not there, and a server that fails, are told apart") {
  Lookup missing;
  missing.dns.rcode = 3;
  CHECK(missing("nowhere.example.").error() == asio::error::host_not_found);
  Lookup empty;
  CHECK(empty("nowhere.example.").error() == asio::error::host_not_found);
  Lookup failing;
  failing.dns.rcode = 2;
  CHECK(failing("nowhere.example.").error() == asio::error::host_not_found_try_again);
}

TEST_CASE("a server that says nothing costs the limit and no more") {
  Lookup lookup;
  lookup.dns.silent = true;
  CHECK(lookup("web.example.", 30ms).error() == asio::error::timed_out);
}

TEST_CASE("a name has all its addresses, IPv4 first and each once") {
  Lookup lookup;
  lookup.dns.v4 = {{10, 0, 0, 1}, {10, 0, 0, 2}, {10, 0, 0, 1}};
  lookup.dns.v6 = {0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};
  const Answer answer = lookup("web.example.");
  REQUIRE(answer.has_value());
  REQUIRE(answer->size() == 3);
  CHECK((*answer)[2] == ip("fd01::7"));
  CHECK((*answer)[0].is_v4());
  CHECK((*answer)[1].is_v4());
}

TEST_CASE("literal addresses and names of the hosts file ask nobody") {
  for (const char* host : {"10.1.2.3", "fd01::9"}) {
    Lookup lookup;
    const Answer answer = lookup(host);
    REQUIRE(answer.has_value());
    CHECK(*answer == std::vector{ip(host)});
    CHECK(lookup.dns.asked == 0);
  }
  Lookup lookup;
  const Answer answer = lookup("localhost");
  REQUIRE(answer.has_value());
  CHECK(answer->front().is_loopback());
}

TEST_CASE("a resolver may go while somebody waits for it") {
  asio::io_context context;
  FakeDns dns{context};
  dns.silent = true;
  auto resolver = std::make_unique<Resolver>(context.get_executor(),
                                             Resolver::Options{.servers = {dns.endpoint()}});
  std::optional<Answer> answer;
  asio::co_spawn(context, resolver->resolve("web.example.", 50ms),
                 [&](std::exception_ptr failure, Answer value) {
                   CHECK_FALSE(failure);
                   answer = std::move(value);
                 });
  while (dns.asked == 0) context.run_one();
  resolver.reset();
  while (!answer) context.run_one();
  CHECK(answer->has_error());
  asio::co_spawn(
      context,
      [](FakeDns& server) -> asio::awaitable<void> {
        server.stop();
        co_await server.join();
      }(dns),
      [](std::exception_ptr failure) { CHECK_FALSE(failure); });
  context.run();
}

TEST_SUITE_END();
