#include "dev/terminal.hpp"

#include <algorithm>
#include <cstdio>
#include <unistd.h>

namespace muster::dev {

Terminal::Terminal()
    : rewrites_{::isatty(STDERR_FILENO) == 1}, began_{std::chrono::steady_clock::now()} {}

void Terminal::line(const std::string& text) {
  if (rewrites_ && !status_.empty()) std::fputs("\r\033[K", stderr);
  std::fprintf(stderr, "%s\n", text.c_str());
  if (rewrites_ && !status_.empty()) std::fprintf(stderr, "%s", status_.c_str());
}

void Terminal::status(const std::string& text) {
  if (text == status_) return;
  status_ = text;
  if (rewrites_) std::fprintf(stderr, "\r\033[K%s", text.c_str());
}

void Terminal::settle(const std::string& text) {
  if (rewrites_ && !status_.empty()) std::fputs("\r\033[K", stderr);
  status_.clear();
  std::fprintf(stderr, "%s\n", text.c_str());
}

std::string Terminal::age() const {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s",
                std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count());
  return text;
}

std::string aligned(const std::vector<std::vector<std::string>>& rows, const std::string& indent) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line = indent;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line += std::string(widths[i] - row[i].size() + 2, ' ');
    }
    while (line.ends_with(' ')) line.pop_back();
    out += line + "\n";
  }
  return out;
}

}  // namespace muster::dev
