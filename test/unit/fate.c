/* What a failure means: the table of outcomes, row by row, and what must hold of every failure. */
#include "../../lib/plan/fate.h"
#include "../../lib/plan/pooler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

#define NONE PQI_SEV_NONE
#define ERROR PQI_SEV_ERROR
#define FATAL PQI_SEV_FATAL
#define PANIC PQI_SEV_PANIC

#define N PQI_NOT_RUN
#define U PQI_MAYBE
#define P PQI_PERMANENT

/* The table's actions: return, rerun now elsewhere, rerun with backoff. Where it says that only an
 * outcome token would allow a rerun, a write without one returns. */
#define x PQI_RETURN
#define rr PQI_ELSEWHERE
#define rb PQI_BACKOFF

/* How it was: nothing given to libpq; given; given, and a warning came first; out of
 * time; a COMMIT, and a statement alone, that were given; given to a pooler; and that says that
 * no server was given to it yet; and another server than was known is behind it. */
enum phase { UNSENT, SENT, WARNED, LATE_UNSENT, LATE, COMMIT, ALONE, POOLED, WAITED, MOVED };

#define DROP false
#define KEEP true

#define LOST PQR_E_LOST
#define SQL PQR_E_SQL
#define UNKNOWN PQR_E_UNKNOWN
#define DEADLINE PQR_E_DEADLINE
#define READ_ONLY PQR_E_READ_ONLY
#define ROLLED_BACK PQR_E_ROLLED_BACK

