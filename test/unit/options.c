/* Environments, and the configuration or the faults that come out of them. */
#include "../../lib/plan/options.h"
#include "../../lib/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- Words ----------------------------------------------------------------------------------- */

#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define ONE "DATABASE_URL=postgresql://ann:pw@h/app" /* enough to run */

static struct pqi_options *load_good(const char *const *env)
{
    struct pqi_options *o = NULL;
    char *faults = NULL;
    pqr_error err;
    int rc = pqi_options_load(&o, env, &faults, &err);
    if (rc != PQR_OK)
        print_error("%s\n", faults);
    assert_int_equal(rc, PQR_OK);
    assert_int_equal(err.code, PQR_OK);
    assert_null(faults);
    return o;
}

/* All faults, one a line; the caller frees. */
static char *load_bad(const char *const *env)
{
    struct pqi_options *o = NULL;
    char *faults = NULL;
    pqr_error err;
    assert_int_equal(pqi_options_load(&o, env, &faults, &err), PQR_E_CONFIG);
    assert_int_equal(err.code, PQR_E_CONFIG);
    assert_null(o);
    assert_non_null(faults);
    return faults;
}

static void assert_faults(const char *const *env, const char *expected)
{
    char *faults = load_bad(env);
    assert_string_equal(faults, expected);
    pqi_mem_free(faults);
}

/* With ONE, so that the setting under test is the only fault. */
static void assert_fault(const char *setting, const char *expected)
{
    assert_faults(ENV(ONE, setting), expected);
}

static void assert_warnings(const char *const *env, const char *expected)
{
    struct pqi_options *o = load_good(env);
    char all[2000] = "";
    for (int i = 0; i < o->nwarnings; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i > 0 ? "\n" : "",
                 o->warnings[i]);
    assert_string_equal(all, expected);
    pqi_options_free(o);
}

static void assert_no_warnings(const char *const *env)
{
    assert_warnings(env, "");
}

/* A file of this content; unlink it. */
static void write_file(char path[32], const void *content, size_t len)
{
    strcpy(path, "/tmp/options.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, len), (ssize_t)len);
    close(fd);
}

/* ---- Defaults and values --------------------------------------------------------------------- */

static void one_url_is_enough_and_the_rest_has_defaults(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(ENV(ONE));
    assert_false(o->sharded);
    assert_int_equal(o->nshards, 1);
    assert_int_equal(o->control.n, 0);
    assert_int_equal(o->shards[0].n, 1);
    assert_string_equal(o->shards[0].targets[0].name, "shard0/primary");
    assert_string_equal(o->shards[0].targets[0].variable, "DATABASE_URL");
    assert_int_equal(o->connection_limit, 20);
    assert_int_equal(o->pool_timeout_ms, 10000);
    assert_int_equal(o->pool_queue_limit, 1000);
    assert_int_equal(o->connect_timeout_ms, 10000);
    assert_int_equal(o->socket_timeout_ms, 30000);
    assert_int_equal(o->statement_timeout_ms, 0);
    assert_int_equal(o->idle_timeout_ms, 30000);
    assert_int_equal(o->max_lifetime_ms, 3600000);
    assert_int_equal(o->health_interval_ms, 1000);
    assert_null(o->fleet_id);
    assert_int_equal(o->max_connections, 0);
    assert_non_null(o->application_name);
    assert_true(*o->application_name);
    assert_int_equal(o->read_preference, PQI_PREFER_REPLICA_PREFERRED);
    assert_int_equal(o->max_replica_lag_ms, 5000);
    assert_int_equal(o->max_replica_lag_bytes, 16777216);
    assert_int_equal(o->slow_query_ms, 1000);
    assert_int_equal(o->log_level, PQR_LOG_OFF);
    assert_int_equal(o->log_format, PQI_LOG_TEXT);
    assert_false(o->strict_env);
    assert_int_equal(o->nwarnings, 0);
    pqi_options_free(o);
}

static void every_value_gets_to_its_field(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(
        ENV(ONE, "DB_CONNECTION_LIMIT=7", "DB_POOL_TIMEOUT=1.5", "DB_POOL_QUEUE_LIMIT=0",
            "DB_CONNECT_TIMEOUT=50ms", "DB_SOCKET_TIMEOUT=24h", "DB_STATEMENT_TIMEOUT=1ms",
            "DB_IDLE_TIMEOUT=0", "DB_MAX_LIFETIME=2h", "DB_HEALTH_INTERVAL=5m",
            "DATABASE_FLEET_ID=fl\xc3\xa9\xc3\xa9t", "DB_MAX_CONNECTIONS=300",
            "DB_APPLICATION_NAME=shop", "DB_READ_PREFERENCE=Primary", "DB_MAX_REPLICA_LAG=0",
            "DB_MAX_REPLICA_LAG_BYTES=1099511627776", "DB_SLOW_QUERY=0", "PQR_LOG=WARN",
            "PQR_LOG_FORMAT=json", "PQR_STRICT_ENV=on"));
    assert_int_equal(o->connection_limit, 7);
    assert_int_equal(o->pool_timeout_ms, 1500);
    assert_int_equal(o->pool_queue_limit, 0);
    assert_int_equal(o->connect_timeout_ms, 50);
    assert_int_equal(o->socket_timeout_ms, 86400000);
    assert_int_equal(o->statement_timeout_ms, 1);
    assert_int_equal(o->idle_timeout_ms, 0);
    assert_int_equal(o->max_lifetime_ms, 7200000);
    assert_int_equal(o->health_interval_ms, 300000);
    assert_string_equal(o->fleet_id, "fl\xc3\xa9\xc3\xa9t");
    assert_int_equal(o->max_connections, 300);
    assert_string_equal(o->application_name, "shop");
    assert_int_equal(o->read_preference, PQI_PREFER_PRIMARY);
    assert_int_equal(o->max_replica_lag_ms, 0);
    assert_int_equal(o->max_replica_lag_bytes, 1099511627776);
    assert_int_equal(o->slow_query_ms, 0);
    assert_int_equal(o->log_level, PQR_LOG_WARN);
    assert_int_equal(o->log_format, PQI_LOG_JSON);
    assert_true(o->strict_env);
    pqi_options_free(o);
}

static void durations_are_seconds_or_have_a_unit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"5", 5000},    {"5s", 5000},      {"0.5", 500},           {"250ms", 250},
        {"2m", 120000}, {"1h", 3600000},   {"1.5h", 5400000},      {"007", 7000},
        {"0.001", 1},   {"0.0001", 1},     {"0.9999999999", 1000}, {"1.0000000000", 1000},
        {"1.5ms", 2},   {"24h", 86400000}, {"86400", 86400000},    {"0", 0},
        {"0ms", 0},     {"0.000", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char setting[60];
        snprintf(setting, sizeof setting, "DB_STATEMENT_TIMEOUT=%s", cases[i].text);
        struct pqi_options *o = load_good(ENV(ONE, "DB_SOCKET_TIMEOUT=24h", setting));
        assert_int_equal(o->statement_timeout_ms, cases[i].ms);
        pqi_options_free(o);
    }
}

