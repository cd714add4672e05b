"""A node in a network namespace, with muster, a remote host and a container of no Docker's beside it; and checks.

      remote 10.2.0.1 ── 10.2.0.254 node 10.3.0.1 ── 10.3.0.2 plain (as a CNI plugin makes them)

Nothing outside of the namespaces made here is changed. What runs is ended by what started it.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ID = f"mfw{os.getpid()}"
NODE, REMOTE, PLAIN = f"{ID}n", f"{ID}r", f"{ID}p"
ROLES = pathlib.Path(__file__).with_name("roles.py")
LIMIT = 60  # seconds for anything to happen
NODE_IP, REMOTE_IP = "10.2.0.254", "10.2.0.1"


class Stop(Exception):
    """What follows would fail, too."""


def sh(command, good=True):
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=LIMIT)
    if good and done.returncode:
        raise RuntimeError(f"`{command}`: {done.stderr}{done.stdout}")
    return done.stdout


def namespace(where):
    """An argument of nsenter: `where` is one of ours by name, or the path of any other."""
    return f"--net={where}" if where.startswith("/") else f"--net=/run/netns/{where}"


def role(where, *arguments, **options):
    return subprocess.Popen(["nsenter", namespace(where), sys.executable, "-B", str(ROLES), *arguments], **options)


class Room:
    def __init__(self, muster):
        self.muster, self.failures, self.daemon, self.processes = muster, [], None, []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="muster-fw."))
        self.folder.chmod(0o755)
        self.tasks = {}

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in (self.daemon, *self.processes):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        for name in (PLAIN, NODE, REMOTE):
            sh(f"ip netns del {name} 2>/dev/null", good=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _build(self):
        for name in (NODE, REMOTE, PLAIN):
            sh(f"ip netns add {name} && ip -n {name} link set lo up")
        sh(f"ip -n {NODE} link add b0 type veth peer name eth0 netns {REMOTE} && ip -n {NODE} link add br0 type bridge && "
           f"ip -n {NODE} link add p0 type veth peer name eth0 netns {PLAIN} && ip -n {NODE} link set p0 master br0")
        sh(f"ip -n {NODE} addr add {NODE_IP}/24 dev b0 && ip -n {NODE} addr add 10.3.0.1/24 dev br0 && ip -n {PLAIN} addr add 10.3.0.2/24 dev eth0 && "
           f"ip -n {REMOTE} addr add {REMOTE_IP}/24 dev eth0")
        for name, device in ((NODE, "b0"), (NODE, "br0"), (NODE, "p0"), (PLAIN, "eth0"), (REMOTE, "eth0")):
            sh(f"ip -n {name} link set {device} up")
        sh(f"ip -n {NODE} route add default via {REMOTE_IP} && ip -n {PLAIN} route add default via 10.3.0.1 && ip -n {REMOTE} route add 10.3.0.0/24 via {NODE_IP}")
        # As on a node where nobody has loaded br_netfilter; where it is built in, it is on.
        sh(f"nsenter {namespace(NODE)} sh -c 'echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables' 2>/dev/null", good=False)
        self.processes += [role(REMOTE, "serve", "remote", "8080"), role(NODE, "serve", "node", "8080"), role(PLAIN, "serve", "plain", "8080"),
                           role(NODE, "master", str(self.folder / "tasks"))]
        self.place()

    # --- the cluster

    def place(self, **tasks):
        """Further tasks, each behind VIPs of its own: see roles.py."""
        self.tasks.update(tasks)
        draft = self.folder / "tasks.new"
        draft.write_text(json.dumps(self.tasks))
        draft.rename(self.folder / "tasks")

    def start_muster(self, accept):
        (self.folder / "state").mkdir(exist_ok=True)
        (self.folder / "muster.toml").write_text(
            '[mesos]\nmasters = ["http://127.0.0.1:5050"]\nmode = "poll"\npoll_interval = "1s"\n[dns]\nenabled = false\n'
            f'[lb]\ndriver = "nft"\nforward_accept = {str(accept).lower()}\nnamespace_folders = []\n'
            f'[state]\ndirectory = "{self.folder}/state"\n[control]\nsocket = ""\n')
        with open(self.folder / "log", "a") as log:
            self.daemon = subprocess.Popen(["nsenter", namespace(NODE), self.muster, "agent", "--config", str(self.folder / "muster.toml")],
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        self.until("muster is ready", lambda: any(line.split()[:2] == ["ready", "yes"] for line in self.status().splitlines()))
        self.until("muster has every task", self.has_every_task)

    def has_every_task(self):
        listed = self.client("vips")
        return all(vip.split("/")[1] in listed for task in self.tasks.values() for vip in task["vips"])

    def stop_muster(self):
        """As an upgrade does: withdraws nothing."""
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(LIMIT)

    def clean_up(self):
        self.stop_muster()
        return self.client("cleanup")

    def client(self, *arguments):
        done = subprocess.run(["nsenter", namespace(NODE), self.muster, *arguments], capture_output=True, text=True, timeout=LIMIT,
                              env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        return done.stdout + done.stderr

    def status(self):
        return self.client("status")

    def metric(self, name):
        text = sh(f"nsenter {namespace(NODE)} curl -s http://127.0.0.1:61421/metrics")
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))

    def rules(self):
        """All there are on the node, without what counts or differs from one listing to the next."""
        return sh(f"nsenter {namespace(NODE)} nft -s list ruleset 2>/dev/null")

    # --- checks

    def check(self, what, holds, detail=""):
        print(("ok      " if holds else "FAILED  ") + what, flush=True)
        if not holds:
            self.failures.append(what)
            print(f"  {str(detail)[-4000:]}", flush=True)
        return holds

    def until(self, what, condition, seconds=LIMIT, detail=None):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return self.check(what, True)
            time.sleep(0.05)
        self.check(what, False, detail() if detail else self.status() + self.log())
        raise Stop

    def log(self):
        file = self.folder / "log"
        return file.read_text()[-3000:] if file.exists() else ""

    def ask(self, where, endpoints):
        """Who answers at each of `endpoints` ("tcp/10.2.0.1:8080"), or an error."""
        with role(where, "ask", *endpoints, stdout=subprocess.PIPE, text=True) as process:
            return json.loads(process.communicate(timeout=LIMIT)[0])

    def expect(self, what, where, answers, seconds=15):
        """`answers` by endpoint; None: nobody does, whichever way one is told. What is not so at once may come to be: routes and rules follow
        a change."""
        end = time.monotonic() + seconds
        while True:
            found = self.ask(where, answers)
            wrong = {at: found[at] for at, answer in answers.items() if (None if found[at].startswith("error") else found[at]) != answer}
            if not wrong or time.monotonic() > end:
                return self.check(what, not wrong, wrong)

    @contextlib.contextmanager
    def load(self, what, clients):
        """Connects from `clients` ({name: (where, endpoints)}) again and again while the block runs; none may fail."""
        running = {name: role(where, "load", *endpoints, stdout=subprocess.PIPE, text=True) for name, (where, endpoints) in clients.items()}
        self.processes += running.values()
        for process in running.values():
            process.stdout.readline()  # it has begun, and hears signals
        yield
        for name, process in running.items():
            process.send_signal(signal.SIGTERM)
            result = json.loads(process.communicate(timeout=LIMIT)[0])
            few = [at for at, good in result["good"].items() if good == 0]
            self.check(f"{what}: no connection from {name} failed ({sum(result['good'].values())} made, the longest took {result['longest']:.2f} s)",
                       not result["bad"] and not few, result)


def skip(reason):
    print(f"SKIPPED: {reason}")
    raise SystemExit(0)
