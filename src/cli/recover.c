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
    const char *data = "./sennit-data";
    bool yes = false;
    const struct option options[] = {
        {"--data", .value = &data, .wants = "a value: the data directory"},
        {"--yes", .set = &yes}};
    const struct grammar grammar = {"recover", options, 2, NULL};
    struct words words;

    if (wants_help(n, args)) {
        fputs(help, stdout);
        return 0;
    }
    const int wrong = read_words(&grammar, n, args, &words);
    if (wrong != 0) return wrong;
    if (words.n > 0)
        return wrong_use("recover: unknown argument '%s'; the data directory is given by "
                         "--data",
                         words.all[0]);
    const int code = recover_run(data, yes, SENNIT_VERSION);
    if (code == 0 && !yes) puts("run it again with --yes to do it");
    return code;
}
