#include "cli/ask.hpp"

#include <cstdio>

#include <boost/json.hpp>

#include "cli/http_client.hpp"
#include "cli/table.hpp"

namespace muster::cli {
namespace {

namespace json = boost::json;

constexpr Duration kLimit{10'000};  // a daemon with 100,000 tasks answers in well under a second
constexpr std::size_t kShownOfError = 200;

}  // namespace

Result<json::value, AskError> ask_daemon(const Target& target, const std::string& path) {
  const std::string where = to_string(target.daemon);
  const auto reply = http_get(target.daemon, path, kLimit);
  if (!reply) {
    return AskError{"no answer from " + where + " (" + reply.error().message() +
                    "); is the daemon running? (muster agent --config FILE)"};
  }
  if (reply->status != 200) {
    return AskError{where + path + " answered " + std::to_string(reply->status) + ": " +
                        reply->body.substr(0, kShownOfError),
                    reply->status};
  }
  boost::system::error_code error;
  json::value value = json::parse(reply->body, error);
  if (error) return AskError{where + path + " did not answer with JSON", reply->status};
  return value;
}

const json::value* at(const json::value& value, std::string_view key) {
  const json::object* object = value.if_object();
  return object == nullptr ? nullptr : object->if_contains(key);
}

std::string text(const json::value& value, std::string_view key) {
  const json::value* found = at(value, key);
  if (found == nullptr || found->is_null()) return "";
  if (const json::string* string = found->if_string()) return std::string{*string};
  if (const json::array* items = found->if_array()) {
    std::string joined;
    for (const json::value& item : *items) {
      if (!item.is_string()) continue;
      joined += (joined.empty() ? "" : ", ") + std::string{item.get_string()};
    }
    return joined;
  }
  return json::serialize(*found);
}

double number(const json::value& value, std::string_view key) {
  const json::value* found = at(value, key);
  boost::system::error_code error;
  const double out = found == nullptr ? 0 : found->to_number<double>(error);
  return error ? 0 : out;
}

bool is_true(const json::value& value, std::string_view key) {
  const json::value* found = at(value, key);
  return found != nullptr && found->is_bool() && found->get_bool();
}

const json::array& list(const json::value& value, std::string_view key) {
  static const json::value none;
  const json::value* found = at(value, key);
  return items(found == nullptr ? none : *found);
}

const json::array& items(const json::value& value) {
  static const json::array none;
  return value.is_array() ? value.get_array() : none;
}

std::string escaped(std::string_view value) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : value) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    const auto octet = static_cast<unsigned char>(c);
    if (plain) {
      out += c;
    } else {
      out += {'%', kHex[octet >> 4U], kHex[octet & 15U]};
    }
  }
  return out;
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void print_json(const json::value& value) {
  print(json::serialize(value) + '\n');
}

int complain(const std::string& line, int status) {
  std::fprintf(stderr, "muster: %s\n", printable(line).c_str());
  return status;
}

}  // namespace muster::cli
