/* A program outside the tree: C11 and C++17 alike. Says the version of the library it runs with,
 * and checks that a broken configuration is refused. */
#include <pqrouter/pqrouter.h>

#include <stdio.h>

int main(void)
{
    const char *const env[] = {"DATABASE_PRIMARY_URL=mysql://localhost/shop", NULL};
    pqr_options options;
    pqr_error err;
    pqr *db = NULL;

    options.size = sizeof options;
    options.env = env;
    options.log = NULL;
    options.log_arg = NULL;
    if (pqr_open(&db, &options, &err) != PQR_E_CONFIG || err.code != PQR_E_CONFIG || db) {
        fprintf(stderr, "opened with a broken configuration: %s\n", err.message);
        return 1;
    }
    puts(pqr_version());
    return 0;
}
