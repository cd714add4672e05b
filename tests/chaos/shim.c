/* Put before a daemon by LD_PRELOAD: its kernel refuses, or its clock is another.
 *
 * CHAOS_REFUSE=ERRNO:FIRST:LAST[:answer]  the FIRST to LAST request by netlink fails with ERRNO: it is not
 *     sent; with `answer` it is sent and done, and the kernel's "done" is turned into that error.
 *     EVERY in place of LAST as `FIRST:+N`: from FIRST on each N-th.
 * CHAOS_CLOCK=FILE  the wall clock is ahead by the seconds that FILE holds, read anew each second.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/netlink.h>

struct refusal {
  int number;
  long first, last, every;
  int answers;
};

static struct refusal refusal;
static atomic_long requests;

__attribute__((constructor)) static void read_environment(void) {
  const char* text = getenv("CHAOS_REFUSE");
  char rest[32] = "";
  if (text == NULL) return;
  if (sscanf(text, "%d:%ld:%31s", &refusal.number, &refusal.first, rest) < 3) return;
  refusal.answers = strstr(rest, ":answer") != NULL;
  if (rest[0] == '+') {
    refusal.every = strtol(rest + 1, NULL, 10);
  } else {
    refusal.last = strtol(rest, NULL, 10);
  }
}

static int is_netlink(int fd) {
  int domain = 0;
  socklen_t size = sizeof domain;
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_NETLINK;
}

static int is_refused(long request) {
  if (refusal.number == 0 || request < refusal.first) return 0;
  return refusal.every > 0 ? (request - refusal.first) % refusal.every == 0 : request <= refusal.last;
}

ssize_t sendto(int fd, const void* data, size_t size, int flags, const struct sockaddr* to, socklen_t length) {
  static ssize_t (*real)(int, const void*, size_t, int, const struct sockaddr*, socklen_t);
  if (real == NULL) real = (ssize_t(*)(int, const void*, size_t, int, const struct sockaddr*, socklen_t))dlsym(RTLD_NEXT, "sendto");
  if (refusal.number != 0 && to != NULL && to->sa_family == AF_NETLINK) {
    const long request = atomic_fetch_add(&requests, 1) + 1;
    if (!refusal.answers && is_refused(request)) {
      errno = refusal.number;
      return -1;
    }
  }
  return real(fd, data, size, flags, to, length);
}

ssize_t recv(int fd, void* data, size_t size, int flags) {
  static ssize_t (*real)(int, void*, size_t, int);
  if (real == NULL) real = (ssize_t(*)(int, void*, size_t, int))dlsym(RTLD_NEXT, "recv");
  const ssize_t got = real(fd, data, size, flags);
  if (refusal.number == 0 || !refusal.answers || got < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || !is_netlink(fd)) return got;
  struct nlmsghdr* message = data;
  struct nlmsgerr* verdict = NLMSG_DATA(message);
  if (message->nlmsg_type == NLMSG_ERROR && verdict->error == 0 && is_refused(atomic_load(&requests))) verdict->error = -refusal.number;
  return got;
}

static long ahead(void) {
  static atomic_long seconds, read_at;
  static int (*real)(clockid_t, struct timespec*);
  const char* path = getenv("CHAOS_CLOCK");
  if (path == NULL) return 0;
  if (real == NULL) real = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  struct timespec now;
  real(CLOCK_MONOTONIC, &now);
  if (atomic_exchange(&read_at, now.tv_sec) != now.tv_sec) {
    long found = 0;
    FILE* file = fopen(path, "re");
    if (file != NULL) {
      if (fscanf(file, "%ld", &found) == 1) atomic_store(&seconds, found);
      fclose(file);
    }
  }
  return atomic_load(&seconds);
}

int clock_gettime(clockid_t clock, struct timespec* into) {
  static int (*real)(clockid_t, struct timespec*);
  if (real == NULL) real = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  const int done = real(clock, into);
  if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) into->tv_sec += ahead();
  return done;
}

time_t time(time_t* into) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (into != NULL) *into = now.tv_sec;
  return now.tv_sec;
}
