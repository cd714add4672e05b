"""Clients on nodes while something is done to the cluster, and what they saw."""
import contextlib
import json
import pathlib
import subprocess
import threading
import time

CLIENT = pathlib.Path(__file__).with_name("client.py")
PORT = 80
RATE = 20  # connections a second and client, and as many lookups


class Client:
    """client.py on one node, by itself or in a container behind the node."""

    def __init__(self, room, node, name, container=False):
        self.node, self.events, self.begun = node, [], threading.Event()
        server = f"10.66.0.{node}" if container else "127.0.0.1"
        self.process = subprocess.Popen(
            [room.dev, "exec", "--name", room.name, str(node), *(["--container"] if container else []), "--",
             "/usr/bin/python3", str(CLIENT), name, str(PORT), str(RATE), server],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            try:
                self.events.append(json.loads(line))
            except json.JSONDecodeError:
                self.events.append({"kind": "client", "at": time.monotonic(), "ms": 0, "wrong": line.strip(), "node": ""})
            self.begun.set()

    def finish(self):
        """No new ones; what is under way is waited for."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(10)


class Traffic:
    """Clients for as long as the block runs; read what they saw after it."""

    def __init__(self, room, nodes, name):
        self.clients = [Client(room, node, name) for node in nodes]
        self.clients.append(Client(room, nodes[-1], name, container=True))

    def __enter__(self):
        try:
            for client in self.clients:
                if not client.begun.wait(60) or client.events[0]["kind"] != "begun":
                    raise RuntimeError(f"the client on node {client.node} did not begin: {client.events[:3]}")
            self.steady()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for client in self.clients:
            with contextlib.suppress(OSError):
                client.process.stdin.close()
        for client in self.clients:
            client.finish()

    def steady(self, connections=20):
        """Until every client has had this many replies more."""
        wanted = [(c, self.count(c) + connections) for c in self.clients]
        end = time.monotonic() + 60
        while time.monotonic() < end and any(self.count(c) < n for c, n in wanted):
            time.sleep(0.05)

    @staticmethod
    def count(client):
        return sum(e["kind"] == "connect" for e in client.events)

    def events(self, kind, nodes=None):
        return [e for c in self.clients if nodes is None or c.node in nodes for e in c.events if e["kind"] == kind]

    def failed(self, kind, nodes=None, but=()):
        """What went wrong, but for connections that were kept to one of the nodes in `but`."""
        lost = {f"node{n}" for n in but}
        return [e for e in self.events(kind, nodes) if e["wrong"] and e["node"] not in lost]

    def longest(self, kind="connect"):
        return max((e["ms"] for e in self.events(kind) if not e["wrong"]), default=0) / 1000

    def pause(self, nodes):
        """Longest time between two lookups that were answered, on one of these nodes, in seconds."""
        longest = 0.0
        for client in self.clients:
            if client.node not in nodes:
                continue
            good = sorted(e["at"] for e in client.events if e["kind"] == "lookup" and not e["wrong"])
            longest = max([longest, *(b - a for a, b in zip(good, good[1:]))])
        return longest
