/* The monitor: one thread, started at the first use, that asks every server of the shards in use
 * one cheap question an interval; and sees to idle, ageing and parting connections. */
#ifndef PQI_MONITOR_H
#define PQI_MONITOR_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>

struct pqi_monitor;
struct pqi_node;
struct pqi_shard;
struct pqr;

/* Makes it, with no thread and no descriptor yet. */
int pqi_monitor_new(struct pqi_monitor **out, struct pqr *db, pqr_error *err);

/* Before the first use, when the router has its flags: takes its descriptor. false: there is none
 * to be had. */
bool pqi_monitor_begin(struct pqi_monitor *m);

/* Begins to look after a shard; starts the thread if it does not run. */
int pqi_monitor_use(struct pqi_monitor *m, struct pqi_shard *s, pqr_error *err);

/* Ends the thread and its connections. NULL is accepted; a second call does nothing. */
void pqi_monitor_stop(struct pqi_monitor *m);

/* Frees what stop has stopped. `forked`: in a child, where the thread does not exist. */
void pqi_monitor_free(struct pqi_monitor *m, bool forked);

#endif
