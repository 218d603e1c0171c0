/* What a statement may be, where. */
#include "../../lib/plan/guard.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const verdicts[] = {"ALLOW", "TAINT", "REFUSE"};
static const char *const places[] = {"a read", "a write", "alone", "a transaction"};

static void expect(const char *sql, enum pqi_place place, enum pqi_verdict verdict)
{
    char why[256] = "untouched";
    enum pqi_verdict got = pqi_guard(sql, place, why, sizeof why);
    if (got != verdict)
        fail_msg("\"%s\" in %s: %s, not %s (%s)", sql, places[place], verdicts[got],
                 verdicts[verdict], why);
    if ((got == PQI_ALLOW) != (why[0] == '\0'))
        fail_msg("\"%s\" in %s: %s with the reason \"%s\"", sql, places[place], verdicts[got], why);
}

/* Verdicts in a read, a write (and alone), a transaction. */
#define A PQI_ALLOW
#define T PQI_TAINT
#define R PQI_REFUSE

static const struct statement {
    const char *sql;
    enum pqi_verdict read, write, tx;
} statements[] = {
    {"select 1", A, A, A},
    {"values (1)", A, A, A},
    {"table note", A, A, A},
    {"with x as (select 1) select * from x", A, A, A},
    {"show search_path", A, A, A},
    {"explain select 1", A, A, A},
    {"explain analyze select 1", A, A, A},
    {"explain (analyze, format json) select 1", A, A, A},
    {"explain (select 1)", A, A, A},
    {"explain (values (1)) union select 2", A, A, A},
    {"explain ((select 1))", A, A, A},

    /* Reads that write are for the server to refuse. */
    {"insert into t values (1)", A, A, A},
    {"update t set a = 1", A, A, A},
    {"delete from t", A, A, A},
    {"merge into t using s on true when matched then do nothing", A, A, A},
    {"truncate t", A, A, A},
    {"create table t (a int)", A, A, A},
    {"create index on t (a)", A, A, A},
    {"create or replace view v as select 1", A, A, A},
    {"alter table t add b int", A, A, A},
    {"drop table t", A, A, A},
    {"grant select on t to x", A, A, A},
    {"revoke select on t from x", A, A, A},
    {"comment on table t is 'x'", A, A, A},
    {"refresh materialized view v", A, A, A},
    {"security label on table t is 'x'", A, A, A},
    {"reassign owned by x to y", A, A, A},
    {"import foreign schema x from server y into z", A, A, A},

    /* What would run in a read-only transaction and is no read. */
    {"vacuum t", R, A, A},
    {"analyze t", R, A, A},
    {"cluster t", R, A, A},
    {"reindex table t", R, A, A},
    {"checkpoint", R, A, A},
    {"call p()", R, T, T},
    {"do $$ begin end $$", R, T, T},
    {"notify x", R, A, A},
    {"alter system set work_mem = 1", R, A, A},
    {"frobnicate", R, A, A},
    {"\"select\" 1", R, A, A},
    {"1", R, A, A},

    /* Transactions. */
    {"begin", R, R, R},
    {"begin isolation level serializable", R, R, R},
    {"start transaction", R, R, R},
    {"commit", R, R, R},
    {"commit and chain", R, R, R},
    {"commit prepared 'x'", R, R, R},
    {"end", R, R, R},
    {"abort", R, R, R},
    {"rollback", R, R, R},
    {"rollback work", R, R, R},
    {"rollback transaction and chain", R, R, R},
    {"rollback prepared 'x'", R, R, R},
    {"rollback to s", R, R, A},
    {"rollback to savepoint s", R, R, A},
    {"rollback work to s", R, R, A},
    {"rollback transaction to savepoint s", R, R, A},
    {"savepoint s", R, R, A},
    {"release s", R, R, A},
    {"release savepoint s", R, R, A},
    {"prepare transaction 'x'", R, R, R},
    {"lock table t", R, R, A},
    {"lock t in share mode", R, R, A},

    /* Sessions. */
    {"set search_path = x", R, R, T},
    {"set session x.y = 1", R, R, T},
    {"set session characteristics as transaction read only", R, R, T},
    {"set role x", R, R, T},
    {"set session authorization x", R, R, T},
    {"set time zone 'UTC'", R, R, T},
    {"set local search_path = x", R, R, A},
    {"set local role x", R, R, A},
    {"set local \"my\".x = 1", R, R, A},
    {"set local.x = 1", R, R, T},
    {"set local /* */ . x = 1", R, R, T},
    {"set transaction read only", R, R, A},
    {"set transaction.x = 1", R, R, T},
    {"set constraints all deferred", R, R, A},
    {"set constraints.x = 1", R, R, T},
    {"reset all", R, R, T},
    {"reset search_path", R, R, T},
    {"discard all", R, R, T},
    {"discard temp", R, R, T},
    {"load 'x'", R, R, T},
    {"listen x", R, R, T},
    {"unlisten *", R, R, T},
    {"prepare p as select 1", R, R, T},
    {"execute p", R, R, T},
    {"explain execute p", R, R, T},
    {"explain analyze verbose execute p", R, R, T},
    {"explain (analyze) execute p(1)", R, R, T},
    {"deallocate p", R, R, T},
    {"deallocate prepare p", R, R, T},
    {"deallocate all", R, R, R},
    {"deallocate prepare all", R, R, R},
    {"copy t from stdin", R, R, R},
    {"copy (select 1) to stdout", R, R, R},

    /* Functions that change the session, wherever they stand. */
    {"select set_config('a.b', 'c', false)", T, T, T},
    {"select set_config('a.b', 'c', $1)", T, T, T},
    {"select set_config('a.b', 'c', not true)", T, T, T},
    {"select set_config('a.b', 'c', true and false)", T, T, T},
    {"select set_config('a.b', true, false)", T, T, T},
    {"select set_config(f(1, 2, true), 'c', false)", T, T, T},
    {"select set_config('a.b', 'c', is_local => true)", T, T, T},
    {"select set_config('a.b', 'c', true), set_config('a.b', 'c', false)", T, T, T},
    {"select set_config('a.b', 'c', true), \"set_config\"('a.b', 'c', false)", T, T, T},
    {"select f('select set_config(''a'', ''b'', true)')", T, T, T},
    {"select set_config", T, T, T},
    {"select set_config('a.b', 'c'", T, T, T},
    {"select set_config('a.b', 'c', true", T, T, T},
    {"insert into t select set_config('a.b', 'c', false)", T, T, T},
    {"explain analyze select set_config('a.b', 'c', false)", T, T, T},
    {"select pg_catalog.set_config('a.b', 'c', true)", A, A, A},
    {"select set_config('a.b', 'c', true), set_config($1, f($2, (3)), true)", A, A, A},
    {"select set_config ( 'a,)' , 'c' , true )", A, A, A},
    {"select reset_configuration()", T, T, T},
    {"select pg_advisory_lock(1)", T, T, T},
    {"select pg_try_advisory_lock(1, 2)", T, T, T},
    {"select pg_advisory_lock_shared(1)", T, T, T},
    {"select pg_advisory_xact_lock(1), pg_advisory_lock(1)", T, T, T},
    {"select pg_advisory_xact_lock(1)", A, A, A},
    {"select pg_try_advisory_xact_lock_shared(1)", A, A, A},
    {"select pg_advisory_unlock(1)", A, A, A},
    {"select setseed(0.5)", T, T, T},
    {"select set_limit(0.5)", T, T, T},
    {"select dblink_connect('x', 'y')", T, T, T},
    {"select dblink_connect_u('x', 'y')", T, T, T},
    {"select pg_backup_start('x')", T, T, T},
    {"select pg_create_logical_replication_slot('x', 'y', true)", T, T, T},
    {"select pg_create_physical_replication_slot('x', true, true)", T, T, T},
    {"select pg_replication_origin_session_setup('x')", T, T, T},
    /* What the session remembers, it remembers of others. */
    {"select lastval()", R, R, A},
    {"select currval('s')", R, R, A},
    {"select pg_catalog.currval('s')", R, R, A},
    {"select \"lastval\" ()", R, R, A},
    {"insert into t values (currval('s'))", R, R, A},
    {"with x as (insert into t values (1) returning 1) select lastval()", R, R, A},
    {"explain analyze select lastval()", R, R, A},
    {"select lastval() where pg_advisory_lock(1) is null", R, R, T},
    {"do $$ begin perform lastval(); end $$", R, T, T},
    {"select currval, lastval from t", A, A, A},
    {"select 'lastval()'", A, A, A},
    {"select my_lastval(), currval_of('s'), \"LASTVAL\"()", A, A, A},
    {"select 1 /* lastval() */", A, A, A},
    {"select slot_name from pg_replication_slots", A, A, A},
    {"select pg_notify('x', 'y')", A, A, A},
    {"select pg_export_snapshot(), lo_open(1, 2), set_bit('x', 1, 1)", A, A, A},

    /* Cursors. */
    {"declare c cursor for select 1", R, R, T},
    {"declare c cursor with hold for select 1", R, R, T},
    {"fetch c", R, R, A},
    {"move c", R, R, A},
    {"close c", R, R, A},
    {"close all", R, R, A},

    /* Temporary tables. */
    {"create temp table t (a int)", R, R, T},
    {"create temporary table t as select 1", R, R, T},
    {"create temp table if not exists t (a int)", R, R, T},
    {"create global temp table t (a int)", R, R, T},
    {"create local temporary table t (a int)", R, R, T},
    {"create temp sequence s", R, R, T},
    {"create temp view v as select 1", R, R, T},
    {"create or replace temp view v as select 1", R, R, T},
    {"create temp recursive view v (n) as select 1", R, R, T},
    {"create table pg_temp.t (a int)", R, R, T},
    {"create table if not exists \"pg_temp\".t (a int)", R, R, T},
    {"create view v as select * from pg_temp.t", R, R, T},
    {"create function pg_temp.f() returns int language sql as 'select 1'", R, R, T},
    {"create table pg_temp_3.t (a int)", R, R, T},
    {"create table U&\"pg_temp\".t (a int)", R, R, T},
    {"create table u&\"pg\\005ftemp\".t (a int)", R, R, T},
    {"create table U&\"pg\\+00005Ftemp\" . t (a int)", R, R, T},
    {"create table U&\"pg!005ftemp\" uescape '!' .t (a int)", R, R, T},
    {"create table U&\"pg_tempo\".t (a int)", A, A, A},
    {"create table U&\"pg\\005ftempo\".t (a int)", A, A, A},
    {"create table pg_temporary.t (a int)", A, A, A},
    {"create table pg_temp_x.t (a int)", A, A, A},
    {"create table \"PG_TEMP\".t (a int)", A, A, A},
    {"create table temp (a int)", A, A, A},
    {"create table temporary as select 1", A, A, A},
    {"create table x (temp int, pg_temp int)", A, A, A},
    {"create table x (a text default 'pg_temp.x')", A, A, A},
    {"create function f() returns int language sql as $$ select * from pg_temp.x $$", A, A, A},
    {"explain analyze create temp table t as select 1", R, R, T},

    /* The server makes none in a read. */
    {"select 1 into temp t", A, R, T},
    {"select 1 as a into temporary table t from x", A, R, T},
    {"select 1 into local temp t", A, R, T},
    {"select 1 into global temporary table t", A, R, T},
    {"select 1 into pg_temp.t", A, R, T},
    {"select 1 into table pg_temp.t", A, R, T},
    {"select 1 into table \"pg_temp\".t", A, R, T},
    {"select 1 into U&\"pg_temp\".t", A, R, T},
    {"select 1 into table U&\"pg\\005ftemp\".t", A, R, T},
    {"select 1 into pg_temp_12.t", A, R, T},
    {"select 1 into table t", A, A, A},
    {"select 1 into table temp.t", A, A, A},
    {"explain analyze select 1 into table pg_temp.t", R, R, T},
    {"with x as (select 1) select * into temp t from x", A, R, T},
    {"(select 1 into temp t)", A, R, T},
    {"explain analyze select 1 into temp t", R, R, T},
    {"explain analyze select 1 into t", R, A, A},
    {"explain (analyze) create table t as select 1", R, A, A},
    {"explain analyze create materialized view v as select 1", R, A, A},
    {"explain analyze with x as (insert into t values (1) returning 1) select 1", A, A, A},
    {"select e'\\'' into temp t", A, R, T},
    {"select 'it''s' into temp t", A, R, T},
    {"select $x$ $y$ $$ $x$ into temp t", A, R, T},
    {"select $1 into temp t", A, R, T},
    {"select a$1 into temp t", A, R, T},
    {"select 1 into t", A, A, A},
    {"select 1 into unlogged t", A, A, A},
    {"select ' into temp t'", A, A, A},
    {"select e'\\' into temp t'", A, A, A},
    {"select '\\', ' into temp t'", A, A, A},
    {"select \" into temp t\"", A, A, A},
    {"select $$ into temp t $$", A, A, A},
    {"select $x$ $$ into temp t $x$", A, A, A},
    {"select 1 -- into temp t", A, A, A},
    {"select 1 /* into temp t */", A, A, A},
    {"select temp from temporary", A, A, A},
    {"with x as (insert into temp values (1) returning 1) select * from x", A, A, A},
    {"with x as (merge into temp using s on true when matched then do nothing) select 1", A, A, A},
    {"insert into temp select 1", A, A, A},
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void expect_all(const char *sql, const struct statement *s)
{
    expect(sql, PQI_IN_READ, s->read);
    expect(sql, PQI_IN_WRITE, s->write);
    expect(sql, PQI_IN_ALONE, s->write);
    expect(sql, PQI_IN_TX, s->tx);
}

static void every_command_is_judged_by_its_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(statements); i++)
        expect_all(statements[i].sql, &statements[i]);
}

