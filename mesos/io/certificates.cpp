#include "mesos/io/certificates.hpp"

#include <ctime>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <system_error>
#include <utility>

#include "base/result.hpp"

namespace muster::mesos {
namespace ssl = boost::asio::ssl;

std::string Certificates::load() {
  Times now = times();
  if (context_ && now == read_) return {};
  auto made = std::make_unique<ssl::context>(ssl::context::tls_client);
  made->set_options(ssl::context::default_workarounds | ssl::context::no_tlsv1 |
                    ssl::context::no_tlsv1_1);
  ErrorCode error;
  if (files_.ca.empty()) {
    made->set_default_verify_paths(error);
  } else {
    made->load_verify_file(files_.ca, error);
  }
  if (error) return "ca_file " + files_.ca + ": " + error.message();
  if (!files_.cert.empty()) {
    made->use_certificate_chain_file(files_.cert, error);
    if (error) return "cert_file " + files_.cert + ": " + error.message();
    // An encrypted key must be an error: by default OpenSSL asks on the terminal.
    made->set_password_callback([](std::size_t, ssl::context::password_purpose) { return ""; },
                                error);
    made->use_private_key_file(files_.key, ssl::context::pem, error);
    if (error) return "key_file " + files_.key + ": " + error.message();
    if (SSL_CTX_check_private_key(made->native_handle()) != 1) {
      return "key_file " + files_.key + ": is not the key of cert_file " + files_.cert;
    }
  }
  client_expiry_ = expiry_of(SSL_CTX_get0_certificate(made->native_handle()));
  context_ = std::move(made);
  read_ = std::move(now);
  return {};
}

/// A file that is not there has no time, and is not there for as long.
Certificates::Times Certificates::times() const {
  Times out;
  for (const std::string& file : {files_.ca, files_.cert, files_.key}) {
    std::error_code ignored;
    out.push_back(std::filesystem::last_write_time(file, ignored));
  }
  return out;
}

std::optional<std::int64_t> expiry_of(const X509* certificate) {
  std::tm parts{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts) != 1) {
    return std::nullopt;
  }
  return timegm(&parts);
}

}  // namespace muster::mesos
