/* The environment: any list of variables is read or refused with all its faults, none of which holds
 * a password. One line of the input is one variable. */
#include "../../lib/base/mem.h"
#include "../../lib/plan/options.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASSWORD "gEheim7Pa55"
#define MOST 60

static void expect(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz-environment: %s\n", what);
    abort();
}

static void judge(const struct pqi_options *o)
{
    for (int i = 0; i < o->nwarnings; i++)
        expect(!strstr(o->warnings[i], PASSWORD), "a warning holds the password");
    expect(o->connection_limit >= 1 && o->connection_limit <= 10000, "a limit is out of range");
    expect(o->health_interval_ms >= 100, "a duration is out of range");
}

static void load(const char *const *env)
{
    struct pqi_options *o = NULL;
    char *faults = NULL;
    pqr_error err;
    int code = pqi_options_load(&o, env, &faults, &err);
    expect(code == PQR_OK || code == PQR_E_CONFIG, "neither good nor bad");
    expect(err.code == code, "the error has another code");
    expect((code == PQR_OK) == (o != NULL), "a bad configuration was returned");
    expect((code == PQR_OK) == (faults == NULL), "no fault is told, or one too many");
    expect(!strstr(err.message, PASSWORD), "the error holds the password");
    expect(!faults || !strstr(faults, PASSWORD), "a fault holds the password");
    if (o)
        judge(o);
    pqi_options_free(o);
    pqi_mem_free(faults);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *env[MOST + 3] = {"DATABASE_URL=postgresql://ann:" PASSWORD "@h/app",
                                 "DATABASE_PASSWORD=" PASSWORD};
    /* Where the password stands in another place as well it is no secret. */
    bool planted = memmem(data, size, PASSWORD, strlen(PASSWORD));
    char *text = size <= 8192 && !planted ? malloc(size + 1) : NULL;
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    int n = 2;
    for (char *at = text, *next; n < MOST + 2 && at; at = next) {
        next = strchr(at, '\n');
        if (next)
            *next++ = '\0';
        if (!strstr(at, "_FILE=")) /* it would read any file of this machine */
            env[n++] = at;
    }
    env[n] = NULL;
    load(env);
    load(env + 2);
    free(text);
    return 0;
}
