#include "gossip/io/seal.hpp"

#include <algorithm>
#include <sodium.h>

#include <boost/system/errc.hpp>

#include "base/assert.hpp"

namespace muster::gossip {
namespace {

constexpr std::size_t kNonce = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t kTag = crypto_aead_xchacha20poly1305_ietf_ABYTES;
constexpr std::byte kNoKey{0};
static_assert(kKeyBytes == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);

const unsigned char* octets(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

std::uint64_t random_word() {
  std::uint64_t word = 0;
  randombytes_buf(&word, sizeof word);
  return word;
}

}  // namespace

Result<Key> parse_key(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) text = {};
  if (!text.empty()) text = text.substr(first, text.find_last_not_of(kSpace) - first + 1);
  Key key{};
  std::size_t length = 0;
  if (text.size() != 2 * kKeyBytes ||
      sodium_hex2bin(key.data(), key.size(), text.data(), text.size(), nullptr, &length, nullptr) !=
          0 ||
      length != kKeyBytes) {
    return make_error_code(boost::system::errc::invalid_argument);
  }
  return key;
}

std::string key_id(const Key& key) {
  std::array<unsigned char, crypto_generichash_BYTES_MIN> hash{};
  crypto_generichash(hash.data(), hash.size(), key.data(), key.size(), nullptr, 0);
  std::array<char, 9> text{};
  // Not the octet that travels as the box's hint.
  sodium_bin2hex(text.data(), text.size(), hash.data() + 1, 4);
  return {text.data(), 8};
}

SodiumSealer::SodiumSealer(std::vector<Key> keys) {
  MUSTER_ASSERT(sodium_init() >= 0);
  set_keys(std::move(keys));
}

SodiumSealer::~SodiumSealer() {
  wipe();
}

void SodiumSealer::wipe() {
  for (Entry& entry : keys_) sodium_memzero(entry.key.data(), entry.key.size());
  keys_.clear();
}

void SodiumSealer::set_keys(std::vector<Key> keys) {
  MUSTER_ASSERT(!keys.empty() && keys.size() <= kMaxKeys);
  wipe();
  for (Key& key : keys) {
    std::array<unsigned char, crypto_generichash_BYTES_MIN> hash{};
    crypto_generichash(hash.data(), hash.size(), key.data(), key.size(), nullptr, 0);
    // 0 says "no key".
    keys_.push_back({key, static_cast<unsigned char>(hash[0] == 0 ? 1 : hash[0])});
    sodium_memzero(key.data(), key.size());
  }
}

void SodiumSealer::seal(std::span<const std::byte> aad, std::span<const std::byte> plain,
                        std::vector<std::byte>& out) {
  const Entry& entry = keys_.front();
  const std::size_t start = out.size();
  out.resize(start + 1 + kNonce + plain.size() + kTag);
  auto* box = reinterpret_cast<unsigned char*>(out.data() + start);
  box[0] = entry.hint;
  randombytes_buf(box + 1, kNonce);
  crypto_aead_xchacha20poly1305_ietf_encrypt(box + 1 + kNonce, nullptr, octets(plain), plain.size(),
                                             octets(aad), aad.size(), nullptr, box + 1,
                                             entry.key.data());
}

bool SodiumSealer::open(std::span<const std::byte> aad, std::span<const std::byte> box,
                        std::vector<std::byte>& plain) {
  if (box.size() < 1 + kNonce + kTag) return false;
  const auto* bytes = octets(box);
  for (const Entry& entry : keys_) {
    if (entry.hint != bytes[0]) continue;
    plain.resize(box.size() - 1 - kNonce - kTag);
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(
            reinterpret_cast<unsigned char*>(plain.data()), nullptr, nullptr, bytes + 1 + kNonce,
            box.size() - 1 - kNonce, octets(aad), aad.size(), bytes + 1, entry.key.data()) == 0) {
      return true;
    }
  }
  plain.clear();
  return false;
}

std::uint64_t SodiumSealer::random() {
  return random_word();
}

void PlainSealer::seal(std::span<const std::byte>, std::span<const std::byte> plain,
                       std::vector<std::byte>& out) {
  out.push_back(kNoKey);
  out.insert(out.end(), plain.begin(), plain.end());
}

bool PlainSealer::open(std::span<const std::byte>, std::span<const std::byte> box,
                       std::vector<std::byte>& plain) {
  if (box.empty() || box[0] != kNoKey) return false;
  plain.assign(box.begin() + 1, box.end());
  return true;
}

std::uint64_t PlainSealer::random() {
  MUSTER_ASSERT(sodium_init() >= 0);
  return random_word();
}

}  // namespace muster::gossip
