#include "dev/json_writer.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include "base/json_text.hpp"

namespace muster::dev {

std::string json_number(double value) {
  if (!std::isfinite(value)) return "0.0";  // JSON has no word for it
  // 1.8e308 in fixed notation has 309 digits, 5e-324 about 1100.
  std::array<char, 1200> digits;
  const auto end =
      std::to_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::fixed)
          .ptr;
  std::string out{digits.data(), end};
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

JsonWriter& JsonWriter::begin_object() {
  separate();
  out_ += '{';
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::begin_object(std::string_view name) {
  key(name);
  return begin_object();
}

JsonWriter& JsonWriter::end_object() {
  out_ += '}';
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::begin_array() {
  separate();
  out_ += '[';
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::begin_array(std::string_view name) {
  key(name);
  return begin_array();
}

JsonWriter& JsonWriter::end_array() {
  out_ += ']';
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::text(std::string_view value) {
  separate();
  append_json_string(out_, value);
  return *this;
}

JsonWriter& JsonWriter::text(std::string_view name, std::string_view value) {
  key(name);
  return text(value);
}

JsonWriter& JsonWriter::integer(std::string_view name, std::int64_t value) {
  return raw(name, std::to_string(value));
}

JsonWriter& JsonWriter::number(std::string_view name, double value) {
  return raw(name, json_number(value));
}

JsonWriter& JsonWriter::boolean(std::string_view name, bool value) {
  return raw(name, value ? "true" : "false");
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  separate();
  out_ += json;
  return *this;
}

JsonWriter& JsonWriter::raw(std::string_view name, std::string_view json) {
  key(name);
  return raw(json);
}

void JsonWriter::separate() {
  if (comma_) out_ += ',';
  comma_ = true;
}

void JsonWriter::key(std::string_view name) {
  separate();
  append_json_string(out_, name);
  out_ += ':';
  comma_ = false;
}

}  // namespace muster::dev
