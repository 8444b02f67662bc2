/* SPDX-License-Identifier: Apache-2.0 */
/* What decodes is sound and encodes to the same bytes; what does not leaves the cursor. */
#include <stdint.h>

#include "data/effect.h"
#include "mem_test_alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem = mem_for_test();
    struct cursor in = {data, data + size};

    while (true) {
        const uint8_t *before = in.at;
        struct effect e;
        const enum effect_result r = effect_decode(&in, &e);

        if (r != EFFECT_OK) {
            check(in.at == before);
            check((r == EFFECT_END) == (cursor_left(&in) == 0));
            break;
        }
        struct buf again = buf_new(&mem);
        effect_encode(&again, &e);
        check(bytes_equal(buf_bytes(&again),
                          (struct bytes){before, (size_t)(in.at - before)}));
        buf_free(&again);
    }
    check(mem.used == 0);
    return 0;
}
