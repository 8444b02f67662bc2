/* SPDX-License-Identifier: Apache-2.0 */
/* load - sets the keys of a copy in a running cluster, by SET alone.
 *
 * Without `overwrite` a key is set with NX only, and one that is there already is compared.  So
 * a SET whose outcome is not known is simply sent again, a load that was interrupted may be
 * repeated, and no key of anybody else is lost.  Small values go in batches, a large one piece
 * by piece as it lies in its file, so that memory is bounded.
 *
 * Errors   false, and told on stderr: after LOAD_TRY_MS without any progress, or at once when
 *          a server refuses for good
 */
#pragma once

#include "cli/copy_files.h"
#include "cli/link.h"
#include "cli/progress.h"

enum { LOAD_TRY_MS = 60000, LOAD_KEY_SHOWN = 80, LOAD_KEY_TEXT = LOAD_KEY_SHOWN * 4 + 4 };

struct load_tally { /* of a keyspace's keys */
    uint64_t set;
    uint64_t there;     /* already, and as in the copy */
    uint64_t expired;   /* left out */
    uint64_t conflicts; /* there with another value or deadline, and left so */
    uint64_t plain;     /* of set and there: without a deadline */
};

struct load_batch;
struct load {
    struct link *link;
    struct mem *mem;
    struct copy_dir *dir;
    struct progress *progress;
    bool overwrite;
    struct load_tally *tally; /* of the keyspace that is loaded */
    int64_t clock_offset_ms;  /* the server's clock less our monotonic one */
    uint64_t moved_ms;        /* when something was achieved last */
    uint32_t named;           /* conflicts that were told one by one */
    struct load_batch *batch;
};

MUST_USE bool load_begin(struct load *l);
void load_end(struct load *l);
MUST_USE bool load_shard(struct load *l, const struct copy_shard *shard);

/* Printable, and cut when it is long. */
const char *load_key_text(struct bytes key, char text[LOAD_KEY_TEXT]);
