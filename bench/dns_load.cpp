// Load for bench/run dns. Keeps a window of queries under way from one thread and counts replies.
//
//   dns_bench_load udp|tcp ADDRESS:PORT QUERYFILE SECONDS [WINDOW] [CONNECTIONS]
//   dns_bench_load echo ADDRESS:PORT          a server that sends every datagram back: the floor
//
// QUERYFILE has a name and a type on each line, as dnsperf's. Prints one line:
//   answered N sent N lost N bad N seconds S nxdomain N

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <vector>

#include "base/endpoint.hpp"
#include "base/time.hpp"
#include "dns/core/query.hpp"
#include "dns/core/text.hpp"
#include "dns/io/sockets.hpp"

namespace {

using namespace muster;
using namespace muster::dns;

constexpr unsigned kBatch = 32;
constexpr std::size_t kBuffer = 65536;
using Queries = std::vector<std::vector<std::byte>>;

struct Tally {
  long long sent = 0;
  long long answered = 0;
  long long bad = 0;
  long long nxdomain = 0;
  double seconds = 0;
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "dns_bench_load: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

Queries read_queries(const char* path) {
  std::ifstream in{path};
  Queries out;
  std::string owner;
  std::string kind;
  while (in >> owner >> kind) {
    const auto name = Name::parse(owner);
    const auto qtype = parse_type(kind);
    if (!name || !qtype) fail("line " + owner);
    out.push_back(make_query(*name, *qtype, {}));
  }
  if (out.empty()) fail(path);
  return out;
}

int open_socket(const Endpoint& to, int kind) {
  const int fd = socket(to.address.is_v4() ? AF_INET : AF_INET6, kind | SOCK_CLOEXEC, 0);
  const SocketAddress address = to_socket_address(to.address, to.port);
  const int size = 4 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  if (connect(fd, address.get(), address.size) != 0) fail("connect");
  return fd;
}

double since(TimePoint start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void count_reply(const std::byte* reply, std::size_t size, Tally& tally) {
  if (size < kHeaderSize || (reply[2] & std::byte{0x80}) == std::byte{0}) {
    ++tally.bad;
    return;
  }
  ++tally.answered;
  const unsigned code = std::to_integer<unsigned>(reply[3]) & 15U;
  if (code == rcode::kNxDomain) {
    ++tally.nxdomain;
  } else if (code != rcode::kNoError) {
    ++tally.bad;
  }
}

class Udp {
 public:
  Udp(const Endpoint& to, const Queries& queries, int window)
      : fd_{open_socket(to, SOCK_DGRAM)}, queries_{queries}, window_{window} {
    for (unsigned i = 0; i < kBatch; ++i) {
      in_[i] = {buffers_[i].data(), buffers_[i].size()};
      received_[i].msg_hdr.msg_iov = &in_[i];
      received_[i].msg_hdr.msg_iovlen = 1;
      sending_[i].msg_hdr.msg_iov = &out_[i];
      sending_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  Tally run(double seconds) {
    const TimePoint start = Clock::now();
    Tally tally;
    while (since(start) < seconds) {
      fill(tally);
      pollfd wait{fd_, POLLIN, 0};
      // Nothing for so long: what is under way is lost, and counted as that.
      if (poll(&wait, 1, 100) == 0) in_flight_ = 0;
      drain(tally);
    }
    tally.seconds = since(start);
    return tally;
  }

 private:
  void fill(Tally& tally) {
    while (in_flight_ + static_cast<int>(kBatch) <= window_) {
      for (unsigned i = 0; i < kBatch; ++i) {
        // Ids only need to differ within the window; the queries themselves stay as they are.
        const auto& query = queries_[next_];
        next_ = next_ + 1 == queries_.size() ? 0 : next_ + 1;
        std::memcpy(messages_[i].data(), query.data(), query.size());
        messages_[i][0] = static_cast<std::byte>(id_ >> 8);
        messages_[i][1] = static_cast<std::byte>(id_ & 0xFF);
        ++id_;
        out_[i] = {messages_[i].data(), query.size()};
      }
      const int sent = sendmmsg(fd_, sending_.data(), kBatch, 0);
      if (sent <= 0) return;
      tally.sent += sent;
      in_flight_ += sent;
    }
  }
  void drain(Tally& tally) {
    for (;;) {
      const int got = recvmmsg(fd_, received_.data(), kBatch, MSG_DONTWAIT, nullptr);
      if (got <= 0) return;
      for (int i = 0; i < got; ++i) {
        const auto at = static_cast<std::size_t>(i);
        count_reply(buffers_[at].data(), received_[at].msg_len, tally);
      }
      in_flight_ = std::max(0, in_flight_ - got);
    }
  }

  int fd_;
  const Queries& queries_;
  int window_;
  int in_flight_ = 0;
  std::size_t next_ = 0;
  std::uint16_t id_ = 1;
  std::array<std::array<std::byte, 2048>, kBatch> buffers_{};
  std::array<std::array<std::byte, 300>, kBatch> messages_{};
  std::array<iovec, kBatch> in_{};
  std::array<iovec, kBatch> out_{};
  std::array<mmsghdr, kBatch> received_{};
  std::array<mmsghdr, kBatch> sending_{};
};

// One pipelined connection: a write of many queries, then whatever comes back.
struct Stream {
  int fd = -1;
  int in_flight = 0;
  std::size_t have = 0;
  std::vector<std::byte> buffer = std::vector<std::byte>(kBuffer * 2);
};

class Tcp {
 public:
  Tcp(const Endpoint& to, const Queries& queries, int window, int connections)
      : queries_{queries}, window_{window} {
    for (int i = 0; i < connections; ++i) {
      Stream& stream = streams_.emplace_back();
      stream.fd = open_socket(to, SOCK_STREAM);
      const int on = 1;
      setsockopt(stream.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      waits_.push_back({stream.fd, POLLIN, 0});
    }
  }

  Tally run(double seconds) {
    const TimePoint start = Clock::now();
    Tally tally;
    for (Stream& stream : streams_) fill(stream, tally);
    while (since(start) < seconds) {
      if (poll(waits_.data(), waits_.size(), 1000) <= 0) fail("no answer for a second");
      for (std::size_t i = 0; i < streams_.size(); ++i) {
        if (waits_[i].revents == 0) continue;
        drain(streams_[i], tally);
        if (streams_[i].in_flight <= window_ / 2) fill(streams_[i], tally);
      }
    }
    tally.seconds = since(start);
    return tally;
  }

 private:
  void fill(Stream& stream, Tally& tally) {
    std::vector<std::byte> out;
    while (stream.in_flight < window_) {
      const auto& query = queries_[next_];
      next_ = next_ + 1 == queries_.size() ? 0 : next_ + 1;
      out.push_back(static_cast<std::byte>(query.size() >> 8));
      out.push_back(static_cast<std::byte>(query.size() & 0xFF));
      out.insert(out.end(), query.begin(), query.end());
      ++stream.in_flight;
      ++tally.sent;
    }
    for (std::size_t at = 0; at < out.size();) {
      const ssize_t sent = send(stream.fd, out.data() + at, out.size() - at, MSG_NOSIGNAL);
      if (sent <= 0) fail("send");
      at += static_cast<std::size_t>(sent);
    }
  }
  static void drain(Stream& stream, Tally& tally) {
    const ssize_t got = recv(stream.fd, stream.buffer.data() + stream.have,
                             stream.buffer.size() - stream.have, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) fail("the server hung up");
    if (got < 0) return;
    stream.have += static_cast<std::size_t>(got);
    std::size_t at = 0;
    while (stream.have - at >= 2) {
      const std::size_t size = std::to_integer<std::size_t>(stream.buffer[at]) << 8 |
                               std::to_integer<std::size_t>(stream.buffer[at + 1]);
      if (stream.have - at - 2 < size) break;
      count_reply(stream.buffer.data() + at + 2, size, tally);
      --stream.in_flight;
      at += 2 + size;
    }
    std::memmove(stream.buffer.data(), stream.buffer.data() + at, stream.have - at);
    stream.have -= at;
  }

  const Queries& queries_;
  int window_;
  std::size_t next_ = 0;
  std::vector<Stream> streams_;
  std::vector<pollfd> waits_;
};

// recvmmsg and sendmmsg and nothing between but the bit that makes it a reply.
[[noreturn]] void echo(const Endpoint& at) {
  auto bound = bind_listeners(at.address, at.port, 1);
  if (!bound) fail("bind");
  const int fd = bound->front().udp.get();
  fcntl(fd, F_SETFL, 0);
  static std::array<std::array<std::byte, 2048>, kBatch> buffers;
  std::array<sockaddr_storage, kBatch> from{};
  std::array<iovec, kBatch> io{};
  std::array<mmsghdr, kBatch> messages{};
  for (;;) {
    for (unsigned i = 0; i < kBatch; ++i) {
      io[i] = {buffers[i].data(), buffers[i].size()};
      messages[i].msg_hdr = {};
      messages[i].msg_hdr.msg_name = &from[i];
      messages[i].msg_hdr.msg_namelen = sizeof from[i];
      messages[i].msg_hdr.msg_iov = &io[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int got = recvmmsg(fd, messages.data(), kBatch, MSG_WAITFORONE, nullptr);
    if (got <= 0) continue;
    for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
      buffers[i][2] |= std::byte{0x80};
      io[i].iov_len = messages[i].msg_len;
    }
    sendmmsg(fd, messages.data(), static_cast<unsigned>(got), 0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 2 ? argv[1] : "";
  const auto to = argc > 2 ? Endpoint::parse(argv[2]) : std::nullopt;
  if (!to || (mode != "echo" && argc < 5)) {
    std::fprintf(stderr, "dns_bench_load: see the head of bench/dns_load.cpp\n");
    return 2;
  }
  if (mode == "echo") echo(*to);
  const Queries queries = read_queries(argv[3]);
  const double seconds = std::atof(argv[4]);
  const int window = argc > 5 ? std::atoi(argv[5]) : 128;
  const int connections = argc > 6 ? std::atoi(argv[6]) : 8;
  const Tally tally = mode == "tcp" ? Tcp{*to, queries, window, connections}.run(seconds)
                                    : Udp{*to, queries, window}.run(seconds);
  const long long lost = std::max(0LL, tally.sent - tally.answered - tally.bad);
  std::printf("answered %lld sent %lld lost %lld bad %lld seconds %.3f nxdomain %lld\n",
              tally.answered, tally.sent, lost, tally.bad, tally.seconds, tally.nxdomain);
  return 0;
}
