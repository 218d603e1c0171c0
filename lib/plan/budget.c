/* How many calls may be run again. */
#include "budget.h"

#define SECOND_NS 1e9

static double least(double a, double b)
{
    return a < b ? a : b;
}

static double most(double a, double b)
{
    return a > b ? a : b;
}

/* What time gives ends at the floor; what calls give is on top of it. */
static void refill(struct pqi_budget *b, int64_t percent, uint64_t calls, int64_t now_ns)
{
    double seconds = (double)(now_ns - b->asked_ns) / SECOND_NS;
    double by_time = least(b->left + seconds * PQI_BUDGET_FLOOR_S, PQI_BUDGET_FLOOR);
    double share = (double)percent / 100;
    double by_calls = (double)(calls - b->calls) * share;
    double cap = most(PQI_BUDGET_FLOOR, PQI_BUDGET_RECENT * share);
    b->left = least(most(b->left, by_time) + by_calls, cap);
}

bool pqi_budget_take(struct pqi_budget *b, int64_t percent, uint64_t calls, int64_t now_ns)
{
    if (percent <= 0)
        return false;
    if (b->begun)
        refill(b, percent, calls, now_ns);
    else
        *b = (struct pqi_budget){.begun = true, .left = PQI_BUDGET_FLOOR};
    b->calls = calls;
    b->asked_ns = now_ns;
    if (b->left < 1)
        return false;
    b->left -= 1;
    return true;
}
