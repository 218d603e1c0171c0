/* Environments, and the options, faults and warnings that come out of them. Databases have a file of
 * their own. */
#include "../lib/configs.h"

#include "../../lib/base/mac.h"
#include "../../lib/base/mem.h"

#include <stdio.h>
#include <string.h>

/* ---- Words ----------------------------------------------------------------------------------- */

static void assert_no_warnings(const char *const *env)
{
    assert_warnings(env, "");
}

/* The next text of a list like "a|b|c"; false: there is none. `rest` is where the list goes on. */
static bool next_of(const char **rest, char *one, size_t size)
{
    if (!**rest)
        return false;
    size_t len = strcspn(*rest, "|");
    assert_true(len < size);
    memcpy(one, *rest, len);
    one[len] = '\0';
    *rest += len + ((*rest)[len] == '|');
    return true;
}

/* ---- Defaults and values --------------------------------------------------------------------- */

static void one_url_is_enough(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(ENV(ONE));
    assert_false(o->sharded);
    assert_int_equal(o->nshards, 1);
    assert_int_equal(o->control.n, 0);
    assert_int_equal(o->shards[0].n, 1);
    assert_string_equal(o->shards[0].targets[0].name, "shard0/primary");
    assert_string_equal(o->shards[0].targets[0].variable, "DATABASE_URL");
    assert_int_equal(o->nwarnings, 0);
}

/* field, what it is by default, a setting, what it is by that */
/* clang-format off */
#define NUMBERS(X) \
    X(connection_limit, 20, "DB_CONNECTION_LIMIT=7", 7) \
    X(pool_timeout_ms, 10000, "DB_POOL_TIMEOUT=1.5", 1500) \
    X(pool_queue_limit, 1000, "DB_POOL_QUEUE_LIMIT=0", 0) \
    X(connect_timeout_ms, 10000, "DB_CONNECT_TIMEOUT=50ms", 50) \
    X(socket_timeout_ms, 30000, "DB_SOCKET_TIMEOUT=24h", 86400000) \
    X(statement_timeout_ms, 0, "DB_STATEMENT_TIMEOUT=1ms", 1) \
    X(idle_timeout_ms, 30000, "DB_IDLE_TIMEOUT=0", 0) \
    X(max_lifetime_ms, 3600000, "DB_MAX_LIFETIME=2h", 7200000) \
    X(retry_max, 3, "DB_RETRY_MAX=0", 0) \
    X(retry_budget_percent, 10, "DB_RETRY_BUDGET_PERCENT=100", 100) \
    X(connect_rate, 50, "DB_CONNECT_RATE=3", 3) \
    X(min_replicas, 1, "DB_MIN_REPLICAS=0", 0) \
    X(fallback_percent, 50, "DB_FALLBACK_PERCENT=7", 7) \
    X(health_interval_ms, 1000, "DB_HEALTH_INTERVAL=5m", 300000) \
    X(max_connections, 0, "DB_MAX_CONNECTIONS=300", 300) \
    X(read_preference, PQI_PREFER_REPLICA_PREFERRED, "DB_READ_PREFERENCE=Primary", \
      PQI_PREFER_PRIMARY) \
    X(max_replica_lag_ms, 5000, "DB_MAX_REPLICA_LAG=0", 0) \
    X(max_replica_lag_bytes, 16777216, "DB_MAX_REPLICA_LAG_BYTES=1099511627776", 1099511627776) \
    X(slow_query_ms, 1000, "DB_SLOW_QUERY=0", 0) \
    X(log_level, PQR_LOG_OFF, "PQR_LOG=WARN", PQR_LOG_WARN) \
    X(log_format, PQI_LOG_TEXT, "PQR_LOG_FORMAT=json", PQI_LOG_JSON) \
    X(pgbouncer, false, "DB_PGBOUNCER=yes", true)                                                   \
    X(strict_env, false, "PQR_STRICT_ENV=on", true)
/* clang-format on */

