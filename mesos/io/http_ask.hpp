#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "base/time.hpp"
#include "mesos/io/http_session.hpp"

/// What asking a master and asking an agent have in common.
namespace muster::mesos {

struct Credentials {
  std::string user;  // both empty: no Basic authentication
  std::string secret;
  std::string token;  // used instead of Basic where it is set
};

/// The whole value of the header; empty: there are no credentials.
std::string authorization(const Credentials&);

struct AnswerLimits {
  std::size_t octets;
  Duration silence;  // between two pieces
};

/// Reads all of an answer into `body`; returns what went wrong, or nothing. What `session`, `head`
/// and `body` refer to must outlive it.
boost::asio::awaitable<std::string> read_answer(HttpSession& session, const HttpHead& head,
                                                std::string& body, AnswerLimits limits);

/// Tells a document from the one before it. Not against malice: who can choose the state of a
/// cluster needs no collision.
struct Fingerprint {
  std::size_t octets = 0;
  std::size_t hash = 0;
  static Fingerprint of(std::string_view text) {
    return {text.size(), std::hash<std::string_view>{}(text)};
  }
  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};

}  // namespace muster::mesos
