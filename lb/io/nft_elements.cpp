#include "lb/io/nft_elements.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "lb/io/nft_fields.hpp"
#include "lb/io/nft_schema.hpp"

namespace muster::lb::nft {
namespace {

/// A message's list of elements is one attribute, whose length has 16 bits.
constexpr std::size_t kMessageSize = 60'000;

struct Element {
  Fields key;
  std::optional<Fields> value;
};
struct SetChanges {
  std::vector<Fields> removed;
  std::vector<Element> added;
};
/// By family, protocol and kind: found without a look-up for each command.
struct Changes {
  static constexpr std::array kFamilies{Family::v4, Family::v6};
  static constexpr std::array kProtocols{Protocol::tcp, Protocol::udp};
  static constexpr std::array kSets{Set::vips, Set::slots, Set::refused};

  SetChanges& of(Family family, Protocol protocol, Set set) {
    return sets[static_cast<std::size_t>(family)][static_cast<std::size_t>(protocol)]
               [static_cast<std::size_t>(set)];
  }
  SetChanges& hairpin(Family family) { return hairpins[static_cast<std::size_t>(family)]; }

  std::array<std::array<std::array<SetChanges, 3>, 2>, 2> sets;
  std::array<SetChanges, 2> hairpins;
};

class Sorter {
 public:
  explicit Sorter(Changes& changes) : changes_{changes} {}

  void operator()(const PutSlot& c) { put_slot(c.vip, c.index, c.backend); }
  void operator()(const ReplaceSlot& c) {
    drop_slot(c.vip, c.index);
    put_slot(c.vip, c.index, c.backend);
  }
  void operator()(const DropSlot& c) { drop_slot(c.vip, c.index); }
  void operator()(const PutSelector& c) { put_selector(c.vip, c.selector); }
  void operator()(const ReplaceSelector& c) {
    in(Set::vips, c.vip).removed.push_back(key(c.vip));
    put_selector(c.vip, c.selector);
  }
  void operator()(const DropSelector& c) { in(Set::vips, c.vip).removed.push_back(key(c.vip)); }
  void operator()(const PutRefusal& c) {
    in(Set::refused, c.vip).added.push_back({key(c.vip), std::nullopt});
  }
  void operator()(const DropRefusal& c) { in(Set::refused, c.vip).removed.push_back(key(c.vip)); }
  void operator()(const PutHairpin& c) {
    hairpin(c.address).added.push_back({pair(c.address), std::nullopt});
  }
  void operator()(const DropHairpin& c) { hairpin(c.address).removed.push_back(pair(c.address)); }

 private:
  static Fields key(const Vip& vip) { return Fields{}.endpoint(vip.endpoint); }
  static Fields pair(const IpAddress& address) {
    return Fields{}.address(address).address(address);
  }
  SetChanges& in(Set set, const Vip& vip) {
    return changes_.of(vip.endpoint.address.family(), vip.protocol, set);
  }
  SetChanges& hairpin(const IpAddress& address) { return changes_.hairpin(address.family()); }
  void put_slot(const Vip& vip, std::uint32_t index, const Endpoint& backend) {
    in(Set::slots, vip).added.push_back({key(vip).host(index), Fields{}.endpoint(backend)});
  }
  void drop_slot(const Vip& vip, std::uint32_t index) {
    in(Set::slots, vip).removed.push_back(key(vip).host(index));
  }
  void put_selector(const Vip& vip, const Selector& selector) {
    in(Set::vips, vip).added.push_back({key(vip), Fields{}.host(class_id(selector))});
  }

