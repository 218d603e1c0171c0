/* Connecting to a name that has several addresses: some refuse, some swallow what they are sent, and
 * one can be connected to. */
#include "../../lib/wire/pg.h"

#include "../../lib/wire/world.h"
#include "../lib/names.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- Addresses ------------------------------------------------------------------------------- */

#define GOOD "127.0.0.1"
#define GOOD_TOO "127.0.0.2"
#define HOLE "127.0.0.3"
#define HOLE_TOO "127.0.0.4"
#define REFUSES "127.0.0.5"

static struct pqi_resolver resolver;
static struct pqi_dial dial;
static int port, good;
static struct hole hole, hole_too;

static int open_places(void **state)
{
    (void)state;
    pqi_resolver_init(&resolver);
    port = 0;
    good = listen_at(GOOD, &port, 16);
    hole = hole_at(HOLE, &port);
    hole_too = hole_at(HOLE_TOO, &port);
    return good < 0 || hole.listener < 0 || hole_too.listener < 0;
}

static int close_places(void **state)
{
    (void)state;
    pqi_resolver_free(&resolver);
    hole_close(&hole);
    hole_close(&hole_too);
    close(good);
    return 0;
}

/* ---- A connection ---------------------------------------------------------------------------- */

static int64_t give_up_ns;

/* Begins to connect: `address_ms` for each address, and `all_ms` for all of them. */
static struct pqi_conn *begin(int64_t address_ms, int64_t all_ms)
{
    give_up_ns = pqi_after_ms(pqi_now_ns(), all_ms);
    static char name[] = SEVERAL, word[] = "test", sslmode[] = "disable", port_text[8];
    static struct pqi_target target = {
        .host = name, .port = port_text, .dbname = word, .user = word, .sslmode = sslmode};
    static struct pqi_options options = {.application_name = word, .socket_timeout_ms = 60000};
    snprintf(port_text, sizeof port_text, "%d", port);
    assert_true(pqi_dial_init(&dial, &target, &options));
    struct pqi_conn *c = pqi_conn_new(&dial, &resolver, address_ms, give_up_ns);
    assert_non_null(c);
    return c;
}

/* A server's whole part in a login without a password: AuthenticationOk, ReadyForQuery.
 * https://www.postgresql.org/docs/15/protocol-message-formats.html */
static void serve(int *server)
{
    static const char words[] = "R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    char startup[1024];
    if (*server < 0)
        *server = accept4(good, NULL, NULL, SOCK_CLOEXEC);
    if (*server >= 0 && recv(*server, startup, sizeof startup, MSG_DONTWAIT) > 0)
        assert_int_equal(send(*server, words, sizeof words - 1, MSG_NOSIGNAL), sizeof words - 1);
}

static bool under_way(const struct pqi_conn *c)
{
    return c->state != PQI_DEAD && c->state != PQI_IDLE;
}

/* Drives it as its owners do; true: it is connected, to the good address, in time. The server's
 * end of it, or -1, into *out. */
static bool connects_to(struct pqi_conn *c, int *out)
{
    int server = -1;
    for (short revents = 0; under_way(c) && pqi_now_ns() < give_up_ns;) {
        pqi_conn_step(c, revents);
        if (under_way(c) && pqi_now_ns() >= c->connect_until_ns)
            pqi_conn_late(c);
        serve(&server);
        int64_t soon = pqi_after_ms(pqi_now_ns(), 2);
        if (under_way(c))
            revents = pqi_wait_fd(NULL, pqi_conn_fd(c), pqi_conn_events(c), -1,
                                  soon < c->connect_until_ns ? soon : c->connect_until_ns);
    }
    *out = server;
    return c->state == PQI_IDLE;
}

static bool connects(struct pqi_conn *c)
{
    int server;
    bool connected = connects_to(c, &server);
    if (server >= 0)
        close(server);
    return connected;
}

static void end(struct pqi_conn *c)
{
    int fd = pqi_conn_part(c);
    if (fd >= 0)
        close(fd);
}

#define FOREVER_MS INT64_MAX

/* ---- Which address is tried, and for how long ------------------------------------------------ */

