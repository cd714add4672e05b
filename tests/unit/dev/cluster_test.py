"""muster-dev end to end: clusters with a stand-in for muster, and what is left of them.

    cluster_test.py MUSTER_DEV CASE

Runs itself again in mount, network and pid namespaces of its own, with an empty /tmp and /run, so
that "nothing is left" can be an exact comparison whatever else the machine does meanwhile.
"""

import collections
import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import time

MUSTER_DEV = sys.argv[1]
FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "dev"
LIMIT = 90  # seconds for anything to happen, on a machine that is busy with other tests

WEB = {
    "id": "/web",
    "cmd": "exec muster-dev serve --http $PORT0",
    "instances": 3,
    "cpus": 0.1,
    "mem": 32,
    "portDefinitions": [{"name": "http", "labels": {"VIP_0": "/web:80"}}],
    "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/health", "delaySeconds": 0,
                      "gracePeriodSeconds": 60, "intervalSeconds": 0.5, "timeoutSeconds": 10}],
}


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(0)


def run(*words, check=True):
    done = subprocess.run([MUSTER_DEV, *map(str, words)], capture_output=True, text=True,
                          timeout=LIMIT)
    if check and done.returncode != 0:
        raise AssertionError(f"{words}: status {done.returncode}: {done.stdout}{done.stderr}")
    return done


def until(what, condition):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {LIMIT} s: {what}")


def equal(got, wanted, what):
    assert got == wanted, f"{what}: got {got!r}, wanted {wanted!r}"


def stand_in():
    """A program in muster's place that only has to be there."""
    path = pathlib.Path("/tmp/stand-in")
    path.write_text("#!/bin/sh\necho started \"$@\"\nexec sleep 100000\n")
    path.chmod(0o755)
    return str(path)


class Cluster:
    def __init__(self, apps, nodes=2, options=()):
        definition = pathlib.Path("/tmp/apps.json")
        definition.write_text(json.dumps(apps))
        self.log = open("/tmp/log", "wb")
        self.process = subprocess.Popen(
            [MUSTER_DEV, "--nodes", str(nodes), "--muster", stand_in(), *options, str(definition)],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            sys.stderr.write(pathlib.Path("/tmp/log").read_text())
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT)
        self.log.close()


def ps():
    return json.loads(run("ps", "--json").stdout)


def tasks(app):
    return [task for task in ps()["tasks"] if task["app"] == app]


PYTHON = "/usr/bin/python3"
FETCH = ("import sys, urllib.request as u; "
         "sys.stdout.write(u.urlopen(sys.argv[1], timeout=30).read().decode())")


def fetch(node, url, *options):
    return run("exec", node, *options, "--", PYTHON, "-c", FETCH, url).stdout


SUBSCRIBE = """
import http.client, json, sys
c = http.client.HTTPConnection("10.66.0.250", 5050)
c.request("POST", "/api/v1", '{"type":"SUBSCRIBE"}',
          {"Content-Type": "application/json", "Accept": "application/json"})
r = c.getresponse()
while True:
    size = b""
    while not size.endswith(b"\\n"):
        octet = r.read(1)
        if not octet: sys.exit(0)
        size += octet
    print(r.read(int(size)).decode(), flush=True)
"""


def story(events):
    """Each task's events in order, as words; equal ones in a row once."""
    out = collections.defaultdict(list)
    for event in events:
        words = [event["type"]]
        if event["type"] == "TASK_ADDED":
            task = event["task_added"]["task"]
            words.append(task["state"])
            name = task["task_id"]["value"]
            assert "statuses" not in task or task["state"] != "TASK_STAGING"
        elif event["type"] == "TASK_UPDATED":
            status = event["task_updated"]["status"]
            words += [status["state"], status.get("reason"), status.get("healthy"),
                      status.get("message"), "container_status" in status]
            name = status["task_id"]["value"]
        else:
            continue
        if not out[name] or out[name][-1] != words:
            out[name].append(words)
    return out


def recorded(name):
    lines = (FIXTURES / "events.jsonl").read_text().splitlines()
    stories = story(json.loads(line) for line in lines)
    return next(events for task, events in stories.items() if task.startswith(name + "."))


