/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/manifest.h"

#include "base/hash.h"
#include "base/text.h"

enum { WORDS_MAX = 64 };

/* ---- life ---- */

struct manifest manifest_new(struct mem *mem)
{
    return (struct manifest){.mem = mem};
}

void manifest_free(struct manifest *m)
{
    mem_free(m->mem, m->keyspaces, m->keyspaces_cap * sizeof *m->keyspaces);
    mem_free(m->mem, m->shards, m->shards_cap * sizeof *m->shards);
    *m = manifest_new(m->mem);
}

static uint32_t grown(uint32_t cap)
{
    return cap == 0 ? 8 : cap * 2;
}

struct copy_keyspace *manifest_add_keyspace(struct manifest *m)
{
    if (m->n_keyspaces == m->keyspaces_cap) {
        const uint32_t cap = grown(m->keyspaces_cap);
        m->keyspaces = mem_resize(m->mem, m->keyspaces,
                                  m->keyspaces_cap * sizeof *m->keyspaces,
                                  cap * sizeof *m->keyspaces);
        m->keyspaces_cap = cap;
    }
    struct copy_keyspace *k = &m->keyspaces[m->n_keyspaces++];
    *k = (struct copy_keyspace){0};
    return k;
}

struct copy_shard *manifest_add_shard(struct manifest *m)
{
    if (m->n_shards == m->shards_cap) {
        const uint32_t cap = grown(m->shards_cap);
        m->shards = mem_resize(m->mem, m->shards, m->shards_cap * sizeof *m->shards,
                               cap * sizeof *m->shards);
        m->shards_cap = cap;
    }
    struct copy_shard *s = &m->shards[m->n_shards++];
    *s = (struct copy_shard){0};
    return s;
}

uint32_t manifest_keyspace(const struct manifest *m, struct bytes name)
{
    uint32_t i = 0;

    while (i < m->n_keyspaces && !bytes_equal(bytes_of_str(m->keyspaces[i].name), name))
        i++;
    return i;
}

/* ---- writing ---- */

static unsigned long long ull(uint64_t v)
{
    return v;
}

static void print_shard(const struct manifest *m, const struct copy_shard *s,
                        struct buf *out)
{
    buf_putf(out, "shard %u keyspace %s slots %u-%u epoch %u term %llu index %llu ",
             s->shard, m->keyspaces[s->keyspace].name, s->slot_first, s->slot_last,
             term_epoch(s->term), ull(term_number(s->term)), ull(s->index.v));
    buf_putf(out, "time %lld keys %llu bytes %llu size %llu xxh3 %016llx\n",
             (long long)s->time_ms, ull(s->keys), ull(s->bytes), ull(s->size),
             ull(s->checksum));
}

void manifest_print(const struct manifest *m, struct buf *out)
{
    const size_t begin = out->len;

    buf_putf(out, "sennit-backup %d\n", MANIFEST_FORMAT);
    buf_putf(out, "cluster %016llx version %s time %lld\n", ull(m->cluster.v), m->version,
             (long long)m->time_ms);
    for (uint32_t i = 0; i < m->n_keyspaces; i++)
        buf_putf(out, "keyspace %s %s\n", m->keyspaces[i].name, m->keyspaces[i].policy);
    for (uint32_t i = 0; i < m->n_shards; i++)
        print_shard(m, &m->shards[i], out);
    const struct bytes all = {out->at + begin, out->len - begin};
    buf_putf(out, "end xxh3 %016llx\n", ull(hash64(all)));
}

/* ---- reading ---- */

struct line {
    struct bytes words[WORDS_MAX];
    uint32_t n;
};

/* The bytes up to `mark`, which must come; *in moves behind it. */
static bool take_until(struct bytes *in, char mark, struct bytes *out)
{
    const uint8_t *end = in->len > 0 ? memchr(in->at, mark, in->len) : NULL;
    if (end == NULL) return false;

    const size_t len = (size_t)(end - in->at);
    *out = (struct bytes){in->at, len};
    *in = (struct bytes){in->at + len + 1, in->len - len - 1};
    return true;
}

/* Words with one blank between two. */
static bool split(struct bytes text, struct line *out)
{
    out->n = 0;
    for (;;) {
        struct bytes word = text;
        const bool more = take_until(&text, ' ', &word);
        if (word.len == 0 || out->n == WORDS_MAX) return false;
        out->words[out->n++] = word;
        if (!more) return true;
    }
}

static bool is_word(const struct line *l, uint32_t i, const char *word)
{
    return i < l->n && bytes_equal(l->words[i], bytes_of_str(word));
}

static bool number(struct bytes text, uint64_t *out)
{
    int64_t v;

    if (!parse_i64(text, &v) || v < 0) return false;
    *out = (uint64_t)v;
    return true;
}

/* "name <number>" at word i. */
static bool field(const struct line *l, uint32_t i, const char *name, uint64_t most,
                  uint64_t *out)
{
    return is_word(l, i, name) && i + 1 < l->n && number(l->words[i + 1], out) &&
           *out <= most;
}

