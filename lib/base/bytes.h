/* A growing buffer of bytes, always ended by a NUL that is not counted. */
#ifndef PQI_BYTES_H
#define PQI_BYTES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Zero-initialised is empty. After an allocation failed `failed` is set, and further additions do
 * nothing: check once, at the end. */
struct pqi_buf {
    char *data;
    size_t len;
    size_t cap;
    bool failed;
};

void pqi_buf_add(struct pqi_buf *b, const void *bytes, size_t len);
void pqi_buf_text(struct pqi_buf *b, const char *text);
void pqi_buf_format(struct pqi_buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void pqi_buf_formatv(struct pqi_buf *b, const char *format, va_list args);

/* The text so far; "" when empty or failed. */
const char *pqi_buf_str(const struct pqi_buf *b);

/* Hands the text over to the caller (pqi_mem_free); NULL when failed. The buffer is empty again. */
char *pqi_buf_take(struct pqi_buf *b);

void pqi_buf_free(struct pqi_buf *b);

#endif
