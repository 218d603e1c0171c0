/* Memory, and texts made in it (free). A command that gets none has nothing better to do than to
 * end: so these never return NULL. */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include <stdarg.h>
#include <stddef.h>

void *get_memory(size_t n, size_t size);
void *more_memory(void *old, size_t n, size_t size);
char *copy_text(const char *text);
char *format_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *format_textv(const char *format, va_list args);

#endif
