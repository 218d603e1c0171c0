/* A session's token: taken when it is opened, heeded when it reads, given when it is asked for. */
#ifndef PQI_RUN_TOKEN_H
#define PQI_RUN_TOKEN_H

#include "session.h"

/* The session was opened with this text. What is no token of its own is ignored and counted. false:
 * no memory to find out, and to ignore it would let the session read what is older. */
bool pqi_session_take_token(struct pqr_session *s, const char *text);

/* Binds the session to what its token says, as far as that is known by now: `seen` is raised by what
 * nodes must have. */
enum pqi_token_verdict pqi_session_bind(struct pqr_session *s, struct pqi_shard *shard,
                                        struct pqi_seen *seen);

/* Writes its token: "" when it has seen nothing. USAGE: it does not fit. */
int pqi_session_token(struct pqr_session *s, char *buf, size_t size);

#endif
