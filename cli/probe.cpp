#include "cli/probe.hpp"

#include <netdb.h>
#include <sys/socket.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>

#include "base/io/async.hpp"
#include "base/io/to_asio.hpp"

namespace muster::cli {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;

asio::awaitable<Result<std::string>> dial(Endpoint target) {
  tcp::socket socket{co_await asio::this_coro::executor};
  const auto [error] = co_await socket.async_connect(to_asio<tcp::endpoint>(target),
                                                     asio::as_tuple(asio::use_awaitable));
  if (error) co_return error;
  ErrorCode unknown;
  const auto local = socket.local_endpoint(unknown);
  co_return unknown ? std::string{} : local.address().to_string();
}

double milliseconds(TimePoint from) {
  return std::chrono::duration<double, std::milli>{Clock::now() - from}.count();
}

}  // namespace

std::vector<Probe> connect_to(const std::vector<Endpoint>& targets, Duration limit) {
  std::vector<Probe> out(targets.size());
  asio::io_context context;
  const TimePoint began = Clock::now();
  for (std::size_t i = 0; i < targets.size(); ++i) {
    asio::co_spawn(context, with_timeout(dial(targets[i]), limit),
                   [&probe = out[i], began](std::exception_ptr failure, Result<std::string> done) {
                     if (failure) std::rethrow_exception(failure);
                     probe.milliseconds = milliseconds(began);
                     probe.accepted = done.has_value();
                     if (done) {
                       probe.source = *done;
                     } else {
                       probe.error = done.error().message();
                     }
                   });
  }
  context.run();
  return out;
}

Probe route_to(const Endpoint& target) {
  asio::io_context context;
  udp::socket socket{context};
  ErrorCode error;
  const auto at = to_asio<udp::endpoint>(target);
  if (!socket.open(at.protocol(), error)) socket.connect(at, error);
  Probe out;
  const auto local = error ? udp::endpoint{} : socket.local_endpoint(error);
  out.accepted = !error;
  if (error) {
    out.error = error.message();
  } else {
    out.source = local.address().to_string();
  }
  return out;
}

std::vector<IpAddress> system_resolve(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  std::vector<IpAddress> out;
  if (getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return out;
  for (const addrinfo* row = found; row != nullptr; row = row->ai_next) {
    char text[NI_MAXHOST];
    if (getnameinfo(row->ai_addr, row->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) !=
        0) {
      continue;
    }
    if (const auto address = IpAddress::parse(text)) out.push_back(*address);
  }
  freeaddrinfo(found);
  return out;
}

}  // namespace muster::cli
