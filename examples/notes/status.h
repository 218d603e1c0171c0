/* How a request may end, and what HTTP calls that: one table for all of it. */
#ifndef NOTES_STATUS_H
#define NOTES_STATUS_H

#include <pqrouter/pqrouter.h>

/* Handlers return PQR_OK, a PQR_E_… code (these are negative), or one of these. */
enum outcome {
    MALFORMED = 1, /* not what the protocol asks for: no JSON, a bad cursor, a bad limit */
    INVALID,       /* understood, and not acceptable: request.field tells which field */
    MISSING,       /* no such row, or another tenant's, or deleted */
    NO_ROUTE,      /* no such path */
    WRONG_METHOD,
    UNAUTHORIZED,
    TOO_LARGE,
    BUSY, /* this process has more to do than it can */
};

struct status {
    int http;
    const char *word; /* what the body says, for programs: "conflict" */
};

/* `err` is looked at only for a negative code. Static texts. */
struct status status_of(int code, const pqr_error *err);

/* Which field of the request a database's constraint is about; NULL: none that is known. */
const char *status_field(const pqr_error *err);

#endif
