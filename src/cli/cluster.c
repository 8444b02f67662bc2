/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char help[] =
    "usage: sennit cluster join --server HOST:PORT MEMBER-HOST:PEER-PORT\n\n"
    "  join     tells how a server becomes a member of another one's cluster: it joins "
    "when\n"
    "           it is started for the first time, never later\n\n"
    "example: a new server that joins\n"
    "  sennit server --data ./b --client 127.0.0.1:6380 --join 127.0.0.1:16379\n";

int command_cluster(int n, const char *const *args)
{
    static const char *const names[] = {"join"};
    struct target target = target_default();
    const char *member = NULL;

    if (wants_help(n, args)) {
        fputs(help, stdout);
        return 0;
    }
    if (n == 0)
        return wrong_use("cluster: what? `sennit cluster --help` lists what there is");
    if (strcmp(args[0], "join") != 0) return unknown_flag("cluster", args[0], names, 1);
    for (int i = 1; i < n; i++) {
        const int taken = target_option(&target, n, args, &i);
        if (taken < 0) return 2;
        if (taken == 0) member = args[i];
    }
    return wrong_use(
        "cluster join: a running server keeps the cluster that it has begun, and the "
        "data in\n"
        "it.  Start the one that is to join with an empty data directory and\n"
        "  sennit server --data DIR --client HOST:PORT --join %s\n"
        "where --join names the peer address of any member (its client port + 10000, if "
        "it was\n"
        "not told otherwise).",
        member != NULL ? member : "MEMBER-HOST:PEER-PORT");
}
