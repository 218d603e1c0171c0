/* Logging in, and who a request is from. */
#ifndef NOTES_LOGIN_H
#define NOTES_LOGIN_H

#include "request.h"

/* Fills request.account by the header `Authorization: Bearer TOKEN`; UNAUTHORIZED. */
int login_check(struct request *r);

/* POST /t/{tenant}/login {"email", "password"} → {"token", "expires_at"}, and
 * DELETE /t/{tenant}/login: the token that it is sent with counts no more. */
handler_fn login_open, login_close;

#endif
