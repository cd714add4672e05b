#!/usr/bin/env python3
"""Fails if an #include points the wrong way, or a core reaches for the outside world.

The rule (ARCHITECTURE.md, "Layers"):

    base <- <feature>/core <- <feature>/io <- daemon      base <- base/io <- metrics <- */io

Features never include each other. daemon/, cli/, dev/ and
tests/ may include anything.
"""

import pathlib
import re
import sys

FEATURES = {"mesos", "gossip", "cluster", "lb", "dns"}
CHECKED = FEATURES | {"base", "metrics"}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')
NOT_IN_CORE = re.compile(
    r"^(boost/(asio|beast)|thread|mutex|shared_mutex|atomic|future|condition_variable|iostream|"
    r"sys/|linux/|netinet/|arpa/|unistd\.h|ares\.h|prometheus/|libipset/|libmnl/|spdlog/|fstream)"
)
NOT_DETERMINISTIC = re.compile(r"\b(Clock|steady_clock|system_clock)::now\b|\brand\(|random_device")


def part_of(path: str) -> tuple[str, str]:
    """('dns', 'core') for dns/core/name.hpp; ('base', 'core') for base/id.hpp, which is as pure."""
    folder, _, rest = path.partition("/")
    return folder, "io" if rest.startswith("io/") or folder == "metrics" else "core"


def allowed(source: tuple[str, str], target: tuple[str, str]) -> bool:
    if target[1] == "io" and source[1] == "core":
        return False
    if target[0] == "base" or target[0] == source[0]:
        return True
    return target[0] == "metrics" and source[0] in FEATURES


def complaints(root: pathlib.Path, file: pathlib.Path):
    name = file.relative_to(root).as_posix()
    source = part_of(name)
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        where = f"{name}:{number}"
        found = INCLUDE.match(line)
        if found and found[1] == '"':
            if not allowed(source, part_of(found[2])):
                yield f"{where}: {'/'.join(source)} may not include {found[2]}"
        elif source[1] == "core":
            if found and NOT_IN_CORE.match(found[2]):
                yield f"{where}: core is sans-io; {found[2]} belongs in io/"
            elif NOT_DETERMINISTIC.search(line.split("//")[0]):
                yield f"{where}: core is deterministic; take `now` or an Rng as a parameter"


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    files = [f for folder in sorted(CHECKED) for f in sorted((root / folder).rglob("*.[ch]pp"))]
    problems = [problem for file in files for problem in complaints(root, file)]
    print("\n".join(problems) or f"layers: {len(files)} files, every include points the right way")
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
