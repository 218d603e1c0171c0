/* libmicrohttpd with a thread for each connection: a handler waits for databases, and for its
 * turn to hash a password, and nobody else waits with it. */
#include "http.h"

#include "exchange.h"
#include "listener.h"
#include "routes.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS = 1000, /* one more is closed at once: many less are overload to the databases */
    IDLE_S = 30,
    SETTLE_MS = 200,     /* for what is on its way in when the server stops */
    STOP_MAX_MS = 60000, /* after it, a client that does not read its answer is left */
    TICK_MS = 5,
};

struct http {
    struct MHD_Daemon *daemon;
    struct app *app;
    atomic_ulong accepted, answered, over; /* over: answered, or the client went away */
};

/* One request, from its head to the last byte of its answer. */
struct exchange {
    struct body body;
    bool accepted;
};

/* ---- Requests ------------------------------------------------------------------------------- */

static enum MHD_Result answer(struct http *h, struct MHD_Connection *c, const char *path,
                              const char *method, const struct exchange *x)
{
    struct request r = {.app = h->app,
                        .http = c,
                        .method = method,
                        .path = path,
                        .body = x->body.bytes,
                        .body_len = x->body.received};
    struct reply reply = {0};
    int code = x->body.received <= BODY_MAX ? serve(&r, &reply) : TOO_LARGE;
    if (code != PQR_OK)
        reply_error(&reply, &r, code);
    return reply_send(&reply, c, atomic_load(&h->app->stopping)) ? MHD_YES : MHD_NO;
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
        return body_receive(&x->body, data, size) ? MHD_YES : MHD_NO;
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
    free(x->body.bytes);
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
    listener_refuse(listener);
    while (waited < SETTLE_MS || (!listener_is_empty(listener) && waited < STOP_MAX_MS))
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
