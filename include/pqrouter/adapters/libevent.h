/* A pqr_loop on a libevent base: its callbacks run in event_base_dispatch.
 *
 *     pqr_loop_open(db, &loop, &err);
 *     struct event *attached = pqr_libevent_attach(base, loop);
 *     … pqr_submit_…(loop, …), event_base_dispatch(base) …
 *     pqr_libevent_detach(attached);
 *     pqr_loop_close(loop);
 *
 * Only this header: the library needs no libevent; programs that include this one link it. */
#ifndef PQROUTER_ADAPTERS_LIBEVENT_H
#define PQROUTER_ADAPTERS_LIBEVENT_H

#include <event2/event.h>
#include <pqrouter/pqrouter.h>

static inline void pqr_libevent_dispatch_(evutil_socket_t fd, short events, void *loop)
{
    (void)fd;
    (void)events;
    pqr_loop_dispatch((pqr_loop *)loop, 0);
}

/* From now on `base` dispatches `loop`, in the thread that runs `base`, where all calls of the loop
 * must be made. Returns an event for pqr_libevent_detach; NULL: no memory, or libevent does not
 * watch it. event_base_dispatch does not end by itself while it is attached. */
static inline struct event *pqr_libevent_attach(struct event_base *base, pqr_loop *loop)
{
    struct event *event = event_new(base, pqr_loop_fd(loop), EV_READ | EV_PERSIST,
                                    pqr_libevent_dispatch_, loop);
    if (event != NULL && event_add(event, NULL) == 0)
        return event;
    if (event != NULL)
        event_free(event);
    return NULL;
}

/* Dispatches no more; calls in flight stay so, and the loop may be attached again, also elsewhere.
 * Before pqr_loop_close. In the thread of the base, also in a callback. NULL is accepted. */
static inline void pqr_libevent_detach(struct event *event)
{
    if (event != NULL)
        event_free(event);
}

#endif
