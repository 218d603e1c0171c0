/* One connection to a PostgreSQL server, on libpq in pipeline mode.
 * https://www.postgresql.org/docs/15/libpq-pipeline-mode.html */
#include "pg.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- What went wrong ------------------------------------------------------------------------ */

static void scrubbed(struct pqi_conn *c, char *out, size_t size, const char *text)
{
    size_t len = strcspn(text, "\n");
    snprintf(out, size, "%.*s", (int)(len < size ? len : size - 1), text);
    pqi_scrub(out, c->dial->target);
}

static void die(struct pqi_conn *c, enum pqi_trouble_kind kind, const char *text)
{
    c->state = PQI_DEAD;
    if (c->trouble.kind != PQI_TROUBLE_NONE)
        return;
    c->trouble.kind = kind;
    if (c->trouble.text[0] == '\0')
        scrubbed(c, c->trouble.text, sizeof c->trouble.text, text);
}

void pqi_conn_fail(struct pqi_conn *c, enum pqi_trouble_kind kind, const char *text)
{
    die(c, kind, text);
}

static enum pqi_severity severity_of(const PGresult *res)
{
    const char *s = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (!s)
        return PQI_SEV_NONE;
    if (strcmp(s, "ERROR") == 0)
        return PQI_SEV_ERROR;
    if (strcmp(s, "FATAL") == 0)
        return PQI_SEV_FATAL;
    return strcmp(s, "PANIC") == 0 ? PQI_SEV_PANIC : PQI_SEV_NONE;
}

static const char *sqlstate_of(const PGresult *res)
{
    const char *s = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    return s ? s : "";
}

/* A FATAL or PANIC is the server's last word: kept as the reason of the loss. */
static void note_last_word(struct pqi_conn *c, const PGresult *res)
{
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    if (c->trouble.sqlstate[0] != '\0')
        return;
    snprintf(c->trouble.sqlstate, sizeof c->trouble.sqlstate, "%s", sqlstate_of(res));
    c->trouble.severity = severity_of(res);
    scrubbed(c, c->trouble.text, sizeof c->trouble.text, text ? text : "");
}

/* Notices are silent, but "the server is going down" is worth remembering: what is lost after it
 * may have been committed. */
static void on_notice(void *arg, const PGresult *res)
{
    struct pqi_conn *c = arg;
    const char *state = sqlstate_of(res);
    if (strcmp(state, "57P01") == 0 || strcmp(state, "57P02") == 0)
        c->warned = true;
}

/* ---- Connecting ----------------------------------------------------------------------------- */

/* The SQLSTATE at the end of libpq's text, which PQERRORS_SQLSTATE makes bare: "…: FATAL:  28P01".
 * libpq offers it in no other way while connecting. */
static bool sqlstate_at_end(const char *text, char out[6])
{
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        len--;
    if (len < 7 || strncmp(text + len - 7, "  ", 2) != 0)
        return false;
    for (size_t i = len - 5; i < len; i++)
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'A' && text[i] <= 'Z')))
            return false;
    memcpy(out, text + len - 5, 5);
    out[5] = '\0';
    return true;
}

struct login_text {
    const char *sqlstate;
    enum pqi_trouble_kind kind;
    const char *text;
};

static const struct login_text login_texts[] = {
    {"28P01", PQI_TROUBLE_LOGIN, "wrong password"},
    {"28000", PQI_TROUBLE_LOGIN,
     "login refused: no such role, role without LOGIN, or no line for it in pg_hba.conf"},
    {"28", PQI_TROUBLE_LOGIN, "login refused"},
    {"3D000", PQI_TROUBLE_LOGIN, "the database does not exist"},
    {"42501", PQI_TROUBLE_LOGIN, "the role may not connect to this database"},
    {"53300", PQI_TROUBLE_FULL,
     "no connection is left: lower DB_CONNECTION_LIMIT, or raise max_connections (or the role's "
     "limit)"},
    {"57P03", PQI_TROUBLE_NOT_NOW, "the server is starting up or shutting down"},
    {"", PQI_TROUBLE_LOST, "the server ended the login"},
};

