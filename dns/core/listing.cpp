#include "dns/core/listing.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "dns/core/text.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {
namespace {

// Of a rendered record: pointer to the owner, TYPE, CLASS, TTL, RDLENGTH (RFC 1035 §4.1.3).
constexpr std::size_t kDataAt = 12;

std::string lower(std::string_view text) {
  std::string out{text};
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

// False if there was no room for all of the node's records.
bool add_node(const NodeView& node, const std::string& name, std::size_t limit,
              std::vector<RecordView>& out) {
  for (std::size_t i = 0; i < node.set_count(); ++i) {
    const RenderedSet set = node.set(i);
    if (set.type == type::kSoa) continue;
    const std::string type_name = type_text(set.type);
    for (std::size_t k = 0; k < set.count; ++k) {
      if (out.size() >= limit) return false;
      const std::size_t at = node.offset(set, k);
      const std::size_t size = node.offset(set, k + 1) - at;
      const std::span record{node.answers(set) + at, size};
      out.push_back({name, type_name, data_text(set.type, record, kDataAt, size - kDataAt)});
    }
  }
  return true;
}

}  // namespace

Listing list_records(const ZoneSnapshot& zones, std::string_view part, std::size_t limit) {
  const std::string wanted = lower(part);
  std::vector<std::pair<std::string, NodeView>> found;
  zones.for_each([&](const NodeView& node) {
    std::string name = wire_text(node.name());
    if (name.find(wanted) != std::string::npos) found.emplace_back(std::move(name), node);
  });
  std::ranges::sort(found, {}, [](const auto& row) -> const std::string& { return row.first; });
  Listing out;
  for (const auto& [name, node] : found) {
    if (!add_node(node, name, limit, out.records)) {
      out.more = true;
      break;
    }
  }
  return out;
}

}  // namespace muster::dns
