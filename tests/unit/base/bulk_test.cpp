#include "base/io/bulk.hpp"

#include <functional>
#include <string>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <doctest/doctest.h>

using namespace muster;
namespace asio = boost::asio;

namespace {

/// A client's question, which takes `turns` turns of the queue.
void ask(asio::io_context& context, std::string& log, int turns) {
  if (turns == 0) {
    log += 'a';
  } else {
    asio::post(context, [&context, &log, turns] { ask(context, log, turns - 1); });
  }
}

}  // namespace

TEST_SUITE_BEGIN("bulk work");

TEST_CASE("what is ready is done between two pieces, however many turns it takes") {
  asio::io_context context;
  std::string log;
  int left = 3;
  std::function<void()> piece = [&] {
    log += 'p';
    ask(context, log, 5);
    if (--left > 0) post_bulk(context.get_executor(), piece);
  };
  asio::post(context, [&] { post_bulk(context.get_executor(), piece); });
  run_with_bulk(context);
  CHECK(log == "papapa");
}

TEST_CASE("a piece has its turn although something is always ready") {
  asio::io_context context;
  bool had_turn = false;
  std::function<void()> busy = [&] {
    if (!had_turn) asio::post(context, busy);
  };
  asio::post(context, [&] {
    busy();
    post_bulk(context.get_executor(), [&] { had_turn = true; });
  });
  run_with_bulk(context);
  CHECK(had_turn);
}

TEST_CASE("a coroutine gives way, and goes on in order with other pieces") {
  asio::io_context context;
  std::string log;
  const auto walk = [&](char name) -> asio::awaitable<void> {
    for (int i = 0; i < 3; ++i) {
      log += name;
      co_await yield_to_others(context.get_executor());
    }
  };
  asio::co_spawn(context, walk('x'), asio::detached);
  asio::co_spawn(context, walk('y'), asio::detached);
  run_with_bulk(context);
  CHECK(log == "xyxyxy");
}

TEST_CASE("a stopped context runs no piece, and what waits is let go with it") {
  auto held = std::make_shared<int>(1);
  bool ran = false;
  {
    asio::io_context context;
    asio::post(context, [&] {
      post_bulk(context.get_executor(), [&ran, held] { ran = true; });
      context.stop();
    });
    run_with_bulk(context);
  }
  CHECK_FALSE(ran);
  CHECK(held.use_count() == 1);
}

TEST_CASE("where nothing tells bulk from the rest, a piece is run as any handler") {
  asio::io_context context;
  bool ran = false;
  post_bulk(context.get_executor(), [&] { ran = true; });
  CHECK_FALSE(ran);
  context.run();
  CHECK(ran);
}

TEST_SUITE_END();