static void an_address_that_refuses_is_followed_by_the_next(void **state)
{
    (void)state;
    RESOLVES_TO(REFUSES, REFUSES, GOOD);
    struct pqi_conn *c = begin(FOREVER_MS, FOREVER_MS);
    assert_true(connects(c));
    end(c);
}

static void an_address_that_does_not_answer_is_followed_by_the_next(void **state)
{
    (void)state;
    RESOLVES_TO(HOLE, HOLE_TOO, GOOD);
    struct pqi_conn *c = begin(100, FOREVER_MS);
    assert_true(connects(c));
    end(c);
}

static void one_address_does_not_take_the_time_of_all(void **state)
{
    (void)state;
    RESOLVES_TO(HOLE, GOOD);
    struct pqi_conn *c = begin(FOREVER_MS, 4000);
    assert_true(connects(c));
    end(c);
}

static void the_last_address_to_fail_is_told_with_its_time(void **state)
{
    (void)state;
    RESOLVES_TO(REFUSES, HOLE);
    struct pqi_conn *c = begin(150, FOREVER_MS);
    assert_false(connects(c));
    assert_int_equal(c->trouble.kind, PQI_TROUBLE_TIMEOUT);
    assert_string_equal(c->trouble.text, "no connection to " HOLE " in 150 ms");
    end(c);
}

static void the_address_that_worked_is_tried_first_from_then_on(void **state)
{
    (void)state;
    RESOLVES_TO(HOLE, GOOD);
    struct pqi_conn *c = begin(100, FOREVER_MS);
    assert_true(connects(c));
    end(c);
    c = begin(FOREVER_MS, FOREVER_MS); /* the hole would take for ever */
    assert_true(connects(c));
    end(c);
}

static void an_address_that_worked_is_given_up_when_the_name_has_it_no_more(void **state)
{
    (void)state;
    RESOLVES_TO(HOLE, GOOD);
    struct pqi_conn *c = begin(100, FOREVER_MS);
    assert_true(connects(c));
    end(c);
    RESOLVES_TO(REFUSES, REFUSES);
    c = begin(FOREVER_MS, FOREVER_MS);
    assert_false(connects(c));
    assert_int_equal(c->trouble.kind, PQI_TROUBLE_REFUSED);
    end(c);
}

static void after_the_one_that_worked_all_the_others_are_tried(void **state)
{
    (void)state;
    RESOLVES_TO(HOLE, GOOD);
    struct pqi_conn *c = begin(100, FOREVER_MS);
    assert_true(connects(c));
    end(c);
    close(good); /* from now on it refuses */
    good = listen_at(GOOD_TOO, &port, 16);
    RESOLVES_TO(GOOD_TOO, REFUSES, GOOD);
    c = begin(FOREVER_MS, FOREVER_MS);
    assert_true(connects(c));
    end(c);
}

/* ---- What was answered before the end --------------------------------------------------------- */

#define ROW_BYTES 40000 /* libpq reads on at once behind so much, and then meets the reset */

static size_t put(char *out, char kind, const void *body, uint32_t len)
{
    uint32_t be = htonl(len + 4);
    out[0] = kind;
    memcpy(out + 1, &be, 4);
    memcpy(out + 5, body, len);
    return len + 5;
}

/* A server's answer to one statement: a row and its tag; an error of its transaction; the answer to
 * its Sync; then a reset. */
