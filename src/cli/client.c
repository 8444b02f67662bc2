/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"

static bool fail(struct client *c, const char *what, const char *why)
{
    snprintf(c->error, sizeof c->error, "%.200s%.200s", what, why);
    return false;
}

/* ---- connecting ---- */

static int connect_within(const struct addrinfo *to, unsigned timeout_ms)
{
    int error = 0;
    socklen_t error_len = sizeof error;
    const int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;

    if (connect(fd, to->ai_addr, to->ai_addrlen) != 0) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        error = errno;
        if (error == EINPROGRESS) {
            const int ready = poll(&poll_fd, 1, (int)timeout_ms);
            error = ready == 0 ? ETIMEDOUT : errno;
            if (ready > 0) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len);
        }
    }
    if (error == 0) {
        const int one = 1;
        const struct timeval limit = {.tv_sec = timeout_ms / 1000,
                                      .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        return fd;
    }
    close(fd);
    errno = error;
    return -1;
}

static bool authenticate(struct client *c, const struct secret *password)
{
    char text[CONFIG_SECRET_MAX + 1];
    const struct value *reply;

    memcpy(text, password->at, password->len);
    text[password->len] = 0;
    const char *const args[] = {"AUTH", text};
    if (!client_call(c, 2, args, &reply)) return false;
    if (reply->kind != VALUE_ERROR) return true;
    return fail(c, "the password was refused; see --password-file", "");
}

bool client_open(struct client *c, const struct endpoint *to, unsigned timeout_ms,
                 const struct secret *password)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char port[8], text[CONFIG_ENDPOINT_TEXT], what[CONFIG_ENDPOINT_TEXT + 32];

    *c = (struct client){.fd = -1};
    endpoint_text(to, text);
    snprintf(what, sizeof what, "cannot reach %.180s: ", text);
    snprintf(port, sizeof port, "%u", (unsigned)to->port);
    const int error = getaddrinfo(to->host, port, &hints, &found);
    if (error != 0) return fail(c, what, gai_strerror(error));
    for (const struct addrinfo *a = found; a != NULL && c->fd < 0; a = a->ai_next)
        c->fd = connect_within(a, timeout_ms);
    const int last_error = errno;
    freeaddrinfo(found);
    if (c->fd < 0) return fail(c, what, strerror(last_error));
    return password == NULL || password->len == 0 || authenticate(c, password);
}

void client_close(struct client *c)
{
    if (c->fd >= 0) close(c->fd);
    free(c->in);
    free(c->values);
    c->fd = -1;
    c->in = NULL;
    c->values = NULL;
    c->len = c->cap = c->used = 0;
    c->n_values = c->values_cap = 0;
}

/* ---- parsing a reply ---- */

enum parse_result {
    PARSE_WHOLE = 1,
    PARSE_MORE,
    PARSE_BROKEN,
};

static struct value *add_value(struct client *c)
{
    if (c->n_values == c->values_cap) {
        c->values_cap = c->values_cap == 0 ? 256 : c->values_cap * 2;
        c->values = realloc(c->values, c->values_cap * sizeof *c->values);
        check(c->values != NULL);
    }
    struct value *v = &c->values[c->n_values++];
    *v = (struct value){.span = 1};
    return v;
}

/* One value without its elements, at *at, which moves behind it. */
static enum parse_result parse_one(struct client *c, size_t *at, uint32_t *elements)
{
    const uint8_t *line = c->in + *at;
    const uint8_t *end = memchr(line, '\n', c->len - *at);
    if (end == NULL) return PARSE_MORE;
    if (end - line < 2 || end[-1] != '\r') return PARSE_BROKEN;

    struct value *v = add_value(c);
    const struct bytes rest = {line + 1, (size_t)(end - line) - 2};
    size_t next = (size_t)(end - c->in) + 1;
    v->text = rest;
    *elements = 0;
    if (line[0] == '+' || line[0] == '-') {
        v->kind = line[0] == '+' ? VALUE_SIMPLE : VALUE_ERROR;
        *at = next;
        return PARSE_WHOLE;
    }
    if (!parse_i64(rest, &v->integer)) return PARSE_BROKEN;
    if (line[0] == ':') {
        v->kind = VALUE_INTEGER;
    } else if ((line[0] == '$' || line[0] == '*') && v->integer == -1) {
        v->kind = VALUE_NULL;
        v->text.len = 0;
    } else if (line[0] == '$') {
        if (v->integer < 0 || v->integer > CLIENT_REPLY_MAX) return PARSE_BROKEN;
        if (c->len - next < (size_t)v->integer + 2) return PARSE_MORE;
        v->kind = VALUE_BULK;
        v->text = (struct bytes){c->in + next, (size_t)v->integer};
        next += v->text.len + 2;
    } else if (line[0] == '*') {
        if (v->integer < 0 || v->integer > CLIENT_REPLY_MAX / 4) return PARSE_BROKEN;
        v->kind = VALUE_ARRAY;
        v->text.len = 0;
        v->n = *elements = (uint32_t)v->integer;
    } else {
        return PARSE_BROKEN;
    }
    *at = next;
    return PARSE_WHOLE;
}