static void every_option_has_its_default_and_its_field(void **state)
{
    (void)state;
#define SETTING(field, by_default, setting, value) setting,
#define DEFAULT(field, by_default, setting, value) assert_int_equal(o->field, by_default);
#define VALUE(field, by_default, setting, value) assert_int_equal(o->field, value);
    struct pqi_options *o = load_good(ENV(ONE));
    NUMBERS(DEFAULT)
    assert_null(o->fleet_id);
    assert_non_null(o->application_name);
    assert_true(*o->application_name);
    o = load_good(ENV(NUMBERS(SETTING) ONE, "DATABASE_FLEET_ID=fl\xc3\xa9\xc3\xa9t",
                      "DB_APPLICATION_NAME=shop"));
    NUMBERS(VALUE)
    assert_string_equal(o->fleet_id, "fl\xc3\xa9\xc3\xa9t");
    assert_string_equal(o->application_name, "shop");
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
    }
}

static void what_is_no_duration_is_refused(void **state)
{
    (void)state;
    static const char bad[] =
        "-1|+1|5x|5 s|5S|.5|5.|5..5|1e3|0x5|1,5|ms|five|1h1m|24.1h|86401|5.s|0.5.|"
        "99999999999999999999|9223372036854775807h|inf|nowait|5ms5|1\xc2\xa0";
    const char *rest = bad;
    for (char one[48]; next_of(&rest, one, sizeof one);) {
        char setting[80], fault[200];
        snprintf(setting, sizeof setting, "DB_STATEMENT_TIMEOUT=%s", one);
        snprintf(fault, sizeof fault,
                 "DB_STATEMENT_TIMEOUT: \"%s\" is not a duration from 1ms to 24h (write 5, 0.5, "
                 "250ms, 2m)",
                 one);
        assert_fault(setting, fault);
    }
}

