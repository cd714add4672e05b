"""What happens to one node: its rules, its disk, its limits, its clock, its kernel."""
import time

from matrix import row
from rows_network import changes, nothing_failed

STATE = "/run/muster-dev/state"


def only_before(r, seen, back):
    """What failed on node 1 had begun before it was mended."""
    failed = seen.failed("connect") + seen.failed("reply")
    late = [e for e in failed if e["at"] > back]
    r.hold("every connection after it was answered", not late, late[:5])
    r.hold("every lookup was answered", not seen.failed("lookup"), seen.failed("lookup")[:5])
    elsewhere = [e for e in seen.failed("connect", [2]) + seen.failed("reply", [2])]
    r.hold("nothing failed on other nodes", not elsewhere, elsewhere[:5])
    r.count(seen)


@row("rules-flushed", "somebody runs `nft flush ruleset` on a client's node, three times", quick=True,
     holds="the rules are back at once; no new connection fails once they are; other nodes notice nothing")
def rules_flushed(r):
    took = []
    with r.traffic() as seen:
        for _ in range(3):
            r.room.sh(1, "nft flush ruleset")
            took.append(r.until("the rules are back", lambda: "chain retry" in r.room.sh(1, "nft list table ip muster 2>/dev/null || :")))
            back = time.monotonic()
            seen.steady(40)
    only_before(r, seen, back)
    r.figure(f"back in {max(took):.1f} s, as a look every 0.1 s sees it")


def listed(room):
    """The lines of all that muster has in node 1's kernel for IPv4."""
    return room.sh(1, "nft -s list table ip muster 2>/dev/null || :; ip route show table all proto 109; ip route show table all proto 110").splitlines()


@row("rules-edited", "somebody removes single things of muster's on a client's node: elements, a chain's rules, the route, the whole table",
     holds="each is put back; no new connection fails once it is; other nodes notice nothing")
def rules_edited(r):
    deeds = {"an element of the VIPs": "nft flush map ip muster vips_tcp",
             "the slots": "nft flush map ip muster slots_tcp",
             "a chain's rules": "nft flush chain ip muster retry",
             "the table": "nft delete table ip muster",
             "the route": "ip route del 11.0.0.0/8 table all || ip route flush proto 109; ip route flush table local proto 110"}
    slowest = 0.0
    with r.traffic() as seen:
        for what, deed in deeds.items():
            whole = len(listed(r.room))
            r.room.sh(1, deed)
            slowest = max(slowest, r.until(f"{what}: back", lambda: len(listed(r.room)) == whole and not r.room.wrong([1])))
            back = time.monotonic()
            seen.steady(40)
    only_before(r, seen, back)
    r.figure(f"back in {slowest:.1f} s at most")


@row("rules-of-others", "another program rewrites its own nftables rules ten times a second on a client's node",
     holds="nothing fails, muster repairs nothing, and its work stays small")
def rules_of_others(r):
    def cpu():
        fields = open(f"/proc/{r.room.pid(1)}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100
    with r.traffic() as seen:
        before, repairs, begun = cpu(), r.room.metric(1, "muster_lb_reconcile_repairs_total"), time.monotonic()
        for _ in range(15):
            r.room.sh(1, "for i in 1 2 3 4 5 6 7 8 9 10; do nft 'add table ip other; flush table ip other; add chain ip other c; add rule ip other c counter'; sleep 0.1; done")
        spent, took = cpu() - before, time.monotonic() - begun
        changes(r, seen, 2)
        r.room.sh(1, "nft delete table ip other")
    r.hold("nothing was repaired", r.room.metric(1, "muster_lb_reconcile_repairs_total") == repairs)
    r.figure(f"{100 * spent / took:.0f} % of a core")
    nothing_failed(r, seen)


def restarts_and_changes(r, seen):
    r.room.restart(1)
    r.until("a daemon that starts there serves", lambda: not r.room.wrong())
    changes(r, seen, 2)


@row("disk-full", "the state directory of a client's node is full (a small tmpfs), and the daemon is killed and started", quick=True,
     holds="the daemon starts and serves; the log says what cannot be written; no connection fails")
def disk_full(r):
    with r.traffic() as seen:
        r.room.sh(1, f"cp -a {STATE} /run/muster-dev/kept; mount -t tmpfs -o size=64k none {STATE}; cp -a /run/muster-dev/kept/. {STATE}/; "
                     f"cat /dev/zero >{STATE}/filler 2>/dev/null || :")
        restarts_and_changes(r, seen)
        r.hold("the log says so", "No space left" in r.room("logs", 1))
        r.room.sh(1, f"umount {STATE}; rm -rf /run/muster-dev/kept")
    nothing_failed_but(r, seen, 1)


def nothing_failed_but(r, seen, node):
    """Lookups of a node whose daemon was started anew pause."""
    failed = seen.failed("connect") + seen.failed("reply")
    r.hold("every new connection was answered", not failed, failed[:5])
    hearing = [c.node for c in seen.clients if c.node != node]
    r.hold(f"every lookup was answered but on node {node}", not seen.failed("lookup", hearing), seen.failed("lookup", hearing)[:5])
    r.count(seen)
    r.figure(f"its lookups paused {seen.pause([node]):.1f} s")


@row("disk-read-only", "the state directory of a client's node cannot be written to, and the daemon is killed and started",
     holds="the daemon starts and serves; the log says what cannot be written; no connection fails")
def disk_read_only(r):
    with r.traffic() as seen:
        r.room.sh(1, f"mount --bind {STATE} {STATE}; mount -o remount,ro,bind {STATE}")
        restarts_and_changes(r, seen)
        r.hold("the log says so", "Read-only file system" in r.room("logs", 1))
        r.room.sh(1, f"umount {STATE}")
    nothing_failed_but(r, seen, 1)


SPOILT = {"cut to half": "truncate -s $(($(stat -c %s F) / 2)) F",
          "of no length": "truncate -s 0 F",
          "with an octet changed": "printf X | dd of=F bs=1 seek=$(($(stat -c %s F) / 3)) conv=notrunc 2>/dev/null",
          "of noise": "head -c 20000 /dev/urandom >F",
          "with noise behind it": "head -c 100 /dev/urandom >>F",
          "a folder": "rm -f F; mkdir F"}


@row("state-spoilt", "the files that a daemon keeps (state, node, members) are cut, emptied, changed, noise, a folder; it is killed and started, 18 times",
     holds="the daemon says what is damaged, starts without it and serves; no connection fails")
def state_spoilt(r):
    with r.traffic() as seen:
        for name in ("state", "node", "members"):
            for what, deed in SPOILT.items():
                r.until(f"{name} is there", lambda: "yes" in r.room.sh(1, f"[ -f {STATE}/{name} ] && echo yes || :"))
                r.room("kill-agent", 1)
                r.room.sh(1, deed.replace("F", f"{STATE}/{name}"))
                r.room.start(1)
                r.until(f"{name} {what}: the daemon serves", lambda: not serves(r.room, 1))
                if what == "a folder":
                    r.room.sh(1, f"rm -rf {STATE}/{name}")
                    r.room.restart(1)
                    r.until("serves again", lambda: not serves(r.room, 1))
    nothing_failed_but(r, seen, 1)


def serves(room, node):
    """What a node lacks by itself; others may know it under more than one id for a while."""
    vips, status = room.look(node, "/v1/vips", "/v1/status")
    if not status or not status["ready"] or not status["lb"]["healthy"]:
        return f"node {node}: {status}"
    return "" if room.backends_of(vips) == room.truth() else "other backends"
