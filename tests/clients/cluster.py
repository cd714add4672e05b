"""What the tests with real clients share: a cluster of muster-dev, commands on its nodes, checks."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

LIMIT = 90  # seconds for anything to happen, on a machine that is busy with other tests
ZONE = "marathon.l4lb.thisdcos.directory"
# A task told to end goes on answering for a moment, as docs/vips.md advises: the nodes learn of its
# end at the same time as it does. Longer than advised: a server may need a second for a connection
# that it has accepted, where it shares two processors with a cluster.
LINGER = "trap 'sleep 4; kill -TERM $p' TERM; while kill -0 $p 2>/dev/null; do wait $p; done"


class Cluster:
    """Nodes 1 to `nodes` under `apps`; `failures` are the names of checks that did not hold."""

    def __init__(self, dev, muster, apps, nodes=2):
        self.dev, self.name, self.failures = dev, f"clients{os.getpid()}", []
        self.nodes = nodes
        self._stack = contextlib.ExitStack()
        self.folder = pathlib.Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="muster-clients.")))
        self.folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        self._apps, self._muster = apps, muster

    def __enter__(self):
        with self._stack:
            definition = self.folder / "apps.json"
            definition.write_text(json.dumps(self._apps(self.folder) if callable(self._apps) else self._apps))
            log = self._stack.enter_context(open(self.folder / "log", "w+"))
            process = subprocess.Popen([self.dev, "--name", self.name, "--nodes", str(self.nodes), "--muster", self._muster, str(definition)],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self._stack.callback(process.wait, 60)
            self._stack.callback(process.terminate)
            time.sleep(0.5)
            if self._dev("wait", "--seconds", LIMIT).returncode != 0:
                raise RuntimeError("the cluster did not become ready\n" + pathlib.Path(log.name).read_text())
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _dev(self, command, *arguments):
        return subprocess.run([self.dev, command, "--name", self.name, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT + 10)

    def __call__(self, command, *arguments):
        """A command of muster-dev, such as ("scale", "/web", 3)."""
        done = self._dev(command, *arguments)
        if done.returncode != 0:
            raise RuntimeError(f"muster-dev {command} {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def _exec(self, where, command):
        node, container = where
        return [self.dev, "exec", "--name", self.name, str(node), *(["--container"] if container else []), "--", *map(str, command)]

    def on(self, where, *command, timeout=LIMIT):
        """Runs `command` at `where` (HOST or CONTAINER); what it did, with stdout and stderr."""
        return subprocess.run(self._exec(where, command), capture_output=True, text=True, timeout=timeout)

    @contextlib.contextmanager
    def beside(self, where, *command):
        """`command` runs while the block does, and is awaited after it: .out, .err, .returncode."""
        process = subprocess.Popen(self._exec(where, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            yield process
            process.out, process.err = process.communicate(timeout=LIMIT)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    @contextlib.contextmanager
    def until_done(self, where, command):
        """The shell's `command` again and again while the block runs; .runs, and .failed with what each said."""
        stop = self.folder / "stop"
        stop.unlink(missing_ok=True)
        script = (f'while [ ! -e {stop} ]; do if out=$({command} 2>&1); then echo good; else '
                  'echo "bad $? $(printf %s "$out" | tr "\\n" " ")"; fi; sleep 0.02; done')
        with self.beside(where, "sh", "-c", script) as process:
            time.sleep(0.5)  # some before the change
            yield process
            time.sleep(1)  # and some after
            stop.touch()
        lines = process.out.splitlines()
        process.runs, process.failed = len(lines), [line for line in lines if line != "good"]

    def check(self, what, holds, detail=""):
        print(("ok      " if holds else "FAILED  ") + what, flush=True)
        if not holds:
            self.failures.append(what)
            print(f"  {str(detail)[-2000:]}", flush=True)
        return holds

    def until(self, what, condition):
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.1)
        return self.check(what, False, f"not within {LIMIT} s")

    def get(self, path, node=1):
        text = self.on((node, False), "curl", "-s", "-m", "10", f"http://localhost:61421{path}").stdout
        return json.loads(text) if text else None

    def backends(self, vip, node=1):
        """How many backends of a VIP ("web") take connections on a node."""
        return sum(b["weight"] > 0 for v in self.get("/v1/vips", node) or [] if v["vip"].startswith(vip + ".") for b in v["backend"])

    def scale(self, app, count):
        """Until every node balances over `count` instances."""
        self("scale", app, count)
        for node in range(1, self.nodes + 1):
            self.until(f"{app} has {count} backends on node {node}", lambda: self.backends(app.lstrip("/"), node) == count)

    def kill(self, app):
        """kill -9 of an instance that serves; until another one is there and every node knows."""
        count = self.backends(app.lstrip("/"))
        before = {t["task"] for t in self.tasks(app)}
        self("kill", "--app", app, "--instance", 1, "--signal", "KILL")
        self.until(f"another instance of {app} runs", lambda: {t["task"] for t in self.tasks(app)} != before)
        self.scale(app, count)

    def tasks(self, app):
        return [t for t in json.loads(self("ps", "--json"))["tasks"] if t["app"] == app and t["pid"]]

    def restart_daemon(self, node=1):
        """kill -9 of a node's muster, and another one; until it is ready."""
        self("kill-agent", node)
        self.until("the daemon is gone", lambda: self.on((node, False), "curl", "-s", "-m", "2", "http://localhost:61421/healthz").returncode != 0)
        self("start-agent", node)
        self.until("the daemon is back", lambda: self.on((node, False), "curl", "-sf", "-m", "2", "http://localhost:61421/readyz").returncode == 0)


HOST, CONTAINER = (1, False), (2, True)
PLACES = [(HOST, "node"), (CONTAINER, "container")]


def app(name, command, instances=2, labels=None, protocol="tcp", port=None, health="MESOS_TCP", **more):
    """A Marathon app of host networking with one port, behind the VIP name:port."""
    out = {"id": f"/{name}", "cmd": command, "instances": instances, "cpus": 0.1, "mem": 32, "taskKillGracePeriodSeconds": 15,
           "portDefinitions": [{"port": 0, "name": name, "protocol": protocol, "labels": labels or {"VIP_0": f"/{name}:{port}"}}], **more}
    if health:
        out["healthChecks"] = [{"protocol": health, "portIndex": 0, "delaySeconds": 0, "gracePeriodSeconds": 60, "intervalSeconds": 1, "timeoutSeconds": 20}]
        if health == "MESOS_HTTP":
            out["healthChecks"][0]["path"] = "/health"
    return out


def web(instances=3):
    return app("web", "exec muster-dev serve --http $PORT0", instances, port=80, health="MESOS_HTTP")


def needs(*programs):
    """What the shell would run for each; ends the test, with the reason, where one is not installed."""
    found = [shutil.which(p, path=os.environ["PATH"] + ":/usr/sbin:/sbin") for p in programs]
    missing = [p for p, path in zip(programs, found) if not path]
    if missing:
        skip(f"{', '.join(missing)}: not installed (deploy/install-deps clients)")
    return found


def skip(reason):
    print(f"SKIPPED: {reason}")
    raise SystemExit(0)


def numbers(pattern, text):
    return [float(n) for n in re.findall(pattern, text)]
