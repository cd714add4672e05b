#include "mesos/io/http_ask.hpp"

#include <algorithm>
#include <array>
#include <openssl/evp.h>
#include <vector>

#include "mesos/core/problems.hpp"
#include "mesos/core/recordio.hpp"
#include "mesos/io/worker.hpp"

// GCC 12 does not see that a coroutine frame's new and delete are a pair.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace muster::mesos {
namespace asio = boost::asio;
namespace {

constexpr Duration kMaxTransfer{10 * 60'000};  // of one answer, however slowly it trickles
constexpr std::size_t kReadSize = std::size_t{64} * 1024;
constexpr std::size_t kMaxErrorBody = 200;

}  // namespace

std::string authorization(const Access& from) {
  if (!from.bearer_token.empty()) return "Bearer " + from.bearer_token;
  if (from.basic_user.empty() && from.basic_secret.empty()) return {};
  const std::string plain = from.basic_user + ':' + from.basic_secret;
  std::string encoded(4 * (plain.size() / 3 + 1) + 1, '\0');  // and EVP's closing zero
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(plain.data()),
                                   static_cast<int>(plain.size()));
  encoded.resize(static_cast<std::size_t>(size));
  return "Basic " + encoded;  // Mesos matches the scheme with its case
}

asio::awaitable<std::string> read_answer(HttpSession& session, const HttpHead& head,
                                         std::string& body, AnswerLimits limits) {
  const std::string too_large = "the answer is larger than max_response_bytes";
  const auto length = head.content_length;
  if (length && *length > limits.octets) co_return too_large;
  body.reserve(std::min<std::size_t>(length.value_or(0), RecordIoDecoder::kMaxReserve));
  std::vector<char> piece(kReadSize);
  const TimePoint begun = Clock::now();
  for (;;) {
    const auto size = co_await session.read_some(piece, limits.silence);
    if (!size) co_return "the answer broke off: " + size.error().message();
    if (*size == 0) co_return std::string{};
    if (body.size() + *size > limits.octets) co_return too_large;
    if (Clock::now() - begun > kMaxTransfer) co_return std::string{"the answer takes too long"};
    body.append(piece.data(), *size);
  }
}

asio::awaitable<Result<Asker::Answer, std::string>> Asker::ask(MasterUrl url,
                                                               std::vector<IpAddress> addresses,
                                                               HttpRequest request) {
  if (url.tls) {
    std::string error = co_await load_certificates();
    if (!error.empty()) co_return error;
  }
  HttpSession session{control_, url, url.tls ? &certificates_.context() : nullptr};
  const auto connected = co_await session.connect(std::move(addresses), limits_.connect);
  if (!connected) co_return sentence(url, "cannot connect: " + connected.error().message());
  metrics_.show_peer_expiry(session.peer_expiry());
  const auto head = co_await session.ask(std::move(request), limits_.response);
  if (!head) co_return sentence(url, "no answer: " + head.error().message());
  co_return Answer{std::move(session), *head};
}

/// Before each connection with TLS, so that renewed files are taken.
asio::awaitable<std::string> Asker::load_certificates() {
  auto load = [this] { return certificates_.load(); };
  auto loading = on_worker<std::string>(workers_, std::move(load));
  std::string error = co_await std::move(loading);
  metrics_.show_client_expiry(certificates_.client_expiry());
  co_return error;
}

asio::awaitable<std::string> refusal_text(HttpSession& session, unsigned status, Duration limit) {
  std::array<char, kMaxErrorBody> body{};
  const auto size = co_await session.read_some(body, limit);
  std::string what = std::to_string(status);
  if (size && *size > 0) what += ": " + in_quotes(std::string_view{body.data(), *size});
  co_return what;
}

}  // namespace muster::mesos
