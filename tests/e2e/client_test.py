#!/usr/bin/env python3
"""The client's commands, the metrics and the manuals, over a real cluster of muster-dev.

client_test.py MUSTER-DEV MUSTER SOURCE [METRICS-ONLY]: one cluster, every check; prints what failed.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

DEV, MUSTER, SOURCE = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
NAME = f"client{os.getpid()}"
GOOD, FAILED, USAGE, TROUBLE = 0, 1, 2, 3
failures = []


def check(what, holds, detail=""):
    print(("ok      " if holds else "FAILED  ") + what)
    if not holds:
        failures.append(what)
        print(detail)


def on(node, *command, timeout=60):
    done = subprocess.run([DEV, "exec", "--name", NAME, str(node), "--", *command], capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


def muster(*arguments, node=1):
    return on(node, MUSTER, *arguments)


def expect(what, arguments, status, *parts, node=1):
    """`muster ARGUMENTS` exits with `status`, and each of `parts` is a pattern found in what it says."""
    got, out, err = muster(*arguments, node=node)
    missing = [part for part in parts if not re.search(part, out + err, re.M)]
    check(what, got == status and not missing, f"  exit {got}, not found: {missing}\n{out}{err}")
    return out


def eventually(what, arguments, status, *parts, node=1, tries=40):
    for _ in range(tries):
        got, out, err = muster(*arguments, node=node)
        if got == status and all(re.search(part, out + err, re.M) for part in parts):
            return check(what, True)
        subprocess.run(["sleep", "0.25"], check=True)
    return check(what, False, f"  exit {got}\n{out}{err}")


def client():
    expect("status of a node that serves is good", ["status"], GOOD, r"^ready +yes")
    expect("vip: by its first label", ["vip", "web"], GOOD, r"^web\.marathon:80/tcp  11\.", r"3 backends take connections", r"in +\d+ +running, healthy +web\.instance")
    for name in ["web.marathon", "/web:80", "WEB.marathon.l4lb.thisdcos.directory:80", "web.marathon:80/tcp", "11.225.36.193"]:
        expect(f"vip: as {name}", ["vip", name], GOOD, r"^web\.marathon:80/tcp")
    expect("vip: one that is not there, with what it may be", ["vip", "we.marathon"], FAILED, r"did you mean web\.marathon:80/tcp\?")
    expect("vip: a name of nothing", ["vip", "zzz"], FAILED, r"no VIP is called \"zzz\"")
    expect("vip: control characters reach no terminal", ["vip", "a\x1b[31m"], FAILED, r"a\?\[31m")
    rows = json.loads(expect("vip: as JSON", ["vip", "web", "--json"], GOOD))
    check("vip: JSON has each backend with its reason", [b["state"] for b in rows[0]["backends"]] == ["in"] * 3 and "healthy" in rows[0]["backends"][0]["why"])
    expect("trace: every step of a sound VIP is right", ["trace", "web:80"], GOOD, "✓ label", "✓ vip", "✓ name", "✓ resolver",
           r"✓ route .* from 10\.66\.0\.1", "✓ kernel +balances over 3 backends", "✓ backend .*accepts", r"✓ connect +11\.225\.36\.193:80 accepts")
    steps = json.loads(expect("trace: UDP, as JSON", ["trace", "echo.marathon:7000/udp", "--json"], GOOD))
    check("trace: JSON says of each step whether it is good", {s["step"]: s["good"] for s in steps["steps"]}.get("connect", 0) is None and steps["good"] is True)
    expect("records: part of a name", ["records", "_web._tcp.marathon.mesos"], GOOD, r"SRV +0 \d+ 31\d+ web-")
    expect("records: none", ["records", "nothing-like-it"], GOOD, "no records")
    expect("changes", ["changes"], GOOD, r"web\.marathon:80/tcp: 10\.66\.0\.\d:31\d+ (joined|takes connections)")
    expect("top: one sample", ["top", "--count", "1"], GOOD, r"^2 VIPs, 5 backends", r"web\.marathon:80/tcp +11\.225")
    expect("top: rows as JSON", ["top", "--count", "1", "--json", "--rows", "1"], GOOD, r'"connections_per_second":')
    expect("members or, without gossip, why not", ["members"], GOOD if on(1, "curl", "-sf", "http://localhost:61421/v1/nodes")[0] == 0 else FAILED, r"10\.66\.0\.1|works alone")
    expect("resolv check, where muster is asked", ["resolv", "check"], GOOD, "is found")
    expect("a daemon that is not there", ["vips", "--address", "127.0.0.1:1"], FAILED, "is the daemon running")
    expect("an address that is none", ["vips", "--address", "here"], USAGE, "expected an address and port")
    expect("a command that is none", ["frobnicate"], USAGE)


def trouble():
    """What is wrong is named, and the exit status says so."""
    subprocess.run([DEV, "scale", "--name", NAME, "/web", "0"], check=True, capture_output=True)
    # An app of no instances declares no VIP; its name is then unknown, and nothing else is.
    eventually("vip: of an app scaled to nothing", ["vip", "web"], FAILED, "no VIP is called")
    subprocess.run([DEV, "scale", "--name", NAME, "/web", "2"], check=True, capture_output=True)
    eventually("vip: and back", ["vip", "web"], GOOD, "2 backends take connections")
    on(2, "nft", "flush", "ruleset")
    got, out, err = muster("trace", "web:80", node=2)
    repaired = "✗ kernel" not in out  # the daemon may have been quicker
    check("trace: rules that somebody flushed are seen, unless repaired already", got == (GOOD if repaired else TROUBLE), out + err)
    eventually("trace: and they are repaired", ["trace", "web:80"], GOOD, "✓ kernel", "✓ connect", node=2, tries=160)


def mesos_dns():
    """Mesos-DNS's HTTP API on its own port, as from another node; nothing else is there."""
    def fetch(url, *more):
        return on(2, "curl", "-s", "-w", " %{http_code}", *more, url)[1]

    found = fetch("http://10.66.0.1:8123/v1/services/_web._tcp.marathon.mesos")
    check("8123: a service, by address", found.endswith("200") and '"host":"web-' in found, found)
    found = fetch("http://leader.mesos:8123/v1/hosts/leader.mesos", "--resolve", "leader.mesos:8123:10.66.0.1")
    check("8123: a host, by a name of ours", found.endswith("200") and '"host":"leader.mesos."' in found, found)
    found = fetch("http://evil.example:8123/v1/enumerate", "--resolve", "evil.example:8123:10.66.0.1")
    check("8123: by a name of somebody else's it is refused", found.endswith("421"), found)
    for path in ["/metrics", "/v1/status", "/v1/vips", "/"]:
        found = fetch("http://10.66.0.1:8123" + path)
        check(f"8123: {path} is not there", found.endswith("404"), found)


