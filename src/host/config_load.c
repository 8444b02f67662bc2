/* SPDX-License-Identifier: Apache-2.0 */
#include "host/config_load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Up to `room` bytes of a file; false with errno, EFBIG if it is longer. */
static bool read_whole(const char *path, uint8_t *into, size_t room, size_t *len)
{
    FILE *f = fopen(path, "rbe");
    if (f == NULL) return false;

    *len = fread(into, 1, room, f);
    const bool failed = ferror(f) != 0;
    const int error = failed ? errno : EFBIG;
    const bool longer = !failed && *len == room && fgetc(f) != EOF;
    fclose(f);
    errno = error;
    return !failed && !longer;
}

static bool load_file(struct config *c, struct config_error *why)
{
    char path[CONFIG_PATH_MAX + 1];
    uint8_t *text = malloc(CONFIG_FILE_MAX);
    size_t len = 0;

    check(text != NULL);
    memcpy(path, c->config_file, sizeof path);
    bool good = read_whole(path, text, CONFIG_FILE_MAX, &len);
    if (good)
        good = config_parse_text(c, (struct bytes){text, len}, path, why);
    else
        snprintf(why->text, sizeof why->text, "--config: cannot read %.800s: %s", path,
                 strerror(errno));
    free(text);
    return good;
}

/* The flags are read twice: to find --config, and then over what the file says. */
bool config_load(struct config *c, int n, const char *const *args,
                 struct config_error *why)
{
    config_default(c);
    if (!config_parse_args(c, n, args, why)) return false;
    if (c->config_file[0] != 0) {
        char path[CONFIG_PATH_MAX + 1];
        memcpy(path, c->config_file, sizeof path);
        config_default(c);
        memcpy(c->config_file, path, sizeof path);
        if (!load_file(c, why)) return false;
        if (!config_parse_args(c, n, args, why)) return false;
    }
    if (gethostname(c->machine, sizeof c->machine - 1) != 0) c->machine[0] = 0;
    return config_finish(c, why);
}

bool secret_load(const char *path, struct secret *out, struct config_error *why)
{
    uint8_t text[CONFIG_SECRET_MAX + 2];
    size_t len = 0;

    if (!read_whole(path, text, sizeof text, &len)) {
        snprintf(why->text, sizeof why->text, "cannot read %.800s: %s", path,
                 strerror(errno));
        return false;
    }
    const uint8_t *end = memchr(text, '\n', len);
    if (end != NULL) len = (size_t)(end - text);
    if (len > 0 && text[len - 1] == '\r') len--;
    if (len == 0 || len > CONFIG_SECRET_MAX) {
        snprintf(why->text, sizeof why->text,
                 "%.800s: its first line must hold 1 to %d bytes", path,
                 CONFIG_SECRET_MAX);
        return false;
    }
    memcpy(out->at, text, len);
    out->len = len;
    return true;
}
