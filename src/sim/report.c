/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

_Noreturn void report_end(const struct report *report)
{
    fflush(stdout);
    if (write(REPORT_FD, report, sizeof *report) != (ssize_t)sizeof *report)
        fprintf(stderr, "%s\n", report->text);
    _exit(report->verdict == REPORT_PASSED ? 0 : 1);
}

const char *mark_text(enum mark mark)
{
    static const char *const texts[MARK_END] = {
#define MARK(name, text) text,
        MARKS
#undef MARK
    };
    check(mark < MARK_END);
    return texts[mark];
}

/* The simulator's answer to a mistake of our own: it is what the run has found. */
_Noreturn void check_failed(const char *what, const char *file, int line)
{
    struct report report = {.verdict = REPORT_FAILED};

    snprintf(report.text, sizeof report.text, "check failed at %s:%d: %s", file, line,
             what);
    if (getenv("SENNIT_SIM_ABORT") != NULL) {
        fprintf(stderr, "%s\n", report.text);
        abort();
    }
    report_end(&report);
}
