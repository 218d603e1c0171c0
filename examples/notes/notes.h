/* The repository of notes: every statement on their table, by name. Those with a …_query are also
 * there to be submitted to an event loop.
 *
 * Everything returns PQR_OK, a PQR_E_… code with `err`, or MISSING: no such note of this tenant,
 * or it is deleted (of restore: is not). Results hold the columns that are named, and are freed by
 * the caller. */
#ifndef NOTES_NOTES_H
#define NOTES_NOTES_H

#include "cursor.h"
#include "statement.h"

#include <pqrouter/pqrouter.h>

/* What a client may say of a note; NULL: nothing. */
struct draft {
    const char *slug, *title, *body, *parent;
};

/* What a note is known by to the rest. */
struct whose {
    const char *tenant;
    const uint8_t *account; /* 16 bytes: who does it */
};

/* All of a note, and `server`: who created it, by the server's own word. */
int note_create(pqr_session *s, const struct whose *by, const struct draft *d, pqr_result **res,
                pqr_error *err);
const pqr_query *note_create_query(struct statement *st, const struct whose *by,
                                   const struct draft *d);

/* Creates what is not there and updates what is, by slug, in one statement: id, slug, and whether
 * it was `created`. The arrays have `n` elements. A slug that is in it twice: SQL, 21000. */
int note_put(pqr_session *s, const struct whose *by, const char *const *slugs,
             const char *const *titles, const char *const *bodies, size_t n, pqr_result **res,
             pqr_error *err);

/* All of a note. */
int note_by_id(pqr_session *s, const char *tenant, const uint8_t id[16], int level,
               pqr_result **res, pqr_error *err);
const pqr_query *note_by_id_query(struct statement *st, const char *tenant, const uint8_t id[16],
                                  int level);

/* id, slug, title, created_at: newest first, those after `after` (NULL: from the first), at most
 * `limit`. With `q` (NULL: all) those in which its words are. */
int note_list(pqr_session *s, const char *tenant, const char *q, const struct cursor *after,
              int limit, int level, pqr_result **res, pqr_error *err);
const pqr_query *note_list_query(struct statement *st, const char *tenant, const char *q,
                                 const struct cursor *after, int limit, int level);

/* count, and `server`: who has counted, by the server's own word. */
int note_count(pqr_session *s, const char *tenant, int level, pqr_result **res, pqr_error *err);

/* All of a note, after what the draft names was changed. Its parent stays. */
int note_update(pqr_session *s, const char *tenant, const uint8_t id[16], const struct draft *d,
                pqr_result **res, pqr_error *err);

/* The row stays, with who deleted it and when; its slug is free. deleted_at. */
int note_delete(pqr_session *s, const struct whose *by, const uint8_t id[16], pqr_result **res,
                pqr_error *err);

/* All of the note. Its slug was taken meanwhile: SQL, 23505. */
int note_restore(pqr_session *s, const char *tenant, const uint8_t id[16], pqr_result **res,
                 pqr_error *err);

#endif