static const struct row {
    const char *name;
    const char *sqlstate;
    enum pqi_severity severity;
    enum phase phase;
    enum pqi_class class_;
    bool keep;
    enum pqi_again read, write;
    int code_read, code_write;
} rows[] = {
    {"a pooler ends the session", "57P01", FATAL, POOLED, U, DROP, rr, x, LOST, UNKNOWN},
    {"a pooler lost its server", "58000", FATAL, POOLED, U, DROP, rr, x, LOST, UNKNOWN},
    {"a pooler lost its server", "58000", ERROR, POOLED, U, DROP, rr, x, SQL, UNKNOWN},
    {"a pooler lost its server", "08P01", FATAL, POOLED, U, DROP, rr, x, LOST, UNKNOWN},
    {"behind a pooler, too few parameters", "08P01", ERROR, POOLED, P, KEEP, x, x, SQL, SQL},
    {"behind a pooler an error is one", "23505", ERROR, POOLED, P, KEEP, x, x, SQL, SQL},
    {"behind a pooler, serialization", "40001", ERROR, POOLED, N, KEEP, rb, rb, SQL, SQL},

    {"a pooler gave it no server", "08P01", FATAL, WAITED, N, DROP, rr, rr, LOST, LOST},
    {"behind a pooler is another server", "22012", ERROR, MOVED, N, DROP, rr, rr, LOST, LOST},

    {"no byte given to libpq", "", NONE, UNSENT, N, DROP, rr, rr, LOST, LOST},
    {"no byte given, and the server went", "57P02", FATAL, UNSENT, N, DROP, rr, rr, LOST, LOST},
    {"no byte given, and the server went", "XX000", FATAL, UNSENT, N, DROP, rr, rr, LOST, LOST},
    {"no byte given, and the server panicked", "XX001", PANIC, UNSENT, N, DROP, rr, rr, LOST, LOST},
    {"no byte given, and it sat idle", "57P05", FATAL, UNSENT, N, DROP, rr, rb, LOST, LOST},

    {"connect: too many connections", "53300", FATAL, UNSENT, N, DROP, rb, rb, LOST, LOST},
    {"connect: starting up", "57P03", FATAL, UNSENT, N, DROP, rb, rb, LOST, LOST},

    {"serialization failure", "40001", ERROR, SENT, N, KEEP, rb, rb, SQL, SQL},
    {"deadlock", "40P01", ERROR, SENT, N, KEEP, rb, rb, SQL, SQL},
    {"recovery conflict", "40001", FATAL, SENT, N, DROP, rr, x, LOST, LOST},
    {"recovery conflict, a deadlock", "40P01", FATAL, SENT, N, DROP, rr, x, LOST, LOST},

    {"statement completion unknown", "40003", ERROR, SENT, U, DROP, rr, x, SQL, UNKNOWN},
    {"statement completion unknown", "40003", FATAL, SENT, U, DROP, rr, x, LOST, UNKNOWN},
    {"transaction resolution unknown", "08007", ERROR, SENT, U, DROP, rr, x, SQL, UNKNOWN},
    {"transaction resolution unknown", "08007", FATAL, SENT, U, DROP, rr, x, LOST, UNKNOWN},

    {"read-only", "25006", ERROR, SENT, N, KEEP, x, rr, READ_ONLY, SQL},

    {"deferred constraint: by its code", "23503", ERROR, SENT, P, KEEP, x, x, SQL, SQL},

    {"a failed block, not ours", "25P02", ERROR, SENT, N, DROP, rr, rr, ROLLED_BACK, ROLLED_BACK},

    {"idle in transaction for too long", "25P03", FATAL, SENT, N, DROP, rr, rb, LOST, LOST},
    {"a transaction for too long", "25P04", FATAL, SENT, N, DROP, rr, rb, LOST, LOST},
    {"idle for too long", "57P05", FATAL, SENT, N, DROP, rr, rb, LOST, LOST},

    {"terminated by an administrator", "57P01", FATAL, SENT, N, DROP, rr, rb, LOST, LOST},
    {"class 58 from a pooler", "58000", FATAL, SENT, U, DROP, rr, x, LOST, UNKNOWN},
    {"a warning, then the end", "", NONE, WARNED, U, DROP, rr, x, LOST, UNKNOWN},
    {"a warning, then terminated", "57P01", FATAL, WARNED, U, DROP, rr, x, LOST, UNKNOWN},
    {"a warning, then crashed", "57P02", FATAL, WARNED, U, DROP, rr, x, LOST, UNKNOWN},
    {"a warning, then an error after all", "23505", ERROR, WARNED, P, KEEP, x, x, SQL, SQL},
    {"crashed", "57P02", FATAL, SENT, U, DROP, rr, x, LOST, UNKNOWN},

    {"end of file, no SQLSTATE", "", NONE, SENT, U, DROP, rr, x, LOST, UNKNOWN},
    {"an error without SQLSTATE", "", ERROR, SENT, U, DROP, rr, x, LOST, UNKNOWN},
    {"a SQLSTATE without severity", "23505", NONE, SENT, U, DROP, rr, x, LOST, UNKNOWN},

    {"deadline passed", "", NONE, LATE, U, DROP, x, x, DEADLINE, UNKNOWN},
    {"deadline passed, nothing given", "", NONE, LATE_UNSENT, N, DROP, x, x, DEADLINE, DEADLINE},

    {"cancelled", "57014", ERROR, SENT, N, KEEP, x, x, SQL, SQL},
    {"cancelled by a pooler", "57014", FATAL, SENT, U, DROP, rr, x, LOST, UNKNOWN},
    {"lock not available", "55P03", ERROR, SENT, N, KEEP, rb, x, SQL, SQL},
    {"object in use", "55006", ERROR, SENT, N, KEEP, rb, x, SQL, SQL},
    {"disk full", "53100", ERROR, SENT, N, KEEP, x, x, SQL, SQL},
    {"out of memory", "53200", ERROR, SENT, N, KEEP, rr, x, SQL, SQL},
    {"configuration limit", "53400", ERROR, SENT, N, KEEP, x, x, SQL, SQL},
    {"program limit", "54000", ERROR, SENT, N, KEEP, x, x, SQL, SQL},
    {"statement too complex", "54001", ERROR, SENT, N, KEEP, x, x, SQL, SQL},

    {"PANIC", "XX000", PANIC, SENT, U, DROP, rr, x, LOST, UNKNOWN},
    {"PANIC, its code safe otherwise", "40001", PANIC, SENT, U, DROP, rr, x, LOST, UNKNOWN},
    {"PANIC for want of disk", "53100", PANIC, SENT, U, DROP, rr, x, LOST, UNKNOWN},

    /* No statement has a name of ours, so these are the caller's. */
    {"no such prepared statement", "26000", ERROR, SENT, P, KEEP, x, x, SQL, SQL},
    {"cached plan changed its type", "0A000", ERROR, SENT, P, KEEP, x, x, SQL, SQL},
    {"prepared statement exists", "42P05", ERROR, SENT, P, KEEP, x, x, SQL, SQL},

    {"syntax error", "42601", ERROR, SENT, P, KEEP, x, x, SQL, SQL},
    {"no right", "42501", ERROR, SENT, P, KEEP, x, x, SQL, SQL},
    {"division by zero", "22012", ERROR, SENT, P, KEEP, x, x, SQL, SQL},
    {"unique violation", "23505", ERROR, SENT, P, KEEP, x, x, SQL, SQL},
    {"integrity violation at COMMIT", "40002", ERROR, SENT, P, KEEP, x, x, SQL, SQL},
    {"an exception of the caller's own", "P0001", ERROR, SENT, P, KEEP, x, x, SQL, SQL},
    {"a class that nobody knows", "ZZ999", ERROR, SENT, P, KEEP, x, x, SQL, SQL},
    {"a class that nobody knows", "ZZ999", FATAL, SENT, U, DROP, rr, x, LOST, UNKNOWN},

    {"COMMIT, and terminated", "57P01", FATAL, COMMIT, U, DROP, rr, x, LOST, UNKNOWN},
    {"COMMIT, and idle for too long", "57P05", FATAL, COMMIT, U, DROP, rr, x, LOST, UNKNOWN},
    {"COMMIT, and the end", "", NONE, COMMIT, U, DROP, rr, x, LOST, UNKNOWN},
    {"COMMIT, and a serialization failure", "40001", ERROR, COMMIT, N, KEEP, rb, rb, SQL, SQL},
    {"COMMIT, and cancelled", "57014", ERROR, COMMIT, N, KEEP, x, x, SQL, SQL},
    {"COMMIT, and a deferred constraint", "23503", ERROR, COMMIT, P, KEEP, x, x, SQL, SQL},
    {"alone, and terminated", "57P01", FATAL, ALONE, U, DROP, rr, x, LOST, UNKNOWN},
    {"alone, and the end", "", NONE, ALONE, U, DROP, rr, x, LOST, UNKNOWN},
    {"alone, and cancelled", "57014", ERROR, ALONE, U, KEEP, x, x, SQL, UNKNOWN},
    {"alone, and a serialization failure", "40001", ERROR, ALONE, U, KEEP, rb, x, SQL, UNKNOWN},
    {"alone, and a lock", "55P03", ERROR, ALONE, U, KEEP, rb, x, SQL, UNKNOWN},
    {"alone, and a unique violation", "23505", ERROR, ALONE, P, KEEP, x, x, SQL, SQL},

    {"a wrong number of parameters", "08P01", ERROR, SENT, P, KEEP, x, x, SQL, SQL},
    {"protocol violation", "08P01", FATAL, SENT, U, DROP, rr, x, LOST, UNKNOWN},
    {"internal error", "XX000", ERROR, SENT, U, DROP, rr, x, SQL, UNKNOWN},
    {"data corrupted", "XX001", ERROR, SENT, U, DROP, rr, x, SQL, UNKNOWN},
    {"index corrupted", "XX002", FATAL, SENT, U, DROP, rr, x, LOST, UNKNOWN},
};

