/* SPDX-License-Identifier: Apache-2.0 */
/* peer - connections between servers.
 *
 * Each server dials each other one and sends on what it dialed; what it accepted it reads.
 * So a pair has two connections, and either can break without the other.  Only a server that
 * is not reached at its address (it just joined, or was just started again) is answered on the
 * connection it dialed.  When there is a better way, what has begun goes on by the old one; and
 * requests that must not pass those sent there wait for them (request.c).
 *
 *   dialer                          acceptor
 *   HELLO (name, nonce)      ──►
 *                            ◄──    HELLO (name, nonce)
 *   PROOF over its nonce     ──►                            with a cluster secret only
 *                            ◄──    PROOF over its nonce
 *   BATCH, PIECE ...         ──►    JOIN instead, for a server without identity
 *
 * What is dialed only sends, and would not notice that nobody listens any more (a firewall, a
 * cut that swallowed the end): so it pings now and then with an empty BATCH, which the acceptor
 * answers with another.
 *
 * Every frame names cluster, sender, receiver and the sender's incarnation; what does not fit
 * the connection's HELLO is refused, and why is told in a REFUSED frame.
 */
#include "server/server_state.h"

#include <stdio.h>

enum {
    PEER_OUT_MAX = 64 << 20,
    BATCH_FRAME_BYTES = 512 * 1024,
    DIAL_FIRST_MS = 50,
    DIAL_MOST_MS = 1000,
    GREETING_MS = 5000,
    JOIN_GREETING_MS = 2000, /* an operator waits for it, or for a word */
    JOINING_MS = 60000,      /* the answer to a joiner may take as long as an election */
    STRANGERS_MAX = 64,      /* accepted connections of whom no member is known to be */
    PING_MS = 1000,
    TWIN_MS = 3000,       /* heard within it, a server with the same identity is there */
    TWIN_ENDS_MS = 10000, /* up for so long, the older life's connections have ended */
    SILENT_MS = 5000, /* a connection whose pings are not answered for so long is dead */
    MESSAGE_HEAD = 9, /* u32 length, u32 group, u8 kind */
};

/* A request may be of two largest values, client-query-buffer-limit; what it is read by, and
 * what it goes in, is more than that. */
#define BULK_BYTES_MAX (2 * VALUE_MAX + (UINT64_C(32) << 20))
static_assert(BULK_BYTES_MAX > REPLY_BYTES_MAX + (UINT64_C(128) << 20),
              "errors of an EXEC of FORWARD_COMMANDS_MAX fit, too");

static size_t address_len(const char *address)
{
    const size_t len = strlen(address);
    return len < META_ADDRESS_MAX ? len : META_ADDRESS_MAX;
}

struct peer *peer_find(const struct server *s, struct server_id id)
{
    return hmap_find(&s->peers, id.v);
}

static struct peer *peer_get(struct server *s, struct server_id id)
{
    struct peer *p = peer_find(s, id);
    if (p != NULL) return p;
    p = mem_zero(s->mem, sizeof *p);
    p->id = id;
    p->batch = buf_new(s->mem);
    hmap_put(&s->peers, id.v, p);
    return p;
}

static void bulk_free(struct server *s, struct bulk *b)
{
    buf_free(&b->bytes);
    far_drop(&b->far);
    mem_free(s->mem, b, sizeof *b);
}

bool peer_is_moving(const struct server *s, struct server_id id)
{
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        const struct peer_conn *c = value;
        if (c->id.v == id.v && (c->bulk != NULL || c->piece_total > 0)) return true;
    }
    return false;
}

struct conn_id peer_way(const struct server *s, struct server_id id)
{
    const struct peer *p = peer_find(s, id);
    return p == NULL || p->way == NULL ? (struct conn_id){0} : p->way->conn;
}

bool peer_reachable(const struct server *s, struct server_id id)
{
    return peer_way(s, id).v != 0;
}

uint32_t peer_feature(const struct server *s, struct server_id id)
{
    const struct peer *p = peer_find(s, id);
    if (id.v == s->identity.server.v) return s->config.feature;
    return p == NULL || p->way == NULL ? 0 : p->way->feature;
}

/* ---- connections ---- */

static struct peer_conn *conn_new(struct server *s, struct conn_id id, bool dialed)
{
    struct peer_conn *c = mem_zero(s->mem, sizeof *c);
    c->conn = id;
    c->dialed = dialed;
    c->in = buf_new(s->mem);
    c->out = buf_new(s->mem);
    c->bulk_end = &c->bulk;
    c->piece = buf_new(s->mem);
    vouches_init(&c->out_vouches, s->mem);
    vouches_init(&c->in_vouches, s->mem);
    c->opened = s->now;
    hmap_put(&s->conns, id.v, c);
    return c;
}

static void conn_free(struct server *s, struct peer_conn *c)
{
    hmap_remove(&s->conns, c->conn.v);
    while (c->bulk != NULL) {
        struct bulk *b = c->bulk;
        c->bulk = b->next;
        bulk_free(s, b);
    }
    buf_free(&c->in);
    buf_free(&c->out);
    buf_free(&c->piece);
    vouches_free(&c->out_vouches);
    vouches_free(&c->in_vouches);
    mem_free(s->mem, c, sizeof *c);
}

