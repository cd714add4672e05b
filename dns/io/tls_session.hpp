#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "dns/core/upstream.hpp"
#include "dns/core/upstream_stream.hpp"

struct ssl_st;
struct ssl_ctx_st;
struct ssl_session_st;
struct x509_store_ctx_st;

namespace muster::dns {

struct FreeTls {
  void operator()(ssl_st* connection) const noexcept;
  void operator()(ssl_ctx_st* context) const noexcept;
  void operator()(ssl_session_st* session) const noexcept;
};

/// What the connections to all upstreams are made with: whose certificates are believed, and that
/// none is taken without. TLS 1.2 or later. Not changed once it is made; workers share it.
class TlsContext {
 public:
  /// `ca_file`: certificates in PEM; empty: those that the system believes in, which takes tens of
  /// milliseconds. The error says what is wrong with which file.
  static Result<std::shared_ptr<const TlsContext>, std::string> load(const std::string& ca_file);

  ssl_ctx_st* get() const noexcept { return context_.get(); }
  /// Whose certificates are believed, for a message.
  const std::string& authorities() const noexcept { return authorities_; }

 private:
  std::unique_ptr<ssl_ctx_st, FreeTls> context_;
  std::string authorities_;
};

/// What an earlier connection left, to make the next one with less (RFC 8446 §2.2).
using TlsTicket = std::unique_ptr<ssl_session_st, FreeTls>;

/// One TLS connection to an upstream, without its socket: what comes is given to it, and what it
/// has made is to be sent. Stays where it was made.
class TlsSession {
 public:
  enum class Step : std::uint8_t { done, more, failed };

  /// `upstream` and `context` outlive it. `ticket` may be null.
  TlsSession(const TlsContext& context, const Upstream& upstream, TlsTicket ticket);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  /// Octets from the other side.
  void feed(std::span<const std::byte> octets);
  /// The handshake, as far as it gets with what was fed. After `done` the certificate is verified.
  Step handshake();
  /// Once the handshake is done. `size` is set to what was read into `out` for `done`; `failed` is
  /// also an orderly end, and then problem() is empty.
  Step read(std::span<std::byte> out, std::size_t& size);
  /// Once the handshake is done. False if it is broken.
  bool write(std::span<const std::byte> octets);
  /// Says goodbye, if the handshake is done.
  void close();
  /// Appends what is to be sent to `out`.
  void take_output(std::vector<std::byte>& out);

  bool resumed() const noexcept;
  /// Why it failed: certificate or handshake, and in words with what was expected.
  StreamFailure failure() const noexcept { return failure_; }
  const std::string& problem() const noexcept { return problem_; }
  /// The last that the server gave, or the one it was made with; none after a failure, or once its
  /// certificate has ended: a resumed connection verifies nothing anew.
  TlsTicket take_ticket();

 private:
  friend class TlsContext;
  static int verify(int good, x509_store_ctx_st* chain);
  static int keep(ssl_st* connection, ssl_session_st* session);

  Step fail();
  void refuse(x509_store_ctx_st* chain);

  const TlsContext& context_;
  const Upstream& upstream_;
  std::unique_ptr<ssl_st, FreeTls> connection_;
  TlsTicket ticket_;
  StreamFailure failure_ = StreamFailure::handshake;
  std::string problem_;
};

}  // namespace muster::dns
