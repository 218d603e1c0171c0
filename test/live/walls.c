/* Row-level security: tenants in one table, on shared connections, and no statement that names its
 * tenant. Fleet: one shard, no replica. */
#include "live.h"

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P "shard0/primary"
#define ROWS 5 /* each tenant's in item */
#define SETTING "DB_TENANT_SETTING=app.tenant_id"
#define OWN_SQL "select tenant from item"

/* Past the library, as the superuser, for whom there is no wall. */
static PGconn *connect_past_the_wall(void)
{
    char where[512];
    const char *port = strrchr(getenv("DATABASE_PRIMARY_URL"), ':') + 1;
    snprintf(where, sizeof where, "host=%s/socket port=%d user=postgres dbname=app",
             getenv("PQR_FLEET"), atoi(port));
    return PQconnectdb(where);
}

static void super(const char *sql)
{
    PGconn *pg = connect_past_the_wall();
    PGresult *r = PQexec(pg, sql);
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(pg));
    PQclear(r);
    PQfinish(pg);
}

static long past_the_wall(const char *format, const char *tenant)
{
    char sql[256];
    PGconn *pg = connect_past_the_wall();
    snprintf(sql, sizeof sql, format, tenant);
    PGresult *r = PQexec(pg, sql);
    assert_int_equal(PQntuples(r), 1);
    long n = atol(PQgetvalue(r, 0, 0));
    PQclear(r);
    PQfinish(pg);
    return n;
}

/* A policy that fails closed: a row is somebody's, and '' is nobody. */
static void wall(const char *table)
{
    ask(P, "alter table %s enable row level security", table);
    ask(P, "alter table %s force row level security", table);
    ask(P,
        "create policy own on %s using (tenant = nullif(current_setting('app.tenant_id', true),"
        " ''))",
        table);
}

static int make_tables(void **state)
{
    (void)state;
    ask(P, "create table item(tenant text not null, n int not null default 0)");
    ask(P,
        "insert into item(tenant) select t from unnest('{ann,bob}'::text[]) t,"
        " generate_series(1, %d)",
        ROWS);
    ask(P, "create table jot(tenant text not null default current_setting('app.tenant_id', true),"
           " n int)");
    wall("item");
    wall("jot");
    ask(P, "create function rename(name text) returns text language sql as"
           " $$select set_config('app.tenant_id', name, true)$$");
    ask(P, "create function rename_for_good(name text) returns text language sql as"
           " $$select set_config('app.tenant_id', name, false)$$");
    ask(P, "create procedure jot_twice() language plpgsql as"
           " $$begin insert into jot(n) values (1); commit; insert into jot(n) values (2); end$$");
    return 0;
}

/* ---- What each kind of call sees ------------------------------------------------------------- */

static void sees(const pqr_result *res, const char *tenant, size_t rows)
{
    assert_int_equal(pqr_rows(res), rows);
    for (size_t i = 0; i < rows; i++)
        assert_string_equal(pqr_text(res, i, 0), tenant);
}

static void reads_own(pqr_session *s, const char *tenant, size_t rows)
{
    pqr_result *res;
    OK(pqr_read(s, PQR_QUERY(.sql = OWN_SQL), &res, &live_error));
    sees(res, tenant, rows);
    pqr_result_free(res);
}

static long jots_of(const char *tenant)
{
    return past_the_wall("select count(*) from jot where tenant = '%s'", tenant);
}

static void reads_see_their_tenants_rows(pqr *db)
{
    pqr_session *ann = live_session(db, "ann"), *bob = live_session(db, "bob");
    for (int i = 0; i < 3; i++) {
        reads_own(ann, "ann", ROWS);
        reads_own(bob, "bob", ROWS);
    }
    const pqr_query *const both[] = {PQR_QUERY(.sql = OWN_SQL), PQR_QUERY(.sql = OWN_SQL)};
    pqr_result *res[2];
    OK(pqr_read_batch(bob, both, 2, res, &live_error));
    for (int i = 0; i < 2; i++) {
        sees(res[i], "bob", ROWS);
        pqr_result_free(res[i]);
    }
    pqr_session_close(ann);
    pqr_session_close(bob);
}

