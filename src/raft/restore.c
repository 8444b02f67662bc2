/* SPDX-License-Identifier: Apache-2.0 */
/* What a start finds on disk, in the order in which it was written. */
#include "raft/raft_state.h"

/* A restart forgets when it last heard a leader, and what it promised it: so it keeps
 * still for as long as it could have promised. */
void raft_keep_still(struct raft *raft)
{
    if (raft->state.term.v == 0) return; /* it never heard anyone */
    raft->promised_until = raft->now.ns + raft->settings.election_ns;
}

/* A term whose vote we may have forgotten, since the log knows it and the state does not:
 * no other server gets our vote in it. */
void raft_own_up_to_term(struct raft *raft, struct term term)
{
    if (term.v <= raft->state.term.v) return;
    raft->state.term = term;
    raft->state.vote = raft->settings.self;
    raft->state_dirty = true;
    raft_keep_still(raft);
}

/* Sticks: a state record found later says what was known when it was written. */
void raft_doubt(struct raft *raft)
{
    raft->lost_entries = true;
    if (raft->state.doubtful && !raft->state.rebooted) return;
    raft->state.doubtful = true;
    raft->state.rebooted = false;
    raft->state_dirty = true; /* it must be on disk before we say so */
}

void raft_restore_state(struct raft *raft, const struct raft_state *state)
{
    if (state->term.v < raft->state.term.v) return;
    raft->state = *state;
    raft_keep_still(raft);
    if (raft->lost_entries) raft_doubt(raft);
}

/* A snapshot had come, and the log behind it was void unless it followed from it. */
void raft_restore_base(struct raft *raft, struct log_index index, struct term term,
                       bool clears)
{
    raft_own_up_to_term(raft, term);
    if (index.v > raft->log.base.v) { /* the store should have been switched before */
        raft_doubt(raft);
        return;
    }
    if (!clears) return;
    raft->other_history = false;
    raft_truncate(raft, raft->log.base);
}

/* An entry ends what was found from its index on, also when that lies at or below the
 * base, for then all of the old suffix had been overwritten.  The log from before a
 * snapshot whose arrival it did not live to see is known by its entry at the base, or by
 * terms that are older than the base's: it is another history.  What can't follow on
 * shows a log that lost something. */
void raft_restore(struct raft *raft, const struct raft_entry *entry)
{
    struct raft_config config;
    const bool sound = entry->kind != RAFT_CONFIG ||
                       raft_config_decode(entry->payload, &config);

    if (entry->index.v <= raft->log.base.v) {
        raft_truncate(raft, raft->log.base);
        raft->other_history = entry->index.v == raft->log.base.v &&
                              entry->term.v != raft->log.base_term.v;
        return;
    }
    if (raft->other_history || entry->term.v < raft->log.base_term.v) return;
    if (entry->index.v > raft->log.last.v + 1 || !sound) {
        raft_doubt(raft);
        return;
    }
    raft_own_up_to_term(raft, entry->term);
    raft_truncate(raft, (struct log_index){entry->index.v - 1});
    raft_append(raft, entry->kind, entry->term, entry->payload, entry->block);
    raft->durable = raft->log.last;
    raft->unwritten.v = 0;
}

static bool was_held_in_memory(const struct raft *raft)
{
    for (uint32_t i = 0; i < raft->n_configs; i++) {
        const struct raft_members *c = &raft->configs[i].config;
        if (c->rules.memory || (c->n_old > 0 && c->old_rules.memory)) return true;
    }
    return false;
}

/* The machine was started anew: what was written and not synced has gone.  A change of the
 * rules is synced whatever they say, so the log tells whether this concerns us. */
static void note_boot(struct raft *raft)
{
    struct raft_state *state = &raft->state;

    if (state->boot == raft->settings.boot) return;
    if (state->term.v != 0) {
        const bool lost = was_held_in_memory(raft) && !raft->settings.bug_reboot_ignored;
        if (lost && !state->doubtful) state->doubtful = state->rebooted = true;
        raft->state_dirty = true;
    }
    state->boot = raft->settings.boot;
}

/* What is durable on the only voter of a committed membership is committed.  Not so while its
 * being alone may still be another leader's work: then as any other (raft_elect_leads_at_once). */
void raft_restored(struct raft *raft)
{
    note_boot(raft);
    if (!raft_member_is_alone(raft) || raft_member_config_index(raft).v > raft->commit.v)
        return;
    if (raft->commit.v < raft->log.last.v) raft->commit = raft->log.last;
}
