#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# commands_check.sh BUILD_DIR [--write] - docs/commands.md and src/data/command_index.inc
# must be what the table of commands makes them.  With --write they are made anew.
set -eu

build=${1:?usage: commands_check.sh BUILD_DIR [--write]}
root=$(cd "$(dirname "$0")/.." && pwd)
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

"$build/commands-md" > "$made/commands.md"
"$build/commands-md" --index > "$made/command_index.inc"

if [ "${2:-}" = --write ]; then
    cp "$made/commands.md" "$root/docs/commands.md"
    cp "$made/command_index.inc" "$root/src/data/command_index.inc"
    exit 0
fi

status=0
diff -u "$root/docs/commands.md" "$made/commands.md" || status=1
diff -u "$root/src/data/command_index.inc" "$made/command_index.inc" || status=1
if [ $status -ne 0 ]; then
    echo "out of date: run tools/commands_check.sh $build --write" >&2
fi
exit $status
