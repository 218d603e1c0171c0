/* Paths of requests, and the patterns of those that there are. */
#ifndef NOTES_PATH_H
#define NOTES_PATH_H

#include "request.h"

/* Is the path of this pattern? In a pattern {tenant} and {id} stand for one step each, and go into
 * the request. */
bool path_fits(const char *pattern, const char *path, struct request *r);

/* One more method that the path has. */
void path_allow(struct reply *reply, const char *method);

#endif