static struct conn_id dial(struct server *s, const char *address, struct server_id id)
{
    s->next_conn += 2; /* what we dial is even */
    const struct conn_id conn = {s->next_conn};
    struct peer_conn *c = conn_new(s, conn, true);
    c->state = PEER_DIALING;
    c->id = id;
    const size_t len = address_len(address);
    memcpy(c->address, address, len);
    struct server_action *a = server_act(s, SERVER_DIAL);
    a->conn = conn;
    a->text = c->address;
    return conn;
}

static void tell_shards_lost(struct server *s, struct server_id id)
{
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = s->all_slots[i];
        if (slot->shard != NULL && shard_peer_lost(slot->shard, id, s->now))
            slot_touch(s, slot);
    }
}

/* The peer is not to be heard any more over this connection: who waited for it is told. */
static void peer_lost(struct server *s, struct server_id id)
{
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        const struct peer_conn *other = value;
        if (other->id.v == id.v && other->state == PEER_UP && !other->dialed) return;
    }
    tell_shards_lost(s, id);
}

/* What went in pieces and had not arrived: to be sent again. */
static void unsent(struct server *s, struct server_id to)
{
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = s->all_slots[i];
        if (slot->shard != NULL && shard_unsent(slot->shard, to, s->now))
            slot_touch(s, slot);
    }
}

/* There is a connection with it (again): shards of which it is a member go on with it, and
 * whoever waits for a way to it tries. */
static void peer_up(struct server *s, struct server_id id)
{
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = s->all_slots[i];
        if (slot->shard != NULL && shard_peer_up(slot->shard, id, s->now))
            slot_touch(s, slot);
        if (slot->waiting != NULL) slot_touch(s, slot);
    }
}

void peers_tell(struct server *s, struct shard *shard)
{
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&s->conns, &at, &key, &value)) {
        const struct peer_conn *c = value;
        if (c->state == PEER_UP && c->id.v != 0)
            (void)shard_peer_up(shard, c->id, s->now);
    }
}

static void conn_lost(struct server *s, struct peer_conn *c)
{
    const struct server_id id = c->id;
    const struct conn_id conn = c->conn;
    const bool was_up = c->state == PEER_UP;
    struct peer *p = id.v == 0 ? NULL : peer_find(s, id);
    if (s->join_conn == c) {
        s->join_conn = NULL;
        s->join_at.ns = s->now.ns + 500 * MS_NS;
    }
    /* Half a stream is of no use to another connection. */
    const bool lost_bulk = c->bulk != NULL;
    if (p != NULL && p->way == c) {
        p->way = NULL;
        p->batch.len = 0;
    }
    if (p != NULL && c->dialed) {
        const uint64_t wait_ms = p->dial_tries > 4
                                     ? DIAL_MOST_MS
                                     : (uint64_t)DIAL_FIRST_MS << p->dial_tries;
        p->dial_at.ns = s->now.ns + wait_ms * MS_NS;
        if (p->dial_tries < 16) p->dial_tries++;
    }
    vouch_conn_lost(s, c);
    conn_free(s, c);
    if (was_up) requests_conn_lost(s, conn);
    if (lost_bulk) unsent(s, id);
    if (was_up && p != NULL) peer_lost(s, id);
}

static void conn_close(struct server *s, struct peer_conn *c, const char *why)
{
    struct server_action *a = server_act(s, SERVER_CLOSE);
    a->conn = c->conn;
    a->text = why;
    conn_lost(s, c);
}

void peer_learn(struct server *s, struct server_id id, const char *address)
{
    struct peer *p = peer_get(s, id);
    if (strcmp(p->address.at, address) == 0) return;
    p->address.len = (uint8_t)address_len(address);
    memcpy(p->address.at, address, p->address.len);
    p->address.at[p->address.len] = 0;
    p->dial_at = s->now;
    p->dial_tries = 0;
    if (p->way != NULL && p->way->dialed) { /* it has moved */
        conn_close(s, p->way, "it has another address now");
    }
}

void peer_forget(struct server *s, struct server_id id)
{
    struct peer *p = peer_find(s, id);
    if (p == NULL) return;
    if (p->way != NULL) conn_close(s, p->way, "it is no member any more");
    hmap_remove(&s->peers, id.v);
    buf_free(&p->batch);
    mem_free(s->mem, p, sizeof *p);
}

/* ---- frames out ---- */

static struct frame head_of(const struct server *s, const struct peer_conn *c,
                            enum frame_kind kind)
{
    return (struct frame){
        .kind = kind,
        .cluster = s->identity.cluster,
        .from = s->identity.server,
        .to = c->id,
        .incarnation = s->incarnation,
    };
}

static void refuse(struct server *s, struct peer_conn *c, enum refused_for what,
                   const char *why)
{
    s->stats.peer_refused++;
    server_log(s, LOG_WARNING, "refused a peer connection from %s: %s", c->address, why);
    const struct frame head = head_of(s, c, FRAME_REFUSED);
    const size_t at = frame_begin(&c->out, &head);
    buf_put_u8(&c->out, (uint8_t)what);
    buf_put(&c->out, why, strlen(why));
    frame_end(&c->out, at);
    struct server_action *a = server_act(s, SERVER_SEND);
    a->conn = c->conn;
    a->bytes = server_keep(s, buf_bytes(&c->out));
    conn_close(s, c, "refused");
}

static void send_refused(struct server *s, struct peer_conn *c, const char *why)
{
    refuse(s, c, REFUSED_OTHER, why);
}

