/* The bpf driver's programs: a process that dials a Vip gets a backend's address before a packet is
 * made, so that no packet has to be translated. Attached to a cgroup; they act in one network
 * namespace only. What they do not know, or doubt, they leave alone: nftables balances it. */
#include "layout.h"

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define SECOND 1000000000ULL
/* A suspected Vip is nftables' for 10 s, then twice as long each time, up to 320 s. Who was not
 * suspected for as long starts anew. */
#define FIRST_HOLD (10 * SECOND)
#define MAX_DOUBLINGS 5
#define FORGIVEN (320 * SECOND)

typedef struct muster_bpf_endpoint endpoint;

/* Set before loading: SO_NETNS_COOKIE of the namespace the Vips belong to. */
const volatile __u64 our_namespace = 0;

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MUSTER_BPF_MAX_VIPS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct muster_bpf_endpoint);
  __type(value, struct muster_bpf_vip);
} vips SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MUSTER_BPF_MAX_SLOTS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct muster_bpf_slot_key);
  __type(value, struct muster_bpf_slot);
} slots SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, MUSTER_BPF_MAX_FLOWS);
  __type(key, struct muster_bpf_flow_key);
  __type(value, struct muster_bpf_endpoint);
} flows SEC(".maps");

/* By socket cookie, from connect() to close(). Storage of the socket's own would cost a connection
 * 0.3 us more, and sock_diag does not show it (6.18). */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MUSTER_BPF_MAX_DIALLED);
  __type(key, __u64);
  __type(value, struct muster_bpf_peer);
} dialled SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct muster_bpf_about);
} about SEC(".maps");

static __always_inline int same(const endpoint *a, const endpoint *b) {
  return a->address[0] == b->address[0] && a->address[1] == b->address[1] &&
         a->address[2] == b->address[2] && a->address[3] == b->address[3] && a->port == b->port &&
         a->family == b->family;
}

/* The address in the call. An IPv4 address in an IPv6 socket is an IPv4 address. */
static __always_inline endpoint called4(struct bpf_sock_addr *ctx) {
  endpoint at = {};
  at.address[0] = ctx->user_ip4;
  at.port = (__u16)ctx->user_port;
  at.protocol = (__u8)ctx->protocol;
  at.family = 4;
  return at;
}
static __always_inline endpoint called6(struct bpf_sock_addr *ctx) {
  endpoint at = {};
  const __u32 last = ctx->user_ip6[3];
  at.address[0] = ctx->user_ip6[0];
  at.address[1] = ctx->user_ip6[1];
  at.address[2] = ctx->user_ip6[2];
  at.port = (__u16)ctx->user_port;
  at.protocol = (__u8)ctx->protocol;
  if (at.address[0] == 0 && at.address[1] == 0 && at.address[2] == bpf_htonl(0xffff)) {
    at.address[0] = last;
    at.address[2] = 0;
    at.family = 4;
  } else {
    at.address[3] = last;
    at.family = 6;
  }
  return at;
}
static __always_inline void say4(struct bpf_sock_addr *ctx, const endpoint *at) {
  ctx->user_ip4 = at->address[0];
  ctx->user_port = at->port;
}
static __always_inline void say6(struct bpf_sock_addr *ctx, const endpoint *at) {
  const int mapped = at->family == 4;
  ctx->user_ip6[0] = mapped ? 0 : at->address[0];
  ctx->user_ip6[1] = mapped ? 0 : at->address[1];
  ctx->user_ip6[2] = mapped ? bpf_htonl(0xffff) : at->address[2];
  ctx->user_ip6[3] = mapped ? at->address[0] : at->address[3];
  ctx->user_port = at->port;
}

static __always_inline int is_ours(struct bpf_sock_addr *ctx) {
  return (ctx->protocol == PROTOCOL_TCP || ctx->protocol == PROTOCOL_UDP) &&
         bpf_get_netns_cookie(ctx) == our_namespace;
}

/* tcp: at random. udp: by the socket, so that one socket's datagrams go one way. */
static __always_inline __u32 draw(struct bpf_sock_addr *ctx) {
  if (ctx->protocol == PROTOCOL_TCP) return bpf_get_prandom_u32();
  __u64 socket = bpf_get_socket_cookie(ctx) * 0x9e3779b97f4a7c15ULL;
  return (__u32)(socket >> 32);
}

/* Whom `vip` goes to; null: nftables decides. */
static __always_inline struct muster_bpf_slot *choose(struct bpf_sock_addr *ctx,
                                                      const endpoint *vip, endpoint *backend) {
  struct muster_bpf_vip *entry = bpf_map_lookup_elem(&vips, vip);
  if (!entry || entry->slots == 0) return 0;
  if (entry->suspect_until != 0 && entry->suspect_until > bpf_ktime_get_ns()) return 0;
  struct muster_bpf_slot_key key = {.vip = *vip};
  key.index = draw(ctx) % entry->slots;
  struct muster_bpf_slot *slot = bpf_map_lookup_elem(&slots, &key);
  if (!slot) return 0;
  *backend = slot->backend;
  barrier();
  if (*(volatile __u32 *)&slot->mark != entry->mark) return 0;
  return slot;
}