static struct pqi_failure failure(const char *sqlstate, enum pqi_severity severity,
                                  enum phase phase)
{
    return (struct pqi_failure){.sqlstate = sqlstate,
                                .severity = severity,
                                .given = phase != UNSENT && phase != LATE_UNSENT,
                                .warned = phase == WARNED,
                                .early = phase == COMMIT,
                                .partial = phase == ALONE,
                                .pooler = phase >= POOLED,
                                .waited = phase == WAITED,
                                .moved = phase == MOVED,
                                .timed_out = phase == LATE || phase == LATE_UNSENT};
}

static pqr_retry retry_of(const struct row *row, bool write)
{
    if (row->class_ == P)
        return PQR_RETRY_NEVER;
    return write && row->class_ == U ? PQR_RETRY_UNKNOWN : PQR_RETRY_SAFE;
}

static void every_row_of_the_table_holds(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct row *row = &rows[i];
        struct pqi_failure f = failure(row->sqlstate, row->severity, row->phase);
        struct pqi_fate fate = pqi_fate(&f);
        if (fate.class_ != row->class_ || fate.keep != row->keep || fate.read != row->read ||
            fate.write != row->write)
            fail_msg("%s (%s): class %d, keep %d, read %d, write %d", row->name, row->sqlstate,
                     fate.class_, fate.keep, fate.read, fate.write);
        if (pqi_fate_code(&f, &fate, false) != row->code_read ||
            pqi_fate_code(&f, &fate, true) != row->code_write)
            fail_msg("%s (%s): code %d, and %d for a write", row->name, row->sqlstate,
                     pqi_fate_code(&f, &fate, false), pqi_fate_code(&f, &fate, true));
        for (int write = 0; write < 2; write++)
            if (pqi_fate_retry(&fate, write) != retry_of(row, write))
                fail_msg("%s (%s): retry %d", row->name, row->sqlstate,
                         pqi_fate_retry(&fate, write));
    }
}

