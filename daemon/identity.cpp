#include "daemon/identity.hpp"

#include <arpa/inet.h>
#include <charconv>
#include <chrono>
#include <cstring>
#include <netinet/in.h>
#include <span>
#include <sstream>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/system/errc.hpp>
#include <boost/uuid/random_generator.hpp>
#include <boost/uuid/uuid_io.hpp>

#include "base/io/state_file.hpp"
#include "cluster/core/records.hpp"
#include "gossip/core/types.hpp"

namespace muster::daemon {
namespace {

constexpr std::size_t kMaxFile = std::size_t{64} * 1024;
constexpr std::size_t kMaxMembersKept = 256;

Result<std::string> read_text(const std::filesystem::path& path) {
  const auto bytes = read_file(path, kMaxFile);
  if (!bytes) return bytes.error();
  return std::string{reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

std::string identity_text(const Identity& identity) {
  return "id " + identity.id.str() + "\nepoch " + std::to_string(identity.epoch) + '\n';
}

/// Against a disk's mistakes: an id or epoch with one digit changed is one as well.
std::string check_of(std::string_view text) {
  return std::to_string(cluster::content_hash(std::as_bytes(std::span{text})));
}

std::optional<Identity> parse_identity(std::string_view text) {
  std::istringstream in{std::string{text}};
  Identity identity;
  std::string id_word;
  std::string id;
  std::string epoch_word;
  if (!(in >> id_word >> id >> epoch_word >> identity.epoch)) return std::nullopt;
  if (id_word != "id" || epoch_word != "epoch" || !gossip::NodeUid::parse(id)) return std::nullopt;
  identity.id = NodeId{id};
  std::string check_word;
  std::string check;
  const bool checked = in >> check_word && in >> check;  // releases up to 0.1 write none
  const bool intact = check_word == "check" && check == check_of(identity_text(identity));
  if (checked ? !intact : !check_word.empty()) return std::nullopt;
  return identity;
}

}  // namespace

FoundIdentity load_identity(const std::filesystem::path& directory) {
  FoundIdentity found;
  const std::string path = (directory / "node").string();
  if (!directory.empty()) {
    const auto text = read_text(directory / "node");
    const auto parsed = text ? parse_identity(*text) : std::nullopt;
    if (parsed) {
      found.identity = *parsed;
    } else if (text) {
      found.problem = path + " is damaged: this is a new node from now on";
    } else if (text.error() != boost::system::errc::no_such_file_or_directory) {
      found.problem = "cannot read " + path + ": " + text.error().message() +
                      "; this is a new node from now on";
    }
  }
  Identity& identity = found.identity;
  if (identity.id.empty()) identity.id = NodeId{to_string(boost::uuids::random_generator{}())};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now().time_since_epoch());
  identity.epoch = std::max(static_cast<std::uint32_t>(seconds.count()), identity.epoch + 1);
  if (const auto stored = store_identity(directory, identity); !stored) {
    if (!found.problem.empty()) found.problem += "; ";
    found.problem += "cannot write " + path + ": " + stored.error().message();
  }
  return found;
}

Result<void> store_identity(const std::filesystem::path& directory, const Identity& identity) {
  if (directory.empty()) return {};
  std::string text = identity_text(identity);
  text += "check " + check_of(text) + '\n';
  return replace_file(directory / "node", std::as_bytes(std::span{text}));
}

std::vector<Endpoint> load_members(const std::filesystem::path& directory) {
  std::vector<Endpoint> members;
  if (directory.empty()) return members;
  const auto text = read_text(directory / "members");
  if (!text) return members;
  std::istringstream in{*text};
  for (std::string word; in >> word && members.size() < kMaxMembersKept;) {
    if (const auto endpoint = Endpoint::parse(word)) members.push_back(*endpoint);
  }
  return members;
}

Result<void> store_members(const std::filesystem::path& directory,
                           const std::vector<Endpoint>& members) {
  std::string text;
  for (const Endpoint& member : members) text += to_string(member) + '\n';
  return replace_file(directory / "members", std::as_bytes(std::span{text}));
}

std::optional<IpAddress> own_address() {
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return std::nullopt;
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(9);
  at.sin_addr.s_addr = htonl(0xC0000201);  // 192.0.2.1, for documentation: any route will do
  socklen_t size = sizeof at;
  auto* const raw = reinterpret_cast<sockaddr*>(&at);
  const bool found = ::connect(fd, raw, size) == 0 && ::getsockname(fd, raw, &size) == 0;
  ::close(fd);
  if (!found || at.sin_addr.s_addr == 0) return std::nullopt;
  IpAddress::V4 octets{};
  std::memcpy(octets.data(), &at.sin_addr, octets.size());
  return IpAddress{octets};
}

}  // namespace muster::daemon
