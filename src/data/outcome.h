/* SPDX-License-Identifier: Apache-2.0 */
/* outcome - the table of answers that say no (outcome.def), for code and docs. */
#pragma once

#include <stdbool.h>

enum outcome {
    OUTCOME_NONE = 0,
#define OUTCOME(name, code, retry, text) OUTCOME_##name,
#include "data/outcome.def"
#undef OUTCOME
    OUTCOME_END,
};

enum outcome_retry { OUTCOME_safe, OUTCOME_unsafe, OUTCOME_uncertain };

struct outcome_row {
    const char *code;
    const char *text; /* code and text in one, as an error reply bears them */
    enum outcome_retry retry;
};

const struct outcome_row *outcome_row(enum outcome o);
