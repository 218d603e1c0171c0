/* libmicrohttpd with a thread for each connection: a handler waits for databases, and for its
 * turn to hash a password, and nobody else waits with it. */
#include "http.h"

#include "routes.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS = 1000, /* one more is closed at once: many less are overload to the databases */
    IDLE_S = 30,
    UNREAD_MAX = 4 * 1024 * 1024, /* of a body that is too long: beyond it, hang up */
    SETTLE_MS = 200,              /* for what is on its way in when the server stops */
    STOP_MAX_MS = 60000,          /* after it, a client that does not read its answer is left */
    TICK_MS = 5,
};

struct http {
    struct MHD_Daemon *daemon;
    struct app *app;
    atomic_ulong accepted, answered, over; /* over: answered, or the client went away */
};

/* One request, from its head to the last byte of its answer. */
struct exchange {
    char *body;
    size_t received;
    bool accepted;
};

/* ---- Replies -------------------------------------------------------------------------------- */

/* What goes wrong is told to the client in one word; the log has the whole of it. */
static void note_failure(const struct request *r, int code, struct status status)
{
    if (status.http >= 500)
        fprintf(stderr, "notes: %s %s: %d: %s %s\n", r->method, r->path, status.http,
                code < 0 ? pqr_code_name(code) : status.word, code < 0 ? r->err.message : "");
}

static void reply_error(struct request *r, int code, struct reply *reply)
{
    struct status status = status_of(code, &r->err);
    const char *field = r->field ? r->field : code < 0 ? status_field(&r->err) : NULL;
    json_decref(reply->body);
    reply->body = json_pack("{s:s, s:s*}", "error", status.word, "field", field);
    reply->http = status.http;
    if (code != UNAUTHORIZED) /* who was asked would tell whether there is such an account */
        snprintf(reply->served_by, sizeof reply->served_by, "%s", r->err.node);
    note_failure(r, code, status);
}

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (*value)
        MHD_add_response_header(response, name, value);
}

static void add_headers(struct MHD_Response *response, const struct reply *reply, bool stopping)
{
    add_header(response, "Content-Type", reply->http == 204 ? "" : "application/json");
    add_header(response, "Cache-Control", "no-store");
    add_header(response, "X-Served-By", *reply->served_by ? reply->served_by : "none");
    add_header(response, "Location", reply->location);
    add_header(response, "Allow", reply->http == 405 ? reply->allow : "");
    add_header(response, "Retry-After", reply->http == 503 ? "1" : "");
    add_header(response, "WWW-Authenticate", reply->http == 401 ? "Bearer" : "");
    add_header(response, "Connection", stopping ? "close" : "");
}

static enum MHD_Result send_reply(struct http *h, struct MHD_Connection *c, struct reply *reply)
{
    char *text = reply->http == 204 ? strdup("") : json_dumps(reply->body, JSON_COMPACT);
    struct MHD_Response *response = NULL;
    enum MHD_Result queued = MHD_NO; /* closes the connection */
    if (text)
        response = MHD_create_response_from_buffer_with_free_callback(strlen(text), text, free);
    if (response) {
        add_headers(response, reply, atomic_load(&h->app->stopping));
        queued = MHD_queue_response(c, (unsigned)reply->http, response);
        MHD_destroy_response(response);
    } else {
        free(text);
    }
    json_decref(reply->body);
    return queued;
}

/* ---- Requests ------------------------------------------------------------------------------- */

static enum MHD_Result receive(struct exchange *x, const char *data, size_t *size)
{
    if (x->received + *size <= BODY_MAX) {
        char *body = realloc(x->body, x->received + *size);
        if (!body)
            return MHD_NO;
        memcpy(body + x->received, data, *size);
        x->body = body;
    }
    /* What is too long is read nevertheless, so that the client gets as far as the answer. */
    x->received += *size;
    *size = 0;
    return x->received <= UNREAD_MAX ? MHD_YES : MHD_NO;
}

