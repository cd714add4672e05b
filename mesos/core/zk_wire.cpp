#include "mesos/core/zk_wire.hpp"

#include <span>

#include "base/byte_reader.hpp"
#include "base/byte_writer.hpp"

namespace muster::mesos::zk {
namespace {

// ZooDefs.OpCode
constexpr std::int32_t kGetData = 4;
constexpr std::int32_t kGetChildren = 8;
constexpr std::int32_t kPing = 11;
constexpr std::int32_t kSetAuth = 100;
constexpr std::int32_t kCloseSession = -11;
constexpr std::size_t kPasswordSize = 16;

void put(ByteWriter& out, std::int32_t number) {
  out.u32(static_cast<std::uint32_t>(number));
}

/// A jute ustring or buffer: length and octets.
void put(ByteWriter& out, std::string_view text) {
  put(out, static_cast<std::int32_t>(text.size()));
  out.raw(std::as_bytes(std::span{text}));
}

std::string framed(const ByteWriter& content) {
  ByteWriter out;
  out.u32(static_cast<std::uint32_t>(content.size()));
  out.raw(content.bytes());
  return {reinterpret_cast<const char*>(out.bytes().data()), out.size()};
}

std::string request(std::int32_t xid, std::int32_t type) {
  ByteWriter out;
  put(out, xid);
  put(out, type);
  return framed(out);
}

std::string path_request(std::int32_t xid, std::int32_t type, std::string_view path, bool watch) {
  ByteWriter out;
  put(out, xid);
  put(out, type);
  put(out, path);
  out.u8(watch ? 1 : 0);
  return framed(out);
}

ByteReader reader(std::string_view text) {
  return ByteReader{std::as_bytes(std::span{text})};
}

std::int32_t get(ByteReader& in) {
  return static_cast<std::int32_t>(in.u32());
}

/// A jute ustring or buffer; length -1 is an absent one, and empty here.
std::string_view get_text(ByteReader& in) {
  const std::int32_t size = get(in);
  if (size == -1) return {};
  if (size < 0) {
    in.fail();
    return {};
  }
  const auto octets = in.take(static_cast<std::size_t>(size));
  return {reinterpret_cast<const char*>(octets.data()), octets.size()};
}

}  // namespace

std::string connect_request(Duration session_timeout) {
  ByteWriter out;
  put(out, 0);  // protocol version
  out.u64(0);   // last transaction seen
  put(out, static_cast<std::int32_t>(session_timeout.count()));
  out.u64(0);  // a new session
  put(out, std::string(kPasswordSize, '\0'));
  out.u8(0);  // a server that has lost its quorum is of no use: what it says may be old
  return framed(out);
}

std::string auth_request(std::string_view auth) {
  ByteWriter out;
  put(out, kAuthXid);
  put(out, kSetAuth);
  put(out, 0);
  put(out, std::string_view{"digest"});
  put(out, auth);
  return framed(out);
}

std::string children_request(std::int32_t xid, std::string_view path) {
  return path_request(xid, kGetChildren, path, true);
}
std::string data_request(std::int32_t xid, std::string_view path) {
  return path_request(xid, kGetData, path, false);
}
std::string ping_request() {
  return request(kPingXid, kPing);
}
std::string close_request(std::int32_t xid) {
  return request(xid, kCloseSession);
}

std::optional<Duration> parse_connected(std::string_view frame) {
  ByteReader in = reader(frame);
  get(in);  // protocol version
  const std::int32_t timeout = get(in);
  in.u64();  // session
  get_text(in);
  if (!in.ok() || timeout <= 0) return std::nullopt;
  return Duration{timeout};
}

std::optional<Reply> parse_reply(std::string_view frame) {
  ByteReader in = reader(frame);
  Reply reply;
  reply.xid = get(in);
  in.u64();  // transaction
  reply.error = get(in);
  if (!in.ok()) return std::nullopt;
  if (reply.error == 0) reply.body = frame.substr(frame.size() - in.remaining());
  return reply;
}

std::optional<std::vector<std::string>> parse_children(std::string_view body) {
  ByteReader in = reader(body);
  const std::int32_t count = get(in);
  std::vector<std::string> out;
  for (std::int32_t i = 0; i < count && in.ok(); ++i) {
    const std::string_view child = get_text(in);
    if (out.size() < kMaxChildren) out.emplace_back(child);
  }
  if (!in.ok()) return std::nullopt;
  return out;
}

std::optional<std::string_view> parse_data(std::string_view body) {
  ByteReader in = reader(body);
  const std::string_view data = get_text(in);
  if (!in.ok()) return std::nullopt;
  return data;
}

std::string describe(std::int32_t error) {
  if (error == kNoNode) return "there is no such node";
  if (error == kNoAuth) return "user and password, or their absence, give no right to read it";
  if (error == kAuthFailed) return "user and password are refused";
  return "error " + std::to_string(error);
}

}  // namespace muster::mesos::zk
