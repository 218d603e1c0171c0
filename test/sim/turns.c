/* Virtual time, chance and coroutines. */
#include "turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK_BYTES (256 * 1024)
#define THREADS_MAX 64
#define WAITS_MAX 4
#define SPINS_MAX 200000 /* turns in one moment */

/* ---- Sanitizers must be told which stack is in use ------------------------------------------ */

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define leave_for(fake, stack, bytes) __sanitizer_start_switch_fiber((fake), (stack), (bytes))
#define arrive(fake, from, bytes) __sanitizer_finish_switch_fiber((fake), (from), (bytes))
#define forget(stack, bytes) __asan_unpoison_memory_region((stack), (bytes))
#else
#define leave_for(fake, stack, bytes) ((void)(fake), (void)(stack), (void)(bytes))
#define arrive(fake, from, bytes) ((void)(fake), (void)(from), (void)(bytes))
#define forget(stack, bytes) ((void)(stack), (void)(bytes))
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

struct event {
    int64_t when;
    uint64_t number;
    sim_fn *fn;
    void *arg;
    uint64_t tag;
};

struct sim_thread {
    const char *name;
    void (*run)(void *arg);
    void *arg;
    ucontext_t context;
    jmp_buf place;
    bool begun;
    char *stack;
    struct pollfd *fds;
    int nfds;
    const bool *flag;
    int64_t until;
    bool waits, done;
    void *fake, *tsan;
};

static struct {
    int64_t now;
    uint64_t chance[SIM_TURNS + 1];
    struct event *events;
    size_t nevents, cap;
    uint64_t number;

    struct sim_thread *threads[THREADS_MAX]; /* in the order of their making */
    int nthreads;
    struct sim_thread *running;
    struct sim_thread home; /* where events run: no thread, but it is come back to */
    const void *home_stack;
    size_t home_bytes;
    void *home_tsan;
    bool changed; /* a descriptor may have become ready */

    bool trace;
    uint64_t fingerprint, turns;
    char violation[600];
} sim;

static char *spare_stacks[THREADS_MAX];
static int nspare;

