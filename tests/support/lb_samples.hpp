#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.hpp"
#include "base/cluster_delta.hpp"
#include "base/rng.hpp"
#include "lb/core/plan.hpp"

/// Short ways to write tasks, Vips and deltas in the load balancer's tests.
namespace muster::testing {

inline IpAddress ip(std::string_view text) {
  const auto address = IpAddress::parse(text);
  MUSTER_ASSERT(address);
  return *address;
}
inline Endpoint at(std::string_view text) {
  const auto endpoint = Endpoint::parse(text);
  MUSTER_ASSERT(endpoint);
  return *endpoint;
}
inline Vip tcp(std::string_view text) {
  return {Protocol::tcp, at(text)};
}
inline Vip udp(std::string_view text) {
  return {Protocol::udp, at(text)};
}
inline Port port(std::uint64_t number) {
  const auto port = Port::from(number);
  MUSTER_ASSERT(port);
  return *port;
}
inline VipLabel named(std::string name, std::uint64_t number, Protocol protocol = Protocol::tcp) {
  return {VipName{std::move(name)}, port(number), protocol};
}
inline VipLabel literal(std::string_view address, std::uint64_t number,
                        Protocol protocol = Protocol::tcp) {
  return {ip(address), port(number), protocol};
}

/// A running task of one port.
inline Task task(std::string id, std::vector<VipLabel> vips, std::vector<std::string> endpoints) {
  Task made{.id = TaskId{std::move(id)},
            .framework_id = FrameworkId{"f"},
            .agent_id = AgentId{"a"},
            .framework_name = "marathon",
            .name = "web",
            .discovery_name = {},
            .state = TaskState::running,
            .health = Health::unchecked,
            .agent_addresses = {},
            .addresses = {},
            .host_ports = {},
            .ports = {}};
  TaskPort one{.name = "",
               .protocol = "tcp",
               .number = port(80),
               .discovery = true,
               .container_port = std::nullopt,
               .endpoints = {},
               .vips = std::move(vips)};
  for (const std::string& text : endpoints) one.endpoints.push_back(at(text));
  made.ports.push_back(std::move(one));
  return made;
}

template <class T>
Change<T> added(T value) {
  return {nullptr, std::make_shared<const T>(std::move(value))};
}
template <class T>
Change<T> removed(T value) {
  return {std::make_shared<const T>(std::move(value)), nullptr};
}
template <class T>
Change<T> changed(T before, T after) {
  return {std::make_shared<const T>(std::move(before)),
          std::make_shared<const T>(std::move(after))};
}

inline VipAllocation allocation(std::string name, std::string_view v4, std::string_view v6 = {}) {
  return {VipName{std::move(name)}, v4.empty() ? std::nullopt : std::optional{ip(v4)},
          v6.empty() ? std::nullopt : std::optional{ip(v6)}};
}

inline lb::Service service(const Vip& vip, std::vector<Backend> backends) {
  return {.vip = vip, .backends = std::move(backends)};
}

/// Some backends of a pool of `pool`, sorted, with weights from 0 to `heaviest`.
inline std::vector<Backend> some_backends(Rng& rng, std::uint64_t pool, std::uint64_t heaviest) {
  std::vector<Backend> backends;
  const std::uint64_t percent = rng.below(101);
  for (std::uint64_t i = 0; i < pool; ++i) {
    if (rng.below(100) >= percent) continue;
    const IpAddress::V4 octets{10, 0, static_cast<std::uint8_t>(i >> 8),
                               static_cast<std::uint8_t>(i)};
    const auto weight = static_cast<std::uint16_t>(rng.below(heaviest + 1));
    backends.push_back({{IpAddress{octets}, port(8080)}, weight});
  }
  return backends;
}

}  // namespace muster::testing
