#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace muster::dev {

/// What a person sees: lines that stay, and one below them that is rewritten while they wait.
/// Where stderr is no terminal the rewritten one is left out, but for its last word.
class Terminal {
 public:
  Terminal();
  void line(const std::string& text);
  void status(const std::string& text);
  /// The status line stays as it is, and is done.
  void settle(const std::string& text);
  /// Seconds since this was made, "12.3 s".
  std::string age() const;

 private:
  bool rewrites_;
  std::string status_;
  std::chrono::steady_clock::time_point began_;
};

/// Rows in columns, two spaces between, each column as wide as its widest cell.
std::string aligned(const std::vector<std::vector<std::string>>& rows, const std::string& indent);

}  // namespace muster::dev
