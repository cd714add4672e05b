#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/cluster_delta.hpp"
#include "base/observation.hpp"
#include "dns/core/record.hpp"
#include "dns/core/zone_snapshot.hpp"

namespace muster::dns {

struct Suffixes;

struct CatalogOptions {
  std::string domain = "mesos";
  std::uint32_t ttl_seconds = 5;
  std::uint32_t negative_ttl_seconds = 1;   // DC/OS' SOA MINIMUM
  std::vector<IpAddress> node_addresses{};  // for ns1.<domain>, ns.spartan and thisnode
  /// Suffixes with upstreams of their own. Of the names that are otherwise never forwarded (.local
  /// and its like) these are; in the zones of the cluster they change nothing.
  std::set<std::string> forwarded{};
  std::vector<std::pair<std::string, std::string>> aliases{};  // suffix -> zone, besides DC/OS' own
  std::uint64_t hash_seed = 0;     // from outside: makes collisions unpredictable
  std::uint32_t first_serial = 1;  // e.g. unix time, so that it grows over restarts
};

/// Turns the cluster into zones. Keeps who contributed which record (several tasks may give the
/// same one), touches only names that change, and renders those when asked.
///
/// One thread. Costs what a delta changes; see docs/adr for the figures.
class Catalog {
 public:
  static constexpr std::size_t kMaxNames = 4'000'000;
  static constexpr std::size_t kMaxProblems = 256;

  /// Throws std::invalid_argument if the domain or an alias is not a name: checked at start.
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
  using Entries = std::map<std::string, std::unique_ptr<Entry>, std::less<>>;

  void add(const Record&);
  void remove(const Record&);
  void replace(const std::vector<Record>& before, const std::vector<Record>& after);
  void touch(Entry&);
  void came(Entry&);
  void went(Entry&);
  Entry* entry(std::string_view owner);
  void forget_if_unused(Entry*);
  void touch_referrers();
  NodePtr render(const Entry&) const;
  std::optional<std::uint8_t> zone_of(std::string_view wire) const noexcept;
  void make_zones();
  void add_fixed_records();

  CatalogOptions options_;
  std::unique_ptr<Suffixes> suffixes_;
  std::shared_ptr<const ZoneTable> table_;
  std::shared_ptr<const ZoneSnapshot> snapshot_;
  Entries entries_;
  std::vector<Entry*> touched_;
  std::set<Master> masters_;
  std::vector<Problem> problems_;
  std::size_t records_ = 0;
  std::uint32_t serial_;
};

}  // namespace muster::dns
