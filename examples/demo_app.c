/* The application in `./dev demo`: one process with one router, that lives through the faults.
 * A command a line on stdin, its answer as a line of JSON on stdout; demo.py tells the story. */
#include <pqrouter/admin.h>
#include <pqrouter/pqrouter.h>

#include <stdio.h>
#include <string.h>

enum { PATIENCE_MS = 20000, NODES_MAX = 64 };

/* ---- What is done in a session --------------------------------------------------------------
 *
 * Each statement answers with the server that it ran on, by the server's own word: in the demo's
 * fleet a server's cluster_name is its name. And with a number of notes. */

typedef int work_fn(pqr_session *s, const char *tenant, const char *text, pqr_result **res,
                    pqr_error *err);

static int make_table(pqr_session *s, const char *tenant, const char *text, pqr_result **res,
                      pqr_error *err)
{
    (void)tenant, (void)text;
    return pqr_write(
        s, PQR_QUERY(.sql = "create table if not exists note (tenant text, body text)"), res, err);
}

static int add_note(pqr_session *s, const char *tenant, const char *text, pqr_result **res,
                    pqr_error *err)
{
    return pqr_write(s,
                     PQR_QUERY(.name = "add note",
                               .sql = "insert into note (tenant, body) values ($1, $2) "
                                      "returning current_setting('cluster_name'), 1",
                               PQR_PARAMS(PQR_TEXT(tenant), PQR_TEXT(text))),
                     res, err);
}

static int count_notes(pqr_session *s, const char *tenant, const char *text, pqr_result **res,
                       pqr_error *err)
{
    (void)text;
    return pqr_read(s,
                    PQR_QUERY(.name = "count notes",
                              .sql = "select current_setting('cluster_name'), count(*) "
                                     "from note where tenant = $1",
                              PQR_PARAMS(PQR_TEXT(tenant))),
                    res, err);
}

static int add_and_count(pqr_session *s, const char *tenant, const char *text, pqr_result **res,
                         pqr_error *err)
{
    int code = add_note(s, tenant, text, NULL, err);
    return code == PQR_OK ? count_notes(s, tenant, text, res, err) : code;
}

/* Looks like a read, and would delete. Where it is tried: "replica" or "primary". */
static int sneak(pqr_session *s, const char *tenant, const char *where, pqr_result **res,
                 pqr_error *err)
{
    bool primary = strcmp(where, "primary") == 0;
    return pqr_read(
        s,
        PQR_QUERY(.name = "sneak",
                  .sql = "with gone as (delete from note where tenant = $1 returning 1) "
                         "select current_setting('cluster_name'), count(*) from gone",
                  PQR_PARAMS(PQR_TEXT(tenant)),
                  .level = primary ? PQR_LEVEL_PRIMARY : PQR_LEVEL_ANY),
        res, err);
}

/* ---- Answers -------------------------------------------------------------------------------- */

static void put_text(const char *name, const char *text)
{
    printf("\"%s\": \"", name);
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == '"' || *text == '\\')
            printf("\\u%04x", (unsigned)*text);
        else
            putchar(*text);
    putchar('"');
}

static void put_error(const pqr_error *err)
{
    printf("{");
    put_text("error", pqr_code_name(err->code));
    printf(", ");
    put_text("sqlstate", err->sqlstate);
    printf(", ");
    put_text("node", err->node);
    printf(", ");
    put_text("message", err->message);
    printf("}\n");
}

static void put_result(const pqr_result *res)
{
    printf("{");
    put_text("server", pqr_text(res, 0, 0));
    printf(", ");
    put_text("source", pqr_source(res));
    printf(", \"notes\": %lld}\n", (long long)pqr_int64(res, 0, 1));
}

/* ---- Commands ------------------------------------------------------------------------------- */

/* One session for one command, as for one request of a web server. */
static void in_session(pqr *db, const char *tenant, work_fn *work, const char *text)
{
    pqr_session *s = NULL;
    pqr_result *res = NULL;
    pqr_error err;
    int code = pqr_session_open(db, PQR_SESSION(.tenant = tenant, .deadline_ms = PATIENCE_MS), &s,
                                &err);
    if (code == PQR_OK)
        code = work(s, tenant, text, &res, &err);
    if (code == PQR_OK)
        put_result(res);
    else
        put_error(&err);
    pqr_result_free(res);
    pqr_session_close(s);
}

/* What `pqrouter init` does. */
static void init(pqr *db)
{
    pqr_error err;
    if (pqr_init(db, PATIENCE_MS, NULL, NULL, &err) == PQR_OK)
        puts("{}");
    else
        put_error(&err);
}

static void place(pqr *db, const char *tenant)
{
    pqr_route r;
    pqr_error err;
    if (pqr_route_tenant(db, tenant, 0, PATIENCE_MS, &r, sizeof r, &err) == PQR_OK)
        printf("{\"slot\": %d, \"shard\": %d}\n", r.slot, r.shard);
    else
        put_error(&err);
}

/* What the router knows of its servers: it asks none for this. */
static void nodes(pqr *db)
{
    static const char *const states[] = {"unknown", "up", "suspect", "down"};
    pqr_node_health node[NODES_MAX];
    int n = pqr_health(db, node, NODES_MAX, sizeof *node);
    printf("{");
    for (int i = 0; i < n && i < NODES_MAX; i++) {
        printf("%s\"%s\": {", i > 0 ? ", " : "", node[i].node);
        put_text("state", states[node[i].state]);
        printf(", ");
        put_text("why", node[i].why);
        printf(", \"lag_ms\": %lld, \"serves_reads\": %s}", (long long)node[i].lag_ms,
               node[i].serves_reads ? "true" : "false");
    }
    printf("}\n");
}

/* COMMAND [TENANT [TEXT]] */
static void obey(pqr *db, char *line)
{
    static const struct {
        const char *name;
        work_fn *work;
    } in_sessions[] = {{"make", make_table},
                       {"write", add_note},
                       {"read", count_notes},
                       {"own", add_and_count},
                       {"sneak", sneak}};
    const char *command = strsep(&line, " ");
    const char *tenant = line ? strsep(&line, " ") : "";
    for (size_t i = 0; i < sizeof in_sessions / sizeof *in_sessions; i++)
        if (strcmp(command, in_sessions[i].name) == 0) {
            in_session(db, tenant, in_sessions[i].work, line ? line : "");
            return;
        }
    if (strcmp(command, "init") == 0)
        init(db);
    else if (strcmp(command, "place") == 0)
        place(db, tenant);
    else if (strcmp(command, "nodes") == 0)
        nodes(db);
    else
        puts("{\"error\": \"no such command\"}");
}

int main(void)
{
    pqr *db = NULL;
    pqr_error err;
    char line[512];
    if (pqr_open(&db, NULL, &err) != PQR_OK) {
        fprintf(stderr, "demo_app: %s\n", err.message);
        return 1;
    }
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        obey(db, line);
        fflush(stdout);
    }
    pqr_close(db, 1000);
    return 0;
}
