#include "dns/core/query_log.hpp"

#include "dns/core/text.hpp"

namespace muster::dns {

bool QueryLog::admit(TimePoint now) noexcept {
  if (now - second_ >= std::chrono::seconds{1}) {
    second_ = now;
    lines_ = 0;
  }
  if (lines_ < kMaxLinesASecond) {
    ++lines_;
    return true;
  }
  ++missed_;
  return false;
}

std::string QueryLog::begin(const Question& question) {
  std::string line = "dns: query client=" + question.client.to_string();
  line += question.transport == Transport::udp ? " transport=udp" : " transport=tcp";
  if (question.wire.empty()) return line + " name=? type=?";
  return line + " name=" + wire_text(question.wire) + " type=" + type_text(question.qtype);
}

void QueryLog::finish(std::string line, const Outcome& outcome) {
  const bool answered = outcome.octets > 0;
  line += " rcode=" + (answered ? rcode_text(outcome.rcode) : std::string{"none"});
  line += " octets=" + std::to_string(outcome.octets) + " from=" + std::string{outcome.from};
  if (outcome.truncated) line += " truncated=yes";
  if (missed_ > 0) line += " missed=" + std::to_string(std::exchange(missed_, 0));
  sink_(line);
}

}  // namespace muster::dns
