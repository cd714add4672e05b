#pragma once

#include <string_view>

#include <boost/asio/awaitable.hpp>

namespace muster::daemon {

/// Tells the service manager that started us, by the protocol of sd_notify(3): `READY=1`,
/// `STOPPING=1`, `STATUS=...`. Without one (NOTIFY_SOCKET is not set), or if it does not listen,
/// nothing happens: nobody waits for it then. Any thread; never blocks.
void notify(std::string_view state);

/// Says `WATCHDOG=1` twice per WATCHDOG_USEC from the executor it runs on, so that a thread that
/// hangs is noticed. Returns at once where no watchdog is set; else runs until cancelled.
boost::asio::awaitable<void> keep_watchdog();

}  // namespace muster::daemon
