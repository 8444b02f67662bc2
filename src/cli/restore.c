/* SPDX-License-Identifier: Apache-2.0 */
/* sennit restore: brings a copy into a running cluster, by ordinary commands.
 *
 *   check the whole copy, and where its keys would go ─► make its keyspaces ─► set its keys
 *   (cli/load.h) ─► count what is there
 *
 * Nothing is changed before the copy was found whole.  The cluster's own logs number what is
 * restored: no position of the old cluster lives on in it. */
#include <stdio.h>
#include <string.h>

#include "cli/load.h"
#include "host/memory.h"

enum {
    TRY_FOR_MS = 60000,
    PAUSE_MS = 200,
    COUNT_FOR_MS = 10000,
};

static const char help[] =
    "usage: sennit restore [options] DIR\n\n"
    "  Brings a copy that `sennit backup` made into a running cluster: makes its\n"
    "  keyspaces with their policies, sets its keys with their deadlines, and counts\n"
    "  them. Keys whose deadline has passed are left out. A keyspace that is there "
    "keeps\n"
    "  its policy (so it may have another number of shards; of `default` all but that "
    "is\n"
    "  altered), and must be empty, unless one says:\n\n"
    "  --continue               a key that is there must be as in the copy; any other "
    "is\n"
    "                           left as it is, and told. Goes on with a restore that "
    "was\n"
    "                           interrupted\n"
    "  --overwrite              a key that is there is replaced by that of the copy\n"
    "  --keyspace NAME          this one only; may be given several times\n"
    "  --json                   what was done, for programs\n"
    "  --server HOST:PORT       any server of the cluster (127.0.0.1:6379)\n"
    "  --password-file FILE\n\n"
    "example: the accounts of Monday, into a new cluster\n"
    "  sennit restore --server 10.0.0.9:6379 --keyspace bank ./monday\n";

struct wish {
    struct target target;
    const char *dir;
    struct words keyspaces; /* none: all */
    bool resume, overwrite, json;
};

struct run {
    const struct wish *wish;
    struct mem mem;
    struct link link;
    struct copy_dir dir;
    struct manifest copy;
    struct manifest before;     /* what the cluster held */
    struct load_tally *tallies; /* by the copy's keyspaces */
    struct load load;
    struct progress progress;
};

static bool fail(struct run *r, const char *text)
{
    progress_hide(&r->progress);
    trouble("%s", text);
    return false;
}

static bool is_wanted(const struct run *r, uint32_t keyspace)
{
    const struct wish *w = r->wish;

    return w->keyspaces.n == 0 ||
           words_have(&w->keyspaces, r->copy.keyspaces[keyspace].name);
}

/* A keyspace of the copy, in what a cluster holds; its n_keyspaces: it is not there. */
static uint32_t place_in(const struct manifest *now, const struct copy_keyspace *k)
{
    return manifest_keyspace(now, bytes_of_str(k->name));
}

static uint64_t keys_in(const struct manifest *now, const struct copy_keyspace *k)
{
    const uint32_t at = place_in(now, k);
    uint64_t keys = 0;

    for (uint32_t i = 0; i < now->n_shards; i++)
        if (now->shards[i].keyspace == at) keys += now->shards[i].keys;
    return keys;
}

/* ---- before anything is changed ---- */

static bool may_begin(struct run *r)
{
    for (int i = 0; i < r->wish->keyspaces.n; i++) {
        const struct bytes name = bytes_of_str(r->wish->keyspaces.all[i]);
        if (manifest_keyspace(&r->copy, name) < r->copy.n_keyspaces) continue;
        trouble("%s holds no keyspace '%s'", r->wish->dir, r->wish->keyspaces.all[i]);
        return false;
    }
    for (uint32_t i = 0; i < r->copy.n_keyspaces; i++) {
        const struct copy_keyspace *k = &r->copy.keyspaces[i];
        const uint64_t keys = keys_in(&r->before, k);
        if (!is_wanted(r, i) || keys == 0 || r->wish->resume || r->wish->overwrite)
            continue;
        trouble("keyspace %s of this cluster holds %llu keys; give --continue to go on "
                "with a restore that was interrupted, or --overwrite to replace keys of "
                "the same name",
                k->name, (unsigned long long)keys);
        return false;
    }
    return true;
}

