#pragma once

// Private to balancer*.cpp.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>
#include <prometheus/registry.h>

#include "lb/core/netns_choice.hpp"
#include "lb/io/kernel.hpp"
#include "lb/io/namespace_metrics.hpp"
#include "lb/io/netns/client.hpp"
#include "lb/io/netns/folder_watch.hpp"

namespace muster::lb {

/// Serves the network namespaces that files in some folders name: finds them, has sockets made in
/// them, and keeps a Kernel for each, as long as a file leads there. Control thread only.
///
/// They take turns, and only while the node's own kernel has nothing to do. Everything that may
/// block is on two threads of their own, which are not there before the first file is.
class Namespaces : public std::enable_shared_from_this<Namespaces> {
 public:
  struct Hooks {
    std::function<void()> wake;       // next_due() may be sooner
    std::function<bool()> host_busy;  // the node's own kernel has something to do
    std::function<void(const std::vector<Unanswered>&)> unanswered;
    std::function<TimePoint()> last_look;                  // at what is counted, by anybody
    std::function<void(const ConnectionTotals&)> counted;  // called by a thread of ours
  };

  Namespaces(Shared& shared, DriverConfig config, prometheus::Registry& registry, Hooks hooks);
  Namespaces(const Namespaces&) = delete;
  Namespaces& operator=(const Namespaces&) = delete;
  ~Namespaces();

  /// As Programmer's: the table has changed.
  void take(std::span<const Vip> vips, bool complete);
  void touch(std::span<const Vip> vips);
  /// Programmer's doubt() and trust(), for all, and those that come in between.
  void doubt() { doubting_ = true; }
  void trust();

  void tick(TimePoint now);
  TimePoint next_due(TimePoint now) const;
  /// Hears of files, and of what goes on in namespaces. Runs until cancelled.
  asio::awaitable<void> watch();

  Balancer::NamespaceStatus status() const;

 private:
  class Served;
  /// What is wanted, in the order it came to be.
  struct Change {
    std::vector<Vip> vips;
    bool declared;  // by a delta; else the table itself has changed its mind
    bool complete;
  };
  /// What a file that is not served was told of.
  struct Refusal {
    netns::Verdict verdict;
    TimePoint since;
    bool told = false;
  };
  /// A namespace that could not be served, and when it is tried again.
  struct Failure {
    std::string name;
    std::string why;
    TimePoint again;
    Duration pause;
  };
  struct Arrival {
    std::string error = {};  // empty: the rest is there
    netns::Identity id = {};
    std::unique_ptr<Driver> driver = {};
    KernelState state = {};
  };

  // Finding them (namespaces.cpp).
  void look_soon();
  void look(TimePoint now);
  void looked(const Result<std::vector<netns::Answer>>& found, const std::set<std::string>& lost);
  void name_folders(const std::vector<netns::Answer>& found);
  void follow(netns::Choice choice);
  void note_refused(TimePoint now);
  std::string path_of(std::uint16_t folder, const std::string& name) const;
  void open(const netns::Identity& id, const netns::Request& request);
  Arrival arrive(Result<netns::Opened> opened) const;
  void arrived(const netns::Identity& id, const netns::Request& request, Arrival arrival);
  void fail(const netns::Identity& id, const std::string& name, const std::string& why);
  void depart(const netns::Identity& id);
  void export_state();

  // Counting what goes through them (namespaces_counts.cpp).
  void count(TimePoint now);
  void read_counts(Served& served, Driver& driver) const;

  // Serving them (namespaces_turns.cpp).
  void announce(std::shared_ptr<const Change> change);
  void take_in(Served& served);
  void enqueue(Served& served);
  void turn_later();
  void turn();
  bool turn_of(Served& served);
  void listen(Served& served);
  void deafen(Served& served);
  void hear();
  void hear(std::uint64_t what);
  void listen_again(std::uint64_t what);

  Shared& shared_;
  DriverConfig config_;
  NamespaceMetrics metrics_;
  Hooks hooks_;
  std::vector<std::string> folders_;
  netns::FolderWatch folder_watch_;
  std::shared_ptr<netns::Gate> gate_;  // the looker's
  netns::Handle epoll_;                // the folders, and what each namespace tells

  std::map<netns::Identity, std::shared_ptr<Served>> served_;
  std::map<std::uint64_t, std::weak_ptr<Served>> by_key_;
  std::uint64_t next_key_ = 1;
  std::deque<std::weak_ptr<Served>> queue_;  // whose turn it is
  bool turn_posted_ = false;
  std::set<netns::Identity> opening_;
  std::map<netns::Identity, Failure> failures_;
  netns::Choice choice_;  // the last
  std::map<std::pair<std::uint16_t, std::string>, Refusal> refusals_;
  std::deque<std::pair<TimePoint, std::uint64_t>> deaf_;  // listened to again from then on
  bool counting_ = false;
  std::uint64_t counted_ = 0;  // whose turn it was last, by key
  TimePoint count_due_{};
  std::string gate_error_;
  bool looking_ = false;
  bool doubting_ = false;
  TimePoint look_due_{};
  TimePoint last_look_{};
  Duration look_pause_;

  std::unique_ptr<asio::thread_pool> looker_;  // asks the gate
  std::unique_ptr<asio::thread_pool> worker_;  // reads, flushes, withdraws
};

/// One that is served.
class Namespaces::Served final : public Kernel {
 public:
  Served(Namespaces& owner, std::unique_ptr<Driver> driver, std::string name);

  netns::Identity id;
  std::string path = {};  // of the file
  std::uint64_t key = 0;
  std::deque<std::shared_ptr<const Change>> pending = {};
  bool queued = false;
  ConnectionGrowth growth = {};  // the worker's
  std::optional<TimePoint> counted_at = {};

 private:
  void work() override { owner_.enqueue(*this); }
  void wake() override { owner_.hooks_.wake(); }

  Namespaces& owner_;
};

}  // namespace muster::lb
