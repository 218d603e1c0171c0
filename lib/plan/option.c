/* The list of options: option.def, one row each. */
#include "option.h"

#include <string.h>

/* clang-format off */
#define AT(type, name_, field_) \
    .kind = (type), .name = (name_), .field = offsetof(struct pqi_options, field_)
#define SECTION(title) {.kind = PQI_IS_SECTION, .name = (title)},
#define WHOLE(name_, field_, default_, min_, max_, help_) \
    {AT(PQI_IS_WHOLE, name_, field_), .fallback = (default_), .min = (min_), .max = (max_), \
     .help = (help_)},
#define DURATION(name_, field_, default_, min_, max_, zero_, help_) \
    {AT(PQI_IS_DURATION, name_, field_), .fallback = (default_), .min = (min_), .max = (max_), \
     .zero = PQI_##zero_, .help = (help_)},
#define WAIT(name_, field_, default_, min_, max_, help_) \
    {AT(PQI_IS_DURATION, name_, field_), .fallback = (default_), .min = (min_), .max = (max_), \
     .zero = PQI_ZERO_IS_NEVER, .word = "nowait", .help = (help_)},
#define CHOICE(name_, field_, default_, choices_, help_) \
    {AT(PQI_IS_CHOICE, name_, field_), .fallback = (default_), .choices = (choices_), \
     .help = (help_)},
#define YES_NO(name_, field_, default_, help_) \
    {AT(PQI_IS_YES_NO, name_, field_), .fallback = (default_), .help = (help_)},
#define TEXT(name_, field_, max_, help_) \
    {AT(PQI_IS_TEXT, name_, field_), .max = (max_), .help = (help_)},
#define SETTING(name_, field_, help_) \
    {AT(PQI_IS_TEXT, name_, field_), .max = 127, .dotted = true, .help = (help_)},
#define SECRET(name_, field_, min_, max_, help_) \
    {AT(PQI_IS_SECRET, name_, field_), .min = (min_), .max = (max_), .secret = true, \
     .help = (help_)},
#define URL(name_, help_) {.kind = PQI_IS_URL, .name = (name_), .secret = true, .help = (help_)},
#define PART(name_, part_, default_, max_, help_) \
    {.kind = PQI_IS_PART, .name = (name_), .part = (part_), .fallback = (default_), .min = 1, \
     .max = (max_), .help = (help_)},
#define SECRET_PART(name_, part_, help_) \
    {.kind = PQI_IS_PART, .name = (name_), .part = (part_), .secret = true, .help = (help_)},
#define LIBPQ(name_, part_, max_, help_) \
    {.kind = PQI_IS_LIBPQ, .name = (name_), .part = (part_), .min = 1, .max = (max_), \
     .help = (help_)},
#define PLANNED(name_) {.kind = PQI_IS_PLANNED, .name = (name_)},
#define IGNORED(name_, lacking_) {.kind = PQI_IS_IGNORED, .name = (name_), .lacking = (lacking_)},
/* clang-format on */

static const struct pqi_option options[] = {
#include "option.def"
};

enum { OPTIONS = sizeof options / sizeof *options };

const struct pqi_option *pqi_option_next(const struct pqi_option *option)
{
    if (!option)
        return options;
    return ++option < options + OPTIONS ? option : NULL;
}

const struct pqi_option *pqi_option_named(const char *name)
{
    const struct pqi_option *o = options;
    while (strcmp(o->name, name) != 0) /* only names from the list are asked for */
        o++;
    return o;
}

size_t pqi_option_count(void)
{
    return OPTIONS;
}

size_t pqi_option_index(const struct pqi_option *option)
{
    return (size_t)(option - options);
}

bool pqi_option_has_field(const struct pqi_option *option)
{
    return option->kind >= PQI_IS_WHOLE && option->kind <= PQI_IS_TEXT;
}
