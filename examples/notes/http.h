/* The HTTP side, on libmicrohttpd: connections, bodies, replies, and how it ends. */
#ifndef NOTES_HTTP_H
#define NOTES_HTTP_H

#include "app.h"

#include <netinet/in.h>

/* The listening server, and a thread for each connection. */
struct http;

/* Begins to serve; NULL: it cannot listen there. Port 0: any that is free. Signals should be
 * blocked before: threads inherit that. `app` must live until http_stop. */
struct http *http_start(struct app *app, const struct sockaddr_in *address);
unsigned http_port(const struct http *h);

/* What has become of the requests that were accepted: those whose head and body had come. */
struct tally {
    unsigned long accepted, answered;
};

/* Takes no more connections, answers every request on those there are, closes them when they are
 * idle for `grace_ms` or their client hangs up; then frees `h`. Returns how it went. */
struct tally http_stop(struct http *h, int64_t grace_ms);

#endif
