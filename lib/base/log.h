/* Log records: one shape, a level by who must act, to the application's hook or to stderr. Never
 * called under a lock, and never with a password, a parameter or a statement's text. */
#ifndef PQI_LOG_H
#define PQI_LOG_H

#include <pqrouter/pqrouter.h>

struct pqi_log {
    int level;  /* a pqr_log_level: what is less urgent is dropped */
    int format; /* 0 text, 1 logfmt, 2 json: on stderr */
    pqr_log_fn *fn;
    void *arg;
};

/* `event` is one word for machines ("node_down"), the text a sentence for people. */
void pqi_log(const struct pqi_log *log, int level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* JSON's escapes for a text, into `out` (cut to fit). */
void pqi_json_escape(char *out, size_t size, const char *text);

#endif
