#include "base/parse_endpoint.hpp"
#include "daemon/config_values.hpp"

namespace muster::daemon {
namespace {

constexpr std::uint16_t kDnsPort = 53;
constexpr std::uint16_t kHttpPort = 8123;  // Mesos-DNS's

void endpoints(Section& section, std::string_view key, std::string_view expected, Help help,
               std::vector<Endpoint>& out, std::uint16_t port = kDnsPort) {
  section.each_text(key, expected, help, [&](const std::string& text) {
    const auto endpoint = parse_endpoint(text, port);
    if (endpoint) out.push_back(*endpoint);
    return endpoint.has_value();
  });
}

void read_soa(Section soa, Config::Dns& out) {
  const auto name = [&](std::string_view key, std::string& to, Help help) {
    soa.each_text(key, "a domain name like \"ns1.mesos\"", help, [&](const std::string& text) {
      to = text;
      return is_zone_name(text);
    });
  };
  name("mname", out.soa_mname,
       {"primary server in the SOA record of `dns.domain`", "`ns1.` and it"});
  name("rname", out.soa_rname, {"mailbox in the same", "`root.ns1.` and it"});
  constexpr std::int64_t kMaxTime = 2147483647;  // RFC 2181 §8
  soa.integer("refresh", 1, kMaxTime, out.soa_refresh, {"seconds, of every zone"});
  soa.integer("retry", 1, kMaxTime, out.soa_retry, {"seconds"});
  soa.integer("expire", 1, kMaxTime, out.soa_expire, {"seconds"});
  soa.integer("minimum", 0, kMaxTime, out.soa_minimum,
              {"seconds that a name which does not exist may be remembered so"});
  soa.finish();
}

// What Mesos-DNS and DC/OS let be said about names and records.
void read_names(Section& dns, Config::Dns& out) {
  dns.boolean("rfc952", out.rfc952,
              {"labels by RFC 952: at most 24 characters, no digit in front"});
  dns.integer("srv_weight", 0, 65535, out.srv_weight, {"of every SRV record"});
  if (dns.has("ip_sources")) out.ip_sources.clear();
  dns.each_text(
      "ip_sources", "\"netinfo\", \"host\" or a list of them",
      {"the first with an address gives a task's addresses: `netinfo` its own, `host` its "
       "agent's",
       "`[\"netinfo\", \"host\"]`"},
      [&](const std::string& text) {
        out.ip_sources.push_back(text);
        return text == "netinfo" || text == "host";
      });
  dns.each_text("public_address", "an address of this node or a list of them",
                {"for `public.thisnode.thisdcos.directory`", "none"}, [&](const std::string& text) {
                  const auto address = IpAddress::parse(text);
                  if (address) out.public_addresses.push_back(*address);
                  return address.has_value();
                });
  dns.each_text("cluster_key", "one DNS label", {"the label of `<key>.dcos.directory`", "none"},
                [&](const std::string& text) {
                  out.cluster_key = text;
                  return is_zone_name(text) && text.find('.') == std::string::npos;
                });
  dns.map(
      "cnames",
      {"`\"registry.component.thisdcos.directory\" = \"master.mesos\"`; below "
       "`thisdcos.directory` or `dns.domain`",
       "none"},
      [&](Section& cnames, const std::string& name) { cnames.text(name, out.cnames[name], {}); });
}

void read_access(Section& dns, Config::Dns& out) {
  const auto prefixes = [&](std::string_view key, std::vector<std::string>& list, Help help) {
    dns.each_text(key, "a network like \"10.0.0.0/8\" or a list of them", help,
                  [&](const std::string& text) {
                    list.push_back(text);
                    return is_prefix(text);
                  });
  };
  std::vector<std::string> recursion;
  prefixes("recursion_from", recursion,
           {"networks that have names forwarded; this machine always", "private networks", true});
  if (dns.has("recursion_from")) out.recursion_from = std::move(recursion);
  prefixes("transfer_to", out.transfer_to,
           {"networks that may take whole zones (AXFR)", "none", true});
  endpoints(dns, "notify", "an address like \"10.0.0.9\" or \"10.0.0.9:53\", or a list of them",
            {"secondaries that are told of changes", "none"}, out.notify);
  dns.integer("rate_limit", 0, 1'000'000, out.rate_limit,
              {"replies a second to one client network; `0`: no limit", {}, true});
  dns.integer("query_log", 0, 1'000'000, out.query_log,
              {"log one of so many queries, `1` all, at most 100 a second and worker; `0`: none",
               {},
               true});
  endpoints(dns, "http_listen",
            "an address like \"0.0.0.0\" or \"10.0.0.1:8123\", or a list of them",
            {"where else Mesos-DNS's HTTP API, and nothing but it, is served; port 8123 if none is "
             "given",
             "none"},
            out.http_listen, kHttpPort);
  dns.boolean("enumerate", out.enumerate, {"serve `/v1/enumerate` and `/v1/axfr`"});
}

void read_forwarding(Section& dns, Config::Dns& out) {
  const auto read = [](Section& section, std::string_view key, Help help,
                       std::vector<dns::Upstream>& to) {
    section.each_text(key,
                      "an address like \"8.8.8.8\", \"8.8.8.8:53\" or, over TLS, "
                      "\"tls://9.9.9.9#dns.quad9.net\", or a list of them",
                      help, [&](const std::string& text) {
                        const auto upstream = dns::Upstream::parse(text);
                        if (upstream) to.push_back(*upstream);
                        return upstream.has_value();
                      });
  };
  std::vector<dns::Upstream> upstreams;
  read(dns, "upstreams",
       {"where all other names are asked; `[]` forwards nothing. `tls://ADDRESS:PORT#NAME` is "
        "asked over TLS only, port 853 if none is given, with a certificate for the name, or for "
        "the address if none is given",
        "`/etc/resolv.conf`", true},
       upstreams);
  if (dns.has("upstreams")) out.upstreams = std::move(upstreams);
  dns.map("zones",
          {"upstreams for single zones: `\"corp.example\" = [\"10.9.9.9\"]`; the longest match is "
           "taken",
           "none", true},
          [&](Section& zones, const std::string& zone) {
            if (!is_zone_name(zone)) zones.fail(zone, "a domain name as the key");
            read(zones, zone, {}, out.zones[zone]);
          });
  dns.path("upstream_ca_file", out.upstream_ca_file,
           {"PEM, whose certificates are believed of upstreams with `tls://`; read again by SIGHUP",
            "the system's", true});
  std::string forward = out.parallel ? "parallel" : "hedged";
  dns.choice("forward", {"hedged", "parallel"}, forward,
             {"the best upstream, and a second one when it is slow; or two at once", {}, true});
  out.parallel = forward == "parallel";
  dns.integer("cache_megabytes", 0, 4096, out.cache_megabytes,
              {"a worker; `0`: no cache", {}, true});
}

}  // namespace

void read_dns(Section dns, Config::Dns& out) {
  dns.boolean("enabled", out.enabled, {"answer DNS"});
  endpoints(
      dns, "listen", "an address like \"127.0.0.1\" or \"127.0.0.1:53\", or a list of them",
      {"address or list of addresses, port 53 if none is given, UDP and TCP", "`\"127.0.0.1:53\"`"},
      out.listen);
  if (out.listen.empty()) out.listen.push_back(*parse_endpoint("127.0.0.1", kDnsPort));
  dns.integer("workers", 1, 64, out.workers, {"threads that answer, 1 to 64"});
  dns.each_text("domain", "a domain name like \"mesos\"",
                {"the domain of Mesos-DNS names", "`\"mesos\"`"}, [&](const std::string& text) {
                  out.domain = text;
                  return is_zone_name(text);
                });
  dns.integer("ttl_seconds", 0, 86400, out.ttl_seconds, {"of every record of ours"});
  read_forwarding(dns, out);
  read_names(dns, out);
  read_access(dns, out);
  read_soa(dns.table("soa"), out);
  dns.finish();
}

}  // namespace muster::daemon
