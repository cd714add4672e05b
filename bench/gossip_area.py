"""Gossip in simulation, on virtual time: what gossip_sim_bench prints, as rows. The figures do not
depend on the machine, only the time it takes does; `--rounds` is the number of deaths and, times
five, of changes per figure (20 is what the limits are for)."""
import re
import subprocess
import time

PARTS = ["death", "third", "stalls", "idle", "change", "restart", "hour", "big"]
LINE = re.compile(r"^(\S+)\s{2,}(\S.*?)\s{2,}(-?[0-9.]+) (\S*)\s+([0-9.]+)\s+(met|SHORT)$")
HOUR_SECONDS = 3600
SIZES = (300, 1000)
ROWS = ([f"gossip.{part}-{nodes}-{loss}" for part in ("death", "change") for nodes in SIZES
         for loss in (0, 10, 30)] +
        [f"gossip.third-{nodes}-{loss}" for nodes in SIZES for loss in (0, 30)] +
        [f"gossip.{part}-{nodes}-0" for part in ("idle", "restart") for nodes in SIZES] +
        ["gossip.stalls-60", "gossip.hour-200-30", "gossip.hour-200-10", "gossip.big-10000-0"])

BIG_OCTETS = 22e9  # 10,000 nodes that all know each other


def available():
    with open("/proc/meminfo") as info:
        return next(int(line.split()[1]) * 1024 for line in info if line.startswith("MemAvailable:"))


def run(bench):
    bench.build("gossip_sim_bench")
    program = bench.build_dir / "tests" / "gossip_sim_bench"
    rows = []
    for part in PARTS:
        if not any(bench.only in row for row in ROWS if row.startswith(f"gossip.{part}-")):
            continue
        nodes = 10000
        if part == "big" and available() < BIG_OCTETS:
            nodes = 5000
            bench.note("big: 10,000 nodes need 22 GB of free memory, which is not there: 5,000")
        begun = time.time()
        out = subprocess.run([program, "--runs", str(bench.rounds), "--seconds", str(HOUR_SECONDS),
                              "--nodes", str(nodes), "--only",
                              bench.only.removeprefix("gossip."), part],
                             check=True, capture_output=True, text=True).stdout
        bench.note(f"{part}: {time.time() - begun:.0f} s")
        for line in out.splitlines():
            if not (found := LINE.match(line)):
                continue
            name, figure, value, unit, bar, _ = found.groups()
            rows.append(Row(f"gossip.{name}", figure, f"{float(value):g} {unit}".strip(), f"{bar} {unit}".strip(),
                            float(value), float(bar)))
    return rows
