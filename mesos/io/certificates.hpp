#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/ssl/context.hpp>

namespace muster::mesos {

/// What TLS to the masters is made with, from files that may be renewed while we run.
class Certificates {
 public:
  struct Files {
    std::string ca;    // PEM; empty: the system's
    std::string cert;  // PEM of the client's chain; empty: none is shown
    std::string key;   // PEM of its key
  };

  explicit Certificates(Files files) : files_{std::move(files)} {}

  /// Reads the files if any is new since the last time; else does nothing. Reading the system's
  /// takes tens of milliseconds: call it on a worker. No session may be using context() meanwhile.
  /// Returns what is wrong, or nothing; what was read before is kept then.
  std::string load();

  /// Once load() has succeeded.
  boost::asio::ssl::context& context() { return *context_; }
  /// Unix time at which the client's certificate ends.
  std::optional<std::int64_t> client_expiry() const noexcept { return client_expiry_; }

 private:
  using Times = std::vector<std::filesystem::file_time_type>;

  Times times() const;

  const Files files_;
  Times read_;
  std::unique_ptr<boost::asio::ssl::context> context_;
  std::optional<std::int64_t> client_expiry_;
};

/// Unix time of the end of a certificate's validity; nothing if it cannot be told.
std::optional<std::int64_t> expiry_of(const X509* certificate);

}  // namespace muster::mesos
