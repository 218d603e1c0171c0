/* The repository of accounts and of who is logged in: every statement on their tables, by name.
 *
 * Everything returns PQR_OK, a PQR_E_… code with `err`, or MISSING where it says so. Results hold
 * the columns that are named, and are freed by the caller. */
#ifndef NOTES_ACCOUNTS_H
#define NOTES_ACCOUNTS_H

#include "statement.h"

enum { TOKEN_BYTES = 32 };

/* id, email, created_at. An email that is taken: SQL, 23505. */
int account_create(pqr_session *s, const char *tenant, const char *email, const char *hash,
                   pqr_result **res, pqr_error *err);

/* id, email, created_at; MISSING. */
int account_by_email(pqr_session *s, const char *tenant, const char *email, int level,
                     pqr_result **res, pqr_error *err);

/* id, password_hash; MISSING. */
int account_credentials(pqr_session *s, const char *tenant, const char *email, pqr_result **res,
                        pqr_error *err);

/* In a transaction. Locks the account's row; MISSING: it is gone, or its password is another one
 * by now. */
int account_lock(pqr_tx *tx, const char *tenant, const uint8_t id[16], const char *hash,
                 pqr_error *err);

/* In a transaction. expires_at; also forgets the account's tokens that are over. */
int token_create(pqr_tx *tx, const char *tenant, const uint8_t account[16],
                 const uint8_t token[TOKEN_BYTES], pqr_result **res, pqr_error *err);

/* account: whose token it is; MISSING: nobody's, or it is over. */
int token_account(pqr_session *s, const char *tenant, const uint8_t token[TOKEN_BYTES], int level,
                  pqr_result **res, pqr_error *err);
/* For an event loop. What a replica does not find, its primary may. */
const pqr_query *token_account_query(struct statement *st, const char *tenant,
                                     const uint8_t token[TOKEN_BYTES], int level);

/* No columns; OK also if there is none. */
int token_delete(pqr_session *s, const char *tenant, const uint8_t token[TOKEN_BYTES],
                 pqr_result **res, pqr_error *err);

#endif
