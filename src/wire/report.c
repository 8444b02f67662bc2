/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/report.h"

static bool is_ask(enum report_kind kind)
{
    return kind == REPORT_ASK_REPLICAS || kind == REPORT_ASK_DIGESTS;
}

static bool has_rows(enum report_kind kind)
{
    return kind == REPORT_REPLICAS || kind == REPORT_DIGESTS;
}

void report_encode(struct buf *out, const struct report *r)
{
    check(r->kind >= REPORT_ASK_REPLICAS && r->kind < REPORT_KIND_END);
    check(r->n_rows <= REPORT_ROWS_MAX);
    check(r->n_rows == 0 || has_rows(r->kind));

    buf_put_u8(out, REPORT_VERSION);
    buf_put_u8(out, (uint8_t)r->kind);
    buf_put_u64(out, r->id);
    if (is_ask(r->kind)) buf_put_u32(out, r->keyspace);
    if (has_rows(r->kind)) buf_put_varint(out, r->n_rows);
}

void report_put_row(struct buf *out, enum report_kind kind, const struct report_row *row)
{
    check(has_rows(kind));

    buf_put_u32(out, row->group.v);
    if (kind == REPORT_DIGESTS) {
        buf_put_u64(out, row->applied.v);
        buf_put_u64(out, row->digest);
        buf_put_u64(out, row->keys);
        return;
    }
    check(row->role >= REPORT_LEADER && row->role < REPORT_ROLE_END);
    check(row->trouble.len <= REPORT_TROUBLE_MAX);
    buf_put_u8(out, (uint8_t)row->role);
    buf_put_u32(out, row->leader.v);
    buf_put_u64(out, row->term.v);
    buf_put_u64(out, row->applied.v);
    buf_put_u64(out, row->commit.v);
    buf_put_u64(out, row->keys);
    buf_put_blob(out, row->trouble);
}

static bool get_replica(struct cursor *in, struct report_row *row)
{
    uint8_t role;

    if (!get_u8(in, &role)) return false;
    if (role < REPORT_LEADER || role >= REPORT_ROLE_END) return false;
    row->role = (enum report_role)role;
    return get_u32(in, &row->leader.v) && get_u64(in, &row->term.v) &&
           get_u64(in, &row->applied.v) && get_u64(in, &row->commit.v) &&
           get_u64(in, &row->keys) && get_blob(in, &row->trouble) &&
           row->trouble.len <= REPORT_TROUBLE_MAX;
}

static bool get_row(struct cursor *in, enum report_kind kind, struct report_row *row)
{
    *row = (struct report_row){.group = {0}};
    if (!get_u32(in, &row->group.v)) return false;
    if (kind == REPORT_REPLICAS) return get_replica(in, row);
    return get_u64(in, &row->applied.v) && get_u64(in, &row->digest) &&
           get_u64(in, &row->keys);
}

static bool walk_rows(struct cursor in, enum report_kind kind, uint64_t n)
{
    uint64_t group_min = 0;

    for (uint64_t i = 0; i < n; i++) {
        struct report_row row;
        if (!get_row(&in, kind, &row)) return false;
        if (row.group.v < group_min) return false;
        group_min = (uint64_t)row.group.v + 1;
    }
    return cursor_left(&in) == 0;
}

bool report_decode(struct bytes in, struct report *out)
{
    struct cursor c = cursor_of(in);
    struct report r = {.keyspace = 0};
    uint8_t version, kind;
    uint64_t n = 0;

    if (!get_u8(&c, &version) || version != REPORT_VERSION) return false;
    if (!get_u8(&c, &kind) || kind == 0 || kind >= REPORT_KIND_END) return false;
    r.kind = (enum report_kind)kind;
    if (!get_u64(&c, &r.id)) return false;
    if (is_ask(r.kind) && !get_u32(&c, &r.keyspace)) return false;
    if (has_rows(r.kind) && !get_varint(&c, &n)) return false;
    if (n > REPORT_ROWS_MAX || !walk_rows(c, r.kind, n)) return false;

    r.n_rows = (uint32_t)n;
    r.rows = c;
    *out = r;
    return true;
}

void report_next_row(struct report *r, struct report_row *out)
{
    const bool ok = get_row(&r->rows, r->kind, out);

    check(ok);
}
