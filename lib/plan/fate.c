/* What a failure means: one table, first match wins. */
#include "fate.h"

#include <string.h>

#define ANY 0
#define ERROR (1 << PQI_SEV_ERROR)
#define FATAL (1 << PQI_SEV_FATAL)
#define PANIC (1 << PQI_SEV_PANIC)

struct row {
    const char *sqlstate; /* a prefix; "": every one */
    int severities;       /* ANY, or a set */
    struct pqi_fate fate;
};

static const struct row rows[] = {
    /* A PANIC takes the whole server down: what was in flight may be in its log, or not. */
    {"", PANIC, {PQI_MAYBE, false, PQI_ELSEWHERE, PQI_RETURN}},
    /* The node is (now) a replica: it did not write. A read that writes is the caller's error. */
    {"25006", ERROR, {PQI_NOT_RUN, true, PQI_RETURN, PQI_ELSEWHERE}},
    /* Serialization failure, deadlock; as FATAL a recovery conflict on a replica. */
    {"40001", ERROR, {PQI_NOT_RUN, true, PQI_BACKOFF, PQI_BACKOFF}},
    {"40P01", ERROR, {PQI_NOT_RUN, true, PQI_BACKOFF, PQI_BACKOFF}},
    {"40001", FATAL, {PQI_NOT_RUN, false, PQI_ELSEWHERE, PQI_RETURN}},
    {"40P01", FATAL, {PQI_NOT_RUN, false, PQI_ELSEWHERE, PQI_RETURN}},
    /* "Statement completion unknown": PostgreSQL itself never says so, proxies and kin do. */
    {"40003", ANY, {PQI_MAYBE, false, PQI_ELSEWHERE, PQI_RETURN}},
    {"08007", ANY, {PQI_MAYBE, false, PQI_ELSEWHERE, PQI_RETURN}},
    /* The session had sat idle too long, or in a failed block that was not ours to begin. */
    {"25P02", ANY, {PQI_NOT_RUN, false, PQI_ELSEWHERE, PQI_ELSEWHERE}},
    {"25P03", FATAL, {PQI_NOT_RUN, false, PQI_ELSEWHERE, PQI_BACKOFF}},
    {"25P04", FATAL, {PQI_NOT_RUN, false, PQI_ELSEWHERE, PQI_BACKOFF}},
    {"57P05", FATAL, {PQI_NOT_RUN, false, PQI_ELSEWHERE, PQI_BACKOFF}},
    /* Terminated by an administrator or a fast shutdown: the server rolled back first. */
    {"57P01", FATAL, {PQI_NOT_RUN, false, PQI_ELSEWHERE, PQI_BACKOFF}},
    /* Starting up, shutting down, no slot: nothing was run. */
    {"57P03", ANY, {PQI_NOT_RUN, false, PQI_BACKOFF, PQI_BACKOFF}},
    {"53300", ANY, {PQI_NOT_RUN, false, PQI_BACKOFF, PQI_BACKOFF}},
    /* Cancelled, by statement_timeout or a person: rolled back. */
    {"57014", ERROR, {PQI_NOT_RUN, true, PQI_RETURN, PQI_RETURN}},
    {"55P03", ERROR, {PQI_NOT_RUN, true, PQI_BACKOFF, PQI_RETURN}},
    {"55006", ERROR, {PQI_NOT_RUN, true, PQI_BACKOFF, PQI_RETURN}},
    {"53200", ERROR, {PQI_NOT_RUN, true, PQI_ELSEWHERE, PQI_RETURN}},
    {"53", ERROR, {PQI_NOT_RUN, true, PQI_RETURN, PQI_RETURN}},
    {"54", ERROR, {PQI_NOT_RUN, true, PQI_RETURN, PQI_RETURN}},
    {"XX", ANY, {PQI_MAYBE, false, PQI_ELSEWHERE, PQI_RETURN}},
    /* Everything else that the server says as an ERROR is about the statement; also 08P01, which
     * it says of parameters that are too many or too few. */
    {"", ERROR, {PQI_PERMANENT, true, PQI_RETURN, PQI_RETURN}},
    /* 57P02, 08P01, and whatever else the server ends a session with. */
    {"", FATAL, {PQI_MAYBE, false, PQI_ELSEWHERE, PQI_RETURN}},
};

static const struct pqi_fate never_sent = {PQI_NOT_RUN, false, PQI_ELSEWHERE, PQI_ELSEWHERE};
static const struct pqi_fate no_answer = {PQI_MAYBE, false, PQI_ELSEWHERE, PQI_RETURN};
static const struct pqi_fate out_of_time = {PQI_MAYBE, false, PQI_RETURN, PQI_RETURN};
static const struct pqi_fate in_time_not_sent = {PQI_NOT_RUN, false, PQI_RETURN, PQI_RETURN};