static __always_inline int connecting(struct bpf_sock_addr *ctx, const endpoint *vip,
                                      endpoint *backend) {
  struct muster_bpf_slot *slot = choose(ctx, vip, backend);
  const __u64 socket = bpf_get_socket_cookie(ctx);
  if (!slot) {
    /* A udp socket may have been connected through a Vip before. */
    if (ctx->protocol == PROTOCOL_UDP) bpf_map_delete_elem(&dialled, &socket);
    return 0;
  }
  const struct muster_bpf_peer peer = {.vip = *vip, .backend = *backend};
  if (bpf_map_update_elem(&dialled, &socket, &peer, BPF_ANY) != 0) return 0; /* full */
  __sync_fetch_and_add(&slot->connections, 1);
  return 1;
}

static __always_inline int sending(struct bpf_sock_addr *ctx, const endpoint *vip,
                                   endpoint *backend) {
  struct muster_bpf_slot *slot = choose(ctx, vip, backend);
  if (!slot) return 0;
  struct muster_bpf_flow_key key = {.socket = bpf_get_socket_cookie(ctx), .backend = *backend};
  const endpoint *known = bpf_map_lookup_elem(&flows, &key);
  if (known && same(known, vip)) return 1;
  if (bpf_map_update_elem(&flows, &key, vip, BPF_ANY) != 0) return 0;
  __sync_fetch_and_add(&slot->connections, 1);
  return 1;
}

/* Whom the socket takes `from` for. */
static __always_inline int answering(struct bpf_sock_addr *ctx, const endpoint *from,
                                     endpoint *vip) {
  const __u64 socket = bpf_get_socket_cookie(ctx);
  const struct muster_bpf_peer *peer = bpf_map_lookup_elem(&dialled, &socket);
  if (peer && same(&peer->backend, from)) {
    *vip = peer->vip;
    return 1;
  }
  if (ctx->protocol != PROTOCOL_UDP) return 0;
  struct muster_bpf_flow_key key = {.socket = socket, .backend = *from};
  const endpoint *known = bpf_map_lookup_elem(&flows, &key);
  if (!known) return 0;
  *vip = *known;
  return 1;
}

#define PROGRAM(hook, decide, family)                      \
  SEC("cgroup/" #hook #family)                             \
  int hook##family(struct bpf_sock_addr *ctx) {            \
    if (!is_ours(ctx)) return 1;                           \
    const endpoint called = called##family(ctx);           \
    endpoint instead = {};                                 \
    if (decide(ctx, &called, &instead)) say##family(ctx, &instead); \
    return 1;                                              \
  }

PROGRAM(connect, connecting, 4)
PROGRAM(connect, connecting, 6)
PROGRAM(sendmsg, sending, 4)
PROGRAM(sendmsg, sending, 6)
PROGRAM(recvmsg, answering, 4)
PROGRAM(recvmsg, answering, 6)
PROGRAM(getpeername, answering, 4)
PROGRAM(getpeername, answering, 6)

SEC("cgroup/sock_release")
int release(struct bpf_sock *ctx) {
  if (ctx->protocol != PROTOCOL_TCP && ctx->protocol != PROTOCOL_UDP) return 1;
  const __u64 socket = bpf_get_socket_cookie(ctx);
  bpf_map_delete_elem(&dialled, &socket);
  return 1;
}

/* A connect() that was not answered, or refused: its Vip is nftables' for a while, which asks
 * another backend within the same connect(), and finds out who is dead. */
static __always_inline void suspect(const endpoint *vip) {
  struct muster_bpf_vip *entry = bpf_map_lookup_elem(&vips, vip);
  if (!entry) return;
  const __u64 now = bpf_ktime_get_ns();
  const __u64 before = entry->suspect_until;
  if (before > now) return;
  const __u32 strikes = before != 0 && now - before < FORGIVEN ? entry->strikes : 0;
  entry->strikes = strikes < MAX_DOUBLINGS ? strikes + 1 : MAX_DOUBLINGS;
  entry->suspect_until = now + (FIRST_HOLD << (strikes < MAX_DOUBLINGS ? strikes : MAX_DOUBLINGS));
  __sync_fetch_and_add(&entry->suspicions, 1);
}

SEC("sockops")
int watch(struct bpf_sock_ops *ctx) {
  const __u32 op = ctx->op;
  if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_RTO_CB &&
      op != BPF_SOCK_OPS_STATE_CB) {
    return 1;
  }
  if (op == BPF_SOCK_OPS_STATE_CB &&
      (ctx->args[0] != BPF_TCP_SYN_SENT || ctx->args[1] != BPF_TCP_CLOSE)) {
    return 1;
  }
  if (op == BPF_SOCK_OPS_RTO_CB && ctx->state != BPF_TCP_SYN_SENT) return 1;
  const __u64 socket = bpf_get_socket_cookie(ctx);
  const struct muster_bpf_peer *peer = bpf_map_lookup_elem(&dialled, &socket);
  if (!peer) return 1;
  if (op == BPF_SOCK_OPS_TCP_CONNECT_CB) {
    /* What other programs have asked for stays. */
    bpf_sock_ops_cb_flags_set(ctx, (int)ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RTO_CB_FLAG |
                                       BPF_SOCK_OPS_STATE_CB_FLAG);
    return 1;
  }
  const endpoint vip = peer->vip;
  suspect(&vip);
  return 1;
}

/* None of the helpers used here is for GPL programs only. */
char license_text[] SEC("license") = "Apache-2.0";
