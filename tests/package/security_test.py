#!/usr/bin/env python3
"""What docs/threat-model.md promises of files and programs: security_test.py MUSTER SOURCE CASE

CASE: model (the tests it names are there), secrets (none is printed), sbom (it lists what is linked),
hardening (of a release binary; with "all" behind it, of one that was built with MUSTER_HARDEN).
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

MUSTER, SOURCE, CASE = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
failures = 0


def check(what, holds, detail=""):
    global failures
    print(("ok      " if holds else "FAILED  ") + what + ("" if holds else f"\n  {detail}"))
    failures += not holds


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def model():
    text = " ".join((SOURCE / "docs/threat-model.md").read_text().split())
    named = [name for name in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", text) if name != "italics"]
    tests = " ".join(path.read_text(errors="replace") for path in (SOURCE / "tests").rglob("*") if path.suffix in (".cpp", ".cmake", ".py"))
    tests = re.sub(r'"\s*\n?\s*"', "", tests)
    tests += "".join(f" security: {case}" for case in CASES)
    missing = [name for name in named if name not in tests]
    check(f"threat-model.md: the {len(named)} tests it names are there", len(named) > 15 and not missing, missing)


SECRETS = {"password": "s3cr3tPassword", "token": "s3cr3tToken", "zk": "zkuser:s3cr3tZookeeper", "url": "s3cr3tInUrl"}
KEY = "5ec2e7" * 10 + "abcd"


def master(listener, seen):
    """Refuses everybody, with what they sent kept in `seen`."""
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with contextlib.suppress(OSError), peer:
            peer.settimeout(5)
            seen.append(peer.recv(65536).decode(errors="replace"))
            peer.sendall(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"mesos\"\r\nContent-Length: 0\r\n\r\n")


def agent(folder, mesos, ask):
    """What an agent at log level debug says in its first seconds, and over HTTP."""
    with socket.socket() as probe, socket.socket() as other:
        probe.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        http, gossip = probe.getsockname()[1], other.getsockname()[1]
    path = folder / "muster.toml"
    path.write_text(f'[mesos]\n{mesos}\n[dns]\nenabled = false\n[lb]\nenabled = false\n[metrics]\nlisten = "127.0.0.1:{http}"\n'
                    f'[gossip]\nlisten = "127.0.0.1:{gossip}"\nkey_file = "{folder}/key"\n[state]\ndirectory = "{folder}/state"\n'
                    f'[control]\nsocket = ""\n[log]\nlevel = "debug"\n')
    path.chmod(0o600)
    said = "".join(p.stdout + p.stderr for p in (run(MUSTER, "check-config", str(path)), run(MUSTER, "agent", "--config", str(path), "--print-config")))
    with open(folder / "log", "w+") as log:
        process = subprocess.Popen([MUSTER, "agent", "--config", str(path)], stdout=log, stderr=log)
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end and not ask() and process.poll() is None:
                time.sleep(0.1)
            check("secrets: the agent runs", process.poll() is None, (folder / "log").read_text())
            for what in ("/metrics", "/v1/status", "/v1/nodes", "/v1/changes", "/v1/config", "/v1/records"):
                with contextlib.suppress(OSError):
                    said += urllib.request.urlopen(f"http://127.0.0.1:{http}{what}", timeout=30).read().decode()
            if process.poll() is not None:
                return said
            check("secrets: not in its command line or environment", "s3cr3t" not in pathlib.Path(f"/proc/{process.pid}/cmdline").read_text() + pathlib.Path(f"/proc/{process.pid}/environ").read_text())
        finally:
            process.terminate()
            process.wait(60)
        log.seek(0)
        return said + log.read()


def secrets():
    with tempfile.TemporaryDirectory() as text, socket.socket() as listener:
        folder = pathlib.Path(text)
        (folder / "state").mkdir()
        for name, secret in SECRETS.items():
            (folder / name).write_text(secret + "\n")
            (folder / name).chmod(0o600)
        (folder / "key").write_text(KEY + "\n")
        (folder / "key").chmod(0o600)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        seen = []
        threading.Thread(target=master, args=(listener, seen), daemon=True).start()
        at = f"127.0.0.1:{listener.getsockname()[1]}"
        ways = {"a password": f'masters = ["http://{at}"]\nusername = "me"\npassword_file = "{folder}/password"',
                "a token": f'masters = ["http://{at}"]\ntoken_file = "{folder}/token"',
                "ZooKeeper, by file": f'masters = "zk://{at}/mesos"\nzk_auth_file = "{folder}/zk"',
                "ZooKeeper, in the URL": f'masters = "zk://me:{SECRETS["url"]}@{at}/mesos"'}
        for what, mesos in ways.items():
            seen.clear()
            said = agent(folder, mesos, lambda: bool(seen))
            check(f"secrets: the master is asked with {what}", seen, said[-1500:])
            found = [line for line in said.splitlines() if "s3cr3t" in line or KEY[:12] in line or "bWU6czNjcjN0" in line]
            check(f"secrets: none is printed, with {what}", len(said) > 500 and not found, found[:3])
        # What is wrong with a file is said without what is in it.
        for name, used in {"password": f'username = "me"\npassword_file = "{folder}/password"', "token": f'token_file = "{folder}/token"', "key": ""}.items():
            (folder / name).chmod(0o644)
            path = folder / "muster.toml"
            path.write_text(f'[mesos]\nmasters = ["http://{at}"]\n{used}\n[gossip]\nlisten = "127.0.0.1:61420"\nkey_file = "{folder}/key"\n[state]\ndirectory = ""\n')
            done = run(MUSTER, "agent", "--config", str(path), timeout=30)
            check(f"secrets: a {name} that others can read is refused, and not shown", done.returncode == 2 and "chmod 640" in done.stderr and "s3cr3t" not in done.stderr and KEY not in done.stderr, f"{done.returncode} {done.stderr}")
            (folder / name).chmod(0o600)
        listener.close()


def sbom():
    done = run(str(SOURCE / "deploy/sbom"), MUSTER)
    if not shutil.which("dpkg-query"):
        print("SKIPPED: sbom: this is not Debian")
        return
    check("sbom: made", done.returncode == 0, done.stderr)
    bom = json.loads(done.stdout)
    parts = {c["name"]: c for c in bom["components"]}
    listed = re.search(r"^\[build\]\n(.*?)\n\n", (SOURCE / "deploy/dependencies.txt").read_text(), re.M | re.S)[1].split()
    check("sbom: has every package that it is built with", not [p for p in listed if p not in parts], [p for p in listed if p not in parts])
    needed = set(re.findall(r"NEEDED +(\S+)", run("objdump", "-p", MUSTER).stdout))
    names = " ".join(parts)
    stems = {re.match(r"(lib[a-z]+)", library)[1] for library in needed if library.startswith("lib")} - {"libstdc", "libm", "libgcc", "libasan", "libubsan", "libtsan"}
    missing = [stem for stem in stems if stem not in names and stem.replace("lib", "lib", 1) + "6" not in names]
    check("sbom: has every library that is loaded", not [s for s in missing if s not in ("libcrypto", "libcares")], missing)
    check("sbom: every part has a version and a purl", all(c["version"] and c["purl"].startswith("pkg:deb/debian/") for c in parts.values()))
    check("sbom: the same again", run(str(SOURCE / "deploy/sbom"), MUSTER).stdout == done.stdout)


def hardening():
    if not shutil.which("hardening-check"):
        print("SKIPPED: hardening: hardening-check is not installed (deploy/install-deps package)")
        return
    said = run("hardening-check", MUSTER).stdout
    # The rest costs time where it is compiled in: with -DMUSTER_HARDEN=ON.
    wanted = ["Position Independent Executable", "Read-only relocations", "Immediate binding"]
    if sys.argv[4:] == ["all"]:
        wanted += ["Stack protected", "Fortify Source functions"]
    for what in wanted:
        check(f"hardening: {what}", re.search(rf"{what}: yes", said), said)


CASES = {"model": model, "secrets": secrets, "sbom": sbom, "hardening": hardening}
CASES[CASE]()
sys.exit(1 if failures else 0)