def metrics():
    _, text, _ = on(1, "curl", "-sf", "http://localhost:61421/metrics")
    check("metrics: there are some", "muster_lb_vips" in text)
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        check("metrics: promtool has nothing to say", done.returncode == 0 and not done.stderr, done.stderr)
        with tempfile.TemporaryDirectory() as folder:
            dashboard = json.loads((SOURCE / "deploy/grafana-dashboard.json").read_text())
            queries = [t["expr"] for p in dashboard["panels"] for t in p.get("targets", [])]
            rules = [{"record": f"panel:query{i}", "expr": q.replace("$job", "muster").replace("$instance", ".*")} for i, q in enumerate(queries)]
            path = pathlib.Path(folder, "rules.yml")
            path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
            done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
            check("dashboard: every query can be parsed", done.returncode == 0, done.stdout + done.stderr)
    else:
        print("        (promtool is not installed: conventions not checked)")
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    manual = (SOURCE / "docs/metrics.md").read_text()
    listed = dict(re.findall(r"^\| `([a-z_]+)(?:\{[^`]*\})?` \| (\w+) \|", manual, re.M))
    check("docs/metrics.md: has every metric with its type", not types.items() - listed.items(), f"  missing or different: {types.items() - listed.items()}")
    meshed = any(name.startswith("muster_gossip_") for name in types)  # else neither these are there
    gossip = set() if meshed else {name for name in listed if re.match("muster_(gossip|cluster)_", name)}
    rare = set(re.findall(r"^\| `([a-z_]+).*\(once it happens\)", manual, re.M))
    check("docs/metrics.md: has no metric that is not there", not listed.keys() - types.keys() - gossip - rare, f"  not there: {listed.keys() - types.keys() - gossip - rare}")
    used = set()
    for file in ["deploy/grafana-dashboard.json", "deploy/alerts.yml"]:
        used |= set(re.findall(r"\b(?:muster|process)_[a-z_]+", (SOURCE / file).read_text()))
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    check("dashboard and alerts: use metrics that are listed only", not used - listed.keys(), f"  unknown: {used - listed.keys()}")


def manuals():
    """Fenced blocks marked `sh node1` are run on node 1, line by line, and must succeed."""
    for file in sorted((SOURCE / "docs").glob("*.md")):
        for block in re.findall(r"^```sh node1\n(.*?)^```", file.read_text(), re.M | re.S):
            for line in block.splitlines():
                command = f'export PATH={pathlib.Path(MUSTER).parent}:"$PATH"; {line}'
                status, out, err = on(1, "sh", "-c", command)
                check(f"{file.name}: {line}", status == 0, f"  exit {status}\n{out}{err}")


def main():
    if os.geteuid() != 0:
        print("SKIPPED: the client over a cluster needs root, for network namespaces")
        return 0
    examples = [str(SOURCE / "examples" / name) for name in ("web.json", "echo-udp.json")]
    log = tempfile.TemporaryFile("w+")
    cluster = subprocess.Popen([DEV, "--name", NAME, "--nodes", "3", "--muster", MUSTER, *examples], stdout=log, stderr=log)
    try:
        if subprocess.run([DEV, "wait", "--name", NAME, "--seconds", "90"], capture_output=True).returncode != 0:
            log.seek(0)
            print("FAILED  the cluster did not become ready\n" + log.read())
            return 1
        eventually("the VIP has its three backends", ["vip", "web"], GOOD, "3 backends take connections", tries=120)
        client()
        mesos_dns()
        metrics()
        manuals()
        trouble()
    finally:
        cluster.terminate()
        cluster.wait(timeout=60)
    print(f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
