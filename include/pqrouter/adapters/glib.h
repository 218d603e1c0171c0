/* A pqr_loop on a GLib main context: its callbacks run in g_main_loop_run.
 *
 *     pqr_loop_open(db, &loop, &err);
 *     GSource *attached = pqr_glib_attach(NULL, loop);
 *     … pqr_submit_…(loop, …), g_main_loop_run(…) …
 *     pqr_glib_detach(attached);
 *     pqr_loop_close(loop);
 *
 * Only this header: the library needs no GLib; programs that include this one link it. */
#ifndef PQROUTER_ADAPTERS_GLIB_H
#define PQROUTER_ADAPTERS_GLIB_H

#include <glib-unix.h>
#include <pqrouter/pqrouter.h>

static inline gboolean pqr_glib_dispatch_(gint fd, GIOCondition condition, gpointer loop)
{
    (void)fd;
    (void)condition;
    pqr_loop_dispatch((pqr_loop *)loop, 0);
    return G_SOURCE_CONTINUE;
}

/* From now on `context` (NULL: the default one) dispatches `loop`, in the thread that iterates it,
 * where all calls of the loop must be made. Returns the source, for pqr_glib_detach; its priority
 * may be set. GLib ends the program when there is no memory. */
static inline GSource *pqr_glib_attach(GMainContext *context, pqr_loop *loop)
{
    GSource *source = g_unix_fd_source_new(pqr_loop_fd(loop), G_IO_IN);
    g_source_set_callback(source, (GSourceFunc)(void (*)(void))pqr_glib_dispatch_, loop, NULL);
    g_source_attach(source, context);
    return source;
}

/* Dispatches no more; calls in flight stay so, and the loop may be attached again, also elsewhere.
 * Before pqr_loop_close. In the context's thread, also in a callback. NULL is accepted. */
static inline void pqr_glib_detach(GSource *source)
{
    if (source == NULL)
        return;
    g_source_destroy(source);
    g_source_unref(source);
}

#endif