static void send_hello(struct server *s, struct peer_conn *c)
{
    store_u64le(c->nonce, prng_next(&s->prng));
    store_u64le(c->nonce + 8, prng_next(&s->prng));
    const struct meta_server *to = meta_server(&s->meta, c->id);
    struct hello h = {.name = bytes_of_str(s->identity.name),
                      .to_name = bytes_of_str(to == NULL ? "" : to->name.at),
                      .secret = s->config.secret.len > 0,
                      .feature = s->config.feature};
    memcpy(h.nonce, c->nonce, sizeof h.nonce);
    const struct frame head = head_of(s, c, FRAME_HELLO);
    const size_t at = frame_begin(&c->out, &head);
    hello_encode(&c->out, &h);
    frame_end(&c->out, at);
}

/* Which side speaks is part of what is signed, so that a proof can't be sent back. */
static void proof_of(const struct server *s, bool dialer, const uint8_t nonce[16],
                     uint8_t out[32])
{
    uint8_t message[17];
    message[0] = dialer ? 'd' : 'a';
    memcpy(message + 1, nonce, 16);
    s->config.mac(s->config.secret, (struct bytes){message, sizeof message}, out);
}

static void send_proof(struct server *s, struct peer_conn *c, const uint8_t nonce[16])
{
    uint8_t proof[32];
    proof_of(s, c->dialed, nonce, proof);
    const struct frame head = head_of(s, c, FRAME_PROOF);
    const size_t at = frame_begin(&c->out, &head);
    buf_put(&c->out, proof, sizeof proof);
    frame_end(&c->out, at);
}

static void send_join(struct server *s, struct peer_conn *c)
{
    const struct join j = {
        .name = bytes_of_str(s->identity.name),
        .client = s->config.advertise_client,
        .peer = s->config.advertise_peer,
        .zone = s->config.zone,
    };
    const struct frame head = head_of(s, c, FRAME_JOIN);
    const size_t at = frame_begin(&c->out, &head);
    join_encode(&c->out, &j);
    frame_end(&c->out, at);
}

static void send_ping(struct server *s, struct peer_conn *c)
{
    const struct frame head = head_of(s, c, FRAME_BATCH);
    frame_end(&c->out, frame_begin(&c->out, &head));
}

static void flush_batch(struct server *s, struct peer *p)
{
    if (p->batch.len == 0) return;
    const struct frame head = head_of(s, p->way, FRAME_BATCH);
    const size_t at = frame_begin(&p->way->out, &head);
    buf_put(&p->way->out, p->batch.at, p->batch.len);
    frame_end(&p->way->out, at);
    p->batch.len = 0;
}

/* ---- greeting ---- */

static struct peer_conn *conn_of_other_life(struct server *s, const struct peer_conn *c)
{
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&s->conns, &at, &key, &value)) {
        struct peer_conn *other = value;
        if (other != c && other->id.v == c->id.v && other->state == PEER_UP &&
            other->incarnation.v != c->incarnation.v)
            return other;
    }
    return NULL;
}

/* Another life of that server: what the one before said, or is said to have lost, is over.
 * Its connections may not have heard of its end yet. */
static void life_begins(struct server *s, struct peer *p, const struct peer_conn *c)
{
    const bool had_another = p->incarnation.v != 0 &&
                             p->incarnation.v != c->incarnation.v;

    p->incarnation = c->incarnation;
    if (!had_another) return;
    for (struct peer_conn *old; (old = conn_of_other_life(s, c)) != NULL;)
        conn_close(s, old, "its server has begun another life");
    tell_shards_lost(s, c->id);
}

static struct peer_conn *conn_given_up(struct server *s, const struct peer_conn *c)
{
    uint64_t at = 0, key;
    void *value;

    while (hmap_next(&s->conns, &at, &key, &value)) {
        struct peer_conn *other = value;
        if (!other->dialed && other->state == PEER_UP && other->id.v == c->id.v &&
            other->conn.v < c->conn.v)
            return other;
    }
    return NULL;
}

/* Who dials again has given up what it dialed before: what it sent there, and takes for lost,
 * is not to come behind what it sends now. */
static void close_given_up(struct server *s, const struct peer_conn *c)
{
    for (struct peer_conn *old; (old = conn_given_up(s, c)) != NULL;)
        conn_close(s, old, "its server has dialed again");
}

/* A copied data directory, or the next life of one whose connections have not ended yet. */
static bool has_twin(const struct server *s, const struct peer_conn *c)
{
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        const struct peer_conn *other = value;
        if (other->dialed || other->state != PEER_UP || other->id.v != c->id.v) continue;
        if (other->incarnation.v == c->incarnation.v) continue;
        if (s->now.ns < other->heard.ns + TWIN_MS * MS_NS) return true;
    }
    return false;
}

static bool is_old(const struct server *s, const struct peer_conn *c)
{
    return s->meta.founded && c->feature < s->meta.cluster.feature;
}

static void old_text(const struct server *s, const struct peer_conn *c, char out[160])
{
    snprintf(out, 160,
             "it speaks feature level %u, and the cluster is at level %u: start a newer "
             "version of sennit on its data",
             c->feature, s->meta.cluster.feature);
}

static void refuse_old(struct server *s, struct peer_conn *c)
{
    char why[160];
    old_text(s, c, why);
    refuse(s, c, REFUSED_OLD, why);
}

/* False: it is not let in, and gone. */
static bool let_in(struct server *s, struct peer_conn *c)
{
    if (is_old(s, c))
        refuse_old(s, c);
    else if (c->dialed)
        return true;
    else if (meta_was_removed(&s->meta, c->id))
        refuse(s, c, REFUSED_REMOVED, "it was removed from the cluster");
    else if (has_twin(s, c))
        refuse(s, c, REFUSED_TWIN,
               "another process with its identity is connected: a copy of its data "
               "directory?");
    else
        return true;
    return false;
}

