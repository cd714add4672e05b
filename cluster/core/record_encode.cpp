#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/byte_writer.hpp"
#include "cluster/core/record_fields.hpp"
#include "cluster/core/records.hpp"

namespace muster::cluster {
namespace {

/// A field is its number, its length and its octets, whatever its type: a reader that does not
/// know the number can still step over it.
class FieldWriter {
 public:
  void raw(std::uint64_t number, std::span<const std::byte> value) {
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
  std::optional<DecodeError> failure_;
};

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
  const VipPolicy& policy = label.policy;
  if (policy.spread != VipPolicy::Spread::unset) {
    out.u8(vip_label_field::spread, static_cast<std::uint8_t>(policy.spread));
  }
  if (policy.locality != VipPolicy::Locality::none) {
    out.u8(vip_label_field::locality, static_cast<std::uint8_t>(policy.locality));
  }
  if (policy.affinity_seconds > 0) out.u64(vip_label_field::affinity, policy.affinity_seconds);
  if (!policy.eject) out.u8(vip_label_field::no_ejection, 1);
  if (policy.slow_start_seconds > 0) {
    out.u64(vip_label_field::slow_start, policy.slow_start_seconds);
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

}  // namespace

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
  out.text(agent_field::zone, agent.zone);
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
  out.limit(record.former, kMaxFormerAddresses);
  for (const IpAddress& address : record.former) out.address(vip_field::former, address);
  if (!record.former.empty()) {
    out.u64(vip_field::former_until_seconds,
            static_cast<std::uint64_t>(record.former_until_seconds));
  }
  return std::move(out).finish();
}

Result<std::vector<std::byte>, DecodeError> encode(const CompleteRecord& record) {
  FieldWriter out;
  out.u64(complete_field::agents, record.agents);
  if (record.speakers > 0) out.u64(complete_field::speakers, record.speakers);
  return std::move(out).finish();
}

Result<std::vector<std::byte>, DecodeError> encode(const SpeakerRecord& record) {
  FieldWriter out;
  out.text(speaker_field::node, record.node);
  if (record.resigned) out.u8(speaker_field::resigned, 1);
  return std::move(out).finish();
}

}  // namespace muster::cluster
