"""Processes that die or stand still: daemons, who publishes, backends, the master."""
import random
import time

from matrix import row

SEED = 8


def victim(room):
    """A node that does not publish and has no client."""
    return next(n for n in room.others(1, 2) if n != room.publisher())


def down(room, node, status="daemon_down"):
    return lambda: all(room.statuses(n).get(node) == status for n in room.others(node))


@row("daemon-killed", "kill -9 of the daemon on a client's node, started again once all know", quick=True,
     holds="no connection fails or breaks, no backend leaves; only that node's lookups pause")
def daemon_killed(r):
    with r.traffic() as seen:
        r.room("kill-agent", 1)
        r.figure(f"known everywhere {r.until('all know that the daemon is down', down(r.room, 1)):.1f} s")
        r.hold("no backend left", all(r.room.backends(n) == r.room.truth() for n in r.room.others(1)))
        seen.steady()
        r.room.start(1)
        seen.steady(60)
    r.unharmed(seen, silent=[1])
    r.figure(f"lookups on its node paused {seen.pause([1]):.1f} s, from death to start by hand")


@row("daemon-killed-often", "kill -9 of the daemon on a client's node, at 20 random instants, at once started again",
     holds="no connection fails or breaks")
def daemon_killed_often(r):
    rng = random.Random(SEED)
    with r.traffic() as seen:
        for _ in range(20):
            r.room.restart(1)
            time.sleep(rng.random())
        seen.steady(60)
    r.unharmed(seen, silent=[1])
    r.figure(f"longest pause of its lookups {seen.pause([1]):.1f} s")


@row("daemon-frozen", "SIGSTOP of the daemon on a client's node, SIGCONT once all know",
     holds="no connection fails or breaks, no backend leaves; only that node's lookups pause")
def daemon_frozen(r):
    with r.traffic() as seen:
        with r.room.stopped(r.room.pid(1)):
            r.figure(f"known everywhere {r.until('all know that the daemon is down', down(r.room, 1)):.1f} s")
            r.hold("no backend left", all(r.room.backends(n) == r.room.truth() for n in r.room.others(1)))
            seen.steady()
        seen.steady(60)
    r.unharmed(seen, silent=[1])


def succession(r, act):
    """Who publishes goes silent; what changes while it is reaches all the others."""
    first = r.room.publisher()
    clients = r.room.others(first)[:2]
    with r.traffic(*clients) as seen:
        with act(first):
            r.figure(f"another publishes {r.until('another publishes', lambda: r.room.publisher(clients[0]) not in (None, first)):.1f} s after")
            r.room("scale", "/web", 4)
            took = r.until("a change reaches all the others", lambda: not differing(r.room, r.room.others(first), 4))
            r.figure(f"a change reaches all in {took:.1f} s")
            r.room("scale", "/web", 6)
            r.until("and the next", lambda: not differing(r.room, r.room.others(first), 6))
        seen.steady(40)
    # Tasks that are killed on purpose end their connections; they drain before.
    failed = seen.failed("connect") + seen.failed("reply")
    r.hold("every new connection was answered", not failed, failed[:5])
    r.hold("every lookup was answered", not seen.failed("lookup"), seen.failed("lookup")[:5])
    r.count(seen)


def differing(room, nodes, count):
    truth = room.truth()
    return len(truth) != count or any(room.backends(n) != truth for n in nodes)


class Killed:
    def __init__(self, room, node):
        self.room, self.node = room, node

    def __enter__(self):
        self.room("kill-agent", self.node)

    def __exit__(self, *_):
        self.room.start(self.node)


@row("publisher-killed", "kill -9 of the daemon that follows Mesos for all", quick=True,
     holds="no new connection or lookup fails elsewhere; another publishes, and changes reach all")
def publisher_killed(r):
    succession(r, lambda node: Killed(r.room, node))


@row("publisher-frozen", "SIGSTOP of the daemon that follows Mesos for all, then SIGCONT: it publishes no more",
     holds="no new connection or lookup fails elsewhere; another publishes, and changes reach all")
def publisher_frozen(r):
    succession(r, lambda node: r.room.stopped(r.room.pid(node)))


