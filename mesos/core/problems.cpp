#include "mesos/core/problems.hpp"

#include <utility>

namespace muster::mesos {
namespace {

constexpr std::size_t kMaxQuoted = 120;

}  // namespace

std::string_view to_string(ParseError error) noexcept {
  switch (error) {
    case ParseError::not_json:
      return "not a JSON object, or cut short";
    case ParseError::unexpected_shape:
      return "not the JSON document that was asked for";
  }
  return "unknown";
}

void Problems::add(std::string_view kind, std::string where, std::string what) {
  if (kept_.size() >= kMaxKept) {
    ++left_out_;
    return;
  }
  kept_.push_back({std::string{kind}, std::move(where), std::move(what)});
}

void Problems::append(const Problems& others) {
  for (const Problem& problem : others.kept_) add(problem.kind, problem.where, problem.what);
  left_out_ += others.left_out_;
}

std::string in_quotes(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out{'"'};
  for (const char c : text.substr(0, kMaxQuoted)) {
    const auto octet = static_cast<unsigned char>(c);
    if (octet >= 0x20 && octet < 0x7F && c != '"' && c != '\\') {
      out += c;
    } else {
      out += "\\x";
      out += kHex[octet >> 4];
      out += kHex[octet & 0xF];
    }
  }
  out += text.size() > kMaxQuoted ? "\"…" : "\"";
  return out;
}

}  // namespace muster::mesos
