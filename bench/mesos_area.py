"""What following a Mesos master costs: taking in its state, its events, and the master's own share."""
import json
import statistics
import subprocess

ROWS = ["mesos.state.time", "mesos.state.memory", "mesos.pause", "mesos.event", "mesos.event.worst",
        "mesos.floor", "mesos.stream.time", "mesos.small", "mesos.bytes.1", "mesos.bytes.10",
        "mesos.bytes.1000"]
SIZES = (1_000, 10_000, 100_000)
HEARTBEAT = 20 + 3 + 6  # the record, its RecordIO length and its HTTP chunk; every 15 s
EVENT = 600  # a TASK_UPDATED as recorded
PER_MINUTE = 100  # events of a busy cluster, for the comparison on paper


def once(program, tasks, what):
    done = subprocess.run([str(program), str(tasks), what], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def medians(program, tasks, what, rounds):
    """Each round in a process of its own, so that peaks of memory are its own too."""
    made = [once(program, tasks, what) for _ in range(rounds)]
    return {key: statistics.median(one[key] for one in made) for key in made[0]}


def amount(octets):
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 1000 or unit == "GB":
            return f"{octets:.3g} {unit}"
        octets /= 1000


def bytes_on_paper(state_octets):
    """What masters send a minute at 100,000 tasks, apart from a first snapshot each.

    muster: the publisher's and the standby's stream; a single node has one. Mesos-DNS, as it comes
    (refreshSeconds 60), on every node: each a whole /state. dcos-net's nodes ask their own agents
    instead, and its masters' own listeners hold a stream each, as muster's observers do.
    """
    stream = 4 * HEARTBEAT + PER_MINUTE * EVENT
    for nodes in (1, 10, 1000):
        ours = min(nodes, 2) * stream
        theirs = nodes * state_octets
        yield Row(f"mesos.bytes.{nodes}", f"master's bytes a minute, {nodes} nodes, {PER_MINUTE} events "
                  "(on paper; peer: Mesos-DNS on each)", amount(ours), amount(theirs), ours / theirs)


def run(bench):
    bench.build("mesos_state_bench")
    program = bench.build_dir / "mesos" / "mesos_state_bench"
    v0 = {}
    for tasks in SIZES:
        v0[tasks] = one = medians(program, tasks, "v0", bench.rounds)
        bench.note(f"/state of {tasks} tasks, {amount(one['octets'])}: parse {one['parse_s']:.4f} s "
                   f"({one['parse_cpu_s']:.4f} s of CPU), take {one['take_s'] * 1000:.3f} ms, peak "
                   f"{one['peak_mb']:.0f} MB, event {one['event_us']:.1f} us, worst {one['worst_event_us']:.0f} us")
    large, small = v0[100_000], v0[1_000]
    stream = medians(program, 100_000, "v1", bench.rounds)
    floor = medians(program, 100_000, "floor", bench.rounds)
    size = amount(large["octets"])
    seconds = large["parse_s"] + large["take_s"]
    streamed = stream["parse_s"] + stream["take_s"]
    return [
        Row("mesos.state.time", f"/state of 100,000 tasks ({size}) taken in", f"{seconds:.3f} s", "0.5 s",
            seconds, 0.5),
        Row("mesos.state.memory", "the process at its peak, the text included", f"{large['peak_mb']:.0f} MB",
            "250 MB", large["peak_mb"], 250),
        Row("mesos.pause", "of that on the control thread", f"{large['take_s'] * 1000:.2f} ms", "20 ms",
            large["take_s"] * 1000, 20),
        Row("mesos.event", "one event at 100,000 tasks", f"{large['event_us']:.1f} us", "50 us",
            large["event_us"], 50),
        Row("mesos.event.worst", "the slowest of 10,000 events (whatever else the machine does)",
            f"{large['worst_event_us']:.0f} us", "-", large["worst_event_us"]),
        Row("mesos.floor", "CPU, against simdjson alone on the same text", f"{large['parse_cpu_s']:.3f} s",
            f"{floor['parse_cpu_s']:.3f} s", large["parse_cpu_s"] / max(floor["parse_cpu_s"], 1e-9)),
        Row("mesos.stream.time", f"SUBSCRIBED of 100,000 tasks ({amount(stream['octets'])}) taken in",
            f"{streamed:.3f} s", "0.5 s", streamed, 0.5),
        Row("mesos.small", "/state of 1,000 tasks taken in", f"{(small['parse_s'] + small['take_s']) * 1000:.2f} ms",
            "-", small["parse_s"] + small["take_s"]),
        *bytes_on_paper(large["octets"]),
    ]