static void what_stands_before_a_statement_does_not_hide_it(void **state)
{
    (void)state;
    static const char *const before[] = {" ",
                                         "\t\r\n\f\v",
                                         "-- x\n",
                                         "--\r",
                                         "-- a -- b\n --c\n",
                                         "/**/",
                                         "/* a /* b */ c */",
                                         "/***/ /* * / */",
                                         "/*/**/*/",
                                         ";",
                                         " ; ; ",
                                         "(",
                                         " ( ( ",
                                         ";/* x */(-- y\n"};
    for (size_t i = 0; i < COUNT(statements); i++)
        for (size_t j = 0; j < COUNT(before); j++) {
            char sql[512];
            snprintf(sql, sizeof sql, "%s%s", before[j], statements[i].sql);
            expect_all(sql, &statements[i]);
        }
}

static void letters_may_be_of_any_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(statements); i++) {
        /* Quoted names, and tags of texts in dollars, have a case. */
        if (strpbrk(statements[i].sql, "\"$"))
            continue;
        char upper[256] = {0}, mixed[256] = {0};
        for (size_t c = 0; statements[i].sql[c]; c++) {
            upper[c] = (char)toupper((unsigned char)statements[i].sql[c]);
            mixed[c] = c % 2 ? upper[c] : statements[i].sql[c];
        }
        expect_all(upper, &statements[i]);
        expect_all(mixed, &statements[i]);
    }
}

