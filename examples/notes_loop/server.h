/* The loop: one thread, one epoll, in it the clients, the databases and the signals. */
#ifndef NOTES_LOOP_SERVER_H
#define NOTES_LOOP_SERVER_H

#include "../notes/app.h"

#include <netinet/in.h>

struct server;

/* Begins to listen; nothing is served before server_run. NULL: it cannot, errno or *err has why.
 * Port 0: any that is free. `signals` is a descriptor that becomes readable when it is to end;
 * `app` must live until server_stop. */
struct server *server_start(struct app *app, const struct sockaddr_in *address, int signals,
                            pqr_error *err);
unsigned server_port(const struct server *s);

/* Serves until a signal. */
void server_run(struct server *s);

/* What has become of the requests that were accepted: those whose head and body had come. */
struct tally {
    unsigned long accepted, answered;
    unsigned long given_up; /* their client has gone while they were under way */
};

/* Takes no more connections, answers every request on those there are, closes them when they are
 * idle for `grace_ms` or their client hangs up; then frees `s`. Returns how it went. */
struct tally server_stop(struct server *s, int64_t grace_ms);

#endif
