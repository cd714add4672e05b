#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "dev/master_api.hpp"

namespace muster::dev {

/// What the emulated master is told to do wrong, and to suffer, over HTTP:
///
///     POST /dev/faults   one object, or an array of them, done in order
///     GET /dev/faults    those that wait for a request
///
/// docs/development-cluster.md lists them. Faults of answers wait for requests of their path and
/// are used up by them; the others happen at once. Sans-io: what it cannot do itself it asks for.
class MasterFaults {
 public:
  static constexpr std::size_t kMaxArmed = 1000;

  /// What takes more than this object. Each returns what is wrong, or nothing.
  struct Acts {
    std::function<std::string(std::string record)> say;  // to every stream, as it is
    std::function<std::string()> hang_up;                // every stream
    std::function<std::string(std::string_view act, std::int64_t node)> agent;  // see below
    std::function<std::string(std::string_view act)>
        framework;                           // "teardown", "disconnect", "return"
    std::function<std::string()> fail_over;  // to the other master
  };
  // Acts of agents: "unreachable", "return", "remove".

  explicit MasterFaults(Acts acts) : acts_{std::move(acts)} {}

  /// The answer, if the request is for us.
  std::optional<ApiResponse> control(const ApiRequest& request);
  /// Spoils an answer, if a fault waits for it.
  void spoil(const ApiRequest& request, ApiResponse& response);

 private:
  struct Armed {
    std::string kind;
    std::string path;  // empty: any
    std::int64_t times = 1;
    std::int64_t after = 0;  // octets
    std::int64_t status = 500;
    std::int64_t milliseconds = 0;
    std::string to;  // Location
    std::string body;
    std::string find, replacement;
  };

  std::string act(const boost::json::object& fault);
  std::string arm(const boost::json::object& fault, const std::string& kind);

  Acts acts_;
  std::list<Armed> armed_;
};

}  // namespace muster::dev
