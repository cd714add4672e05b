#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace muster::cli {

/// Rows of text printed in columns wide enough for their longest cell, two spaces apart; the
/// first row is the heading. No trailing blanks; cells are made printable().
std::string table(const std::vector<std::vector<std::string>>& rows);

/// `text` with every control character, and all that is not UTF-8, as '?': a task's name must not
/// be able to drive the terminal of whoever looks at it.
std::string printable(std::string_view text);

/// Characters, not octets: what a terminal shows of printable text without wide characters.
std::size_t width(std::string_view text);

}  // namespace muster::cli