static void a_read_sees_the_rows_of_its_tenant_only(void **state)
{
    (void)state;
    static const char *const kinds[] = {"DB_LANES=1", "DB_LANES=0", "DB_PREPARED_STATEMENTS=0",
                                        "DB_PREPARED_STATEMENTS=1", "DB_CONNECTION_LIMIT=1"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        pqr *db = READY_ROUTER(SETTING, kinds[i]);
        reads_see_their_tenants_rows(db);
        pqr_close(db, 0);
    }
}

static void without_the_option_nobody_has_rows(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_TENANT_SETTING");
    pqr_session *ann = live_session(db, "ann");
    reads_own(ann, "", 0);
    pqr_session_close(ann);
    pqr_close(db, 0);
}

static void who_has_no_tenant_sees_nothing(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(SETTING, "DB_LANES=1");
    pqr_session *ann = live_session(db, "ann"), *nobody = live_session(db, NULL);
    pqr_result *res;
    for (int i = 0; i < 3; i++) {
        reads_own(ann, "ann", ROWS);
        reads_own(nobody, "", 0);
    }
    OK(pqr_write(nobody, PQR_QUERY(.sql = "delete from item"), &res, &live_error));
    assert_int_equal(pqr_affected(res), 0);
    pqr_result_free(res);
    pqr_session_close(ann);
    pqr_session_close(nobody);
    pqr_close(db, 0);
}

static void a_write_changes_its_tenants_rows_only(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(SETTING);
    pqr_session *ann = live_session(db, "ann");
    pqr_result *res;
    OK(pqr_write(ann, PQR_QUERY(.sql = "update item set n = n + 1 returning tenant"), &res,
                 &live_error));
    sees(res, "ann", ROWS);
    pqr_result_free(res);
    FAILS(PQR_E_SQL, pqr_write(ann, PQR_QUERY(.sql = "insert into item(tenant) values ('bob')"),
                               NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "42501");
    FAILS(PQR_E_SQL,
          pqr_write(ann, PQR_QUERY(.sql = "update item set tenant = 'bob'"), NULL, &live_error));
    assert_int_equal(past_the_wall("select sum(n) from item where tenant = '%s'", "bob"), 0);
    assert_int_equal(past_the_wall("select sum(n) from item where tenant = '%s'", "ann"), ROWS);
    pqr_session_close(ann);
    pqr_close(db, 0);
}

/* What commits by itself, and what must stand alone, has its tenant all the time. */
static void what_commits_inside_keeps_its_tenant(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(SETTING, "DB_CONNECTION_LIMIT=1");
    pqr_session *ann = live_session(db, "ann"), *bob = live_session(db, "bob");
    ask(P, "truncate jot");
    OK(pqr_write(ann, PQR_QUERY(.sql = "call jot_twice()"), NULL, &live_error));
    reads_own(bob, "bob", ROWS); /* on the only connection there may be */
    OK(pqr_write(bob,
                 PQR_QUERY(.sql = "do $$begin insert into jot(n) values (3); commit;"
                                  " insert into jot(n) values (4); end$$",
                           .alone = true),
                 NULL, &live_error));
    reads_own(ann, "ann", ROWS);
    assert_int_equal(jots_of("ann"), 2);
    assert_int_equal(jots_of("bob"), 2);
    OK(pqr_write(ann, PQR_QUERY(.sql = "vacuum jot", .alone = true), NULL, &live_error));
    pqr_session_close(ann);
    pqr_session_close(bob);
    pqr_close(db, 0);
}

/* What is around the statement there stands around its tenant too. */
static void what_happens_once_has_its_tenant(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(SETTING);
    OK(pqr_init(db, 10000, NULL, NULL, &live_error));
    pqr_session *ann = live_session(db, "ann"), *bob = live_session(db, "bob");
    pqr_result *res;
    pqr_tx *tx;
    ask(P, "truncate jot");
    for (int i = 0; i < 2; i++) {
        OK(pqr_write(ann,
                     PQR_QUERY(.sql = "insert into jot select tenant, n from item",
                               .idempotency_key = "one"),
                     &res, &live_error));
        assert_int_equal(pqr_affected(res), ROWS);
        pqr_result_free(res);
    }
    assert_int_equal(jots_of("ann"), ROWS);
    OK(pqr_begin(bob, PQR_TX(.idempotency_key = "one"), &tx, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = OWN_SQL), &res, &live_error));
    sees(res, "bob", ROWS);
    pqr_result_free(res);
    OK(pqr_commit(tx, &live_error));
    FAILS(PQR_E_DONE_BEFORE, pqr_begin(bob, PQR_TX(.idempotency_key = "one"), &tx, &live_error));
    OK(pqr_write(bob, PQR_QUERY(.sql = "insert into jot select tenant, n from item", .no_id = true),
                 NULL, &live_error));
    assert_int_equal(jots_of("bob"), ROWS);
    ask(P, "drop schema pqrouter cascade");
    pqr_session_close(ann);
    pqr_session_close(bob);
    pqr_close(db, 0);
}

