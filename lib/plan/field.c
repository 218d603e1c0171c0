/* The field that an option has in the configuration. */
#include "field.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "env.h"

#include <inttypes.h>
#include <string.h>

/* ---- In ----------------------------------------------------------------------------------- */

static bool set_duration(int64_t *field, const struct pqi_option *option, const char *text)
{
    int64_t ms;
    if (option->word && strcmp(text, option->word) == 0) {
        *field = 0;
        return true;
    }
    if (!pqi_read_duration(text, &ms))
        return false;
    bool zero = ms == 0 && option->zero != PQI_NO_ZERO;
    if (!zero && (ms < option->min || ms > option->max))
        return false;
    *field = zero && option->zero == PQI_ZERO_IS_NEVER ? INT64_MAX : ms;
    return true;
}

static bool set_choice(int *field, const struct pqi_option *option, const char *text)
{
    int choice = pqi_read_choice(text, option->choices);
    if (choice >= 0)
        memcpy(field, &choice, sizeof choice);
    return choice >= 0;
}

static int set_text(char **field, const struct pqi_option *option, const char *text)
{
    if (!pqi_clean(text, (size_t)option->max) || strlen(text) < (size_t)option->min ||
        (option->dotted && !pqi_is_setting(text)))
        return PQR_E_CONFIG;
    char *copy = pqi_mem_text(text);
    if (!copy)
        return PQR_E_NOMEM;
    pqi_mem_wipe(*field);
    *field = copy;
    return PQR_OK;
}

int pqi_field_set(struct pqi_options *o, const struct pqi_option *option, const char *text)
{
    void *field = (char *)o + option->field;
    bool good = false;
    if (option->kind == PQI_IS_WHOLE)
        good = pqi_read_whole(text, option->min, option->max, field);
    else if (option->kind == PQI_IS_DURATION)
        good = set_duration(field, option, text);
    else if (option->kind == PQI_IS_CHOICE)
        good = set_choice(field, option, text);
    else if (option->kind == PQI_IS_YES_NO)
        good = pqi_read_yes_no(text, field);
    else
        return set_text(field, option, text);
    return good ? PQR_OK : PQR_E_CONFIG;
}

void pqi_field_expect(struct pqi_buf *to, const struct pqi_option *option)
{
    if (option->kind == PQI_IS_DURATION)
        pqi_buf_format(to, "a duration from %s to %s (write 5, 0.5, 250ms, 2m)",
                       pqi_show_duration(option->min).text, pqi_show_duration(option->max).text);
    else if (option->kind == PQI_IS_CHOICE)
        pqi_buf_format(to, "one of %s", option->choices);
    else if (option->kind == PQI_IS_YES_NO)
        pqi_buf_text(to, "yes or no (use 1/0, true/false, on/off)");
    else if (option->dotted)
        pqi_buf_text(to, "a setting's name of two words, such as app.tenant_id");
    else if (option->kind == PQI_IS_SECRET)
        pqi_buf_format(to, "a text of %" PRId64 " to %" PRId64 " bytes without control characters",
                       option->min, option->max);
    else if (option->kind == PQI_IS_TEXT)
        pqi_buf_format(to, "a text of at most %" PRId64 " bytes", option->max);
    else
        pqi_buf_format(to, "a whole number from %" PRId64 " to %" PRId64, option->min, option->max);
}

/* ---- Out ---------------------------------------------------------------------------------- */

static const void *field_of(const struct pqi_options *o, const struct pqi_option *option)
{
    return (const char *)o + option->field;
}

static void show_duration(struct pqi_buf *to, const struct pqi_option *option, int64_t ms)
{
    bool word = ms == 0 && option->word;
    pqi_buf_text(to, word ? option->word : pqi_show_duration(ms == INT64_MAX ? 0 : ms).text);
}

static void show_choice(struct pqi_buf *to, const struct pqi_option *option, int number)
{
    size_t len;
    const char *word = pqi_choice(option->choices, number, &len);
    pqi_buf_add(to, word, len);
}

void pqi_field_show(struct pqi_buf *to, const struct pqi_options *o,
                    const struct pqi_option *option)
{
    const void *field = field_of(o, option);
    if (option->kind == PQI_IS_WHOLE && (option->fallback || *(const int64_t *)field > 0))
        pqi_buf_format(to, "%" PRId64, *(const int64_t *)field);
    else if (option->kind == PQI_IS_DURATION)
        show_duration(to, option, *(const int64_t *)field);
    else if (option->kind == PQI_IS_CHOICE)
        show_choice(to, option, *(const int *)field);
    else if (option->kind == PQI_IS_YES_NO)
        pqi_buf_text(to, *(const bool *)field ? "yes" : "no");
    else if (option->kind == PQI_IS_SECRET && *(char *const *)field)
        pqi_buf_text(to, "(set)");
    else if (option->kind == PQI_IS_TEXT && *(char *const *)field)
        pqi_buf_text(to, *(char *const *)field);
}

bool pqi_field_same(const struct pqi_option *option, const struct pqi_options *a,
                    const struct pqi_options *b)
{
    return option->kind == PQI_IS_TEXT ||
           memcmp(field_of(a, option), field_of(b, option), sizeof(int64_t)) == 0;
}

/* ---- Sources ------------------------------------------------------------------------------ */

void pqi_source_set(struct pqi_options *o, const struct pqi_option *option, const char *source)
{
    struct pqi_source *s = &o->sources[pqi_option_index(option)];
    pqi_copy_text(s->text, sizeof s->text, source);
}

const char *pqi_source_of(const struct pqi_options *o, const struct pqi_option *option)
{
    return o->sources[pqi_option_index(option)].text;
}
