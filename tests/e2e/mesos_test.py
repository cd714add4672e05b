#!/usr/bin/env python3
"""Masters that fail over and answers that are spoilt, and VIPs that do not mind.

mesos_test.py MUSTER-DEV MUSTER: one cluster; prints what failed.
"""

import json
import subprocess
import time

from web_cluster import DEV, LIMIT, NAME, URL, backends, check, dev, fault, get, on, publisher, run, until

MASTERS = ["10.66.0.250:5050", "10.66.0.251:5050"]


def observed():
    """What the node that publishes says of the master it follows, and of the cluster."""
    node = publisher()
    status = get("/v1/status", node) if node else {}
    return {"state": "nobody publishes", "master": "", "tasks": 0, "agents": 0, **status.get("observation", {}), **status.get("cluster", {})}


class Watch:
    """Load on the VIP, and the number of its backends, for as long as the block runs."""

    def __init__(self, what, least=3):
        self.what, self.least, self.fewest = what, least, 99

    def __enter__(self):
        self.load = subprocess.Popen(
            [DEV, "exec", "--name", NAME, "2", "--", DEV, "load", "--json", "--rate", "2", "--seconds", "600",
             "--timeout", "20", "--url", URL],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return self

    def look(self):
        self.fewest = min(self.fewest, backends(1))
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
             "--timeout", "20", "--url", URL],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        dev("master", "failover")
        fewest = 99
        end = time.monotonic() + LIMIT
        while time.monotonic() < end and not (fewest != 99 and master_is(turn) and load.poll() is not None):
            fewest = min(fewest, backends(1))
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
            fault(MASTERS[0], {"fault": "clear"}, *steps, {"fault": "hang_up"})
            watch.until("the stream is held again",
                        lambda: get_armed() == [] and subscribed())


def get_armed():
    return json.loads(on(1, "curl", "-s", "-m", "10", f"http://{MASTERS[0]}/dev/faults") or "[1]")


def walk():
    until("three backends", lambda: backends(1) == 3)
    failover()
    spoilt_answers()


run(walk)