def case_life():
    plain = {"cpus": 0.1, "mem": 32, "instances": 0, "backoffSeconds": 300}
    apps = [WEB,
            {**plain, "id": "/fail", "cmd": "sleep 0.5; exit 3"},
            {**plain, "id": "/finish", "cmd": "sleep 0.5"},
            {**plain, "id": "/tokill", "cmd": "trap 'exit 0' TERM; while :; do sleep 0.1; done"},
            {**plain, "id": "/sickkill", "cmd": "exec sleep 1000",
             "healthChecks": [{"protocol": "COMMAND", "command": {"value": "false"},
                               "delaySeconds": 0, "gracePeriodSeconds": 0, "intervalSeconds": 0.2,
                               "maxConsecutiveFailures": 3}]}]
    with Cluster(apps) as cluster:
        until("the cluster answers", lambda: run("ps", check=False).returncode == 0)
        stream = subprocess.Popen([MUSTER_DEV, "exec", "1", "--", PYTHON, "-c", SUBSCRIBE],
                                  stdout=open("/tmp/stream", "wb"))
        running = until("web runs and is healthy", lambda: [
            one for one in tasks("/web") if one["health"] == "healthy"][2:] and tasks("/web"))
        equal({one["node"] for one in running}, {"node1", "node2"}, "spread over the nodes")

        state = json.loads(fetch(2, "http://10.66.0.250:5050/state"))
        shown = [task for task in state["frameworks"][0]["tasks"] if task["name"] == "web"]
        equal([task["state"] for task in shown], ["TASK_RUNNING"] * 3, "/state")
        equal([task["statuses"][-1]["healthy"] for task in shown], [True] * 3, "health in /state")
        equal(len(state["slaves"]), 2, "agents in /state")
        assert "task " + running[0]["task"] in fetch(2, f"http://{running[0]['address']}/")

        crashed = running[0]["task"]
        run("kill", crashed, "--signal", "KILL")
        again = until("the crashed one is back", lambda: [
            one for one in tasks("/web") if one["instance"] == 1 and one["state"] == "RUNNING"
            and one["task"] != crashed])
        equal(again[0]["task"], crashed[:-1] + "2", "the id of its next task")

        until("the stream is there", lambda: pathlib.Path("/tmp/stream").stat().st_size > 0)
        for app in ("fail", "finish", "tokill", "sickkill"):
            run("scale", app, 1)
        until("the others have failed, finished and been killed", lambda: all(
            tasks(app)[0]["note"] == "again in 300 s" for app in ("/fail", "/finish", "/sickkill")))
        until("tokill runs", lambda: tasks("/tokill")[0]["state"] == "RUNNING")
        first = tasks("/tokill")[0]["task"]
        run("kill", "--app", "tokill")
        until("it is replaced", lambda: tasks("/tokill")[0]["task"] not in ("", first))

        run("scale", "web", 5)
        until("five", lambda: sum(one["state"] == "RUNNING" for one in tasks("/web")) == 5)
        run("scale", "/web", 1)
        until("one", lambda: len(tasks("/web")) == 1)

        run("stop")
        equal(cluster.process.wait(LIMIT), 0, "exit status after stop")
        stream.wait(LIMIT)
    events = [json.loads(line) for line in open("/tmp/stream")]
    equal([event["type"] for event in events[:2]], ["SUBSCRIBED", "HEARTBEAT"], "the head")
    stories = story(events)
    for name in ("fail", "finish", "tokill", "sickkill"):
        ours = next(told for task, told in stories.items() if task.startswith(name + "."))
        equal(ours, recorded(name), f"the life of {name}")


