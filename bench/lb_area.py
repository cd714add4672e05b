"""The data plane: what a VIP costs a connection, and what a change costs the kernel. Everything
happens in network namespaces made here, one a way to balance, each with the same backends behind a
veth pair; rounds are interleaved, with `direct` (no rule at all) before and after each."""
import contextlib
import ctypes
import os
import pathlib
import re
import statistics
import subprocess

import lb_iptables
import lb_vm

CLIENT_CPU = "0"
SERVER_CPU = "1"
VIP = "11.200.0.1:80"
PORT = 8080
VIPS = 10_000
CHANGES = 2_000
CLONE_NEWNS = 0x20000
SOURCE_PORTS = 1_000       # of the exhaustion row: the kernel's default is 28,232
TIME_WAIT_SECONDS = 60     # Linux; IPVS keeps its own entry for 120
IPTABLES = (10, 1_000, 5_000)
DRIVERS = ("nft", "bpf")
ROWS = [f"lb.{what}-{driver}" for driver in DRIVERS
        for what in ("connect", "slope", "bare", "cpu", "http", "stream", "install", "change",
                     "reconcile", "ports")]
ROWS += [f"lb.iptables-{count}" for count in IPTABLES]
ROWS += lb_vm.ROWS
Row = None  # bench/run's


def sh(command, **more):
    return subprocess.run(command, shell=isinstance(command, str), check=True, text=True,
                          capture_output=True, **more).stdout


def figures(line):
    words = line.split()
    return {words[i]: float(words[i + 1]) for i in range(0, len(words), 2)}


class Lab:
    """The namespaces: `backends`, and one node for each way to balance."""

    def __init__(self, tool):
        self.tool = str(tool)
        self.prefix = f"mlb{os.getpid()}-"
        self.nodes = []
        self.scope = contextlib.ExitStack()

    def __enter__(self):
        if "bpf" in DRIVERS:
            self.make_room_for_bpf()
        self.make("backends")
        self.server = subprocess.Popen(
            ["taskset", "-c", SERVER_CPU, "nsenter", f"--net=/run/netns/{self.prefix}backends",
             self.tool, "serve", str(PORT)], stdout=subprocess.PIPE, text=True)
        self.scope.callback(self.end_server)
        if self.server.stdout.readline() != "ready\n":
            raise RuntimeError("the backends' server did not start")
        return self

    def __exit__(self, *what):
        return self.scope.__exit__(*what)

    def end_server(self):
        self.server.kill()
        self.server.wait()

    def make_room_for_bpf(self):
        """A cgroup of our own, and a BPF file system that only we see."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        sh("mount --make-rprivate / && mkdir -p /sys/fs/bpf && mount -t bpf bpf /sys/fs/bpf")
        mounts = pathlib.Path("/proc/mounts").read_text()
        root = re.search(r"^\S+ (\S+) cgroup2 ", mounts, re.M)[1]
        self.cgroup = pathlib.Path(root, f"muster-bench-{os.getpid()}")
        self.cgroup.mkdir()
        self.scope.callback(self.cgroup.rmdir)

    def make(self, name):
        sh(["ip", "netns", "add", self.prefix + name])
        self.scope.callback(lambda: sh(["ip", "netns", "del", self.prefix + name]))
        sh(f"ip -n {self.prefix}{name} link set lo up")

    def node(self, name):
        """A namespace with a veth pair to the backends, which have four addresses there."""
        i = len(self.nodes)
        self.nodes.append(name)
        self.make(name)
        a, b, net = self.prefix + name, self.prefix + "backends", f"10.{20 + i}.0."
        sh(f"ip -n {a} link add b0 type veth peer name n{i} netns {b} && "
           f"ip -n {a} addr add {net}254/24 dev b0 && ip -n {a} link set b0 up && "
           f"ip -n {b} link set n{i} up")
        for host in range(1, 5):
            sh(f"ip -n {b} addr add {net}{host}/24 dev n{i}")
        # Connections end with a reset: their entries must not fill the table that all share.
        self.shell(name, "sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close=1 "
                         "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1 2>/dev/null || true")
        return f"{net}1:{PORT}"

    def network(self, name):
        return f"10.{20 + self.nodes.index(name)}.0."

    def shell(self, name, command, **more):
        # nsenter, not `ip netns exec`: that one mounts another /sys.
        return sh(["nsenter", f"--net=/run/netns/{self.prefix}{name}", "sh", "-c", command], **more)

    def run(self, name, *words):
        """The tool inside, in the bpf driver's cgroup if that is what the node has."""
        environment = {**os.environ, "MUSTER_BENCH_BACKENDS": self.network(name)}
        command = ["taskset", "-c", CLIENT_CPU, "nsenter",
                   f"--net=/run/netns/{self.prefix}{name}", self.tool, *map(str, words)]
        if name.startswith("bpf"):
            command = ["sh", "-c", f'echo $$ >{self.cgroup}/cgroup.procs && exec "$@"', "sh",
                       *command]
        return sh(command, env=environment)

    def dial(self, seconds, targets):
        line = self.run(targets[0][0], "dial", seconds,
                        *(f"{self.prefix}{name}={to}" for name, to in targets))
        parts = [figures("p50_us" + part) for part in line.split("p50_us")[1:]]
        if any(part["failed"] for part in parts):
            raise RuntimeError(f"connections failed: {targets}: {line}")
        return parts


