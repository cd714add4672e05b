#!/usr/bin/env python3
"""Masters that fail over and answers that are spoilt, and VIPs that do not mind.

mesos_test.py MUSTER-DEV MUSTER: one cluster; prints what failed.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

DEV, MUSTER = sys.argv[1], sys.argv[2]
NAME = f"mesos{os.getpid()}"
LIMIT = 90  # seconds for anything to happen, on a machine that is busy with other tests
MASTERS = ["10.66.0.250:5050", "10.66.0.251:5050"]
failures = []


def check(what, holds, detail=""):
    print(("ok      " if holds else "FAILED  ") + what, flush=True)
    if not holds:
        failures.append(what)
        print(detail, flush=True)


def on(node, *command):
    done = subprocess.run([DEV, "exec", "--name", NAME, str(node), "--", *command],
                          capture_output=True, text=True, timeout=60)
    return done.stdout


def get(path, node=1):
    text = on(node, "curl", "-s", "-m", "10", f"http://localhost:61421{path}")
    return json.loads(text) if text else {}


def backends(node=1):
    """How many backends of /web take connections on a node."""
    vips = get("/v1/vips", node) or []
    return sum(backend["weight"] > 0 for vip in vips if vip["vip"].startswith("web.") for backend in vip["backend"])


def observed():
    """What the node that publishes says of the master it follows, and of the cluster."""
    for node in (1, 2, 3):
        status = get("/v1/status", node)
        if status.get("gossip", {}).get("role") == "publisher":
            return {**status["observation"], **status["cluster"]}
    return {"state": "nobody publishes", "master": "", "tasks": 0, "agents": 0}


def fault(*steps, master=0):
    text = on(1, "curl", "-s", "-m", "10", "-d", json.dumps(list(steps)), f"http://{MASTERS[master]}/dev/faults")
    check(f"the emulator takes {json.dumps(steps)[:70]}", text == "done", text)


def until(what, condition):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if condition():
            return check(what, True)
        time.sleep(0.1)
    return check(what, False, f"  backends {backends()}, mesos {observed()}")


class Watch:
    """Load on the VIP, and the number of its backends, for as long as the block runs."""

    def __init__(self, what, least=3):
        self.what, self.least, self.fewest = what, least, 99

    def __enter__(self):
        self.load = subprocess.Popen(
            [DEV, "exec", "--name", NAME, "2", "--", DEV, "load", "--json", "--rate", "2", "--seconds", "600",
             "--timeout", "20", "--url", "http://web.marathon.l4lb.thisdcos.directory/"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return self

    def look(self):
        self.fewest = min(self.fewest, backends())
        return True

    def until(self, what, condition):
        until(f"{self.what}: {what}", lambda: self.look() and condition())

    def __exit__(self, *_):
        self.look()
        self.load.kill()
        self.load.wait()
        check(f"{self.what}: no backend was lost", self.fewest >= self.least, f"  {self.fewest} were left")


def subscribed():
    return observed()["state"] == "subscribed"


def master_is(index):
    return observed()["master"] == MASTERS[index] and subscribed()


def failover():
    for turn in (1, 0):
        what = f"failover to master {turn + 1}"
        load = subprocess.Popen(
            [DEV, "exec", "--name", NAME, "2", "--", DEV, "load", "--json", "--rate", "5", "--seconds", "8",
             "--timeout", "20", "--url", "http://web.marathon.l4lb.thisdcos.directory/"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        subprocess.run([DEV, "master", "--name", NAME, "failover"], check=True, capture_output=True)
        fewest = 99
        end = time.monotonic() + LIMIT
        while time.monotonic() < end and not (fewest != 99 and master_is(turn) and load.poll() is not None):
            fewest = min(fewest, backends())
            time.sleep(0.05)
        check(f"{what}: the new leader is followed", master_is(turn), f"  {observed()}")
        out, err = load.communicate(timeout=60)
        check(f"{what}: no backend was lost, and no request", fewest == 3 and load.returncode == 0,
              f"  {fewest} backends at least, {out}{err}")
        until(f"{what}: every agent is back", lambda: observed()["agents"] == 3 and observed()["tasks"] == 3)


def spoilt_answers():
    """Each spoils what the master says next; the stream is ended so that it says something."""
    stream = "/api/v1"
    cases = [
        ("an answer cut in its head", [{"fault": "truncate", "on": stream, "after": 20, "times": 3}]),
        ("a snapshot cut in the middle", [{"fault": "truncate", "on": stream, "after": 900, "times": 3}]),
        ("a slow snapshot", [{"fault": "trickle", "on": stream, "ms": 2, "times": 2}]),
        ("a master that recovers", [{"fault": "status", "on": stream, "status": 503, "times": 2,
                                     "body": "Master has not finished recovery"}]),
        ("an internal error", [{"fault": "status", "on": stream, "status": 500, "times": 3}]),
    ]
    for what, steps in cases:
        with Watch(what) as watch:
            fault({"fault": "clear"}, *steps, {"fault": "hang_up"})
            watch.until("the stream is held again",
                        lambda: get_armed() == [] and subscribed())


def get_armed():
    return json.loads(on(1, "curl", "-s", "-m", "10", f"http://{MASTERS[0]}/dev/faults") or "[1]")


def main():
    app = {"id": "/web", "cmd": "exec muster-dev serve --http $PORT0", "instances": 3,
           "portDefinitions": [{"port": 0, "labels": {"VIP_0": "/web:80"}}],
           "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/health", "delaySeconds": 0,
                             "gracePeriodSeconds": 60, "intervalSeconds": 1, "timeoutSeconds": 20}]}
    with tempfile.TemporaryDirectory() as folder:
        definition = pathlib.Path(folder, "web.json")
        definition.write_text(json.dumps(app))
        log = open(pathlib.Path(folder, "log"), "w+")
        cluster = subprocess.Popen([DEV, "--name", NAME, "--nodes", "3", "--muster", MUSTER, str(definition)],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            time.sleep(1)
            subprocess.run([DEV, "wait", "--name", NAME, "--seconds", str(LIMIT)], check=True, capture_output=True)
            until("three backends", lambda: backends() == 3)
            failover()
            spoilt_answers()
        except Exception:
            log.seek(0)
            print(log.read())
            raise
        finally:
            cluster.terminate()
            cluster.wait(30)


if os.geteuid() != 0:
    print("SKIPPED: needs root, for network namespaces")
    sys.exit(0)
main()
print(f"{len(failures)} failed" + "".join(f"\n  {what}" for what in failures))
sys.exit(1 if failures else 0)
