/* The driver's beginning and end: settings, threads, a line of counts on standard output twice a
 * second. It works until its time is over or its standard input ends. */
#include "driver.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 500, LOOK_MS = 5, STALL_MS = 15 };

static const char *const mutants[MUTANTS] = {
    [MUTANT_NONE] = "none",
    [MUTANT_RETRY_UNKNOWN] = "retry-unknown",
    [MUTANT_UNKNOWN_AS_FAILED] = "unknown-as-failed",
    [MUTANT_UNKNOWN_AS_OK] = "unknown-as-ok",
    [MUTANT_OTHER_KEY] = "other-key",
    [MUTANT_SESSION_ANY] = "session-any",
    [MUTANT_ROLLBACK_AS_OK] = "rollback-as-ok",
    [MUTANT_WRONG_TENANT] = "wrong-tenant",
    [MUTANT_SPLIT_TRANSFER] = "split-transfer",
    [MUTANT_LATE] = "late",
    [MUTANT_FORGET_END] = "forget-end",
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "driver: %s: %s\n", what, why);
    exit(2);
}

/* ---- Settings -------------------------------------------------------------------------------- */

static int64_t number(const char *name, const char *text, int64_t least, int64_t most)
{
    char *end;
    long long n = strtoll(text, &end, 10);
    if (*end || n < least || n > most)
        fail(name, "a number that will not do");
    return n;
}

static enum mutant mutant_called(const char *name)
{
    for (int i = 0; i < MUTANTS; i++)
        if (strcmp(mutants[i], name) == 0)
            return (enum mutant)i;
    fail("--mutant", "no such one");
    return MUTANT_NONE;
}

static struct settings settings(int argc, char **argv)
{
    static const struct option {
        const char *name;
        size_t where;
        int64_t least, most;
    } options[] = {
        {"--seconds", offsetof(struct settings, seconds), 1, 1000000},
        {"--threads", offsetof(struct settings, threads), 1, 1000},
        {"--actors", offsetof(struct settings, actors), 0, 10000},
        {"--tenants", offsetof(struct settings, tenants), 2, 999},
        {"--keys", offsetof(struct settings, keys), 2, KEYS_MAX},
        {"--rate", offsetof(struct settings, rate), 1, 1000000},
        {"--deadline", offsetof(struct settings, deadline_ms), 12, 100000},
    };
    struct settings set = {.history = "history.jsonl",
                           .run = "r",
                           .seed = 1,
                           .seconds = 10,
                           .threads = 8,
                           .actors = 16,
                           .tenants = 8,
                           .keys = 4,
                           .rate = 400,
                           .deadline_ms = 1200};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        bool known = true;
        if (strcmp(name, "--history") == 0)
            set.history = value;
        else if (strcmp(name, "--run") == 0 && strlen(value) < 8)
            set.run = value;
        else if (strcmp(name, "--seed") == 0)
            set.seed = (uint64_t)number(name, value, 0, INT64_MAX);
        else if (strcmp(name, "--mutant") == 0)
            set.mutant = mutant_called(value);
        else
            known = false;
        for (size_t o = 0; o < sizeof options / sizeof *options; o++) {
            if (strcmp(name, options[o].name) == 0) {
                int64_t n = number(name, value, options[o].least, options[o].most);
                memcpy((char *)&set + options[o].where, &n, sizeof n);
                known = true;
            }
        }
        if (!known)
            fail(name, "not known");
    }
    return set;
}

/* ---- Running --------------------------------------------------------------------------------- */

/* Notes when this process was not let run: nobody can keep a deadline then. */
static void *watch(void *driver)
{
    struct driver *d = driver;
    int64_t last = now_ns();
    while (!d->stop) {
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000}, NULL);
        int64_t now = now_ns();
        if (now - last > (LOOK_MS + STALL_MS) * 1000000)
            history_stall(d, last, now);
        last = now;
    }
    return NULL;
}

static void tell(struct driver *d)
{
    printf("{\"t\":%lld,\"OK\":%llu,\"FAILED\":%llu,\"UNKNOWN\":%llu}\n", (long long)now_ns(),
           (unsigned long long)d->counts[LABEL_OK], (unsigned long long)d->counts[LABEL_FAILED],
           (unsigned long long)d->counts[LABEL_UNKNOWN]);
    fflush(stdout);
}

/* Until the time is over or standard input ends. */
static void sit(struct driver *d)
{
    int64_t until = now_ns() + d->set.seconds * 1000000000;
    struct pollfd in = {.fd = 0, .events = POLLIN};
    char byte;
    while (now_ns() < until) {
        if (poll(&in, 1, TICK_MS) > 0 && read(0, &byte, 1) <= 0)
            break;
        tell(d);
    }
}

static pthread_t start(void *(*run)(void *), void *arg)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, arg) != 0)
        fail("threads", "no more of them");
    return thread;
}

int main(int argc, char **argv)
{
    static struct driver d;
    pqr_error err;
    d.set = settings(argc, argv);
    d.fd = open(d.set.history, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (d.fd < 0)
        fail(d.set.history, "is there already, or cannot be written");
    if (pqr_open(&d.db, NULL, &err) != PQR_OK || pqr_ready(d.db, 30000, &err) != PQR_OK)
        fail("the fleet", err.message);
    history_head(&d);

    size_t n = (size_t)d.set.threads;
    struct actor *actors = calloc(n, sizeof *actors);
    pthread_t *threads = calloc(n, sizeof *threads);
    struct crowd crowd = {.d = &d, .first = (int)n};
    if (!actors || !threads)
        fail("memory", "none left");
    pthread_t watcher = start(watch, &d), looper = start(crowd_thread, &crowd);
    for (size_t i = 0; i < n; i++) {
        actor_init(&actors[i], &d, (int)i);
        threads[i] = start(actor_thread, &actors[i]);
    }
    sit(&d);
    d.stop = true;
    for (size_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    pthread_join(looper, NULL);
    pthread_join(watcher, NULL);
    tell(&d);
    pqr_close(d.db, 2000);
    free(actors);
    free(threads);
    close(d.fd);
    return 0;
}