static void what_is_no_whole_number_is_refused(void **state)
{
    (void)state;
    static const char bad[] =
        "0|10001|-1|+5|5.0|0x10|1e2|five|5 5|1_000|1,000|5;|\xd9\xa5|18446744073709551621|"
        "99999999999999999999999";
    const char *rest = bad;
    for (char one[48]; next_of(&rest, one, sizeof one);) {
        char setting[80], fault[200];
        snprintf(setting, sizeof setting, "DB_CONNECTION_LIMIT=%s", one);
        snprintf(fault, sizeof fault,
                 "DB_CONNECTION_LIMIT: \"%s\" is not a whole number from 1 to 10000", one);
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
    o = load_good(ENV(ONE, "DB_POOL_TIMEOUT=0"));
    assert_int_equal(o->pool_timeout_ms, INT64_MAX);
    assert_warnings(ENV(ONE, "DB_POOL_TIMEOUT=0"),
                    "DB_POOL_TIMEOUT is 0, so calls wait for a connection without end (to fail at "
                    "once, write nowait)");
    assert_fault("DB_HEALTH_INTERVAL=0", "DB_HEALTH_INTERVAL: \"0\" is not a duration from 100ms "
                                         "to 5m (write 5, 0.5, 250ms, 2m)");
}

static void the_tenants_setting_is_two_words(void **state)
{
    (void)state;
    static const char good[] = "app.tenant_id|a.b|_a._|A1.b2_|"
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa."
                               "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    static const char bad[] = "tenant_id|.a|a.|a..b|a.b.c|1a.b|a.1b|a.b'|a.b c|a-b.c|a.b;|"
                              "a.\xc3\xa9|a.$b|\"a\".b|*.b|"
                              "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b";
    char setting[200], fault[200];
    const char *rest = good;
    for (char one[140]; next_of(&rest, one, sizeof one);) {
        snprintf(setting, sizeof setting, "DB_TENANT_SETTING=%s", one);
        assert_string_equal(load_good(ENV(ONE, setting))->tenant_setting, one);
    }
    rest = bad;
    for (char one[140]; next_of(&rest, one, sizeof one);) {
        snprintf(setting, sizeof setting, "DB_TENANT_SETTING=%s", one);
        snprintf(fault, sizeof fault,
                 "DB_TENANT_SETTING: \"%.32s\" is not a setting's name of two words, such as "
                 "app.tenant_id",
                 one);
        assert_fault(setting, fault);
    }
    assert_null(load_good(ENV(ONE))->tenant_setting);
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
    o = load_good(ENV("DATABASE_URL= postgresql://h/app\r\n", "DB_CONNECTION_LIMIT=\t5"));
    assert_string_equal(o->shards[0].targets[0].dbname, "app");
    assert_int_equal(o->connection_limit, 5);
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
}

static void of_a_variable_that_is_there_twice_the_first_counts(void **state)
{
    (void)state;
    struct pqi_options *o = load_good(ENV("DB_CONNECTION_LIMIT=5", ONE, "DB_CONNECTION_LIMIT=x"));
    assert_int_equal(o->connection_limit, 5);
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
    load_good(ENV(ONE, "PQR_STRICT_ENV=1"));
}

static void what_sets_a_session_up_does_not_pass_a_pooler(void **state)
{
    (void)state;
    static const char fault[] =
        "DATABASE_URL: schema, search_path and options do not pass a transaction pooler "
        "(DB_PGBOUNCER): set them for the role, by ALTER ROLE … SET";
    static const char *const urls[] = {
        "DATABASE_URL=postgresql://ann:pw@h/app?schema=shop",
        "DATABASE_URL=postgresql://ann:pw@h/app?search_path=shop",
        "DATABASE_URL=postgresql://ann:pw@h,i/app?options=-c%20work_mem%3D1MB"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        load_good(ENV(urls[i], "DB_PGBOUNCER=no"));
        assert_faults(ENV(urls[i], "DB_PGBOUNCER=yes"), fault);
    }
    assert_faults(ENV("DATABASE_URL=postgresql://ann:pw@h/app?schema=shop&pgbouncer=true"), fault);
    assert_true(load_good(ENV("DATABASE_URL=postgresql://ann:pw@h/app?pgbouncer=true"))->pgbouncer);
    load_good(ENV("DATABASE_URL=postgresql://ann:pw@h/app?schema=shop&pgbouncer=true",
                  "DB_PGBOUNCER=no"));
}

/* ---- Names ----------------------------------------------------------------------------------- */

static void planned_options_are_refused(void **state)
{
    (void)state;
    static const char planned[] =
        "DATABASE_DIRECT_URL|DATABASE_SHARD_3_DIRECT_URL|DATABASE_REPLICA_1_WEIGHT|"
        "DATABASE_SHARD_0_REPLICA_2_WEIGHT|DATABASE_SHARD_STRATEGY|DB_CONNECTION_LIMIT_TOTAL|"
        "DB_FILL_LIMIT|"
        "DB_BREAKER_FAILURES|DB_BREAKER_COOLDOWN|DB_CACHE_TTL|"
        "DB_CACHE_TTL_JITTER|DB_CACHE_STALE|DB_CACHE_NEGATIVE_TTL|DB_CACHE_LOCK_TIMEOUT|"
        "DB_CACHE_MAX_VALUE|DB_CACHE_LOCAL_BYTES|DB_CACHE_COMPRESSION|DB_CACHE_PREFIX|"
        "PQR_LOG_SQL|PQR_METRICS_LISTEN|PQR_SQLCOMMENTER";
    const char *rest = planned;
    for (char one[48]; next_of(&rest, one, sizeof one);) {
        char setting[100], fault[200];
        snprintf(setting, sizeof setting, "%s=1", one);
        snprintf(fault, sizeof fault, "%s is not supported by this version", one);
        assert_fault(setting, fault);
    }
}

static void variables_of_other_programs_are_ignored_with_a_warning(void **state)
{
    (void)state;
    static const char redis[] =
        "REDIS_URL|REDIS_URL_FILE|REDIS_SENTINEL_PASSWORD|REDIS_SENTINEL_PASSWORD_FILE|"
        "REDIS_CONNECTION_LIMIT|REDIS_CONNECT_TIMEOUT|REDIS_COMMAND_TIMEOUT";
    const char *rest = redis;
    for (char one[48]; next_of(&rest, one, sizeof one);) {
        char setting[100], warning[200];
        snprintf(setting, sizeof setting, "%s=x", one);
        snprintf(warning, sizeof warning, "%s is set, but this version has no cache: ignored", one);
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

/* That it is the one in docs/ the structure tests see to. */
static void the_page_of_options_is_printed_from_the_list(void **state)
{
    (void)state;
    char *page = pqi_options_markdown();
    assert_non_null(strstr(page, "| `DB_POOL_TIMEOUT` | 1ms to 1h, or 0, or nowait | 10 | "));
    assert_non_null(strstr(page, "| `DATABASE_REPLICA_{n}_URL` (`_FILE`) | a URL |  | "));
    assert_non_null(strstr(page, "`DB_FILL_LIMIT`"));
    assert_non_null(strstr(page, "Ignored with a warning, since this version has no metrics: "
                                 "`METRICS_ENABLED`.\n"));
    pqi_mem_free(page);
}

static char *setting_of(const struct pqi_options *o, const char *name)
{
    static char value[64];
    struct pqi_setting *settings;
    size_t n = pqi_options_settings(o, &settings);
    snprintf(value, sizeof value, "(not told)");
    for (size_t i = 0; i < n; i++)
        if (strcmp(settings[i].name, name) == 0)
            snprintf(value, sizeof value, "%s", settings[i].value);
    pqi_settings_free(settings, n);
    return value;
}

static void a_key_for_tokens_is_long_enough_and_never_shown(void **state)
{
    (void)state;
    static const char size[] =
        "DB_TOKEN_KEY: its value is not a text of 16 to 512 bytes without control characters";
    char long_one[600] = "DB_TOKEN_KEY=";
    memset(long_one + strlen(long_one), 'x', 513);
    assert_fault("DB_TOKEN_KEY=fifteen bytes 1", size);
    assert_fault("DB_TOKEN_KEY=0123456789\x01 0123456789", size);
    assert_fault(long_one, size);
    if (!pqi_mac_built_in()) {
        assert_fault("DB_TOKEN_KEY=0123456789abcdef",
                     "DB_TOKEN_KEY needs a build with OpenSSL: unset it, or build with libcrypto 3 "
                     "there");
        return;
    }
    long_one[strlen(long_one) - 1] = '\0';
    assert_int_equal(strlen(load_good(ENV(ONE, long_one))->token_key), 512);
    struct pqi_options *o = load_good(ENV(ONE, "DB_TOKEN_KEY=0123456789abcdef"));
    assert_string_equal(o->token_key, "0123456789abcdef");
    assert_string_equal(setting_of(o, "DB_TOKEN_KEY"), "(set)");
    assert_string_equal(setting_of(load_good(ENV(ONE)), "DB_TOKEN_KEY"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_url_is_enough),
        cmocka_unit_test(every_option_has_its_default_and_its_field),
        cmocka_unit_test(durations_are_seconds_or_have_a_unit),
        cmocka_unit_test(what_is_no_duration_is_refused),
        cmocka_unit_test(what_is_no_whole_number_is_refused),
        cmocka_unit_test(zero_means_what_the_option_says),
        cmocka_unit_test(the_tenants_setting_is_two_words),
        cmocka_unit_test(other_values_are_refused_with_what_is_expected),
        cmocka_unit_test(a_quoted_value_is_short_and_printable),
        cmocka_unit_test(an_empty_value_is_none_and_blanks_around_one_are_told),
        cmocka_unit_test(entries_that_are_none_of_ours_do_not_matter),
        cmocka_unit_test(of_a_variable_that_is_there_twice_the_first_counts),
        cmocka_unit_test(all_faults_are_told_together),
        cmocka_unit_test(what_does_not_fit_the_message_is_counted),
        cmocka_unit_test(strict_makes_warnings_faults),
        cmocka_unit_test(what_sets_a_session_up_does_not_pass_a_pooler),
        cmocka_unit_test(planned_options_are_refused),
        cmocka_unit_test(variables_of_other_programs_are_ignored_with_a_warning),
        cmocka_unit_test(a_name_that_is_nearly_ours_is_asked_about),
        cmocka_unit_test(the_connection_limit_comes_from_the_strongest_that_says),
        cmocka_unit_test(a_url_sets_options_where_no_variable_does),
        cmocka_unit_test(of_several_urls_the_first_that_says_counts),
        cmocka_unit_test(a_statement_timeout_above_the_socket_timeout_is_told),
        cmocka_unit_test(parameters_of_frameworks_are_ignored_with_a_warning),
        cmocka_unit_test(settings_tell_values_as_one_would_write_them_and_where_they_came_from),
        cmocka_unit_test(a_key_for_tokens_is_long_enough_and_never_shown),
        cmocka_unit_test(the_page_of_options_is_printed_from_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, forget);
}
