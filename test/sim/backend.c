/* A session on a model server: messages in, messages out. */
#include "backend.h"

#include "check.h"
#include "net.h"
#include "turns.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_CLIENT (250 * MS) /* client_connection_check_interval */

static void run(struct sim_backend *b);
static void finish_commit(struct sim_backend *b);

/* ---- Texts and messages --------------------------------------------------------------------- */

static void append(struct sim_text *t, const void *bytes, size_t n)
{
    if (t->n + n > t->cap) {
        t->cap = (t->n + n) * 2 + 256;
        t->bytes = realloc(t->bytes, t->cap);
        if (!t->bytes)
            abort();
    }
    if (n > 0)
        memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

static void append_text(struct sim_text *t, const char *text)
{
    append(t, text, strlen(text) + 1);
}

static void append_32(struct sim_text *t, uint32_t value)
{
    value = htonl(value);
    append(t, &value, 4);
}

static void append_16(struct sim_text *t, uint16_t value)
{
    value = htons(value);
    append(t, &value, 2);
}

/* Begins a message; its length is filled in by `close_message`. */
static size_t open_message(struct sim_backend *b, char type)
{
    append(&b->out, &type, 1);
    append_32(&b->out, 0);
    return b->out.n - 4;
}

static void close_message(struct sim_backend *b, size_t at)
{
    uint32_t len = htonl((uint32_t)(b->out.n - at));
    memcpy(b->out.bytes + at, &len, 4);
}

static void say_plain(struct sim_backend *b, char type)
{
    close_message(b, open_message(b, type));
}

static void flush(struct sim_backend *b)
{
    sim_net_send(b->conn, b->out.bytes, b->out.n);
    b->out.n = 0;
}

static void say_trouble(struct sim_backend *b, char type, const char *severity,
                        const char *sqlstate, const char *text)
{
    const struct {
        char field;
        const char *value;
    } fields[] = {{'S', severity}, {'V', severity}, {'C', sqlstate}, {'M', text}};
    size_t at = open_message(b, type);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        append(&b->out, &fields[i].field, 1);
        append_text(&b->out, fields[i].value);
    }
    append(&b->out, "", 1);
    close_message(b, at);
}

static void say_parameter(struct sim_backend *b, const char *name, const char *value)
{
    size_t at = open_message(b, 'S');
    append_text(&b->out, name);
    append_text(&b->out, value);
    close_message(b, at);
}

static void say_ready(struct sim_backend *b)
{
    if (b->reads_only != b->reported)
        say_parameter(b, "default_transaction_read_only", b->reads_only ? "on" : "off");
    b->reported = b->reads_only;
    size_t at = open_message(b, 'Z');
    append(&b->out, &b->block, 1);
    close_message(b, at);
    flush(b);
}

void sim_row(struct sim_backend *b, int n, const char *const *values)
{
    size_t at = open_message(b, 'D');
    append_16(&b->out, (uint16_t)n);
    for (int i = 0; i < n; i++) {
        append_32(&b->out, values[i] ? (uint32_t)strlen(values[i]) : UINT32_MAX);
        if (values[i])
            append(&b->out, values[i], strlen(values[i]));
    }
    close_message(b, at);
}

void sim_done(struct sim_backend *b, const char *tag)
{
    size_t at = open_message(b, 'C');
    append_text(&b->out, tag);
    close_message(b, at);
}

/* ---- The end -------------------------------------------------------------------------------- */

static void end(struct sim_backend *b)
{
    struct sim_backend **at = &b->server->backends;
    b->gone = true;
    b->job++;
    while (*at && *at != b)
        at = &(*at)->next;
    if (*at)
        *at = b->next;
    b->server->nbackends--;
}

static void leave(struct sim_backend *b)
{
    end(b);
    sim_net_end(b->conn);
}

static void say_fatal(struct sim_backend *b, const char *sqlstate, const char *text)
{
    say_trouble(b, 'E', "FATAL", sqlstate, text);
    flush(b);
    leave(b);
}

/* ---- Transactions --------------------------------------------------------------------------- */

static void forget_block(struct sim_backend *b)
{
    b->n = 0;
    b->xid = 0;
    b->rec = NULL;
    b->local_only = b->serializable = b->deferred_fault = false;
    b->listens_at_commit = 0;
    b->unlistens_at_commit = false;
}

/* What it did is undone. */
void sim_abort_block(struct sim_backend *b)
{
    b->temporary = b->was_temporary;
    forget_block(b);
}

void sim_error(struct sim_backend *b, const char *sqlstate, const char *text)
{
    say_trouble(b, 'E', "ERROR", sqlstate, text);
    flush(b);
    sim_abort_block(b);
    if (b->block == 'T')
        b->block = 'E';
    b->skips = true;
}

