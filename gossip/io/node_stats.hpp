#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace muster::gossip {

/// What a node has done since its start, and how it stands. Also on /metrics as muster_gossip_*.
struct NodeStats {
  std::size_t members_alive = 0;  // this node included
  std::size_t members_known = 0;
  std::size_t shards = 0;
  std::size_t records = 0;
  std::size_t pending_writes = 0;  // given to publish() and not yet written
  bool isolated = false;           // none of several monitored nodes can be heard

  std::uint64_t alerts_raised = 0;  // by this node about others
  std::uint64_t alerts_heard = 0;
  std::uint64_t verdicts = 0;     // deaths this node has counted a quorum for
  std::uint64_t refutations = 0;  // times it was accused and answered
  std::uint64_t late = 0;         // times it found itself to have been away for 250 ms or more
  std::uint64_t syncs = 0;        // bulk transfers begun
  std::uint64_t sync_bytes = 0;   // both ways

  // UDP, without IP and UDP headers.
  std::uint64_t packets_sent = 0;
  std::uint64_t packets_received = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t send_errors = 0;
  /// Datagrams not let in, by cause: wrong_key, wrong_cluster, replayed, ...
  std::map<std::string, std::uint64_t> refused;

  /// The last round trip to a monitored node: one probe every five seconds. Both ends' waiting
  /// for their thread is part of it.
  std::optional<std::chrono::nanoseconds> round_trip;
  /// Since a heartbeat last carried the very hash of all this node holds: about 10 ms in a quiet
  /// cluster. No clock but this node's own is asked, so it tells how long this node and those it
  /// hears have differed, not which of them is behind; and if all of them miss the same change,
  /// it says nothing. 0 while alone.
  std::chrono::nanoseconds state_age{0};

  std::chrono::nanoseconds longest_step{0};    // of gossip's thread at a stretch, in CPU time
  std::chrono::nanoseconds worst_lateness{0};  // of its heartbeats, in real time
};

}  // namespace muster::gossip
