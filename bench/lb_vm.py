"""IPVS, which this machine's kernel may lack: what a connection through a VIP costs in a virtual machine, as a ratio to one without
any rules there, beside nft in the same machine. Outside (rows()) it starts the machine and reads what it says; inside, as a program,
it measures:

    lb_vm.py TOOL ROUNDS SECONDS
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DRIVERS = ("ipvs", "nft")
VIPS = 10
FIGURES = {"connect": ("p50_us", "connect() p50"), "cpu": ("cpu_us", "CPU a connection")}
ROWS = [f"lb.vm-{what}-{driver}" for driver in DRIVERS for what in FIGURES]
BOOT_SECONDS = 150     # and all that is not measuring: emulated, and perhaps on a busy machine
SECONDS_LIMIT = 280    # of the whole
MARK = "figures: "


class Skipped(Exception):
    """Why there can be no virtual machine here."""


def measure(tool, rounds, seconds):
    """A list of rounds: {node: {"p50_us", "cpu_us"}}."""
    import lb_area

    lb_area.DRIVERS = DRIVERS
    with lb_area.Lab(tool) as lab:
        targets = [("direct", lab.node("direct"))]
        for driver in DRIVERS:
            name = f"{driver}{VIPS}"
            lab.node(name)
            lab.run(name, "program", driver, VIPS, 0)
            targets.append((name, lb_area.VIP))
        lab.dial(seconds, targets)  # everybody has met everybody
        return [{name: figure for (name, _), figure in zip(targets, lab.dial(seconds * len(targets), targets))}
                for _ in range(rounds)]


def run_machine(tool, rounds, seconds):
    command = f"exec /usr/bin/python3 '{HERE / 'lb_vm.py'}' '{tool}' {rounds} {seconds}"
    limit = int(min(SECONDS_LIMIT, BOOT_SECONDS + 6 * rounds * seconds * (1 + len(DRIVERS))))
    done = subprocess.run([str(HERE.parent / "tests/vm/run"), "-c", "2", "-t", str(limit), command],
                          capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith("SKIPPED: "):
            raise Skipped(line.removeprefix("SKIPPED: "))
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    raise RuntimeError(f"the virtual machine ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def rows(tool, rounds, seconds, make_row):
    seen = run_machine(tool, rounds, seconds)
    made = []
    for driver in DRIVERS:
        name = f"{driver}{VIPS}"
        for what, (key, figure) in FIGURES.items():
            ours, direct = (statistics.median(one[who][key] for one in seen) for who in (name, "direct"))
            ratio = statistics.median(one[name][key] / one["direct"][key] for one in seen)
            made.append(make_row(f"lb.vm-{what}-{driver}", f"{figure}, {driver} in a virtual machine, against no rules there",
                                 f"{ours:.0f} us", f"{direct:.0f} us direct", ratio))
    return made


if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    sys.path.insert(0, str(HERE))
    print(MARK + json.dumps(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))), flush=True)
