/* Filling a pqr_error, and what each code is called. */
#include "../../lib/base/err.h"

#include <limits.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Every code of the public header, by its name there. */
static const struct {
    int code;
    const char *name;
    int retry;
} codes[] = {
#define CODE(name, retry)                      \
    {                                          \
        PQR_E_##name, #name, PQR_RETRY_##retry \
    }
    {PQR_OK, "OK", PQR_RETRY_NEVER},
    CODE(USAGE, NEVER),
    CODE(CONFIG, NEVER),
    CODE(NOMEM, SAFE),
    CODE(FORKED, NEVER),
    CODE(CLOSED, SAFE),
    CODE(DEADLINE, SAFE),
    CODE(POOL_TIMEOUT, SAFE),
    CODE(POOL_FULL, SAFE),
    CODE(CONNECT, SAFE),
    CODE(AUTH, NEVER),
    CODE(NO_PRIMARY, SAFE),
    CODE(NO_REPLICA, SAFE),
    CODE(WRONG_SHARD, NEVER),
    CODE(UNSTAMPED, NEVER),
    CODE(READ_ONLY, NEVER),
    CODE(SQL, NEVER),
    CODE(LOST, SAFE),
    CODE(UNKNOWN, UNKNOWN),
    CODE(ROLLED_BACK, NEVER),
    CODE(TYPE, NEVER),
    CODE(MAP, NEVER),
    CODE(BUG, UNKNOWN),
    CODE(CANCELLED, SAFE),
    CODE(ROWS_LOST, NEVER),
    CODE(DONE_BEFORE, NEVER),
    CODE(FALLBACK, SAFE),
#undef CODE
};

/* An error full of what was there before. */
static pqr_error dirty(void)
{
    pqr_error err;
    memset(&err, 0xAA, sizeof err);
    return err;
}

/* All of it, but code, retry class and message, says nothing. */
static void says_no_more(const pqr_error *err)
{
    assert_int_equal(err->shard, -1);
    assert_int_equal(err->index, -1);
    const char *from = err->sqlstate, *to = err->message;
    for (const char *p = from; p < to; p++)
        assert_int_equal(*p, 0);
    for (size_t i = 0; i < sizeof err->reserved; i++)
        assert_int_equal(err->reserved[i], 0);
    for (size_t i = strlen(err->message); i < sizeof err->message; i++)
        assert_int_equal(err->message[i], 0);
}

/* ---- Codes ----------------------------------------------------------------------------------- */

static void every_code_of_the_header_has_its_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(codes); i++) {
        pqr_error err = dirty();
        assert_int_equal(codes[i].code, -(int)i);
        assert_string_equal(pqr_code_name(codes[i].code), codes[i].name);
        assert_true(strlen(pqr_code_advice(codes[i].code)) > 5);
        assert_int_equal(pqi_err(&err, codes[i].code, "x"), codes[i].code);
        assert_int_equal(err.code, codes[i].code);
        if (err.retry != codes[i].retry)
            fail_msg("%s: retry class %d", codes[i].name, err.retry);
    }
}

static void the_list_numbers_them_as_the_header_does(void **state)
{
    (void)state;
    static const struct {
        int number;
        const char *name;
    } listed[] = {
#define PQI_ERROR(name, number, retry, meaning, advice) {number, #name},
#include "../../lib/base/errors.def"
#undef PQI_ERROR
    };
    assert_int_equal(COUNT(listed), COUNT(codes));
    for (size_t i = 0; i < COUNT(listed); i++) {
        assert_int_equal(listed[i].number, codes[i].code);
        assert_string_equal(listed[i].name, codes[i].name);
    }
}

static void no_two_codes_give_the_same_advice(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(codes); i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(pqr_code_advice(codes[i].code), pqr_code_advice(codes[j].code));
}

static void what_is_no_code_is_called_so(void **state)
{
    (void)state;
    static const int numbers[] = {1, 2, 42, INT_MAX, -(int)COUNT(codes), -1000, INT_MIN};
    for (size_t i = 0; i < COUNT(numbers); i++) {
        pqr_error err = dirty();
        assert_string_equal(pqr_code_name(numbers[i]), "unknown code");
        assert_string_equal(pqr_code_advice(numbers[i]), "");
        assert_int_equal(pqi_err(&err, numbers[i], "x"), numbers[i]);
        assert_int_equal(err.code, numbers[i]);
        assert_int_equal(err.retry, PQR_RETRY_UNKNOWN);
    }
}

/* ---- Writing --------------------------------------------------------------------------------- */

static void an_error_is_written_whole(void **state)
{
    (void)state;
    pqr_error err = dirty();
    assert_int_equal(pqi_err(&err, PQR_E_CONFIG, "%s must be %d to %d", "DB_X", 1, 9),
                     PQR_E_CONFIG);
    assert_string_equal(err.message, "DB_X must be 1 to 9");
    says_no_more(&err);
}

static void nothing_wrong_is_written_whole_too(void **state)
{
    (void)state;
    pqr_error err = dirty();
    assert_int_equal(pqi_err_none(&err), PQR_OK);
    assert_int_equal(err.code, PQR_OK);
    assert_int_equal(err.retry, PQR_RETRY_NEVER);
    assert_string_equal(err.message, "");
    says_no_more(&err);
}

