/* Passwords: hashed, compared. Slow by intent, so nobody who calls this holds a connection to a
 * database, or a transaction. */
#ifndef NOTES_PASSWORD_H
#define NOTES_PASSWORD_H

#include <stdint.h>

enum { PASSWORD_MIN = 8, PASSWORD_MAX = 200, PASSWORD_HASH = 384 /* bytes, with NUL */ };

/* How many hashes are computed at a time is limited: each takes a processor and megabytes.
 * Thread-safe. */
struct hasher;

/* NULL: no memory, or crypt(3) does not know yescrypt. Free with hasher_free; NULL is accepted. */
struct hasher *hasher_new(void);
void hasher_free(struct hasher *h);

/* Both wait at most `wait_ms` for their turn: BUSY. PQR_E_NOMEM: crypt(3) found no memory. */
int password_hash(struct hasher *h, const char *password, int64_t wait_ms, char out[PASSWORD_HASH]);

/* PQR_OK, or UNAUTHORIZED: it is another. `hash` NULL: there is no such account; that is
 * UNAUTHORIZED too, and takes as long, so that nobody learns by a clock who has one. */
int password_check(struct hasher *h, const char *password, const char *hash, int64_t wait_ms);

#endif
