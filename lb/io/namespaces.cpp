// The part of Namespaces that finds them: who is to be served, who comes and who goes.

#include "lb/io/namespaces.hpp"

#include <algorithm>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <utility>

#include <boost/asio/post.hpp>

#include "lb/io/nft_driver.hpp"

namespace muster::lb {
namespace {

/// After news looks follow each other at growing distances: a file is there before what it says,
/// and before a namespace is mounted over it, of which nobody tells.
constexpr Duration kFirstLook{20};
constexpr Duration kLook{2000};
constexpr Duration kIdleLook{30'000};  // while there are no files
/// A file that is wrong for so long is not just being written.
constexpr Duration kYoung{1000};
constexpr Duration kFirstRetry{1000};
constexpr Duration kMaxRetry{60'000};
/// Changes of the table in one transaction: some 3 ms of the kernel's time.
constexpr std::size_t kStepCommands = 500;

}  // namespace

Namespaces::Served::Served(Namespaces& owner, std::unique_ptr<Driver> driver, std::string name)
    : Kernel{owner.shared_,
             *owner.worker_,
             std::move(driver),
             {.name = std::move(name),
              .step_commands = kStepCommands,
              .in_steps = true,
              .trusts_generation = true,
              .tires = true,
              .awaits_sources = true}},
      owner_{owner} {}

Namespaces::Namespaces(Shared& shared, DriverConfig config, prometheus::Registry& registry,
                       Hooks hooks)
    : shared_{shared},
      config_{std::move(config)},
      metrics_{registry},
      hooks_{std::move(hooks)},
      folders_{shared.options.namespace_folders},
      folder_watch_{folders_},
      gate_{netns::make_gate(folders_, shared.options.namespace_helper)},
      epoll_{::epoll_create1(EPOLL_CLOEXEC)},
      look_pause_{kFirstLook} {
  folders_.resize(std::min(folders_.size(), netns::kMaxFolders));
  epoll_event interest{};
  interest.events = EPOLLIN;
  interest.data.u64 = 0;
  if (folder_watch_.fd() >= 0) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, folder_watch_.fd(), &interest);
  }
  export_state();
}

Namespaces::~Namespaces() {
  // In this order: the first hands on to the second.
  if (looker_) looker_->join();
  if (worker_) worker_->join();
}

std::string Namespaces::path_of(std::uint16_t folder, const std::string& name) const {
  const std::string path = folder < folders_.size() ? folders_[folder] : "?";
  return name.empty() ? path : path + '/' + name;
}

void Namespaces::look_soon() {
  look_pause_ = kFirstLook;
  look_due_ = std::max<TimePoint>(Clock::now(), last_look_ + kFirstLook);
}

void Namespaces::look(TimePoint now) {
  look_due_ = now + kIdleLook;
  if (!folder_watch_.something_there()) {
    gate_error_.clear();
    follow({});
    if (!served_.empty() || !opening_.empty()) look_due_ = now + kLook;
    return;
  }
  if (!looker_) {
    looker_ = std::make_unique<asio::thread_pool>(1);
    worker_ = std::make_unique<asio::thread_pool>(1);
  }
  looking_ = true;
  last_look_ = now;
  // Should nobody answer, these are still known to be over if their files are.
  std::vector<std::string> paths;
  for (const auto& [id, request] : choice_.serve) {
    paths.push_back(path_of(request.folder, request.name));
  }
  asio::post(*looker_, [weak = weak_from_this(), control = shared_.control, gate = gate_, paths] {
    auto found = gate->look();
    std::set<std::string> lost;
    for (const std::string& path : found ? std::vector<std::string>{} : paths) {
      struct stat file {};
      if (::lstat(path.c_str(), &file) != 0 && errno == ENOENT) lost.insert(path);
    }
    asio::post(control, [weak, found = std::move(found), lost = std::move(lost)] {
      if (const auto self = weak.lock()) self->looked(found, lost);
    });
  });
}

void Namespaces::looked(const Result<std::vector<netns::Answer>>& found,
                        const std::set<std::string>& lost) {
  looking_ = false;
  const TimePoint now = Clock::now();
  look_due_ = std::min<TimePoint>(look_due_, now + look_pause_);
  look_pause_ = std::min(look_pause_ * 2, kLook);
  if (found) {
    gate_error_.clear();
    name_folders(*found);
    std::set<netns::Identity> served;
    for (const auto& [id, one] : served_) served.insert(id);
    follow(netns::choose(*found, served));
  } else {
    if (gate_error_.empty()) metrics_.refused("no_helper");
    gate_error_ = "muster-netns does not answer: " + found.error().message();
    shared_.log.warn("lb: network namespaces are named, but " + gate_error_ +
                     "; `muster check` says what mends it");
    netns::Choice choice = choice_;
    std::erase_if(choice.serve, [&](const auto& entry) {
      return lost.contains(path_of(entry.second.folder, entry.second.name));
    });
    follow(std::move(choice));
  }
  hooks_.wake();
}

/// muster-netns has a list of its own, which counts.
void Namespaces::name_folders(const std::vector<netns::Answer>& found) {
  std::vector<std::string> folders;
  for (const netns::Answer& answer : found) {
    if (answer.kind == netns::Answer::Kind::folder) folders.push_back(answer.name);
  }
  if (folders != folders_) {
    shared_.log.warn(
        "lb: muster-netns looks into other folders than lb.namespace_folders has; it finds what "
        "is in its own (systemctl edit muster-netns.service)");
  }
  folders_ = std::move(folders);
}

void Namespaces::follow(netns::Choice choice) {
  const TimePoint now = Clock::now();
  choice_ = std::move(choice);
  std::vector<netns::Identity> over;
  for (const auto& [id, one] : served_) {
    if (!choice_.serve.contains(id)) over.push_back(id);
  }
  for (const netns::Identity& id : over) depart(id);
  std::erase_if(failures_, [this](const auto& one) { return !choice_.serve.contains(one.first); });
  for (const auto& [id, request] : choice_.serve) {
    if (served_.contains(id) || opening_.contains(id)) continue;
    const auto failure = failures_.find(id);
    if (failure == failures_.end() || now >= failure->second.again) open(id, request);
  }
  if (choice_.beyond > 0) {
    shared_.log.warn("lb: more network namespaces are named than can be served: " +
                     std::to_string(netns::kMaxServed) + " are (docs/limits.md)");
  }
  note_refused(now);
  export_state();
}

/// What is refused for some time is told, once.
void Namespaces::note_refused(TimePoint now) {
  std::set<std::pair<std::uint16_t, std::string>> still;
  for (const auto& refused : choice_.refused) {
    const std::pair where{refused.folder, refused.name};
    still.insert(where);
    Refusal& refusal = refusals_.try_emplace(where, Refusal{refused.verdict, now}).first->second;
    if (refusal.verdict != refused.verdict) refusal = {refused.verdict, now};
    if (refusal.told || now - refusal.since < kYoung) continue;
    refusal.told = true;
    metrics_.refused(std::string{name_of(refused.verdict)});
    shared_.log.warn("lb: " + path_of(refused.folder, refused.name) +
                     " is not served: " + std::string{to_string(refused.verdict)});
  }
  std::erase_if(refusals_, [&](const auto& one) { return !still.contains(one.first); });
}

void Namespaces::open(const netns::Identity& id, const netns::Request& request) {
  opening_.insert(id);
  asio::post(*looker_,
             [this, weak = weak_from_this(), control = shared_.control, gate = gate_, id, request] {
               auto opened = std::make_shared<Result<netns::Opened>>(gate->open(request));
               asio::post(*worker_, [this, weak, control, id, request, opened] {
                 auto arrival = std::make_shared<Arrival>(arrive(std::move(*opened)));
                 asio::post(control, [weak, id, request, arrival] {
                   if (const auto self = weak.lock())
                     self->arrived(id, request, std::move(*arrival));
                 });
               });
             });
}

/// On the worker.
Namespaces::Arrival Namespaces::arrive(Result<netns::Opened> opened) const {
  if (!opened) return {.error = opened.error().message()};
  if (opened->verdict != netns::Verdict::good) {
    return {.error = std::string{to_string(opened->verdict)}};
  }
  Arrival arrival{.id = opened->id};
  auto driver = make_nft_driver(config_.table, netns::make_source(std::move(opened->sockets)));
  const auto able = driver->open(config_);
  if (!able) {
    arrival.error = able.error().message();
    if (!driver->detail().empty()) arrival.error += ": " + driver->detail();
    return arrival;
  }
  auto state = driver->read();
  if (!state) {
    arrival.error = "reading its table: " + state.error().message();
    return arrival;
  }
  arrival.state = std::move(*state);
  arrival.driver = std::move(driver);
  return arrival;
}

void Namespaces::arrived(const netns::Identity& id, const netns::Request& request,
                         Arrival arrival) {
  opening_.erase(id);
  const std::string name = path_of(request.folder, request.name);
  const auto wanted = choice_.serve.find(id);
  const bool still = wanted != choice_.serve.end();
  if (!arrival.error.empty()) {
    if (still) fail(id, name, arrival.error);
    export_state();
    return;
  }
  if (!still || arrival.id != id) {
    // The file has come to lead elsewhere meanwhile. Whoever is there now comes with the next look.
    asio::post(*worker_, [driver = std::shared_ptr<Driver>{std::move(arrival.driver)}]() mutable {
      driver.reset();
    });
    look_due_ = Clock::now();
    hooks_.wake();
    return;
  }
  failures_.erase(id);
  const auto served = std::make_shared<Served>(*this, std::move(arrival.driver), request.name);
  served->id = id;
  served->path = name;
  served->key = next_key_++;
  served->begin(std::move(arrival.state));
  served->programmer().take({}, shared_.complete);
  if (doubting_) served->programmer().doubt();
  served->find_sources();
  served_.emplace(id, served);
  by_key_.emplace(served->key, served);
  listen(*served);
  enqueue(*served);
  spdlog::info("lb: network namespace {} is served from now on", name);
  export_state();
}

void Namespaces::fail(const netns::Identity& id, const std::string& name, const std::string& why) {
  auto& failure = failures_.try_emplace(id, Failure{name, {}, {}, kFirstRetry}).first->second;
  if (failure.why != why) metrics_.refused("failed");
  failure.why = why;
  failure.again = Clock::now() + failure.pause;
  failure.pause = std::min(failure.pause * 2, kMaxRetry);
  shared_.log.warn("lb: network namespace " + name + " is not served: " + why);
}

/// Takes our table and routes out of it, if it still lives, and lets go of it: as long as one of
/// our sockets is open, it cannot end.
void Namespaces::depart(const netns::Identity& id) {
  const auto found = served_.find(id);
  const std::shared_ptr<Served> served = std::move(found->second);
  served_.erase(found);
  by_key_.erase(served->key);
  deafen(*served);
  spdlog::info("lb: network namespace {} is served no more", served->path);
  asio::post(*worker_,
             [this, served, driver = std::shared_ptr<Driver>{served->retire()}]() mutable {
               read_counts(*served, *driver);  // what it has counted stays
               const auto removed = driver->cleanup();
               if (!removed) {
                 spdlog::debug("lb: a namespace keeps its table: {}", removed.error().message());
               }
               driver.reset();
             });
}

void Namespaces::export_state() {
  metrics_.set("served", served_.size());
  metrics_.set("opening", opening_.size());
  metrics_.set("failed", failures_.size());
  metrics_.set("refused", choice_.refused.size() + choice_.more_refused);
  metrics_.set("twice", choice_.twice);
  metrics_.set("beyond", choice_.beyond);
}

Balancer::NamespaceStatus Namespaces::status() const {
  Balancer::NamespaceStatus status{.served = served_.size(),
                                   .opening = opening_.size(),
                                   .more = choice_.more_refused + choice_.beyond,
                                   .error = gate_error_};
  for (const auto& [id, served] : served_) {
    if (!served->healthy()) status.trouble.push_back({served->path, served->last_error()});
  }
  for (const auto& [id, failure] : failures_) status.trouble.push_back({failure.name, failure.why});
  for (const auto& [where, refusal] : refusals_) {
    if (!refusal.told) continue;
    status.trouble.push_back(
        {path_of(where.first, where.second), std::string{to_string(refusal.verdict)}});
  }
  return status;
}

}  // namespace muster::lb