static int sees_own_in_a_transaction(pqr_session *s, const char *tenant, const pqr_tx_options *o)
{
    pqr_tx *tx;
    pqr_result *res;
    OK(pqr_begin(s, o, &tx, &live_error));
    for (int i = 0; i < 2; i++) {
        OK(pqr_exec(tx, PQR_QUERY(.sql = OWN_SQL), &res, &live_error));
        sees(res, tenant, ROWS);
        pqr_result_free(res);
        OK(pqr_exec(tx, PQR_QUERY(.sql = "savepoint s"), NULL, &live_error));
        FAILS(PQR_E_SQL, pqr_exec(tx, PQR_QUERY(.sql = "select 1 / 0"), NULL, &live_error));
        OK(pqr_exec(tx, PQR_QUERY(.sql = "rollback to s"), NULL, &live_error));
    }
    return pqr_commit(tx, &live_error);
}

static void a_transaction_keeps_its_tenant_to_its_end(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(SETTING, "DB_CONNECTION_LIMIT=1");
    pqr_session *ann = live_session(db, "ann"), *bob = live_session(db, "bob");
    for (int isolation = PQR_READ_COMMITTED; isolation <= PQR_SERIALIZABLE; isolation++)
        for (int read_only = 0; read_only < 2; read_only++) {
            OK(sees_own_in_a_transaction(ann, "ann",
                                         PQR_TX(.read_only = read_only, .isolation = isolation)));
            OK(sees_own_in_a_transaction(bob, "bob",
                                         PQR_TX(.read_only = read_only, .isolation = isolation)));
        }
    reads_own(ann, "ann", ROWS);
    pqr_session_close(ann);
    pqr_session_close(bob);
    pqr_close(db, 0);
}

static void a_lent_connection_has_its_tenant(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(SETTING, "DB_CONNECTION_LIMIT=1");
    for (int mode = PQR_LEND_READ; mode <= PQR_LEND_WRITE; mode++)
        for (int i = 0; i < 2; i++) {
            const char *tenant = i ? "bob" : "ann";
            pqr_session *s = live_session(db, tenant);
            PGconn *pg;
            OK(pqr_lend(s, mode, &pg, &live_error));
            for (int k = 0; k < 2; k++) { /* not to the end of the first statement only */
                PGresult *r = PQexec(pg, "select count(*), min(tenant), max(tenant) from item");
                assert_int_equal(atoi(PQgetvalue(r, 0, 0)), ROWS);
                assert_string_equal(PQgetvalue(r, 0, 1), tenant);
                assert_string_equal(PQgetvalue(r, 0, 2), tenant);
                PQclear(r);
            }
            pqr_give_back(s, pg);
            reads_own(s, tenant, ROWS);
            pqr_session_close(s);
        }
    pqr_close(db, 0);
}

