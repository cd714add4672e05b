/* What the kernel's programs (balance.bpf.c) and bpf_table.cpp both read and write. C and C++. */
#ifndef MUSTER_LB_BPF_LAYOUT_H
#define MUSTER_LB_BPF_LAYOUT_H

#include <linux/types.h>

enum {
  MUSTER_BPF_MAX_VIPS = 131072,  /* more than VipTable::kMaxVips */
  MUSTER_BPF_MAX_SLOTS = 524288, /* Vips beyond are left to nftables */
  MUSTER_BPF_MAX_DIALLED = 65536, /* sockets connected at a time; nftables balances what is beyond */
  MUSTER_BPF_MAX_FLOWS = 65536   /* of udp sockets that are not connected; the oldest are forgotten */
};

/* Addresses as they are in packets; IPv4 in the first word, the others 0. Ports in network order. */
struct muster_bpf_endpoint {
  __u32 address[4];
  __u16 port;
  __u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
  __u8 family;   /* 4 or 6 */
};

/* Map `vips`: who is balanced here. Whoever is not in it is left to nftables. */
struct muster_bpf_vip {
  __u32 slots;
  __u32 mark; /* that of its slots */
  __u32 strikes;
  __u32 suspicions;    /* times nftables took over since this entry was written */
  __u64 suspect_until; /* monotonic nanoseconds: nftables balances it till then */
};

/* Map `slots`. */
struct muster_bpf_slot_key {
  struct muster_bpf_endpoint vip;
  __u32 index;
};
struct muster_bpf_slot {
  struct muster_bpf_endpoint backend;
  __u32 mark; /* an element may be freed and used anew while it is being read: then this differs */
  __u64 connections;
};

/* Map `dialled`: what a connected socket was told, and what it talks to. */
struct muster_bpf_peer {
  struct muster_bpf_endpoint vip;
  struct muster_bpf_endpoint backend;
};

/* Map `flows`: the same for udp sockets that are not connected. */
struct muster_bpf_flow_key {
  __u64 socket;
  struct muster_bpf_endpoint backend;
  __u32 zero;
};

/* Map `about`, one element: whether what is pinned is what we would load. */
struct muster_bpf_about {
  __u64 fingerprint;
  __u64 cgroup;
};

#endif
