/* libmicrohttpd and pqr_loop, both driven by one epoll.
 *
 * A request whose work has begun is suspended: libmicrohttpd leaves its connection alone until the
 * callback of the last call has queued the reply. While it is suspended nobody reads from its
 * socket, so it is in our epoll, to tell when the client goes away. */
#include "server.h"

#include "../notes/exchange.h"
#include "../notes/listener.h"
#include "work.h"

#include <errno.h>
#include <microhttpd.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS = 1000, /* more wait to be let in */
    IDLE_S = 30,
    SETTLE_MS = 200,     /* for what is on its way in when the server stops */
    STOP_MAX_MS = 60000, /* after it, who is not answered yet is not waited for */
    TICK_MS = 5,         /* how often it is looked at, then, whether it is time to go on */
    EVENTS = 64,
};

struct server {
    struct app *app;
    pqr_loop *loop;
    struct MHD_Daemon *daemon;
    int epoll;
    bool signalled;
    struct tally tally;
    unsigned long over; /* requests: answered, given up, or their connection is broken */
};

/* One request, from its head to the last byte of its answer. */
struct exchange {
    struct server *server;
    struct MHD_Connection *http;
    struct body body;
    struct work work;
    bool accepted, gone;
};

/* ---- Clients that go away ------------------------------------------------------------------- */

static int socket_of(struct exchange *x)
{
    return MHD_get_connection_info(x->http, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

/* Who sends no more is taken to be gone. */
static void watch_client(struct exchange *x)
{
    struct epoll_event event = {.events = EPOLLRDHUP, .data.ptr = x};
    epoll_ctl(x->server->epoll, EPOLL_CTL_ADD, socket_of(x), &event);
}

static void unwatch_client(struct exchange *x)
{
    epoll_ctl(x->server->epoll, EPOLL_CTL_DEL, socket_of(x), NULL);
}

/* Nobody waits for its reply any more, nor for a statement that has not run yet. */
static void client_has_gone(struct exchange *x)
{
    x->gone = true;
    unwatch_client(x);
    work_cancel(&x->work);
}

/* ---- Requests ------------------------------------------------------------------------------- */

static int send_reply(struct exchange *x)
{
    struct work *w = &x->work;
    if (w->code != PQR_OK)
        reply_error(&w->reply, &w->r, w->code);
    return reply_send(&w->reply, x->http, atomic_load(&w->r.app->stopping));
}

/* The work has ended. Where no reply is queued, on_request is called again, and hangs up. */
static void on_over(struct work *w)
{
    struct exchange *x = (struct exchange *)(void *)((char *)w - offsetof(struct exchange, work));
    if (x->gone) {
        json_decref(w->reply.body);
    } else {
        unwatch_client(x);
        send_reply(x);
    }
    MHD_resume_connection(x->http);
}

static int suspend(struct exchange *x)
{
    MHD_suspend_connection(x->http);
    watch_client(x);
    return MHD_YES;
}

/* The request is complete. */
static int begin(struct exchange *x, const char *path, const char *method)
{
    struct server *s = x->server;
    struct work *w = &x->work;
    x->accepted = true;
    s->tally.accepted++;
    *w = (struct work){.loop = s->loop, .over = on_over};
    w->r = (struct request){.app = s->app,
                            .http = x->http,
                            .method = method,
                            .path = path,
                            .body = x->body.bytes,
                            .body_len = x->body.received};
    if (x->body.received > BODY_MAX)
        w->code = TOO_LARGE;
    else if (work_begin(w))
        return suspend(x);
    return send_reply(x);
}

static struct exchange *new_exchange(struct server *s, struct MHD_Connection *c)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (x) {
        x->server = s;
        x->http = c;
    }
    return x;
}

/* libmicrohttpd calls this when the head has come, with each piece of the body, and at its end. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **state)
{
    struct exchange *x = *state;
    (void)version;
    if (!x) {
        *state = new_exchange(arg, c);
        return *state ? MHD_YES : MHD_NO;
    }
    if (*size > 0)
        return body_receive(&x->body, data, size) ? MHD_YES : MHD_NO;
    if (x->accepted) /* and has no reply: hang up */
        return MHD_NO;
    return begin(x, path, method) ? MHD_YES : MHD_NO;
}

