/* TLS: servers are checked by default, and whoever is not what he should be is refused, with what
 * would accept him. Fleet: one shard, one replica, with certificates for fleet.test by its own CA. */
#include "live.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define P "shard0/primary"
#define NO_REPLICA "DATABASE_REPLICA_1_URL"
/* The monitor waits so long: reading a system's authorities takes its time in a sanitizer's build. */
#define PATIENT "DB_HEALTH_INTERVAL=5"

/* The primary's URL with each `from` as `to`, and `more` at its end. */
static const char *url(const char *from, const char *to, const char *more)
{
    static char setting[1024];
    const char *whole = getenv("DATABASE_PRIMARY_URL"), *at = strstr(whole, from);
    assert_non_null(at);
    snprintf(setting, sizeof setting, "DATABASE_PRIMARY_URL=%.*s%s%s%s", (int)(at - whole), whole,
             to, at + strlen(from), more);
    return setting;
}

static const char *as_it_is(const char *more)
{
    return url("@", "@", more);
}

/* Nobody's authority: the URL names none. */
static const char *without_ca(const char *more)
{
    char *whole = getenv("DATABASE_PRIMARY_URL");
    return url(strstr(whole, "&sslrootcert="), "", more);
}

static const char *file_in_fleet(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/tls/%s", getenv("PQR_FLEET"), name);
    return path;
}

static void works(const char *setting)
{
    pqr *db = READY_ROUTER(setting, NO_REPLICA, PATIENT);
    run_write(db, "acme", "select 1");
    pqr_close(db, 0);
}

static void refused(const char *setting, const char *why, const char *way_out)
{
    pqr *db = ROUTER(setting, NO_REPLICA, PATIENT);
    FAILS(PQR_E_AUTH, pqr_ready(db, 30000, &live_error));
    says(why);
    says(way_out);
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_AUTH, pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    says(way_out);
    FAILS(PQR_E_AUTH, pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    says(way_out);
    pqr_node_health health = health_of(db, P);
    assert_non_null(strstr(health.why, why)); /* there is no room for the rest */
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* Connections of ours to the primary, by whether they are encrypted. */
static long connections(const char *with)
{
    return ask_number(P,
                      "select count(*) from pg_stat_ssl join pg_stat_activity using (pid)"
                      " where application_name = 'tls-test' and %s",
                      with);
}

static void every_connection_to_a_host_that_is_not_local_is_checked(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_APPLICATION_NAME=tls-test", PATIENT);
    pqr_session *s = live_session(db, "acme");
    PGconn *pg;
    pqr_tx *tx;
    for (int round = 0; round < 2; round++) {
        OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .level = PQR_LEVEL_PRIMARY), NULL,
                    &live_error));
        OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
        OK(pqr_begin(s, NULL, &tx, &live_error));
        OK(pqr_lend(s, PQR_LEND_WRITE, &pg, &live_error));
        assert_string_equal(PQparameterStatus(pg, "application_name"), "tls-test");
        assert_true(PQsslInUse(pg));
        assert_true(connections("ssl") >= 4); /* the monitor's, a lane, and these two */
        assert_int_equal(connections("not ssl"), 0);
        pqr_give_back(s, pg);
        pqr_rollback(tx);
        /* Those that come in their place are made the same way. */
        ask(P, "select pg_terminate_backend(pid) from pg_stat_activity"
               " where application_name = 'tls-test'");
        EVENTUALLY(10000, connections("ssl") >= 1);
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_certificate_for_another_name_is_refused(void **state)
{
    (void)state;
    refused(url("@fleet.test", "@other.test", ""), "does not match host name \"other.test\"",
            "accept this server knowingly by sslmode=verify-ca");
    works(url("@fleet.test", "@other.test", "&sslmode=verify-ca"));
}

static void a_certificate_by_another_authority_is_refused(void **state)
{
    (void)state;
    refused(url("/ca.crt", "/other.crt", ""), "certificate verify failed",
            "accept this server knowingly by sslmode=require and no sslrootcert");
    refused(url("/ca.crt", "/other.crt", "&sslmode=require"), "certificate verify failed",
            "sslmode=require and no sslrootcert");
    works(without_ca("&sslmode=require"));
    refused(url("/ca.crt", "/none.crt", ""), "none.crt\" does not exist",
            "give its CA by sslrootcert=FILE");
}

/* In the middle of a session, too: what was encrypted never goes on in plain text. */
static void a_server_without_tls_is_refused(void **state)
{
    (void)state;
    static const char way_out[] = "accept this server knowingly, without encryption, by "
                                  "sslmode=disable";
    pqr *db = READY_ROUTER(PATIENT, NO_REPLICA);
    pqr_session *s = live_session(db, "acme");
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    fleet("sql " P " 'alter system set ssl = off' 'select pg_reload_conf()'");
    refused(as_it_is(""), "does not support SSL", way_out);
    refused(as_it_is("&sslmode=require"), "does not support SSL", way_out);
    fleet("sql " P " \"select pg_terminate_backend(pid) from pg_stat_activity"
          " where usename = 'app'\"");
    EVENTUALLY(10000, pqr_write(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 1000), NULL,
                                &live_error) == PQR_E_AUTH);
    says(way_out);
    works(as_it_is("&sslmode=disable"));
    fleet("sql " P " 'alter system reset ssl' 'select pg_reload_conf()'");
    EVENTUALLY(10000, pqr_write(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 1000), NULL,
                                &live_error) == PQR_OK);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* PGSSLROOTCERT applies to nobody; the user's own root.crt, which libpq documents, does. */
static void authorities_come_from_the_url_or_the_users_folder(void **state)
{
    (void)state;
    char home[512], folder[600], command[1300];
    char *before = strdup(getenv("HOME") ? getenv("HOME") : "/");
    snprintf(home, sizeof home, "%s/home-of-test", getenv("PQR_FLEET"));
    assert_int_equal(mkdir(home, 0700), 0);
    setenv("HOME", home, 1);
    setenv("PGSSLROOTCERT", file_in_fleet("ca.crt"), 1);
    refused(without_ca(""), "certificate", "give its CA by sslrootcert=FILE");
    setenv("PGSSLROOTCERT", file_in_fleet("other.crt"), 1);
    works(without_ca("&sslmode=require"));
    snprintf(folder, sizeof folder, "%s/.postgresql", home);
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(command, sizeof command, "cp '%s' '%s/root.crt'", file_in_fleet("ca.crt"), folder);
    assert_int_equal(system(command), 0);
    works(without_ca(""));
    unsetenv("PGSSLROOTCERT");
    snprintf(command, sizeof command, "rm -r '%s'", home);
    assert_int_equal(system(command), 0);
    setenv("HOME", before, 1);
    free(before);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_connection_to_a_host_that_is_not_local_is_checked),
        cmocka_unit_test(a_certificate_for_another_name_is_refused),
        cmocka_unit_test(a_certificate_by_another_authority_is_refused),
        cmocka_unit_test(a_server_without_tls_is_refused),
        cmocka_unit_test(authorities_come_from_the_url_or_the_users_folder),
    };
    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
