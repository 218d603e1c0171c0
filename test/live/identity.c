/* Whose database is it: stamps, the shard map, pins. A wrong URL must never reach another shard's
 * rows. Fleet: two shards, one replica each, every statement logged by the servers. */
#include "live.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P0 "shard0/primary"
#define P1 "shard1/primary"

/* A tenant that the first map puts on that shard. */
static const char *tenant_of(int shard)
{
    static char names[2][16];
    for (int i = 0;; i++) {
        snprintf(names[shard], sizeof names[shard], "t%d", i);
        if ((int)(pqr_slot(names[shard], strlen(names[shard])) * 2 / 16384) == shard)
            return names[shard];
    }
}

/* How often a text stands in a server's log of statements. */
static int logged(const char *node, const char *text)
{
    char file[64], command[512];
    snprintf(file, sizeof file, "%s", node);
    *strchr(file, '/') = '-';
    snprintf(command, sizeof command, "grep -c '%s' \"$PQR_FLEET\"/log/%s.log", text, file);
    FILE *p = popen(command, "r");
    int n = -1;
    assert_int_equal(fscanf(p, "%d", &n), 1);
    pclose(p);
    return n;
}

static void drop_stamps(void)
{
    ask(P0, "drop schema if exists pqrouter cascade");
    ask(P1, "drop schema if exists pqrouter cascade");
}

static void init_fleet(const char *id)
{
    char setting[80];
    snprintf(setting, sizeof setting, "DATABASE_FLEET_ID=%s", id);
    pqr *db = ROUTER(setting);
    OK(pqr_init(db, 10000, NULL, NULL, &live_error));
    pqr_close(db, 0);
}

static int stamped(void **state)
{
    (void)state;
    drop_stamps();
    init_fleet("fleet-a");
    return 0;
}

static int unstamped(void **state)
{
    (void)state;
    drop_stamps();
    return 0;
}

