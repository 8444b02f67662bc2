#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh - build what is not built yet and start three servers; arguments go to `sennit up`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

"$root/scripts/deps.sh" build
"$root/scripts/build.sh" release >&2
exec "$root/build/sennit" up "$@"
