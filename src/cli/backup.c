/* SPDX-License-Identifier: Apache-2.0 */
/* sennit backup: asks each shard's leader for its copy (BACKUP BEGIN, NEXT), checks what comes,
 * and writes it down.  One shard after the other; a server that is lost in the middle costs
 * that shard's copy, which is begun anew at its next leader. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/copy_files.h"
#include "cli/link.h"
#include "cli/progress.h"
#include "cli/units.h"
#include "host/memory.h"

enum {
    TRY_FOR_MS = 20000, /* without a byte of a shard, before it is given up */
    PAUSE_MS = 300,
    AHEAD = 2, /* pieces asked for at a time */
};

static const char help[] =
    "usage: sennit backup [options] DIR\n"
    "       sennit backup --verify DIR\n\n"
    "  Copies a running cluster into the new directory DIR: each shard as of one "
    "position\n"
    "  of its log, with everything that was acknowledged before it was that shard's "
    "turn.\n"
    "  DIR/manifest is written last, so without it DIR is no backup.  `sennit restore`\n"
    "  brings it into another cluster.\n\n"
    "  --keyspace NAME          this one only; may be given several times\n"
    "  --verify                 check the copy in DIR, without any server\n"
    "  --json                   what was done, for programs\n"
    "  --server HOST:PORT       any server of the cluster (127.0.0.1:6379)\n"
    "  --password-file FILE\n\n"
    "example: copy all, check the copy on another machine\n"
    "  sennit backup --server 10.0.0.1:6379 ./monday\n"
    "  sennit backup --verify ./monday\n";

struct wish {
    struct target target;
    const char *dir;
    struct words keyspaces; /* none: all */
    bool verify, json;
};

struct run {
    const struct wish *wish;
    struct mem mem;
    struct link link;
    struct copy_dir dir;
    struct manifest now;  /* what the cluster holds */
    struct manifest copy; /* what is written */
    struct progress progress;
};

/* ---- the end ---- */

static void print_json(const struct run *r)
{
    const struct manifest *m = &r->copy;
    uint64_t keys = 0, bytes = 0;

    printf("{\"cluster\":\"%016llx\",\"time\":%lld,\"keyspaces\":[",
           (unsigned long long)m->cluster.v, (long long)m->time_ms);
    for (uint32_t i = 0; i < m->n_keyspaces; i++)
        printf("%s\"%s\"", i > 0 ? "," : "", m->keyspaces[i].name);
    fputs("],\"shards\":[", stdout);
    for (uint32_t i = 0; i < m->n_shards; i++) {
        const struct copy_shard *s = &m->shards[i];
        printf("%s{\"shard\":%u,\"keyspace\":\"%s\",\"epoch\":%u,\"term\":%llu,"
               "\"index\":%llu,\"keys\":%llu,\"bytes\":%llu}",
               i > 0 ? "," : "", s->shard, m->keyspaces[s->keyspace].name,
               term_epoch(s->term), (unsigned long long)term_number(s->term),
               (unsigned long long)s->index.v, (unsigned long long)s->keys,
               (unsigned long long)s->bytes);
        keys += s->keys;
        bytes += s->bytes;
    }
    printf("],\"keys\":%llu,\"bytes\":%llu,\"seconds\":%.3f}\n", (unsigned long long)keys,
           (unsigned long long)bytes, progress_seconds(&r->progress));
}

static void print_summary(const struct run *r, const char *what)
{
    const struct manifest *m = &r->copy;
    uint64_t keys = 0, bytes = 0;
    char size[UNIT_TEXT_MAX];

    for (uint32_t i = 0; i < m->n_shards; i++) {
        keys += m->shards[i].keys;
        bytes += m->shards[i].bytes;
    }
    printf("%s: %u keyspaces, %u shards, %llu keys with %s of values, in %.1f s\n", what,
           m->n_keyspaces, m->n_shards, (unsigned long long)keys, size_text(bytes, size),
           progress_seconds(&r->progress));
}

static int tell_end(struct run *r, const char *what)
{
    progress_hide(&r->progress);
    if (r->wish->json)
        print_json(r);
    else
        print_summary(r, what);
    return 0;
}

/* ---- --verify ---- */

static bool verify_shard(struct run *r, const struct copy_shard *shard)
{
    struct copy_source source;
    struct copy_record record;
    uint64_t told = 0;
    bool end = false;
    bool good = copy_source_open(&source, &r->dir, shard);

    while (good && !end) {
        good = copy_source_next(&source, &record, &end);
        if (!good || end) break;
        progress_add(&r->progress, record.kind == COPY_KEY, source.at.offset - told);
        told = source.at.offset;
    }
    copy_source_close(&source);
    return good;
}

