#include "dev/load.hpp"

#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/io/async.hpp"
#include "base/io/task_group.hpp"
#include "base/io/to_asio.hpp"
#include "dev/dns_query.hpp"
#include "dev/load_report.hpp"

namespace muster::dev {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using asio::ip::udp;

namespace {

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
// Under way at once. Past it the generator would measure its own descriptors.
constexpr std::size_t kMaxUnderWay = 10'000;
constexpr double kMaxRequests = 10e6;  // of one run: their latencies are kept
constexpr auto kDnsTry = std::chrono::milliseconds{1000};
constexpr int kDnsTries = 2;  // of each nameserver, as glibc by default
constexpr std::size_t kMaxAnswer = 64 << 10;

double ms_since(TimePoint from) {
  return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

LoadFailure kind_of(const ErrorCode& error) {
  namespace e = asio::error;
  if (error == e::connection_refused) return LoadFailure::refused;
  if (error == e::connection_reset || error == e::broken_pipe) return LoadFailure::reset;
  if (error == e::timed_out) return LoadFailure::timed_out;
  if (error == e::host_unreachable || error == e::network_unreachable) {
    return LoadFailure::unreachable;
  }
  if (error == e::eof || error == http::error::end_of_stream ||
      error == http::error::partial_message) {
    return LoadFailure::closed;
  }
  return LoadFailure::other;
}

class Load {
 public:
  explicit Load(const LoadOptions& options) : options_{options}, tasks_{io_.get_executor()} {
    std::ifstream file{"/etc/resolv.conf"};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    for (const IpAddress& address : nameservers(text)) servers_.push_back(address);
  }

  LoadReport run() {
    tasks_.spawn(send_all());
    io_.run();
    return std::move(report_);
  }

 private:
  asio::awaitable<void> send_all();
  asio::awaitable<void> one(TimePoint due, LoadResult result);
  asio::awaitable<std::optional<IpAddress>> lookup();
  asio::awaitable<Result<std::vector<IpAddress>>> ask(IpAddress server, Family family);
  asio::awaitable<Result<std::string>> exchange(IpAddress to, LoadResult& result);
  asio::awaitable<Result<std::string>> exchange_udp(IpAddress to, LoadResult& result);

  LoadOptions options_;
  asio::io_context io_;
  std::vector<IpAddress> servers_;
  std::mt19937 ids_{std::random_device{}()};
  LoadReport report_;
  std::size_t under_way_ = 0;
  TaskGroup tasks_;
};

asio::awaitable<void> Load::send_all() {
  const auto count = static_cast<std::uint64_t>(options_.rate * options_.seconds);
  const TimePoint start = Clock::now();
  const double wall =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  asio::steady_timer timer{io_};
  for (std::uint64_t i = 0; i < count; ++i) {
    const double at = static_cast<double>(i) / options_.rate;
    const TimePoint due =
        start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>{at});
    if (due > Clock::now()) {
      timer.expires_at(due);
      co_await timer.async_wait(asio::use_awaitable);
    }
    LoadResult result;
    result.at_seconds = at;
    result.wall_seconds = wall + at;
    if (under_way_ >= kMaxUnderWay) {
      result.failure = LoadFailure::not_sent;
      report_.add(std::move(result));
      continue;
    }
    ++under_way_;
    tasks_.spawn(one(due, std::move(result)));
  }
}

asio::awaitable<void> Load::one(TimePoint due, LoadResult result) {
  const TimePoint began = Clock::now();
  const auto address = co_await lookup();
  result.dns_ms = ms_since(began);
  if (!address) {
    result.failure = LoadFailure::dns;
    result.remote = options_.host;
  } else {
    result.remote = to_string(Endpoint{*address, *Port::from(options_.port)});
    const auto limit = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>{options_.timeout_seconds});
    auto operation = options_.udp ? exchange_udp(*address, result) : exchange(*address, result);
    auto answer = co_await with_timeout(std::move(operation), limit);
    if (answer) {
      result.task = std::move(*answer);
    } else if (!result.failure) {
      result.failure = kind_of(answer.error());
    }
  }
  result.latency_ms = ms_since(due);
  report_.add(std::move(result));
  --under_way_;
}

asio::awaitable<std::optional<IpAddress>> Load::lookup() {
  if (const auto literal = IpAddress::parse(options_.host)) co_return *literal;
  for (int attempt = 0; attempt < kDnsTries; ++attempt) {
    for (const IpAddress& server : servers_) {
      for (const Family family : {Family::v4, Family::v6}) {
        const auto answer = co_await with_timeout(ask(server, family), kDnsTry);
        if (!answer) break;  // the next server
        if (!answer->empty()) co_return answer->front();
      }
    }
  }
  co_return std::nullopt;
}

asio::awaitable<Result<std::vector<IpAddress>>> Load::ask(IpAddress server, Family family) {
  const auto id = static_cast<std::uint16_t>(ids_());
  const std::string query = dns_query(id, options_.host, family);
  if (query.empty()) co_return ErrorCode{asio::error::host_not_found};
  const udp::endpoint to{to_asio(server), 53};
  udp::socket socket{io_};
  ErrorCode error;
  socket.open(to.protocol(), error);
  if (!error) socket.connect(to, error);  // so that a refusal is heard
  if (error) co_return error;
  const auto [send_error, sent] = co_await socket.async_send(asio::buffer(query), kNoThrow);
  if (send_error) co_return send_error;
  for (;;) {
    std::array<std::uint8_t, 4096> packet;
    const auto [receive_error, size] =
        co_await socket.async_receive(asio::buffer(packet), kNoThrow);
    if (receive_error) co_return receive_error;
    const auto answer = parse_dns_answer(std::span{packet}.first(size), id, family);
    if (!answer) continue;
    if (answer->rcode != 0) co_return ErrorCode{asio::error::host_not_found};
    co_return answer->addresses;
  }
}

asio::awaitable<Result<std::string>> Load::exchange(IpAddress to, LoadResult& result) {
  tcp::socket socket{io_};
  const auto [connect_error] =
      co_await socket.async_connect({to_asio(to), options_.port}, kNoThrow);
  // A refusal ends the handshake; a reset comes after it (tcp_reset() of the kernel): who was that
  // quick had the connection, before this process saw it.
  result.connected = !connect_error || connect_error == asio::error::connection_reset;
  if (connect_error) co_return connect_error;
  ErrorCode ignored;
  result.local_port = socket.local_endpoint(ignored).port();
  const std::string request = "GET " + options_.path + " HTTP/1.1\r\nHost: " + options_.host +
                              "\r\nConnection: close\r\n\r\n";
  const auto [write_error, written] =
      co_await asio::async_write(socket, asio::buffer(request), kNoThrow);
  if (write_error) co_return write_error;
  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxAnswer);
  const auto [read_error, octets] = co_await http::async_read(socket, buffer, parser, kNoThrow);
  if (read_error) co_return read_error;
  if (parser.get().result() != http::status::ok) {
    result.failure = LoadFailure::status;
    co_return ErrorCode{asio::error::invalid_argument};
  }
  const auto task = parser.get().find("X-Task-Id");
  co_return task == parser.get().end() ? std::string{"(unnamed)"} : std::string{task->value()};
}

