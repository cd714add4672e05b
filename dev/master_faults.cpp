#include "dev/master_faults.hpp"

#include <algorithm>
#include <array>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace muster::dev {

namespace json = boost::json;

namespace {

constexpr std::string_view kPath = "/dev/faults";
constexpr std::array<std::string_view, 6> kOfAnswers{"stall",  "truncate", "trickle",
                                                     "status", "redirect", "replace"};

std::string text(const json::object& from, std::string_view key) {
  const json::value* found = from.if_contains(key);
  return found != nullptr && found->is_string() ? std::string{found->get_string()} : std::string{};
}

std::int64_t number(const json::object& from, std::string_view key, std::int64_t otherwise) {
  const json::value* found = from.if_contains(key);
  return found != nullptr && found->is_int64() ? std::max<std::int64_t>(found->get_int64(), 0)
                                               : otherwise;
}

ApiResponse plain(int status, std::string body) {
  ApiResponse out{.status = status};
  out.content_type = "text/plain; charset=utf-8";
  out.body = std::move(body);
  return out;
}

}  // namespace

std::optional<ApiResponse> MasterFaults::control(const ApiRequest& request) {
  if (request.target != kPath) return std::nullopt;
  if (request.method == "GET") {
    json::array armed;
    for (const Armed& one : armed_) {
      armed.push_back({{"fault", one.kind}, {"on", one.path}, {"times", one.times}});
    }
    ApiResponse out;
    out.content_type = "application/json";
    out.body = json::serialize(armed);
    return out;
  }
  json::error_code error;
  const json::value body = json::parse(request.body, error);
  if (error) return plain(400, "expected JSON: " + error.message());
  const json::array one{body};
  const json::array& steps = body.is_array() ? body.get_array() : one;
  for (const json::value& step : steps) {
    const std::string problem =
        step.is_object() ? act(step.get_object()) : "expected objects with a member fault";
    if (!problem.empty()) return plain(400, json::serialize(step) + ": " + problem);
  }
  return plain(200, "done");
}

std::string MasterFaults::act(const json::object& fault) {
  const std::string kind = text(fault, "fault");
  if (std::find(kOfAnswers.begin(), kOfAnswers.end(), kind) != kOfAnswers.end()) {
    return arm(fault, kind);
  }
  if (kind == "clear") {
    armed_.clear();
    return {};
  }
  if (kind == "say") return acts_.say(text(fault, "record"));
  if (kind == "hang_up") return acts_.hang_up();
  if (kind == "agent") return acts_.agent(text(fault, "act"), number(fault, "node", 0));
  if (kind == "framework") return acts_.framework(text(fault, "act"));
  if (kind == "fail_over") return acts_.fail_over();
  return "no such fault";
}

std::string MasterFaults::arm(const json::object& fault, const std::string& kind) {
  if (armed_.size() >= kMaxArmed) return "too many wait already";
  Armed armed;
  armed.kind = kind;
  armed.path = text(fault, "on");
  armed.times = number(fault, "times", 1);
  armed.after = number(fault, "after", 0);
  armed.status = number(fault, "status", 500);
  armed.milliseconds = number(fault, "ms", 1);
  armed.to = text(fault, "to");
  armed.body = text(fault, "body");
  armed.find = text(fault, "find");
  armed.replacement = text(fault, "with");
  if (kind == "redirect" && armed.to.empty()) return "needs to, such as //10.66.0.251:5050";
  if (kind == "replace" && armed.find.empty()) return "needs find, and with";
  if (kind == "status" && (armed.status < 100 || armed.status > 599)) return "needs a status";
  if (armed.times > 0) armed_.push_back(std::move(armed));
  return {};
}

void MasterFaults::spoil(const ApiRequest& request, ApiResponse& response) {
  const std::string path = request.target.substr(0, request.target.find('?'));
  const auto fault = std::find_if(armed_.begin(), armed_.end(), [&](const Armed& one) {
    return one.path.empty() || one.path == path;
  });
  if (fault == armed_.end()) return;
  if (fault->kind == "stall") {
    response.delivery = {.octets = static_cast<std::size_t>(fault->after), .stalls = true};
  } else if (fault->kind == "truncate") {
    response.delivery = {.octets = static_cast<std::size_t>(fault->after)};
  } else if (fault->kind == "trickle") {
    response.delivery = {.pause_ms = static_cast<unsigned>(fault->milliseconds)};
  } else if (fault->kind == "status") {
    response = plain(static_cast<int>(fault->status), fault->body);
    if (fault->status == 401) {
      response.headers.emplace_back("WWW-Authenticate", "Basic realm=\"mesos-master-readwrite\"");
    }
  } else if (fault->kind == "redirect") {
    response = {.status = 307};
    response.headers.emplace_back("Location", fault->to);
  } else {
    // Of a stream it is the first record that is changed.
    response.replacements.emplace_back(fault->find, fault->replacement);
    replace_all(response.body, fault->find, fault->replacement);
  }
  if (--fault->times == 0) armed_.erase(fault);
}

}  // namespace muster::dev
