#pragma once

#include <filesystem>
#include <string>

#include "base/endpoint.hpp"

namespace muster::cli {

struct ResolvOptions {
  IpAddress server{IpAddress::V4{127, 0, 0, 1}};  // where muster's DNS listens, port 53
  std::string domain = "mesos";
  std::filesystem::path root = "/";  // for tests
};

/// Makes this machine ask muster: a drop-in for systemd-resolved where that manages resolv.conf
/// (only the cluster's domains go to muster), else a resolv.conf with muster first and the former
/// servers behind it, `timeout:1 attempts:3`. The former file is kept beside it.
/// Each says what it did, and returns kGood or kFailed. Doing it twice changes nothing more.
int resolv_install(const ResolvOptions&);
/// Undoes resolv_install(); what somebody changed since is left alone, and said.
int resolv_remove(const ResolvOptions&);
/// Whether a name that only muster knows is found by this machine's resolver. kTrouble: it is not.
int resolv_check(const ResolvOptions&);

/// The resolv.conf that puts `server` before those of `former`; at most three, which is all that
/// glibc reads. search and options of `former` are kept, but for timeout, attempts and rotate.
std::string resolv_conf_with(const std::string& former, const IpAddress& server);

}  // namespace muster::cli
