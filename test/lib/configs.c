/* The words of tests about configurations. */
#include "configs.h"

#include "../../lib/base/mem.h"

#include <stdio.h>
#include <string.h>

static struct pqi_options *loaded; /* the last good one */

int forget(void **state)
{
    (void)state;
    pqi_options_free(loaded);
    loaded = NULL;
    return 0;
}

struct pqi_options *load_good(const char *const *env)
{
    struct pqi_options *o = NULL;
    char *faults = NULL;
    forget(NULL);
    pqr_error err;
    int rc = pqi_options_load(&o, env, &faults, &err);
    if (rc != PQR_OK)
        print_error("%s\n", faults);
    assert_int_equal(rc, PQR_OK);
    assert_int_equal(err.code, PQR_OK);
    assert_null(faults);
    return loaded = o;
}

char *load_bad(const char *const *env)
{
    struct pqi_options *o = NULL;
    char *faults = NULL;
    pqr_error err;
    assert_int_equal(pqi_options_load(&o, env, &faults, &err), PQR_E_CONFIG);
    assert_int_equal(err.code, PQR_E_CONFIG);
    assert_null(o);
    assert_non_null(faults);
    return faults;
}

void assert_faults(const char *const *env, const char *expected)
{
    char *faults = load_bad(env);
    assert_string_equal(faults, expected);
    pqi_mem_free(faults);
}

void assert_fault(const char *setting, const char *expected)
{
    assert_faults(ENV(ONE, setting), expected);
}

void assert_warnings(const char *const *env, const char *expected)
{
    struct pqi_options *o = load_good(env);
    char all[2000] = "";
    for (int i = 0; i < o->nwarnings; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i > 0 ? "\n" : "",
                 o->warnings[i]);
    assert_string_equal(all, expected);
}
