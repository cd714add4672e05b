#!/usr/bin/env python3
"""A daemon without CAP_SYS_ADMIN, muster-netns beside it, and a container that bypasses the node by macvlan.

namespace_test.py MUSTER MUSTER-NETNS: real processes; prints what failed.
"""

import array
import contextlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

ID = f"mns{os.getpid()}"
NODE, BACKENDS, CONTAINER = f"{ID}n", f"{ID}b", f"{ID}c"
CLUSTER = "5c1b4e7e-0000-4000-8000-000000000001"
NOBODY = 65534
failures = []


class Stop(Exception):
    """What follows would fail, too."""


def check(what, holds, detail=""):
    print(("ok      " if holds else "FAILED  ") + what, flush=True)
    if not holds:
        failures.append(what)
        print(detail, flush=True)


def until(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            check(what, True)
            return
        time.sleep(0.01)
    check(what, False, status())
    raise Stop


def sh(command, good=True):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    if good and done.returncode:
        raise RuntimeError(f"`{command}`: {done.stderr}{done.stdout}")
    return done.stdout


def inside(netns, *command, **options):
    return subprocess.Popen(["nsenter", f"--net=/run/netns/{netns}", *command], **options)


# --- roles that run in a namespace of their own

def master(path):
    """A Mesos master that is polled; the file says where the tasks are."""
    def state():
        hosts = json.loads(pathlib.Path(path).read_text())
        tasks = [{"id": f"web.{ip}", "name": "web", "framework_id": f"{CLUSTER}-0000", "executor_id": "", "slave_id": f"{CLUSTER}-{ip}",
                  "state": "TASK_RUNNING", "role": "*", "resources": {"ports": "[8080-8080]"},
                  "statuses": [{"state": "TASK_RUNNING", "timestamp": 1.0, "container_status": {"network_infos": [{"ip_addresses": [{"protocol": "IPv4", "ip_address": ip}]}]}}],
                  "discovery": {"visibility": "FRAMEWORK", "name": "web", "ports": {"ports": [
                      {"number": 8080, "name": "http", "protocol": "tcp", "labels": {"labels": [{"key": "VIP_0", "value": "11.0.0.1:80"}]}}]}}} for ip in hosts]
        return {"version": "1.11.0", "id": CLUSTER, "pid": "master@127.0.0.1:5050", "hostname": "127.0.0.1", "leader": "master@127.0.0.1:5050",
                "leader_info": {"id": CLUSTER, "pid": "master@127.0.0.1:5050", "port": 5050, "hostname": "127.0.0.1"},
                "slaves": [{"id": f"{CLUSTER}-10.2.0.{i}", "hostname": f"10.2.0.{i}", "port": 5051, "pid": f"slave(1)@10.2.0.{i}:5051", "active": True, "attributes": {}, "resources": {}} for i in range(1, 5)],
                "recovered_slaves": [], "orphan_tasks": [], "unregistered_frameworks": [], "completed_frameworks": [],
                "frameworks": [{"id": f"{CLUSTER}-0000", "name": "marathon", "hostname": "10.2.0.1", "active": True, "connected": True, "recovered": False,
                                "tasks": tasks, "unreachable_tasks": [], "completed_tasks": []}]}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = json.dumps(state()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", 5050), Handler).serve_forever()


def backends():
    """Each says who it is."""
    def serve(listener, name):
        while True:
            peer, _ = listener.accept()
            with contextlib.suppress(OSError), peer:
                peer.sendall(name.encode())

    for i in range(1, 5):
        listener = socket.create_server((f"10.2.0.{i}", 8080), backlog=512)
        threading.Thread(target=serve, args=(listener, f"10.2.0.{i}")).start()


def dial(seconds=10):
    with socket.create_connection(("11.0.0.1", 80), timeout=seconds) as connection:
        return connection.recv(64).decode()


def load():
    """Connects again and again, and says at the end what came of it."""
    good, bad, stop = 0, [], []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    while not stop:
        try:
            good += bool(dial())
        except OSError as error:
            bad.append(str(error))
        pathlib.Path(sys.argv[2]).write_text(str(good))
        time.sleep(0.001)
    print(json.dumps({"good": good, "bad": bad}))


# --- the test

class Room:
    def __init__(self, muster, helper):
        self.muster, self.helper = muster, helper
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="muster-e2e."))
        self.folder.chmod(0o755)
        self.names = self.folder / "l4lb"
        self.tasks = self.folder / "tasks"
        self.socket = self.folder / "netns.sock"
        self.processes = []
        self.daemon_process = self.helper_process = None

    def build(self):
        for name in (NODE, BACKENDS, CONTAINER):
            sh(f"ip netns add {name} && ip -n {name} link set lo up")
        sh(f"ip -n {NODE} link add b0 type veth peer name eth0 netns {BACKENDS}")
        sh(f"ip -n {NODE} addr add 10.2.0.254/24 dev b0 && ip -n {NODE} link set b0 up && ip -n {BACKENDS} link set eth0 up")
        for i in range(1, 5):
            sh(f"ip -n {BACKENDS} addr add 10.2.0.{i}/24 dev eth0")
        made = subprocess.run(f"ip -n {NODE} link add mv0 link b0 type macvlan mode bridge", shell=True, capture_output=True, text=True)
        if made.returncode:
            print(f"SKIPPED: no macvlan on this kernel: {made.stderr}")
            return False
        sh(f"ip -n {NODE} link set mv0 netns {CONTAINER} name eth0 && ip -n {CONTAINER} addr add 10.2.0.9/24 dev eth0 && ip -n {CONTAINER} link set eth0 up")
        sh(f"ip -n {NODE} link add peer0 type veth peer name eth9 netns {CONTAINER}")
        self.place("10.2.0.1")
        (self.folder / "state").mkdir()
        os.chown(self.folder / "state", NOBODY, NOBODY)
        (self.folder / "muster.toml").write_text(
            '[mesos]\nmasters = ["http://127.0.0.1:5050"]\nmode = "poll"\npoll_interval = "1s"\n[dns]\nenabled = false\n'
            f'[lb]\ndriver = "nft"\nnamespace_folders = ["{self.names}"]\nnamespace_helper = "{self.socket}"\n'
            f'[state]\ndirectory = "{self.folder}/state"\n[control]\nsocket = ""\n')
        for role in (("master", str(self.tasks)),):
            self.processes.append(inside(NODE, sys.executable, __file__, *role))
        self.processes.append(inside(BACKENDS, sys.executable, __file__, "backends"))
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.socket))
        os.chmod(self.socket, 0o660)
        os.chown(self.socket, 0, NOBODY)
        self.listener.listen()
        return True

    def place(self, *hosts):
        draft = self.tasks.with_suffix(".new")
        draft.write_text(json.dumps(hosts))
        draft.rename(self.tasks)

    def start_helper(self):
        """As systemd would: the socket is descriptor 3, and two capabilities are all there is."""
        held = self.listener.fileno()
        self.helper_process = inside(
            NODE, "setpriv", "--bounding-set=-all,+net_admin,+sys_admin", "sh", "-c",
            f'LISTEN_PID=$$ LISTEN_FDS=1 ASAN_OPTIONS=detect_leaks=0 exec "$0" "$1" 3<&{held}', self.helper, str(self.names), pass_fds=[held])

    def start_daemon(self):
        log = open(self.folder / "log", "a")
        self.daemon_process = inside(
            NODE, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all,+net_admin,+net_bind_service",
            "--inh-caps=-all,+net_admin,+net_bind_service", "--ambient-caps=-all,+net_admin,+net_bind_service",
            self.muster, "agent", "--config", str(self.folder / "muster.toml"), stdout=log, stderr=log, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})

    def name(self, file, content):
        draft = self.folder / file
        draft.write_text(content)
        draft.rename(self.names / file)

    def end(self):
        for process in (self.daemon_process, self.helper_process, *self.processes):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        for name in (CONTAINER, NODE, BACKENDS):
            sh(f"ip netns del {name} 2>/dev/null", good=False)
        shutil.rmtree(self.folder, ignore_errors=True)


