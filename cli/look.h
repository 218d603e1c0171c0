/* A look at every server, as the library sees it. */
#ifndef CLI_LOOK_H
#define CLI_LOOK_H

#include "cli.h"
#include "json.h"

struct look {
    pqr_node_health *nodes; /* in the order of the configuration, shard by shard */
    int n;
};

/* Opens the router. Not CLI_OK: said on stderr. Close with pqr_close. */
int open_router(const struct cli *cli, pqr **db);

/* Waits until every server was looked at and replicas' lags are known, or `timeout_ms` have
 * passed. Not CLI_OK: said on stderr. */
int look_at_all(const struct cli *cli, pqr *db, int64_t timeout_ms, struct look *out);

/* Looks again, without waiting. */
void look_again(pqr *db, struct look *look);

void look_free(struct look *look);

/* One server's health, into an open object. */
void json_health(struct json *j, const pqr_node_health *h);

const char *state_name(int state);
const char *condition_name(int condition);
const char *role_name(int role);

int64_t timeline_of(const pqr_node_health *h); /* -1: not known */

/* "0", "1", … or "control". */
const char *shard_name(int shard, char *buf, size_t size);

/* Milliseconds since some moment. */
int64_t now_ms(void);
void sleep_ms(int64_t ms); /* less, when a signal comes */

#endif
