#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/task.hpp"
#include "dns/core/mesos_records.hpp"
#include "dns/core/zone_snapshot.hpp"

namespace muster::dns {

/// What `/v1/config` and `/v1/axfr` show of the configuration, in Mesos-DNS's words
/// (records/config.go). There are no secrets in it.
struct MesosDnsSettings {
  std::vector<std::string> masters;
  std::vector<std::string> resolvers;
  std::map<std::string, std::vector<std::string>> zone_resolvers;
  std::vector<std::string> ip_sources;
  std::string domain;
  std::string file;      // the configuration's
  std::string listener;  // the first address
  std::string http_listener;
  std::string soa_mname;
  std::string soa_rname;
  std::uint32_t refresh_seconds = 0;
  std::uint32_t ttl = 0;
  std::uint32_t timeout = 0;
  std::uint32_t soa_refresh = 0;
  std::uint32_t soa_retry = 0;
  std::uint32_t soa_expire = 0;
  std::uint32_t soa_minimum = 0;
  std::uint16_t port = 0;
  std::uint16_t http_port = 0;
  std::uint16_t srv_weight = 1;
  bool rfc952 = false;
  bool external_on = true;
  bool enumeration_on = true;
};

/// The bodies of Mesos-DNS's HTTP answers (resolver/resolver.go of its last version): the same
/// keys, shapes and misses. Pure; cost what they print, so the larger ones belong on a worker.
namespace mesos_dns_api {

std::string version(std::string_view version);
std::string config(const MesosDnsSettings&, std::uint32_t serial);
/// `[{"host","ip"}]`; of a name without addresses one element of empty strings.
std::string hosts(const ZoneSnapshot&, std::string_view host);
/// `[{"service","host","ip","port"}]`, one address of each family for each target; a miss as above.
std::string services(const ZoneSnapshot&, std::string_view service);
/// Every framework with its tasks and their records in the domain.
std::string enumerate(std::span<const std::shared_ptr<const Framework>>,
                      std::span<const std::shared_ptr<const Task>>, const Suffixes&);
/// All A, AAAA and SRV records of the domain.
std::string axfr(const ZoneSnapshot&, const MesosDnsSettings&);

}  // namespace mesos_dns_api
}  // namespace muster::dns
