#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "base/endpoint.hpp"
#include "base/time.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {

/// One line for every `every`th query, for who wants to know who asks for what: `key=value`
/// pairs, names in presentation form, so that no octet of a client's reaches a terminal raw.
///
/// At most kMaxLinesASecond lines; what is left out is counted in the next one (`missed=`).
/// Belongs to one thread; so does the sink's call.
class QueryLog {
 public:
  static constexpr unsigned kMaxLinesASecond = 100;
  using Sink = std::function<void(const std::string& line)>;

  /// `every` 0: nothing is logged.
  QueryLog(unsigned every, Sink sink) : every_{every}, sink_{std::move(sink)} {}

  /// Counts a query, and says whether it is to be logged.
  bool take(TimePoint now) noexcept {
    if (every_ == 0 || ++seen_ < every_) return false;
    seen_ = 0;
    return admit(now);
  }

  struct Question {
    IpAddress client;
    Transport transport = Transport::udp;
    std::string_view wire{};  // of the name asked for; empty: it could not be read
    std::uint16_t qtype = 0;
  };
  /// The line's beginning, for a query that is answered later.
  static std::string begin(const Question&);

  struct Outcome {
    std::string_view from;  // zone, cache, upstream, transfer; "nowhere": dropped
    std::uint16_t rcode = 0;
    std::size_t octets = 0;
    bool truncated = false;
  };
  void finish(std::string line, const Outcome&);

 private:
  bool admit(TimePoint now) noexcept;

  unsigned every_;
  Sink sink_;
  unsigned seen_ = 0;
  TimePoint second_{};
  unsigned lines_ = 0;
  std::uint64_t missed_ = 0;
};

}  // namespace muster::dns
