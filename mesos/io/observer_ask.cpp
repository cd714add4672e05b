#include <algorithm>
#include <array>

#include "mesos/io/observer_impl.hpp"
#include "mesos/io/worker.hpp"

// One question and its answer: redirects, certificates, credentials, the body.

namespace muster::mesos {
namespace {

constexpr std::size_t kMaxRedirects = 5;
constexpr std::size_t kMaxErrorBody = 200;

}  // namespace

/// Asks, and follows redirects to the leader; a POST is sent again as it was.
asio::awaitable<Result<Observer::Impl::Opened, std::string>> Observer::Impl::open(
    Target target, HttpRequest request) {
  for (std::size_t hop = 0; hop <= kMaxRedirects; ++hop) {
    auto opened = co_await open_once(target, request);
    if (!opened || !is_redirect(opened->head.status)) co_return opened;
    auto next = targets_.redirect(target, opened->head.location);
    if (!next) co_return sentence(target.url, next.error());
    target = std::move(*next);
  }
  targets_.forget_leader();
  co_return sentence(target.url, "more than 5 redirects; do the masters agree on who leads?");
}

asio::awaitable<Result<Observer::Impl::Opened, std::string>> Observer::Impl::open_once(
    Target target, HttpRequest request) {
  const MasterUrl& url = target.url;
  if (!request.aside && status_.state != "polling") show("connecting", to_string(url));
  if (url.tls) {
    std::string error = co_await load_certificates();
    if (!error.empty()) co_return error;
  }
  auto addresses = co_await resolver_.resolve(url.host, options_.connect_timeout);
  if (!addresses) {
    co_return sentence(url, "cannot find the address: " + addresses.error().message());
  }
  if (!IpAddress::parse(url.host) && target.configured) {
    master_addresses_.insert_or_assign(url.host, *addresses);
  }
  HttpSession session{control_, url, url.tls ? &certificates_.context() : nullptr};
  const auto connected = co_await session.connect(*addresses, options_.connect_timeout);
  if (!connected) {
    co_return sentence(url, "cannot connect: " + connected.error().message());
  }
  metrics_.show_expiry("master", session.peer_expiry());
  request.authorization = authorization(target);
  const auto head = co_await session.ask(std::move(request), options_.response_timeout);
  if (!head) co_return sentence(url, "no answer: " + head.error().message());
  co_return Opened{std::move(session), *head, std::move(target)};
}

/// Before each connection with TLS, so that renewed files are taken.
asio::awaitable<std::string> Observer::Impl::load_certificates() {
  auto load = [this] { return certificates_.load(); };
  auto loading = on_worker<std::string>(workers_, std::move(load));
  std::string error = co_await std::move(loading);
  metrics_.show_expiry("client", certificates_.client_expiry());
  co_return error;
}

/// One sentence about an answer that is of no use.
asio::awaitable<std::string> Observer::Impl::refusal(Opened opened) {
  const unsigned status = opened.head.status;
  std::string what = std::to_string(status);
  if (status == 401) {
    const bool sent = !authorization(opened.target).empty();
    const bool has = sent || !options_.basic_user.empty() || !options_.bearer_token.empty();
    what += sent  ? ": the master does not accept these credentials"
            : has ? ": the master wants credentials, which are kept for the masters in the list"
                  : ": the master wants credentials and none are configured";
    if (!opened.head.www_authenticate.empty()) {
      what += " (" + in_quotes(opened.head.www_authenticate) + ")";
    }
  } else {
    std::array<char, kMaxErrorBody> body{};
    const auto size = co_await opened.session.read_some(body, options_.connect_timeout);
    if (size && *size > 0) what += ": " + in_quotes(std::string_view{body.data(), *size});
  }
  co_return sentence(opened.target.url, what);
}

std::string Observer::Impl::authorization(const Target& target) const {
  if (!target.trusted) return {};
  return muster::mesos::authorization(
      {options_.basic_user, options_.basic_secret, options_.bearer_token});
}

/// Reads all of the answer; returns what went wrong, or nothing.
asio::awaitable<std::string> Observer::Impl::read_body(Opened& opened, std::string& body) {
  return read_answer(opened.session, opened.head, body,
                     {options_.max_response_bytes, options_.response_timeout});
}

}  // namespace muster::mesos
