#include "dev/supervisor.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <sched.h>
#include <stdexcept>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <system_error>

#include "dev/control.hpp"

namespace muster::dev {

namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error{errno, std::generic_category(), what};
}

sigset_t endings() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD}) sigaddset(&set, signal);
  return set;
}

/// In the child: namespaces of its own, then the cluster.
[[noreturn]] void become_cluster(ClusterOptions options, ClusterHandles handles) {
  const sigset_t set = endings();
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  // Its own pid as the host counts; the parent is the one who knows.
  if (::read(handles.life.get(), &handles.host_pid, sizeof handles.host_pid) !=
          sizeof handles.host_pid ||
      ::unshare(CLONE_NEWNS | CLONE_NEWNET) != 0) {
    std::fprintf(stderr, "muster-dev: no namespaces: %s\n", std::strerror(errno));
    ::_exit(1);
  }
  ::_exit(run_cluster(std::move(options), std::move(handles)));
}

struct Supervised {
  int pid = -1;
  Fd life;
};

Supervised start(ClusterOptions options) {
  ClusterHandles handles;
  try {
    handles.control = listen_control(options.name);
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::address_in_use) throw;
    throw std::runtime_error{
        "a cluster named \"" + options.name +
        "\" runs already; end it with: muster-dev stop, or take another --name"};
  }
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) fail("socketpair");
  Supervised out;
  out.life.reset(ends[0]);
  handles.life.reset(ends[1]);
  handles.host_proc.reset(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (::unshare(CLONE_NEWPID) != 0) fail("a new pid namespace");
  out.pid = ::fork();
  if (out.pid < 0) fail("fork");
  if (out.pid == 0) {
    out.life.reset();  // or it would never see this process go
    become_cluster(std::move(options), std::move(handles));
  }
  if (::write(out.life.get(), &out.pid, sizeof out.pid) != sizeof out.pid) fail("starting");
  return out;
}

/// Until it has ended, or a signal said that it should; its exit status.
int watch(const Supervised& cluster, int signals, const std::string& ready_file) {
  bool told = false;
  for (;;) {
    pollfd wait[2] = {{.fd = signals, .events = POLLIN, .revents = 0},
                      {.fd = told ? -1 : cluster.life.get(), .events = POLLIN, .revents = 0}};
    if (::poll(wait, 2, -1) < 0 && errno != EINTR) fail("poll");
    if ((wait[1].revents & POLLIN) != 0) {
      told = true;
      char text[16];
      const ssize_t got = ::read(cluster.life.get(), text, sizeof text);
      if (got > 0 && !ready_file.empty()) std::ofstream{ready_file} << "ready\n";
    } else if (wait[1].revents != 0) {
      told = true;
    }
    if ((wait[0].revents & POLLIN) == 0) continue;
    signalfd_siginfo info{};
    if (::read(signals, &info, sizeof info) != sizeof info) continue;
    int status = 0;
    if (info.ssi_signo != static_cast<unsigned>(SIGCHLD)) {
      // Killing the first process of a pid namespace kills all of them, and waiting for it waits
      // for all of them.
      ::kill(cluster.pid, SIGKILL);
      ::waitpid(cluster.pid, &status, 0);
      return 0;
    }
    if (::waitpid(cluster.pid, &status, WNOHANG) == cluster.pid) {
      return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    }
  }
}

}  // namespace

void supervise(ClusterOptions options, const std::string& ready_file) {
  const sigset_t set = endings();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  const Fd signals{::signalfd(-1, &set, SFD_CLOEXEC)};
  if (!signals) fail("signalfd");
  const Supervised cluster = start(std::move(options));
  const int status = watch(cluster, signals.get(), ready_file);
  if (!ready_file.empty()) ::unlink(ready_file.c_str());
  std::fprintf(stderr, "\nmuster-dev: %s; nothing is left\n", status == 0 ? "stopped" : "failed");
  // Not exit(): new processes and threads would go to the namespace whose first process is dead,
  // where none can be made any more, and a leak checker wants one.
  ::_exit(status);
}

}  // namespace muster::dev
