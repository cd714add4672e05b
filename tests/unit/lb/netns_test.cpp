#include "lb/core/netns.hpp"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lb/core/netns_choice.hpp"

namespace muster::lb::netns {
namespace {

using Octets = std::vector<std::uint8_t>;

Octets with_name(Octets head, std::string_view name) {
  head.insert(head.end(), name.begin(), name.end());
  return head;
}

TEST_CASE("what is no request to muster-netns is none") {
  struct Row {
    const char* what;
    Octets bytes;
  };
  const std::vector<Row> rows{
      {"nothing", {}},
      {"too short", {1, 0, 0}},
      {"another version", {2, 0, 0, 0}},
      {"a kind that is not known", {1, 2, 0, 0}},
      {"look with a folder", {1, 0, 1, 0}},
      {"look with a name", with_name({1, 0, 0, 0}, "web")},
      {"open without a name", {1, 1, 0, 0}},
      {"open of the folder itself", with_name({1, 1, 0, 0}, ".")},
      {"open of what is above", with_name({1, 1, 0, 0}, "..")},
      {"open of a path", with_name({1, 1, 0, 0}, "../../proc/1/ns/net")},
      {"open of an absolute path", with_name({1, 1, 0, 0}, "/proc/1/ns/net")},
      {"a name with a zero", with_name({1, 1, 0, 0}, std::string_view{"we\0b", 4})},
      {"a name that is too long", with_name({1, 1, 0, 0}, std::string(256, 'x'))},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK_FALSE(decode_request(row.bytes).has_value());
  }
}

TEST_CASE("requests and answers come out as they went in") {
  for (const Request& request : {Request{}, Request{Request::Kind::open, 3, "web"},
                                 Request{Request::Kind::open, 65535, std::string(255, 'x')}}) {
    CHECK(decode_request(encode(request)) == request);
  }
  for (const Answer& answer :
       {Answer{}, Answer{Answer::Kind::folder, Verdict::no_folder, 1, {}, 9, "/run/netns"},
        Answer{Answer::Kind::entry, Verdict::good, 2, {4, 4026532000}, 0, "web"}}) {
    CHECK(decode_answer(encode(answer)) == answer);
  }
  Octets wrong = encode(Answer{});
  wrong[1] = kVerdicts;
  CHECK_FALSE(decode_answer(wrong).has_value());
  wrong.resize(kAnswerHead - 1);
  CHECK_FALSE(decode_answer(wrong).has_value());
}

TEST_CASE("a file names a namespace by an absolute path and nothing else") {
  const std::string longest = "/" + std::string(kMaxPath - 1, 'x');
  CHECK(path_in("/run/netns/web") == "/run/netns/web");
  CHECK(path_in("/run/netns/web\n") == "/run/netns/web");
  CHECK(path_in("/run/netns/web \r\n") == "/run/netns/web");
  CHECK(path_in(longest) == longest);
  for (const std::string& wrong :
       {std::string{}, std::string{"\n"}, std::string{"run/netns/web"}, std::string{" /run"},
        std::string{"/run\n/run"}, std::string{"/run\0/x", 7}, longest + "x"}) {
    CAPTURE(wrong);
    CHECK_FALSE(path_in(wrong).has_value());
  }
}

Answer entry(std::uint16_t folder, const char* name, std::uint64_t inode,
             Verdict verdict = Verdict::good) {
  return {Answer::Kind::entry, verdict, folder, {4, inode}, 0, name};
}

TEST_CASE("who is served stays, one that is named twice is served once, the rest by name") {
  const std::vector<Answer> found{
      {Answer::Kind::folder, Verdict::good, 0, {}, 7, "/a"},
      entry(0, "d", 4),
      entry(0, "b", 2),
      entry(0, "c", 2),
      entry(0, "a", 1, Verdict::bad_owner),
      {Answer::Kind::folder, Verdict::no_folder, 1, {}, 0, "/b"},
      {Answer::Kind::folder, Verdict::bad_folder, 2, {}, 0, "/c"},
      entry(3, "a", 3),
  };
  const Choice all = choose(found, {});
  CHECK(all.serve.size() == 3);
  CHECK(all.serve.at({4, 2}) == Request{Request::Kind::open, 0, "b"});
  CHECK(all.twice == 1);
  CHECK(all.beyond == 7);
  CHECK(all.refused ==
        std::vector<Choice::Refused>{{0, "a", Verdict::bad_owner}, {2, "", Verdict::bad_folder}});
  const Choice two = choose(found, {{4, 3}}, 2);
  CHECK(two.serve.size() == 2);
  CHECK(two.serve.contains({4, 3}));
  CHECK(two.serve.contains({4, 2}));
  CHECK(two.beyond == 7 + 1);
}

TEST_CASE(
    "of thousands of files as many are served as there is room for, and the rest is counted") {
  std::vector<Answer> found;
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const std::string name = std::to_string(i);
    found.push_back(entry(0, name.c_str(), i, i % 2 == 0 ? Verdict::good : Verdict::not_a_file));
  }
  const Choice choice = choose(found, {{4, 4998}});
  CHECK(choice.serve.size() == kMaxServed);
  CHECK(choice.serve.contains({4, 4998}));
  CHECK(choice.beyond == 2500 - kMaxServed);
  CHECK(choice.refused.size() == kMaxNamed);
  CHECK(choice.more_refused == 2500 - kMaxNamed);
}

}  // namespace
}  // namespace muster::lb::netns