def median_ratio(pairs):
    return statistics.median(a / b for a, b in pairs)


class Area:
    def __init__(self, bench, lab):
        self.bench = bench
        self.lab = lab
        self.rows = []

    def wants(self, *ids):
        return any(self.bench.only in row for row in ids)

    def add(self, row_id, figure, muster, peer, ratio, bar=None):
        self.rows.append(Row(row_id, figure, muster, peer, ratio, bar))

    def driver(self, driver, vips, changes=0):
        more = [self.lab.cgroup] if driver == "bpf" else []
        return figures(self.lab.run(f"{driver}{vips}", "program", driver, vips, changes, *more))

    # --- connecting

    def make_nodes(self):
        self.direct = {"direct": self.lab.node("direct")}
        for driver in DRIVERS:
            for vips in (10, VIPS):
                self.direct[f"{driver}{vips}"] = self.lab.node(f"{driver}{vips}")
                self.driver(driver, vips)
        for count in IPTABLES:
            name = f"iptables{count}"
            self.direct[name] = self.lab.node(name)
            rules = lb_iptables.rules(count, VIP, self.lab.network(name), PORT)
            self.lab.shell(name, "iptables-legacy-restore && ip route add 11.0.0.0/8 via "
                           f"{self.lab.network(name)}1", input=rules)

    def connects(self):
        """For each round: p50 and CPU of each node through the VIP and past it. All that is dialled
        from outside the bpf driver's cgroup takes turns within one process, then all inside."""
        groups = [[name for name in self.direct if name.startswith("bpf") == inside]
                  for inside in (False, True)]
        rounds = []
        for number in range(self.bench.rounds):
            seen = {}
            for names in filter(None, groups):
                targets = [(name, to) for name in names
                           for to in (VIP, self.direct[name])[name == "direct":]]
                measured = self.lab.dial(self.bench.seconds * len(targets), targets)
                for (name, to), figure in zip(targets, measured):
                    seen[name, "vip" if to == VIP else "past"] = figure
            rounds.append(seen)
            self.bench.note(f"connects: round {number + 1} of {self.bench.rounds}")
        return rounds

    def connect_rows(self):
        rounds = self.connects()
        direct = ("direct", "past")

        def row(row_id, figure, ours, theirs, called, bar=None, key="p50_us"):
            mid = [statistics.median(seen[which][key] for seen in rounds)
                   for which in (ours, theirs)]
            ratio = median_ratio([(seen[ours][key], seen[theirs][key]) for seen in rounds])
            self.add(row_id, figure, f"{mid[0]:.2f} us", f"{mid[1]:.2f} us {called}", ratio, bar)

        for driver in DRIVERS:
            ours = (f"{driver}{VIPS}", "vip")
            row(f"lb.connect-{driver}", f"connect() p50, {VIPS:,} VIPs, past them: same rules", ours,
                (f"{driver}{VIPS}", "past"), "past", {"nft": 1.3, "bpf": 1.15}[driver])
            row(f"lb.slope-{driver}", f"connect() p50, {VIPS:,} VIPs against 10", ours,
                (f"{driver}10", "vip"), "of 10", 1.05)
            row(f"lb.bare-{driver}", "connect() p50 against no rules at all", ours, direct, "direct")
            row(f"lb.cpu-{driver}", "CPU a connection against no rules at all", ours, direct,
                "direct", key="cpu_us")
        for count in IPTABLES:
            row(f"lb.iptables-{count}", f"connect() p50, nft with {VIPS:,} against iptables",
                (f"nft{VIPS}", "vip"), (f"iptables{count}", "vip"), f"of {count:,}")

    # --- requests and streams

    def through(self, verb, key, unit):
        """Higher is better, so the ratio is direct / muster."""
        for driver in DRIVERS:
            if not self.wants(f"lb.{verb}-{driver}"):
                continue
            name, runs = f"{driver}{VIPS}", []
            for _ in range(self.bench.rounds):
                legs = [figures(self.lab.run(where, verb, self.bench.seconds, to))
                        for where, to in (("direct", self.direct["direct"]), (name, VIP),
                                          ("direct", self.direct["direct"]))]
                if any(leg.get("failed") for leg in legs):
                    raise RuntimeError(f"{verb} through {name}: requests failed: {legs}")
                runs.append(((legs[0][key] + legs[2][key]) / 2, legs[1][key]))
            direct, muster = (statistics.median(run[i] for run in runs) for i in (0, 1))
            what = {"http": "short HTTP requests, direct / VIP", "stream": "one stream, direct / VIP"}
            self.add(f"lb.{verb}-{driver}", what[verb], f"{muster:,.0f} {unit}"
                     if key == "rate" else f"{muster:.1f} {unit}",
                     f"{direct:,.0f} direct" if key == "rate" else f"{direct:.1f} direct",
                     median_ratio(runs))

    # --- programming

    def program_rows(self):
        for driver in DRIVERS:
            if not self.wants(*(f"lb.{what}-{driver}" for what in ("install", "change",
                                                                   "reconcile"))):
                continue
            runs = []
            for number in range(self.bench.rounds):
                name = f"{driver}{VIPS}"
                self.lab.run(name, "clean")
                runs.append(self.driver(driver, VIPS, CHANGES))
                self.bench.note(f"programming: round {number + 1}: {runs[-1]}")
            mid = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            # Of the time that passed only the CPU's part is ours on a machine that others use.
            self.add(f"lb.install-{driver}", f"{VIPS:,} VIPs x 4 from nothing, CPU (passed)",
                     f"{mid['install_cpu_ms']:.0f} ms ({mid['install_ms']:.0f})", "200 ms",
                     mid["install_cpu_ms"] / 200, 1.0)
            self.add(f"lb.change-{driver}", f"one backend changed among {VIPS:,}, p50 / p99",
                     f"{mid['change_p50_us']:.0f} / {mid['change_p99_us']:.0f} us", "1000 us",
                     mid["change_p99_us"] / 1000, 1.0)
            writes = max(run["reconcile_writes"] for run in runs)
            self.add(f"lb.reconcile-{driver}", "writes of a steady reconcile (its CPU)",
                     f"{writes:.0f} ({mid['reconcile_cpu_ms']:.0f} ms)", "0", writes, 0)

    def port_rows(self):
        """How many connections one client can have to one VIP before its ports are used up."""
        for driver in DRIVERS:
            if not self.wants(f"lb.ports-{driver}"):
                continue
            name = f"{driver}10"
            first = 20_000
            self.lab.shell(name, "sysctl -qw net.ipv4.ip_local_port_range="
                           f"'{first} {first + SOURCE_PORTS - 1}'")
            opened = figures(self.lab.run(name, "exhaust", VIP, SOURCE_PORTS * 20))["opened"]
            per_second = opened / SOURCE_PORTS * 28_232 / TIME_WAIT_SECONDS
            self.add(f"lb.ports-{driver}", "connections/s a client can open to one VIP of 4 backends"
                     f" ({opened:.0f} with {SOURCE_PORTS} ports)", f"{per_second:.0f}/s",
                     "235/s Minuteman", 235 / per_second)


def vm_rows(bench, tool):
    wanted = [row for row in lb_vm.ROWS if bench.only in row]
    if not wanted:
        return []
    bench.note("in a virtual machine: some two minutes")
    try:
        return lb_vm.rows(tool, bench.rounds, bench.seconds, Row)
    except lb_vm.Skipped as why:
        bench.skip(wanted, str(why))
        return []


def rows_here(bench, tool):
    with Lab(tool) as lab:
        area = Area(bench, lab)
        area.make_nodes()
        if area.wants(*(row for row in ROWS if re.search("(connect|slope|bare|cpu|iptables)-", row))):
            area.connect_rows()
        area.through("http", "rate", "/s")
        area.through("stream", "gbits", "Gb/s")
        area.program_rows()
        area.port_rows()
        return area.rows


def run(bench):
    bench.install_peers()
    bench.build("lb_bench")
    os.environ["PATH"] += ":/usr/sbin"
    tool = bench.build_dir / "tests" / "lb_bench"
    made = vm_rows(bench, tool)
    if any(bench.only in row for row in ROWS if row not in lb_vm.ROWS):
        made += rows_here(bench, tool)
    return [row for row in made if bench.only in row.id]
