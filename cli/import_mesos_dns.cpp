#include "cli/import_mesos_dns.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <utility>

#include <boost/json.hpp>

#include "base/endpoint.hpp"

namespace muster::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxFile = 1U << 20;
constexpr std::int64_t kMaxSeconds = std::numeric_limits<std::int32_t>::max();
constexpr int kBadInput = 2;

// What is wrong with the input; never leaves this file.
struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string lower(std::string_view text) {
  std::string out{text};
  std::transform(out.begin(), out.end(), out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return out;
}

std::string quoted(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    if (octet < 0x20 || octet == 0x7F) {
      out += "\\u00";
      out += kDigits[octet >> 4];
      out += kDigits[octet & 15];
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

std::string list_of(const std::vector<std::string>& items) {
  std::string out = "[";
  for (const std::string& item : items) out += (out.size() > 1 ? ", " : "") + quoted(item);
  return out + ']';
}

// The file's keys, in lower case, as Go reads them. Remembers which were asked for.
class Source {
 public:
  explicit Source(std::string_view text) {
    boost::system::error_code error;
    json::value parsed = json::parse(json::string_view{text.data(), text.size()}, error);
    if (error) throw Wrong{"not JSON: " + error.message()};
    if (!parsed.is_object()) throw Wrong{"expected one JSON object"};
    for (auto& [key, value] : parsed.get_object()) {
      if (!value.is_null()) values_.insert_or_assign(lower({key.data(), key.size()}), value);
    }
  }

  bool has(std::string_view key) const { return values_.contains(lower(key)); }

  std::string text(std::string_view key, std::string fallback = {}) {
    const json::value* const value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) fail(key, "a string");
    return std::string{value->get_string()};
  }
  bool boolean(std::string_view key, bool fallback) {
    const json::value* const value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_bool()) fail(key, "true or false");
    return value->get_bool();
  }
  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high,
                       std::int64_t fallback) {
    const json::value* const value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_int64() || value->get_int64() < low || value->get_int64() > high) {
      fail(key, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    }
    return value->get_int64();
  }
  std::vector<std::string> texts(std::string_view key, std::vector<std::string> fallback = {}) {
    const json::value* const value = find(key);
    return value == nullptr ? fallback : texts_of(key, *value);
  }
  std::map<std::string, std::vector<std::string>> table(std::string_view key) {
    std::map<std::string, std::vector<std::string>> out;
    const json::value* const value = find(key);
    if (value == nullptr) return out;
    if (!value->is_object()) fail(key, "an object");
    for (const auto& [name, item] : value->get_object()) {
      out.insert_or_assign(lower({name.data(), name.size()}), texts_of(key, item));
    }
    return out;
  }
  std::string member(std::string_view key, std::string_view name) {
    const json::value* const value = find(key);
    if (value == nullptr) return {};
    if (!value->is_object()) fail(key, "an object");
    for (const auto& [at, item] : value->get_object()) {
      if (lower({at.data(), at.size()}) != name) continue;
      if (!item.is_string()) fail(key, "strings in it");
      return std::string{item.get_string()};
    }
    return {};
  }
  std::vector<std::string> not_asked_for() const {
    std::vector<std::string> out;
    for (const auto& [key, value] : values_) {
      if (!asked_.contains(key)) out.push_back(key);
    }
    return out;
  }
  [[noreturn]] static void fail(std::string_view key, const std::string& expected) {
    throw Wrong{std::string{key} + ": expected " + expected};
  }

 private:
  const json::value* find(std::string_view key) {
    const auto found = values_.find(*asked_.insert(lower(key)).first);
    return found == values_.end() ? nullptr : &found->second;
  }
  static std::vector<std::string> texts_of(std::string_view key, const json::value& value) {
    if (!value.is_array()) fail(key, "a list of strings");
    std::vector<std::string> out;
    for (const json::value& item : value.get_array()) {
      if (!item.is_string()) fail(key, "a list of strings");
      out.emplace_back(item.get_string());
    }
    return out;
  }
  std::map<std::string, json::value> values_;
  std::set<std::string> asked_;
};

std::vector<std::string> resolvers(std::string_view key, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    if (!IpAddress::parse(text) && !Endpoint::parse(text)) {
      Source::fail(key, "addresses like \"8.8.8.8\" or \"8.8.8.8:53\", got " + quoted(text));
    }
  }
  return texts;
}

class Importer {
 public:
  explicit Importer(std::string_view text) : in_{text} {}

  ImportedConfig run() {
    mesos();
    dns();
    http();
    names();
    for (const std::string& key : in_.not_asked_for()) note(key, "not a key Mesos-DNS reads");
    return std::move(out_);
  }

