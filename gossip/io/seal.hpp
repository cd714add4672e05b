#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "gossip/core/link.hpp"

namespace muster::gossip {

inline constexpr std::size_t kKeyBytes = 32;
inline constexpr std::size_t kMaxKeys = 8;
using Key = std::array<unsigned char, kKeyBytes>;

/// 64 hexadecimal digits; surrounding white space is allowed, as a key file has it.
/// Error: invalid_argument.
Result<Key> parse_key(std::string_view text);

/// What people call a key: 8 hexadecimal digits of its hash. Tells nothing of the key.
std::string key_id(const Key&);

/// XChaCha20-Poly1305 with random nonces under a ring of cluster keys (libsodium). The first key
/// seals, all open. To rotate: add the new key everywhere, make it the first, drop the old one.
/// A box is: one octet that hints at the key, 24 of nonce, the content, 16 of tag.
class SodiumSealer : public Sealer {
 public:
  /// At least one key, at most kMaxKeys.
  explicit SodiumSealer(std::vector<Key> keys);
  ~SodiumSealer() override;
  SodiumSealer(const SodiumSealer&) = delete;
  SodiumSealer& operator=(const SodiumSealer&) = delete;

  void set_keys(std::vector<Key> keys);
  void seal(std::span<const std::byte> aad, std::span<const std::byte> plain,
            std::vector<std::byte>& out) override;
  bool open(std::span<const std::byte> aad, std::span<const std::byte> box,
            std::vector<std::byte>& plain) override;
  std::uint64_t random() override;

 private:
  struct Entry {
    Key key{};
    unsigned char hint = 0;
  };
  void wipe();
  std::vector<Entry> keys_;
};

/// No key: nothing is secret or proven. Only for loopback, or where the operator insists.
class PlainSealer : public Sealer {
 public:
  void seal(std::span<const std::byte> aad, std::span<const std::byte> plain,
            std::vector<std::byte>& out) override;
  bool open(std::span<const std::byte> aad, std::span<const std::byte> box,
            std::vector<std::byte>& plain) override;
  std::uint64_t random() override;
};

}  // namespace muster::gossip
