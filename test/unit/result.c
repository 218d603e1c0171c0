/* Results and their public getters, over PGresults made by hand. */
#include "../../lib/wire/result.h"

#include <libpq-fe.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { BOOL = 16, BYTEA = 17, INT8 = 20, TEXT = 25, FLOAT8 = 701, TIMESTAMPTZ = 1184, UUID = 2950 };

static const struct column {
    const char *name;
    Oid type;
    int format;
    const char *first; /* the first row's value; the second row is all NULL */
    int len;
} columns[] = {
    {"id", INT8, 0, "42", 2},
    {"Name", TEXT, 0, "acme", 4},
    {"ok", BOOL, 0, "t", 1},
    {"ratio", FLOAT8, 0, "0.5", 3},
    {"key", UUID, 0, "018f4e2a-7c3b-7b52-9d0e-5f2c3a1b4d6e", 36},
    {"at", TIMESTAMPTZ, 0, "1970-01-01 00:00:01+00", 22},
    {"data", BYTEA, 0, "\\x610062", 8},
    {"id", INT8, 1, "\0\0\0\0\0\0\0\7", 8},
    {"big", INT8, 0, "3000000000", 10},
};

enum { ID, NAME, OK, RATIO, KEY, AT, DATA, BINARY_ID, BIG, NCOLUMNS };

static pqr_result *make(const char *tag)
{
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc described[NCOLUMNS] = {0};
    for (int c = 0; c < NCOLUMNS; c++) {
        described[c].name = (char *)(uintptr_t)columns[c].name;
        described[c].typid = columns[c].type;
        described[c].format = columns[c].format;
    }
    assert_true(PQsetResultAttrs(pg, NCOLUMNS, described));
    for (int c = 0; c < NCOLUMNS; c++) {
        char *value = (char *)(uintptr_t)columns[c].first;
        assert_true(PQsetvalue(pg, 0, c, value, columns[c].len));
    }
    for (int c = 0; c < NCOLUMNS; c++)
        assert_true(PQsetvalue(pg, 1, c, NULL, -1));
    strcpy(PQcmdStatus(pg), tag);
    return pqi_result_new(pg, "shard1/replica2");
}

static void a_result_tells_its_shape_and_where_it_came_from(void **state)
{
    (void)state;
    pqr_result *res = make("SELECT 2");
    assert_int_equal(pqr_rows(res), 2);
    assert_int_equal(pqr_columns(res), NCOLUMNS);
    assert_string_equal(pqr_source(res), "shard1/replica2");
    assert_string_equal(pqi_result_tag(res), "SELECT 2");
    assert_non_null(pqr_result_pg(res));
    pqr_result_free(res);
}

static void a_long_source_is_cut_and_none_is_empty(void **state)
{
    (void)state;
    pqr_result *res = pqi_result_new(PQmakeEmptyPGresult(NULL, PGRES_COMMAND_OK),
                                     "a source with a name that is far too long for it");
    assert_string_equal(pqr_source(res), "a source with a name that is fa");
    pqr_result_free(res);
    res = pqi_result_new(PQmakeEmptyPGresult(NULL, PGRES_COMMAND_OK), NULL);
    assert_string_equal(pqr_source(res), "");
    assert_int_equal(pqr_rows(res), 0);
    assert_int_equal(pqr_columns(res), 0);
    pqr_result_free(res);
}

static void the_last_owner_frees(void **state)
{
    (void)state;
    pqr_result *res = make("SELECT 2");
    assert_ptr_equal(pqr_result_ref(res), res);
    assert_ptr_equal(pqi_result_ref(res), res);
    pqr_result_free(res);
    pqi_result_unref(res);
    assert_int_equal(pqr_int64(res, 0, ID), 42);
    pqr_result_free(res);
}

static void columns_are_found_by_their_exact_name(void **state)
{
    (void)state;
    pqr_result *res = make("SELECT 2");
    assert_int_equal(pqr_column(res, "id"), ID);
    assert_int_equal(pqr_column(res, "Name"), NAME);
    assert_int_equal(pqr_column(res, "name"), -1);
    assert_int_equal(pqr_column(res, "\"Name\""), -1);
    assert_int_equal(pqr_column(res, ""), -1);
    assert_int_equal(pqr_column(res, NULL), -1);
    assert_string_equal(pqr_column_name(res, NAME), "Name");
    assert_null(pqr_column_name(res, NCOLUMNS));
    assert_null(pqr_column_name(res, SIZE_MAX));
    pqr_result_free(res);
}

