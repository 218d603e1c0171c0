/* Log records. */
#include "log.h"

#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[] = {"off", "error", "warn", "info", "debug", "trace"};

void pqi_json_escape(char *out, size_t size, const char *text)
{
    size_t at = 0;
    for (; *text && at + 7 < size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            at += (size_t)snprintf(out + at, size - at, "\\%c", c);
        else if (c < 0x20)
            at += (size_t)snprintf(out + at, size - at, "\\u%04x", c);
        else
            out[at++] = (char)c;
    }
    /* Not half a character at its end. */
    if (((unsigned char)*text & 0xC0) == 0x80) {
        while (at > 0 && ((unsigned char)out[at - 1] & 0xC0) == 0x80)
            at--;
        at -= at > 0 && (unsigned char)out[at - 1] >= 0xC0;
    }
    out[at] = '\0';
}

/* One write, so that lines of several threads do not mix. */
static void to_stderr(const struct pqi_log *log, int level, const char *event, const char *text)
{
    char line[2600], escaped[2048];
    int len;
    if (log->format == 0) {
        len = snprintf(line, sizeof line, "pqrouter %s: %s\n", level_names[level], text);
    } else {
        pqi_json_escape(escaped, sizeof escaped, text);
        len = snprintf(
            line, sizeof line,
            log->format == 1
                ? "lib=pqrouter level=%s event=%s msg=\"%s\"\n"
                : "{\"lib\":\"pqrouter\",\"level\":\"%s\",\"event\":\"%s\",\"msg\":\"%s\"}\n",
            level_names[level], event, escaped);
    }
    if (len > 0) {
        ssize_t ignored = write(STDERR_FILENO, line, strlen(line));
        (void)ignored;
    }
}

void pqi_log(const struct pqi_log *log, int level, const char *event, const char *format, ...)
{
    char whole[2048], text[1024];
    if (level > log->level)
        return;
    va_list args;
    va_start(args, format);
    if (vsnprintf(whole, sizeof whole, format, args) < 0)
        whole[0] = '\0';
    va_end(args);
    pqi_copy_text(text, sizeof text, whole); /* one line, whatever a server says */
    if (log->fn)
        log->fn(log->arg, level, event, text);
    else
        to_stderr(log, level, event, text);
}
