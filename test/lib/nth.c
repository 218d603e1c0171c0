/* Calls that fail when they are told to. Built without sanitizers, whatever the program is built
 * with: it is called before they are ready. */
#include "nth.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

/* ---- The order -------------------------------------------------------------------------------- */

static struct nth_fault fault;
static long wanted;
static struct nth_seen *seen;
static _Atomic bool ordered;
static __thread int own;

/* Where code is. What the dynamic loader asks for itself cannot fail: without memory for a library's
 * thread-local data it ends the process ("cannot allocate memory for thread-local data: ABORT"). */
static struct place {
    const char *name; /* its file's begins so */
    uintptr_t begin, end;
} loader = {"ld-linux", 0, 0}, libpq = {"libpq.so", 0, 0}, pqrouter = {"libpqrouter.so", 0, 0};

static void find_place(struct place *p, const struct dl_phdr_info *info)
{
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash ? slash + 1 : info->dlpi_name;
    if (strncmp(name, p->name, strlen(p->name)) != 0)
        return;
    p->begin = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            p->end = p->begin + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
}

static int find_places(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    find_place(&loader, info);
    find_place(&libpq, info);
    find_place(&pqrouter, info);
    return 0;
}

static bool is_in(const struct place *p, const void *caller)
{
    return (uintptr_t)caller >= p->begin && (uintptr_t)caller < p->end;
}

static bool is_loader(const void *caller)
{
    return is_in(&loader, caller);
}

void nth_own(bool begins)
{
    own += begins ? 1 : -1;
}

void nth_order(const struct nth_fault *f, long n, struct nth_seen *s)
{
    fault = *f;
    wanted = n;
    seen = s;
    atomic_store(&ordered, true);
}

/* Is this the one? */
static bool fails(enum nth_call call)
{
    if (!atomic_load_explicit(&ordered, memory_order_acquire) || own > 0 || fault.call != call)
        return false;
    if (atomic_fetch_add(&seen->calls, 1) + 1 != wanted)
        return false;
    nth_own(true);
    seen->depth = backtrace(seen->stack, NTH_DEPTH);
    nth_own(false);
    atomic_store(&seen->failed, true);
    return true;
}

static int refuse(void)
{
    errno = fault.error;
    return -1;
}

/* ---- Blocks that are not free yet ------------------------------------------------------------- */

enum { BUCKETS = 1 << 12, BLOCKS = 1 << 16, FRAMES = 7 };

struct block {
    void *at;
    size_t size;
    uint32_t next;
    int depth;
    void *stack[FRAMES];
};

/* Apart from the program's memory, where the leak sanitizer would take these for references. */
static struct table {
    uint32_t bucket[BUCKETS];
    uint32_t used, unused; /* how many were ever in use; the first of those that are free again */
    struct block block[BLOCKS];
} * table;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool watched;

void nth_watch(void)
{
    void *memory = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                        -1, 0);
    table = memory == MAP_FAILED ? NULL : memory;
    dl_iterate_phdr(find_places, NULL);
    void *stack[FRAMES];
    backtrace(stack, FRAMES); /* the first time it loads a library */
    if (!table || !loader.end || !libpq.end || !pqrouter.end)
        abort();
    table->used = 1; /* 0 is none */
    atomic_store(&watched, true);
}

void nth_stop(void)
{
    atomic_store(&ordered, false);
    atomic_store(&watched, false);
}

static uint32_t *bucket_of(const void *at)
{
    uint64_t mixed = (uint64_t)(uintptr_t)at * UINT64_C(0x9E3779B97F4A7C15);
    return &table->bucket[mixed >> 52];
}

static uint32_t new_block(void)
{
    uint32_t i = table->unused;
    if (i != 0)
        table->unused = table->block[i].next;
    else if (table->used < BLOCKS)
        i = table->used++;
    else
        abort();
    return i;
}

