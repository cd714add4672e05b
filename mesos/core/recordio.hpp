#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace muster::mesos {

/// Why a RecordIO stream cannot be read any further.
enum class RecordError {
  bad_header,       // something else than decimal digits and a newline, or too many digits
  record_too_large  // the header announces more than the limit
};

std::string_view to_string(RecordError) noexcept;

/// Takes a RecordIO stream apart: decimal length, "\n", that many octets, and the next (Mesos
/// 3rdparty/stout recordio.hpp). Feed it pieces of any size, then take records until none is left.
///
/// Errors stick: after one, next() gives nothing more and error() says why; the caller closes the
/// connection. Memory: one record, at most `max_record` octets, plus the piece last fed.
class RecordIoDecoder {
 public:
  static constexpr std::size_t kMaxHeaderDigits = 10;
  static constexpr std::size_t kDefaultMaxRecord = std::size_t{1} << 30;
  /// Reserved at once when a header announces a record. Of a large allocation only what is written
  /// becomes memory, so that a lying header costs address space; a string that has to grow instead
  /// is copied on the control thread, 60 ms for a state of 100,000 tasks.
  static constexpr std::size_t kMaxReserve = std::size_t{1} << 28;

  explicit RecordIoDecoder(std::size_t max_record = kDefaultMaxRecord) noexcept
      : max_record_{max_record} {}

  /// The bytes must stay where they are until next() has returned nothing.
  void feed(std::string_view bytes) noexcept { rest_ = bytes; }
  std::optional<std::string> next();

  std::optional<RecordError> error() const noexcept { return error_; }
  /// True where the stream may end: no record has been begun.
  bool at_boundary() const noexcept { return digits_ == 0 && !in_record_ && rest_.empty(); }

 private:
  bool read_header();

  std::size_t max_record_;
  std::string_view rest_;
  std::string record_;
  std::size_t wanted_ = 0;  // octets of the record, once in_record_; before, the digits' value
  std::size_t digits_ = 0;
  bool in_record_ = false;
  std::optional<RecordError> error_;
};

}  // namespace muster::mesos