static void what_is_no_duration_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"-1",
                                      "+1",
                                      "5x",
                                      "5 s",
                                      "5S",
                                      ".5",
                                      "5.",
                                      "5..5",
                                      "1e3",
                                      "0x5",
                                      "1,5",
                                      "ms",
                                      "five",
                                      "1h1m",
                                      "24.1h",
                                      "86401",
                                      "5.s",
                                      "0.5.",
                                      "99999999999999999999",
                                      "9223372036854775807h",
                                      "inf",
                                      "nowait",
                                      "5ms5",
                                      "1\xc2\xa0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char setting[80], fault[200];
        snprintf(setting, sizeof setting, "DB_STATEMENT_TIMEOUT=%s", bad[i]);
        snprintf(fault, sizeof fault,
                 "DB_STATEMENT_TIMEOUT: \"%s\" is not a duration from 1ms to 24h (write 5, 0.5, "
                 "250ms, 2m)",
                 bad[i]);
        assert_fault(setting, fault);
    }
}

static void what_is_no_whole_number_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"0",
                                      "10001",
                                      "-1",
                                      "+5",
                                      "5.0",
                                      "0x10",
                                      "1e2",
                                      "five",
                                      "5 5",
                                      "1_000",
                                      "1,000",
                                      "5;",
                                      "\xd9\xa5",
                                      "18446744073709551621",
                                      "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char setting[80], fault[200];
        snprintf(setting, sizeof setting, "DB_CONNECTION_LIMIT=%s", bad[i]);
        snprintf(fault, sizeof fault,
                 "DB_CONNECTION_LIMIT: \"%s\" is not a whole number from 1 to 10000", bad[i]);
        assert_fault(setting, fault);
    }
}

static void zero_means_what_the_option_says(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(ENV(ONE, "DB_CONNECT_TIMEOUT=0", "DB_SOCKET_TIMEOUT=0",
                                          "DB_POOL_TIMEOUT=nowait", "DB_STATEMENT_TIMEOUT=1h"));
    assert_int_equal(o->connect_timeout_ms, INT64_MAX);
    assert_int_equal(o->socket_timeout_ms, INT64_MAX);
    assert_int_equal(o->pool_timeout_ms, 0);
    assert_int_equal(o->nwarnings, 0);
    pqi_options_free(o);
    o = load_good(ENV(ONE, "DB_POOL_TIMEOUT=0"));
    assert_int_equal(o->pool_timeout_ms, INT64_MAX);
    pqi_options_free(o);
    assert_warnings(ENV(ONE, "DB_POOL_TIMEOUT=0"),
                    "DB_POOL_TIMEOUT is 0, so calls wait for a connection without end (to fail at "
                    "once, write nowait)");
    assert_fault("DB_HEALTH_INTERVAL=0", "DB_HEALTH_INTERVAL: \"0\" is not a duration from 100ms "
                                         "to 5m (write 5, 0.5, 250ms, 2m)");
}

static void other_values_are_refused_with_what_is_expected(void **state)
{
    (void)state;
    assert_fault("PQR_LOG=loud",
                 "PQR_LOG: \"loud\" is not one of off, error, warn, info, debug, trace");
    assert_fault("PQR_LOG_FORMAT=text, logfmt",
                 "PQR_LOG_FORMAT: \"text, logfmt\" is not one of text, logfmt, json");
    assert_fault("DB_READ_PREFERENCE=replica_",
                 "DB_READ_PREFERENCE: \"replica_\" is not one of primary, primary_preferred, "
                 "replica, replica_preferred");
    assert_fault("PQR_STRICT_ENV=2",
                 "PQR_STRICT_ENV: \"2\" is not yes or no (use 1/0, true/false, on/off)");
    assert_fault("DB_APPLICATION_NAME=a\tb", "DB_APPLICATION_NAME: text longer than 63 bytes or "
                                             "with control characters");
    assert_fault("DATABASE_FLEET_ID=\xff", "DATABASE_FLEET_ID: text longer than 63 bytes or with "
                                           "control characters");
    assert_fault("DATABASE_FLEET_ID=a\xc2\x85"
                 "b",
                 "DATABASE_FLEET_ID: text longer than 63 bytes "
                 "or with control characters");
    char text[100] = "DATABASE_FLEET_ID=";
    memset(text + strlen(text), 'x', 63);
    struct pqi_options *o = load_good(ENV(ONE, text));
    assert_int_equal(strlen(o->fleet_id), 63);
    pqi_options_free(o);
    strcat(text, "x");
    assert_fault(text, "DATABASE_FLEET_ID: text longer than 63 bytes or with control characters");
}

static void a_quoted_value_is_short_and_printable(void **state)
{
    (void)state;
    assert_fault("PQR_LOG=0123456789012345678901234567890123456789",
                 "PQR_LOG: \"01234567890123456789012345678901\" is not one of off, error, warn, "
                 "info, debug, trace");
    assert_fault(
        "PQR_LOG=\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9",
        "PQR_LOG: \"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9\" is not one of off, error, warn, info, debug, trace");
    assert_fault("PQR_LOG=a\x1b[31m\xff\xc2\x9b", "PQR_LOG: \"a?[31m??\" is not one of off, error, "
                                                  "warn, info, debug, trace");
    assert_fault("PQR_LOG=\xed\xa0\x80", "PQR_LOG: \"???\" is not one of off, error, warn, info, "
                                         "debug, trace");
}

static void an_empty_value_is_none_and_blanks_around_one_are_told(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(ENV("DATABASE_PRIMARY_URL=", ONE, "DB_CONNECTION_LIMIT=",
                                          "DB_FILL_LIMIT=", "REDIS_URL=", "DB_CONECTION_LIMIT="));
    assert_int_equal(o->connection_limit, 20);
    assert_int_equal(o->nwarnings, 0);
    pqi_options_free(o);
    o = load_good(ENV("DATABASE_URL= postgresql://h/app\r\n", "DB_CONNECTION_LIMIT=\t5"));
    assert_string_equal(o->shards[0].targets[0].dbname, "app");
    assert_int_equal(o->connection_limit, 5);
    pqi_options_free(o);
    assert_warnings(ENV("DATABASE_URL= postgresql://h/app",
                        "DB_CONNECTION_LIMIT=  ", "DB_FILL_LIMIT= ", "REDIS_URL= "),
                    "DATABASE_URL: blanks around its value are ignored\n"
                    "DB_CONNECTION_LIMIT holds only blanks: taken as not set");
}

