#include "mesos/io/zk_detector.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/io/async.hpp"
#include "base/io/resolver.hpp"
#include "base/io/to_asio.hpp"
#include "base/rng.hpp"
#include "mesos/core/problems.hpp"
#include "mesos/core/zk_wire.hpp"
#include "mesos/io/either.hpp"

namespace muster::mesos {
namespace asio = boost::asio;
using asio::ip::tcp;
namespace {

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
// A change of leader makes several changes of the node in a row.
constexpr int kMaxRounds = 20;

}  // namespace

class ZkDetector::Impl {
 public:
  Impl(asio::any_io_executor executor, ZkOptions options, Events events)
      : executor_{std::move(executor)},
        options_{std::move(options)},
        events_{std::move(events)},
        resolver_{executor_},
        rng_{options_.seed},
        at_{rng_.below(options_.url.servers.size())} {}

  asio::awaitable<void> run();

 private:
  struct Answer {
    std::string broken;     // one sentence; empty: there is one
    std::int32_t code = 0;  // ZooKeeper's
    std::string body;
  };
  struct Session {
    explicit Session(const asio::any_io_executor& executor) : socket{executor} {}
    tcp::socket socket;
    Duration timeout{};
    std::int32_t xid = 0;
    bool changed = false;  // a watch has fired
    TimePoint heard{};
  };

  asio::awaitable<void> visit(const ZkUrl::Server& server, std::string& error);
  asio::awaitable<Result<std::string>> enter(const ZkUrl::Server& server, Session& session);
  asio::awaitable<void> follow(Session& session, std::string& error);
  asio::awaitable<void> keep_alive(Session& session, std::string& error);
  asio::awaitable<Result<std::vector<MasterInfo>, std::string>> list(Session& session);
  asio::awaitable<std::string> until_changed(Session& session);
  asio::awaitable<Result<std::string>> read_frame(Session& session);
  asio::awaitable<Answer> ask(Session& session, std::string request);
  std::string send(Session& session, const std::string& request);
  void say(std::vector<MasterInfo> masters);
  Duration backoff();

