/* One event loop, many calls in flight: a read for each tenant, all at once. */
#include <pqrouter/pqrouter.h>

#include <stdio.h>
#include <sys/epoll.h>

static int failed;

static void show(void *arg, const pqr_done *done)
{
    int *left = arg;
    if (done->err->code == PQR_OK)
        printf("%s from %s\n", pqr_text(done->res, 0, 0), pqr_source(done->res));
    else
        failed += fprintf(stderr, "failed: %s\n", done->err->message) > 0;
    pqr_result_free(done->res);
    --*left;
}

int main(void)
{
    enum { TENANTS = 10 };
    pqr *db = NULL;
    pqr_loop *loop = NULL;
    pqr_session *s[TENANTS] = {NULL};
    pqr_error err;
    int left = 0, epoll = epoll_create1(0);
    if (pqr_open(&db, NULL, &err) != PQR_OK || pqr_loop_open(db, &loop, &err) != PQR_OK)
        return fprintf(stderr, "%s\n", err.message), 1;
    epoll_ctl(epoll, EPOLL_CTL_ADD, pqr_loop_fd(loop), &(struct epoll_event){.events = EPOLLIN});
    for (int i = 0; i < TENANTS; i++) {
        char tenant[24];
        snprintf(tenant, sizeof tenant, "tenant%d", i);
        if (pqr_session_open(db, PQR_SESSION(.tenant = tenant), &s[i], &err) == PQR_OK &&
            pqr_submit_read(loop, s[i],
                            PQR_QUERY(.sql = "select 'hello ' || $1", PQR_PARAMS(PQR_TEXT(tenant))),
                            show, &left, NULL, &err) == PQR_OK)
            left++;
    }
    while (left > 0) {
        struct epoll_event event;
        epoll_wait(epoll, &event, 1, -1);
        pqr_loop_dispatch(loop, 0);
    }
    for (int i = 0; i < TENANTS; i++)
        pqr_session_close(s[i]);
    pqr_loop_close(loop);
    pqr_close(db, 0);
    return failed > 0;
}
