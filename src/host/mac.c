/* SPDX-License-Identifier: Apache-2.0 */
#include "host/mac.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

void mac_sha256(struct bytes secret, struct bytes message, uint8_t out[MAC_BYTES])
{
    static const uint8_t none[1];
    unsigned len = 0;

    check(secret.len <= INT32_MAX);
    /* A key of no bytes must still be given as a pointer: NULL means "the key of the last
     * call" to OpenSSL. */
    const void *key = secret.len > 0 ? secret.at : none;
    check(HMAC(EVP_sha256(), key, (int)secret.len, message.at, message.len, out, &len) !=
          NULL);
    check(len == MAC_BYTES);
}
