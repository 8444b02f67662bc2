/* SPDX-License-Identifier: Apache-2.0 */
/* The sum of every record's hash, with its place and key: whatever the order in which the
 * records were written, the generation that they lie in and the checkpoints on the way,
 * replicas that applied the same log get the same.  A record's bytes are a pure function
 * of what was applied, the change's index too, so they are hashed as they lie. */
#include "base/check.h"
#include "base/hash.h"
#include "store/store_state.h"

static uint64_t hash_pieces(const struct job *job, const struct data_key *at,
                            uint64_t length, uint64_t seed)
{
    for (uint32_t n = 0; n < piece_count(length); n++) {
        struct ekey key;
        struct bytes piece;

        ekey_piece(&key, job->root.gen, at->place, at->suffix, n);
        check(job->kv.ops->get(job->reader, ekey_bytes(&key), &piece));
        seed = hash64_seed(piece, seed);
    }
    return seed;
}

static int digest_run(struct kv_job *kv, struct kv_txn *txn)
{
    (void)txn;
    struct job *job = (struct job *)kv;
    uint64_t sum = 0, keys = 0;
    struct ekey from;
    struct bytes key, value;

    ekey_kind(&from, 'D', job->root.gen);
    bool any = job->root.gen != 0 &&
               kv->ops->seek(job->reader, ekey_bytes(&from), &key, &value);
    while (any && ekey_is_of(key, 'D', job->root.gen)) {
        struct data_key at;
        struct record r;

        check(data_key_decode(key, &at));
        check(record_decode(value, &r));
        uint64_t h = hash64_pair((struct bytes){key.at + 5, key.len - 5}, value, key.len);
        if ((r.flags & RECORD_PIECES) != 0) h = hash_pieces(job, &at, r.length, h);
        sum += h;
        keys += !key_place_is_system((struct key_place){at.place});
        any = kv->ops->next(job->reader, &key, &value);
    }
    uint8_t whole[16];
    store_u64le(whole, sum);
    store_u64le(whole + 8, keys);
    job->digest = hash64((struct bytes){whole, sizeof whole});
    job->root.keys = keys;
    return 0;
}

struct kv_job *store_digest(struct store *s)
{
    if (store_busy(s)) return NULL;

    struct kv_reader *reader = s->config.kv.ops->reader_open(s->config.kv.engine);
    if (reader == NULL) return NULL;
    struct kv_job *kv = job_begin(s, JOB_DIGEST, digest_run);
    s->job.reader = reader;
    root_copy(&s->job.root, s->config.mem, &s->root);
    return kv;
}

void digest_done(struct store *s, int error)
{
    s->config.kv.ops->reader_close(s->config.kv.engine, s->job.reader);
    s->job.reader = NULL;
    s->digest.known = error == 0;
    if (error != 0) return;
    s->digest.value = s->job.digest;
    root_copy(&s->digest.root, s->config.mem, &s->job.root);
}

bool store_digest_result(const struct store *s, struct store_base *base, uint64_t *digest,
                         uint64_t *keys)
{
    if (!s->digest.known) return false;

    *base = root_base(&s->digest.root);
    *digest = s->digest.value;
    *keys = s->digest.root.keys;
    return true;
}
