/* Between libmicrohttpd and handlers: a body that comes in pieces, a reply that goes out. */
#ifndef NOTES_EXCHANGE_H
#define NOTES_EXCHANGE_H

#include "request.h"

/* A body that is longer is answered with 413. */
enum { BODY_MAX = 256 * 1024 };

/* A request's body, as far as it has come. Only BODY_MAX of it are kept. */
struct body {
    char *bytes; /* freed by the caller */
    size_t received;
};

/* The next piece; *size becomes 0. false: hang up. */
bool body_receive(struct body *b, const char *data, size_t *size);

/* What a code means goes into the reply, and what was ours to prevent onto stderr. */
void reply_error(struct reply *reply, struct request *r, int code);

/* Queues the reply, and frees what is in it. Returns libmicrohttpd's yes or no. `stopping`: it is
 * the last one on its connection. */
int reply_send(struct reply *reply, struct MHD_Connection *c, bool stopping);

#endif
