#include "dns/io/udp_socket.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

namespace muster::dns {

UdpSocket::UdpSocket(Worker& worker, ListenSockets& sockets)
    : worker_{worker},
      socket_{worker.context(),
              sockets.endpoint.address.is_v4() ? boost::asio::ip::udp::v4()
                                               : boost::asio::ip::udp::v6(),
              sockets.udp.release()},
      wildcard_{sockets.wildcard},
      slots_(kBatch) {
  for (std::size_t i = 0; i < kBatch; ++i) {
    Slot& slot = slots_[i];
    slot.in = {slot.query.data(), slot.query.size()};
    received_[i].msg_hdr.msg_name = &slot.from;
    received_[i].msg_hdr.msg_iov = &slot.in;
    received_[i].msg_hdr.msg_iovlen = 1;
  }
}

void UdpSocket::start() {
  socket_.async_wait(boost::asio::ip::udp::socket::wait_read, [this](const ErrorCode& error) {
    if (error) return;  // closed
    serve();
    start();
  });
}

void UdpSocket::close() {
  ErrorCode ignored;
  socket_.close(ignored);
}

void UdpSocket::serve() {
  for (int i = 0; i < kBatchesPerWake && serve_batch(); ++i) {
  }
}

// True if there may be more.
bool UdpSocket::serve_batch() {
  for (std::size_t i = 0; i < kBatch; ++i) {
    msghdr& header = received_[i].msg_hdr;
    header.msg_namelen = sizeof(sockaddr_storage);
    header.msg_control = wildcard_ ? slots_[i].control.data() : nullptr;
    header.msg_controllen = wildcard_ ? kControlSize : 0;
  }
  const int got =
      recvmmsg(socket_.native_handle(), received_.data(), kBatch, MSG_DONTWAIT, nullptr);
  // An error here is a former reply's ICMP; it says nothing about what waits to be read.
  if (got <= 0) return got < 0 && errno != EAGAIN && errno != EWOULDBLOCK;

  const ZoneSnapshot& zones = worker_.zones();
  parse_batch(static_cast<std::size_t>(got), zones);
  std::size_t replies = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
    const msghdr& header = received_[i].msg_hdr;
    if ((header.msg_flags & MSG_TRUNC) != 0) {
      worker_.counters().dropped_invalid.add();
      continue;
    }
    Slot& slot = slots_[i];
    const std::span message{slot.query.data(), received_[i].msg_len};
    const Answer answer = worker_.respond(message, slot.parsed, slot.verdict, Transport::udp,
                                          octets_of(slot.from), zones, slot.reply);
    if (answer.kind == Answer::Kind::forward) {
      const auto* const control = static_cast<const char*>(header.msg_control);
      worker_.forward(
          message, slot.parsed, Transport::udp,
          Worker::UdpClient{
              this, slot.from, header.msg_namelen, {control, control + header.msg_controllen}});
    }
    if (answer.kind != Answer::Kind::reply) continue;
    slot.out = {slot.reply.data(), answer.size};
    msghdr& out = replies_[replies++].msg_hdr;
    out = header;  // back to where it came from, from where it came to
    out.msg_iov = &slot.out;
    out.msg_flags = 0;
    if (out.msg_controllen == 0) out.msg_control = nullptr;
  }
  send_batch(replies_.data(), replies);
  return static_cast<std::size_t>(got) == kBatch;
}

void UdpSocket::parse_batch(std::size_t count, const ZoneSnapshot& zones) {
  std::array<std::uint64_t, kBatch> keys;
  std::size_t known = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Slot& slot = slots_[i];
    slot.verdict = parse_query({slot.query.data(), received_[i].msg_len}, slot.parsed);
    if (slot.verdict != QueryVerdict::ok) continue;
    keys[known++] = zones.key(slot.parsed.name.data(), slot.parsed.name_size);
  }
  zones.expect({keys.data(), known});
}

void UdpSocket::send_batch(mmsghdr* messages, std::size_t count) {
  std::size_t done = 0;
  while (done < count) {
    const int sent = sendmmsg(socket_.native_handle(), messages + done,
                              static_cast<unsigned>(count - done), MSG_DONTWAIT);
    if (sent > 0) {
      done += static_cast<std::size_t>(sent);
      continue;
    }
    if (errno == EINTR) continue;
    // One client's trouble (no route, a full queue) is not the next one's.
    worker_.counters().dropped_send.add();
    ++done;
  }
}

void UdpSocket::queue(Worker::UdpClient&& to, std::vector<std::byte>&& reply) {
  waiting_.push_back({std::move(to), std::move(reply)});
  if (waiting_.size() == kBatch) flush();
}

void UdpSocket::flush() {
  if (waiting_.empty()) return;
  std::array<mmsghdr, kBatch> messages{};
  std::array<iovec, kBatch> io{};
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    auto& [to, reply] = waiting_[i];
    io[i] = {reply.data(), reply.size()};
    msghdr& header = messages[i].msg_hdr;
    header.msg_name = &to.from;
    header.msg_namelen = to.from_size;
    header.msg_iov = &io[i];
    header.msg_iovlen = 1;
    header.msg_control = to.control.empty() ? nullptr : to.control.data();
    header.msg_controllen = to.control.size();
  }
  send_batch(messages.data(), waiting_.size());
  for (Waiting& waiting : waiting_) worker_.recycle(std::move(waiting.reply));
  waiting_.clear();
}

}  // namespace muster::dns