static void an_unstamped_shard_takes_no_writes(void **state)
{
    (void)state;
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, tenant_of(1));
    FAILS(PQR_E_UNSTAMPED,
          pqr_write(s, PQR_QUERY(.sql = "insert into note values ('never-1')"), NULL, &live_error));
    says("pqrouter init");
    assert_int_equal(live_error.shard, 1);
    FAILS(PQR_E_UNSTAMPED, pqr_begin(s, NULL, &(pqr_tx *){NULL}, &live_error));
    FAILS(PQR_E_UNSTAMPED, pqr_lend(s, PQR_LEND_WRITE, &(struct pg_conn *){NULL}, &live_error));
    FAILS(PQR_E_UNSTAMPED, pqr_ready(db, 500, &live_error));
    OK(pqr_read(s, PQR_QUERY(.sql = "select 'reads-go'", .level = PQR_LEVEL_PRIMARY), NULL,
                &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
    assert_int_equal(logged(P1, "never-1"), 0);
    assert_true(logged(P1, "reads-go") > 0); /* the log does tell */
}

static void a_router_that_waits_follows_when_the_shards_are_stamped(void **state)
{
    (void)state;
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, tenant_of(0));
    FAILS(PQR_E_UNSTAMPED, pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    init_fleet("fleet-a");
    EVENTUALLY(3000, pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error) == PQR_OK);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void urls_that_are_swapped_are_refused_before_any_statement(void **state)
{
    (void)state;
    char a[512], b[512], ar[512], br[512];
    snprintf(a, sizeof a, "DATABASE_SHARD_0_URL=%s", getenv("DATABASE_SHARD_1_URL"));
    snprintf(b, sizeof b, "DATABASE_SHARD_1_URL=%s", getenv("DATABASE_SHARD_0_URL"));
    snprintf(ar, sizeof ar, "DATABASE_SHARD_0_REPLICA_1_URL=%s",
             getenv("DATABASE_SHARD_1_REPLICA_1_URL"));
    snprintf(br, sizeof br, "DATABASE_SHARD_1_REPLICA_1_URL=%s",
             getenv("DATABASE_SHARD_0_REPLICA_1_URL"));
    pqr *db = ROUTER(a, b, ar, br);
    for (int shard = 0; shard < 2; shard++) {
        pqr_session *s = live_session(db, tenant_of(shard));
        FAILS(PQR_E_WRONG_SHARD,
              pqr_write(s, PQR_QUERY(.sql = "insert into note values ('never-2')"), NULL,
                        &live_error));
        FAILS(PQR_E_WRONG_SHARD,
              pqr_read(s, PQR_QUERY(.sql = "select 'never-2'"), NULL, &live_error));
        says("stamped as shard");
        FAILS(PQR_E_WRONG_SHARD, pqr_begin(s, NULL, &(pqr_tx *){NULL}, &live_error));
        pqr_session_close(s);
    }
    pqr_close(db, 0);
    assert_int_equal(logged(P0, "never-2") + logged(P1, "never-2"), 0);
    assert_int_equal(logged("shard0/replica1", "never-2") + logged("shard1/replica1", "never-2"),
                     0);
}

static void a_replica_of_another_shard_is_never_read(void **state)
{
    (void)state;
    char replica[512];
    snprintf(replica, sizeof replica, "DATABASE_SHARD_0_REPLICA_1_URL=%s",
             getenv("DATABASE_SHARD_1_REPLICA_1_URL"));
    pqr *db = READY_ROUTER(replica, "DB_HEALTH_INTERVAL=100ms");
    for (int i = 0; i < 6; i++)
        assert_string_equal(served_by(db, tenant_of(0), PQR_LEVEL_ANY), P0);
    assert_false(serves_reads(db, "shard0/replica1"));
    pqr_close(db, 0);
}

static void another_fleet_is_refused_before_any_statement(void **state)
{
    (void)state;
    pqr *db = ROUTER("DATABASE_FLEET_ID=fleet-b");
    pqr_session *s = live_session(db, tenant_of(0));
    FAILS(PQR_E_WRONG_SHARD, pqr_read(s, PQR_QUERY(.sql = "select 'never-3'"), NULL, &live_error));
    says("fleet-a");
    says("fleet-b");
    FAILS(PQR_E_WRONG_SHARD, pqr_write(s, PQR_QUERY(.sql = "select 'never-3'"), NULL, &live_error));
    FAILS(PQR_E_WRONG_SHARD, pqr_init(db, 5000, NULL, NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
    assert_int_equal(logged(P0, "never-3"), 0);
    db = READY_ROUTER("DATABASE_FLEET_ID=fleet-a");
    pqr_close(db, 0);
}

static void without_the_right_to_read_the_stamp_nothing_is_sent(void **state)
{
    (void)state;
    ask(P0, "revoke select on pqrouter.stamp from public");
    ask(P0, "alter table pqrouter.stamp owner to app");
    ask(P0, "revoke all on pqrouter.stamp from app");
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, tenant_of(0));
    FAILS(PQR_E_WRONG_SHARD, pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    says("grant");
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* The process lives on while another database takes the address of its shard. */
static void a_stamp_that_changes_under_a_living_router_ends_its_writes(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    run_write(db, tenant_of(0), "select 1");
    ask(P0, "update pqrouter.stamp set shard = 1");
    pqr_session *s = live_session(db, tenant_of(0));
    EVENTUALLY(3000,
               pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error) == PQR_E_WRONG_SHARD);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void fewer_shards_than_the_map_are_refused(void **state)
{
    (void)state;
    pqr *db = ROUTER("DATABASE_SHARD_COUNT=1", "DATABASE_SHARD_1_URL",
                     "DATABASE_SHARD_1_REPLICA_1_URL");
    pqr_session *s = live_session(db, tenant_of(0));
    FAILS(PQR_E_MAP, pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    says("DATABASE_SHARD_COUNT");
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void init_again_changes_nothing(void **state)
{
    (void)state;
    char before[64];
    snprintf(before, sizeof before, "%s", ask(P0, "select stamped_at from pqrouter.stamp"));
    init_fleet("fleet-a");
    assert_string_equal(ask(P0, "select stamped_at from pqrouter.stamp"), before);
    assert_int_equal(ask_number(P1, "select shard from pqrouter.stamp"), 1);
    assert_int_equal(ask_number(P1, "select map_version from pqrouter.stamp"), 1);
}

static void a_shard_added_later_owns_nothing(void **state)
{
    (void)state;
    drop_stamps();
    pqr *db = ROUTER("DATABASE_SHARD_COUNT=1", "DATABASE_SHARD_1_URL",
                     "DATABASE_SHARD_1_REPLICA_1_URL", "DATABASE_FLEET_ID=grows");
    OK(pqr_init(db, 10000, NULL, NULL, &live_error));
    pqr_close(db, 0);
    db = ROUTER("DATABASE_FLEET_ID=grows", "DB_HEALTH_INTERVAL=100ms");
    OK(pqr_init(db, 10000, NULL, NULL, &live_error));
    for (int i = 0; i < 40; i++) {
        char tenant[24];
        snprintf(tenant, sizeof tenant, "tenant%d", i);
        assert_string_equal(served_by(db, tenant, PQR_LEVEL_PRIMARY), P0);
    }
    pqr_close(db, 0);
}

static void tenants_are_on_the_shard_of_their_slot(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    for (int i = 0; i < 40; i++) {
        char tenant[24], node[32];
        pqr_route route;
        snprintf(tenant, sizeof tenant, "tenant%d", i);
        snprintf(node, sizeof node, "shard%u/primary",
                 pqr_slot(tenant, strlen(tenant)) * 2 / 16384);
        assert_string_equal(served_by(db, tenant, PQR_LEVEL_PRIMARY), node);
        OK(pqr_route_tenant(db, tenant, 0, 5000, &route, sizeof route, &live_error));
        assert_string_equal(route.write_node, node);
        assert_int_equal(route.map_version, 1);
    }
    pqr_close(db, 0);
}

static void a_pinned_tenant_moves_in_a_running_process_and_in_a_new_one(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    const char *tenant = tenant_of(0);
    assert_string_equal(served_by(db, tenant, PQR_LEVEL_PRIMARY), P0);
    pqr *operator_ = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    OK(pqr_pin(operator_, tenant, 0, 1, 5000, &live_error));
    pqr_close(operator_, 0);
    EVENTUALLY(3000, strcmp(served_by(db, tenant, PQR_LEVEL_PRIMARY), P1) == 0);
    pqr_close(db, 0);
    db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    for (int i = 0; i < 5; i++) /* from its very first call */
        assert_string_equal(served_by(db, tenant, PQR_LEVEL_PRIMARY), P1);
    pqr_route route;
    OK(pqr_route_tenant(db, tenant, 0, 5000, &route, sizeof route, &live_error));
    assert_int_equal(route.pinned, 1);
    assert_int_equal(route.map_version, 2);
    assert_string_equal(served_by(db, tenant_of(1), PQR_LEVEL_PRIMARY), P1);
    FAILS(PQR_E_USAGE, pqr_pin(db, tenant, 0, 2, 5000, &live_error));
    pqr_close(db, 0);
}

/* By the formula its shard has no replica; the map, read only once the write has begun, knows
 * better. */
static void the_first_write_of_a_process_is_read_where_the_map_sends_it(void **state)
{
    (void)state;
    const char *tenant = tenant_of(0);
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    OK(pqr_pin(db, tenant, 0, 1, 10000, &live_error));
    pqr_close(db, 0);
    EVENTUALLY(10000, ask_number("shard1/replica1", "select count(*) from pqrouter.pin") == 1);
    fleet("pause-replay shard1/replica1");
    db = ROUTER("DB_MAX_REPLICA_LAG=0", "DATABASE_SHARD_0_REPLICA_1_URL");
    pqr_session *s = live_session(db, tenant);
    pqr_result *res = NULL;
    OK(pqr_write(s, PQR_QUERY(.sql = "insert into note values ('mine')"), NULL, &live_error));
    OK(pqr_read(s, PQR_QUERY(.sql = "select count(*) from note where body = 'mine'"), &res,
                &live_error));
    fleet("resume-replay shard1/replica1");
    assert_int_equal(pqr_int64(res, 0, 0), 1);
    assert_string_equal(pqr_source(res), P1);
    pqr_result_free(res);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* Operators of the names and types that the router's own statements use, ahead of PostgreSQL's. */
static void set_trap(const char *node)
{
    static const char *const operators[][3] = {
        {"||", "text", "text"},     {"||", "text", "integer"}, {"*", "numeric", "integer"},
        {"+", "bigint", "integer"}, {"=", "oid", "oid"},       {"=", "name", "name"},
        {"=", "text", "text"}};
    ask(node, "create schema trap");
    for (int i = 0; i < 7; i++) {
        ask(node,
            "create function trap.f%d(%s, %s) returns %s language plpgsql as"
            " $$ begin raise 'trapped'; end $$",
            i, operators[i][1], operators[i][2], i >= 4 ? "boolean" : operators[i][1]);
        ask(node, "create operator trap.%s (leftarg = %s, rightarg = %s, function = trap.f%d)",
            operators[i][0], operators[i][1], operators[i][2], i);
    }
    ask(node,
        "create function trap.set_config(text, text, boolean) returns text language plpgsql as"
        " $$ begin raise 'trapped'; end $$");
    ask(node, "alter role app set search_path = trap, pg_catalog, public");
}

static void a_search_path_does_not_redirect_the_routers_own_statements(void **state)
{
    (void)state;
    static const char *const primaries[] = {P0, P1};
    const char *tenant = tenant_of(0);
    for (int i = 0; i < 2; i++)
        set_trap(primaries[i]);
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms", "DB_TENANT_SETTING=app.tenant_id");
    int ready = pqr_ready(db, 10000, &live_error);
    int pinned = pqr_pin(db, tenant, 0, 1, 10000, &live_error);
    pqr_session *s = live_session(db, tenant);
    pqr_result *res = NULL;
    int wrote = pqr_write(s, PQR_QUERY(.sql = "insert into note values ('there')"), &res,
                          &live_error);
    for (int i = 0; i < 2; i++) {
        ask(primaries[i], "alter role app reset search_path");
        ask(primaries[i], "drop schema trap cascade");
    }
    OK(ready);
    OK(pinned);
    OK(wrote);
    assert_string_equal(pqr_source(res), P1);
    pqr_result_free(res);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_session_needs_a_tenant_where_there_are_shards(void **state)
{
    (void)state;
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    FAILS(PQR_E_USAGE,
          pqr_session_open(db, PQR_SESSION(.tenant = NULL), &(pqr_session *){NULL}, &live_error));
    FAILS(PQR_E_USAGE, pqr_session_open(db, PQR_SESSION(.tenant = PQR_CONTROL),
                                        &(pqr_session *){NULL}, &live_error));
    says("DATABASE_PRIMARY_URL");
    pqr_close(db, 0);
}

static void add_text(void *arg, const char *text)
{
    strncat(arg, text, 60000 - strlen(arg) - 1);
}

/* Nobody has looked whose database it leads to. */
static void a_connection_for_one_server_by_name_is_not_used_again(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    int before = health_of(db, P0).conns_idle;
    OK(pqr_node_read(db, P0, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_int_equal(health_of(db, P0).conns_idle, before);
    pqr_close(db, 0);
}

static void the_sql_of_init_stamps_as_init_does(void **state)
{
    (void)state;
    char *all = calloc(1, 60000);
    pqr *db = ROUTER("DATABASE_FLEET_ID=it's by hand");
    OK(pqr_init_sql(db, add_text, all, &live_error));
    char *second = strstr(all, "-- shard1:");
    assert_non_null(second);
    char first[8192];
    snprintf(first, sizeof first, "%.*s", (int)(second - all), all);
    FILE *f = fopen("/dev/shm/pqrouter-init-test.sql", "w");
    fputs(first, f);
    fclose(f);
    char command[600];
    snprintf(
        command, sizeof command,
        "psql -qX -v ON_ERROR_STOP=1 -f /dev/shm/pqrouter-init-test.sql \"$DATABASE_SHARD_0_URL\"");
    assert_int_equal(system(command), 0);
    remove("/dev/shm/pqrouter-init-test.sql");
    assert_string_equal(ask(P0, "select fleet from pqrouter.stamp"), "it's by hand");
    OK(pqr_init(db, 5000, NULL, NULL, &live_error)); /* the other shard */
    OK(pqr_ready(db, 5000, &live_error));
    pqr_close(db, 0);
    free(all);
}

static int prepare(void **state)
{
    (void)state;
    ask(P0, "create table note(body text)");
    ask(P1, "create table note(body text)");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_unstamped_shard_takes_no_writes, unstamped),
        cmocka_unit_test_setup(a_router_that_waits_follows_when_the_shards_are_stamped, unstamped),
        cmocka_unit_test_setup(urls_that_are_swapped_are_refused_before_any_statement, stamped),
        cmocka_unit_test_setup(a_replica_of_another_shard_is_never_read, stamped),
        cmocka_unit_test_setup(another_fleet_is_refused_before_any_statement, stamped),
        cmocka_unit_test_setup(without_the_right_to_read_the_stamp_nothing_is_sent, stamped),
        cmocka_unit_test_setup(a_stamp_that_changes_under_a_living_router_ends_its_writes, stamped),
        cmocka_unit_test_setup(fewer_shards_than_the_map_are_refused, stamped),
        cmocka_unit_test_setup(init_again_changes_nothing, stamped),
        cmocka_unit_test_setup(a_shard_added_later_owns_nothing, unstamped),
        cmocka_unit_test_setup(tenants_are_on_the_shard_of_their_slot, stamped),
        cmocka_unit_test_setup(a_pinned_tenant_moves_in_a_running_process_and_in_a_new_one,
                               stamped),
        cmocka_unit_test_setup(the_first_write_of_a_process_is_read_where_the_map_sends_it,
                               stamped),
        cmocka_unit_test_setup(a_search_path_does_not_redirect_the_routers_own_statements, stamped),
        cmocka_unit_test_setup(a_session_needs_a_tenant_where_there_are_shards, stamped),
        cmocka_unit_test_setup(a_connection_for_one_server_by_name_is_not_used_again, stamped),
        cmocka_unit_test_setup(the_sql_of_init_stamps_as_init_does, unstamped),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
