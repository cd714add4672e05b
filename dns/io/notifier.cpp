#include "dns/io/notifier.hpp"

#include <exception>
#include <sys/random.h>
#include <utility>

#include <boost/asio/co_spawn.hpp>

#include "base/assert.hpp"
#include "dns/core/transfer.hpp"
#include "dns/io/client.hpp"

namespace muster::dns {

namespace asio = boost::asio;

Notifier::Notifier(asio::io_context& context, std::vector<Endpoint> secondaries,
                   std::vector<std::string> apexes)
    : context_{context},
      secondaries_{std::move(secondaries)},
      apexes_{std::move(apexes)},
      pause_{context},
      under_way_{context.get_executor()} {}

void Notifier::changed() {
  if (secondaries_.empty() || stopping_) return;
  if (pausing_) {
    again_ = true;
    return;
  }
  send();
}

void Notifier::send() {
  for (const Endpoint& secondary : secondaries_) {
    for (const std::string& apex : apexes_) under_way_.spawn(tell(secondary, apex));
  }
  pausing_ = true;
  pause_.expires_after(kPause);
  pause_.async_wait([this](const boost::system::error_code& error) {
    pausing_ = false;
    if (!error && !stopping_ && std::exchange(again_, false)) send();
  });
}

asio::awaitable<void> Notifier::tell(Endpoint secondary, std::string apex) {
  for (int i = 0; i < kTries; ++i) {
    std::uint16_t id = 0;
    MUSTER_ASSERT(getrandom(&id, sizeof id, 0) == static_cast<ssize_t>(sizeof id));
    auto asked = ask(secondary, make_notify(apex, id), kPatience);
    const auto reply = co_await std::move(asked);
    if (reply) co_return;
  }
}

void Notifier::stop() {
  stopping_ = true;
  pause_.cancel();
  under_way_.stop();
  asio::co_spawn(context_, under_way_.join(), [](const std::exception_ptr& failure) {
    if (failure) std::rethrow_exception(failure);
  });
}

}  // namespace muster::dns
