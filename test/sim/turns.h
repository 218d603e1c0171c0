/* Virtual time, chance, and threads that are coroutines. One runs at a time and nothing runs beside
 * it; where one waits, the seed draws who goes on; when nobody can, time jumps to the next event.
 * So a seed is one history, the same each time. */
#ifndef SIM_TURNS_H
#define SIM_TURNS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#define US INT64_C(1000)
#define MS INT64_C(1000000)
#define SECOND INT64_C(1000000000)
#define NEVER INT64_MAX

/* Chance, in streams of their own: what one part draws does not change what another one gets. */
enum sim_stream { SIM_LIBRARY, SIM_NETWORK, SIM_SERVERS, SIM_CALLERS, SIM_FAULTS, SIM_TURNS };

uint64_t sim_draw(enum sim_stream s);
uint64_t sim_below(enum sim_stream s, uint64_t n); /* 0 to n - 1; n is not 0 */
int64_t sim_between(enum sim_stream s, int64_t least, int64_t most);
bool sim_odds(enum sim_stream s, int percent);

/* Begins a history; sim_over frees what it used. */
void sim_begin(uint64_t seed, bool trace);
void sim_over(void);

int64_t sim_now(void);

/* Calls `fn` at that moment; not before what is due earlier, or was put in earlier. */
typedef void sim_fn(void *arg, uint64_t tag);
void sim_at(int64_t when, sim_fn *fn, void *arg, uint64_t tag);

/* ---- Threads -------------------------------------------------------------------------------- */

struct sim_thread;

struct sim_thread *sim_spawn(const char *name, void (*run)(void *arg), void *arg);
void sim_join(struct sim_thread *t);
/* Waits until a descriptor is ready (`n` of them; revents are filled), the flag is set (NULL: none),
 * or the moment has come. */
void sim_wait(struct pollfd *fds, int n, const bool *flag, int64_t until);
void sim_sleep(int64_t ns);
/* In an event: a descriptor may be ready now. */
void sim_stir(void);

/* Runs until no thread is left. `collect` fetches what was sent when nobody can go on. */
void sim_run(void (*collect)(void));

/* ---- What happened -------------------------------------------------------------------------- */

/* A line of the trace, if there is one. */
void sim_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool sim_traced(void);

/* Goes into the history's fingerprint. */
void sim_mix(uint64_t value);
void sim_mix_bytes(const void *bytes, uint64_t n);
uint64_t sim_fingerprint(void);

/* Something that must not be was seen: the history ends, sim_run returns. */
void sim_violated(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *sim_violation(void); /* NULL: none */

/* Events, switches: for the figures. */
uint64_t sim_turns(void);

#endif
