/* SPDX-License-Identifier: Apache-2.0 */
/* The input is what a peer sends.  It is decoded as it stands, and once more with head
 * and checksum put right, so that the bodies are reached too.  What decodes must encode
 * to the same bytes. */
#include <stdint.h>
#include <stdlib.h>

#include "wire/frame.h"
#include "wire/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *heap_resize(void *ctx, void *old, size_t size_old, size_t size_new)
{
    (void)ctx;
    (void)size_old;
    if (size_new == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, size_new);
}

static void walk_forward(struct bytes in, struct buf *again)
{
    struct forward f;

    if (!forward_decode(in, &f)) return;
    forward_encode(again, &f);
    for (uint32_t i = 0; i < f.n_watches; i++) {
        struct forward_watch w;
        forward_next_watch(&f, &w);
        forward_put_watch(again, &w);
    }
    for (uint32_t i = 0; i < f.n_commands; i++) {
        const uint32_t n_args = forward_peek_args(&f);
        struct bytes *args = malloc(n_args * sizeof *args);
        check(args != NULL);
        forward_next_command(&f, args);
        forward_put_command(again, args, n_args);
        free(args);
    }
    check(cursor_left(&f.watches) == 0 && cursor_left(&f.commands) == 0);
    check(bytes_equal(buf_bytes(again), in));
}

static void walk_forward_reply(struct bytes in, struct buf *again)
{
    struct forward_reply r;

    if (!forward_reply_decode(in, &r)) return;
    forward_reply_encode(again, &r);
    check(bytes_equal(buf_bytes(again), in));
}

static void walk_report(struct bytes in, struct buf *again)
{
    struct report r;

    if (!report_decode(in, &r)) return;
    report_encode(again, &r);
    for (uint32_t i = 0; i < r.n_rows; i++) {
        struct report_row row;
        report_next_row(&r, &row);
        report_put_row(again, r.kind, &row);
    }
    check(cursor_left(&r.rows) == 0);
    check(bytes_equal(buf_bytes(again), in));
}

static void walk_messages(struct bytes in, struct mem *mem)
{
    struct cursor c = cursor_of(in);
    struct message m;

    while (message_decode(&c, &m) == MESSAGE_OK) {
        struct buf again = buf_new(mem);
        switch (m.kind) {
        case MESSAGE_RAFT: break; /* raft_msg_decode() has a target of its own */
        case MESSAGE_FORWARD: walk_forward(m.body, &again); break;
        case MESSAGE_FORWARD_REPLY: walk_forward_reply(m.body, &again); break;
        case MESSAGE_STATUS: break;
        case MESSAGE_REPORT: walk_report(m.body, &again); break;
        case MESSAGE_QUIET: break; /* one number */
        case MESSAGE_KIND_END: check(false);
        }
        buf_free(&again);
    }
}

static void walk_body(const struct frame *f, struct mem *mem)
{
    struct buf again = buf_new(mem);
    union {
        struct hello hello;
        struct join join;
        struct joined joined;
        struct piece piece;
    } got;
    bool known = false;

    switch (f->kind) {
    case FRAME_HELLO:
        known = hello_decode(f->body, &got.hello);
        if (known) hello_encode(&again, &got.hello);
        break;
    case FRAME_JOIN:
        known = join_decode(f->body, &got.join);
        if (known) join_encode(&again, &got.join);
        break;
    case FRAME_JOINED:
        known = joined_decode(f->body, &got.joined);
        if (known) joined_encode(&again, &got.joined);
        break;
    case FRAME_PIECE:
        known = piece_decode(f->body, &got.piece);
        if (known) piece_encode(&again, &got.piece);
        break;
    case FRAME_BATCH: walk_messages(f->body, mem); break;
    case FRAME_PROOF:
    case FRAME_REFUSED: break;
    case FRAME_KIND_END: check(false);
    }
    if (known) check(bytes_equal(buf_bytes(&again), f->body));
    buf_free(&again);
}

static void as_it_stands(struct bytes in, struct mem *mem)
{
    struct frame f;
    size_t used, want;

    for (;;) {
        const enum frame_result r = frame_decode(in, &used, &want, &f);
        if (r == FRAME_SHORT) check(want > in.len);
        if (r != FRAME_OK) return;
        check(used >= FRAME_HEAD && used <= in.len);
        walk_body(&f, mem);
        in = (struct bytes){in.at + used, in.len - used};
    }
}

static void put_right(struct bytes in, struct mem *mem)
{
    if (in.len < FRAME_HEAD || in.len > FRAME_MAX) return;
    const uint8_t kind = (uint8_t)(in.at[7] % (FRAME_KIND_END - 1) + 1);

    struct buf b = buf_new(mem);
    const size_t start = frame_begin(&b, &(struct frame){.kind = (enum frame_kind)kind});
    buf_put(&b, in.at + FRAME_HEAD, in.len - FRAME_HEAD);
    frame_end(&b, start);

    struct frame f;
    size_t used = 0, want;
    check(frame_decode(buf_bytes(&b), &used, &want, &f) == FRAME_OK && used == b.len);
    walk_body(&f, mem);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem = {.resize = heap_resize};

    as_it_stands((struct bytes){data, size}, &mem);
    put_right((struct bytes){data, size}, &mem);
    check(mem.used == 0);
    return 0;
}
