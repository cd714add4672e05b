#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gossip/core/message.hpp"

namespace muster::gossip {

/// A message to a node, before Link seals it.
struct Outgoing {
  Endpoint to;
  std::vector<std::byte> payload;
};

/// "Does anything answer there?" Answered by Gossip::on_host_probe, or not at all.
struct HostProbe {
  NodeUid uid;
  Endpoint endpoint;
};

/// What the parts of the core want sent in this step.
struct Outbox {
  std::vector<Outgoing> messages;
  std::vector<HostProbe> host_probes;

  void send(const Endpoint& to, const Message& message) {
    messages.push_back({to, encode(message)});
  }
};

}  // namespace muster::gossip
