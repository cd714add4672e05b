#include "dev/load_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "dev/json_writer.hpp"
#include "dev/terminal.hpp"

namespace muster::dev {

namespace {

// In the text; the JSON has LoadReport::kShownFailures.
constexpr std::size_t kShownLines = 5;

std::string_view name_of(LoadFailure failure) {
  switch (failure) {
    case LoadFailure::dns:
      return "dns";
    case LoadFailure::refused:
      return "refused";
    case LoadFailure::unreachable:
      return "unreachable";
    case LoadFailure::reset:
      return "reset";
    case LoadFailure::closed:
      return "closed";
    case LoadFailure::timed_out:
      return "timed_out";
    case LoadFailure::status:
      return "status";
    case LoadFailure::other:
      return "other";
    case LoadFailure::not_sent:
      return "not_sent";
  }
  return "other";
}

std::string printed(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

/// "22:04:31.250", UTC: to be compared with what the cluster's terminal says.
std::string clock_time(double wall_seconds) {
  const auto whole = static_cast<std::time_t>(wall_seconds);
  std::tm parts{};
  gmtime_r(&whole, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%H:%M:%S", &parts);
  return text + printed("%.3f", wall_seconds - std::floor(wall_seconds)).substr(1);
}

std::string kinds(const std::map<LoadFailure, std::uint64_t>& counts) {
  std::string out;
  for (const auto& [kind, count] : counts) {
    out += (out.empty() ? " (" : ", ") + std::string{name_of(kind)} + " " + std::to_string(count);
  }
  return out.empty() ? out : out + ")";
}

void kinds(JsonWriter& out, std::string_view key, std::uint64_t count,
           const std::map<LoadFailure, std::uint64_t>& counts) {
  out.begin_object(key).integer("count", static_cast<std::int64_t>(count)).begin_object("kinds");
  for (const auto& [kind, number] : counts) {
    out.integer(name_of(kind), static_cast<std::int64_t>(number));
  }
  out.end_object().end_object();
}

double rounded(double value) {
  return std::round(value * 1000) / 1000;
}

}  // namespace

void LoadReport::add(LoadResult result) {
  ++sent_;
  dns_ms_ += result.dns_ms;
  if (!result.failure) {
    ++answered_;
    ++tasks_[result.task];
    latencies_ms_.push_back(static_cast<float>(result.latency_ms));
    return;
  }
  ++(result.connected ? failed_after_ : failed_before_);
  ++(result.connected ? kinds_after_ : kinds_before_)[*result.failure];
  if (first_failures_.size() < kShownFailures) first_failures_.push_back(std::move(result));
}

double LoadReport::percentile(double part) const {
  if (latencies_ms_.empty()) return 0;
  std::vector<float> sorted = latencies_ms_;
  const auto index = static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1));
  const auto at = sorted.begin() + static_cast<std::ptrdiff_t>(index);
  std::nth_element(sorted.begin(), at, sorted.end());
  return static_cast<double>(*at);
}

std::string LoadReport::text() const {
  std::vector<std::vector<std::string>> rows{
      {"sent", std::to_string(sent_)},
      {"answered", std::to_string(answered_)},
      {"failed before connect", std::to_string(failed_before_) + kinds(kinds_before_)},
      {"failed after connect", std::to_string(failed_after_) + kinds(kinds_after_)},
      {"latency p50 / p99 / max", printed("%.2f", percentile(0.5)) + " / " +
                                      printed("%.2f", percentile(0.99)) + " / " +
                                      printed("%.2f", percentile(1)) + " ms"}};
  for (const auto& [task, count] : tasks_) rows.push_back({"  " + task, std::to_string(count)});
  std::string out = aligned(rows, "");
  rows.clear();
  for (const LoadResult& one : first_failures_) {
    if (rows.size() == kShownLines) break;
    rows.push_back({clock_time(one.wall_seconds), printed("+%.3f s", one.at_seconds),
                    std::string{name_of(*one.failure)},
                    one.connected ? "after connect" : "before connect", one.remote,
                    "waited " + printed("%.0f", one.latency_ms) + " ms"});
  }
  if (!rows.empty()) out += "first failures\n" + aligned(rows, "  ");
  return out;
}

std::string LoadReport::json(double rate, double seconds) const {
  const auto count = [](std::uint64_t value) { return static_cast<std::int64_t>(value); };
  JsonWriter out;
  out.begin_object().number("rate", rate).number("seconds", seconds);
  out.integer("sent", count(sent_)).integer("answered", count(answered_));
  out.integer("failed", count(failed_before_ + failed_after_));
  kinds(out, "failed_before_connect", failed_before_, kinds_before_);
  kinds(out, "failed_after_connect", failed_after_, kinds_after_);
  out.begin_object("latency_ms").number("p50", rounded(percentile(0.5)));
  out.number("p99", rounded(percentile(0.99))).number("max", rounded(percentile(1))).end_object();
  out.number("dns_ms_mean", rounded(sent_ == 0 ? 0 : dns_ms_ / static_cast<double>(sent_)));
  out.begin_object("answers_by_task");
  for (const auto& [task, number] : tasks_) out.integer(task, count(number));
  out.end_object().begin_array("first_failures");
  for (const LoadResult& one : first_failures_) {
    out.begin_object().number("at_seconds", rounded(one.at_seconds));
    out.number("time", rounded(one.wall_seconds)).text("kind", name_of(*one.failure));
    out.boolean("connected", one.connected).text("remote", one.remote);
    out.integer("local_port", one.local_port);
    out.number("waited_ms", rounded(one.latency_ms)).end_object();
  }
  return std::move(out.end_array().end_object()).str();
}

}  // namespace muster::dev
