#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test.sh [--long] - everything that is checked before a change goes in.  A phase that fails
# does not stop the next ones.  The last line is "N passed, N failed" over all phases.
#
#   --long   fuzz each target for 600 s instead of 20 s
set -uo pipefail
cd "$(dirname "$0")/.."

fuzz_seconds=20
case "${1:-}" in
'') ;;
--long) fuzz_seconds=600 ;;
*)
    echo "usage: $0 [--long]" >&2
    exit 2
    ;;
esac

tidy_seconds=240
system_seconds=1800
sim_seconds=3600

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
passed=0
failed=0

export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1
export UBSAN_OPTIONS=halt_on_error=1:abort_on_error=1:print_stacktrace=1

phase() {
    printf '\n==== %s\n' "$1"
}

# count PASSED FAILED: the result of a phase.
count() {
    passed=$((passed + $1))
    failed=$((failed + $2))
    printf -- '---- %d passed, %d failed\n' "$1" "$2"
}

# expect WHAT COMMAND...: one check that passes if the command succeeds; else its output is shown.
expect() {
    local what=$1
    shift
    if "$@" >"$log" 2>&1; then
        echo "ok    $what"
        count 1 0
    else
        tail -n 100 "$log"
        echo "FAILED $what"
        count 0 1
        return 1
    fi
}

# number TEXT WORD: the number before the word in a summary such as "3 failed, 20 passed".
number() {
    grep -oE "[0-9]+ $2" <<<"$1" | head -n 1 | grep -oE '^[0-9]+' || echo 0
}

sources() {
    find "$@" -name '*.[ch]' -not -path '*/node_modules/*' -print0 2>/dev/null
}

build_without_warning() {
    scripts/build.sh "$1" >"$work/build" 2>&1
    local status=$?
    cat "$work/build"
    ! grep -q 'warning:' "$work/build" && [ $status -eq 0 ]
}

build() {
    phase "build: $1"
    expect "builds without a warning" build_without_warning "$1"
}

check_format() {
    sources src tests bench | xargs -0 -r clang-format --dry-run -Werror
}

# A finding is a failure; running out of time is not, but is told.
run_tidy() {
    phase "clang-tidy"
    if [ ! -e build-clang/compile_commands.json ]; then
        echo "no clang build to look at"
        count 0 1
        return
    fi
    mkdir "$work/tidy"
    # shellcheck disable=SC2016
    find src -name '*.c' -print0 | work=$work/tidy timeout "$tidy_seconds" xargs -0 -r -P 2 -n 1 \
        bash -c 'out=$work/${1//\//_}
            if clang-tidy --quiet -p build-clang "$1" >"$out.log" 2>/dev/null; then
                touch "$out.ok"
            elif grep -qE "(warning|error):" "$out.log"; then
                touch "$out.bad"
            fi' tidy
    local all good bad
    all=$(find src -name '*.c' | wc -l)
    good=$(find "$work/tidy" -name '*.ok' | wc -l)
    bad=$(find "$work/tidy" -name '*.bad' | wc -l)
    [ "$bad" -eq 0 ] || find "$work/tidy" -name '*.bad' | while read -r file; do
        grep -vE '^(Suppressed|Use -)' "${file%.bad}.log" | head -n 40
    done
    [ $((good + bad)) -eq "$all" ] ||
        echo "looked at $((good + bad)) of $all files in $tidy_seconds s"
    count "$good" "$bad"
}

run_unit() {
    phase "unit tests: $1"
    if [ ! -e "$1/build.ninja" ]; then
        echo "$1 is not built"
        count 0 1
        return
    fi
    meson test -C "$1" --suite unit --no-rebuild --print-errorlogs >"$log" 2>&1
    local status=$? good bad
    good=$(awk '$1 == "Ok:" { print $2 }' "$log")
    bad=$(awk '$1 == "Fail:" || $1 == "Timeout:" || ($1 == "Unexpected" && $2 == "Pass:") {
        sum += $NF } END { print sum + 0 }' "$log")
    if [ -z "$good" ] || { [ $status -ne 0 ] && [ "$bad" -eq 0 ]; }; then
        bad=1
    fi
    [ "$bad" -eq 0 ] || tail -n 100 "$log"
    count "${good:-0}" "$bad"
}