/* How often the servers were told, to an end of that kind ("true": the transaction's). */
static int told(const char *local)
{
    char command[256];
    snprintf(
        command, sizeof command,
        "grep -c \"set_config('app.tenant_id', .1, %s)\" \"$PQR_FLEET\"/log/shard0-primary.log",
        local);
    FILE *p = popen(command, "r");
    int n = -1;
    assert_int_equal(fscanf(p, "%d", &n), 1);
    pclose(p);
    return n;
}

static void what_is_told_ends_with_its_transaction(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(SETTING);
    pqr_session *ann = live_session(db, "ann");
    PGconn *pg;
    int local = told("true"), lasting = told("false");
    reads_own(ann, "ann", ROWS);
    OK(pqr_write(ann, PQR_QUERY(.sql = "update item set n = n"), NULL, &live_error));
    OK(sees_own_in_a_transaction(ann, "ann", NULL));
    assert_true(told("true") >= local + 3);
    assert_int_equal(told("false"), lasting);
    OK(pqr_lend(ann, PQR_LEND_READ, &pg, &live_error)); /* is closed afterwards */
    pqr_give_back(ann, pg);
    OK(pqr_write(ann, PQR_QUERY(.sql = "call jot_twice()"), NULL, &live_error));
    assert_int_equal(told("false"), lasting + 2);
    pqr_session_close(ann);
    pqr_close(db, 0);
}

/* ---- Changing it ------------------------------------------------------------------------------ */

static void to_change_it_is_refused(void **state)
{
    (void)state;
    static const char *const attempts[] = {
        "select set_config('app.tenant_id', 'bob', true)",
        "select pg_catalog . \"set_config\" ( 'APP.Tenant_ID', $1, false)",
        "with x as (select set_config('app.tenant_id', 'bob', true)) select tenant from item, x",
    };
    static const char *const in_tx[] = {
        "set app.tenant_id = 'bob'", "set local app.tenant_id to 'bob'",
        "/* x */ SET SESSION \"app\".tenant_id TO 'bob'", "reset app.tenant_id"};
    pqr *db = READY_ROUTER(SETTING);
    pqr_session *ann = live_session(db, "ann");
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        FAILS(PQR_E_USAGE, pqr_read(ann, PQR_QUERY(.sql = attempts[i]), NULL, &live_error));
        says("app.tenant_id holds the session's tenant");
        FAILS(PQR_E_USAGE, pqr_write(ann, PQR_QUERY(.sql = attempts[i]), NULL, &live_error));
    }
    pqr_tx *tx;
    OK(pqr_begin(ann, NULL, &tx, &live_error));
    for (size_t i = 0; i < sizeof in_tx / sizeof *in_tx; i++) {
        FAILS(PQR_E_USAGE, pqr_exec(tx, PQR_QUERY(.sql = in_tx[i]), NULL, &live_error));
        says("open a session for the other tenant");
    }
    OK(pqr_exec(tx, PQR_QUERY(.sql = "set local app.other = 'x'"), NULL, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "update jot set tenant = current_setting('app.tenant_id')"),
                NULL, &live_error));
    OK(pqr_commit(tx, &live_error));
    pqr_session_close(ann);
    pqr_close(db, 0);
}

