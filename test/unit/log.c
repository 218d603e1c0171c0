/* Log records: who gets them, and how they look on stderr. */
#include "../../lib/base/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { TEXT, LOGFMT, JSON };

/* ---- The hook -------------------------------------------------------------------------------- */

static struct heard {
    int n, level;
    char event[64], text[2048];
} heard;

static void hear(void *arg, int level, const char *event, const char *text)
{
    struct heard *h = arg;
    h->n++;
    h->level = level;
    snprintf(h->event, sizeof h->event, "%s", event);
    snprintf(h->text, sizeof h->text, "%s", text);
}

static struct pqi_log hooked(int level)
{
    heard = (struct heard){0};
    return (struct pqi_log){.level = level, .fn = hear, .arg = &heard};
}

static void a_record_reaches_the_hook(void **state)
{
    (void)state;
    struct pqi_log log = hooked(PQR_LOG_INFO);
    pqi_log(&log, PQR_LOG_WARN, "node_down", "%s is down: %d", "shard1/primary", 7);
    assert_int_equal(heard.n, 1);
    assert_int_equal(heard.level, PQR_LOG_WARN);
    assert_string_equal(heard.event, "node_down");
    assert_string_equal(heard.text, "shard1/primary is down: 7");
}

static void what_is_less_urgent_than_the_level_is_dropped(void **state)
{
    (void)state;
    for (int level = PQR_LOG_OFF; level <= PQR_LOG_TRACE; level++)
        for (int record = PQR_LOG_ERROR; record <= PQR_LOG_TRACE; record++) {
            struct pqi_log log = hooked(level);
            pqi_log(&log, record, "x", "y");
            assert_int_equal(heard.n, record <= level);
        }
}

static void a_record_is_one_line(void **state)
{
    (void)state;
    struct pqi_log log = hooked(PQR_LOG_INFO);
    pqi_log(&log, PQR_LOG_INFO, "x", "%s", "a\nb\x1b[0m\x7f");
    assert_string_equal(heard.text, "a b [0m ");
}

static void a_long_record_is_cut_at_a_whole_character(void **state)
{
    (void)state;
    char text[3001];
    for (int i = 0; i < 1000; i++)
        memcpy(text + 3 * i, "\xe2\x82\xac", 3);
    text[3000] = '\0';
    for (size_t shift = 0; shift < 3; shift++) {
        struct pqi_log log = hooked(PQR_LOG_INFO);
        pqi_log(&log, PQR_LOG_INFO, "x", "%.*s%s", (int)shift, "xx", text);
        size_t len = strlen(heard.text);
        assert_int_equal(len, shift + (1023 - shift) / 3 * 3);
        assert_memory_equal(heard.text + len - 3, "\xe2\x82\xac", 3);
    }
}

/* ---- stderr ---------------------------------------------------------------------------------- */

/* stderr leads here while a record is written: each write is one message. */
static int real_stderr, ends[2];

static int catch_stderr(void **state)
{
    (void)state;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) != 0)
        return -1;
    real_stderr = dup(STDERR_FILENO);
    return real_stderr < 0 ? -1 : 0;
}

static int free_stderr(void **state)
{
    (void)state;
    close(real_stderr);
    close(ends[0]);
    return close(ends[1]);
}

