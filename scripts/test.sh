#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test.sh [--long] [PHASE...] - everything that is checked before a change goes in, or only the
# phases named.  A phase that fails does not stop the next ones, and one that finds nothing to
# look at has failed.  The last line is "N passed, N failed" over all phases.
#
#   --long   what takes hours: 10,000 seeds in the simulator, 600 s for each fuzz target,
#            system tests that are marked long
set -uo pipefail
cd "$(dirname "$0")/.."

every_phase=(deps release clang tsan format rules unit sanitized fuzz threads simulator system
    tidy)

usage() {
    echo "usage: $0 [--long] [PHASE...]; the phases: ${every_phase[*]}" >&2
    exit 2
}

long=no
if [ "${1:-}" = --long ]; then
    long=yes
    shift
fi
for name; do
    [[ " ${every_phase[*]} " == *" $name "* ]] || usage
done
phases=("$@")
[ $# -gt 0 ] || phases=("${every_phase[@]}")

tidy_seconds=1200
fuzz_seconds=${SENNIT_FUZZ_SECONDS:-20}
fuzz_seed=1 # the same course each time; --long draws its own
sim_seconds=900
sim_options=(--ci)
system_seconds=1500
if [ $long = yes ]; then
    fuzz_seconds=${SENNIT_FUZZ_SECONDS:-600}
    fuzz_seed=0
    sim_seconds=14400
    sim_options=(--long)
    system_seconds=7200
    export SENNIT_LONG=1
fi

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

# nothing WHAT: there is nothing to check, which is a failure.
nothing() {
    echo "FAILED: there is no $1"
    count 0 1
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
    find src tests bench tools -name '*.[ch]' -not -path '*/node_modules/*' -print0 2>/dev/null
}

build_without_warning() {
    scripts/build.sh "$1" >"$work/build" 2>&1
    local status=$?
    cat "$work/build"
    ! grep -q 'warning:' "$work/build" && [ $status -eq 0 ]
}

build() {
    expect "builds without a warning" build_without_warning "$1"
}

# Names the files; clang-format itself would tell of each place.
check_format() {
    sources | xargs -0 clang-format --dry-run 2>&1 |
        awk -F: '/^[^ ]+:[0-9]+:[0-9]+: / && !seen[$1]++ { n++; print $1 ", from line " $2 }
            END { exit n > 0 }'
}

run_rules() {
    expect "nothing below the line does I/O or holds state" tools/purity.sh
    expect "modules include downward only" tools/floors.py
    expect "the lists of commands are as their table makes them" tools/commands_check.sh build
    expect "the list of scenarios tells what the tests show" tools/scenarios.py
}

# The system tests mostly wait: two files of them run side by side, and clang-tidy, which only
# computes, beside both.
tidy_job=
begin_tidy() {
    [ -e build-clang/compile_commands.json ] || return
    mkdir "$work/tidy"
    # shellcheck disable=SC2016
    find src -name '*.c' -print0 | work=$work/tidy timeout "$tidy_seconds" nice -n 19 \
        xargs -0 -r -P 2 -n 1 bash -c 'out=$work/${1//\//_}
            if clang-tidy --quiet -p build-clang "$1" >"$out.log" 2>/dev/null; then
                touch "$out.ok"
            elif grep -qE "(warning|error):" "$out.log"; then
                touch "$out.bad"
            fi' tidy &
    tidy_job=$!
}

# A file that was not looked at, for want of time or of a compile command, has failed.
run_tidy() {
    if [ ! -e build-clang/compile_commands.json ]; then
        nothing "clang build to look at"
        return
    fi
    [ -n "$tidy_job" ] || begin_tidy
    wait "$tidy_job"
    local all good
    all=$(find src -name '*.c' | wc -l)
    good=$(find "$work/tidy" -name '*.ok' | wc -l)
    find "$work/tidy" -name '*.bad' | while read -r file; do
        grep -vE '^(Suppressed|Use -)' "${file%.bad}.log" | head -n 40
    done
    count "$good" $((all - good))
}

run_unit() {
    if [ ! -e "$1/build.ninja" ]; then
        nothing "build tree $1"
        return
    fi
    meson test -C "$1" --suite unit --no-rebuild --print-errorlogs >"$log" 2>&1
    local status=$? good bad
    good=$(awk '$1 == "Ok:" { print $2 }' "$log")
    bad=$(awk '$1 == "Fail:" || $1 == "Timeout:" || ($1 == "Unexpected" && $2 == "Pass:") {
        sum += $NF } END { print sum + 0 }' "$log")
    if [ "${good:-0}" -eq 0 ] || { [ $status -ne 0 ] && [ "$bad" -eq 0 ]; }; then
        bad=1
    fi
    [ "$bad" -eq 0 ] || tail -n 100 "$log"
    count "${good:-0}" "$bad"
}

run_simulator() {
    if [ ! -x build/sennit-sim ]; then
        nothing build/sennit-sim
        return
    fi
    timeout "$sim_seconds" build/sennit-sim "${sim_options[@]}" >"$log" 2>&1
    local status=$? last good bad
    last=$(tail -n 1 "$log")
    good=$(number "$last" passed)
    bad=$(number "$last" failed)
    if [ "$bad" -eq 0 ] && { [ $status -ne 0 ] || [ "$good" -eq 0 ]; }; then
        bad=1
    fi
    if [ "$bad" -eq 0 ]; then tail -n 40 "$log"; else tail -n 100 "$log"; fi
    count "$good" "$bad"
}

# On a copy of the corpus, so that a run changes nothing in the tree.  What broke a target
# stays in build-clang/found/.
fuzz_one() {
    local target=$1 seconds=$2 seed=$3 name corpus
    name=$(basename "$target")
    name=${name#fuzz_}
    corpus=$work/corpus/$name
    mkdir -p "$corpus" "build-clang/found"
    [ ! -d "tests/fuzz/corpus/$name" ] || cp -r "tests/fuzz/corpus/$name/." "$corpus/"
    if "$target" -seed="$seed" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -verbosity=0 \
        -artifact_prefix="build-clang/found/$name-" "$corpus" >"$work/fuzz-$name" 2>&1; then
        echo "ok    $name"
    else
        tail -n 60 "$work/fuzz-$name"
        echo "FAILED $name"
    fi
}

run_fuzzers() {
    echo "$fuzz_seconds s for each target"
    if ! find build-clang/tests/fuzz -maxdepth 1 -name 'fuzz_*' -type f -executable -print0 \
        >"$work/targets" 2>/dev/null || [ ! -s "$work/targets" ]; then
        nothing "fuzz target"
        return
    fi
    export -f fuzz_one
    work=$work xargs -0 -P 2 -I{} bash -c 'fuzz_one "$1" "$2" "$3"' fuzz {} "$fuzz_seconds" "$fuzz_seed" \
        <"$work/targets" >"$log" 2>&1
    cat "$log"
    local all good
    all=$(tr -cd '\0' <"$work/targets" | wc -c)
    good=$(grep -c '^ok ' "$log")
    count "$good" $((all - good))
}

# Three servers with the thread sanitizer under load; what it finds ends a server at once.
load_under_tsan() {
    local port=$((12000 + RANDOM % 9000)) dir=$work/threads up i status
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
    build-tsan/sennit up --nodes 3 --dir "$dir" --port "$port" &
    up=$!
    for ((i = 0; i < 300; i++)); do
        redis-cli -p $((port + 2)) SET ready yes 2>/dev/null | grep -qx OK && break
        sleep 0.1
    done
    status=0
    for i in 0 1 2; do
        redis-benchmark -p $((port + i)) -t set,get,incr,mset -n 8000 -r 10000 -c 20 -P 8 -q ||
            status=1
        redis-cli -p $((port + i)) SET ready "$i" | grep -x OK || status=1
    done
    kill -INT $up
    wait $up || status=1
    if grep -l ThreadSanitizer "$dir"/*.log; then
        grep -h -A 60 -m 1 ThreadSanitizer "$dir"/*.log
        status=1
    fi
    return $status
}

run_threads() {
    if [ ! -x build-tsan/sennit ]; then
        nothing build-tsan/sennit
        return
    fi
    expect "no data race in three servers under load" load_under_tsan
}

run_system() {
    if ! find tests/system -name 'test_*.py' 2>/dev/null | grep -q .; then
        nothing "system test"
        return
    fi
    expect "npm ci" npm ci --prefix tests/system --no-audit --no-fund --silent
    system_tests -n 2 --dist loadfile
    local status=$? last good bad again
    last=$(grep -E '(passed|failed|error)s?.* in [0-9.]+s' "$log" | tail -n 1)
    good=$(number "$last" passed)
    bad=$(($(number "$last" failed) + $(number "$last" error)))
    if [ "$bad" -eq 0 ] && { [ $status -ne 0 ] || [ "$good" -eq 0 ]; }; then
        bad=1
    elif [ "$bad" -gt 0 ]; then
        # Real processes on a busy machine: what fails is tried once more, and told either way.
        tail -n 300 "$log"
        grep -E '^(FAILED|ERROR) ' "$log" | sed 's/^/again: /'
        system_tests --last-failed
        status=$?
        last=$(grep -E '(passed|failed|error)s?.* in [0-9.]+s' "$log" | tail -n 1)
        again=$(number "$last" passed)
        bad=$(($(number "$last" failed) + $(number "$last" error)))
        if [ "$bad" -eq 0 ] && [ $status -ne 0 ]; then bad=1; fi
        good=$((good + again))
    fi
    if [ "$bad" -eq 0 ]; then tail -n 15 "$log"; else tail -n 300 "$log"; fi
    count "$good" "$bad"
}

system_tests() {
    timeout -s INT -k 60 "$system_seconds" /usr/bin/python3 -m pytest tests/system -q \
        -o cache_dir="$work/pytest" --tb=short --durations=10 "$@" >"$log" 2>&1
}

run_phase() {
    case "$1" in
    deps)
        phase "dependencies"
        expect "all packages are there" scripts/deps.sh all
        ;;
    release | clang | tsan)
        phase "build: $1"
        build "$1"
        ;;
    format)
        phase "format"
        expect "every source is as clang-format writes it" check_format
        ;;
    rules)
        phase "rules of the tree"
        run_rules
        ;;
    tidy)
        phase "clang-tidy"
        run_tidy
        ;;
    unit)
        phase "unit tests"
        run_unit build
        ;;
    sanitized)
        phase "unit tests with address and undefined sanitizers"
        run_unit build-clang
        ;;
    fuzz)
        phase "fuzzers"
        run_fuzzers
        ;;
    threads)
        phase "thread sanitizer"
        run_threads
        ;;
    simulator)
        phase "simulator"
        run_simulator
        ;;
    system)
        phase "system tests"
        [[ " ${phases[*]} " != *" tidy "* ]] || begin_tidy
        run_system
        ;;
    esac
}

for name in "${phases[@]}"; do
    began=$SECONDS
    run_phase "$name"
    echo "---- $((SECONDS - began)) s"
done

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