asio::awaitable<Result<std::string>> Load::exchange_udp(IpAddress to, LoadResult& result) {
  udp::socket socket{io_};
  const udp::endpoint endpoint{to_asio(to), options_.port};
  ErrorCode error;
  socket.open(endpoint.protocol(), error);
  if (!error) socket.connect(endpoint, error);
  if (error) co_return error;
  result.local_port = socket.local_endpoint(error).port();
  const std::string ask = "muster-dev load\n";
  const auto [send_error, sent] = co_await socket.async_send(asio::buffer(ask), kNoThrow);
  if (send_error) co_return send_error;
  std::array<char, 2048> packet;
  const auto [receive_error, size] = co_await socket.async_receive(asio::buffer(packet), kNoThrow);
  if (receive_error) co_return receive_error;
  // "task <id>" is the first line of what `muster-dev serve` sends.
  const std::string_view text{packet.data(), size};
  constexpr std::string_view kPrefix = "task ";
  if (!text.starts_with(kPrefix)) co_return std::string{"(unnamed)"};
  co_return std::string{text.substr(kPrefix.size(), text.find('\n') - kPrefix.size())};
}

std::uint16_t port_of(std::string_view text, const std::string& whole) {
  const auto port = Port::parse(text);
  if (!port) throw std::runtime_error{"\"" + whole + "\": expected a port from 1 to 65535"};
  return port->number();
}

}  // namespace

void parse_url(const std::string& url, LoadOptions& into) {
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) throw std::runtime_error{"--url: expected http://NAME:PORT/PATH"};
  std::string_view rest = std::string_view{url}.substr(kScheme.size());
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash);
  into.path = slash == rest.size() ? "/" : std::string{rest.substr(slash)};
  if (authority.starts_with('[')) {
    const std::size_t close = authority.find(']');
    if (close == std::string_view::npos) throw std::runtime_error{"--url: a ] is missing"};
    into.host = authority.substr(1, close - 1);
    authority.remove_prefix(close + 1);
  } else {
    into.host = authority.substr(0, authority.find(':'));
    authority.remove_prefix(std::min(into.host.size(), authority.size()));
  }
  if (into.host.empty()) throw std::runtime_error{"--url: expected http://NAME:PORT/PATH"};
  if (!authority.empty()) into.port = port_of(authority.substr(1), url);
}

void parse_udp_target(const std::string& target, LoadOptions& into) {
  const std::size_t colon = target.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    throw std::runtime_error{"--udp: expected NAME:PORT"};
  }
  into.udp = true;
  into.host = target.substr(0, colon);
  into.port = port_of(std::string_view{target}.substr(colon + 1), target);
}

int run_load(const LoadOptions& options) {
  if (options.rate * options.seconds > kMaxRequests) {
    throw std::runtime_error{"--rate times --seconds: at most 10,000,000 requests"};
  }
  Load load{options};
  const LoadReport report = load.run();
  const std::string text =
      options.json ? report.json(options.rate, options.seconds) + "\n" : report.text();
  std::fputs(text.c_str(), stdout);
  return report.all_answered() ? 0 : 1;
}

}  // namespace muster::dev