/* ---- What holds of every failure ------------------------------------------------------------- */

/* Two characters of a class and three more: all classes that exist, and every code named above. */
static const char *const others[] = {
    "01000", "02000", "03000", "08000", "08001", "08003", "08004", "08006", "0A001",
    "0B000", "20000", "21000", "22P02", "23514", "24000", "25000", "25001", "27000",
    "28000", "28P01", "2D000", "34000", "38000", "39000", "3B001", "3D000", "3F000",
    "40000", "44000", "53000", "55000", "55P02", "55P04", "57000", "57P04", "58030",
    "58P01", "72000", "F0000", "HV000", "P0000", "P0004", "XX003", "",
};

static const char *sqlstate_at(size_t i)
{
    return i < COUNT(rows) ? rows[i].sqlstate : others[i - COUNT(rows)];
}

static bool said_as_error(const struct pqi_failure *f)
{
    return f->severity == ERROR && f->sqlstate[0] != '\0' && !f->timed_out;
}

static const char *wrong(const struct pqi_failure *f, struct pqi_fate fate)
{
    int read = pqi_fate_code(f, &fate, false), write = pqi_fate_code(f, &fate, true);
    if (f->timed_out && (fate.read != x || fate.write != x))
        return "run again after its deadline";
    if (!f->given && fate.class_ == U)
        return "in doubt, and was never sent";
    if (fate.class_ == U && fate.write != x)
        return "a write in doubt is run again";
    if (fate.class_ == P && (fate.read != x || fate.write != x))
        return "run again, and would fail again";
    if (f->given && !said_as_error(f) && (f->severity != FATAL || f->warned) && fate.class_ != U)
        return "lost without a word that can be trusted, and not in doubt";
    if (f->given && f->severity == PANIC && fate.class_ != U)
        return "a PANIC, and not in doubt";
    if (fate.keep && !said_as_error(f))
        return "a connection is kept that the server has left";
    if (fate.class_ == U && fate.keep && !f->partial)
        return "a connection in doubt is kept";
    if (f->given && f->partial && fate.class_ == N)
        return "parts of it may stay, and it is not in doubt";
    if (f->given && f->early && f->severity == FATAL && fate.class_ == N)
        return "it may have taken effect before the end, and is not in doubt";
    if ((write == PQR_E_UNKNOWN) != (fate.class_ == U))
        return "UNKNOWN is said of a write that is not in doubt, or not said";
    if (read == PQR_E_UNKNOWN)
        return "UNKNOWN is said of a read";
    if (write == PQR_E_READ_ONLY)
        return "READ_ONLY is said of a write";
    if (!said_as_error(f) && (read == PQR_E_SQL || write == PQR_E_SQL))
        return "SQL is said, and the server did not";
    if (said_as_error(f) && (read == PQR_E_LOST || write == PQR_E_LOST))
        return "LOST is said, and the server had answered";
    if (read >= 0 || write >= 0)
        return "no code";
    if (pqi_fate_retry(&fate, true) == PQR_RETRY_SAFE && fate.class_ != N)
        return "called safe, and may have happened or would fail again";
    return NULL;
}

