#include "lb/io/driver.hpp"

namespace muster::lb {
namespace {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnon-virtual-dtor"  // nobody deletes a category; Boost's has none
class Category final : public boost::system::error_category {
 public:
  const char* name() const noexcept override { return "muster.lb"; }
  std::string message(int code) const override {
    switch (static_cast<Errc>(code)) {
      case Errc::not_permitted:
        return "programming the kernel's load balancing needs the capability CAP_NET_ADMIN";
      case Errc::no_nftables:
        return "this kernel has no nf_tables; load or enable CONFIG_NF_TABLES (Linux 5.10 or "
               "later for driver nft, 4.19 for ipvs)";
      case Errc::no_ipvs:
        return "this kernel has no IPVS; load or enable CONFIG_IP_VS (modprobe ip_vs), or choose "
               "driver nft";
      case Errc::missing_feature:
        return "this kernel lacks something the load balancer needs (nft_nat, nft_masq, "
               "nft_reject, nft_ct; for driver nft also nft_numgen and Linux 5.10)";
      case Errc::bad_range:
        return "a VIP range must be address/length, such as 11.0.0.0/8";
      case Errc::no_scheduler:
        return "this kernel has no such IPVS scheduler; see status for its name";
      case Errc::bad_driver:
        return "a driver is auto, ipvs, nft or bpf";
      case Errc::no_bpf_build:
        return "install clang and libbpf-dev (deploy/install-deps build bpf) and build muster "
               "again, or choose driver nft";
      case Errc::no_bpf:
        return "driver bpf needs Linux 5.14 with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF; or "
               "choose driver nft";
      case Errc::no_bpf_fs:
        return "mount -t bpf bpf /sys/fs/bpf (systemd does so), or choose driver nft";
      case Errc::no_cgroup2:
        return "mount cgroup2 (mount -t cgroup2 none /sys/fs/cgroup), run muster outside of cgroup "
               "namespaces, or name a folder of it by lb.bpf_cgroup; or choose driver nft";
      case Errc::bpf_not_permitted:
        return "driver bpf needs the capability CAP_BPF beside CAP_NET_ADMIN, the bpf() system "
               "call, and a folder /sys/fs/bpf/muster it may write (docs/data-plane.md, \"Driver "
               "bpf\")";
    }
    return "unknown load balancer error";
  }
};
#pragma GCC diagnostic pop

}  // namespace

const boost::system::error_category& error_category() noexcept {
  static const Category category;
  return category;
}

}  // namespace muster::lb
