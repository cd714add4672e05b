"""Networks that are cut, lose, spoil or come and go."""
import time

import room as rooms
from matrix import Skipped, row
from rows_process import differing, down, victim

GOSSIP = "61420"


def left(room, node, nodes):
    """No backend on `node` takes connections of any of `nodes`."""
    return lambda: all(not any(b.startswith(f"10.66.0.{node}:") for b in room.backends(n) or ["10.66.0.%d:" % node]) for n in nodes)


@row("host-cut", "a host is cut off the network, and comes back", quick=True,
     holds="no new connection fails elsewhere (one that met it is tried again within connect()); its backends leave, no others")
def host_cut(r):
    gone = victim(r.room)
    with r.traffic() as seen:
        r.room("cut", gone)
        r.figure(f"its backends left in {r.until('its backends leave', left(r.room, gone, r.room.others(gone))):.1f} s")
        r.until("it is known to be gone", down(r.room, gone, "host_down"))
        kept = {b for b in r.room.truth() if not b.startswith(f"10.66.0.{gone}:")}
        r.hold("no others left", all(kept <= (r.room.backends(n) or set()) for n in r.room.others(gone)))
        seen.steady()
        r.room("heal", gone)
        r.until("its backends are back", lambda: not r.room.wrong())
        seen.steady()
    r.unharmed(seen, lost_with=[gone])


def one_way(r, rule):
    gone = victim(r.room)
    with r.traffic() as seen:
        with r.room.rules(gone, rule):
            r.figure(f"its backends left in {r.until('its backends leave', left(r.room, gone, r.room.others(gone))):.1f} s")
            r.hold("the others see each other", all(s == "alive" for n in r.room.others(gone)
                                                    for m, s in r.room.statuses(n).items() if m != gone))
            seen.steady()
        r.until("its backends are back", lambda: not r.room.wrong())
        seen.steady()
    r.unharmed(seen, lost_with=[gone])


@row("host-deaf", "a host hears nobody, and is heard", holds="as for a host that is cut off")
def host_deaf(r):
    one_way(r, "ip saddr 10.66.0.0/24 drop")


@row("host-mute", "a host hears all, and nobody hears it", holds="as for a host that is cut off")
def host_mute(r):
    one_way(r, "}\n chain out {\n  type filter hook output priority -300;\n  ip daddr 10.66.0.0/24 drop")


@row("host-flapping", "a host is cut off and back ten times, at intervals of 0.3 to 2 s",
     holds="no new connection fails elsewhere; all is whole afterwards")
def host_flapping(r):
    gone = victim(r.room)
    with r.traffic() as seen:
        for turn in range(10):
            r.room("cut", gone)
            time.sleep(0.3 + turn % 3 * 0.6)  # shorter and longer than a verdict takes
            r.room("heal", gone)
            time.sleep(0.3 + turn % 4 * 0.5)
        r.figure(f"whole {r.until('all is whole', lambda: not r.room.wrong()):.1f} s after the last")
        seen.steady()
    r.unharmed(seen, lost_with=[gone])


@row("halves", "two nodes cannot hear the other two; both hear the master",
     holds="no new connection fails on either side; each side takes the other's backends out; all is whole afterwards")
def halves(r):
    deaf = {n: "ip saddr { %s } drop" % ", ".join(f"10.66.0.{m}" for m in r.room.all_nodes() if (m <= 2) != (n <= 2)) for n in r.room.all_nodes()}
    with r.traffic(1, 3) as seen:
        rules = [r.room.rules(n, deaf[n]) for n in r.room.all_nodes()]
        for one in rules:
            one.__enter__()
        try:
            r.until("each side takes the other's backends out",
                    lambda: all(left(r.room, m, [n])() for n in r.room.all_nodes() for m in r.room.all_nodes() if (m <= 2) != (n <= 2)))
            seen.steady()
        finally:
            for one in rules:
                one.__exit__(None, None, None)
        r.figure(f"whole {r.until('all is whole', lambda: not r.room.wrong()):.1f} s after the heal")
        seen.steady()
    r.unharmed(seen, lost_with=r.room.all_nodes())


def everywhere(r, rule, work):
    rules = [r.room.rules(n, rule) for n in r.room.all_nodes()]
    for one in rules:
        one.__enter__()
    try:
        work()
    finally:
        for one in rules:
            one.__exit__(None, None, None)


def changes(r, seen, count):
    """`count` changes that each reach every node; and nobody is believed dead meanwhile."""
    longest = 0.0
    dead = []
    for turn in range(count):
        wanted = 5 if turn % 2 == 0 else 6
        r.room("scale", "/web", wanted)
        longest = max(longest, r.until(f"change {turn + 1} reaches all", lambda: not differing(r.room, r.room.all_nodes(), wanted)))
        dead += [f"node {n}: {s}" for n in r.room.all_nodes() for s in [r.room.statuses(n)] if set(s.values()) - {"alive"}]
        seen.steady()
    r.hold("nobody was believed dead", not dead, dead)
    r.figure(f"{count} changes, each with every node in at most {longest:.1f} s")


