#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.hpp"

/// The few messages of ZooKeeper's client protocol that reading and watching one node takes
/// (Apache ZooKeeper, zookeeper.jute and ZooDefs). Requests come out framed, as they go on the
/// wire; what parses takes the content of a frame.
///
/// A session is never resumed: nothing is kept in it but a watch, which the next one sets anew.
namespace muster::mesos::zk {

/// What a server sends at most by its own default (jute.maxbuffer), and what we take.
inline constexpr std::size_t kMaxFrame = 1U << 20;
/// Children of one node that are looked at.
inline constexpr std::size_t kMaxChildren = 10'000;

// KeeperException.Code
inline constexpr std::int32_t kNoNode = -101;
inline constexpr std::int32_t kNoAuth = -102;
inline constexpr std::int32_t kAuthFailed = -115;

// Transaction ids that are no request's.
inline constexpr std::int32_t kWatchXid = -1;
inline constexpr std::int32_t kPingXid = -2;
inline constexpr std::int32_t kAuthXid = -4;

std::string connect_request(Duration session_timeout);
/// `auth` is "user:password", for the scheme digest.
std::string auth_request(std::string_view auth);
/// The children of `path`, and word of the next change.
std::string children_request(std::int32_t xid, std::string_view path);
std::string data_request(std::int32_t xid, std::string_view path);
std::string ping_request();
std::string close_request(std::int32_t xid);

/// The session timeout that the server grants; nothing if it grants none, or says no such thing.
std::optional<Duration> parse_connected(std::string_view frame);

struct Reply {
  std::int32_t xid = 0;
  std::int32_t error = 0;
  std::string_view body;  // of the frame that was parsed; empty after an error
};
std::optional<Reply> parse_reply(std::string_view frame);

/// At most kMaxChildren; nothing if the body is something else.
std::optional<std::vector<std::string>> parse_children(std::string_view body);
std::optional<std::string_view> parse_data(std::string_view body);

/// What an error code means, for a log line.
std::string describe(std::int32_t error);

}  // namespace muster::mesos::zk
