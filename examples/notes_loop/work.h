/* What a request goes through between its last byte and its reply: calls, one behind another, and
 * nobody who waits for them. Of HTTP nothing. */
#ifndef NOTES_LOOP_WORK_H
#define NOTES_LOOP_WORK_H

#include "../notes/note_json.h"
#include "../notes/request.h"

struct work;
struct route;

/* Called in pqr_loop_dispatch or pqr_loop_close: the work has ended. */
typedef void work_over_fn(struct work *w);

struct work {
    /* Its maker's to fill. */
    struct request r;
    pqr_loop *loop;
    work_over_fn *over;
    /* How it ended: PQR_OK, and a reply; or a code for status_of. */
    int code;
    struct reply reply;
    /* Its own. */
    const struct route *route;
    uint8_t token[TOKEN_BYTES];
    int token_level;
    struct page page;
    pqr_call *call; /* in flight; NULL: none */
    bool cancelled;
};

/* Begins; what it is about must stay until it is over. False: it was over at once, and `over` is
 * not called. */
bool work_begin(struct work *w);

/* Nobody waits for it any more: it ends early, by way of `over`. */
void work_cancel(struct work *w);

#endif