static void the_end_of_the_server_proves_nothing_of_what_takes_effect_early(void **state)
{
    (void)state;
    const struct pqi_failure commit = {
        .sqlstate = "57P01", .severity = PQI_SEV_FATAL, .given = true, .early = true};
    struct pqi_fate fate = pqi_fate(&commit);
    assert_int_equal(fate.class_, PQI_MAYBE);
    assert_int_equal(fate.write, PQI_RETURN);
    assert_int_equal(pqi_fate_code(&commit, &fate, true), PQR_E_UNKNOWN);
    const struct pqi_failure refused = {
        .sqlstate = "40001", .severity = PQI_SEV_ERROR, .given = true, .early = true};
    assert_int_equal(pqi_fate(&refused).class_, PQI_NOT_RUN); /* a COMMIT that failed rolled back */
}

static void what_may_commit_in_parts_is_never_run_again(void **state)
{
    (void)state;
    const struct pqi_failure cancelled = {
        .sqlstate = "57014", .severity = PQI_SEV_ERROR, .given = true, .partial = true};
    struct pqi_fate fate = pqi_fate(&cancelled);
    assert_int_equal(fate.class_, PQI_MAYBE);
    assert_int_equal(pqi_fate_retry(&fate, true), PQR_RETRY_UNKNOWN);
    const struct pqi_failure deadlock = {
        .sqlstate = "40P01", .severity = PQI_SEV_ERROR, .given = true, .partial = true};
    assert_int_equal(pqi_fate(&deadlock).write, PQI_RETURN);
}

/* Only the server's own words at Bind say that a prepared statement is gone: from within what was at
 * work they say that it had begun. */
static void only_what_did_not_begin_is_repaired(void **state)
{
    (void)state;
    for (int flags = 0; flags < 4; flags++) {
        const struct pqi_failure f = {.sqlstate = "26000",
                                      .severity = PQI_SEV_ERROR,
                                      .given = true,
                                      .stale = true,
                                      .inside = flags & 1,
                                      .partial = flags & 2};
        struct pqi_fate fate = pqi_fate(&f);
        assert_int_equal(fate.write, f.inside ? PQI_RETURN : PQI_ELSEWHERE);
        assert_int_equal(fate.class_, !f.inside   ? PQI_NOT_RUN
                                      : f.partial ? PQI_MAYBE
                                                  : PQI_PERMANENT);
    }
}

/* Of all codes: only what passes by itself is worth trying again. */
static void what_undoes_itself_would_do_so_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows) + COUNT(others); i++) {
        const char *s = sqlstate_at(i);
        bool passes = strcmp(s, "40001") == 0 || strcmp(s, "40P01") == 0 ||
                      strcmp(s, "55P03") == 0 || strncmp(s, "53", 2) == 0 ||
                      strncmp(s, "57", 2) == 0;
        if (pqi_undone_retry(s) != (passes ? PQR_RETRY_SAFE : PQR_RETRY_NEVER))
            fail_msg("\"%s\": %d", s, pqi_undone_retry(s));
    }
    assert_int_equal(pqi_undone_retry("55006"), PQR_RETRY_NEVER);
    assert_int_equal(pqi_undone_retry("57014"), PQR_RETRY_SAFE);
}

