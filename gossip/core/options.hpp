#pragma once

#include <cstddef>

#include "base/time.hpp"

namespace muster::gossip {

/// The times that make up a detection: 100 + 450 + 120 ms at most, then milliseconds to spread.
/// Every member must run the same; they are not configuration, only the tests bend them.
struct Timing {
  Duration heartbeat{100};
  Duration silence{450};      // four heartbeats may be lost, and a pause of 250 ms is none
  Duration verify{120};       // how long the burst may take
  Duration probe_gap{40};     // three direct probes within `verify`
  Duration alert_valid{600};  // longer than two repeats, or a quorum never stands at once
  Duration realert{300};
  Duration late{250};      // own timer later than this: it is me who was away
  Duration quiet{450};     // after that, nobody is judged before being heard anew
  Duration lease{10'000};  // of a subscription; renewed well before
  Duration renew{4'000};
  Duration resubscribe{100};          // until the first heartbeat comes
  Duration old_silence{5'000};        // a monitor silent for so long no longer counts as one
  Duration spread_gap{5};             // news within it travel together
  Duration first_repair{25};          // between the first two digests asked for, then doubled
  Duration repair_gap{100};           // up to this
  Duration inquiry{60};               // a verdict by hearsay waits so long for an answer, twice
  Duration heal{1'000};               // between tries to reach the dead
  Duration echo{5'000};               // between round trips measured, each to one of the subjects
  Duration forget{24 * 3600 * 1000};  // the dead
  Duration forget_empty{24 * 3600 * 1000};  // shards whose last record went
};

inline constexpr std::size_t kFanout = 5;
inline constexpr std::size_t kMaxFanout = 12;  // where datagrams are being lost

}  // namespace muster::gossip