/* The name before the first ':', if it is that of a keyspace that the cluster has or will
 * have; else "default". */
static struct bytes keyspace_of(const struct run *r, struct bytes key)
{
    const size_t tagged = key.len > 0 && key.at[0] == '{';
    const struct bytes rest = {key.at + tagged, key.len - tagged};
    const size_t most = rest.len < MANIFEST_NAME_MAX + 1 ? rest.len
                                                         : MANIFEST_NAME_MAX + 1;
    const uint8_t *colon = most > 0 ? memchr(rest.at, ':', most) : NULL;
    if (colon == NULL) return BYTES_OF("default");

    const struct bytes name = {rest.at, (size_t)(colon - rest.at)};
    const uint32_t at = manifest_keyspace(&r->copy, name);
    const bool comes = at < r->copy.n_keyspaces && is_wanted(r, at);
    const bool there = manifest_keyspace(&r->before, name) < r->before.n_keyspaces;
    return comes || there ? name : BYTES_OF("default");
}

static bool goes_home(struct run *r, const struct copy_keyspace *home, struct bytes key)
{
    const struct bytes goes = keyspace_of(r, key);
    char text[LOAD_KEY_TEXT];

    if (bytes_equal(goes, bytes_of_str(home->name))) return true;
    progress_hide(&r->progress);
    trouble("key '%s' of keyspace %s would become one of keyspace %.*s in this cluster; "
            "restore into one that has the same keyspaces",
            load_key_text(key, text), home->name, (int)goes.len, (const char *)goes.at);
    return false;
}

static bool check_shard(struct run *r, const struct copy_shard *shard)
{
    struct copy_source source;
    struct copy_record record;
    uint64_t told = 0;
    bool end = false;
    bool good = copy_source_open(&source, &r->dir, shard) || fail(r, r->dir.error);

    while (good && !end) {
        good = copy_source_next(&source, &record, &end) || fail(r, r->dir.error);
        if (!good || end) break;
        const bool is_key = record.kind == COPY_KEY;
        if (is_key) good = goes_home(r, &r->copy.keyspaces[shard->keyspace], record.key);
        progress_add(&r->progress, is_key, source.at.offset - told);
        told = source.at.offset;
    }
    copy_source_close(&source);
    return good;
}

/* ---- keyspaces ---- */

/* KEYSPACE CREATE|ALTER name policy... */
static int keyspace_words(const char *verb, const char *name, char *policy,
                          const char *args[LINK_WORDS_MAX])
{
    const bool alters = strcmp(verb, "ALTER") == 0;
    char *rest = NULL;
    int n = 3;

    args[0] = "KEYSPACE";
    args[1] = verb;
    args[2] = name;
    for (const char *option = strtok_r(policy, " ", &rest); option != NULL;
         option = strtok_r(NULL, " ", &rest)) {
        const char *value = strtok_r(NULL, " ", &rest);
        if (value == NULL || n + 2 > LINK_WORDS_MAX) break;
        if (alters && strcmp(option, "SHARDS") == 0) continue;
        args[n++] = option;
        args[n++] = value;
    }
    return n;
}

/* A CREATE whose outcome was not known may have made it after all. */
static bool was_made(struct run *r, const struct copy_keyspace *k)
{
    const char *const args[] = {"KEYSPACE", "INFO", k->name};
    char error[LINK_ERROR_MAX];

    memcpy(error, r->link.error, sizeof error);
    const bool made = link_ask(&r->link, 3, args) != NULL;
    memcpy(r->link.error, error, sizeof error);
    return made;
}

static bool keyspace_command(struct run *r, const char *verb,
                             const struct copy_keyspace *k)
{
    char policy[MANIFEST_POLICY_MAX + 1];
    const char *args[LINK_WORDS_MAX];
    const uint64_t began_ms = clock_ms();
    bool unknown = false;

    memcpy(policy, k->policy, sizeof policy);
    const int n = keyspace_words(verb, k->name, policy, args);
    for (;;) {
        const struct value *reply = r->link.open || link_again(&r->link)
                                        ? link_call(&r->link, n, args)
                                        : NULL;
        if (reply != NULL && reply->kind != VALUE_ERROR) return true;
        const bool passing = reply == NULL || is_passing(reply);
        unknown = unknown || reply == NULL || is_code(reply, "UNCERTAIN");
        if (reply != NULL)
            snprintf(r->link.error, sizeof r->link.error, "%.*s", (int)reply->text.len,
                     (const char *)reply->text.at);
        if (!passing && unknown && was_made(r, k)) return true;
        if (!passing || clock_ms() - began_ms > TRY_FOR_MS) break;
        sleep_ms(PAUSE_MS);
    }
    trouble("keyspace %s: %s", k->name, r->link.error);
    return false;
}

