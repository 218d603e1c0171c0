/* The words of live tests: a router over the fleet that the test was started with, and a second,
 * independent pair of eyes on its servers (plain libpq, as the fleet's superuser). */
#ifndef TEST_LIVE_H
#define TEST_LIVE_H

#include <pqrouter/admin.h>
#include <pqrouter/pqrouter.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Opens a router with the fleet's environment and these settings over it ("NAME=value", or "NAME"
 * to unset), ended by NULL. Fails the test when it cannot. */
#define ROUTER(...) live_router((const char *const[]){__VA_ARGS__, NULL})
pqr *live_router(const char *const *settings);

/* The same environment as a list, for pqr_options (freed at the next call, per thread). */
const char *const *live_env(const char *const *settings);

/* The router, ready within 10 s. */
#define READY_ROUTER(...) live_ready(ROUTER(__VA_ARGS__))
pqr *live_ready(pqr *db);

pqr_session *live_session(pqr *db, const char *tenant);

/* Runs `fleet.py VERB …` and fails the test unless it succeeds. */
void fleet(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Asks a server itself, past the library: the first value of the answer ("" for NULL or no row).
 * Static, per thread. As the superuser through fleet.py's environment. */
const char *ask(const char *node, const char *format, ...) __attribute__((format(printf, 2, 3)));
long ask_number(const char *node, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Reads through the router, in a new session; the node that served, told by the server itself
 * (its cluster_name), which pqr_source must confirm. Static, per thread. */
const char *served_by(pqr *db, const char *tenant, int level);

/* Waits until `condition` holds, at most `ms`; fails the test with its text otherwise. */
#define EVENTUALLY(ms, condition)                                    \
    do {                                                             \
        int64_t until_ = live_now_ms() + (ms);                       \
        while (!(condition) && live_now_ms() < until_)               \
            live_sleep_ms(5);                                        \
        if (!(condition))                                            \
            fail_msg("not within %d ms: %s", (int)(ms), #condition); \
    } while (0)
int64_t live_now_ms(void);
void live_sleep_ms(int ms);

/* What the router knows of a node. */
pqr_node_health health_of(pqr *db, const char *node);
bool serves_reads(pqr *db, const char *node);

/* An error is what it should be; else the test fails with its whole text. */
#define OK(call) live_ok((call), &live_error, #call, __FILE__, __LINE__)
#define FAILS(code, call) live_fails((code), (call), &live_error, #call, __FILE__, __LINE__)
extern _Thread_local pqr_error live_error;
void live_ok(int code, const pqr_error *err, const char *what, const char *file, int line);
void live_fails(int wanted, int code, const pqr_error *err, const char *what, const char *file,
                int line);

/* The last error's message has this in it. */
void says(const char *part);

/* A statement for its effect. */
void run_write(pqr *db, const char *tenant, const char *sql);

/* The server process behind the connection that a write of this session gets. */
int32_t backend(pqr_session *s);

/* Tables parent(id) and child(id, parent), whose reference is checked when committing. */
void make_parent_and_child(const char *node);

/* The end of a group of tests that share a router. */
int close_router(void **state);

/* Is a transaction pooler between the routers and the servers (NAME-pooled)? */
bool live_pooled(void);

/* The port of the server itself: a pooler's own is another. */
int live_port(const char *node);

/* Is this a sanitizer's build? Its loads are smaller; what is asserted is the same. */
bool live_slow_build(void);

#endif
