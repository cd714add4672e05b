#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "metrics/http_server.hpp"

namespace muster::metrics {

/// A file of the status page, as it was when the program was built.
struct EmbeddedFile {
  std::string_view name;     // "page.css"
  std::string_view content;  // lives as long as the program
};
const std::vector<EmbeddedFile>& embedded_files();

/// The answer for `/` and `/page/<file>`; none: the path is not of the page. The page loads
/// nothing from elsewhere and runs no script but its own: its Content-Security-Policy says so.
std::optional<HttpResponse> page_response(std::string_view path);

}  // namespace muster::metrics
