"""PostgreSQL behind a VIP, with psql and pgbench."""

import glob
import os
import pwd
import re
import shutil
import subprocess

from cluster import CONTAINER, HOST, LINGER, PLACES, ZONE, Cluster, app, needs, numbers, skip

NAME = f"db.{ZONE}"
WHO = "select inet_server_addr() || ':' || inet_server_port()"


def programs():
    """The folder of the newest server; `pg_ctl` and its kind are not in PATH."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda p: int(p.split("/")[4]))
    if not found:
        skip("postgresql: not installed (deploy/install-deps clients)")
    return os.path.dirname(found[-1])


def prepare(bin_, folder):
    """A database with pgbench's tables that every instance starts from a copy of."""
    data = folder / "template"
    data.mkdir()
    user = pwd.getpwnam("postgres")
    os.chown(data, user.pw_uid, user.pw_gid)

    def run(*command):
        subprocess.run(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command], check=True, capture_output=True, cwd="/", timeout=120)

    run(f"{bin_}/initdb", "-N", "-D", str(data), "-A", "trust", "-U", "postgres", "--locale=C.UTF-8")
    with open(data / "pg_hba.conf", "a", encoding="ascii") as hba:
        hba.write("host all all all trust\n")
    with open(data / "postgresql.conf", "a", encoding="ascii") as configuration:
        configuration.write(f"fsync = off\nshared_buffers = 16MB\nmax_connections = 60\nunix_socket_directories = '{data}'\n")
    run(f"{bin_}/pg_ctl", "-D", str(data), "-w", "-l", str(data / "log"), "-o", "-c listen_addresses=", "start")
    run(f"{bin_}/pgbench", "-h", str(data), "-U", "postgres", "-i", "-q", "postgres")
    run(f"{bin_}/pg_ctl", "-D", str(data), "-w", "-m", "fast", "stop")


def run(dev, muster, _source):
    bin_ = programs()
    needs("curl", "psql", "setpriv")

    def apps(folder):
        prepare(bin_, folder)
        own = f"{folder}/$MESOS_TASK_ID"
        server = f"setpriv --reuid=postgres --regid=postgres --clear-groups {bin_}/postgres -D {own} -k {own} -h '*' -p $PORT0"
        return [app("db", f"cp -a {folder}/template {own} && ({server} & p=$!; {LINGER.replace('TERM $p', 'INT $p')})", 2, port=5432)]

    with Cluster(dev, muster, apps) as cluster:
        cluster.until("two databases", lambda: cluster.backends("db") == 2)
        base = ["-h", NAME, "-U", "postgres"]
        for where, place in PLACES:
            seen = set()
            for _ in range(20):
                seen.add(cluster.on(where, "psql", *base, "-Atc", WHO).stdout.strip())
            cluster.check(f"psql from a {place}: every call is answered, by both instances", len(seen) == 2 and "" not in seen, seen)
            done = cluster.on(where, f"{bin_}/pgbench", *base, "-c", "4", "-j", "2", "-T", "3", "postgres")
            said = done.stdout + done.stderr
            cluster.check(f"pgbench from a {place}: TPC-B over four connections, {numbers('tps = ([0-9.]+)', said)} a second", done.returncode == 0 and "failed transactions: 0 " in said, said)
            done = cluster.on(where, f"{bin_}/pgbench", *base, "-S", "-C", "-c", "4", "-T", "3", "postgres")
            said = done.stdout + done.stderr
            cluster.check(f"pgbench from a {place}: a connection for each transaction, {numbers('tps = ([0-9.]+)', said)} a second", done.returncode == 0 and "failed transactions: 0 " in said, said)
        session(cluster, bin_, base)
    return cluster.failures


def session(cluster, bin_, base):
    script = f"{WHO}; select pg_sleep(0.2); " * 60
    with cluster.beside(HOST, "psql", *base, "-At", "-v", "ON_ERROR_STOP=1", "-c", "select pg_sleep(0.1)", *[w for s in script.split("; ") if s for w in ("-c", s)]) as open_:
        cluster.restart_daemon()
        cluster.scale("/db", 3)
    seen = set(re.findall(r"^\S+:\d+$", open_.out, re.M))
    cluster.check("psql: a session stays with its backend while the daemon restarts and an instance is added", open_.returncode == 0 and len(seen) == 1, f"{seen} {open_.err}")
    with cluster.beside(CONTAINER, f"{bin_}/pgbench", *base, "-S", "-C", "-c", "2", "-T", "8", "postgres") as load:
        cluster.scale("/db", 2)
    said = load.out + load.err
    cluster.check("pgbench: connects again and again while an instance is taken away, and loses nothing", load.returncode == 0 and "failed transactions: 0 " in said, said)
    with cluster.until_done(CONTAINER, f"psql {' '.join(base)} -Atc 'select 1'") as load:
        cluster.kill("/db")
    refused = [line for line in load.failed if "refused" in line or "timeout" in line or "translate" in line]
    cluster.check(f"psql: {load.runs} calls while an instance is killed, {len(load.failed)} cut off", load.runs > 5 and not refused and len(load.failed) <= 1, load.failed)
    shutil.rmtree(cluster.folder / "template", ignore_errors=True)
