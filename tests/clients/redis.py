"""Redis behind a VIP, with redis-cli and redis-benchmark."""

from cluster import CONTAINER, HOST, LINGER, PLACES, ZONE, Cluster, app, needs, numbers

NAME = f"redis.{ZONE}"


def run(dev, muster, _source):
    needs("curl", "redis-server", "redis-cli", "redis-benchmark")
    server = "redis-server --port $PORT0 --protected-mode no --save '' --appendonly no"
    with Cluster(dev, muster, [app("redis", f"{server} & p=$!; {LINGER}", 2, port=6379)]) as cluster:
        cluster.until("two instances", lambda: cluster.backends("redis") == 2)
        for where, place in PLACES:
            seen = {cluster.on(where, "sh", "-c", f"redis-cli -h {NAME} info server | grep -E '^tcp_port|^run_id' | tr -d '\\r\\n'").stdout for _ in range(20)}
            cluster.check(f"redis-cli from a {place}: both instances answer", len(seen) == 2 and "" not in seen, seen)
            done = cluster.on(where, "redis-cli", "-h", NAME, "-r", "50", "incr", place)
            cluster.check(f"redis-cli from a {place}: a connection sees its own writes", done.stdout.split()[-1:] == ["50"] or len(set(done.stdout.split())) == 50, done.stdout + done.stderr)
            benchmark(cluster, where, place, "20 connections that stay", "-n", "20000", "-c", "20", "-t", "set,get")
            benchmark(cluster, where, place, "a connection for each request", "-n", "2000", "-c", "10", "-k", "0", "-t", "set,get")
        changes(cluster)
    return cluster.failures


def benchmark(cluster, where, place, what, *options):
    done = cluster.on(where, "redis-benchmark", "-h", NAME, "--csv", *options)
    rates = numbers(r'"(?:SET|GET)","([0-9.]+)"', done.stdout)
    cluster.check(f"redis-benchmark from a {place}, {what}: {rates} a second", done.returncode == 0 and len(rates) == 2 and "rror" not in done.stderr, done.stdout + done.stderr)


def changes(cluster):
    with cluster.beside(HOST, "redis-cli", "-h", NAME, "-r", "60", "-i", "0.1", "incr", "kept") as kept:
        cluster.restart_daemon()
        cluster.scale("/redis", 4)
    cluster.check("redis-cli: a connection outlives the daemon, and more instances", kept.out.split() == [str(n) for n in range(1, 61)], kept.out + kept.err)
    ping = f'out=$(redis-cli -h {NAME} ping) && [ "$out" = PONG ] || {{ echo "$out"; false; }}'
    with cluster.until_done(CONTAINER, ping) as load:
        cluster.scale("/redis", 2)
    cluster.check(f"redis-cli: {load.runs} connections while instances are taken away, none lost", load.runs > 5 and not load.failed, load.failed)
    with cluster.until_done(CONTAINER, ping) as load:
        cluster.kill("/redis")
    refused = [line for line in load.failed if "refused" in line or "timed out" in line or "resolution" in line]
    cluster.check(f"redis-cli: {load.runs} connections while an instance is killed, {len(load.failed)} cut off", load.runs > 5 and not refused and len(load.failed) <= 1, load.failed)
