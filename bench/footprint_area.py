"""What one daemon costs: memory and CPU with a cluster's state, and how soon it serves after a start.

The figures of an idle node among sixty are gossip-real's. Each daemon runs in a network namespace of
its own, with a master that is gone when the restart is measured.
"""
import contextlib
import multiprocessing
import os
import pathlib
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import time
import urllib.request

from streaming_master import StreamingMaster

ROWS = ["footprint.memory", "footprint.cpu", "footprint.restart", "footprint.pause"]
HTTP = "http://127.0.0.1:61421"
HEALTH = "/healthz"
READY = "/readyz"
CLONE_NEWNET = 0x40000000


class Namespace:
    """Puts this thread, and what it starts, into a network namespace that only it has."""

    def __enter__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.libc = __import__("ctypes").CDLL(None, use_errno=True)
        if self.libc.unshare(CLONE_NEWNET) != 0:
            raise OSError("unshare: is this root?")
        for command in (["link", "set", "lo", "up"], ["link", "add", "v0", "type", "veth", "peer", "name", "v1"],
                        ["addr", "add", "10.77.0.1/8", "dev", "v0"], ["link", "set", "v0", "up"], ["link", "set", "v1", "up"]):
            subprocess.run(["ip", *command], check=True)
        return self

    def __exit__(self, *_):
        self.libc.setns(self.home, CLONE_NEWNET)
        os.close(self.home)


class Daemon:
    def __init__(self, muster, folder):
        self.folder = pathlib.Path(folder)
        config = self.folder / "muster.toml"
        config.write_text(f'[node]\naddress = "10.77.0.1"\n[mesos]\nmasters = ["http://127.0.0.1:5050"]\n[dns]\nupstreams = []\n'
                          f'[state]\ndirectory = "{folder}/state"\n')
        (self.folder / "state").mkdir(exist_ok=True)
        self.log = open(self.folder / "log", "ab")
        self.begun = time.monotonic()
        self.process = subprocess.Popen([muster, "agent", "--config", str(config)], stdout=self.log, stderr=self.log)

    def get(self, path, limit=5):
        with urllib.request.urlopen(HTTP + path, timeout=limit) as reply:
            return reply.read()

    def until(self, path, seconds=60):
        while time.monotonic() - self.begun < seconds:
            with contextlib.suppress(OSError):
                self.get(path)
                return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def memory_megabytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1000
        raise RuntimeError("no Pss")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()
        self.log.close()


def first_answer(begun, name, limit=10):
    """Seconds from `begun` to the first reply with an address; asked every 2 ms."""
    query = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.002)
        while time.monotonic() - begun < limit:
            with contextlib.suppress(OSError):
                asker.sendto(query, ("127.0.0.1", 53))
                if struct.unpack(">H", asker.recv(512)[6:8])[0] > 0:
                    return time.monotonic() - begun
                time.sleep(0.002)  # not yet: asking without a pause would be what it is busy with
    return float(limit)


class Watcher:
    """Asks /healthz over one connection, again and again, and keeps the longest time it took.

    A process of its own: a thread would wait for the one that writes the master's state.
    """

    def __init__(self):
        self.stopped = multiprocessing.Event()
        self.here, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=self.ask, args=(there,), daemon=True)
        self.process.start()

    def ask(self, there):
        longest = asked = 0
        with socket.create_connection(("127.0.0.1", 61421), timeout=30) as asker:
            asker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self.stopped.wait(0.001):
                begun = time.monotonic()
                asker.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                asker.recv(4096)
                longest = max(longest, time.monotonic() - begun)
                asked += 1
        there.send((longest, asked))

    def end(self):
        """The longest time in seconds, and how often it asked."""
        self.stopped.set()
        if not self.here.poll(30):
            raise RuntimeError("/healthz was not answered")
        found = self.here.recv()
        self.process.join()
        return found


def serving(bench, muster, folder):
    """Memory, CPU and restarts with 10,000 tasks behind 1,000 VIPs."""
    master = StreamingMaster(("127.0.0.1", 5050), 10_000, 1_000)
    daemon = Daemon(muster, folder)
    daemon.until(READY)
    time.sleep(5)  # the state file is written, freed memory went back
    memory = daemon.memory_megabytes()
    before = daemon.cpu_seconds()
    time.sleep(bench.seconds * 5)
    cpu = (daemon.cpu_seconds() - before) / (bench.seconds * 5) * 100
    master.close()
    daemon.end(signal.SIGKILL)
    starts = []
    for round_ in range(bench.rounds):
        again = Daemon(muster, folder)
        starts.append(first_answer(again.begun, "app7.marathon.mesos"))
        bench.note(f"start {round_ + 1}: {starts[-1] * 1000:.0f} ms")
        again.end(signal.SIGKILL)
    starts.sort()
    return memory, cpu, starts[len(starts) // 2]


def pause(bench, muster, folder):
    """The longest that the control thread let a client wait while 100,000 tasks came in."""
    longest = []
    for round_ in range(min(bench.rounds, 3)):
        own = pathlib.Path(folder, f"large{round_}")
        own.mkdir()
        daemon = Daemon(muster, own)
        daemon.until(HEALTH)  # the second and third have the former's tables to read first
        up = time.monotonic() - daemon.begun
        watcher = Watcher()
        master = StreamingMaster(("127.0.0.1", 5050), 100_000, 5_000)
        daemon.until(READY, 120)
        time.sleep(8)  # the kernel is programmed, the state file written
        wait, asked = watcher.end()
        longest.append(wait)
        bench.note(f"100,000 tasks, {master.state_octets / 1e6:.0f} MB of JSON: longest wait {wait * 1000:.1f} ms of "
                   f"{asked} questions, {daemon.memory_megabytes():.0f} MB; it had started in {up:.2f} s")
        master.close()
        daemon.end()
    return statistics.median(longest)


def run(bench):
    bench.build("muster")
    muster = str(bench.build_dir / "muster")
    with tempfile.TemporaryDirectory(prefix="muster-footprint.") as folder, Namespace():
        memory, cpu, start = serving(bench, muster, folder)
        worst = pause(bench, muster, folder)
    return [
        Row("footprint.memory", "PSS with 10,000 tasks and 1,000 VIPs", f"{memory:.1f} MB", "60 MB", memory, 60),
        Row("footprint.cpu", "CPU of a core, the same, nothing happening", f"{cpu:.2f} %", "1 %", cpu, 1),
        Row("footprint.restart", "from exec to the first answer, no master there", f"{start * 1000:.0f} ms", "150 ms", start * 1000, 150),
        Row("footprint.pause", "longest wait for the control thread, 100,000 tasks coming in, middle of 3",
            f"{worst * 1000:.1f} ms", "20 ms", worst * 1000, 20),
    ]