static void count(struct tally *t, const struct exchange *x, enum MHD_RequestTerminationCode how)
{
    if (x->gone)
        t->given_up++;
    else if (how == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        t->answered++;
}

/* The last byte of the answer was sent, or the client has gone. */
static void on_completed(void *arg, struct MHD_Connection *c, void **state,
                         enum MHD_RequestTerminationCode how)
{
    struct server *s = arg;
    struct exchange *x = *state;
    (void)c;
    if (!x)
        return;
    if (x->accepted) {
        count(&s->tally, x, how);
        s->over++;
    }
    free(x->body.bytes);
    free(x);
    *state = NULL;
}

/* ---- The loop ------------------------------------------------------------------------------- */

/* How long libmicrohttpd can do without being run; -1: until something happens. */
static int http_patience_ms(struct server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;
    if (MHD_get_timeout(s->daemon, &ms) != MHD_YES)
        return -1;
    return ms < 60000 ? (int)ms : 60000;
}

static void on_event(struct server *s, const struct epoll_event *event)
{
    if (event->data.ptr == &s->signalled)
        s->signalled = true;
    else if (event->data.ptr)
        client_has_gone(event->data.ptr);
}

/* One turn: waits until something happens (at most `most_ms`; -1: however long), and does what can
 * be done. Calls that end queue their replies, so libmicrohttpd is run behind them. Exchanges are
 * freed only there, when no event is left that may point at one. */
static void turn(struct server *s, int most_ms)
{
    struct epoll_event events[EVENTS];
    int ms = http_patience_ms(s);
    if (most_ms >= 0 && (ms < 0 || ms > most_ms))
        ms = most_ms;
    int n = epoll_wait(s->epoll, events, EVENTS, ms);
    for (int i = 0; i < n; i++)
        on_event(s, &events[i]);
    pqr_loop_dispatch(s->loop, 0);
    MHD_run(s->daemon);
}

void server_run(struct server *s)
{
    while (!s->signalled)
        turn(s, -1);
}

/* ---- Beginning and end ---------------------------------------------------------------------- */

static bool add(struct server *s, int fd, void *ptr)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = ptr};
    return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void server_free(struct server *s)
{
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    pqr_loop_close(s->loop);
    if (s->epoll >= 0)
        close(s->epoll);
    free(s);
}

/* Without a thread of its own: it does what there is to do when MHD_run is called. */
static struct MHD_Daemon *http_daemon(struct server *s, const struct sockaddr_in *address)
{
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, s,
                            MHD_OPTION_SOCK_ADDR, address, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_END);
}

static int http_fd(const struct server *s)
{
    return MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

struct server *server_start(struct app *app, const struct sockaddr_in *address, int signals,
                            pqr_error *err)
{
    struct server *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->app = app;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (pqr_loop_open(app->db, &s->loop, err) == PQR_OK)
        s->daemon = http_daemon(s, address);
    if (s->daemon && add(s, signals, &s->signalled) && add(s, pqr_loop_fd(s->loop), NULL) &&
        add(s, http_fd(s), NULL))
        return s;
    int why = errno;
    server_free(s);
    errno = why;
    return NULL;
}

unsigned server_port(const struct server *s)
{
    return MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

static int listener_of(const struct server *s)
{
    return MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_LISTEN_FD)->listen_fd;
}

static bool somebody_comes(const struct server *s)
{
    return !listener_is_empty(listener_of(s));
}

static bool somebody_is_connected(const struct server *s)
{
    return MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections > 0;
}

static bool somebody_waits(const struct server *s)
{
    return s->over < s->tally.accepted;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* Serves on: for `least_ms`, and then as long as there is a reason, up to `most_ms`. */
static void turn_while(struct server *s, bool (*reason)(const struct server *s), int64_t least_ms,
                       int64_t most_ms)
{
    int64_t begun = now_ms();
    for (int64_t ms = 0; ms < least_ms || (reason(s) && ms < most_ms); ms = now_ms() - begun)
        turn(s, TICK_MS);
}

struct tally server_stop(struct server *s, int64_t grace_ms)
{
    int listener = listener_of(s);
    listener_refuse(listener);
    turn_while(s, somebody_comes, SETTLE_MS, STOP_MAX_MS);
    if (MHD_quiesce_daemon(s->daemon) == listener)
        close(listener); /* it is ours now */
    /* A client that goes on is told with its next answer that it was the last one. Who says
     * nothing for the grace period is idle. */
    turn_while(s, somebody_is_connected, SETTLE_MS, grace_ms);
    turn_while(s, somebody_waits, 0, STOP_MAX_MS);
    /* Calls that are in flight even now are cancelled, their replies queued: a connection may not
     * be suspended when the daemon stops. */
    pqr_loop_close(s->loop);
    s->loop = NULL;
    MHD_run(s->daemon);
    MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
    struct tally t = s->tally;
    server_free(s);
    return t;
}
