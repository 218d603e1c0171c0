/* One connection to a PostgreSQL server, on libpq in pipeline mode.
 * https://www.postgresql.org/docs/15/libpq-pipeline-mode.html */
#include "pg.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "../plan/pooler.h"
#include "../plan/tls.h"
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HUGE_BYTES (8 << 20) /* libpq's buffer has grown with such a result, and never shrinks */
#define SHARE_MIN_NS (200 * PQI_MS)

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

/* Poolers tell it only in the field that servers translate, and do not. */
static enum pqi_severity severity_of(const PGresult *res)
{
    const char *s = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (!s)
        s = PQresultErrorField(res, PG_DIAG_SEVERITY);
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

/* libpq drops its queue with the link. What the server had said behind the last result it then takes
 * for unasked, and tells, message by message, as a notice: "message type 0x5a arrived from server
 * while idle" is ReadyForQuery, the answer to a Sync. Only the first message counts. */
static void note_behind_end(struct pqi_conn *c, const PGresult *res)
{
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    bool own = sqlstate_of(res)[0] == '\0'; /* libpq's own words: a server's have a code */
    if (own && c->behind_end == PQI_BEHIND_NOTHING)
        c->behind_end = text && strstr(text, "0x5a") ? PQI_BEHIND_SYNC : PQI_BEHIND_OTHER;
    else if (severity_of(res) >= PQI_SEV_ERROR && c->behind_end == PQI_BEHIND_NOTHING)
        c->behind_end = PQI_BEHIND_OTHER;
}

/* Cancelled or terminated while it waits for a synchronous standby, a commit is done, and a failover may
 * lose it. Both say so by a WARNING; whose, tells the place in the server's source. */
static bool stopped_waiting(const PGresult *res)
{
    const char *function = PQresultErrorField(res, PG_DIAG_SOURCE_FUNCTION);
    return function && strcmp(function, "SyncRepWaitForLSN") == 0;
}

/* Notices are silent, but "the server is going down" is worth remembering: what is lost after it
 * may have been committed. */
static void on_notice(void *arg, const PGresult *res)
{
    struct pqi_conn *c = arg;
    const char *state = sqlstate_of(res);
    if (c->cut)
        note_behind_end(c, res);
    if (strcmp(state, "57P01") == 0 || strcmp(state, "57P02") == 0)
        c->warned = true;
    c->alone |= stopped_waiting(res);
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
    {"08P01", PQI_TROUBLE_LOST,
     "the login was ended; a pooler does so where user, password or database are wrong, where it "
     "does not know a startup parameter, or has no place left: its log says which"},
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

/* Does this process lack something? libpq tells it as text only, in the language of the moment. */
static bool lacking(const char *text)
{
    static const int lacks[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL};
    char said[128];
    for (size_t i = 0; i < sizeof lacks / sizeof *lacks; i++)
        if (strstr(text, strerror_r(lacks[i], said, sizeof said)))
            return true;
    return strstr(text, "out of memory") != NULL;
}

/* The advice must not be cut, so what libpq says is. */
static void die_of_tls(struct pqi_conn *c, const char *reason)
{
    char text[sizeof c->trouble.text];
    const char *advice = pqi_tls_advice(reason);
    scrubbed(c, text, sizeof text - strlen(advice), reason);
    strcat(text, advice);
    die(c, PQI_TROUBLE_TLS, text);
}

static void classify_refusal(struct pqi_conn *c)
{
    const char *text = c->pg ? PQerrorMessage(c->pg) : "out of memory";
    char sqlstate[6], said[128];
    if (text[0] == '\0') /* libpq 17 says nothing where it gets no descriptor */
        text = strerror_r(errno, said, sizeof said);
    if (c->pg && PQconnectionNeedsPassword(c->pg)) {
        die(c, PQI_TROUBLE_LOGIN, "the server wants a password and none is configured");
    } else if (sqlstate_at_end(text, sqlstate)) {
        classify_login(c, sqlstate);
    } else {
        const char *reason = strstr(text, "failed: ");
        reason = reason ? reason + strlen("failed: ") : text;
        bool tls = strstr(text, "SSL") || strstr(text, "certificate");
        if (tls && !lacking(text))
            die_of_tls(c, reason);
        else
            die(c, lacking(text) ? PQI_TROUBLE_NOMEM : PQI_TROUBLE_REFUSED, reason);
    }
}

static void dial(struct pqi_conn *c, const char *address)
{
    const struct pqi_dial *d = c->dial;
    const char *values[PQI_DIAL_MAX];
    memcpy(values, d->values, sizeof values);
    values[d->hostaddr] = address;
    errno = 0;
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

/* Of the time that is left an equal share for each address, so that one that swallows what it is
 * sent does not hide the others; at least what connecting to somewhere far away takes. */
static void give_time(struct pqi_conn *c, int left)
{
    int64_t share_ns = (c->give_up_ns - c->dialed_ns) / left;
    int64_t share_until_ns = c->dialed_ns + (share_ns > SHARE_MIN_NS ? share_ns : SHARE_MIN_NS);
    c->connect_until_ns = pqi_after_ms(c->dialed_ns, c->timeout_ms);
    if (share_until_ns < c->connect_until_ns)
        c->connect_until_ns = share_until_ns;
}

/* The next address of its name, if there is one. */
static bool dial_next(struct pqi_conn *c)
{
    int count = pqi_lookup_count(c->lookup);
    if (++c->address >= count)
        return false;
    PQfinish(c->pg);
    c->pg = NULL;
    c->trouble = (struct pqi_trouble){0};
    c->dialed_ns = pqi_now_ns();
    give_time(c, count - c->address);
    dial(c, pqi_lookup_address(c->lookup, c->first + c->address));
    return true;
}

/* Goes on to the next address, unless a server answered at the last one. */
static void try_others(struct pqi_conn *c)
{
    while (c->state == PQI_DEAD && c->address >= 0 && !c->ready && c->n == 0 &&
           (c->trouble.kind == PQI_TROUBLE_REFUSED || c->trouble.kind == PQI_TROUBLE_TIMEOUT ||
            c->trouble.kind == PQI_TROUBLE_NOMEM)) /* a host without IPv6 lacks such an address */
        if (!dial_next(c))
            return;
}

static void close_lookup_fd(struct pqi_conn *c)
{
    if (c->lookup_fd >= 0)
        close(c->lookup_fd);
    c->lookup_fd = -1;
}

/* Who watches it has taken it out of his epoll before. */
static void resolve_step(struct pqi_conn *c)
{
    if (!pqi_lookup_done(c->lookup))
        return;
    close_lookup_fd(c);
    if (pqi_lookup_error(c->lookup)) {
        char text[160];
        snprintf(text, sizeof text, "its name cannot be resolved: %s", pqi_lookup_error(c->lookup));
        die(c, pqi_lookup_lacking(c->lookup) ? PQI_TROUBLE_NOMEM : PQI_TROUBLE_NAME, text);
    } else {
        c->first = pqi_resolver_first(c->resolver, c->lookup);
        dial_next(c);
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
        give_time(c, 1); /* the other addresses need none */
        if (c->lookup)
            pqi_resolver_worked(c->resolver, PQhostaddr(c->pg));
        if (PQsetnonblocking(c->pg, 1) == 0 && PQenterPipelineMode(c->pg) == 1)
            c->state = PQI_IDLE;
        else
            die(c, PQI_TROUBLE_PROTOCOL, "libpq refuses pipeline mode");
        return;
    default:
        classify_refusal(c);
    }
}

/* An epoll takes a descriptor once, and several connections of one epoll may wait for one look-up: so
 * each has a descriptor of its own on it. */
static void resolve(struct pqi_conn *c, const char *host)
{
    c->state = PQI_RESOLVING;
    c->events = POLLIN;
    c->lookup = pqi_resolver_join(c->resolver, host);
    if (c->lookup)
        c->lookup_fd = fcntl(pqi_lookup_fd(c->lookup), F_DUPFD_CLOEXEC, 3);
    if (!c->lookup)
        die(c, PQI_TROUBLE_NOMEM, "no memory or thread to resolve its name");
    else if (c->lookup_fd < 0)
        die(c, PQI_TROUBLE_NOMEM, "no descriptor to wait for its name");
}

struct pqi_conn *pqi_conn_new(const struct pqi_dial *d, struct pqi_resolver *resolver,
                              int64_t timeout_ms, int64_t give_up_ns)
{
    struct pqi_conn *c = pqi_mem_new(sizeof *c);
    if (!c)
        return NULL;
    pqi_list_init(&c->link);
    pqi_list_init(&c->ended);
    c->dial = d;
    c->resolver = resolver;
    c->lookup_fd = -1;
    c->address = -1;
    c->timeout_ms = timeout_ms;
    c->give_up_ns = give_up_ns;
    c->dialed_ns = pqi_now_ns();
    give_time(c, 1);
    const struct pqi_target *t = d->target;
    if (t->hostaddr || pqi_is_address(t->host)) {
        bool socket_folder = t->host[0] == '/' || t->host[0] == '@';
        dial(c, t->hostaddr ? t->hostaddr : socket_folder ? "" : t->host);
        return c;
    }
    resolve(c, t->host);
    return c;
}

/* ---- Sending -------------------------------------------------------------------------------- */

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
    /* A pooler that cannot get to its server says the same as a server that is not there. */
    bool refused = c->pooled && pqi_pooler_without_server(c->trouble.text);
    die(c, refused ? PQI_TROUBLE_REFUSED : PQI_TROUBLE_LOST, PQerrorMessage(c->pg));
}

static void flush(struct pqi_conn *c)
{
    int left = PQflush(c->pg);
    if (left < 0)
        lost(c);
    else
        c->events = left > 0 ? POLLIN | POLLOUT : POLLIN;
}

static void push(struct pqi_conn *c, struct pqi_mark mark)
{
    mark.sent_ns = c->moved_ns;
    pqi_queue_push(&c->queue, &mark);
}

/* "pqr42"; by hand, since each statement that is sent needs it. */
static void prepared_name(char out[16], uint32_t name)
{
    char digits[12];
    int n = 0;
    do
        digits[n++] = (char)('0' + name % 10);
    while ((name /= 10) > 0);
    memcpy(out, "pqr", 3);
    for (out += 3; n > 0; out++)
        *out = digits[--n];
    *out = '\0';
}

/* libpq 15 cannot send Close; the statement does the same. */
static bool close_prepared(struct pqi_conn *c, uint32_t name)
{
    char sql[40];
    snprintf(sql, sizeof sql, "deallocate pqr%" PRIu32, name);
    if (!PQsendQueryParams(c->pg, sql, 0, NULL, NULL, NULL, NULL, 0))
        return false;
    push(c, (struct pqi_mark){.kind = PQI_MARK_CLOSE, .name = name});
    return true;
}

/* The prepared statement that this one runs as; 0: none. Its Parse goes ahead if it is new, as a
 * part of statement `index` of `job` (NULL: of nobody's). */
static bool prepare(struct pqi_conn *c, const struct pqi_stmt *s, const struct pqi_job *job,
                    int index, uint32_t *name)
{
    const struct pqi_params *p = s->params;
    struct pqi_prepared_use use = (s->own ? pqi_prepared_keep : pqi_prepared_use)(
        &c->prepared, s->hash, s->sql, p ? p->types : NULL, p ? p->n : 0);
    char text[16];
    *name = use.name;
    if (use.evicted && !close_prepared(c, use.evicted))
        return false;
    if (!use.parse)
        return true;
    prepared_name(text, use.name);
    if (!PQsendPrepare(c->pg, text, s->sql, p ? p->n : 0, p ? p->types : NULL))
        return false;
    push(c, (struct pqi_mark){.kind = PQI_MARK_PARSE,
                              .shared = job && job->shared,
                              .index = index,
                              .name = use.name,
                              .call = (void *)(uintptr_t)job,
                              .id = job ? job->id : 0});
    return true;
}

/* Cheaper by far than to ask what there is: neither returns a row.
 * https://www.postgresql.org/docs/15/sql-discard.html
 * https://www.postgresql.org/docs/15/sql-unlisten.html */
static const char drop_objects_sql[] = "discard temp";
static const char stop_listening_sql[] = "unlisten *";

static bool clean(struct pqi_conn *c, const char *sql)
{
    const struct pqi_stmt s = {.sql = sql, .own = true, .hash = pqi_prepared_hash(sql, NULL, 0)};
    uint32_t name;
    char text[16];
    if (!prepare(c, &s, NULL, 0, &name))
        return false;
    prepared_name(text, name);
    if (!(name ? PQsendQueryPrepared(c->pg, text, 0, NULL, NULL, NULL, 0)
               : PQsendQueryParams(c->pg, sql, 0, NULL, NULL, NULL, NULL, 0)))
        return false;
    push(c, (struct pqi_mark){.kind = PQI_MARK_CLEAN, .name = name});
    return true;
}

/* In a failed block only what ends it runs: neither the Parse of a new statement nor the Close of an
 * old one would. */
static bool may_prepare(const struct pqi_conn *c)
{
    return PQtransactionStatus(c->pg) != PQTRANS_INERROR;
}

/* Its text, which may need `room`; NULL: that is too small. */
static const char *text_of(const struct pqi_conn *c, const struct pqi_stmt *s, char *room,
                           size_t size)
{
    if (!c->pooled || !s->proves)
        return s->sql;
    int len = snprintf(room, size, "%s%s%s", s->sql, s->proves, c->proof);
    return len >= 0 && (size_t)len < size ? room : NULL;
}

/* What is left in a session can be cleaned away later only where that is the connection's own. */
static void note_leavings(struct pqi_conn *c, const struct pqi_stmt *s)
{
    c->tainted |= s->taints; /* also if it fails: not everything is undone by that */
    c->leaves |= s->leaves && !c->pooled;
    c->deferred |= s->defers && !c->pooled;
}

static bool send_statement(struct pqi_conn *c, struct pqi_job *job, int i)
{
    const struct pqi_stmt *s = &job->stmts[i];
    const struct pqi_params *p = s->params;
    int n = p ? p->n : 0;
    const char *const *values = p ? p->values : NULL;
    const int *lengths = p ? p->lengths : NULL, *formats = p ? p->formats : NULL;
    uint32_t name = 0;
    char text[16], room[2048];
    const char *sql = text_of(c, s, room, sizeof room);
    int sent;
    job->given |= s->alone;
    note_leavings(c, s);
    /* One that met a prepared statement that is gone goes without, so as not to meet another. */
    if (s->prepare && !job->repaired && may_prepare(c) && !prepare(c, s, job, i, &name))
        return false;
    if (!sql)
        return false;
    if (name != 0) {
        prepared_name(text, name);
        sent = PQsendQueryPrepared(c->pg, text, n, values, lengths, formats, s->binary);
    } else {
        sent = PQsendQueryParams(c->pg, sql, n, p ? p->types : NULL, values, lengths, formats,
                                 s->binary);
    }
    if (!sent)
        return false;
    push(c, (struct pqi_mark){.kind = PQI_MARK_RUN,
                              .shared = job->shared,
                              .last = job->shared && i == job->n - 1,
                              .index = i,
                              .name = name,
                              .call = job,
                              .id = job->id});
    return !s->flush || PQsendFlushRequest(c->pg) == 1;
}

/* libpq 15 sends at each Sync, one packet each: the server would begin before it has the rest. */
#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
static bool put_sync(struct pqi_conn *c)
{
    return PQsendPipelineSync(c->pg) == 1;
}

static void hold_packets(struct pqi_conn *c, int on)
{
    (void)c;
    (void)on;
}
#else
static bool put_sync(struct pqi_conn *c)
{
    return PQpipelineSync(c->pg) == 1;
}

static void hold_packets(struct pqi_conn *c, int on)
{
    setsockopt(PQsocket(c->pg), IPPROTO_TCP, TCP_CORK, &on, sizeof on); /* else it is no TCP */
}
#endif

static bool send_sync(struct pqi_conn *c, struct pqi_mark mark)
{
    if (mark.call)
        ((struct pqi_job *)mark.call)->given = true;
    if (!put_sync(c))
        return false;
    push(c, mark);
    return true;
}

/* Objects are dropped at once, and channels left at the segment's end. What a deferred trigger makes
 * comes behind all that stands in a segment: so objects are looked for in front, too. */
static bool clean_behind(struct pqi_conn *c)
{
    return clean(c, stop_listening_sql) && clean(c, drop_objects_sql);
}

/* If it fails, what stands behind it runs all the same: only for what has no effect by itself. */
static bool clear_ahead(struct pqi_conn *c)
{
    c->deferred = false;
    return clean_behind(c) && send_sync(c, (struct pqi_mark){.kind = PQI_MARK_SYNC});
}

static void begin_job(struct pqi_conn *c, struct pqi_job *job)
{
    job->id = ++c->ids;
    job->given = job->again = false;
    job->segment = 0;
    job->segment_error = -1;
    c->state = PQI_BUSY;
}

/* Three marks a statement at most (close, parse, run) and its Sync; as many for each of the three
 * that clean; one more to close, and one more Sync. */
static bool make_room(struct pqi_conn *c, int n)
{
    return n < INT32_MAX / 8 && pqi_queue_reserve(&c->queue, ((uint32_t)n + 3) * 4 + 2);
}

static bool make_answers(struct pqi_conn *c, int n)
{
    if (n > c->cap) {
        struct pqi_answer *answers = pqi_mem_resize(c->answers, (size_t)n, sizeof *answers);
        if (!answers)
            return false;
        c->answers = answers;
        c->cap = n;
    }
    memset(c->answers, 0, (size_t)n * sizeof *c->answers);
    c->n = n;
    return true;
}

static void forget_answers(struct pqi_conn *c)
{
    for (int i = 0; i < c->n; i++)
        PQclear(c->answers[i].pg);
    c->n = 0;
}

static int segments(const struct pqi_stmt *stmts, int n)
{
    int syncs = 0;
    for (int i = 0; i < n; i++)
        syncs += stmts[i].sync;
    return syncs;
}

/* Up to its end, or to where it holds. */
static bool send_job(struct pqi_conn *c)
{
    struct pqi_job *job = &c->own;
    const struct pqi_stmt *stmts = job->stmts;
    bool sent = true;
    c->held = false;
    while (c->next < job->n && sent && !c->held) {
        int i = c->next++;
        if (PQserverVersion(c->pg) >= stmts[i].since)
            sent = send_statement(c, job, i);
        c->held = stmts[i].hold;
        if (sent && c->held)
            sent = PQsendFlushRequest(c->pg) == 1;
        if (sent && c->joined && stmts[i].sync) {
            sent = clean_behind(c);
            c->joined = false;
        }
        if (sent && stmts[i].sync)
            sent = send_sync(c, (struct pqi_mark){.kind = PQI_MARK_SYNC,
                                                  .last = i == job->n - 1,
                                                  .index = i,
                                                  .call = job,
                                                  .id = job->id});
    }
    return sent;
}

static void give_job(struct pqi_conn *c)
{
    bool several = segments(c->own.stmts, c->own.n) > 1;
    if (several)
        hold_packets(c, 1);
    if (send_job(c))
        flush(c);
    else
        lost(c);
    if (several && c->state != PQI_DEAD)
        hold_packets(c, 0);
}

void pqi_conn_go_on(struct pqi_conn *c)
{
    c->state = PQI_BUSY;
    c->moved_ns = pqi_now_ns();
    give_job(c);
}

void pqi_conn_send(struct pqi_conn *c, const struct pqi_stmt *stmts, int n)
{
    forget_answers(c);
    c->warned = c->alone = c->cleans = c->uncleaned = false;
    c->own.given = false;
    if (!make_answers(c, n) || !make_room(c, n)) {
        c->n = 0;
        die(c, PQI_TROUBLE_NOMEM, "no memory for answers");
        return;
    }
    c->own = (struct pqi_job){.stmts = stmts, .n = n, .answers = c->answers};
    c->moved_ns = pqi_now_ns();
    begin_job(c, &c->own);
    c->next = 0;
    bool joins = n > 0 && stmts[0].joins, clears = n > 0 && stmts[0].clears && c->deferred;
    c->sweeps = c->pooled && n > 0 && stmts[0].sweeps;
    c->joined = joins || c->sweeps;
    if ((!joins || clean(c, drop_objects_sql)) && (!clears || clear_ahead(c)))
        give_job(c);
    else
        lost(c);
}

void pqi_conn_clear(struct pqi_conn *c)
{
    pqi_conn_send(c, NULL, 0);
    c->leaves = c->deferred = c->slow = false;
    c->cleans = true;
    if (c->state != PQI_BUSY)
        return;
    if (clean_behind(c) && send_sync(c, (struct pqi_mark){.kind = PQI_MARK_SYNC}))
        flush(c);
    else
        lost(c);
}

bool pqi_conn_put(struct pqi_conn *c, struct pqi_job *job, bool flush_before)
{
    if (c->state == PQI_DEAD)
        return false;
    if (!make_room(c, job->n)) {
        die(c, PQI_TROUBLE_NOMEM, "no memory for a lane's queue");
        return false;
    }
    if (pqi_queue_empty(&c->queue))
        c->moved_ns = pqi_now_ns();
    job->shared = true;
    begin_job(c, job);
    bool sent = !flush_before || PQsendFlushRequest(c->pg) == 1;
    if (c->nunclosed > 0 && sent)
        sent = close_prepared(c, c->unclosed[--c->nunclosed]);
    for (int i = 0; i < job->n && sent; i++)
        sent = send_statement(c, job, i);
    if (!sent) {
        pqi_queue_abandon(&c->queue, job);
        lost(c);
    }
    return sent;
}

void pqi_conn_sync(struct pqi_conn *c)
{
    if (c->state != PQI_BUSY)
        return;
    if (send_sync(c, (struct pqi_mark){.kind = PQI_MARK_SYNC, .shared = true}))
        flush(c);
    else
        lost(c);
}

void pqi_conn_abandon(struct pqi_conn *c, struct pqi_job *job)
{
    pqi_queue_abandon(&c->queue, job);
    pqi_job_reset(job);
}

struct pqi_job *pqi_conn_lost(struct pqi_conn *c)
{
    return pqi_queue_lost(&c->queue);
}

void pqi_job_reset(struct pqi_job *job)
{
    for (int i = 0; i < job->n; i++)
        PQclear(job->answers[i].pg);
    memset(job->answers, 0, (size_t)job->n * sizeof *job->answers);
}

/* ---- Reading -------------------------------------------------------------------------------- */

static bool comes_from(const PGresult *res, const char *sqlstate, const char *function)
{
    const char *from = PQresultErrorField(res, PG_DIAG_SOURCE_FUNCTION);
    return strcmp(sqlstate_of(res), sqlstate) == 0 && from && strcmp(from, function) == 0;
}

/* Our prepared statement is gone, or its plan fits its tables no more: told by the code and by
 * the place in the server's source, which no language changes. What has a context was told from
 * within a function or procedure: of a statement of its own, or because it chose that code. */
static bool stale(const PGresult *res)
{
    return !PQresultErrorField(res, PG_DIAG_CONTEXT) &&
           (comes_from(res, "26000", "FetchPreparedStatement") ||
            comes_from(res, "0A000", "RevalidateCachedQuery"));
}

/* With too many of them the connection is replaced. */
static void keep_unclosed(struct pqi_conn *c, uint32_t name)
{
    if (c->nunclosed < (int)(sizeof c->unclosed / sizeof *c->unclosed))
        c->unclosed[c->nunclosed++] = name;
    else
        c->tainted = true;
}

/* Where the segment is the caller's alone, it is the caller that repeats it, as a whole. */
static bool repair(struct pqi_conn *c, const struct pqi_mark *m, const PGresult *res)
{
    if (!m || m->kind != PQI_MARK_RUN || m->name == 0 || !stale(res))
        return false;
    if (strcmp(sqlstate_of(res), "26000") != 0)
        keep_unclosed(c, m->name);
    pqi_prepared_forget(&c->prepared, m->name);
    struct pqi_job *job = m->call;
    if (!job)
        return false;
    bool first = m->shared && !job->repaired;
    job->stale = !m->shared;
    job->repaired |= first;
    return first;
}

static enum pqi_event event_of(struct pqi_conn *c, const PGresult *res)
{
    switch (res ? PQresultStatus(res) : PGRES_EMPTY_QUERY) {
    case PGRES_PIPELINE_SYNC:
        return PQI_EVENT_SYNC;
    case PGRES_PIPELINE_ABORTED:
        return PQI_EVENT_SKIPPED;
    case PGRES_FATAL_ERROR:
        return repair(c, pqi_queue_head(&c->queue), res) ? PQI_EVENT_STALE : PQI_EVENT_ERROR;
    default:
        return res ? PQI_EVENT_RESULT : PQI_EVENT_NULL;
    }
}

static bool expected(const PGresult *res)
{
    switch (PQresultStatus(res)) {
    case PGRES_PIPELINE_SYNC:
    case PGRES_PIPELINE_ABORTED:
    case PGRES_FATAL_ERROR:
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        return true;
    default:
        return false;
    }
}

/* What was to be prepared or closed was skipped with the rest of its segment, or failed. */
static void keep_books(struct pqi_conn *c, const struct pqi_mark *m, enum pqi_event event)
{
    if (event != PQI_EVENT_SKIPPED && event != PQI_EVENT_ERROR)
        return;
    if (m->kind == PQI_MARK_PARSE)
        pqi_prepared_forget(&c->prepared, m->name);
    else if (m->kind == PQI_MARK_CLOSE && event == PQI_EVENT_SKIPPED)
        keep_unclosed(c, m->name);
}

static void keep_answer(struct pqi_conn *c, struct pqi_job *job, const struct pqi_turn *t,
                        enum pqi_event event, PGresult *res)
{
    struct pqi_answer *a = &job->answers[t->mark.index];
    if (t->take == PQI_TAKE_SKIPPED) {
        if (a->state == PQI_UNANSWERED) /* else its Parse has failed, and that is its answer */
            a->state = PQI_ANSWER_SKIPPED;
        PQclear(res);
        return;
    }
    c->tainted |= PQresultMemorySize(res) > HUGE_BYTES;
    PQclear(a->pg);
    a->pg = res;
    a->state = event == PQI_EVENT_RESULT ? PQI_ANSWER_OK : PQI_ANSWER_ERROR;
    if (event != PQI_EVENT_RESULT)
        job->segment_error = t->mark.index;
}

static void end_segment(struct pqi_job *job, const struct pqi_turn *t)
{
    for (int i = job->segment; i <= t->mark.index; i++)
        job->answers[i].acknowledged = t->clean;
    job->segment = t->mark.index + 1;
    job->segment_error = -1;
}

static void end_job(struct pqi_conn *c, struct pqi_job *job, enum pqi_end end)
{
    job->again = end == PQI_END_AGAIN;
    if (job != &c->own) {
        pqi_list_init(&job->link);
        pqi_list_append(&c->ended, &job->link);
    }
}

/* Skipped with a statement of the caller's that failed it is not needed: that was undone. A Sync that
 * is nobody's ends a segment that cleans and does nothing else. */
static bool not_cleaned(const struct pqi_conn *c, const struct pqi_turn *t, enum pqi_event event)
{
    if (t->mark.kind != PQI_MARK_CLEAN)
        return t->synced && !t->clean && !t->mark.call && !t->mark.shared;
    return event == PQI_EVENT_ERROR || (event == PQI_EVENT_SKIPPED && c->own.segment_error < 0);
}

static void note_unclean(struct pqi_conn *c, const PGresult *res)
{
    const char *text = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    c->tainted = true;
    c->uncleaned = !c->sweeps;
    if (!text)
        return;
    scrubbed(c, c->unclean, sizeof c->unclean, text);
    snprintf(c->unclean_sqlstate, sizeof c->unclean_sqlstate, "%s", sqlstate_of(res));
}

static void take(struct pqi_conn *c, enum pqi_event event, PGresult *res)
{
    struct pqi_turn t = pqi_queue_take(&c->queue, event);
    struct pqi_job *job = t.mark.call;
    if (!t.broken && job && job->id != t.mark.id)
        t.broken = "an answer's number is not that of its call";
    if (t.broken) {
        PQclear(res);
        die(c, PQI_TROUBLE_PROTOCOL, t.broken);
        return;
    }
    keep_books(c, &t.mark, event);
    if (not_cleaned(c, &t, event))
        note_unclean(c, res);
    if (t.take != PQI_TAKE_NOTHING)
        keep_answer(c, job, &t, event, res);
    else
        PQclear(res);
    if (t.synced && job)
        end_segment(job, &t);
    if (t.end != PQI_END_NONE)
        end_job(c, job, t.end);
    if (pqi_queue_empty(&c->queue))
        c->state = PQI_IDLE;
}

/* libpq's own words, or the server's last: the link is at its end. */
static bool last_word(const PGresult *res)
{
    return PQresultStatus(res) == PGRES_FATAL_ERROR &&
           (sqlstate_of(res)[0] == '\0' || severity_of(res) >= PQI_SEV_FATAL);
}

static void take_result(struct pqi_conn *c, PGresult *res)
{
    if (res && last_word(res)) {
        if (severity_of(res) >= PQI_SEV_FATAL)
            note_last_word(c, res);
        PQclear(res);
        lost(c);
    } else if (res && !expected(res)) {
        PQclear(res);
        die(c, PQI_TROUBLE_PROTOCOL, "a result of a kind that was not asked for");
    } else {
        take(c, event_of(c, res), res);
    }
}

/* Of a link that has ended libpq answers NULL for ever, where a result or a Sync was due. */
static bool run_dry(const struct pqi_conn *c, int nulls)
{
    return nulls > 2 || (pqi_queue_head(&c->queue)->kind != PQI_MARK_SYNC && !c->queue.answered);
}

static void take_sync_behind_end(struct pqi_conn *c)
{
    if (c->behind_end == PQI_BEHIND_SYNC && pqi_queue_head(&c->queue)->kind == PQI_MARK_SYNC)
        take(c, PQI_EVENT_SYNC, NULL);
}

/* A function has made the session listen: what comes is nobody's. */
static void forget_notifications(struct pqi_conn *c)
{
    for (PGnotify *n; (n = PQnotifies(c->pg));)
        PQfreemem(n);
}

/* libpq passes over a Sync that it has no memory for, and is busy for ever. That it lacked memory it
 * says; what a server says is a bare code here. */
static bool starved(const struct pqi_conn *c)
{
    const char *text = PQerrorMessage(c->pg);
    return text[0] != '\0' && lacking(text);
}

static void busy_step(struct pqi_conn *c, short revents)
{
    /* What came before the end is in libpq's hands, and counts. */
    c->cut = revents & (POLLIN | POLLERR | POLLHUP) && !PQconsumeInput(c->pg);
    forget_notifications(c);
    int64_t now = c->stepped_ns = pqi_now_ns();
    /* Two NULLs in a row stand for nothing: libpq has lost count, or we have. */
    for (int nulls = 0; c->state == PQI_BUSY && !PQisBusy(c->pg);) {
        PGresult *res = PQgetResult(c->pg);
        if (res)
            c->moved_ns = now;
        nulls = res ? 0 : nulls + 1;
        if (c->cut && !res && run_dry(c, nulls))
            break;
        if (nulls > 2)
            die(c, PQI_TROUBLE_PROTOCOL, "no result where one was due");
        else
            take_result(c, res);
    }
    if (c->cut && c->state == PQI_BUSY)
        take_sync_behind_end(c);
    if ((c->cut && c->state != PQI_DEAD) || (c->state == PQI_BUSY && starved(c)))
        lost(c);
    else if (c->state == PQI_BUSY && (revents & POLLOUT || c->events & POLLOUT))
        flush(c);
}

void pqi_conn_step(struct pqi_conn *c, short revents)
{
    if (c->state == PQI_RESOLVING) {
        resolve_step(c);
    } else if (c->state == PQI_CONNECTING && revents) {
        connect_step(c);
        c->stepped_ns = pqi_now_ns();
    } else if (c->state == PQI_BUSY) {
        busy_step(c, revents);
    }
    try_others(c);
}

bool pqi_conn_may_go_on(const struct pqi_conn *c)
{
    struct pollfd p = {.fd = pqi_conn_fd(c), .events = c->events};
    return p.fd >= 0 && poll(&p, 1, 0) > 0;
}

bool pqi_conn_pass_on(struct pqi_conn *c)
{
    bool connects = c->state == PQI_CONNECTING && PQstatus(c->pg) != CONNECTION_STARTED;
    if (!connects && !(c->state == PQI_BUSY && !c->ready))
        return false;
    c->give_up_ns = PQI_FOREVER;
    give_time(c, 1);
    return true;
}

void pqi_conn_late(struct pqi_conn *c)
{
    char text[160];
    int64_t ms = (c->connect_until_ns - c->dialed_ns) / PQI_MS;
    const char *address = c->pg && c->state == PQI_CONNECTING ? PQhostaddr(c->pg) : NULL;
    if (c->state == PQI_RESOLVING)
        snprintf(text, sizeof text, "its name was not resolved in %" PRId64 " ms", ms);
    else
        snprintf(text, sizeof text, "no connection%s%s in %" PRId64 " ms", address ? " to " : "",
                 address ? address : "", ms);
    pqi_conn_fail(c, PQI_TROUBLE_TIMEOUT, text);
    try_others(c);
}

int pqi_conn_fd(const struct pqi_conn *c)
{
    return c->state == PQI_RESOLVING ? c->lookup_fd : PQsocket(c->pg);
}

short pqi_conn_events(const struct pqi_conn *c)
{
    return c->events;
}

bool pqi_conn_spoke(const struct pqi_conn *c)
{
    struct pollfd p = {.fd = PQsocket(c->pg), .events = POLLIN};
    int n;
    do
        n = poll(&p, 1, 0);
    while (n < 0 && errno == EINTR);
    return n != 0;
}

bool pqi_conn_stale(const struct pqi_conn *c)
{
    bool said = c->state == PQI_IDLE && pqi_conn_spoke(c);
    return said || PQstatus(c->pg) != CONNECTION_OK;
}

struct pg_result *pqi_conn_take(struct pqi_conn *c, int i)
{
    PGresult *res = c->answers[i].pg;
    c->answers[i].pg = NULL;
    return res;
}

void pqi_answer_clear(struct pqi_answer *a)
{
    PQclear(a->pg);
    *a = (struct pqi_answer){0};
}

const char *pqi_answer_sqlstate(const struct pqi_answer *a)
{
    return sqlstate_of(a->pg);
}

bool pqi_answer_inside(const struct pqi_answer *a)
{
    return PQresultErrorField(a->pg, PG_DIAG_CONTEXT) != NULL;
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

int pqi_conn_server_version(const struct pqi_conn *c)
{
    return PQserverVersion(c->pg);
}

bool pqi_conn_reads_only(const struct pqi_conn *c)
{
    const char *on = PQparameterStatus(c->pg, "default_transaction_read_only");
    return on && strcmp(on, "on") == 0;
}

bool pqi_conn_clean(const struct pqi_conn *c)
{
    return c->state == PQI_IDLE && c->ready && !c->tainted && !c->held &&
           PQstatus(c->pg) == CONNECTION_OK && pqi_conn_block(c) == PQI_BLOCK_NONE;
}

struct pg_conn *pqi_conn_lend(struct pqi_conn *c)
{
    if (!PQexitPipelineMode(c->pg) || PQsetnonblocking(c->pg, 0) != 0)
        return NULL;
    forget_notifications(c);
    PQsetErrorVerbosity(c->pg, PQERRORS_DEFAULT);
    return c->pg;
}

/* ---- The end -------------------------------------------------------------------------------- */

static void free_conn(struct pqi_conn *c)
{
    forget_answers(c);
    close_lookup_fd(c);
    PQfinish(c->pg);
    pqi_lookup_unref(c->lookup);
    pqi_mem_free(c->answers);
    pqi_queue_free(&c->queue);
    pqi_prepared_free(&c->prepared);
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