static void classify_login(struct pqi_conn *c, const char *sqlstate)
{
    const struct login_text *t = login_texts;
    while (strncmp(sqlstate, t->sqlstate, strlen(t->sqlstate)) != 0)
        t++;
    snprintf(c->trouble.sqlstate, sizeof c->trouble.sqlstate, "%s", sqlstate);
    c->trouble.severity = PQI_SEV_FATAL;
    die(c, t->kind, t->text);
}

static void classify_refusal(struct pqi_conn *c)
{
    const char *text = c->pg ? PQerrorMessage(c->pg) : "out of memory";
    char sqlstate[6];
    if (c->pg && PQconnectionNeedsPassword(c->pg)) {
        die(c, PQI_TROUBLE_LOGIN, "the server wants a password and none is configured");
    } else if (sqlstate_at_end(text, sqlstate)) {
        classify_login(c, sqlstate);
    } else {
        const char *reason = strstr(text, "failed: ");
        reason = reason ? reason + strlen("failed: ") : text;
        bool tls = strstr(text, "SSL") || strstr(text, "certificate");
        die(c, tls ? PQI_TROUBLE_TLS : PQI_TROUBLE_REFUSED, reason);
    }
}

static void dial(struct pqi_conn *c, const char *address)
{
    const struct pqi_dial *d = c->dial;
    const char *values[PQI_DIAL_MAX];
    memcpy(values, d->values, sizeof values);
    values[d->hostaddr] = address;
    c->pg = PQconnectStartParams(d->keys, values, 0);
    if (!c->pg || PQstatus(c->pg) == CONNECTION_BAD) {
        classify_refusal(c);
        return;
    }
    PQsetErrorVerbosity(c->pg, PQERRORS_SQLSTATE);
    PQsetNoticeReceiver(c->pg, on_notice, c);
    c->state = PQI_CONNECTING;
    c->events = POLLOUT;
}

/* A name can have several addresses: the next one, unless a server answered already. */
static bool dial_next(struct pqi_conn *c)
{
    if (!c->lookup || c->trouble.kind != PQI_TROUBLE_REFUSED ||
        c->address + 1 >= pqi_lookup_count(c->lookup))
        return false;
    PQfinish(c->pg);
    c->pg = NULL;
    c->trouble = (struct pqi_trouble){0};
    dial(c, pqi_lookup_address(c->lookup, ++c->address));
    return true;
}

static void resolve_step(struct pqi_conn *c)
{
    if (!pqi_lookup_done(c->lookup))
        return;
    if (pqi_lookup_error(c->lookup)) {
        char text[160];
        snprintf(text, sizeof text, "its name cannot be resolved: %s", pqi_lookup_error(c->lookup));
        die(c, PQI_TROUBLE_NAME, text);
    } else {
        dial(c, pqi_lookup_address(c->lookup, 0));
    }
}

static void connect_step(struct pqi_conn *c)
{
    switch (PQconnectPoll(c->pg)) {
    case PGRES_POLLING_READING:
        c->events = POLLIN;
        return;
    case PGRES_POLLING_WRITING:
        c->events = POLLOUT;
        return;
    case PGRES_POLLING_OK:
        if (PQsetnonblocking(c->pg, 1) == 0 && PQenterPipelineMode(c->pg) == 1)
            c->state = PQI_IDLE;
        else
            die(c, PQI_TROUBLE_PROTOCOL, "libpq refuses pipeline mode");
        return;
    default:
        classify_refusal(c);
    }
}

