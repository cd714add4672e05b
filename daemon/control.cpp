#include "daemon/control.hpp"

#include <cerrno>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/system/errc.hpp>

#include "base/io/async.hpp"

namespace muster::daemon {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
namespace errc = boost::system::errc;

constexpr Duration kLimit{5'000};  // for a line to come, and for the answer to go

ErrorCode last_error() {
  return {errno, boost::system::system_category()};
}

asio::awaitable<Result<std::string>> read_line(asio::local::stream_protocol::socket& socket) {
  std::string text;
  ErrorCode error;
  const std::size_t size =
      co_await asio::async_read_until(socket, asio::dynamic_buffer(text, kMaxControlLine), '\n',
                                      asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return error;
  text.resize(size - 1);
  co_return text;
}

asio::awaitable<Result<std::size_t>> write_all(asio::local::stream_protocol::socket& socket,
                                               std::string text) {
  ErrorCode error;
  const std::size_t size = co_await asio::async_write(
      socket, asio::buffer(text), asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return error;
  co_return size;
}

json::object refusal(const std::string& why) {
  return {{"ok", false}, {"error", why}};
}

}  // namespace

Control::Control(asio::any_io_executor executor, std::filesystem::path path, Handler handler)
    : path_{std::move(path)},
      handler_{std::move(handler)},
      acceptor_{executor},
      tasks_{std::move(executor)} {}

Control::~Control() {
  if (bound_) ::unlink(path_.c_str());
}

Result<void> Control::start() {
  if (path_.string().size() >= sizeof(sockaddr_un{}.sun_path)) {
    return make_error_code(errc::filename_too_long);
  }
  std::error_code ignored;  // binding says what is wrong
  std::filesystem::create_directories(path_.parent_path(), ignored);
  struct stat info {};
  if (::lstat(path_.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode)) return make_error_code(errc::file_exists);
    Protocol::socket probe{acceptor_.get_executor()};
    ErrorCode error;
    probe.connect(Protocol::endpoint{path_.string()}, error);
    if (error != errc::connection_refused) return make_error_code(errc::address_in_use);
    if (::unlink(path_.c_str()) != 0) return last_error();
  }
  ErrorCode error;
  acceptor_.open(Protocol{}, error);
  if (!error) acceptor_.bind(Protocol::endpoint{path_.string()}, error);
  if (error) return error;
  bound_ = true;
  // Nobody else can connect before this: it takes the right to write, which no umask leaves them.
  if (::chmod(path_.c_str(), 0660) != 0) return last_error();
  acceptor_.listen(static_cast<int>(kMaxControlConnections), error);
  if (error) return error;
  return {};
}

asio::awaitable<void> Control::run() {
  co_await asio::this_coro::throw_if_cancelled(false);
  for (;;) {
    ErrorCode error;
    Protocol::socket socket{acceptor_.get_executor()};
    co_await acceptor_.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none) break;
    // Above the bound it is closed at once: whoever asks sees it, and may ask again.
    if (!error && connections_ < kMaxControlConnections) tasks_.spawn(serve(std::move(socket)));
  }
  tasks_.stop();
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  co_await tasks_.join();
}

asio::awaitable<void> Control::serve(Protocol::socket socket) {
  ++connections_;
  ucred peer{};
  socklen_t size = sizeof peer;
  const bool known =
      ::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  // In two steps: GCC 12 destroys such a temporary twice within a co_await.
  auto reading = read_line(socket);
  const auto line = co_await with_timeout(std::move(reading), kLimit);
  if (known && line) {
    auto writing = write_all(socket, answer(*line, {peer.uid, peer.pid}));
    co_await with_timeout(std::move(writing), kLimit);
  }
  --connections_;
}

std::string Control::answer(std::string_view line, Peer peer) const {
  ErrorCode error;
  const json::value value = json::parse(line, error);
  const json::object* const request = error ? nullptr : value.if_object();
  const json::value* const what = request != nullptr ? request->if_contains("do") : nullptr;
  if (what == nullptr || !what->is_string()) {
    return json::serialize(refusal("expected a JSON object with a text \"do\", on one line")) +
           '\n';
  }
  return json::serialize(handler_(*request, peer)) + '\n';
}

}  // namespace muster::daemon
