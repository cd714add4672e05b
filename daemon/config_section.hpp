#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <toml++/toml.h>
#include <vector>

#include "base/endpoint.hpp"
#include "base/time.hpp"
#include "daemon/config.hpp"

namespace muster::daemon {

/// What the manual says of an option. `fallback` is the default in words, where the value that the
/// option has without a word in the file does not say it.
struct Help {
  std::string_view meaning;
  std::string_view fallback = {};
  bool live = false;  // SIGHUP applies it
};

/// The document that is read, where each of its values comes from, and what was asked of it.
struct ConfigDocument {
  toml::table table;
  std::string file;
  std::map<std::string, std::string> origins;  // by path: of values that are not the file's
  std::vector<OptionHelp> options;             // every one that was asked for, in that order
};

/// One table of the document. It hands out values by key, notes what it was asked for, and knows at
/// the end which keys nobody asked for. Each function leaves `out` alone where the key is missing,
/// and throws ConfigError where its value is wrong. Lives no longer than the document.
class Section {
 public:
  explicit Section(ConfigDocument& document) : Section{document, &document.table, ""} {}

  Section table(std::string_view key);
  /// A table whose keys are the user's own: `take` gets each with a section that reads its value.
  void map(std::string_view key, Help help,
           const std::function<void(Section&, const std::string&)>& take);

  void text(std::string_view key, std::string& out, Help help);
  void path(std::string_view key, std::filesystem::path& out, Help help);
  void boolean(std::string_view key, bool& out, Help help);
  template <class Number>
  void integer(std::string_view key, std::int64_t low, std::int64_t high, Number& out, Help help) {
    const auto value = whole_number(key, low, high, std::to_string(out), help);
    if (value) out = static_cast<Number>(*value);
  }
  /// Such as "500ms", "5s", "10m", "24h".
  void duration(std::string_view key, Duration low, Duration high, Duration& out, Help help);
  /// One string or a list of strings, each taken by `take`, which says if it is right.
  void each_text(std::string_view key, std::string_view expected, Help help,
                 const std::function<bool(const std::string&)>& take);
  /// One word of a few.
  void choice(std::string_view key, const std::vector<std::string_view>& words, std::string& out,
              Help help);

  bool has(std::string_view key) const { return table_ != nullptr && table_->contains(key); }
  [[noreturn]] void fail(std::string_view key, std::string_view expected) const;
  /// Throws for the first key that was never asked for, with the nearest one that is known.
  void finish() const;

 private:
  Section(ConfigDocument& document, const toml::table* table, std::string path)
      : document_{document}, table_{table}, path_{std::move(path)} {}
  const toml::node* find(std::string_view key, Help help, std::string fallback);
  void know(std::string_view key) { known_.emplace_back(key); }
  std::optional<std::int64_t> whole_number(std::string_view key, std::int64_t low,
                                           std::int64_t high, std::string fallback, Help help);
  std::string full(std::string_view key) const;
  std::string where(const std::string& path, const toml::node& node) const;
  [[noreturn]] void fail(const toml::node& node, std::string_view key,
                         std::string_view expected) const;

  ConfigDocument& document_;
  const toml::table* table_;  // null: the document has none
  std::string path_;
  std::vector<std::string> known_;
};

/// Of `known`, the one that `word` was most likely meant to be; none if all are far from it.
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& known);

/// Puts the environment's and the command line's values into `document`, over the file's. `known`
/// are the options there are. Throws ConfigError for one that there is not.
void apply_overrides(ConfigDocument& document, const Overrides& overrides,
                     const std::vector<OptionHelp>& known);

/// The value at a dotted path; null: not there.
const toml::node* find_path(const toml::table& table, std::string_view path);

}  // namespace muster::daemon
