#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dev/master_state.hpp"

namespace muster::dev {

struct ApiRequest {
  std::string method;
  std::string target;  // "/state?x=y"
  std::optional<std::string> content_type;
  std::optional<std::string> accept;
  std::string body;
};

struct ApiResponse {
  int status = 200;
  std::string content_type{};  // empty: no such header, as Mesos does for an empty body
  std::vector<std::pair<std::string, std::string>> headers{};
  std::string body{};
  /// The answer is the event stream: SUBSCRIBED, HEARTBEAT and whatever happens then.
  bool stream = false;
};

/// What a Mesos master answers, whatever the transport: routes, redirects and refusals.
/// `leader` is "host:port" of the one who leads, if anybody does; it counts on a standby only.
/// Only JSON is spoken: who accepts nothing but protobuf gets 406, which a real master would not
/// say.
ApiResponse answer(const ApiRequest& request, const Master& master,
                   const std::optional<std::string>& leader);

/// One record of the event stream: decimal length, newline, payload (RecordIO).
std::string recordio(std::string_view payload);

}  // namespace muster::dev
