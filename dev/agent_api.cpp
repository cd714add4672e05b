#include "dev/master_api.hpp"
#include "dev/master_json.hpp"

namespace muster::dev {

namespace {

ApiResponse operator_api(const ApiRequest& request, const Master& master, const MesosAgent& agent) {
  std::string type;
  if (auto refusal = refuse_call(request, type)) return std::move(*refusal);
  if (type == "GET_STATE") return json_answer(v1_agent_get_state(master, agent.id));
  if (type == "GET_AGENT") return json_answer(v1_agent_get_agent(agent));
  if (type == "GET_HEALTH") return json_answer(v1_get_health());
  if (type == "GET_VERSION") return json_answer(v1_get_version());
  return no_such_call("agent");  // SUBSCRIBE too: agents have no event stream
}

}  // namespace

ApiResponse agent_answer(const ApiRequest& request, const Master& master, const MesosAgent& agent,
                         WallTime started) {
  std::string path = path_of(request.target);
  if (constexpr std::string_view kSelf = "/slave(1)"; path.starts_with(kSelf)) {
    path.erase(0, kSelf.size());
  }
  if (path == "/health") return {};
  if (path == "/version") return json_answer(v0_version());
  if (path == "/state") return json_answer(v0_agent_state(master, agent, started));
  if (path == "/api/v1") return operator_api(request, master, agent);
  return plain_answer(404, "404 Not Found.");
}

}  // namespace muster::dev
