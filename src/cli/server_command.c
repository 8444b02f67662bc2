/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/cli.h"
#include "host/config_load.h"
#include "host/host.h"

static const char help[] =
    "usage: sennit server [options]\n\n"
    "  --name NAME              unique in the cluster; made once and kept if not given\n"
    "  --data DIR               all that the server keeps (./sennit-data)\n"
    "  --client HOST:PORT       where clients are served (127.0.0.1:6379)\n"
    "  --peer HOST:PORT         where other servers are (client port + 10000)\n"
    "  --http HOST:PORT|off     metrics; not served by this version\n"
    "  --join HOST:PORT         peer address of any member; without it, and with an "
    "empty\n"
    "                           data directory, the server starts a cluster of one\n"
    "  --zone ZONE              failure domain; replicas spread over zones\n"
    "  --config FILE            the same names as `name = value` lines; a flag beats it\n"
    "  --advertise-client HOST:PORT, --advertise-peer HOST:PORT\n"
    "                           what others are told, when it differs\n"
    "  --password-file FILE     clients must AUTH with the password in it\n"
    "  --cluster-secret-file FILE\n"
    "                           servers prove to each other that they know it\n"
    "  --memory SIZE            bound of this server's memory (half of the machine's)\n"
    "  --maxclients N           (10000)\n"
    "  --request-timeout TIME   (5s)\n"
    "  --wal-keep SIZE          log kept for followers that are behind\n"
    "  --max-clock-skew TIME    (500ms)\n"
    "  --replace-after TIME     a lost server's replicas are made anew after it (10m)\n"
    "  --transfer-rate SIZE     a second, of snapshots to other servers; 0: no bound "
    "(64mb)\n"
    "  --log-level LEVEL        debug, info, warn, error (info)\n"
    "  --insecure               listen beyond this machine without password or secret\n\n"
    "SIGTERM hands leadership over, flushes and exits 0.\n\n"
    "example: a second server that joins the first\n"
    "  sennit server --data ./a\n"
    "  sennit server --data ./b --client 127.0.0.1:6380 --join 127.0.0.1:16379\n";

int command_server(int n, const char *const *args)
{
    /* Too large for comfort on the stack of a small thread, but this is the main one. */
    struct config config;
    struct config_error why;

    if (wants_help(n, args)) {
        fputs(help, stdout);
        return 0;
    }
    if (!config_load(&config, n, args, &why)) return wrong_use("%s", why.text);
    return host_run(&config, SENNIT_VERSION);
}