static void entries_that_are_none_of_ours_do_not_matter(void **state)
{
    (void)state;
    assert_no_warnings(ENV(ONE, "", "=", "=x", "NOTHING", "PATH=/bin", "DB_HOST_OF_MY_APP=x",
                           "DATABASE_DRIVER=y", "DB_=z", "database_url=x", "PGHOSTADDR=x",
                           "PGOPTIONS=x", "PGSSLMODE=disable", "PGSERVICE=x"));
    struct pqi_options *o = load_good(ENV(ONE, "PGSSLMODE=disable", "PGOPTIONS=-c a=b"));
    assert_string_equal(o->shards[0].targets[0].sslmode, "verify-full");
    assert_int_equal(o->shards[0].targets[0].nextra, 0);
    pqi_options_free(o);
}

static void of_a_variable_that_is_there_twice_the_first_counts(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(ENV("DB_CONNECTION_LIMIT=5", ONE, "DB_CONNECTION_LIMIT=x"));
    assert_int_equal(o->connection_limit, 5);
    pqi_options_free(o);
}

/* ---- Several at once ------------------------------------------------------------------------- */

static void all_faults_are_told_together(void **state)
{
    (void)state;
    struct pqi_options *o;
    pqr_error err;
    int rc = pqi_options_load(
        &o,
        ENV("DB_FILL_LIMIT=1", "DB_SLOW_QUERY=x", "PQR_LOG=x", "DATABASE_REPLICA_1_URL=mysql://h"),
        NULL, &err);
    assert_int_equal(rc, PQR_E_CONFIG);
    assert_string_equal(
        err.message,
        "DB_FILL_LIMIT is not supported by this version; DATABASE_REPLICA_1_URL: not a usable "
        "PostgreSQL URL: it begins with neither postgresql:// nor postgres://; DB_SLOW_QUERY: \"x\" "
        "is not a duration from 1ms to 1h (write 5, 0.5, 250ms, 2m); PQR_LOG: \"x\" is not one of "
        "off, error, warn, info, debug, trace; DATABASE_PRIMARY_URL is missing; "
        "DATABASE_REPLICA_1_URL needs it");
    assert_int_equal(pqi_options_load(&o, ENV("DB_FILL_LIMIT=1"), NULL, NULL), PQR_E_CONFIG);
}

static void what_does_not_fit_the_message_is_counted(void **state)
{
    (void)state;
    struct pqi_options *o;
    char *faults;
    pqr_error err;
    int rc = pqi_options_load(&o, ENV("DATABASE_SHARD_COUNT=1024"), &faults, &err);
    assert_int_equal(rc, PQR_E_CONFIG);
    int lines = 1, told = 0, more = 0;
    for (const char *c = faults; *c; c++)
        lines += *c == '\n';
    for (const char *c = err.message; *c; c++)
        told += *c == ';' && c[1] == ' ' && c[2] == 'D';
    assert_int_equal(lines, 1024);
    const char *end = strstr(err.message, "; … and ");
    assert_non_null(end);
    assert_int_equal(sscanf(end, "; … and %d more", &more), 1);
    /* Each has a "; " of its own inside, before the variable that needs it. */
    assert_int_equal(more + (told + 2) / 2, 1024);
    assert_true(strlen(err.message) > 900);
    pqi_mem_free(faults);
}

static void strict_makes_warnings_faults(void **state)
{
    (void)state;
    assert_faults(ENV(ONE, "PQR_STRICT_ENV=1", "REDIS_URL=x", "DB_CONECTION_LIMIT=3"),
                  "REDIS_URL is set, but this version has no cache: ignored\n"
                  "DB_CONECTION_LIMIT is not known: did you mean DB_CONNECTION_LIMIT?");
    struct pqi_options *o = load_good(ENV(ONE, "PQR_STRICT_ENV=1"));
    pqi_options_free(o);
}

/* ---- Names ----------------------------------------------------------------------------------- */

static void planned_options_are_refused(void **state)
{
    (void)state;
    static const char *const planned[] = {"DATABASE_DIRECT_URL",
                                          "DATABASE_SHARD_3_DIRECT_URL",
                                          "DATABASE_REPLICA_1_WEIGHT",
                                          "DATABASE_SHARD_0_REPLICA_2_WEIGHT",
                                          "DATABASE_SHARD_STRATEGY",
                                          "DB_CONNECTION_LIMIT_TOTAL",
                                          "DB_PGBOUNCER",
                                          "DB_FILL_LIMIT",
                                          "DB_MIN_REPLICAS",
                                          "DB_FALLBACK_PERCENT",
                                          "DB_FILL_LIMIT",
                                          "DB_TENANT_SETTING",
                                          "DB_TOKEN_KEY",
                                          "DB_TOKEN_KEY_FILE",
                                          "DB_RETRY_MAX",
                                          "DB_RETRY_BUDGET_PERCENT",
                                          "DB_BREAKER_FAILURES",
                                          "DB_BREAKER_COOLDOWN",
                                          "DB_CACHE_TTL",
                                          "DB_CACHE_TTL_JITTER",
                                          "DB_CACHE_STALE",
                                          "DB_CACHE_NEGATIVE_TTL",
                                          "DB_CACHE_LOCK_TIMEOUT",
                                          "DB_CACHE_MAX_VALUE",
                                          "DB_CACHE_LOCAL_BYTES",
                                          "DB_CACHE_COMPRESSION",
                                          "DB_CACHE_PREFIX",
                                          "PQR_LOG_SQL",
                                          "PQR_METRICS_LISTEN",
                                          "PQR_SQLCOMMENTER"};
    for (size_t i = 0; i < sizeof planned / sizeof *planned; i++) {
        char setting[100], fault[100];
        snprintf(setting, sizeof setting, "%s=1", planned[i]);
        snprintf(fault, sizeof fault, "%s is not supported by this version", planned[i]);
        assert_fault(setting, fault);
    }
}

static void variables_of_other_programs_are_ignored_with_a_warning(void **state)
{
    (void)state;
    static const char *const redis[] = {
        "REDIS_URL",
        "REDIS_URL_FILE",
        "REDIS_SENTINEL_PASSWORD",
        "REDIS_SENTINEL_PASSWORD_FILE",
        "REDIS_CONNECTION_LIMIT",
        "REDIS_CONNECT_TIMEOUT",
        "REDIS_COMMAND_TIMEOUT",
    };
    for (size_t i = 0; i < sizeof redis / sizeof *redis; i++) {
        char setting[100], warning[100];
        snprintf(setting, sizeof setting, "%s=x", redis[i]);
        snprintf(warning, sizeof warning, "%s is set, but this version has no cache: ignored",
                 redis[i]);
        assert_warnings(ENV(ONE, setting), warning);
    }
    static const char metrics[] =
        "METRICS_ENABLED is set, but this version has no metrics: ignored";
    assert_warnings(ENV(ONE, "METRICS_ENABLED=true"), metrics);
    assert_warnings(ENV(ONE, "METRICS_ENABLED=whatever it means there"), metrics);
    assert_no_warnings(ENV(ONE, "METRICS_ENABLED=", "METRICS_ENABLED= "));
    assert_no_warnings(ENV(ONE, "METRICS_ENABLE=1", "METRICS_PORT=9100"));
    assert_faults(ENV(ONE, "METRICS_ENABLED=1", "PQR_STRICT_ENV=1"), metrics);
    assert_warnings(ENV(ONE, "METRICS_ENABLED=1", "REDIS_URL=redis://h"),
                    "METRICS_ENABLED is set, but this version has no metrics: ignored\n"
                    "REDIS_URL is set, but this version has no cache: ignored");
}