static void comments_between_words_do_not_hide_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(statements); i++) {
        if (strpbrk(statements[i].sql, "'\"$-/"))
            continue;
        char sql[2048];
        size_t n = 0;
        for (const char *p = statements[i].sql; *p; p++)
            if (*p == ' ')
                n += (size_t)snprintf(sql + n, sizeof sql - n, "/* into temp */--x\n");
            else
                sql[n++] = *p;
        sql[n] = '\0';
        expect_all(sql, &statements[i]);
    }
}

static void a_word_is_a_whole_word(void **state)
{
    (void)state;
    static const char *const words[] = {"BEGINS", "SETTING", "set_confi", "COPYING",
                                        "endx",   "abort1",  "load$",     "LOCK\xc3\xa9",
                                        "resets", "xbegin",  "_commit",   "fetcher"};
    for (size_t i = 0; i < COUNT(words); i++) {
        expect(words[i], PQI_IN_WRITE, PQI_ALLOW);
        expect(words[i], PQI_IN_TX, PQI_ALLOW);
    }
    expect("selects 1", PQI_IN_READ, PQI_REFUSE);
    expect("set\"search_path\" = x", PQI_IN_WRITE, PQI_REFUSE);
    expect("begin;", PQI_IN_WRITE, PQI_REFUSE);
    expect("set--\nlocal x = 1", PQI_IN_TX, PQI_ALLOW);
}

