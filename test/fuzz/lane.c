/* The queue of one pipelined connection beside a model of it, which is as plain as can be: a list
 * of all that was ever sent, and what became of each. Bytes decide what is sent, what the server
 * does, who is abandoned and when the connection is lost; after each event both must agree.
 *
 *   build/test/fuzz-lane [SEED [ROUNDS]]   round i has seed SEED + i; a failure prints its seed
 *
 * As a fuzzer of clang's, from the top of the tree:
 *
 *   clang -g -O1 -D_GNU_SOURCE -DFUZZER -fsanitize=fuzzer,address,undefined \
 *       test/fuzz/lane.c lib/plan/lane.c -o build/lane-fuzzer && build/lane-fuzzer -max_len=4096 */
#include "../../lib/plan/lane.h"
#include "../../lib/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t seed;
static uint64_t nevents, ndone, nagain, nlost, nabandoned, nbroken;

static _Noreturn void disagree(const char *what, int line)
{
    fprintf(stderr, "lane.c:%d: not so: %s\nagain: fuzz-lane %" PRIu64 " 1\n", line, what, seed);
    abort();
}

#define HOLDS(what) ((what) ? (void)0 : disagree(#what, __LINE__))

/* ---- Memory that can fail -------------------------------------------------------------------- */

static bool no_memory, was_refused;

void *pqi_mem_array(size_t count, size_t size)
{
    was_refused = no_memory;
    return no_memory ? NULL : calloc(count, size);
}

void pqi_mem_free(void *memory)
{
    free(memory);
}

/* ---- Chance ---------------------------------------------------------------------------------- */

static const uint8_t *bytes, *bytes_end;

static int pick(int n)
{
    return bytes < bytes_end ? *bytes++ % n : 0;
}

/* ---- The model: what was sent, and what became of it ----------------------------------------- */

enum { PLACES = 7, CALLS = 4096, THINGS = 32768 };

struct call {
    int place; /* where its memory is */
    bool shared;
    int first, end; /* its things, from the first up to before the end */
    bool wanted;    /* neither ended nor abandoned */
};

struct thing {
    enum pqi_mark_kind kind;
    int call; /* -1: nobody's */
    int index;
    enum fate { DUE, WENT_WELL, FAILED, STALE, SKIPPED } fate;
    bool late_error; /* of a Sync */
};

static struct call calls[CALLS];
static struct thing things[THINGS];
static int ncalls, nthings, due; /* due: the first thing that is not over */
static char memory[PLACES];
static int lives_at[PLACES]; /* which call is there; -1: none */

static void forget_all(void)
{
    ncalls = nthings = due = 0;
    for (int i = 0; i < PLACES; i++)
        lives_at[i] = -1;
}

static bool between_segments(void)
{
    return nthings == 0 || things[nthings - 1].kind == PQI_MARK_SYNC;
}

/* Has anything failed since the last Sync that came? */
static bool has_failed(void)
{
    if (due < nthings && things[due].late_error)
        return true;
    for (int i = due; i >= 0; i--) {
        if (i < due && things[i].kind == PQI_MARK_SYNC)
            break;
        if (i < nthings && things[i].fate != DUE && things[i].fate != WENT_WELL)
            return true;
    }
    return false;
}

/* The statement before the Sync that is due, in the same segment; NULL: none. */
static const struct thing *last_statement(void)
{
    for (int i = due - 1; i >= 0 && things[i].kind != PQI_MARK_SYNC; i--)
        if (things[i].kind == PQI_MARK_RUN)
            return &things[i];
    return NULL;
}

static bool any(const struct call *c, enum fate fate)
{
    for (int i = c->first; i < c->end; i++)
        if (things[i].call >= 0 && things[i].fate == fate) /* a Close is not the call's own */
            return true;
    return false;
}

/* What is to be told. */
struct told {
    bool broken;
    enum pqi_take take;
    enum pqi_end end;
    bool synced, clean;
    int call, index; /* -1: nobody */
};