def case_nodes():
    apps = [WEB,
            {"id": "/bridged", "cmd": "exec muster-dev serve --http 8080 --text bridged",
             "cpus": 0.1, "mem": 32, "networks": [{"mode": "container/bridge"}],
             "container": {"type": "MESOS", "portMappings": [{"containerPort": 8080}]}},
            {"id": "/own", "cmd": "exec muster-dev serve --http 8080", "instances": 2,
             "cpus": 0.1, "mem": 32, "networks": [{"mode": "container", "name": "dcos"}],
             "container": {"portMappings": [{"containerPort": 8080}]},
             "healthChecks": [{"protocol": "MESOS_TCP", "delaySeconds": 0,
                               "gracePeriodSeconds": 60, "intervalSeconds": 0.5}]}]
    with Cluster(apps) as cluster:
        run("wait", "--apps", "--seconds", LIMIT)
        equal(run("exec", 1, "--", "sh", "-c", "exit 7", check=False).returncode, 7, "status")
        equal(run("exec", 2, "--", "hostname").stdout, "node2\n", "hostname")
        equal(run("exec", 2, "--", "cat", "/etc/resolv.conf").stdout, "nameserver 10.66.0.2\nnameserver 10.66.0.1\n",
              "resolv.conf")
        equal(run("exec", 1, "--", "no-such-program", check=False).returncode, 127, "not found")
        assert run("exec", 3, "--", "true", check=False).returncode == 1, "there is no node 3"
        bridged = tasks("/bridged")[0]["address"]
        assert bridged.startswith("10.66.0.")
        own = [one["address"] for one in tasks("/own")]
        for options in ((), ("--container",)):
            for node in (1, 2):
                for address in (bridged, *own):
                    assert "task " in fetch(node, f"http://{address}/", *options)
        state = json.loads(fetch(1, "http://10.66.0.250:5050/state"))
        by_name = {task["name"]: task for task in state["frameworks"][0]["tasks"]}
        network = by_name["own"]["statuses"][-1]["container_status"]["network_infos"][0]
        assert network["ip_addresses"][0]["ip_address"] in " ".join(own)
        equal(by_name["bridged"]["container"]["network_infos"][0]["port_mappings"][0]["host_port"],
              int(bridged.split(":")[1]), "the host port")

        node = ps()["nodes"][1]
        os.kill(node["pid"], 0)
        run("kill-agent", 2)
        until("it is gone", lambda: ps()["nodes"][1]["pid"] == 0)
        equal(ps()["nodes"][1]["muster"], "killed", "what ps says of it")
        run("start-agent", 2)
        until("it is back", lambda: ps()["nodes"][1]["pid"] > 0)
        assert run("logs", 2).stdout.count("started agent --config") == 2

        run("master", "kill")
        assert run("exec", 1, "--", PYTHON, "-c", FETCH, "http://10.66.0.250:5050/state",
                   check=False).returncode != 0
        run("master", "start")
        until("it leads again", lambda: ps()["master"] == "leading")
        after = json.loads(fetch(1, "http://10.66.0.250:5050/state"))
        assert after["id"] != state["id"], "a new master has a new id"
        equal(sorted(task["id"] for task in after["frameworks"][0]["tasks"]),
              sorted(task["id"] for task in state["frameworks"][0]["tasks"]), "the same tasks")

        address = next(one["address"] for one in tasks("/web") if one["instance"] == 1)

        def load(status):
            done = run("exec", 2, "--", "muster-dev", "load", "--url", f"http://{address}/",
                       "--rate", 50, "--seconds", 1, "--json", check=False)
            equal(done.returncode, status, done.stderr)
            return json.loads(done.stdout)

        equal(load(0)["answered"], 50, "answered while it runs")
        run("scale", "web", 0)
        until("nothing runs", lambda: not tasks("/web"))
        report = load(1)
        equal((report["sent"], report["answered"], report["failed"]), (50, 0, 50), "accounted for")
        equal(report["failed_before_connect"]["kinds"]["refused"], 50, "refused")
        cluster.process.send_signal(signal.SIGINT)
        equal(cluster.process.wait(LIMIT), 0, "exit status after Ctrl-C")


def case_terminal():
    with Cluster([{"id": "/idle", "cmd": "sleep 1000"}], nodes=1):
        run("wait", "--apps", "--seconds", LIMIT)
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(MUSTER_DEV, [MUSTER_DEV, "exec", "1", "--", "sh", "-c",
                                  "test -t 0 && echo asks && read answer && echo got $answer"])
        said = b""
        while b"asks" not in said:
            said += os.read(terminal, 1000)
        os.write(terminal, b"hello\n")
        while b"got hello" not in said:
            said += os.read(terminal, 1000)
        equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, "exit status")


