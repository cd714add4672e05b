#include "base/io/state_file.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/stat.h>

#include <boost/system/errc.hpp>
#include <doctest/doctest.h>

using namespace muster;
namespace fs = std::filesystem;
namespace errc = boost::system::errc;

namespace {

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "muster-state-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

std::vector<std::byte> bytes(std::string_view text) {
  const auto view = std::as_bytes(std::span{text});
  return {view.begin(), view.end()};
}

}  // namespace

TEST_SUITE_BEGIN("base/io/state_file");

TEST_CASE("a state file is replaced as a whole and read back") {
  const Folder folder;
  const fs::path file = folder.path / "state";
  REQUIRE(replace_file(file, bytes("one")));
  REQUIRE(replace_file(file, bytes("the second")));
  const auto read = read_file(file, 10);
  REQUIRE(read.has_value());
  CHECK(*read == bytes("the second"));
  REQUIRE(replace_file(file, {}));
  CHECK(read_file(file, 0)->empty());
  CHECK_FALSE(fs::exists(file.string() + ".new"));
  struct stat info {};
  REQUIRE(::stat(file.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
}

TEST_CASE("what cannot be read says why") {
  const Folder folder;
  const fs::path file = folder.path / "state";
  CHECK(read_file(file, 10).error() == errc::no_such_file_or_directory);
  CHECK(read_file(folder.path, 10).error() == errc::invalid_argument);
  REQUIRE(::mkfifo((folder.path / "fifo").c_str(), 0600) == 0);
  CHECK(read_file(folder.path / "fifo", 10).error() == errc::invalid_argument);
  REQUIRE(replace_file(file, bytes("12345678901")));
  CHECK(read_file(file, 10).error() == errc::file_too_large);
  CHECK(read_file(file, 11).has_value());
}

TEST_CASE("a replacement that fails leaves the old content and nothing beside it") {
  const Folder folder;
  CHECK(replace_file(folder.path / "no" / "state", bytes("x")).error() ==
        errc::no_such_file_or_directory);
  // The name is a folder with something in it: everything works up to the rename.
  const fs::path taken = folder.path / "taken";
  fs::create_directories(taken / "inside");
  CHECK_FALSE(replace_file(taken, bytes("x")));
  CHECK(fs::exists(taken / "inside"));
  CHECK_FALSE(fs::exists(taken.string() + ".new"));
}

TEST_CASE("a leftover of a crash is not written through") {
  const Folder folder;
  const fs::path file = folder.path / "state";
  const fs::path victim = folder.path / "victim";
  std::ofstream{victim} << "keep";
  fs::create_symlink(victim, file.string() + ".new");
  REQUIRE(replace_file(file, bytes("new")));
  CHECK(*read_file(victim, 10) == bytes("keep"));
  CHECK(*read_file(file, 10) == bytes("new"));
  CHECK_FALSE(fs::is_symlink(file));
}

TEST_SUITE_END();
