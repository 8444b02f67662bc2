/* SPDX-License-Identifier: Apache-2.0 */
/* What is read encodes to the same bytes; what is refused leaves the reader as it was.  Bytes
 * are read as they are, and once more with checksums that fit, so that a fuzzer gets past them. */
#include <stdint.h>

#include "base/hash.h"
#include "data/copy.h"
#include "mem_test_alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_again(struct copy_writer *w, struct buf *out, const struct copy_record *r)
{
    switch (r->kind) {
    case COPY_HEAD: copy_put_head(w, out, r->of.group, r->of.term, r->of.index); return;
    case COPY_KEY:
        copy_put_key(w, out, r->type, r->deadline_ms, r->key, r->length, r->value);
        return;
    case COPY_PIECE: copy_put_piece(w, out, r->value); return;
    case COPY_END: copy_put_end(w, out); return;
    }
    check(false);
}

static void read_all(struct mem *mem, struct bytes in)
{
    struct copy_reader r = {0};
    struct copy_writer w = {0};
    struct buf again = buf_new(mem);

    for (;;) {
        const struct copy_reader before = r;
        struct copy_record record;
        size_t used = 0;
        const enum copy_result result = copy_read(&r, in, &record, &used);

        if (result != COPY_READ) {
            check(r.chain == before.chain && r.keys == before.keys &&
                  r.left == before.left);
            break;
        }
        again.len = 0;
        put_again(&w, &again, &record);
        check(bytes_equal(buf_bytes(&again), (struct bytes){in.at, used}));
        in = (struct bytes){in.at + used, in.len - used};
    }
    buf_free(&again);
}

/* Bodies, each behind two bytes of length, framed as a writer would. */
static void frame(struct buf *out, struct bytes in)
{
    uint64_t chain = 0;

    while (in.len >= 2) {
        size_t len = load_u16le(in.at);
        in = (struct bytes){in.at + 2, in.len - 2};
        if (len > in.len) len = in.len;
        buf_put_u32(out, (uint32_t)len);
        buf_put(out, in.at, len);
        chain = hash64_seed((struct bytes){in.at, len}, chain);
        buf_put_u64(out, chain);
        in = (struct bytes){in.at + len, in.len - len};
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem = mem_for_test();
    struct buf framed = buf_new(&mem);

    read_all(&mem, (struct bytes){data, size});
    frame(&framed, (struct bytes){data, size});
    read_all(&mem, buf_bytes(&framed));
    buf_free(&framed);
    check(mem.used == 0);
    return 0;
}
