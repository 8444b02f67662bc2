#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""floors.py [root] - who may include whom.

A module of src/ includes only itself, modules on lower floors, and those on its own floor
that tools/floors.allow names.  A header x_state.h, which holds the inside of a core, is for
its own folder, the tests and the simulator only.
"""
import pathlib
import re
import sys

FLOORS = [
    {"base"},
    {"wire", "resp", "crdt", "data", "store"},
    {"wal", "raft", "causal", "paxos"},
    {"shard", "meta", "txn"},
    {"server"},
    {"host", "sim"},
    {"cli", "main.c"},
]
FLOOR = {module: number for number, modules in enumerate(FLOORS) for module in modules}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
# Below the line not even the declarations of what does I/O or keeps time are wanted.  Of
# errno.h it is the numbers, which the world reports with an op; purity.sh sees to the rest.
LINE = 5
PURE_SYSTEM = {
    "assert.h", "errno.h", "inttypes.h", "limits.h", "math.h", "float.h", "stdalign.h",
    "stdarg.h", "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "string.h",
    "xxhash.h",
}


def allowed_pairs(path):
    pairs = set()
    for line in path.read_text().splitlines():
        words = line.split("#")[0].split()
        if len(words) == 2:
            pairs.add(tuple(words))
        elif words:
            sys.exit(f"{path}: not a pair: {line}")
    return pairs


def includes(path):
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match[1] == "<", match[2]


def why_not_system(module, target):
    if FLOOR[module] < LINE and target not in PURE_SYSTEM:
        return f"<{target}> is not for F{FLOOR[module]}; let the world above the line do it"
    return None


def why_not(module, target, pairs, folders):
    """The reason why a file of src/<module> may not include target, or None."""
    parts = pathlib.PurePosixPath(target).parts
    if len(parts) < 2 or ".." in parts:
        return f'name it from src/, as in "{module}/{parts[-1]}"'
    other = parts[0]
    if other not in folders:
        return f"there is no module {other}; add it to FLOORS in tools/floors.py"
    if target.endswith("_state.h") and other != module and module != "sim":
        return f"{target} is the inside of {other}; use its interface"
    if other == module or FLOOR[other] < FLOOR[module] or (module, other) in pairs:
        return None
    if FLOOR[other] == FLOOR[module]:
        return (f"{module} and {other} share floor F{FLOOR[module]}; pass a table of "
                f"functions in, move the common part down, or add '{module} {other}' to "
                "tools/floors.allow")
    return (f"{module} (F{FLOOR[module]}) must not know {other} (F{FLOOR[other]}); turn the "
            "call around or move the part down")


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__ + "/../..").resolve()
    source = root / "src"
    pairs = allowed_pairs(root / "tools" / "floors.allow")
    wrong = []
    files = 0
    for path in sorted(source.rglob("*")):
        if path.suffix not in (".c", ".h", ".def") or not path.is_file():
            continue
        files += 1
        where = path.relative_to(source)
        module = where.parts[0]
        if module not in FLOOR:
            wrong.append(f"src/{where}: {module} has no floor; add it in tools/floors.py")
            continue
        for number, system, target in includes(path):
            if system:
                reason = why_not_system(module, target)
            else:
                reason = why_not(module, target, pairs, FLOOR)
            if reason:
                wrong.append(f"src/{where}:{number}: includes {target}: {reason}")
    for line in wrong:
        print(line)
    if files == 0:
        print(f"floors: no source found under {source}")
    return 1 if wrong or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
