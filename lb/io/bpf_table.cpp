#include "lb/io/bpf_table.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>

#include "lb/io/netlink.hpp"

namespace muster::lb::bpf {
namespace {

/// Elements in one call: more than any bucket holds, and a call stays below a millisecond.
constexpr std::uint32_t kBatch = 4096;

muster_bpf_endpoint packed(const Endpoint& endpoint, Protocol protocol) noexcept {
  muster_bpf_endpoint out{};
  const auto octets = endpoint.address.octets();
  std::memcpy(out.address, octets.data(), octets.size());
  out.port = htons(endpoint.port.number());
  out.protocol = protocol == Protocol::tcp ? IPPROTO_TCP : IPPROTO_UDP;
  out.family = endpoint.address.is_v4() ? 4 : 6;
  return out;
}

/// The same in a Vip and in its slots, and hardly ever in another's.
std::uint32_t mark_of(const muster_bpf_endpoint& vip) noexcept {
  const auto* octets = reinterpret_cast<const std::uint8_t*>(&vip);
  std::uint32_t hash = 0x811c9dc5U;  // FNV-1a
  for (std::size_t i = 0; i < sizeof vip; ++i) hash = (hash ^ octets[i]) * 0x01000193U;
  return hash;
}

/// All elements of a hash map. Errors: the kernel's.
template <class Key, class Value, class Each>
Result<void> for_each(const Fd& map, Each each) {
  std::vector<Key> keys(kBatch);
  std::vector<Value> values(kBatch);
  std::uint32_t position = 0;
  bool first = true;
  for (;;) {
    std::uint32_t count = kBatch;
    const int error = ::bpf_map_lookup_batch(map.get(), first ? nullptr : &position, &position,
                                             keys.data(), values.data(), &count, nullptr);
    if (error != 0 && error != -ENOENT) return netlink::errno_code(-error);
    for (std::uint32_t i = 0; i < count; ++i) each(keys[i], values[i]);
    if (error == -ENOENT) return {};
    first = false;
  }
}

/// Writes what it can; tells of each element that the kernel refuses.
template <class Key, class Value, class Failed>
void update(const Fd& map, const std::vector<Key>& keys, const std::vector<Value>& values,
            Failed failed) {
  for (std::size_t done = 0; done < keys.size();) {
    auto count = static_cast<std::uint32_t>(std::min<std::size_t>(kBatch, keys.size() - done));
    const int error =
        ::bpf_map_update_batch(map.get(), &keys[done], &values[done], &count, nullptr);
    done += count;
    if (error != 0 && done < keys.size()) failed(done++);
  }
}

/// What is not there need not be taken away.
template <class Key>
void erase(const Fd& map, const std::vector<Key>& keys) {
  for (const Key& key : keys) ::bpf_map_delete_elem(map.get(), &key);
}

std::vector<muster_bpf_slot_key> keys_of(const std::vector<std::pair<Vip, std::uint32_t>>& slots) {
  std::vector<muster_bpf_slot_key> keys;
  keys.reserve(slots.size());
  for (const auto& [vip, index] : slots) keys.push_back({encode(vip), index});
  return keys;
}

void compare_slots(const Vip& vip, const FoundSlots& wanted, const FoundSlots& found,
                   Writes& writes) {
  for (std::uint32_t i = 0; i < std::max(wanted.size(), found.size()); ++i) {
    const auto want = i < wanted.size() ? wanted[i] : std::nullopt;
    const auto have = i < found.size() ? found[i] : std::nullopt;
    if (want == have) continue;
    if (want) {
      writes.puts.push_back({vip, i, *want});
    } else {
      writes.drops.emplace_back(vip, i);
    }
  }
}

template <class Value>
const Value& at_or_empty(const std::map<Vip, Value>& map, const Vip& vip) {
  static const Value none{};
  const auto found = map.find(vip);
  return found == map.end() ? none : found->second;
}

}  // namespace

muster_bpf_endpoint encode(const Vip& vip) noexcept {
  return packed(vip.endpoint, vip.protocol);
}

std::optional<Vip> decode(const muster_bpf_endpoint& endpoint) noexcept {
  const auto port = Port::from(ntohs(endpoint.port));
  const bool known = endpoint.protocol == IPPROTO_TCP || endpoint.protocol == IPPROTO_UDP;
  if (!port || !known || (endpoint.family != 4 && endpoint.family != 6)) return std::nullopt;
  const Protocol protocol = endpoint.protocol == IPPROTO_TCP ? Protocol::tcp : Protocol::udp;
  if (endpoint.family == 4) {
    IpAddress::V4 v4{};
    std::memcpy(v4.data(), endpoint.address, v4.size());
    return Vip{protocol, {IpAddress{v4}, *port}};
  }
  IpAddress::V6 v6{};
  std::memcpy(v6.data(), endpoint.address, v6.size());
  return Vip{protocol, {IpAddress{v6}, *port}};
}

bool can_balance(const Applied& applied) noexcept {
  if (!applied.selector || applied.selector->policy != Policy::random) return false;
  if (applied.selector->affinity_seconds > 0) return false;
  const std::uint32_t size = applied.selector->size;
  return size > 0 && applied.slots.size() >= size &&
         std::all_of(applied.slots.begin(), applied.slots.begin() + size,
                     [](const auto& slot) { return slot.has_value(); });
}

Result<Content> read(const Maps& maps) {
  Content content;
  auto done = for_each<muster_bpf_endpoint, muster_bpf_vip>(
      maps.vips, [&](const muster_bpf_endpoint& key, const muster_bpf_vip& value) {
        const auto vip = decode(key);
        if (!vip) return;
        content.suspicions += value.suspicions;
        // A wrong mark is as good as no slots.
        content.balanced[*vip] = value.mark == mark_of(key) ? value.slots : 0;
      });
  if (!done) return done.error();
  done = for_each<muster_bpf_slot_key, muster_bpf_slot>(
      maps.slots, [&](const muster_bpf_slot_key& key, const muster_bpf_slot& value) {
        const auto vip = decode(key.vip);
        const auto backend = decode(value.backend);
        if (!vip || key.index >= kMaxSlots) return;
        auto& slots = content.slots[*vip];
        auto& counts = content.connections[*vip];
        if (key.index >= slots.size()) slots.resize(key.index + 1);
        if (key.index >= counts.size()) counts.resize(key.index + 1);
        // Any address that is not the one wanted has it written anew.
        slots[key.index] =
            backend && value.mark == mark_of(key.vip) ? backend->endpoint : vip->endpoint;
        counts[key.index] = value.connections;
      });
  if (!done) return done.error();
  return content;
}

Writes difference(const AppliedTable& wanted, const Content& found, std::size_t most) {
  Writes writes;
  // First what must not be there: that takes little, and is all that could be wrong.
  for (const auto& [vip, slots] : found.balanced) {
    if (!can_balance(at_or_empty(wanted, vip))) writes.leave.push_back(vip);
  }
  for (const auto& [vip, slots] : found.slots) {
    if (!wanted.contains(vip)) compare_slots(vip, {}, slots, writes);
  }
  for (const auto& [vip, applied] : wanted) {
    const bool right = applied.slots == at_or_empty(found.slots, vip);
    const bool here = can_balance(applied);
    const auto balanced = found.balanced.find(vip);
    if (right && here == (balanced != found.balanced.end()) &&
        (!here || balanced->second == applied.selector->size)) {
      continue;
    }
    if (writes.puts.size() + writes.balance.size() >= most) {
      if (here && balanced != found.balanced.end()) writes.leave.push_back(vip);
      continue;
    }
    compare_slots(vip, applied.slots, at_or_empty(found.slots, vip), writes);
    if (here) writes.balance.emplace_back(vip, applied.selector->size);
  }
  return writes;
}

std::set<Vip> write(const Maps& maps, const Writes& writes) {
  std::set<Vip> failed;
  std::vector<muster_bpf_slot_key> slot_keys;
  std::vector<muster_bpf_slot> slots;
  for (const SlotPut& put : writes.puts) {
    const auto vip = encode(put.vip);
    slot_keys.push_back({vip, put.index});
    slots.push_back({packed(put.backend, put.vip.protocol), mark_of(vip), 0});
  }
  update(maps.slots, slot_keys, slots,
         [&](std::size_t which) { failed.insert(writes.puts[which].vip); });

  std::vector<muster_bpf_endpoint> vip_keys;
  std::vector<muster_bpf_vip> vips;
  for (const auto& [vip, size] : writes.balance) {
    if (failed.contains(vip)) continue;
    vip_keys.push_back(encode(vip));
    vips.push_back({.slots = size,
                    .mark = mark_of(vip_keys.back()),
                    .strikes = 0,
                    .suspicions = 0,
                    .suspect_until = 0});
  }
  update(maps.vips, vip_keys, vips, [&](std::size_t which) {
    if (const auto vip = decode(vip_keys[which])) failed.insert(*vip);
  });

  std::vector<muster_bpf_endpoint> leaving;
  for (const Vip& vip : writes.leave) leaving.push_back(encode(vip));
  for (const Vip& vip : failed) leaving.push_back(encode(vip));
  erase(maps.vips, leaving);
  erase(maps.slots, keys_of(writes.drops));
  return failed;
}

}  // namespace muster::lb::bpf
