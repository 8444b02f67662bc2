/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte of the input seeds the cuts, the rest is what a client sends.  However it
 * is cut, the same must come of it as uncut. */
#include <stdint.h>
#include <stdlib.h>

#include "base/prng.h"
#include "mem_test_alloc.h"
#include "resp/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void tell(struct buf *story, enum resp_result r, const struct resp_parsed *got)
{
    buf_put_u8(story, (uint8_t)r);
    buf_put_u64(story, got->used);
    buf_put_u32(story, got->n_args);
    for (uint32_t i = 0; r == RESP_COMMAND && i < got->n_args; i++)
        buf_put_blob(story, got->args[i]);
    if (r == RESP_BROKEN) buf_put_blob(story, bytes_of_str(got->error));
}

/* The run is a fresh allocation of the exact size each time, so that the sanitizer sees a
 * read past its end. */
static void feed(struct bytes in, struct prng *cuts, struct buf *story)
{
    static const struct resp_limits limits = {
        .bulk_max = 1 << 20, .args_max = 64, .inline_max = 100};
    struct resp_parser p;
    size_t from = 0, to = 0;
    enum resp_result r = RESP_MORE;

    resp_parser_init(&p, story->mem);
    while (to < in.len && r != RESP_BROKEN) {
        to = cuts == NULL ? in.len : (size_t)prng_range(cuts, to + 1, in.len);
        do {
            const size_t len = to - from;
            uint8_t *run = malloc(len > 0 ? len : 1);
            check(run != NULL);
            memcpy(run, in.at + from, len);

            struct resp_parsed got;
            r = resp_parse(&p, &limits, (struct bytes){run, len}, &got);
            check(got.used <= len);
            check(r != RESP_MORE || got.want > len);
            if (r != RESP_MORE) tell(story, r, &got);
            from += got.used;
            free(run);
        } while (r == RESP_COMMAND || r == RESP_NOTHING);
    }
    resp_parser_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;

    struct mem mem = mem_for_test();
    struct buf whole = buf_new(&mem), cut = buf_new(&mem);
    struct prng cuts = prng_seed(data[0]);
    const struct bytes in = {data + 1, size - 1};

    feed(in, NULL, &whole);
    feed(in, &cuts, &cut);
    check(bytes_equal(buf_bytes(&whole), buf_bytes(&cut)));

    buf_free(&whole);
    buf_free(&cut);
    check(mem.used == 0);
    return 0;
}
