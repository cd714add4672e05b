#include "cluster/core/records.hpp"

#include <algorithm>
#include <utility>

namespace muster::cluster {
namespace {

using Bytes = std::span<const std::byte>;
using Failure = std::optional<DecodeError>;

// Field numbers, per record. A number never changes its meaning and is never used again.
namespace task_field {
enum : std::uint64_t { name = 1, discovery_name, state, health, address, host_ports, port, end };
}
namespace port_field {
enum : std::uint64_t { name = 1, protocol, number, not_discovery, container_port, endpoint, vip };
}
namespace vip_label_field {
enum : std::uint64_t { address = 1, name, port, protocol };
}
namespace agent_field {
enum : std::uint64_t { hostname = 1, address, port };
}
namespace framework_field {
enum : std::uint64_t { name = 1, hostname, endpoint };
}
namespace master_field {
enum : std::uint64_t { hostname = 1, leading };
}
namespace vip_field {
enum : std::uint64_t { v4 = 1, v6, term, sequence, since_seconds, unused_since_seconds };
}

constexpr std::uint64_t bit(std::uint64_t number) {
  return std::uint64_t{1} << number;
}

// ---- writing -------------------------------------------------------------------------------

/// A field is its number, its length and its octets, whatever its type: a reader that does not
/// know the number can still step over it.
class FieldWriter {
 public:
  void raw(std::uint64_t number, Bytes value) {
    out_.varint(number);
    out_.varint(value.size());
    out_.raw(value);
  }
  /// Left out when empty.
  void text(std::uint64_t number, std::string_view value) {
    if (value.size() > kMaxTextBytes) failure_ = DecodeError::too_long;
    if (!value.empty()) raw(number, std::as_bytes(std::span{value}));
  }
  void u8(std::uint64_t number, std::uint8_t value) {
    const std::byte octet{value};
    raw(number, {&octet, 1});
  }
  void u64(std::uint64_t number, std::uint64_t value) {
    ByteWriter octets;
    octets.u64(value);
    raw(number, octets.bytes());
  }
  void port(std::uint64_t number, Port value) {
    ByteWriter octets;
    octets.u16(value.number());
    raw(number, octets.bytes());
  }
  void address(std::uint64_t number, const IpAddress& value) {
    raw(number, std::as_bytes(value.octets()));
  }
  void endpoint(std::uint64_t number, const Endpoint& value) {
    ByteWriter octets;
    octets.raw(std::as_bytes(value.address.octets()));
    octets.u16(value.port.number());
    raw(number, octets.bytes());
  }
  template <class List>
  void limit(const List& list, std::size_t most) {
    if (list.size() > most) failure_ = DecodeError::too_long;
  }
  void nested(std::uint64_t number, const FieldWriter& inner) {
    if (inner.failure_) failure_ = inner.failure_;
    raw(number, inner.out_.bytes());
  }
  Result<std::vector<std::byte>, DecodeError> finish() && {
    if (failure_) return *failure_;
    ByteWriter record;
    record.u8(kRecordVersion);
    record.raw(out_.bytes());
    if (record.size() > kMaxRecordBytes) return DecodeError::too_long;
    return std::move(record).release();
  }
  void fail(DecodeError why) { failure_ = why; }

