#include "dev/master_api.hpp"

#include <algorithm>

#include <boost/json/parse.hpp>

#include "dev/master_json.hpp"

namespace muster::dev {

namespace {

bool accepts_json(const std::optional<std::string>& accept) {
  if (!accept || accept->empty()) return true;
  std::string_view rest{*accept};
  while (!rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    std::string_view one = rest.substr(0, comma);
    one = one.substr(0, one.find(';'));
    while (one.starts_with(' ')) one.remove_prefix(1);
    while (one.ends_with(' ')) one.remove_suffix(1);
    if (one == "*/*" || one == "application/*" || one == "application/json") return true;
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return false;
}

ApiResponse redirect(std::string location) {
  ApiResponse out{.status = 307};
  out.headers.emplace_back("Location", std::move(location));
  return out;
}

ApiResponse call(std::string_view type, const Master& master) {
  if (type == "GET_STATE") return json_answer(v1_get_state(master));
  if (type == "GET_TASKS") return json_answer(v1_get_tasks(master));
  if (type == "GET_AGENTS") return json_answer(v1_get_agents(master));
  if (type == "GET_FRAMEWORKS") return json_answer(v1_get_frameworks(master));
  if (type == "GET_HEALTH") return json_answer(v1_get_health());
  if (type == "GET_VERSION") return json_answer(v1_get_version());
  if (type == "SUBSCRIBE") {
    ApiResponse out = json_answer("");
    out.stream = true;
    return out;
  }
  return no_such_call("master");
}

ApiResponse operator_api(const ApiRequest& request, const Master& master,
                         const std::optional<std::string>& leader) {
  if (master.phase() == MasterPhase::standby) {
    if (!leader) return plain_answer(503, "No leader elected");
    return redirect("//" + *leader + request.target);
  }
  if (master.phase() == MasterPhase::recovering) {
    return plain_answer(503, "Master has not finished recovery");
  }
  std::string type;
  if (auto refusal = refuse_call(request, type)) return std::move(*refusal);
  return call(type, master);
}

}  // namespace

ApiResponse plain_answer(int status, std::string body) {
  return {.status = status,
          .content_type = "text/plain; charset=utf-8",
          .headers = {},
          .body = std::move(body),
          .stream = false};
}

ApiResponse json_answer(std::string body) {
  return {.status = 200,
          .content_type = "application/json",
          .headers = {},
          .body = std::move(body),
          .stream = false};
}

std::string path_of(std::string_view target) {
  if (const auto scheme = target.find("://");
      scheme != std::string_view::npos && !target.starts_with('/')) {
    target.remove_prefix(scheme + 3);
    const auto slash = target.find('/');
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  target = target.substr(0, target.find_first_of("?#"));
  std::string path;
  for (const char c : target) {
    if (c != '/' || path.empty() || path.back() != '/') path += c;
  }
  if (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::optional<ApiResponse> refuse_call(const ApiRequest& request, std::string& type) {
  if (request.method != "POST") {
    ApiResponse out =
        plain_answer(405, "405 Method Not Allowed. Expecting one of { 'POST' }, but received '" +
                              request.method + "'.");
    out.headers.emplace_back("Allow", "POST");
    return out;
  }
  if (!request.content_type) return plain_answer(400, "Expecting 'Content-Type' to be present");
  if (*request.content_type != "application/json") {  // exactly: a charset is refused too
    return plain_answer(415,
                        "Expecting 'Content-Type' of application/json or application/x-protobuf");
  }
  boost::json::error_code error;
  const boost::json::value body = boost::json::parse(request.body, error);
  if (error) return plain_answer(400, "Failed to parse body into JSON: " + error.message());
  if (!body.is_object()) return plain_answer(400, "Failed to parse body into JSON: not an object");
  if (!accepts_json(request.accept)) {
    return plain_answer(406,
                        "Expecting 'Accept' to allow application/json or application/x-protobuf");
  }
  const boost::json::value* named = body.get_object().if_contains("type");
  if (named != nullptr && named->is_string()) type = named->get_string();
  return std::nullopt;
}

ApiResponse no_such_call(std::string_view who) {
  return plain_answer(
      400, "Failed to validate v1::" + std::string{who} + "::Call: Expecting 'type' to be present");
}

ApiResponse answer(const ApiRequest& request, const Master& master,
                   const std::optional<std::string>& leader) {
  const std::string path = path_of(request.target);
  if (master.phase() == MasterPhase::starting) return plain_answer(404, "404 Not Found.");
  if (path == "/api/v1" || path == "/master/api/v1") return operator_api(request, master, leader);
  if (path == "/health" || path == "/master/health") return {};
  if (path == "/version") return json_answer(v0_version());
  const bool standby = master.phase() == MasterPhase::standby;
  if (path == "/redirect" || path == "/master/redirect") {
    const std::string me = master.identity().address + ":" + std::to_string(master.identity().port);
    if (standby && !leader) return plain_answer(503, "No leader elected");
    return redirect("//" + (standby ? *leader : me));
  }
  if (path == "/state" || path == "/master/state") {
    if (!standby) return json_answer(v0_state(master));
    if (!leader) return plain_answer(503, "No leader elected");
    return redirect("//" + *leader + request.target);
  }
  return plain_answer(404, "404 Not Found.");
}

void replace_all(std::string& text, std::string_view find, std::string_view with) {
  for (std::size_t at = text.find(find); at != std::string::npos;
       at = text.find(find, at + with.size())) {
    text.replace(at, find.size(), with);
  }
}

std::string recordio(std::string_view payload) {
  return std::to_string(payload.size()) + "\n" + std::string{payload};
}

}  // namespace muster::dev
