/* Timers: what is due first, in a binary heap of pointers. */
#ifndef PQI_HEAP_H
#define PQI_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Inside the thing that is timed. All zero: in no heap. */
struct pqi_timer {
    int64_t at_ns;
    size_t place; /* its index + 1; 0: in no heap */
};

/* All zero: empty. */
struct pqi_heap {
    struct pqi_timer **timers;
    size_t n, cap;
};

/* Makes room for `n` timers in all, so that setting them cannot fail. false: no memory. */
bool pqi_heap_reserve(struct pqi_heap *h, size_t n);

/* Sets or moves a timer. There must be room. */
void pqi_heap_set(struct pqi_heap *h, struct pqi_timer *t, int64_t at_ns);

/* Takes a timer out; nothing if it is in none. */
void pqi_heap_remove(struct pqi_heap *h, struct pqi_timer *t);

/* The one that is due first; NULL: there is none. */
struct pqi_timer *pqi_heap_first(const struct pqi_heap *h);

void pqi_heap_free(struct pqi_heap *h);

#endif
