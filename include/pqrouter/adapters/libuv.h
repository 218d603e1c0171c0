/* A pqr_loop on a libuv loop: its callbacks run in uv_run.
 *
 *     pqr_loop_open(db, &loop, &err);
 *     uv_poll_t *attached = pqr_uv_attach(uv_default_loop(), loop);
 *     … pqr_submit_…(loop, …), uv_run(…) …
 *     pqr_uv_detach(attached);
 *     pqr_loop_close(loop);
 *
 * Only this header: the library needs no libuv; programs that include this one link it. */
#ifndef PQROUTER_ADAPTERS_LIBUV_H
#define PQROUTER_ADAPTERS_LIBUV_H

#include <pqrouter/pqrouter.h>
#include <stdlib.h>
#include <uv.h>

static inline void pqr_uv_dispatch_(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    pqr_loop_dispatch((pqr_loop *)handle->data, 0);
}

static inline void pqr_uv_free_(uv_handle_t *handle)
{
    free(handle);
}

/* From now on `uv` dispatches `loop`, in the thread that runs `uv`, where all calls of the loop must
 * be made. Returns a handle for pqr_uv_detach; NULL: no memory, or libuv does not watch it. The
 * handle is active: uv_run does not end by itself while it is attached, unless after
 * uv_unref((uv_handle_t *)handle). Its .data is the adapter's. */
static inline uv_poll_t *pqr_uv_attach(uv_loop_t *uv, pqr_loop *loop)
{
    uv_poll_t *handle = (uv_poll_t *)malloc(sizeof *handle);
    if (handle == NULL)
        return NULL;
    if (uv_poll_init(uv, handle, pqr_loop_fd(loop)) != 0) {
        free(handle);
        return NULL;
    }
    handle->data = loop;
    uv_poll_start(handle, UV_READABLE, pqr_uv_dispatch_);
    return handle;
}

/* Dispatches no more; calls in flight stay so, and the loop may be attached again, also elsewhere.
 * Before pqr_loop_close. In the thread of `uv`, also in a callback. The handle is freed when `uv`
 * runs next: so let it run before uv_loop_close. NULL is accepted. */
static inline void pqr_uv_detach(uv_poll_t *handle)
{
    if (handle == NULL)
        return;
    uv_poll_stop(handle);
    uv_close((uv_handle_t *)handle, pqr_uv_free_);
}

#endif