 private:
  void line(const std::string& text) { out_.toml += text + '\n'; }
  void set(const std::string& key, const std::string& value) { line(key + " = " + value); }
  void note(const std::string& key, const std::string& what) {
    out_.notes.push_back(key + ": " + what);
  }
  // A key that asks for nothing muster has to be told.
  void needless(const char* key, const char* why) {
    if (in_.has(key)) note(key, why);
    in_.integer(key, std::numeric_limits<std::int64_t>::min(),
                std::numeric_limits<std::int64_t>::max(), 0);
  }

  void mesos() {
    line("# Made from a Mesos-DNS configuration.");
    line("[mesos]");
    const bool https = in_.boolean("MesosHTTPSOn", false);
    std::vector<std::string> urls;
    for (const std::string& master : in_.texts("Masters")) {
      // Mesos-DNS takes host:port; a bare host is tolerated nowhere.
      if (master.find(':') == std::string::npos) {
        Source::fail("Masters", "host:port, got " + quoted(master));
      }
      urls.push_back((https ? "https://" : "http://") + master);
    }
    const std::string zk = in_.text("Zk");
    if (urls.empty() && zk.empty()) Source::fail("Masters", "masters or zk, neither is there");
    if (!zk.empty() && !urls.empty()) note("zk", "not asked; the masters that are named are");
    if (urls.empty()) {
      zookeeper(zk, https);
    } else {
      set("masters", list_of(urls));
    }
    const std::string ca = in_.text("CACertFile");
    if (!ca.empty()) set("ca_file", quoted(ca));
    if (https && ca.empty()) {
      note("mesosHTTPSOn",
           "masters' certificates are verified, against the system's authorities; "
           "Mesos-DNS did not without CACertFile");
    }
    const std::string cert = in_.text("CertFile");
    const std::string key = in_.text("KeyFile");
    if (!cert.empty() && !key.empty()) {
      set("cert_file", quoted(cert));
      set("key_file", quoted(key));
      note("KeyFile", "must be out of others' reach: chmod 640");
    } else if (!cert.empty() || !key.empty()) {
      note(cert.empty() ? "KeyFile" : "CertFile", "left out: it takes both, and one is there");
    }
    credentials();
    needless("RefreshSeconds", "not needed: changes are streamed as they happen");
    needless("StateTimeoutSeconds", "not needed");
    needless("ZkDetectionTimeout", "not needed: muster never exits for want of a master");
  }

  void zookeeper(const std::string& zk, bool https) {
    const std::size_t at = zk.rfind('@');
    const bool has_secret = at != std::string::npos;
    set("masters", quoted(has_secret ? "zk://" + zk.substr(at + 1) : zk));
    if (https) set("https", "true");
    if (!has_secret) return;
    constexpr const char* kFile = "/etc/muster/zk-auth";
    set("zk_auth_file", quoted(kFile));
    note("zk", std::string{"put its user:password, which is not repeated here, into "} + kFile);
  }

  void credentials() {
    const std::string kind = in_.text("MesosAuthentication");
    const std::string principal = in_.member("MesosCredentials", "principal");
    const std::string secret = in_.member("MesosCredentials", "secret");
    const std::string iam = in_.text("IAMConfigFile");
    if (kind == "iam" || !iam.empty()) {
      note("mesosAuthentication",
           "\"iam\" has no counterpart: give a bearer token in "
           "mesos.token_file");
    }
    if (kind == "basic" || (kind.empty() && !principal.empty())) {
      constexpr const char* kFile = "/etc/muster/mesos-password";
      set("username", quoted(principal));
      set("password_file", quoted(kFile));
      note("mesosCredentials",
           std::string{"put the secret, which is not repeated here, into "} + kFile);
    } else if (!kind.empty() && kind != "iam") {
      Source::fail("mesosAuthentication", "\"\", \"basic\" or \"iam\", got " + quoted(kind));
    }
  }

