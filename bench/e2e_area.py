"""From a task's start to its VIP in the kernel of every one of sixty nodes."""
import time

import sixty

ROWS = ["e2e.vip"]


def run(bench):
    bench.build("muster", "muster-dev")
    app = sixty.web(0, "/fresh")
    times = []
    with sixty.Cluster(bench.build_dir, [sixty.web(3), app]) as cluster:
        cluster.settle()
        time.sleep(3)
        for round_ in range(bench.rounds):
            begun = time.time()
            cluster("scale", "/fresh", 1)
            time.sleep(2)
            seen = cluster.when(r"lb: the kernel has every change", begun)
            bench.note(f"round {round_ + 1}: {len(seen)} nodes, last after {max(seen.values()):.3f} s")
            times += list(seen.values()) + [9.9] * (cluster.nodes - len(seen))
            answered = cluster.on(7, "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}",
                                  "http://fresh.marathon.l4lb.thisdcos.directory/")
            if answered != "200":
                times.append(9.9)
            cluster("scale", "/fresh", 0)
            time.sleep(3)
    times.sort()
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    return [Row("e2e.vip", "new VIP, from `scale` to every kernel (the task's start included), "
                "p50 / p99 / worst",
                f"{times[len(times) // 2]:.3f} / {p99:.3f} / {times[-1]:.3f} s", "0.4 s", p99, 0.4)]