static const struct pqi_fate to_be_repaired = {PQI_NOT_RUN, true, PQI_ELSEWHERE, PQI_ELSEWHERE};

static struct pqi_fate look_up(const struct pqi_failure *f)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if ((rows[i].severities == ANY || rows[i].severities & 1 << f->severity) &&
            strncmp(f->sqlstate, rows[i].sqlstate, strlen(rows[i].sqlstate)) == 0)
            return rows[i].fate;
    return no_answer;
}

/* Refused before it began: not understood, not allowed, not possible here, or with such values. */
static bool refused(const struct pqi_failure *f)
{
    static const char *const classes[] = {"0A", "22", "23", "25", "26", "42"};
    bool is = false;
    for (size_t i = 0; i < sizeof classes / sizeof *classes && !f->inside; i++)
        is |= strncmp(f->sqlstate, classes[i], 2) == 0;
    return is;
}

/* What takes effect before its Sync may have, when the server ends or stops it; what may commit
 * in parts may have done so before it failed, and is never run again. */
static struct pqi_fate doubted(const struct pqi_failure *f, struct pqi_fate fate)
{
    bool ended = f->severity != PQI_SEV_ERROR;
    if (!f->given || !(f->partial || (f->early && ended)))
        return fate;
    if (fate.class_ == PQI_NOT_RUN || (fate.class_ == PQI_PERMANENT && !refused(f)))
        fate = (struct pqi_fate){PQI_MAYBE, fate.keep && !ended, fate.read, PQI_RETURN};
    fate.write = PQI_RETURN;
    return fate;
}

/* A pooler that ends a connection, or lost its own to the server, has a code for that, too; what the
 * statement came to it does not know. */
static bool invented(const struct pqi_failure *f)
{
    bool ends = f->severity == PQI_SEV_FATAL && strcmp(f->sqlstate, "57P01") == 0;
    return f->pooler && (ends || strncmp(f->sqlstate, "58", 2) == 0);
}

struct pqi_fate pqi_fate(const struct pqi_failure *f)
{
    if (f->timed_out)
        return f->given ? out_of_time : in_time_not_sent;
    if (f->moved)
        return never_sent;
    if (f->stale && !f->inside)
        return to_be_repaired;
    if (f->pooler && f->waited)
        return never_sent;
    bool said = f->sqlstate[0] != '\0' && f->severity != PQI_SEV_NONE && !invented(f);
    if (!said || (f->warned && f->severity == PQI_SEV_FATAL))
        return f->given ? no_answer : never_sent;
    /* The server's last words, heard before anything was sent: they speak of nothing of ours. */
    struct pqi_fate fate = look_up(f);
    return fate.class_ == PQI_MAYBE && !f->given ? never_sent : doubted(f, fate);
}

int pqi_fate_code(const struct pqi_failure *f, const struct pqi_fate *fate, bool write)
{
    if (f->timed_out)
        return write && fate->class_ == PQI_MAYBE ? PQR_E_UNKNOWN : PQR_E_DEADLINE;
    if (write && fate->class_ == PQI_MAYBE)
        return PQR_E_UNKNOWN;
    if (f->moved)
        return PQR_E_LOST;
    if (strcmp(f->sqlstate, "25006") == 0 && !write)
        return PQR_E_READ_ONLY;
    if (strcmp(f->sqlstate, "25P02") == 0)
        return PQR_E_ROLLED_BACK;
    bool answered = f->sqlstate[0] != '\0' && f->severity == PQI_SEV_ERROR;
    return answered ? PQR_E_SQL : PQR_E_LOST;
}

/* A lock, a time limit or a want of the server's passes; what the statement itself has made such that
 * it cannot be removed (55006) does not. */
pqr_retry pqi_undone_retry(const char *sqlstate)
{
    static const char *const pass[] = {"40001", "40P01", "53", "55P03", "57"};
    for (size_t i = 0; i < sizeof pass / sizeof *pass; i++)
        if (strncmp(sqlstate, pass[i], strlen(pass[i])) == 0)
            return PQR_RETRY_SAFE;
    return PQR_RETRY_NEVER;
}

pqr_retry pqi_fate_retry(const struct pqi_fate *fate, bool write)
{
    if (fate->class_ == PQI_PERMANENT)
        return PQR_RETRY_NEVER;
    return write && fate->class_ == PQI_MAYBE ? PQR_RETRY_UNKNOWN : PQR_RETRY_SAFE;
}
