#!/usr/bin/env python3
"""Four real daemons: deaths of daemons and hosts, of who publishes, keys that rotate, a node with another key.

gossip_test.py MUSTER-DEV MUSTER SOURCE: one cluster, every check; prints what failed.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

DEV, MUSTER, SOURCE = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
NAME = f"gossip{os.getpid()}"
NODES = 4
WAIT = 40  # seconds; nothing here takes longer than a few
failures = []


def dev(command, *arguments):
    return subprocess.run([DEV, command, "--name", NAME, *map(str, arguments)], capture_output=True, text=True, timeout=120).stdout


def get(node, path):
    out = dev("exec", node, "--", "curl", "-s", "-m", "5", f"http://localhost:61421{path}")
    try:
        return json.loads(out)
    except json.JSONDecodeError:
        return None


def number(member):
    return int(member["endpoints"][0].split(":")[0].rsplit(".", 1)[1])


def statuses(node):
    nodes = get(node, "/v1/nodes")
    return {number(m): m["status"] for m in nodes["nodes"]} if nodes else {}


def publisher(node):
    nodes = get(node, "/v1/nodes")
    found = [number(m) for m in nodes["nodes"] if m["publisher"]] if nodes else []
    return found[0] if len(found) == 1 else None


def backends(node):
    vips = get(node, "/v1/vips") or []
    return {b["ip"].rsplit(".", 1)[1] for v in vips for b in v["backend"]}


def eventually(what, holds):
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if holds():
            print("ok      " + what)
            return
        time.sleep(0.1)
    print("FAILED  " + what)
    failures.append(what)


def check(what, holds, shown):
    print(("ok      " if holds else "FAILED  ") + what + ("" if holds else f": {shown}"))
    if not holds:
        failures.append(what)


def others(node):
    return [n for n in range(1, NODES + 1) if n != node]


def walk():
    everybody = {n: "alive" for n in range(1, NODES + 1)}
    eventually("every node knows every node", lambda: all(statuses(n) == everybody for n in everybody))
    eventually("one publishes, and all agree on which", lambda: publisher(1) is not None and len({publisher(n) for n in everybody}) == 1)
    eventually("every node serves what one of them observed", lambda: all(len(backends(n)) == NODES for n in everybody))

    first = publisher(1)
    watcher, other = others(first)[:2]
    dev("kill-agent", first)
    eventually("a daemon that is killed is known to be down, and its host to be there", lambda: all(statuses(n).get(first) == "daemon_down" for n in others(first)))
    eventually("which is among the recent changes", lambda: any(f"10.66.0.{first}:" in c["text"] and "daemon is down" in c["text"] for c in get(watcher, "/v1/changes")["changes"]))
    eventually("no backend leaves with it", lambda: len(backends(watcher)) == NODES)
    eventually("another publishes", lambda: publisher(watcher) not in (None, first))
    dev("scale", "/web", NODES - 1)
    eventually("and what changes then reaches all", lambda: all(len(backends(n)) == NODES - 1 for n in others(first)))
    dev("scale", "/web", NODES)
    dev("start-agent", first)
    eventually("the daemon comes back, and serves the same", lambda: statuses(watcher) == everybody and len(backends(first)) == NODES)

    gone = next(n for n in others(first) if n not in (publisher(watcher), watcher))
    dev("cut", gone)
    eventually("a host that is cut off is known to be down", lambda: all(statuses(n).get(gone) == "host_down" for n in others(gone)))
    eventually("its backends leave, and only those", lambda: all(backends(n) == {str(m) for m in others(gone)} for n in others(gone)))
    dev("heal", gone)
    eventually("healed, everything is as before", lambda: all(statuses(n) == everybody and len(backends(n)) == NODES for n in everybody))

    by_the_master()
    rotation()
    stranger(gone, other if other != gone else watcher)


def by_the_master():
    """Every daemon starts anew, knowing no address and nothing from before."""
    everybody = {n: "alive" for n in range(1, NODES + 1)}
    for n in everybody:
        dev("kill-agent", n)
    for n in everybody:
        dev("exec", n, "--", "sh", "-c", "sed -i /^join/d /run/muster-dev/muster.toml; rm -rf /run/muster-dev/state/*")
    begun = time.monotonic()
    for n in everybody:
        dev("start-agent", n)
    eventually("nodes that know nobody find each other by the master's list of agents", lambda: all(statuses(n) == everybody for n in everybody))
    took = time.monotonic() - begun
    asked = sum("addresses of the master's agents" in dev("logs", n) for n in everybody)
    check(f"({took:.1f} s, {asked} of {NODES} asked)", asked > 0, asked)
    eventually("one of them publishes, and all serve it", lambda: publisher(1) is not None and all(len(backends(n)) == NODES for n in everybody))


def muster(node, *arguments, text=None):
    done = subprocess.run([DEV, "exec", "--name", NAME, str(node), "--", MUSTER, *arguments], input=text, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def key_table(node):
    status, out = muster(node, "keys", "--json")
    return {k["id"]: k for k in json.loads(out)["keys"]} if status == 0 else {}


def rotation():
    """All nodes to another key, one step at a time, while tasks come and go."""
    everybody = range(1, NODES + 1)
    old, = key_table(1)
    new = muster(1, "keys", "new")[1]
    begun = time.time()
    count = [NODES]

    def changed():
        count[0] = NODES - 1 if count[0] == NODES else NODES
        dev("scale", "/web", count[0])
        eventually(f"  a change reaches all ({count[0]} backends)", lambda: all(len(backends(n)) == count[0] for n in everybody))

    muster(1, "keys", "add", text=new)
    fresh, = set(key_table(1)) - {old}
    status, out = muster(1, "keys", "use", fresh)
    eventually("a key that others lack is not used", lambda: status == 3 and "do not have it" in out)
    changed()
    for n in everybody:
        muster(n, "keys", "add", text=new)
    eventually("every node has the new key, and all know it", lambda: all(key_table(n).get(fresh, {}).get("have") == NODES for n in everybody))
    for n in everybody:
        muster(n, "keys", "use", fresh)
        changed()
    eventually("every node seals with it", lambda: all(key_table(n).get(fresh, {}).get("seal") == NODES for n in everybody))
    for n in everybody:
        muster(n, "keys", "drop", old)
    changed()
    eventually("the old one is nobody's", lambda: all(list(key_table(n)) == [fresh] for n in everybody))
    told = {n: [c["text"] for c in get(n, "/v1/changes")["changes"] if c["at"] > begun and ("daemon is down" in c["text"] or "does not answer" in c["text"])] for n in everybody}
    check("and no node was taken for dead meanwhile", not any(told.values()), told)
    if count[0] != NODES:
        changed()


def stranger(node, witness):
    """The daemon of `node` stops; one with another key takes its place."""
    dev("kill-agent", node)
    script = ("umask 077; sed s,/run/muster-dev/gossip.key,/run/other.key, /run/muster-dev/muster.toml >/run/other.toml; "
              "head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n' >/run/other.key; "
              # Its sockets are free only once the killed one is gone.
              f"exec timeout 60 sh -c 'until {MUSTER} agent --config /run/other.toml; do sleep 0.2; done'")
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([DEV, "exec", "--name", NAME, str(node), "--", "sh", "-c", script], stdout=log, stderr=log)

        def said():
            log.seek(0)
            return log.read()

        try:
            eventually("a node with another key is refused, and says so", lambda: "wrong key" in said().replace("_", " "))
            eventually("and so does who refuses it", lambda: "wrong key" in dev("logs", witness).replace("_", " "))
            if failures:
                print(said()[-2000:])
            eventually("it is nobody to the others", lambda: statuses(witness).get(node) != "alive")
        finally:
            process.terminate()
            process.wait()


def main():
    with tempfile.TemporaryDirectory() as folder:
        app = json.loads((SOURCE / "examples/web.json").read_text())
        app["instances"] = NODES
        path = pathlib.Path(folder) / "web.json"
        path.write_text(json.dumps(app))
        cluster = subprocess.Popen([DEV, "--name", NAME, "--nodes", str(NODES), "--muster", MUSTER, str(path)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            print(dev("wait", "--seconds", 100), end="")
            walk()
        finally:
            cluster.terminate()
            cluster.wait()
    print(f"{len(failures)} failed" if failures else "all good")
    sys.exit(1 if failures else 0)


if os.geteuid() != 0:
    print("SKIPPED: needs root, for network namespaces")
    sys.exit(0)
main()
