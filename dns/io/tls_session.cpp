#include "dns/io/tls_session.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/assert.hpp"

namespace muster::dns {
namespace {

constexpr std::size_t kMaxNames = 8;   // of a certificate, in a message
constexpr std::size_t kMaxText = 200;  // of all of them

// The other side's text, in a line of the log.
std::string printable(std::string text) {
  if (text.size() > kMaxText) text = text.substr(0, kMaxText) + "...";
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

std::string error_text() {
  const unsigned long code = ERR_peek_error();  // the first: those behind it are its consequences
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(ERR_GET_REASON(code));
  const char* const reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "no reason given";
}

std::string text_of(const ASN1_STRING* text) {
  const auto* const data = reinterpret_cast<const char*>(ASN1_STRING_get0_data(text));
  return {data, static_cast<std::size_t>(ASN1_STRING_length(text))};
}

std::string address_text(const ASN1_STRING* octets) {
  const std::string raw = text_of(octets);
  if (raw.size() == 4) {
    IpAddress::V4 v4{};
    std::copy(raw.begin(), raw.end(), v4.begin());
    return IpAddress{v4}.to_string();
  }
  IpAddress::V6 v6{};
  if (raw.size() != v6.size()) return "an address";
  std::copy(raw.begin(), raw.end(), v6.begin());
  return IpAddress{v6}.to_string();
}

std::string common_name(const X509_NAME* name) {
  const int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  if (at < 0) return "nobody";
  return '"' + text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at))) + '"';
}

// Whom it is for, by its subjectAltName.
std::string holders(const X509* certificate) {
  auto* const names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  std::string out;
  const int count = sk_GENERAL_NAME_num(names);  // -1 for none
  for (int i = 0; i < count && static_cast<std::size_t>(i) < kMaxNames; ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_DNS && name->type != GEN_IPADD) continue;
    out += out.empty() ? "" : ", ";
    out += name->type == GEN_DNS ? text_of(name->d.dNSName) : address_text(name->d.iPAddress);
  }
  GENERAL_NAMES_free(names);
  return out.empty() ? common_name(X509_get_subject_name(certificate)) : out;
}

std::string time_text(const ASN1_TIME* time) {
  std::tm parts{};
  std::array<char, 32> out{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return "an unknown time";
  return {out.data(), std::strftime(out.data(), out.size(), "%Y-%m-%d %H:%M UTC", &parts)};
}

bool still_good(const SSL_SESSION* ticket) {
  if (ticket == nullptr || SSL_SESSION_is_resumable(ticket) != 1) return false;
  // OpenSSL takes the session as not const and does not change it.
  const X509* const certificate = SSL_SESSION_get0_peer(const_cast<SSL_SESSION*>(ticket));
  return certificate != nullptr && X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0;
}

}  // namespace

void FreeTls::operator()(ssl_st* connection) const noexcept {
  SSL_free(connection);
}
void FreeTls::operator()(ssl_ctx_st* context) const noexcept {
  SSL_CTX_free(context);
}
void FreeTls::operator()(ssl_session_st* session) const noexcept {
  SSL_SESSION_free(session);
}

Result<std::shared_ptr<const TlsContext>, std::string> TlsContext::load(
    const std::string& ca_file) {
  ERR_clear_error();
  auto made = std::make_shared<TlsContext>();
  made->context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* const context = made->get();
  if (context == nullptr) return "TLS cannot be had: " + error_text();
  made->authorities_ = ca_file.empty() ? "an authority the system believes" : ca_file;
  const int read = ca_file.empty() ? SSL_CTX_set_default_verify_paths(context)
                                   : SSL_CTX_load_verify_file(context, ca_file.c_str());
  if (read != 1) {
    return (ca_file.empty() ? std::string{"the system's certificates"} : ca_file) +
           ": expected certificates in PEM: " + error_text();
  }
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);  // RFC 9325 §3.1.1
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, &TlsSession::verify);
  // Each upstream keeps its own ticket: one cache for all would need a lock, and keys.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context, &TlsSession::keep);
  return std::shared_ptr<const TlsContext>{std::move(made)};
}

