/* The table of outcomes. Nothing of an error's texts is handed on: they name servers and tables,
 * and belong in the log. */
#include "status.h"

#include <stddef.h>
#include <string.h>

static const struct row {
    int code;
    const char *sqlstate; /* how it begins */
    struct status status;
} rows[] = {
    {PQR_OK, "", {200, "ok"}},
    /* The client's doing. */
    {MALFORMED, "", {400, "malformed"}},
    {UNAUTHORIZED, "", {401, "unauthorized"}},
    {MISSING, "", {404, "missing"}},
    {NO_ROUTE, "", {404, "no_route"}},
    {WRONG_METHOD, "", {405, "wrong_method"}},
    {TOO_LARGE, "", {413, "too_large"}},
    {INVALID, "", {422, "invalid"}},
    {PQR_E_SQL, "23505", {409, "conflict"}},
    {PQR_E_SQL, "23503", {422, "unknown_reference"}},
    {PQR_E_SQL, "23", {422, "invalid"}},
    {PQR_E_SQL, "22", {422, "invalid"}},
    {PQR_E_SQL, "21000", {422, "repeated"}}, /* a bulk has one row twice */
    /* It did not happen, and may succeed later. */
    {BUSY, "", {503, "overloaded"}},
    {PQR_E_POOL_FULL, "", {503, "overloaded"}},
    {PQR_E_POOL_TIMEOUT, "", {503, "overloaded"}},
    {PQR_E_DEADLINE, "", {503, "overloaded"}},
    {PQR_E_NO_PRIMARY, "", {503, "unavailable"}},
    {PQR_E_NO_REPLICA, "", {503, "unavailable"}},
    {PQR_E_CONNECT, "", {503, "unavailable"}},
    {PQR_E_LOST, "", {503, "unavailable"}},
    {PQR_E_ROLLED_BACK, "", {503, "unavailable"}},
    {PQR_E_CLOSED, "", {503, "unavailable"}},
    {PQR_E_CANCELLED, "", {503, "unavailable"}},
    {PQR_E_AUTH, "", {503, "unavailable"}},
    {PQR_E_WRONG_SHARD, "", {503, "unavailable"}},
    {PQR_E_UNSTAMPED, "", {503, "unavailable"}},
    {PQR_E_MAP, "", {503, "unavailable"}},
    {PQR_E_SQL, "40", {503, "overloaded"}}, /* a deadlock, more often than is worth a rerun */
    {PQR_E_SQL, "53", {503, "overloaded"}},
    {PQR_E_SQL, "55P03", {503, "overloaded"}},
    {PQR_E_SQL, "57", {503, "unavailable"}},
    /* It may have happened, or has, and what it made is not known: the client must look, not come
     * again. */
    {PQR_E_UNKNOWN, "", {504, "unknown_outcome"}},
    {PQR_E_ROWS_LOST, "", {504, "unknown_outcome"}},
};

struct status status_of(int code, const pqr_error *err)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *sqlstate = rows[i].sqlstate;
        if (rows[i].code == code &&
            (!*sqlstate || strncmp(err->sqlstate, sqlstate, strlen(sqlstate)) == 0))
            return rows[i].status;
    }
    return (struct status){500, "internal"}; /* a bug of ours: the log has it */
}

const char *status_field(const pqr_error *err)
{
    static const struct {
        const char *constraint, *field;
    } fields[] = {
        {"account_email_key", "email"}, {"account_email_check", "email"},
        {"note_slug_key", "slug"},      {"note_slug_check", "slug"},
        {"note_title_check", "title"},  {"note_body_check", "body"},
        {"note_parent_fkey", "parent"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(err->constraint, fields[i].constraint) == 0)
            return fields[i].field;
    return NULL;
}
