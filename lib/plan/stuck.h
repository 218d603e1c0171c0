/* When to give up on what stands at the head of a shared connection, seen by those behind it. */
#ifndef PQI_STUCK_H
#define PQI_STUCK_H

#include "pace.h"

#include <stdbool.h>
#include <stdint.h>

#define PQI_STUCK_MS \
    5 /* so long nothing has come, and who waits behind had better look elsewhere */

/* The statement whose answer is due, and how long nothing has come. */
struct pqi_head {
    bool nobodys; /* nobody waits for it any more */
    enum pqi_pace_class class_;
    uint64_t hash; /* 0: several statements */
    int64_t still_ms;
    int left; /* so many have gone elsewhere meanwhile */
};

/* Should new ones rather take another connection, if there is one that moves? */
bool pqi_head_is_still(const struct pqi_head *h);

/* May who waits behind it, with a statement of that hash, be sent elsewhere now? Not all at once: if
 * it is the server that stands still, it must not find everything twice when it goes on. */
bool pqi_head_sends_away(const struct pqi_head *h, uint64_t hash);

/* Will it move at all? If not, its connection is closed. */
bool pqi_head_is_dead(const struct pqi_head *h);

#endif
