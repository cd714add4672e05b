#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <map>
#include <sys/ioctl.h>
#include <thread>
#include <unistd.h>

#include <boost/json.hpp>

#include "base/time.hpp"
#include "cli/ask.hpp"
#include "cli/find_vip.hpp"
#include "cli/table.hpp"

namespace muster::cli {
namespace {

namespace json = boost::json;

constexpr double kStep = 10;    // s; the daemon reads the kernel's counters at most so often
constexpr double kWindow = 25;  // s a rate is taken over
constexpr unsigned kMinRows = 5;
constexpr unsigned kHeadRows = 4;

// Totals stand still and then jump: what counts is the time between two jumps. The status page
// does the same (metrics/page/model.js).
class Rate {
 public:
  double take(double now, double total) {
    if (jumps_.empty() || total < last_)
      jumps_.assign(1, {now - kStep, total});
    else if (total != last_)
      jumps_.emplace_back(now, total);
    last_ = total;
    while (jumps_.size() > 1 && now - jumps_[1].first >= kWindow) jumps_.pop_front();
    const double ended = jumps_.back().first;
    const double until = now - ended > kStep + 2 ? now : ended;
    const double took = until - jumps_.front().first;
    return took > 0 ? (total - jumps_.front().second) / took : 0;
  }

 private:
  std::deque<std::pair<double, double>> jumps_;
  double last_ = 0;
};

struct Row {
  std::string label;
  std::string address;
  std::size_t taking = 0;
  std::size_t backends = 0;
  double rate = 0;
  double total = 0;
};

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text,
                value == 0 || value >= 10 ? "%.0f"
                : value < 1               ? "%.2f"
                                          : "%.1f",
                value);
  return text;
}

unsigned terminal_rows() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < kHeadRows + kMinRows) return 20;
  return size.ws_row - kHeadRows;
}

class Top {
 public:
  std::vector<Row> sample(const json::value& vips, double now) {
    std::map<std::string, Rate> seen;
    std::vector<Row> rows;
    for (const json::value& vip : items(vips)) {
      Row row{label_of(vip), text(vip, "address")};
      for (const json::value& backend : list(vip, "backend")) {
        row.total += number(backend, "connections");
        row.taking += number(backend, "weight") > 0 ? 1U : 0U;
        ++row.backends;
      }
      Rate rate = std::move(rates_[row.label]);
      row.rate = rate.take(now, row.total);
      seen.emplace(row.label, std::move(rate));
      rows.push_back(std::move(row));
    }
    rates_ = std::move(seen);
    std::ranges::stable_sort(rows, [](const Row& a, const Row& b) { return a.rate > b.rate; });
    return rows;
  }

 private:
  std::map<std::string, Rate> rates_;
};

std::string head(const json::value& status, const std::vector<Row>& rows) {
  double rate = 0;
  std::size_t backends = 0;
  for (const Row& row : rows) {
    rate += row.rate;
    backends += row.backends;
  }
  const json::value none = json::object{};
  const json::value* cluster = at(status, "cluster");
  const json::value* observation = at(status, "observation");
  const json::value* node = at(status, "node");
  const auto part = [&](const json::value* found) -> const json::value& {
    return found == nullptr ? none : *found;
  };
  return printable(
             "muster on " + text(part(node), "addresses") +
             (is_true(status, "ready") ? ", ready" : ", NOT READY: " + text(status, "not_ready")) +
             ", state " + text(part(observation), "last_event_seconds") + " s old") +
         '\n' +
         printable(std::to_string(rows.size()) + " VIPs, " + std::to_string(backends) +
                   " backends, " + text(part(cluster), "tasks") + " tasks, " + short_number(rate) +
                   " connections/s from this node") +
         "\n\n";
}

std::string shown(const std::vector<Row>& rows, std::size_t most) {
  std::vector<std::vector<std::string>> cells{{"CONN/S", "TOTAL", "BACKENDS", "VIP", "ADDRESS"}};
  for (const Row& row : rows) {
    if (cells.size() > most) break;
    std::string backends = std::to_string(row.backends);
    if (row.backends == 0)
      backends = "none";
    else if (row.taking < row.backends)
      backends = std::to_string(row.taking) + " of " + backends;
    cells.push_back(
        {short_number(row.rate), short_number(row.total), backends, row.label, row.address});
  }
  return table(cells);
}

json::value as_json(const json::value& status, const std::vector<Row>& rows, std::size_t most) {
  json::array vips;
  for (const Row& row : rows) {
    if (vips.size() >= most) break;
    vips.push_back(json::object{{"vip", row.label},
                                {"address", row.address},
                                {"connections_per_second", row.rate},
                                {"connections", static_cast<std::uint64_t>(row.total)},
                                {"backends", row.backends},
                                {"taking", row.taking}});
  }
  return json::object{{"ready", is_true(status, "ready")}, {"vips", std::move(vips)}};
}

}  // namespace

int top(const Target& target, const TopOptions& options) {
  const bool screen = isatty(STDOUT_FILENO) != 0 && !target.json;
  Top samples;
  for (unsigned i = 0; options.count == 0 || i < options.count; ++i) {
    if (i > 0) std::this_thread::sleep_for(std::chrono::seconds{options.interval_seconds});
    const auto status = ask_daemon(target, "/v1/status");
    const auto vips = status ? ask_daemon(target, "/v1/vips") : status;
    if (!vips) return complain(vips.error().line);
    const std::chrono::duration<double> now = Clock::now().time_since_epoch();
    const auto rows = samples.sample(*vips, now.count());
    const std::size_t most = options.rows > 0 ? options.rows
                             : screen         ? terminal_rows()
                                              : rows.size();
    if (target.json) {
      print_json(as_json(*status, rows, most));
    } else {
      print((screen  ? "\x1b[H\x1b[2J"
             : i > 0 ? "\n"
                     : std::string{}) +
            head(*status, rows) + shown(rows, most));
    }
    std::fflush(stdout);
  }
  return kGood;
}

}  // namespace muster::cli
