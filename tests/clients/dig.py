"""dig: the names of a cluster, by every transport, while it changes."""

import re

from cluster import CONTAINER, HOST, PLACES, ZONE, Cluster, needs, web

NO_FORWARDING = "recursion requested but not available"  # muster-dev has no upstreams
QUICK = ["+time=5", "+tries=3"]


def status(text):
    found = re.search(r"status: (\w+)", text)
    return found[1] if found else None


def run(dev, muster, _source):
    needs("curl", "dig")
    with Cluster(dev, muster, [web()], nodes=3) as cluster:
        cluster.until("three backends", lambda: cluster.backends("web") == 3)
        for where, place in PLACES:
            questions(cluster, where, f"dig from a {place}")
            transports(cluster, where, f"dig from a {place}")
        changes(cluster)
    return cluster.failures


def dig(cluster, where, *words):
    return cluster.on(where, "dig", *QUICK, *words).stdout


def questions(cluster, where, what):
    short = lambda *words: sorted(dig(cluster, where, "+short", *words).split("\n")[:-1])
    addresses = short("web.marathon.mesos")
    cluster.check(f"{what}: A of an app has its agents", len(addresses) == 3 and all(a.startswith("10.66.0.") for a in addresses), addresses)
    vip = short(f"web.{ZONE}")
    cluster.check(f"{what}: A of a VIP is DC/OS's", vip == ["11.225.36.193"], vip)
    services = short("_web._tcp.marathon.mesos", "SRV")
    cluster.check(f"{what}: SRV has ports, and names that lead on", len(services) == 3 and all(short(s.split()[3])[0].startswith("10.66.0.") for s in services), services)
    cluster.check(f"{what}: the same in order of a batch", dig(cluster, where, "+short", "leader.mesos", "master.mesos").split().count("10.66.0.250") == 2)
    back = short("-x", "11.225.36.193")
    cluster.check(f"{what}: PTR of a VIP", back == [f"web.{ZONE}."], back)
    for words, wanted in [(["web.marathon.mesos", "TXT"], "NOERROR"), (["nobody.marathon.mesos"], "NXDOMAIN"), (["mesos", "SOA"], "NOERROR"),
                          (["WEB.marathon.MESOS"], "NOERROR"), (["+edns=1", "+noednsneg", "web.marathon.mesos"], "BADVERS"),
                          (["+opcode=STATUS", "web.marathon.mesos"], "NOTIMP"), (["web.marathon.mesos", "TYPE65280"], "NOERROR"), (["-c", "CH", "version.bind", "TXT"], None)]:
        got = dig(cluster, where, *words)
        cluster.check(f"{what}: {' '.join(words)}: {status(got)}", status(got) == wanted if wanted else status(got) in ("REFUSED", "NOTIMP", "NOERROR"), got)
    got = dig(cluster, where, "nobody.marathon.mesos")
    cluster.check(f"{what}: what is not there comes with the zone's SOA", re.search(r"^mesos\.\s+\d+\s+IN\s+SOA", got, re.M), got)


def transports(cluster, where, what):
    got = dig(cluster, where, "+tcp", "+keepopen", "web.marathon.mesos", "leader.mesos", "web.marathon.mesos", "SRV")
    cluster.check(f"{what}: three questions over one connection", got.count("status: NOERROR") == 3 and got.count("(TCP)") == 3, got)
    for words in (["+noedns"], ["+bufsize=512"], ["+bufsize=4096"], ["+dnssec"], ["+cookie"], ["+nsid"], ["+padding=128"], ["+subnet=192.0.2.0/24"], ["+nocookie", "+ignore"]):
        got = dig(cluster, where, *words, "web.marathon.mesos")
        cluster.check(f"{what}: {' '.join(words)}", status(got) == "NOERROR" and "ANSWER: 3" in got and set(re.findall("WARNING: (.*)", got)) <= {NO_FORWARDING}, got)
    got = dig(cluster, where, "+qr", "+cookie", "web.marathon.mesos")
    cluster.check(f"{what}: the cookie comes back whole", re.search(r"COOKIE: \w{48} \(good\)", got) or "COOKIE" in got.split("Got answer")[1], got)


def changes(cluster):
    count = lambda where: len(dig(cluster, where, "+short", "web.marathon.mesos").split())
    for instances in (5, 1):
        cluster.scale("/web", instances)
        for where, place in PLACES:
            cluster.until(f"{instances} addresses", lambda: count(where) >= min(instances, 2) or instances == 1)
            services = lambda: len(dig(cluster, where, "+short", "_web._tcp.marathon.mesos", "SRV").splitlines())
            # The kernel's table was asked before: names are rendered beside it, and may follow it.
            cluster.check(f"dig from a {place}: {instances} SRV records", cluster.until(f"{instances} SRV records", lambda: services() == instances))
    # Like a resolver of libc, dig goes to the next server when the first refuses or is not ready.
    asking = f'dig +time=1 +tries=3 web.{ZONE} | grep -E "^[^;]|^;.*(status|error|SERVER)" | tee /dev/stderr | grep 11.225.36.193'
    for where, place in [(HOST, "node"), (CONTAINER, "container")]:
        with cluster.until_done(where, asking) as load:
            cluster.restart_daemon(where[0])
        cluster.check(f"dig from a {place}: {load.runs} questions while its daemon is killed and starts, none without an answer", load.runs > 5 and not load.failed, load.failed)
    cluster("scale", "/web", 0)
    cluster.until("no instance", lambda: cluster.backends("web") == 0)
    for where, place in PLACES:
        gone = cluster.until("the name is gone", lambda: status(dig(cluster, where, "web.marathon.mesos")) == "NXDOMAIN")
        cluster.check(f"dig from a {place}: an app without instances has no name", gone)