static void note(void *at, size_t size, const void *from)
{
    struct block b = {.at = at, .size = size};
    bool ours = is_in(&libpq, from) || is_in(&pqrouter, from);
    if (!at || !ours || own > 0 || !atomic_load_explicit(&watched, memory_order_acquire))
        return;
    nth_own(true);
    b.depth = backtrace(b.stack, FRAMES);
    pthread_mutex_lock(&table_lock);
    uint32_t i = new_block(), *bucket = bucket_of(at);
    b.next = *bucket;
    table->block[i] = b;
    *bucket = i;
    pthread_mutex_unlock(&table_lock);
    nth_own(false);
}

/* Also of what the test frees for the library: its results. */
static void forget(const void *at)
{
    if (!at || !atomic_load_explicit(&watched, memory_order_acquire))
        return;
    pthread_mutex_lock(&table_lock);
    uint32_t *link = bucket_of(at);
    while (*link != 0 && table->block[*link].at != at)
        link = &table->block[*link].next;
    if (*link != 0) {
        uint32_t i = *link;
        *link = table->block[i].next;
        table->block[i] = (struct block){.next = table->unused};
        table->unused = i;
    }
    pthread_mutex_unlock(&table_lock);
}

static const char *library_of(const void *address, uintptr_t *offset)
{
    Dl_info info;
    if (!dladdr(address, &info) || !info.dli_fname)
        return "?";
    const char *slash = strrchr(info.dli_fname, '/');
    *offset = (uintptr_t)address - (uintptr_t)info.dli_fbase;
    return slash ? slash + 1 : info.dli_fname;
}

void nth_tell(void *const *stack, int depth, char *text, size_t size)
{
    size_t len = 0;
    text[0] = '\0';
    for (int i = 0; i < depth && len < size; i++) {
        uintptr_t offset = 0;
        const char *library = library_of(stack[i], &offset);
        int n = snprintf(text + len, size - len, "%s%s+%#lx", i ? " " : "", library,
                         (unsigned long)offset);
        len += n > 0 ? (size_t)n : 0;
    }
}

int nth_left(char *text, size_t size)
{
    char stack[600];
    int left = 0;
    nth_own(true);
    text[0] = '\0';
    for (uint32_t i = 1; i < table->used; i++) {
        const struct block *b = &table->block[i];
        if (!b->at || left++ > 0)
            continue;
        nth_tell(b->stack, b->depth, stack, sizeof stack);
        snprintf(text, size, "%zu bytes of %s", b->size, stack);
    }
    nth_own(false);
    return left;
}

/* ---- Memory ----------------------------------------------------------------------------------- */

/* The sanitizer's, or the C library's. */
void *__interceptor_malloc(size_t size) __attribute__((weak));
void *__interceptor_calloc(size_t count, size_t size) __attribute__((weak));
void *__interceptor_realloc(void *old, size_t size) __attribute__((weak));
void __interceptor_free(void *memory) __attribute__((weak));
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *memory);

static void *take(size_t size, const void *from)
{
    if (!is_loader(from) && fails(NTH_ALLOCATION)) {
        refuse();
        return NULL;
    }
    void *at = __interceptor_malloc ? __interceptor_malloc(size) : __libc_malloc(size);
    note(at, size, from);
    return at;
}

void *malloc(size_t size)
{
    return take(size, __builtin_return_address(0));
}

/* The loader, too: threads begin with it. */
void *calloc(size_t count, size_t size)
{
    if (fails(NTH_ALLOCATION)) {
        refuse();
        return NULL;
    }
    void *at = __interceptor_calloc ? __interceptor_calloc(count, size)
                                    : __libc_calloc(count, size);
    note(at, count * size, __builtin_return_address(0));
    return at;
}

void *realloc(void *old, size_t size)
{
    const void *from = __builtin_return_address(0);
    if (!is_loader(from) && fails(NTH_ALLOCATION)) {
        refuse();
        return NULL;
    }
    forget(old);
    void *at = __interceptor_realloc ? __interceptor_realloc(old, size) : __libc_realloc(old, size);
    note(at, size, from);
    return at;
}

void free(void *memory)
{
    forget(memory);
    if (__interceptor_free)
        __interceptor_free(memory);
    else
        __libc_free(memory);
}

