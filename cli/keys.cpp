#include "cli/keys.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <optional>
#include <random>
#include <span>
#include <sstream>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include <boost/json.hpp>

#include "base/io/state_file.hpp"
#include "cli/ask.hpp"
#include "cli/commands.hpp"
#include "cli/table.hpp"
#include "gossip/io/seal.hpp"

namespace muster::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxAnswer = std::size_t{64} * 1024;
constexpr std::size_t kMaxKeyFile = std::size_t{64} * 1024;
constexpr time_t kPatienceSeconds = 5;

/// One request over the control socket; blocks for some seconds at most. Error: in words.
Result<json::value, AskError> ask_control(const std::filesystem::path& path,
                                          const json::object& request) {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  const std::string name = path.string();
  if (name.size() >= sizeof at.sun_path)
    return AskError{name + ": the name is too long for a socket"};
  std::memcpy(at.sun_path, name.c_str(), name.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{kPatienceSeconds, 0};
  (void)::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::string answer;
  bool good = ::connect(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
  const std::string line = json::serialize(request) + '\n';
  good = good &&
         ::send(fd, line.data(), line.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(line.size());
  std::array<char, 4096> part{};
  while (good && !answer.ends_with('\n') && answer.size() < kMaxAnswer) {
    const ssize_t got = ::recv(fd, part.data(), part.size(), 0);
    good = got >= 0;
    if (got <= 0) break;
    answer.append(part.data(), static_cast<std::size_t>(got));
  }
  const int error = errno;
  ::close(fd);
  if (!good) {
    return AskError{name + ": " + std::strerror(error) +
                    "; is the daemon running, and may you write there?"};
  }
  ErrorCode wrong;
  json::value value = json::parse(answer, wrong);
  if (wrong) return AskError{name + " did not answer with JSON"};
  if (!is_true(value, "ok")) return AskError{name + ": " + text(value, "error")};
  return value;
}

struct Line {
  std::string text;
  std::optional<gossip::Key> key;
};

std::vector<Line> lines_of(const std::string& file) {
  std::vector<Line> lines;
  std::istringstream in{file};
  for (std::string one; std::getline(in, one);) {
    const auto key = gossip::parse_key(one);
    lines.push_back({one, key ? std::optional{*key} : std::nullopt});
  }
  return lines;
}

std::string joined(const std::vector<Line>& lines) {
  std::string text;
  for (const Line& line : lines) text += line.text + '\n';
  return text;
}

std::vector<Line>::iterator find_key(std::vector<Line>& lines, const std::string& id) {
  return std::find_if(lines.begin(), lines.end(), [&](const Line& line) {
    return line.key && gossip::key_id(*line.key) == id;
  });
}

int list_keys(const KeysOptions& options) {
  const auto answer = ask_control(options.socket, {{"do", "keys"}});
  if (!answer) return complain(answer.error().line);
  if (options.json) {
    print_json(*answer);
    return kGood;
  }
  std::vector<std::vector<std::string>> rows{{"KEY", "HERE", "NODES THAT HAVE IT", "SEAL WITH IT"}};
  const std::string alive = text(*answer, "alive");
  for (const json::value& key : list(*answer, "keys")) {
    rows.push_back({text(key, "id"),
                    !is_true(key, "here")   ? "no"
                    : is_true(key, "seals") ? "seals"
                                            : "opens",
                    text(key, "have") + " of " + alive, text(key, "seal")});
  }
  print(table(rows));
  return kGood;
}

int new_key() {
  std::random_device entropy;  // the kernel's, on this system
  std::string text;
  for (std::size_t i = 0; i < 2 * gossip::kKeyBytes; ++i) {
    text += "0123456789abcdef"[entropy() & 15U];
  }
  print(text + '\n');
  return kGood;
}

/// What speaks against it; empty: nothing.
std::string danger(const KeysOptions& options, const json::value& known) {
  for (const json::value& key : list(known, "keys")) {
    if (text(key, "id") != options.id) continue;
    const auto count = [&](const char* what) { return static_cast<int>(number(key, what)); };
    const int lacking = static_cast<int>(number(known, "alive")) - count("have");
    if (options.action == "use" && lacking > 0) {
      return std::to_string(lacking) + " nodes do not have it and would not understand this one";
    }
    if (options.action == "drop" && count("seal") > 0) {
      return std::to_string(count("seal")) +
             " nodes seal with it (this one perhaps among them) and would not be understood";
    }
  }
  return {};
}

int change_keys(const KeysOptions& options) {
  const auto known = ask_control(options.socket, {{"do", "keys"}});
  if (!known) return complain(known.error().line);
  const std::filesystem::path path = text(*known, "file");
  if (path.empty())
    return complain("the daemon has no gossip.key_file: there is no ring to change");
  const auto octets = read_file(path, kMaxKeyFile);
  if (!octets) return complain(path.string() + ": " + octets.error().message());
  const std::string before{reinterpret_cast<const char*>(octets->data()), octets->size()};
  std::string after;
  if (options.action == "add") {
    std::string key;
    std::getline(std::cin, key);
    if (!gossip::parse_key(key)) return complain("expected 64 hexadecimal digits on stdin", kUsage);
    after = with_key(before, key);
    if (after.empty()) return complain("that key is there already, or there are 8", kUsage);
  } else {
    after = options.action == "use" ? with_key_first(before, options.id)
                                    : without_key(before, options.id);
    if (after.empty()) return complain("no such key, or it is the only one: " + options.id, kUsage);
    const std::string why = options.force ? std::string{} : danger(options, *known);
    if (!why.empty()) return complain(why + "; --force does it all the same", kTrouble);
  }
  const auto written = replace_file(path, std::as_bytes(std::span{after}));
  if (!written) return complain(path.string() + ": " + written.error().message());
  const auto reloaded = ask_control(options.socket, {{"do", "reload-keys"}});
  if (!reloaded) return complain(reloaded.error().line);
  return list_keys(options);
}

}  // namespace

std::string with_key(const std::string& file, const std::string& key) {
  auto lines = lines_of(file);
  const auto parsed = gossip::parse_key(key);
  const auto count = std::count_if(lines.begin(), lines.end(),
                                   [](const Line& line) { return line.key.has_value(); });
  if (!parsed || find_key(lines, gossip::key_id(*parsed)) != lines.end() ||
      static_cast<std::size_t>(count) >= gossip::kMaxKeys) {
    return {};
  }
  lines.push_back({key, *parsed});
  return joined(lines);
}

std::string with_key_first(const std::string& file, const std::string& id) {
  auto lines = lines_of(file);
  const auto wanted = find_key(lines, id);
  if (wanted == lines.end()) return {};
  const auto first = std::find_if(lines.begin(), lines.end(),
                                  [](const Line& line) { return line.key.has_value(); });
  std::rotate(first, wanted, wanted + 1);
  return joined(lines);
}

std::string without_key(const std::string& file, const std::string& id) {
  auto lines = lines_of(file);
  const auto wanted = find_key(lines, id);
  if (wanted == lines.end()) return {};
  lines.erase(wanted);
  const bool left = std::any_of(lines.begin(), lines.end(),
                                [](const Line& line) { return line.key.has_value(); });
  return left ? joined(lines) : std::string{};
}

int keys(const KeysOptions& options) {
  if (options.action == "list") return list_keys(options);
  if (options.action == "new") return new_key();
  const bool named = options.action == "use" || options.action == "drop";
  if (named && options.id.empty())
    return complain(options.action + ": expected a key's id", kUsage);
  return change_keys(options);
}

}  // namespace muster::cli
