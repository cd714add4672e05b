# cmake -DOUT=x.cpp -DIN=x.o -P EmbedBytes.cmake: a file's octets as bpf::object_bytes().
file(READ ${IN} octets HEX)
string(REGEX REPLACE "(................................)" "\\1\n" octets "${octets}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," octets "${octets}")
file(WRITE ${OUT} "// Made from ${IN}; do not edit.
#include \"lb/io/bpf_object.hpp\"

namespace muster::lb::bpf {
namespace {
// libbpf reads it as an ELF file, in place.
alignas(16) constexpr std::uint8_t kObject[] = {
${octets}};
}  // namespace
std::span<const std::uint8_t> object_bytes() noexcept {
  return kObject;
}
}  // namespace muster::lb::bpf
")
