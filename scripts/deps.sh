#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# deps.sh - the one list of the Debian 12 packages that sennit needs, and their installation.
#
#   deps.sh [build|test|all]          install what is missing (default: all)
#   deps.sh --list [build|test|all]   print the list and do nothing
set -euo pipefail

build_packages=(
    gcc libc6-dev meson ninja-build pkg-config
    libuv1-dev liblmdb-dev libxxhash-dev libssl-dev libcmocka-dev
    redis-tools
)
test_packages=(
    clang clang-tidy clang-format libclang-rt-14-dev
    redis-server
    python3 python3-pytest python3-pytest-xdist python3-redis
    nodejs npm
    iproute2 iptables procps
)

usage() {
    echo "usage: $0 [--list] [build|test|all]" >&2
    exit 2
}

list_only=no
if [ "${1:-}" = --list ]; then
    list_only=yes
    shift
fi
case "${1:-all}" in
build) wanted=("${build_packages[@]}") ;;
test) wanted=("${test_packages[@]}") ;;
all) wanted=("${build_packages[@]}" "${test_packages[@]}") ;;
*) usage ;;
esac
[ $# -le 1 ] || usage

if [ "$list_only" = yes ]; then
    printf '%s\n' "${wanted[@]}"
    exit 0
fi

is_installed() {
    case "$1" in
    # Many install these two by other means than the package; any that runs will do.
    nodejs) command -v node >/dev/null && return 0 ;;
    npm) command -v npm >/dev/null && return 0 ;;
    esac
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

if ! command -v dpkg-query >/dev/null; then
    echo "deps.sh: this is not a Debian system; please provide the equivalents of:" >&2
    printf '  %s\n' "${wanted[@]}" >&2
    exit 1
fi

missing=()
for package in "${wanted[@]}"; do
    is_installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "deps.sh: these packages are missing, and installing them needs root:" >&2
        echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo -n)
fi

# An installed redis-server must not start: the tests start their own, on ports of their own.
# Debian asks policy-rc.d before it starts a service; 101 means no.  Someone's own policy stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

install_missing() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
}

# The index on the machine may be good already; only if it is not, fetch it, and once.
log=$(mktemp)
echo "deps.sh: installing ${missing[*]}"
if ! install_missing >"$log" 2>&1; then
    "${as_root[@]}" apt-get update -qq >>"$log" 2>&1 || true
    if ! install_missing >>"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        echo "deps.sh: could not install: ${missing[*]}" >&2
        exit 1
    fi
fi
rm -f "$log"