static bool make_keyspace(struct run *r, const struct copy_keyspace *k)
{
    const uint32_t at = place_in(&r->before, k);

    if (at == r->before.n_keyspaces) return keyspace_command(r, "CREATE", k);
    if (strcmp(r->before.keyspaces[at].policy, k->policy) == 0) return true;
    if (strcmp(k->name, "default") == 0) /* nobody could have made it beforehand */
        return keyspace_command(r, "ALTER", k);
    fprintf(stderr, "sennit: keyspace %s is there already, and keeps its policy: %s\n",
            k->name, r->before.keyspaces[at].policy);
    return true;
}

/* ---- all of it ---- */

static bool load_one(struct run *r, const struct copy_shard *shard)
{
    r->load.tally = &r->tallies[shard->keyspace];
    return load_shard(&r->load, shard);
}

static bool each_shard(struct run *r, const char *what,
                       bool (*visit)(struct run *r, const struct copy_shard *shard))
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < r->copy.n_shards; i++)
        if (is_wanted(r, r->copy.shards[i].keyspace)) size += r->copy.shards[i].size;
    r->progress = progress_begin(what, 0, size);
    for (uint32_t i = 0; i < r->copy.n_shards; i++)
        if (is_wanted(r, r->copy.shards[i].keyspace) && !visit(r, &r->copy.shards[i]))
            return false;
    progress_hide(&r->progress);
    return true;
}

/* What there must be, as far as that is certain: keys with a deadline may be gone again, and
 * where keys were before, there may be more. */
static bool counts_fit(const struct run *r, const struct manifest *now, uint32_t keyspace)
{
    const struct load_tally *t = &r->tallies[keyspace];
    const uint64_t keys = keys_in(now, &r->copy.keyspaces[keyspace]);

    if (keys < t->plain) return false;
    return keys <= t->set + t->there || r->wish->resume || r->wish->overwrite;
}

static bool count_all(struct run *r)
{
    const uint64_t began_ms = clock_ms();

    for (;;) {
        struct manifest now;
        uint32_t wrong = r->copy.n_keyspaces;
        const bool told = (r->link.open || link_again(&r->link)) &&
                          link_layout(&r->link, &r->mem, &now);
        for (uint32_t i = 0; told && i < r->copy.n_keyspaces; i++)
            if (is_wanted(r, i) && !counts_fit(r, &now, i)) wrong = i;
        if (told && wrong == r->copy.n_keyspaces) {
            manifest_free(&now);
            return true;
        }
        if (clock_ms() - began_ms < COUNT_FOR_MS) {
            if (told) manifest_free(&now);
            sleep_ms(PAUSE_MS);
            continue;
        }
        if (!told) return fail(r, r->link.error);
        const struct copy_keyspace *k = &r->copy.keyspaces[wrong];
        const uint64_t keys = keys_in(&now, k);
        const uint64_t wanted = r->tallies[wrong].set + r->tallies[wrong].there;
        manifest_free(&now);
        trouble(
            "keyspace %s holds %llu keys, and %llu were restored; somebody else writes "
            "to it, or keys were lost",
            k->name, (unsigned long long)keys, (unsigned long long)wanted);
        return false;
    }
}

static struct load_tally sum_of(const struct run *r)
{
    struct load_tally sum = {0};

    for (uint32_t i = 0; i < r->copy.n_keyspaces; i++) {
        sum.set += r->tallies[i].set;
        sum.there += r->tallies[i].there;
        sum.expired += r->tallies[i].expired;
        sum.conflicts += r->tallies[i].conflicts;
    }
    return sum;
}

static void print_tally(const char *name, const struct load_tally *t)
{
    printf("{\"keyspace\":\"%s\",\"restored\":%llu,\"there\":%llu,\"expired\":%llu,"
           "\"conflicts\":%llu}",
           name, (unsigned long long)t->set, (unsigned long long)t->there,
           (unsigned long long)t->expired, (unsigned long long)t->conflicts);
}

