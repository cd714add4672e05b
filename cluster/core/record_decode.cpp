#include <span>
#include <string>
#include <utility>

#include "base/byte_reader.hpp"
#include "cluster/core/record_fields.hpp"
#include "cluster/core/records.hpp"

namespace muster::cluster {
namespace {

using Bytes = std::span<const std::byte>;
using Failure = std::optional<DecodeError>;

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

/// A choice that a later version may have more of: what is not known here counts as not said.
template <class Enum>
Failure read_choice(Bytes bytes, Enum last, Enum& target) {
  const auto value = read_u8(bytes);
  if (!value) return DecodeError::bad_value;
  target = *value <= static_cast<std::uint8_t>(last) ? static_cast<Enum>(*value) : Enum{};
  return std::nullopt;
}

Failure read_vip_policy(std::uint64_t number, Bytes value, VipPolicy& policy) {
  if (number == vip_label_field::spread) {
    return read_choice(value, VipPolicy::Spread::source_hash, policy.spread);
  }
  if (number == vip_label_field::locality) {
    return read_choice(value, VipPolicy::Locality::node, policy.locality);
  }
  if (number == vip_label_field::affinity) {
    const auto seconds = read_u64(value);
    if (!seconds || *seconds > VipPolicy::kMaxAffinitySeconds) return DecodeError::bad_value;
    policy.affinity_seconds = static_cast<std::uint32_t>(*seconds);
    return std::nullopt;
  }
  if (number == vip_label_field::slow_start) {
    const auto seconds = read_u64(value);
    if (!seconds || *seconds > VipPolicy::kMaxSlowStartSeconds) return DecodeError::bad_value;
    policy.slow_start_seconds = static_cast<std::uint32_t>(*seconds);
    return std::nullopt;
  }
  const auto off = read_u8(value);
  if (!off || *off > 1) return DecodeError::bad_value;
  policy.eject = *off == 0;
  return std::nullopt;
}

Failure read_vip_label(Bytes bytes, std::vector<VipLabel>& labels) {
  if (labels.size() == kMaxPerPort) return DecodeError::too_long;
  std::optional<IpAddress> address;
  std::string name;
  std::optional<Port> port;
  Protocol protocol = Protocol::tcp;
  VipPolicy policy;
  const auto failure = read_fields(bytes, vip_label_field::slow_start, 0,
                                   [&](std::uint64_t number, Bytes value) -> Failure {
                                     if (number == vip_label_field::address)
                                       return store(read_address(value), address);
                                     if (number == vip_label_field::name)
                                       return read_text(value, name);
                                     if (number == vip_label_field::port)
                                       return store(read_port(value), port);
                                     if (number == vip_label_field::protocol)
                                       return store_enum(value, Protocol::udp, protocol);
                                     return read_vip_policy(number, value, policy);
                                   });
  if (failure) return failure;
  if (!port || (!address && name.empty())) return DecodeError::missing_field;
  if (address && !name.empty()) return DecodeError::bad_value;
  if (!address && !valid_id(name)) return DecodeError::bad_value;
  if (address) {
    labels.push_back({*address, *port, protocol, policy});
  } else {
    labels.push_back({VipName{std::move(name)}, *port, protocol, policy});
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

Result<Task, DecodeError> decode_task(const ShardId& shard, const RecordKey& key, Bytes bytes) {
  const bool from_agent = shard.kind == ShardKind::agent_tasks;
  if ((shard.kind != ShardKind::agent && !from_agent) || key.kind != RecordKind::task) {
    return DecodeError::bad_kind;
  }
  auto parsed = parse_task_key(key);
  if (!parsed || !valid_id(shard.agent.str())) return DecodeError::bad_key;
  const auto fields = open_record(bytes);
  if (!fields) return fields.error();
  Task task;
  task.id = std::move(parsed->task);
  task.framework_id = std::move(parsed->framework);
  task.agent_id = shard.agent;
  task.from_agent = from_agent;
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
  Agent agent{AgentId{key.id}, {}, {}, {}, {}};
  const auto failure =
      read_fields(*fields, agent_field::zone, bit(agent_field::address),
                  [&agent](std::uint64_t number, Bytes value) -> Failure {
                    if (number == agent_field::hostname) return read_text(value, agent.hostname);
                    if (number == agent_field::port) return store(read_port(value), agent.port);
                    if (number == agent_field::zone) return read_text(value, agent.zone);
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
  std::uint64_t former_until = 0;
  const auto failure =
      read_fields(*fields, vip_field::former_until_seconds, bit(vip_field::former),
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
                      case vip_field::unused_since_seconds:
                        return store(read_u64(value), unused_since);
                      case vip_field::former:
                        return append(read_address(value), record.former, kMaxFormerAddresses);
                      default:
                        return store(read_u64(value), former_until);
                    }
                  });
  if (failure) return *failure;
  record.former_until_seconds = static_cast<std::int64_t>(former_until);
  record.since_seconds = static_cast<std::int64_t>(since);
  if (unused_since) record.unused_since_seconds = static_cast<std::int64_t>(*unused_since);
  return record;
}

Result<CompleteRecord, DecodeError> decode_complete(const RecordKey& key, Bytes bytes) {
  if (key != complete_key()) return DecodeError::bad_key;
  const auto fields = open_record(bytes);
  if (!fields) return fields.error();
  CompleteRecord record;
  const auto failure =
      read_fields(*fields, complete_field::speakers, 0, [&](std::uint64_t number, Bytes value) {
        return store(read_u64(value),
                     number == complete_field::agents ? record.agents : record.speakers);
      });
  if (failure) return *failure;
  return record;
}

Result<SpeakerRecord, DecodeError> decode_speaker(const RecordKey& key, Bytes bytes) {
  if (key != speaker_key()) return DecodeError::bad_key;
  const auto fields = open_record(bytes);
  if (!fields) return fields.error();
  SpeakerRecord record;
  std::uint8_t resigned = 0;
  const auto failure = read_fields(*fields, speaker_field::resigned, 0,
                                   [&](std::uint64_t number, Bytes value) -> Failure {
                                     if (number == speaker_field::node)
                                       return read_text(value, record.node);
                                     return store(read_u8(value), resigned);
                                   });
  if (failure) return *failure;
  if (resigned > 1) return DecodeError::bad_value;
  record.resigned = resigned == 1;
  return record;
}

}  // namespace muster::cluster
