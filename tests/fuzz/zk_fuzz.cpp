#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.hpp"
#include "mesos/core/master_info.hpp"
#include "mesos/core/zk_url.hpp"
#include "mesos/core/zk_wire.hpp"

using namespace muster::mesos;

// What a server sends, what a node holds and what a user writes. The first octet says which.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view text{reinterpret_cast<const char*>(data) + 1, size - 1};
  switch (data[0] % 3) {
    case 0: {
      if (const auto timeout = zk::parse_connected(text)) MUSTER_ASSERT(timeout->count() > 0);
      const auto reply = zk::parse_reply(text);
      if (!reply) return 0;
      MUSTER_ASSERT(reply->body.size() <= text.size());
      if (const auto children = zk::parse_children(reply->body)) {
        MUSTER_ASSERT(children->size() <= zk::kMaxChildren);
        MUSTER_ASSERT(master_nodes(*children).size() <= kMaxMasters);
      }
      if (const auto content = zk::parse_data(reply->body)) {
        MUSTER_ASSERT(content->size() <= text.size());
      }
      return 0;
    }
    case 1:
      if (const auto info = parse_master_info(text)) {
        MUSTER_ASSERT(info->endpoint.address.is_unicast());
      }
      return 0;
    default: {
      const auto url = ZkUrl::parse(text);
      if (!url) return 0;
      // What is written for people is read as the same, but for user and password.
      auto again = ZkUrl::parse(to_string(*url));
      MUSTER_ASSERT(again.has_value());
      again->auth = url->auth;
      MUSTER_ASSERT(*again == *url);
      return 0;
    }
  }
}
