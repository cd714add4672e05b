#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace muster::dev {

/// Writes JSON text in the order it is told, with numbers as Mesos prints them: doubles in the
/// fewest digits that read back the same, never an exponent, always with a decimal point
/// (`65536.0`, `0.05`). Boost.JSON would write `6.5536E4`, which no master says.
/// The caller keeps brackets balanced; strings go out as they are, with only `"`, `\` and control
/// characters escaped.
class JsonWriter {
 public:
  JsonWriter& begin_object();
  JsonWriter& begin_object(std::string_view key);
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& begin_array(std::string_view key);
  JsonWriter& end_array();

  JsonWriter& text(std::string_view value);
  JsonWriter& text(std::string_view key, std::string_view value);
  JsonWriter& integer(std::string_view key, std::int64_t value);
  JsonWriter& number(std::string_view key, double value);
  JsonWriter& boolean(std::string_view key, bool value);
  /// `json` is a complete value, already written.
  JsonWriter& raw(std::string_view json);
  JsonWriter& raw(std::string_view key, std::string_view json);

  const std::string& str() const& noexcept { return out_; }
  std::string str() && noexcept { return std::move(out_); }

 private:
  void separate();
  void key(std::string_view name);

  std::string out_;
  bool comma_ = false;  // a value was written at this level, so the next one needs a comma
};

/// A double as JsonWriter prints it.
std::string json_number(double value);

}  // namespace muster::dev
