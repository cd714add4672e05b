"""DNS: one worker each, pinned, rounds interleaved, medians. CPU per query comes first, because it
holds on a busy machine; every server serves the same zone, taken from muster by AXFR."""
import contextlib
import os
import pathlib
import re
import socket
import statistics
import subprocess
import tempfile
import time

SERVER_CPU = 0
LOAD_CPU = 1
APPS = 10_000            # names asked for, of each kind
APPS_60K = 3_160         # 60,000 names
APPS_100K = 5_265        # 100,000 names
CHANGES = 200
STORM = 5_000
ROWS = ["dns.a", "dns.srv", "dns.nxdomain", "dns.mix", "dns.a-echo", "dns.tcp", "dns.forward",
        "dns.forward-cached", "dns.memory", "dns.update", "dns.storm"]
Row = None  # bench/run's


def free_port():
    """A port free for UDP and TCP on loopback now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            port = udp.getsockname()[1]
            with socket.socket() as tcp:
                with contextlib.suppress(OSError):
                    tcp.bind(("127.0.0.1", port))
                    return port


class Server:
    """A process that answers on 127.0.0.1:port; ended with its scope."""

    def __init__(self, name, command, port, pinned=True, **popen):
        self.name = name
        self.port = port
        command = ["taskset", "-c", str(SERVER_CPU), *command] if pinned else command
        self.process = subprocess.Popen(command, **popen)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def pin(self, cpu=SERVER_CPU):
        subprocess.run(["taskset", "-apc", str(cpu), str(self.process.pid)], check=True,
                       stdout=subprocess.DEVNULL)

    def cpu_seconds(self):
        """On a CPU so far, all threads: the scheduler's nanoseconds, not ticks."""
        total = 0
        for pid in self.pids():
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    total += int(task.read_text().split()[0])
        return total / 1e9

    def pids(self):
        """The process and its children: NSD answers in one."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                found += [int(child) for child in children]
        return found

    def resident_mb(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) * 1024 / 1e6

    def wait_for(self, name, seconds=60):
        """Until it answers a query for `name` with NOERROR."""
        query = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
        query += b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        query += b"\x00\x00\x01\x00\x01"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(0.2)
                client.connect(("127.0.0.1", self.port))
                with contextlib.suppress(OSError):
                    client.send(query)
                    if client.recv(4096)[3] & 15 == 0:
                        return self
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not answer {name}")


class Area:
    def __init__(self, bench, folder):
        self.bench = bench
        self.folder = pathlib.Path(folder)
        self.tests = bench.build_dir / "tests"
        self.rows = []

    def wants(self, *ids):
        return any(self.bench.only in row for row in ids)

    # --- servers

    def muster(self, apps, *more):
        port = free_port()
        server = Server("muster", [str(self.tests / "dns_bench_server"), f"127.0.0.1:{port}",
                                   str(apps), "--cpu", str(SERVER_CPU), *more], port, pinned=False,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = server.process.stdout.readline()
        if not line.startswith("ready"):
            raise RuntimeError("muster did not start")
        self.bench.note(f"muster: {line.strip()}")
        return server

    def knot(self, zones, cpu=SERVER_CPU):
        port = free_port()
        folder = self.folder / f"knot{port}"
        folder.mkdir()
        text = f"server:\n  rundir: {folder}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n"
        text += "  tcp-workers: 1\n  background-workers: 1\n"
        text += f"database:\n  storage: {folder}\nlog:\n  - target: stderr\n    any: error\nzone:\n"
        for zone, file in zones.items():
            text += f"  - domain: {zone}\n    file: {file}\n    zonefile-sync: -1\n"
            text += "    journal-content: none\n    semantic-checks: off\n"
        (folder / "knot.conf").write_text(text)
        server = Server("Knot", ["knotd", "-c", str(folder / "knot.conf")], port)
        server.wait_for("h1.example" if "example" in zones else "app1.marathon.mesos")
        server.pin(cpu)
        return server

    def nsd(self, zone_file):
        port = free_port()
        folder = self.folder / f"nsd{port}"
        folder.mkdir()
        (folder / "nsd.conf").write_text(
            f'server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: ""\n'
            f'  chroot: ""\n  pidfile: "{folder}/pid"\n  database: ""\n  zonesdir: "{folder}"\n'
            f'  zonelistfile: "{folder}/list"\n  xfrdfile: ""\n  xfrdir: "{folder}"\n'
            "  minimal-responses: no\n  hide-version: yes\n  verbosity: 0\n  rrl-ratelimit: 0\n"
            f'remote-control:\n  control-enable: no\nzone:\n  name: mesos\n  zonefile: "{zone_file}"\n')
        server = Server("NSD", ["nsd", "-d", "-c", str(folder / "nsd.conf")], port,
                        stderr=subprocess.DEVNULL)
        return server.wait_for("app1.marathon.mesos")

    def echo(self):
        port = free_port()
        server = Server("echo", [str(self.tests / "dns_bench_load"), "echo", f"127.0.0.1:{port}"],
                        port)
        time.sleep(0.2)
        return server

    def dnsdist(self, upstream, cached):
        port = free_port()
        file = self.folder / f"dnsdist{port}.conf"
        text = f'setLocal("127.0.0.1:{port}")\nnewServer{{address="127.0.0.1:{upstream.port}"}}\n'
        text += 'setSecurityPollSuffix("")\n'
        if cached:
            text += 'pc = newPacketCache(200000)\ngetPool(""):setCache(pc)\n'
        file.write_text(text)
        server = Server("dnsdist", ["dnsdist", "--supervised", "--disable-syslog", "-C", str(file)],
                        port, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return server.wait_for("h1.example")

    # --- measuring

    def load(self, server, mode, queries, seconds=None):
        """Runs a load; microseconds of the server's CPU per answer, and the load's own line."""
        before = server.cpu_seconds()
        done = subprocess.run(
            ["taskset", "-c", str(LOAD_CPU), str(self.tests / "dns_bench_load"), mode,
             f"127.0.0.1:{server.port}", str(queries), str(seconds or self.bench.seconds)],
            check=True, capture_output=True, text=True)
        used = server.cpu_seconds() - before
        words = done.stdout.split()
        figures = {words[i]: float(words[i + 1]) for i in range(0, len(words), 2)}
        if figures["answered"] == 0 or figures["bad"] > 0:
            raise RuntimeError(f"{server.name}: {done.stdout.strip()}")
        figures["cpu"] = used / figures["answered"] * 1e6
        return figures

    def compare(self, servers, mode, queries, warm=0.2):
        """Medians of CPU per query of each server, rounds interleaved."""
        for server in servers:
            self.load(server, mode, queries, warm)
        results = {server.name: [] for server in servers}
        for _ in range(self.bench.rounds):
            for server in servers:
                results[server.name].append(self.load(server, mode, queries)["cpu"])
        return {name: statistics.median(values) for name, values in results.items()}

    def put(self, row_id, figure, medians, peer, bar):
        self.rows.append(Row(row_id, figure, f"{medians['muster']:.2f} us",
                             f"{medians[peer]:.2f} us {peer}", medians["muster"] / medians[peer],
                             bar))

    def queries(self, name, lines):
        file = self.folder / name
        file.write_text("".join(f"{line}\n" for line in lines))
        return file

    def zone_file(self, server):
        """The zone as muster transfers it."""
        file = self.folder / "mesos.zone"
        with file.open("w") as out:
            subprocess.run(["dig", "@127.0.0.1", "-p", str(server.port), "mesos", "AXFR", "+noall",
                            "+answer", "+onesoa"], check=True, stdout=out)
        return file


def order(count, step=7_919):
    """All of 0..count-1 once, scattered: no two neighbours share memory."""
    return [i * step % count for i in range(count)]


def answers(area):
    names = order(APPS)
    loads = {
        "a": [f"app{i}.marathon.mesos A" for i in names],
        "srv": [f"_app{i}._tcp.marathon.mesos SRV" for i in names],
        "nxdomain": [f"app{i}x.marathon.mesos A" for i in names],
    }
    loads["mix"] = [line for three in zip(*loads.values()) for line in three]
    files = {what: area.queries(what, lines) for what, lines in loads.items()}
    bars = {"a": 0.62, "srv": 0.50, "nxdomain": 0.75, "mix": 0.60}
    with contextlib.ExitStack() as scope:
        muster = scope.enter_context(area.muster(APPS))
        zone = area.zone_file(muster)
        knot = scope.enter_context(area.knot({"mesos": zone}))
        nsd = scope.enter_context(area.nsd(zone))
        echo = scope.enter_context(area.echo())
        for what, bar in bars.items():
            if not area.wants(f"dns.{what}", "dns.a-echo"):
                continue
            servers = [muster, knot, nsd] + ([echo] if what == "a" else [])
            medians = area.compare(servers, "udp", files[what])
            figure = {"a": "A, 4 addresses", "srv": "SRV, 4 targets", "nxdomain": "NXDOMAIN",
                      "mix": "mix of the three"}[what] + ", CPU a query"
            area.put(f"dns.{what}", figure, medians, "Knot", bar)
            area.put(f"dns.{what}-nsd", figure, medians, "NSD", None)
            if what == "a":
                area.put("dns.a-echo", "A against a bare echo", medians, "echo", 1.25)
        if area.wants("dns.tcp"):
            medians = area.compare([muster, knot], "tcp", files["a"])
            area.put("dns.tcp", "A, pipelined TCP, CPU a query", medians, "Knot", 0.75)


def forwarding(area):
    zone = area.folder / "example.zone"
    lines = ["$TTL 3600", "@ SOA ns hostmaster 1 60 60 60 60", "@ NS ns", "ns A 127.0.0.1"]
    lines += [f"h{i} A 10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}" for i in range(APPS)]
    zone.write_text("$ORIGIN example.\n" + "\n".join(lines) + "\n")
    queries = area.queries("forward", [f"h{i}.example A" for i in order(APPS)])
    with area.knot({"example": zone}, cpu=LOAD_CPU) as upstream:
        at = f"127.0.0.1:{upstream.port}"
        for row, more, cached in (("dns.forward", ["--no-cache"], False),
                                  ("dns.forward-cached", [], True)):
            if not area.wants(row):
                continue
            with area.muster(1, "--upstream", at, *more) as muster, \
                    area.dnsdist(upstream, cached) as dnsdist:
                # Everything is asked for once before the cache is measured.
                medians = area.compare([muster, dnsdist], "udp", queries, warm=2.0)
                figure = "forwarding, cache " + ("hit" if cached else "off") + ", CPU a query"
                area.put(row, figure, medians, "dnsdist", 0.9)


def updates(area):
    if area.wants("dns.memory"):
        with area.muster(APPS_60K) as muster:
            used = muster.resident_mb()
            area.rows.append(Row("dns.memory", "PSS at 60,000 names", f"{used:.1f} MB", "40 MB",
                                 used / 40, 1.0))
    if not area.wants("dns.update", "dns.storm"):
        return
    queries = area.queries("one", [f"app{i}.marathon.mesos A" for i in order(APPS_100K)])
    with area.muster(APPS_100K) as muster:
        def command(text):
            muster.process.stdin.write(text + "\n")
            muster.process.stdin.flush()
            return muster.process.stdout.readline().split()

        if area.wants("dns.update"):
            seen = sorted(float(command("change")[2]) for _ in range(CHANGES))
            p99 = seen[len(seen) * 99 // 100]
            area.rows.append(Row("dns.update", "change to answer, 100,000 names, p50 / p99",
                                 f"{statistics.median(seen):.3f} / {p99:.3f} ms", "1 ms", p99, 1.0))
        if area.wants("dns.storm"):
            calm = [area.load(muster, "udp", queries) for _ in range(area.bench.rounds)]
            storm = []
            for _ in range(area.bench.rounds):
                muster.process.stdin.write(f"storm {STORM}\n")
                muster.process.stdin.flush()
                storm.append(area.load(muster, "udp", queries))
                words = muster.process.stdout.readline().split()
            lost = sum(run["lost"] for run in storm) / sum(run["sent"] for run in storm)
            rate = {name: statistics.median(r["answered"] / r["seconds"] for r in runs)
                    for name, runs in (("calm", calm), ("storm", storm))}
            # The window that is under way when a run ends counts as lost: 128 of some 400,000.
            area.rows.append(Row("dns.storm", f"lost of 1000 queries in {STORM} changes ("
                                 f"{float(words[2]) / STORM * 1000:.0f} us each)",
                                 f"{lost * 1000:.2f}; {rate['storm'] / 1000:.0f} k/s",
                                 f"calm {rate['calm'] / 1000:.0f} k/s", lost * 1000, 1.0))


def run(bench):
    bench.install_peers()
    bench.build("dns_bench_server", "dns_bench_load")
    os.environ["PATH"] += ":/usr/sbin"
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        area = Area(bench, folder)
        if area.wants("dns.a", "dns.srv", "dns.nxdomain", "dns.mix", "dns.a-echo", "dns.tcp"):
            answers(area)
        if area.wants("dns.forward", "dns.forward-cached"):
            forwarding(area)
        updates(area)
        return [row for row in area.rows if bench.only in row.id]