/* What it says to who waits, and never of what it has sent on. */
static void a_pooler_tells_that_no_server_was_given(void **state)
{
    static const char *const waited[] = {
        "query_wait_timeout", "server login has been failing, try again later (server_login_retry)",
        "server login has been failing, cached error: connect failed (server_login_retry)",
        "client_idle_timeout"};
    static const char *const sent_on[] = {"",
                                          "server conn crashed?",
                                          "query_timeout",
                                          "idle transaction timeout",
                                          "pgbouncer is shut down",
                                          "server shutting down",
                                          "terminating connection due to administrator command",
                                          "a query_wait_timeout"};
    (void)state;
    for (size_t i = 0; i < COUNT(waited); i++)
        assert_true(pqi_pooler_waited(waited[i]));
    for (size_t i = 0; i < COUNT(waited); i++)
        assert_int_equal(pqi_pooler_without_server(waited[i]), i == 1 || i == 2);
    for (size_t i = 0; i < COUNT(sent_on); i++)
        assert_false(pqi_pooler_waited(sent_on[i]) || pqi_pooler_without_server(sent_on[i]));
    /* Said by a server itself it means nothing. */
    const struct pqi_failure f = {
        .sqlstate = "08P01", .severity = PQI_SEV_FATAL, .given = true, .waited = true};
    assert_int_equal(pqi_fate(&f).class_, PQI_MAYBE);
}

static void no_failure_is_taken_for_safer_than_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows) + COUNT(others); i++)
        for (int severity = NONE; severity <= PANIC; severity++)
            for (int flags = 0; flags < 32; flags++) {
                struct pqi_failure f = {.sqlstate = sqlstate_at(i),
                                        .severity = (enum pqi_severity)severity,
                                        .given = flags & 1,
                                        .warned = flags & 2,
                                        .timed_out = flags & 4,
                                        .early = flags & 8,
                                        .partial = flags & 16};
                const char *what = wrong(&f, pqi_fate(&f));
                if (what)
                    fail_msg("\"%s\", severity %d, given %d, warned %d, timed out %d, early %d, "
                             "partial %d: %s",
                             f.sqlstate, severity, f.given, f.warned, f.timed_out, f.early,
                             f.partial, what);
            }
}

/* As an ERROR another server may have said it, through a foreign table: about the statement. */
static void what_ends_a_session_does_so_only_as_fatal(void **state)
{
    (void)state;
    static const char *const ends[] = {"25P03", "25P04", "57P01", "57P02", "57P05"};
    for (size_t i = 0; i < COUNT(ends); i++) {
        struct pqi_failure f = failure(ends[i], ERROR, SENT);
        struct pqi_fate fate = pqi_fate(&f);
        if (fate.class_ != P || !fate.keep || fate.read != x || fate.write != x)
            fail_msg("%s as ERROR: class %d, keep %d", ends[i], fate.class_, fate.keep);
    }
}

/* A code that is told apart is told apart whole: its neighbours are not. */
static void only_the_codes_named_are_run_again(void **state)
{
    (void)state;
    static const char *const near[] = {"40000", "40002", "40P02", "25P01", "25P05",
                                       "25007", "57P04", "57013", "57015", "55P04",
                                       "55007", "25005", "08006", "08003"};
    for (size_t i = 0; i < COUNT(near); i++) {
        struct pqi_failure f = failure(near[i], ERROR, SENT);
        struct pqi_fate fate = pqi_fate(&f);
        if (fate.class_ != P || !fate.keep)
            fail_msg("%s as ERROR: class %d, keep %d", near[i], fate.class_, fate.keep);
        f = failure(near[i], FATAL, SENT);
        fate = pqi_fate(&f);
        if (fate.class_ != U || fate.keep)
            fail_msg("%s as FATAL: class %d, keep %d", near[i], fate.class_, fate.keep);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_of_the_server_proves_nothing_of_what_takes_effect_early),
        cmocka_unit_test(what_may_commit_in_parts_is_never_run_again),
        cmocka_unit_test(every_row_of_the_table_holds),
        cmocka_unit_test(only_what_did_not_begin_is_repaired),
        cmocka_unit_test(what_undoes_itself_would_do_so_again),
        cmocka_unit_test(a_pooler_tells_that_no_server_was_given),
        cmocka_unit_test(no_failure_is_taken_for_safer_than_it_is),
        cmocka_unit_test(what_ends_a_session_does_so_only_as_fatal),
        cmocka_unit_test(only_the_codes_named_are_run_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
