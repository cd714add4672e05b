#pragma once

#include <cstdint>
#include <span>

namespace muster::lb::bpf {

/// lb/bpf/balance.bpf.c, compiled; cmake/EmbedBytes.cmake makes the definition.
std::span<const std::uint8_t> object_bytes() noexcept;

}  // namespace muster::lb::bpf
