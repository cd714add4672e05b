#include "dev/cluster_impl.hpp"

// What happens to the emulated masters on command.

namespace muster::dev {

namespace asio = boost::asio;

namespace {

// The time in which nobody leads, and the old leader's process starts anew (a master that loses
// its leadership exits).
constexpr auto kNobodyLeads = std::chrono::milliseconds{200};
// Long enough for the answer to leave: it may have been asked of the master that goes.
constexpr auto kFarewell = std::chrono::milliseconds{50};

}  // namespace

ApiResponse Cluster::master_answer(bool first, const ApiRequest& request) {
  if (auto done = faults_->control(request)) {
    publish();
    return std::move(*done);
  }
  std::optional<std::string> leader;
  if (master_up_) leader = master_->identity().address + ":" + std::to_string(kMasterPort);
  const bool leads = first != second_leads_;
  ApiResponse response = muster::dev::answer(request, leads ? *master_ : *standby_, leader);
  faults_->spoil(request, response);
  return response;
}

ApiResponse Cluster::agent_side_answer(AgentSide& side, const ApiRequest& request) {
  if (auto done = side.faults.control(request)) return std::move(*done);
  const Master nothing{master_->identity(), 1, side.started};
  ApiResponse response = muster::dev::agent_answer(request, side.forgets ? nothing : *master_,
                                                   side.info, side.started);
  side.faults.spoil(request, response);
  return response;
}

MasterFaults::Acts Cluster::agent_acts(unsigned node) {
  const std::string not_here = "an agent has no stream and no scheduler";
  return {
      .say = [not_here](const std::string&) { return not_here; },
      .hang_up = [not_here] { return not_here; },
      .agent =
          [this, node](std::string_view act, std::int64_t) {
            if (act != "forget" && act != "remember") {
              return std::string{"expected the act forget or remember"};
            }
            std::next(agents_.begin(), node - 1)->forgets = act == "forget";
            return std::string{};
          },
      .framework = [not_here](std::string_view) { return not_here; },
      .fail_over = [not_here] { return not_here; },
  };
}

MasterFaults::Acts Cluster::acts() {
  return {
      .say =
          [this](std::string record) {
            leading_http().publish({std::move(record)});
            return std::string{};
          },
      .hang_up =
          [this] {
            leading_http().hang_up();
            return std::string{};
          },
      .agent = [this](std::string_view act, std::int64_t node) { return agent_act(act, node); },
      .framework = [this](std::string_view act) { return framework_act(act); },
      .fail_over = [this] { return fail_over(); },
  };
}

std::string Cluster::agent_act(std::string_view act, std::int64_t node) {
  if (node < 1 || node > static_cast<std::int64_t>(options_.nodes)) return "no such node";
  const std::string id = network_.nodes[static_cast<std::size_t>(node - 1)].agent_id;
  if (act == "unreachable") {
    master_->agent_unreachable(id, wall_now());
  } else if (act == "return") {
    master_->agent_reachable(id, wall_now());
  } else if (act == "remove") {
    master_->remove_agent(id, wall_now());
  } else {
    return "expected the act unreachable, return or remove";
  }
  return {};
}

std::string Cluster::framework_act(std::string_view act) {
  if (act == "teardown") {
    master_->remove_framework(wall_now());
  } else if (act == "disconnect") {
    master_->disconnect_framework();
  } else if (act == "return") {
    master_->subscribe_framework(wall_now());
  } else {
    return "expected the act teardown, disconnect or return";
  }
  return {};
}

std::string Cluster::fail_over() {
  if (!master_up_ || master_->phase() != MasterPhase::leading) return "nobody leads just now";
  tasks_.spawn(take_over());
  return {};
}

asio::awaitable<void> Cluster::take_over() {
  asio::steady_timer wait{io_, kFarewell};
  co_await wait.async_wait(asio::use_awaitable);
  if (!master_up_) co_return;
  HttpServer& old = leading_http();
  const std::string old_address = master_->identity().address;
  old.close();
  master_up_ = false;
  second_leads_ = !second_leads_;
  ++following_;  // as in bring_master_back()
  // What its successor knows, which has never been at this address.
  master_->restart(wall_now());
  master_->move_to(standby_->identity().address);
  standby_->move_to(old_address);
  wait.expires_after(kNobodyLeads);
  co_await wait.async_wait(asio::use_awaitable);
  old.listen(listen_in(network_.master.get(), old_address, kMasterPort).release());
  master_up_ = true;
  co_await agents_follow();
}

}  // namespace muster::dev
