/* What all requests share: one a process, made by main.c, used by every thread. */
#ifndef NOTES_APP_H
#define NOTES_APP_H

#include "password.h"

#include <pqrouter/pqrouter.h>

#include <stdatomic.h>
#include <stdint.h>

struct app {
    pqr *db;
    struct hasher *hasher;
    int64_t deadline_ms; /* of each call to a database */
    atomic_bool stopping;
};

#endif