static void a_text_without_a_statement_is_refused(void **state)
{
    (void)state;
    static const char *const nothing[] = {"",        " ",       ";",  "-- x",     "-- x\n",
                                          "/* x */", "/* x",    "/*", "/* /* */", "(",
                                          " ;(;( ",  "explain", "--"};
    for (size_t i = 0; i < COUNT(nothing); i++)
        for (int place = PQI_IN_READ; place <= PQI_IN_TX; place++)
            expect(nothing[i], (enum pqi_place)place, PQI_REFUSE);
}

static void texts_that_do_not_end_are_read_to_their_end(void **state)
{
    (void)state;
    static const char *const open[] = {"select '",  "select \"",   "select $$",   "select $x$ $$",
                                       "select $",  "select e'\\", "select e'",   "select /*",
                                       "select $x", "explain (",   "select 'a''", "with",
                                       "select e"};
    for (size_t i = 0; i < COUNT(open); i++)
        for (int place = PQI_IN_WRITE; place <= PQI_IN_TX; place++) {
            char why[64];
            pqi_guard(open[i], (enum pqi_place)place, why, sizeof why);
        }
}

/* Under the address sanitizer this finds reads beyond the end. */
static void no_text_leads_out_of_itself(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "select", "into",    "temp", "create", "explain", "'",     "\"",  "$", "$x$",
        "e'",     "\\",      "/*",   "*/",     "--",      "\n",    " ",   "(", ")",
        ".",      "pg_temp", "1",    "or",     "set",     "local", "\xff"};
    unsigned random = 1;
    for (int i = 0; i < 200000; i++) {
        char text[128] = "";
        for (int n = 0; n < 10; n++) {
            random = random * 1664525 + 1013904223;
            strcat(text, parts[(random >> 16) % COUNT(parts)]);
        }
        char *exact = test_malloc(strlen(text) + 1), why[32];
        memcpy(exact, text, strlen(text) + 1);
        pqi_guard(exact, (enum pqi_place)(i % 4), why, sizeof why);
        pqi_tag_allowed(exact, (enum pqi_place)(i % 4));
        test_free(exact);
    }
}

