/* SPDX-License-Identifier: Apache-2.0 */
/* What is read prints to the same text.  Bytes are read as they are, and once more with a last
 * line whose checksum fits. */
#include <stdint.h>

#include "base/hash.h"
#include "cli/manifest.h"
#include "mem_test_alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_one(struct mem *mem, struct bytes text)
{
    struct manifest m;

    if (manifest_parse(mem, text, &m) == MANIFEST_OK) {
        struct buf again = buf_new(mem);
        manifest_print(&m, &again);
        check(bytes_equal(buf_bytes(&again), text));
        buf_free(&again);
    }
    manifest_free(&m);
    check(mem->used == 0 || text.len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem = mem_for_test(), own = mem_for_test();
    struct buf text = buf_new(&own);

    read_one(&mem, (struct bytes){data, size});
    buf_put(&text, data, size);
    buf_putf(&text, "end xxh3 %016llx\n",
             (unsigned long long)hash64((struct bytes){data, size}));
    read_one(&mem, buf_bytes(&text));
    buf_free(&text);
    check(own.used == 0);
    return 0;
}
