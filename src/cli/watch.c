/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/watch.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/link.h"

/* No cursor and no wrapping of long lines while it lasts. */
static const char begin_text[] = "\033[?25l\033[?7l\033[H\033[2J";
static const char end_text[] = "\033[?7h\033[?25h\n";
static bool drawn_in_place;

static void on_end(int number)
{
    (void)number;
    if (drawn_in_place && write(STDOUT_FILENO, end_text, sizeof end_text - 1) < 0)
        _exit(1);
    _exit(0);
}

static void hold_signals(bool hold)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

void watch_begin(struct watch *w, bool in_place)
{
    const struct sigaction action = {.sa_handler = on_end};

    *w = (struct watch){.in_place = in_place};
    drawn_in_place = in_place;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (in_place) fputs(begin_text, stdout);
}

FILE *watch_frame(struct watch *w)
{
    w->out = open_memstream(&w->text, &w->len);
    check(w->out != NULL);
    return w->out;
}

static unsigned window_rows(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 2 ? size.ws_row
                                                                           : 24;
}

/* Each line wipes what stood behind it, and the last one what stood below. */
static void draw(const struct watch *w)
{
    const char *at = w->text, *end = w->text + w->len;

    fputs("\033[H", stdout);
    for (unsigned left = window_rows() - 1; at < end && left > 0; left--) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        const size_t len = (size_t)((line_end != NULL ? line_end : end) - at);
        if (left == 1 && at + len + 1 < end)
            fputs("  ...", stdout);
        else
            fwrite(at, 1, len, stdout);
        fputs("\033[K\n", stdout);
        at += len + 1;
    }
    fputs("\033[J", stdout);
}

void watch_show(struct watch *w, unsigned pause_ms)
{
    fclose(w->out);
    hold_signals(true); /* no frame is torn */
    if (w->in_place)
        draw(w);
    else
        fwrite(w->text, 1, w->len, stdout);
    fflush(stdout);
    hold_signals(false);
    free(w->text);
    if (ferror(stdout)) exit(1); /* who read it has gone */
    sleep_ms(pause_ms);
}
