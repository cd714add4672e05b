#!/usr/bin/env python3
"""What runs in a namespace of its own beside the test: a server, a master, and clients."""

import contextlib
import http.server
import json
import pathlib
import signal
import socket
import sys
import threading
import time

CLUSTER = "5c1b4e7e-0000-4000-8000-000000000001"


def serve(name, port):
    """Says who it is, by tcp and udp."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", int(port)))

    def answer():
        while True:
            _, sender = datagrams.recvfrom(64)
            with contextlib.suppress(OSError):  # who asks may be unreachable by now
                datagrams.sendto(name.encode(), sender)

    threading.Thread(target=answer, daemon=True).start()
    listener = socket.create_server(("0.0.0.0", int(port)), backlog=512)
    while True:
        peer, _ = listener.accept()
        with contextlib.suppress(OSError), peer:
            peer.sendall(name.encode())


def task_of(name, task):
    """`agent`: whose; `port`: the agent's, or with `inside` the container's at `address`; `published`: the port of the agent that leads to it."""
    agent, address = task["agent"], task.get("address", task["agent"])
    ports = [{"number": task.get("published", task["port"]), "name": "p", "protocol": vip.split("/")[0],
              "labels": {"labels": [{"key": "VIP_0", "value": vip.split("/")[1]}]}} for vip in task["vips"]]
    out = {"id": f"{name}.1", "name": name, "framework_id": f"{CLUSTER}-0000", "executor_id": "", "slave_id": f"{CLUSTER}-{agent}",
           "state": "TASK_RUNNING", "role": "*", "resources": {"ports": f"[{task.get('published', task['port'])}-{task.get('published', task['port'])}]"},
           "statuses": [{"state": "TASK_RUNNING", "timestamp": 1.0,
                         "container_status": {"network_infos": [{"ip_addresses": [{"protocol": "IPv4", "ip_address": address}]}]}}],
           "discovery": {"visibility": "FRAMEWORK", "name": name, "ports": {"ports": ports}}}
    if "address" in task:
        mappings = [{"host_port": task["published"], "container_port": task["port"], "protocol": "tcp"}] if "published" in task else []
        out["container"] = {"type": "DOCKER", "docker": {"image": "x", "network": "BRIDGE" if mappings else "USER", "port_mappings": mappings}}
    return out


def master(path):
    """A Mesos master that is polled; the file says which tasks there are."""
    def state():
        tasks = [task_of(name, task) for name, task in json.loads(pathlib.Path(path).read_text()).items()]
        agents = ["10.2.0.1", "10.2.0.254"]
        return {"version": "1.11.0", "id": CLUSTER, "pid": "master@127.0.0.1:5050", "hostname": "127.0.0.1", "leader": "master@127.0.0.1:5050",
                "leader_info": {"id": CLUSTER, "pid": "master@127.0.0.1:5050", "port": 5050, "hostname": "127.0.0.1"},
                "slaves": [{"id": f"{CLUSTER}-{ip}", "hostname": ip, "port": 5051, "pid": f"slave(1)@{ip}:5051", "active": True, "attributes": {}, "resources": {}}
                           for ip in agents],
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


def dial(endpoint, seconds):
    """Who answers at "tcp/10.2.0.1:8080"."""
    protocol, at = endpoint.split("/")
    host, port = at.rsplit(":", 1)
    if protocol == "tcp":
        with socket.create_connection((host, int(port)), timeout=seconds) as connection:
            return connection.recv(64).decode() or "error: nothing said"
    end = time.monotonic() + seconds
    while True:  # asks again after a second, as tcp does, and as resolvers do by a socket of its own
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((host, int(port)))
            client.settimeout(min(1, seconds))
            try:
                client.send(b"?")
                return client.recv(64).decode()
            except (TimeoutError, PermissionError) as error:
                if time.monotonic() + 1 > end:
                    raise
                if isinstance(error, PermissionError):
                    time.sleep(0.1)  # it came at once


def ask(*endpoints):
    answers = {}

    def one(endpoint):
        try:
            answers[endpoint] = dial(endpoint, 0.8)  # shorter than a SYN's repetition: what is dropped stays unanswered
        except OSError as error:
            answers[endpoint] = f"error: {error}"

    threads = [threading.Thread(target=one, args=(endpoint,)) for endpoint in endpoints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(answers))


def load(*endpoints):
    """Connects to one after the other, and says at the end what came of it."""
    good, bad, longest, stop = dict.fromkeys(endpoints, 0), [], 0.0, []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    began_all = time.monotonic()
    print("begun", flush=True)
    while not stop:
        for endpoint in endpoints:
            began = time.monotonic()
            try:
                dial(endpoint, 10)
                good[endpoint] += 1
            except OSError as error:
                bad.append(f"{endpoint} after {began - began_all:.2f} s: {error}")
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.002)
    print(json.dumps({"good": good, "bad": bad[:20], "longest": longest}))


if __name__ == "__main__":
    {"serve": serve, "master": master, "ask": ask, "load": load}[sys.argv[1]](*sys.argv[2:])