static void the_reason_names_the_word_and_the_way_out(void **state)
{
    (void)state;
    char why[256];
    pqi_guard("set x = 1", PQI_IN_WRITE, why, sizeof why);
    assert_string_equal(why, "SET would outlive this call on a shared connection: use "
                             "set_config(name, value, true) in a transaction, or pqr_lend");
    pqi_guard("vacuum note", PQI_IN_READ, why, sizeof why);
    assert_string_equal(why, "vacuum is not a read: use pqr_write");
    pqi_guard("rollback", PQI_IN_TX, why, sizeof why);
    assert_string_equal(why, "ROLLBACK would end the transaction unseen: "
                             "use pqr_commit or pqr_rollback");
    pqi_guard("'secret'", PQI_IN_READ, why, sizeof why);
    assert_string_equal(why, "this is not a read: use pqr_write");
}

static void the_reason_is_cut_to_fit(void **state)
{
    (void)state;
    char why[8] = "xxxxxxx";
    assert_int_equal(pqi_guard("set x = 1", PQI_IN_WRITE, why, 4), PQI_REFUSE);
    assert_memory_equal(why, "SET\0xxx", 8);
    assert_int_equal(pqi_guard("set x = 1", PQI_IN_WRITE, NULL, 0), PQI_REFUSE);
    assert_int_equal(pqi_guard("select 1", PQI_IN_WRITE, NULL, 0), PQI_ALLOW);
}

