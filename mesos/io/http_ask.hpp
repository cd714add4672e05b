#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "base/result.hpp"
#include "base/time.hpp"
#include "mesos/io/ask_metrics.hpp"
#include "mesos/io/certificates.hpp"
#include "mesos/io/http_session.hpp"
#include "mesos/io/master_url.hpp"

namespace boost::asio {
class thread_pool;
}

/// What asking a master and asking an agent have in common.
namespace muster::mesos {

/// The whole value of the header; empty: there are no credentials.
std::string authorization(const Access&);

struct AnswerLimits {
  std::size_t octets;
  Duration silence;  // between two pieces
};

/// Reads all of an answer into `body`; returns what went wrong, or nothing. What `session`, `head`
/// and `body` refer to must outlive it.
boost::asio::awaitable<std::string> read_answer(HttpSession& session, const HttpHead& head,
                                                std::string& body, AnswerLimits limits);

/// Asks masters and agents, each question on a connection of its own. Control executor only, but
/// for the reading of certificates; what is handed in must outlive it.
class Asker {
 public:
  struct Limits {
    Duration connect;
    Duration response;  // until the head of an answer is there
  };
  struct Answer {
    HttpSession session;
    HttpHead head;
  };

  Asker(boost::asio::any_io_executor control, boost::asio::thread_pool& workers,
        const Access& access, Limits limits, AskMetrics& metrics)
      : control_{std::move(control)},
        workers_{workers},
        limits_{limits},
        metrics_{metrics},
        certificates_{{access.ca_file, access.cert_file, access.key_file}} {}

  /// Tries the addresses of `url` in turn. The error is one sentence that names what was asked.
  boost::asio::awaitable<Result<Answer, std::string>> ask(MasterUrl url,
                                                          std::vector<IpAddress> addresses,
                                                          HttpRequest request);

 private:
  boost::asio::awaitable<std::string> load_certificates();

  boost::asio::any_io_executor control_;
  boost::asio::thread_pool& workers_;
  const Limits limits_;
  AskMetrics& metrics_;
  Certificates certificates_;
};

/// The beginning of an answer that is of no use, as a log line bears it: `503: "…"`.
boost::asio::awaitable<std::string> refusal_text(HttpSession& session, unsigned status,
                                                 Duration limit);

inline std::string sentence(const MasterUrl& url, std::string_view what) {
  return to_string(url) + ": " + std::string{what};
}

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