/* False: c is gone. */
static bool conn_is_up(struct server *s, struct peer_conn *c)
{
    if (c->claimed) {
        server_exit(s, 1,
                    "a member of another cluster, at %s, knows this server as its member "
                    "'%s', and this data directory is not that member's: start it with "
                    "its own data; or remove it there (sennit cluster remove %s), and "
                    "start it with an empty directory and --join",
                    c->address, s->identity.name, s->identity.name);
        return true;
    }
    if (c->id.v != 0 && c != s->join_conn && !let_in(s, c)) return false;
    c->state = PEER_UP;
    c->heard = s->now;
    c->ping_at.ns = s->now.ns + PING_MS * MS_NS;
    if (c == s->join_conn) {
        send_join(s, c);
        return true;
    }
    if (c->id.v == 0) return true; /* it will ask to join */
    struct peer *p = peer_get(s, c->id);
    p->heard = s->now;
    life_begins(s, p, c);
    if (!c->dialed) close_given_up(s, c);
    /* While none that we dialed stands (its address is not known, or is no longer right) the
     * newest connection from there is the way back. */
    if (c->dialed || p->way == NULL || !p->way->dialed) {
        if (p->way != NULL) flush_batch(s, p); /* what is said on it goes out on it */
        p->way = c;
        p->dial_tries = 0;
    }
    peer_up(s, c->id);
    return true;
}

/* We are alone in our cluster, and who dials means us. */
static bool is_claimed(const struct server *s, const struct peer_conn *c,
                       const struct frame *f, const struct hello *h)
{
    return !c->dialed && s->meta.founded && s->meta.n_servers == 1 &&
           f->cluster.v != s->identity.cluster.v && f->cluster.v != 0 &&
           f->cluster.v != s->identity.was.v &&
           bytes_equal(h->to_name, bytes_of_str(s->identity.name));
}

static const char *hello_refusal(const struct server *s, const struct peer_conn *c,
                                 const struct frame *f, const struct hello *h)
{
    if (h->feature > s->config.feature + 1)
        return "its feature level is more than one ahead: upgrade by one version at a "
               "time";
    if (h->secret != (s->config.secret.len > 0))
        return h->secret
                   ? "this server has no cluster secret; start it with "
                     "--cluster-secret-file like the others"
                   : "a cluster secret is needed here; start with --cluster-secret-file";
    if (f->cluster.v == 0 && f->from.v == 0) /* a joiner; only we can be asked */
        return c->dialed ? "it is not a member of a cluster yet" : NULL;
    if (s->identity.cluster.v == 0) return NULL; /* we want to join its cluster */
    if (f->cluster.v == s->identity.was.v)
        return "the cluster was recovered without it (sennit recover): it may join with "
               "an "
               "empty data directory";
    if (f->cluster.v != s->identity.cluster.v) return "it belongs to another cluster";
    if (f->from.v == s->identity.server.v)
        return "it has this server's own id: a copy of its data directory?";
    if (f->to.v != 0 && f->to.v != s->identity.server.v)
        return "it looks for another server at this address";
    if (c->dialed && c->id.v != 0 && f->from.v != c->id.v)
        return "another server answers at this address";
    return NULL;
}

static bool on_hello(struct server *s, struct peer_conn *c, const struct frame *f)
{
    struct hello h;
    if (c->hello_got || !hello_decode(f->body, &h)) {
        send_refused(s, c, "malformed greeting");
        return false;
    }
    const char *why = hello_refusal(s, c, f, &h);
    c->claimed = is_claimed(s, c, f, &h) && h.secret == (s->config.secret.len > 0);
    if (why != NULL && !c->claimed) {
        const bool foreign = c->dialed && f->cluster.v != s->identity.cluster.v;
        const bool outlived = !c->dialed && f->cluster.v != 0 &&
                              f->cluster.v == s->identity.was.v;
        if ((foreign || outlived) && s->config.secret.len > 0 && h.secret)
            send_proof(s, c, h.nonce);
        refuse(s, c, outlived ? REFUSED_RECOVERED : REFUSED_OTHER, why);
        return false;
    }
    c->hello_got = true;
    c->id = f->from;
    c->incarnation = f->incarnation;
    c->feature = h.feature;
    if (!c->dialed) send_hello(s, c);
    if (s->config.secret.len == 0) return conn_is_up(s, c);
    send_proof(s, c, h.nonce);
    return true;
}

static bool on_proof(struct server *s, struct peer_conn *c, const struct frame *f)
{
    uint8_t want[32];
    uint8_t differs = 0;
    proof_of(s, !c->dialed, c->nonce, want);
    for (size_t i = 0; f->body.len == sizeof want && i < sizeof want; i++)
        differs |= (uint8_t)(want[i] ^ f->body.at[i]);
    /* Who refuses us says nothing before it but that it may. */
    const bool to_refuse = c->dialed && !c->hello_got;
    if (f->body.len != sizeof want || differs != 0 || (!c->hello_got && !to_refuse)) {
        send_refused(s, c, "wrong cluster secret");
        return false;
    }
    c->proved = true;
    return to_refuse || conn_is_up(s, c);
}

/* ---- members that go ---- */