/* The whole reply, from the start of what was received. */
static enum parse_result parse_reply(struct client *c)
{
    struct {
        uint32_t array, left;
    } open[CLIENT_DEPTH_MAX];
    uint32_t depth = 0;
    size_t at = 0;

    c->n_values = 0;
    do {
        uint32_t elements;
        const uint32_t index = c->n_values;
        const enum parse_result result = parse_one(c, &at, &elements);
        if (result != PARSE_WHOLE) return result;
        if (depth > 0) open[depth - 1].left--;
        if (elements > 0) {
            if (depth == CLIENT_DEPTH_MAX) return PARSE_BROKEN;
            open[depth].array = index;
            open[depth].left = elements;
            depth++;
        }
        while (depth > 0 && open[depth - 1].left == 0) {
            depth--;
            c->values[open[depth].array].span = c->n_values - open[depth].array;
        }
    } while (depth > 0);
    c->used = at;
    return PARSE_WHOLE;
}

/* ---- calling ---- */

bool client_send(struct client *c, struct bytes bytes)
{
    while (bytes.len > 0) {
        const ssize_t n = send(c->fd, bytes.at, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(c, "cannot send: ", strerror(errno));
        bytes.at += n;
        bytes.len -= (size_t)n;
    }
    return true;
}

static bool send_command(struct client *c, int n, const char *const *args)
{
    size_t room = 32, len;

    for (int i = 0; i < n; i++)
        room += strlen(args[i]) + 32;
    char *out = malloc(room);
    check(out != NULL);
    len = (size_t)snprintf(out, room, "*%d\r\n", n);
    for (int i = 0; i < n; i++)
        len += (size_t)snprintf(out + len, room - len, "$%zu\r\n%s\r\n", strlen(args[i]),
                                args[i]);
    const bool sent = client_send(c, (struct bytes){(const uint8_t *)out, len});
    free(out);
    return sent;
}

static bool receive_more(struct client *c)
{
    if (c->cap - c->len < 16384) {
        if (c->cap >= CLIENT_REPLY_MAX) return fail(c, "the reply is too long", "");
        c->cap = c->cap == 0 ? 65536 : c->cap * 2;
        c->in = realloc(c->in, c->cap);
        check(c->in != NULL);
    }
    for (;;) {
        const ssize_t n = recv(c->fd, c->in + c->len, c->cap - c->len, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) return fail(c, "the server closed the connection", "");
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return fail(c, "no answer in time", "");
        if (n < 0) return fail(c, "cannot receive: ", strerror(errno));
        c->len += (size_t)n;
        return true;
    }
}

bool client_receive(struct client *c, const struct value **reply)
{
    c->len -= c->used;
    if (c->used > 0 && c->len > 0) memmove(c->in, c->in + c->used, c->len);
    c->used = 0;

    enum parse_result result = c->len > 0 ? parse_reply(c) : PARSE_MORE;
    while (result == PARSE_MORE) {
        if (!receive_more(c)) return false;
        result = parse_reply(c);
    }
    if (result == PARSE_BROKEN)
        return fail(c, "what answers there does not speak RESP", "");
    *reply = c->values;
    return true;
}

bool client_call(struct client *c, int n, const char *const *args,
                 const struct value **reply)
{
    c->len = c->used = 0;
    return send_command(c, n, args) && client_receive(c, reply);
}

void client_take(struct client *c, struct kept *out)
{
    check(c->used == c->len);
    *out = (struct kept){c->values, c->values, c->in};
    c->values = NULL;
    c->in = NULL;
    c->len = c->cap = c->used = 0;
    c->n_values = c->values_cap = 0;
}

void kept_free(struct kept *k)
{
    free(k->values);
    free(k->bytes);
    *k = (struct kept){NULL, NULL, NULL};
}

/* ---- looking into a reply ---- */

const struct value *value_at(const struct value *array, uint32_t i)
{
    check(array->kind == VALUE_ARRAY);
    check(i < array->n);
    const struct value *v = array + 1;
    while (i-- > 0)
        v += v->span;
    return v;
}

const struct value *value_of(const struct value *map, const char *name)
{
    if (map->kind != VALUE_ARRAY) return NULL;
    const struct value *v = map + 1;
    for (uint32_t i = 0; i + 1 < map->n; i += 2) {
        const struct value *content = v + v->span;
        if (bytes_equal_nocase(v->text, name)) return content;
        v = content + content->span;
    }
    return NULL;
}

struct bytes value_text(const struct value *v)
{
    if (v == NULL || v->kind == VALUE_ARRAY || v->kind == VALUE_NULL)
        return (struct bytes){(const uint8_t *)"", 0};
    return v->text;
}