def case_wrong():
    pathlib.Path("/tmp/bad.json").write_text('{"id": "/a", "cmd": "x", "instances": "3"}')
    done = run("--muster", stand_in(), "/tmp/bad.json", check=False)
    equal(done.returncode, 2, "exit status")
    assert "/tmp/bad.json: /instances: expected a whole number from 0 to 1000, not \"3\"" \
        in done.stderr, done.stderr
    equal(run("ps", "--name", "nobody", check=False).returncode, 1, "no such cluster")
    with Cluster([{"id": "/idle", "cmd": "sleep 1000"}], nodes=1):
        run("wait", "--apps", "--seconds", LIMIT)
        second = run("--muster", stand_in(), "/tmp/apps.json", check=False)
        equal(second.returncode, 1, "a second one of the same name")
        assert "runs already" in second.stderr


def snapshot():
    def listing(folder):
        return sorted(str(path) for path in pathlib.Path(folder).rglob("*"))

    return {
        "links": subprocess.check_output(["ip", "-o", "link"], text=True).splitlines(),
        "netns": subprocess.check_output(["ip", "netns"], text=True),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "/tmp": listing("/tmp"),
        "/run": listing("/run"),
        "/etc/netns": listing("/etc/netns"),
        "mounts": pathlib.Path("/proc/self/mounts").read_text(),
        "sockets": [line.split()[-1] for line in open("/proc/net/unix") if "muster-dev" in line],
        "forwarding": pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "rules": subprocess.run(["nft", "list", "ruleset"], capture_output=True).stdout,
    }


def reap_orphans():
    """This process is the first of its namespace: whoever loses its parent becomes its child."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] > 0:
            pass
    except ChildProcessError:
        pass


def case_nothing_left():
    apps = [WEB, {"id": "/bridged", "cmd": "exec muster-dev serve --http 8080",
                  "networks": [{"mode": "container/bridge"}],
                  "container": {"portMappings": [{"containerPort": 8080}]}},
            # Leaves its session and ignores what can be ignored.
            {"id": "/stubborn", "cmd": "trap '' TERM HUP INT; setsid sh -c "
                                       "\"trap '' TERM HUP INT; sleep 1000 & sleep 1000\" & wait"}]
    stand_in()
    pathlib.Path("/tmp/apps.json").touch()
    pathlib.Path("/tmp/log").touch()
    before = snapshot()
    ways = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP,
            "kill -9": signal.SIGKILL, "stop": None}
    for way, number in ways.items():
        with Cluster(apps, options=("--ready-file", "/tmp/ready")) as cluster:
            run("wait", "--apps", "--seconds", LIMIT)
            inside = snapshot()
            assert len(inside["processes"]) > len(before["processes"]) + 5
            equal(inside["links"], before["links"], f"{way}: the host's links while it runs")
            if number is None:
                run("stop")
            else:
                cluster.process.send_signal(number)
            status = cluster.process.wait(LIMIT)
            equal(status, -9 if number == signal.SIGKILL else 0, f"{way}: exit status")
            until(f"{way}: the last process is gone",
                  lambda: reap_orphans() or snapshot()["processes"] == before["processes"])
        for what, was in before.items():
            equal(snapshot()[what], was, f"{way}: {what}")


def main():
    if os.geteuid() != 0:
        skip("needs root, to make namespaces")
    if "MUSTER_DEV_TEST_INSIDE" not in os.environ:
        probe = subprocess.run(["unshare", "-mnpf", "--mount-proc", "true"], capture_output=True,
                               text=True)
        if probe.returncode != 0:
            skip(f"no namespaces here: {probe.stderr.strip()}")
        os.environ["MUSTER_DEV_TEST_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "-mnpf", "--mount-proc", "--kill-child", sys.executable,
                              *sys.argv])
    for folder in ("/tmp", "/run"):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    globals()["case_" + sys.argv[2]]()
    print("good")


if __name__ == "__main__":
    main()