  Changes& changes_;
};

void write_element(netlink::Writer& out, const Fields& key, const std::optional<Fields>& value) {
  out.nest(NFTA_LIST_ELEM, [&] {
    out.nest(NFTA_SET_ELEM_KEY, [&] { out.attribute(NFTA_DATA_VALUE, key.bytes()); });
    if (value) {
      out.nest(NFTA_SET_ELEM_DATA, [&] { out.attribute(NFTA_DATA_VALUE, value->bytes()); });
    }
  });
}

struct Where {
  std::string_view table;
  Family family;
  std::string set;
};

/// As many messages as it takes; `write(i)` appends the i-th element.
template <class Write>
void write_messages(netlink::Writer& out, netlink::Socket& socket, const Where& where, bool removal,
                    std::size_t count, Write write) {
  std::size_t i = 0;
  while (i < count) {
    begin(out, removal ? NFT_MSG_DELSETELEM : NFT_MSG_NEWSETELEM,
          removal ? std::uint16_t{0} : std::uint16_t{NLM_F_CREATE | NLM_F_EXCL},
          socket.next_sequence(), nf_family(where.family));
    out.text(NFTA_SET_ELEM_LIST_TABLE, where.table);
    out.text(NFTA_SET_ELEM_LIST_SET, where.set);
    out.nest(NFTA_SET_ELEM_LIST_ELEMENTS, [&] {
      while (i < count && out.message_size() < kMessageSize) write(i++);
    });
    out.end();
  }
}

void write_changes(netlink::Writer& out, netlink::Socket& socket, const Where& where,
                   const SetChanges& changes) {
  write_messages(out, socket, where, true, changes.removed.size(),
                 [&](std::size_t i) { write_element(out, changes.removed[i], std::nullopt); });
  write_messages(out, socket, where, false, changes.added.size(), [&](std::size_t i) {
    write_element(out, changes.added[i].key, changes.added[i].value);
  });
}

std::uint64_t packets_of(netlink::Bytes element) {
  const netlink::Bytes counter =
      netlink::find(netlink::find(element, NFTA_SET_ELEM_EXPR).value, NFTA_EXPR_DATA).value;
  return netlink::find(counter, NFTA_COUNTER_PACKETS).u64_be().value_or(0);
}

}  // namespace

std::optional<IpAddress> read_address(netlink::Bytes& rest, Family family) {
  const std::size_t size = family == Family::v4 ? 4 : 16;
  if (rest.size() < size) return std::nullopt;
  std::optional<IpAddress> address;
  if (family == Family::v4) {
    IpAddress::V4 octets{};
    std::copy_n(rest.begin(), 4, octets.begin());
    address.emplace(octets);
  } else {
    IpAddress::V6 octets{};
    std::copy_n(rest.begin(), 16, octets.begin());
    address.emplace(octets);
  }
  rest = rest.subspan(size);
  return address;
}

std::optional<Endpoint> read_endpoint(netlink::Bytes& rest, Family family) {
  const auto address = read_address(rest, family);
  if (!address || rest.size() < 4) return std::nullopt;
  const auto port = Port::from(static_cast<std::uint64_t>(rest[0]) << 8 | rest[1]);
  rest = rest.subspan(4);
  if (!port) return std::nullopt;
  return Endpoint{*address, *port};
}

std::optional<std::uint32_t> read_host(netlink::Bytes& rest) {
  const auto value = netlink::Attribute{0, rest}.u32();
  if (value) rest = rest.subspan(4);
  return value;
}

namespace {

/// `rest` is what follows the Vip in the key.
std::optional<SlotCount> read_slot(netlink::Bytes element, const Vip& vip, netlink::Bytes rest) {
  const auto index = read_host(rest);
  netlink::Bytes value = data_of(element, NFTA_SET_ELEM_DATA);
  const auto backend = read_endpoint(value, vip.endpoint.address.family());
  if (!index || *index >= kMaxSlots || !backend) return std::nullopt;
  return SlotCount{vip, *index, *backend, packets_of(element)};
}

}  // namespace

void write_commands(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                    std::span<const Command> commands) {
  Changes changes;
  Sorter sorter{changes};
  for (const Command& command : commands) std::visit(sorter, command);
  for (const Family family : Changes::kFamilies) {
    for (const Protocol protocol : Changes::kProtocols) {
      for (const Set set : Changes::kSets) {
        write_changes(out, socket, {table, family, set_name(set, protocol)},
                      changes.of(family, protocol, set));
      }
    }
    write_changes(out, socket, {table, family, std::string{kHairpinSet}}, changes.hairpin(family));
  }
}

std::set<SizeClass> classes_of(std::span<const Command> commands) {
  std::set<SizeClass> classes;
  const auto use = [&classes](const Vip& vip, const Selector& selector) {
    classes.insert({vip.endpoint.address.family(), vip.protocol, selector});
  };
  for (const Command& command : commands) {
    if (const auto* put = std::get_if<PutSelector>(&command)) use(put->vip, put->selector);
    if (const auto* replace = std::get_if<ReplaceSelector>(&command)) {
      use(replace->vip, replace->selector);
    }
  }
  return classes;
}

void write_bridges(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                   Family family, std::string_view ids, std::span<const std::uint32_t> added,
                   std::span<const std::uint32_t> removed) {
  SetChanges pairs;
  SetChanges numbers;
  for (const std::uint32_t i : added) {
    pairs.added.push_back({Fields{}.host(i).host(i), {}});
    numbers.added.push_back({Fields{}.host(i), Fields{}.host(i)});
  }
  for (const std::uint32_t i : removed) {
    pairs.removed.push_back(Fields{}.host(i).host(i));
    numbers.removed.push_back(Fields{}.host(i));
  }
  write_changes(out, socket, {table, family, std::string{kBridgesSet}}, pairs);
  if (!ids.empty()) write_changes(out, socket, {table, family, std::string{ids}}, numbers);
}

void write_vips(netlink::Writer& out, netlink::Socket& socket, std::string_view table, Set set,
                const KeyChanges& changes) {
  Changes sorted;
  const auto in = [&](const Vip& vip) -> SetChanges& {
    return sorted.of(vip.endpoint.address.family(), vip.protocol, set);
  };
  for (const Vip& vip : changes.removed) in(vip).removed.push_back(Fields{}.endpoint(vip.endpoint));
  for (const Vip& vip : changes.added) {
    in(vip).added.push_back({Fields{}.endpoint(vip.endpoint), std::nullopt});
  }
  for (const Family family : Changes::kFamilies) {
    for (const Protocol protocol : Changes::kProtocols) {
      write_changes(out, socket, {table, family, set_name(set, protocol)},
                    sorted.of(family, protocol, set));
    }
  }
}

void write_addresses(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                     std::string_view set, std::span<const IpAddress> added,
                     std::span<const IpAddress> removed) {
  Changes sorted;
  const auto in = [&](const IpAddress& address) -> SetChanges& {
    return sorted.hairpin(address.family());
  };
  for (const IpAddress& address : removed) in(address).removed.push_back(Fields{}.address(address));
  for (const IpAddress& address : added) {
    in(address).added.push_back({Fields{}.address(address), std::nullopt});
  }
  for (const Family family : Changes::kFamilies) {
    write_changes(out, socket, {table, family, std::string{set}}, sorted.hairpin(family));
  }
}

bool read_vips(const netlink::Message& message, Family family, Protocol protocol,
               std::set<Vip>& vips) {
  bool good = true;
  each_element(message, [&](netlink::Bytes element) {
    netlink::Bytes key = data_of(element, NFTA_SET_ELEM_KEY);
    const auto endpoint = read_endpoint(key, family);
    if (endpoint) vips.insert({protocol, *endpoint});
    good = good && endpoint.has_value();
  });
  return good;
}

bool read_addresses(const netlink::Message& message, Family family,
                    std::set<IpAddress>& addresses) {
  bool good = true;
  each_element(message, [&](netlink::Bytes element) {
    netlink::Bytes key = data_of(element, NFTA_SET_ELEM_KEY);
    const auto address = read_address(key, family);
    if (address) addresses.insert(*address);
    good = good && address.has_value();
  });
  return good;
}

void read_counts(const netlink::Message& message, Family family, Protocol protocol,
                 std::vector<SlotCount>& counts) {
  each_element(message, [&](netlink::Bytes element) {
    const std::uint64_t connections = packets_of(element);
    if (connections == 0) return;  // most, in a namespace of a few containers
    netlink::Bytes key = data_of(element, NFTA_SET_ELEM_KEY);
    const auto vip = read_endpoint(key, family);
    if (!vip) return;
    if (auto slot = read_slot(element, {protocol, *vip}, key)) counts.push_back(*slot);
  });
}

bool ElementReader::take_slot(netlink::Bytes element, const Vip& vip, netlink::Bytes rest) {
  const auto slot = read_slot(element, vip, rest);
  if (slot) slots_.push_back(*slot);
  return slot.has_value();
}

bool ElementReader::take(netlink::Bytes element, Family family, std::string_view set) {
  netlink::Bytes key = data_of(element, NFTA_SET_ELEM_KEY);
  if (set == kHairpinSet) {
    const auto from = read_address(key, family);
    const auto to = read_address(key, family);
    if (!from || from != to) return false;
    hairpin_.insert(*from);
    return true;
  }
  const Protocol protocol = set.ends_with("udp") ? Protocol::udp : Protocol::tcp;
  if (set.starts_with("classes_")) {
    const auto id = read_host(key);
    const auto selector = id ? selector_of(*id) : std::nullopt;
    if (selector) classes_.insert({family, protocol, *selector});
    return selector.has_value();
  }
  const auto endpoint = read_endpoint(key, family);
  if (!endpoint) return false;
  const Vip vip{protocol, *endpoint};
  if (set.starts_with("slots_")) return take_slot(element, vip, key);
  if (set.starts_with("refused_")) {
    refused_.push_back(vip);
    return true;
  }
  netlink::Bytes value = data_of(element, NFTA_SET_ELEM_DATA);
  const auto id = read_host(value);
  const auto selector = id ? selector_of(*id) : std::nullopt;
  if (selector) selectors_.emplace_back(vip, *selector);
  return selector.has_value();
}

void ElementReader::read(const netlink::Message& message, Family family, std::string_view set) {
  each_element(message, [&](netlink::Bytes element) {
    if (!take(element, family, set)) ++strange_;
  });
}

void ElementReader::finish(KernelState& state) {
  // Sorted first: looking each of 40,000 slots up in a map takes three times as long.
  std::sort(slots_.begin(), slots_.end(), [](const SlotCount& a, const SlotCount& b) {
    return std::tie(a.vip, a.index) < std::tie(b.vip, b.index);
  });
  for (auto first = slots_.begin(); first != slots_.end();) {
    const auto end = std::find_if(first, slots_.end(),
                                  [&](const SlotCount& slot) { return slot.vip != first->vip; });
    const std::size_t size = std::prev(end)->index + std::size_t{1};
    FoundSlots& slots =
        state.vips.emplace_hint(state.vips.end(), first->vip, Applied{})->second.slots;
    auto& connections =
        state.connections
            .emplace_hint(state.connections.end(), first->vip, std::vector<std::uint64_t>{})
            ->second;
    slots.resize(size);
    connections.resize(size);
    for (; first != end; ++first) {
      slots[first->index] = first->backend;
      connections[first->index] = first->connections;
    }
  }
  for (const auto& [vip, selector] : selectors_) state.vips[vip].selector = selector;
  for (const Vip& vip : refused_) state.vips[vip].refuses = true;
  state.hairpin = std::move(hairpin_);
  state.classes = std::move(classes_);
}

void read_bridges(const netlink::Message& message, std::vector<std::uint32_t>& interfaces) {
  each_element(message, [&](netlink::Bytes element) {
    netlink::Bytes key = data_of(element, NFTA_SET_ELEM_KEY);
    if (const auto index = read_host(key)) interfaces.push_back(*index);
  });
}

}  // namespace muster::lb::nft
