/* Names and addresses as a test wants them: a stand-in for the system's resolver, and addresses
 * that swallow what they are sent. Needs no rights. A program that uses it resolves by it. */
#ifndef TEST_NAMES_H
#define TEST_NAMES_H

/* The name that the stand-in knows; all others are the system's resolver's. */
#define SEVERAL "several.test"

/* From now on it has these IPv4 addresses, in this order, ended by NULL. */
#define RESOLVES_TO(...) names_are((const char *const[]){__VA_ARGS__, NULL})
void names_are(const char *const *addresses);

/* Its look-ups take until the second. */
void names_hold(void);
void names_go_on(void);

/* A socket that listens there (port 0: any; *port is the one). -1: it cannot. */
int listen_at(const char *address, int *port, int backlog);

/* A black hole there: a listener that is full, so that the kernel drops whoever comes. */
struct hole {
    int listener, fillers[8];
};
struct hole hole_at(const char *address, int *port);
void hole_close(struct hole *hole);

/* From now on this process can open no descriptor more; until fed() it goes without. */
void starved(void);
void fed(void);

#endif
