/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "store/store_state.h"

static uint64_t chain_length(const struct omap *map, uint64_t *places)
{
    struct omap_walk walk = omap_walk_from(map, 0);
    uint64_t place, nodes = 0;
    void *chain;

    *places = 0;
    while (omap_walk_next(&walk, &place, &chain)) {
        for (const struct node *n = chain; n != NULL; n = n->next) {
            check(n->place == place);
            if (n->next != NULL) check(suffix_order(node_key(n), node_key(n->next)) < 0);
            nodes++;
        }
        ++*places;
    }
    return nodes;
}

static void verify_overlay(const struct store *s)
{
    uint64_t queued = 0, wipes = 0, places;
    struct counts count = s->count;

    for (const struct node *n = s->first_staged; n != NULL; n = n->later) {
        if (n->later != NULL) check(node_change(n).v <= node_change(n->later).v);
        if (n->later == NULL) check(n == s->last_staged);
        queued++;
        wipes += n->what == NODE_WIPE;
        counts_add(&count, n);
        if (n->what == NODE_WIPE || wipes < s->wipes) continue;
        check(chain_find(omap_find(s->overlay, n->place), node_key(n)) != NULL); /* S1 */
    }
    check(wipes == s->wipes);                           /* S1 */
    check(chain_length(s->overlay, &places) <= queued); /* S1 */
    check(queued > 0 || places == 0);                   /* S1 */
    check(s->staged - s->committed == queued);          /* S2 */
    check(count.keys == s->count_newest.keys);          /* S5 */
    check(count.system == s->count_newest.system);      /* S5 */
}

void store_verify(const struct store *s)
{
    uint64_t places;

    verify_overlay(s);
    chain_length(s->table->nodes, &places);
    if (s->frozen != NULL) {
        check(s->frozen->last <= s->committed); /* S2 */
        chain_length(s->frozen->nodes, &places);
    }
    if (s->job.kind == JOB_CHECKPOINT) check(s->job.frozen == s->frozen); /* S3 */
    if (s->job.kind == JOB_NONE) check(s->job.reader == NULL);            /* S3 */
    check((s->root.gen != 0) || (s->root.keys == 0));                     /* S4 */
}
