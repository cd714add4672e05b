"""What a node runs out of, a kernel that refuses, a clock that jumps, other daemons beside ours."""
import contextlib
import errno
import os
import pathlib
import shutil
import subprocess
import time

import room as rooms
from matrix import Skipped, row
from rows_network import changes, nothing_failed
from rows_node import nothing_failed_but, serves
from rows_process import differing

HERE = pathlib.Path(__file__).parent


def shim(r):
    """The library that stands between a daemon and its kernel; built here, once."""
    if shutil.which("cc") is None:
        raise Skipped("no C compiler")
    path = r.room.wrapper.with_name("shim.so")
    if not path.exists():
        subprocess.run(["cc", "-std=gnu11", "-O1", "-fPIC", "-shared", "-o", str(path), str(HERE / "shim.c"), "-ldl"], check=True)
    # A sanitizer wants to be the first library, and looks for leaks when the process ends.
    return f"export LD_PRELOAD={path} ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0\n"


def limit(pid, *what):
    return subprocess.run(["prlimit", "--pid", str(pid), *what], check=True, capture_output=True, text=True).stdout.strip()


@row("descriptors", "the daemon of a client's node may open two descriptors more than it has, while 60 HTTP and 20 DNS clients connect by TCP",
     holds="nothing fails; lookups and changes go on; the same process has its limit lifted and is whole")
def descriptors(r):
    pid = r.room.pid(1)
    with r.traffic() as seen:
        before = limit(pid, "--nofile", "--noheadings", "-o", "SOFT")
        limit(pid, f"--nofile={len(os.listdir(f'/proc/{pid}/fd')) + 2}:")
        r.room.sh(1, "for i in $(seq 60); do curl -s -m 3 http://localhost:61421/metrics >/dev/null & done; "
                     "for i in $(seq 20); do dig +tcp +tries=1 +time=2 @127.0.0.1 web.marathon.mesos >/dev/null & done; wait || :", check=False)
        for wanted in (5, 6):
            r.room("scale", "/web", wanted)
            r.until("a change reaches the others", lambda: not differing(r.room, r.room.others(1), wanted))  # noqa: B023
            seen.steady()
        limit(pid, f"--nofile={before}:")
        r.until("all is whole", lambda: not r.room.wrong())
        r.hold("it is the same process", r.room.pid(1) == pid)
    nothing_failed(r, seen)


MEMORY = pathlib.Path("/sys/fs/cgroup/memory")
MORE = 256 << 10  # octets above what it has


@row("memory", "the daemon of a client's node may have a quarter of a megabyte more than it has (a cgroup), then is started within half of that",
     holds="it serves on, or is killed and started again; only what meets twice a backend that left while it was dead is refused")