enum { NO_SYNC, SYNC, ERROR_AND_SYNC, ANSWERS };
static void answer_and_reset(int server, int behind)
{
    static const char error[] = "SERROR\0VERROR\0C23503\0Mno parent\0";
    static const char column[] = "\0\1x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
    static char row[6 + ROW_BYTES], out[ROW_BYTES + 200];
    uint32_t len = htonl(ROW_BYTES);
    memset(row, 'x', sizeof row);
    memcpy(row, "\0\1", 2);
    memcpy(row + 2, &len, 4);
    size_t n = put(out, '1', "", 0);
    n += put(out + n, '2', "", 0);
    n += put(out + n, 'T', column, sizeof column - 1);
    n += put(out + n, 'D', row, sizeof row);
    n += put(out + n, 'C', "INSERT 0 1", 11);
    if (behind == ERROR_AND_SYNC)
        n += put(out + n, 'E', error, sizeof error);
    if (behind != NO_SYNC)
        n += put(out + n, 'Z', "I", 1);
    assert_int_equal(send(server, out, n, MSG_NOSIGNAL), n);
    struct linger at_once = {1, 0};
    setsockopt(server, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(server);
}

static void what_was_acknowledged_before_the_end_is_so(void **state)
{
    (void)state;
    static const struct pqi_stmt insert = {.sql = "insert", .sync = true};
    for (int behind = 0; behind < ANSWERS; behind++) {
        RESOLVES_TO(GOOD);
        int server;
        struct pqi_conn *c = begin(FOREVER_MS, FOREVER_MS);
        assert_true(connects_to(c, &server));
        pqi_conn_send(c, &insert, 1);
        answer_and_reset(server, behind);
        while (c->state == PQI_BUSY)
            pqi_conn_step(c, pqi_wait_fd(NULL, pqi_conn_fd(c), pqi_conn_events(c), -1, give_up_ns));
        assert_int_equal(c->state, PQI_DEAD);
        assert_int_equal(c->trouble.kind, PQI_TROUBLE_LOST);
        assert_int_equal(c->answers[0].acknowledged, behind == SYNC);
        assert_int_equal(c->answers[0].state, PQI_ANSWER_OK);
        end(c);
    }
}

/* ---- Whose fault it is ----------------------------------------------------------------------- */

static void a_lack_of_descriptors_is_not_taken_for_a_refusal(void **state)
{
    (void)state;
    RESOLVES_TO(GOOD, REFUSES);
    struct pqi_conn *c = begin(FOREVER_MS, FOREVER_MS);
    while (!pqi_lookup_done(c->lookup))
        pqi_wait_fd(NULL, pqi_lookup_fd(c->lookup), POLLIN, -1, give_up_ns);
    close(c->lookup_fd); /* else it gives back the one that it waited with, and takes that */
    c->lookup_fd = -1;
    starved();
    bool connected = connects(c);
    fed();
    assert_false(connected);
    assert_int_equal(c->trouble.kind, PQI_TROUBLE_NOMEM);
    assert_non_null(strstr(c->trouble.text, "Too many open files"));
    end(c);
}

/* ---- Waiting for its name -------------------------------------------------------------------- */

static bool watched(int epoll, struct pqi_conn *c)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, pqi_conn_fd(c), &ev) == 0;
}

static void connections_that_share_a_look_up_can_be_watched_by_one_epoll(void **state)
{
    struct epoll_event ev[3];
    int epoll = epoll_create1(EPOLL_CLOEXEC), ready = 0;
    (void)state;
    RESOLVES_TO(GOOD);
    names_hold();
    struct pqi_conn *first = begin(FOREVER_MS, FOREVER_MS);
    struct pqi_conn *second = begin(FOREVER_MS, FOREVER_MS);
    assert_ptr_equal(first->lookup, second->lookup);
    assert_true(watched(epoll, first) && watched(epoll, second));
    assert_int_equal(epoll_wait(epoll, ev, 3, 0), 0);
    names_go_on();
    while (ready < 2) /* the first may be seen before the second */
        ready = epoll_wait(epoll, ev, 3, -1);
    assert_int_equal(ready, 2);
    close(epoll);
    assert_true(connects(first));
    assert_true(connects(second));
    end(first);
    end(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_places, close_places)
        TEST(an_address_that_refuses_is_followed_by_the_next),
        TEST(an_address_that_does_not_answer_is_followed_by_the_next),
        TEST(one_address_does_not_take_the_time_of_all),
        TEST(the_last_address_to_fail_is_told_with_its_time),
        TEST(the_address_that_worked_is_tried_first_from_then_on),
        TEST(an_address_that_worked_is_given_up_when_the_name_has_it_no_more),
        TEST(after_the_one_that_worked_all_the_others_are_tried),
        TEST(what_was_acknowledged_before_the_end_is_so),
        TEST(a_lack_of_descriptors_is_not_taken_for_a_refusal),
        TEST(connections_that_share_a_look_up_can_be_watched_by_one_epoll),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
