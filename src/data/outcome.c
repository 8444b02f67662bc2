/* SPDX-License-Identifier: Apache-2.0 */
#include "data/outcome.h"

#include <stddef.h>

#include "base/check.h"

static const struct outcome_row rows[OUTCOME_END] = {
#define OUTCOME(name, code, retry, text)                                                 \
    [OUTCOME_##name] = {code, code " " text, OUTCOME_##retry},
#include "data/outcome.def"
#undef OUTCOME
};

const struct outcome_row *outcome_row(enum outcome o)
{
    check(o > OUTCOME_NONE && o < OUTCOME_END);
    return &rows[o];
}
