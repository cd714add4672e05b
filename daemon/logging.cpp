#include "daemon/logging.hpp"

#include <array>
#include <cstdio>
#include <memory>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <string>

namespace muster::daemon {
namespace {

// The message, safe to stand on a line of its own, and inside quotes where `Quotes` says so.
class EscapedText : public spdlog::custom_flag_formatter {
 public:
  explicit EscapedText(bool quotes) : quotes_{quotes} {}

  void format(const spdlog::details::log_msg& message, const std::tm& /*time*/,
              spdlog::memory_buf_t& out) override {
    for (const char c : message.payload) {
      const auto octet = static_cast<unsigned char>(c);
      if (octet < 0x20 || octet == 0x7F) {
        std::array<char, 8> code{};
        const int size = std::snprintf(code.data(), code.size(), "\\u%04x", unsigned{octet});
        out.append(code.data(), code.data() + size);
      } else {
        if (quotes_ && (c == '"' || c == '\\')) out.push_back('\\');
        out.push_back(c);
      }
    }
  }

  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<EscapedText>(quotes_);
  }

 private:
  bool quotes_;
};

}  // namespace

void set_up_logging(const Config::Log& log) {
  const bool json = log.format == "json";
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<EscapedText>('*', json);
  formatter->set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","message":"%*"})"
                              : "%Y-%m-%dT%H:%M:%S.%eZ %l: %*");
  auto logger =
      std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::move(formatter));
  logger->set_level(spdlog::level::from_str(log.level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace muster::daemon
