/* Which path and method is whose. */
#ifndef NOTES_ROUTES_H
#define NOTES_ROUTES_H

#include "request.h"

/* Answers a request: finds its handler, opens its session, sees who is logged in where the
 * handler needs that. PQR_OK, or a code for status_of; `reply` is filled as far as it is known. */
int serve(struct request *r, struct reply *reply);

#endif
