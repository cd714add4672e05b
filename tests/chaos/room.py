"""The cluster that faults are done to: muster-dev with real daemons and backends, and its truth.

Everything lives in namespaces of the cluster's own and dies with it. The daemons are started through
a script, so that a row can say for one node what is put before the daemon: an older build, limits, a
library that refuses. What a row must hold is in rows*.py; what clients saw, in traffic.py.
"""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "bench"))
import sixty  # noqa: E402

NODES = 4
BACKENDS = 6
LIMIT = 90  # seconds for a cluster to be as it should, on a busy machine; what it took is printed
NAME = "web.marathon.l4lb.thisdcos.directory"
# A sanitizer's report, or the end that MUSTER_ASSERT makes.
REPORTS = re.compile(r"ERROR: \w+Sanitizer|runtime error:|assertion failed|terminate called", re.I)
# Where a row puts a file of this name, it is sourced before the daemon: it may set $muster.
WRAPPER = """#!/bin/sh
muster={muster}
[ ! -f /run/muster-dev/before ] || . /run/muster-dev/before
exec $through "$muster" "$@"
"""


def app(name="/web", instances=BACKENDS, **more):
    return {**sixty.web(instances, name),
            "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/health", "delaySeconds": 0, "gracePeriodSeconds": 60,
                              "intervalSeconds": 1, "timeoutSeconds": 5, "maxConsecutiveFailures": 2}], **more}


