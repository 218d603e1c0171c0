/* Texts from outside, made fit for a terminal. */
#include "text.h"

#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>

/* The bits of a continuation byte; -1: it is none. */
static int32_t continued(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80 ? (unsigned char)c & 0x3f : -1;
}

size_t text_next(const char *text, int32_t *number)
{
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)text[0];
    size_t len = first < 0x80   ? 1
                 : first < 0xc0 ? 0
                 : first < 0xe0 ? 2
                 : first < 0xf0 ? 3
                 : first < 0xf8 ? 4
                                : 0;
    int32_t n = len == 1 ? first : first & (0xff >> (len + 1));
    for (size_t i = 1; i < len && n >= 0; i++) /* the NUL at the end is no continuation either */
        n = continued(text[i]) < 0 ? -1 : n << 6 | continued(text[i]);
    bool good = len > 0 && n >= least[len] && n <= 0x10ffff && (n < 0xd800 || n > 0xdfff);
    *number = good ? n : -1;
    return good ? len : 1;
}

/* What a terminal would obey, or show wrongly: controls, directions of writing, line ends. */
static bool unseen(int32_t n)
{
    return n < 0x20 || (n >= 0x7f && n < 0xa0) || (n >= 0x200b && n <= 0x200f) ||
           (n >= 0x2028 && n <= 0x202e) || (n >= 0x2060 && n <= 0x206f) || n == 0xfeff;
}

static void print_escaped(FILE *out, int32_t number, const char *bytes)
{
    if (number == '\n' || number == '\t' || number == '\r')
        fputs(number == '\n' ? "\\n" : number == '\t' ? "\\t" : "\\r", out);
    else if (number < 0x80) /* also a byte that is no character */
        fprintf(out, "\\x%02x", (unsigned char)bytes[0]);
    else
        fprintf(out, "\\u%04x", (unsigned)number);
}

void text_print(FILE *out, const char *text)
{
    while (*text) {
        int32_t number;
        size_t len = text_next(text, &number);
        if (unseen(number))
            print_escaped(out, number, text);
        else
            fwrite(text, 1, len, out);
        text += len;
    }
}

char *text_shown(const char *text)
{
    char *shown = NULL;
    size_t len;
    FILE *out = open_memstream(&shown, &len);
    if (out) {
        text_print(out, text);
        fclose(out);
    }
    return shown ? shown : copy_text("");
}

/* Wide characters take two columns, combining ones none. Where the locale knows no better, one. */
size_t text_width(const char *text)
{
    size_t width = 0;
    while (*text) {
        int32_t number;
        text += text_next(text, &number);
        int columns = wcwidth((wchar_t)number);
        width += columns < 0 ? 1 : (size_t)columns;
    }
    return width;
}
