#include <algorithm>
#include <cstdio>
#include <optional>
#include <random>
#include <set>
#include <unistd.h>

#include <boost/json.hpp>

#include "cli/ask.hpp"
#include "cli/find_vip.hpp"
#include "cli/probe.hpp"
#include "cli/table.hpp"
#include "dns/core/query.hpp"
#include "dns/core/text.hpp"

namespace muster::cli {
namespace {

namespace json = boost::json;

constexpr Duration kConnectLimit{3000};  // a SYN and one retransmission
constexpr std::size_t kMaxProbed = 16;   // backends called one by one

enum class Verdict { good, bad, unknown };

// Prints each step as it is known, so that a step that hangs is the last one seen.
class Steps {
 public:
  explicit Steps(bool json) : json_{json}, colour_{isatty(STDOUT_FILENO) != 0} {}

  void say(Verdict verdict, const std::string& step, const std::string& what) {
    trouble_ = trouble_ || verdict == Verdict::bad;
    if (json_) {
      json::value good = nullptr;
      if (verdict != Verdict::unknown) good = verdict == Verdict::good;
      all_.push_back(json::object{{"step", step}, {"good", std::move(good)}, {"what", what}});
      return;
    }
    const char* mark = verdict == Verdict::good ? "✓" : verdict == Verdict::bad ? "✗" : "–";
    const char* colour = verdict == Verdict::good  ? "\x1b[32m"
                         : verdict == Verdict::bad ? "\x1b[31m"
                                                   : "\x1b[2m";
    print((colour_ ? colour : std::string{}) + mark + (colour_ ? "\x1b[0m" : "") + " " + step +
          std::string(kStepWidth - std::min(kStepWidth, step.size()), ' ') + printable(what) +
          '\n');
    std::fflush(stdout);
  }
  void check(bool good, const std::string& step, const std::string& what) {
    say(good ? Verdict::good : Verdict::bad, step, what);
  }

  int finish() {
    if (json_) print_json(json::object{{"good", !trouble_}, {"steps", std::move(all_)}});
    return trouble_ ? kTrouble : kGood;
  }

