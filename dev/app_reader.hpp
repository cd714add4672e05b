#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "dev/app.hpp"

namespace muster::dev {

/// Thrown inside the parser of app definitions only; parse_apps() turns it into its result.
struct AppFault {
  AppError error;
};

/// A JSON value and where it stands in its document, so that every complaint can name the place.
/// Borrows the document.
class JsonPlace {
 public:
  JsonPlace(const boost::json::value& value, std::string path)
      : value_{&value}, path_{std::move(path)} {}

  const std::string& path() const noexcept { return path_; }
  const boost::json::value& value() const noexcept { return *value_; }

  /// Throws AppFault: "expected WANTED, not <what stands there>".
  [[noreturn]] void expected(std::string_view wanted) const;
  /// Throws AppFault with `what` as it is.
  [[noreturn]] void fail(std::string what) const;

  const boost::json::object& object() const;
  std::vector<JsonPlace> items() const;
  std::string text() const;
  bool boolean() const;
  double number(double least, double most) const;
  std::uint64_t integer(std::uint64_t least, std::uint64_t most) const;

  /// The member, or nothing if it is absent or null.
  std::optional<JsonPlace> find(std::string_view key) const;
  /// Every key of this object that is not in `known` is an error.
  void only(std::initializer_list<std::string_view> known) const;

 private:
  const boost::json::value* value_;
  std::string path_;
};

}  // namespace muster::dev
