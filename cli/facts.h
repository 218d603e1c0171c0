/* What a server says of itself, beyond what the router asks it all the time. */
#ifndef CLI_FACTS_H
#define CLI_FACTS_H

#include "cli.h"

enum stamp_state { STAMP_UNKNOWN, STAMP_NONE, STAMP_DENIED, STAMP_READ };

struct stamp {
    enum stamp_state state;
    char fleet[64];
    int shard, shards; /* its number, -1 for the control database; how many its map knows */
    int64_t map_version;
};

struct facts {
    pqr_error err; /* .code PQR_OK: it answered, and the rest holds */
    char version[32];
    char role[64]; /* whom we are there */
    bool superuser;
    bool monitor; /* member of pg_monitor */
    char database[64];
    char system[24];                          /* its cluster's identifier */
    char started[48], port[8];                /* with it, they tell a server from all others */
    int64_t max_connections, reserved;        /* reserved: not for such as us */
    int64_t role_connections, db_connections; /* limits of role and database; -1: none */
    struct stamp stamp;
};

/* Asks one server, named as in pqr_health. */
void facts_ask(pqr *db, const char *node, int64_t deadline_ms, struct facts *out);

/* Are both the same server, whatever address and database it was asked by? */
bool facts_same_server(const struct facts *a, const struct facts *b);

/* How many connections such as ours the server allows. */
int64_t facts_room(const struct facts *f);

#endif
