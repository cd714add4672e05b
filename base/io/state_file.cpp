#include "base/io/state_file.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/system/errc.hpp>

namespace muster {
namespace {

ErrorCode last_error() {
  return {errno, boost::system::system_category()};
}

class Descriptor {
 public:
  explicit Descriptor(int fd) noexcept : fd_{fd} {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  bool valid() const noexcept { return fd_ >= 0; }
  int get() const noexcept { return fd_; }
  /// Some file systems report a failed write only here.
  Result<void> close() {
    const int fd = fd_;
    fd_ = -1;
    if (::close(fd) != 0) return last_error();
    return {};
  }

 private:
  int fd_;
};

Result<void> write_all(int fd, std::span<const std::byte> content) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return last_error();
    content = content.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

/// Root edits what the daemon's user must still be able to read.
void keep_owner(int fd, const std::string& of) {
  struct stat info {};
  if (::lstat(of.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return;
  if (::fchown(fd, info.st_uid, info.st_gid) == 0) (void)::fchmod(fd, info.st_mode & 0777U);
}

Result<void> write_new(const std::string& path, const std::string& instead_of,
                       std::span<const std::byte> content) {
  // A leftover of a crash may have another owner or mode, or be a link: never write into it.
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return last_error();
  Descriptor file{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!file.valid()) return last_error();
  keep_owner(file.get(), instead_of);
  if (auto written = write_all(file.get(), content); !written) return written;
  if (::fsync(file.get()) != 0) return last_error();
  return file.close();
}

Result<void> sync_folder(const std::filesystem::path& folder) {
  const Descriptor opened{
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!opened.valid() || ::fsync(opened.get()) != 0) return last_error();
  return {};
}

}  // namespace

Result<void> replace_file(const std::filesystem::path& path, std::span<const std::byte> content) {
  const std::string temporary = path.string() + ".new";
  auto done = write_new(temporary, path.string(), content);
  if (done && ::rename(temporary.c_str(), path.c_str()) != 0) done = last_error();
  if (!done) {
    ::unlink(temporary.c_str());
    return done;
  }
  return sync_folder(path.parent_path());
}

Result<std::vector<std::byte>> read_file(const std::filesystem::path& path, std::size_t max_bytes) {
  // Not blocking, so that a fifo in the file's place cannot stop the start.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!file.valid()) return last_error();
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return last_error();
  if (!S_ISREG(info.st_mode)) return make_error_code(boost::system::errc::invalid_argument);
  const auto too_large = make_error_code(boost::system::errc::file_too_large);
  if (static_cast<std::uintmax_t>(info.st_size) > max_bytes) return too_large;
  // One octet more than it should have, to see that it ends there.
  std::vector<std::byte> content(static_cast<std::size_t>(info.st_size) + 1);
  std::size_t filled = 0;
  for (;;) {
    if (filled == content.size()) content.resize(std::min(filled * 2, max_bytes + 1));
    if (filled > max_bytes) return too_large;
    const ssize_t got = ::read(file.get(), content.data() + filled, content.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return last_error();
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  content.resize(filled);
  return content;
}

}  // namespace muster
