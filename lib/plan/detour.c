/* How long does a call wait for a connection that is being made, and for that alone? */
#include "detour.h"

#define MS INT64_C(1000000)
#define HERE_MS 20
#define PEER_MS \
    1000 /* where many begin at once, all wait for logins: that spreads them, and must not */
#define LOOK_MS 10
#define SELDOM_MS 100

static int64_t within(int64_t ns, int64_t least_ns, int64_t most_ns)
{
    return ns < least_ns ? least_ns : ns > most_ns ? most_ns : ns;
}

struct pqi_detour_verdict pqi_detour(int64_t since_ns, int64_t until_ns, int64_t now_ns)
{
    int64_t fifth = (until_ns - since_ns) / 5, waited = now_ns - since_ns;
    int64_t here = within(fifth, 0, HERE_MS * MS), peer = within(fifth, 0, PEER_MS * MS);
    if (waited < here)
        return (struct pqi_detour_verdict){PQI_DETOUR_NONE, since_ns + here};
    int64_t look = now_ns + within(waited / 4, LOOK_MS * MS, SELDOM_MS * MS);
    if (waited >= peer)
        return (struct pqi_detour_verdict){
            waited >= (until_ns - since_ns) / 2 ? PQI_DETOUR_AWAY : PQI_DETOUR_PEER, look};
    return (struct pqi_detour_verdict){PQI_DETOUR_HERE,
                                       look < since_ns + peer ? look : since_ns + peer};
}
