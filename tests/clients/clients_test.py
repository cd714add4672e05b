#!/usr/bin/env python3
"""Programs that people use, over a cluster of muster-dev: clients_test.py MUSTER-DEV MUSTER SOURCE CASE

Each case has a cluster of its own; its client runs on a node and in a container behind another one,
while instances are killed, scaled and added. A case whose program is not installed says SKIPPED.
"""

import os
import pathlib
import sys

import dig
import http_clients
import iperf
import postgres
import prometheus
import redis

CASES = {"curl": http_clients.curl, "nginx": http_clients.nginx, "postgresql": postgres.run, "redis": redis.run,
         "iperf3": iperf.run, "prometheus": prometheus.run, "dig": dig.run}

if __name__ == "__main__":
    dev, muster, source, case = sys.argv[1:]
    if os.geteuid() != 0:
        print(f"SKIPPED: {case}: needs root, for network namespaces")
        sys.exit(0)
    failures = CASES[case](dev, muster, pathlib.Path(source))
    print(f"{len(failures)} failed" if failures else "all good")
    sys.exit(1 if failures else 0)