def nothing_failed(r, seen):
    """Where backends are stopped on purpose, connections that stand end with them."""
    failed = seen.failed("connect") + seen.failed("reply")
    r.hold("every new connection was answered", not failed, failed[:5])
    r.hold("every lookup was answered", not seen.failed("lookup"), seen.failed("lookup")[:5])
    r.count(seen)


@row("changes", "no fault: 40 changes, each as soon as the one before has reached all",
     holds="nothing fails")
def only_changes(r):
    with r.traffic(1, 2, 3) as seen:
        for turn in range(40):
            wanted = 5 + turn % 2
            r.room("scale", "/web", wanted)
            r.room.until(lambda: not differing(r.room, r.room.all_nodes(), wanted))  # noqa: B023
        r.until("the last reaches all", lambda: not r.room.wrong())
    nothing_failed(r, seen)


@row("loss", "every node loses 30 % of what it takes in of gossip and of the master's stream",
     holds="changes reach all, nobody is believed dead, nothing fails")
def loss(r):
    lost = f"numgen random mod 100 < 30 meta l4proto {{ tcp, udp }} th dport {GOSSIP} drop\n  numgen random mod 100 < 30 tcp sport {{ 5050, {GOSSIP} }} drop"
    with r.traffic() as seen:
        everywhere(r, lost, lambda: changes(r, seen, 6))
    nothing_failed(r, seen)


@row("corruption", "in a fifth of gossip's datagrams and segments four octets are changed on the way",
     holds="what is spoilt is dropped and counted; changes reach all, nobody is believed dead, nothing fails")
def corruption(r):
    spoil = "\n  ".join(f"{proto} dport {GOSSIP} numgen random mod 100 < 20 @th,{bits},32 set 0xdeadbeef" for proto, bits in (("udp", 320), ("tcp", 480)))
    before = [r.room.metric(n, "muster_gossip_datagrams_dropped_total") or 0 for n in r.room.all_nodes()]
    with r.traffic() as seen:
        everywhere(r, spoil, lambda: changes(r, seen, 4))
    dropped = [(r.room.metric(n, "muster_gossip_datagrams_dropped_total") or 0) - b for n, b in zip(r.room.all_nodes(), before)]
    r.hold("every node dropped some, and counted them", all(n > 0 for n in dropped), dropped)
    r.figure(f"{sum(dropped):.0f} datagrams dropped")
    nothing_failed(r, seen)


@row("mtu-576", "every node's interface takes 576 octets at most, and the daemons are started anew", spoils=True,  # IPv6 goes with it
     holds="changes reach all, a daemon that starts gets the whole state, nobody is believed dead, nothing fails")
def mtu(r):
    for node in r.room.all_nodes():
        r.room.sh(node, "ip link set eth0 mtu 576")
        r.room.restart(node)  # the master's stream that stood would hang: its end of the cable has the MTU it had
    r.until("all is whole", lambda: not r.room.wrong())
    with r.traffic() as seen:
        changes(r, seen, 4)
        r.room.restart(3)
        r.until("a daemon that starts gets the whole state", lambda: not r.room.wrong())
    nothing_failed(r, seen)


ROUTES = """ip route show | grep -v 'proto kernel' >/run/muster-dev/routes || :
ip -6 route show | grep -v 'proto kernel' >/run/muster-dev/routes6 || :
ip -6 addr show dev eth0 scope global | awk '/inet6/ {print $2}' >/run/muster-dev/addr6"""
RESTORE = """while read a; do ip -6 addr add $a dev eth0 nodad 2>/dev/null || :; done </run/muster-dev/addr6
grep -v ' lo ' /run/muster-dev/routes | while read r; do ip route add $r 2>/dev/null || :; done
grep -v ' lo ' /run/muster-dev/routes6 | while read r; do ip -6 route add $r 2>/dev/null || :; done"""


@row("interface-down", "a client's node has its interface down for some seconds; its routes are put back as ifup does",
     holds="every other node goes on; on this one all is as before once it is up")
def interface_down(r):
    gone = 1
    with r.traffic(2) as seen:
        r.room.sh(gone, ROUTES + "\nip link set eth0 down")
        r.until("its backends leave elsewhere", left(r.room, gone, r.room.others(gone)))
        r.room.sh(gone, "ip link set eth0 up\n" + RESTORE)
        r.figure(f"whole {r.until('all is whole', lambda: not r.room.wrong()):.1f} s after it was up")
    r.unharmed(seen, lost_with=[gone])
    with r.traffic(1) as seen:
        seen.steady()
    r.unharmed(seen)