def memory(r):
    group = MEMORY / f"muster-chaos-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise Skipped(f"no memory cgroup can be made: {error}") from error

    def bound(octets):
        def taken():  # EBUSY: what a process that has ended leaves behind is still being given back
            with contextlib.suppress(OSError):
                (group / "memory.limit_in_bytes").write_text(str(octets))
                return True
            return False

        r.until("the kernel takes the bound", taken)

    try:
        with r.traffic() as seen:
            r.room.before(1, f"echo $$ >{group}/cgroup.procs\n")
            r.room.restart(1)
            r.until("it serves", lambda: not r.room.wrong())
            pid, used = r.room.pid(1), int((group / "memory.usage_in_bytes").read_text())
            bound(used + MORE)
            for wanted in (5, 6, 5, 6):
                r.room("scale", "/web", wanted)
                r.until("a change reaches the others", lambda: not differing(r.room, r.room.others(1), wanted))  # noqa: B023
                if not r.room.pid(1):
                    r.room.start(1)  # as systemd would
                r.room.sh(1, "for i in 1 2 3 4 5 6 7 8; do curl -s -m 3 http://localhost:61421/metrics >/dev/null & done; wait || :", check=False)
            r.figure(f"with {used / 2**20:.1f} MiB and a quarter more: {'it served on' if r.room.pid(1) == pid else 'killed, and started again'}")
            r.room.restart(1)  # within the bound it now has, then within half
            seen.steady()
            with contextlib.suppress(subprocess.CalledProcessError):
                r.room("kill-agent", 1)
            bound(used // 2)
            r.room.start(1)
            seen.steady(40)
            r.figure(f"started within half of it: {'it serves' if not serves(r.room, 1) else 'killed'}")
            bound(-1)
            r.room.before(1, "")
            r.room.restart(1)
            r.until("all is whole", lambda: not r.room.wrong())
    finally:
        bound(-1)
        for pid in (group / "cgroup.procs").read_text().split():
            (MEMORY / "cgroup.procs").write_text(pid)
        group.rmdir()
    other = seen.failed("connect", [2]) + seen.failed("reply", [2]) + seen.failed("lookup", [2])
    r.hold("nothing failed on other nodes", not other, other[:5])
    strange = [e for e in seen.failed("connect", [1]) + seen.failed("reply", [1]) if e["wrong"] != "refused" or e["ms"] < 1000]
    r.hold("on this one only what was refused twice, by backends that had left", not strange, strange[:5])
    r.count(seen)


ERRORS = (errno.EPERM, errno.ENOBUFS, errno.EBUSY)
LAST_REQUEST = 60  # a start makes about 50


def started(r):
    """As systemd would: started again where it ended. How often that was."""
    ends = 0
    end = time.monotonic() + rooms.LIMIT
    while time.monotonic() < end and serves(r.room, 1):
        if not r.room.pid(1):
            ends += 1
            r.room.before(1, "")
            r.room.start(1)
        time.sleep(0.1)
    return ends


def refusing(r, answers):
    before = shim(r)
    ends = tried = 0
    with r.traffic() as seen:
        for number in ERRORS:
            for request in range(1, LAST_REQUEST + 1, r.options.step):
                r.room.before(1, f"{before}export CHAOS_REFUSE={number}:{request}:{request}{answers}\n")
                r.room.restart(1)
                ends += started(r)
                tried += 1
                wrong = serves(r.room, 1)
                if wrong:
                    r.hold(f"it serves though request {request} was refused ({errno.errorcode[number]})", False, wrong)
                    break
        r.hold(f"it serves, {tried} starts", True)
        r.room.before(1, "")
        r.room.restart(1)
    gave_up = [line for line in r.room("logs", 1).splitlines() if "no SYN failover" in line]
    r.hold("no refusal was taken for what the kernel cannot do", not gave_up, gave_up[:3])
    nothing_failed_but(r, seen, 1)
    r.figure(f"{tried} starts, {ends} ended with an error and were begun anew")


@row("kernel-refuses", "each netlink request of a start in turn is refused: EPERM, ENOBUFS, EBUSY; a daemon that ends is started again",
     holds="it serves in the end, and no connection fails")
def kernel_refuses(r):
    refusing(r, "")


@row("kernel-denies", "each netlink request of a start in turn is done, and called refused: EPERM, ENOBUFS, EBUSY",
     holds="it serves in the end, and no connection fails")
def kernel_denies(r):
    refusing(r, ":answer")


AFTER_START = 100
EACH = 61  # a look at all that is in the kernel takes some 20 requests, and has to get through
MOST_CHANGES = 150


@row("kernel-refuses-on", "every 61st netlink request of a client's node is refused (ENOBUFS, then EBUSY), for 12 changes each or more",
     holds="every change reaches the kernel, and no connection fails")
def kernel_refuses_on(r):
    before, refused = shim(r), 0
    with r.traffic() as seen:
        for number in (errno.ENOBUFS, errno.EBUSY):
            r.room.before(1, f"{before}export CHAOS_REFUSE={number}:{AFTER_START}:+{EACH}\n")
            r.room.restart(1)
            r.until("it serves", lambda: not serves(r.room, 1))
            counted = 0
            for turn in range(MOST_CHANGES):
                r.room("scale", "/web", 5 + turn % 2)
                r.until("a change reaches all", lambda: not differing(r.room, r.room.all_nodes(), 5 + turn % 2))  # noqa: B023
                counted = r.room.metric(1, "muster_lb_errors_total") or 0
                if turn >= 11 and counted >= 2:
                    break
            refused += counted
        r.room.before(1, "")
        r.room.restart(1)
        r.until("all is whole", lambda: not r.room.wrong())
    r.hold("requests were refused, and counted", refused > 0, refused)
    r.figure(f"{refused:.0f} refusals")
    nothing_failed_but(r, seen, 1)


@row("clock", "the wall clock of a client's node jumps: an hour ahead, a day back, ten years ahead, to 1970; then its daemon starts at each",
     holds="nothing fails, nobody is believed dead, changes reach all")
def clock(r):
    before = shim(r)
    jumps = [3600, -86400, 315_360_000, -int(time.time()) + 1000, 0]

    def jump(seconds):
        r.room.sh(1, f"echo {seconds} >/run/muster-dev/clock")
        time.sleep(1.5)  # the daemon's clock looks there once a second

    with r.traffic() as seen:
        r.room.before(1, f"{before}export CHAOS_CLOCK=/run/muster-dev/clock\n")
        jump(0)
        r.room.restart(1)
        r.until("it serves", lambda: not r.room.wrong())
        for turn, seconds in enumerate(jumps):
            jump(seconds)
            r.room("scale", "/web", 5 + turn % 2)
            r.until(f"a change reaches all ({seconds} s)", lambda: not differing(r.room, r.room.all_nodes(), 5 + turn % 2))  # noqa: B023
            dead = {n: r.room.statuses(n) for n in r.room.all_nodes() if set(r.room.statuses(n).values()) != {"alive"}}
            r.hold("nobody is believed dead", not dead, dead)
        r.room("scale", "/web", 6)
        for seconds in jumps:
            jump(seconds)
            r.room.restart(1)
            r.until(f"a daemon that starts then serves ({seconds} s)", lambda: not r.room.wrong())
        r.room.before(1, "")
        r.room.restart(1)
        r.until("all is whole", lambda: not r.room.wrong())
    nothing_failed_but(r, seen, 1)


@row("two-daemons", "a second daemon is started on a client's node, as it is and with ports of its own", quick=True,
     holds="it refuses to start and says why; the first one notices nothing")
def two_daemons(r):
    muster = r.room.build / "muster"
    own = "--set metrics.listen=127.0.0.1:61499 --set dns.enabled=false --set gossip.enabled=false --set state.directory='' --set control.socket=/run/second.sock"
    repairs = r.room.metric(1, "muster_lb_foreign_changes_total")
    with r.traffic() as seen:
        for what, options, why in (("as it is", "", "cannot listen"), ("with ports of its own", own, "another muster")):
            status, out = r.room.try_on(1, "sh", "-c", f"timeout 20 {muster} agent --config /run/muster-dev/muster.toml {options}")
            r.hold(f"{what}: it refuses to start, and says why", status == 1 and why in out, f"exit {status}: {out}")
        seen.steady()
    r.unharmed(seen)
    r.hold("the first one's rules were left alone", r.room.metric(1, "muster_lb_foreign_changes_total") == repairs)


@row("upgrade", "two nodes of four run the release before; then it is taken to the new one and back while all runs",
     holds="changes reach nodes of both, no connection fails; lookups pause at each restart")
def upgrade(r):
    old = r.options.previous
    if old is None or not old.exists():
        raise Skipped("no build of the release before (--previous); records and wire of two versions: tests/unit/cluster, tests/unit/gossip")
    with r.traffic() as seen:
        for node in (1, 3):
            r.room.before(node, f"muster={old.resolve()}\n")
            r.room.restart(node)
            r.until(f"the old one on node {node} serves", lambda: not r.room.wrong())
        changes(r, seen, 2)
        first = r.room.publisher()
        r.room.restart(first)
        r.until("another publishes", lambda: not r.room.wrong())
        changes(r, seen, 2)
        for node in (1, 3):
            r.room.before(node, "")
            r.room.restart(node)
            r.until(f"the new one on node {node} serves", lambda: not r.room.wrong())
        changes(r, seen, 2)
    nothing_failed_but(r, seen, 1)
