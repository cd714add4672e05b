#pragma once

#include <string>
#include <vector>

namespace muster::cli {

/// Rows of text printed in columns wide enough for their longest cell, two spaces apart; the
/// first row is the heading. No trailing blanks.
std::string table(const std::vector<std::vector<std::string>>& rows);

}  // namespace muster::cli
