#include "cluster/core/hold_down.hpp"

#include <string>

#include <doctest/doctest.h>

using namespace muster;
using namespace muster::cluster;
using namespace std::chrono_literals;

namespace {

using Hold = HoldDown<int>;
constexpr TimePoint kStart{1000s};

std::vector<Hold::Candidate> some(int from, int count, GoneReason reason, std::size_t weight = 1) {
  std::vector<Hold::Candidate> all;
  for (int i = from; i < from + count; ++i) all.push_back({i, weight, reason});
  return all;
}

}  // namespace

TEST_SUITE_BEGIN("cluster/core/hold_down");

TEST_CASE("which disappearances are believed at once") {
  struct Row {
    std::string what;
    std::size_t present;
    int gone;
    std::size_t weight;
    GoneReason reason;
    bool recovering;
    bool acts;
  };
  constexpr auto lost = GoneReason::lost;
  constexpr auto absent = GoneReason::absent;
  const std::vector<Row> rows{
      {"21 % lost", 100, 21, 1, lost, false, false},
      {"21 % absent", 100, 21, 1, absent, false, false},
      {"all absent", 100, 100, 1, absent, false, false},
      {"just ten, and more than a fifth", 49, 10, 1, lost, false, false},
      {"few tasks with many backends each", 100, 3, 7, lost, false, false},
      {"one absent while the master recovers", 1000, 1, 1, absent, true, false},
      {"a burst of LOST while the master recovers", 100, 21, 1, lost, true, false},
      {"1 of 3 lost", 3, 1, 1, lost, false, true},
      {"3 of 3 absent", 3, 3, 1, absent, false, true},
      {"19 % lost", 100, 19, 1, lost, false, true},
      {"20 % absent", 100, 20, 1, absent, false, true},
      {"nine, and more than a fifth", 40, 9, 1, absent, false, true},
      {"one lost while the master recovers", 1000, 1, 1, lost, true, true},
      {"all terminal", 100, 100, 1, GoneReason::terminal, false, true},
      {"all terminal while the master recovers", 100, 100, 1, GoneReason::terminal, true, true},
      {"a framework with everything", 100, 100, 1, GoneReason::framework_removed, true, true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Hold hold{{}};
    const auto gone =
        hold.judge(some(0, row.gone, row.reason, row.weight), row.present, row.recovering, kStart);
    CHECK(gone.size() == (row.acts ? static_cast<std::size_t>(row.gone) : 0U));
    CHECK(hold.size() == static_cast<std::size_t>(row.gone) - gone.size());
    CHECK(hold.release(row.present, row.recovering, kStart, 1000).empty());
  }
}

TEST_CASE("losses one by one are a burst: a fifth acts, what is beyond is held") {
  Hold hold{{}};
  std::size_t present = 100;
  for (int i = 0; i < 60; ++i) {
    const auto gone = hold.judge(some(i, 1, GoneReason::lost), present, false, kStart + i * 1s);
    present -= gone.size();
  }
  CHECK(present == 80);
  CHECK(hold.size() == 40);
  CHECK(*hold.since() == kStart + 20s);
}

TEST_CASE("losses far apart are no burst") {
  Hold hold{{}};
  std::size_t present = 100;
  for (int i = 0; i < 60; ++i) {
    present -= hold.judge(some(i, 1, GoneReason::lost), present, false, kStart + i * 20s).size();
  }
  CHECK(present == 40);
}

TEST_CASE("a loss counts for its 75 seconds, and not a moment longer") {
  // 16 of 80 are a fifth by themselves; with the 20 before them they are a burst.
  Hold before{{}};
  CHECK(before.judge(some(0, 20, GoneReason::lost), 100, false, kStart).size() == 20);
  CHECK(before.judge(some(20, 16, GoneReason::lost), 80, false, kStart + 75s - 1ms).empty());
  Hold after{{}};
  CHECK(after.judge(some(0, 20, GoneReason::lost), 100, false, kStart).size() == 20);
  CHECK(after.judge(some(20, 16, GoneReason::lost), 80, false, kStart + 75s).size() == 16);
}

TEST_CASE("what comes back is free again, and when few are left they go") {
  Hold hold{{}};
  CHECK(hold.judge(some(0, 30, GoneReason::absent), 100, false, kStart).empty());
  for (int i = 0; i < 9; ++i) hold.forget(i);
  CHECK(hold.release(100, false, kStart + 1s, 1000).empty());  // 21 left
  hold.forget(9);
  CHECK(hold.release(100, false, kStart + 2s, 1000).size() == 20);
  CHECK(hold.size() == 0);
  CHECK_FALSE(hold.next_deadline());
}

TEST_CASE("an explicit end goes through a hold") {
  Hold hold{{}};
  CHECK(hold.judge(some(0, 30, GoneReason::absent), 100, false, kStart).empty());
  CHECK(hold.judge(some(3, 2, GoneReason::terminal), 100, false, kStart + 1s) ==
        std::vector<int>{3, 4});
  CHECK(hold.size() == 28);
}

TEST_CASE("the recovery's end, and a moment for the last tasks, ends what began in it") {
  Hold hold{{}};
  CHECK(hold.judge(some(0, 50, GoneReason::absent), 100, true, kStart).empty());
  CHECK(hold.release(100, true, kStart + 5min, 1000).empty());
  CHECK(*hold.next_deadline() == kStart + 10min);
  CHECK(hold.release(100, false, kStart + 6min, 1000).empty());
  CHECK(*hold.next_deadline() == kStart + 6min + 15s);
  for (int i = 0; i < 48; ++i) hold.forget(i);  // announced after their agent was
  CHECK(hold.release(100, false, kStart + 6min + 14s, 1000).empty());
  CHECK(hold.release(100, false, kStart + 6min + 15s, 1000) == std::vector<int>{48, 49});
}

TEST_CASE("a recovery that begins again starts the moment again") {
  Hold hold{{}};
  CHECK(hold.judge(some(0, 50, GoneReason::absent), 100, true, kStart).empty());
  CHECK(hold.release(100, false, kStart + 1s, 1000).empty());
  CHECK(hold.release(100, true, kStart + 10s, 1000).empty());
  CHECK(hold.release(100, false, kStart + 20s, 1000).empty());
  CHECK(hold.release(100, false, kStart + 34s, 1000).empty());
  CHECK(hold.release(100, false, kStart + 35s, 1000).size() == 50);
}

TEST_CASE("what was doubted before a recovery is not believed at its end") {
  Hold hold{{}};
  CHECK(hold.judge(some(0, 50, GoneReason::absent), 100, false, kStart).empty());
  CHECK(hold.judge(some(0, 60, GoneReason::absent), 100, true, kStart + 1s).empty());
  CHECK(hold.release(100, false, kStart + 2s, 1000).empty());
  CHECK(hold.release(100, false, kStart + 1min, 1000).size() == 10);
  CHECK(hold.size() == 50);
}

TEST_CASE("nothing is held longer than ten minutes, and the end comes in portions") {
  Hold hold{{}};
  CHECK(hold.judge(some(0, 50, GoneReason::absent), 100, true, kStart).empty());
  CHECK(hold.judge(some(0, 60, GoneReason::absent), 100, true, kStart + 1min).empty());
  CHECK(hold.release(100, true, kStart + 10min - 1ms, 1000).empty());
  CHECK(hold.release(100, true, kStart + 10min, 20).size() == 20);
  CHECK(*hold.next_deadline() <= kStart + 10min);
  CHECK(hold.release(80, true, kStart + 10min, 1000).size() == 30);
  CHECK(hold.size() == 10);
  CHECK(*hold.next_deadline() == kStart + 11min);
}

TEST_SUITE_END();
