/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "host/recover.h"

static const char help[] =
    "usage: sennit recover --data DIR [--yes]\n\n"
    "  When a majority of the servers is lost for good: makes a cluster of one of a\n"
    "  stopped survivor.  Take the survivor whose shards go furthest: without --yes it\n"
    "  only tells how far they go, and what may be lost.  Members of the old cluster "
    "are\n"
    "  refused from then on; they join again with empty data directories.\n\n"
    "  --data DIR               of the stopped server (./sennit-data)\n"
    "  --yes                    do it; copy the directory first if there is room\n\n"
    "example: look, then do it, then start it\n"
    "  sennit recover --data ./a\n"
    "  sennit recover --data ./a --yes\n"
    "  sennit server --data ./a\n";

int command_recover(int n, const char *const *args)
{
    static const char *const flags[] = {"--data", "--yes"};
    const char *data = "./sennit-data";
    bool yes = false;

    if (wants_help(n, args)) {
        fputs(help, stdout);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        if (strcmp(args[i], "--yes") == 0) {
            yes = true;
        } else if (strcmp(args[i], "--data") == 0) {
            if (++i == n) return wrong_use("recover: --data needs a value");
            data = args[i];
        } else {
            return unknown_flag("recover", args[i], flags, 2);
        }
    }
    const int code = recover_run(data, yes, SENNIT_VERSION);
    if (code == 0 && !yes) puts("run it again with --yes to do it");
    return code;
}
