/* Environments, and the databases that come out of them: shards, replicas, parts, secrets. */
#include "../lib/configs.h"

#include "../../lib/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Words ----------------------------------------------------------------------------------- */

/* A file of this content; unlink it. */
static void write_file(char path[32], const void *content, size_t len)
{
    strcpy(path, "/tmp/options.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, len), (ssize_t)len);
    close(fd);
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
    o = load_good(ENV("DATABASE_SHARD_COUNT=1", "DATABASE_SHARD_0_URL=postgresql://s0"));
    assert_true(o->sharded);
    assert_int_equal(o->control.n, 0);
    o = load_good(ENV("DATABASE_SHARD_COUNT=0", ONE));
    assert_false(o->sharded);
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
    o = load_good(ENV("PGHOST=h", "PGUSER=ann", "PGDATABASE=app", "DATABASE_PORT=6000"));
    assert_string_equal(o->shards[0].targets[0].shown, "postgresql://ann@h:6000/app");
    o = load_good(ENV("PGHOST=h", "PGUSER=ann", "DATABASE_URL=hostaddr=10.0.0.1 service=s"));
    assert_string_equal(o->shards[0].targets[0].shown, "postgresql://10.0.0.1:5432/?service=s");
    assert_fault("PGPORT=x", "PGPORT: \"x\" is not a whole number from 1 to 65535");
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
    snprintf(setting, sizeof setting, "DATABASE_SHARD_0_URL_FILE=%s", path);
    o = load_good(ENV("DATABASE_SHARD_COUNT=1", setting));
    assert_string_equal(o->shards[0].targets[0].variable, "DATABASE_SHARD_0_URL_FILE");
    unlink(path);
    write_file(path, "p@ss word", 9);
    snprintf(setting, sizeof setting, "DATABASE_PASSWORD_FILE=%s", path);
    o = load_good(ENV("DATABASE_NAME=app", setting));
    assert_string_equal(o->shards[0].targets[0].password, "p@ss word");
    assert_faults(ENV("DATABASE_NAME=app", setting, "DATABASE_PASSWORD=x"),
                  "DATABASE_PASSWORD and DATABASE_PASSWORD_FILE are both set: keep one");
    o = load_good(ENV("DATABASE_NAME=app", setting, "DATABASE_PASSWORD="));
    assert_string_equal(o->shards[0].targets[0].password, "p@ss word");
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
        "DB_TOKEN_KEY=SeCr3t 0123456789 0123456789",
        "DB_TOKEN_KEY_FILE=SeCr3t",
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        cmocka_unit_test(a_secret_may_stand_in_a_file),
        cmocka_unit_test(a_file_without_a_usable_secret_is_refused),
        cmocka_unit_test(a_url_that_is_too_long_or_not_a_text_is_refused),
        cmocka_unit_test(no_text_tells_a_password),
    };
    return cmocka_run_group_tests(tests, NULL, forget);
}