static void tell(struct told *t, const struct thing *thing, enum pqi_take take, enum pqi_end end)
{
    t->call = thing->call >= 0 && calls[thing->call].wanted ? thing->call : -1;
    t->index = thing->index;
    t->take = t->call >= 0 ? take : PQI_TAKE_NOTHING;
    t->end = t->call >= 0 ? end : PQI_END_NONE;
}

static void expect_result(struct told *t, struct thing *thing, enum pqi_event event)
{
    const bool statement = thing->kind != PQI_MARK_CLOSE;
    switch (event) {
    case PQI_EVENT_RESULT:
        thing->fate = WENT_WELL;
        tell(t, thing, thing->kind == PQI_MARK_RUN ? PQI_TAKE_ANSWER : PQI_TAKE_NOTHING,
             PQI_END_NONE);
        return;
    case PQI_EVENT_ERROR:
        thing->fate = FAILED;
        tell(t, thing, statement ? PQI_TAKE_ANSWER : PQI_TAKE_NOTHING, PQI_END_NONE);
        return;
    default:
        thing->fate = event == PQI_EVENT_STALE ? STALE : SKIPPED;
        tell(t, thing, statement ? PQI_TAKE_SKIPPED : PQI_TAKE_NOTHING, PQI_END_NONE);
    }
}

static void expect_statement(struct told *t, struct thing *thing, enum pqi_event event)
{
    if (thing->fate == DUE) {
        t->broken = event == PQI_EVENT_NULL || event == PQI_EVENT_SYNC ||
                    (event == PQI_EVENT_SKIPPED) != has_failed();
        if (!t->broken)
            expect_result(t, thing, event);
        return;
    }
    t->broken = event != PQI_EVENT_NULL;
    if (t->broken)
        return;
    enum pqi_end end = PQI_END_NONE;
    if (thing->call >= 0 && calls[thing->call].shared && due == calls[thing->call].end - 1) {
        const struct call *c = &calls[thing->call];
        const bool void_of_it = any(c, STALE) || any(c, SKIPPED);
        end = void_of_it && !any(c, FAILED) ? PQI_END_AGAIN : PQI_END_DONE;
    }
    tell(t, thing, PQI_TAKE_NOTHING, end);
    due++;
}

static void expect_sync(struct told *t, struct thing *thing, enum pqi_event event)
{
    const struct thing *last = last_statement();
    switch (event) {
    case PQI_EVENT_NULL:
        tell(t, thing, PQI_TAKE_NOTHING, PQI_END_NONE);
        return;
    case PQI_EVENT_SYNC:
        t->synced = true;
        t->clean = !has_failed();
        tell(t, thing, PQI_TAKE_NOTHING,
             thing->call >= 0 && due == calls[thing->call].end - 1 ? PQI_END_DONE : PQI_END_NONE);
        due++;
        return;
    case PQI_EVENT_ERROR:
    case PQI_EVENT_STALE:
        t->broken = has_failed();
        thing->late_error = true;
        if (!t->broken && last && last->call >= 0 && !calls[last->call].shared)
            tell(t, last, PQI_TAKE_ANSWER, PQI_END_NONE);
        return;
    default:
        t->broken = true;
    }
}

static struct told expect(enum pqi_event event)
{
    struct told t = {.call = -1};
    if (due == nthings)
        t.broken = event != PQI_EVENT_NULL;
    else if (things[due].kind == PQI_MARK_SYNC)
        expect_sync(&t, &things[due], event);
    else
        expect_statement(&t, &things[due], event);
    return t;
}

/* ---- Both agree ------------------------------------------------------------------------------ */

static struct pqi_queue q;

static int call_at(const void *address)
{
    const ptrdiff_t place = (const char *)address - memory;
    HOLDS(place >= 0 && place < PLACES);
    return lives_at[place];
}

static bool is_held(int call)
{
    return call >= 0 && calls[call].wanted && calls[call].end > due;
}

