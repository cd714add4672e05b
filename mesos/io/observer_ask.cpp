#include "mesos/io/observer_impl.hpp"

// One question and its answer: redirects, certificates, credentials, the body.

namespace muster::mesos {
namespace {

constexpr std::size_t kMaxRedirects = 5;

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
  auto addresses = co_await resolver_.resolve(url.host, options_.connect_timeout);
  if (!addresses) {
    co_return sentence(url, "cannot find the address: " + addresses.error().message());
  }
  if (!IpAddress::parse(url.host) && target.configured) {
    master_addresses_.insert_or_assign(url.host, *addresses);
  }
  request.authorization = authorization(target);
  auto asking = asker_.ask(url, std::move(*addresses), std::move(request));
  auto answer = co_await std::move(asking);
  if (!answer) co_return answer.error();
  co_return Opened{std::move(answer->session), answer->head, std::move(target)};
}

/// One sentence about an answer that is of no use.
asio::awaitable<std::string> Observer::Impl::refusal(Opened opened) {
  const unsigned status = opened.head.status;
  std::string what;
  if (status == 401) {
    const bool sent = !authorization(opened.target).empty();
    const bool has = sent || !muster::mesos::authorization(options_.access).empty();
    what = sent  ? "401: the master does not accept these credentials"
           : has ? "401: the master wants credentials, which are kept for the masters in the list"
                 : "401: the master wants credentials and none are configured";
    if (!opened.head.www_authenticate.empty()) {
      what += " (" + in_quotes(opened.head.www_authenticate) + ")";
    }
  } else {
    what = co_await refusal_text(opened.session, status, options_.connect_timeout);
  }
  co_return sentence(opened.target.url, what);
}

std::string Observer::Impl::authorization(const Target& target) const {
  if (!target.trusted) return {};
  return muster::mesos::authorization(options_.access);
}

/// Reads all of the answer; returns what went wrong, or nothing.
asio::awaitable<std::string> Observer::Impl::read_body(Opened& opened, std::string& body) {
  return read_answer(opened.session, opened.head, body,
                     {options_.max_response_bytes, options_.response_timeout});
}

}  // namespace muster::mesos
