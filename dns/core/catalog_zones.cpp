#include <algorithm>
#include <stdexcept>
#include <string_view>

#include "dns/core/catalog.hpp"
#include "dns/core/mesos_records.hpp"

namespace muster::dns {
namespace {

std::string wire_of(std::string_view text) {
  const auto name = Name::parse(text);
  if (!name || name->wire().size() < 2) {
    throw std::invalid_argument{"\"" + std::string{text} + "\" is not a domain name"};
  }
  return std::string{name->wire()};
}

std::string soa_record(const std::string& mname, const std::string& rname, std::uint32_t ttl,
                       const SoaTimes& times) {
  const auto put32 = [](std::string& to, std::uint32_t value) {
    for (unsigned shift = 32; shift > 0;) {
      shift -= 8;
      to += static_cast<char>(value >> shift & 0xFF);
    }
  };
  std::string data = mname + rname;
  // The serial is filled in when it is sent.
  for (const std::uint32_t value : {0U, times.refresh, times.retry, times.expire, times.minimum}) {
    put32(data, value);
  }
  std::string out{'\0', static_cast<char>(type::kSoa), '\0', static_cast<char>(kClassIn)};
  put32(out, ttl);
  out += static_cast<char>(data.size() >> 8);
  out += static_cast<char>(data.size() & 0xFF);
  return out + data;
}

}  // namespace

void Catalog::make_zones() {
  auto table = std::make_shared<ZoneTable>();
  add_own_zones(*table);
  add_special_zones(*table);
  add_aliases(*table);
  if (table->apexes.size() > ZoneTable::kMaxZones) throw std::invalid_argument{"too many aliases"};
  std::stable_sort(table->apexes.begin(), table->apexes.end(),
                   [](const Apex& a, const Apex& b) { return a.wire.size() > b.wire.size(); });
  table_ = std::move(table);

  const std::string dcos = wire_of("dcos.thisdcos.directory");
  suffixes_ = Suffixes{.mesos = wire_of(options_.domain),
                       .agentip = join({"agentip"}, dcos),
                       .containerip = join({"containerip"}, dcos),
                       .autoip = join({"autoip"}, dcos),
                       .dcos = dcos,
                       .l4lb = wire_of("l4lb.thisdcos.directory"),
                       .zk = wire_of("zk"),
                       .naming = options_.naming};
}

Zone& Catalog::add_zone(ZoneTable& table, std::string_view name) const {
  const bool own = name == options_.domain;
  Zone& zone = table.zones.emplace_back();
  zone.label = name;
  zone.apex = wire_of(name);
  const std::string mname = own ? domain_mname() : wire_of("ns.spartan");
  const std::string rname = own && !options_.soa_rname.empty()
                                ? wire_of(options_.soa_rname)
                                : join({own ? "root" : "hostmaster"}, mname);
  const std::uint32_t ttl = options_.ttl_seconds;
  zone.soa = soa_record(mname, rname, ttl, options_.soa);
  zone.negative_soa = soa_record(mname, rname, std::min(ttl, options_.soa.minimum), options_.soa);
  table.apexes.push_back({zone.apex, static_cast<std::uint8_t>(table.zones.size() - 1), false});
  return zone;
}

void Catalog::add_own_zones(ZoneTable& table) const {
  add_zone(table, options_.domain);
  for (const char* const name : {"l4lb.thisdcos.directory", "dcos.thisdcos.directory", "zk"}) {
    add_zone(table, name);
  }
  for (const char* const name :
       {"thisdcos.directory", "thisnode.thisdcos.directory", "spartan", "localhost"}) {
    add_zone(table, name).fixed = true;
  }
}

// Never to be asked of the world (RFC 6762 §22.1, 7686, 6761, 8375), unless somebody here has a
// server for them.
void Catalog::add_special_zones(ZoneTable& table) const {
  for (const char* const name : {"local", "onion", "invalid", "home.arpa"}) {
    const std::string special = wire_of(name);
    bool whole = false;
    for (const std::string& suffix : options_.forwarded) {
      const std::string wire = wire_of(suffix);
      whole = whole || wire == special;
      if (wire != special && Name::parse(suffix)->is_within(*Name::parse(name))) {
        table.apexes.push_back({wire, Apex::kForward, false});
      }
    }
    if (!whole) add_zone(table, name).fixed = true;
  }
  add_zone(table, "in-addr.arpa").partial = true;
  add_zone(table, "ip6.arpa").partial = true;
}

void Catalog::add_aliases(ZoneTable& table) const {
  const auto alias = [&](std::string_view from, std::string_view to) {
    const std::string wire = wire_of(to);
    const auto zone = std::find_if(table.zones.begin(), table.zones.end(),
                                   [&](const Zone& at) { return at.apex == wire; });
    if (zone == table.zones.end()) {
      throw std::invalid_argument{"alias for \"" + std::string{to} + "\", which is no zone"};
    }
    table.apexes.push_back(
        {wire_of(from), static_cast<std::uint8_t>(zone - table.zones.begin()), true});
  };
  alias("mesos.thisdcos.directory", options_.domain);
  alias("dclb.thisdcos.directory", "l4lb.thisdcos.directory");
  alias("dclb.thisdcos.global", "l4lb.thisdcos.directory");
  alias("l4lb.thisdcos.global", "l4lb.thisdcos.directory");
  alias("dcos.thisdcos.global", "dcos.thisdcos.directory");
  alias("mesos.thisdcos.global", options_.domain);
  alias("thisnode.thisdcos.global", "thisnode.thisdcos.directory");
  alias("thisdcos.global", "thisdcos.directory");
  for (const auto& [from, to] : options_.aliases) alias(from, to);
  if (!options_.cluster_key.empty()) {
    const std::string under = options_.cluster_key + ".dcos.directory";
    alias(under, "thisdcos.directory");
    for (const char* const zone : {"dcos", "l4lb", "thisnode"}) {
      alias(std::string{zone} + '.' + under, std::string{zone} + ".thisdcos.directory");
    }
    alias("mesos." + under, options_.domain);
  }
}

std::string Catalog::domain_mname() const {
  return options_.soa_mname.empty() ? join({"ns1"}, wire_of(options_.domain))
                                    : wire_of(options_.soa_mname);
}

void Catalog::add_fixed_records() {
  const std::string ns1 = domain_mname();
  const std::string spartan = wire_of("ns.spartan");
  for (const Zone& zone : table_->zones) {
    if (zone.partial) continue;
    add(name_record(zone.apex, type::kNs, zone.apex == suffixes_.mesos ? ns1 : spartan));
  }
  for (const IpAddress& address : options_.node_addresses) {
    add(address_record(ns1, address));
    add(address_record(spartan, address));
    add(address_record(wire_of("thisnode.thisdcos.directory"), address));
  }
  for (const IpAddress& address : options_.public_addresses) {
    add(address_record(wire_of("public.thisnode.thisdcos.directory"), address));
  }
  constexpr IpAddress::V4 kLoopback4{127, 0, 0, 1};
  constexpr IpAddress::V6 kLoopback6{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  // DC/OS nodes probe this name, with type ANY, before they trust the resolver.
  add(address_record(wire_of("ready.spartan"), IpAddress{kLoopback4}));
  for (const IpAddress& loopback : {IpAddress{kLoopback4}, IpAddress{kLoopback6}}) {
    add(address_record(wire_of("localhost"), loopback));
    add(name_record(reverse_name(loopback), type::kPtr, wire_of("localhost")));
  }
  for (const auto& [name, target] : options_.cnames) {
    const std::string problem = cname_problem(options_, name, target);
    if (!problem.empty()) throw std::invalid_argument{problem};
    add(name_record(wire_of(name), type::kCname, wire_of(target)));
  }
}

std::string cname_problem(const CatalogOptions& options, std::string_view name,
                          std::string_view target) {
  const auto owner = Name::parse(name);
  const std::string shown = "cname \"" + std::string{name} + "\": ";
  if (!owner || owner->wire().size() < 2) return shown + "expected a domain name";
  if (const auto to = Name::parse(target); !to || to->wire().size() < 2) {
    return shown + "expected a domain name as the target, got \"" + std::string{target} + '"';
  }
  for (const char* const taken : {"l4lb.thisdcos.directory", "dcos.thisdcos.directory",
                                  "mesos.thisdcos.directory", "thisnode.thisdcos.directory"}) {
    if (owner->is_within(*Name::parse(taken))) {
      return shown + "the names below " + taken + " are the cluster's";
    }
  }
  const auto below = [&](std::string_view zone) {
    const auto apex = Name::parse(zone);
    return apex && owner->is_within(*apex) && *owner != *apex;
  };
  if (below("thisdcos.directory") || below(options.domain)) return {};
  return shown + "expected a name below thisdcos.directory or " + options.domain;
}

}  // namespace muster::dns
