#pragma once

#include <memory>
#include <string>

#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"

namespace muster::lb {

/// `source`: where its sockets come from; none: the namespace of the thread that opens it.
std::unique_ptr<Driver> make_nft_driver(const std::string& table,
                                        std::unique_ptr<netlink::Source> source = nullptr);

}  // namespace muster::lb