static void a_name_that_is_nearly_ours_is_asked_about(void **state)
{
    (void)state;
    static const struct {
        const char *name, *meant;
    } cases[] = {
        {"DB_CONECTION_LIMIT", "DB_CONNECTION_LIMIT"},
        {"DB_POOL_TIMOUT", "DB_POOL_TIMEOUT"},
        {"DB_POOL_TIMEOUT_", "DB_POOL_TIMEOUT"},
        {"DB_HEALTH_INTREVAL", "DB_HEALTH_INTERVAL"},
        {"DATABASE_URI", "DATABASE_URL"},
        {"DATABASE_PRIMARY_URI", "DATABASE_PRIMARY_URL"},
        {"DATABASE_PASSWORD_FIL", "DATABASE_PASSWORD_FILE"},
        {"DATABASE_SHARD_O_URL", "DATABASE_SHARD_0_URL"},
        {"DATABASE_SHARD_1_URI", "DATABASE_SHARD_1_URL"},
        {"DATABASE_SHARDS_7_URL", "DATABASE_SHARD_7_URL"},
        {"DATABASE_SHARD_03_URL", "DATABASE_SHARD_3_URL"},
        {"DATABASE_SHARD_00_URL", "DATABASE_SHARD_0_URL"},
        {"DATABASE_SHARD_4294967296_URL", "DATABASE_SHARD_0_URL"},
        {"DATABASE_SHARD_2_REPLCA_3_URL", "DATABASE_SHARD_2_REPLICA_3_URL"},
        {"DATABASE_REPLICA1_URL", "DATABASE_REPLICA_1_URL"},
        {"DATABASE_REPLICA_URL", "DATABASE_REPLICA_1_URL"},
        {"DATABASE_REPLICA_01_URL_FILE", "DATABASE_REPLICA_1_URL_FILE"},
        {"REDIS_URI", "REDIS_URL"},
        {"PQR_LOGS", "PQR_LOG"},
        {"PQR_STRICT", NULL},
        {"DB_SOCKET", NULL},
        {"DATABASE_OF_SOMEBODY_ELSE", NULL},
        {"DB_CONNECTION_LIMIT_FILE", NULL},
        {"DB_A_NAME_THAT_IS_LONGER_THAN_ANY_NAME_OF_OURS_COULD_EVER_BE_IN_THIS_LIFE", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char setting[120], warning[200] = "";
        snprintf(setting, sizeof setting, "%s=x", cases[i].name);
        if (cases[i].meant)
            snprintf(warning, sizeof warning, "%s is not known: did you mean %s?", cases[i].name,
                     cases[i].meant);
        assert_warnings(ENV(ONE, setting), warning);
    }
}

/* ---- Shards and replicas --------------------------------------------------------------------- */

static void replicas_follow_their_primary(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(
        ENV("DATABASE_REPLICA_2_URL=postgresql://r2", "DATABASE_REPLICA_1_URL=postgresql://r1,r1b",
            "DATABASE_PRIMARY_URL=postgresql://p", "DATABASE_URL=mysql://somebody/else"));
    static const char *const names[] = {"shard0/primary", "shard0/replica1", "shard0/replica1.2",
                                        "shard0/replica2"};
    static const char *const hosts[] = {"p", "r1", "r1b", "r2"};
    assert_int_equal(o->nwarnings, 0);
    assert_int_equal(o->shards[0].n, 4);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(o->shards[0].targets[i].name, names[i]);
        assert_string_equal(o->shards[0].targets[i].host, hosts[i]);
    }
    assert_string_equal(o->shards[0].targets[2].variable, "DATABASE_REPLICA_1_URL");
    pqi_options_free(o);
}

static void shards_are_counted_from_0_beside_a_control_database(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(ENV(
        "DATABASE_SHARD_COUNT=2", "DATABASE_SHARD_0_URL=postgresql://s0",
        "DATABASE_SHARD_1_URL=postgresql://s1", "DATABASE_SHARD_1_REPLICA_1_URL=postgresql://s1r1",
        "DATABASE_URL=postgresql://c", "DATABASE_REPLICA_1_URL=postgresql://cr1"));
    assert_true(o->sharded);
    assert_int_equal(o->nshards, 2);
    assert_int_equal(o->control.n, 2);
    assert_string_equal(o->control.targets[0].name, "control/primary");
    assert_string_equal(o->control.targets[1].name, "control/replica1");
    assert_int_equal(o->shards[0].n, 1);
    assert_int_equal(o->shards[1].n, 2);
    assert_string_equal(o->shards[1].targets[0].name, "shard1/primary");
    assert_string_equal(o->shards[1].targets[1].name, "shard1/replica1");
    assert_string_equal(o->shards[1].targets[1].host, "s1r1");
    pqi_options_free(o);
    o = load_good(ENV("DATABASE_SHARD_COUNT=1", "DATABASE_SHARD_0_URL=postgresql://s0"));
    assert_true(o->sharded);
    assert_int_equal(o->control.n, 0);
    pqi_options_free(o);
    o = load_good(ENV("DATABASE_SHARD_COUNT=0", ONE));
    assert_false(o->sharded);
    pqi_options_free(o);
}

static void a_thousand_shards_with_replicas_are_read(void **state)
{
    (void)state;
    enum { SHARDS = 1024, EACH = 4 };
    static char settings[SHARDS * EACH][80];
    static const char *env[SHARDS * EACH + 2] = {"DATABASE_SHARD_COUNT=1024"};
    for (int k = 0; k < SHARDS * EACH; k++) {
        int i = (k * 7 + 3) % SHARDS, n = k / SHARDS;
        if (n == 0)
            snprintf(settings[k], sizeof *settings, "DATABASE_SHARD_%d_URL=host=s%d", i, i);
        else
            snprintf(settings[k], sizeof *settings, "DATABASE_SHARD_%d_REPLICA_%d_URL=host=s%dr%d",
                     i, n, i, n);
        env[k + 1] = settings[k];
    }
    struct pqi_options *o = load_good(env);
    assert_int_equal(o->nshards, SHARDS);
    assert_int_equal(o->shards[1023].n, EACH);
    assert_string_equal(o->shards[1023].targets[3].name, "shard1023/replica3");
    assert_string_equal(o->shards[1023].targets[3].host, "s1023r3");
    pqi_options_free(o);
}

