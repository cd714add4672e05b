#include <algorithm>
#include <cctype>
#include <sstream>
#include <unistd.h>

#include "daemon/config_section.hpp"

namespace muster::daemon {
namespace {

constexpr std::string_view kPrefix = "MUSTER_";

std::string variable_of(std::string_view path) {
  std::string out{kPrefix};
  for (const char c : path) {
    out += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return out;
}

// `true`, `5`, `["a", "b"]` as TOML reads them; what TOML cannot read is a string: `5s`,
// `10.0.0.1`.
void put(toml::table& table, std::string_view path, const std::string& text) {
  toml::table* at = &table;
  for (std::size_t dot; (dot = path.find('.')) != std::string_view::npos;) {
    const std::string_view key = path.substr(0, dot);
    if (!at->contains(key)) at->insert(key, toml::table{});
    at = at->get(key)->as_table();
    if (at == nullptr) return;  // the file is wrong there, and is told so when it is read
    path.remove_prefix(dot + 1);
  }
  try {
    if (text.find('\n') == std::string::npos) {
      toml::table parsed = toml::parse("value = " + text);
      if (parsed.size() == 1) {
        at->insert_or_assign(path, std::move(*parsed.get("value")));
        return;
      }
    }
  } catch (const toml::parse_error&) {
    // A string without its quotation marks.
  }
  at->insert_or_assign(path, text);
}

}  // namespace

Overrides Overrides::from_environment() {
  Overrides out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text{*entry};
    const std::size_t equals = text.find('=');
    if (!text.starts_with(kPrefix) || equals == std::string_view::npos) continue;
    out.environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

void apply_overrides(ConfigDocument& document, const Overrides& overrides,
                     const std::vector<OptionHelp>& known) {
  std::map<std::string, std::string> variables;
  std::vector<std::string> names;
  std::vector<std::string> paths;
  std::vector<std::string> sections;  // MUSTER_DNS_: whose variables must be known
  for (const OptionHelp& option : known) {
    names.push_back(variable_of(option.path));
    variables.emplace(names.back(), option.path);
    paths.push_back(option.path);
    sections.push_back(variable_of(option.path.substr(0, option.path.find('.'))) + '_');
  }
  for (const auto& [name, text] : overrides.environment) {
    if (const auto found = variables.find(name); found != variables.end()) {
      put(document.table, found->second, text);
      document.origins[found->second] = name;
      continue;
    }
    const bool ours = std::ranges::any_of(
        sections, [&name = name](const auto& prefix) { return name.starts_with(prefix); });
    if (!ours) continue;
    const auto meant = nearest(name, names);
    throw ConfigError{name + ": no such option" + (meant ? "; is " + *meant + " meant?" : "")};
  }
  for (const std::string& text : overrides.set) {
    const std::size_t equals = text.find('=');
    const std::string path = text.substr(0, equals);
    if (equals == std::string::npos || std::ranges::find(paths, path) == paths.end()) {
      const auto meant = nearest(path, paths);
      throw ConfigError{"--set " + text + ": expected an option and its value like " +
                        "dns.ttl_seconds=10" + (meant ? "; is " + *meant + " meant?" : "")};
    }
    put(document.table, path, text.substr(equals + 1));
    document.origins[path] = "--set";
  }
}

const toml::node* find_path(const toml::table& table, std::string_view path) {
  const toml::table* at = &table;
  for (std::size_t dot; (dot = path.find('.')) != std::string_view::npos;) {
    const toml::node* node = at->get(path.substr(0, dot));
    at = node == nullptr ? nullptr : node->as_table();
    if (at == nullptr) return nullptr;
    path.remove_prefix(dot + 1);
  }
  return at->get(path);
}

}  // namespace muster::daemon
