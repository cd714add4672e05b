#include "base/io/task_group.hpp"

#include <optional>
#include <stdexcept>

#include <boost/asio/io_context.hpp>
#include <doctest/doctest.h>

#include "base/io/async.hpp"

using namespace muster;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

asio::awaitable<Result<int>> answer_after(Duration delay, bool& unwound) {
  struct Flag {
    bool& set;
    ~Flag() { set = true; }
  } flag{unwound};
  co_await asio::steady_timer{co_await asio::this_coro::executor, delay}.async_wait(
      asio::use_awaitable);
  co_return 42;
}

asio::awaitable<Result<int>> throw_a_bug() {
  co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
  throw std::logic_error{"bug"};
}

Result<int> run(asio::io_context& context, asio::awaitable<Result<int>> body) {
  std::optional<Result<int>> result;
  std::exception_ptr failure;
  asio::co_spawn(context, std::move(body), [&](std::exception_ptr e, Result<int> value) {
    failure = e;
    result = value;
  });
  context.run();
  context.restart();
  if (failure) std::rethrow_exception(failure);
  return *result;
}

}  // namespace

TEST_SUITE_BEGIN("base/io/task_group");

TEST_CASE("with_timeout returns the result, or timed_out after the operation has unwound") {
  asio::io_context context;
  bool unwound = false;
  CHECK(run(context, with_timeout(answer_after(0ms, unwound), 60000ms)).value() == 42);
  unwound = false;
  CHECK(run(context, with_timeout(answer_after(60000ms, unwound), 1ms)).error() ==
        asio::error::timed_out);
  CHECK(unwound);
}

TEST_CASE("a bug in the operation surfaces as itself, not as a timeout") {
  asio::io_context context;
  CHECK_THROWS_AS(run(context, with_timeout(throw_a_bug(), 60000ms)), std::logic_error);
}

TEST_CASE("stop cancels every child and join returns") {
  asio::io_context context;
  TaskGroup group{context.get_executor()};
  bool first = false;
  bool second = false;
  bool joined = false;
  const auto child = [](bool& unwound) -> asio::awaitable<void> {
    (void)co_await answer_after(60000ms, unwound);
  };
  group.spawn(child(first));
  group.spawn(child(second));
  asio::co_spawn(
      context,
      [](TaskGroup& g, bool& flag) -> asio::awaitable<void> {
        co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
        g.stop();
        co_await g.join();
        flag = true;
      }(group, joined),
      [](std::exception_ptr e) { CHECK_FALSE(e); });
  context.run();
  CHECK(first);
  CHECK(second);
  CHECK(joined);
}

TEST_CASE("a child that fails cancels the rest and join says why") {
  asio::io_context context;
  TaskGroup group{context.get_executor()};
  bool other = false;
  bool told = false;
  group.spawn([](bool& unwound) -> asio::awaitable<void> {
    (void)co_await answer_after(60000ms, unwound);
  }(other));
  group.spawn([]() -> asio::awaitable<void> { (void)co_await throw_a_bug(); }());
  asio::co_spawn(
      context, [](TaskGroup& g) -> asio::awaitable<void> { co_await g.join(); }(group),
      [&](std::exception_ptr e) { told = e != nullptr; });
  context.run();
  CHECK(other);
  CHECK(told);
}

TEST_SUITE_END();
