#pragma once

#include <string>
#include <string_view>

#include <boost/json/value.hpp>

#include "base/result.hpp"
#include "cli/commands.hpp"

namespace muster::cli {

/// Why there is no answer.
struct AskError {
  std::string line;     // for people
  unsigned status = 0;  // of HTTP; 0: none came
};

/// The JSON that the daemon has at `path`.
Result<boost::json::value, AskError> ask_daemon(const Target&, const std::string& path);

/// What is at `key` of an object; null if there is nothing, so that an older client can read a
/// newer daemon and the other way round.
const boost::json::value* at(const boost::json::value&, std::string_view key);
/// The same as text: a list joined by commas, "" for null or nothing.
std::string text(const boost::json::value&, std::string_view key);
/// A number; 0 for anything else.
double number(const boost::json::value&, std::string_view key);
bool is_true(const boost::json::value&, std::string_view key);
/// An array; an empty one for anything else.
const boost::json::array& list(const boost::json::value&, std::string_view key);
/// The value itself as an array, likewise.
const boost::json::array& items(const boost::json::value&);

/// A value of a query string, with everything but letters, digits and "-._~" escaped.
std::string escaped(std::string_view value);

/// Writes to stdout. Control characters are the caller's own: names from the cluster go through
/// printable().
void print(std::string_view text);
void print_json(const boost::json::value&);
/// "muster: <line>" to stderr; returns `status`.
int complain(const std::string& line, int status = kFailed);

}  // namespace muster::cli
