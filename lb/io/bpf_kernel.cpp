#include "lb/io/bpf_kernel.hpp"

#include <array>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

#include "lb/bpf/layout.h"
#include "lb/io/bpf_object.hpp"
#include "lb/io/bpf_pins.hpp"

namespace muster::lb::bpf {
namespace {

constexpr std::array kMaps{"vips", "slots", "dialled", "flows"};
constexpr std::array kPrograms{"connect4", "connect6", "sendmsg4",     "sendmsg6",     "recvmsg4",
                               "recvmsg6", "watch",    "getpeername4", "getpeername6", "release"};
/// Of what libbpf and the verifier say, the end is what matters.
constexpr std::size_t kMaxWords = 500;

struct CloseObject {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, CloseObject>;

struct DestroyLink {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};
using Link = std::unique_ptr<bpf_link, DestroyLink>;

thread_local std::string last_words;

__attribute__((format(printf, 2, 0))) int keep_words(libbpf_print_level level, const char* format,
                                                     va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  std::array<char, 4096> line{};
  const int size = std::vsnprintf(line.data(), line.size(), format, arguments);
  last_words += line.data();
  if (last_words.size() > kMaxWords) last_words.erase(0, last_words.size() - kMaxWords);
  return size;
}

/// FNV-1a: two builds of the programs differ in it, and two namespaces.
std::uint64_t fingerprint(std::uint64_t cookie) {
  std::uint64_t hash = 0xcbf29ce484222325U ^ cookie;
  for (const std::uint8_t octet : object_bytes()) hash = (hash ^ octet) * 0x100000001b3U;
  return hash;
}

struct Place {
  std::string folder;  // of the pins
  Fd cgroup;
  std::uint64_t cgroup_id = 0;
  std::uint64_t cookie = 0;
};

std::string words_of(int error) {
  std::string words = std::strerror(error < 0 ? -error : error);
  if (!last_words.empty()) words += ": " + last_words;
  while (!words.empty() && words.back() == '\n') words.pop_back();
  return words;
}

Result<Place> find_place(const std::string& table, const std::string& cgroup, std::string& detail) {
  Place place;
  const auto cookie = namespace_cookie();
  if (!cookie) {
    detail = "this kernel gives network namespaces no cookie: " + cookie.error().message();
    return Errc::no_bpf;
  }
  place.cookie = *cookie;
  place.folder = *pin_folder(table);
  if (!has_file_system()) {
    detail = std::string{"no BPF file system is mounted at "} + kFileSystem;
    return Errc::no_bpf_fs;
  }
  const std::string path = cgroup.empty() ? cgroup_root() : cgroup;
  if (path.empty()) {
    detail = "no cgroup2 hierarchy is mounted, or only a part of it is seen here";
    return Errc::no_cgroup2;
  }
  place.cgroup = Fd{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  struct stat about {};
  if (!place.cgroup || ::fstat(place.cgroup.get(), &about) != 0) {
    detail = path + ": " + std::strerror(errno);
    return Errc::no_cgroup2;
  }
  place.cgroup_id = about.st_ino;
  return place;
}

Errc errc_of(int error) {
  return error == -EPERM || error == -EACCES ? Errc::bpf_not_permitted : Errc::no_bpf;
}

Result<Object> load(std::uint64_t cookie, std::string& detail) {
  last_words.clear();
  libbpf_set_print(keep_words);
  bpf_object_open_opts options{};
  options.sz = sizeof options;
  options.object_name = "muster";
  const auto bytes = object_bytes();
  Object object{bpf_object__open_mem(bytes.data(), bytes.size(), &options)};
  if (!object) {
    detail = "the BPF programs: " + words_of(errno);
    return Errc::no_bpf;
  }
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object.get()) {
    if (!std::string_view{bpf_map__name(map)}.ends_with("rodata")) continue;
    // The programs' one constant: our_namespace.
    if (bpf_map__set_initial_value(map, &cookie, sizeof cookie) != 0) {
      detail = "the BPF programs have other constants than expected";
      return Errc::no_bpf;
    }
  }
  const int error = bpf_object__load(object.get());
  if (error != 0) {
    detail = "the kernel refuses the BPF programs: " + words_of(error);
    return errc_of(error);
  }
  return object;
}

Fd open_pin(const Place& place, const std::string& name) {
  return Fd{::bpf_obj_get((place.folder + "/" + name).c_str())};
}

bool attached(const Place& place, const std::string& program) {
  const Fd link = open_pin(place, "link-" + program);
  bpf_link_info info{};
  std::uint32_t size = sizeof info;
  // When its cgroup was removed it is there, and of no cgroup.
  return link && ::bpf_obj_get_info_by_fd(link.get(), &info, &size) == 0 &&
         info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.cgroup_id == place.cgroup_id;
}

/// What an earlier run has left, if it is whole and what we would attach.
std::optional<Maps> adopt(const Place& place) {
  const Fd about = open_pin(place, "about");
  const std::uint32_t zero = 0;
  muster_bpf_about found{};
  if (!about || ::bpf_map_lookup_elem(about.get(), &zero, &found) != 0) return std::nullopt;
  if (found.fingerprint != fingerprint(place.cookie) || found.cgroup != place.cgroup_id) {
    return std::nullopt;
  }
  for (const char* program : kPrograms) {
    if (!attached(place, program)) return std::nullopt;
  }
  Maps maps{.vips = open_pin(place, "vips"),
            .slots = open_pin(place, "slots"),
            .dialled = open_pin(place, "dialled")};
  if (!maps.vips || !maps.slots || !maps.dialled) return std::nullopt;
  return maps;
}

/// 0, or an errno below zero.
int pin_all(const Place& place, bpf_object* object) {
  const std::string parent = place.folder.substr(0, place.folder.rfind('/'));
  for (const std::string& folder : {parent, place.folder}) {
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return -errno;
  }
  for (const char* name : kMaps) {
    bpf_map* map = bpf_object__find_map_by_name(object, name);
    if (const int error = bpf_map__pin(map, (place.folder + "/" + name).c_str())) return error;
  }
  for (const char* name : kPrograms) {
    const bpf_program* program = bpf_object__find_program_by_name(object, name);
    const Link link{bpf_program__attach_cgroup(program, place.cgroup.get())};
    if (!link) return -errno;
    const int error = bpf_link__pin(link.get(), (place.folder + "/link-" + name).c_str());
    if (error != 0) return error;
  }
  // Last: what has no `about` is half done, and made anew.
  bpf_map* map = bpf_object__find_map_by_name(object, "about");
  const std::uint32_t zero = 0;
  const muster_bpf_about about{.fingerprint = fingerprint(place.cookie), .cgroup = place.cgroup_id};
  if (const int error = bpf_map__update_elem(map, &zero, sizeof zero, &about, sizeof about, 0)) {
    return error;
  }
  return bpf_map__pin(map, (place.folder + "/about").c_str());
}

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Result<Maps> attach(const std::string& table, const std::string& cgroup, std::string& detail) {
  const auto place = find_place(table, cgroup, detail);
  if (!place) return place.error();
  if (auto there = adopt(*place)) return std::move(*there);
  const auto removed = unpin(table);
  if (!removed) {
    detail = place->folder + ": " + removed.error().message();
    return errc_of(-removed.error().value());
  }
  const auto object = load(place->cookie, detail);
  if (!object) return object.error();
  if (const int error = pin_all(*place, object->get())) {
    detail = "attaching to the cgroup and pinning in " + place->folder + ": " + words_of(error);
    if (!unpin(table)) detail += "; a part of it is left there";
    return errc_of(error);
  }
  auto maps = adopt(*place);
  if (!maps) {
    detail = "what was pinned in " + place->folder + " cannot be read back";
    return Errc::no_bpf;
  }
  return std::move(*maps);
}

Result<void> probe(const std::string& cgroup, std::string& detail) {
  const auto place = find_place("muster", cgroup, detail);
  if (!place) return place.error();
  const auto object = load(place->cookie, detail);
  if (!object) return object.error();
  return {};
}

}  // namespace muster::lb::bpf
