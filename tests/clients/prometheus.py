"""Prometheus: scrapes the daemon, finds targets through muster's names, and is itself behind a VIP."""

import json
import shutil
import urllib.parse

from cluster import HOST, PLACES, ZONE, Cluster, app, needs

CONFIGURATION = """
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [RULES]
scrape_configs:
- job_name: muster
  static_configs: [{targets: ["localhost:61421"]}]
- job_name: found
  dns_sd_configs: [{names: [_prometheus._tcp.marathon.mesos], refresh_interval: 500ms}]
- job_name: vip
  static_configs: [{targets: ["prometheus.ZONE:9090"]}]
"""


def run(dev, muster, source):
    _, program = needs("curl", "prometheus")

    def apps(folder):
        shutil.copy(source / "deploy/alerts.yml", folder / "alerts.yml")
        (folder / "prometheus.yml").write_text(CONFIGURATION.replace("RULES", str(folder / "alerts.yml")).replace("ZONE", ZONE))
        command = f"exec {program} --config.file={folder}/prometheus.yml --storage.tsdb.path={folder}/$MESOS_TASK_ID --web.listen-address=:$PORT0 --log.level=warn"
        return [app("prometheus", command, 2, port=9090)]

    with Cluster(dev, muster, apps) as cluster:
        cluster.until("two instances", lambda: cluster.backends("prometheus") == 2)
        for where, place in PLACES:
            asks(cluster, where, place)
        rules(cluster)
        counters(cluster)
    return cluster.failures


def query(cluster, where, expression):
    """Each series' labels and value, from whichever instance the VIP leads to."""
    url = f"http://prometheus.{ZONE}:9090/api/v1/query?query={urllib.parse.quote(expression)}"
    text = cluster.on(where, "curl", "-sS", "-m", "10", url).stdout
    return [(row["metric"], float(row["value"][1])) for row in json.loads(text)["data"]["result"]] if text else []


def steady(cluster, what, condition):
    """Held by both instances: ten times in a row, as each call may reach either."""
    cluster.check(what, cluster.until(what, lambda: all(condition() for _ in range(10))))


def asks(cluster, where, place):
    what = f"Prometheus asked from a {place}"
    steady(cluster, f"{what}: the daemon is scraped", lambda: [v for _, v in query(cluster, where, 'up{job="muster"}')] == [1])
    steady(cluster, f"{what}: it has found its targets by SRV records of muster's", lambda: [v for _, v in query(cluster, where, 'up{job="found"}')] == [1, 1])
    steady(cluster, f"{what}: and scrapes itself through its VIP", lambda: [v for _, v in query(cluster, where, 'up{job="vip"}')] == [1])
    rows = query(cluster, where, "muster_lb_backends")
    cluster.check(f"{what}: muster's metrics are there", sum(v for _, v in rows) >= 2, rows)
    size, = [v for _, v in query(cluster, where, 'scrape_samples_scraped{job="muster"}')] or [0]
    seconds, = [v for _, v in query(cluster, where, 'max_over_time(scrape_duration_seconds{job="muster"}[1m])')] or [9]
    cluster.check(f"{what}: {size:.0f} samples a scrape, {seconds * 1000:.0f} ms at most", size > 100 and seconds < 1)


def rules(cluster):
    url = f"http://prometheus.{ZONE}:9090/api/v1/rules"
    got = json.loads(cluster.on(HOST, "curl", "-sS", "-m", "10", url).stdout)
    found = [rule for group in got["data"]["groups"] for rule in group["rules"]]
    bad = [(rule["name"], rule["health"], rule.get("lastError")) for rule in found if rule["health"] != "ok"]
    firing = [rule["name"] for rule in found if rule.get("state") == "firing"]
    cluster.check(f"Prometheus: {len(found)} alert rules are evaluated, none fires", found and not bad and not firing, f"{bad} {firing}")


def counters(cluster):
    """The instance of node 1 sees its daemon go and come back, and counters that begin anew."""
    lookups = 'increase(muster_dns_queries_total[1m])'
    cluster("kill-agent", 1)
    cluster.until("a daemon that is gone is seen as down", lambda: any(v == 0 for _, v in query(cluster, (2, False), 'up{job="muster"}')))
    cluster("start-agent", 1)
    steady(cluster, "Prometheus: a daemon that was killed is down, and up again", lambda: [v for _, v in query(cluster, HOST, 'up{job="muster"}')] == [1])
    negative = [v for _, v in query(cluster, HOST, lookups) if v < 0]
    cluster.check("Prometheus: counters that begin anew are understood", not negative, negative)
    cluster.scale("/prometheus", 1)
    steady(cluster, "Prometheus: a target that is taken away leaves the names it asks for", lambda: [v for _, v in query(cluster, HOST, 'up{job="found"}')] == [1])
