/* The words of live tests. */
#include "live.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
_Thread_local pqr_error live_error;

int64_t live_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void live_sleep_ms(int ms)
{
    usleep((useconds_t)ms * 1000);
}

bool live_slow_build(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#else
    return false;
#endif
}

void live_ok(int code, const pqr_error *err, const char *what, const char *file, int line)
{
    if (code == PQR_OK)
        return;
    print_error("%s:%d: %s: %s: %s [%s]\n", file, line, what, pqr_code_name(code), err->message,
                err->sqlstate);
    _fail(file, line);
}

void live_fails(int wanted, int code, const pqr_error *err, const char *what, const char *file,
                int line)
{
    if (code == wanted && err->code == wanted && err->message[0] != '\0')
        return;
    print_error("%s:%d: %s: wanted %s, got %s: %s\n", file, line, what, pqr_code_name(wanted),
                pqr_code_name(code), err->message);
    _fail(file, line);
}

void says(const char *part)
{
    if (!strstr(live_error.message, part))
        fail_msg("\"%s\" does not say \"%s\"", live_error.message, part);
}

/* ---- Routers -------------------------------------------------------------------------------- */

static bool names(const char *setting, const char *variable)
{
    size_t len = strcspn(setting, "=");
    return strncmp(setting, variable, len) == 0 && variable[len] == '=';
}

static bool overridden(const char *variable, const char *const *settings)
{
    for (; *settings; settings++)
        if (names(*settings, variable))
            return true;
    return false;
}

const char *const *live_env(const char *const *settings)
{
    static _Thread_local const char *env[1024];
    int n = 0;
    for (char **e = environ; *e && n < 900; e++)
        if (!overridden(*e, settings))
            env[n++] = *e;
    for (; *settings; settings++)
        if (strchr(*settings, '='))
            env[n++] = *settings;
    env[n] = NULL;
    return env;
}

pqr *live_router(const char *const *settings)
{
    pqr *db = NULL;
    OK(pqr_open(&db, PQR_OPTIONS(.env = live_env(settings)), &live_error));
    return db;
}

pqr *live_ready(pqr *db)
{
    OK(pqr_ready(db, 10000, &live_error));
    return db;
}

pqr_session *live_session(pqr *db, const char *tenant)
{
    pqr_session *s = NULL;
    OK(pqr_session_open(db, PQR_SESSION(.tenant = tenant), &s, &live_error));
    return s;
}

const char *served_by(pqr *db, const char *tenant, int level)
{
    static _Thread_local char node[64];
    pqr_session *s = live_session(db, tenant);
    pqr_result *res = NULL;
    OK(pqr_read(s, PQR_QUERY(.sql = "select current_setting('cluster_name')", .level = level), &res,
                &live_error));
    snprintf(node, sizeof node, "%s", pqr_text(res, 0, 0));
    assert_string_equal(node, pqr_source(res));
    pqr_result_free(res);
    pqr_session_close(s);
    return node;
}

void run_write(pqr *db, const char *tenant, const char *sql)
{
    pqr_session *s = live_session(db, tenant);
    OK(pqr_write(s, PQR_QUERY(.sql = sql), NULL, &live_error));
    pqr_session_close(s);
}

int32_t backend(pqr_session *s)
{
    pqr_result *r;
    OK(pqr_write(s, PQR_QUERY(.sql = "select pg_backend_pid()"), &r, &live_error));
    int32_t pid = pqr_int32(r, 0, 0);
    pqr_result_free(r);
    return pid;
}

int close_router(void **state)
{
    pqr_close(*state, 1000);
    return 0;
}

pqr_node_health health_of(pqr *db, const char *node)
{
    pqr_node_health all[128];
    int n = pqr_health(db, all, 128, sizeof *all);
    for (int i = 0; i < n; i++)
        if (strcmp(all[i].node, node) == 0)
            return all[i];
    fail_msg("no node %s", node);
    return all[0];
}

