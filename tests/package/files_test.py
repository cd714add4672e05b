#!/usr/bin/env python3
"""What the package ships and the manuals say must be what the program does: files_test.py MUSTER SOURCE"""

import pathlib
import re
import subprocess
import sys
import tempfile

MUSTER, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
PACKAGE = SOURCE / "deploy/package"
failures = 0


def check(what, holds, detail=""):
    global failures
    print(("ok      " if holds else "FAILED  ") + what + ("" if holds else f"\n  {detail}"))
    failures += not holds


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


def keys_of_manual():
    table = (SOURCE / "docs/configuration.md").read_text()
    reference = run(MUSTER, "check-config", "--reference").stdout
    check("configuration.md: its table is what check-config --reference prints", len(reference) > 1000 and reference in table)
    return set(re.findall(r"^\| `([^`]+)` \|", reference, re.M))


def keys_of_sample(text):
    keys, section = set(), ""
    for line in text.splitlines():
        if found := re.match(r"#?\[([a-z.]+)\]", line):
            section = found[1]
            keys.add(section)
        elif found := re.match(r"#?([a-z_0-9]+) = ", line):
            keys.add(f"{section}.{found[1]}")
    return keys


def configuration():
    sample = (PACKAGE / "muster.toml").read_text()
    manual = keys_of_manual()
    got = keys_of_sample(sample)
    check("muster.toml: shows every key of docs/configuration.md", not manual - got, f"missing: {sorted(manual - got)}")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "muster.toml")
        path.write_text(sample)
        done = run(MUSTER, "check-config", str(path))
        check("muster.toml: is good as it is shipped", done.returncode == 0, done.stderr)
        # All that is commented out, but for what names files that are not there or excludes another key.
        lines = [re.sub(r"^#(?=\[?[a-z_\"]+(\]| = |\.))", "", line) for line in sample.splitlines() if not re.match(r"#(\w+_file|(agent_)?username) =", line)]
        text = "\n".join(lines).replace("insecure = false", "insecure = true")
        text = text.replace('source = "master"', 'source = "agent"')  # which `agent` goes with
        state = pathlib.Path(folder, "state")
        state.mkdir()
        path.write_text(re.sub(r'^directory = .*', f'directory = "{state}"', text, flags=re.M))
        done = run(MUSTER, "check-config", str(path))
        check("muster.toml: its defaults are values that the program takes", done.returncode == 0, done.stderr)
        # Run by root, it would leave what the daemon's user cannot read.
        check("check-config: writes nothing", not list(state.iterdir()), str(list(state.iterdir())))


def commands():
    text = run(MUSTER, "--help").stdout
    listed = re.findall(r"^  ([a-z-]+) +\S", text[text.index("Subcommands:"):], re.M)
    check("muster --help lists commands", len(listed) > 10, text)
    for name in ("muster.1", "completion.bash", "completion.zsh", "completion.fish"):
        content = (PACKAGE / name).read_text().replace("\\-", "-")
        missing = [command for command in listed if not re.search(rf"\b{command}\b", content)]
        check(f"{name}: has every command", not missing, f"missing: {missing}")


def unit():
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=20", str(PACKAGE / "muster.service"))
    if done.returncode == 127:
        return
    check("muster.service: exposure is at most 2.0", done.returncode == 0, done.stdout[-300:])
    done = run("systemd-analyze", "verify", str(PACKAGE / "muster.service"))
    said = [line for line in (done.stdout + done.stderr).splitlines() if "muster" in line and "not executable" not in line and "'man " not in line]
    check("muster.service: systemd-analyze verify has nothing to say", not said, said)


def helper_unit():
    path = PACKAGE / "muster-netns.service"
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=20", str(path))
    check("muster-netns.service: exposure is at most 2.0", done.returncode == 0, done.stdout[-300:])
    text = path.read_text()
    check("muster-netns.service: holds two capabilities and no more", "\nCapabilityBoundingSet=CAP_SYS_ADMIN CAP_NET_ADMIN\n" in text and "Ambient" not in text)
    folders = re.search(r"^ExecStart=/usr/libexec/muster-netns (.*)$", text, re.M)[1].split()
    default = re.search(r"^\| `lb.namespace_folders` \| `\[(.*?)\]` \|", (SOURCE / "docs/configuration.md").read_text(), re.M)[1]
    check("muster-netns.service: has the folders that lb.namespace_folders has by default", [f'"{f}"' for f in folders] == default.split(", "), default)
    done = run("systemd-analyze", "verify", str(path), str(PACKAGE / "muster-netns.socket"))
    said = [line for line in (done.stdout + done.stderr).splitlines() if "muster" in line and "not executable" not in line and "'man " not in line]
    check("muster-netns: systemd-analyze verify has nothing to say", not said, said)
    socket = (PACKAGE / "muster-netns.socket").read_text()
    check("muster-netns.socket: is where the program looks for it, and the daemon's alone", 'ListenSequentialPacket=/run/muster-netns.sock' in socket and "SocketMode=0660" in socket and "SocketGroup=muster" in socket)


configuration()
commands()
try:
    unit()
    helper_unit()
except FileNotFoundError:
    print("        (systemd-analyze is not installed: the unit is not checked)")
sys.exit(1 if failures else 0)
