/* Memory, and texts made in it. */
#include "memory.h"

#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_die(void *memory)
{
    if (memory)
        return memory;
    fputs("pqrouter: out of memory\n", stderr);
    exit(CLI_FAILED);
}

void *get_memory(size_t n, size_t size)
{
    return or_die(calloc(n > 0 ? n : 1, size));
}

void *more_memory(void *old, size_t n, size_t size)
{
    return or_die(reallocarray(old, n > 0 ? n : 1, size));
}

char *copy_text(const char *text)
{
    return or_die(strdup(text));
}

char *format_textv(const char *format, va_list args)
{
    char *text = NULL;
    int len = vasprintf(&text, format, args);
    return or_die(len < 0 ? NULL : text);
}

char *format_text(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = format_textv(format, args);
    va_end(args);
    return text;
}