  asio::any_io_executor executor_;
  const ZkOptions options_;
  Events events_;
  Resolver resolver_;
  Rng rng_;
  std::size_t at_;
  std::size_t failures_ = 0;  // in a row
  bool absent_ = false;       // the path is not there
  std::optional<std::vector<MasterInfo>> said_;
};

asio::awaitable<void> ZkDetector::Impl::run() {
  for (;;) {
    const ZkUrl::Server server = options_.url.servers[at_++ % options_.url.servers.size()];
    std::string error;
    co_await visit(server, error);
    events_.on_connected(false);
    ++failures_;
    events_.on_error("ZooKeeper at " + server.host + ':' + std::to_string(server.port.number()) +
                     ": " + error);
    co_await sleep_for(backoff());
  }
}

/// The servers are gone through quickly; only then it is waited longer.
Duration ZkDetector::Impl::backoff() {
  const std::size_t rounds = failures_ / options_.url.servers.size();
  const auto doublings = std::min<std::size_t>(rounds, 16);
  const auto full = std::min(options_.backoff_max.count(),
                             options_.backoff_min.count() * (std::int64_t{1} << doublings));
  const auto half = static_cast<std::uint64_t>(std::max<std::int64_t>(full / 2, 0));
  return Duration{static_cast<std::int64_t>(half + rng_.below(half + 1))};
}

asio::awaitable<void> ZkDetector::Impl::visit(const ZkUrl::Server& server, std::string& error) {
  Session session{executor_};
  auto entered = co_await with_timeout(enter(server, session), options_.connect_timeout);
  if (!entered) {
    error = "cannot connect: " + entered.error().message();
  } else if (!entered->empty()) {
    error = *entered;
  } else {
    std::string silence;
    co_await either(follow(session, error), keep_alive(session, silence));
    if (!silence.empty()) error = silence;  // and what follow() said is that it was ended
    // So that the server forgets the session now and not when it times out.
    send(session, zk::close_request(++session.xid));
  }
}

/// Connects, and shows user and password. The text is what the server did not like.
asio::awaitable<Result<std::string>> ZkDetector::Impl::enter(const ZkUrl::Server& server,
                                                             Session& session) {
  auto addresses = co_await resolver_.resolve(server.host, options_.connect_timeout);
  if (!addresses) co_return addresses.error();
  std::vector<tcp::endpoint> endpoints;
  for (const IpAddress& address : *addresses)
    endpoints.push_back(to_asio<tcp::endpoint>({address, server.port}));
  const auto [error, endpoint] = co_await asio::async_connect(session.socket, endpoints, kToken);
  if (error) co_return error;
  ErrorCode ignored;
  session.socket.set_option(tcp::no_delay{true}, ignored);
  session.socket.non_blocking(true, ignored);
  std::string broken = send(session, zk::connect_request(options_.session_timeout));
  if (!broken.empty()) co_return broken;
  const auto greeting = co_await read_frame(session);
  if (!greeting) co_return greeting.error();
  const auto timeout = zk::parse_connected(*greeting);
  if (!timeout) co_return std::string{"it grants no session"};
  session.timeout = std::min(*timeout, options_.session_timeout);
  if (options_.url.auth.empty()) co_return std::string{};
  broken = send(session, zk::auth_request(options_.url.auth));
  if (!broken.empty()) co_return broken;
  const auto frame = co_await read_frame(session);
  if (!frame) co_return frame.error();
  const auto reply = zk::parse_reply(*frame);
  if (!reply || reply->xid != zk::kAuthXid) co_return std::string{"it does not speak ZooKeeper"};
  co_return reply->error == 0 ? std::string{} : zk::describe(reply->error);
}

/// Reads the list whenever it has changed. Ends with an error.
asio::awaitable<void> ZkDetector::Impl::follow(Session& session, std::string& error) {
  for (;;) {
    session.changed = false;
    auto masters = co_await list(session);
    if (!masters) {
      error = masters.error();
      co_return;
    }
    if (absent_) {
      events_.on_error(to_string(options_.url) + ": the path is not there; no master has been");
      co_await sleep_for(options_.absent_retry);
      continue;
    }
    failures_ = 0;
    events_.on_connected(true);
    say(std::move(*masters));
    error = co_await until_changed(session);
    if (!error.empty()) co_return;
  }
}

asio::awaitable<Result<std::vector<MasterInfo>, std::string>> ZkDetector::Impl::list(
    Session& session) {
  const std::string& path = options_.url.path;
  for (int round = 0; round < kMaxRounds; ++round) {
    session.changed = false;
    auto answer = co_await ask(session, zk::children_request(++session.xid, path));
    if (!answer.broken.empty()) co_return answer.broken;
    absent_ = answer.code == zk::kNoNode;
    if (absent_) co_return std::vector<MasterInfo>{};
    if (answer.code != 0) co_return path + ": " + zk::describe(answer.code);
    const auto children = zk::parse_children(answer.body);
    if (!children) co_return path + ": its children cannot be read";
    std::vector<MasterInfo> masters;
    bool gone = false;
    for (const std::string& name : master_nodes(*children)) {
      const std::string node = (path == "/" ? std::string{} : path) + '/' + name;
      answer = co_await ask(session, zk::data_request(++session.xid, node));
      if (!answer.broken.empty()) co_return answer.broken;
      gone = gone || answer.code == zk::kNoNode;  // since the list was read
      if (answer.code == zk::kNoNode) continue;
      if (answer.code != 0) co_return node + ": " + zk::describe(answer.code);
      auto info = parse_master_info(zk::parse_data(answer.body).value_or(std::string_view{}));
      if (info) {
        masters.push_back(std::move(*info));
        continue;
      }
      events_.on_error("ZooKeeper's " + in_quotes(node) + ": " + info.error());
      // Who leads must be readable; taking the next one for it would be wrong.
      if (masters.empty()) co_return std::string{"it is not known who leads"};
    }
    if (!gone) co_return masters;
  }
  co_return path + ": changes faster than it can be read";
}

asio::awaitable<std::string> ZkDetector::Impl::until_changed(Session& session) {
  while (!session.changed) {
    const auto frame = co_await read_frame(session);
    if (!frame) co_return "the connection broke: " + frame.error().message();
    const auto reply = zk::parse_reply(*frame);
    if (!reply) co_return std::string{"it does not speak ZooKeeper"};
    // Any word of a watch: there is only the one, and reading once more does no harm.
    if (reply->xid == zk::kWatchXid) session.changed = true;
  }
  co_return std::string{};
}

/// Sends, and reads until the answer to it is there.
asio::awaitable<ZkDetector::Impl::Answer> ZkDetector::Impl::ask(Session& session,
                                                                std::string request) {
  Answer answer;
  answer.broken = send(session, request);
  while (answer.broken.empty()) {
    const auto frame = co_await read_frame(session);
    if (!frame) {
      answer.broken = "the connection broke: " + frame.error().message();
      break;
    }
    const auto reply = zk::parse_reply(*frame);
    if (!reply) {
      answer.broken = "it does not speak ZooKeeper";
      break;
    }
    if (reply->xid == zk::kWatchXid) session.changed = true;
    if (reply->xid != session.xid) continue;
    answer.code = reply->error;
    answer.body = reply->body;
    break;
  }
  co_return answer;
}

/// Pings, and ends when the server has been silent for too long.
asio::awaitable<void> ZkDetector::Impl::keep_alive(Session& session, std::string& error) {
  session.heard = Clock::now();
  for (;;) {
    co_await sleep_for(session.timeout / 3);
    if (Clock::now() - session.heard >= session.timeout * 2 / 3) {
      error = "it is silent";
      co_return;
    }
    error = send(session, zk::ping_request());
    if (!error.empty()) co_return;
  }
}

asio::awaitable<Result<std::string>> ZkDetector::Impl::read_frame(Session& session) {
  std::array<unsigned char, 4> head{};
  const auto [error, got] = co_await asio::async_read(session.socket, asio::buffer(head), kToken);
  if (error) co_return error;
  std::size_t size = 0;
  for (const unsigned char octet : head) size = size << 8 | octet;
  if (size > zk::kMaxFrame) co_return ErrorCode{asio::error::message_size};
  std::string frame(size, '\0');
  const auto [cut, rest] = co_await asio::async_read(session.socket, asio::buffer(frame), kToken);
  if (cut) co_return cut;
  session.heard = Clock::now();
  co_return frame;
}

/// Without waiting: requests are small, and a server that leaves so much unread that one does not
/// fit is as good as gone. So no two coroutines ever write at a time.
std::string ZkDetector::Impl::send(Session& session, const std::string& request) {
  ErrorCode error;
  const std::size_t sent = session.socket.write_some(asio::buffer(request), error);
  if (error) return "cannot send: " + error.message();
  return sent == request.size() ? std::string{} : std::string{"it does not read"};
}

void ZkDetector::Impl::say(std::vector<MasterInfo> masters) {
  if (said_ == masters) return;
  said_ = masters;
  events_.on_masters(std::move(masters));
}

ZkDetector::ZkDetector(asio::any_io_executor executor, ZkOptions options, Events events)
    : impl_{std::make_unique<Impl>(std::move(executor), std::move(options), std::move(events))} {}
ZkDetector::~ZkDetector() = default;

asio::awaitable<void> ZkDetector::run() {
  return impl_->run();
}

}  // namespace muster::mesos
