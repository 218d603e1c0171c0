/* Fibers for live tests. */
#include "fibers.h"

#include "live.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define PATIENCE_MS 60000
#define PAINT 0x5a /* what a stack is full of before it is used */

struct fiber {
    struct fibers *of;
    void (*run)(void *arg);
    void *arg;
    ucontext_t context;
    ucontext_t *back; /* the thread that runs it */
    char *stack;
    int fd; /* waits for this, */
    int64_t until_ms;
    int inside[2], ninside; /* the descriptors in it, if it is an epoll */
    bool begun, waits, early, done;
    pthread_t thread; /* it ran in last */

    void *tsan; /* what the sanitizers know of it */
    void *fake;
    const void *thread_stack;
    size_t thread_stack_bytes;
};

/* ---- Sanitizers must be told which stack is in use -------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
static void leave_for(void **fake, const void *stack, size_t bytes)
{
    __sanitizer_start_switch_fiber(fake, stack, bytes);
}
static void arrive(void *fake, const void **from, size_t *bytes)
{
    __sanitizer_finish_switch_fiber(fake, from, bytes);
}
static void forget(const void *stack, size_t bytes)
{
    __asan_unpoison_memory_region(stack, bytes); /* frames that were never left */
}
#else
static void leave_for(void **fake, const void *stack, size_t bytes)
{
    (void)fake, (void)stack, (void)bytes;
}
static void arrive(void *fake, const void **from, size_t *bytes)
{
    (void)fake, (void)from, (void)bytes;
}
static void forget(const void *stack, size_t bytes)
{
    (void)stack, (void)bytes;
}
#endif

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define tsan_new() __tsan_create_fiber(0)
#define tsan_free(fiber) __tsan_destroy_fiber(fiber)
#define tsan_here() __tsan_get_current_fiber()
#define tsan_to(fiber) __tsan_switch_to_fiber((fiber), 0)
#else
#define tsan_new() NULL
#define tsan_free(fiber) (void)(fiber)
#define tsan_here() NULL
#define tsan_to(fiber) (void)(fiber)
#endif

/* ---- Switching -------------------------------------------------------------------------------- */

static _Thread_local struct fiber *running; /* read by who is about to leave, never by who comes */
static _Thread_local void *tsan_of_thread;

/* Back to the thread; for the last time if it is done. */
static void leave(struct fiber *me)
{
    leave_for(me->done ? NULL : &me->fake, me->thread_stack, me->thread_stack_bytes);
    tsan_to(tsan_of_thread);
    swapcontext(&me->context, me->back);
    arrive(me->fake, &me->thread_stack, &me->thread_stack_bytes);
}

static void begin(unsigned high, unsigned low)
{
    struct fiber *me = (struct fiber *)(((uintptr_t)high << 32) | low); /* ints are what it takes */
    arrive(NULL, &me->thread_stack, &me->thread_stack_bytes);
    me->run(me->arg);
    me->done = true;
    leave(me);
}

static void resume(struct fiber *f)
{
    ucontext_t here = {0};
    void *fake = NULL;
    f->of->moves += f->begun && !pthread_equal(f->thread, pthread_self());
    f->begun = true;
    f->thread = pthread_self();
    f->back = &here;
    f->waits = false;
    running = f;
    tsan_of_thread = tsan_here();
    leave_for(&fake, f->stack, FIBER_STACK_BYTES);
    tsan_to(f->tsan);
    swapcontext(&here, &f->context);
    arrive(fake, NULL, NULL);
    running = NULL;
}

/* ---- Waiting ---------------------------------------------------------------------------------- */

static bool is_kind(int fd, const char *kind)
{
    char path[64], what[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, what, sizeof what - 1);
    what[n > 0 ? n : 0] = '\0';
    return strstr(what, kind) != NULL;
}

/* What is in an epoll. */
static void look_inside(struct fiber *me, int epoll)
{
    char path[64], line[256];
    me->ninside = 0;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", epoll);
    FILE *info = fopen(path, "r");
    while (info && fgets(line, sizeof line, info) && me->ninside < 2)
        me->ninside += sscanf(line, "tfd: %d", &me->inside[me->ninside]) == 1;
    if (info)
        fclose(info);
}

static bool has_inside(const struct fiber *one, int fd)
{
    return one->waits && ((one->ninside > 0 && one->inside[0] == fd) ||
                          (one->ninside > 1 && one->inside[1] == fd));
}

/* In how many others' epolls is something of it, too? */
static int doubled(const struct fiber *me)
{
    int most = 0;
    for (int j = 0; j < me->ninside; j++) {
        int others = 0;
        for (int i = 0; i < me->of->n; i++)
            others += me->of->fiber[i] != me && has_inside(me->of->fiber[i], me->inside[j]);
        most = others > most ? others : most;
    }
    return most;
}

/* Its wait begins (or ends); for the record. */
static void note(struct fibers *f, int fd, int by)
{
    bool flag = fd >= 0 && is_kind(fd, "eventfd");
    f->waiting += by;
    f->on_flags += flag ? by : 0;
    if (f->waiting > f->most_waiting)
        f->most_waiting = f->waiting;
    if (f->on_flags > f->most_on_flags)
        f->most_on_flags = f->on_flags;
    if (by < 0)
        return;
    f->waits++;
    f->flags += flag;
    f->no_fds += fd < 0;
    f->epolls += fd >= 0 && is_kind(fd, "eventpoll");
}

static void note_time(struct fibers *f, int ms)
{
    f->least_ms = ms < f->least_ms ? ms : f->least_ms;
    f->most_ms = ms > f->most_ms ? ms : f->most_ms;
}

