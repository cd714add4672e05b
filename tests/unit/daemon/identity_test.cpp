#include "daemon/identity.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <unistd.h>

#include <doctest/doctest.h>

namespace muster::daemon {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/muster-identity-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  ~Folder() { fs::remove_all(path); }
  void put(const std::string& text) const { std::ofstream{path / "node"} << text; }
  fs::path path;
};

TEST_CASE("a node remembers who it is, and each start is a later life") {
  const Folder folder;
  const FoundIdentity first = load_identity(folder.path);
  const FoundIdentity second = load_identity(folder.path);
  CHECK(first.problem == "");
  CHECK(second.problem == "");
  CHECK(first.identity.id.str().size() == 36);
  CHECK(second.identity.id == first.identity.id);
  CHECK(second.identity.epoch > first.identity.epoch);
}

TEST_CASE("an epoch ahead of the clock is not gone back from") {
  const Folder folder;
  folder.put("id 11637ccf-01a7-4193-866b-25e410f436a5\nepoch 4100000000\n");
  const FoundIdentity found = load_identity(folder.path);
  CHECK(found.problem == "");
  CHECK(found.identity.epoch == 4'100'000'001);
}

TEST_CASE("a damaged identity makes a new node, says so once, and is replaced") {
  for (const std::string text : {"", "id ", "id 1 epoch 2", "\xff\xfe\x01",
                                 "id 11637ccf-01a7-4193-866b-25e410f436a5\nepoch x\n",
                                 "id 11637ccf-01X7-4193-866b-25e410f436a5\nepoch 7\n",
                                 "id 11637ccf-01a7-4193-866b-25e410f436a5\nepoch 7\ncheck 7\n",
                                 "id 11637ccf-01a7-4193-866b-25e410f436a5\nepoch 7\nche"}) {
    CAPTURE(text);
    const Folder folder;
    folder.put(text);
    const FoundIdentity found = load_identity(folder.path);
    CHECK(found.problem.find("is damaged: this is a new node from now on") != std::string::npos);
    CHECK(found.identity.id.str().size() == 36);
    CHECK(load_identity(folder.path).problem == "");
    CHECK(load_identity(folder.path).identity.id == found.identity.id);
  }
}

TEST_CASE("no octet that changes makes another node of this one, or a later life of it") {
  const Folder folder;
  const Identity own = load_identity(folder.path).identity;
  std::ifstream in{folder.path / "node"};
  const std::string whole{std::istreambuf_iterator<char>{in}, {}};
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char other : {'X', '0', '9', 'a', ' ', '\n', '\0'}) {
      if (whole[at] == other) continue;
      CAPTURE(at);
      CAPTURE(other);
      std::string text = whole;
      text[at] = other;
      const Folder damaged;
      damaged.put(text);
      const FoundIdentity found = load_identity(damaged.path);
      if (found.problem.empty()) {  // white space for white space
        CHECK(found.identity.id == own.id);
        CHECK(found.identity.epoch > own.epoch);
      } else {
        CHECK(found.identity.id != own.id);
        CHECK(found.identity.id.str().size() == 36);
      }
    }
  }
}

TEST_CASE("a disk that takes nothing costs the memory of this life, not the service") {
  const Folder folder;
  fs::create_directory(folder.path / "node");  // neither read nor replaced, also by root
  const FoundIdentity found = load_identity(folder.path);
  CHECK(found.identity.id.str().size() == 36);
  CHECK(found.problem.find("cannot read") != std::string::npos);
  CHECK(found.problem.find("; cannot write") != std::string::npos);
  const FoundIdentity nowhere = load_identity(folder.path / "not" / "there");
  CHECK(nowhere.identity.id.str().size() == 36);
  CHECK(nowhere.problem.find("cannot write") != std::string::npos);
}

}  // namespace
}  // namespace muster::daemon
