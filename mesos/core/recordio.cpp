#include "mesos/core/recordio.hpp"

#include <algorithm>
#include <utility>

namespace muster::mesos {

std::string_view to_string(RecordError error) noexcept {
  switch (error) {
    case RecordError::bad_header:
      return "a record's header is not a decimal length and a newline";
    case RecordError::record_too_large:
      return "a record is larger than the limit";
  }
  return "unknown";
}

std::optional<std::string> RecordIoDecoder::next() {
  if (error_ || (!in_record_ && !read_header())) return std::nullopt;
  const std::size_t taken = std::min(wanted_ - record_.size(), rest_.size());
  record_.append(rest_.substr(0, taken));
  rest_.remove_prefix(taken);
  if (record_.size() < wanted_) return std::nullopt;
  in_record_ = false;
  wanted_ = 0;
  return std::exchange(record_, {});
}

bool RecordIoDecoder::read_header() {
  while (!rest_.empty()) {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    if (c == '\n' && digits_ > 0) {
      digits_ = 0;
      in_record_ = true;
      record_.reserve(std::min(wanted_, kMaxReserve));
      return true;
    }
    if (c < '0' || c > '9' || ++digits_ > kMaxHeaderDigits) {
      error_ = RecordError::bad_header;
      return false;
    }
    wanted_ = wanted_ * 10 + static_cast<std::size_t>(c - '0');
    if (wanted_ > max_record_) {
      error_ = RecordError::record_too_large;
      return false;
    }
  }
  return false;
}

}  // namespace muster::mesos
