#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# build.sh [release|asan|tsan|clang] - configure (once) and build one of the build trees.
#
#   release  build/        what is shipped: -O2 -g
#   asan     build-asan/   address and undefined sanitizers, slow checks
#   tsan     build-tsan/   thread sanitizer; the server only
#   clang    build-clang/  by the second compiler: as asan, and the fuzz targets
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-release}
dir=build-$kind
cc=gcc
options=()
targets=()
case "$kind" in
release)
    dir=build
    ;;
asan)
    options=(-Db_sanitize=address,undefined -Dslow_checks=true -Doptimization=1)
    ;;
tsan)
    options=(-Db_sanitize=thread -Doptimization=1)
    targets=(sennit)
    ;;
clang)
    cc=clang
    # -fsanitize=fuzzer itself is for linking the targets only; the rest is instrumented.
    options=(-Db_sanitize=address,undefined -Db_lundef=false -Dslow_checks=true
        -Doptimization=1 -Dfuzzers=true "-Dc_args=-fsanitize=fuzzer-no-link")
    ;;
*)
    echo "usage: $0 [release|asan|tsan|clang]" >&2
    exit 2
    ;;
esac

if [ ! -e "$dir/build.ninja" ]; then
    rm -rf "$dir"
    log=$(mktemp)
    if ! CC=$cc meson setup "$dir" "${options[@]}" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
fi
exec ninja -C "$dir" ${SENNIT_JOBS:+-j "$SENNIT_JOBS"} ${targets[@]+"${targets[@]}"}
