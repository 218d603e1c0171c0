/* Reads on a GLib main loop, all at once. */
#include <pqrouter/adapters/glib.h>
#include <stdio.h>

static GMainLoop *main_loop;
static int left, failed;

static void show(void *arg, const pqr_done *done)
{
    (void)arg;
    if (done->err->code == PQR_OK)
        printf("%s from %s\n", pqr_text(done->res, 0, 0), pqr_source(done->res));
    else
        failed += fprintf(stderr, "failed: %s\n", done->err->message) > 0;
    pqr_result_free(done->res);
    if (--left == 0)
        g_main_loop_quit(main_loop);
}

int main(void)
{
    GSource *attached = NULL;
    pqr *db = NULL;
    pqr_loop *loop = NULL;
    pqr_session *s = NULL;
    pqr_error err;
    if (pqr_open(&db, NULL, &err) || pqr_loop_open(db, &loop, &err) ||
        pqr_session_open(db, PQR_SESSION(.tenant = "acme"), &s, &err) ||
        !(attached = pqr_glib_attach(NULL, loop)))
        return fprintf(stderr, "%s\n", err.message), 1;
    for (int i = 1; i <= 10; i++)
        if (pqr_submit_read(loop, s, PQR_QUERY(.sql = "select $1 * $1", PQR_PARAMS(PQR_INT32(i))),
                            show, NULL, NULL, &err) == PQR_OK)
            left++;
    main_loop = g_main_loop_new(NULL, FALSE);
    g_main_loop_run(main_loop);
    g_main_loop_unref(main_loop);
    pqr_glib_detach(attached);
    pqr_session_close(s);
    pqr_loop_close(loop);
    pqr_close(db, 0);
    return failed > 0;
}
