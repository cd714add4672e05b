#include "lb/io/forward_accept.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>
#include <utility>

#include "lb/io/firewall.hpp"
#include "lb/io/nft_link.hpp"
#include "lb/io/nft_rules.hpp"

namespace muster::lb {
namespace {

bool is_on(const char* path) {
  std::ifstream file{path};
  int on = 0;
  return file >> on && on != 0;
}

/// Whether this node forwards what such a table sees.
bool forwards(forward::Kind kind) {
  const bool v4 = kind != forward::Kind::ip6 && is_on("/proc/sys/net/ipv4/ip_forward");
  return v4 || (kind != forward::Kind::ip && is_on("/proc/sys/net/ipv6/conf/all/forwarding"));
}

std::string name_of(const forward::Table& table, const std::string& chain) {
  return std::string{forward::to_string(table.kind)} + " " + table.name + " " + chain;
}

}  // namespace

Result<ForwardAccept::Done> ForwardAccept::run(const forward::Acceptance& acceptance) {
  if (!socket_) {
    auto opened = netlink::Socket::open(NETLINK_NETFILTER);
    if (!opened) return opened.error();
    socket_.emplace(*std::move(opened));
  }
  auto tables = firewall::read(*socket_, tag_);
  if (!tables) return tables.error();
  Done done{.tables = *std::move(tables), .plan = {}, .failed = {}, .refused = {}, .refusal = {}};
  done.plan = forward::plan(done.tables, acceptance, tag_);
  for (std::size_t i = 0; i < done.plan.edits.size(); ++i) {
    const forward::Edit& edit = done.plan.edits[i];
    const forward::Table& table = done.tables[edit.table];
    netlink::Writer out;
    nft::begin_batch(out, socket_->next_sequence());
    firewall::write(out, *socket_, table, edit, tag_);
    const auto written = nft::commit(*socket_, out);
    if (written) continue;
    done.failed.push_back(i);
    if (written.error().value() == ENOENT) continue;  // gone meanwhile, which we are told as news
    done.refusal = written.error();
    done.refused.push_back(name_of(table, edit.chain) + ": " + written.error().message() +
                           (socket_->detail().empty() ? "" : " (" + socket_->detail() + ")"));
  }
  return done;
}

Result<ForwardOutcome> ForwardAccept::keep(const forward::Acceptance& acceptance) {
  const auto done = run(acceptance);
  if (!done) return done.error();
  ForwardOutcome outcome{.changed = 0,
                         .standing = {},
                         .dropping = {},
                         .refused = done->refused,
                         .beyond = acceptance.beyond + done->plan.beyond};
  std::set<std::pair<std::size_t, std::string>> failed;
  for (std::size_t i = 0; i < done->plan.edits.size(); ++i) {
    const forward::Edit& edit = done->plan.edits[i];
    if (std::find(done->failed.begin(), done->failed.end(), i) != done->failed.end()) {
      failed.emplace(edit.table, edit.chain);
    } else {
      outcome.changed += edit.add.size() + edit.remove.size();
    }
  }
  for (const auto& at : done->plan.standing) {
    if (!failed.contains(at)) {
      outcome.standing.push_back(name_of(done->tables[at.first], at.second));
    }
  }
  for (const auto& at : done->plan.dropping) {
    const forward::Table& table = done->tables[at.first];
    if (forwards(table.kind)) outcome.dropping.push_back(name_of(table, at.second));
  }
  return outcome;
}

Result<std::vector<std::string>> ForwardAccept::remove() {
  const auto done = run({});
  if (!done && done.error().value() == EPERM) return Errc::not_permitted;
  if (!done) return done.error();
  std::vector<std::string> removed;
  for (std::size_t i = 0; i < done->plan.edits.size(); ++i) {
    if (std::find(done->failed.begin(), done->failed.end(), i) != done->failed.end()) continue;
    const forward::Edit& edit = done->plan.edits[i];
    removed.push_back("rules in the nftables chain " +
                      name_of(done->tables[edit.table], edit.chain) + ": " +
                      std::to_string(edit.remove.size()));
  }
  if (done->refusal) return done->refusal;
  return removed;
}

}  // namespace muster::lb
