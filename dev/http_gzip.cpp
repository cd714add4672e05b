#include "dev/http_gzip.hpp"

#include <cstdint>

#include <boost/beast/zlib/deflate_stream.hpp>
#include <boost/crc.hpp>

#include "base/assert.hpp"

namespace muster::dev {

namespace {

void put_u32(std::string& out, std::uint32_t value) {  // RFC 1952 §2.1: least octet first
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>((value >> shift) & 0xff);
}

}  // namespace

std::string gzip(std::string_view body) {
  namespace zlib = boost::beast::zlib;
  std::string out{"\x1f\x8b\x08\0\0\0\0\0\0\x03", 10};
  zlib::deflate_stream deflate;
  std::string packed(deflate.upper_bound(body.size()) + 64, '\0');
  zlib::z_params params;
  params.next_in = body.data();
  params.avail_in = body.size();
  params.next_out = packed.data();
  params.avail_out = packed.size();
  boost::beast::error_code error;
  deflate.write(params, zlib::Flush::finish, error);
  MUSTER_ASSERT(error == zlib::error::end_of_stream);  // upper_bound() is an upper bound
  out.append(packed, 0, params.total_out);
  boost::crc_32_type crc;
  crc.process_bytes(body.data(), body.size());
  put_u32(out, crc.checksum());
  put_u32(out, static_cast<std::uint32_t>(body.size()));
  return out;
}

}  // namespace muster::dev
