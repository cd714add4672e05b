#include "mesos/io/http_ask.hpp"

#include <algorithm>
#include <openssl/evp.h>
#include <vector>

#include "mesos/core/recordio.hpp"

namespace muster::mesos {
namespace asio = boost::asio;
namespace {

constexpr Duration kMaxTransfer{10 * 60'000};  // of one answer, however slowly it trickles
constexpr std::size_t kReadSize = std::size_t{64} * 1024;

}  // namespace

std::string authorization(const Credentials& from) {
  if (!from.token.empty()) return "Bearer " + from.token;
  if (from.user.empty() && from.secret.empty()) return {};
  const std::string plain = from.user + ':' + from.secret;
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

}  // namespace muster::mesos
