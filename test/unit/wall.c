/* Who may stand before the wall of row-level security. */
#include "../../lib/plan/wall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *says(struct pqi_login l, bool *holds)
{
    static char why[400];
    snprintf(l.role, sizeof l.role, "%s", "app");
    *holds = pqi_wall_holds(&l, "app.tenant_id", why, sizeof why);
    return why;
}

static void every_role_is_judged(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++) {
        bool holds, told = i & 1, super = i & 2, bypasses = i & 4, owns = i & 8;
        struct pqi_login l = {.told = told, .superuser = super, .bypasses = bypasses};
        snprintf(l.table, sizeof l.table, "%s", owns ? "public.note" : "");
        const char *why = says(l, &holds);
        assert_int_equal(holds, told && !super && !bypasses && !owns);
        if (holds)
            continue;
        const char *part = !told      ? "does not tell"
                           : super    ? "role app is a superuser"
                           : bypasses ? "role app has BYPASSRLS"
                                      : "ALTER TABLE public.note FORCE ROW LEVEL SECURITY";
        assert_non_null(strstr(why, part));
        assert_non_null(strstr(why, "DB_TENANT_SETTING"));
    }
}

static void without_a_wall_only_power_is_warned_of(void **state)
{
    (void)state;
    char why[400];
    for (int i = 0; i < 16; i++) {
        bool super = i & 2, bypasses = i & 4;
        struct pqi_login l = {.told = i & 1, .superuser = super, .bypasses = bypasses};
        snprintf(l.role, sizeof l.role, "app");
        snprintf(l.table, sizeof l.table, "%s", i & 8 ? "public.note" : "");
        assert_int_equal(pqi_wall_would_not_hold(&l, why, sizeof why), super || bypasses);
        if (super || bypasses)
            assert_non_null(strstr(why, super ? "is a superuser" : "has BYPASSRLS"));
    }
}

static void a_reason_is_cut_to_fit(void **state)
{
    (void)state;
    char why[8] = "xxxxxxx";
    struct pqi_login l = {.superuser = true, .told = true};
    pqi_wall_holds(&l, "app.tenant_id", why, sizeof why);
    assert_int_equal(strlen(why), sizeof why - 1);
    pqi_wall_would_not_hold(&l, why, sizeof why);
    assert_int_equal(strlen(why), sizeof why - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_role_is_judged),
        cmocka_unit_test(without_a_wall_only_power_is_warned_of),
        cmocka_unit_test(a_reason_is_cut_to_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
