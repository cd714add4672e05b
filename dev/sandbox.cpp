#include "dev/sandbox.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>

namespace muster::dev {

namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error{errno, std::generic_category(), what};
}

struct Pipe {
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
  Fd read;
  Fd write;
};

std::string read_all(int fd) {
  std::string out;
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got > 0) {
      out.append(buffer, static_cast<std::size_t>(got));
    } else if (got == 0 || errno != EINTR) {
      return out;
    }
  }
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  return true;
}

int wait_for(int pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return status;
}

Fd open_path(const std::string& path, int flags = O_RDONLY) {
  Fd fd{::open(path.c_str(), flags | O_CLOEXEC)};
  if (!fd) fail(path);
  return fd;
}

/// The calling thread is in `net` as long as this lives.
class InNetwork {
 public:
  explicit InNetwork(int net) : before_{open_path("/proc/thread-self/ns/net")} {
    if (::setns(net, CLONE_NEWNET) != 0) fail("entering a network namespace");
  }
  InNetwork(const InNetwork&) = delete;
  InNetwork& operator=(const InNetwork&) = delete;
  ~InNetwork() {
    // Staying in the wrong one would put every later socket in the wrong network.
    if (::setns(before_.get(), CLONE_NEWNET) != 0) std::abort();
  }

 private:
  Fd before_;
};

/// Of the child between fork and exec: no allocation that could throw past it is of interest, as
/// whatever goes wrong ends in _exit.
[[noreturn]] void exec_child(const Command& command, int report) {
  const auto give_up = [&](const char* what) {
    const int error = errno;
    write_all(report, std::string{what} + ": " + std::strerror(error));
    ::_exit(127);
  };
  if (command.entry.uts >= 0 && ::setns(command.entry.uts, CLONE_NEWUTS) != 0) give_up("setns uts");
  if (command.entry.net >= 0 && ::setns(command.entry.net, CLONE_NEWNET) != 0) give_up("setns net");
  if (command.entry.mount >= 0 && ::setns(command.entry.mount, CLONE_NEWNS) != 0) {
    give_up("setns mnt");
  }
  ::setsid();
  if (::chdir(command.directory.c_str()) != 0) give_up(command.directory.c_str());
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, 0);
  ::dup2(command.output >= 0 ? command.output : null, 1);
  ::dup2(1, 2);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  ::syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
  std::vector<char*> argv;
  for (const std::string& word : command.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> environment;
  for (const std::string& one : command.environment) {
    environment.push_back(const_cast<char*>(one.c_str()));
    if (one.starts_with("PATH=")) ::setenv("PATH", one.c_str() + 5, 1);
  }
  environment.push_back(nullptr);
  ::execvpe(argv[0], argv.data(), environment.data());
  give_up(argv[0]);
  ::_exit(127);
}

}  // namespace

Fd make_network_namespace() {
  const Fd before = open_path("/proc/thread-self/ns/net");
  if (::unshare(CLONE_NEWNET) != 0) fail("a new network namespace");
  Fd made = open_path("/proc/thread-self/ns/net");
  if (::setns(before.get(), CLONE_NEWNET) != 0) std::abort();
  return made;
}

Namespaces make_namespaces(const std::function<void()>& prepare) {
  Pipe report;
  Pipe hold;
  const int pid = ::fork();
  if (pid < 0) fail("fork");
  if (pid == 0) {
    report.read.reset();
    hold.write.reset();
    try {
      if (::unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS) != 0) fail("new namespaces");
      prepare();
    } catch (const std::exception& error) {
      write_all(report.write.get(), error.what());
      ::_exit(1);
    }
    report.write.reset();
    read_all(hold.read.get());  // until the parent has opened the namespaces
    ::_exit(0);
  }
  report.write.reset();
  hold.read.reset();
  const std::string complaint = read_all(report.read.get());
  Namespaces out;
  if (complaint.empty()) {
    const std::string base = "/proc/" + std::to_string(pid) + "/ns/";
    out.net = open_path(base + "net");
    out.mount = open_path(base + "mnt");
    out.uts = open_path(base + "uts");
  }
  hold.write.reset();
  wait_for(pid);
  if (!complaint.empty()) throw std::runtime_error{complaint};
  return out;
}

int spawn(const Command& command) {
  Pipe report;
  const int pid = ::fork();
  if (pid < 0) fail("fork");
  if (pid == 0) exec_child(command, report.write.get());
  report.write.reset();
  const std::string complaint = read_all(report.read.get());  // exec closes the other end
  if (complaint.empty()) return pid;
  wait_for(pid);
  throw std::runtime_error{"cannot start " + complaint};
}

void run_tool(const std::vector<std::string>& argv, const std::string& input, const Entry& entry) {
  Pipe in;
  Pipe errors;
  const int pid = ::fork();
  if (pid < 0) fail("fork");
  if (pid == 0) {
    if (entry.net >= 0 && ::setns(entry.net, CLONE_NEWNET) != 0) ::_exit(126);
    ::dup2(in.read.get(), 0);
    ::dup2(errors.write.get(), 2);
    ::dup2(errors.write.get(), 1);
    std::vector<char*> words;
    words.reserve(argv.size() + 1);
    for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    ::execvp(words[0], words.data());
    write_all(2, argv[0] + ": " + std::strerror(errno) + "\n");
    ::_exit(127);
  }
  in.read.reset();
  errors.write.reset();
  write_all(in.write.get(), input);  // a tool that died early says why below
  in.write.reset();
  const std::string said = read_all(errors.read.get());
  const int status = wait_for(pid);
  if (status != 0) {
    throw std::runtime_error{argv[0] + " failed: " + (said.empty() ? "no reason given" : said)};
  }
}

Fd listen_in(int net, const std::string& address, std::uint16_t port) {
  Fd fd = socket_in(net);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  ::inet_pton(AF_INET, address.c_str(), &to.sin_addr);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0) {
    fail("listening on " + address + ":" + std::to_string(port));
  }
  return fd;
}

Fd socket_in(int net) {
  const InNetwork here{net};
  Fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (!fd) fail("a TCP socket");
  return fd;
}

void signal_session(int session, int signal) {
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return;
  while (const dirent* entry = ::readdir(proc)) {
    char* end = nullptr;
    const long pid = std::strtol(entry->d_name, &end, 10);
    if (*end != '\0' || pid <= 1) continue;
    if (::getsid(static_cast<pid_t>(pid)) == session) ::kill(static_cast<pid_t>(pid), signal);
  }
  ::closedir(proc);
}

int host_pid(int host_proc, int own_host_pid, int pid) {
  const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
  if (!process) return -1;
  // A pidfd's fdinfo names the pid as the reader's /proc counts, which is how two pid namespaces
  // can be asked about one process.
  const std::string path =
      std::to_string(own_host_pid) + "/fdinfo/" + std::to_string(process.get());
  const Fd info{::openat(host_proc, path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!info) return -1;
  const std::string text = read_all(info.get());
  const std::size_t at = text.find("Pid:");
  return at == std::string::npos ? -1 : std::atoi(text.c_str() + at + 4);
}

}  // namespace muster::dev
