#include "lb/core/netns.hpp"

#include <algorithm>
#include <utility>

namespace muster::lb::netns {
namespace {

struct Words {
  std::string_view name;
  std::string_view text;
};

constexpr std::array<Words, kVerdicts> kWords{{
    {"good", "good"},
    {"bad_request", "not a request that is understood"},
    {"no_folder", "the folder is not there"},
    {"bad_folder", "the folder is not root's, or others may write to it"},
    {"gone", "the file is gone"},
    {"not_a_file", "neither a namespace nor a plain file"},
    {"bad_owner", "the file is not root's, or others may write to it"},
    {"too_large", "the file is longer than a path"},
    {"bad_path", "there is no absolute path in the file"},
    {"unreachable", "what the file names cannot be opened"},
    {"not_a_namespace", "what the file names is no network namespace"},
    {"own_namespace", "it is the node's own namespace"},
    {"failed", "no sockets could be made in the namespace"},
}};

const Words& words(Verdict verdict) noexcept {
  const auto index = static_cast<std::size_t>(verdict);
  return kWords[index < kVerdicts ? index : static_cast<std::size_t>(Verdict::failed)];
}

template <class Number>
void put(std::vector<std::uint8_t>& out, Number number) {
  for (std::size_t i = 0; i < sizeof number; ++i) {
    out.push_back(static_cast<std::uint8_t>(number >> (8 * i)));
  }
}

template <class Number>
Number get(std::span<const std::uint8_t> bytes, std::size_t at) {
  Number number = 0;
  for (std::size_t i = 0; i < sizeof number; ++i) {
    number = static_cast<Number>(number | static_cast<Number>(Number{bytes[at + i]} << (8 * i)));
  }
  return number;
}

std::string text_from(std::span<const std::uint8_t> bytes, std::size_t at) {
  return {bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end()};
}

}  // namespace

std::string_view name_of(Verdict verdict) noexcept {
  return words(verdict).name;
}

std::string_view to_string(Verdict verdict) noexcept {
  return words(verdict).text;
}

bool is_file_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= kMaxName && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](char c) { return c == '/' || c == '\0'; });
}

std::vector<std::uint8_t> encode(const Request& request) {
  std::vector<std::uint8_t> out{kVersion, static_cast<std::uint8_t>(request.kind)};
  put(out, request.folder);
  out.insert(out.end(), request.name.begin(), request.name.end());
  return out;
}

std::optional<Request> decode_request(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kRequestHead || bytes.size() > kMaxRequest || bytes[0] != kVersion) {
    return std::nullopt;
  }
  Request request{.folder = get<std::uint16_t>(bytes, 2), .name = text_from(bytes, kRequestHead)};
  if (bytes[1] == static_cast<std::uint8_t>(Request::Kind::look)) {
    return request == Request{} ? std::optional{std::move(request)} : std::nullopt;
  }
  if (bytes[1] != static_cast<std::uint8_t>(Request::Kind::open)) return std::nullopt;
  request.kind = Request::Kind::open;
  if (!is_file_name(request.name)) return std::nullopt;
  return request;
}

std::vector<std::uint8_t> encode(const Answer& answer) {
  std::vector<std::uint8_t> out{static_cast<std::uint8_t>(answer.kind),
                                static_cast<std::uint8_t>(answer.verdict)};
  put(out, answer.folder);
  put(out, answer.id.device);
  put(out, answer.id.inode);
  put(out, answer.beyond);
  out.insert(out.end(), answer.name.begin(), answer.name.end());
  return out;
}

std::optional<Answer> decode_answer(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kAnswerHead || bytes.size() > kMaxAnswer) return std::nullopt;
  if (bytes[0] > static_cast<std::uint8_t>(Answer::Kind::end) || bytes[1] >= kVerdicts) {
    return std::nullopt;
  }
  Answer answer{.kind = static_cast<Answer::Kind>(bytes[0]),
                .verdict = static_cast<Verdict>(bytes[1]),
                .folder = get<std::uint16_t>(bytes, 2),
                .id = {get<std::uint64_t>(bytes, 4), get<std::uint64_t>(bytes, 12)},
                .beyond = get<std::uint32_t>(bytes, 20),
                .name = text_from(bytes, kAnswerHead)};
  if (answer.kind == Answer::Kind::entry && !is_file_name(answer.name)) return std::nullopt;
  return answer;
}

std::optional<std::string> path_in(std::string_view content) {
  while (!content.empty() && (content.back() == '\n' || content.back() == '\r' ||
                              content.back() == ' ' || content.back() == '\t')) {
    content.remove_suffix(1);
  }
  if (content.empty() || content.size() > kMaxPath || content.front() != '/') return std::nullopt;
  const bool plain = std::all_of(content.begin(), content.end(), [](char c) {
    const auto octet = static_cast<unsigned char>(c);
    return octet >= 0x20 && octet != 0x7F;
  });
  if (!plain) return std::nullopt;
  return std::string{content};
}

}  // namespace muster::lb::netns