static void refuse_removed(struct server *s)
{
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        struct peer_conn *c = value;
        if (c->dialed || c->state != PEER_UP || !meta_was_removed(&s->meta, c->id))
            continue;
        refuse(s, c, REFUSED_REMOVED, "it was removed from the cluster");
        at = 0; /* the table has changed */
    }
}

void peers_refuse_old(struct server *s)
{
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        struct peer_conn *c = value;
        if (c->state != PEER_UP || c->id.v == 0 || !is_old(s, c)) continue;
        refuse_old(s, c);
        at = 0; /* the table has changed */
    }
}

/* Members that the meta shard no longer names, and whose address may be another's by now. */
void peers_forget_strangers(struct server *s)
{
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->peers, &at, &key, &value)) {
        const struct peer *p = value;
        if (p->address.len == 0 || meta_server(&s->meta, p->id) != NULL) continue;
        peer_forget(s, p->id);
        at = 0; /* the table has changed */
    }
    refuse_removed(s);
}

/* ---- joining: the member that was asked ---- */

static struct peer_conn *conn_find(const struct server *s, struct conn_id id)
{
    return hmap_find(&s->conns, id.v);
}

void peer_joined_reply(struct server *s, struct conn_id conn, const struct joined *j)
{
    struct peer_conn *c = conn_find(s, conn);
    if (c == NULL) return;
    const struct frame head = head_of(s, c, FRAME_JOINED);
    const size_t at = frame_begin(&c->out, &head);
    joined_encode(&c->out, j);
    frame_end(&c->out, at);
}

static void join_done(struct server *s, struct request *r,
                      const struct forward_reply *reply, enum outcome o)
{
    struct joined j;
    if (o == OUTCOME_NONE && joined_decode(reply->bytes, &j)) {
        peer_joined_reply(s, r->client, &j);
        return;
    }
    const struct joined no = {
        .text = bytes_of_str(o == OUTCOME_NONE ? "the cluster's answer can't be read"
                                               : outcome_row(o)->text)};
    peer_joined_reply(s, r->client, &no);
}

static void refuse_joiner(struct server *s, const struct peer_conn *c)
{
    char text[200] = "ERR ";
    old_text(s, c, text + 4);
    const struct joined no = {.text = bytes_of_str(text)};
    peer_joined_reply(s, c->conn, &no);
}

static bool on_join(struct server *s, struct peer_conn *c, const struct frame *f)
{
    struct join j;
    if (c->joining || c->id.v != 0 || !join_decode(f->body, &j)) {
        send_refused(s, c, "malformed request to join");
        return false;
    }
    if (s->phase != PHASE_RUNNING) {
        send_refused(s, c,
                     "this server is not a member itself yet; try another one, or again");
        return false;
    }
    c->joining = true;
    if (is_old(s, c)) {
        refuse_joiner(s, c);
        return true;
    }
    uint8_t life[8];
    store_u64le(life, f->incarnation.v);
    const struct bytes args[] = {BYTES_OF("JOIN"), j.name, j.client,
                                 j.peer,           j.zone, {life, sizeof life}};
    struct request *r = request_to_meta(s, 2, args, 6);
    r->done = join_done;
    r->client = c->conn;
    request_submit(s, r);
    return true;
}

static bool on_joined(struct server *s, struct peer_conn *c, const struct frame *f)
{
    struct joined j;
    if (c != s->join_conn || !joined_decode(f->body, &j)) {
        send_refused(s, c, "an answer to no question");
        return false;
    }
    s->join_conn = NULL;
    start_joined(s, &j);
    conn_close(s, c, "joined");
    return false;
}

/* ---- messages in ---- */

static bool on_raft(struct server *s, struct peer_conn *c, const struct message *m,
                    struct block *block)
{
    struct raft_msg msg;
    if (!raft_msg_decode(m->body, &msg, s->entries, SERVER_ENTRIES_MAX)) return false;
    for (uint32_t i = 0; block != NULL && i < msg.n_entries; i++)
        if (s->entries[i].payload.len >= BLOCK_BYTES_MIN) s->entries[i].block = block;
    if (msg.from.v != c->id.v || msg.to.v != s->identity.server.v) return false;
    struct slot *slot = server_slot_find(s, m->group);
    if (slot == NULL || slot->shard == NULL || slot->retiring != RETIRE_NOT)
        return true; /* not placed here yet, or no more */
    shard_receive(slot->shard, &msg, s->now);
    vouch_heard(s, c, slot, &msg);
    slot_touch(s, slot);
    return true;
}

static bool on_message(struct server *s, struct peer_conn *c, const struct message *m,
                       struct block *block)
{
    switch (m->kind) {
    case MESSAGE_RAFT: return on_raft(s, c, m, block);
    case MESSAGE_FORWARD: {
        struct forward f;
        if (!forward_decode(m->body, &f)) return false;
        request_forwarded(s, c->id, m->group, &f, block);
        return true;
    }
    case MESSAGE_FORWARD_REPLY: {
        struct forward_reply reply;
        if (!forward_reply_decode(m->body, &reply)) return false;
        request_reply(s, c->id, &reply, block);
        return true;
    }
    case MESSAGE_STATUS: return retire_message(s, c->id, m->group, m->body);
    case MESSAGE_QUIET: return vouch_message(s, c, m->group, m->body);
    case MESSAGE_REPORT: return report_message(s, c->id, m->body);
    case MESSAGE_KIND_END: break;
    }
    return false;
}

