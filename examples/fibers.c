/* 100 fibers on one thread: each reads as if it were alone, and while it waits the others go on.
 * These are ucontext's, with a scheduler around poll; any others (Swoole's, libco's, boost's) have
 * a function that waits for a descriptor, and only `wait_here` is to be written anew. */
#include <pqrouter/pqrouter.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

enum { FIBERS = 100, STACK_BYTES = 128 * 1024 };

struct fiber {
    ucontext_t context;
    int fd;           /* waits until this is readable, */
    int64_t until_ms; /* or for so long */
    bool done;
};

static struct {
    struct fiber fiber[FIBERS], *running;
    ucontext_t thread;
    pqr *db;
    int answers;
} all;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What the router calls instead of blocking the thread. */
static void wait_here(void *arg, int fd, int timeout_ms)
{
    struct fiber *f = all.running;
    (void)arg;
    if (!f) { /* none: the thread may as well wait itself */
        poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, timeout_ms);
        return;
    }
    f->fd = fd;
    f->until_ms = now_ms() + timeout_ms;
    swapcontext(&f->context, &all.thread);
}

/* A fiber: plain code that blocks, as in a thread. */
static void greet(void)
{
    struct fiber *f = all.running;
    pqr_session *s = NULL;
    pqr_result *res = NULL;
    pqr_error err;
    char name[16];
    snprintf(name, sizeof name, "fiber %d", (int)(f - all.fiber));
    if (pqr_session_open(all.db, PQR_SESSION(.tenant = name, .deadline_ms = 10000), &s, &err) ==
            PQR_OK &&
        pqr_read(s, PQR_QUERY(.sql = "select $1", PQR_PARAMS(PQR_TEXT(name))), &res, &err) ==
            PQR_OK)
        all.answers += strcmp(pqr_text(res, 0, 0), name) == 0;
    else
        fprintf(stderr, "%s: %s\n", name, err.message);
    pqr_result_free(res);
    pqr_session_close(s);
    f->done = true;
}

static void start(struct fiber *f, void *stack)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = &all.thread;
    makecontext(&f->context, greet, 0);
    f->fd = -1; /* it waits for nothing: it can go on now */
}

/* Lets every fiber that can go on do so; false: none is left. */
static bool turn(void)
{
    struct pollfd p[FIBERS];
    int64_t now = now_ms(), soonest = INT64_MAX;
    for (int i = 0; i < FIBERS; i++) {
        p[i] = (struct pollfd){.fd = all.fiber[i].done ? -1 : all.fiber[i].fd, .events = POLLIN};
        if (!all.fiber[i].done && all.fiber[i].until_ms < soonest)
            soonest = all.fiber[i].until_ms;
    }
    if (soonest == INT64_MAX)
        return false;
    poll(p, FIBERS, soonest > now ? (int)(soonest - now) : 0);
    for (int i = 0; i < FIBERS; i++) {
        struct fiber *f = &all.fiber[i];
        if (f->done || (p[i].revents == 0 && now_ms() < f->until_ms))
            continue;
        all.running = f;
        swapcontext(&all.thread, &f->context);
        all.running = NULL;
    }
    return true;
}

int main(void)
{
    pqr_error err;
    char *stacks = malloc((size_t)FIBERS * STACK_BYTES);
    if (!stacks || pqr_open(&all.db, NULL, &err) != PQR_OK ||
        pqr_set_wait(all.db, wait_here, NULL, &err) != PQR_OK)
        return fprintf(stderr, "%s\n", stacks ? err.message : "no memory"), 1;
    for (int i = 0; i < FIBERS; i++)
        start(&all.fiber[i], stacks + (size_t)i * STACK_BYTES);
    while (turn())
        ;
    printf("%d fibers, %d answers, one thread\n", FIBERS, all.answers);
    pqr_close(all.db, 1000);
    free(stacks);
    return all.answers != FIBERS;
}
