"""Sixty full daemons on this machine, in network namespaces of their own, and what their logs tell."""
import contextlib
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

NODES = 60
LINE = re.compile(r"^(\S+Z) debug: (.*)$")


def stamp(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Cluster:
    """muster-dev with debug logs; every daemon's lines carry this machine's one clock."""

    def __init__(self, build, apps, nodes=NODES, muster=None, config=""):
        """`muster` is started on each node instead of the build's; `config` is TOML for all."""
        self.dev = str(build / "muster-dev")
        self.name = f"bench{os.getpid()}"
        self.nodes = nodes
        self.folder = tempfile.TemporaryDirectory(prefix="muster-bench.")
        extra = pathlib.Path(self.folder.name) / "extra.toml"
        extra.write_text('[log]\nlevel = "debug"\n' + config)
        app_files = []
        for app in apps:
            path = pathlib.Path(self.folder.name) / f"app{len(app_files)}.json"
            path.write_text(json.dumps(app))
            app_files.append(str(path))
        self.process = subprocess.Popen(
            [self.dev, "--name", self.name, "--nodes", str(nodes), "--muster",
             str(muster or build / "muster"), "--extra-config", str(extra), *app_files],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            self("wait", "--seconds", "240")
        except BaseException:
            self.close()
            raise

    def __call__(self, command, *args):
        done = subprocess.run([self.dev, command, "--name", self.name, *map(str, args)],
                              check=True, capture_output=True, text=True)
        return done.stdout

    def on(self, node, *command):
        return self("exec", node, "--", *command)

    def spawn(self, node, *command):
        return subprocess.Popen([self.dev, "exec", "--name", self.name, str(node), "--", *command],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def address(self, node):
        return f"10.66.0.{node}"

    def members(self, node):
        return json.loads(self.on(node, "curl", "-s", "http://localhost:61421/v1/nodes"))["nodes"]

    def publisher(self):
        for member in self.members(1):
            if member["publisher"] and member["status"] == "alive":
                return int(member["endpoints"][0].split(":")[0].rsplit(".", 1)[1])
        return None

    def when(self, pattern, since, but=()):
        """For each node: when its log first says `pattern` after `since`, in seconds from there."""
        wanted = re.compile(pattern)
        found = {}
        for node in range(1, self.nodes + 1):
            if node in but:
                continue
            for line in self("logs", node).splitlines():
                match = LINE.match(line)
                if match and stamp(match[1]) >= since - 0.001 and wanted.search(match[2]):
                    found[node] = stamp(match[1]) - since
                    break
        return found

    def settle(self, seconds=30):
        """Until every node is alive for node 1 and for the last one."""
        end = time.time() + seconds
        while time.time() < end:
            views = [self.members(1), self.members(self.nodes)]
            if all(sum(m["status"] == "alive" for m in view) == self.nodes for view in views):
                return True
            time.sleep(0.2)
        return False

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def web(instances=3, name="/web"):
    return {"id": name, "cmd": "exec muster-dev serve --http $PORT0", "instances": instances,
            "portDefinitions": [{"port": 0, "labels": {"VIP_0": f"{name}:80"}}]}
