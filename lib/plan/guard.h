/* What a caller's statement may be, told by its first words before anything is sent: connections
 * are shared, and some statements would change them for whoever comes next.
 * Not a parser: what hides in functions is not seen. DO and CALL, which hide it too, and functions
 * known to change the session cost the connection; temporary objects and channels that a write or
 * transaction left there nevertheless are cleaned away (wire/pg). */
#ifndef PQI_GUARD_H
#define PQI_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/* Where the statement is to run. */
enum pqi_place {
    PQI_IN_READ,  /* on a lane, among other callers' reads */
    PQI_IN_WRITE, /* in its own envelope, on a connection that is used again */
    PQI_IN_ALONE, /* with nothing around it, on a connection that is used again */
    PQI_IN_TX     /* in the caller's transaction */
};

enum pqi_verdict {
    PQI_ALLOW,
    PQI_TAINT, /* allowed, and its connection is closed after the call or the transaction */
    PQI_REFUSE /* not to be sent: `why` names the word and what to use instead */
};

/* Judges a statement. `why` gets the reason of TAINT and REFUSE, cut to fit, else "". */
enum pqi_verdict pqi_guard(const char *sql, enum pqi_place place, char *why, size_t why_size);

/* May it commit parts of its work by itself (CALL, DO)? Then it is treated like a statement alone:
 * what it did before it failed may stay. */
bool pqi_commits_inside(const char *sql);

/* Does a transaction see from here on what was there when this ran, whatever its isolation level?
 * Behind one that leaves that open (SET TRANSACTION, LOCK) no query of the router's may run.
 * Source: PlannedStmtRequiresSnapshot in PostgreSQL's tcop/pquery.c. */
bool pqi_takes_snapshot(const char *sql);

/* May its answer hold rows: is it a query, or does it have RETURNING? */
bool pqi_returns_rows(const char *sql);

/* Does the statement change this setting: SET, RESET, or set_config with its name as a plain text?
 * What is put together out of pieces, or hidden in functions, is not seen. */
bool pqi_changes_setting(const char *sql, const char *setting);

/* After the fact: may a statement in this place have answered with this command tag ("SELECT 3",
 * PQcmdStatus)? False: it was not what it seemed, and its connection is to be closed. */
bool pqi_tag_allowed(const char *command_tag, enum pqi_place place);

#endif