/* What one record writes, in one write; "": nothing. */
static const char *written(int format, int level, const char *event, const char *text)
{
    static char line[4096];
    struct pqi_log log = {.level = PQR_LOG_TRACE, .format = format};
    dup2(ends[0], STDERR_FILENO);
    pqi_log(&log, level, event, "%s", text);
    dup2(real_stderr, STDERR_FILENO);
    ssize_t len = recv(ends[1], line, sizeof line - 1, 0);
    line[len > 0 ? len : 0] = '\0';
    char more;
    assert_int_equal(recv(ends[1], &more, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    return line;
}

static void each_format_has_its_shape(void **state)
{
    (void)state;
    assert_string_equal(written(TEXT, PQR_LOG_WARN, "node_down", "shard1/primary is down"),
                        "pqrouter warn: shard1/primary is down\n");
    assert_string_equal(written(LOGFMT, PQR_LOG_ERROR, "node_down", "it said \"no\""),
                        "lib=pqrouter level=error event=node_down msg=\"it said \\\"no\\\"\"\n");
    assert_string_equal(written(JSON, PQR_LOG_INFO, "node_up", "C:\\x is \"up\""),
                        "{\"lib\":\"pqrouter\",\"level\":\"info\",\"event\":\"node_up\","
                        "\"msg\":\"C:\\\\x is \\\"up\\\"\"}\n");
}

static void each_level_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(written(TEXT, PQR_LOG_ERROR, "x", "y"), "pqrouter error: y\n");
    assert_string_equal(written(TEXT, PQR_LOG_WARN, "x", "y"), "pqrouter warn: y\n");
    assert_string_equal(written(TEXT, PQR_LOG_INFO, "x", "y"), "pqrouter info: y\n");
    assert_string_equal(written(TEXT, PQR_LOG_DEBUG, "x", "y"), "pqrouter debug: y\n");
    assert_string_equal(written(TEXT, PQR_LOG_TRACE, "x", "y"), "pqrouter trace: y\n");
}

static void the_longest_record_is_still_one_whole_line(void **state)
{
    (void)state;
    static const char *const fillings[] = {"x", "\"", "\\", "\n", "\xc3\xa4"};
    static const char *const last[] = {"\n", "\"\n", "\"}\n"};
    for (size_t i = 0; i < sizeof fillings / sizeof *fillings; i++)
        for (int format = TEXT; format <= JSON; format++) {
            char text[4001] = "";
            for (size_t at = 0; at + 2 < sizeof text; at += strlen(fillings[i]))
                memcpy(text + at, fillings[i], strlen(fillings[i]) + 1);
            const char *line = written(format, PQR_LOG_INFO, "event", text);
            size_t len = strlen(line), tail = strlen(last[format]);
            assert_in_range(len, 1000, 2200);
            assert_string_equal(line + len - tail, last[format]);
            assert_ptr_equal(strchr(line, '\n'), line + len - 1);
        }
}

static void without_a_level_nothing_is_written(void **state)
{
    (void)state;
    struct pqi_log log = {0};
    dup2(ends[0], STDERR_FILENO);
    pqi_log(&log, PQR_LOG_ERROR, "x", "y");
    dup2(real_stderr, STDERR_FILENO);
    char more;
    assert_int_equal(recv(ends[1], &more, 1, 0), -1);
}

static void with_a_hook_nothing_is_written(void **state)
{
    (void)state;
    struct pqi_log log = hooked(PQR_LOG_INFO);
    dup2(ends[0], STDERR_FILENO);
    pqi_log(&log, PQR_LOG_ERROR, "x", "y");
    dup2(real_stderr, STDERR_FILENO);
    char more;
    assert_int_equal(recv(ends[1], &more, 1, 0), -1);
    assert_int_equal(heard.n, 1);
}

/* ---- Escapes --------------------------------------------------------------------------------- */

static void expect_escaped(size_t size, const char *text, const char *escaped)
{
    char out[64];
    memset(out, 0x55, sizeof out);
    pqi_json_escape(out, size, text);
    if (strcmp(out, escaped) != 0)
        fail_msg("\"%s\" into %zu bytes is \"%s\"", text, size, out);
    for (size_t i = size; i < sizeof out; i++)
        assert_int_equal(out[i], 0x55);
}

static void what_json_cannot_hold_is_escaped(void **state)
{
    (void)state;
    expect_escaped(64, "", "");
    expect_escaped(64, "plain /text'", "plain /text'");
    expect_escaped(64, "a\"b\\c", "a\\\"b\\\\c");
    expect_escaped(64, "\n\t\x01\x1f", "\\u000a\\u0009\\u0001\\u001f");
    expect_escaped(64, "\x7f \xc3\xa4 \xf0\x9f\x90\x98", "\x7f \xc3\xa4 \xf0\x9f\x90\x98");
}

static void every_byte_alone_survives(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        char text[] = {(char)c, '\0'}, escaped[8];
        if (c == '"' || c == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", c);
        else if (c < 0x20)
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)c);
        else
            snprintf(escaped, sizeof escaped, "%s", text);
        expect_escaped(64, text, escaped);
    }
}

static void no_escape_and_no_character_is_cut_in_two(void **state)
{
    (void)state;
    static const char text[] = "\x01\"\xe2\x82\xac\\x\xc3\xa4\n\xf0\x9f\x90\x98\"";
    static const char whole[] = "\\u0001\\\"\xe2\x82\xac\\\\x\xc3\xa4\\u000a\xf0\x9f\x90\x98\\\"";
    /* Where a text may be cut: after each of its characters, escaped. */
    static const size_t ends_at[] = {0, 6, 8, 11, 13, 14, 16, 22, 26, 28};
    assert_int_equal(strlen(whole), 28);
    for (size_t size = 1; size < 48; size++) {
        char out[64];
        memset(out, 0x55, sizeof out);
        pqi_json_escape(out, size, text);
        size_t len = strlen(out);
        bool may_end = false;
        for (size_t i = 0; i < sizeof ends_at / sizeof *ends_at; i++)
            may_end |= len == ends_at[i];
        if (!may_end || len >= size || memcmp(out, whole, len) != 0)
            fail_msg("into %zu bytes: \"%s\"", size, out);
        if (size >= 36)
            assert_int_equal(len, 28);
        assert_int_equal(out[size], 0x55);
    }
}

static void what_is_no_utf_8_is_cut_without_leading_out_of_itself(void **state)
{
    (void)state;
    expect_escaped(8, "\x80\x80\x80\x80\x80\x80\x80\x80\x80", "");
    expect_escaped(9, "a\x80\x80\x80\x80\x80\x80\x80\x80", "a");
}

int main(void)
{
#define STDERR(name) cmocka_unit_test_setup_teardown(name, catch_stderr, free_stderr)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_reaches_the_hook),
        cmocka_unit_test(what_is_less_urgent_than_the_level_is_dropped),
        cmocka_unit_test(a_record_is_one_line),
        cmocka_unit_test(a_long_record_is_cut_at_a_whole_character),
        STDERR(each_format_has_its_shape),
        STDERR(each_level_has_its_name),
        STDERR(the_longest_record_is_still_one_whole_line),
        STDERR(without_a_level_nothing_is_written),
        STDERR(with_a_hook_nothing_is_written),
        cmocka_unit_test(what_json_cannot_hold_is_escaped),
        cmocka_unit_test(every_byte_alone_survives),
        cmocka_unit_test(no_escape_and_no_character_is_cut_in_two),
        cmocka_unit_test(what_is_no_utf_8_is_cut_without_leading_out_of_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
