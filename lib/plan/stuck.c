/* When to give up on what stands at the head of a shared connection. */
#include "stuck.h"

#define FAST_STUCK_MS 250 /* a statement known to be fast is late, not slow: so much patience */
#define SAME_STUCK_MS 100 /* who waits behind its own like would wait elsewhere too */
#define DEAD_MS 1000

static int64_t patience_ms(const struct pqi_head *h, uint64_t hash)
{
    if (h->nobodys)
        return PQI_STUCK_MS;
    if (h->class_ == PQI_PACE_FAST)
        return FAST_STUCK_MS;
    return h->hash != 0 && h->hash == hash ? SAME_STUCK_MS : PQI_STUCK_MS;
}

bool pqi_head_is_still(const struct pqi_head *h)
{
    return h->still_ms >= PQI_STUCK_MS;
}

/* One a millisecond. */
bool pqi_head_sends_away(const struct pqi_head *h, uint64_t hash)
{
    return h->still_ms >= patience_ms(h, hash) && h->left < h->still_ms;
}

bool pqi_head_is_dead(const struct pqi_head *h)
{
    return h->nobodys && h->still_ms >= DEAD_MS;
}