@row("loopback-down", "a client's node has lo down and up: the kernel forgets the route to the VIPs",
     holds="the route is put back at once; every new connection is answered after it")
def loopback_down(r):
    with r.traffic(1, 2) as seen:
        begun = time.monotonic()
        r.room.sh(1, "ip link set lo down; ip link set lo up")
        up = time.monotonic()
        r.until("the route is there", lambda: "11.0.0.0/8" in r.room.sh(1, "ip route show table all"))
        back = time.monotonic()
        r.until("and all is whole", lambda: not r.room.wrong())
        seen.steady(40)
    late = [e for e in seen.failed("connect") + seen.failed("reply") if e["at"] > back]
    r.hold("every new connection was answered after it", not late, late[:5])
    early = [e for e in seen.failed("connect") + seen.failed("reply") if e["at"] < begun - 15]
    r.hold("and before", not early, early[:5])
    r.figure(f"back {back - up:.1f} s after lo")
    r.count(seen)


ZOO = """tickTime=500
dataDir=/run/muster-dev/zookeeper
clientPortAddress=10.66.0.4
clientPort=2181
admin.enableServer=false
4lw.commands.whitelist=ruok
maxClientCnxns=0
"""
JAVA = "/usr/share/java"
LEADER = '{"address":{"hostname":"master1","ip":"10.66.0.250","port":5050},"hostname":"master1","id":"m1","ip":4194321930,"pid":"master@10.66.0.250:5050","port":5050,"version":"1.11.0"}'


class ZooKeeper:
    """A real one on node 4; the daemons' masters come from it."""

    def __init__(self, room):
        self.room, self.server = room, None

    def start(self):
        self.server = self.room.spawn(4, "sh", "-c", "exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "
                                      f"{JAVA}/zookeeper.jar:{JAVA}/slf4j-nop.jar org.apache.zookeeper.server.ZooKeeperServerMain /run/muster-dev/zoo.cfg")

    def pid(self):
        return int(self.room.sh(4, "for p in /proc/[0-9]*; do grep -qs ZooKeeperServerMain $p/cmdline && [ \"$(cat $p/comm)\" = java ] && echo ${p#/proc/} && exit 0; done"))

    def signal(self, name):
        self.room.sh(4, f"kill -{name} {self.pid()}")

    def tell(self, *command):
        return self.room.try_on(4, "java", "-cp", f"{JAVA}/zookeeper.jar:{JAVA}/slf4j-nop.jar", "org.apache.zookeeper.ZooKeeperMain",
                                "-server", "10.66.0.4:2181", *command)

    def __enter__(self):
        if not (rooms.pathlib.Path(JAVA) / "zookeeper.jar").exists():
            raise Skipped("Debian's zookeeper is not installed")
        self.room.sh(4, f"mkdir -p /run/muster-dev/zookeeper; cat >/run/muster-dev/zoo.cfg <<'END'\n{ZOO}END")
        self.start()
        self.room.until(lambda: "Created" in self.tell("create", "/mesos", "x")[1] or "exists" in self.tell("ls", "/mesos")[1].lower(), 60)
        self.tell("create", "/mesos/json.info_0000000001", LEADER)
        return self

    def __exit__(self, *_):
        self.room.try_on(4, "sh", "-c", "pkill -KILL -x java || :")  # of this pid namespace only
        self.server.wait()


@row("zookeeper", "the ZooKeeper that names the master is stopped (SIGSTOP), killed with -9 and started again", spoils=True,
     holds="the master it last named is followed: changes reach all, nothing fails")
def zookeeper(r):
    def followed():
        return any((r.room.get(n, "/v1/status") or {}).get("observation", {}).get("state") == "subscribed" for n in r.room.all_nodes())

    def change(what, count):
        r.room("scale", "/web", count)
        r.figure(f"{what}: a change reaches all in {r.until(f'{what}: a change reaches all', lambda: not differing(r.room, r.room.all_nodes(), count)):.1f} s")

    with ZooKeeper(r.room) as zoo:
        for node in r.room.all_nodes():
            r.room.before(node, "export MUSTER_MESOS_MASTERS=zk://10.66.0.4:2181/mesos")
            r.room.restart(node)
        r.until("the master that ZooKeeper names is followed", lambda: followed() and not r.room.wrong())
        with r.traffic(1, 2) as seen:
            zoo.signal("STOP")
            seen.steady()
            change("stopped", 5)
            zoo.signal("CONT")
            zoo.signal("KILL")
            seen.steady()
            change("killed", 6)
            zoo.start()
            r.until("followed on", lambda: followed() and not r.room.wrong())
            change("back", 5)
    nothing_failed(r, seen)
