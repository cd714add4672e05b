#!/usr/bin/env python3
"""Makes muster.toml(5) from the table of keys in docs/configuration.md: manual.py FILE >muster.toml.5"""

import pathlib
import re
import sys

HEAD = """.TH MUSTER.TOML 5 "" "muster" "File Formats"
.SH NAME
muster.toml \\- configuration of the muster daemon
.SH SYNOPSIS
.I /etc/muster/muster.toml
.SH DESCRIPTION
TOML. A mistake costs one line with the file, the line, the key and what was expected, and exit
status 2, before any socket is opened; a key that is not known is a mistake.
Changes take effect at the next start; a restart interrupts no connection.
.PP
The least that works:
.PP
.EX
[mesos]
masters = ["http://10.0.0.1:5050", "http://10.0.0.2:5050"]
.EE
.SH KEYS"""


def roff(markdown: str) -> str:
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "").replace("**", "")
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def main() -> int:
    rows = [line for line in pathlib.Path(sys.argv[1]).read_text().splitlines() if line.startswith("| `")]
    if not rows:
        print("manual.py: no table of keys", file=sys.stderr)
        return 1
    print(HEAD)
    for row in rows:
        key, default, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))[:3])
        print(f".TP\n.B {roff(key)}")
        if meaning:
            print(roff(meaning[0].upper() + meaning[1:]) + ".")
        print(f"Default: {roff(default)}." if default else "")
    print(".SH SEE ALSO\n.BR muster (1)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
