/* Accounts over HTTP. */
#ifndef NOTES_ACCOUNT_API_H
#define NOTES_ACCOUNT_API_H

#include "request.h"

/* POST /t/{tenant}/accounts {"email", "password"} → 201 {"id", "email", "created_at"}, and
 * GET /t/{tenant}/accounts?email=… → the same. */
handler_fn api_account_create, api_account_find;

#endif
