/* SPDX-License-Identifier: Apache-2.0 */
/* Dialing: the name is resolved, its addresses are tried one after the other, all within one
 * deadline (conn_on_sweep). */
#include <string.h>

#include "host/loop_state.h"

void dial_end(struct host_conn *c)
{
    if (c->addresses != NULL) uv_freeaddrinfo(c->addresses);
    c->addresses = c->next_address = NULL;
    if (c->resolving) uv_cancel((uv_req_t *)&c->resolve);
}

/* A socket that has failed to connect cannot try again: it is closed, and a new one goes on
 * with the next address. */
static void try_another(struct host_conn *c, int error)
{
    c->error = error;
    if (c->next_address == NULL) {
        conn_lost(c, uv_strerror(error));
        return;
    }
    c->again = true;
    uv_close((uv_handle_t *)&c->tcp, conn_on_handle_closed);
}

static void on_connected(uv_connect_t *req, int status)
{
    struct host_conn *c = req->data;

    if (c->state != CONN_DIALING) return;
    if (status != 0) {
        try_another(c, status);
        return;
    }
    dial_end(c);
    conn_opened(c, true);
}

void dial_next(struct host_conn *c)
{
    const struct addrinfo *to = c->next_address;

    c->next_address = to->ai_next;
    const int error = uv_tcp_connect(&c->connect, &c->tcp, to->ai_addr, on_connected);
    if (error != 0) try_another(c, error);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *addresses)
{
    struct host_conn *c = req->data;

    c->resolving = false;
    if (c->state != CONN_DIALING) {
        if (addresses != NULL) uv_freeaddrinfo(addresses);
        conn_free_if_done(c);
        return;
    }
    if (status != 0) {
        conn_lost(c, uv_strerror(status));
        return;
    }
    check(addresses != NULL);
    c->addresses = c->next_address = addresses;
    dial_next(c);
}

void dial_begin(struct host_conn *c, const char *address)
{
    static const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                          .ai_socktype = SOCK_STREAM,
                                          .ai_protocol = IPPROTO_TCP,
                                          .ai_flags = AI_NUMERICSERV};
    struct endpoint to;
    char port[8];

    conn_set_deadline(c, DIAL_TIMEOUT_MS);
    /* The address came from another server's word: outside data. */
    if (!endpoint_parse(bytes_of_str(address), &to)) {
        conn_fail_later(c, UV_EINVAL);
        return;
    }
    snprintf(port, sizeof port, "%u", (unsigned)to.port);
    const int error = uv_getaddrinfo(&c->loop->uv, &c->resolve, on_resolved, to.host,
                                     port, &hints);
    c->resolving = error == 0;
    if (error != 0) conn_fail_later(c, error);
}