static void agree(void)
{
    HOLDS(pqi_queue_empty(&q) == (due == nthings));
    HOLDS(q.count == (uint32_t)(nthings - due));
    for (int i = 0; i < PLACES; i++)
        HOLDS(pqi_queue_holds(&q, &memory[i]) == is_held(lives_at[i]));
    const struct pqi_mark *head = pqi_queue_head(&q);
    HOLDS((head == NULL) == (due == nthings));
    if (!head)
        return;
    const struct thing *thing = &things[due];
    HOLDS(head->kind == thing->kind);
    HOLDS((head->call != NULL) == (thing->call >= 0 && calls[thing->call].wanted));
    HOLDS(!head->call || call_at(head->call) == thing->call);
}

static void leave(int call)
{
    HOLDS(calls[call].wanted);
    calls[call].wanted = false;
    lives_at[calls[call].place] = -1;
}

/* The connection is at its end: each call that was not answered comes out once, first come first. */
static void lose(void)
{
    for (int i = 0; i < ncalls; i++) {
        if (!calls[i].wanted)
            continue;
        const void *address = pqi_queue_lost(&q);
        HOLDS(address != NULL);
        HOLDS(call_at(address) == i);
        leave(i);
        nlost++;
    }
    HOLDS(pqi_queue_lost(&q) == NULL);
    HOLDS(pqi_queue_empty(&q));
    pqi_queue_free(&q);
    forget_all();
}

static void come(enum pqi_event event)
{
    const struct told t = expect(event);
    const struct pqi_turn turn = pqi_queue_take(&q, event);
    nevents++;
    HOLDS((turn.broken != NULL) == t.broken);
    HOLDS(turn.take == t.take);
    HOLDS(turn.end == t.end);
    HOLDS(turn.synced == t.synced);
    HOLDS(turn.clean == t.clean);
    if (t.call >= 0) {
        HOLDS(turn.mark.call != NULL);
        HOLDS(call_at(turn.mark.call) == t.call);
        HOLDS(turn.mark.id == (uint64_t)t.call + 1);
        HOLDS(turn.mark.index == t.index);
    } else {
        HOLDS(turn.mark.call == NULL);
    }
    if (t.end != PQI_END_NONE) {
        leave(t.call);
        *(t.end == PQI_END_DONE ? &ndone : &nagain) += 1;
    }
    if (t.broken) {
        nbroken++;
        lose();
    }
    agree();
}

/* ---- What happens ---------------------------------------------------------------------------- */

static void send_thing(enum pqi_mark_kind kind, int call, int index, bool shared, bool last)
{
    things[nthings++] = (struct thing){.kind = kind, .call = call, .index = index};
    const struct pqi_mark mark = {.kind = kind,
                                  .shared = shared,
                                  .last = last,
                                  .index = index,
                                  .call = call >= 0 ? &memory[calls[call].place] : NULL,
                                  .id = call >= 0 ? (uint64_t)call + 1 : 0};
    pqi_queue_push(&q, &mark);
}

static void send_statement(int call, int index, bool shared, bool last)
{
    if (pick(6) == 5)
        send_thing(PQI_MARK_CLOSE, -1, 0, false, false);
    if (pick(3) == 2)
        send_thing(PQI_MARK_PARSE, call, index, shared, false);
    send_thing(PQI_MARK_RUN, call, index, shared, last);
}

static bool make_room(uint32_t n)
{
    no_memory = pick(16) == 15;
    was_refused = false;
    const bool made = pqi_queue_reserve(&q, n);
    HOLDS(made == !was_refused);
    no_memory = false;
    return made && (uint32_t)nthings + n < THINGS;
}

/* Seldom behind another one: an empty segment. */
static void send_sync(void)
{
    if ((!between_segments() || pick(8) == 7) && make_room(1))
        send_thing(PQI_MARK_SYNC, -1, 0, true, false);
}

