#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "tests/scenarios/lb_fixture.hpp"

namespace muster::lb {

namespace fs = std::filesystem;

/// A folder whose files name namespaces.
class Folder {
 public:
  Folder() {
    std::string made = (fs::temp_directory_path() / "muster-l4lb.XXXXXX").string();
    REQUIRE(::mkdtemp(made.data()) != nullptr);
    path_ = made;
  }
  ~Folder() { fs::remove_all(path_); }
  /// Written elsewhere and moved in, so that it is never seen half written.
  void name(const std::string& file, const std::string& target) const {
    const std::string draft = path_ + "." + file;
    std::ofstream{draft} << target << '\n';
    REQUIRE(::chmod(draft.c_str(), 0644) == 0);
    fs::rename(draft, path_ + "/" + file);
  }
  void remove(const std::string& file) const { fs::remove(path_ + "/" + file); }
  const std::string& path() const { return path_; }
  BalancerOptions options() const {
    BalancerOptions options;
    options.namespace_folders = {path_};
    return options;
  }

 private:
  std::string path_;
};

/// A node, backends beyond it, and a container on the same wire by macvlan: its packets pass the
/// node's device but not the node's namespace.
///
///     node 10.2.0.254 ──┬── 10.2.0.1 … 10.2.0.4 backends
///     container 10.2.0.9 ┘
struct Bypass {
  Bypass() {
    connect({node, "b0", "10.2.0.254/24 fd00:2::fe/64"},
            {backends, "eth0",
             "10.2.0.1/24 10.2.0.2/24 10.2.0.3/24 10.2.0.4/24 fd00:2::1/64 fd00:2::2/64"});
  }
  /// Empty if it could be made.
  std::string attach(const Netns& container, const std::string& host = "9") const {
    const std::string made =
        node.shell("ip link add mv" + host + " link b0 type macvlan mode bridge 2>&1 || true");
    if (!made.empty()) return "no macvlan on this kernel: " + made;
    node.shell("ip link set mv" + host + " netns " + container.path() + " name eth0");
    container.shell("ip addr add 10.2.0." + host + "/24 dev eth0; ip addr add fd00:2::" + host +
                    "/64 dev eth0 nodad; ip link set eth0 up");
    return {};
  }
  std::unique_ptr<NameServer> serve(const std::string& endpoint) const {
    return backends.run([&] { return std::make_unique<NameServer>(at(endpoint), endpoint); });
  }

  Netns node;
  Netns backends;
};

/// Leaves where there can be none.
#define MUSTER_ATTACH(net, container)                                          \
  if (const std::string missing = (net).attach(container); !missing.empty()) { \
    MESSAGE("SKIPPED: " << missing);                                           \
    return;                                                                    \
  }

inline std::string tcp_from(const Netns& from, const std::string& vip) {
  return from.run([&] { return ask_tcp(at(vip), std::chrono::seconds{5}); });
}
inline std::string udp_from(const Netns& from, const std::string& vip) {
  return from.run([&] { return ask_udp(at(vip)); });
}

inline std::size_t served(Node& node) {
  const auto status = node.status().namespaces;
  return status ? status->served : 0;
}

}  // namespace muster::lb
