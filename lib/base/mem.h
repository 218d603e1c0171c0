/* Memory. Only mem.c calls malloc, so that a test can make the n-th allocation fail. */
#ifndef PQI_MEM_H
#define PQI_MEM_H

#include <stddef.h>

/* Zeroed memory, or NULL. `count` * `size` is computed with an overflow check. */
void *pqi_mem_new(size_t size);
void *pqi_mem_array(size_t count, size_t size);

/* Grows or shrinks; new bytes are not zeroed. NULL: failed, and `old` still stands. */
void *pqi_mem_resize(void *old, size_t count, size_t size);

/* A copy of `len` bytes with a NUL behind them; of a string (NULL gives NULL). */
char *pqi_mem_bytes(const void *bytes, size_t len);
char *pqi_mem_text(const char *text);

/* NULL is accepted. */
void pqi_mem_free(void *memory);

/* Frees a secret: overwrites it first. */
void pqi_mem_wipe(char *text);

#endif