bool sim_may_write(struct sim_backend *b)
{
    bool only = !b->server->primary || b->local_only || (b->block == 'I' && b->reads_only);
    if (only)
        sim_error(b, "25006", "cannot execute INSERT in a read-only transaction");
    return !only;
}

/* The commit is in the log. */
static void flushed(void *arg, uint64_t job)
{
    struct sim_backend *b = arg;
    if (b->gone || b->job != job)
        return;
    if (b->server->stopped) { /* it goes on where it was */
        sim_at(sim_now() + 5 * MS, flushed, b, job);
        return;
    }
    b->rec = sim_commit(b->server, b->xid, b->append, b->n);
    if (!b->rec->hidden_on)
        finish_commit(b);
}

static void commit(struct sim_backend *b, bool for_sync)
{
    b->for_sync = for_sync;
    if (b->deferred_fault || (b->serializable && b->n > 0 && sim_odds(SIM_SERVERS, 5))) {
        bool fault = b->deferred_fault;
        b->block = 'I';
        sim_error(b, fault ? "23503" : "40001",
                  fault ? "a deferred constraint is violated" : "could not serialize access");
        if (for_sync) {
            b->skips = false;
            say_ready(b);
        }
    } else if (b->n == 0) {
        finish_commit(b);
    } else {
        b->busy = true;
        b->committing = ++b->job;
        sim_at(sim_now() + sim_between(SIM_SERVERS, 20 * US, 2 * MS), flushed, b, b->job);
    }
}

static void finish_commit(struct sim_backend *b)
{
    bool was_busy = b->busy;
    if (b->unlistens_at_commit)
        b->listening = 0;
    if (b->listens_at_commit)
        b->listening = b->listens_at_commit;
    b->was_temporary = b->temporary;
    forget_block(b);
    b->busy = false;
    if (b->for_sync) {
        say_ready(b);
    } else {
        b->block = 'I';
        sim_done(b, "COMMIT");
    }
    if (b->to_end)
        say_fatal(b, "57P01", "terminating connection due to administrator command");
    else if (was_busy)
        run(b);
}

void sim_commit_block(struct sim_backend *b)
{
    commit(b, false);
}

/* ---- Messages of the extended protocol ------------------------------------------------------ */

static struct sim_prepared **find(struct sim_backend *b, const char *name)
{
    struct sim_prepared **p = &b->prepared;
    while (*p && strcmp((*p)->name, name) != 0)
        p = &(*p)->next;
    return p;
}

static void forget_prepared(struct sim_prepared **p)
{
    struct sim_prepared *gone = *p;
    *p = gone->next;
    free(gone->sql);
    free(gone);
}

void sim_deallocate(struct sim_backend *b, const char *name)
{
    struct sim_prepared **p = find(b, name);
    if (!*p)
        sim_error(b, "26000", "prepared statement does not exist");
    else
        forget_prepared(p);
}

static bool refuses(struct sim_backend *b, const struct sim_statement *what)
{
    if (b->block == 'E' && !what->ends_block)
        sim_error(b, "25P02", "current transaction is aborted");
    return b->block == 'E' && !what->ends_block;
}

static void on_parse(struct sim_backend *b, const char *body)
{
    const char *name = body, *sql = name + strlen(name) + 1;
    const struct sim_statement *what = sim_statement_of(sql);
    if (!what) {
        sim_violated("the model does not understand: %s", sql);
        return;
    }
    if (refuses(b, what))
        return;
    struct sim_prepared **p = find(b, name);
    if (*p && *name) {
        sim_error(b, "42P05", "prepared statement already exists");
        return;
    }
    if (*p)
        forget_prepared(p);
    p = find(b, name);
    *p = calloc(1, sizeof **p);
    if (!*p || !((*p)->sql = strdup(sql)))
        abort();
    snprintf((*p)->name, sizeof(*p)->name, "%s", name);
    (*p)->what = what;
    say_plain(b, '1');
}

static uint16_t get_16(const char **at)
{
    uint16_t value;
    memcpy(&value, *at, 2);
    *at += 2;
    return ntohs(value);
}

static uint32_t get_32(const char **at)
{
    uint32_t value;
    memcpy(&value, *at, 4);
    *at += 4;
    return ntohl(value);
}