/* ---- Chance --------------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea, Flood 2014). */
uint64_t sim_draw(enum sim_stream s)
{
    uint64_t z = sim.chance[s] += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

uint64_t sim_below(enum sim_stream s, uint64_t n)
{
    return sim_draw(s) % n;
}

int64_t sim_between(enum sim_stream s, int64_t least, int64_t most)
{
    return least + (int64_t)sim_below(s, (uint64_t)(most - least + 1));
}

bool sim_odds(enum sim_stream s, int percent)
{
    return (int)sim_below(s, 100) < percent;
}

/* ---- What happened -------------------------------------------------------------------------- */

int64_t sim_now(void)
{
    return sim.now;
}

bool sim_traced(void)
{
    return sim.trace;
}

static void say(const char *format, va_list args)
{
    printf("%12.6f  %-10s ", (double)sim.now / 1e9, sim.running ? sim.running->name : "-");
    vprintf(format, args);
    putchar('\n');
}

void sim_say(const char *format, ...)
{
    va_list args;
    if (!sim.trace)
        return;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void sim_mix(uint64_t value)
{
    sim.fingerprint = (sim.fingerprint ^ value) * UINT64_C(0x100000001B3);
    sim.fingerprint ^= sim.fingerprint >> 29;
}

void sim_mix_bytes(const void *bytes, uint64_t n)
{
    const unsigned char *p = bytes;
    uint64_t h = n;
    for (uint64_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001B3);
    sim_mix(h);
}

uint64_t sim_fingerprint(void)
{
    return sim.fingerprint;
}

uint64_t sim_turns(void)
{
    return sim.turns;
}

void sim_violated(const char *format, ...)
{
    va_list args;
    if (sim.violation[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(sim.violation, sizeof sim.violation, format, args);
    va_end(args);
    sim_say("VIOLATED: %s", sim.violation);
}

const char *sim_violation(void)
{
    return sim.violation[0] != '\0' ? sim.violation : NULL;
}

/* ---- Events --------------------------------------------------------------------------------- */

static bool before(const struct event *a, const struct event *b)
{
    return a->when != b->when ? a->when < b->when : a->number < b->number;
}

void sim_at(int64_t when, sim_fn *fn, void *arg, uint64_t tag)
{
    if (sim.nevents == sim.cap) {
        sim.cap = sim.cap ? sim.cap * 2 : 256;
        sim.events = realloc(sim.events, sim.cap * sizeof *sim.events);
        if (!sim.events)
            abort();
    }
    size_t i = sim.nevents++;
    struct event e = {when < sim.now ? sim.now : when, ++sim.number, fn, arg, tag};
    for (; i > 0 && before(&e, &sim.events[(i - 1) / 2]); i = (i - 1) / 2)
        sim.events[i] = sim.events[(i - 1) / 2];
    sim.events[i] = e;
}

static struct event take_event(void)
{
    struct event first = sim.events[0], last = sim.events[--sim.nevents];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < sim.nevents; i = child) {
        child += child + 1 < sim.nevents && before(&sim.events[child + 1], &sim.events[child]);
        if (!before(&sim.events[child], &last))
            break;
        sim.events[i] = sim.events[child];
    }
    sim.events[i] = last;
    return first;
}

/* ---- Threads -------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define switch_over(from, to) swapcontext(&(from)->context, &(to)->context)
#else
/* swapcontext makes two system calls, for the signal mask; and most of what happens here is this. */
#define switch_over(from, to)              \
    ((void)(_setjmp((from)->place) == 0 && \
            ((to)->begun ? (_longjmp((to)->place, 1), 0) : (setcontext(&(to)->context), 0))))
#endif

static void leave(struct sim_thread *me)
{
    leave_for(me->done ? NULL : &me->fake, sim.home_stack, sim.home_bytes);
    tsan_to(sim.home_tsan);
    switch_over(me, &sim.home);
    arrive(me->fake, &sim.home_stack, &sim.home_bytes);
}

static void begin(unsigned high, unsigned low)
{
    struct sim_thread *me = (struct sim_thread *)(((uintptr_t)high << 32) | low);
    arrive(NULL, &sim.home_stack, &sim.home_bytes);
    me->begun = true;
    me->run(me->arg);
    me->done = true;
    leave(me);
}

static void resume(struct sim_thread *t)
{
    void *fake = NULL;
    t->waits = false;
    sim.running = t;
    sim.home_tsan = tsan_here();
    leave_for(&fake, t->stack, STACK_BYTES);
    tsan_to(t->tsan);
    sim.home.begun = true;
    switch_over(&sim.home, t);
    arrive(fake, NULL, NULL);
    sim.running = NULL;
    sim.changed = true;
}

static char *new_stack(void)
{
    if (nspare > 0)
        return spare_stacks[--nspare];
    char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        abort();
    return stack;
}

struct sim_thread *sim_spawn(const char *name, void (*run)(void *arg), void *arg)
{
    struct sim_thread *t = calloc(1, sizeof *t);
    if (!t || sim.nthreads == THREADS_MAX)
        abort();
    t->name = name;
    t->run = run;
    t->arg = arg;
    t->stack = new_stack();
    t->tsan = tsan_new();
    t->waits = true;
    t->until = sim.now;
    getcontext(&t->context);
    t->context.uc_stack.ss_sp = t->stack;
    t->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&t->context, (void (*)(void))begin, 2, (unsigned)((uintptr_t)t >> 32),
                (unsigned)(uintptr_t)t);
    sim.threads[sim.nthreads++] = t;
    return t;
}

static void free_thread(struct sim_thread *t)
{
    forget(t->stack, STACK_BYTES);
    tsan_free(t->tsan);
    spare_stacks[nspare++] = t->stack;
    free(t);
}

void sim_wait(struct pollfd *fds, int n, const bool *flag, int64_t until)
{
    struct sim_thread *me = sim.running;
    me->fds = fds;
    me->nfds = n;
    me->flag = flag;
    me->until = until;
    me->waits = true;
    for (int i = 0; i < n; i++)
        fds[i].revents = 0;
    leave(me);
}

void sim_sleep(int64_t ns)
{
    sim_wait(NULL, 0, NULL, sim.now + ns);
}

void sim_join(struct sim_thread *t)
{
    /* It is freed by its end: so it is looked for, not into. */
    for (bool there = true; there && !sim_violation();) {
        there = false;
        for (int i = 0; i < sim.nthreads; i++)
            there |= sim.threads[i] == t;
        if (there)
            sim_sleep(100 * US);
    }
}

void sim_stir(void)
{
    sim.changed = true;
}

/* ---- Running -------------------------------------------------------------------------------- */

/* Which of their descriptors are ready. */
static void look(bool *ready)
{
    static struct pollfd all[THREADS_MAX * WAITS_MAX];
    nfds_t n = 0;
    for (int i = 0; i < sim.nthreads; i++)
        for (int j = 0; j < sim.threads[i]->nfds; j++)
            all[n++] = sim.threads[i]->fds[j];
    if (n == 0 || poll(all, n, 0) <= 0)
        return;
    n = 0;
    for (int i = 0; i < sim.nthreads; i++)
        for (int j = 0; j < sim.threads[i]->nfds; j++, n++) {
            sim.threads[i]->fds[j].revents = all[n].revents;
            ready[i] |= all[n].revents != 0;
        }
}

static bool run_one(void)
{
    bool ready[THREADS_MAX] = {false};
    int n = 0;
    if (sim.changed)
        look(ready);
    for (int i = 0; i < sim.nthreads; i++) {
        struct sim_thread *t = sim.threads[i];
        ready[i] |= t->until <= sim.now || (t->flag && *t->flag);
        n += ready[i];
    }
    if (n == 0) {
        sim.changed = false;
        return false;
    }
    int turn = (int)sim_below(SIM_TURNS, (uint64_t)n), i = 0;
    while (!ready[i] || turn-- > 0)
        i++;
    struct sim_thread *t = sim.threads[i];
    t->nfds = 0;
    sim.turns++;
    resume(t);
    if (t->done) {
        for (i = 0; sim.threads[i] != t; i++)
            ;
        memmove(&sim.threads[i], &sim.threads[i + 1],
                (size_t)(--sim.nthreads - i) * sizeof *sim.threads);
        free_thread(t);
    }
    return true;
}

static int64_t next_moment(void)
{
    int64_t next = sim.nevents > 0 ? sim.events[0].when : NEVER;
    for (int i = 0; i < sim.nthreads; i++)
        next = sim.threads[i]->until < next ? sim.threads[i]->until : next;
    return next;
}

void sim_run(void (*collect)(void))
{
    uint64_t since = 0;
    bool ran = true;
    sim.changed = true;
    while (sim.nthreads > 0 && !sim_violation()) {
        if (run_one()) {
            ran = true;
            if (++since > SPINS_MAX)
                sim_violated("%d threads run for ever without time going on", sim.nthreads);
            continue;
        }
        if (ran)
            collect();
        ran = false;
        int64_t next = next_moment();
        if (next == NEVER) {
            sim_violated("%d threads wait for what never comes", sim.nthreads);
            break;
        }
        since = next > sim.now ? 0 : since;
        sim.now = next > sim.now ? next : sim.now;
        if (sim.nevents > 0 && sim.events[0].when <= sim.now) {
            struct event e = take_event();
            sim_mix((uint64_t)sim.now);
            sim.turns++;
            e.fn(e.arg, e.tag);
        }
    }
}

void sim_begin(uint64_t seed, bool trace)
{
    memset(&sim, 0, sizeof sim);
    sim.trace = trace;
    sim.now = 1000 * SECOND;
    sim.fingerprint = seed;
    for (int i = 0; i <= SIM_TURNS; i++)
        sim.chance[i] = (seed * (SIM_TURNS + 1) + (uint64_t)i + 1) * UINT64_C(0xD1342543DE82EF95);
}

void sim_over(void)
{
    for (int i = 0; i < sim.nthreads; i++)
        free_thread(sim.threads[i]);
    free(sim.events);
    sim.nthreads = 0;
    sim.events = NULL;
}
