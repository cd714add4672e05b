#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/io/task_group.hpp"
#include "dev/cluster.hpp"
#include "dev/control.hpp"
#include "dev/daemons.hpp"
#include "dev/http_server.hpp"
#include "dev/launcher.hpp"
#include "dev/master_faults.hpp"
#include "dev/master_state.hpp"
#include "dev/node.hpp"
#include "dev/terminal.hpp"

namespace muster::dev {

/// Everything that runs, owned in one place. Private to cluster*.cpp.
class Cluster {
 public:
  Cluster(ClusterOptions options, ClusterHandles handles);
  int run();

 private:
  void build_network();
  void start_masters();
  void start_agents();
  void greet();
  std::string name_option() const;  // " --name NAME", where it is needed
  void publish();
  boost::asio::awaitable<void> watch_life();
  boost::asio::awaitable<void> announce_ready();
  boost::asio::awaitable<void> bring_master_back();
  boost::asio::awaitable<void> take_over();
  boost::asio::awaitable<void> agents_follow();
  ApiResponse master_answer(bool first, const ApiRequest& request);
  /// An agent's own API, and what it was told to do wrong.
  struct AgentSide {
    MesosAgent info;
    WallTime started = 0;
    MasterFaults faults;
    bool forgets = false;  // it answers as if nothing ran on it
  };
  ApiResponse agent_side_answer(AgentSide& side, const ApiRequest& request);
  MasterFaults::Acts agent_acts(unsigned node);
  MasterFaults::Acts acts();
  std::string agent_act(std::string_view act, std::int64_t node);
  std::string framework_act(std::string_view act);
  std::string fail_over();
  HttpServer& leading_http() { return second_leads_ ? *standby_http_ : *master_http_; }
  /// Asks the node's own daemon; the apps are the launcher's.
  boost::asio::awaitable<bool> node_ready(unsigned node);
  boost::asio::awaitable<bool> all_ready(bool apps_only, std::string* why);

  // Control, in cluster_control.cpp.
  boost::asio::awaitable<ControlAnswer> control(boost::json::object request,
                                                ControlServer::Progress progress);
  boost::asio::awaitable<ControlAnswer> answer(boost::json::object request,
                                               ControlServer::Progress progress);
  boost::asio::awaitable<ControlAnswer> show();
  boost::asio::awaitable<ControlAnswer> wait_ready(double seconds, bool apps_only,
                                                   ControlServer::Progress progress);
  ControlAnswer enter(unsigned node, bool container);
  ControlAnswer logs(const std::string& which);
  ControlAnswer kill(const boost::json::object& request);
  ControlAnswer master_command(const std::string& action);
  ControlAnswer cut(unsigned node, bool heal);
  unsigned node_number(const boost::json::object& request) const;

  ClusterOptions options_;
  ClusterHandles handles_;
  Terminal terminal_;
  boost::asio::io_context io_;
  Reaper reaper_;
  Network network_;
  std::unique_ptr<Master> master_;
  std::unique_ptr<Master> standby_;
  std::string vip_;  // a command that uses one
  bool master_up_ = true;
  std::uint64_t following_ = 0;  // counts agents_follow()
  bool second_leads_ = false;    // of the two masters' addresses
  std::unique_ptr<MasterFaults> faults_;
  std::unique_ptr<HttpServer> master_http_;
  std::unique_ptr<HttpServer> standby_http_;
  std::list<AgentSide> agents_;  // one for each node, in their order
  std::vector<std::unique_ptr<HttpServer>> agents_http_;
  std::unique_ptr<Daemons> daemons_;
  std::unique_ptr<Launcher> launcher_;
  std::unique_ptr<ControlServer> control_;
  TaskGroup tasks_;
};

}  // namespace muster::dev