static void on_bind(struct sim_backend *b, const char *body)
{
    const char *name = body + strlen(body) + 1, *at = name + strlen(name) + 1;
    struct sim_prepared *p = *find(b, name);
    if (!p) {
        sim_error(b, "26000", "prepared statement does not exist");
        return;
    }
    if (refuses(b, p->what))
        return;
    at += 2 * get_16(&at);
    b->nparams = get_16(&at);
    for (int i = 0; i < b->nparams; i++) {
        uint32_t n = get_32(&at);
        size_t keep = n == UINT32_MAX ? 0 : n;
        if (i < SIM_PARAMS_MAX)
            snprintf(b->param[i], sizeof b->param[i], "%.*s", (int)keep, at);
        at += keep;
    }
    b->portal = p;
    say_plain(b, '2');
}

static int count_columns(const struct sim_prepared *p)
{
    int n = 0;
    if (!p->what->columns)
        return 0;
    if (strcmp(p->what->columns, "*") == 0) {
        for (const char *s = p->sql; (s = strstr(s, "set_config(")); s++)
            n++;
        return n;
    }
    n = 1;
    for (const char *s = p->what->columns; *s; s++)
        n += *s == ',';
    return n;
}

static void on_describe(struct sim_backend *b)
{
    int n = b->portal ? count_columns(b->portal) : 0;
    if (n == 0) {
        say_plain(b, 'n');
        return;
    }
    const char *name = b->portal->what->columns;
    size_t at = open_message(b, 'T');
    append_16(&b->out, (uint16_t)n);
    for (int i = 0; i < n; i++) {
        size_t len = strcspn(name, ",");
        append(&b->out, name, len);
        append(&b->out, "", 1);
        append_32(&b->out, 0);
        append_16(&b->out, 0);
        append_32(&b->out, 25); /* text */
        append_16(&b->out, UINT16_MAX);
        append_32(&b->out, UINT32_MAX);
        append_16(&b->out, 0);
        name += name[len] == ',' ? len + 1 : 0;
    }
    close_message(b, at);
}

static void execute(void *arg, uint64_t job)
{
    struct sim_backend *b = arg;
    if (b->gone || b->job != job)
        return;
    if (b->server->stopped) {
        sim_at(sim_now() + 5 * MS, execute, b, job);
        return;
    }
    b->busy = false;
    b->portal->what->run(b);
    if (b->to_end && !b->gone && !b->busy)
        say_fatal(b, "57P01", "terminating connection due to administrator command");
    if (!b->busy)
        run(b);
}

static void on_execute(struct sim_backend *b)
{
    if (sim_traced())
        sim_say("server: %s, connection %d: %.60s", b->server->name, b->conn->number,
                b->portal->sql);
    const struct sim_statement *what = b->portal->what;
    int64_t cost = sim_between(SIM_SERVERS, what->least_us, what->most_us) * US + b->server->slow;
    b->busy = true;
    sim_at(sim_now() + cost, execute, b, ++b->job);
}

static void on_sync(struct sim_backend *b)
{
    bool skipped = b->skips;
    b->skips = false;
    if (skipped || b->block != 'I')
        say_ready(b);
    else
        commit(b, true);
}

/* The first message has no type. */
static void on_startup(struct sim_backend *b)
{
    static const char *const told[][2] = {{"server_version", "15.4"},
                                          {"client_encoding", "UTF8"},
                                          {"integer_datetimes", "on"},
                                          {"standard_conforming_strings", "on"},
                                          {"default_transaction_read_only", "off"}};
    struct sim_server *s = b->server;
    b->begun = true;
    if (s->state != SIM_UP) {
        say_fatal(b, "57P03", "the database system is starting up");
        return;
    }
    if (s->nbackends + s->hogs > s->max_connections) {
        say_fatal(b, "53300", "sorry, too many clients already");
        return;
    }
    size_t at = open_message(b, 'R');
    append_32(&b->out, 0);
    close_message(b, at);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        say_parameter(b, told[i][0], told[i][1]);
    at = open_message(b, 'K');
    append_32(&b->out, (uint32_t)b->conn->number);
    append_32(&b->out, 42);
    close_message(b, at);
    say_ready(b);
}

static void handle(struct sim_backend *b, char type, const char *body)
{
    if (type == 'X') {
        leave(b);
        return;
    }
    if (type == 'S') {
        on_sync(b);
        return;
    }
    if (b->skips)
        return;
    switch (type) {
    case 'P':
        on_parse(b, body);
        break;
    case 'B':
        on_bind(b, body);
        break;
    case 'D':
        on_describe(b);
        break;
    case 'E':
        on_execute(b);
        break;
    case 'H':
        flush(b);
        break;
    default:
        sim_violated("the model does not understand the message '%c'", type);
    }
}

