#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scenarios.py [--write] [root] - whether docs/scenarios.md tells what the tests show.

A test that shows a scenario carries its id (R27, P3) in a name or a comment.  The tables have
one row for each of R1 to R118 (ordered shards) and P1 to P33 (leader-follower):

    | R27 | what happens and what must hold | covered | tests/unit/... |
    | R42 | ...                             | none    | why it cannot apply |

The states: covered (every file that is named has the id), open (nobody has written the test,
or none carries the id), later (sennit does not have the feature yet), none (cannot apply).
An id that a test carries must be covered.  --write brings the table in line with the tests;
what loses its last test becomes open, and the reason is then for a person to write.
"""
import pathlib
import re
import sys

LAST = {"R": 118, "P": 33}
IDS = [f"{letter}{n}" for letter, last in LAST.items() for n in range(1, last + 1)]
ID = re.compile(r"(?<![A-Za-z0-9])([RP][1-9][0-9]{0,2})(?![A-Za-z0-9])")
ROW = re.compile(r"^\| ([RP]\d+) \| (.+?) \| (\w+) \| (.*?) \|$")
STATES = ("covered", "open", "later", "none")
FOLDERS = ("tests", "src/sim")
KINDS = {".c", ".h", ".py", ".js", ".txt"}
NO_TEST = "no test carries the id"


def ids_in_tests(root):
    found = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in KINDS or "node_modules" in path.parts:
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            for number in {m[1] for m in ID.finditer(text)}.intersection(IDS):
                name = path.relative_to(root).as_posix()
                found.setdefault(number, []).append(name)
    return found


def rows_of(lines, where):
    rows = {}
    wrong = []
    for at, line in enumerate(lines):
        m = ROW.match(line)
        if m is None:
            if re.match(r"^\|\s*[RP]\d", line):
                wrong.append(f"{where}:{at + 1}: not a row: {line}")
            continue
        number = m[1]
        if number in rows:
            wrong.append(f"{where}:{at + 1}: {number} has two rows")
        rows[number] = (at, m[2], m[3], m[4])
    return rows, wrong


def files_text(files):
    return ", ".join(f"`{f}`" for f in files)


def judge(rows, found):
    wrong = [f"{n} is not in the table" for n in IDS if n not in rows]
    for number, (_, _, state, rest) in rows.items():
        if state not in STATES:
            wrong.append(f"{number}: '{state}' is none of {', '.join(STATES)}")
        elif state == "covered":
            named = re.findall(r"`([^`]+)`", rest)
            if not named:
                wrong.append(f"{number} is covered, but no test is named")
            wrong += [f"{number}: {f} does not carry the id" for f in named
                      if f not in found.get(number, [])]
        elif number in found:
            wrong.append(f"{number} is {state}, but {files_text(found[number])} carries it")
        elif not rest.strip():
            wrong.append(f"{number} is {state} without a reason")
        if number not in IDS:
            wrong.append(f"{number}: there is no such scenario")
    return wrong


def brought_in_line(lines, rows, found):
    out = list(lines)
    for number, (at, what, state, rest) in rows.items():
        if number in found:
            state, rest = "covered", files_text(found[number])
        elif state == "covered":
            state, rest = "open", NO_TEST
        out[at] = f"| {number} | {what} | {state} | {rest} |"
    return out


def main():
    args = [a for a in sys.argv[1:] if a != "--write"]
    root = pathlib.Path(args[0] if args else pathlib.Path(__file__).resolve().parent.parent)
    path = root / "docs" / "scenarios.md"
    lines = path.read_text(encoding="utf-8").splitlines()
    found = ids_in_tests(root)
    rows, wrong = rows_of(lines, path.name)
    if "--write" in sys.argv and not wrong:
        lines = brought_in_line(lines, rows, found)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        rows, wrong = rows_of(lines, path.name)
    wrong += judge(rows, found)
    for line in wrong:
        print(line)
    if wrong:
        print("scenarios.py --write brings the table in line with the tests")
        return 1
    states = [state for _, _, state, _ in rows.values()]
    print(", ".join(f"{states.count(s)} {s}" for s in STATES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
