#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace muster::dns {

/// SHA-1 (FIPS 180-4). Only because Mesos-DNS named tasks by it; proves nothing.
std::array<std::uint8_t, 20> sha1(std::string_view text);

/// What Mesos-DNS tells two tasks of one name apart by: the first five letters of the z-base-32
/// of the task id's SHA-1. task_hash("test") == "iffe9".
std::string task_hash(std::string_view task_id);

}  // namespace muster::dns
