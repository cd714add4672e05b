"""iperf3 through VIPs: throughput both ways, UDP, many streams."""

import json

from cluster import HOST, PLACES, ZONE, Cluster, app, needs

# Its control connection and its streams are connections of their own, which must reach one server:
# there is one, or the client's address decides.
APPS = [app("iperf", "exec iperf3 -s -p $PORT0", 1, protocol="udp,tcp", port=5201, health=None),
        app("spread", "exec iperf3 -s -p $PORT0", 2, labels={"VIP_0": "/spread:5201", "VIP_0_POLICY": "source_hash"}, health=None)]


def run(dev, muster, _source):
    needs("curl", "iperf3")
    with Cluster(dev, muster, APPS) as cluster:
        # One VIP for tcp, one for udp.
        cluster.until("the servers", lambda: cluster.backends("iperf") == 2 and cluster.backends("spread") == 2)
        for where, place in PLACES:
            for what, options in [("tcp", []), ("tcp, to the client", ["-R"]), ("tcp, both ways at once", ["--bidir"]), ("tcp, 8 streams", ["-P", "8"])]:
                measure(cluster, where, "iperf", f"iperf3 from a {place}, {what}", *options)
            measure(cluster, where, "spread", f"iperf3 from a {place}, tcp, one of two servers by the client's address", "-P", "4")
            got = measure(cluster, where, "iperf", f"iperf3 from a {place}, udp, 2 Mbit/s", "-u", "-b", "2M")
            lost = got.get("end", {}).get("sum", {}).get("lost_percent", 100)
            # Not a figure: a server that waits for a CPU loses them in its own buffer.
            cluster.check(f"iperf3 from a {place}: {lost:.2f} % of the datagrams lost", lost < 50)
        with cluster.beside(HOST, *command("iperf", "-t", "8", "-P", "2")) as long:
            cluster.restart_daemon()
        got = json.loads(long.out or "{}")
        stalled = [i for i in got.get("intervals", []) if i["sum"]["bytes"] == 0]
        cluster.check("iperf3: streams run on while the daemon is killed and starts", long.returncode == 0 and not stalled, f"{stalled} {got.get('error')} {long.err}")
    return cluster.failures


def command(name, *options):
    return ["iperf3", "-c", f"{name}.{ZONE}", "-J", *(options if "-t" in options else ["-t", "1", *options])]


def measure(cluster, where, name, what, *options):
    done = cluster.on(where, *command(name, *options))
    got = json.loads(done.stdout or "{}")
    end = got.get("end", {})
    rate = (end.get("sum_received") or end.get("sum") or {}).get("bits_per_second", 0)
    cluster.check(f"{what}: {rate / 1e9:.2f} Gbit/s", done.returncode == 0 and "error" not in got and rate > 1e6, got.get("error", done.stderr))
    return got