static void plain_getters_give_values(void **state)
{
    (void)state;
    pqr_result *res = make("SELECT 2");
    assert_int_equal(pqr_int32(res, 0, ID), 42);
    assert_int_equal(pqr_int64(res, 0, ID), 42);
    assert_int_equal(pqr_int64(res, 0, BINARY_ID), 7);
    assert_int_equal(pqr_int64(res, 0, BIG), 3000000000);
    assert_string_equal(pqr_text(res, 0, NAME), "acme");
    assert_int_equal(pqr_length(res, 0, NAME), 4);
    assert_int_equal(pqr_length(res, 0, BINARY_ID), 8);
    assert_true(pqr_bool(res, 0, OK));
    assert_true(pqr_float8(res, 0, RATIO) == 0.5);
    assert_true(pqr_float8(res, 0, BINARY_ID) == 7.0);
    assert_false(pqr_is_null(res, 0, ID));
    pqr_result_free(res);
}

static void checked_getters_give_values_and_clear_the_error(void **state)
{
    (void)state;
    pqr_result *res = make("SELECT 2");
    pqr_error err;
    int32_t i4;
    int64_t i8;
    double f8;
    bool b;
    uint8_t uuid[16];
    char buf[4] = "##";
    size_t len;
    memset(&err, 0xff, sizeof err);
    assert_int_equal(pqr_get_int32(res, 0, ID, &i4, &err), PQR_OK);
    assert_int_equal(err.code, PQR_OK);
    assert_string_equal(err.message, "");
    assert_int_equal(i4, 42);
    assert_int_equal(pqr_get_int64(res, 0, BIG, &i8, NULL), PQR_OK);
    assert_int_equal(i8, 3000000000);
    assert_int_equal(pqr_get_float8(res, 0, RATIO, &f8, &err), PQR_OK);
    assert_true(f8 == 0.5);
    assert_int_equal(pqr_get_bool(res, 0, OK, &b, &err), PQR_OK);
    assert_true(b);
    assert_int_equal(pqr_get_uuid(res, 0, KEY, uuid, &err), PQR_OK);
    assert_memory_equal(uuid, "\x01\x8f\x4e\x2a", 4);
    assert_int_equal(pqr_get_timestamptz(res, 0, AT, &i8, &err), PQR_OK);
    assert_int_equal(i8, 1000000);
    assert_int_equal(pqr_get_bytes(res, 0, DATA, buf, sizeof buf, &len, &err), PQR_OK);
    assert_int_equal(len, 3);
    assert_memory_equal(buf, "a\0b", 4);
    assert_int_equal(pqr_get_bytes(res, 0, DATA, NULL, 0, &len, &err), PQR_OK);
    assert_int_equal(len, 3);
    pqr_result_free(res);
}

/* All plain getters give nothing. */
static void expect_nothing(const pqr_result *res, size_t row, size_t column)
{
    assert_int_equal(pqr_int32(res, row, column), 0);
    assert_int_equal(pqr_int64(res, row, column), 0);
    assert_true(pqr_float8(res, row, column) == 0.0);
    assert_false(pqr_bool(res, row, column));
    assert_string_equal(pqr_text(res, row, column), "");
    assert_int_equal(pqr_length(res, row, column), 0);
}

/* All checked getters answer this and write nothing. */
static void expect_refused(const pqr_result *res, size_t row, size_t column, int code,
                           const char *says)
{
    int64_t i8 = 77;
    int32_t i4 = 77;
    double f8 = 77;
    bool b = true;
    uint8_t uuid[16] = {77};
    char buf[4] = "###";
    size_t len = 77;
    pqr_error err[7];
    assert_int_equal(pqr_get_int32(res, row, column, &i4, &err[0]), code);
    assert_int_equal(pqr_get_int64(res, row, column, &i8, &err[1]), code);
    assert_int_equal(pqr_get_float8(res, row, column, &f8, &err[2]), code);
    assert_int_equal(pqr_get_bool(res, row, column, &b, &err[3]), code);
    assert_int_equal(pqr_get_uuid(res, row, column, uuid, &err[4]), code);
    assert_int_equal(pqr_get_timestamptz(res, row, column, &i8, &err[5]), code);
    assert_int_equal(pqr_get_bytes(res, row, column, buf, sizeof buf, &len, &err[6]), code);
    assert_true(i8 == 77 && i4 == 77 && f8 == 77 && b && uuid[0] == 77 && len == 77);
    assert_string_equal(buf, "###");
    for (int i = 0; i < 7; i++) {
        assert_int_equal(err[i].code, code);
        assert_string_equal(err[i].message, says);
    }
    assert_int_equal(pqr_get_int64(res, row, column, &i8, NULL), code);
}

static void null_gives_nothing_and_is_told(void **state)
{
    (void)state;
    pqr_result *res = make("SELECT 2");
    for (size_t c = 0; c < NCOLUMNS; c++) {
        expect_nothing(res, 1, c);
        assert_true(pqr_is_null(res, 1, c));
    }
    expect_refused(res, 1, NAME, PQR_E_TYPE, "row 1, column 1 (Name): it is NULL");
    pqr_result_free(res);
}