class Room(sixty.Cluster):
    def __init__(self, build, apps=None, nodes=NODES, config=""):
        self.build = build.resolve()
        wrapper = pathlib.Path(f"/var/tmp/muster-chaos.{os.getpid()}")
        wrapper.mkdir(exist_ok=True)
        self.wrapper = wrapper / "muster"
        self.wrapper.write_text(WRAPPER.format(muster=self.build / "muster"))
        self.wrapper.chmod(0o755)
        self.begun = time.monotonic()
        super().__init__(self.build, apps or [app()], nodes, self.wrapper, config)
        self.read = {}

    def close(self):
        super().close()
        shutil.rmtree(self.wrapper.parent, ignore_errors=True)

    # ---- looking -------------------------------------------------------------------------------

    def all_nodes(self):
        return range(1, self.nodes + 1)

    def others(self, *nodes):
        return [n for n in self.all_nodes() if n not in nodes]

    def ps(self):
        return json.loads(self("ps", "--json"))

    def pid(self, node):
        """Of a node's daemon, as this machine counts; 0: it does not run."""
        return self.ps()["nodes"][node - 1]["pid"]

    def root(self, node):
        return pathlib.Path(f"/proc/{self.pid(node)}/root")

    def try_on(self, node, *command, text=None, seconds=60):
        done = subprocess.run([self.dev, "exec", "--name", self.name, str(node), "--", *map(str, command)],
                              input=text, capture_output=True, text=True, timeout=seconds)
        return done.returncode, done.stdout + done.stderr

    def sh(self, node, script, check=True):
        status, out = self.try_on(node, "sh", "-ec", script)
        if check and status != 0:
            raise RuntimeError(f"node {node}: {script}: {out}")
        return out

    def look(self, node, *paths):
        """What the daemon's HTTP server says, one value a path; None for what it does not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            text = self.try_on(node, "curl", "-s", "-m", "5", "-w", "\n%{http_code}\n",
                               *(f"http://localhost:61421{path}" for path in paths))[1]
            bodies = re.split(r"\n(\d{3})\n", text)
            if len(bodies) == 2 * len(paths) + 1:
                return [json.loads(body) if code == "200" else None for body, code in zip(bodies[::2], bodies[1::2])]
        return [None] * len(paths)

    def get(self, node, path):
        return self.look(node, path)[0]

    def metric(self, node, name):
        """The sum over all series of that name; None without."""
        text = self.try_on(node, "curl", "-s", "-m", "5", "http://localhost:61421/metrics")[1]
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.M)
        return sum(map(float, found)) if found else None

    @staticmethod
    def number(member):
        return int(member["endpoints"][0].split(":")[0].rsplit(".", 1)[1])

    def statuses(self, node):
        return self.status_of(self.get(node, "/v1/nodes"))

    def status_of(self, nodes):
        """By number; of a node that lives under another id than before, the life it leads now."""
        found = {}
        for member in nodes["nodes"] if nodes else []:
            if found.get(self.number(member)) != "alive":
                found[self.number(member)] = member["status"]
        return found

    def account(self, lines=40):
        """What the daemons say of themselves, for who has to find out why something is not as it should be."""
        parts = []
        for node in self.all_nodes():
            status, nodes, vips = self.look(node, "/v1/status", "/v1/nodes", "/v1/vips")
            parts += [f"--- node {node}: {json.dumps(status)}", json.dumps(nodes), json.dumps(vips),
                      *self("logs", node).splitlines()[-lines:]]
        return "\n".join(parts)

    def publisher(self, ask=1):
        return self.publisher_of(self.get(ask, "/v1/nodes"))

    def publisher_of(self, nodes):
        found = [self.number(m) for m in (nodes or {"nodes": []})["nodes"] if m["publisher"] and m["status"] == "alive"]
        return found[0] if len(found) == 1 else None

    def backends(self, node, name="web"):
        """Those that take connections, as the node's kernel has them by its daemon's word; None: it does not say."""
        return self.backends_of(self.get(node, "/v1/vips"), name)

    def backends_of(self, vips, name="web"):
        if vips is None:
            return None
        return {b["endpoint"] for v in vips if v["vip"].startswith(name + ".") for b in v["backend"] if b["weight"] > 0}

    def truth(self, name="/web"):
        return {t["address"] for t in self.ps()["tasks"] if t["app"] == name and t["state"] == "RUNNING" and t["health"] == "healthy"}

    def wrong(self, nodes=None):
        """What is not yet as it should be; nothing when all is well."""
        everybody = {n: "alive" for n in self.all_nodes()}
        truth = self.truth()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            looked = list(pool.map(lambda n: (n, *self.look(n, "/v1/nodes", "/v1/vips", "/v1/status")), nodes or self.all_nodes()))
        for node, members, vips, status in looked:
            if self.status_of(members) != everybody:
                return f"node {node} sees {self.status_of(members)}"
            if self.backends_of(vips) != truth:
                return f"node {node} balances over {self.backends_of(vips)}, and {truth} run"
            if not status or not status["ready"] or not status["lb"]["healthy"]:
                return f"node {node}: {status}"
        publishers = {self.publisher_of(members) for _, members, _, _ in looked}
        return "" if len(publishers) == 1 and None not in publishers else f"publishers: {publishers}"

    def until(self, condition, seconds=LIMIT):
        """Seconds until `condition()` holds; None if it does not within the limit."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            if condition():
                return time.monotonic() - begun
            time.sleep(0.1)
        return None

    def sound(self, seconds=LIMIT):
        """(seconds it took, what is still wrong)"""
        last = "nothing was looked at"

        def holds():
            nonlocal last
            last = self.wrong()
            return not last
        return self.until(holds, seconds), last

    def reports(self):
        """New lines of sanitizers and assertions in the daemons' logs."""
        found = []
        for node in self.all_nodes():
            text = self("logs", node)
            fresh = text[self.read.get(node, 0):]
            self.read[node] = len(text)
            found += [f"node {node}: {line}" for line in fresh.splitlines() if REPORTS.search(line)]
        return found

    # ---- doing ---------------------------------------------------------------------------------

    def before(self, node, script):
        """Shell code that is run before the node's next daemon; "": none."""
        if script:
            self.try_on(node, "tee", "/run/muster-dev/before", text=script)
        else:
            self.sh(node, "rm -f /run/muster-dev/before")

    def restart(self, node):
        with contextlib.suppress(subprocess.CalledProcessError):
            self("kill-agent", node)
        self.start(node)

    def start(self, node):
        def started():
            with contextlib.suppress(subprocess.CalledProcessError):
                self("start-agent", node)
                return True
            return False
        self.until(started, 20)

    def signal(self, node, number):
        os.kill(self.pid(node), number)

    @contextlib.contextmanager
    def stopped(self, pid):
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def rules(self, node, chain):
        """Rules in the path of what a node takes in, for as long as the block runs."""
        self.sh(node, "nft -f - <<'END'\ntable ip chaos {\n chain in {\n  type filter hook input priority -300;\n"
                      f"  iif lo accept\n  {chain}\n }}\n}}\nEND")
        try:
            yield
        finally:
            self.sh(node, "nft delete table ip chaos")

    def fault(self, *steps):
        """The emulated master's own faults: docs/development-cluster.md."""
        self.try_on(1, "curl", "-s", "-m", "10", "-d", json.dumps(list(steps)), "http://10.66.0.250:5050/dev/faults")