static void tell_end(const struct run *r, double seconds)
{
    const struct load_tally sum = sum_of(r);
    bool first = true;

    if (!r->wish->json) {
        printf(
            "restored: %llu keys, in %.1f s; %llu were there already, %llu left out as "
            "expired\n",
            (unsigned long long)sum.set, seconds, (unsigned long long)sum.there,
            (unsigned long long)sum.expired);
        return;
    }
    fputs("{\"keyspaces\":[", stdout);
    for (uint32_t i = 0; i < r->copy.n_keyspaces; i++) {
        if (!is_wanted(r, i)) continue;
        if (!first) putchar(',');
        first = false;
        print_tally(r->copy.keyspaces[i].name, &r->tallies[i]);
    }
    printf("],\"restored\":%llu,\"there\":%llu,\"expired\":%llu,\"conflicts\":%llu,"
           "\"seconds\":%.3f}\n",
           (unsigned long long)sum.set, (unsigned long long)sum.there,
           (unsigned long long)sum.expired, (unsigned long long)sum.conflicts, seconds);
}

static bool load_all(struct run *r)
{
    for (uint32_t i = 0; i < r->copy.n_keyspaces; i++)
        if (is_wanted(r, i) && !make_keyspace(r, &r->copy.keyspaces[i])) return false;
    r->load = (struct load){.link = &r->link,
                            .mem = &r->mem,
                            .dir = &r->dir,
                            .progress = &r->progress,
                            .overwrite = r->wish->overwrite};
    const bool good = load_begin(&r->load) && each_shard(r, "restored", load_one) &&
                      count_all(r);
    load_end(&r->load);
    return good;
}

static int restore(struct run *r)
{
    const uint64_t began_ms = clock_ms();

    if (!copy_dir_open(&r->dir, &r->mem, r->wish->dir, &r->copy))
        return trouble("%s", r->dir.error);
    if (!link_open(&r->link, &r->wish->target, LINK_TIMEOUT_MS) ||
        !link_layout(&r->link, &r->mem, &r->before))
        return trouble("%s", r->link.error);
    r->tallies = mem_zero(&r->mem, r->copy.n_keyspaces * sizeof *r->tallies);
    if (!may_begin(r)) return 1;
    if (!each_shard(r, "checked", check_shard)) return trouble("nothing was restored");
    if (!load_all(r)) {
        const struct load_tally sum = sum_of(r);
        progress_hide(&r->progress);
        return trouble("the restore is not complete: %llu keys were set; --continue goes "
                       "on with it",
                       (unsigned long long)sum.set);
    }
    tell_end(r, (double)(clock_ms() - began_ms) / 1000);
    const uint64_t conflicts = sum_of(r).conflicts;
    if (conflicts == 0) return 0;
    return trouble(
        "%llu keys were there with another value or deadline, and were left as "
        "they are; --overwrite replaces them",
        (unsigned long long)conflicts);
}

/* ---- words ---- */

static int read_wish(struct wish *w, int n, const char *const *args)
{
    const struct option options[] = {
        {"--continue", .set = &w->resume},
        {"--overwrite", .set = &w->overwrite},
        {"--keyspace", .values = &w->keyspaces, .wants = "a name"},
        {"--json", .set = &w->json}};
    const struct grammar grammar = {"restore", options, 4, &w->target};
    struct words words;

    const int wrong = read_words(&grammar, n, args, &words);
    if (wrong != 0) return wrong;
    if (words.n == 0)
        return wrong_use("restore: from which directory? `sennit restore --help` shows "
                         "how");
    if (words.n > 1) return wrong_use("restore: one directory, not two");
    if (w->resume && w->overwrite)
        return wrong_use("restore: --continue leaves keys that are there, --overwrite "
                         "replaces them; give one");
    w->dir = words.all[0];
    return 0;
}

int command_restore(int n, const char *const *args)
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
    run.copy = run.before = manifest_new(&run.mem);
    const int code = restore(&run);
    if (run.tallies != NULL)
        mem_free(&run.mem, run.tallies, run.copy.n_keyspaces * sizeof *run.tallies);
    link_close(&run.link);
    copy_dir_close(&run.dir);
    manifest_free(&run.copy);
    manifest_free(&run.before);
    return code;
}
