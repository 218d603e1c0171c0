/* Calls that fail when they are told to: the n-th allocation, descriptor, thread, connect, send,
 * recv or poll, whoever makes it (the library, libpq, libcrypto, the C library), but for what the
 * test does for its own sake. And what was allocated and is not free yet.
 *
 * A program that is linked with this has these calls defined ahead of the C library's, and so have
 * the shared libraries that it uses. They go on to the sanitizer's, where there is one. */
#ifndef TEST_NTH_H
#define TEST_NTH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum nth_call {
    NTH_ALLOCATION, /* malloc, calloc, realloc, strdup, strndup */
    NTH_DESCRIPTOR, /* socket, eventfd, timerfd_create, epoll_create1, fcntl(F_DUPFD_CLOEXEC) */
    NTH_THREAD,     /* pthread_create */
    NTH_CONNECT,
    NTH_SEND,
    NTH_RECV,
    NTH_POLL, /* poll, ppoll, epoll_wait */
    NTH_NOTHING
};

struct nth_fault {
    const char *name;
    enum nth_call call;
    int error;  /* errno; 0, of recv: the end of what comes */
    bool after; /* it does what it should first; what is sent arrives */
};

#define NTH_DEPTH 24

/* What came of an order. May lie in memory that is shared with another process. */
struct nth_seen {
    _Atomic long calls; /* so many of that kind were made */
    _Atomic bool failed;
    int depth;
    void *stack[NTH_DEPTH]; /* of the one that failed */
};

/* From now on: what is allocated is noted, and the n-th call of this kind fails (0: none does). */
void nth_watch(void);
void nth_order(const struct nth_fault *fault, long n, struct nth_seen *seen);
void nth_stop(void);

/* What this thread does now is the test's own: neither counted nor noted, and nothing fails. */
void nth_own(bool begins);

/* How many blocks the library or libpq allocated since nth_watch and nobody freed; the first ones
 * are told in `text`. What libcrypto and the C library keep for the process's life is not counted. */
int nth_left(char *text, size_t size);

/* "libpqrouter.so.0+0x1a2b libpq.so.5+0x3c4d …": what stands there. */
void nth_tell(void *const *stack, int depth, char *text, size_t size);

#endif
