#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/config_section.hpp"

namespace muster::daemon {

/// A domain name of letters, digits, hyphens and underscores, within RFC 1035's sizes.
bool is_zone_name(std::string_view text);

/// `a.b.c.d`, `v6`, either with `/bits`.
bool is_prefix(const std::string& text);

/// `address:port` or `name:port`; the port may be left out, and is put in.
bool is_join(std::string& text, std::uint16_t default_port);

/// Reads `[dns]`.
void read_dns(Section dns, Config::Dns& out);

}  // namespace muster::daemon
