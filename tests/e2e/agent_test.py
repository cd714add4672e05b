#!/usr/bin/env python3
"""Daemons that ask the Mesos agent beside them: what runs reaches all, with a master or without.

agent_test.py MUSTER-DEV MUSTER: one cluster of three; prints what failed.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

DEV, MUSTER = sys.argv[1], sys.argv[2]
NAME = f"agent{os.getpid()}"
NODES = (1, 2, 3)
LIMIT = 90  # seconds for anything to happen, on a machine that is busy with other tests
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


def answers(node):
    name = "http://web.marathon.l4lb.thisdcos.directory/"
    return on(node, "curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", name) == "200"


def agent(node):
    return get("/v1/status", node).get("agent", {})


def speaking(node):
    return get("/v1/status", node).get("cluster", {}).get("speaking_agents")


def fault(node, *steps):
    text = on(node, "curl", "-s", "-m", "10", "-d", json.dumps(list(steps)), f"http://10.66.0.{node}:5051/dev/faults")
    check(f"the agent of node {node} takes {json.dumps(steps)[:70]}", text == "done", text)


def until(what, condition):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if condition():
            return check(what, True)
        time.sleep(0.1)
    return check(what, False, "\n".join(f"  node {n}: {backends(n)} backends, {agent(n)}, {get('/v1/status', n).get('cluster')}" for n in NODES))


def never_less(what, least, condition, nodes=NODES):
    """Until the condition holds, none of the nodes may have fewer backends."""
    fewest = 99

    def look():
        nonlocal fewest
        fewest = min([fewest, *(backends(node) for node in nodes)])
        return condition()

    until(what, look)
    look()
    check(f"{what}: and no backend was lost meanwhile", fewest >= least, f"  {fewest} were left")


def everywhere(count):
    return lambda: all(backends(node) == count for node in NODES)


def publisher():
    return next((node for node in NODES if get("/v1/status", node).get("gossip", {}).get("role") == "publisher"), None)


def walk():
    until("every agent speaks for itself", lambda: all(speaking(node) == 3 for node in NODES))
    until("tasks of three agents are three backends everywhere", everywhere(3))
    for node in NODES:
        check(f"node {node}: says where it has its tasks from",
              agent(node).get("source") == "agent" and agent(node).get("agent") == f"10.66.0.{node}:5051" and agent(node).get("tasks") == 1, agent(node))
        until(f"node {node}: the VIP answers", lambda: answers(node))
    handed_over = time.monotonic() + 12  # Publisher::kHandOver
    never_less("who publishes leaves these tasks to their nodes", 3, lambda: time.monotonic() > handed_over)

    dev("master", "kill")
    dev("scale", "/web", 6)
    until("without a master, tasks that start reach all", everywhere(6))
    dev("scale", "/web", 3)
    until("and so do ends", everywhere(3))
    seat = publisher()
    dev("kill-agent", seat)
    others = [node for node in NODES if node != seat]
    dev("scale", "/web", 6)
    until("also without the daemon that published", lambda: all(backends(node) >= 5 for node in others))
    dev("start-agent", seat)
    until("which, back, tells of its own", everywhere(6))
    dev("master", "start")
    never_less("the master comes back", 6, lambda: any(get("/v1/status", n).get("observation", {}).get("state") == "subscribed" for n in NODES))

    fault(2, {"fault": "status", "on": "/state", "status": 503, "times": 1000, "body": "Agent has not finished recovery"})
    never_less("an agent that recovers is seen to", 6, lambda: "503" in agent(2).get("last_error", ""))
    fault(2, {"fault": "clear"}, {"fault": "agent", "act": "forget"})
    never_less("an agent that suddenly knows of nothing is not believed", 6, lambda: agent(2).get("held_tasks") == 2)
    fault(2, {"fault": "agent", "act": "remember"})
    never_less("it remembers", 6, lambda: agent(2).get("held_tasks") == 0)
    fault(2, {"fault": "truncate", "on": "/state", "after": 900, "times": 3}, {"fault": "trickle", "on": "/state", "ms": 2, "times": 2},
          {"fault": "status", "on": "/state", "status": 403, "times": 1000})
    never_less("where its state is refused, its operator API is asked", 6,
               lambda: agent(2).get("state") == "polling" and agent(2).get("last_error") == "" and agent(2).get("last_answer_seconds", 9) < 3)
    fault(2, {"fault": "clear"})

    dev("kill-agent", 2)
    until("a daemon that was killed starts again", lambda: dev("start-agent", 2).returncode == 0)
    never_less("a daemon killed and started again keeps its tasks", 6, lambda: speaking(2) == 3 and agent(2).get("tasks") == 2, (1, 3))
    until("and all have them", everywhere(6))


def main():
    app = {"id": "/web", "cmd": "exec muster-dev serve --http $PORT0", "instances": 3,
           "portDefinitions": [{"port": 0, "labels": {"VIP_0": "/web:80"}}],
           "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/health", "delaySeconds": 0,
                             "gracePeriodSeconds": 60, "intervalSeconds": 1, "timeoutSeconds": 20}]}
    with tempfile.TemporaryDirectory() as folder:
        definition = pathlib.Path(folder, "web.json")
        definition.write_text(json.dumps(app))
        log = open(pathlib.Path(folder, "log"), "w+")
        cluster = subprocess.Popen([DEV, "--name", NAME, "--nodes", "3", "--source", "agent", "--muster", MUSTER, str(definition)],
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


if os.geteuid() != 0:
    print("SKIPPED: needs root, for network namespaces")
    sys.exit(0)
main()
print(f"{len(failures)} failed" + "".join(f"\n  {what}" for what in failures))
sys.exit(1 if failures else 0)