/* What hides it from us is the caller's own doing, and its own only. */
static void who_changes_it_in_secret_changes_it_for_nobody_else(void **state)
{
    (void)state;
    static const char *const secret[] = {"select rename('bob')", "select rename_for_good('bob')"};
    static const char *const kinds[] = {"DB_LANES=1", "DB_LANES=0"};
    for (size_t kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < 2; i++) {
            pqr *db = READY_ROUTER(SETTING, kinds[kind]);
            pqr_session *ann = live_session(db, "ann"), *nobody = live_session(db, NULL);
            OK(pqr_read(ann, PQR_QUERY(.sql = secret[i]), NULL, &live_error));
            reads_own(ann, "ann", ROWS);
            OK(pqr_read(ann, PQR_QUERY(.sql = secret[i]), NULL, &live_error));
            reads_own(nobody, "", 0);
            OK(pqr_write(ann, PQR_QUERY(.sql = secret[i]), NULL, &live_error));
            reads_own(nobody, "", 0);
            pqr_session_close(ann);
            pqr_session_close(nobody);
            pqr_close(db, 0);
        }
}

/* Whatever the role or the URL had set. */
static void it_begins_as_nobodys(void **state)
{
    (void)state;
    super("alter role app set app.tenant_id = 'bob'");
    pqr *db = READY_ROUTER(SETTING);
    pqr_session *nobody = live_session(db, NULL);
    PGconn *pg;
    reads_own(nobody, "", 0);
    OK(pqr_lend(nobody, PQR_LEND_READ, &pg, &live_error));
    PGresult *r = PQexec(pg, OWN_SQL);
    assert_int_equal(PQntuples(r), 0);
    PQclear(r);
    pqr_give_back(nobody, pg);
    pqr_session_close(nobody);
    pqr_close(db, 0);
    super("alter role app reset app.tenant_id");
}

static void a_setting_that_means_something_else_is_refused(void **state)
{
    (void)state;
    super("alter role app set session_preload_libraries = 'plpgsql'");
    pqr *db = ROUTER("DB_TENANT_SETTING=plpgsql.variable_conflict");
    FAILS(PQR_E_NO_PRIMARY, pqr_ready(db, 1000, &live_error));
    says("its settings cannot be pinned: permission denied to set parameter "
         "\"plpgsql.variable_conflict\"");
    pqr_close(db, 0);
    super("alter role app reset session_preload_libraries");
}