/* With a block, the body lies in it, and large entries are kept there. */
static bool on_batch(struct server *s, struct peer_conn *c, struct bytes body,
                     struct block *block)
{
    struct cursor in = cursor_of(body);
    struct message m;
    enum message_result got;
    while ((got = message_decode(&in, &m)) == MESSAGE_OK) {
        if (!on_message(s, c, &m, block)) {
            got = MESSAGE_MALFORMED;
            break;
        }
    }
    if (got == MESSAGE_END) return true;
    send_refused(s, c, "malformed message");
    return false;
}

static bool on_piece(struct server *s, struct peer_conn *c, struct bytes body)
{
    struct piece p;
    if (!piece_decode(body, &p) || p.total > BULK_BYTES_MAX) {
        send_refused(s, c, "malformed piece");
        return false;
    }
    if (p.offset == 0) {
        c->piece.len = 0;
        c->piece_stream = p.stream;
        c->piece_total = p.total;
        buf_reserve(&c->piece, p.total);
    }
    if (p.stream != c->piece_stream || p.offset != c->piece.len ||
        p.total != c->piece_total)
        return true; /* of a stream whose beginning we did not see: lost as any message may be */
    buf_put(&c->piece, p.bytes.at, p.bytes.len);
    if (c->piece.len < p.total) return true;
    struct block *whole = block_take(&c->piece);
    c->piece_stream = c->piece_total = 0;
    const bool alive = on_batch(s, c, buf_bytes(&whole->bytes), whole);
    block_unref(whole);
    return alive;
}

/* Said by a member of our cluster, which has proved to be one if that is needed. */
static bool is_members_word(const struct server *s, const struct peer_conn *c,
                            const struct frame *f)
{
    return c->dialed && c->state == PEER_UP && c->id.v != 0 && f->from.v == c->id.v &&
           f->cluster.v == s->identity.cluster.v && f->to.v == s->identity.server.v;
}

/* Said at the address of a member, in its name, by one that knows the secret if there is one. */
static bool is_survivors_word(const struct server *s, const struct peer_conn *c,
                              const struct frame *f)
{
    return c->dialed && c->id.v != 0 && f->from.v == c->id.v &&
           f->cluster.v != s->identity.cluster.v &&
           s->config.mutant.server != 9 && /* the simulator's */
           (s->config.secret.len == 0 || c->proved);
}

void server_was_removed(struct server *s)
{
    server_exit(s, 1,
                "this server was removed from the cluster, and holds nothing of it any "
                "more; its data directory can go.  To come back it starts with an empty "
                "one and --join");
}

static bool on_refused(struct server *s, struct peer_conn *c, const struct frame *f)
{
    const uint8_t what = f->body.len > 0 ? f->body.at[0] : REFUSED_OTHER;
    const int len = (int)(f->body.len < 200 ? f->body.len : 200);
    server_log(s, LOG_WARNING, "%s refuses us: %.*s", c->address, len > 0 ? len - 1 : 0,
               (const char *)f->body.at + (len > 0));
    if (is_members_word(s, c, f) && what == REFUSED_REMOVED) server_was_removed(s);
    if (is_members_word(s, c, f) && what == REFUSED_OLD)
        server_exit(
            s, 1,
            "this version of sennit speaks feature level %u, and the cluster is at "
            "a higher one (%s says so): start the newer version on this data "
            "directory",
            s->config.feature, c->address);
    if (is_survivors_word(s, c, f) && what == REFUSED_RECOVERED)
        server_exit(s, 1,
                    "the cluster was recovered without this server: %s goes on as "
                    "another (sennit recover).  What only this data directory holds is "
                    "for you to judge; to join, start with an empty one and --join",
                    c->address);
    if (is_members_word(s, c, f) && what == REFUSED_TWIN &&
        s->now.ns >= s->started.ns + TWIN_ENDS_MS * MS_NS)
        server_exit(s, 1,
                    "another process with this server's identity runs, and %s knows it: "
                    "one of the two data directories is a copy; keep the one that the "
                    "cluster has known, and start no other",
                    c->address);
    conn_close(s, c, "refused by the other side");
    return false;
}

static bool on_frame(struct server *s, struct peer_conn *c, const struct frame *f)
{
    if (f->kind == FRAME_REFUSED) return on_refused(s, c, f);
    c->heard = s->now;
    if (c->hello_got) {
        if (f->from.v != c->id.v || f->incarnation.v != c->incarnation.v ||
            (f->cluster.v != s->identity.cluster.v && f->cluster.v != 0 &&
             s->identity.cluster.v != 0 && !c->claimed)) {
            send_refused(s, c, "a frame of another sender, cluster or life");
            return false;
        }
        struct peer *p = c->id.v == 0 ? NULL : peer_find(s, c->id);
        if (p != NULL) p->heard = s->now;
    }
    switch (f->kind) {
    case FRAME_HELLO: return on_hello(s, c, f);
    case FRAME_PROOF: return on_proof(s, c, f);
    case FRAME_JOIN:
    case FRAME_JOINED:
    case FRAME_BATCH:
    case FRAME_PIECE: break;
    case FRAME_REFUSED:
    case FRAME_KIND_END: check(false);
    }
    if (c->state != PEER_UP) {
        send_refused(s, c, "a message before the greeting was over");
        return false;
    }
    if (f->kind == FRAME_JOIN) return on_join(s, c, f);
    if (f->kind == FRAME_JOINED) return on_joined(s, c, f);
    if (f->kind == FRAME_BATCH && f->body.len == 0) {
        if (!c->dialed) send_ping(s, c);
        return true;
    }
    if (c->id.v == 0 || !s->wal_open) return true;
    return f->kind == FRAME_BATCH ? on_batch(s, c, f->body, NULL)
                                  : on_piece(s, c, f->body);
}