static enum MHD_Result answer(struct http *h, struct MHD_Connection *c, const char *path,
                              const char *method, const struct exchange *x)
{
    struct request r = {.app = h->app,
                        .http = c,
                        .method = method,
                        .path = path,
                        .body = x->body,
                        .body_len = x->received};
    struct reply reply = {0};
    int code = x->received <= BODY_MAX ? serve(&r, &reply) : TOO_LARGE;
    if (code != PQR_OK)
        reply_error(&r, code, &reply);
    return send_reply(h, c, &reply);
}

/* libmicrohttpd calls this when the head has come, with each piece of the body, and at its end. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **state)
{
    struct http *h = arg;
    struct exchange *x = *state;
    (void)version;
    if (!x) {
        *state = calloc(1, sizeof *x);
        return *state ? MHD_YES : MHD_NO;
    }
    if (*size > 0)
        return receive(x, data, size);
    x->accepted = true;
    atomic_fetch_add(&h->accepted, 1);
    return answer(h, c, path, method, x);
}

/* The last byte of the answer was sent, or the client has gone. */
static void on_completed(void *arg, struct MHD_Connection *c, void **state,
                         enum MHD_RequestTerminationCode how)
{
    struct http *h = arg;
    struct exchange *x = *state;
    (void)c;
    if (!x)
        return;
    if (x->accepted && how == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        atomic_fetch_add(&h->answered, 1);
    if (x->accepted)
        atomic_fetch_add(&h->over, 1);
    free(x->body);
    free(x);
    *state = NULL;
}

/* ---- Beginning and end ---------------------------------------------------------------------- */

struct http *http_start(struct app *app, const struct sockaddr_in *address)
{
    struct http *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->app = app;
    h->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
                                     MHD_USE_POLL | MHD_USE_ITC,
                                 0, NULL, NULL, on_request, h, MHD_OPTION_SOCK_ADDR, address,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_END);
    if (!h->daemon) {
        free(h);
        return NULL;
    }
    return h;
}

unsigned http_port(const struct http *h)
{
    return MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

/* Closing a listening socket resets the connections that it has and nobody has accepted yet, so
 * first there must be none. A filter that drops what would begin a connection sees to that: whoever
 * comes now is not let in, and tries again, elsewhere or in a second. */
static void refuse_connections(int listener)
{
    struct sock_filter drop_syn[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),             /* the flags of TCP: */
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, TH_SYN, 0, 1), /* is SYN among them? */
        BPF_STMT(BPF_RET | BPF_K, 0),                       /* then nothing of it is taken, */
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),              /* else all */
    };
    struct sock_fprog program = {.len = 4, .filter = drop_syn};
    if (setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
        perror("notes: connections that come just now may be reset");
}

/* Connections that the kernel has and libmicrohttpd not yet. */
static bool backlog_empty(int listener)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    return getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_unacked == 0;
}

static bool idle(struct http *h)
{
    return atomic_load(&h->over) == atomic_load(&h->accepted);
}

static bool no_connections(struct http *h)
{
    return MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections ==
           0;
}

static void tick(int64_t *waited_ms)
{
    nanosleep(&(struct timespec){.tv_nsec = TICK_MS * 1000000}, NULL);
    *waited_ms += TICK_MS;
}

struct tally http_stop(struct http *h, int64_t grace_ms)
{
    int listener = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_LISTEN_FD)->listen_fd;
    int64_t waited = 0;
    refuse_connections(listener);
    while (waited < SETTLE_MS || (!backlog_empty(listener) && waited < STOP_MAX_MS))
        tick(&waited);
    if (MHD_quiesce_daemon(h->daemon) == listener)
        close(listener); /* it is ours now */
    /* A client that goes on is told with its next answer that it was the last one. Who says
     * nothing for the grace period is idle. */
    for (waited = 0; waited < SETTLE_MS || (!no_connections(h) && waited < grace_ms);)
        tick(&waited);
    for (waited = 0; !idle(h) && waited < STOP_MAX_MS;)
        tick(&waited);
    MHD_stop_daemon(h->daemon);
    struct tally t = {.accepted = atomic_load(&h->accepted), .answered = atomic_load(&h->answered)};
    free(h);
    return t;
}
