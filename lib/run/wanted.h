/* Lanes that are to be opened: handed from whoever wants one to the opener. */
#ifndef PQI_WANTED_H
#define PQI_WANTED_H

#include "ride.h"

struct pqi_wanted {
    pthread_mutex_t lock;
    struct pqi_link lanes; /* pqi_lane.opening */
    int flag;              /* readable when there is one; -1: not begun */
};

void pqi_wanted_init(struct pqi_wanted *w);
/* Takes its descriptor, if it has none yet. false: there is none. */
bool pqi_wanted_begin(struct pqi_wanted *w);
void pqi_wanted_free(struct pqi_wanted *w);

/* Thread-safe. */
void pqi_wanted_add(struct pqi_wanted *w, struct pqi_lane *lane);
struct pqi_lane *pqi_wanted_next(struct pqi_wanted *w); /* NULL: none */

#endif
