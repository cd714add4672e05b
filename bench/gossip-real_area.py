"""Sixty real daemons: how fast a death is known, and what a storm of pauses does. Debian's serf
does the same work in the same namespaces, at the same time."""
import contextlib
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import tempfile
import time

import sixty

ROWS = ["death.daemon", "death.host", "death.serf", "stall.false", "loss.false", "split.heal",
        "rolling.false", "rolling.connects", "restart.views", "idle.cpu", "idle.memory"]
LOSS_SECONDS = 60
SPLIT_SECONDS = 15
SERF_PORT = 7946


class Serf:
    """One agent a node, joined to node 1; a handler writes down when it learns of a failure."""

    def __init__(self, cluster):
        self.folder = tempfile.TemporaryDirectory(prefix="muster-serf.")
        handler = pathlib.Path(self.folder.name) / "failed"
        handler.write_text(f"#!/bin/sh\ndate +%s.%N >>{self.folder.name}/$SERF_SELF_NAME\n")
        handler.chmod(0o755)
        self.agents = {}
        for node in range(1, cluster.nodes + 1):
            self.agents[node] = cluster.spawn(
                node, "serf", "agent", f"-node=n{node}", f"-bind={cluster.address(node)}:{SERF_PORT}",
                "-rpc-addr=127.0.0.1:7373", "-profile=lan", "-log-level=err",
                f"-event-handler=member-failed={handler}", f"-retry-join={cluster.address(1)}")
        self.cluster = cluster

    def alive(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            return self.cluster.on(1, "serf", "members", "-status=alive").count("alive")
        return 0

    @staticmethod
    def pid(node):
        wanted = f"-node=n{node}".encode()
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                args = (entry / "cmdline").read_bytes().split(b"\0")
                if entry.name.isdigit() and args[0].endswith(b"serf") and wanted in args:
                    return int(entry.name)
        raise RuntimeError(f"serf does not run on node {node}")

    def told(self, since):
        times = []
        for path in pathlib.Path(self.folder.name).glob("n*"):
            stamps = [float(line) - since for line in path.read_text().split()]
            times += [min(s for s in stamps if s >= 0)] if any(s >= 0 for s in stamps) else []
        return times

    def failures(self):
        return sum(len(path.read_text().split())
                   for path in pathlib.Path(self.folder.name).glob("n*"))

    def wait(self):
        end = time.time() + 60
        while self.alive() < self.cluster.nodes and time.time() < end:
            time.sleep(0.5)

    def close(self):
        for agent in self.agents.values():
            if agent.poll() is None:
                agent.terminate()
        for agent in self.agents.values():
            agent.wait()
        self.folder.cleanup()


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def agents(cluster):
    """The pids of this cluster's daemons, and of no other that runs on this machine."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            args = (entry / "cmdline").read_bytes().split(b"\0")
            if len(args) < 4 or args[1] != b"agent" or args[3] != b"/run/muster-dev/muster.toml":
                continue
            ancestor = parent(entry.name)
            while ancestor not in (0, 1, cluster.process.pid):
                ancestor = parent(ancestor)
            if ancestor == cluster.process.pid:
                found.append(int(entry.name))
    return sorted(found)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_mb(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.split("Pss:")[1].split()[0]) / 1024


def deaths(bench, cluster, rng, rows):
    known = []
    wrong = 0
    for round_ in range(bench.rounds):
        node = cluster.publisher() if round_ == 0 else rng.randrange(2, cluster.nodes)
        begun = time.time()
        cluster("kill-agent", node)
        time.sleep(2.5)
        who = cluster.address(node).replace(".", r"\.")
        told = cluster.when(rf"at {who}:\d+ is daemon_down", begun, but=[node])
        wrong += len(cluster.when(r"is host_down", begun, but=[node]))
        wrong += cluster.nodes - 1 - len(told)
        known.append(max(told.values(), default=9.9))
        cluster("start-agent", node)
        cluster.settle()
        bench.note(f"daemon of node {node} killed: known to {len(told)} in {known[-1]:.3f} s")
    worst = max(known) if wrong == 0 else 99.0
    rows.append(Row("death.daemon", "daemon killed: known everywhere, median / worst",
                    f"{statistics.median(known):.3f} / {max(known):.3f} s", "-", worst, 0.8))
    out = []
    for _ in range(bench.rounds):
        node = rng.randrange(2, cluster.nodes)
        begun = time.time()
        cluster("cut", node)
        time.sleep(3)
        told = cluster.when(r"lb: the kernel has every change", begun, but=[node])
        out.append(max(told.values()) if len(told) == cluster.nodes - 1 else 9.9)
        cluster("heal", node)
        cluster.settle()
        time.sleep(1)
        bench.note(f"host {node} cut off: out of {len(told)} kernels in {out[-1]:.3f} s")
    rows.append(Row("death.host", "host cut off: its backends out of every kernel, median / worst",
                    f"{statistics.median(out):.3f} / {max(out):.3f} s", "-", max(out), 1.0))
    return statistics.median(known)


def serf(bench, cluster, rng, rows, ours):
    peer = Serf(cluster)
    try:
        peer.wait()
        node = rng.randrange(2, cluster.nodes)
        pid = peer.pid(node)
        begun = time.time()
        os.kill(pid, signal.SIGKILL)
        time.sleep(30)
        told = peer.told(begun)
        worst = max(told, default=99.0)
        rows.append(Row("death.serf", f"the same for serf, one kill, known to {len(told)}",
                        f"{ours:.3f} s", f"{worst:.3f} s", ours / worst))
    finally:
        peer.close()


def stall(bench, cluster, rng, rows):
    pids = agents(cluster)
    stopped = rng.sample(pids, min(16, len(pids) // 3))
    nodes = {m["id"]: m for m in cluster.members(1)}
    bench.note(f"{len(pids)} daemons, {len(nodes)} members: 16 stopped 8 s, run 20 ms, for 60 s")
    stalling = {pid_node(cluster, pid) for pid in stopped}
    begun = time.time()
    while time.time() - begun < 60:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(8)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.02)
    time.sleep(1)
    false = false_deaths(cluster, begun, stalling)
    rows.append(Row("stall.false", "16 of 60 stalling: healthy nodes believed dead",
                    str(false), "0", float(false), 0.0))
    cluster.settle()


def false_deaths(cluster, since, unwell=()):
    """Deaths of nodes that are well, as the logs of nodes that are well tell them."""
    wrong = re.compile(r"gossip: node \S+ at ([0-9.]+):\d+ is (daemon|host)_down")
    well = {cluster.address(n): n for n in range(1, cluster.nodes + 1) if n not in unwell}
    false = 0
    for node in well.values():
        for line in cluster("logs", node).splitlines():
            match = sixty.LINE.match(line)
            if not match or sixty.stamp(match[1]) < since:
                continue
            told = wrong.search(match[2])
            false += bool(told) and told[1] in well
    return false


@contextlib.contextmanager
def faults(cluster, rules_of):
    """Rules on each node's input hook, ahead of all others; drops there are seen by no sender."""
    nodes = range(1, cluster.nodes + 1)
    for node in nodes:
        cluster.on(node, "nft", "table inet fault { chain in { type filter hook input priority -300; "
                   f"iif lo accept; {rules_of(node)}; }}; }}")
    try:
        yield
    finally:
        for node in nodes:
            cluster.on(node, "nft", "delete", "table", "inet", "fault")


def loss(bench, cluster, rows, with_serf):
    """30 of 100 datagrams lost at every node. TCP too, so the observer's stream suffers as well."""
    peer = Serf(cluster) if with_serf else None
    try:
        if peer:
            peer.wait()
        begun = time.time()
        serf_before = peer.failures() if peer else 0
        with faults(cluster, lambda node: "meta l4proto { tcp, udp } numgen random mod 100 < 30 drop"):
            time.sleep(LOSS_SECONDS)
            false = false_deaths(cluster, begun)
            theirs = peer.failures() - serf_before if peer else None
    finally:
        if peer:
            peer.close()
    bench.note(f"30 % loss for {LOSS_SECONDS} s: {false} false deaths, serf {theirs}")
    rows.append(Row("loss.false", f"30 % of datagrams lost for {LOSS_SECONDS} s: nodes believed dead",
                    str(false), "-" if theirs is None else str(theirs), float(false), 0.0))
    cluster.settle()


def split(bench, cluster, rows):
    """Both halves keep the master. What they publish meanwhile is brought together at the heal."""
    half = cluster.nodes // 2
    side = lambda nodes: "{ " + ", ".join(cluster.address(n) for n in nodes) + " }"
    left, right = range(1, half + 1), range(half + 1, cluster.nodes + 1)
    with faults(cluster, lambda n: f"ip saddr {side(right if n <= half else left)} drop"):
        time.sleep(SPLIT_SECONDS)
        seen = [sum(m["status"] == "alive" for m in cluster.members(n)) for n in (1, cluster.nodes)]
    healed = time.time()
    met = cluster.settle(60)
    took = time.time() - healed
    end = time.time() + 20
    publishers = []
    while time.time() < end and len(publishers) != 1:
        publishers = [m for m in cluster.members(1) if m["publisher"] and m["status"] == "alive"]
    bench.note(f"cut in half for {SPLIT_SECONDS} s: each half saw {seen} alive")
    good = met and len(publishers) == 1 and seen == [half, cluster.nodes - half]
    rows.append(Row("split.heal", f"cut in half for {SPLIT_SECONDS} s: after the heal all alive in equal "
                    "views, one publisher", f"{took:.2f} s", "5 s", took / 5 if good else 99.0, 1.0))


def rolling(bench, cluster, rows):
    """One daemon after the other stops and starts, as an upgrade does, while one node connects."""
    caller = cluster.nodes // 2
    begun = time.time()
    curl = ("while :; do curl -s -m 5 -o /dev/null -w '%{http_code}\n' "
            "http://web.marathon.l4lb.thisdcos.directory/; done")
    with tempfile.TemporaryFile("w+") as codes:
        address = cluster.on(caller, "sh", "-c", "getent ahostsv4 web.marathon.l4lb.thisdcos.directory "
                             "| head -n1").split()[0]
        curl = curl.replace("web.marathon.l4lb.thisdcos.directory", address)
        client = subprocess.Popen([cluster.dev, "exec", "--name", cluster.name, str(caller), "--", "sh",
                                   "-c", curl], stdout=codes, stderr=subprocess.DEVNULL)
        try:
            for pid in agents(cluster):
                node = pid_node(cluster, pid)
                os.kill(pid, signal.SIGTERM)
                end = time.time() + 10
                while pathlib.Path(f"/proc/{pid}").exists() and time.time() < end:
                    time.sleep(0.02)
                cluster("start-agent", node)
            cluster.settle()
        finally:
            client.terminate()
            client.wait()
        codes.seek(0)
        got = codes.read().split()
    false = false_deaths(cluster, begun)
    bad = sum(code != "200" for code in got)
    bench.note(f"rolling restart in {time.time() - begun:.0f} s: {len(got)} connects, {bad} failed")
    rows.append(Row("rolling.false", "every daemon stopped and started in turn: nodes believed dead",
                    str(false), "0", float(false), 0.0))
    rows.append(Row("rolling.connects", f"failed connects through a VIP meanwhile, of {len(got)}", str(bad),
                    "0", float(bad) if got else 99.0, 0.0))


def pid_node(cluster, pid):
    """The node whose namespace the process is in, by its address."""
    text = subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "-4", "-o", "addr"], check=True,
                          capture_output=True, text=True).stdout
    return int(text.split("10.66.0.")[1].split("/")[0])