struct pqi_conn *pqi_conn_new(const struct pqi_dial *d, struct pqi_resolver *resolver)
{
    struct pqi_conn *c = pqi_mem_new(sizeof *c);
    if (!c)
        return NULL;
    pqi_list_init(&c->link);
    c->dial = d;
    const struct pqi_target *t = d->target;
    if (t->hostaddr || pqi_is_address(t->host)) {
        bool socket_folder = t->host[0] == '/' || t->host[0] == '@';
        dial(c, t->hostaddr ? t->hostaddr : socket_folder ? "" : t->host);
        return c;
    }
    c->state = PQI_RESOLVING;
    c->events = POLLIN;
    c->lookup = pqi_resolver_join(resolver, t->host);
    if (!c->lookup)
        die(c, PQI_TROUBLE_NOMEM, "no memory or thread to resolve its name");
    return c;
}

/* ---- Sending and reading -------------------------------------------------------------------- */

static bool make_room(struct pqi_conn *c, int n)
{
    if (n <= c->cap)
        return true;
    struct pqi_answer *answers = pqi_mem_resize(c->answers, (size_t)n, sizeof *answers);
    if (answers)
        c->answers = answers;
    bool *syncs = pqi_mem_resize(c->syncs, (size_t)n, sizeof *syncs);
    if (syncs)
        c->syncs = syncs;
    if (!answers || !syncs)
        return false;
    c->cap = n;
    return true;
}

static void forget_answers(struct pqi_conn *c)
{
    for (int i = 0; i < c->n; i++)
        PQclear(c->answers[i].pg);
    c->n = 0;
}

static bool send_one(struct pqi_conn *c, const struct pqi_stmt *s)
{
    const struct pqi_params *p = s->params;
    c->given |= s->alone;
    if (!PQsendQueryParams(c->pg, s->sql, p ? p->n : 0, p ? p->types : NULL, p ? p->values : NULL,
                           p ? p->lengths : NULL, p ? p->formats : NULL, s->binary))
        return false;
    if (!s->sync)
        return true;
    c->given = true;
    return PQpipelineSync(c->pg) == 1;
}

/* The link is gone: fetches what libpq still holds, so that the server's last word counts. libpq
 * answers NULL for ever after that, hence the bound. */
static void lost(struct pqi_conn *c)
{
    for (int nulls = 0; nulls < 3 && !PQisBusy(c->pg);) {
        PGresult *res = PQgetResult(c->pg);
        if (!res)
            nulls++;
        else if (severity_of(res) >= PQI_SEV_FATAL)
            note_last_word(c, res);
        PQclear(res);
    }
    die(c, PQI_TROUBLE_LOST, PQerrorMessage(c->pg));
}

static void flush(struct pqi_conn *c)
{
    int left = PQflush(c->pg);
    if (left < 0)
        lost(c);
    else
        c->events = left > 0 ? POLLIN | POLLOUT : POLLIN;
}

void pqi_conn_send(struct pqi_conn *c, const struct pqi_stmt *stmts, int n)
{
    forget_answers(c);
    c->given = c->warned = false;
    if (!make_room(c, n)) {
        die(c, PQI_TROUBLE_NOMEM, "no memory for answers");
        return;
    }
    c->n = n;
    c->at = c->segment = 0;
    c->segment_error = -1;
    c->at_sync = false;
    memset(c->answers, 0, (size_t)n * sizeof *c->answers);
    c->state = PQI_BUSY;
    for (int i = 0; i < n; i++)
        c->syncs[i] = stmts[i].sync;
    for (int i = 0; i < n; i++)
        if (!send_one(c, &stmts[i])) {
            lost(c);
            return;
        }
    flush(c);
}

static void begin_statement(struct pqi_conn *c, int i)
{
    c->at = i;
    c->at_sync = false;
    if (i == c->n)
        c->state = PQI_IDLE;
}

static void end_segment(struct pqi_conn *c)
{
    for (int i = c->segment; i <= c->at; i++)
        c->answers[i].acknowledged = c->segment_error < 0;
    c->segment = c->at + 1;
    c->segment_error = -1;
    begin_statement(c, c->segment);
}

