/* The words of tests about configurations: an environment, and what is made of it. */
#ifndef TEST_CONFIGS_H
#define TEST_CONFIGS_H

#include "../../lib/plan/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define ONE "DATABASE_URL=postgresql://ann:pw@h/app" /* enough to run */

/* A configuration without a fault. Lives until the next one; the last one until forget, which ends
 * a group of tests. */
struct pqi_options *load_good(const char *const *env);
int forget(void **state);

/* All faults, one a line; the caller frees. */
char *load_bad(const char *const *env);
void assert_faults(const char *const *env, const char *expected);
/* The only fault beside ONE. */
void assert_fault(const char *setting, const char *expected);

/* All warnings, one a line. */
void assert_warnings(const char *const *env, const char *expected);

#endif
