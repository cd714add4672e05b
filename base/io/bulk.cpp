#include "base/io/bulk.hpp"

#include <deque>

#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "base/time.hpp"

namespace muster {
namespace {

namespace asio = boost::asio;

constexpr Duration kBulkPatience{10};

struct Piece {
  std::function<void()> run;
  asio::executor_work_guard<asio::any_io_executor> work;  // run() does not end before it
};

class BulkQueue : public asio::execution_context::service {
 public:
  using key_type = BulkQueue;
  static inline asio::execution_context::id id;

  explicit BulkQueue(asio::execution_context& context)
      : asio::execution_context::service{context} {}

  std::deque<Piece> pieces;

 private:
  void shutdown() noexcept override { pieces.clear(); }
};

}  // namespace

void post_bulk(const asio::any_io_executor& executor, std::function<void()> piece) {
  auto& context = asio::query(executor, asio::execution::context);
  if (asio::has_service<BulkQueue>(context)) {
    asio::use_service<BulkQueue>(context).pieces.push_back(
        {std::move(piece), asio::make_work_guard(executor)});
  } else {
    asio::post(executor, std::move(piece));
  }
}

void run_with_bulk(asio::io_context& context) {
  auto& pieces = asio::use_service<BulkQueue>(context).pieces;
  while (!context.stopped()) {
    if (pieces.empty()) {
      if (context.run_one() == 0) return;
      continue;
    }
    const TimePoint until = Clock::now() + kBulkPatience;
    while (context.poll_one() > 0 && Clock::now() < until) {
    }
    if (context.stopped()) return;
    const Piece piece = std::move(pieces.front());
    pieces.pop_front();
    piece.run();
  }
}

}  // namespace muster
