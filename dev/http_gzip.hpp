#pragma once

#include <string>
#include <string_view>

namespace muster::dev {

/// `body` as one gzip member (RFC 1952).
std::string gzip(std::string_view body);

}  // namespace muster::dev