static void a_tenant_that_no_setting_holds_is_refused(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(SETTING);
    pqr_session *s;
    FAILS(PQR_E_USAGE,
          pqr_session_open(db, PQR_SESSION(.tenant = "ann\0x", .tenant_len = 5), &s, &live_error));
    says("app.tenant_id (DB_TENANT_SETTING) cannot hold it");
    FAILS(PQR_E_USAGE, pqr_session_open(db, PQR_SESSION(.tenant = "ann\xff"), &s, &live_error));
    OK(pqr_session_open(db, PQR_SESSION(.tenant = "o'neil \\ \xc3\xa9 %s"), &s, &live_error));
    pqr_result *res;
    OK(pqr_read(s, PQR_QUERY(.sql = "select current_setting('app.tenant_id')"), &res, &live_error));
    assert_string_equal(pqr_text(res, 0, 0), "o'neil \\ \xc3\xa9 %s");
    pqr_result_free(res);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- When the telling itself fails ------------------------------------------------------------ */

/* The server refuses to be told; the caller's statement stands behind that, and is skipped. */
static void a_tenant_that_could_not_be_told_sees_nothing(void **state)
{
    (void)state;
    static const char *const kinds[] = {"DB_LANES=1", "DB_LANES=0"};
    for (size_t i = 0; i < 2; i++) {
        pqr *db = READY_ROUTER(SETTING, kinds[i]);
        pqr_session *ann = live_session(db, "ann");
        pqr_tx *tx;
        reads_own(ann, "ann", ROWS);
        long jots = jots_of("ann");
        OK(pqr_begin(ann, NULL, &tx, &live_error)); /* two connections, for what loses its own */
        OK(pqr_write(ann, PQR_QUERY(.sql = "insert into jot(n) values (0)"), NULL, &live_error));
        pqr_rollback(tx);
        super("revoke execute on function set_config(text, text, boolean) from public");
        FAILS(PQR_E_SQL, pqr_read(ann, PQR_QUERY(.sql = OWN_SQL), NULL, &live_error));
        says(i == 0 ? "its tenant could not be told: permission denied" : "permission denied");
        FAILS(PQR_E_SQL,
              pqr_write(ann, PQR_QUERY(.sql = "insert into jot(n) values (0)"), NULL, &live_error));
        FAILS(PQR_E_SQL, pqr_begin(ann, NULL, &tx, &live_error));
        FAILS(PQR_E_SQL, pqr_write(ann, PQR_QUERY(.sql = "call jot_twice()"), NULL, &live_error));
        says("its tenant could not be told: permission denied");
        super("grant execute on function set_config(text, text, boolean) to public");
        assert_int_equal(jots_of("ann"), jots + 1);
        reads_own(ann, "ann", ROWS);
        pqr_session_close(ann);
        pqr_close(db, 0);
    }
}

/* ---- Sizes ------------------------------------------------------------------------------------ */

/* Refused here, and not read: there is but one byte behind the pointer. */
static void what_is_too_large_is_refused_before_it_is_sent(void **state)
{
    (void)state;
    const size_t most = 16 << 20;
    char *sql = malloc(most + 2);
    memset(sql, ' ', most + 1);
    memcpy(sql, "select 1", 8);
    sql[most + 1] = '\0';
    pqr *db = READY_ROUTER(SETTING);
    pqr_session *ann = live_session(db, "ann");
    pqr_tx *tx;
    const pqr_query *const large[] = {
        PQR_QUERY(.sql = sql),
        PQR_QUERY(.sql = "select $1", PQR_PARAMS(PQR_BYTES("x", ((size_t)256 << 20) + 1))),
        PQR_QUERY(.sql = "select $1", PQR_PARAMS(PQR_TEXT_N("x", ((size_t)256 << 20) + 1))),
        PQR_QUERY(.sql = "select $1", PQR_PARAMS(PQR_BYTES("x", SIZE_MAX - 1)))};
    OK(pqr_begin(ann, NULL, &tx, &live_error));
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        pqr_result *res[2];
        const pqr_query *const batch[] = {PQR_QUERY(.sql = "select 1"), large[i]};
        FAILS(PQR_E_USAGE, pqr_read(ann, large[i], NULL, &live_error));
        says(i == 0 ? "more than 16777216 bytes" : "more than");
        FAILS(PQR_E_USAGE, pqr_write(ann, large[i], NULL, &live_error));
        FAILS(PQR_E_USAGE, pqr_exec(tx, large[i], NULL, &live_error));
        FAILS(PQR_E_USAGE, pqr_read_batch(ann, batch, 2, res, &live_error));
        assert_int_equal(live_error.index, 1);
    }
    sql[most] = '\0'; /* the most there may be */
    OK(pqr_exec(tx, large[0], NULL, &live_error));
    OK(pqr_commit(tx, &live_error));
    reads_own(ann, "ann", ROWS);
    pqr_session_close(ann);
    pqr_close(db, 0);
    free(sql);
}

/* ---- Who may log in ---------------------------------------------------------------------------- */

/* The fleet's URL with another role in it. */
static const char *url_as(const char *role)
{
    static char setting[512];
    const char *at = strchr(getenv("DATABASE_PRIMARY_URL"), '@');
    snprintf(setting, sizeof setting, "DATABASE_PRIMARY_URL=postgresql://%s%s", role, at);
    return setting;
}

static void logged(void *arg, int level, const char *event, const char *text)
{
    (void)level;
    if (strcmp(event, "role") == 0 && strstr(text, "is a superuser"))
        atomic_fetch_add((_Atomic int *)arg, 1);
}