run_simulator() {
    phase "simulator"
    if [ ! -x build/sennit-sim ]; then
        echo "there is no build/sennit-sim"
        count 0 0
        return
    fi
    timeout "$sim_seconds" build/sennit-sim --ci >"$log" 2>&1
    local status=$? last good bad
    last=$(tail -n 1 "$log")
    good=$(number "$last" passed)
    bad=$(number "$last" failed)
    if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    if [ "$bad" -eq 0 ]; then tail -n 15 "$log"; else tail -n 100 "$log"; fi
    count "$good" "$bad"
}

# On a copy of the corpus, so that a run changes nothing in the tree.  What broke a target
# stays in build-fuzz/found/.
fuzz_one() {
    local target=$1 seconds=$2 name corpus
    name=$(basename "$target")
    name=${name#fuzz_}
    corpus=$work/corpus/$name
    mkdir -p "$corpus" "build-fuzz/found"
    [ ! -d "tests/fuzz/corpus/$name" ] || cp -r "tests/fuzz/corpus/$name/." "$corpus/"
    if "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -verbosity=0 \
        -artifact_prefix="build-fuzz/found/$name-" "$corpus" >"$work/fuzz-$name" 2>&1; then
        echo "ok    $name"
    else
        tail -n 60 "$work/fuzz-$name"
        echo "FAILED $name"
    fi
}

run_fuzzers() {
    phase "fuzzers, $fuzz_seconds s each"
    if ! find build-fuzz/tests/fuzz -maxdepth 1 -name 'fuzz_*' -type f -executable -print0 \
        >"$work/targets" 2>/dev/null || [ ! -s "$work/targets" ]; then
        echo "there are no fuzz targets"
        count 0 0
        return
    fi
    export -f fuzz_one
    work=$work xargs -0 -P 2 -I{} bash -c 'fuzz_one "$1" "$2"' fuzz {} "$fuzz_seconds" \
        <"$work/targets" >"$log" 2>&1
    cat "$log"
    local all good
    all=$(tr -cd '\0' <"$work/targets" | wc -c)
    good=$(grep -c '^ok ' "$log")
    count "$good" $((all - good))
}

run_system() {
    phase "system tests"
    if ! find tests/system -name 'test_*.py' | grep -q .; then
        echo "there are no system tests"
        count 0 0
        return
    fi
    if [ -e tests/system/package.json ]; then
        local how=install
        [ ! -e tests/system/package-lock.json ] || how=ci
        expect "npm $how" npm "$how" --prefix tests/system --no-audit --no-fund --silent
    fi
    timeout "$system_seconds" /usr/bin/python3 -m pytest tests/system -q \
        -p no:cacheprovider >"$log" 2>&1
    local status=$? last good bad
    last=$(grep -E '(passed|failed|error)s?.* in [0-9.]+s' "$log" | tail -n 1)
    good=$(number "$last" passed)
    bad=$(($(number "$last" failed) + $(number "$last" error)))
    if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    if [ "$bad" -eq 0 ]; then tail -n 5 "$log"; else tail -n 200 "$log"; fi
    count "$good" "$bad"
}

phase "dependencies"
expect "all packages are there" scripts/deps.sh all

build release
build asan
build clang
build fuzz

phase "format"
expect "every source is as clang-format writes it" check_format

phase "purity"
expect "nothing below the line does I/O or holds state" tools/purity.sh

phase "floors"
expect "modules include downward only" tools/floors.py

run_tidy
run_unit build
run_unit build-asan
run_simulator
run_fuzzers
run_system

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