def idle(bench, cluster, rows):
    pids = agents(cluster)
    time.sleep(5)
    before = {pid: cpu_seconds(pid) for pid in pids}
    time.sleep(20)
    share = [100 * (cpu_seconds(pid) - before[pid]) / 20 for pid in pids]
    memory = [pss_mb(pid) for pid in pids]
    rows.append(Row("idle.cpu", "idle daemon, share of a core, median / worst",
                    f"{statistics.median(share):.2f} / {max(share):.2f} %", "1 %",
                    statistics.median(share), 1.0))
    rows.append(Row("idle.memory", "idle daemon, PSS, median / worst",
                    f"{statistics.median(memory):.1f} / {max(memory):.1f} MB", "20 MB",
                    statistics.median(memory) / 20, 1.0))


def mass_restart(bench, cluster, rows):
    for pid in agents(cluster):
        os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    begun = time.time()
    for node in range(1, cluster.nodes + 1):
        cluster("start-agent", node)
    started = time.time()
    met = cluster.settle(30)
    took = time.time() - started
    rows.append(Row("restart.views", "all killed and started again: all alive in equal views, after "
                    f"the last start (starting took {started - begun:.1f} s)",
                    f"{took:.2f} s", "3 s", took / 3 if met else 99.0, 1.0))


def run(bench):
    bench.build("muster", "muster-dev")
    bench.install_peers()
    rng = random.Random(1)
    rows = []
    wants = lambda *ids: any(bench.only in row for row in ids)
    with sixty.Cluster(bench.build_dir, [sixty.web(sixty.NODES)]) as cluster:
        cluster.settle()
        if wants("idle.cpu", "idle.memory"):
            idle(bench, cluster, rows)
        if wants("death.daemon", "death.host", "death.serf"):
            ours = deaths(bench, cluster, rng, rows)
            if wants("death.serf"):
                serf(bench, cluster, rng, rows, ours)
        if wants("stall.false"):
            stall(bench, cluster, rng, rows)
        if wants("loss.false"):
            loss(bench, cluster, rows, with_serf=True)
        if wants("split.heal"):
            split(bench, cluster, rows)
        if wants("rolling.false", "rolling.connects"):
            rolling(bench, cluster, rows)
        if wants("restart.views"):
            mass_restart(bench, cluster, rows)
    return rows
