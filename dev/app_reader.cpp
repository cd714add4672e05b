#include "dev/app_reader.hpp"

#include <algorithm>
#include <cmath>

#include <boost/json/serialize.hpp>

#include "dev/json_writer.hpp"

namespace muster::dev {

namespace json = boost::json;

namespace {

// Long enough to recognise what was written, short enough for one line of a terminal.
constexpr std::size_t kShownOctets = 40;

std::string shown(const json::value& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  if (value.is_double()) return json_number(value.get_double());
  std::string text = json::serialize(value);
  if (text.size() > kShownOctets) text = text.substr(0, kShownOctets) + "...";
  return text;
}

std::string in_pointer(std::string_view key) {
  std::string out;
  for (const char c : key) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

// Further apart than this, a suggestion is a guess.
constexpr std::size_t kTypos = 3;

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i] == b[j] ? 0U : 1U);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

void JsonPlace::expected(std::string_view wanted) const {
  fail("expected " + std::string{wanted} + ", not " + shown(*value_));
}

void JsonPlace::fail(std::string what) const {
  throw AppFault{.error = {.where = path_.empty() ? "/" : path_, .what = std::move(what)}};
}

const json::object& JsonPlace::object() const {
  if (!value_->is_object()) expected("an object");
  return value_->get_object();
}

std::vector<JsonPlace> JsonPlace::items() const {
  if (!value_->is_array()) expected("a list");
  std::vector<JsonPlace> out;
  for (const json::value& item : value_->get_array()) {
    out.emplace_back(item, path_ + "/" + std::to_string(out.size()));
  }
  return out;
}

std::string JsonPlace::text() const {
  if (!value_->is_string()) expected("a string");
  const json::string& string = value_->get_string();
  // A NUL cannot be in a command, an argument or a variable, and would silently cut it short.
  if (std::find(string.begin(), string.end(), '\0') != string.end()) fail("contains a NUL octet");
  return std::string{string};
}

bool JsonPlace::boolean() const {
  if (!value_->is_bool()) expected("true or false");
  return value_->get_bool();
}

double JsonPlace::number(double least, double most) const {
  const std::string wanted = "a number from " + json_number(least) + " to " + json_number(most);
  if (!value_->is_number()) expected(wanted);
  const double number = value_->to_number<double>();
  if (!(number >= least && number <= most)) expected(wanted);
  return number;
}

std::uint64_t JsonPlace::integer(std::uint64_t least, std::uint64_t most) const {
  const std::string wanted =
      "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
  json::error_code error;
  if (!value_->is_number()) expected(wanted);
  const auto number = value_->to_number<std::uint64_t>(error);  // 3.0 is accepted, 3.5 and -1 not
  if (error || number < least || number > most) expected(wanted);
  return number;
}

std::optional<JsonPlace> JsonPlace::find(std::string_view key) const {
  const json::value* member = object().if_contains(key);
  if (member == nullptr || member->is_null()) return std::nullopt;
  return JsonPlace{*member, path_ + "/" + in_pointer(key)};
}

void JsonPlace::only(std::initializer_list<std::string_view> known) const {
  for (const auto& member : object()) {
    const std::string_view key{member.key().data(), member.key().size()};
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const auto nearest = std::min_element(known.begin(), known.end(), [&](auto a, auto b) {
      return edit_distance(key, a) < edit_distance(key, b);
    });
    std::string what = "unknown field";
    if (nearest != known.end() && edit_distance(key, *nearest) <= kTypos) {
      what += "; did you mean " + std::string{*nearest} + "?";
    }
    JsonPlace{member.value(), path_ + "/" + in_pointer(key)}.fail(std::move(what));
  }
}

}  // namespace muster::dev