static uint64_t size_of(const struct manifest *m)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < m->n_shards; i++)
        size += m->shards[i].size;
    return size;
}

static int verify(struct run *r)
{
    uint32_t bad = 0;

    if (!copy_dir_open(&r->dir, &r->mem, r->wish->dir, &r->copy))
        return trouble("%s", r->dir.error);
    r->progress = progress_begin("checked", 0, size_of(&r->copy));
    for (uint32_t i = 0; i < r->copy.n_shards; i++) {
        if (verify_shard(r, &r->copy.shards[i])) continue;
        progress_hide(&r->progress);
        trouble("%s", r->dir.error);
        bad++;
    }
    if (bad == 0) return tell_end(r, "good");
    return trouble("%u of %u files of %s are not what was written", bad, r->copy.n_shards,
                   r->wish->dir);
}

/* ---- one shard ---- */

enum step {
    STEP_DONE = 1,
    STEP_AGAIN, /* the server was lost, or can't now: link.error says why */
    STEP_FAILED /* told */
};

static enum step failed(struct run *r, const char *text)
{
    progress_hide(&r->progress);
    trouble("%s", text);
    return STEP_FAILED;
}

static enum step again(struct run *r, const struct value *reply)
{
    if (reply != NULL)
        snprintf(r->link.error, sizeof r->link.error, "%.*s", (int)reply->text.len,
                 (const char *)reply->text.at);
    return STEP_AGAIN;
}

static bool number_of(const struct value *map, const char *name, uint64_t *out)
{
    const struct value *v = value_of(map, name);

    if (v == NULL || v->kind != VALUE_INTEGER || v->integer < 0) return false;
    *out = (uint64_t)v->integer;
    return true;
}

