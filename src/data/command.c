/* SPDX-License-Identifier: Apache-2.0 */
#include "data/command.h"

#include <string.h>

#include "base/check.h"
#include "data/command_hash.h"

static const struct command rows[COMMAND_END] = {
#define COMMAND(id_, name_, arity_, flags_, first_, last_, step_, group_, since_,        \
                complexity_, arguments_, summary_)                                       \
    [COMMAND_##id_] = {                                                                  \
        .id = COMMAND_##id_,                                                             \
        .name = name_,                                                                   \
        .arity = arity_,                                                                 \
        .flags = flags_,                                                                 \
        .first_key = first_,                                                             \
        .last_key = last_,                                                               \
        .step = step_,                                                                   \
        .group = group_,                                                                 \
        .since = since_,                                                                 \
        .complexity = complexity_,                                                       \
        .arguments = arguments_,                                                         \
        .summary = summary_,                                                             \
    },
#include "data/command.def"
#undef COMMAND
};

/* COMMAND_INDEX_SEED, COMMAND_INDEX_BITS, and command_index[]: hash to id. */
#include "data/command_index.inc"

static_assert(COMMAND_END <= UINT8_MAX + 1, "command_index[] holds ids in a byte");

const struct command *command_row(enum command_id id)
{
    check(id > COMMAND_NONE && id < COMMAND_END);
    return &rows[id];
}

static const struct command *top_find(struct bytes name)
{
    if (name.len == 0 || name.len > COMMAND_NAME_MAX) return NULL;

    const uint32_t at = command_hash(name, COMMAND_INDEX_SEED, COMMAND_INDEX_BITS);
    const struct command *c = &rows[command_index[at]];
    if (c->id == COMMAND_NONE || !bytes_equal_nocase(name, c->name)) return NULL;
    return c;
}

/* A container's subcommands are the rows after it; there are a dozen at most, and none of
 * them is called often enough for more than a look at each. */
static const struct command *sub_find(const struct command *container, struct bytes name)
{
    const size_t len = strlen(container->name);

    for (uint32_t i = container->id + 1u; i < COMMAND_END; i++) {
        const char *full = rows[i].name;
        if (strncmp(full, container->name, len) != 0 || full[len] != '|') return NULL;
        if (bytes_equal_nocase(name, full + len + 1)) return &rows[i];
    }
    return NULL;
}

const struct command *command_find(const struct bytes *args, uint32_t n_args,
                                   const struct command **container)
{
    *container = NULL;
    if (n_args == 0) return NULL;

    const struct command *c = top_find(args[0]);
    if (c == NULL) return NULL;
    if (LIKELY(!(c->flags & CF_CONTAINER) && c->id != COMMAND_COMMAND)) return c;
    if (n_args == 1 && !(c->flags & CF_CONTAINER)) return c;

    const struct command *sub = n_args > 1 ? sub_find(c, args[1]) : NULL;
    if (sub == NULL) *container = c;
    return sub;
}

bool command_arity_ok(const struct command *c, uint32_t n_args)
{
    if (c->arity >= 0) return n_args == (uint32_t)c->arity;
    return n_args >= (uint32_t)-c->arity;
}

uint32_t command_keys(const struct command *c, uint32_t n_args, uint32_t *at,
                      uint32_t most)
{
    if (c->first_key == 0) return 0;

    const int64_t last = c->last_key < 0 ? (int64_t)n_args + c->last_key : c->last_key;
    uint32_t n = 0;
    for (int64_t i = c->first_key; i <= last && i < (int64_t)n_args; i += c->step) {
        if (n < most) at[n] = (uint32_t)i;
        n++;
    }
    return n;
}
