/* Does a server hang that a call waits for? */
#include "hang.h"

#define MS INT64_C(1000000)
#define LEAST_MS 20
#define LOOK_MS 100
#define PATIENCE_MS 150
#define PEACE_MS 1000

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* A fifth of the call's time, within bounds. */
static int64_t fifth_ns(const struct pqi_waiting *w, int64_t most_ms)
{
    int64_t fifth = (w->until_ns - w->since_ns) / 5;
    return fifth < LEAST_MS * MS ? LEAST_MS * MS : fifth > most_ms * MS ? most_ms * MS : fifth;
}

/* Not so long that what freezes meanwhile is seen too late: the others' answers may prove nothing of it. */
static int64_t peace_ns(const struct pqi_waiting *w, int proven, int64_t now)
{
    int64_t least = fifth_ns(w, LOOK_MS), ns = least;
    for (int i = 0; i < proven && ns < PEACE_MS * MS; i++)
        ns *= 2;
    int64_t most = later(least, (w->until_ns - now) / 4);
    most = most < PEACE_MS * MS ? most : PEACE_MS * MS;
    return ns < most ? ns : most;
}

struct pqi_hang_verdict pqi_hang_look(const struct pqi_waiting *w, int64_t now)
{
    int64_t silent = later(w->since_ns, w->heard_ns);
    int64_t peace = peace_ns(w, w->proven, now), patience = fifth_ns(w, PATIENCE_MS);
    if (w->gone)
        return (struct pqi_hang_verdict){PQI_HANG_LEAVE, now + patience};
    if (w->heard_ns > w->since_ns && now - silent < peace)
        return (struct pqi_hang_verdict){PQI_HANG_PROVEN, silent + peace_ns(w, w->proven + 1, now)};
    if (now - silent < peace)
        return (struct pqi_hang_verdict){PQI_HANG_WAIT, silent + peace};
    int64_t half = silent + (w->until_ns - w->since_ns) / 2;
    if (w->asked_ns == 0 && now >= half)
        return (struct pqi_hang_verdict){PQI_HANG_LEAVE, now + patience};
    if (w->asked_ns == 0)
        return (struct pqi_hang_verdict){PQI_HANG_ASK,
                                         half < now + patience ? half : now + patience};
    int64_t leave = later(w->asked_ns, w->heard_ns) + patience;
    if (now < leave)
        return (struct pqi_hang_verdict){PQI_HANG_WAIT, leave};
    return (struct pqi_hang_verdict){PQI_HANG_LEAVE, now + patience};
}

int64_t pqi_hang_quiet_ms(int64_t asked_ns, int64_t heard_ns, int64_t now_ns)
{
    int64_t since = later(asked_ns, heard_ns);
    return asked_ns > 0 && now_ns > since ? (now_ns - since) / MS : 0;
}