  void dns() {
    line("\n[dns]");
    if (!in_.boolean("DnsOn", true)) set("enabled", "false");
    const std::string listener = in_.text("Listener", "0.0.0.0");
    const auto address = IpAddress::parse(listener);
    if (!address) Source::fail("Listener", "an address, got " + quoted(listener));
    const auto port = Port::from(static_cast<std::uint64_t>(in_.integer("Port", 1, 65535, 53)));
    set("listen", quoted(to_string(Endpoint{*address, *port})));
    set("domain", quoted(lower(in_.text("Domain", "mesos"))));
    set("ttl_seconds", std::to_string(in_.integer("TTL", 0, 86400, 60)));
    // Where the file says nothing Mesos-DNS asks 8.8.8.8; an empty list is resolv.conf's servers.
    const auto upstreams = resolvers("Resolvers", in_.texts("Resolvers", {"8.8.8.8"}));
    if (!in_.boolean("ExternalOn", true)) {
      set("upstreams", "[]");
    } else if (!upstreams.empty()) {
      set("upstreams", list_of(upstreams));
    }
    needless("Timeout", "not needed: upstreams share 2.5 s");
    if (!in_.boolean("RecurseOn", true)) {
      note("recurseon", "no counterpart: RA says whether names of others are forwarded");
    }
    if (!in_.boolean("SetTruncateBit", true)) {
      note("SetTruncateBit", "no counterpart: what is cut says so");
    }
  }

  void names() {
    if (in_.boolean("EnforceRFC952", false)) set("rfc952", "true");
    const std::int64_t weight = in_.integer("SRVRecordDefaultWeight", 0, 65535, 1);
    if (weight != 1) set("srv_weight", std::to_string(weight));
    if (!in_.boolean("EnumerationOn", true)) set("enumerate", "false");
    std::vector<std::string> sources;
    for (const std::string& source : in_.texts("IPSources")) {
      if (source == "netinfo" || source == "host") {
        sources.push_back(source);
      } else {
        note("IPSources",
             quoted(source) + " left out: Mesos has not said such addresses since 0.26");
      }
    }
    if (!sources.empty()) set("ip_sources", list_of(sources));
    soa();
    const auto zones = in_.table("ZoneResolvers");
    if (!zones.empty()) line("\n[dns.zones]");
    for (const auto& [zone, servers] : zones) {
      set(quoted(zone), list_of(resolvers("ZoneResolvers", servers)));
    }
  }

  void soa() {
    std::string out;
    const auto put = [&](const char* key, const std::string& value) {
      out += (out.empty() ? "" : ", ") + std::string{key} + " = " + value;
    };
    const std::string mname = in_.text("SOAMname");
    std::string rname = in_.text("SOARname");
    std::replace(rname.begin(), rname.end(), '@', '.');
    if (!mname.empty()) put("mname", quoted(mname));
    if (!rname.empty()) put("rname", quoted(rname));
    constexpr std::pair<const char*, const char*> kTimes[] = {
        {"SOARefresh", "refresh"}, {"SOARetry", "retry"}, {"SOAExpire", "expire"}};
    for (const auto& [key, name] : kTimes) {
      if (!in_.has(key)) continue;
      put(name, std::to_string(in_.integer(key, 1, kMaxSeconds, 1)));
    }
    if (in_.has("SOAMinttl")) {
      in_.integer("SOAMinttl", 0, kMaxSeconds, 0);
      note("SOAMinttl",
           "left out, as Mesos-DNS did: it said the TTL instead; muster says 1, so "
           "that new names are seen at once (dns.soa.minimum)");
    }
    if (!out.empty()) line("soa = { " + out + " }");
  }

  void http() {
    const std::int64_t port = in_.integer("HttpPort", 1, 65535, 8123);
    const std::string listener = in_.text("HTTPListener", "0.0.0.0");
    if (!IpAddress::parse(listener)) {
      Source::fail("HTTPListener", "an address, got " + quoted(listener));
    }
    if (!in_.boolean("HttpOn", true)) return;
    const Endpoint at{*IpAddress::parse(listener), *Port::from(static_cast<std::uint64_t>(port))};
    set("http_listen", quoted(to_string(at)));
  }

  Source in_;
  ImportedConfig out_;
};

}  // namespace

Result<ImportedConfig, std::string> import_mesos_dns_config(std::string_view text) {
  try {
    return Importer{text}.run();
  } catch (const Wrong& wrong) {
    // Said out loud: the text would also begin an ImportedConfig.
    return {boost::system::in_place_error, wrong.what()};
  }
}

int import_mesos_dns(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  std::string text(kMaxFile + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.empty() || text.size() > kMaxFile) {
    std::fprintf(stderr, "muster: %s: expected a readable file of at most 1 MiB\n", path.c_str());
    return kBadInput;
  }
  const auto made = import_mesos_dns_config(text);
  if (!made) {
    std::fprintf(stderr, "muster: %s: %s\n", path.c_str(), made.error().c_str());
    return kBadInput;
  }
  std::fputs(made->toml.c_str(), stdout);
  for (const std::string& note : made->notes) std::fprintf(stderr, "muster: %s\n", note.c_str());
  return 0;
}

}  // namespace muster::cli
