/* SPDX-License-Identifier: Apache-2.0 */
/* What the log knows of its groups: the latest state and base, which segments each of
 * them needs, and where their entries lie. */
#include "wal/wal_state.h"

struct wal_group *wal_group_find(const struct wal *wal, struct group_id id)
{
    return hmap_find(&wal->groups, id.v);
}

static struct wal_group *group_of(struct wal *wal, struct group_id id, uint64_t seq)
{
    struct wal_group *group = wal_group_find(wal, id);
    if (group != NULL) return group;

    group = mem_alloc(wal->mem, sizeof *group);
    *group = (struct wal_group){
        .id = id,
        .state = buf_new(wal->mem),
        .base = buf_new(wal->mem),
        .since_seq = seq,
        .changes = ++wal->changes,
    };
    hmap_put(&wal->groups, id.v, group);
    return group;
}

static void group_free(struct wal *wal, struct wal_group *group)
{
    buf_free(&group->state);
    buf_free(&group->base);
    mem_free(wal->mem, group->places, group->cap_places * sizeof *group->places);
    mem_free(wal->mem, group, sizeof *group);
}

void wal_groups_free(struct wal *wal)
{
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&wal->groups, &at, &key, &value))
        group_free(wal, value);
    hmap_free(&wal->groups);
}

/* Places whose segments are gone make room first, so the list stays as long as the
 * log. */
static void place_put(struct wal *wal, struct wal_group *group, struct wal_place place)
{
    if (group->n_places == group->cap_places) {
        const uint64_t oldest = wal->segments[0].base;
        size_t gone = 0;
        while (gone < group->n_places && group->places[gone].lsn < oldest)
            gone++;
        group->n_places -= gone;
        if (gone > 0)
            memmove(group->places, group->places + gone,
                    group->n_places * sizeof *group->places);
    }
    *WAL_PUSH(wal, group->places, group->n_places, group->cap_places) = place;
    group->since_place = 0;
}

static void places_cut(struct wal *wal, struct wal_group *group, uint64_t from)
{
    while (group->n_places > 0 && group->places[group->n_places - 1].index >= from)
        group->n_places--;
    group->changes = ++wal->changes;
}

/* This group's slot among the segment's needs. */
static struct wal_need *need_of(struct wal *wal, struct wal_segment *segment,
                                struct wal_group *group)
{
    if (group->slot_seq != segment->seq) {
        group->slot_seq = segment->seq;
        group->slot = segment->n_needs;
        *WAL_PUSH(wal, segment->needs, segment->n_needs,
                  segment->cap_needs) = (struct wal_need){.group = group->id};
    }
    return &segment->needs[group->slot];
}

static void on_entry(struct wal *wal, struct wal_segment *segment,
                     const struct wal_record *record, uint64_t lsn)
{
    struct wal_group *group = group_of(wal, record->group, segment->seq);
    const uint64_t index = record->index.v;
    const bool goes_on = group->n_places > 0 && index == group->last + 1 &&
                         group->slot_seq == segment->seq;
    const bool cuts = index <= group->last;

    if (cuts) {
        places_cut(wal, group, index);
        group->cut_seq = segment->seq;
        group->cut_index = index;
    }
    /* A run of entries begins at a place of its own, in each segment: so whoever looks
     * from a place on never crosses a segment, nor meets an entry that was truncated
     * later. */
    if (!goes_on || ++group->since_place >= WAL_INDEX_EVERY)
        place_put(wal, group, (struct wal_place){index, lsn});

    struct wal_need *need = need_of(wal, segment, group);
    if (need->highest < index || cuts) need->highest = index;
    group->last = index;
}

/* Nothing that the group has in the log up to here counts any more. */
static void group_void(struct wal *wal, struct wal_segment *segment,
                       struct wal_group *group)
{
    if (group->slot_seq == segment->seq) segment->needs[group->slot].highest = 0;
    group->since_seq = segment->seq;
    places_cut(wal, group, 0);
}

static void on_base(struct wal *wal, struct wal_segment *segment,
                    const struct wal_record *record)
{
    struct wal_group *group = group_of(wal, record->group, segment->seq);
    const bool clears = record->body.len > 0 && record->body.at[0] == 1;

    if (clears) {
        group_void(wal, segment, group);
        group->released = 0;
        group->last = record->index.v;
    }
    if (group->released < record->index.v) group->released = record->index.v;
    if (group->last < record->index.v) group->last = record->index.v;

    group->has_base = true;
    group->base_term = record->term;
    group->base_index = record->index;
    group->base.len = 0;
    buf_put(&group->base, record->body.at, record->body.len);
    /* The copy that opens later segments must not clear what was written after this
     * one. */
    if (clears) group->base.at[0] = 0;
}

void wal_record_note(struct wal *wal, struct wal_segment *segment,
                     const struct wal_record *record, uint64_t lsn)
{
    struct wal_group *group;

    switch (record->kind) {
    case WAL_ENTRY: on_entry(wal, segment, record, lsn); break;
    case WAL_STATE:
        group = group_of(wal, record->group, segment->seq);
        group->has_state = true;
        group->state_term = record->term;
        group->state.len = 0;
        buf_put(&group->state, record->body.at, record->body.len);
        break;
    case WAL_BASE: on_base(wal, segment, record); break;
    case WAL_FORGET:
        group = hmap_remove(&wal->groups, record->group.v);
        if (group == NULL) break;
        group_void(wal, segment, group);
        group_free(wal, group);
        break;
    case WAL_MARK:
    case WAL_KIND_END: break;
    }
}
