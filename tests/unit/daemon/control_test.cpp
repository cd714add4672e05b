#include "daemon/control.hpp"

#include <cstring>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/json/serialize.hpp>
#include <boost/system/errc.hpp>
#include <doctest/doctest.h>

namespace muster::daemon {
namespace {

namespace json = boost::json;

/// A folder of its own, and a control socket in it with a thread that serves.
class Room {
 public:
  Room() {
    char name[] = "/tmp/muster-control-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    folder_ = name;
  }
  ~Room() {
    stop();
    std::filesystem::remove_all(folder_);
  }
  std::filesystem::path path() const { return folder_ / "run" / "control.sock"; }
  void serve() {
    control_ = std::make_unique<Control>(
        context_.get_executor(), path(), [](const json::object& request, Control::Peer peer) {
          return json::object{{"ok", true}, {"echo", request}, {"uid", peer.uid}};
        });
    REQUIRE(control_->start());
    tasks_.spawn(control_->run());
    thread_ = std::thread{[this] { context_.run(); }};
  }
  void stop() {
    if (!thread_.joinable()) return;
    boost::asio::post(context_, [this] { tasks_.stop(); });
    thread_.join();
    control_.reset();
  }
  /// What comes back until the other side hangs up.
  std::string ask(const std::string& text, bool half_close = false) const {
    const int fd = dial();
    REQUIRE(fd >= 0);
    (void)::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (half_close) ::shutdown(fd, SHUT_WR);
    std::string answer;
    char part[4096];
    for (ssize_t got = 0; (got = ::recv(fd, part, sizeof part, 0)) > 0;) {
      answer.append(part, static_cast<std::size_t>(got));
    }
    ::close(fd);
    return answer;
  }
  int dial() const {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::strcpy(at.sun_path, path().c_str());
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0) return fd;
    ::close(fd);
    return -1;
  }

 private:
  std::filesystem::path folder_;
  boost::asio::io_context context_{1};
  TaskGroup tasks_{context_.get_executor()};
  std::unique_ptr<Control> control_;
  std::thread thread_;
};

TEST_CASE("control: one line asks, one answers, and the socket goes with the daemon") {
  Room room;
  room.serve();
  struct stat info {};
  REQUIRE(::stat(room.path().c_str(), &info) == 0);
  CHECK((info.st_mode & 0777U) == 0660U);
  CHECK(room.ask("{\"do\": \"x\"}\n") ==
        "{\"ok\":true,\"echo\":{\"do\":\"x\"},\"uid\":" + std::to_string(::geteuid()) + "}\n");
  room.stop();
  CHECK_FALSE(std::filesystem::exists(room.path()));
}

TEST_CASE("control: what is no request is refused, or the connection ends; the next is served") {
  Room room;
  room.serve();
  for (const char* bad : {"\n", "x\n", "[]\n", "{}\n", "{\"do\": 7}\n", "{\"do\": \"x\"\n"}) {
    CAPTURE(bad);
    CHECK(room.ask(bad).starts_with("{\"ok\":false,\"error\":\"expected a JSON object"));
  }
  CHECK(room.ask(std::string(kMaxControlLine + 1, 'x')).empty());
  CHECK(room.ask(std::string(kMaxControlLine / 2, '[') + '\n').starts_with("{\"ok\":false"));
  CHECK(room.ask("{\"do\": \"x\"}", true).empty());  // the line never ends
  // As many that say nothing as there may be: the next is turned away, and served when they go.
  std::vector<int> silent;
  for (std::size_t i = 0; i < kMaxControlConnections; ++i) silent.push_back(room.dial());
  CHECK(room.ask("{\"do\": \"x\"}\n").empty());
  for (const int fd : silent) ::close(fd);
  bool served = false;
  for (int i = 0; i < 1000 && !served; ++i) served = !room.ask("{\"do\": \"x\"}\n").empty();
  CHECK(served);
}

TEST_CASE("control: a socket left behind is replaced, a living daemon's and a file are not") {
  Room room;
  room.serve();
  boost::asio::io_context context;
  Control second{context.get_executor(), room.path(), nullptr};
  CHECK(second.start().error() == boost::system::errc::address_in_use);
  CHECK_FALSE(room.ask("{\"do\": \"x\"}\n").empty());

  Room other;
  std::filesystem::create_directories(other.path().parent_path());
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  std::strcpy(at.sun_path, other.path().c_str());
  const int left = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::bind(left, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
  ::close(left);
  other.serve();
  CHECK_FALSE(other.ask("{\"do\": \"x\"}\n").empty());

  Room third;
  std::filesystem::create_directories(third.path());
  Control file{context.get_executor(), third.path(), nullptr};
  CHECK(file.start().error() == boost::system::errc::file_exists);
}

}  // namespace
}  // namespace muster::daemon
