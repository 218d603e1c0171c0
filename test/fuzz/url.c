/* URLs and keyword strings: any text is read or refused, and no text that tells of a fault holds the
 * password. */
#include "../../lib/plan/url.h"
#include "../../lib/base/mem.h"
#include "../../lib/plan/servers.h"

#include <pqrouter/pqrouter.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASSWORD "gEheim7Pa55"

static void expect(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz-url: %s\n", what);
    abort();
}

static void judge(const struct pqi_shard_conf *conf)
{
    expect(conf->n > 0, "no server came of a good URL");
    for (int i = 0; i < conf->n; i++) {
        const struct pqi_target *t = &conf->targets[i];
        long port = t->port ? strtol(t->port, NULL, 10) : 0;
        expect(t->host != NULL, "a server has no host");
        expect(port >= 1 && port <= 65535, "a port is out of range");
        expect(t->sslmode != NULL, "a server has no sslmode");
        expect(t->shown && !strstr(t->shown, PASSWORD), "what is shown holds the password");
    }
}

static void read_text(const char *text)
{
    struct pqi_url url = {0};
    struct pqi_shard_conf conf = {0};
    struct pqi_url_fault fault = {0};
    int code = pqi_url_read(&url, text, &fault);
    if (code == PQR_OK)
        code = pqi_servers_make(&conf, &url, &fault);
    if (code == PQR_OK)
        judge(&conf);
    expect(code == PQR_OK || (code == PQR_E_CONFIG && fault.reason), "a fault has no reason");
    expect(code == PQR_OK || !strstr(fault.reason, PASSWORD), "a reason holds the password");
    expect(!strstr(fault.parameter, PASSWORD), "a fault's parameter holds the password");
    pqi_url_free(&url);
    pqi_shard_conf_free(&conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const before[] = {"", "postgresql://ann:" PASSWORD "@",
                                         "host=h password=" PASSWORD " "};
    /* Where the password stands in another place as well it is no secret. */
    if (size > 4096 || memmem(data, size, PASSWORD, strlen(PASSWORD)))
        return 0;
    for (size_t i = 0; i < 3; i++) {
        size_t len = strlen(before[i]);
        char *text = malloc(len + size + 1);
        if (!text)
            return 0;
        memcpy(text, before[i], len);
        memcpy(text + len, data, size);
        text[len + size] = '\0';
        read_text(text);
        free(text);
    }
    return 0;
}
