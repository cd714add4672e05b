#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// What the daemon and `muster-netns` say to each other, one message a datagram (SOCK_SEQPACKET).
///
/// A request: version, what is asked, folder (2 octets, little endian), file name. It cannot name
/// a path. An answer to `look`: for each folder a message, and one for each file in it; then `end`.
/// An answer to `open`: one message, with sockets beside it if it is good.
namespace muster::lb::netns {

inline constexpr std::uint8_t kVersion = 1;
inline constexpr std::size_t kMaxName = 255;  // NAME_MAX
inline constexpr std::size_t kMaxFolders = 16;
/// Files looked at in one folder; the rest is only counted.
inline constexpr std::size_t kMaxEntries = 4096;
inline constexpr std::size_t kMaxPath = 4095;
inline constexpr const char* kSocketPath = "/run/muster-netns.sock";

/// What came of a folder or a file in it.
enum class Verdict : std::uint8_t {
  good,
  bad_request,      // malformed, or no such folder
  no_folder,        // it is not there (yet)
  bad_folder,       // no folder, not root's, or others may write to it
  gone,             // the file is not there any more
  not_a_file,       // a symbolic link, a FIFO, a folder
  bad_owner,        // not root's, or others may write to it
  too_large,        // longer than a path
  bad_path,         // no absolute path in it
  unreachable,      // what it names cannot be opened
  not_a_namespace,  // it names something else than a network namespace
  own_namespace,    // the node's own
  failed,           // no sockets could be made
};
inline constexpr std::size_t kVerdicts = 13;
/// For metrics and programs: `bad_owner`.
std::string_view name_of(Verdict verdict) noexcept;
/// For people.
std::string_view to_string(Verdict verdict) noexcept;

/// A network namespace while it lives.
struct Identity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend auto operator<=>(const Identity&, const Identity&) = default;
};

struct Request {
  enum class Kind : std::uint8_t { look, open };
  Kind kind = Kind::look;
  std::uint16_t folder = 0;
  std::string name = {};
  friend bool operator==(const Request&, const Request&) = default;
};

struct Answer {
  enum class Kind : std::uint8_t { folder, entry, end };
  Kind kind = Kind::end;
  Verdict verdict = Verdict::good;
  std::uint16_t folder = 0;
  Identity id = {};
  std::uint32_t beyond = 0;  // of a folder: files that were not looked at
  std::string name = {};     // of a folder: its path
  friend bool operator==(const Answer&, const Answer&) = default;
};

inline constexpr std::size_t kRequestHead = 4;
inline constexpr std::size_t kMaxRequest = kRequestHead + kMaxName;
inline constexpr std::size_t kAnswerHead = 24;
inline constexpr std::size_t kMaxAnswer = kAnswerHead + kMaxPath;

/// Whether it can be a file's name in a folder.
bool is_file_name(std::string_view name) noexcept;

std::vector<std::uint8_t> encode(const Request& request);
std::vector<std::uint8_t> encode(const Answer& answer);
/// None: malformed.
std::optional<Request> decode_request(std::span<const std::uint8_t> bytes);
std::optional<Answer> decode_answer(std::span<const std::uint8_t> bytes);

/// The path in a file that names a namespace; none: there is no absolute path in it.
std::optional<std::string> path_in(std::string_view content);

}  // namespace muster::lb::netns