/* ---- events ---- */

/* Accepted, and not known to be a member's. */
static bool is_stranger(const struct peer_conn *c)
{
    return !c->dialed && (c->state != PEER_UP || c->id.v == 0);
}

/* Whoever reaches the port may connect, but not use up the descriptors: of more strangers than
 * there may be the oldest goes.  A greeting takes a round trip or two. */
static void strangers_bound(struct server *s)
{
    struct peer_conn *oldest = NULL;
    uint64_t at = 0, key;
    uint32_t n = 0;
    void *value;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        struct peer_conn *c = value;
        if (!is_stranger(c)) continue;
        n++;
        if (oldest == NULL || c->conn.v < oldest->conn.v) oldest = c;
    }
    if (n > STRANGERS_MAX)
        conn_close(s, oldest, "too many connections that are no member's");
}

void server_peer_open(struct server *s, struct conn_id conn, struct bytes address,
                      bool dialed)
{
    struct peer_conn *c = dialed ? conn_find(s, conn) : conn_new(s, conn, false);
    if (c == NULL) { /* given up meanwhile */
        server_act(s, SERVER_CLOSE)->conn = conn;
        return;
    }
    c->state = PEER_GREETING;
    c->opened = s->now;
    if (dialed) {
        send_hello(s, c);
        return;
    }
    const size_t len = address.len < META_ADDRESS_MAX ? address.len : META_ADDRESS_MAX;
    if (len > 0) memcpy(c->address, address.at, len);
    strangers_bound(s);
}

uint8_t *server_peer_space(struct server *s, struct conn_id conn, size_t *room)
{
    struct peer_conn *c = conn_find(s, conn);
    enum { ROOM = 256 * 1024 };
    if (c == NULL) {
        *room = SERVER_SPARE_BYTES;
        return s->spare;
    }
    buf_reserve(&c->in, ROOM);
    *room = c->in.cap - c->in.len;
    return c->in.at + c->in.len;
}

void server_peer_data(struct server *s, struct conn_id conn, size_t len)
{
    struct peer_conn *c = conn_find(s, conn);
    if (c == NULL) return;
    buf_extend(&c->in, len);
    size_t at = 0;
    for (;;) {
        struct frame f;
        size_t used, want;
        const struct bytes left = {c->in.at + at, c->in.len - at};
        const enum frame_result got = frame_decode(left, &used, &want, &f);
        if (got == FRAME_SHORT) break;
        if (got != FRAME_OK) {
            send_refused(s, c, frame_result_text(got));
            return;
        }
        if (!on_frame(s, c, &f)) return; /* c is gone */
        at += used;
    }
    buf_cut_front(&c->in, at);
}

void server_peer_closed(struct server *s, struct conn_id conn, const char *why)
{
    struct peer_conn *c = conn_find(s, conn);
    if (c == NULL) return;
    if (c->state == PEER_UP || c == s->join_conn)
        server_log(s, LOG_INFO, "lost the %s connection with server %u at %s: %s",
                   c->dialed ? "dialed" : "accepted", c->id.v, c->address, why);
    conn_lost(s, c);
}

/* ---- messages out ---- */

struct buf *peer_say(struct server *s, struct server_id to, struct group_id group,
                     enum message_kind kind, size_t *start)
{
    struct peer *p = peer_find(s, to);
    if (p == NULL || p->way == NULL) return NULL;
    if (p->way->out.len > PEER_OUT_MAX) return NULL;
    *start = message_begin(&p->batch, group, kind);
    return &p->batch;
}

/* The last message of the batch goes in pieces, so that it holds nothing up.  A large one is
 * not copied: what little lies before it is. */
static struct bulk *make_bulk(struct server *s, struct peer *p, size_t start)
{
    struct bulk *b = mem_zero(s->mem, sizeof *b);
    struct buf before = buf_new(s->mem);
    buf_put(&before, p->batch.at, start);
    b->bytes = p->batch;
    b->skip = start;
    b->stream = ++s->next_stream;
    p->batch = before;
    *p->way->bulk_end = b;
    p->way->bulk_end = &b->next;
    return b;
}

void peer_said(struct server *s, struct server_id to, size_t start)
{
    struct peer *p = peer_find(s, to);
    message_end(&p->batch, start);
    const size_t len = p->batch.len - start;
    if (len > PIECE_BYTES) make_bulk(s, p, start);
    if (p->batch.len > BATCH_FRAME_BYTES - PIECE_BYTES - MESSAGE_HEAD) flush_batch(s, p);
}

void peer_said_around(struct server *s, struct server_id to, size_t start,
                      const struct far *far)
{
    struct peer *p = peer_find(s, to);
    message_end_with(&p->batch, start, far->len);
    struct bulk *b = make_bulk(s, p, start);
    b->far = *far;
    block_ref(far->block);
}

/* The run that goes on at `sent`, as far as it is there. */
static struct bytes bulk_next(const struct bulk *b)
{
    const struct far *far = &b->far;
    const uint64_t head = (far->block != NULL ? far->at : b->bytes.len) - b->skip;
    if (b->sent < head)
        return (struct bytes){b->bytes.at + b->skip + b->sent, head - b->sent};
    const uint64_t in = b->sent - head;
    if (far->block != NULL && in < far->len)
        return (struct bytes){far->block->bytes.at + far->from + in, far_there(far) - in};
    const uint64_t at = far->at + (in - far->len);
    return (struct bytes){b->bytes.at + at, b->bytes.len - at};
}