static void a_wrong_index_gives_nothing(void **state)
{
    (void)state;
    static const size_t wrong[][2] = {{2, 0},
                                      {0, NCOLUMNS},
                                      {SIZE_MAX, 0},
                                      {0, SIZE_MAX},
                                      {SIZE_MAX, SIZE_MAX},
                                      {UINT32_MAX, 0},
                                      {(size_t)UINT32_MAX + 1, 0}};
    pqr_result *res = make("SELECT 2");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char says[128];
        snprintf(says, sizeof says, "no row %zu, column %zu: the result has 2 rows and 9 columns",
                 wrong[i][0], wrong[i][1]);
        expect_nothing(res, wrong[i][0], wrong[i][1]);
        assert_false(pqr_is_null(res, wrong[i][0], wrong[i][1]));
        expect_refused(res, wrong[i][0], wrong[i][1], PQR_E_TYPE, says);
    }
    pqr_result_free(res);
}

static void no_result_gives_nothing(void **state)
{
    (void)state;
    expect_nothing(NULL, 0, 0);
    expect_refused(NULL, 0, 0, PQR_E_USAGE, "res is NULL");
    assert_false(pqr_is_null(NULL, 0, 0));
    assert_int_equal(pqr_rows(NULL), 0);
    assert_int_equal(pqr_columns(NULL), 0);
    assert_int_equal(pqr_affected(NULL), 0);
    assert_null(pqr_column_name(NULL, 0));
    assert_int_equal(pqr_column(NULL, "id"), -1);
    assert_string_equal(pqr_source(NULL), "");
    assert_string_equal(pqi_result_tag(NULL), "");
    assert_null(pqr_result_pg(NULL));
    assert_null(pqr_result_ref(NULL));
    pqr_result_free(NULL);
}

static void a_value_of_another_type_is_told(void **state)
{
    (void)state;
    pqr_result *res = make("SELECT 2");
    pqr_error err;
    int32_t i4 = 77;
    int64_t i8 = 77;
    assert_int_equal(pqr_int64(res, 0, NAME), 0);
    assert_int_equal(pqr_get_int64(res, 0, NAME, &i8, &err), PQR_E_TYPE);
    assert_string_equal(err.message, "row 0, column 1 (Name): not an integer");
    assert_int_equal(pqr_int32(res, 0, BIG), 0);
    assert_int_equal(pqr_get_int32(res, 0, BIG, &i4, &err), PQR_E_TYPE);
    assert_string_equal(err.message, "row 0, column 8 (big): it does not fit the type asked for");
    assert_true(i8 == 77 && i4 == 77);
    pqr_result_free(res);
}

static void no_place_for_the_value_is_a_wrong_call(void **state)
{
    (void)state;
    pqr_result *res = make("SELECT 2");
    pqr_error err;
    size_t len;
    assert_int_equal(pqr_get_int32(res, 0, ID, NULL, &err), PQR_E_USAGE);
    assert_int_equal(pqr_get_int64(res, 0, ID, NULL, &err), PQR_E_USAGE);
    assert_int_equal(pqr_get_float8(res, 0, ID, NULL, &err), PQR_E_USAGE);
    assert_int_equal(pqr_get_bool(res, 0, OK, NULL, &err), PQR_E_USAGE);
    assert_int_equal(pqr_get_uuid(res, 0, KEY, NULL, &err), PQR_E_USAGE);
    assert_int_equal(pqr_get_timestamptz(res, 0, AT, NULL, &err), PQR_E_USAGE);
    assert_int_equal(pqr_get_bytes(res, 0, DATA, NULL, 0, NULL, &err), PQR_E_USAGE);
    assert_int_equal(pqr_get_bytes(res, 0, DATA, NULL, 5, &len, &err), PQR_E_USAGE);
    pqr_result_free(res);
}

static void only_changed_rows_count_as_affected(void **state)
{
    (void)state;
    static const struct {
        const char *tag;
        int64_t rows;
    } cases[] = {
        {"INSERT 0 5", 5}, {"UPDATE 12345678901", 12345678901},
        {"DELETE 0", 0},   {"MERGE 3", 3},
        {"SELECT 2", 0},   {"FETCH 2", 0},
        {"COPY 7", 0},     {"CREATE TABLE", 0},
        {"", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pqr_result *res = make(cases[i].tag);
        assert_int_equal(pqr_affected(res), cases[i].rows);
        pqr_result_free(res);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_result_tells_its_shape_and_where_it_came_from),
        cmocka_unit_test(a_long_source_is_cut_and_none_is_empty),
        cmocka_unit_test(the_last_owner_frees),
        cmocka_unit_test(columns_are_found_by_their_exact_name),
        cmocka_unit_test(plain_getters_give_values),
        cmocka_unit_test(checked_getters_give_values_and_clear_the_error),
        cmocka_unit_test(null_gives_nothing_and_is_told),
        cmocka_unit_test(a_wrong_index_gives_nothing),
        cmocka_unit_test(no_result_gives_nothing),
        cmocka_unit_test(a_value_of_another_type_is_told),
        cmocka_unit_test(no_place_for_the_value_is_a_wrong_call),
        cmocka_unit_test(only_changed_rows_count_as_affected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