static void command_tags_are_judged_by_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *tag;
        bool read, write, tx;
    } tags[] = {
        {"SELECT 0", true, true, true},
        {"SELECT 12345", true, true, true},
        {"SHOW", true, true, true},
        {"EXPLAIN", true, true, true},
        {"", false, true, true},
        {"SELECTED", false, true, true},
        {"INSERT 0 1", false, true, true},
        {"UPDATE 3", false, true, true},
        {"DELETE 0", false, true, true},
        {"MERGE 2", false, true, true},
        {"CREATE TABLE", false, true, true},
        {"DROP INDEX", false, true, true},
        {"TRUNCATE TABLE", false, true, true},
        {"VACUUM", false, true, true},
        {"CALL", false, true, true},
        {"DO", false, true, true},
        {"NOTIFY", false, true, true},
        {"GRANT", false, true, true},
        {"BEGIN", false, false, false},
        {"START TRANSACTION", false, false, false},
        {"COMMIT", false, false, false},
        {"COMMIT PREPARED", false, false, false},
        {"PREPARE TRANSACTION", false, false, false},
        {"COPY 5", false, false, false},
        {"ROLLBACK", false, false, true},
        {"SAVEPOINT", false, false, true},
        {"RELEASE", false, false, true},
        {"PREPARE", false, false, true},
        {"DEALLOCATE", false, false, true},
        {"DEALLOCATE ALL", false, false, false},
        {"DECLARE CURSOR", false, false, true},
        {"FETCH 1", false, false, true},
        {"MOVE 1", false, false, true},
        {"CLOSE CURSOR", false, false, true},
        {"CLOSE CURSOR ALL", false, false, true},
        {"LISTEN", false, false, true},
        {"UNLISTEN", false, false, true},
        {"LOAD", false, false, true},
        {"SET", false, false, true},
        {"SET CONSTRAINTS", false, false, true},
        {"RESET", false, false, true},
        {"DISCARD ALL", false, false, true},
        {"LOCK TABLE", false, false, true},
    };
    for (size_t i = 0; i < COUNT(tags); i++) {
        const char *tag = tags[i].tag;
        bool right = pqi_tag_allowed(tag, PQI_IN_READ) == tags[i].read &&
                     pqi_tag_allowed(tag, PQI_IN_WRITE) == tags[i].write &&
                     pqi_tag_allowed(tag, PQI_IN_ALONE) == tags[i].write &&
                     pqi_tag_allowed(tag, PQI_IN_TX) == tags[i].tx;
        if (!right)
            fail_msg("the tag \"%s\" is judged wrongly", tag);
    }
}

static void a_query_of_the_routers_runs_only_behind_one_that_has_taken_a_snapshot(void **state)
{
    (void)state;
    static const char *const takes[] = {"select 1",
                                        " /* a */ insert into t values (1)",
                                        "update t set a = 1",
                                        "delete from t",
                                        "merge into t using u on true when matched then delete",
                                        "(select 1)",
                                        "with a as (select 1) select * from a",
                                        "values (1)",
                                        "table t",
                                        "create table t(a int)",
                                        "truncate t",
                                        "explain select 1",
                                        "settle",
                                        "\"set\""};
    static const char *const does_not[] = {"set transaction isolation level serializable",
                                           "SET local lock_timeout = 1",
                                           "-- one\nset constraints all deferred",
                                           "reset all",
                                           "show all",
                                           "lock table t",
                                           "savepoint a",
                                           "release a",
                                           "rollback to savepoint a",
                                           "notify a"};
    for (size_t i = 0; i < COUNT(takes); i++)
        if (!pqi_takes_snapshot(takes[i]))
            fail_msg("%s takes one", takes[i]);
    for (size_t i = 0; i < COUNT(does_not); i++)
        if (pqi_takes_snapshot(does_not[i]))
            fail_msg("%s takes none", does_not[i]);
}