room = None


def status():
    log = room.folder / "log"
    return sh(f"nsenter --net=/run/netns/{NODE} {room.muster} status 2>&1", good=False) + (log.read_text()[-3000:] if log.exists() else "")


def line():
    return next((one for one in status().splitlines() if one.startswith("namespaces ")), "")


def metrics():
    return sh(f"nsenter --net=/run/netns/{NODE} curl -s http://127.0.0.1:61421/metrics", good=False)


def reaches():
    done = subprocess.run(["nsenter", f"--net=/run/netns/{CONTAINER}", sys.executable, __file__, "dial"], capture_output=True, text=True)
    return done.stdout.strip()


def say(*messages):
    """What muster-netns answers to each, raw; none: it hangs up."""
    answers = []
    for message in messages:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
            asker.settimeout(10)
            asker.connect(str(room.socket))
            asker.send(message)
            answer, ancillary, _, _ = asker.recvmsg(8192, 1024)
            fds = array.array("i")
            for _, _, data in ancillary:
                fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
            for fd in fds:
                os.close(fd)
            answers.append((answer, len(fds)))
    return answers


def request(kind, folder=0, name=b"", version=1):
    return struct.pack("<BBH", version, kind, folder) + name


def walk():
    room.start_helper()
    room.start_daemon()
    until("the daemon is ready", lambda: any(one.split()[:2] == ["ready", "yes"] for one in status().splitlines()))
    effective = int(next(one.split()[1] for one in pathlib.Path(f"/proc/{room.daemon_process.pid}/status").read_text().splitlines() if one.startswith("CapEff")), 16)
    check("the daemon has no CAP_SYS_ADMIN, and is not root", not effective >> 21 & 1 and pathlib.Path(f"/proc/{room.daemon_process.pid}").stat().st_uid == NOBODY)
    check("without a file the container reaches nothing", reaches() == "")
    room.names.mkdir()
    began = time.monotonic()
    room.name("c1", f"/run/netns/{CONTAINER}\n")
    until("the container reaches the VIP once a file names its namespace", lambda: reaches() == "10.2.0.1")
    print(f"        {time.monotonic() - began:.2f} s after the file, in a folder that was not there before")
    check("muster status says so", "1 served" in line(), status())
    check("and so do the metrics", 'muster_lb_namespaces{state="served"} 1' in metrics(), metrics()[-2000:])
    room.name("junk", "/dev/null\n")
    until("what is refused is said", lambda: "junk: what the file names is no network namespace" in line())
    check("and counted", 'muster_lb_namespace_refusals_total{reason="not_a_namespace"} 1' in metrics())

    counted = room.folder / "good"
    driver = inside(CONTAINER, sys.executable, __file__, "load", str(counted), stdout=subprocess.PIPE, text=True)
    room.processes.append(driver)

    def more(count=50):
        before = int(counted.read_text() or 0) if counted.exists() else 0
        return lambda: counted.exists() and int(counted.read_text() or 0) > before + count

    until("connections are made again and again", more())
    for hosts in (("10.2.0.1", "10.2.0.2"), ("10.2.0.2", "10.2.0.3", "10.2.0.4"), ("10.2.0.3",), ("10.2.0.1", "10.2.0.3")):
        room.place(*hosts)
        wanted = sorted(hosts)
        until(f"backends {', '.join(wanted)}", lambda: sorted(set(part for part in sh(f"ip netns exec {CONTAINER} nft list map ip muster slots_tcp", good=False).replace(",", " ").split() if part.startswith("10.2.0."))) == wanted)
    room.daemon_process.kill()
    room.daemon_process.wait()
    until("the daemon is killed, and connections go on", more())
    room.start_daemon()
    until("it starts again and serves the namespace", lambda: "1 served" in line())
    until("and connections go on", more())
    room.helper_process.kill()
    room.helper_process.wait()
    room.listener.listen(0)  # nobody answers
    until("muster-netns is killed: what is served stays", lambda: "1 served" in line())
    until("and connections go on still", more())
    room.start_helper()
    until("it is back", lambda: "does not answer" not in line())
    driver.send_signal(signal.SIGTERM)
    result = json.loads(driver.communicate(timeout=60)[0])
    check("no connection failed", not result["bad"] and result["good"] > 200, result)
    sh(f"ip netns exec {CONTAINER} nft flush ruleset")
    until("what the container takes away is put back", lambda: reaches() != "")

    wrong = [request(1, 0, b"../c1"), request(1, 0, b"/run/netns/" + CONTAINER.encode()), request(1, 9, b"c1"), request(1, 0), request(7), request(0, version=2), b"x", b"x" * 4000,
             request(1, 0, b"a" * 256), request(1, 0, b"c1\0")]
    for message, (answer, sockets) in zip(wrong, say(*wrong)):
        check(f"muster-netns refuses {message[:16]!r}", answer[:2] == b"\x02\x01" and not sockets, answer)
    (answer, sockets), (missing, none) = say(request(1, 0, b"c1"), request(1, 0, b"none"))
    check("and gives sockets for what is named", answer[1] == 0 and sockets == 6, (answer, sockets))
    check("but none for what is not", missing[1] == 4 and none == 0, missing)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(room.socket))
        room.name("junk2", "/dev/null\n")
        until("who says nothing does not hold it up", lambda: "junk2" in line() and "does not answer" not in line())

    (room.names / "c1").unlink()
    sh(f"ip netns del {CONTAINER}")
    began = time.monotonic()
    until("a namespace whose file goes is freed", lambda: "peer0" not in sh(f"ip -n {NODE} link"))
    took = time.monotonic() - began
    check(f"within a second ({took:.2f} s)", took < 1)
    until("muster status says so, too", lambda: "1 served" not in line())


ROLES = {"master": lambda: master(sys.argv[2]), "backends": backends, "load": load}
if sys.argv[1] in ROLES:
    ROLES[sys.argv[1]]()
elif sys.argv[1] == "dial":
    with contextlib.suppress(OSError):
        print(dial(5))
else:
    if os.getuid() != 0 or not shutil.which("setpriv") or not shutil.which("nsenter"):
        print("SKIPPED: needs root, setpriv and nsenter")
        sys.exit(0)
    room = Room(sys.argv[1], sys.argv[2])
    try:
        if room.build():
            walk()
    except Stop:
        pass
    finally:
        if failures:
            print(status())
        room.end()
    sys.exit(1 if failures else 0)
