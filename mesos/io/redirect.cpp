#include "mesos/io/redirect.hpp"

#include <algorithm>
#include <utility>

namespace muster::mesos {

Target Targets::next() {
  if (leader_) return *leader_;
  return in_list(list_[at_ % list_.size()]);
}

void Targets::replace(std::vector<MasterUrl> list) {
  list_ = std::move(list);
  leader_.reset();
  at_ = tried_ = 0;
}

Target Targets::in_list(const MasterUrl& url) const {
  const bool configured = std::find(list_.begin(), list_.end(), url) != list_.end();
  return {url, configured, configured};
}

Result<Target, std::string> Targets::redirect(const Target& from, std::string_view location) {
  std::string absolute{location};
  if (location.starts_with("//")) absolute = (from.url.tls ? "https:" : "http:") + absolute;
  // Mesos before 1.x appended path and query; where to ask is ours to know.
  const std::size_t authority = absolute.find("//");
  if (authority != std::string::npos) {
    absolute.resize(std::min(absolute.find_first_of("/?#", authority + 2), absolute.size()));
  }
  const auto url = MasterUrl::parse(absolute);
  if (!url) return "redirects, but " + url.error();
  if (*url == from.url) return std::string{"redirects to itself: it has not become leader yet"};
  if (from.url.tls && !url->tls) return std::string{"redirects from https to http: not followed"};
  Target to = in_list(*url);
  to.trusted = to.configured || from.configured;
  if (from.trusted && !to.trusted) {
    // The leader of yesterday is not in the list, so what it says is not enough. The list is.
    forget_leader();
  }
  return to;
}

bool Targets::failed(bool learnt) {
  const bool was_leader = leader_.has_value();
  if (learnt) {
    tried_ = 0;  // the leader is asked again first, after a pause
    return true;
  }
  forget_leader();
  if (!was_leader) ++at_;
  if (++tried_ < list_.size()) return false;
  tried_ = 0;
  return true;
}

bool is_redirect(unsigned status) noexcept {
  return status == 301 || status == 302 || status == 307 || status == 308;
}

bool refuses_streaming(unsigned status) noexcept {
  return status == 400 || status == 403 || status == 404 || status == 405 || status == 406 ||
         status == 415 || status == 501;
}

}  // namespace muster::mesos
