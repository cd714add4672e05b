#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <linux/netfilter/nf_tables.h>

#include "base/endpoint.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"

/// The words in which tables of nf_tables are written: chains, sets, and expressions of rules.
namespace muster::lb::nft {

// nft's numbers for its data types (datatype.h): the kernel only keeps them, nft prints by them.
inline constexpr std::uint32_t kTypeInteger = 4;
inline constexpr std::uint32_t kTypeIpv4 = 7;
inline constexpr std::uint32_t kTypeIpv6 = 8;
inline constexpr std::uint32_t kTypeService = 13;
inline constexpr std::uint32_t kTypeIfindex = 20;
inline constexpr std::uint32_t kTypeClassid = 23;
inline constexpr std::uint32_t kTypeVerdict = 0xFFFFFF00;
constexpr std::uint32_t concat(std::uint32_t left, std::uint32_t right) {
  return (left << 6) | right;
}

/// Registers of four octets. Concatenations use them in a row.
inline constexpr std::uint32_t kReg = NFT_REG32_00;

/// A number as the kernel compares it; lives as long as `number`.
inline netlink::Bytes octets_of(const std::uint32_t& number) {
  return {reinterpret_cast<const std::uint8_t*>(&number), sizeof number};
}

std::uint8_t number_of(Protocol protocol) noexcept;
std::uint8_t nf_family(Family family) noexcept;

/// What a table holds, to find out whether somebody has changed it.
struct SchemaCounts {
  std::uint32_t objects = 0;  // chains, sets and stateful objects: NFTA_TABLE_USE
  std::uint32_t rules = 0;
};

struct SetShape {
  std::uint32_t key_type = 0;
  std::uint32_t key_size = 0;
  std::uint32_t data_type = 0;  // 0: a set, not a map
  std::uint32_t data_size = 0;
  bool counted = false;
  std::vector<std::uint8_t> notes = {};
};

/// Message headers of nf_tables and its batches.
void begin(netlink::Writer& out, std::uint16_t message, std::uint16_t flags, std::uint32_t sequence,
           std::uint8_t family);
void begin_batch(netlink::Writer& out, std::uint32_t sequence);
void end_batch(netlink::Writer& out, std::uint32_t sequence);

/// Writes one table into the batch that the caller has opened, and counts what it writes.
class TableWriter {
 public:
  TableWriter(netlink::Writer& out, netlink::Socket& socket, std::string_view name, Family family)
      : out_{out},
        socket_{socket},
        name_{name},
        family_{nf_family(family)},
        v4_{family == Family::v4} {}

  const SchemaCounts& counts() const noexcept { return counts_; }

 protected:
  void open(std::uint16_t message, std::uint16_t flags);
  void table(std::string_view comment);
  void set(std::string_view name, const SetShape& shape);
  /// Entries come from packets, and go after a time; 0: after the time that their rule says.
  void dynamic_set(std::string_view name, const SetShape& shape, std::uint64_t milliseconds,
                   std::uint32_t most);
  /// Timeouts of tcp flows in seconds. What is not said the kernel takes from the system's own.
  void timeout_policy(std::string_view name, std::uint32_t syn_sent,
                      std::optional<std::uint32_t> close);
  void chain(std::string_view name);
  void hook(std::string_view name, std::uint32_t number, std::string_view type,
            std::int32_t priority);

  template <class Fill>
  void rule(std::string_view chain, Fill fill) {
    ++counts_.rules;
    open(NFT_MSG_NEWRULE, NLM_F_APPEND);
    out_.text(NFTA_RULE_TABLE, name_);
    out_.text(NFTA_RULE_CHAIN, chain);
    out_.nest(NFTA_RULE_EXPRESSIONS, fill);
    out_.end();
  }
  template <class Fill>
  void expression(std::string_view name, Fill fill) {
    out_.nest(NFTA_LIST_ELEM, [&] {
      out_.text(NFTA_EXPR_NAME, name);
      out_.nest(NFTA_EXPR_DATA, fill);
    });
  }

  void data(std::uint16_t type, netlink::Bytes value);
  void data(std::uint16_t type, std::uint32_t value) { data(type, octets_of(value)); }

  std::uint32_t address_type() const noexcept { return v4_ ? kTypeIpv4 : kTypeIpv6; }
  std::uint32_t address_size() const noexcept { return v4_ ? 4 : 16; }
  std::uint32_t after_address() const noexcept { return kReg + address_size() / 4; }
  /// Past what load_client() loads.
  std::uint32_t after_client() const noexcept { return kReg + 2 * (address_size() / 4) + 1; }
  /// ip daddr . tcp dport
  SetShape service_shape() const {
    return {.key_type = concat(address_type(), kTypeService), .key_size = address_size() + 4};
  }

  // Loads. `to` is a register.
  void payload(std::uint32_t base, std::uint32_t offset, std::uint32_t size, std::uint32_t to);
  void load_source(std::uint32_t to);
  void load_destination(std::uint32_t to);
  /// ip daddr . tcp dport, into the registers from kReg on, if it is of this protocol.
  void load_service(Protocol protocol);
  /// The same as the client dialled it, before any translation.
  void load_original_service(Protocol protocol);
  /// ip saddr . ip daddr . tcp dport, if it is of this protocol.
  void load_client(Protocol protocol);
  void load_zero(std::uint32_t to = kReg);
  void meta_load(std::uint32_t key, std::uint32_t to);
  void conntrack(std::uint32_t key);
  /// Of the direction in which the flow began.
  void original(std::uint32_t key, std::uint32_t to);

  // Matches, on kReg where they do not load for themselves.
  void compare(std::uint32_t operation, netlink::Bytes value);
  void mask(netlink::Bytes bits);
  void match_protocol(Protocol protocol);
  void match_range(const Prefix& range);
  /// ct state new, ct status dnat: one bit of a number that conntrack keeps.
  void match_conntrack(std::uint32_t key, std::uint32_t bit);
  void match_new();
  void must_be_in(std::string_view set);
  void must_not_be_in(std::string_view set);

  // Actions.
  void lookup(std::string_view map, std::uint32_t to);
  void set_priority(std::uint32_t from = kReg);
  /// Changes the element of a dynamic set whose key begins at kReg. `data`: a register; 0: none.
  void dynset(std::string_view set, std::uint32_t operation, std::uint32_t data = 0,
              std::uint32_t seconds = 0);
  void jump(int code, std::string_view to);
  void verdict(int code, std::string_view to);
  void set_timeout(std::string_view policy);
  void drop();
  void masquerade();
  void reject(std::uint32_t type, std::uint8_t code);
  /// A chain that resets tcp and says "port unreachable" to the rest.
  void refusing_chain(std::string_view name);

  netlink::Writer& out_;
  netlink::Socket& socket_;
  std::string name_;
  std::uint8_t family_;
  bool v4_;
  SchemaCounts counts_;

 private:
  void open_set(std::string_view name, const SetShape& shape, std::uint32_t flags);

  std::uint32_t set_id_ = 0;
};

}  // namespace muster::lb::nft
