"""curl, and nginx as a reverse proxy, to VIPs."""

import json

from cluster import CONTAINER, HOST, PLACES, ZONE, Cluster, app, needs, web

URL = f"http://web.{ZONE}/"
# curl's exit statuses for a connection that an instance had accepted when it was killed: nobody saves those.
CUT_OFF = ("bad 52 ", "bad 56 ", "bad 18 ")


def answered_by(text):
    return {line.split()[1] for line in text.splitlines() if line.startswith("task ")}


def curl(dev, muster, source):
    needs("curl")
    containers = json.loads((source / "examples/containers.json").read_text())["apps"]
    for definition in containers:
        definition["id"] = "/" + definition["id"]
    with Cluster(dev, muster, [web(), *containers], nodes=3) as cluster:
        cluster.until("three backends", lambda: cluster.backends("web") == 3)
        for where, place in PLACES:
            forms(cluster, where, f"curl from a {place}")
            for name, count in [("bridged", 2), ("own-address", 2)]:
                done = cluster.on(where, "curl", "-sS", "-m", "10", "-H", "Connection: close", f"http://{name}.{ZONE}/?[1-40]")
                cluster.check(f"curl from a {place}: {name}, every container answers", done.returncode == 0 and len(answered_by(done.stdout)) == count, done.stderr)
        changes(cluster)
    return cluster.failures


def forms(cluster, where, what):
    done = cluster.on(where, "curl", "-sS", "-m", "10", "-H", "Connection: close", URL + "?[1-60]")
    cluster.check(f"{what}: every instance answers", done.returncode == 0 and len(answered_by(done.stdout)) == 3, done.stderr)
    done = cluster.on(where, "curl", "-sS", "-m", "10", URL + "?[1-20]")
    cluster.check(f"{what}: a kept connection stays with its backend", done.returncode == 0 and len(answered_by(done.stdout)) == 1, done.stdout + done.stderr)
    done = cluster.on(where, "curl", "-sS", "-Z", "--parallel-max", "50", "-m", "30", "-o", "/dev/null", "-w", "%{http_code}\n", URL + "?[1-300]")
    cluster.check(f"{what}: 300 at a time", done.stdout.split() == ["200"] * 300, done.stderr[-500:])
    done = cluster.on(where, "curl", "-sS", "-m", "10", "--data-binary", "@/bin/sh", "-o", "/dev/null", "-w", "%{size_upload} %{http_code}", URL)
    cluster.check(f"{what}: an upload that is refused in the middle is answered", done.returncode in (0, 55, 56), done.stderr)
    address = cluster.on(where, "getent", "ahostsv4", f"web.{ZONE}").stdout.split()[0]
    done = cluster.on(where, "curl", "-sS", "-m", "5", f"http://{address}:81/")
    cluster.check(f"{what}: a port that no VIP has refuses at once", done.returncode == 7, f"{done.returncode} {done.stderr}")


def changes(cluster):
    once = f"curl -sS -m 10 -o /dev/null {URL}"
    for where, place in PLACES:
        with cluster.until_done(where, once) as load:
            cluster.kill("/web")
            cluster.scale("/web", 5)
        lost = [line for line in load.failed if not line.startswith(CUT_OFF)]
        cluster.check(f"curl from a {place}: {load.runs} calls while an instance is killed and two are added, {len(load.failed)} cut off", load.runs > 5 and not lost and len(load.failed) <= 1, load.failed)
        with cluster.until_done(where, once) as load:
            cluster.scale("/web", 3)
            cluster.restart_daemon(where[0])
        cluster.check(f"curl from a {place}: {load.runs} calls while two instances and the daemon go, none lost", load.runs > 5 and not load.failed, load.failed)


CONFIGURATION = """
daemon off; user root; worker_processes 1; pid nginx.pid; error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off; client_body_temp_path body; proxy_temp_path proxied; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  proxy_connect_timeout 10s;
  upstream kept { server web.ZONE:80; keepalive 8; }
  server {
    listen @PORT@;
    location /health { return 200 "well\\n"; }
    location / { proxy_pass http://web.ZONE/; }
    location /kept/ { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://kept/; }
    location /asked/ { resolver 127.0.0.1 valid=1s; set $name web.ZONE; proxy_pass http://$name/; }
  }
}
""".replace("ZONE", ZONE)


def nginx(dev, muster, source):
    _, program = needs("curl", "nginx")

    def apps(folder):
        (folder / "nginx.conf").write_text(CONFIGURATION)
        own = f"{folder}/$MESOS_TASK_ID"
        command = f"mkdir {own} && sed s/@PORT@/$PORT0/ {folder}/nginx.conf >{own}/nginx.conf && exec {program} -e stderr -p {own} -c nginx.conf"
        return [web(), app("proxy", command, 2, port=8080, health="MESOS_HTTP")]

    with Cluster(dev, muster, apps) as cluster:
        cluster.until("three instances behind two proxies", lambda: cluster.backends("web") == 3 and cluster.backends("proxy") == 2)
        proxy = f"http://proxy.{ZONE}:8080"
        for where, place in PLACES:
            for path, what in [("/", "by a name that was asked for once"), ("/kept/", "over connections it keeps"), ("/asked/", "by a name that it asks muster for itself")]:
                done = cluster.on(where, "curl", "-sS", "-m", "10", f"{proxy}{path}?[1-60]")
                few = path == "/kept/"  # each proxy keeps one or two
                found = len(answered_by(done.stdout))
                cluster.check(f"curl from a {place} to a VIP of nginx, which goes to a VIP {what}", done.stdout.count("task ") == 60 and (found == 3 or few and found >= 1), f"{found} {done.stderr}")
        for path in ("/", "/asked/"):
            with cluster.until_done(CONTAINER, f"curl -sSf -m 15 -o /dev/null {proxy}{path}") as load:
                cluster.kill("/web")
                cluster.scale("/web", 5)
                cluster.scale("/web", 3)
                cluster.restart_daemon()
            # 22: nginx says 502 for what the killed instance had accepted.
            lost = [line for line in load.failed if not line.startswith("bad 22 ")]
            cluster.check(f"nginx {path}: {load.runs} calls while instances are killed, added and taken away and the daemon restarts, {len(load.failed)} cut off", load.runs > 5 and not lost and len(load.failed) <= 1, load.failed)
        with cluster.until_done(HOST, f"curl -sSf -m 15 -o /dev/null {proxy}/") as load:
            cluster.kill("/proxy")
        lost = [line for line in load.failed if not line.startswith(CUT_OFF)]
        cluster.check(f"nginx killed itself: {load.runs} calls, {len(load.failed)} cut off", load.runs > 5 and not lost and len(load.failed) <= 1, load.failed)
    return cluster.failures
