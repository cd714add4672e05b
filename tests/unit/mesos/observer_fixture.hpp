#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <doctest/doctest.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "base/io/task_group.hpp"
#include "mesos/io/observer.hpp"
#include "scripted_master.hpp"

namespace muster::mesos::testing {

/// An Observer with its masters on one io_context, and what it said.
class Observed {
 public:
  /// With `tls` the masters speak https; it must outlive them.
  explicit Observed(std::size_t count = 1, boost::asio::ssl::context* tls = nullptr) {
    for (std::size_t i = 0; i < count; ++i) {
      masters.push_back(std::make_unique<ScriptedMaster>(context, tls));
    }
    options.backoff_min = Duration{1};
    options.backoff_max = Duration{20};
    options.poll_interval = Duration{5};
  }
  ~Observed() { stop(); }

  ScriptedMaster& master(std::size_t index = 0) { return *masters[index]; }

  /// With all masters in the list, unless the test has put others there. A second time: one more
  /// observer, with the options as they are now.
  void start() {
    if (options.masters.empty() && !options.zookeeper) {
      for (const auto& each : masters) {
        options.masters.push_back(*MasterUrl::parse(each->url()));
      }
    }
    if (observer) former.push_back(std::move(observer));
    observer = std::make_unique<Observer>(
        context.get_executor(), workers, options, registry,
        [this](Observation observation) { seen.push_back(std::move(observation)); });
    group.spawn(observer->run());
  }

  /// Lets everything go on until `done()`; false if that takes longer than a generous limit.
  template <class Done>
  bool until(Done done, std::chrono::seconds patience = std::chrono::seconds{20}) {
    const auto limit = std::chrono::steady_clock::now() + patience;
    while (!done()) {
      if (std::chrono::steady_clock::now() > limit) return false;
      context.run_one_for(std::chrono::milliseconds{50});
    }
    return true;
  }

  void stop() {
    if (std::exchange(stopped_, true)) return;
    bool joined = false;
    boost::asio::co_spawn(context, stop_all(), [&](std::exception_ptr failure) {
      joined = true;
      CHECK_FALSE(failure);
    });
    CHECK(until([&] { return joined; }));
    workers.join();
  }

  std::string metrics() const { return prometheus::TextSerializer{}.Serialize(registry.Collect()); }
  bool counts(const std::string& line) const {
    return metrics().find(line + "\n") != std::string::npos;
  }

  boost::asio::io_context context;
  boost::asio::thread_pool workers{1};
  prometheus::Registry registry;
  ObserverOptions options;
  std::vector<std::unique_ptr<ScriptedMaster>> masters;
  std::vector<Observation> seen;
  std::unique_ptr<Observer> observer;
  std::vector<std::unique_ptr<Observer>> former;
  TaskGroup group{context.get_executor()};

 private:
  bool stopped_ = false;

  boost::asio::awaitable<void> stop_all() {
    group.stop();
    for (const auto& each : masters) each->stop();
    co_await group.join();
    for (const auto& each : masters) co_await each->join();
  }
};

}  // namespace muster::mesos::testing