TlsSession::TlsSession(const TlsContext& context, const Upstream& upstream, TlsTicket ticket)
    : context_{context},
      upstream_{upstream},
      connection_{SSL_new(context.get())},
      ticket_{std::move(ticket)} {
  SSL* const ssl = connection_.get();
  MUSTER_ASSERT(ssl != nullptr);  // out of memory
  SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_set_connect_state(ssl);
  SSL_set_app_data(ssl, this);
  X509_VERIFY_PARAM* const expected = SSL_get0_param(ssl);
  // RFC 8310 §8.1: by subjectAltName; a wildcard stands for a whole label.
  X509_VERIFY_PARAM_set_hostflags(
      expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  int set = 0;
  if (upstream.name.empty()) {
    const auto octets = upstream.endpoint.address.octets();
    set = X509_VERIFY_PARAM_set1_ip(expected, octets.data(), octets.size());
  } else {
    set = X509_VERIFY_PARAM_set1_host(expected, upstream.name.data(), upstream.name.size());
    // The macro for it, without its cast. OpenSSL copies the name.
    char* const name = const_cast<char*>(upstream.name.c_str());
    if (set == 1) {
      set = static_cast<int>(
          SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name));
    }
  }
  MUSTER_ASSERT(set == 1);  // without it any certificate would do
  if (still_good(ticket_.get())) SSL_set_session(ssl, ticket_.get());
}

TlsSession::~TlsSession() = default;

void TlsSession::feed(std::span<const std::byte> octets) {
  BIO* const in = SSL_get_rbio(connection_.get());
  const int size = static_cast<int>(octets.size());
  MUSTER_ASSERT(BIO_write(in, octets.data(), size) == size);  // it grows
}

TlsSession::Step TlsSession::handshake() {
  ERR_clear_error();
  const int done = SSL_do_handshake(connection_.get());
  if (done == 1) return Step::done;
  if (SSL_get_error(connection_.get(), done) == SSL_ERROR_WANT_READ) return Step::more;
  return fail();
}

TlsSession::Step TlsSession::read(std::span<std::byte> out, std::size_t& size) {
  ERR_clear_error();
  const int got = SSL_read_ex(connection_.get(), out.data(), out.size(), &size);
  if (got == 1) return Step::done;
  const int error = SSL_get_error(connection_.get(), got);
  if (error == SSL_ERROR_WANT_READ) return Step::more;
  if (error == SSL_ERROR_ZERO_RETURN) return Step::failed;
  return fail();
}

bool TlsSession::write(std::span<const std::byte> octets) {
  ERR_clear_error();
  std::size_t written = 0;
  // Whole: there is room without end in what it writes to.
  if (SSL_write_ex(connection_.get(), octets.data(), octets.size(), &written) == 1) {
    return written == octets.size();
  }
  fail();
  return false;
}

void TlsSession::close() {
  // Without it OpenSSL takes the ticket for spoilt.
  if (SSL_is_init_finished(connection_.get()) == 1 && problem_.empty()) {
    ERR_clear_error();
    SSL_shutdown(connection_.get());
  }
}

void TlsSession::take_output(std::vector<std::byte>& out) {
  BIO* const from = SSL_get_wbio(connection_.get());
  const std::size_t size = BIO_ctrl_pending(from);
  if (size == 0) return;
  const std::size_t had = out.size();
  out.resize(had + size);
  const int got = BIO_read(from, out.data() + had, static_cast<int>(size));
  MUSTER_ASSERT(got == static_cast<int>(size));
}

bool TlsSession::resumed() const noexcept {
  return SSL_session_reused(connection_.get()) == 1;
}

TlsTicket TlsSession::take_ticket() {
  if (!problem_.empty() || !still_good(ticket_.get())) return nullptr;
  return std::move(ticket_);
}

TlsSession::Step TlsSession::fail() {
  if (problem_.empty()) problem_ = error_text() + "; expected TLS 1.2 or later";
  return Step::failed;
}

int TlsSession::verify(int good, x509_store_ctx_st* chain) {
  const int index = SSL_get_ex_data_X509_STORE_CTX_idx();
  auto* const ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, index));
  if (good == 0) static_cast<TlsSession*>(SSL_get_app_data(ssl))->refuse(chain);
  return good;
}

void TlsSession::refuse(x509_store_ctx_st* chain) {
  failure_ = StreamFailure::certificate;
  problem_ = X509_verify_cert_error_string(X509_STORE_CTX_get_error(chain));
  if (const X509* const certificate = X509_STORE_CTX_get_current_cert(chain)) {
    problem_ += ": it is for " + printable(holders(certificate)) + ", by " +
                printable(common_name(X509_get_issuer_name(certificate))) + ", until " +
                time_text(X509_get0_notAfter(certificate));
  }
  problem_ += "; expected one for " +
              (upstream_.name.empty() ? upstream_.endpoint.address.to_string() : upstream_.name) +
              " by " + context_.authorities();
}

// Of TLS 1.3 come several, after the handshake; the last one is as good as any.
int TlsSession::keep(ssl_st* connection, ssl_session_st* session) {
  static_cast<TlsSession*>(SSL_get_app_data(connection))->ticket_.reset(session);
  return 1;  // it is ours now
}

}  // namespace muster::dns
