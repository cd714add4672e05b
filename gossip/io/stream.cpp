#include "gossip/io/stream.hpp"

#include <array>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/system/errc.hpp>

#include "base/byte_reader.hpp"
#include "base/byte_writer.hpp"
#include "gossip/core/sync.hpp"

namespace muster::gossip {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr Duration kConnect{1'000};
constexpr std::size_t kMaxBox = kMaxChunk + 64;

ErrorCode bad_message() {
  return make_error_code(boost::system::errc::bad_message);
}

asio::awaitable<Result<Done>> do_connect(tcp::socket& socket, tcp::endpoint to) {
  ErrorCode error;
  co_await socket.async_connect(to, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return error;
  co_return Done{};
}

asio::awaitable<Result<Done>> do_write(tcp::socket& socket, std::vector<std::byte> bytes) {
  ErrorCode error;
  co_await asio::async_write(socket, asio::buffer(bytes),
                             asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return error;
  co_return Done{};
}

asio::awaitable<Result<std::vector<std::byte>>> do_read(tcp::socket& socket) {
  ErrorCode error;
  std::array<std::byte, 4> header{};
  co_await asio::async_read(socket, asio::buffer(header),
                            asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return error;
  ByteReader in{header};
  const std::uint32_t size = in.u32();
  if (size == 0 || size > kMaxBox) co_return bad_message();
  std::vector<std::byte> box(size);
  co_await asio::async_read(socket, asio::buffer(box),
                            asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return error;
  co_return std::move(box);
}

}  // namespace

std::vector<std::byte> SealedStream::associated(bool from_client, std::uint64_t counter) const {
  ByteWriter aad;
  aad.text("muster stream 1");
  aad.u8(from_client ? 1 : 0);
  aad.u64(client_nonce_);
  aad.u64(server_nonce_);
  aad.u64(counter);
  return std::move(aad).release();
}

asio::awaitable<Result<Done>> SealedStream::send_box(std::vector<std::byte> box) {
  ByteWriter out;
  out.u32(static_cast<std::uint32_t>(box.size()));
  out.raw(box);
  auto operation = do_write(socket_, std::move(out).release());
  co_return co_await with_timeout(std::move(operation), kPatience);
}

asio::awaitable<Result<std::vector<std::byte>>> SealedStream::receive_box() {
  auto operation = do_read(socket_);
  co_return co_await with_timeout(std::move(operation), kPatience);
}

asio::awaitable<Result<Done>> SealedStream::connect(tcp::endpoint to) {
  client_ = true;
  auto operation = do_connect(socket_, to);
  const auto connected = co_await with_timeout(std::move(operation), kConnect);
  if (!connected) co_return connected.error();
  const std::uint64_t nonce = sealer_.random();
  ByteWriter hello;
  hello.u64(nonce);
  std::vector<std::byte> box;
  sealer_.seal(associated(true, 0), hello.bytes(), box);
  const auto sent = co_await send_box(std::move(box));
  if (!sent) co_return sent.error();
  client_nonce_ = nonce;
  auto answer = co_await receive_box();
  if (!answer) co_return answer.error();
  std::vector<std::byte> plain;
  if (!sealer_.open(associated(false, 0), *answer, plain)) co_return bad_message();
  ByteReader in{plain};
  server_nonce_ = in.u64();
  if (!in.ok()) co_return bad_message();
  co_return Done{};
}

asio::awaitable<Result<Done>> SealedStream::accept() {
  auto hello = co_await receive_box();
  if (!hello) co_return hello.error();
  std::vector<std::byte> plain;
  if (!sealer_.open(associated(true, 0), *hello, plain)) co_return bad_message();
  ByteReader in{plain};
  client_nonce_ = in.u64();
  if (!in.ok()) co_return bad_message();
  const std::uint64_t nonce = sealer_.random();
  ByteWriter welcome;
  welcome.u64(nonce);
  std::vector<std::byte> box;
  sealer_.seal(associated(false, 0), welcome.bytes(), box);
  server_nonce_ = nonce;
  co_return co_await send_box(std::move(box));
}

asio::awaitable<Result<Done>> SealedStream::write(std::vector<std::byte> frame) {
  std::vector<std::byte> box;
  sealer_.seal(associated(client_, ++sent_), frame, box);
  co_return co_await send_box(std::move(box));
}

asio::awaitable<Result<std::vector<std::byte>>> SealedStream::read() {
  auto box = co_await receive_box();
  if (!box) co_return box.error();
  std::vector<std::byte> plain;
  if (!sealer_.open(associated(!client_, ++received_), *box, plain)) co_return bad_message();
  co_return std::move(plain);
}

void SealedStream::close() noexcept {
  ErrorCode ignored;
  socket_.close(ignored);
}

}  // namespace muster::gossip