static void nothing_configured_is_said(void **state)
{
    (void)state;
    static const char text[] = "no database configured: set DATABASE_PRIMARY_URL, or "
                               "DATABASE_SHARD_COUNT with DATABASE_SHARD_0_URL";
    assert_faults(ENV(NULL), text);
    assert_faults(ENV("PGHOST=h", "PGDATABASE=d"), text);
    assert_faults(ENV("DATABASE_POOL_SIZE=5"), text);
    assert_faults(ENV("DATABASE_SHARD_COUNT=0"), text);
}

static void a_gap_in_replica_numbering_is_named(void **state)
{
    (void)state;
    assert_faults(ENV(ONE, "DATABASE_REPLICA_1_URL=postgresql://r",
                      "DATABASE_REPLICA_3_URL=postgresql://r",
                      "DATABASE_REPLICA_5_URL=postgresql://r"),
                  "DATABASE_REPLICA_3_URL is set but DATABASE_REPLICA_2_URL is not");
    assert_faults(
        ENV("DATABASE_SHARD_COUNT=1", "DATABASE_SHARD_0_URL=postgresql://s",
            "DATABASE_SHARD_0_REPLICA_2_URL=postgresql://r"),
        "DATABASE_SHARD_0_REPLICA_2_URL is set but DATABASE_SHARD_0_REPLICA_1_URL is not");
    assert_faults(ENV(ONE, "DATABASE_REPLICA_0_URL=postgresql://r"),
                  "DATABASE_REPLICA_0_URL is set, but replicas are numbered from 1 to 32");
    assert_faults(ENV(ONE, "DATABASE_REPLICA_33_URL=postgresql://r"),
                  "DATABASE_REPLICA_33_URL is set, but replicas are numbered from 1 to 32");
}

static void replicas_without_a_primary_are_refused(void **state)
{
    (void)state;
    static const char text[] = "DATABASE_PRIMARY_URL is missing; DATABASE_REPLICA_1_URL needs it";
    assert_faults(ENV("DATABASE_REPLICA_1_URL=postgresql://r"), text);
    assert_faults(ENV("DATABASE_REPLICA_1_URL=postgresql://r", "DATABASE_SHARD_COUNT=1",
                      "DATABASE_SHARD_0_URL=postgresql://s"),
                  text);
}

static void shards_that_do_not_fit_their_count_are_refused(void **state)
{
    (void)state;
    assert_faults(ENV("DATABASE_SHARD_0_URL=postgresql://s"),
                  "DATABASE_SHARD_COUNT is missing; DATABASE_SHARD_0_URL needs it");
    assert_faults(ENV(ONE, "DATABASE_SHARD_2_URL=postgresql://s"),
                  "DATABASE_SHARD_COUNT is missing; DATABASE_SHARD_2_URL needs it");
    assert_faults(ENV(ONE, "DATABASE_SHARD_0_URL=postgresql://s", "DATABASE_SHARD_COUNT=0"),
                  "DATABASE_SHARD_0_URL is set but DATABASE_SHARD_COUNT is 0 (no shards)");
    assert_faults(ENV("DATABASE_SHARD_COUNT=2", "DATABASE_SHARD_0_URL=postgresql://s"),
                  "DATABASE_SHARD_1_URL is missing; DATABASE_SHARD_COUNT needs it");
    assert_faults(ENV("DATABASE_SHARD_COUNT=1", "DATABASE_SHARD_0_URL=postgresql://s",
                      "DATABASE_SHARD_1_URL=postgresql://s"),
                  "DATABASE_SHARD_1_URL is set but DATABASE_SHARD_COUNT is 1 (0..0)");
    assert_faults(ENV("DATABASE_SHARD_COUNT=1", "DATABASE_SHARD_0_URL=postgresql://s",
                      "DATABASE_SHARD_1_REPLICA_1_URL=postgresql://s"),
                  "DATABASE_SHARD_1_URL is missing; DATABASE_SHARD_1_REPLICA_1_URL needs it");
    assert_faults(ENV("DATABASE_SHARD_COUNT=2", "DATABASE_SHARD_1_URL=postgresql://s",
                      "DATABASE_SHARD_2_URL=postgresql://s"),
                  "shards are numbered from 0: DATABASE_SHARD_0_URL is missing");
    assert_faults(ENV("DATABASE_SHARD_COUNT=two", "DATABASE_SHARD_0_URL=postgresql://s",
                      "DATABASE_SHARD_1_URL=mysql://s"),
                  "DATABASE_SHARD_1_URL: not a usable PostgreSQL URL: it begins with neither "
                  "postgresql:// nor postgres://\n"
                  "DATABASE_SHARD_COUNT: \"two\" is not a whole number from 0 to 1024");
}

/* ---- One database in parts ------------------------------------------------------------------- */

static void parts_describe_one_database(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(ENV("DATABASE_NAME=app"));
    const struct pqi_target *t = o->shards[0].targets;
    assert_string_equal(t->name, "shard0/primary");
    assert_string_equal(t->shown, "postgresql://postgres@localhost:5432/app");
    assert_string_equal(t->sslmode, "prefer");
    assert_null(t->password);
    pqi_options_free(o);
    o = load_good(ENV("DATABASE_HOST=db.example", "DATABASE_PORT=6000", "DATABASE_NAME=app",
                      "DATABASE_USER=ann", "DATABASE_PASSWORD=p@ss/w%rd",
                      "DATABASE_REPLICA_1_URL=postgresql://r"));
    t = o->shards[0].targets;
    assert_string_equal(t->shown, "postgresql://ann@db.example:6000/app");
    assert_string_equal(t->password, "p@ss/w%rd");
    assert_string_equal(t->sslmode, "verify-full");
    assert_string_equal(t->variable, "DATABASE_HOST");
    assert_int_equal(o->shards[0].n, 2);
    assert_int_equal(o->nwarnings, 0);
    pqi_options_free(o);
}

static void wrong_parts_are_refused(void **state)
{
    (void)state;
    assert_faults(ENV("DATABASE_HOST=h"), "DATABASE_NAME is missing; DATABASE_HOST needs it");
    assert_faults(ENV("DATABASE_PASSWORD=h"),
                  "DATABASE_NAME is missing; DATABASE_PASSWORD needs it");
    assert_faults(ENV("DATABASE_NAME=app", "DATABASE_PORT=70000"),
                  "DATABASE_PORT: \"70000\" is not a whole number from 1 to 65535");
    assert_faults(
        ENV("DATABASE_NAME=app", "DATABASE_HOST=a b"),
        "DATABASE_HOST: not a usable PostgreSQL URL: not a host's name, address or socket "
        "folder, parameter \"host\"");
    assert_faults(ENV("DATABASE_NAME=app", "DATABASE_PASSWORD=sec\x01ret"),
                  "DATABASE_PASSWORD: text longer than 1024 bytes or with control characters");
}

