#pragma once

#include <boost/asio/awaitable.hpp>

#include "base/time.hpp"

namespace muster::mesos {

/// Both run; the first to end ends the other. A bug in either surfaces as itself.
boost::asio::awaitable<void> either(boost::asio::awaitable<void> one,
                                    boost::asio::awaitable<void> other);

boost::asio::awaitable<void> sleep_for(Duration time);

}  // namespace muster::mesos
