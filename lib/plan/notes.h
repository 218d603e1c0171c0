/* What is found while an environment is read: faults, warnings, or that memory ran out. All faults
 * are collected, so that one start tells them all. */
#ifndef PQI_NOTES_H
#define PQI_NOTES_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>
#include <stdint.h>

struct pqi_texts {
    char **list;
    int n;
};

/* Zero-initialised is empty. */
struct pqi_notes {
    struct pqi_texts faults;
    struct pqi_texts warnings;
    bool nomem;
};

void pqi_note_fault(struct pqi_notes *notes, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void pqi_note_warning(struct pqi_notes *notes, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Faults that are told in more than one place. */
void pqi_note_missing(struct pqi_notes *notes, const char *missing, const char *who);
void pqi_note_bad_text(struct pqi_notes *notes, const char *name, int64_t max);

/* Makes every warning a fault too. */
void pqi_notes_be_strict(struct pqi_notes *notes);

/* What came of it, for those who want it short, in `err`, and for those who want it whole, in
 * `faults` (NULL is accepted): PQR_OK, PQR_E_CONFIG or PQR_E_NOMEM, as pqi_options_load has it. */
int pqi_notes_conclude(const struct pqi_notes *notes, char **faults, pqr_error *err);

void pqi_notes_free(struct pqi_notes *notes);

#endif