static void parts_beside_a_url_are_told_to_be_unused(void **state)
{
    (void)state;
    assert_warnings(ENV(ONE, "DATABASE_HOST=x", "DATABASE_PASSWORD=y"),
                    "not used, since a URL is set: DATABASE_HOST, DATABASE_PASSWORD");
    assert_warnings(
        ENV("DATABASE_SHARD_COUNT=1", "DATABASE_SHARD_0_URL=postgresql://s", "DATABASE_NAME=x"),
        "not used, since a URL is set: DATABASE_NAME");
}

static void libpqs_variables_fill_what_is_missing(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(
        ENV("PGHOST=/tmp", "PGPORT=6000", "PGUSER=ann", "PGDATABASE=app", "PGPASSWORD=pw",
            "PGPASSFILE=/f", "DATABASE_PRIMARY_URL=postgresql://",
            "DATABASE_REPLICA_1_URL=postgresql://bob:x@h:1/d?passfile=/g"));
    const struct pqi_target *t = o->shards[0].targets;
    assert_string_equal(t->shown, "postgresql://ann@%2Ftmp:6000/app");
    assert_string_equal(t->password, "pw");
    assert_int_equal(t->nextra, 1);
    assert_string_equal(t->extra[0].key, "passfile");
    assert_string_equal(t->extra[0].value, "/f");
    assert_string_equal(t[1].shown, "postgresql://bob@h:1/d");
    assert_string_equal(t[1].password, "x");
    assert_string_equal(t[1].extra[0].value, "/g");
    pqi_options_free(o);
    o = load_good(ENV("PGHOST=h", "PGUSER=ann", "PGDATABASE=app", "DATABASE_PORT=6000"));
    assert_string_equal(o->shards[0].targets[0].shown, "postgresql://ann@h:6000/app");
    pqi_options_free(o);
    o = load_good(ENV("PGHOST=h", "PGUSER=ann", "DATABASE_URL=hostaddr=10.0.0.1 service=s"));
    assert_string_equal(o->shards[0].targets[0].shown, "postgresql://10.0.0.1:5432/?service=s");
    pqi_options_free(o);
    assert_fault("PGPORT=x", "PGPORT: \"x\" is not a whole number from 1 to 65535");
}

/* ---- Who wins -------------------------------------------------------------------------------- */

