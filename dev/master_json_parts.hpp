#pragma once

#include <string>
#include <vector>

#include "dev/json_writer.hpp"
#include "dev/master_model.hpp"
#include "dev/master_state.hpp"

/// The pieces /state and the operator API share, and the two ways each writes resources.
namespace muster::dev {

/// What is allocated to some tasks together.
struct Allocation {
  double cpus = 0;
  double mem = 0;
  double disk = 0;
  std::vector<std::uint16_t> ports;

  void add(const MesosTask&);
  bool empty() const noexcept { return cpus == 0 && mem == 0 && disk == 0 && ports.empty(); }
};

struct PortRange {
  std::uint16_t begin;
  std::uint16_t end;
};
/// Sorted, neighbours merged.
std::vector<PortRange> merged(std::vector<std::uint16_t> ports);

/// {"disk":..,"mem":..,"gpus":..,"cpus":..,"ports":"[31000-31001, 31005-31005]"}
void v0_resources(JsonWriter&, std::string_view key, const Allocation&,
                  const std::vector<PortRange>& ports);

/// What follows `"role":"*"` in a v1 resource, and whether that is there.
enum class ResourceForm : std::uint8_t {
  offered,    // agent_info.resources: neither
  total,      // "role"
  task,       // "allocation_info"
  allocated,  // both
};
void v1_scalar(JsonWriter&, std::string_view name, double value, ResourceForm);
void v1_ranges(JsonWriter&, const std::vector<PortRange>&, ResourceForm);

/// In protobuf's own JSON: {"labels":[{"key":..,"value":..}]}.
void nested_labels(JsonWriter&, const std::vector<Label>&);
/// /state flattens the labels of tasks: [{"key":..,"value":..}].
void flat_labels(JsonWriter&, const std::vector<Label>&);

void discovery(JsonWriter&, const MesosTask&);
void container(JsonWriter&, const MesosContainer&);
void health_check(JsonWriter&, const MesosHealthCheck&);
void network_infos(JsonWriter&, const std::vector<MesosNetwork>&);

/// A task, in the list it is in.
void v0_task(JsonWriter&, const Master::TaskRecord&, const std::string& framework_id);
/// `with_update`: GET_STATE names the last update again, events do not.
void v1_task(JsonWriter&, const Master::TaskRecord&, const std::string& framework_id,
             bool with_update);
/// What every /state begins with.
void v0_version_members(JsonWriter&);

/// Seconds with the precision a double has, as Mesos' timestamps.
double seconds(WallTime) noexcept;

}  // namespace muster::dev
