/* How long does a call wait for a connection that is being made, and for that alone? It has sent nothing yet, so
 * that any other connection will do, as soon as there is one. Pure: moments are passed in. */
#ifndef PQI_DETOUR_H
#define PQI_DETOUR_H

#include <stdint.h>

enum pqi_detour {
    PQI_DETOUR_NONE, /* it is as soon there as any other */
    PQI_DETOUR_HERE, /* another connection to its server, if there is one */
    PQI_DETOUR_PEER, /* that, or else one that is there to another replica */
    PQI_DETOUR_AWAY  /* or to the primary, which has other things to do */
};

struct pqi_detour_verdict {
    enum pqi_detour how;
    int64_t look_ns; /* when to look again */
};

/* A login takes some milliseconds: after 20 ms, or a fifth of the call's time if that is less, it looks
 * for another one there; elsewhere after a fifth of its time, a second at most; everywhere after half of it.
 * Then again, more and more seldom, each 10 to 100 ms. */
struct pqi_detour_verdict pqi_detour(int64_t since_ns, int64_t until_ns, int64_t now_ns);

#endif
