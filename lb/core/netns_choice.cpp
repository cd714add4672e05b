#include "lb/core/netns_choice.hpp"

#include <algorithm>
#include <tuple>

namespace muster::lb::netns {
namespace {

void refuse(Choice& choice, const Answer& answer) {
  if (choice.refused.size() >= kMaxNamed) {
    ++choice.more_refused;
    return;
  }
  const bool entry = answer.kind == Answer::Kind::entry;
  choice.refused.push_back({answer.folder, entry ? answer.name : std::string{}, answer.verdict});
}

void offer(Choice& choice, const Answer& answer, std::size_t most) {
  if (choice.serve.contains(answer.id)) {
    ++choice.twice;
  } else if (choice.serve.size() < most) {
    choice.serve.emplace(
        answer.id,
        Request{.kind = Request::Kind::open, .folder = answer.folder, .name = answer.name});
  } else {
    ++choice.beyond;
  }
}

}  // namespace

Choice choose(std::span<const Answer> found, const std::set<Identity>& served, std::size_t most) {
  Choice choice;
  std::vector<const Answer*> good;
  for (const Answer& answer : found) {
    if (answer.kind == Answer::Kind::end) continue;
    choice.beyond += answer.beyond;
    if (answer.verdict == Verdict::no_folder) continue;
    if (answer.verdict != Verdict::good) {
      refuse(choice, answer);
    } else if (answer.kind == Answer::Kind::entry) {
      good.push_back(&answer);
    }
  }
  std::sort(good.begin(), good.end(), [&served](const Answer* a, const Answer* b) {
    const auto rank = [&served](const Answer* one) {
      return std::tuple{!served.contains(one->id), one->folder, std::string_view{one->name}};
    };
    return rank(a) < rank(b);
  });
  for (const Answer* answer : good) offer(choice, *answer, most);
  return choice;
}

}  // namespace muster::lb::netns
