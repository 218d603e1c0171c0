/* How far a replica is behind. */
#include "lag.h"

#include <string.h>

/* By how much the ages told would be off without this sample, in proportion. */
static double missed(const struct pqi_history *h, int i)
{
    const struct pqi_sample *s = &h->sample[i];
    return (double)(s[1].at_ns - s[-1].at_ns) / (double)(h->sample[h->n - 1].at_ns - s[1].at_ns);
}

/* Drops the sample that is missed least, never the first or the last two: ages get coarser with
 * age, and never too young, since a replica between two samples counts from the older one. */
static void thin(struct pqi_history *h)
{
    int least = 1;
    for (int i = 2; i < h->n - 2; i++)
        if (missed(h, i) < missed(h, least))
            least = i;
    h->n--;
    memmove(&h->sample[least], &h->sample[least + 1], (size_t)(h->n - least) * sizeof h->sample[0]);
}

void pqi_history_add(struct pqi_history *h, int64_t at_ns, uint64_t lsn)
{
    struct pqi_sample *last = h->n > 0 ? &h->sample[h->n - 1] : 0;
    if (last && lsn == last->lsn) {
        last->at_ns = at_ns;
        return;
    }
    if (last && lsn < last->lsn)
        h->n = 0;
    if (h->n == PQI_HISTORY_MAX)
        thin(h);
    h->sample[h->n++] = (struct pqi_sample){at_ns, lsn};
}

struct pqi_lag pqi_lag_of(const struct pqi_history *h, uint64_t replayed)
{
    if (h->n == 0)
        return (struct pqi_lag){-1, -1};
    const struct pqi_sample *newest = &h->sample[h->n - 1];
    if (replayed >= newest->lsn)
        return (struct pqi_lag){0, 0};
    struct pqi_lag lag = {(int64_t)(newest->lsn - replayed), -1};
    for (int i = h->n - 2; i >= 0 && lag.ms < 0; i--)
        if (h->sample[i].lsn <= replayed)
            lag.ms = (newest->at_ns - h->sample[i].at_ns + 999999) / 1000000; /* never too young */
    return lag;
}

void pqi_horizon_add(struct pqi_horizon *h, int64_t at_ns, uint64_t lsn)
{
    if (h->n > 0 && lsn < h->sample[h->n - 1].lsn)
        h->n = 0;
    if (h->n == PQI_HORIZON_MAX) {
        h->n--;
        memmove(&h->sample[0], &h->sample[1], (size_t)h->n * sizeof h->sample[0]);
    }
    h->sample[h->n++] = (struct pqi_sample){at_ns, lsn};
}

bool pqi_horizon_after(const struct pqi_horizon *h, int64_t at_ns, uint64_t *lsn)
{
    for (int i = 0; i < h->n; i++)
        if (h->sample[i].at_ns >= at_ns) {
            *lsn = h->sample[i].lsn;
            return true;
        }
    return false;
}