 private:
  ByteWriter out_;
  Failure failure_;
};

bool valid_id(std::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes && id.find('\0') == std::string_view::npos;
}

FieldWriter vip_label_fields(const VipLabel& label) {
  FieldWriter out;
  if (const auto* address = std::get_if<IpAddress>(&label.host)) {
    out.address(vip_label_field::address, *address);
  } else {
    const auto& name = std::get<VipName>(label.host).str();
    if (!valid_id(name)) out.fail(DecodeError::bad_value);
    out.text(vip_label_field::name, name);
  }
  out.port(vip_label_field::port, label.port);
  if (label.protocol != Protocol::tcp) {
    out.u8(vip_label_field::protocol, static_cast<std::uint8_t>(label.protocol));
  }
  return out;
}

FieldWriter port_fields(const TaskPort& port) {
  FieldWriter out;
  out.text(port_field::name, port.name);
  out.text(port_field::protocol, port.protocol);
  out.port(port_field::number, port.number);
  if (!port.discovery) out.u8(port_field::not_discovery, 1);
  if (port.container_port) out.port(port_field::container_port, *port.container_port);
  out.limit(port.endpoints, kMaxPerPort);
  for (const Endpoint& endpoint : port.endpoints) out.endpoint(port_field::endpoint, endpoint);
  out.limit(port.vips, kMaxPerPort);
  for (const VipLabel& label : port.vips) out.nested(port_field::vip, vip_label_fields(label));
  return out;
}

// ---- reading -------------------------------------------------------------------------------

/// Calls `take(number, octets)` for each field; its error ends the reading. Fields ascend;
/// `lists` has a bit for each number that may come more than once. What is beyond the fields this
/// version knows (`known` the largest) is stepped over.
template <class Take>
Failure read_fields(Bytes bytes, std::uint64_t known, std::uint64_t lists, Take take) {
  ByteReader reader{bytes};
  std::uint64_t last = 0;
  while (reader.remaining() > 0) {
    const std::uint64_t number = reader.varint();
    const std::uint64_t size = reader.varint();
    if (!reader.ok() || size > reader.remaining()) return DecodeError::truncated;
    const Bytes value = reader.take(static_cast<std::size_t>(size));
    if (number < last || number == 0) return DecodeError::bad_order;
    if (number <= known) {
      if (number == last && (lists & bit(number)) == 0) return DecodeError::bad_order;
      if (const Failure failure = take(number, value)) return failure;
    }
    last = number;
  }
  return std::nullopt;
}

Result<Bytes, DecodeError> open_record(Bytes bytes) {
  if (bytes.size() > kMaxRecordBytes) return DecodeError::too_long;
  if (bytes.empty()) return DecodeError::truncated;
  if (std::to_integer<std::uint8_t>(bytes[0]) != kRecordVersion) {
    return DecodeError::unsupported_version;
  }
  return bytes.subspan(1);
}

Failure read_text(Bytes bytes, std::string& text) {
  if (bytes.size() > kMaxTextBytes) return DecodeError::too_long;
  text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return std::nullopt;
}

std::optional<std::uint8_t> read_u8(Bytes bytes) {
  if (bytes.size() != 1) return std::nullopt;
  return std::to_integer<std::uint8_t>(bytes[0]);
}

std::optional<std::uint64_t> read_u64(Bytes bytes) {
  if (bytes.size() != 8) return std::nullopt;
  return ByteReader{bytes}.u64();
}

std::optional<Port> read_port(Bytes bytes) {
  if (bytes.size() != 2) return std::nullopt;
  return Port::from(ByteReader{bytes}.u16());
}

template <class Octets>
IpAddress address_from(Bytes bytes) {
  Octets octets{};
  for (std::size_t i = 0; i < octets.size(); ++i) {
    octets[i] = std::to_integer<std::uint8_t>(bytes[i]);
  }
  return IpAddress{octets};
}

std::optional<IpAddress> read_address(Bytes bytes) {
  if (bytes.size() == 4) return address_from<IpAddress::V4>(bytes);
  if (bytes.size() == 16) return address_from<IpAddress::V6>(bytes);
  return std::nullopt;
}

std::optional<Endpoint> read_endpoint(Bytes bytes) {
  if (bytes.size() < 2) return std::nullopt;
  const auto address = read_address(bytes.first(bytes.size() - 2));
  const auto port = read_port(bytes.last(2));
  if (!address || !port) return std::nullopt;
  return Endpoint{*address, *port};
}

/// For a value that is there or wrong.
template <class T, class Target>
Failure store(const std::optional<T>& value, Target& target) {
  if (!value) return DecodeError::bad_value;
  target = *value;
  return std::nullopt;
}

template <class T>
Failure append(const std::optional<T>& value, std::vector<T>& list, std::size_t most) {
  if (!value) return DecodeError::bad_value;
  if (list.size() == most) return DecodeError::too_long;
  list.push_back(*value);
  return std::nullopt;
}

template <class Enum>
Failure store_enum(Bytes bytes, Enum last, Enum& target) {
  const auto value = read_u8(bytes);
  if (!value || *value > static_cast<std::uint8_t>(last)) return DecodeError::bad_value;
  target = static_cast<Enum>(*value);
  return std::nullopt;
}

Failure read_host_ports(Bytes bytes, std::vector<Port>& ports) {
  if (bytes.size() % 2 != 0) return DecodeError::bad_value;
  if (bytes.size() / 2 > kMaxHostPorts) return DecodeError::too_long;
  ports.reserve(bytes.size() / 2);
  for (; !bytes.empty(); bytes = bytes.subspan(2)) {
    const auto port = read_port(bytes.first(2));
    if (!port) return DecodeError::bad_value;
    ports.push_back(*port);
  }
  return std::nullopt;
}

Failure read_vip_label(Bytes bytes, std::vector<VipLabel>& labels) {
  if (labels.size() == kMaxPerPort) return DecodeError::too_long;
  std::optional<IpAddress> address;
  std::string name;
  std::optional<Port> port;
  Protocol protocol = Protocol::tcp;
  const auto failure = read_fields(bytes, vip_label_field::protocol, 0,
                                   [&](std::uint64_t number, Bytes value) -> Failure {
                                     if (number == vip_label_field::address)
                                       return store(read_address(value), address);
                                     if (number == vip_label_field::name)
                                       return read_text(value, name);
                                     if (number == vip_label_field::port)
                                       return store(read_port(value), port);
                                     return store_enum(value, Protocol::udp, protocol);
                                   });
  if (failure) return failure;
  if (!port || (!address && name.empty())) return DecodeError::missing_field;
  if (address && !name.empty()) return DecodeError::bad_value;
  if (!address && !valid_id(name)) return DecodeError::bad_value;
  if (address) {
    labels.push_back({*address, *port, protocol});
  } else {
    labels.push_back({VipName{std::move(name)}, *port, protocol});
  }
  return std::nullopt;
}

Failure read_task_port(Bytes bytes, std::vector<TaskPort>& ports) {
  if (ports.size() == kMaxPorts) return DecodeError::too_long;
  std::optional<Port> declared;
  std::uint8_t not_discovery = 0;
  TaskPort port{.name = {},
                .protocol = {},
                .number = *Port::from(1),
                .container_port = {},
                .endpoints = {},
                .vips = {}};
  const auto failure =
      read_fields(bytes, port_field::vip, bit(port_field::endpoint) | bit(port_field::vip),
                  [&](std::uint64_t number, Bytes value) -> Failure {
                    switch (number) {
                      case port_field::name:
                        return read_text(value, port.name);
                      case port_field::protocol:
                        return read_text(value, port.protocol);
                      case port_field::number:
                        return store(read_port(value), declared);
                      case port_field::not_discovery:
                        return store(read_u8(value), not_discovery);
                      case port_field::container_port:
                        return store(read_port(value), port.container_port);
                      case port_field::endpoint:
                        return append(read_endpoint(value), port.endpoints, kMaxPerPort);
                      default:
                        return read_vip_label(value, port.vips);
                    }
                  });
  if (failure) return failure;
  if (!declared) return DecodeError::missing_field;
  if (not_discovery > 1) return DecodeError::bad_value;
  port.number = *declared;
  port.discovery = not_discovery == 0;
  ports.push_back(std::move(port));
  return std::nullopt;
}

Failure take_task_field(Task& task, std::uint64_t number, Bytes value) {
  switch (number) {
    case task_field::name:
      return read_text(value, task.name);
    case task_field::discovery_name:
      return read_text(value, task.discovery_name);
    case task_field::state:
      return store_enum(value, TaskState::unknown, task.state);
    case task_field::health:
      return store_enum(value, Health::unhealthy, task.health);
    case task_field::address:
      return append(read_address(value), task.addresses, kMaxAddresses);
    case task_field::host_ports:
      return read_host_ports(value, task.host_ports);
    default:
      return read_task_port(value, task.ports);
  }
}

}  // namespace

std::string_view to_string(DecodeError error) noexcept {
  switch (error) {
    case DecodeError::truncated:
      return "it ends too early";
    case DecodeError::trailing_bytes:
      return "there is more than expected";
    case DecodeError::unsupported_version:
      return "it is of a version this muster cannot read";
    case DecodeError::bad_kind:
      return "its kind does not belong there";
    case DecodeError::bad_key:
      return "its key is not valid";
    case DecodeError::bad_order:
      return "its fields are out of order";
    case DecodeError::missing_field:
      return "a field is missing";
    case DecodeError::bad_value:
      return "a field has an impossible value";
    case DecodeError::too_long:
      return "it is longer than allowed";
    case DecodeError::bad_checksum:
      return "its checksum is wrong";
  }
  return "it is wrong";
}

ShardId shard_of(const Task& task) {
  return {ShardKind::agent, task.agent_id};
}

ShardId shard_of(const Agent& agent) {
  return {ShardKind::agent, agent.id};
}

RecordKey record_key(const TaskKey& key) {
  std::string id;
  id.reserve(key.framework.str().size() + 1 + key.task.str().size());
  id.append(key.framework.str()).append(1, '\0').append(key.task.str());
  return {RecordKind::task, std::move(id)};
}

RecordKey record_key(const AgentId& id) {
  return {RecordKind::agent, id.str()};
}

RecordKey record_key(const FrameworkId& id) {
  return {RecordKind::framework, id.str()};
}

RecordKey record_key(const Endpoint& master) {
  return {RecordKind::master, to_string(master)};
}

RecordKey record_key(const VipName& name) {
  return {RecordKind::vip, name.str()};
}

std::optional<TaskKey> parse_task_key(const RecordKey& key) {
  const std::size_t nul = key.id.find('\0');
  if (key.kind != RecordKind::task || nul == std::string::npos) return std::nullopt;
  TaskKey parsed{FrameworkId{key.id.substr(0, nul)}, TaskId{key.id.substr(nul + 1)}};
  if (!valid_id(parsed.framework.str()) || !valid_id(parsed.task.str())) return std::nullopt;
  return parsed;
}

Result<std::vector<std::byte>, DecodeError> encode(const Task& task) {
  if (!valid_id(task.id.str()) || !valid_id(task.framework_id.str()) ||
      !valid_id(task.agent_id.str())) {
    return DecodeError::bad_key;
  }
  FieldWriter out;
  out.text(task_field::name, task.name);
  out.text(task_field::discovery_name, task.discovery_name);
  if (task.state != TaskState::staging) {
    out.u8(task_field::state, static_cast<std::uint8_t>(task.state));
  }
  if (task.health != Health::unchecked) {
    out.u8(task_field::health, static_cast<std::uint8_t>(task.health));
  }
  out.limit(task.addresses, kMaxAddresses);
  for (const IpAddress& address : task.addresses) out.address(task_field::address, address);
  out.limit(task.host_ports, kMaxHostPorts);
  if (!task.host_ports.empty()) {
    ByteWriter ports;
    for (const Port port : task.host_ports) ports.u16(port.number());
    out.raw(task_field::host_ports, ports.bytes());
  }
  out.limit(task.ports, kMaxPorts);
  for (const TaskPort& port : task.ports) out.nested(task_field::port, port_fields(port));
  return std::move(out).finish();
}

Result<std::vector<std::byte>, DecodeError> encode(const Agent& agent) {
  if (!valid_id(agent.id.str())) return DecodeError::bad_key;
  FieldWriter out;
  out.text(agent_field::hostname, agent.hostname);
  out.limit(agent.addresses, kMaxAddresses);
  for (const IpAddress& address : agent.addresses) out.address(agent_field::address, address);
  if (agent.port) out.port(agent_field::port, *agent.port);
  return std::move(out).finish();
}

Result<std::vector<std::byte>, DecodeError> encode(const Framework& framework) {
  if (!valid_id(framework.id.str())) return DecodeError::bad_key;
  FieldWriter out;
  out.text(framework_field::name, framework.name);
  out.text(framework_field::hostname, framework.hostname);
  if (framework.endpoint) out.endpoint(framework_field::endpoint, *framework.endpoint);
  return std::move(out).finish();
}

Result<std::vector<std::byte>, DecodeError> encode(const Master& master) {
  FieldWriter out;
  out.text(master_field::hostname, master.hostname);
  if (master.leading) out.u8(master_field::leading, 1);
  return std::move(out).finish();
}

Result<std::vector<std::byte>, DecodeError> encode(const VipRecord& record) {
  if (!valid_id(record.allocation.name.str())) return DecodeError::bad_key;
  FieldWriter out;
  const auto& [name, v4, v6] = record.allocation;
  if ((v4 && !v4->is_v4()) || (v6 && !v6->is_v6())) return DecodeError::bad_value;
  if (v4) out.address(vip_field::v4, *v4);
  if (v6) out.address(vip_field::v6, *v6);
  out.u64(vip_field::term, record.term);
  out.u64(vip_field::sequence, record.sequence);
  out.u64(vip_field::since_seconds, static_cast<std::uint64_t>(record.since_seconds));
  if (record.unused_since_seconds) {
    out.u64(vip_field::unused_since_seconds,
            static_cast<std::uint64_t>(*record.unused_since_seconds));
  }
  return std::move(out).finish();
}

Result<Task, DecodeError> decode_task(const ShardId& shard, const RecordKey& key, Bytes bytes) {
  if (shard.kind != ShardKind::agent || key.kind != RecordKind::task) return DecodeError::bad_kind;
  auto parsed = parse_task_key(key);
  if (!parsed || !valid_id(shard.agent.str())) return DecodeError::bad_key;
  const auto fields = open_record(bytes);
  if (!fields) return fields.error();
  Task task;
  task.id = std::move(parsed->task);
  task.framework_id = std::move(parsed->framework);
  task.agent_id = shard.agent;
  const auto failure = read_fields(
      *fields, task_field::end - 1, bit(task_field::address) | bit(task_field::port),
      [&task](std::uint64_t number, Bytes value) { return take_task_field(task, number, value); });
  if (failure) return *failure;
  return task;
}

Result<Agent, DecodeError> decode_agent(const RecordKey& key, Bytes bytes) {
  if (key.kind != RecordKind::agent) return DecodeError::bad_kind;
  if (!valid_id(key.id)) return DecodeError::bad_key;
  const auto fields = open_record(bytes);
  if (!fields) return fields.error();
  Agent agent{AgentId{key.id}, {}, {}, {}};
  const auto failure =
      read_fields(*fields, agent_field::port, bit(agent_field::address),
                  [&agent](std::uint64_t number, Bytes value) -> Failure {
                    if (number == agent_field::hostname) return read_text(value, agent.hostname);
                    if (number == agent_field::port) return store(read_port(value), agent.port);
                    return append(read_address(value), agent.addresses, kMaxAddresses);
                  });
  if (failure) return *failure;
  return agent;
}

Result<Framework, DecodeError> decode_framework(const RecordKey& key, Bytes bytes) {
  if (key.kind != RecordKind::framework) return DecodeError::bad_kind;
  if (!valid_id(key.id)) return DecodeError::bad_key;
  const auto fields = open_record(bytes);
  if (!fields) return fields.error();
  Framework framework{FrameworkId{key.id}, {}, {}, {}};
  const auto failure = read_fields(*fields, framework_field::endpoint, 0,
                                   [&framework](std::uint64_t number, Bytes value) -> Failure {
                                     if (number == framework_field::name)
                                       return read_text(value, framework.name);
                                     if (number == framework_field::hostname)
                                       return read_text(value, framework.hostname);
                                     return store(read_endpoint(value), framework.endpoint);
                                   });
  if (failure) return *failure;
  return framework;
}

Result<Master, DecodeError> decode_master(const RecordKey& key, Bytes bytes) {
  if (key.kind != RecordKind::master) return DecodeError::bad_kind;
  const auto endpoint = Endpoint::parse(key.id);
  // The canonical text only, so that one master cannot stand under two keys.
  if (!endpoint || to_string(*endpoint) != key.id) return DecodeError::bad_key;
  const auto fields = open_record(bytes);
  if (!fields) return fields.error();
  Master master{*endpoint, {}, false};
  std::uint8_t leading = 0;
  const auto failure =
      read_fields(*fields, master_field::leading, 0, [&](std::uint64_t number, Bytes value) {
        if (number == master_field::hostname) return read_text(value, master.hostname);
        return store(read_u8(value), leading);
      });
  if (failure) return *failure;
  if (leading > 1) return DecodeError::bad_value;
  master.leading = leading == 1;
  return master;
}

Result<VipRecord, DecodeError> decode_vip(const RecordKey& key, Bytes bytes) {
  if (key.kind != RecordKind::vip) return DecodeError::bad_kind;
  if (!valid_id(key.id)) return DecodeError::bad_key;
  const auto fields = open_record(bytes);
  if (!fields) return fields.error();
  VipRecord record;
  record.allocation.name = VipName{key.id};
  std::uint64_t since = 0;
  std::optional<std::uint64_t> unused_since;
  const auto failure =
      read_fields(*fields, vip_field::unused_since_seconds, 0,
                  [&](std::uint64_t number, Bytes value) -> Failure {
                    switch (number) {
                      case vip_field::v4:
                        return value.size() == 4 ? store(read_address(value), record.allocation.v4)
                                                 : DecodeError::bad_value;
                      case vip_field::v6:
                        return value.size() == 16 ? store(read_address(value), record.allocation.v6)
                                                  : DecodeError::bad_value;
                      case vip_field::term:
                        return store(read_u64(value), record.term);
                      case vip_field::sequence:
                        return store(read_u64(value), record.sequence);
                      case vip_field::since_seconds:
                        return store(read_u64(value), since);
                      default:
                        return store(read_u64(value), unused_since);
                    }
                  });
  if (failure) return *failure;
  record.since_seconds = static_cast<std::int64_t>(since);
  if (unused_since) record.unused_since_seconds = static_cast<std::int64_t>(*unused_since);
  return record;
}

void encode(ByteWriter& out, const RecordWrite& write) {
  out.u8(static_cast<std::uint8_t>(write.shard.kind));
  if (write.shard.kind == ShardKind::agent) out.text(write.shard.agent.str());
  out.u8(static_cast<std::uint8_t>(write.key.kind));
  out.text(write.key.id);
  out.u8(write.value ? 1 : 0);
  if (!write.value) return;
  out.varint(write.value->size());
  out.raw(*write.value);
}

Result<RecordWrite, DecodeError> decode_write(ByteReader& in) {
  RecordWrite write;
  const std::uint8_t shard = in.u8();
  if (in.ok() && (shard < 1 || shard > static_cast<std::uint8_t>(ShardKind::agent))) {
    return DecodeError::bad_kind;
  }
  write.shard.kind = static_cast<ShardKind>(shard);
  if (write.shard.kind == ShardKind::agent) {
    const std::string_view agent = in.text();
    if (in.ok() && !valid_id(agent)) return DecodeError::bad_key;
    write.shard.agent = AgentId{std::string{agent}};
  }
  write.key.kind = static_cast<RecordKind>(in.u8());
  const std::string_view id = in.text();
  if (id.size() > kMaxKeyBytes) return DecodeError::bad_key;
  write.key.id = std::string{id};
  const std::uint8_t has_value = in.u8();
  if (has_value > 1) return DecodeError::bad_value;
  if (has_value == 1) {
    const std::uint64_t size = in.varint();
    if (in.ok() && size > kMaxRecordBytes) return DecodeError::too_long;
    const Bytes value = in.take(static_cast<std::size_t>(size));
    write.value.emplace(value.begin(), value.end());
  }
  if (!in.ok()) return DecodeError::truncated;
  return write;
}

std::uint64_t content_hash(Bytes bytes) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const std::byte octet : bytes) {
    hash ^= std::to_integer<std::uint64_t>(octet);
    hash *= 0x100000001B3ULL;
  }
  return hash;
}

}  // namespace muster::cluster