static bool cluster_of(struct bytes hex, uint64_t *out)
{
    uint64_t v = 0;

    if (hex.len != 16) return false;
    for (size_t i = 0; i < hex.len; i++) {
        const uint8_t c = hex.at[i];
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

/* What BEGIN tells of the copy that follows. */
static enum step head_read(struct run *r, const struct value *map, struct copy_shard *s)
{
    const struct bytes version = value_text(value_of(map, "version"));
    uint64_t time, cluster;

    if (map->kind != VALUE_ARRAY || !number_of(map, "term", &s->term.v) ||
        !number_of(map, "index", &s->index.v) || !number_of(map, "time", &time) ||
        !cluster_of(value_text(value_of(map, "cluster")), &cluster) || version.len == 0 ||
        version.len > MANIFEST_VERSION_MAX)
        return failed(r, "the server answers BACKUP in a way that this version does not "
                         "understand");
    s->time_ms = (int64_t)time;
    if (r->copy.cluster.v == 0) {
        r->copy.cluster.v = cluster;
        r->copy.time_ms = s->time_ms;
        memcpy(r->copy.version, version.at, version.len);
    }
    if (cluster != r->copy.cluster.v)
        return failed(r,
                      "another cluster answers at the address of a server of this one");
    return STEP_DONE;
}

/* At its leader, whose address another server may have to tell. */
static enum step begin(struct run *r, struct copy_shard *s)
{
    enum { HOPS_MAX = 4 };
    char number[16];

    snprintf(number, sizeof number, "%u", s->shard);
    const char *const args[] = {"BACKUP", "BEGIN", number};
    for (int hop = 0; hop < HOPS_MAX; hop++) {
        const struct value *reply = link_call(&r->link, 3, args);
        if (reply == NULL) return STEP_AGAIN;
        if (reply->kind != VALUE_ERROR) return head_read(r, reply, s);
        if (is_passing(reply) || is_code(reply, "FULL")) return again(r, reply);
        if (!is_code(reply, "MOVED")) {
            again(r, reply);
            return failed(r, r->link.error);
        }
        const uint8_t *space = memrchr(reply->text.at, ' ', reply->text.len);
        const struct bytes text = reply->text;
        const size_t gone = (size_t)(space - text.at) + 1;
        if (!link_move(&r->link, (struct bytes){text.at + gone, text.len - gone}))
            return STEP_AGAIN;
    }
    snprintf(r->link.error, sizeof r->link.error, "the servers do not agree who leads");
    return STEP_AGAIN;
}

struct taking { /* of one shard */
    struct copy_shard *shard;
    int fd;
    struct copy_reader reader;
    struct buf in; /* what is not a whole record yet */
};

/* Whether the bytes are a part of such a stream, so that no server's fault lands in a file. */
static bool check_piece(struct run *r, struct taking *t, struct bytes piece)
{
    size_t at = 0, used;
    uint64_t keys = t->reader.keys;

    buf_put(&t->in, piece.at, piece.len);
    for (;;) {
        struct copy_record record;
        const struct bytes rest = {t->in.at + at, t->in.len - at};
        const enum copy_result result = copy_read(&t->reader, rest, &record, &used);
        if (result == COPY_MORE || (result == COPY_DONE && rest.len == 0)) break;
        if (result != COPY_READ) return false;
        if (record.kind == COPY_HEAD && (record.of.group.v != t->shard->shard ||
                                         record.of.term.v != t->shard->term.v ||
                                         record.of.index.v != t->shard->index.v))
            return false;
        at += used;
    }
    buf_cut_front(&t->in, at);
    progress_add(&r->progress, t->reader.keys - keys, piece.len);
    t->shard->size += piece.len;
    return true;
}

static bool ask_next(struct run *r)
{
    static const char text[] = "*2\r\n$6\r\nBACKUP\r\n$4\r\nNEXT\r\n";

    if (client_send(&r->link.client, BYTES_OF(text))) return true;
    snprintf(r->link.error, sizeof r->link.error, "%s", r->link.client.error);
    return false;
}

static enum step take_pieces(struct run *r, struct taking *t)
{
    const struct value *reply;

    for (int i = 0; i < AHEAD; i++)
        if (!ask_next(r)) return STEP_AGAIN;
    for (;;) {
        if (!client_receive(&r->link.client, &reply)) {
            snprintf(r->link.error, sizeof r->link.error, "%s", r->link.client.error);
            return STEP_AGAIN;
        }
        if (reply->kind == VALUE_ERROR) return again(r, reply);
        if (reply->kind == VALUE_NULL) break;
        if (!check_piece(r, t, reply->text))
            return failed(r, "what the server gives as its copy does not check; please "
                             "report it");
        if (!copy_file_put(&r->dir, t->fd, reply->text)) return failed(r, r->dir.error);
        if (!ask_next(r)) return STEP_AGAIN;
    }
    for (int i = 1; i < AHEAD; i++) /* asked for behind the end: refused */
        if (!client_receive(&r->link.client, &reply)) return STEP_AGAIN;
    if (!t->reader.ended)
        return failed(r,
                      "the server ended its copy before it was whole; please report it");
    t->shard->keys = t->reader.keys;
    t->shard->bytes = t->reader.bytes;
    t->shard->checksum = t->reader.chain;
    return STEP_DONE;
}

static enum step take_once(struct run *r, struct copy_shard *shard)
{
    const struct progress before = r->progress;
    struct taking t = {.shard = shard, .in = buf_new(&r->mem)};

    shard->size = 0;
    if (!r->link.open && !link_again(&r->link)) return STEP_AGAIN;
    enum step step = begin(r, shard);
    if (step != STEP_DONE) return step;
    t.fd = copy_file_make(&r->dir, shard->shard);
    if (t.fd < 0) return failed(r, r->dir.error);
    step = take_pieces(r, &t);
    if (!copy_file_done(&r->dir, t.fd) && step == STEP_DONE)
        step = failed(r, r->dir.error);
    buf_free(&t.in);
    if (step == STEP_AGAIN) {
        r->progress.keys = before.keys;
        r->progress.bytes = before.bytes;
        link_close(&r->link); /* replies may be under way still */
    }
    return step;
}

static bool take_shard(struct run *r, struct copy_shard *shard)
{
    uint64_t began_ms = clock_ms();

    for (;;) {
        const enum step step = take_once(r, shard);
        if (step != STEP_AGAIN) return step == STEP_DONE;
        if (shard->size > 0) {
            progress_hide(&r->progress);
            fprintf(stderr, "sennit: shard %u is begun again: %s\n", shard->shard,
                    r->link.error);
            began_ms = clock_ms();
        }
        if (clock_ms() - began_ms >= TRY_FOR_MS) break;
        sleep_ms(PAUSE_MS);
        /* The server may be there and lead nothing; another knows more then. */
        if (r->link.open) r->link.at = (r->link.at + 1) % r->link.n_servers;
        link_close(&r->link);
    }
    progress_hide(&r->progress);
    trouble("shard %u of keyspace %s can't be copied: %s", shard->shard,
            r->copy.keyspaces[shard->keyspace].name, r->link.error);
    return false;
}

/* ---- all of them ---- */

static bool is_wanted(const struct wish *w, const char *name)
{
    return w->keyspaces.n == 0 || words_have(&w->keyspaces, name);
}

/* The keyspaces and shards that are wanted, of those there are. */
static bool choose(struct run *r)
{
    const struct manifest *now = &r->now;

    for (int i = 0; i < r->wish->keyspaces.n; i++)
        if (manifest_keyspace(now, bytes_of_str(r->wish->keyspaces.all[i])) ==
            now->n_keyspaces) {
            trouble("there is no keyspace '%s'; `sennit keyspace list` shows those there "
                    "are",
                    r->wish->keyspaces.all[i]);
            return false;
        }
    for (uint32_t k = 0; k < now->n_keyspaces; k++) {
        if (!is_wanted(r->wish, now->keyspaces[k].name)) continue;
        const uint32_t at = r->copy.n_keyspaces;
        *manifest_add_keyspace(&r->copy) = now->keyspaces[k];
        for (uint32_t i = 0; i < now->n_shards; i++) {
            if (now->shards[i].keyspace != k) continue;
            struct copy_shard *s = manifest_add_shard(&r->copy);
            *s = now->shards[i];
            s->keyspace = at;
            r->progress.of_keys += s->keys;
        }
    }
    return true;
}

static bool same_layout(const struct manifest *a, const struct manifest *b)
{
    if (a->n_keyspaces != b->n_keyspaces || a->n_shards != b->n_shards) return false;
    for (uint32_t i = 0; i < a->n_keyspaces; i++)
        if (strcmp(a->keyspaces[i].name, b->keyspaces[i].name) != 0) return false;
    for (uint32_t i = 0; i < a->n_shards; i++)
        if (a->shards[i].shard != b->shards[i].shard) return false;
    return true;
}

/* Keys may have moved with a keyspace that came or went, past a copy of where they had been
 * or will be. */
static bool still_the_same(struct run *r)
{
    struct manifest after;

    if ((!r->link.open && !link_again(&r->link)) ||
        !link_layout(&r->link, &r->mem, &after)) {
        trouble("%s", r->link.error);
        return false;
    }
    const bool same = same_layout(&r->now, &after);
    manifest_free(&after);
    if (!same)
        trouble("a keyspace was made or dropped while the copy was taken, so it may lack "
                "keys; take it again");
    return same;
}

static bool take_all(struct run *r)
{
    if (!choose(r)) return false;
    for (uint32_t i = 0; i < r->copy.n_shards; i++)
        if (!take_shard(r, &r->copy.shards[i])) return false;
    progress_hide(&r->progress);
    if (!still_the_same(r)) return false;
    if (copy_dir_finish(&r->dir, &r->copy)) return true;
    trouble("%s", r->dir.error);
    return false;
}

static int take(struct run *r)
{
    if (!link_open(&r->link, &r->wish->target, LINK_TIMEOUT_MS))
        return trouble("%s", r->link.error);
    if (!link_layout(&r->link, &r->mem, &r->now)) return trouble("%s", r->link.error);
    if (!copy_dir_make(&r->dir, &r->mem, r->wish->dir))
        return trouble("%s", r->dir.error);
    r->copy = manifest_new(&r->mem);
    r->progress = progress_begin("copied", 0, 0);
    if (take_all(r)) return tell_end(r, "copied");
    copy_dir_undo(&r->dir, &r->copy);
    return trouble("no backup was made; what had been written of it was removed");
}

/* ---- words ---- */

static int read_wish(struct wish *w, int n, const char *const *args)
{
    const struct option options[] = {
        {"--verify", .set = &w->verify},
        {"--keyspace", .values = &w->keyspaces, .wants = "a name"},
        {"--json", .set = &w->json}};
    const struct grammar grammar = {"backup", options, 3, &w->target};
    struct words words;

    const int wrong = read_words(&grammar, n, args, &words);
    if (wrong != 0) return wrong;
    if (words.n == 0)
        return wrong_use(
            "backup: into which directory? `sennit backup --help` shows how");
    if (words.n > 1) return wrong_use("backup: one directory, not two");
    if (w->verify && w->keyspaces.n > 0)
        return wrong_use("backup: --verify checks all of a copy; leave out --keyspace");
    w->dir = words.all[0];
    return 0;
}

int command_backup(int n, const char *const *args)
{
    static struct run run;
    struct wish wish = {.target = target_default()};

    if (wants_help(n, args)) {
        fputs(help, stdout);
        return 0;
    }
    const int wrong = read_wish(&wish, n, args);
    if (wrong != 0) return wrong;

    run.wish = &wish;
    run.mem = memory_new(0);
    run.dir.fd = -1;
    run.now = run.copy = manifest_new(&run.mem);
    const int code = wish.verify ? verify(&run) : take(&run);
    link_close(&run.link);
    copy_dir_close(&run.dir);
    manifest_free(&run.now);
    manifest_free(&run.copy);
    return code;
}
