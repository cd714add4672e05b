#include "dns/core/render.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {
namespace {

constexpr std::size_t kFixedSize = 12;  // owner pointer, TYPE, CLASS, TTL, RDLENGTH

void put16(std::string& out, std::size_t value) {
  out += static_cast<char>(value >> 8 & 0xFF);
  out += static_cast<char>(value & 0xFF);
}

void put_record(std::string& out, std::uint16_t type, std::uint32_t ttl, std::string_view data) {
  std::array<char, 10> fixed{};
  std::size_t at = 0;
  for (const std::size_t value : {std::size_t{type}, std::size_t{kClassIn}, std::size_t{ttl >> 16},
                                  std::size_t{ttl & 0xFFFF}, data.size()}) {
    fixed[at++] = static_cast<char>(value >> 8 & 0xFF);
    fixed[at++] = static_cast<char>(value & 0xFF);
  }
  out.append(fixed.data(), fixed.size());
  out += data;
}

std::vector<std::size_t> label_starts(std::string_view wire) {
  std::vector<std::size_t> out;
  for (std::size_t at = 0; at < wire.size();
       at += static_cast<std::size_t>(static_cast<unsigned char>(wire[at])) + 1) {
    out.push_back(at);
  }
  return out;
}

// `name` with the longest suffix it shares with `question` as a pointer into the question: it is
// the only part of a reply whose place does not depend on rotation.
std::string compressed(std::string_view name, std::string_view question) {
  const auto starts = label_starts(question);
  for (const std::size_t at : label_starts(name)) {
    const std::string_view suffix = name.substr(at);
    if (suffix.size() == 1) break;  // the root costs less than a pointer
    if (suffix.size() > question.size()) continue;
    const std::size_t place = question.size() - suffix.size();
    if (question.substr(place) != suffix ||
        !std::binary_search(starts.begin(), starts.end(), place)) {
      continue;
    }
    std::string out{name.substr(0, at)};
    put16(out, 0xC000 | (kHeaderSize + place));
    return out;
  }
  return std::string{name};
}

struct Blob {
  RenderedSet head{};
  std::vector<std::uint16_t> offsets;
  std::string answers;
  std::string additional;
};

void render_additional(Blob& blob, const RRset& set, std::string_view owner, std::uint32_t ttl) {
  for (const TargetAddresses& target : set.additional) {
    const std::string name = compressed(target.name, owner);
    for (const std::string_view data : target.addresses) {
      if (blob.additional.size() + name.size() + 10 + data.size() > kMaxAdditionalSize) return;
      blob.additional += name;
      put_record(blob.additional, data.size() == 4 ? type::kA : type::kAaaa, ttl, data);
      ++blob.head.additional_count;
    }
  }
}

Blob render_set(const RRset& set, std::string_view owner, std::uint32_t ttl) {
  Blob blob;
  blob.head.type = set.type;
  bool same = true;
  for (const std::string_view data : set.data) {
    if (blob.answers.size() + kFixedSize + data.size() > kMaxSetSize) break;
    same = same && data.size() == set.data.front().size();
    blob.offsets.push_back(static_cast<std::uint16_t>(blob.answers.size()));
    if (blob.answers.empty()) {
      blob.answers.reserve(std::min(kMaxSetSize, set.data.size() * (kFixedSize + data.size())));
    }
    put16(blob.answers, 0xC000 | kHeaderSize);
    put_record(blob.answers, set.type, ttl, data);
    ++blob.head.count;
  }
  if (same) {
    blob.head.stride = static_cast<std::uint16_t>(kFixedSize + set.data.front().size());
    blob.offsets.clear();
  }
  render_additional(blob, set, owner, ttl);
  return blob;
}

}  // namespace

NodePtr render_node(std::string_view owner, std::uint8_t zone, std::uint32_t ttl_seconds,
                    std::span<const RRset> sets) {
  MUSTER_ASSERT(sets.size() <= 255 && owner.size() <= Name::kMaxWireSize);
  std::vector<Blob> blobs;
  blobs.reserve(sets.size());
  for (const RRset& set : sets) blobs.push_back(render_set(set, owner, ttl_seconds));

  std::size_t size = sizeof(NodeView::Header) + blobs.size() * sizeof(RenderedSet) + owner.size();
  const auto place = [&size](std::size_t octets) {
    const std::size_t at = size;
    size += octets;
    return static_cast<std::uint32_t>(at);
  };
  for (Blob& blob : blobs) {
    blob.head.offsets_at = place(blob.offsets.size() * sizeof(std::uint16_t));
    blob.head.answers_at = place(blob.answers.size());
    blob.head.answers_size = static_cast<std::uint32_t>(blob.answers.size());
    blob.head.additional_at = place(blob.additional.size());
    blob.head.additional_size = static_cast<std::uint32_t>(blob.additional.size());
  }

  auto block = std::make_shared<std::byte[]>(size);
  std::byte* at = block.get();
  const auto put = [&at](const void* from, std::size_t octets) {
    if (octets > 0) std::memcpy(at, from, octets);
    at += octets;
  };
  const NodeView::Header header{zone, static_cast<std::uint8_t>(owner.size()),
                                static_cast<std::uint8_t>(blobs.size()), 0,
                                static_cast<std::uint32_t>(size)};
  put(&header, sizeof header);
  for (const Blob& blob : blobs) put(&blob.head, sizeof blob.head);
  put(owner.data(), owner.size());
  for (const Blob& blob : blobs) {
    put(blob.offsets.data(), blob.offsets.size() * sizeof(std::uint16_t));
    put(blob.answers.data(), blob.answers.size());
    put(blob.additional.data(), blob.additional.size());
  }
  return block;
}

}  // namespace muster::dns
