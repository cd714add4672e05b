#include "base/io/resolver.hpp"

#include <algorithm>
#include <map>
#include <netinet/in.h>
#include <utility>

#include <ares.h>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/assert.hpp"

namespace muster {
namespace asio = boost::asio;
namespace {

constexpr int kQueryTimeoutMs = 2000;  // doubles with each of the tries; the caller's limit rules
constexpr int kTries = 3;

/// One resolve() that waits. Kept by both sides, as either may go first.
struct Pending {
  bool done = false;
  Result<std::vector<IpAddress>> result{ErrorCode{asio::error::operation_aborted}};
  asio::steady_timer* waiter = nullptr;  // null once the coroutine has left
};

void add_address(const sockaddr* from, std::vector<IpAddress>& out) {
  if (out.size() == Resolver::kMaxAddresses) return;
  const auto add = [&out](const IpAddress& address) {
    if (std::find(out.begin(), out.end(), address) == out.end()) out.push_back(address);
  };
  if (from->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(from);
    const auto* octets = reinterpret_cast<const std::uint8_t*>(&v4->sin_addr);
    IpAddress::V4 copy{};
    std::copy_n(octets, copy.size(), copy.begin());
    add(IpAddress{copy});
  } else if (from->sa_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(from);
    IpAddress::V6 copy{};
    std::copy_n(v6->sin6_addr.s6_addr, copy.size(), copy.begin());
    add(IpAddress{copy});
  }
}

ErrorCode error_of(int status) {
  switch (status) {
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
    case ARES_EBADNAME:
      return asio::error::host_not_found;
    case ARES_EDESTRUCTION:
    case ARES_ECANCELLED:
      return asio::error::operation_aborted;
    default:
      return asio::error::host_not_found_try_again;
  }
}

void on_answer(void* context, int status, int /*timeouts*/, ares_addrinfo* answer) {
  const std::unique_ptr<std::shared_ptr<Pending>> held{
      static_cast<std::shared_ptr<Pending>*>(context)};
  Pending& pending = **held;
  std::vector<IpAddress> addresses;
  if (answer != nullptr) {
    for (const auto* node = answer->nodes; node != nullptr; node = node->ai_next) {
      add_address(node->ai_addr, addresses);
    }
    ares_freeaddrinfo(answer);
  }
  std::stable_partition(addresses.begin(), addresses.end(),
                        [](const IpAddress& address) { return address.is_v4(); });
  pending.done = true;
  if (!addresses.empty()) {
    pending.result = std::move(addresses);
  } else {
    pending.result = error_of(status == ARES_SUCCESS ? ARES_ENODATA : status);
  }
  if (pending.waiter != nullptr) pending.waiter->cancel();
}

}  // namespace

/// Watches c-ares' sockets and its timer.
class Resolver::Impl {
 public:
  Impl(asio::any_io_executor executor, Options options)
      : executor_{std::move(executor)}, options_{std::move(options)}, timer_{executor_} {
    static const int initialised = ares_library_init(ARES_LIB_INIT_ALL);
    MUSTER_ASSERT(initialised == ARES_SUCCESS);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() { close(); }

  ErrorCode start(const std::string& host, const std::shared_ptr<Pending>& pending) {
    if (waiting_ >= kMaxPending) return asio::error::no_buffer_space;
    // /etc/resolv.conf may have changed since; reading it again costs microseconds.
    if (waiting_ == 0 && options_.servers.empty()) close();
    if (channel_ == nullptr && !open()) return asio::error::host_not_found_try_again;
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_flags = ARES_AI_NOSORT;
    // NOLINTNEXTLINE(bugprone-multiple-new-in-one-expression)
    ares_getaddrinfo(channel_, host.c_str(), nullptr, &hints, &on_answer,
                     new std::shared_ptr<Pending>{pending});
    arm_timer();
    return {};
  }

  std::size_t waiting_ = 0;  // resolve() coroutines between start and answer
  const asio::any_io_executor& executor() const { return executor_; }

 private:
  /// A socket of c-ares'. Handlers keep it alive and look at `impl` before they touch anything.
  struct Watch {
    Watch(const asio::any_io_executor& executor, int fd, Impl* owner)
        : descriptor{executor, fd}, impl{owner} {}
    asio::posix::stream_descriptor descriptor;
    Impl* impl;  // null once c-ares has closed the socket, or the Resolver is gone
    bool readable = false, writable = false;
    bool reading = false, writing = false;  // a wait is under way
  };

  bool open() {
    ares_options options{};
    options.timeout = kQueryTimeoutMs;
    options.tries = kTries;
    options.sock_state_cb = [](void* self, int fd, int readable, int writable) {
      static_cast<Impl*>(self)->watch(fd, readable != 0, writable != 0);
    };
    options.sock_state_cb_data = this;
    if (ares_init_options(&channel_, &options,
                          ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB) !=
        ARES_SUCCESS) {
      channel_ = nullptr;
      return false;
    }
    std::string servers;
    for (const Endpoint& server : options_.servers) {
      servers += (servers.empty() ? "" : ",") + to_string(server);
    }
    if (!servers.empty()) ares_set_servers_ports_csv(channel_, servers.c_str());
    return true;
  }

  void close() {
    timer_.cancel();
    if (channel_ != nullptr) ares_destroy(std::exchange(channel_, nullptr));
    // c-ares has closed its sockets by now; what it did not announce must not be closed twice.
    while (!watches_.empty()) watch(watches_.begin()->first, false, false);
  }

  void watch(int fd, bool readable, bool writable) {
    auto found = watches_.find(fd);
    if (!readable && !writable) {
      if (found == watches_.end()) return;
      found->second->impl = nullptr;
      found->second->descriptor.release();  // c-ares closes it
      watches_.erase(found);
      return;
    }
    if (found == watches_.end()) {
      found = watches_.emplace(fd, std::make_shared<Watch>(executor_, fd, this)).first;
    }
    found->second->readable = readable;
    found->second->writable = writable;
    arm(found->second, fd);
  }

  static void arm(const std::shared_ptr<Watch>& watch, int fd) {
    if (watch->readable && !watch->reading) {
      watch->reading = true;
      watch->descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                                   [watch, fd](ErrorCode error) {
                                     watch->reading = false;
                                     if (!error) ready(watch, fd, fd, ARES_SOCKET_BAD);
                                   });
    }
    if (watch->writable && !watch->writing) {
      watch->writing = true;
      watch->descriptor.async_wait(asio::posix::stream_descriptor::wait_write,
                                   [watch, fd](ErrorCode error) {
                                     watch->writing = false;
                                     if (!error) ready(watch, fd, ARES_SOCKET_BAD, fd);
                                   });
    }
  }

