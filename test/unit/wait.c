/* Waiting by the application's function: what it is told, and what becomes of what it does. */
#include "../../lib/wire/world.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

/* Does nothing `idle` times; then writes to `pipe`, sets `flag`, wakes `waiter`, if there is one of
 * them; `really`: then waits as it is told. */
struct plan {
    int idle, pipe, flag;
    struct pqi_waiter *waiter;
    bool really;
    int calls, fd, least_ms, most_ms;
};

static void wait_by_plan(void *arg, int fd, int timeout_ms)
{
    struct plan *p = arg;
    p->fd = fd;
    p->least_ms = p->calls == 0 || timeout_ms < p->least_ms ? timeout_ms : p->least_ms;
    p->most_ms = timeout_ms > p->most_ms ? timeout_ms : p->most_ms;
    if (++p->calls <= p->idle)
        return;
    if (p->pipe > 0)
        assert_int_equal(write(p->pipe, "", 1), 1);
    if (p->flag > 0)
        pqi_flag_set(p->flag);
    if (p->waiter)
        pqi_waiter_wake(p->waiter);
    if (p->really)
        poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, timeout_ms);
}

static int64_t soon(int ms)
{
    return pqi_after_ms(pqi_now_ns(), ms);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void coming_back_early_is_waited_through(void **state)
{
    (void)state;
    int fd[2], kick = pqi_flag_new();
    assert_int_equal(pipe(fd), 0);
    struct plan p = {.idle = 5, .pipe = fd[1]};
    const struct pqi_wait how = {wait_by_plan, &p};
    assert_int_equal(pqi_wait_fd(&how, fd[0], POLLIN, kick, PQI_FOREVER), POLLIN);
    assert_int_equal(p.calls, 6);
    assert_int_not_equal(p.fd, fd[0]); /* it is given one of its own, which is gone afterwards */
    assert_false(is_open(p.fd));
    close(fd[0]), close(fd[1]), pqi_flag_close(kick);
}

static void a_kick_ends_it_with_no_events(void **state)
{
    (void)state;
    int fd[2], kick = pqi_flag_new();
    assert_int_equal(pipe(fd), 0);
    struct plan p = {.idle = 2, .flag = kick, .really = true};
    const struct pqi_wait how = {wait_by_plan, &p};
    assert_int_equal(pqi_wait_fd(&how, fd[0], POLLIN, kick, PQI_FOREVER), 0);
    assert_int_equal(p.calls, 3);
    assert_int_equal(pqi_wait_fd(&how, fd[1], POLLOUT, kick, PQI_FOREVER), POLLOUT);
    close(fd[0]);
    assert_true(pqi_wait_fd(&how, fd[1], POLLIN, -1, PQI_FOREVER) & POLLERR);
    close(fd[1]), pqi_flag_close(kick);
}

static void the_moment_ends_it_and_not_before(void **state)
{
    (void)state;
    struct plan p = {.idle = 3, .really = true};
    const struct pqi_wait how = {wait_by_plan, &p};
    int flag = pqi_flag_new();
    int64_t until = soon(30);
    assert_int_equal(pqi_wait_fd(&how, flag, POLLIN, -1, until), 0);
    assert_true(pqi_now_ns() >= until);
    assert_in_range(p.least_ms, 1, 30);
    p.calls = 0;
    assert_int_equal(pqi_wait_fd(&how, flag, POLLIN, -1, soon(-1)), 0);
    assert_int_equal(p.calls, 0); /* there is nothing to wait for */
    pqi_flag_close(flag);
}

static void no_wait_is_for_ever(void **state)
{
    (void)state;
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    struct plan p = {.pipe = fd[1]};
    const struct pqi_wait how = {wait_by_plan, &p};
    assert_int_equal(pqi_wait_fd(&how, fd[0], POLLIN, -1, PQI_FOREVER), POLLIN);
    assert_int_equal(p.most_ms, 60000);
    close(fd[0]), close(fd[1]);
}

static void a_flag_of_everybodys_is_seen_soon(void **state)
{
    (void)state;
    int quiet = pqi_flag_new(), abort = pqi_flag_new();
    struct plan p = {.flag = abort, .really = true};
    const struct pqi_wait how = {wait_by_plan, &p};
    int64_t begun = pqi_now_ns();
    assert_int_equal(pqi_wait_or_abort(&how, quiet, POLLIN, abort, soon(5000)), 0);
    assert_true(pqi_now_ns() - begun < 1000 * PQI_MS);
    begun = pqi_now_ns();
    assert_int_equal(pqi_wait_or_abort(NULL, quiet, POLLIN, abort, soon(5000)), 0);
    assert_true(pqi_now_ns() - begun < 1000 * PQI_MS);
    pqi_flag_set(quiet);
    assert_int_equal(pqi_wait_or_abort(&how, quiet, POLLIN, abort, soon(5000)), POLLIN);
    pqi_flag_close(quiet), pqi_flag_close(abort);
}

static void a_waiter_is_woken_or_the_moment_comes(void **state)
{
    (void)state;
    struct pqi_waiter w;
    pqi_waiter_init(&w);
    struct plan p = {.idle = 4, .waiter = &w, .really = true};
    const struct pqi_wait how = {wait_by_plan, &p};
    assert_true(pqi_waiter_wait(&w, &how, PQI_FOREVER));
    assert_int_equal(p.calls, 5);
    assert_false(is_open(p.fd));

    pqi_waiter_wake(&w); /* before it is waited for */
    assert_true(pqi_waiter_wait(&w, &how, PQI_FOREVER));
    assert_int_equal(p.calls, 5);

    p.waiter = NULL;
    int64_t until = soon(20);
    assert_false(pqi_waiter_wait(&w, &how, until));
    assert_true(pqi_now_ns() >= until);
    pqi_waiter_free(&w);
}

/* Then nothing tells it anything: so it looks. */
static void without_a_descriptor_left_it_looks_often(void **state)
{
    (void)state;
    struct rlimit before, few = {.rlim_cur = 64};
    int taken[64], n = 0, fd[2];
    struct pqi_waiter w;
    pqi_waiter_init(&w);
    assert_int_equal(pipe(fd), 0);
    getrlimit(RLIMIT_NOFILE, &before);
    few.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_NOFILE, &few);
    while (n < 64 && (taken[n] = dup(fd[0])) >= 0)
        n++;
    struct plan p = {.idle = 3, .pipe = fd[1]}, q = {.idle = 3, .waiter = &w};
    const struct pqi_wait how = {wait_by_plan, &p}, wakes = {wait_by_plan, &q};
    short events = pqi_wait_fd(&how, fd[0], POLLIN, -1, PQI_FOREVER);
    bool woken = pqi_waiter_wait(&w, &wakes, PQI_FOREVER);
    while (n > 0)
        close(taken[--n]);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(events, POLLIN);
    assert_true(woken);
    assert_true(p.fd == -1 && p.most_ms <= 10);
    assert_true(q.fd == -1 && q.most_ms <= 10);
    close(fd[0]), close(fd[1]);
    pqi_waiter_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coming_back_early_is_waited_through),
        cmocka_unit_test(a_kick_ends_it_with_no_events),
        cmocka_unit_test(the_moment_ends_it_and_not_before),
        cmocka_unit_test(no_wait_is_for_ever),
        cmocka_unit_test(a_flag_of_everybodys_is_seen_soon),
        cmocka_unit_test(a_waiter_is_woken_or_the_moment_comes),
        cmocka_unit_test(without_a_descriptor_left_it_looks_often),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
