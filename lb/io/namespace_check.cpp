// The part of the preflight about the network namespaces of containers.

#include <cerrno>
#include <string>
#include <vector>

#include "lb/core/netns_choice.hpp"
#include "lb/io/driver_choice.hpp"
#include "lb/io/netns/client.hpp"

namespace muster::lb {
namespace {

constexpr const char* kStart = "systemctl enable --now muster-netns.socket";

/// The daemon may have fewer rights than who runs this, and then needs the helper.
Finding about_helper(const Result<std::vector<netns::Answer>>& answer, const std::string& socket) {
  if (answer) return {Finding::Level::good, "muster-netns answers at " + socket};
  const bool own = netns::may_enter();
  std::string what = "muster-netns does not answer at " + socket + ": " + answer.error().message();
  if (own) what += "; a daemon with CAP_SYS_ADMIN, as this command has it, needs none";
  return {own ? Finding::Level::advice : Finding::Level::missing, std::move(what), kStart};
}

Finding about_folder(const netns::Answer& folder) {
  using netns::Verdict;
  if (folder.verdict == Verdict::good) return {Finding::Level::good, folder.name};
  const std::string what = folder.name + ": " + std::string{to_string(folder.verdict)};
  if (folder.verdict == Verdict::no_folder) return {Finding::Level::good, what};
  return {Finding::Level::missing, what,
          "chown root " + folder.name + "; chmod go-w " + folder.name};
}

Finding about_file(const std::string& folder, const netns::Choice::Refused& file) {
  return {Finding::Level::advice,
          folder + "/" + file.name + " is not served: " + std::string{to_string(file.verdict)}};
}

/// What the helper was told to look into has to be what the daemon is.
void compare_folders(const std::vector<netns::Answer>& found,
                     const std::vector<std::string>& folders, std::vector<Finding>& findings) {
  std::vector<std::string> theirs;
  for (const netns::Answer& answer : found) {
    if (answer.kind == netns::Answer::Kind::folder) theirs.push_back(answer.name);
  }
  if (theirs == folders) return;
  findings.push_back({Finding::Level::advice,
                      "muster-netns looks into other folders than lb.namespace_folders has",
                      "systemctl edit muster-netns.service: the same ones, in the same order"});
}

}  // namespace

std::vector<Finding> check_namespaces(const std::vector<std::string>& folders,
                                      const std::string& socket) {
  std::vector<Finding> findings;
  const auto helper = netns::ask_helper(socket);
  findings.push_back(about_helper(helper, socket));
  if (helper) compare_folders(*helper, folders, findings);
  const auto found =
      helper || !netns::may_enter() ? helper : netns::make_gate(folders, socket)->look();
  if (!found) return findings;
  for (const netns::Answer& answer : *found) {
    if (answer.kind == netns::Answer::Kind::folder) findings.push_back(about_folder(answer));
  }
  const netns::Choice choice = netns::choose(*found, {});
  for (const auto& file : choice.refused) {
    if (file.name.empty() || file.folder >= folders.size()) continue;
    findings.push_back(about_file(folders[file.folder], file));
  }
  findings.push_back({Finding::Level::good,
                      std::to_string(choice.serve.size()) + " network namespaces are named"});
  return findings;
}

}  // namespace muster::lb
