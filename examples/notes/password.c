/* crypt(3) with yescrypt, a few at a time. */
#include "password.h"

#include "status.h"

#include <crypt.h>
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

_Static_assert(PASSWORD_HASH == CRYPT_OUTPUT_SIZE, "as crypt.h has it");

struct hasher {
    sem_t turns;
    char decoy[PASSWORD_HASH]; /* of no password that anybody has */
};

/* One hash: of a new password, with `setting` from crypt_gensalt; of one to compare, with the
 * hash that it should have. */
static int compute(const char *password, const char *setting, char out[PASSWORD_HASH])
{
    struct crypt_data *data = calloc(1, sizeof *data);
    const char *hash = data ? crypt_rn(password, setting, data, sizeof *data) : NULL;
    if (hash)
        memcpy(out, hash, strlen(hash) + 1);
    if (data)
        explicit_bzero(data, sizeof *data);
    free(data);
    return hash ? PQR_OK : PQR_E_NOMEM;
}

static int compute_new(const char *password, char out[PASSWORD_HASH])
{
    char salt[CRYPT_GENSALT_OUTPUT_SIZE];
    if (!crypt_gensalt_rn("$y$", 0, NULL, 0, salt, sizeof salt))
        return PQR_E_NOMEM;
    return compute(password, salt, out);
}

struct hasher *hasher_new(void)
{
    struct hasher *h = calloc(1, sizeof *h);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (!h)
        return NULL;
    sem_init(&h->turns, 0, cpus > 0 ? (unsigned)cpus : 1);
    if (compute_new("no password", h->decoy) != PQR_OK) {
        hasher_free(h);
        return NULL;
    }
    return h;
}

void hasher_free(struct hasher *h)
{
    if (h)
        sem_destroy(&h->turns);
    free(h);
}

static int take_turn(struct hasher *h, int64_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (sem_timedwait(&h->turns, &until) != 0)
        if (errno != EINTR)
            return BUSY;
    return PQR_OK;
}

int password_hash(struct hasher *h, const char *password, int64_t wait_ms, char out[PASSWORD_HASH])
{
    int code = take_turn(h, wait_ms);
    if (code != PQR_OK)
        return code;
    code = compute_new(password, out);
    sem_post(&h->turns);
    return code;
}

/* Looks at every byte, whatever the first ones are. */
static bool same(const char *a, const char *b)
{
    size_t n = strlen(a);
    volatile unsigned char differ = 0;
    if (strlen(b) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        differ = (unsigned char)(differ | (a[i] ^ b[i]));
    return differ == 0;
}

int password_check(struct hasher *h, const char *password, const char *hash, int64_t wait_ms)
{
    char computed[PASSWORD_HASH];
    const char *wanted = hash ? hash : h->decoy;
    int code = take_turn(h, wait_ms);
    if (code != PQR_OK)
        return code;
    code = compute(password, wanted, computed);
    sem_post(&h->turns);
    if (code == PQR_OK && (!hash || !same(computed, wanted)))
        code = UNAUTHORIZED;
    return code;
}
