#!/usr/bin/env python3
"""Daemons that ask the Mesos agent beside them: what runs reaches all, with a master or without.

agent_test.py MUSTER-DEV MUSTER: one cluster of three; prints what failed.
"""

import time

from web_cluster import MUSTER, NODES, URL, backends, check, dev, fault, get, on, publisher, run, until


def answers(node):
    return on(node, "curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", URL) == "200"


def agent(node):
    return get("/v1/status", node).get("agent", {})


def agent_line(node):
    """What `muster status` prints of it."""
    return next((line for line in on(node, MUSTER, "status").splitlines() if line.startswith("agent ")), "")


def speaking(node):
    return get("/v1/status", node).get("cluster", {}).get("speaking_agents")


def agent_fault(node, *steps):
    fault(f"10.66.0.{node}:5051", *steps)


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


def walk():
    until("every agent speaks for itself", lambda: all(speaking(node) == 3 for node in NODES))
    until("tasks of three agents are three backends everywhere", everywhere(3))
    for node in NODES:
        check(f"node {node}: says where it has its tasks from",
              agent(node).get("source") == "agent" and agent(node).get("agent") == f"10.66.0.{node}:5051" and agent(node).get("tasks") == 1, agent(node))
        check(f"node {node}: prints it", f"10.66.0.{node}:5051 tells what runs here" in agent_line(node), on(node, MUSTER, "status"))
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

    agent_fault(2, {"fault": "status", "on": "/state", "status": 503, "times": 1000, "body": "Agent has not finished recovery"})
    never_less("an agent that recovers is seen to", 6, lambda: "503" in agent(2).get("last_error", ""))
    check("and printed", all(word in agent_line(2) for word in ("does not answer", "2 tasks", "503")), on(2, MUSTER, "status"))
    agent_fault(2, {"fault": "clear"}, {"fault": "agent", "act": "forget"})
    never_less("an agent that suddenly knows of nothing is not believed", 6, lambda: agent(2).get("held_tasks") == 2)
    agent_fault(2, {"fault": "agent", "act": "remember"})
    never_less("it remembers", 6, lambda: agent(2).get("held_tasks") == 0)
    agent_fault(2, {"fault": "truncate", "on": "/state", "after": 900, "times": 3}, {"fault": "trickle", "on": "/state", "ms": 2, "times": 2},
                {"fault": "status", "on": "/state", "status": 403, "times": 1000})
    never_less("where its state is refused, its operator API is asked", 6,
               lambda: agent(2).get("state") == "polling" and agent(2).get("last_error") == "" and agent(2).get("last_answer_seconds", 9) < 3)
    agent_fault(2, {"fault": "clear"})

    dev("kill-agent", 2)
    until("a daemon that was killed starts again", lambda: dev("start-agent", 2).returncode == 0)
    never_less("a daemon killed and started again keeps its tasks", 6, lambda: speaking(2) == 3 and agent(2).get("tasks") == 2, (1, 3))
    until("and all have them", everywhere(6))


run(walk, "--source", "agent")