static void an_error_that_nobody_wants_is_only_returned(void **state)
{
    (void)state;
    assert_int_equal(pqi_err(NULL, PQR_E_LOST, "%d", 1), PQR_E_LOST);
    assert_int_equal(pqi_err_none(NULL), PQR_OK);
    pqi_err_add(NULL, "%d", 1);
}

static void a_message_is_added_to(void **state)
{
    (void)state;
    pqr_error err = dirty();
    pqi_err(&err, PQR_E_LOST, "shard%d: ", 1);
    pqi_err_add(&err, "the connection was %s", "lost");
    pqi_err_add(&err, "%s", "");
    pqi_err_add(&err, "; call again");
    assert_string_equal(err.message, "shard1: the connection was lost; call again");
    assert_int_equal(err.code, PQR_E_LOST);
    assert_int_equal(err.retry, PQR_RETRY_SAFE);
    says_no_more(&err);
}

static void a_message_of_any_length_is_cut_at_its_end(void **state)
{
    (void)state;
    enum { MOST = 5000 };
    static char text[MOST + 1];
    memset(text, 'a', MOST);
    for (size_t len = 900; len <= MOST; len += len < 1100 ? 1 : 500) {
        pqr_error err = dirty();
        pqi_err(&err, PQR_E_SQL, "%.*s", (int)len, text);
        assert_int_equal(strlen(err.message), len < 1023 ? len : 1023);
        says_no_more(&err);
        pqi_err_add(&err, "%.*s", 100, text);
        assert_int_equal(strlen(err.message), len < 923 ? len + 100 : 1023);
        says_no_more(&err);
    }
}

static void a_message_is_one_line(void **state)
{
    (void)state;
    pqr_error err = dirty();
    pqi_err(&err, PQR_E_SQL, "a\nb\tc\r%c\x7f", 1);
    pqi_err_add(&err, "\n%s", "d\x1b[31m");
    assert_string_equal(err.message, "a b c    d [31m");
}

/* ---- Texts ----------------------------------------------------------------------------------- */

static void expect_copy(size_t size, const char *text, const char *copy)
{
    char field[40];
    memset(field, 0x55, sizeof field);
    pqi_copy_text(field, size, text);
    if (strcmp(field, copy) != 0)
        fail_msg("\"%s\" into %zu bytes is \"%s\"", text ? text : "NULL", size, field);
    for (size_t i = strlen(copy); i < sizeof field; i++)
        assert_int_equal(field[i], i < size ? 0 : 0x55);
}

static void a_text_is_copied_whole_if_it_fits(void **state)
{
    (void)state;
    expect_copy(32, "note", "note");
    expect_copy(5, "note", "note");
    expect_copy(32, "", "");
    expect_copy(32, NULL, "");
    expect_copy(1, NULL, "");
    expect_copy(32, "schl\xc3\xbcssel \xe2\x82\xac \xf0\x9f\x90\x98",
                "schl\xc3\xbcssel \xe2\x82\xac \xf0\x9f\x90\x98");
}

static void a_text_is_cut_at_a_whole_character(void **state)
{
    (void)state;
    expect_copy(4, "note", "not");
    expect_copy(1, "note", "");
    expect_copy(4, "n\xc3\xb6te", "n\xc3\xb6");
    expect_copy(3, "n\xc3\xb6te", "n");
    expect_copy(2, "n\xc3\xb6te", "n");
    for (size_t size = 2; size <= 4; size++)
        expect_copy(size, "a\xe2\x82\xac", "a");
    expect_copy(5, "a\xe2\x82\xac", "a\xe2\x82\xac");
    for (size_t size = 1; size <= 4; size++)
        expect_copy(size, "\xf0\x9f\x90\x98!", "");
    expect_copy(5, "\xf0\x9f\x90\x98!", "\xf0\x9f\x90\x98");
}

static void what_is_no_utf_8_is_cut_without_leading_out_of_itself(void **state)
{
    (void)state;
    expect_copy(3, "\x80\x80\x80\x80", "");
    expect_copy(3, "\xff\xfe\xfd", "\xff\xfe");
    expect_copy(3, "a\xfcz!", "a\xfc");
}

static void control_characters_become_blanks(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        char text[] = {'a', (char)c, 'b', '\0'};
        char copy[] = {'a', c < 0x20 || c == 0x7f ? ' ' : (char)c, 'b', '\0'};
        expect_copy(8, text, copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_of_the_header_has_its_row),
        cmocka_unit_test(the_list_numbers_them_as_the_header_does),
        cmocka_unit_test(no_two_codes_give_the_same_advice),
        cmocka_unit_test(what_is_no_code_is_called_so),
        cmocka_unit_test(an_error_is_written_whole),
        cmocka_unit_test(nothing_wrong_is_written_whole_too),
        cmocka_unit_test(an_error_that_nobody_wants_is_only_returned),
        cmocka_unit_test(a_message_is_added_to),
        cmocka_unit_test(a_message_of_any_length_is_cut_at_its_end),
        cmocka_unit_test(a_message_is_one_line),
        cmocka_unit_test(a_text_is_copied_whole_if_it_fits),
        cmocka_unit_test(a_text_is_cut_at_a_whole_character),
        cmocka_unit_test(what_is_no_utf_8_is_cut_without_leading_out_of_itself),
        cmocka_unit_test(control_characters_become_blanks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