static void rows_come_from_queries_and_from_what_is_returning(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "select 1",
        "(select 1)",
        "values (1)",
        "table t",
        "explain insert into t values (1)",
        "insert into t values (1) returning id",
        "INSERT INTO t SELECT f(1) /* returning */ RETURNING id",
        "update t set a = (select 1) returning *",
        "delete from t where a in (1) returning a",
        "with a as (select 1) select * from a",
        "with a as (delete from t returning id) select * from a",
        "with a as (select 1) insert into t select * from a returning id",
        "with recursive a(n) as (values (1)) update t set b = 1 returning b"};
    static const char *const none[] = {
        "insert into t values ('returning')",
        "insert into t(\"returning\") values (1)",
        "insert into t values (1) -- returning id",
        "insert into t select * from (select 1) s(returning_it)",
        "update t set a = (select 1)",
        "delete from t",
        "with a as (delete from t returning id) insert into u select * from a",
        "with a as (select 1) delete from t",
        "create table t(a int)",
        "truncate t",
        "lock table t",
        ""};
    for (size_t i = 0; i < COUNT(rows); i++)
        if (!pqi_returns_rows(rows[i]))
            fail_msg("%s returns rows", rows[i]);
    for (size_t i = 0; i < COUNT(none); i++)
        if (pqi_returns_rows(none[i]))
            fail_msg("%s returns none", none[i]);
}

static void what_changes_the_tenants_setting_is_found(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "set app.tenant_id = 'x'",
        "SET LOCAL app.tenant_id TO 'x'",
        "set session App.Tenant_Id = default",
        "set /* a */ local -- b\n app . tenant_id = 'x'",
        "set \"app\".\"tenant_id\" to 'x'",
        "reset app.tenant_id",
        ";; (set local app.tenant_id = 'x')",
        "select set_config('app.tenant_id', $1, true)",
        "select pg_catalog.SET_CONFIG ( 'App.Tenant_ID' , $1, false)",
        "select \"set_config\"/**/('app.tenant_id', $1, false)",
        "with x as (select set_config('app.tenant_id', 'x', true)) select 1",
        "update t set a = set_config('app.tenant_id', 'x', true)",
        "explain analyze select set_config('app.tenant_id', 'x', true)",
        "select set_config('a.b', 'c', true), set_config('app.tenant_id', 'x', true)",
    };
    static const char *const others[] = {
        "select current_setting('app.tenant_id')",
        "update t set tenant = current_setting('app.tenant_id')",
        "insert into t select current_setting('app.tenant_id'), set_config('app.x', 'y', true)",
        "set app.tenant = 'x'",
        "set app.tenant_id_ = 'x'",
        "set local.app.tenant_id = 'x'",
        "set tenant_id = 'x'",
        "reset all",
        "show app.tenant_id",
        "select 'set_config(''app.tenant_id'', 1)'",
        "select set_config('app.tenant_ids', 'x', true)",
        "select set_config($1, 'app.tenant_id', true)",
        "select my_set_config('app.tenant_id')",
        "/* set app.tenant_id = 1 */ select 1",
        "set",
        "set local",
        "select set_config(",
        "select set_config('",
        "set \"",
        "",
    };
    for (size_t i = 0; i < COUNT(changes); i++)
        if (!pqi_changes_setting(changes[i], "app.tenant_id"))
            fail_msg("\"%s\" changes it", changes[i]);
    for (size_t i = 0; i < COUNT(others); i++)
        if (pqi_changes_setting(others[i], "app.tenant_id"))
            fail_msg("\"%s\" does not change it", others[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_is_judged_by_its_place),
        cmocka_unit_test(what_stands_before_a_statement_does_not_hide_it),
        cmocka_unit_test(letters_may_be_of_any_case),
        cmocka_unit_test(comments_between_words_do_not_hide_them),
        cmocka_unit_test(a_word_is_a_whole_word),
        cmocka_unit_test(a_text_without_a_statement_is_refused),
        cmocka_unit_test(texts_that_do_not_end_are_read_to_their_end),
        cmocka_unit_test(no_text_leads_out_of_itself),
        cmocka_unit_test(the_reason_names_the_word_and_the_way_out),
        cmocka_unit_test(the_reason_is_cut_to_fit),
        cmocka_unit_test(command_tags_are_judged_by_their_place),
        cmocka_unit_test(a_query_of_the_routers_runs_only_behind_one_that_has_taken_a_snapshot),
        cmocka_unit_test(rows_come_from_queries_and_from_what_is_returning),
        cmocka_unit_test(what_changes_the_tenants_setting_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