/* A sanitizer's would not come by here. */
static char *copy(const char *text, size_t len, const void *from)
{
    char *to = take(len + 1, from);
    if (!to)
        return NULL;
    memcpy(to, text, len);
    to[len] = '\0';
    return to;
}

char *strdup(const char *text)
{
    return copy(text, strlen(text), __builtin_return_address(0));
}

char *strndup(const char *text, size_t most)
{
    return copy(text, strnlen(text, most), __builtin_return_address(0));
}

/* The leak sanitizer knows what the dynamic loader keeps by who calls malloc: here that is this file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_options(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:_dl_\nleak:dl_open_worker";
}

const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}

/* ---- What goes on to the system ---------------------------------------------------------------- */

/* The definitions behind the program's: the sanitizer's, or the C library's. */
static struct {
    int (*socket)(int, int, int);
    int (*eventfd)(unsigned, int);
    int (*timerfd_create)(int, int);
    int (*epoll_create1)(int);
    int (*fcntl)(int, int, ...);
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int (*connect)(int, const struct sockaddr *, socklen_t);
    ssize_t (*send)(int, const void *, size_t, int);
    ssize_t (*recv)(int, void *, size_t, int);
    int (*poll)(struct pollfd *, nfds_t, int);
    int (*ppoll)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
    int (*epoll_wait)(int, struct epoll_event *, int, int);
} next;

static void find(void *to, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    memcpy(to, &found, sizeof found);
}

static void find_all(void)
{
    find(&next.socket, "socket");
    find(&next.eventfd, "eventfd");
    find(&next.timerfd_create, "timerfd_create");
    find(&next.epoll_create1, "epoll_create1");
    find(&next.fcntl, "fcntl");
    find(&next.pthread_create, "pthread_create");
    find(&next.connect, "connect");
    find(&next.send, "send");
    find(&next.recv, "recv");
    find(&next.poll, "poll");
    find(&next.ppoll, "ppoll");
    find(&next.epoll_wait, "epoll_wait");
}

/* Before each: is this the one? */
static bool due(enum nth_call call)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    nth_own(true);
    pthread_once(&once, find_all);
    nth_own(false);
    return fails(call);
}

int socket(int domain, int type, int protocol)
{
    return due(NTH_DESCRIPTOR) ? refuse() : next.socket(domain, type, protocol);
}

int eventfd(unsigned count, int flags)
{
    return due(NTH_DESCRIPTOR) ? refuse() : next.eventfd(count, flags);
}

int timerfd_create(int clock, int flags)
{
    return due(NTH_DESCRIPTOR) ? refuse() : next.timerfd_create(clock, flags);
}

int epoll_create1(int flags)
{
    return due(NTH_DESCRIPTOR) ? refuse() : next.epoll_create1(flags);
}

/* Each of its arguments fits a pointer. */
int fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    void *arg = va_arg(args, void *);
    va_end(args);
    bool makes = command == F_DUPFD_CLOEXEC || command == F_DUPFD;
    return due(makes ? NTH_DESCRIPTOR : NTH_NOTHING) ? refuse() : next.fcntl(fd, command, arg);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    return due(NTH_THREAD) ? fault.error : next.pthread_create(thread, attr, run, arg);
}

int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
    return due(NTH_CONNECT) ? refuse() : next.connect(fd, address.__sockaddr__, len);
}

/* What follows on a connection that was reset, or has ended, must be true to that. */
static ssize_t end(int fd)
{
    shutdown(fd, SHUT_RDWR);
    return fault.error ? refuse() : 0;
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    if (!due(NTH_SEND))
        return next.send(fd, bytes, len, flags);
    if (fault.after)
        next.send(fd, bytes, len, flags);
    return end(fd);
}

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
    return due(NTH_RECV) ? end(fd) : next.recv(fd, bytes, len, flags);
}

int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    return due(NTH_POLL) ? refuse() : next.poll(fds, n, timeout_ms);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    return due(NTH_POLL) ? refuse() : next.ppoll(fds, n, timeout, mask);
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms)
{
    return due(NTH_POLL) ? refuse() : next.epoll_wait(epoll, events, most, timeout_ms);
}
