#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace muster::cli {

/// A Mesos-DNS configuration as muster's.
struct ImportedConfig {
  std::string toml;                // what `muster agent --config` reads
  std::vector<std::string> notes;  // what has no counterpart or needs a hand, a line each
};

/// Turns Mesos-DNS's JSON (records/config.go; its keys in any case) into muster.toml. What is not
/// said there gets Mesos-DNS's default, where it differs from ours and clients would notice.
/// The error says which key is wrong and what was expected.
Result<ImportedConfig, std::string> import_mesos_dns_config(std::string_view json);

/// `muster import FILE`: the TOML to stdout, the notes to stderr. Exit status 0, or 2 with one
/// line on stderr if the file cannot be read or is not such a configuration.
int import_mesos_dns(const std::string& path);

}  // namespace muster::cli
