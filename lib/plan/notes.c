/* Faults and warnings: collected, and told at the end. */
#include "notes.h"

#include "../base/bytes.h"
#include "../base/err.h"
#include "../base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- Collecting --------------------------------------------------------------------------- */

static void note(struct pqi_notes *notes, struct pqi_texts *to, const char *format, va_list args)
{
    struct pqi_buf buf = {0};
    pqi_buf_formatv(&buf, format, args);
    char *text = pqi_buf_take(&buf);
    char **more = text ? pqi_mem_resize(to->list, (size_t)to->n + 1, sizeof *more) : NULL;
    if (!more) {
        pqi_mem_free(text);
        notes->nomem = true;
        return;
    }
    to->list = more;
    more[to->n++] = text;
}

void pqi_note_fault(struct pqi_notes *notes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(notes, &notes->faults, format, args);
    va_end(args);
}

void pqi_note_warning(struct pqi_notes *notes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(notes, &notes->warnings, format, args);
    va_end(args);
}

void pqi_note_missing(struct pqi_notes *notes, const char *missing, const char *who)
{
    pqi_note_fault(notes, "%s is missing; %s needs it", missing, who);
}

void pqi_note_bad_text(struct pqi_notes *notes, const char *name, int64_t max)
{
    pqi_note_fault(notes, "%s: text longer than %" PRId64 " bytes or with control characters", name,
                   max);
}

void pqi_notes_be_strict(struct pqi_notes *notes)
{
    for (int k = 0; k < notes->warnings.n; k++)
        pqi_note_fault(notes, "%s", notes->warnings.list[k]);
}

static void free_texts(struct pqi_texts *texts)
{
    for (int k = 0; k < texts->n; k++)
        pqi_mem_free(texts->list[k]);
    pqi_mem_free(texts->list);
}

void pqi_notes_free(struct pqi_notes *notes)
{
    free_texts(&notes->faults);
    free_texts(&notes->warnings);
}

/* ---- Telling ------------------------------------------------------------------------------ */

static char *join_lines(const struct pqi_texts *texts)
{
    struct pqi_buf lines = {0};
    for (int k = 0; k < texts->n; k++)
        pqi_buf_format(&lines, "%s%s", k > 0 ? "\n" : "", texts->list[k]);
    return pqi_buf_take(&lines);
}

/* As many faults as fit, and how many more there are. */
static int report(const struct pqi_texts *faults, pqr_error *err)
{
    static const char and_more[] = "; … and 123456 more";
    char text[sizeof err->message] = "";
    size_t len = 0;
    int k = 0;
    for (; k < faults->n; k++) {
        size_t rest = k + 1 < faults->n ? sizeof and_more : 1;
        if (k > 0 && len + strlen(faults->list[k]) + 2 + rest > sizeof text)
            break;
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", k > 0 ? "; " : "",
                                faults->list[k]);
        if (len >= sizeof text) /* the first alone is too long */
            len = sizeof text - 1;
    }
    if (k < faults->n)
        snprintf(text + len, sizeof text - len, "; … and %d more", faults->n - k);
    return pqi_err(err, PQR_E_CONFIG, "%s", text);
}

int pqi_notes_conclude(const struct pqi_notes *notes, char **faults, pqr_error *err)
{
    if (!notes->nomem && notes->faults.n == 0)
        return pqi_err_none(err);
    char *lines = notes->nomem ? NULL : join_lines(&notes->faults);
    if (!lines)
        return pqi_err(err, PQR_E_NOMEM, "no memory for the configuration");
    if (faults)
        *faults = lines;
    else
        pqi_mem_free(lines);
    return report(&notes->faults, err);
}
