/* When a server is looked at again. */
#include "probe.h"

#define SOON_MS 50
#define LATEST_MS 500 /* while there is no primary, jitter apart */
#define MISSING_SHARE 40

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* `ms` and up to `more` beyond it. */
static int64_t jittered(int64_t ms, int64_t more, uint64_t chance)
{
    return ms + (int64_t)(chance % (uint64_t)(more + 1));
}

static int64_t while_missing_ms(int64_t missing_ms, uint64_t chance)
{
    int64_t ms = missing_ms / MISSING_SHARE;
    ms = ms < SOON_MS ? SOON_MS : least(ms, LATEST_MS);
    return jittered(ms, ms / 2, chance);
}

int64_t pqi_probe_in_ms(int64_t interval_ms, int64_t missing_ms, uint64_t chance)
{
    int64_t ms = jittered(interval_ms - interval_ms / 10, interval_ms / 5, chance);
    return missing_ms < 0 ? ms : least(ms, while_missing_ms(missing_ms, chance));
}

int64_t pqi_probe_again_ms(int64_t interval_ms, int failures, int64_t missing_ms, uint64_t chance)
{
    int64_t most = interval_ms + interval_ms / 2, ms = SOON_MS;
    for (int i = 1; i < failures && ms < most; i++)
        ms *= 2;
    ms = least(ms, most);
    ms = jittered(ms - ms / 4, ms / 2, chance);
    return missing_ms < 0 ? ms : least(ms, while_missing_ms(missing_ms, chance));
}
