#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <boost/unordered/unordered_flat_set.hpp>

#include "base/cluster_delta.hpp"
#include "base/observation.hpp"
#include "dns/core/mesos_records.hpp"
#include "dns/core/name_hash.hpp"
#include "dns/core/record.hpp"
#include "dns/core/zone_snapshot.hpp"

namespace muster::dns {

/// The times of a SOA record in seconds (RFC 1035 §3.3.13); DC/OS's values.
struct SoaTimes {
  std::uint32_t refresh = 60;
  std::uint32_t retry = 180;
  std::uint32_t expire = 86400;
  std::uint32_t minimum = 1;  // how long a resolver may remember that a name is not there
};

struct CatalogOptions {
  std::string domain = "mesos";
  std::uint32_t ttl_seconds = 5;
  SoaTimes soa{};           // of every zone
  std::string soa_mname{};  // of the domain; empty: ns1.<domain>
  std::string soa_rname{};  // of the domain; empty: root.ns1.<domain>
  Naming naming{};
  std::vector<IpAddress> node_addresses{};    // for ns1.<domain>, ns.spartan and thisnode
  std::vector<IpAddress> public_addresses{};  // for public.thisnode
  /// Suffixes with upstreams of their own. Of the names that are otherwise never forwarded (.local
  /// and its like) these are; in the zones of the cluster they change nothing.
  std::set<std::string> forwarded{};
  std::vector<std::pair<std::string, std::string>> aliases{};  // suffix -> zone, besides DC/OS' own
  /// Adds DC/OS's aliases `<zone>.<key>.dcos.directory`; empty: none.
  std::string cluster_key{};
  /// Names of ours that stand for another name, ours or not. Where the cluster has records of
  /// the same name, those are served instead.
  std::map<std::string, std::string> cnames{};
  std::uint64_t hash_seed = 0;     // from outside: makes collisions unpredictable
  std::uint32_t first_serial = 1;  // e.g. unix time, so that it grows over restarts
};

/// Whether a name can be in `cnames`: why not, or empty. Of the zones that hold what runs only the
/// domain itself takes them.
std::string cname_problem(const CatalogOptions&, std::string_view name, std::string_view target);

/// Turns the cluster into zones. Keeps who contributed which record (several tasks may give the
/// same one), touches only names that change, and renders those when asked.
///
/// One thread. Costs what a delta changes; see docs/adr for the figures.
class Catalog {
 public:
  static constexpr std::size_t kMaxNames = 4'000'000;
  static constexpr std::size_t kMaxProblems = 256;

  /// Throws std::invalid_argument for a domain, alias or cname that is wrong: checked at start.
  explicit Catalog(CatalogOptions);
  ~Catalog();
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  /// stage() of the whole delta, then publish().
  std::shared_ptr<const ZoneSnapshot> apply(const ClusterDelta&);

  /// Takes changes [from, from + count) of the delta, counted through all its vectors in their
  /// order, so that a large one can be taken in steps. See changes_in().
  void stage(const ClusterDelta&, std::size_t from, std::size_t count);
  static std::size_t changes_in(const ClusterDelta&) noexcept;

  /// Renders the touched names. `complete` may only ever go from false to true; the serial moves
  /// if anything changed.
  std::shared_ptr<const ZoneSnapshot> publish(bool complete);

  /// Whether publish() would make the snapshot's table larger, and put every name in it anew.
  bool publish_grows() const noexcept { return snapshot_->grows_by(touched_.size()); }

  const Suffixes& suffixes() const noexcept { return suffixes_; }
  const std::shared_ptr<const ZoneSnapshot>& snapshot() const noexcept { return snapshot_; }
  std::size_t names() const noexcept { return snapshot_->size(); }
  std::size_t records() const noexcept { return records_; }

  /// In order of the wire name, at most `limit`; SOA records are left out.
  std::vector<RecordView> list(std::size_t limit) const;

  /// What was skipped since the last call; at most kMaxProblems.
  std::vector<Problem> take_problems() { return std::exchange(problems_, {}); }

 private:
  struct Entry;
  struct Stored;
  /// Destroys what was made with octets behind it, in one allocation.
  struct Free {
    template <class T>
    void operator()(T* made) const noexcept {
      made->~T();
      ::operator delete(made);
    }
  };
  using EntryPtr = std::unique_ptr<Entry, Free>;
  struct Hash {
    using is_transparent = void;
    using is_avalanching = void;  // name_hash() mixes well
    std::uint64_t seed;
    std::size_t operator()(std::string_view name) const noexcept { return name_hash(seed, name); }
    std::size_t operator()(const EntryPtr& entry) const noexcept;
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const EntryPtr& a, const EntryPtr& b) const noexcept { return a == b; }
    bool operator()(std::string_view name, const EntryPtr& entry) const noexcept;
    bool operator()(const EntryPtr& entry, std::string_view name) const noexcept {
      return (*this)(name, entry);
    }
  };

  void add(const Record&);
  void remove(const Record&);
  void replace(const std::vector<Record>& before, const std::vector<Record>& after);
  void touch(Entry&);
  void came(Entry&);
  void went(Entry&);
  Entry* find(std::string_view owner) const noexcept;
  Entry* entry(std::string_view owner);
  void forget_if_unused(Entry*);
  void touch_referrers();
  NodePtr render(const Entry&) const;
  std::optional<std::uint8_t> zone_of(std::string_view wire) const noexcept;
  void make_zones();
  Zone& add_zone(ZoneTable&, std::string_view name) const;
  void add_own_zones(ZoneTable&) const;
  void add_special_zones(ZoneTable&) const;
  void add_aliases(ZoneTable&) const;
  std::string domain_mname() const;
  void add_fixed_records();

  CatalogOptions options_;
  Suffixes suffixes_;
  std::shared_ptr<const ZoneTable> table_;
  std::shared_ptr<const ZoneSnapshot> snapshot_;
  boost::unordered_flat_set<EntryPtr, Hash, Equal> entries_;
  std::vector<Entry*> touched_;
  std::set<Master> masters_;
  std::vector<Problem> problems_;
  std::size_t records_ = 0;
  std::uint32_t serial_;
};

}  // namespace muster::dns