static void flush_bulk(struct server *s, struct peer_conn *c)
{
    while (c->bulk != NULL && c->out.len < PEER_OUT_PAUSE_BYTES) {
        struct bulk *b = c->bulk;
        const uint64_t total = b->bytes.len - b->skip + b->far.len;
        struct bytes run = bulk_next(b);
        if (run.len == 0) return; /* it is still being read */
        if (run.len > PIECE_BYTES) run.len = PIECE_BYTES;
        const struct frame head = head_of(s, c, FRAME_PIECE);
        const struct piece piece = {b->stream, b->sent, total, run};
        const size_t at = frame_begin(&c->out, &head);
        piece_encode(&c->out, &piece);
        frame_end(&c->out, at);
        b->sent += run.len;
        if (b->sent < total) continue;
        c->bulk = b->next;
        if (c->bulk == NULL) c->bulk_end = &c->bulk;
        bulk_free(s, b);
    }
}

static void conn_flush(struct server *s, struct peer_conn *c)
{
    if (c->send_busy || c->out.len == 0 || c->state == PEER_DIALING) return;
    struct server_action *a = server_act(s, SERVER_SEND);
    a->conn = c->conn;
    a->bytes = buf_bytes(&c->out);
    c->send_busy = true;
}

void peer_sent(struct server *s, struct conn_id conn, size_t taken)
{
    struct peer_conn *c = conn_find(s, conn);
    if (c == NULL) return;
    const bool all = taken == c->out.len;
    buf_cut_front(&c->out, taken);
    if (all) c->send_busy = false;
}

void peer_writable(struct server *s, struct conn_id conn)
{
    struct peer_conn *c = conn_find(s, conn);
    if (c != NULL) c->send_busy = false;
}

static void dial_who_is_due(struct server *s)
{
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->peers, &at, &key, &value)) {
        struct peer *p = value;
        if (p->address.len == 0 || s->now.ns < p->dial_at.ns) continue;
        if (p->way != NULL && p->way->dialed) continue;
        p->dial_at.ns = s->now.ns + GREETING_MS * MS_NS; /* conn_lost() sets it sooner */
        dial(s, p->address.at, p->id);
    }
}

static bool is_silent(const struct server *s, const struct peer_conn *c)
{
    const uint64_t greeting_ms = c == s->join_conn ? JOIN_GREETING_MS
                                 : c->joining      ? JOINING_MS
                                                   : GREETING_MS;
    if (c->state != PEER_UP || is_stranger(c))
        return s->now.ns >= c->opened.ns + greeting_ms * MS_NS;
    return c->id.v != 0 && c != s->join_conn &&
           s->now.ns >= c->heard.ns + SILENT_MS * MS_NS;
}

/* A greeting that never ends is an end, and so is silence. */
static void close_the_mute(struct server *s)
{
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        struct peer_conn *c = value;
        if (!is_silent(s, c)) continue;
        if (c == s->join_conn)
            server_log(s, LOG_WARNING,
                       "%s does not answer as a sennit server does; is that the "
                       "--peer address of a member? trying again",
                       c->address);
        conn_close(s, c, "it does not answer");
        at = 0; /* the table has changed */
    }
}

void peers_turn_end(struct server *s)
{
    if (s->wal_open) dial_who_is_due(s);
    close_the_mute(s);
    vouch_beats(s);
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->peers, &at, &key, &value)) {
        struct peer *p = value;
        if (p->way != NULL) flush_batch(s, p);
    }
    at = 0;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        struct peer_conn *c = value;
        if (c->dialed && c->state == PEER_UP && c->id.v != 0 &&
            s->now.ns >= c->ping_at.ns) {
            send_ping(s, c);
            c->ping_at.ns = s->now.ns + PING_MS * MS_NS;
        }
        if (c->pong_due && c->state == PEER_UP) send_ping(s, c);
        c->pong_due = false;
        flush_bulk(s, c);
        conn_flush(s, c);
    }
}

struct instant peers_wake(const struct server *s)
{
    struct instant wake = vouch_wake(s);
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->peers, &at, &key, &value)) {
        const struct peer *p = value;
        if (p->address.len == 0 || (p->way != NULL && p->way->dialed)) continue;
        if (wake.ns == 0 || p->dial_at.ns < wake.ns) wake = p->dial_at;
    }
    return wake;
}

void peer_dial_to_join(struct server *s)
{
    char address[META_ADDRESS_MAX + 1] = {0};
    const struct bytes to = s->config.join;
    memcpy(address, to.at, to.len < META_ADDRESS_MAX ? to.len : META_ADDRESS_MAX);
    const struct conn_id conn = dial(s, address, (struct server_id){0});
    s->join_conn = conn_find(s, conn);
}

void peers_free(struct server *s)
{
    uint64_t at = 0, key;
    void *value;
    while (hmap_next(&s->peers, &at, &key, &value)) {
        struct peer *p = value;
        buf_free(&p->batch);
        mem_free(s->mem, p, sizeof *p);
        at = 0;
        hmap_remove(&s->peers, key);
    }
    at = 0;
    while (hmap_next(&s->conns, &at, &key, &value)) {
        conn_free(s, value);
        at = 0;
    }
}
