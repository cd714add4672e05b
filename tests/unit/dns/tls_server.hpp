#pragma once

#include <atomic>
#include <csignal>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <thread>

#include "io_support.hpp"
#include "tests/support/test_certificates.hpp"

namespace muster::dns::testing {

using muster::testing::TestCertificate;
using muster::testing::TestFolder;

/// The other side of a connection whose handshake is done. Blocks.
class TlsPeer {
 public:
  explicit TlsPeer(SSL* ssl) : ssl_{ssl} {}

  /// The next query without its length; empty if the connection has ended.
  Bytes read_query() {
    const Bytes length = read(2);
    if (length.size() < 2) return {};
    return read(std::to_integer<std::size_t>(length[0]) << 8 |
                std::to_integer<std::size_t>(length[1]));
  }
  /// All of it in one write; false if nobody reads any more.
  bool write(const Bytes& octets) {
    ERR_clear_error();
    return SSL_write(ssl_, octets.data(), static_cast<int>(octets.size())) > 0;
  }
  bool reply(const Bytes& message) { return write(framed(message)); }
  bool resumed() const { return SSL_session_reused(ssl_) == 1; }
  std::string asked_for() const {
    const char* const name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
    return name != nullptr ? name : "";
  }

 private:
  Bytes read(std::size_t size) {
    Bytes out(size);
    for (std::size_t have = 0; have < size;) {
      ERR_clear_error();
      const int got = SSL_read(ssl_, out.data() + have, static_cast<int>(size - have));
      if (got <= 0) return {};
      have += static_cast<std::size_t>(got);
    }
    return out;
  }

  SSL* ssl_;
};

/// A real TLS server on loopback; a thread for each connection does what the script says.
class TlsServer {
 public:
  /// `number` counts the connections whose handshake was done, from 1. The connection is closed
  /// when it returns, with a goodbye.
  using Script = std::function<void(TlsPeer& peer, int number)>;

  TlsServer(const TestCertificate& certificate, Script script,
            int version = 0)  // of TLS, at most; 0: any
      : context_{SSL_CTX_new(TLS_server_method()), &SSL_CTX_free}, script_{std::move(script)} {
    REQUIRE(SSL_CTX_use_certificate(context_.get(), certificate.certificate.get()) == 1);
    REQUIRE(SSL_CTX_use_PrivateKey(context_.get(), certificate.key.get()) == 1);
    SSL_CTX_set_max_proto_version(context_.get(), version);
    auto bound = bind_listeners(ip("127.0.0.1"), std::nullopt, 1);
    REQUIRE(bound.has_value());
    sockets_ = std::move(bound->front());
    thread_ = std::thread{[this] { run(); }};
  }
  ~TlsServer() {
    stop_ = true;
    thread_.join();
    {
      const std::scoped_lock lock{mutex_};
      for (const int fd : open_) shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : connections_) thread.join();
  }

  Upstream upstream(std::string host = "dns.example") const {
    Upstream out{sockets_->endpoint};
    out.tls = true;
    out.name = std::move(host);
    return out;
  }
  Endpoint at() const { return sockets_->endpoint; }
  /// Connections accepted, and those whose handshake was done.
  int accepted() const { return accepted_; }
  int greeted() const { return greeted_; }
  /// Whether anything came that was not TLS: a datagram, or a connection that began otherwise.
  bool heard_plaintext() const { return plaintext_; }

 private:
  void run() {
    while (!stop_) {
      pollfd fds[2] = {{sockets_->udp.get(), POLLIN, 0}, {sockets_->tcp.get(), POLLIN, 0}};
      if (poll(fds, 2, 20) <= 0) continue;
      if ((fds[0].revents & POLLIN) != 0) {
        receive(sockets_->udp);
        plaintext_ = true;
      }
      if ((fds[1].revents & POLLIN) == 0) continue;
      FileDescriptor client{accept4(sockets_->tcp.get(), nullptr, nullptr, SOCK_CLOEXEC)};
      if (client.get() < 0) continue;
      ++accepted_;
      connections_.emplace_back([this, fd = std::move(client)] { serve(fd); });
    }
  }

  void serve(const FileDescriptor& fd) {
    // OpenSSL writes as write(2) does; who has gone is no reason to die.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    {
      const std::scoped_lock lock{mutex_};
      open_.push_back(fd.get());
    }
    std::byte first{};
    if (recv(fd.get(), &first, 1, MSG_PEEK) == 1 && first != std::byte{22}) plaintext_ = true;
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl{SSL_new(context_.get()), &SSL_free};
    SSL_set_fd(ssl.get(), fd.get());
    ERR_clear_error();
    if (SSL_accept(ssl.get()) == 1) {
      TlsPeer peer{ssl.get()};
      script_(peer, ++greeted_);
      SSL_shutdown(ssl.get());
    }
    const std::scoped_lock lock{mutex_};
    open_.remove(fd.get());
    shutdown(fd.get(), SHUT_RDWR);
  }

  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  Script script_;
  std::optional<ListenSockets> sockets_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> plaintext_{false};
  std::atomic<int> accepted_{0};
  std::atomic<int> greeted_{0};
  std::mutex mutex_;
  std::list<int> open_;  // guarded by mutex_
  std::list<std::thread> connections_;
  std::thread thread_;
};

/// An authority, its file, and what it signs.
struct TestAuthority {
  explicit TestAuthority(const std::string& name = "muster-test-root")
      : root{TestCertificate::make(name, nullptr, "")} {}

  TestFolder folder;
  TestCertificate root;
  std::string file = folder.put("ca.pem", root.certificate_pem());

  TestCertificate make(const std::string& names = "DNS:dns.example,IP:127.0.0.1",
                       long valid_seconds = 3600) const {
    return TestCertificate::make("muster-test-server", &root, names, valid_seconds);
  }
};

}  // namespace muster::dns::testing
