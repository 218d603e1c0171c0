/* The only malloc of the library. */
#include "mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *pqi_mem_new(size_t size)
{
    return calloc(1, size);
}

void *pqi_mem_array(size_t count, size_t size)
{
    return calloc(count ? count : 1, size);
}

void *pqi_mem_resize(void *old, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return realloc(old, bytes ? bytes : 1);
}

char *pqi_mem_bytes(const void *bytes, size_t len)
{
    char *copy = len < SIZE_MAX ? malloc(len + 1) : NULL;
    if (!copy)
        return NULL;
    if (len > 0)
        memcpy(copy, bytes, len);
    copy[len] = '\0';
    return copy;
}

char *pqi_mem_text(const char *text)
{
    return text ? pqi_mem_bytes(text, strlen(text)) : NULL;
}

void pqi_mem_free(void *memory)
{
    free(memory);
}

void pqi_mem_wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}
