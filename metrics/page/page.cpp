#include "metrics/page/page.hpp"

#include <algorithm>
#include <string>

namespace muster::metrics {
namespace {

constexpr std::string_view kFolder = "/page/";
// form-action: the page's one form is handled by its script and sends nothing itself.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const char* type_of(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".js")) return "text/javascript; charset=utf-8";
  if (name.ends_with(".svg")) return "image/svg+xml";
  return "application/octet-stream";
}

}  // namespace

std::optional<HttpResponse> page_response(std::string_view path) {
  std::string_view name = "index.html";
  if (path != "/") {
    if (!path.starts_with(kFolder)) return std::nullopt;
    name = path.substr(kFolder.size());
  }
  const auto& files = embedded_files();
  const auto file = std::ranges::find(files, name, &EmbeddedFile::name);
  if (file == files.end()) return std::nullopt;
  return HttpResponse{200,
                      type_of(name),
                      std::string{file->content},
                      {{"Content-Security-Policy", kPolicy},
                       {"X-Content-Type-Options", "nosniff"},
                       {"Referrer-Policy", "no-referrer"},
                       {"Cache-Control", "no-cache"}}};
}

}  // namespace muster::metrics
