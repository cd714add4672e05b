#pragma once

#include <functional>
#include <memory>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace muster {

// Long work on a thread that also answers: it is cut into pieces of some milliseconds, and between
// two of them everything else that is ready has its turn. asio::post() alone does not do that: what
// answers a client takes several turns of the queue, and would wait for a piece at each.

/// Has `piece` run on `executor`'s thread once nothing else is ready there, in the order of these
/// calls; never within this call. Call it on that thread. Where its io_context is not run by
/// run_with_bulk(), as in tests, this is asio::post().
void post_bulk(const boost::asio::any_io_executor& executor, std::function<void()> piece);

/// The rest of a coroutine as such a piece.
inline boost::asio::awaitable<void> yield_to_others(boost::asio::any_io_executor executor) {
  co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>&, void()>(
      [executor](auto handler) {
        auto kept = std::make_shared<decltype(handler)>(std::move(handler));
        post_bulk(executor, [kept] { std::move (*kept)(); });
      },
      boost::asio::use_awaitable);
}

/// io_context::run(), for one thread, with pieces of bulk work in between. What is ready may keep
/// the next piece waiting for some 10 ms, so that neither starves.
void run_with_bulk(boost::asio::io_context& context);

}  // namespace muster