  static void ready(const std::shared_ptr<Watch>& watch, int fd, int read, int write) {
    Impl* impl = watch->impl;
    if (impl == nullptr || impl->channel_ == nullptr) return;
    ares_process_fd(impl->channel_, read, write);
    if (watch->impl == nullptr) return;  // closed by that
    arm(watch, fd);
    impl->arm_timer();
  }

  void arm_timer() {
    timeval limit{};
    if (channel_ == nullptr || ares_timeout(channel_, nullptr, &limit) == nullptr) return;
    const auto wait = std::chrono::seconds{limit.tv_sec} +
                      std::chrono::microseconds{limit.tv_usec} + std::chrono::milliseconds{1};
    timer_.expires_after(wait);
    // The token outlives this object's timer handler only if it is queued already.
    timer_.async_wait([this, alive = std::weak_ptr<int>{alive_}](ErrorCode error) {
      if (error || alive.expired() || channel_ == nullptr) return;
      ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
      arm_timer();
    });
  }

  asio::any_io_executor executor_;
  Options options_;
  asio::steady_timer timer_;
  ares_channel channel_ = nullptr;
  std::map<int, std::shared_ptr<Watch>> watches_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

Resolver::Resolver(asio::any_io_executor executor) : Resolver{std::move(executor), Options{}} {}
Resolver::Resolver(asio::any_io_executor executor, Options options)
    : impl_{std::make_shared<Impl>(std::move(executor), std::move(options))} {}
Resolver::~Resolver() = default;

asio::awaitable<Result<std::vector<IpAddress>>> Resolver::resolve(std::string host,
                                                                  Duration limit) {
  if (const auto literal = IpAddress::parse(host)) co_return std::vector{*literal};
  const std::shared_ptr<Impl> impl = impl_;  // this object may go while we wait
  const auto pending = std::make_shared<Pending>();
  if (const ErrorCode refused = impl->start(host, pending)) co_return refused;
  if (!pending->done) {
    asio::steady_timer waiter{impl->executor(), limit};
    struct Leave {
      Pending& pending;
      std::size_t& waiting;
      ~Leave() {
        pending.waiter = nullptr;
        --waiting;
      }
    } leave{*pending, impl->waiting_};
    pending->waiter = &waiter;
    ++impl->waiting_;
    co_await waiter.async_wait(asio::as_tuple(asio::use_awaitable));
    if (!pending->done) co_return ErrorCode{asio::error::timed_out};
  }
  co_return std::move(pending->result);
}

}  // namespace muster
