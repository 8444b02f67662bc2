/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as one or two files of a log: recovery ends, gives nothing that it could
 * not have read, and what it opens can be appended to.  The first byte says where to
 * split; the checksums of what looks like heads and records are made good first if its
 * high bit is set, so that the fuzzer gets past them. */
#include <stdlib.h>

#include "mem_test_alloc.h"
#include "wal/wal_format.h"

#include "base/hash.h"

enum { FILES = 2, SEGMENT_BYTES = 1024, OPS_MAX = 100000, QUEUE_MAX = 64 };

struct file {
    uint8_t *at;
    size_t len;
};

struct run {
    struct file files[FILES];
    uint32_t n_files; /* given; what the log makes besides takes writes and keeps none */
    struct wal_op queue[QUEUE_MAX];
    uint32_t n_queue;
    uint64_t n_recovered;
    bool opened;
};

static void heal(struct file *f)
{
    if (f->len < WAL_SEGMENT_HEAD) return;
    store_u64le(f->at + 8, hash64_seed((struct bytes){f->at + 16, 48}, f->at[7]));
    if (f->len >= WAL_SEGMENT_HEAD + WAL_NOTE) {
        uint8_t *note = f->at + f->len - WAL_NOTE;
        store_u64le(note + 8, hash64_seed((struct bytes){note + 16, 48}, note[7]));
    }
    const uint64_t seq = load_u64le(f->at + 16);
    for (size_t pos = WAL_SEGMENT_HEAD; pos + WAL_RECORD_HEAD <= f->len;) {
        uint8_t *at = f->at + pos;
        const uint64_t size = wal_record_size(load_u32le(at + 32));
        if (size > f->len - pos) return;
        store_u64le(at + 8,
                    hash64((struct bytes){at + WAL_RECORD_HEAD, size - WAL_RECORD_HEAD}));
        store_u64le(at, hash64_seed((struct bytes){at + 8, WAL_RECORD_HEAD - 8}, seq));
        pos += size;
    }
}

static int perform(struct run *run, const struct wal_op *op, uint64_t *got)
{
    *got = 0;
    if (op->file >= run->n_files) return 0;

    struct file *f = &run->files[op->file];
    if (op->kind == WAL_OP_READ && op->offset < f->len) {
        *got = f->len - op->offset < op->length ? f->len - op->offset : op->length;
        if (*got > 0) memcpy(op->into, f->at + op->offset, *got);
    }
    if (op->kind == WAL_OP_WRITE) {
        check(op->offset + op->data.len <= f->len || op->data.len == 0);
        if (op->data.len > 0) memcpy(f->at + op->offset, op->data.at, op->data.len);
    }
    return 0;
}

static void out_take(struct run *run, const struct wal_out *out)
{
    for (uint32_t i = 0; i < out->n_ops; i++) {
        check(run->n_queue < QUEUE_MAX);
        run->queue[run->n_queue++] = out->ops[i];
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < out->n_recovered; i++) {
        const struct bytes body = out->recovered[i].body;
        for (size_t k = 0; k < body.len; k++)
            sum += body.at[k];
    }
    run->n_recovered += out->n_recovered + (sum & 0);
    if (out->opened) run->opened = out->open_error == WAL_OPEN_OK;
}

static void work(struct run *run, struct wal *wal)
{
    struct wal_out out;
    uint64_t got;

    for (uint32_t n = 0; run->n_queue > 0; n++) {
        check(n < OPS_MAX);
        const struct wal_op op = run->queue[0];
        memmove(run->queue, run->queue + 1, --run->n_queue * sizeof run->queue[0]);
        const int error = perform(run, &op, &got);
        wal_op_done(wal, op.id, error, got, (struct instant){1}, &out);
        out_take(run, &out);
    }
}

static void use(struct run *run, struct wal *wal)
{
    struct wal_out out;

    for (uint64_t i = 1; i < 40; i++) {
        const struct wal_record record = {
            .kind = WAL_ENTRY, .group = {1}, .index = {i}, .body = BYTES_OF("body")};
        wal_append(wal, &record);
        wal_read(wal, i, (struct group_id){(uint32_t)i % 3}, (struct log_index){i},
                 (struct log_index){i + 5}, 1000);
        wal_turn_end(wal, (struct instant){i}, &out);
        out_take(run, &out);
        work(run, wal);
    }
    check(out.failed || out.durable.v > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 1 << 16) return 0;

    struct run run = {0};
    const size_t n = size - 1;
    const size_t split = (data[0] & 0x7f) == 0 ? n : n * (data[0] & 0x7f) / 0x80 / 8 * 8;
    run.files[0] = (struct file){malloc(split + 1), split};
    run.files[1] = (struct file){malloc(n - split + 1), n - split};
    memcpy(run.files[0].at, data + 1, split);
    memcpy(run.files[1].at, data + 1 + split, n - split);
    if (data[0] & 0x80)
        for (uint32_t i = 0; i < FILES; i++)
            heal(&run.files[i]);

    struct mem mem = mem_for_test();
    const struct wal_config config = {
        .cluster = {77},
        .server = {3},
        .segment_bytes = SEGMENT_BYTES,
        .batch_bytes_max = 4096,
        .read_bytes_max = 4096,
        .idle_mark_ns = 10,
        .mem = &mem,
    };
    const struct wal_file files[FILES] = {{0, split}, {1, n - split}};
    struct wal *wal = wal_new(&config);
    struct wal_out out;
    run.n_files = n > split ? 2 : 1;
    wal_open(wal, files, run.n_files, &out);
    out_take(&run, &out);
    work(&run, wal);
    check(out.opened || run.opened || !out.failed);
    if (run.opened) use(&run, wal);
    wal_free(wal);
    check(mem.used == 0);
    free(run.files[0].at);
    free(run.files[1].at);
    return 0;
}