/* An error belongs to the statement at hand; one that comes between the last result and the Sync
 * (a deferred constraint) to the segment, told by its last statement. */
static void take_error(struct pqi_conn *c, PGresult *res)
{
    struct pqi_answer *a = &c->answers[c->at];
    if (severity_of(res) >= PQI_SEV_FATAL)
        note_last_word(c, res);
    if (sqlstate_of(res)[0] == '\0' || severity_of(res) >= PQI_SEV_FATAL) {
        PQclear(res); /* libpq's own words, or the server's last: the link is at its end */
        lost(c);
        return;
    }
    PQclear(a->pg);
    a->pg = res;
    a->state = PQI_ANSWER_ERROR;
    c->segment_error = c->at;
}

static void take_at_sync(struct pqi_conn *c, PGresult *res)
{
    if (res && PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
        PQclear(res);
        end_segment(c);
    } else if (res && PQresultStatus(res) == PGRES_FATAL_ERROR) {
        take_error(c, res);
    } else if (res) {
        PQclear(res);
        die(c, PQI_TROUBLE_PROTOCOL, "a result where a Sync was due");
    }
}

static void take_statement(struct pqi_conn *c, PGresult *res)
{
    struct pqi_answer *a = &c->answers[c->at];
    if (!res && a->state == PQI_UNANSWERED) {
        die(c, PQI_TROUBLE_PROTOCOL, "a statement ended without a result");
    } else if (!res) {
        c->at_sync = c->syncs[c->at];
        if (!c->at_sync)
            begin_statement(c, c->at + 1);
    } else if (a->state != PQI_UNANSWERED) {
        PQclear(res);
        die(c, PQI_TROUBLE_PROTOCOL, "two results for one statement");
    } else if (PQresultStatus(res) == PGRES_PIPELINE_ABORTED) {
        a->state = PQI_ANSWER_SKIPPED;
        PQclear(res);
    } else if (PQresultStatus(res) == PGRES_FATAL_ERROR) {
        take_error(c, res);
    } else if (PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK ||
               PQresultStatus(res) == PGRES_EMPTY_QUERY) {
        a->state = PQI_ANSWER_OK;
        a->pg = res;
    } else {
        PQclear(res);
        die(c, PQI_TROUBLE_PROTOCOL, "a result of a kind that was not asked for");
    }
}

static void busy_step(struct pqi_conn *c, short revents)
{
    if (revents & (POLLIN | POLLERR | POLLHUP) && !PQconsumeInput(c->pg)) {
        lost(c);
        return;
    }
    /* Two NULLs in a row stand for nothing: libpq has lost count, or we have. */
    for (int nulls = 0; c->state == PQI_BUSY && !PQisBusy(c->pg);) {
        PGresult *res = PQgetResult(c->pg);
        nulls = res ? 0 : nulls + 1;
        if (nulls > 2)
            die(c, PQI_TROUBLE_PROTOCOL, "no result where one was due");
        else if (c->at_sync)
            take_at_sync(c, res);
        else
            take_statement(c, res);
    }
    if (c->state == PQI_BUSY)
        flush(c);
}

void pqi_conn_step(struct pqi_conn *c, short revents)
{
    if (c->state == PQI_RESOLVING)
        resolve_step(c);
    else if (c->state == PQI_CONNECTING && revents)
        connect_step(c);
    else if (c->state == PQI_BUSY)
        busy_step(c, revents);
    while (c->state == PQI_DEAD && !c->ready && c->n == 0 && dial_next(c))
        ;
}

int pqi_conn_fd(const struct pqi_conn *c)
{
    return c->state == PQI_RESOLVING ? pqi_lookup_fd(c->lookup) : PQsocket(c->pg);
}

short pqi_conn_events(const struct pqi_conn *c)
{
    return c->events;
}

