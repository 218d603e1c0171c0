/* The command line. */
#ifndef NOTES_SETTINGS_H
#define NOTES_SETTINGS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct settings {
    bool help, migrate;
    struct sockaddr_in listen;
    int64_t deadline_ms, grace_ms;
};

/* --help, --migrate, --listen, --deadline, --grace; what is not given has its default. false: not
 * understood. */
bool settings_read(int argc, char **argv, struct settings *s);

#endif
