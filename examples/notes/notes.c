/* Statements on notes.note. Each one filters by tenant: a shard has many. */
#include "notes.h"

#include "rows.h"

#define WHOLE " id, slug, title, body, parent, author, created_at, updated_at "
#define SERVER " current_setting('cluster_name') as server "

const pqr_query *note_create_query(struct statement *st, const struct whose *by,
                                   const struct draft *d)
{
    return statement_keep(
        st, PQR_QUERY(.name = "create note",
                      .sql = "insert into notes.note (tenant, author, slug, title, body, parent) "
                             "values ($1, $2, $3, $4, coalesce($5, ''), $6::uuid) "
                             "returning" WHOLE "," SERVER,
                      PQR_PARAMS(PQR_TEXT(by->tenant), PQR_UUID(by->account), PQR_TEXT(d->slug),
                                 PQR_TEXT(d->title), PQR_TEXT(d->body), PQR_TEXT(d->parent))));
}

int note_create(pqr_session *s, const struct whose *by, const struct draft *d, pqr_result **res,
                pqr_error *err)
{
    struct statement st;
    return pqr_write(s, note_create_query(&st, by, d), res, err);
}

/* In the order of slugs, so that two bulks at a time wait for each other and do not deadlock. */
int note_put(pqr_session *s, const struct whose *by, const char *const *slugs,
             const char *const *titles, const char *const *bodies, size_t n, pqr_result **res,
             pqr_error *err)
{
    return pqr_write(
        s,
        PQR_QUERY(.name = "put notes",
                  .sql = "insert into notes.note (tenant, author, slug, title, body) "
                         "select $1, $2, slug, title, coalesce(body, '') "
                         "from unnest($3::text[], $4::text[], $5::text[]) as n (slug, title, body) "
                         "order by slug "
                         "on conflict (tenant, slug) where deleted_at is null "
                         "do update set title = excluded.title, body = excluded.body, "
                         "updated_at = now() "
                         "returning id, slug, xmax = 0 as created",
                  PQR_PARAMS(PQR_TEXT(by->tenant), PQR_UUID(by->account), PQR_TEXT_ARRAY(slugs, n),
                             PQR_TEXT_ARRAY(titles, n), PQR_TEXT_ARRAY(bodies, n))),
        res, err);
}

const pqr_query *note_by_id_query(struct statement *st, const char *tenant, const uint8_t id[16],
                                  int level)
{
    return statement_keep(st,
                          PQR_QUERY(.name = "find note by id",
                                    .sql = "select" WHOLE "from notes.note where tenant = $1 "
                                           "and id = $2 and deleted_at is null",
                                    PQR_PARAMS(PQR_TEXT(tenant), PQR_UUID(id)), .level = level));
}

int note_by_id(pqr_session *s, const char *tenant, const uint8_t id[16], int level,
               pqr_result **res, pqr_error *err)
{
    struct statement st;
    return one_row(pqr_read(s, note_by_id_query(&st, tenant, id, level), res, err), res, err);
}

/* The first page is the one after the latest position there is, so that the statement, and its
 * way through the index note_page, is the same for every page. */
const pqr_query *note_list_query(struct statement *st, const char *tenant, const char *q,
                                 const struct cursor *after, int limit, int level)
{
    static const uint8_t last[16] = {255, 255, 255, 255, 255, 255, 255, 255,
                                     255, 255, 255, 255, 255, 255, 255, 255};
    const pqr_param params[] = {
        PQR_TEXT(tenant),
        after ? (pqr_param)PQR_TIMESTAMPTZ(after->created_us) : (pqr_param)PQR_TEXT("infinity"),
        PQR_UUID(after ? after->id : last),
        PQR_INT32(limit),
        PQR_TEXT(q),
    };
    const pqr_query *list = PQR_QUERY(.name = "list notes",
                                      .sql = "select id, slug, title, created_at from notes.note "
                                             "where tenant = $1 and deleted_at is null "
                                             "and (created_at, id) < ($2::timestamptz, $3) "
                                             "order by created_at desc, id desc limit $4",
                                      .params = params, .nparams = 4, .level = level);
    const pqr_query *search = PQR_QUERY(.name = "search notes",
                                        .sql = "select id, slug, title, created_at from notes.note "
                                               "where tenant = $1 and deleted_at is null "
                                               "and (created_at, id) < ($2::timestamptz, $3) "
                                               "and search @@ websearch_to_tsquery('simple', $5) "
                                               "order by created_at desc, id desc limit $4",
                                        .params = params, .nparams = 5, .level = level);
    return statement_keep(st, q ? search : list);
}

int note_list(pqr_session *s, const char *tenant, const char *q, const struct cursor *after,
              int limit, int level, pqr_result **res, pqr_error *err)
{
    struct statement st;
    return pqr_read(s, note_list_query(&st, tenant, q, after, limit, level), res, err);
}

int note_count(pqr_session *s, const char *tenant, int level, pqr_result **res, pqr_error *err)
{
    return pqr_read(s,
                    PQR_QUERY(.name = "count notes",
                              .sql = "select count(*) as count," SERVER "from notes.note "
                                     "where tenant = $1 and deleted_at is null",
                              PQR_PARAMS(PQR_TEXT(tenant)), .level = level),
                    res, err);
}

int note_update(pqr_session *s, const char *tenant, const uint8_t id[16], const struct draft *d,
                pqr_result **res, pqr_error *err)
{
    return one_row(
        pqr_write(s,
                  PQR_QUERY(.name = "update note",
                            .sql = "update notes.note set slug = coalesce($3, slug), "
                                   "title = coalesce($4, title), body = coalesce($5, body), "
                                   "updated_at = now() "
                                   "where tenant = $1 and id = $2 and deleted_at is null "
                                   "returning" WHOLE,
                            PQR_PARAMS(PQR_TEXT(tenant), PQR_UUID(id), PQR_TEXT(d->slug),
                                       PQR_TEXT(d->title), PQR_TEXT(d->body))),
                  res, err),
        res, err);
}

int note_delete(pqr_session *s, const struct whose *by, const uint8_t id[16], pqr_result **res,
                pqr_error *err)
{
    return one_row(
        pqr_write(s,
                  PQR_QUERY(.name = "delete note",
                            .sql = "update notes.note set deleted_at = now(), deleted_by = $3 "
                                   "where tenant = $1 and id = $2 and deleted_at is null "
                                   "returning deleted_at",
                            PQR_PARAMS(PQR_TEXT(by->tenant), PQR_UUID(id), PQR_UUID(by->account))),
                  res, err),
        res, err);
}

int note_restore(pqr_session *s, const char *tenant, const uint8_t id[16], pqr_result **res,
                 pqr_error *err)
{
    return one_row(
        pqr_write(s,
                  PQR_QUERY(.name = "restore note",
                            .sql = "update notes.note set deleted_at = null, deleted_by = null "
                                   "where tenant = $1 and id = $2 and deleted_at is not null "
                                   "returning" WHOLE,
                            PQR_PARAMS(PQR_TEXT(tenant), PQR_UUID(id))),
                  res, err),
        res, err);
}
