/* A binary heap. */
#include "heap.h"

#include "mem.h"

static void put(struct pqi_heap *h, size_t i, struct pqi_timer *t)
{
    h->timers[i] = t;
    t->place = i + 1;
}

static void rise(struct pqi_heap *h, size_t i)
{
    struct pqi_timer *t = h->timers[i];
    while (i > 0 && h->timers[(i - 1) / 2]->at_ns > t->at_ns) {
        put(h, i, h->timers[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(h, i, t);
}

static void sink(struct pqi_heap *h, size_t i)
{
    struct pqi_timer *t = h->timers[i];
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && h->timers[child + 1]->at_ns < h->timers[child]->at_ns)
            child++;
        if (h->timers[child]->at_ns >= t->at_ns)
            break;
        put(h, i, h->timers[child]);
    }
    put(h, i, t);
}

bool pqi_heap_reserve(struct pqi_heap *h, size_t n)
{
    if (n <= h->cap)
        return true;
    size_t cap = h->cap ? h->cap * 2 : 16;
    if (cap < n)
        cap = n;
    struct pqi_timer **timers = pqi_mem_resize(h->timers, cap, sizeof *timers);
    if (!timers)
        return false;
    h->timers = timers;
    h->cap = cap;
    return true;
}

void pqi_heap_set(struct pqi_heap *h, struct pqi_timer *t, int64_t at_ns)
{
    t->at_ns = at_ns;
    if (t->place == 0)
        put(h, h->n++, t);
    rise(h, t->place - 1);
    sink(h, t->place - 1);
}

void pqi_heap_remove(struct pqi_heap *h, struct pqi_timer *t)
{
    if (t->place == 0)
        return;
    size_t i = t->place - 1;
    struct pqi_timer *last = h->timers[--h->n];
    t->place = 0;
    if (last == t)
        return;
    put(h, i, last);
    rise(h, i);
    sink(h, last->place - 1);
}

struct pqi_timer *pqi_heap_first(const struct pqi_heap *h)
{
    return h->n > 0 ? h->timers[0] : NULL;
}

void pqi_heap_free(struct pqi_heap *h)
{
    pqi_mem_free(h->timers);
    *h = (struct pqi_heap){0};
}