static void the_connection_limit_comes_from_the_strongest_that_says(void **state)
{
    (void)state;
    static const char url[] = "DATABASE_URL=postgresql://h?connection_limit=7";
    static const struct {
        const char *env[4];
        int64_t limit;
    } cases[] = {
        {{ONE}, 20},
        {{ONE, "DATABASE_POOL_SIZE=5"}, 5},
        {{url}, 7},
        {{url, "DATABASE_POOL_SIZE=5"}, 7},
        {{url, "DB_CONNECTION_LIMIT=9"}, 9},
        {{url, "DB_CONNECTION_LIMIT=9", "DATABASE_POOL_SIZE=9"}, 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pqi_options *o = load_good(cases[i].env);
        assert_int_equal(o->connection_limit, cases[i].limit);
        assert_int_equal(o->nwarnings, 0);
        pqi_options_free(o);
    }
    assert_warnings(ENV(ONE, "DB_CONNECTION_LIMIT=9", "DATABASE_POOL_SIZE=8"),
                    "DB_CONNECTION_LIMIT and DATABASE_POOL_SIZE differ: the first one holds");
}

static void a_url_sets_options_where_no_variable_does(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(
        ENV("DATABASE_URL=postgresql://h?pool_timeout=0&connect_timeout=3&socket_timeout=4&"
            "application_name=shop",
            "DB_SOCKET_TIMEOUT=9"));
    assert_int_equal(o->pool_timeout_ms, INT64_MAX);
    assert_int_equal(o->connect_timeout_ms, 3000);
    assert_int_equal(o->socket_timeout_ms, 9000);
    assert_string_equal(o->application_name, "shop");
    pqi_options_free(o);
    assert_faults(ENV("DATABASE_URL=postgresql://h?connection_limit=many"),
                  "DATABASE_URL: not a usable PostgreSQL URL: not a whole number from 1 to 10000, "
                  "parameter \"connection_limit\"");
}

static void of_several_urls_the_first_that_says_counts(void **state)
{
    (void)state;
    const char *const *env = ENV(
        "DATABASE_REPLICA_1_URL=postgresql://h?connection_limit=8&connect_timeout=4",
        "DATABASE_PRIMARY_URL=postgresql://h?connection_limit=7");
    struct pqi_options *o = load_good(env);
    assert_int_equal(o->connection_limit, 7);
    assert_int_equal(o->connect_timeout_ms, 4000);
    pqi_options_free(o);
    assert_warnings(env, "connection_limit in DATABASE_REPLICA_1_URL is not followed: "
                         "DATABASE_PRIMARY_URL says otherwise");
}

static void a_statement_timeout_above_the_socket_timeout_is_told(void **state)
{
    (void)state;
    assert_warnings(ENV(ONE, "DB_STATEMENT_TIMEOUT=1m"),
                    "DB_STATEMENT_TIMEOUT (1m) is above DB_SOCKET_TIMEOUT (30s), which ends calls "
                    "first");
    assert_no_warnings(ENV(ONE, "DB_STATEMENT_TIMEOUT=30"));
    assert_no_warnings(ENV(ONE, "DB_STATEMENT_TIMEOUT=1m", "DB_SOCKET_TIMEOUT=0"));
}

static void parameters_of_frameworks_are_ignored_with_a_warning(void **state)
{
    (void)state;
    assert_warnings(ENV("DATABASE_URL=postgresql://h?pool=5&conn_max_age=0"),
                    "DATABASE_URL: parameters of other programs are ignored: pool, conn_max_age");
}

/* ---- Secrets --------------------------------------------------------------------------------- */

static void a_secret_may_stand_in_a_file(void **state)
{
    (void)state;
    static const char url[] = "postgresql://ann:pw@h/app\n";
    char path[32], setting[80];
    write_file(path, url, sizeof url - 1);
    snprintf(setting, sizeof setting, "DATABASE_URL_FILE=%s", path);
    struct pqi_options *o = load_good(ENV(setting));
    assert_string_equal(o->shards[0].targets[0].shown, "postgresql://ann@h:5432/app");
    assert_string_equal(o->shards[0].targets[0].variable, "DATABASE_URL_FILE");
    assert_int_equal(o->nwarnings, 0);
    pqi_options_free(o);
    snprintf(setting, sizeof setting, "DATABASE_SHARD_0_URL_FILE=%s", path);
    o = load_good(ENV("DATABASE_SHARD_COUNT=1", setting));
    assert_string_equal(o->shards[0].targets[0].variable, "DATABASE_SHARD_0_URL_FILE");
    pqi_options_free(o);
    unlink(path);
    write_file(path, "p@ss word", 9);
    snprintf(setting, sizeof setting, "DATABASE_PASSWORD_FILE=%s", path);
    o = load_good(ENV("DATABASE_NAME=app", setting));
    assert_string_equal(o->shards[0].targets[0].password, "p@ss word");
    pqi_options_free(o);
    assert_faults(ENV("DATABASE_NAME=app", setting, "DATABASE_PASSWORD=x"),
                  "DATABASE_PASSWORD and DATABASE_PASSWORD_FILE are both set: keep one");
    o = load_good(ENV("DATABASE_NAME=app", setting, "DATABASE_PASSWORD="));
    assert_string_equal(o->shards[0].targets[0].password, "p@ss word");
    pqi_options_free(o);
    unlink(path);
}

static void a_file_without_a_usable_secret_is_refused(void **state)
{
    (void)state;
    static char big[9000];
    memset(big, 'x', sizeof big);
    static const struct {
        const char *content;
        size_t len;
        const char *fault;
    } cases[] = {
        {"", 0, "DATABASE_URL_FILE: its file is empty"},
        {" \n\n", 3, "DATABASE_URL_FILE: its file is empty"},
        {"a\0b", 3, "DATABASE_URL_FILE: text longer than 8192 bytes or with control characters"},
        {"a\nb", 3, "DATABASE_URL_FILE: text longer than 8192 bytes or with control characters"},
        {big, sizeof big,
         "DATABASE_URL_FILE: text longer than 8192 bytes or with control characters"},
        {"nonsense", 8,
         "DATABASE_URL_FILE: not a usable PostgreSQL URL: it is neither postgresql://… nor "
         "keyword=value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[32], setting[80], *faults;
        write_file(path, cases[i].content, cases[i].len);
        snprintf(setting, sizeof setting, "DATABASE_URL_FILE=%s", path);
        faults = load_bad(ENV(setting));
        assert_int_equal(strncmp(faults, cases[i].fault, strlen(cases[i].fault)), 0);
        pqi_mem_free(faults);
        unlink(path);
    }
    assert_faults(ENV("DATABASE_NAME=app", "DATABASE_PASSWORD_FILE=/nowhere/at/all"),
                  "DATABASE_PASSWORD_FILE: its file cannot be read: No such file or directory");
    assert_faults(ENV("DATABASE_URL_FILE=/nowhere/at/all"),
                  "DATABASE_URL_FILE: /nowhere/at/all cannot be read: No such file or directory");
    assert_faults(ENV("DATABASE_URL_FILE=postgresql://a:pw@h/d"),
                  "DATABASE_URL_FILE: its file cannot be read: No such file or directory");
    assert_faults(ENV("DATABASE_NAME=app", "DATABASE_PASSWORD_FILE=/tmp"),
                  "DATABASE_PASSWORD_FILE: its file cannot be read: Is a directory");
}

static void a_url_that_is_too_long_or_not_a_text_is_refused(void **state)
{
    (void)state;
    static char url[9000] = "DATABASE_URL=postgresql://ann:";
    static const char fault[] =
        "DATABASE_URL: text longer than 8192 bytes or with control characters";
    memset(url + strlen(url), 'x', sizeof url - strlen(url) - 1);
    assert_faults(ENV(url), fault);
    assert_faults(ENV("DATABASE_URL=postgresql://h\x01/d"), fault);
    assert_faults(ENV("DATABASE_URL=postgresql://h/\xff"), fault);
}

/* Everything that is said of an environment. */
static void collect_texts(const char *const *env, char *texts, size_t size)
{
    struct pqi_options *o = NULL;
    struct pqi_setting *settings = NULL;
    char *faults = NULL;
    pqr_error err;
    texts[0] = '\0';
#define SAY(text) snprintf(texts + strlen(texts), size - strlen(texts), "%s\n", text)
    if (pqi_options_load(&o, env, &faults, &err) != PQR_OK) {
        SAY(faults);
        SAY(err.message);
        pqi_mem_free(faults);
        return;
    }
    for (int i = 0; i < o->nwarnings; i++)
        SAY(o->warnings[i]);
    size_t n = pqi_options_settings(o, &settings);
    for (size_t i = 0; i < n; i++) {
        SAY(settings[i].value);
        SAY(settings[i].source);
    }
#undef SAY
    pqi_settings_free(settings, n);
    pqi_options_free(o);
}

static void no_text_tells_a_password(void **state)
{
    (void)state;
    static const char *const settings[] = {
        "DATABASE_URL=postgresql://ann:SeCr3t@h/d",
        "DATABASE_URL=postgresql://ann:a%40SeCr3t%2F@h/d?pool=1&schema=x",
        "DATABASE_URL=postgresql://ann:a@SeCr3t@h/d",
        "DATABASE_URL=postgresql://ann:1/SeCr3t@h/d",
        "DATABASE_URL=postgresql://ann:SeCr3t@h/d?nonsense=SeCr3t",
        "DATABASE_URL=postgresql://ann:SeCr3t@h:x/d",
        "DATABASE_URL=postgresql://ann:SeCr3t@h/d?connection_limit=SeCr3t",
        "DATABASE_URL=postgresql://h/d?password=a&SeCr3t=b",
        "DATABASE_URL=host=h password=a SeCr3t=b",
        "DATABASE_URL=host=h password='it' SeCr3t'",
        "DATABASE_URL=host=h password=SeCr3t dbname=d sslpassword=SeCr3t",
        "DATABASE_URL= mysql://ann:SeCr3t@h/d ",
        "DATABASE_URL=postgresql://ann:SeCr3t\x01@h/d",
        "DATABASE_PASSWORD= SeCr3t ",
        "DATABASE_PASSWORD=SeCr3t\x01",
        "DATABASE_PASSWORD_FILE=SeCr3t",
        "PGPASSWORD=SeCr3t",
        "PGPASSWORD=SeCr3t\x01",
        "REDIS_URL=redis://:SeCr3t@h",
        "DB_TOKEN_KEY=SeCr3t",
        "DATABASE_URI=postgresql://ann:SeCr3t@h/d",
        "DATABASE_REPLICA_1_URL=postgresql://ann:SeCr3t@h/d",
    };
    static char texts[20000];
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        collect_texts(ENV(settings[i], "DATABASE_NAME=app"), texts, sizeof texts);
        assert_true(texts[0]);
        if (strstr(texts, "SeCr3t"))
            print_error("%s: %s\n", settings[i], texts);
        assert_null(strstr(texts, "SeCr3t"));
    }
}

/* ---- Settings and the page ------------------------------------------------------------------- */

static const struct pqi_setting *setting(const struct pqi_setting *s, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(s[i].name, name) == 0)
            return &s[i];
    fail_msg("no setting %s", name);
    return NULL;
}

