#include "gossip/core/shard_types.hpp"

#include "gossip/core/message.hpp"

namespace muster::gossip {

std::uint64_t record_hash(const std::string& key, const std::vector<std::byte>& value) noexcept {
  const std::string_view bytes{reinterpret_cast<const char*>(value.data()), value.size()};
  // Never 0, so that a record always shows in the sum.
  return hash_text(bytes, hash_text(key)) | 1;
}

void write_head(ByteWriter& out, const ShardHead& head) {
  out.varint(head.term.counter);
  write_uid(out, head.term.publisher);
  out.varint(head.version);
  out.u64(head.content);
}

ShardHead read_head(ByteReader& in) {
  ShardHead head;
  head.term.counter = in.varint();
  head.term.publisher = read_uid(in);
  head.version = in.varint();
  head.content = in.u64();
  // Near the end there would be no term to take over with, and no version to write.
  constexpr std::uint64_t kFar = std::uint64_t{1} << 62;
  if (head.term.counter > kFar || head.version > kFar) in.fail();
  return head;
}

void write_op(ByteWriter& out, const ShardOp& op) {
  out.text(op.key);
  out.varint(op.value ? op.value->size() + 1 : 0);
  if (op.value) out.raw(*op.value);
}

ShardOp read_op(ByteReader& in) {
  ShardOp op;
  op.key = in.text();
  if (op.key.empty() || op.key.size() > kMaxKey) in.fail();
  const std::uint64_t size = in.varint();
  if (size > kMaxValue + 1 || (size > 0 && size - 1 > in.remaining())) in.fail();
  if (size > 0 && in.ok()) {
    const auto value = in.take(static_cast<std::size_t>(size - 1));
    op.value.emplace(value.begin(), value.end());
  }
  return op;
}

}  // namespace muster::gossip