static bool waited_for_by_another(struct fibers *f, int fd)
{
    bool shared = false;
    for (int i = 0; i < f->n && fd >= 0; i++)
        shared |= f->fiber[i]->waits && f->fiber[i]->fd == fd;
    return shared;
}

static void wait_in(struct fiber *me, int fd, int ms)
{
    struct fibers *f = me->of;
    me->fd = fd;
    me->until_ms = live_now_ms() + ms;
    me->early = f->early > 0 && f->waits % f->early == 0;
    me->waits = true;
    leave(me);
}

void fibers_wait(void *arg, int fd, int timeout_ms)
{
    struct fibers *f = arg;
    struct fiber *me = running;
    if (!me || me->of != f) {
        pthread_mutex_lock(&f->lock);
        f->outside++;
        pthread_mutex_unlock(&f->lock);
        poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, timeout_ms);
        return;
    }
    if (waited_for_by_another(f, fd))
        fibers_fault(f, "descriptor %d is waited for by two fibers at once", fd);
    note_time(f, timeout_ms);
    note(f, fd, 1);
    look_inside(me, fd);
    int others = doubled(me);
    f->doubled = others > f->doubled ? others : f->doubled;
    f->empty += fd >= 0 && is_kind(fd, "eventpoll") && me->ninside == 0;
    wait_in(me, fd, timeout_ms);
    note(f, fd, -1);
}

void fiber_sleep(struct fibers *f, int ms)
{
    (void)f;
    running->ninside = 0;
    wait_in(running, -1, ms);
}

/* ---- Running ---------------------------------------------------------------------------------- */

static size_t used(const struct fiber *f)
{
    size_t untouched = 0;
    while (untouched < FIBER_STACK_BYTES && f->stack[untouched] == PAINT)
        untouched++;
    return FIBER_STACK_BYTES - untouched;
}

static void end(struct fibers *f, struct fiber *one)
{
    forget(one->stack, FIBER_STACK_BYTES);
    size_t depth = used(one);
    f->deepest = depth > f->deepest ? depth : f->deepest;
    f->left--;
    tsan_free(one->tsan);
    munmap(one->stack, FIBER_STACK_BYTES);
    one->stack = NULL;
}

/* Everybody who can go on does so; false: nobody is left. */
static bool turn(struct fibers *f)
{
    struct pollfd p[FIBERS_MAX];
    int64_t now = live_now_ms(), soonest = now + 1000;
    int n = f->n;
    for (int i = 0; i < n; i++) {
        const struct fiber *one = f->fiber[i];
        bool waits = !one->done && one->waits;
        p[i] = (struct pollfd){.fd = waits ? one->fd : -1, .events = POLLIN};
        int64_t at = one->done ? INT64_MAX : !waits || one->early ? now : one->until_ms;
        soonest = at < soonest ? at : soonest;
    }
    poll(p, (nfds_t)n, soonest > now ? (int)(soonest - now) : 0);
    now = live_now_ms();
    for (int i = 0; i < n; i++) {
        struct fiber *one = f->fiber[i];
        if (one->done || (one->waits && !one->early && p[i].revents == 0 && now < one->until_ms))
            continue;
        resume(one);
        if (one->done)
            end(f, one);
    }
    return f->left > 0;
}

static void *run(void *arg)
{
    struct fibers *f = arg;
    int64_t until = live_now_ms() + PATIENCE_MS;
    for (bool more = true; more;) {
        pthread_mutex_lock(&f->lock);
        more = f->left > 0 && turn(f);
        if (more && live_now_ms() > until) {
            if (f->fault[0] == '\0')
                snprintf(f->fault, sizeof f->fault, "%d fibers have not ended", f->left);
            more = false;
        }
        pthread_mutex_unlock(&f->lock);
        sched_yield(); /* the next turn is another thread's, if there is one */
    }
    return NULL;
}

void fibers_run(struct fibers *f, int threads)
{
    pthread_t other[8];
    for (int i = 1; i < threads; i++)
        assert_int_equal(pthread_create(&other[i], NULL, run, f), 0);
    run(f);
    for (int i = 1; i < threads; i++)
        pthread_join(other[i], NULL);
    if (f->fault[0])
        fail_msg("%s", f->fault);
}

void fibers_start(struct fibers *f, void (*work)(void *arg), void *arg)
{
    struct fiber *one = calloc(1, sizeof *one);
    assert_true(one && f->n < FIBERS_MAX);
    one->stack = mmap(NULL, FIBER_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    assert_true(one->stack != MAP_FAILED);
    memset(one->stack, PAINT, FIBER_STACK_BYTES);
    one->of = f;
    one->run = work;
    one->arg = arg;
    one->tsan = tsan_new();
    getcontext(&one->context);
    one->context.uc_stack.ss_sp = one->stack;
    one->context.uc_stack.ss_size = FIBER_STACK_BYTES;
    makecontext(&one->context, (void (*)(void))(uintptr_t)begin, 2,
                (unsigned)((uintptr_t)one >> 32), (unsigned)(uintptr_t)one);
    f->fiber[f->n++] = one;
    f->left++;
}

void fibers_init(struct fibers *f)
{
    *f = (struct fibers){.least_ms = INT32_MAX};
    pthread_mutex_init(&f->lock, NULL);
}

void fibers_free(struct fibers *f)
{
    for (int i = 0; i < f->n; i++)
        free(f->fiber[i]);
    pthread_mutex_destroy(&f->lock);
}

void fibers_fault(struct fibers *f, const char *format, ...)
{
    char text[sizeof f->fault];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (f->fault[0] == '\0')
        memcpy(f->fault, text, sizeof text);
}
