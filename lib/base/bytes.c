/* A growing buffer of bytes. */
#include "bytes.h"

#include "mem.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* No buffer gets longer than half of what a size can say: so growing by half cannot overflow. */
#define LEN_MAX (SIZE_MAX / 2)

/* Room for `more` bytes and a NUL. */
static bool reserve(struct pqi_buf *b, size_t more)
{
    if (more > LEN_MAX - b->len)
        b->failed = true;
    if (b->failed)
        return false;
    size_t need = b->len + more + 1;
    if (need <= b->cap)
        return true;
    size_t cap = need < 64 ? 64 : need + need / 2;
    char *data = pqi_mem_resize(b->data, cap, 1);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void pqi_buf_add(struct pqi_buf *b, const void *bytes, size_t len)
{
    if (!reserve(b, len))
        return;
    if (len > 0)
        memcpy(b->data + b->len, bytes, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void pqi_buf_text(struct pqi_buf *b, const char *text)
{
    pqi_buf_add(b, text, strlen(text));
}

void pqi_buf_formatv(struct pqi_buf *b, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    if (len < 0)
        b->failed = true;
    else if (reserve(b, (size_t)len)) {
        vsnprintf(b->data + b->len, (size_t)len + 1, format, again);
        b->len += (size_t)len;
    }
    va_end(again);
}

void pqi_buf_format(struct pqi_buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pqi_buf_formatv(b, format, args);
    va_end(args);
}

const char *pqi_buf_str(const struct pqi_buf *b)
{
    return b->data && !b->failed ? b->data : "";
}

char *pqi_buf_take(struct pqi_buf *b)
{
    if (!b->data)
        pqi_buf_text(b, "");
    char *data = b->failed ? NULL : b->data;
    if (b->failed)
        pqi_mem_free(b->data);
    *b = (struct pqi_buf){0};
    return data;
}

void pqi_buf_free(struct pqi_buf *b)
{
    pqi_mem_free(b->data);
    *b = (struct pqi_buf){0};
}
