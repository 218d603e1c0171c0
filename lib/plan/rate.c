/* How many a second. */
#include "rate.h"

#define SECOND INT64_C(1000000000)

bool pqi_rate_take(struct pqi_rate *r, int64_t now_ns, int64_t *next_ns)
{
    if (r->per_s <= 0)
        return true;
    int64_t each = SECOND / r->per_s, from = r->full_ns > now_ns ? r->full_ns : now_ns;
    if (from + each - now_ns > SECOND) {
        *next_ns = from + each - SECOND;
        return false;
    }
    r->full_ns = from + each;
    return true;
}

void pqi_meter_add(struct pqi_meter *m, int64_t now_ns)
{
    int64_t second = now_ns / SECOND;
    m->in_second = second == m->second ? m->in_second + 1 : 1;
    m->second = second;
    m->most = m->in_second > m->most ? m->in_second : m->most;
    m->all++;
}
