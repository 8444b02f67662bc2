/* SPDX-License-Identifier: Apache-2.0 */
/* The input is a config file; cut at its lines it is also given as flags.  Whatever it is, it
 * is taken or refused with a text; what is taken has addresses that read back as they are. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/config.h"

enum { FLAGS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const struct config_error *why)
{
    check(why->text[0] != 0);
    check(memchr(why->text, 0, sizeof why->text) != NULL);
}

static void check_endpoint(const struct endpoint *e)
{
    char text[CONFIG_ENDPOINT_TEXT];
    struct endpoint back;

    if (e->host[0] == 0) return;
    endpoint_text(e, text);
    check(endpoint_parse(bytes_of_str(text), &back));
    check(strcmp(e->host, back.host) == 0);
    check(e->port == back.port);
}

static void finish(struct config *c, struct config_error *why)
{
    check_endpoint(&c->join);
    if (!config_finish(c, why)) {
        check_text(why);
        return;
    }
    check(c->client.port != 0);
    check(c->peer.port != 0);
    check_endpoint(&c->client);
    check_endpoint(&c->peer);
    check_endpoint(&c->advertise_client);
    check_endpoint(&c->advertise_peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *c = malloc(sizeof *c);
    uint8_t *file = malloc(size > 0 ? size : 1);
    char *words = malloc(size + 1);
    const char *flags[FLAGS_MAX];
    struct config_error why = {{0}};
    int n = 0;

    check(c != NULL && file != NULL && words != NULL);
    if (size > 0) memcpy(file, data, size);
    config_default(c);
    if (config_parse_text(c, (struct bytes){file, size}, "fuzz", &why))
        finish(c, &why);
    else
        check_text(&why);

    if (size > 0) memcpy(words, data, size);
    words[size] = 0;
    for (char *at = words; at != NULL && n < FLAGS_MAX;) {
        char *end = strchr(at, '\n');
        if (end != NULL) *end++ = 0;
        flags[n++] = at;
        at = end;
    }
    why.text[0] = 0;
    config_default(c);
    if (config_parse_args(c, n, flags, &why))
        finish(c, &why);
    else
        check_text(&why);

    free(words);
    free(file);
    free(c);
    return 0;
}