/* Begins a call where memory is free; -1: nowhere. */
static int begin_call(bool shared)
{
    const int place = pick(PLACES);
    if (lives_at[place] >= 0 || ncalls == CALLS)
        return -1;
    calls[ncalls] = (struct call){
        .place = place, .shared = shared, .first = nthings, .wanted = true};
    lives_at[place] = ncalls;
    return ncalls++;
}

static void send_shared(void)
{
    const int n = 1 + pick(3);
    const int call = make_room((uint32_t)n * 3) ? begin_call(true) : -1;
    if (call < 0)
        return;
    for (int i = 0; i < n; i++)
        send_statement(call, i, true, i == n - 1);
    calls[call].end = nthings;
}

static void send_alone(void)
{
    const int n = 1 + pick(4);
    send_sync();
    if (!between_segments())
        return;
    const int call = make_room((uint32_t)n * 5) ? begin_call(false) : -1;
    if (call < 0)
        return;
    for (int i = 0; i < n; i++) {
        send_statement(call, i, false, false);
        if (pick(8) == 7)
            send_thing(PQI_MARK_CLOSE, -1, 0, false, false);
        if (i == n - 1 || pick(2))
            send_thing(PQI_MARK_SYNC, call, i, false, i == n - 1);
    }
    calls[call].end = nthings;
}

static void abandon(void)
{
    const int place = pick(PLACES), call = lives_at[place];
    if (call < 0)
        return;
    pqi_queue_abandon(&q, &memory[place]);
    leave(call);
    nabandoned++;
    agree();
}

/* What a server could say, or, seldom, anything. */
static void answer(void)
{
    const int chance = pick(32);
    if (chance == 31 && pick(8) == 7)
        come((enum pqi_event)pick(PQI_EVENT_SYNC + 1));
    else if (due == nthings || (things[due].kind != PQI_MARK_SYNC && things[due].fate != DUE))
        come(PQI_EVENT_NULL);
    else if (things[due].kind == PQI_MARK_SYNC)
        come(chance < 22                   ? PQI_EVENT_SYNC
             : chance < 26 || has_failed() ? PQI_EVENT_NULL
                                           : PQI_EVENT_ERROR);
    else if (has_failed())
        come(PQI_EVENT_SKIPPED);
    else
        come(chance < 26 ? PQI_EVENT_RESULT : chance < 29 ? PQI_EVENT_ERROR : PQI_EVENT_STALE);
}

static void live(void)
{
    /* How much is answered while how much is sent: more, or less, so that queues get long. */
    const int mood = 1 + pick(24);
    while (bytes < bytes_end) {
        const int chance = pick(8 + mood);
        if (chance < 4)
            send_shared();
        else if (chance < 6)
            send_sync();
        else if (chance < 7)
            send_alone();
        else if (chance > 7)
            answer();
        else if (pick(32) == 31)
            lose();
        else
            abandon();
    }
    while (due < nthings)
        answer();
    for (int i = 0; i < ncalls; i++)
        HOLDS(!calls[i].wanted);
    lose();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bytes = data;
    bytes_end = data + size;
    forget_all();
    live();
    return 0;
}

#ifndef FUZZER

/* SplitMix64. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

int main(int argc, char **argv)
{
    static uint8_t data[4096];
    const uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    const uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 0) : 5000;
    for (uint64_t i = 0; i < rounds; i++) {
        seed = first + i;
        uint64_t state = seed;
        const size_t size = next_random(&state) % sizeof data;
        for (size_t b = 0; b < size; b++)
            data[b] = (uint8_t)(next_random(&state) >> 32);
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%" PRIu64 " rounds from seed %" PRIu64 ": %" PRIu64 " events; calls: %" PRIu64
           " done, %" PRIu64 " again, %" PRIu64 " lost, %" PRIu64 " abandoned; %" PRIu64
           " contradictions\n",
           rounds, first, nevents, ndone, nagain, nlost, nabandoned, nbroken);
    return 0;
}

#endif
