/* Does a server hang that a call waits for? It accepts connections, and nothing comes. Its TCP is well, so only
 * time tells; and a statement may take its time. So the monitor's question, which takes none, is the measure:
 * while that waits, too, and nothing else is heard from the server, it hangs. Pure: moments are passed in. */
#ifndef PQI_HANG_H
#define PQI_HANG_H

#include <stdbool.h>
#include <stdint.h>

/* With calls waiting in vain and the monitor's question unanswered for so long, it is SUSPECT. */
#define PQI_QUIET_MS 250

struct pqi_waiting {
    int64_t since_ns; /* when the call went there */
    int64_t until_ns; /* its deadline */
    int64_t heard_ns; /* when anything was heard from the server last; 0: never */
    int64_t asked_ns; /* the monitor's question that is under way: since when; 0: none is */
    int proven;       /* how often the server was found alive since */
    bool gone;        /* its pooler lives on, and says that it cannot get to the server */
};

enum pqi_hang {
    PQI_HANG_WAIT,   /* it is well as far as one knows */
    PQI_HANG_ASK,    /* nothing was heard for a while: let the monitor ask */
    PQI_HANG_PROVEN, /* it was asked, and answered: the statement takes its time */
    PQI_HANG_LEAVE   /* it hangs: what only reads is better off elsewhere */
};

struct pqi_hang_verdict {
    enum pqi_hang verdict;
    int64_t look_ns; /* when to look again */
};

/* A fifth of the call's time passes, 100 ms at most, before it lets the server be asked, and a fifth, 150 ms at
 * most, before it leaves: so that of 300 ms more than half is left for elsewhere. Where the monitor has no
 * way to ask (its connection is one of those that hang) a call leaves when nothing came for half of its time. Each time the server proves
 * to be alive it is left in peace for twice as long, up to a second or a quarter of what is left of the time. */
struct pqi_hang_verdict pqi_hang_look(const struct pqi_waiting *w, int64_t now_ns);

/* For how long the server leaves the monitor's question and everything else unanswered; 0: it does not. */
int64_t pqi_hang_quiet_ms(int64_t asked_ns, int64_t heard_ns, int64_t now_ns);

#endif
