/* A listening socket, towards its end; and how many descriptors there may be. */
#ifndef NOTES_LISTENER_H
#define NOTES_LISTENER_H

#include <stdbool.h>

/* A descriptor for each client and each connection to a database: more than shells allow, and less
 * than they could. */
void listener_allow_many(void);

/* From now on nobody new is let in. */
void listener_refuse(int listener);

/* There is none that the kernel has let in and nobody has accepted yet. */
bool listener_is_empty(int listener);

#endif
