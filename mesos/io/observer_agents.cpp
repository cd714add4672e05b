#include "mesos/core/snapshot.hpp"
#include "mesos/io/observer_impl.hpp"
#include "mesos/io/worker.hpp"

// Where the agents are: one question beside the stream.

namespace muster::mesos {
namespace {

constexpr Duration kNaming{10'000};  // until ZooKeeper has said who leads
constexpr Duration kResolveLimit{2'000};
constexpr std::size_t kMaxNames = 16;  // of agents whose pid carries no address

using Found = Result<std::vector<IpAddress>, std::string>;

}  // namespace

asio::awaitable<void> Observer::Impl::until_named() {
  while (targets_.list().empty()) co_await change_.async_wait(kToken);
}

asio::awaitable<Found> Observer::Impl::agents() {
  struct Asking {
    explicit Asking(Impl& impl) : impl_{impl} { set(true); }
    ~Asking() { set(false); }
    Asking(const Asking&) = delete;
    Asking& operator=(const Asking&) = delete;
    void set(bool asking) {
      impl_.asking_ = asking;
      impl_.change_.cancel();
    }
    Impl& impl_;
  };
  const Asking asking{*this};
  co_await either(until_named(), sleep_for(kNaming));
  const std::vector<MasterUrl> masters = targets_.list();  // it may change meanwhile
  std::string error{"no master is known yet"};
  for (const MasterUrl& url : masters) {
    Target target{url, true, true};  // GCC 12 frees a temporary in here twice
    Found found = co_await agents_of(std::move(target));
    if (found) co_return found;
    error = found.error();
  }
  co_return error;
}

asio::awaitable<Found> Observer::Impl::agents_of(Target target) {
  HttpRequest request;
  request.post = true;
  request.target = "/api/v1";
  request.body = R"({"type":"GET_AGENTS"})";
  request.aside = true;
  auto opened = co_await open(std::move(target), std::move(request));
  if (!opened) co_return opened.error();
  const MasterUrl url = opened->target.url;
  if (opened->head.status != 200) {
    std::string error = co_await refusal(std::move(*opened));
    co_return error;
  }
  std::string body;
  const std::string broken = co_await read_body(*opened, body);
  if (!broken.empty()) co_return sentence(url, broken);
  using Parsed = Result<std::vector<Agent>, ParseError>;
  auto parse = [text = std::move(body)] { return parse_get_agents(text); };
  auto parsing = on_worker<Parsed>(workers_, std::move(parse));
  const Parsed agents = co_await std::move(parsing);
  if (!agents) {
    co_return sentence(url, "its list of agents is " + std::string{to_string(agents.error())});
  }
  std::vector<IpAddress> addresses;
  std::size_t names = 0;
  for (const Agent& agent : *agents) {
    addresses.insert(addresses.end(), agent.addresses.begin(), agent.addresses.end());
    if (!agent.addresses.empty() || agent.hostname.empty() || ++names > kMaxNames) continue;
    const auto found = co_await resolver_.resolve(agent.hostname, kResolveLimit);
    if (found) addresses.insert(addresses.end(), found->begin(), found->end());
  }
  co_return addresses;
}

}  // namespace muster::mesos