 private:
  static constexpr std::size_t kStepWidth = 10;
  bool json_;
  bool colour_;
  bool trouble_ = false;
  json::array all_;
};

// This node's own connections pass no such chain, so what is found is no verdict on them.
void check_firewall(const json::value& lb, Steps& steps) {
  const json::value* chains = at(lb, "dropping");
  if (chains == nullptr || !chains->is_array() || chains->get_array().empty()) return;
  std::string all;
  for (const json::value& chain : chains->get_array()) {
    if (chain.is_string()) all += (all.empty() ? "" : ", ") + std::string{chain.get_string()};
  }
  steps.say(Verdict::unknown, "firewall",
            all +
                " drops forwarded packets it does not know: containers with addresses of their "
                "own may not reach VIPs (lb.forward_accept = true, or a rule: muster check)");
}

// Returns the driver that the daemon balances with; "off": none.
std::string check_daemon(const Target& target, Steps& steps) {
  const auto status = ask_daemon(target, "/v1/status");
  if (!status) {
    steps.say(Verdict::bad, "daemon", status.error().line);
    return "off";
  }
  const json::value* observation = at(*status, "observation");
  const std::string age = observation == nullptr ? "" : text(*observation, "last_event_seconds");
  const std::string state = age.empty() ? "" : ", the state is " + age + " s old";
  if (is_true(*status, "ready")) {
    steps.say(Verdict::good, "daemon", "ready" + state);
  } else {
    steps.say(Verdict::bad, "daemon", "not ready: " + text(*status, "not_ready") + state);
  }
  const json::value* lb = at(*status, "lb");
  if (lb != nullptr) check_firewall(*lb, steps);
  return lb == nullptr ? "off" : text(*lb, "driver");
}

// The addresses that the daemon's DNS server gives, as dig would print them.
void check_name(const Target& target, const std::string& name, const Endpoint& vip, Steps& steps) {
  const auto server = dns_server_of(target.daemon);
  if (!server) return steps.say(Verdict::unknown, "name", "DNS is switched off in the daemon");
  const std::string expected = vip.address.to_string();
  const auto wire = dns::Name::parse(name);
  if (!wire) return steps.say(Verdict::bad, "name", name + " is not a domain name");
  dns::QueryOptions query;
  query.id = static_cast<std::uint16_t>(std::random_device{}());
  const auto type = vip.address.is_v4() ? dns::type::kA : dns::type::kAaaa;
  const auto reply = ask_dns(*server, dns::make_query(*wire, type, query));
  const std::string from = ", says " + to_string(*server);
  if (!reply) {
    return steps.say(Verdict::bad, "name",
                     "no reply from " + to_string(*server) + ": " + reply.error().message());
  }
  const bool right = dns::reply_text(*reply).find(expected + '\n') != std::string::npos;
  steps.check(right, "name", name + (right ? " is " : " is not ") + expected + from);
  const auto system = system_resolve(name);
  if (std::ranges::find(system, vip.address) != system.end()) {
    return steps.say(Verdict::good, "resolver", "this machine's resolver says the same");
  }
  steps.say(Verdict::bad, "resolver",
            "this machine's resolver " +
                (system.empty() ? std::string{"does not know the name"}
                                : "says " + system.front().to_string()) +
                ": does /etc/resolv.conf lead to muster? (muster resolv check)");
}

void check_route(const Endpoint& vip, Steps& steps) {
  const Probe route = route_to(vip);
  if (!route.accepted) {
    return steps.say(Verdict::bad, "route",
                     "none to " + vip.address.to_string() + ": " + route.error +
                         "; is the balancer on and healthy? (muster status)");
  }
  const auto source = IpAddress::parse(route.source);
  if (source && source->is_loopback()) {
    return steps.say(Verdict::bad, "route",
                     "to " + vip.address.to_string() + " from " + route.source +
                         ": no backend could answer that; is node.address right?");
  }
  steps.say(Verdict::good, "route", "to " + vip.address.to_string() + " from " + route.source);
}

void check_kernel(const KernelView& view, const std::vector<BackendState>& states, Steps& steps) {
  if (!view.problem.empty()) return steps.say(Verdict::unknown, "kernel", view.problem);
  std::set<std::string> there;
  for (const Endpoint& backend : view.backends) there.insert(to_string(backend));
  std::set<std::string> wanted;
  for (const BackendState& row : states) {
    if (row.takes_connections()) wanted.insert(row.endpoint);
  }
  if (there == wanted && view.balanced == !wanted.empty()) {
    return steps.say(Verdict::good, "kernel",
                     wanted.empty() ? "refuses the VIP, as it should"
                                    : "balances over " + std::to_string(wanted.size()) +
                                          (wanted.size() == 1 ? " backend" : " backends"));
  }
  std::string differs = view.balanced ? "" : "does not balance this VIP";
  for (const std::string& backend : wanted) {
    if (!there.contains(backend))
      differs += (differs.empty() ? "" : "; ") + backend + " is missing";
  }
  for (const std::string& backend : there) {
    if (!wanted.contains(backend))
      differs += (differs.empty() ? "" : "; ") + backend + " is too much";
  }
  steps.say(Verdict::bad, "kernel", differs + ": the daemon mends that within 30 s");
}

std::string took(const Probe& probe) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms", probe.milliseconds);
  return text;
}

void check_connections(const Vip& vip, const std::vector<BackendState>& states, Steps& steps) {
  if (vip.protocol == Protocol::udp) {
    return steps.say(Verdict::unknown, "connect",
                     "UDP: nothing is sent, only the app knows what would be answered");
  }
  std::vector<Endpoint> targets{vip.endpoint};
  for (const BackendState& row : states) {
    const auto endpoint = Endpoint::parse(row.endpoint);
    if (row.takes_connections() && endpoint && targets.size() <= kMaxProbed)
      targets.push_back(*endpoint);
  }
  const auto probes = connect_to(targets, kConnectLimit);
  for (std::size_t i = 1; i < probes.size(); ++i) {
    const std::string where = to_string(targets[i]);
    steps.check(
        probes[i].accepted, "backend",
        where + (probes[i].accepted ? " accepts, " + took(probes[i]) : ": " + probes[i].error));
  }
  const std::string where = to_string(vip.endpoint);
  steps.check(
      probes[0].accepted, "connect",
      where + (probes[0].accepted ? " accepts, " + took(probes[0]) : ": " + probes[0].error));
}

int trace_one(const Target& target, const TraceOptions& options, const json::value& vip,
              const std::string& driver, Steps& steps) {
  const std::string label = label_of(vip);
  const auto tasks = ask_daemon(target, "/v1/tasks?vip=" + escaped(label));
  if (!tasks) return complain(tasks.error().line);
  const std::size_t declared = tasks->is_array() ? tasks->get_array().size() : 0;
  steps.check(
      declared > 0, "label",
      std::to_string(declared) + (declared == 1 ? " task declares " : " tasks declare ") + label);
  const auto states = backend_states(vip, *tasks);
  const auto in = std::ranges::count_if(states, &BackendState::takes_connections);
  steps.check(in > 0 && !is_true(vip, "quarantined"), "vip",
              text(vip, "address") + ", " + std::to_string(in) + " of " +
                  std::to_string(states.size()) + " backends take connections" +
                  (in == static_cast<std::ptrdiff_t>(states.size())
                       ? ""
                       : "; why not all: muster vip " + label) +
                  (is_true(vip, "quarantined") ? "; the kernel refuses it" : ""));
  const auto endpoint = Endpoint::parse(text(vip, "address"));
  if (!endpoint) return complain("the daemon gave no address for " + label);
  const Vip key{text(vip, "protocol") == "udp" ? Protocol::udp : Protocol::tcp, *endpoint};
  const std::string whole = text(vip, "vip");
  if (whole != text(vip, "address"))
    check_name(target, whole.substr(0, whole.rfind(':')), *endpoint, steps);
  check_route(*endpoint, steps);
  check_kernel(driver == "off" ? KernelView{.balanced = false,
                                            .backends = {},
                                            .problem = "the daemon leaves the kernel alone"}
                               : options.kernel(key, driver),
               states, steps);
  check_connections(key, states, steps);
  return kGood;
}

}  // namespace

int trace(const Target& target, const TraceOptions& options) {
  const auto vips = ask_daemon(target, "/v1/vips");
  if (!vips) return complain(vips.error().line);
  const auto found = find_vips(*vips, options.what);
  if (found.empty()) return complain(no_such_vip(*vips, options.what));
  if (found.size() > 1) {
    std::string which;
    for (const json::value& vip : found) which += (which.empty() ? "" : ", ") + label_of(vip);
    return complain("\"" + options.what + "\" may be " + which + ": say which", kUsage);
  }
  Steps steps{target.json};
  const std::string driver = check_daemon(target, steps);
  const int done = trace_one(target, options, found.front(), driver, steps);
  const int verdict = steps.finish();
  return done != kGood ? done : verdict;
}

}  // namespace muster::cli
