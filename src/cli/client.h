/* SPDX-License-Identifier: Apache-2.0 */
/* client - a blocking RESP2 connection to one server, for the commands of this program.
 *
 * Errors   false, with a text in `error`: no connection, no answer in time, or bytes that are
 *          not RESP.  An error that the server answers is a value like any other
 * Limits   a reply of CLIENT_REPLY_MAX bytes, nested CLIENT_DEPTH_MAX deep
 * Owner    the reply points into the client and is good until its next call
 */
#pragma once

#include "host/config.h"
#include "host/config_load.h"

enum { CLIENT_REPLY_MAX = 64 << 20, CLIENT_DEPTH_MAX = 16 };

enum value_kind {
    VALUE_SIMPLE = 1,
    VALUE_ERROR,
    VALUE_INTEGER, /* its digits are in `text`, too */
    VALUE_BULK,
    VALUE_NULL,
    VALUE_ARRAY,
};

/* A reply is a run of values, an array before its elements. */
struct value {
    enum value_kind kind;
    struct bytes text;
    int64_t integer;
    uint32_t n; /* ARRAY: elements */
    uint32_t
        span; /* values that this one is, with all within it: the next is `v + span` */
};

struct client {
    int fd; /* -1: not connected */
    char error[512];
    uint8_t *in;
    size_t len, cap;
    size_t used; /* of `in`: by the reply that was given last */
    struct value *values;
    uint32_t n_values, values_cap;
};

/* With a password it also sends AUTH. */
MUST_USE bool client_open(struct client *c, const struct endpoint *to,
                          unsigned timeout_ms, const struct secret *password);
void client_close(struct client *c);
MUST_USE bool client_call(struct client *c, int n, const char *const *args,
                          const struct value **reply);

/* The reply given last, for longer than until the next call.  With nothing sent ahead. */
struct kept {
    const struct value *reply; /* NULL: nothing */
    struct value *values;
    uint8_t *bytes;
};
void client_take(struct client *c, struct kept *out);
void kept_free(struct kept *k);

/* For pipelines: bytes of commands as they are, and the next reply. */
MUST_USE bool client_send(struct client *c, struct bytes bytes);
MUST_USE bool client_receive(struct client *c, const struct value **reply);

/* The i-th element of an array. */
const struct value *value_at(const struct value *array, uint32_t i);
/* In an array of names and values, as RESP2 writes a map: the value, NULL if not there. */
const struct value *value_of(const struct value *map, const char *name);
/* Its text; "" for NULL and for arrays. */
struct bytes value_text(const struct value *v);