/* Goes on with what has come, as far as it can. */
static void run(struct sim_backend *b)
{
    while (!b->gone && !b->busy && !b->server->stopped) {
        size_t head = b->begun ? 1 : 0;
        if (b->in.n < head + 4)
            break;
        const char *at = b->in.bytes + head;
        uint32_t len = get_32(&at);
        if (b->in.n < head + len)
            break;
        char type = b->in.bytes[0];
        char *body = malloc(len - 3);
        if (!body)
            abort();
        memcpy(body, at, len - 4);
        body[len - 4] = '\0';
        memmove(b->in.bytes, b->in.bytes + head + len, b->in.n - head - len);
        b->in.n -= head + len;
        if (!b->begun)
            on_startup(b);
        else
            handle(b, type, body);
        free(body);
    }
    if (b->eof && !b->gone && !b->busy && !b->server->stopped)
        leave(b);
}

/* ---- From outside --------------------------------------------------------------------------- */

static struct sim_backend *all; /* also those that have ended */

/* What the router may know of. */
static int count_known(const struct sim_server *s)
{
    int n = 0;
    for (const struct sim_backend *b = s->backends; b; b = b->next)
        n += !b->conn->is_cut;
    return n;
}

static void begin(struct sim_conn *c)
{
    struct sim_backend *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    struct sim_server *s = (struct sim_server *)(void *)((char *)c->host -
                                                         offsetof(struct sim_server, host));
    b->server = s;
    b->conn = c;
    b->block = 'I';
    b->next = s->backends;
    b->all = all;
    all = b;
    s->backends = b;
    s->nbackends++;
    c->backend = b;
    if (count_known(s) > sim_fleet.connection_limit)
        sim_violated("%s has %d connections of the router's, and the limit is %d", s->name,
                     count_known(s), sim_fleet.connection_limit);
}

static void input(struct sim_backend *b, const void *bytes, size_t n)
{
    append(&b->in, bytes, n);
    run(b);
}

/* A server that looks whether its client is still there stops what it does; not while it waits for
 * its log or a standby. */
static void notice_eof(void *arg, uint64_t job)
{
    struct sim_backend *b = arg;
    if (b->gone || b->job != job || b->rec || b->n > 0)
        return;
    sim_abort_block(b);
    leave(b);
}

static void eof(struct sim_backend *b)
{
    if (b->gone)
        return;
    b->eof = true;
    if (b->busy)
        sim_at(sim_now() + CHECK_CLIENT, notice_eof, b, b->job);
    run(b);
}

static void look_at_all(struct sim_server *s)
{
    for (struct sim_backend *b = s->backends, *next; b; b = next) {
        next = b->next;
        if (b->rec && !b->rec->hidden_on && !s->stopped)
            finish_commit(b);
        else
            run(b);
    }
}

/* Is its commit on the way into the log? */
static bool commits(const struct sim_backend *b)
{
    return b->busy && b->n > 0 && !b->rec && b->committing == b->job;
}

void sim_backend_terminate(struct sim_backend *b)
{
    sim_say("server: %s: the session of connection %d is terminated", b->server->name,
            b->conn->number);
    if (b->rec) { /* it is committed here, and no more can be said */
        b->rec->hidden_on = NULL;
        say_trouble(b, 'N', "WARNING", "57P01", "canceling the wait for synchronous replication");
        flush(b);
        leave(b);
    } else if (commits(b)) {
        b->to_end = true; /* when it is done */
    } else {
        sim_abort_block(b);
        say_fatal(b, "57P01", "terminating connection due to administrator command");
    }
}

static void end_all(struct sim_server *s, enum sim_end how)
{
    for (struct sim_backend *b = s->backends, *next; b; b = next) {
        next = b->next;
        if (how == SIM_END_TERMINATED && !b->rec && !commits(b)) {
            sim_backend_terminate(b);
            continue;
        }
        if (commits(b) && sim_odds(SIM_SERVERS, 50)) /* it had reached the disk */
            sim_commit(s, b->xid, b->append, b->n);
        if (how == SIM_END_CRASH) {
            say_trouble(b, 'N', "WARNING", "57P02",
                        "terminating connection because of crash of another server process");
            flush(b);
        }
        end(b);
        if (how == SIM_END_VANISH)
            sim_net_vanish(b->conn);
        else
            sim_net_end(b->conn);
    }
}

const struct sim_service sim_backend_service = {begin, input, eof};
const struct sim_sessions sim_backend_sessions = {look_at_all, end_all, sim_check_commit};

void sim_backends_over(void)
{
    for (struct sim_backend *b = all, *next; b; b = next) {
        next = b->all;
        while (b->prepared)
            forget_prepared(&b->prepared);
        free(b->in.bytes);
        free(b->out.bytes);
        free(b);
    }
    all = NULL;
}
