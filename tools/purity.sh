#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# purity.sh [build-dir] - the floors below the line do no I/O and keep no state of their own:
# every symbol that their archive takes from outside is in purity.allow, and it holds no
# writable global.  Made for the release build; sanitizers bring symbols of their own.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
archive=${1:-$root/build}/src/libsennit_core.a
allow=$root/tools/purity.allow

if [ ! -e "$archive" ]; then
    echo "purity: $archive is not built; run scripts/build.sh first" >&2
    exit 1
fi

# Meson makes thin archives, which nm reads through the objects they name.  The sysv form has
# the section of each symbol: "archive:object:name |value|class|type|size|line|section".
symbols=$(mktemp)
trap 'rm -f "$symbols"' EXIT
nm -A -f sysv "$archive" | sed -nE 's/ *\| */|/gp' >"$symbols"
if ! grep -q . "$symbols"; then
    echo "purity: nm found no symbol in $archive" >&2
    exit 1
fi

foreign=$(awk -F '|' '
    FILENAME == ARGV[1] { if ($0 !~ /^#/ && $0 != "") allowed[$1] = 1; next }
    { n = split($1, part, ":"); name = part[n]; gsub(/ /, "", name); gsub(/ /, "", $3) }
    $3 == "U" || $3 == "w" { if (!(name in user)) user[name] = part[n - 1]; next }
    { defined[name] = 1 }
    END {
        for (name in user)
            if (!(name in defined) && !(name in allowed))
                printf "  %s  (in %s)\n", name, user[name]
    }' "$allow" "$symbols" | sort)

# A constant table of pointers is filled in by the loader and then sealed (.data.rel.ro): it
# is not writable, although nm gives it the letter of data.
writable=$(awk -F '|' '
    { n = split($1, part, ":"); gsub(/ /, "", $3) }
    $3 ~ /^[DdBbCGgSs]$/ && $NF !~ /^\.data\.rel\.ro/ {
        printf "  %s  (in %s, section %s)\n", part[n], part[n - 1], $NF
    }' "$symbols" | sort)

status=0
if [ -n "$foreign" ]; then
    printf 'purity: symbols from outside that tools/purity.allow does not list:\n%s\n' "$foreign"
    echo "  mend: let the world do it and hand in the result with an event, or take memory from"
    echo "  struct mem; only a function without any state or effect may be added to the list."
    status=1
fi
if [ -n "$writable" ]; then
    printf 'purity: writable globals below the line:\n%s\n' "$writable"
    echo "  mend: make it const (also the pointers in a table: 'const char *const x[]'), or move"
    echo "  it into the struct of the core that uses it."
    status=1
fi
exit $status
