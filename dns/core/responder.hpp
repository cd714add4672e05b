#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "dns/core/answer.hpp"
#include "dns/core/message_writer.hpp"

namespace muster::dns {

/// Answers one well-formed query: what answer() does after parsing. Lives on the stack for it.
class Responder {
 public:
  Responder(std::span<const std::byte> message, const Query& query, const ZoneSnapshot& zones,
            const AnswerOptions& options, const OptContent& opt, std::span<std::byte> out) noexcept;

  Answer respond() noexcept;

 private:
  /// Where a name stands. Without a zone it is nobody's of ours.
  struct Place {
    const std::byte* node = nullptr;
    std::uint8_t zone = Answer::kNoZone;
    std::size_t apex_size = 0;
    bool alias = false;  // it is asked for under another zone's name
  };

  static std::size_t limit(const Query& query, const AnswerOptions& options,
                           std::size_t room) noexcept;
  std::size_t room() const noexcept;
  Place place_of_question() const noexcept;
  Place place_of(std::string_view wire) const noexcept;
  Answer forward() noexcept;
  Answer transfer(const Place& place) noexcept;

  bool positive(NodeView node, bool alias) noexcept;
  void write_set(NodeView node, const RenderedSet& set, bool alias) noexcept;
  void write_some(NodeView node, const RenderedSet& set, std::size_t first,
                  std::size_t owner) noexcept;
  Answer chase(Place place) noexcept;
  void write_soa(const std::string& record, std::size_t owner) noexcept;
  Answer soa(const Zone& zone) noexcept;
  Answer negative(const Place& place, std::size_t name_at, std::size_t name_size) noexcept;
  Answer finish(std::uint16_t code, std::uint16_t extended_error = 0) noexcept;

  const Query& query_;
  const ZoneSnapshot& zones_;
  const AnswerOptions& options_;
  const OptContent& opt_;
  std::byte* out_;
  MessageWriter writer_;
  std::size_t limit_;
  std::size_t flags_ = 0;
  SectionCounts counts_;
  Answer answer_;
};

}  // namespace muster::dns
