/* Proxies in front of a server, for live tests: proxy.py and thief.py as children. */
#ifndef TEST_PROXIES_H
#define TEST_PROXIES_H

#include <stdio.h>
#include <sys/types.h>

struct proxy {
    pid_t pid;
    FILE *to, *from;
    char url[512]; /* "DATABASE_PRIMARY_URL=…", by way of it */
};

/* Before the primary of an unsharded fleet. `script` names its variable in the environment: "PROXY",
 * "THIEF". Fails the test when it does not start. */
struct proxy proxy_begin(const char *script);
void proxy_end(struct proxy *p);

/* A line to it. */
void proxy_tell(struct proxy *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A number from it, and a line: waits for them. */
int proxy_number(struct proxy *p);
void proxy_hears(struct proxy *p, const char *line);

#endif
