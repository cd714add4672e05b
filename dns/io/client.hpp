#pragma once

#include <cstddef>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "base/time.hpp"

namespace muster::dns {

/// Asks one server one question, over UDP and, if the reply is cut (TC), again over TCP.
///
/// `query` is sent as it is, its id included. Replies are believed only from `server` and for
/// exactly that id and question; others are ignored. Errors: timed_out after `limit` over all,
/// connection_refused and what else the kernel says.
boost::asio::awaitable<Result<std::vector<std::byte>>> ask(Endpoint server,
                                                           std::vector<std::byte> query,
                                                           Duration limit);

/// The same over TCP alone.
boost::asio::awaitable<Result<std::vector<std::byte>>> ask_tcp(Endpoint server,
                                                               std::vector<std::byte> query,
                                                               Duration limit);

}  // namespace muster::dns
