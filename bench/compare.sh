#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# compare.sh [--quick|--full] [--json FILE] ... - sennit and redis-server side by side; builds
# what is not built yet.  Arguments go to compare.py, whose --help lists them.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

"$root/scripts/deps.sh" all
case " $* " in
*" --sennit"* | *" --help"* | *" -h "*) ;;
*) "$root/scripts/build.sh" release >&2 ;;
esac
exec /usr/bin/python3 "$root/bench/compare.py" "$@"