bool serves_reads(pqr *db, const char *node)
{
    return health_of(db, node).serves_reads == 1;
}

/* ---- The fleet ------------------------------------------------------------------------------ */

void fleet(const char *format, ...)
{
    char verb[256], command[768];
    va_list args;
    va_start(args, format);
    vsnprintf(verb, sizeof verb, format, args);
    va_end(args);
    const char *script = getenv("FLEET");
    snprintf(command, sizeof command, "%s %s >/dev/null", script ? script : "test/fleet.py", verb);
    int status = system(command);
    if (status != 0)
        fail_msg("%s: exit status %d", command, WEXITSTATUS(status));
}

/* "shard1/replica2" → DATABASE_SHARD_1_REPLICA_2_URL, or without shards DATABASE_REPLICA_2_URL. */
static const char *url_of(const char *node)
{
    char name[128];
    int shard = -1, replica = 0;
    sscanf(node, "shard%d/", &shard);
    const char *slash = strchr(node, '/');
    sscanf(slash ? slash : "", "/replica%d", &replica);
    int len = getenv("DATABASE_SHARD_COUNT") && shard >= 0
                  ? snprintf(name, sizeof name, "DATABASE_SHARD_%d_", shard)
                  : snprintf(name, sizeof name, "DATABASE_");
    if (replica > 0)
        snprintf(name + len, sizeof name - (size_t)len, "REPLICA_%d_URL", replica);
    else
        snprintf(name + len, sizeof name - (size_t)len, "%sURL",
                 strstr(name, "SHARD") ? "" : "PRIMARY_");
    const char *url = getenv(name);
    if (!url)
        fail_msg("no %s for %s", name, node);
    return url;
}

static void no_notice(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

bool live_pooled(void)
{
    return getenv("PQR_FLEET_PORTS") != NULL;
}

int live_port(const char *node)
{
    const char *ports = getenv("PQR_FLEET_PORTS"), *at = ports ? strstr(ports, node) : NULL;
    if (ports && !(at && at[strlen(node)] == '='))
        fail_msg("no port of %s", node);
    return atoi(ports ? at + strlen(node) + 1 : strrchr(url_of(node), ':') + 1);
}

/* By way of the server's own socket, which asks for no password: to prove one takes long under a
 * sanitizer. */
static PGconn *connect_to(const char *node)
{
    char folder[512], port[12];
    snprintf(folder, sizeof folder, "%s/socket", getenv("PQR_FLEET"));
    snprintf(port, sizeof port, "%d", live_port(node));
    return PQconnectdbParams((const char *const[]){"dbname", "host", "port", NULL},
                             (const char *const[]){url_of(node), folder, port, NULL}, 1);
}

static const char *ask_text(const char *node, const char *sql)
{
    static _Thread_local char value[1024];
    PGconn *pg = connect_to(node);
    PQsetNoticeProcessor(pg, no_notice, NULL);
    PGresult *res = PQexec(pg, sql);
    ExecStatusType status = PQresultStatus(res);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s: %s: %s", node, sql, PQerrorMessage(pg));
    snprintf(value, sizeof value, "%s", PQntuples(res) > 0 ? PQgetvalue(res, 0, 0) : "");
    PQclear(res);
    PQfinish(pg);
    return value;
}

const char *ask(const char *node, const char *format, ...)
{
    char sql[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    return ask_text(node, sql);
}

long ask_number(const char *node, const char *format, ...)
{
    char sql[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    return strtol(ask_text(node, sql), NULL, 10);
}

void make_parent_and_child(const char *node)
{
    ask(node, "create table parent(id bigint primary key)");
    ask(node, "create table child(id bigserial primary key,"
              " parent bigint references parent deferrable initially deferred)");
}

/* TEST_ONLY='lanes_*': only the tests of such names. */
__attribute__((constructor)) static void choose_tests(void)
{
    const char *only = getenv("TEST_ONLY");
    if (only)
        cmocka_set_test_filter(only);
}