bool pqi_conn_stale(const struct pqi_conn *c)
{
    struct pollfd p = {.fd = PQsocket(c->pg), .events = POLLIN};
    return poll(&p, 1, 0) != 0 || PQstatus(c->pg) != CONNECTION_OK;
}

struct pg_result *pqi_conn_take(struct pqi_conn *c, int i)
{
    PGresult *res = c->answers[i].pg;
    c->answers[i].pg = NULL;
    return res;
}

const char *pqi_answer_sqlstate(const struct pqi_answer *a)
{
    return sqlstate_of(a->pg);
}

const char *pqi_answer_tag(const struct pqi_answer *a)
{
    return a->pg ? PQcmdStatus(a->pg) : "";
}

void pqi_answer_tell(const struct pqi_answer *a, pqr_error *err)
{
    if (!err)
        return;
    const char *message = PQresultErrorField(a->pg, PG_DIAG_MESSAGE_PRIMARY);
    pqi_err_add(err, "%s", message ? message : "no message");
    pqi_copy_text(err->sqlstate, sizeof err->sqlstate, sqlstate_of(a->pg));
    pqi_copy_text(err->constraint, sizeof err->constraint,
                  PQresultErrorField(a->pg, PG_DIAG_CONSTRAINT_NAME));
    pqi_copy_text(err->schema, sizeof err->schema, PQresultErrorField(a->pg, PG_DIAG_SCHEMA_NAME));
    pqi_copy_text(err->table, sizeof err->table, PQresultErrorField(a->pg, PG_DIAG_TABLE_NAME));
    pqi_copy_text(err->column, sizeof err->column, PQresultErrorField(a->pg, PG_DIAG_COLUMN_NAME));
}

enum pqi_block pqi_conn_block(const struct pqi_conn *c)
{
    switch (PQtransactionStatus(c->pg)) {
    case PQTRANS_IDLE:
        return PQI_BLOCK_NONE;
    case PQTRANS_INERROR:
        return PQI_BLOCK_FAILED;
    default:
        return PQI_BLOCK_OPEN;
    }
}

bool pqi_conn_clean(const struct pqi_conn *c)
{
    return c->state == PQI_IDLE && c->ready && !c->tainted && PQstatus(c->pg) == CONNECTION_OK &&
           pqi_conn_block(c) == PQI_BLOCK_NONE;
}

struct pg_conn *pqi_conn_lend(struct pqi_conn *c)
{
    if (!PQexitPipelineMode(c->pg) || PQsetnonblocking(c->pg, 0) != 0)
        return NULL;
    PQsetErrorVerbosity(c->pg, PQERRORS_DEFAULT);
    return c->pg;
}

/* ---- The end -------------------------------------------------------------------------------- */

static void free_conn(struct pqi_conn *c)
{
    forget_answers(c);
    PQfinish(c->pg);
    pqi_lookup_unref(c->lookup);
    pqi_mem_free(c->answers);
    pqi_mem_free(c->syncs);
    pqi_mem_free(c);
}

/* A server process outlives the socket that we close: it still counts against its
 * max_connections, and may still be at work. A second descriptor on the same socket sees it go. */
int pqi_conn_part(struct pqi_conn *c)
{
    int fd = c->pg ? PQsocket(c->pg) : -1;
    if (fd >= 0)
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    free_conn(c);
    if (fd >= 0)
        shutdown(fd, SHUT_WR);
    return fd;
}

void pqi_conn_orphan(struct pqi_conn *c)
{
    int fd = c->pg ? PQsocket(c->pg) : -1;
    int null = fd >= 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    if (null >= 0) {
        dup2(null, fd); /* libpq's goodbye goes nowhere; the parent's session stays */
        close(null);
        free_conn(c);
    }
}

bool pqi_parted(int fd)
{
    char waste[16384];
    for (int i = 0; i < 64; i++) {
        ssize_t got = recv(fd, waste, sizeof waste, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            return true;
        if (got < 0)
            return false;
    }
    return false;
}
