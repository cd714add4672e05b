#pragma once

#include <string>
#include <vector>

#include "dev/app.hpp"
#include "dev/app_reader.hpp"

/// The parts of an app definition, one function each. All throw AppFault.
namespace muster::dev {

constexpr double kMaxSeconds = 7 * 24 * 3600.0;  // a week: more is a slip

/// An id, made absolute below `group`.
std::string app_id_field(const JsonPlace& place, const std::string& group);
/// An object of strings.
std::vector<Label> labels_field(const JsonPlace& place);
std::vector<Label> environment_field(const JsonPlace& place);
AppPort port_definition_field(const JsonPlace& place, bool require_ports);
AppPort port_mapping_field(const JsonPlace& place, NetworkMode network);
AppHealthCheck health_check_field(const JsonPlace& place, const std::vector<AppPort>& ports);

}  // namespace muster::dev