static void assert_setting(const char *const *env, const char *name, const char *value,
                           const char *source)
{
    struct pqi_options *o = load_good(env);
    struct pqi_setting *all;
    size_t n = pqi_options_settings(o, &all);
    assert_string_equal(setting(all, n, name)->value, value);
    assert_string_equal(setting(all, n, name)->source, source);
    pqi_settings_free(all, n);
    pqi_options_free(o);
}

static void settings_tell_values_as_one_would_write_them_and_where_they_came_from(void **state)
{
    (void)state;
    static const char url[] = "DATABASE_URL=postgresql://h?connection_limit=7";
    assert_setting(ENV(ONE), "DB_CONNECTION_LIMIT", "20", "default");
    assert_setting(ENV(ONE, "DB_CONNECTION_LIMIT=5"), "DB_CONNECTION_LIMIT", "5", "environment");
    assert_setting(ENV(ONE, "DATABASE_POOL_SIZE=5"), "DB_CONNECTION_LIMIT", "5",
                   "DATABASE_POOL_SIZE");
    assert_setting(ENV(url), "DB_CONNECTION_LIMIT", "7", "DATABASE_URL");
    assert_setting(ENV(ONE, "DB_POOL_TIMEOUT=nowait"), "DB_POOL_TIMEOUT", "nowait", "environment");
    assert_setting(ENV(ONE, "DB_POOL_TIMEOUT=0"), "DB_POOL_TIMEOUT", "0", "environment");
    assert_setting(ENV(ONE, "DB_SOCKET_TIMEOUT=0.25"), "DB_SOCKET_TIMEOUT", "250ms", "environment");
    assert_setting(ENV(ONE), "DB_MAX_LIFETIME", "1h", "default");
    assert_setting(ENV(ONE), "DB_MAX_CONNECTIONS", "", "default");
    assert_setting(ENV(ONE), "DATABASE_FLEET_ID", "", "default");
    assert_setting(ENV(ONE), "DB_READ_PREFERENCE", "replica_preferred", "default");
    assert_setting(ENV(ONE), "PQR_STRICT_ENV", "no", "default");
    assert_setting(ENV(ONE), "DATABASE_URL", "postgresql://ann@h:5432/app", "environment");
    assert_setting(ENV(ONE), "DATABASE_HOST", "", "unused");
    assert_setting(ENV("DATABASE_NAME=app"), "DATABASE_HOST", "localhost", "default");
    assert_setting(ENV("DATABASE_NAME=app", "PGUSER=ann"), "DATABASE_USER", "ann", "PGUSER");
    assert_setting(ENV("DATABASE_NAME=app", "DATABASE_PASSWORD=x"), "DATABASE_PASSWORD", "(set)",
                   "environment");
    assert_setting(ENV(ONE, "DATABASE_REPLICA_1_URL=postgresql://r/x"), "DATABASE_REPLICA_1_URL",
                   "postgresql://r:5432/x", "environment");
}

static void the_page_of_options_is_printed_from_the_list(void **state)
{
    (void)state;
    char *page = pqi_options_markdown();
    assert_non_null(strstr(page, "| `DB_POOL_TIMEOUT` | 1ms to 1h, or 0, or nowait | 10 | "));
    assert_non_null(strstr(page, "| `DATABASE_REPLICA_{n}_URL` (`_FILE`) | a URL |  | "));
    assert_non_null(strstr(page, "`DB_FILL_LIMIT`"));
    assert_non_null(strstr(page, "Ignored with a warning, since this version has no metrics: "
                                 "`METRICS_ENABLED`.\n"));
    const char *path = getenv("OPTIONS_PAGE");
    FILE *file = fopen(path ? path : "docs/options.md", "r");
    if (!file) {
        pqi_mem_free(page);
        skip();
    }
    static char kept[40000];
    kept[fread(kept, 1, sizeof kept - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(kept, page);
    pqi_mem_free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_url_is_enough_and_the_rest_has_defaults),
        cmocka_unit_test(every_value_gets_to_its_field),
        cmocka_unit_test(durations_are_seconds_or_have_a_unit),
        cmocka_unit_test(what_is_no_duration_is_refused),
        cmocka_unit_test(what_is_no_whole_number_is_refused),
        cmocka_unit_test(zero_means_what_the_option_says),
        cmocka_unit_test(other_values_are_refused_with_what_is_expected),
        cmocka_unit_test(a_quoted_value_is_short_and_printable),
        cmocka_unit_test(an_empty_value_is_none_and_blanks_around_one_are_told),
        cmocka_unit_test(entries_that_are_none_of_ours_do_not_matter),
        cmocka_unit_test(of_a_variable_that_is_there_twice_the_first_counts),
        cmocka_unit_test(all_faults_are_told_together),
        cmocka_unit_test(what_does_not_fit_the_message_is_counted),
        cmocka_unit_test(strict_makes_warnings_faults),
        cmocka_unit_test(planned_options_are_refused),
        cmocka_unit_test(variables_of_other_programs_are_ignored_with_a_warning),
        cmocka_unit_test(a_name_that_is_nearly_ours_is_asked_about),
        cmocka_unit_test(replicas_follow_their_primary),
        cmocka_unit_test(shards_are_counted_from_0_beside_a_control_database),
        cmocka_unit_test(a_thousand_shards_with_replicas_are_read),
        cmocka_unit_test(nothing_configured_is_said),
        cmocka_unit_test(a_gap_in_replica_numbering_is_named),
        cmocka_unit_test(replicas_without_a_primary_are_refused),
        cmocka_unit_test(shards_that_do_not_fit_their_count_are_refused),
        cmocka_unit_test(parts_describe_one_database),
        cmocka_unit_test(wrong_parts_are_refused),
        cmocka_unit_test(parts_beside_a_url_are_told_to_be_unused),
        cmocka_unit_test(libpqs_variables_fill_what_is_missing),
        cmocka_unit_test(the_connection_limit_comes_from_the_strongest_that_says),
        cmocka_unit_test(a_url_sets_options_where_no_variable_does),
        cmocka_unit_test(of_several_urls_the_first_that_says_counts),
        cmocka_unit_test(a_statement_timeout_above_the_socket_timeout_is_told),
        cmocka_unit_test(parameters_of_frameworks_are_ignored_with_a_warning),
        cmocka_unit_test(a_secret_may_stand_in_a_file),
        cmocka_unit_test(a_file_without_a_usable_secret_is_refused),
        cmocka_unit_test(a_url_that_is_too_long_or_not_a_text_is_refused),
        cmocka_unit_test(no_text_tells_a_password),
        cmocka_unit_test(settings_tell_values_as_one_would_write_them_and_where_they_came_from),
        cmocka_unit_test(the_page_of_options_is_printed_from_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
