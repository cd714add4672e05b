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

/// How the octets of an answer go out; as a rule all of them, at once.
struct Delivery {
  std::optional<std::size_t> octets{};  // only so many, head included
  bool stalls = false;                  // then nothing more, where else the connection ends
  unsigned pause_ms = 0;                // before each 64 octets
};

struct ApiResponse {
  int status = 200;
  std::string content_type{};  // empty: no such header, as Mesos does for an empty body
  std::vector<std::pair<std::string, std::string>> headers{};
  std::string body{};
  /// The answer is the event stream: SUBSCRIBED, HEARTBEAT and whatever happens then.
  bool stream = false;
  // Faults on command; a well master has none.
  Delivery delivery{};
  std::vector<std::pair<std::string, std::string>> replacements{};  // in a stream's first record
};

/// What a Mesos master answers, whatever the transport: routes, redirects and refusals.
/// `leader` is "host:port" of the one who leads, if anybody does; it counts on a standby only.
/// Only JSON is spoken: who accepts nothing but protobuf gets 406, which a real master would not
/// say.
ApiResponse answer(const ApiRequest& request, const Master& master,
                   const std::optional<std::string>& leader);

// What masters and agents have in common.
ApiResponse plain_answer(int status, std::string body);
ApiResponse json_answer(std::string body);
/// The path without query and without what libprocess forgives: an absolute URI, doubled slashes,
/// a slash at the end.
std::string path_of(std::string_view target);
/// Why a request is no call of the operator API; nothing: it is one, of `type` (empty: none).
std::optional<ApiResponse> refuse_call(const ApiRequest& request, std::string& type);
/// Also what they say to a type they have never heard of. `who`: "master" or "agent".
ApiResponse no_such_call(std::string_view who);

/// What the Mesos agent `agent` answers. It goes on doing so without a master: what it runs it
/// knows by itself.
ApiResponse agent_answer(const ApiRequest& request, const Master& master, const MesosAgent& agent,
                         WallTime started);

/// For faults: every `find`, which is not empty.
void replace_all(std::string& text, std::string_view find, std::string_view with);

/// One record of the event stream: decimal length, newline, payload (RecordIO).
std::string recordio(std::string_view payload);

}  // namespace muster::dev