static bool hex(const struct line *l, uint32_t i, const char *name, uint64_t *out)
{
    uint64_t v = 0;

    if (!is_word(l, i, name) || i + 1 >= l->n || l->words[i + 1].len != 16) return false;
    for (size_t k = 0; k < 16; k++) {
        const uint8_t c = l->words[i + 1].at[k];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

static bool is_name(struct bytes name)
{
    if (name.len == 0 || name.len > MANIFEST_NAME_MAX) return false;
    for (size_t i = 0; i < name.len; i++) {
        const uint8_t c = name.at[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '_' && c != '.' && c != '-' &&
            c != '+')
            return false;
    }
    return true;
}

static bool head_line(const struct line *l, struct manifest *m)
{
    uint64_t time;

    if (l->n != 6 || !hex(l, 0, "cluster", &m->cluster.v)) return false;
    if (!is_word(l, 2, "version") || l->words[3].len > MANIFEST_VERSION_MAX) return false;
    if (!is_name(l->words[3]) || !field(l, 4, "time", INT64_MAX, &time)) return false;
    memcpy(m->version, l->words[3].at, l->words[3].len);
    m->time_ms = (int64_t)time;
    return true;
}

static bool keyspace_line(const struct line *l, struct manifest *m)
{
    if (m->n_shards > 0 || l->n < 4 || l->n % 2 != 0 || !is_name(l->words[1]))
        return false;
    if (manifest_keyspace(m, l->words[1]) < m->n_keyspaces) return false;

    const struct bytes last = l->words[l->n - 1];
    const size_t len = (size_t)(last.at + last.len - l->words[2].at);
    if (len > MANIFEST_POLICY_MAX) return false;
    for (uint32_t i = 2; i < l->n; i++)
        for (size_t k = 0; k < l->words[i].len; k++)
            if (l->words[i].at[k] < ' ' || l->words[i].at[k] >= 0x7f) return false;
    struct copy_keyspace *k = manifest_add_keyspace(m);
    memcpy(k->name, l->words[1].at, l->words[1].len);
    memcpy(k->policy, l->words[2].at, len);
    return true;
}

static bool slots_read(struct bytes text, struct copy_shard *s)
{
    struct bytes first;
    uint64_t a, b;

    if (!take_until(&text, '-', &first)) return false;
    if (!number(first, &a) || !number(text, &b) || a > b || b >= SLOTS) return false;
    s->slot_first = (uint32_t)a;
    s->slot_last = (uint32_t)b;
    return true;
}

static bool shard_line(const struct line *l, struct manifest *m)
{
    const uint64_t term_max = (UINT64_C(1) << TERM_EPOCH_SHIFT) - 1;
    struct copy_shard s = {0};
    uint64_t shard, epoch, term, time;

    if (l->n != 22 || !field(l, 0, "shard", UINT32_MAX, &shard)) return false;
    if (!is_word(l, 2, "keyspace") || !is_word(l, 4, "slots")) return false;
    s.shard = (uint32_t)shard;
    s.keyspace = manifest_keyspace(m, l->words[3]);
    if (s.keyspace == m->n_keyspaces || !slots_read(l->words[5], &s)) return false;
    if (!field(l, 6, "epoch", (1u << 20) - 1, &epoch)) return false;
    if (!field(l, 8, "term", term_max, &term)) return false;
    if (!field(l, 10, "index", INT64_MAX, &s.index.v)) return false;
    if (!field(l, 12, "time", INT64_MAX, &time)) return false;
    if (!field(l, 14, "keys", INT64_MAX, &s.keys)) return false;
    if (!field(l, 16, "bytes", INT64_MAX, &s.bytes)) return false;
    if (!field(l, 18, "size", INT64_MAX, &s.size)) return false;
    if (!hex(l, 20, "xxh3", &s.checksum)) return false;
    for (uint32_t i = 0; i < m->n_shards; i++)
        if (m->shards[i].shard == s.shard) return false;
    s.term.v = term_of_epoch((uint32_t)epoch).v + term;
    s.time_ms = (int64_t)time;
    *manifest_add_shard(m) = s;
    return true;
}

static bool body_line(const struct line *l, uint32_t n, struct manifest *m)
{
    if (n == 0) return head_line(l, m);
    if (is_word(l, 0, "keyspace")) return keyspace_line(l, m);
    return shard_line(l, m);
}

static bool lines_read(struct bytes text, struct manifest *m)
{
    const uint8_t *begin = text.at;
    struct bytes rest = text, at;
    uint64_t sum;

    if (!take_until(&rest, '\n', &at)) return false; /* read already */
    for (uint32_t n = 0;; n++) {
        const size_t before = (size_t)(rest.at - begin);
        struct line l;
        if (!take_until(&rest, '\n', &at) || !split(at, &l)) return false;
        if (n > 0 && is_word(&l, 0, "end"))
            return l.n == 3 && hex(&l, 1, "xxh3", &sum) && rest.len == 0 &&
                   sum == hash64((struct bytes){begin, before});
        if (!body_line(&l, n, m)) return false;
    }
}

enum manifest_result manifest_parse(struct mem *mem, struct bytes text,
                                    struct manifest *out)
{
    struct bytes rest = text, first;
    struct line l;
    uint64_t format;

    *out = manifest_new(mem);
    if (text.len > MANIFEST_BYTES_MAX) return MANIFEST_FOREIGN;
    if (!take_until(&rest, '\n', &first) || !split(first, &l)) return MANIFEST_FOREIGN;
    if (l.n != 2 || !field(&l, 0, "sennit-backup", INT64_MAX, &format))
        return MANIFEST_FOREIGN;
    if (format > MANIFEST_FORMAT) return MANIFEST_NEWER;
    if (format == MANIFEST_FORMAT && lines_read(text, out)) return MANIFEST_OK;
    manifest_free(out);
    return MANIFEST_BROKEN;
}