static void a_role_without_walls_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *role, *make, *says;
    } roles[] = {
        {"strong", "create role strong login superuser password 'x'", "role strong is a superuser"},
        {"loose", "create role loose login bypassrls password 'x'", "role loose has BYPASSRLS"},
        {"owner",
         "create role owner login password 'x'; alter table jot owner to owner; alter table jot no force row level security",
         "ALTER TABLE public.jot FORCE ROW LEVEL SECURITY"},
        {"member", "create role member login password 'x' in role owner", "role member owns"},
        {"disguised",
         "create role disguised login superuser password 'x'; alter role disguised set role = app",
         "superuser"},
    };
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        char as[80];
        snprintf(as, sizeof as, "%s:x", roles[i].role);
        super(roles[i].make);
        pqr *db = ROUTER(SETTING, url_as(as));
        FAILS(PQR_E_AUTH, pqr_ready(db, 5000, &live_error));
        says(roles[i].says);
        pqr_session *ann = live_session(db, "ann");
        FAILS(PQR_E_AUTH, pqr_read(ann, PQR_QUERY(.sql = OWN_SQL), NULL, &live_error));
        says(roles[i].says);
        FAILS(PQR_E_AUTH, pqr_write(ann, PQR_QUERY(.sql = "delete from jot"), NULL, &live_error));
        says(roles[i].says);
        assert_non_null(strstr(health_of(db, P).why, roles[i].says));
        pqr_session_close(ann);
        if (strcmp(roles[i].role, "member") == 0) { /* what was wrong is mended meanwhile */
            super("alter table jot force row level security");
            OK(pqr_ready(db, 10000, &live_error));
            super("alter table jot owner to app");
        }
        pqr_close(db, 0);
    }
}

static void without_walls_a_superuser_is_warned_of_once(void **state)
{
    (void)state;
    for (int with_app = 0; with_app < 2; with_app++) {
        _Atomic int told = 0;
        pqr *db;
        OK(pqr_open(&db,
                    PQR_OPTIONS(.env = live_env((const char *const[]){
                                    "PQR_LOG=warn", "DB_TENANT_SETTING",
                                    with_app ? "PQR_LOG=warn" : url_as("strong:x"), NULL}),
                                .log = logged, .log_arg = &told),
                    &live_error));
        live_ready(db);
        pqr_session *ann = live_session(db, "ann");
        for (int i = 0; i < 3; i++)
            OK(pqr_write(ann, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
        pqr_session_close(ann);
        pqr_close(db, 0);
        assert_int_equal(told, with_app ? 0 : 1);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_sees_the_rows_of_its_tenant_only),
        cmocka_unit_test(without_the_option_nobody_has_rows),
        cmocka_unit_test(who_has_no_tenant_sees_nothing),
        cmocka_unit_test(a_write_changes_its_tenants_rows_only),
        cmocka_unit_test(what_commits_inside_keeps_its_tenant),
        cmocka_unit_test(what_happens_once_has_its_tenant),
        cmocka_unit_test(a_transaction_keeps_its_tenant_to_its_end),
        cmocka_unit_test(a_lent_connection_has_its_tenant),
        cmocka_unit_test(what_is_told_ends_with_its_transaction),
        cmocka_unit_test(to_change_it_is_refused),
        cmocka_unit_test(who_changes_it_in_secret_changes_it_for_nobody_else),
        cmocka_unit_test(it_begins_as_nobodys),
        cmocka_unit_test(a_setting_that_means_something_else_is_refused),
        cmocka_unit_test(a_tenant_that_no_setting_holds_is_refused),
        cmocka_unit_test(a_tenant_that_could_not_be_told_sees_nothing),
        cmocka_unit_test(what_is_too_large_is_refused_before_it_is_sent),
        cmocka_unit_test(a_role_without_walls_is_refused),
        cmocka_unit_test(without_walls_a_superuser_is_warned_of_once),
    };
    return cmocka_run_group_tests_name("walls", tests, make_tables, NULL);
}
