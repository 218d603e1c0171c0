/* Filling a pqr_error. An error is written once, where the fact is known, and passed up
 * unchanged; pqr_error.code is also what the function returns. */
#ifndef PQI_ERR_H
#define PQI_ERR_H

#include <pqrouter/pqrouter.h>
#include <stdarg.h>

/* Writes `err` whole (NULL is accepted) and returns `code`. The retry class is the code's usual
 * one, from errors.def. */
int pqi_err(pqr_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int pqi_errv(pqr_error *err, int code, const char *format, va_list args);

/* "Nothing went wrong": writes `err` whole and returns PQR_OK. */
int pqi_err_none(pqr_error *err);

/* Appends to the message of an error already written; cuts at its end. */
void pqi_err_add(pqr_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Copies text into a fixed field of `size` bytes, cut at a whole UTF-8 character, always ended by
 * NUL; control characters become blanks. NULL counts as "". */
void pqi_copy_text(char *field, size_t size, const char *text);

#endif
