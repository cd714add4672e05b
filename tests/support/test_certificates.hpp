#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string>

namespace muster::testing {

struct FreeOpenSsl {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(BIO* bio) const { BIO_free(bio); }
};

/// A certificate and its key, made on the spot; signed by `issuer`, or by itself.
struct TestCertificate {
  std::unique_ptr<EVP_PKEY, FreeOpenSsl> key;
  std::unique_ptr<X509, FreeOpenSsl> certificate;

  /// `names` is a subjectAltName, such as "DNS:m1.example,IP:127.0.0.1"; empty: none.
  static TestCertificate make(const std::string& subject, const TestCertificate* issuer,
                              const std::string& names, long valid_seconds = 3600) {
    TestCertificate out;
    out.key.reset(EVP_EC_gen("P-256"));
    out.certificate.reset(X509_new());
    X509* const x509 = out.certificate.get();
    X509_set_version(x509, 2);
    static long serial = 1;
    ASN1_INTEGER_set(X509_get_serialNumber(x509), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x509), valid_seconds);
    X509_set_pubkey(x509, out.key.get());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(subject.c_str()), -1, -1, 0);
    const TestCertificate& by = issuer != nullptr ? *issuer : out;
    X509_set_issuer_name(x509, X509_get_subject_name(by.certificate.get()));
    if (issuer == nullptr) out.extend(NID_basic_constraints, "critical,CA:TRUE");
    if (!names.empty()) out.extend(NID_subject_alt_name, names);
    X509_sign(x509, by.key.get(), EVP_sha256());
    return out;
  }

  std::string certificate_pem() const {
    const std::unique_ptr<BIO, FreeOpenSsl> bio{BIO_new(BIO_s_mem())};
    PEM_write_bio_X509(bio.get(), certificate.get());
    return text(bio.get());
  }
  /// Encrypted where a password is given.
  std::string key_pem(const char* password = nullptr) const {
    const std::unique_ptr<BIO, FreeOpenSsl> bio{BIO_new(BIO_s_mem())};
    PEM_write_bio_PrivateKey(bio.get(), key.get(),
                             password != nullptr ? EVP_aes_128_cbc() : nullptr, nullptr, 0, nullptr,
                             const_cast<char*>(password));
    return text(bio.get());
  }

 private:
  void extend(int what, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, what, value.c_str());
    X509_add_ext(certificate.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }
  static std::string text(BIO* bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    return {data, static_cast<std::size_t>(size)};
  }
};

/// A folder for a test's files, gone with it.
class TestFolder {
 public:
  TestFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "muster.XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  /// Writes a file and gives its path.
  std::string put(const std::string& name, const std::string& text) const {
    const std::string path = (path_ / name).string();
    if (std::FILE* file = std::fopen(path.c_str(), "w")) {
      std::fwrite(text.data(), 1, text.size(), file);
      std::fclose(file);
    }
    return path;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace muster::testing
