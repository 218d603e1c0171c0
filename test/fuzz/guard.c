/* The guard before a caller's statement: it ends for any text, and what it refuses bare it refuses
 * behind comments and blanks as well. */
#include "../../lib/plan/guard.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz-guard: %s\n", what);
    abort();
}

static void judge(const char *sql, const char *behind)
{
    for (int place = PQI_IN_READ; place <= PQI_IN_TX; place++) {
        char why[80], why_behind[80];
        enum pqi_verdict bare = pqi_guard(sql, (enum pqi_place)place, why, sizeof why);
        enum pqi_verdict then = pqi_guard(behind, (enum pqi_place)place, why_behind,
                                          sizeof why_behind);
        expect(bare == then, "a comment ahead of it changes the verdict");
        expect((bare == PQI_ALLOW) == (why[0] == '\0'), "a verdict has no reason, or one too many");
        expect(strlen(why) < sizeof why, "the reason does not fit");
    }
    expect(pqi_commits_inside(sql) == pqi_commits_inside(behind),
           "a comment ahead of it changes whether it commits");
    for (int place = PQI_IN_READ; place <= PQI_IN_TX; place++)
        pqi_tag_allowed(sql, (enum pqi_place)place);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char ahead[] = " /* a /* b */ -- c */\n-- d\n\t";
    char *sql = size <= 4096 ? malloc(size + 1) : NULL;
    char *behind = malloc(size + sizeof ahead);
    if (sql && behind) {
        memcpy(sql, data, size);
        sql[size] = '\0';
        memcpy(behind, ahead, sizeof ahead);
        strcat(behind, sql);
        judge(sql, behind);
    }
    free(sql);
    free(behind);
    return 0;
}