@row("daemons-killed", "kill -9 of all daemons at once; started after connections went on",
     holds="no connection fails or breaks; lookups pause; what the disk has serves at once")
def daemons_killed(r):
    with r.traffic() as seen:
        for node in r.room.all_nodes():
            r.room("kill-agent", node)
        seen.steady(40)
        begun = time.monotonic()
        for node in r.room.all_nodes():
            r.room.start(node)
        r.until("every node serves", lambda: not r.room.wrong())
        r.figure(f"whole {time.monotonic() - begun:.1f} s after the start")
        seen.steady()
    r.unharmed(seen, silent=[1, 2])


@row("backend-killed", "kill -9 of a backend; Mesos starts another", quick=True,
     holds="no connection fails before a backend has accepted it; what the dead one had accepted is lost")
def backend_killed(r):
    with r.traffic() as seen:
        killed = r.room.ps()["tasks"][0]
        begun = time.monotonic()
        r.room("kill", "--app", "/web", "--instance", "1", "--signal", "KILL")
        r.until("it is out everywhere", lambda: not r.room.wrong())
        seen.steady(60)
    refused = seen.failed("connect")
    r.hold("no connection failed before it was accepted", not refused, refused[:5])
    late = [e for e in seen.failed("reply") if e["at"] > begun + 1]
    r.hold("nothing was lost but inside the dead one", not late, late[:5])
    broken = seen.failed("kept", but=[int(killed["node"][4:])])
    r.hold("no connection to another backend broke", not broken, broken[:5])
    r.hold("every lookup was answered", not seen.failed("lookup"), seen.failed("lookup")[:5])
    r.count(seen)


@row("backend-frozen", "SIGSTOP of a backend: its kernel accepts, and nobody answers",
     holds="only connections it accepted before its health check failed wait or fail")
def backend_frozen(r):
    with r.traffic() as seen:
        frozen = r.room.ps()["tasks"][0]
        begun = time.monotonic()
        with r.room.stopped(frozen["pid"]):
            took = r.until("it gets no more connections anywhere",
                           lambda: all(frozen["address"] not in (r.room.backends(n) or {frozen["address"]}) for n in r.room.all_nodes()))
            out = time.monotonic()
            seen.steady(60)
    late = [e for e in seen.failed("connect") + seen.failed("reply") if e["at"] > out]
    r.hold("nothing failed once it was out", not late, late[:5])
    r.hold("no connection was refused", not seen.failed("connect"), seen.failed("connect")[:5])
    broken = seen.failed("kept", but=[int(frozen["node"][4:])])
    r.hold("no connection to another backend broke", not broken, broken[:5])
    r.hold("every lookup was answered", not seen.failed("lookup"), seen.failed("lookup")[:5])
    r.figure(f"out {took:.1f} s after ({out - begun:.1f} s of health checks)")
    r.count(seen)


@row("master-killed", "the Mesos master is gone; started again later", quick=True,
     holds="no connection or lookup fails; nothing leaves; changes go on after it is back")
def master_killed(r):
    with r.traffic() as seen:
        r.room("master", "kill")
        seen.steady(100)
        before = r.room.truth()
        r.hold("nothing left", all(r.room.backends(n) == before for n in r.room.all_nodes()))
        r.room("master", "start")
        r.room.until(lambda: r.room.ps()["master"] == "leading", 60)
        r.until("every agent is back", lambda: not r.room.wrong())
        seen.steady()
    r.unharmed(seen)
    r.room("scale", "/web", 5)
    r.figure(f"a change reaches all in {r.until('a change reaches all', lambda: not differing(r.room, r.room.all_nodes(), 5)):.1f} s")
    r.room("scale", "/web", 6)


@row("master-failover", "the master dies and the other one leads, knowing its agents only as they come back",
     holds="no connection or lookup fails; no backend leaves")
def master_failover(r):
    with r.traffic() as seen:
        fewest = [99]

        def back():
            fewest[0] = min(fewest[0], *(len(r.room.backends(n) or "......") for n in r.room.all_nodes()))
            return r.room.ps()["master"] == "leading" and not r.room.wrong()
        r.room("master", "failover")
        r.until("every agent is back", back)
        r.hold("no backend left", fewest[0] == 6, fewest[0])
        seen.steady()
    r.unharmed(seen)
