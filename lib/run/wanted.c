/* Lanes that are to be opened. */
#include "wanted.h"

void pqi_wanted_init(struct pqi_wanted *w)
{
    pthread_mutex_init(&w->lock, NULL);
    pqi_list_init(&w->lanes);
    w->flag = -1;
}

bool pqi_wanted_begin(struct pqi_wanted *w)
{
    if (w->flag < 0)
        w->flag = pqi_flag_new();
    return w->flag >= 0;
}

void pqi_wanted_free(struct pqi_wanted *w)
{
    pqi_flag_close(w->flag);
    pthread_mutex_destroy(&w->lock);
}

void pqi_wanted_add(struct pqi_wanted *w, struct pqi_lane *lane)
{
    pthread_mutex_lock(&w->lock);
    pqi_list_remove(&lane->opening);
    pqi_list_append(&w->lanes, &lane->opening);
    pthread_mutex_unlock(&w->lock);
    pqi_flag_set(w->flag);
}

struct pqi_lane *pqi_wanted_next(struct pqi_wanted *w)
{
    struct pqi_lane *lane = NULL;
    pthread_mutex_lock(&w->lock);
    if (!pqi_list_empty(&w->lanes)) {
        lane = pqi_container(w->lanes.next, struct pqi_lane, opening);
        pqi_list_remove(&lane->opening);
    }
    pthread_mutex_unlock(&w->lock);
    return lane;
}
