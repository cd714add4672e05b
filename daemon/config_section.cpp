#include "daemon/config_section.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <sstream>

#include "mesos/core/zk_url.hpp"

namespace muster::daemon {
namespace {

std::string in_quotes(std::string_view text) {
  return '"' + std::string{text} + '"';
}

// How a value looks to the person who wrote it.
std::string shown(const toml::node& node) {
  if (node.is_string()) return in_quotes(mesos::without_credentials(**node.as_string()));
  std::ostringstream out;
  node.visit([&](const auto& typed) { out << typed; });
  return out.str();
}

std::optional<Duration> parse_duration(std::string_view text) {
  std::int64_t count = 0;
  const char* const end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data(), end, count);
  if (error != std::errc{} || count < 0 || count > 1'000'000'000) return std::nullopt;
  const std::string_view unit{next, static_cast<std::size_t>(end - next)};
  if (unit == "ms") return Duration{count};
  if (unit == "s") return std::chrono::seconds{count};
  if (unit == "m") return std::chrono::minutes{count};
  if (unit == "h") return std::chrono::hours{count};
  return std::nullopt;
}

std::string shown(Duration duration) {
  const auto count = duration.count();
  if (count % 3'600'000 == 0 && count > 0)
    return in_quotes(std::to_string(count / 3'600'000) + "h");
  if (count % 60'000 == 0 && count > 0) return in_quotes(std::to_string(count / 60'000) + "m");
  if (count % 1'000 == 0) return in_quotes(std::to_string(count / 1'000) + "s");
  return in_quotes(std::to_string(count) + "ms");
}

// Insertions, deletions, replacements (Levenshtein 1966) that make `b` of `a`.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& known) {
  std::optional<std::string> best;
  std::size_t least = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const std::size_t apart = distance(word, candidate);
    if (apart < least) {
      least = apart;
      best = candidate;
    }
  }
  return best;
}

std::string Section::full(std::string_view key) const {
  return path_.empty() ? std::string{key} : path_ + '.' + std::string{key};
}

std::string Section::where(const std::string& path, const toml::node& node) const {
  // What was set from outside may be a whole table.
  for (std::string above = path; !above.empty();) {
    if (const auto origin = document_.origins.find(above); origin != document_.origins.end()) {
      return origin->second + ": ";
    }
    const std::size_t dot = above.rfind('.');
    above.resize(dot == std::string::npos ? 0 : dot);
  }
  return document_.file + ':' + std::to_string(node.source().begin.line) + ": ";
}

void Section::fail(const toml::node& node, std::string_view key, std::string_view expected) const {
  throw ConfigError{where(full(key), node) + full(key) + ": expected " + std::string{expected} +
                    ", got " + shown(node)};
}

void Section::fail(std::string_view key, std::string_view expected) const {
  fail(*table_->get(key), key, expected);
}

const toml::node* Section::find(std::string_view key, Help help, std::string fallback) {
  know(key);
  document_.options.push_back(
      {full(key), help.fallback.empty() ? std::move(fallback) : std::string{help.fallback},
       std::string{help.meaning}, help.live});
  return table_ == nullptr ? nullptr : table_->get(key);
}

Section Section::table(std::string_view key) {
  know(key);
  const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
  if (node != nullptr && !node->is_table()) fail(*node, key, "a table");
  return Section{document_, node == nullptr ? nullptr : node->as_table(), full(key)};
}

void Section::map(std::string_view key, Help help,
                  const std::function<void(Section&, const std::string&)>& take) {
  const toml::node* node = find(key, help, "none");
  if (node == nullptr) return;
  if (!node->is_table()) fail(*node, key, "a table");
  const std::size_t options = document_.options.size();
  Section items{document_, node->as_table(), full(key)};
  for (const auto& [name, value] : *node->as_table()) take(items, std::string{name.str()});
  document_.options.resize(options);  // the user's keys are no options of ours
}

void Section::text(std::string_view key, std::string& out, Help help) {
  const toml::node* node = find(key, help, in_quotes(out));
  if (node == nullptr) return;
  if (!node->is_string()) fail(*node, key, "a string");
  out = **node->as_string();
}

void Section::path(std::string_view key, std::filesystem::path& out, Help help) {
  std::string value = out.string();
  text(key, value, help);
  out = value;
}

void Section::boolean(std::string_view key, bool& out, Help help) {
  const toml::node* node = find(key, help, out ? "true" : "false");
  if (node == nullptr) return;
  if (!node->is_boolean()) fail(*node, key, "true or false");
  out = **node->as_boolean();
}

std::optional<std::int64_t> Section::whole_number(std::string_view key, std::int64_t low,
                                                  std::int64_t high, std::string fallback,
                                                  Help help) {
  const toml::node* node = find(key, help, std::move(fallback));
  if (node == nullptr) return std::nullopt;
  const auto* value = node->as_integer();
  if (value == nullptr || **value < low || **value > high) {
    fail(*node, key, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return **value;
}

void Section::duration(std::string_view key, Duration low, Duration high, Duration& out,
                       Help help) {
  const toml::node* node = find(key, help, shown(out));
  if (node == nullptr) return;
  const auto value = node->is_string() ? parse_duration(**node->as_string()) : std::nullopt;
  if (!value || *value < low || *value > high) {
    fail(*node, key,
         "a duration like \"500ms\", \"5s\" or \"10m\", from " + std::to_string(low.count()) +
             "ms to " + std::to_string(high.count()) + "ms");
  }
  out = *value;
}

void Section::each_text(std::string_view key, std::string_view expected, Help help,
                        const std::function<bool(const std::string&)>& take) {
  const toml::node* node = find(key, help, "none");
  if (node == nullptr) return;
  const auto one = [&](const toml::node& item) {
    if (!item.is_string() || !take(**item.as_string())) fail(item, key, expected);
  };
  if (!node->is_array()) return one(*node);
  for (const toml::node& item : *node->as_array()) one(item);
}

void Section::choice(std::string_view key, const std::vector<std::string_view>& words,
                     std::string& out, Help help) {
  const toml::node* node = find(key, help, in_quotes(out));
  if (node == nullptr) return;
  if (node->is_string() && std::ranges::find(words, **node->as_string()) != words.end()) {
    out = **node->as_string();
    return;
  }
  std::string expected;
  for (std::size_t i = 0; i < words.size(); ++i) {
    expected += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + in_quotes(words[i]);
  }
  fail(*node, key, expected);
}

void Section::finish() const {
  if (table_ == nullptr) return;
  for (const auto& [key, value] : *table_) {
    if (std::ranges::find(known_, key.str()) != known_.end()) continue;
    std::string list;
    for (const std::string& name : known_) list += (list.empty() ? "" : ", ") + name;
    const auto meant = nearest(key.str(), known_);
    throw ConfigError{where(full(key.str()), value) + full(key.str()) + ": unknown key; " +
                      (meant ? "is \"" + *meant + "\" meant? " : "") +
                      (path_.empty() ? std::string{"the sections are "} : "[" + path_ + "] has ") +
                      list};
  }
}

}  // namespace muster::daemon
