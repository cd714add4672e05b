"""A cluster of three with one app, /web, behind a VIP: what tests of the Mesos side ask of it and do to it.

For scripts that are called with MUSTER-DEV MUSTER; run() is their main.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

DEV, MUSTER = sys.argv[1], sys.argv[2]
NAME = f"{pathlib.Path(sys.argv[0]).stem.removesuffix('_test')}{os.getpid()}"
NODES = (1, 2, 3)
URL = "http://web.marathon.l4lb.thisdcos.directory/"
LIMIT = 90  # seconds for anything to happen, on a machine that is busy with other tests
APP = {"id": "/web", "cmd": "exec muster-dev serve --http $PORT0", "instances": 3,
       "portDefinitions": [{"port": 0, "labels": {"VIP_0": "/web:80"}}],
       "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/health", "delaySeconds": 0,
                         "gracePeriodSeconds": 60, "intervalSeconds": 1, "timeoutSeconds": 20}]}
failures = []


def check(what, holds, detail=""):
    print(("ok      " if holds else "FAILED  ") + what, flush=True)
    if not holds:
        failures.append(what)
        print(detail, flush=True)


def dev(command, *arguments):
    return subprocess.run([DEV, command, "--name", NAME, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def on(node, *command):
    return dev("exec", node, "--", *command).stdout


def get(path, node):
    text = on(node, "curl", "-s", "-m", "10", f"http://localhost:61421{path}")
    return json.loads(text) if text else {}


def backends(node):
    """How many backends of /web take connections on a node."""
    return sum(backend["weight"] > 0 for vip in get("/v1/vips", node) or [] if vip["vip"].startswith("web.") for backend in vip["backend"])


def publisher():
    return next((node for node in NODES if get("/v1/status", node).get("gossip", {}).get("role") == "publisher"), None)


def fault(address, *steps):
    """Makes the emulated master or agent there fail."""
    text = on(1, "curl", "-s", "-m", "10", "-d", json.dumps(list(steps)), f"http://{address}/dev/faults")
    check(f"{address} takes {json.dumps(steps)[:70]}", text == "done", text)


def until(what, condition):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if condition():
            return check(what, True)
        time.sleep(0.1)
    return check(what, False, "\n".join(f"  node {n}: {backends(n)} backends, {get('/v1/status', n)}" for n in NODES))


def run(walk, *options):
    """Starts the cluster, `options` to muster-dev, walks through it and exits: 1 if a check failed."""
    if os.geteuid() != 0:
        print("SKIPPED: needs root, for network namespaces")
        sys.exit(0)
    with tempfile.TemporaryDirectory() as folder:
        definition = pathlib.Path(folder, "web.json")
        definition.write_text(json.dumps(APP))
        log = open(pathlib.Path(folder, "log"), "w+")
        cluster = subprocess.Popen([DEV, "--name", NAME, "--nodes", str(len(NODES)), *options, "--muster", MUSTER, str(definition)],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            time.sleep(1)
            subprocess.run([DEV, "wait", "--name", NAME, "--seconds", str(LIMIT)], check=True, capture_output=True)
            walk()
            if failures:
                for node in NODES:
                    print(f"--- node {node}\n" + dev("logs", node).stdout[-3000:])
        except Exception:
            log.seek(0)
            print(log.read())
            raise
        finally:
            cluster.terminate()
            cluster.wait(30)
    print(f"{len(failures)} failed" + "".join(f"\n  {what}" for what in failures))
    sys.exit(1 if failures else 0)
