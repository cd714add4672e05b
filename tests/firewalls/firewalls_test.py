#!/usr/bin/env python3
"""Other programs that write firewalls, beside muster: firewalls_test.py MUSTER UNPACKED CASE

The programs themselves, as Debian has them, in namespaces: UNPACKED is where `deploy/install-deps --unpack UNPACKED firewalls` put them. A case
whose program is not there says SKIPPED.
"""

import os
import pathlib
import signal
import sys

import docker_case
import firewalld_case
from room import Stop, skip

CASES = {"docker": docker_case.run, "docker-legacy": docker_case.run_legacy, "firewalld": firewalld_case.run, "firewalld-docker": firewalld_case.run_with_docker}

if __name__ == "__main__":
    muster, unpacked, case = sys.argv[1:]
    if os.geteuid() != 0:
        skip(f"{case}: needs root, for network namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # and so all is taken down
    try:
        failures = CASES[case](str(pathlib.Path(muster).resolve()), pathlib.Path(unpacked).resolve())
    except Stop:
        failures = ["what came after"]
    print(f"{len(failures)} failed" if failures else "all good")
    sys.exit(1 if failures else 0)
