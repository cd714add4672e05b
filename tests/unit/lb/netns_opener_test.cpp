#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <linux/netlink.h>

#include "lb/io/netns/client.hpp"
#include "lb/io/netns/folder_watch.hpp"
#include "lb/io/netns/opener.hpp"
#include "tests/support/netns.hpp"

namespace muster::lb::netns {
namespace {

namespace fs = std::filesystem;
using testing::Netns;

/// A folder of its own, gone with it.
class Folder {
 public:
  Folder() {
    std::string made = (fs::temp_directory_path() / "muster-netns.XXXXXX").string();
    REQUIRE(::mkdtemp(made.data()) != nullptr);
    path_ = made;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string path(const std::string& name = {}) const {
    return path_ + (name.empty() ? "" : "/" + name);
  }
  void write(const std::string& name, const std::string& content, mode_t mode = 0644) const {
    std::ofstream{path(name)} << content;
    REQUIRE(::chmod(path(name).c_str(), mode) == 0);
  }

 private:
  std::string path_;
};

std::map<std::string, Verdict> look_into(const std::string& folder) {
  std::map<std::string, Verdict> found;
  look({folder}, [&](const Answer& answer) {
    if (answer.kind == Answer::Kind::folder) found["."] = answer.verdict;
    if (answer.kind == Answer::Kind::entry) found[answer.name] = answer.verdict;
  });
  return found;
}

/// Who asks need not be root where what is asked about is not root's.
bool is_root() {
  if (::getuid() == 0) return true;
  MESSAGE("SKIPPED: only root's files are taken, and this is not root");
  return false;
}

TEST_CASE("each hostile file is refused for what it is, and costs the others nothing") {
  MUSTER_NEEDS_NETNS();
  if (!is_root()) return;
  const Netns other;
  const Folder folder;
  folder.write("good", other.path() + "\n");
  folder.write("twice", other.path());
  folder.write("empty", "");
  folder.write("relative", "run/netns/web");
  folder.write("huge", std::string(1 << 20, 'x'));
  folder.write("lost", "/run/netns/there-is-none-of-this-name");
  folder.write("device", "/dev/null");
  folder.write("text", "/etc/passwd");
  folder.write("mount-namespace", "/proc/self/ns/mnt");
  folder.write("own", "/proc/self/ns/net");
  folder.write("of-others", other.path());
  REQUIRE(::chown(folder.path("of-others").c_str(), 65534, 65534) == 0);
  folder.write("for-others", other.path(), 0666);
  folder.write("for-the-group", other.path(), 0664);
  REQUIRE(::mkfifo(folder.path("fifo").c_str(), 0644) == 0);
  fs::create_directory(folder.path("folder"));
  fs::create_symlink(folder.path("good"), folder.path("link"));
  fs::create_symlink("/proc/self/ns/net", folder.path("magic"));
  folder.write("to-a-fifo", folder.path("fifo"));
  const std::map<std::string, Verdict> wanted{{".", Verdict::good},
                                              {"good", Verdict::good},
                                              {"twice", Verdict::good},
                                              {"empty", Verdict::bad_path},
                                              {"relative", Verdict::bad_path},
                                              {"huge", Verdict::too_large},
                                              {"lost", Verdict::unreachable},
                                              {"device", Verdict::not_a_namespace},
                                              {"text", Verdict::not_a_namespace},
                                              {"mount-namespace", Verdict::not_a_namespace},
                                              {"own", Verdict::own_namespace},
                                              {"of-others", Verdict::bad_owner},
                                              {"for-others", Verdict::bad_owner},
                                              {"for-the-group", Verdict::bad_owner},
                                              {"fifo", Verdict::not_a_file},
                                              {"folder", Verdict::not_a_file},
                                              {"link", Verdict::not_a_file},
                                              {"magic", Verdict::not_a_file},
                                              {"to-a-fifo", Verdict::not_a_namespace}};
  const auto found = look_into(folder.path());
  CHECK(found.size() == wanted.size());
  for (const auto& [name, verdict] : wanted) {
    CAPTURE(name);
    REQUIRE(found.contains(name));
    CHECK(to_string(found.at(name)) == to_string(verdict));
    const Opened opened = open({folder.path()}, {Request::Kind::open, 0, name});
    if (name == ".") {
      CHECK(opened.verdict == Verdict::bad_request);
    } else {
      CHECK(to_string(opened.verdict) == to_string(verdict));
    }
    CHECK(opened.sockets.size() == (opened.verdict == Verdict::good ? kSockets : 0));
  }
}

TEST_CASE("a folder that others may write to, or that is none, is refused whole") {
  if (!is_root()) return;
  const Folder folder;
  folder.write("file", "/proc/self/ns/net");
  const Request file{Request::Kind::open, 0, "file"};
  REQUIRE(::chmod(folder.path().c_str(), 0777) == 0);
  CHECK(look_into(folder.path()) == std::map<std::string, Verdict>{{".", Verdict::bad_folder}});
  CHECK(open({folder.path()}, file).verdict == Verdict::bad_folder);
  REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
  CHECK(look_into(folder.path("file")).at(".") == Verdict::bad_folder);
  CHECK(look_into(folder.path("none")).at(".") == Verdict::no_folder);
  CHECK(open({folder.path()}, {Request::Kind::open, 1, "file"}).verdict == Verdict::bad_request);
  CHECK(open({folder.path()}, {Request::Kind::open, 0, "gone"}).verdict == Verdict::gone);
}

TEST_CASE("the sockets are the other namespace's, and the thread that asked stays where it is") {
  MUSTER_NEEDS_NETNS();
  if (!is_root()) return;
  const Netns other;
  const Folder folder;
  folder.write("web", other.path());
  struct stat before {};
  REQUIRE(::stat("/proc/thread-self/ns/net", &before) == 0);
  Opened opened = open({folder.path()}, {Request::Kind::open, 0, "web"});
  struct stat after {};
  REQUIRE(::stat("/proc/thread-self/ns/net", &after) == 0);
  CHECK(before.st_ino == after.st_ino);
  REQUIRE(opened.sockets.size() == kSockets);
  const auto source = make_source(std::move(opened.sockets));
  for (std::size_t i = 0; i < kNetfilterSockets; ++i)
    CHECK(source->open(NETLINK_NETFILTER).has_value());
  CHECK_FALSE(source->open(NETLINK_NETFILTER).has_value());
  CHECK(source->open(NETLINK_ROUTE).has_value());
  const auto seen = look_into(folder.path());
  CHECK(opened.id.inode != before.st_ino);
  CHECK(seen.at("web") == Verdict::good);
}

bool readable(int fd) {
  pollfd one{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&one, 1, 5000) == 1;
}

TEST_CASE("a folder is heard of before it is there, in it, and again after it was away") {
  const Folder root;
  FolderWatch watch{{root.path("a/b")}};
  REQUIRE(watch.fd() >= 0);
  CHECK_FALSE(watch.something_there());
  for (int round = 0; round < 2; ++round) {
    CAPTURE(round);
    fs::create_directory(root.path("a"));
    CHECK(readable(watch.fd()));
    watch.drain();
    fs::create_directory(root.path("a/b"));
    CHECK(readable(watch.fd()));
    watch.drain();
    CHECK_FALSE(watch.something_there());
    root.write("a/b/web", "/x");
    CHECK(readable(watch.fd()));
    watch.drain();
    CHECK(watch.something_there());
    fs::remove(root.path("a/b/web"));
    CHECK(readable(watch.fd()));
    watch.drain();
    CHECK_FALSE(watch.something_there());
    fs::remove_all(root.path("a"));
    CHECK(readable(watch.fd()));
    watch.drain();
  }
}

}  // namespace
}  // namespace muster::lb::netns
