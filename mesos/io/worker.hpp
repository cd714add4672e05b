#pragma once

#include <utility>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace muster::mesos {

/// Runs `work()` on a worker and comes back to the caller's executor with its result.
///
/// Not cancellable on purpose: what `work` borrows stays until it is done. `work` must not throw,
/// and is bounded by the size of what it is given.
template <class R, class Work>
boost::asio::awaitable<R> on_worker(boost::asio::thread_pool& workers, Work work) {
  namespace asio = boost::asio;
  auto initiate = [](auto handler, asio::thread_pool& pool, Work job) {
    auto home = asio::get_associated_executor(handler);
    auto guard = asio::make_work_guard(home);
    asio::post(pool, [handler = std::move(handler), job = std::move(job), home,
                      guard = std::move(guard)]() mutable {
      asio::post(home, [handler = std::move(handler), result = job()]() mutable {
        std::move(handler)(std::move(result));
      });
      guard.reset();
    });
  };
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>&, void(R)>(
      initiate, asio::use_awaitable, std::ref(workers), std::move(work));
}

}  // namespace muster::mesos
