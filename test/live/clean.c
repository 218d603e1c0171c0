/* What a call leaves in its connection: who cleans it away, who waits for that and for how long, and
 * what it means when it cannot be done. Fleet: one shard, no replica. */
#include "live.h"

#include <stdio.h>
#include <string.h>

#define P "shard0/primary"

/* ---- Procedures that commit ------------------------------------------------------------------- */

/* 26000 is what the server says of a prepared statement that is gone; a procedure may say it, too. */
static void a_procedure_that_has_committed_is_never_run_again_whatever_it_raises(void **state)
{
    static const char *const states[] = {"26000", "0A000"};
    pqr_session *s = live_session(*state, "acme");
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        for (int alone = 0; alone < 2; alone++) {
            char sql[64];
            ask(P, "truncate step");
            snprintf(sql, sizeof sql, "call step_and_raise('%s')", states[i]);
            FAILS(PQR_E_UNKNOWN,
                  pqr_write(s, PQR_QUERY(.sql = sql, .alone = alone), NULL, &live_error));
            assert_string_equal(live_error.sqlstate, states[i]);
            assert_int_equal(live_error.retry, PQR_RETRY_UNKNOWN);
            assert_int_equal(ask_number(P, "select count(*) from step"), 1);
        }
    pqr_session_close(s);
}

/* Sequences count also what was rolled back. */
static void a_write_that_raises_such_a_code_runs_once(void **state)
{
    static const char *const states[] = {"26000", "0A000"};
    pqr_session *s = live_session(*state, "acme");
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        char sql[64];
        ask(P, "select setval('turns', 1)");
        snprintf(sql, sizeof sql, "select turn_and_raise('%s')", states[i]);
        FAILS(PQR_E_SQL, pqr_write(s, PQR_QUERY(.sql = sql), NULL, &live_error));
        assert_string_equal(live_error.sqlstate, states[i]);
        assert_int_equal(live_error.retry, PQR_RETRY_NEVER);
        assert_int_equal(ask_number(P, "select last_value from turns"), 2);
    }
    pqr_session_close(s);
}

/* The server itself, at Bind, says so of a statement that did not begin. */
static void a_read_whose_prepared_statement_is_gone_is_run_again(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_LANES=1");
    pqr_session *s = live_session(db, "acme");
    for (int i = 0; i < 3; i++) {
        OK(pqr_read(s, PQR_QUERY(.sql = "select count(*) from step"), NULL, &live_error));
        OK(pqr_read(s, PQR_QUERY(.sql = "select forget_statements()"), NULL, &live_error));
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

static int prepare(void **state)
{
    ask(P, "create function forget_statements() returns int language plpgsql as $$ begin"
           " deallocate all; return 1; end $$");
    ask(P, "create sequence turns");
    ask(P, "create function turn_and_raise(state text) returns int language plpgsql as $$ begin"
           " perform nextval('turns'); raise exception 'no' using errcode = state; end $$");
    ask(P, "create table step(n int)");
    ask(P, "create procedure step_and_raise(state text) language plpgsql as $$ begin"
           " insert into step values (1); commit;"
           " raise exception 'after the commit' using errcode = state; end $$");
    *state = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_procedure_that_has_committed_is_never_run_again_whatever_it_raises),
        cmocka_unit_test(a_write_that_raises_such_a_code_runs_once),
        cmocka_unit_test(a_read_whose_prepared_statement_is_gone_is_run_again),
    };
    return cmocka_run_group_tests(tests, prepare, close_router);
}
