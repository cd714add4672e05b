#include <cstdio>
#include <exception>
#include <random>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>

#include "cli/ask.hpp"
#include "cli/http_client.hpp"
#include "dns/core/query.hpp"
#include "dns/core/text.hpp"
#include "dns/io/client.hpp"

namespace muster::cli {
namespace {

namespace asio = boost::asio;

constexpr Duration kLimit{5000};  // the daemon's own forwarder gives up well before that
constexpr std::size_t kRcodeAt = 3;
constexpr std::size_t kAnswerCountAt = 6;

}  // namespace

std::optional<Endpoint> dns_server_of(const Endpoint& daemon) {
  const auto reply = http_get(daemon, "/v1/status", kLimit);
  if (!reply || reply->status != 200) return std::nullopt;
  boost::system::error_code error;
  const boost::json::value status = boost::json::parse(reply->body, error);
  const boost::json::value* listen = error ? nullptr : status.find_pointer("/dns/listen/0", error);
  if (listen == nullptr || !listen->is_string()) return std::nullopt;
  auto endpoint = Endpoint::parse(std::string_view{listen->get_string()});
  if (endpoint && endpoint->address.is_unspecified()) endpoint->address = daemon.address;
  return endpoint;
}

Result<std::vector<std::byte>> ask_dns(const Endpoint& server, std::vector<std::byte> query) {
  asio::io_context context;
  Result<std::vector<std::byte>> reply = asio::error::make_error_code(asio::error::timed_out);
  std::exception_ptr failure;
  asio::co_spawn(context, dns::ask(server, std::move(query), kLimit),
                 [&](std::exception_ptr error, Result<std::vector<std::byte>> value) {
                   failure = error;
                   reply = std::move(value);
                 });
  context.run();
  if (failure) std::rethrow_exception(failure);
  return reply;
}

int resolve(const Target& target, const ResolveOptions& options) {
  const auto name = dns::Name::parse(options.name);
  if (!name) return complain("\"" + options.name + "\" is not a domain name", kUsage);
  const auto type = dns::parse_type(options.type);
  if (!type) {
    return complain("\"" + options.type + "\" is not a record type like A, AAAA, SRV or PTR",
                    kUsage);
  }
  const auto server = options.server ? options.server : dns_server_of(target.daemon);
  if (!server) {
    return complain("no answer from " + to_string(target.daemon) +
                    ", so where DNS listens is not known; is the daemon running? (--server "
                    "names a DNS server)");
  }
  dns::QueryOptions query;
  query.id = static_cast<std::uint16_t>(std::random_device{}());
  const auto reply = ask_dns(*server, dns::make_query(*name, *type, query));
  if (!reply) {
    return complain("no reply from " + to_string(*server) + ": " + reply.error().message());
  }
  std::fputs(dns::reply_text(*reply).c_str(), stdout);
  std::printf(";; from %s\n", to_string(*server).c_str());
  const auto octet = [&](std::size_t at) { return std::to_integer<unsigned>((*reply)[at]); };
  if (reply->size() < dns::kHeaderSize) return kFailed;
  const bool no_error = (octet(kRcodeAt) & 0x0FU) == 0;
  const bool answered = (octet(kAnswerCountAt) << 8U | octet(kAnswerCountAt + 1)) != 0;
  return no_error && answered ? kGood : kFailed;
}

}  // namespace muster::cli
