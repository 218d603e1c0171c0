/* The configuration: options.def applied to an environment. What a number is, env.c knows; what a
 * URL is, url.c. All faults are collected, so that one start tells them all. */
#include "options.h"

#include "../base/bytes.h"
#include "../base/err.h"
#include "../base/mem.h"
#include "env.h"
#include "url.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { URL_MAX = 8192, PART_MAX = 1024, NAME_MAX_BYTES = 64, REPLICAS_MAX = 32 };

/* ---- The list ----------------------------------------------------------------------------- */

enum kind {
    IS_SECTION, /* a title for docs/options.md */
    IS_WHOLE,
    IS_DURATION,
    IS_CHOICE,
    IS_YES_NO,
    IS_TEXT,
    IS_URL,
    IS_PART,  /* of the one database without a URL */
    IS_LIBPQ, /* fills what a URL or the parts leave out */
    IS_PLANNED,
    IS_IGNORED
};

enum zero { NO_ZERO, ZERO, ZERO_IS_NEVER };

struct option {
    enum kind kind;
    const char *name;     /* with {i} and {n} where numbers stand */
    size_t field;         /* where in struct pqi_options */
    enum pqi_part part;   /* of IS_PART and IS_LIBPQ */
    const char *fallback; /* the default as one would write it */
    int64_t min, max;     /* of a text: max bytes; of a part: a whole number, if max is not 0 */
    enum zero zero;       /* a duration of 0: out of range unless min is 0; 0; INT64_MAX */
    const char *word;     /* a duration's word for 0 ms */
    const char *choices;
    bool secret; /* also taken as NAME_FILE */
    const char *help;
};

/* clang-format off */
#define AT(type, name_, field_) \
    .kind = (type), .name = (name_), .field = offsetof(struct pqi_options, field_)
#define SECTION(title) {.kind = IS_SECTION, .name = (title)},
#define WHOLE(name_, field_, default_, min_, max_, help_) \
    {AT(IS_WHOLE, name_, field_), .fallback = (default_), .min = (min_), .max = (max_), \
     .help = (help_)},
#define DURATION(name_, field_, default_, min_, max_, zero_, help_) \
    {AT(IS_DURATION, name_, field_), .fallback = (default_), .min = (min_), .max = (max_), \
     .zero = (zero_), .help = (help_)},
#define WAIT(name_, field_, default_, min_, max_, help_) \
    {AT(IS_DURATION, name_, field_), .fallback = (default_), .min = (min_), .max = (max_), \
     .zero = ZERO_IS_NEVER, .word = "nowait", .help = (help_)},
#define CHOICE(name_, field_, default_, choices_, help_) \
    {AT(IS_CHOICE, name_, field_), .fallback = (default_), .choices = (choices_), .help = (help_)},
#define YES_NO(name_, field_, default_, help_) \
    {AT(IS_YES_NO, name_, field_), .fallback = (default_), .help = (help_)},
#define TEXT(name_, field_, max_, help_) \
    {AT(IS_TEXT, name_, field_), .max = (max_), .help = (help_)},
#define URL(name_, help_) {.kind = IS_URL, .name = (name_), .secret = true, .help = (help_)},
#define PART(name_, part_, default_, max_, help_) \
    {.kind = IS_PART, .name = (name_), .part = (part_), .fallback = (default_), .min = 1, \
     .max = (max_), .help = (help_)},
#define SECRET_PART(name_, part_, help_) \
    {.kind = IS_PART, .name = (name_), .part = (part_), .secret = true, .help = (help_)},
#define LIBPQ(name_, part_, max_, help_) \
    {.kind = IS_LIBPQ, .name = (name_), .part = (part_), .min = 1, .max = (max_), .help = (help_)},
#define PLANNED(name_) {.kind = IS_PLANNED, .name = (name_)},
#define IGNORED(name_) {.kind = IS_IGNORED, .name = (name_)},
/* clang-format on */

static const struct option options[] = {
#include "options.def"
};

enum { OPTIONS = sizeof options / sizeof *options };

static const struct option *option_named(const char *name)
{
    const struct option *o = options;
    while (strcmp(o->name, name) != 0) /* only names from the list are asked for */
        o++;
    return o;
}

static bool has_field(const struct option *option)
{
    return option->kind >= IS_WHOLE && option->kind <= IS_TEXT;
}

struct pqi_source {
    char text[NAME_MAX_BYTES];
};

/* ---- What is collected while reading ------------------------------------------------------ */

/* A variable of ours that is set. */
struct var {
    const struct option *option;
    int i, n;     /* the numbers in its name, where it has any */
    bool file;    /* it is NAME_FILE */
    int position; /* in the environment */
    char name[NAME_MAX_BYTES];
    char *text;                 /* what it says, trimmed; what its file holds */
    struct pqi_shard_conf conf; /* of a URL: its servers */
};

struct notes {
    char **texts;
    int n;
};

struct load {
    struct pqi_options *o;
    struct var *vars; /* by option, shard and replica */
    int nvars;
    struct notes faults;
    struct notes warnings;
    bool nomem;
};

static void note(struct load *l, struct notes *to, const char *format, va_list args)
{
    struct pqi_buf buf = {0};
    pqi_buf_formatv(&buf, format, args);
    char *text = pqi_buf_take(&buf);
    char **more = text ? pqi_mem_resize(to->texts, (size_t)to->n + 1, sizeof *more) : NULL;
    if (!more) {
        pqi_mem_free(text);
        l->nomem = true;
        return;
    }
    to->texts = more;
    more[to->n++] = text;
}

__attribute__((format(printf, 2, 3))) static void fault(struct load *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(l, &l->faults, format, args);
    va_end(args);
}

__attribute__((format(printf, 2, 3))) static void warn(struct load *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(l, &l->warnings, format, args);
    va_end(args);
}

static void fault_missing(struct load *l, const char *missing, const char *who)
{
    fault(l, "%s is missing; %s needs it", missing, who);
}

static void fault_text(struct load *l, const char *name, int64_t max)
{
    fault(l, "%s: text longer than %" PRId64 " bytes or with control characters", name, max);
}

static void fault_url(struct load *l, const char *name, const struct pqi_url_fault *why)
{
    if (why->parameter[0])
        fault(l, "%s: not a usable PostgreSQL URL: %s, parameter \"%s\"", name, why->reason,
              why->parameter);
    else
        fault(l, "%s: not a usable PostgreSQL URL: %s", name, why->reason);
}

static void free_notes(struct notes *notes)
{
    for (int i = 0; i < notes->n; i++)
        pqi_mem_free(notes->texts[i]);
    pqi_mem_free(notes->texts);
}

/* ---- Names -------------------------------------------------------------------------------- */

static const char DIGITS[] = "0123456789";

/* A number of at most five digits without leading zeros; NULL: none. */
static const char *read_number(const char *name, int *number)
{
    size_t len = strspn(name, DIGITS);
    if (len == 0 || len > 5 || (*name == '0' && len > 1))
        return NULL;
    *number = 0;
    for (size_t k = 0; k < len; k++)
        *number = *number * 10 + (name[k] - '0');
    return name + len;
}

/* Is the name, up to its '=', this option's, or its NAME_FILE? Fills numbers and .file. */
static bool fits(struct var *v, const char *name)
{
    for (const char *p = v->option->name; *p; p++) {
        if (*p != '{') {
            if (*name++ != *p)
                return false;
            continue;
        }
        name = read_number(name, p[1] == 'i' ? &v->i : &v->n);
        if (!name)
            return false;
        p += 2;
    }
    v->file = v->option->secret && strncmp(name, "_FILE=", 6) == 0;
    return *name == '=' || v->file;
}

static bool recognise(struct var *v, const char *entry)
{
    struct var blank = *v;
    for (const struct option *o = options; o < options + OPTIONS; o++) {
        *v = blank;
        v->option = o;
        if (o->kind != IS_SECTION && fits(v, entry))
            return true;
    }
    return false;
}

/* The option's name with its numbers. */
static void write_name(char name[NAME_MAX_BYTES], const char *pattern, int i, int n)
{
    size_t len = 0;
    for (; *pattern && len + 8 < NAME_MAX_BYTES; pattern++) {
        if (*pattern != '{') {
            name[len++] = *pattern;
            continue;
        }
        len += (size_t)snprintf(name + len, 8, "%d", pattern[1] == 'i' ? i : n);
        pattern += 2;
    }
    name[len] = '\0';
}

/* For comparing: every number, and every place for one, is a #. */
static void write_shape(char shape[NAME_MAX_BYTES], const char *name, size_t len)
{
    size_t to = 0;
    for (size_t at = 0; at < len && to + 1 < NAME_MAX_BYTES;) {
        size_t digits = strspn(name + at, DIGITS);
        if (digits > len - at)
            digits = len - at;
        bool number = digits > 0 || name[at] == '{';
        shape[to++] = number ? '#' : name[at];
        at += digits > 0 ? digits : number ? 3 : 1;
    }
    shape[to] = '\0';
}

static bool is_ours(const char *name)
{
    static const char *const prefixes[] = {"DATABASE_", "DB_", "REDIS_", "PQR_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* The numbers of an unknown name, where they can be meant, in the name that was meant. */
static void write_meant(char meant[NAME_MAX_BYTES], const struct option *option, const char *name)
{
    int numbers[2] = {-1, -1};
    for (int k = 0; k < 2 && *name != '='; k++) {
        name += strcspn(name, "0123456789=");
        name += strspn(name, "0");
        if (!read_number(name, &numbers[k]) && name[-1] == '0')
            numbers[k] = 0;
        name += strspn(name, DIGITS);
    }
    bool shard = strstr(option->name, "{i}");
    int i = numbers[0], n = shard ? numbers[1] : numbers[0];
    write_name(meant, option->name, i < 0 ? 0 : i, n < 0 ? 1 : n);
}

/* A name that looks like one of ours but is none: what was meant? */
static void suggest(struct load *l, const char *entry, size_t len)
{
    char shape[NAME_MAX_BYTES], other[NAME_MAX_BYTES], meant[NAME_MAX_BYTES];
    const struct option *nearest = NULL;
    bool file = false;
    int least = 3;
    if (!is_ours(entry) || len >= NAME_MAX_BYTES - 5)
        return;
    write_shape(shape, entry, len);
    for (int k = 0; k < 2 * OPTIONS; k++) {
        const struct option *o = &options[k / 2];
        if (o->kind == IS_SECTION || (k % 2 && !o->secret))
            continue;
        write_shape(other, o->name, strlen(o->name));
        strcat(other, k % 2 ? "_FILE" : "");
        int distance = pqi_distance(shape, other);
        if (distance < least) {
            least = distance;
            nearest = o;
            file = k % 2;
        }
    }
    if (!nearest)
        return;
    write_meant(meant, nearest, entry);
    warn(l, "%.*s is not known: did you mean %s%s?", (int)len, entry, meant, file ? "_FILE" : "");
}

/* ---- Variables ---------------------------------------------------------------------------- */

static const char BLANKS[] = " \t\r\n";

/* A copy without outer blanks; NULL: nothing is left. */
static char *trim(struct load *l, const char *name, const char *value)
{
    size_t all = strlen(value), lead = strspn(value, BLANKS), len = all - lead;
    while (len > 0 && strchr(BLANKS, value[lead + len - 1]))
        len--;
    if (len == 0)
        warn(l, "%s holds only blanks: taken as not set", name);
    else if (len < all)
        warn(l, "%s: blanks around its value are ignored", name);
    char *copy = len > 0 ? pqi_mem_bytes(value + lead, len) : NULL;
    l->nomem |= len > 0 && !copy;
    return copy;
}

/* As many bytes as there are and fit; -1: errno says why. */
static ssize_t read_bytes(const char *path, char *bytes, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t len = 0;
    ssize_t got = 1;
    while (got != 0 && len < size) {
        got = read(fd, bytes + len, size - len);
        if (got < 0 && errno != EINTR)
            break;
        len += got > 0 ? (size_t)got : 0;
    }
    int error = errno;
    close(fd);
    errno = error;
    return got < 0 ? -1 : (ssize_t)len;
}

/* Puts in the place of a file's name what the file holds, without the newline at its end. */
static void read_file(struct load *l, struct var *v)
{
    char bytes[URL_MAX + 4];
    ssize_t len = read_bytes(v->text, bytes, sizeof bytes - 1);
    pqi_mem_free(v->text);
    v->text = NULL;
    if (len < 0) {
        fault(l, "%s: its file cannot be read: %s", v->name, strerror(errno));
        return;
    }
    bytes[len] = '\0';
    if (strlen(bytes) < (size_t)len) {
        fault_text(l, v->name, URL_MAX);
    } else {
        if (len > 0 && bytes[len - 1] == '\n')
            bytes[--len] = '\0';
        if (strspn(bytes, BLANKS) == (size_t)len)
            fault(l, "%s: its file is empty", v->name);
        else
            v->text = trim(l, v->name, bytes);
    }
    explicit_bzero(bytes, sizeof bytes);
}

static void keep(struct load *l, struct var *v)
{
    struct var *more = pqi_mem_resize(l->vars, (size_t)l->nvars + 1, sizeof *more);
    if (!more) {
        pqi_mem_wipe(v->text);
        l->nomem = true;
        return;
    }
    l->vars = more;
    more[l->nvars++] = *v;
}

static bool numbered_right(struct load *l, const struct var *v)
{
    bool replica = v->option->kind == IS_URL && strstr(v->option->name, "{n}");
    if (!replica || (v->n >= 1 && v->n <= REPLICAS_MAX))
        return true;
    fault(l, "%s is set, but replicas are numbered from 1 to %d", v->name, REPLICAS_MAX);
    return false;
}

static void read_variable(struct load *l, const char *entry, size_t len, int position)
{
    const char *value = entry + len + 1;
    struct var v = {.position = position};
    if (!*value)
        return;
    if (!recognise(&v, entry)) {
        suggest(l, entry, len);
        return;
    }
    memcpy(v.name, entry, len);
    if (v.option->kind == IS_PLANNED || v.option->kind == IS_IGNORED) {
        if (value[strspn(value, BLANKS)] == '\0')
            return;
        if (v.option->kind == IS_PLANNED)
            fault(l, "%s is not supported by this version", v.name);
        else
            warn(l, "%s is set, but this version has no cache: ignored", v.name);
        return;
    }
    if (!numbered_right(l, &v))
        return;
    v.text = trim(l, v.name, value);
    if (v.text && v.file)
        read_file(l, &v);
    if (v.text)
        keep(l, &v);
}

static int compare_key(const void *a, const void *b)
{
    const struct var *v = a, *w = b;
    if (v->option != w->option)
        return v->option < w->option ? -1 : 1;
    return v->i != w->i ? (v->i < w->i ? -1 : 1) : v->n - w->n;
}

static int compare(const void *a, const void *b)
{
    const struct var *v = a, *w = b;
    int key = compare_key(v, w);
    if (key != 0)
        return key;
    return v->file != w->file ? v->file - w->file : v->position - w->position;
}

/* Of a variable that is there twice the first counts, as for getenv; NAME and NAME_FILE exclude
 * each other. */
static void drop_doubles(struct load *l)
{
    int kept = 0;
    for (int k = 0; k < l->nvars; k++) {
        struct var *v = &l->vars[k], *last = kept > 0 ? &l->vars[kept - 1] : NULL;
        if (!last || compare_key(last, v) != 0) {
            l->vars[kept++] = *v;
            continue;
        }
        if (last->file != v->file)
            fault(l, "%s and %s are both set: keep one", last->name, v->name);
        pqi_mem_wipe(v->text);
    }
    l->nvars = kept;
}

static void collect(struct load *l, const char *const *env)
{
    for (int position = 0; env[position]; position++) {
        size_t len = strcspn(env[position], "=");
        if (len > 0 && env[position][len] == '=')
            read_variable(l, env[position], len, position);
    }
    if (l->nvars > 0)
        qsort(l->vars, (size_t)l->nvars, sizeof *l->vars, compare);
    drop_doubles(l);
}

static struct var *find(const struct load *l, const struct option *option, int i, int n)
{
    struct var key = {.option = option, .i = i, .n = n};
    struct var *v = l->nvars > 0 ? bsearch(&key, l->vars, (size_t)l->nvars, sizeof key, compare_key)
                                 : NULL;
    return v && v->text ? v : NULL;
}

static struct var *find_named(const struct load *l, const char *name)
{
    return find(l, option_named(name), 0, 0);
}

/* The first variable of an option whose name has numbers. */
static struct var *find_any(const struct load *l, const struct option *option)
{
    for (int k = 0; k < l->nvars; k++)
        if (l->vars[k].option == option)
            return &l->vars[k];
    return NULL;
}

/* ---- Values ------------------------------------------------------------------------------- */

static const void *field_of(const struct pqi_options *o, const struct option *option)
{
    return (const char *)o + option->field;
}

static bool set_duration(int64_t *field, const struct option *option, const char *text)
{
    int64_t ms;
    if (option->word && strcmp(text, option->word) == 0) {
        *field = 0;
        return true;
    }
    if (!pqi_read_duration(text, &ms))
        return false;
    bool zero = ms == 0 && option->zero != NO_ZERO;
    if (!zero && (ms < option->min || ms > option->max))
        return false;
    *field = zero && option->zero == ZERO_IS_NEVER ? INT64_MAX : ms;
    return true;
}

static bool set_choice(int *field, const struct option *option, const char *text)
{
    int choice = pqi_read_choice(text, option->choices);
    if (choice >= 0)
        memcpy(field, &choice, sizeof choice);
    return choice >= 0;
}

static int set_text(char **field, const struct option *option, const char *text)
{
    if (!pqi_clean(text, (size_t)option->max))
        return PQR_E_CONFIG;
    char *copy = pqi_mem_text(text);
    if (!copy)
        return PQR_E_NOMEM;
    pqi_mem_free(*field);
    *field = copy;
    return PQR_OK;
}

/* PQR_E_CONFIG: the text is no value for it. */
static int set(struct pqi_options *o, const struct option *option, const char *text)
{
    void *field = (char *)o + option->field;
    bool good = false;
    if (option->kind == IS_WHOLE)
        good = pqi_read_whole(text, option->min, option->max, field);
    else if (option->kind == IS_DURATION)
        good = set_duration(field, option, text);
    else if (option->kind == IS_CHOICE)
        good = set_choice(field, option, text);
    else if (option->kind == IS_YES_NO)
        good = pqi_read_yes_no(text, field);
    else
        return set_text(field, option, text);
    return good ? PQR_OK : PQR_E_CONFIG;
}

/* "a whole number from 1 to 10000": what was expected. */
static void add_expected(struct pqi_buf *to, const struct option *o)
{
    if (o->kind == IS_DURATION)
        pqi_buf_format(to, "a duration from %s to %s (write 5, 0.5, 250ms, 2m)",
                       pqi_show_duration(o->min).text, pqi_show_duration(o->max).text);
    else if (o->kind == IS_CHOICE)
        pqi_buf_format(to, "one of %s", o->choices);
    else if (o->kind == IS_YES_NO)
        pqi_buf_text(to, "yes or no (use 1/0, true/false, on/off)");
    else if (o->kind == IS_TEXT)
        pqi_buf_format(to, "a text of at most %" PRId64 " bytes", o->max);
    else
        pqi_buf_format(to, "a whole number from %" PRId64 " to %" PRId64, o->min, o->max);
}

static void fault_value(struct load *l, const struct option *option, const struct var *v)
{
    struct pqi_buf expected = {0};
    add_expected(&expected, option);
    if (option->kind == IS_TEXT)
        fault_text(l, v->name, option->max);
    else
        fault(l, "%s: \"%s\" is not %s", v->name, pqi_quote(v->text).text, pqi_buf_str(&expected));
    l->nomem |= expected.failed;
    pqi_buf_free(&expected);
}

static void set_source(struct load *l, const struct option *option, const char *source)
{
    struct pqi_source *s = &l->o->sources[option - options];
    pqi_copy_text(s->text, sizeof s->text, source);
}

static const char *source_of(const struct pqi_options *o, const struct option *option)
{
    return o->sources[option - options].text;
}

static void set_or_fault(struct load *l, const struct option *option, const struct var *v)
{
    int rc = set(l->o, option, v->text);
    l->nomem |= rc == PQR_E_NOMEM;
    if (rc == PQR_E_CONFIG)
        fault_value(l, option, v);
    else
        set_source(l, option, "environment");
}

static const char *program_name(void)
{
#if defined(__linux__)
    const char *name = program_invocation_short_name;
#else
    const char *name = getprogname();
#endif
    return name && *name ? name : "pqrouter";
}

static void set_defaults(struct load *l)
{
    for (const struct option *o = options; o < options + OPTIONS; o++) {
        if (has_field(o) && o->fallback && set(l->o, o, o->fallback) == PQR_E_NOMEM)
            l->nomem = true;
        set_source(l, o, "default");
    }
    char name[64];
    pqi_copy_text(name, sizeof name, program_name());
    l->o->application_name = pqi_mem_text(pqi_clean(name, sizeof name) ? name : "pqrouter");
    l->nomem |= !l->o->application_name;
}

static void read_values(struct load *l)
{
    const struct option *size = option_named("DATABASE_POOL_SIZE");
    for (int k = 0; k < l->nvars; k++)
        if (has_field(l->vars[k].option) && l->vars[k].option != size)
            set_or_fault(l, l->vars[k].option, &l->vars[k]);
}

/* Weaker than DB_CONNECTION_LIMIT and than a URL, so it is read before both. */
static void read_pool_size(struct load *l)
{
    const struct var *size = find_named(l, "DATABASE_POOL_SIZE");
    const struct var *limit = find_named(l, "DB_CONNECTION_LIMIT");
    if (!size)
        return;
    set_or_fault(l, size->option, size);
    set_source(l, option_named("DB_CONNECTION_LIMIT"), size->name);
    int64_t number;
    if (limit && pqi_read_whole(limit->text, 0, INT64_MAX, &number) &&
        number != l->o->connection_limit)
        warn(l, "DB_CONNECTION_LIMIT and DATABASE_POOL_SIZE differ: the first one holds");
}

static void check_values(struct load *l)
{
    const struct pqi_options *o = l->o;
    if (o->pool_timeout_ms == INT64_MAX)
        warn(l, "DB_POOL_TIMEOUT is 0, so calls wait for a connection without end (to fail at "
                "once, write nowait)");
    if (o->statement_timeout_ms > o->socket_timeout_ms)
        warn(l, "DB_STATEMENT_TIMEOUT (%s) is above DB_SOCKET_TIMEOUT (%s), which ends calls first",
             pqi_show_duration(o->statement_timeout_ms).text,
             pqi_show_duration(o->socket_timeout_ms).text);
}

/* ---- URLs --------------------------------------------------------------------------------- */

/* The parts and libpq's variables must at least be texts; what is not, counts as not set. */
static void check_parts(struct load *l)
{
    for (int k = 0; k < l->nvars; k++) {
        struct var *v = &l->vars[k];
        const struct option *o = v->option;
        int64_t number;
        if (o->kind != IS_PART && o->kind != IS_LIBPQ)
            continue;
        bool clean = pqi_clean(v->text, PART_MAX);
        if (clean && (o->max == 0 || pqi_read_whole(v->text, o->min, o->max, &number)))
            continue;
        if (o->max > 0)
            fault_value(l, o, v);
        else
            fault_text(l, v->name, PART_MAX);
        pqi_mem_wipe(v->text);
        v->text = NULL;
    }
}

static void set_part(struct load *l, struct pqi_url *url, enum pqi_part part, const char *text)
{
    if (url->part[part])
        return;
    url->part[part] = pqi_mem_text(text);
    l->nomem |= text && !url->part[part];
}

/* libpq's own variables for what is missing. A service, where one is named, comes first. */
static void fill_gaps(struct load *l, struct pqi_url *url)
{
    if (url->part[PQI_SERVICE])
        return;
    for (int k = 0; k < l->nvars; k++) {
        const struct var *v = &l->vars[k];
        bool host = v->option->part == PQI_HOST;
        if (v->option->kind == IS_LIBPQ && v->text && !(host && url->part[PQI_HOSTADDR]))
            set_part(l, url, v->option->part, v->text);
    }
}

static bool same_value(const struct option *option, const struct pqi_options *a,
                       const struct pqi_options *b)
{
    return option->kind == IS_TEXT ||
           memcmp(field_of(a, option), field_of(b, option), sizeof(int64_t)) == 0;
}

/* An option that a URL sets. The first URL that does wins, and any variable of ours over it. */
static void take_wish(struct load *l, const struct var *v, const struct pqi_wish *wish)
{
    const struct option *option = option_named(wish->option);
    const char *source = source_of(l->o, option);
    bool first = strcmp(source, "default") == 0 || strcmp(source, "DATABASE_POOL_SIZE") == 0;
    struct pqi_options said = {0};
    struct pqi_buf expected = {0};
    int rc = set(&said, option, wish->value);
    add_expected(&expected, option);
    if (rc == PQR_E_CONFIG)
        fault(l, "%s: not a usable PostgreSQL URL: not %s, parameter \"%s\"", v->name,
              pqi_buf_str(&expected), wish->parameter);
    else if (rc == PQR_OK && first) {
        rc = set(l->o, option, wish->value);
        set_source(l, option, v->name);
    } else if (rc == PQR_OK && !same_value(option, &said, l->o))
        warn(l, "%s in %s is not followed: %s says otherwise", wish->parameter, v->name, source);
    l->nomem |= rc == PQR_E_NOMEM || expected.failed;
    pqi_buf_free(&expected);
    pqi_mem_free(said.application_name);
}

static void take_wishes(struct load *l, const struct var *v, const struct pqi_url *url)
{
    for (int k = 0; k < url->nwishes; k++)
        take_wish(l, v, &url->wish[k]);
    if (url->dropped)
        warn(l, "%s: parameters of other programs are ignored: %s", v->name, url->dropped);
}

/* The servers of a URL whose missing parts are filled in. */
static bool make_targets(struct load *l, const char *name, const struct pqi_url *url,
                         struct pqi_shard_conf *out)
{
    struct pqi_url_fault why;
    int rc = l->nomem ? PQR_E_NOMEM : pqi_url_targets(url, out, &why);
    if (rc == PQR_E_CONFIG)
        fault_url(l, name, &why);
    l->nomem |= rc == PQR_E_NOMEM;
    return rc == PQR_OK;
}

static void read_url(struct load *l, struct var *v)
{
    struct pqi_url url = {0};
    struct pqi_url_fault why;
    if (!pqi_clean(v->text, URL_MAX)) {
        fault_text(l, v->name, URL_MAX);
        return;
    }
    int rc = pqi_url_read(&url, v->text, &why);
    if (rc == PQR_OK) {
        fill_gaps(l, &url);
        if (make_targets(l, v->name, &url, &v->conf))
            take_wishes(l, v, &url);
    } else if (rc == PQR_E_CONFIG) {
        fault_url(l, v->name, &why);
    } else {
        l->nomem = true;
    }
    pqi_url_free(&url);
}

/* DATABASE_URL may stand there for somebody else, once DATABASE_PRIMARY_URL is set. */
static void read_urls(struct load *l)
{
    bool primary = find_named(l, "DATABASE_PRIMARY_URL");
    const struct option *second = option_named("DATABASE_URL");
    for (int k = 0; k < l->nvars; k++)
        if (l->vars[k].option->kind == IS_URL && !(primary && l->vars[k].option == second))
            read_url(l, &l->vars[k]);
}

/* ---- Shards ------------------------------------------------------------------------------- */

/* Moves the servers of a variable to their shard, as "shard1/replica2", "shard1/replica2.2", … */
static void place(struct load *l, struct pqi_shard_conf *into, struct pqi_shard_conf *from,
                  const char *variable, const char *name)
{
    if (from->n == 0)
        return;
    size_t all = (size_t)(into->n + from->n);
    struct pqi_target *targets = pqi_mem_resize(into->targets, all, sizeof *targets);
    if (!targets) {
        l->nomem = true;
        return;
    }
    for (int k = 0; k < from->n; k++) {
        struct pqi_target *t = &targets[into->n + k];
        *t = from->targets[k];
        pqi_copy_text(t->variable, sizeof t->variable, variable);
        if (k == 0)
            snprintf(t->name, sizeof t->name, "%s", name);
        else
            snprintf(t->name, sizeof t->name, "%s.%d", name, k + 1);
    }
    pqi_mem_free(from->targets);
    *into = (struct pqi_shard_conf){targets, into->n + from->n};
    *from = (struct pqi_shard_conf){0};
}

static void place_primary(struct load *l, struct pqi_shard_conf *into, const char *group,
                          struct var *v)
{
    char name[40];
    snprintf(name, sizeof name, "%s/primary", group);
    place(l, into, &v->conf, v->name, name);
}

static void place_replicas(struct load *l, struct pqi_shard_conf *into, const char *group,
                           const struct option *option, int i)
{
    char name[40], gap[NAME_MAX_BYTES];
    int missing = 0;
    for (int n = 1; n <= REPLICAS_MAX; n++) {
        struct var *v = find(l, option, i, n);
        if (!v) {
            missing = missing ? missing : n;
        } else if (missing) {
            write_name(gap, option->name, i, missing);
            fault(l, "%s is set but %s is not", v->name, gap);
            return;
        } else {
            snprintf(name, sizeof name, "%s/replica%d", group, n);
            place(l, into, &v->conf, v->name, name);
        }
    }
}

static const struct var *find_libpq(const struct load *l, enum pqi_part part)
{
    for (int k = 0; k < l->nvars; k++)
        if (l->vars[k].option->kind == IS_LIBPQ && l->vars[k].option->part == part)
            return l->vars[k].text ? &l->vars[k] : NULL;
    return NULL;
}

/* The one database that DATABASE_HOST, DATABASE_NAME, … describe; `first` is one of them. */
static void place_parts(struct load *l, struct pqi_shard_conf *into, const char *first)
{
    struct pqi_url url = {0};
    struct pqi_shard_conf conf = {0};
    for (const struct option *o = options; o < options + OPTIONS; o++) {
        if (o->kind != IS_PART)
            continue;
        const struct var *own = find(l, o, 0, 0), *v = own ? own : find_libpq(l, o->part);
        set_part(l, &url, o->part, v ? v->text : o->fallback);
        if (v)
            set_source(l, o, own ? "environment" : v->name);
    }
    fill_gaps(l, &url); /* the pass file */
    if (!url.part[PQI_DBNAME])
        fault_missing(l, "DATABASE_NAME", first);
    else if (make_targets(l, first, &url, &conf))
        place(l, into, &conf, first, "shard0/primary");
    pqi_shard_conf_free(&conf);
    pqi_url_free(&url);
}

static void warn_unused_parts(struct load *l)
{
    struct pqi_buf names = {0};
    for (int k = 0; k < l->nvars; k++)
        if (l->vars[k].option->kind == IS_PART)
            pqi_buf_format(&names, "%s%s", names.len > 0 ? ", " : "", l->vars[k].name);
    if (names.len > 0)
        warn(l, "not used, since a URL is set: %s", pqi_buf_str(&names));
    l->nomem |= names.failed;
    pqi_buf_free(&names);
    for (const struct option *o = options; o < options + OPTIONS; o++)
        if (o->kind == IS_PART)
            set_source(l, o, "unused");
}

static const struct var *first_part(const struct load *l)
{
    for (int k = 0; k < l->nvars; k++)
        if (l->vars[k].option->kind == IS_PART && l->vars[k].text)
            return &l->vars[k];
    return NULL;
}

/* DATABASE_PRIMARY_URL and its replicas: the one shard, or the control database beside shards. */
static void build_main(struct load *l)
{
    struct pqi_options *o = l->o;
    struct pqi_shard_conf *into = o->sharded ? &o->control : &o->shards[0];
    const char *group = o->sharded ? "control" : "shard0";
    const struct option *replicas = option_named("DATABASE_REPLICA_{n}_URL");
    struct var *primary = find_named(l, "DATABASE_PRIMARY_URL");
    const struct var *replica = find_any(l, replicas);
    const struct var *part = o->sharded ? NULL : first_part(l);
    if (!primary)
        primary = find_named(l, "DATABASE_URL");
    if (primary)
        place_primary(l, into, group, primary);
    else if (part)
        place_parts(l, into, part->name);
    else if (replica)
        fault_missing(l, "DATABASE_PRIMARY_URL", replica->name);
    else if (!o->sharded && !find_any(l, option_named("DATABASE_SHARD_{i}_URL")))
        fault(l, "no database configured: set DATABASE_PRIMARY_URL, or DATABASE_SHARD_COUNT with "
                 "DATABASE_SHARD_0_URL");
    if (primary || !part)
        warn_unused_parts(l);
    place_replicas(l, into, group, replicas, 0);
}

static void build_shard(struct load *l, int i)
{
    char group[24];
    struct var *v = find(l, option_named("DATABASE_SHARD_{i}_URL"), i, 0);
    snprintf(group, sizeof group, "shard%d", i);
    if (v)
        place_primary(l, &l->o->shards[i], group, v);
    else
        fault(l, "DATABASE_SHARD_%d_URL is missing; DATABASE_SHARD_COUNT needs it", i);
    place_replicas(l, &l->o->shards[i], group, option_named("DATABASE_SHARD_{i}_REPLICA_{n}_URL"),
                   i);
}

/* URLs of shards that DATABASE_SHARD_COUNT does not cover. */
static void check_beyond(struct load *l)
{
    const struct option *shard = option_named("DATABASE_SHARD_{i}_URL");
    const struct option *replica = option_named("DATABASE_SHARD_{i}_REPLICA_{n}_URL");
    int64_t count = l->o->shard_count;
    for (int k = 0; k < l->nvars; k++) {
        const struct var *v = &l->vars[k];
        if (v->i < count || (v->option != shard && v->option != replica))
            continue;
        if (v->option == shard && count > 0)
            fault(l, "%s is set but DATABASE_SHARD_COUNT is %" PRId64 " (0..%" PRId64 ")", v->name,
                  count, count - 1);
        else if (v->option == shard)
            fault(l, "%s is set but DATABASE_SHARD_COUNT is 0 (no shards)", v->name);
        else if (!find(l, shard, v->i, 0))
            fault(l, "DATABASE_SHARD_%d_URL is missing; %s needs it", v->i, v->name);
    }
}

static void build_shards(struct load *l)
{
    const struct option *shard = option_named("DATABASE_SHARD_{i}_URL");
    const struct var *any = find_any(l, shard);
    int count = (int)l->o->shard_count;
    if (any && !find_named(l, "DATABASE_SHARD_COUNT")) {
        fault_missing(l, "DATABASE_SHARD_COUNT", any->name);
        return;
    }
    /* Whoever counts from 1 has his tenants' data in other shards than he thinks: no guessing. */
    if (count > 0 && !find(l, shard, 0, 0) && find(l, shard, count, 0)) {
        fault(l, "shards are numbered from 0: DATABASE_SHARD_0_URL is missing");
        return;
    }
    for (int i = 0; i < count; i++)
        build_shard(l, i);
    check_beyond(l);
}

static void build(struct load *l)
{
    struct pqi_options *o = l->o;
    const struct option *count = option_named("DATABASE_SHARD_COUNT");
    if (find(l, count, 0, 0) && strcmp(source_of(o, count), "environment") != 0)
        return; /* it is no number, so nothing can be said about the rest */
    o->sharded = o->shard_count > 0;
    o->nshards = o->sharded ? (int)o->shard_count : 1;
    o->shards = pqi_mem_array((size_t)o->nshards, sizeof *o->shards);
    if (!o->shards) {
        l->nomem = true;
        o->nshards = 0;
        return;
    }
    build_main(l);
    build_shards(l);
}

/* ---- Loading ------------------------------------------------------------------------------ */

static char *join_lines(const struct notes *notes)
{
    struct pqi_buf lines = {0};
    for (int k = 0; k < notes->n; k++)
        pqi_buf_format(&lines, "%s%s", k > 0 ? "\n" : "", notes->texts[k]);
    return pqi_buf_take(&lines);
}

/* As many faults as fit, and how many more there are. */
static int report(const struct notes *faults, pqr_error *err)
{
    static const char and_more[] = "; … and 123456 more";
    char text[sizeof err->message] = "";
    size_t len = 0;
    int k = 0;
    for (; k < faults->n; k++) {
        size_t rest = k + 1 < faults->n ? sizeof and_more : 1;
        if (k > 0 && len + strlen(faults->texts[k]) + 2 + rest > sizeof text)
            break;
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", k > 0 ? "; " : "",
                                faults->texts[k]);
        if (len >= sizeof text) /* the first alone is too long */
            len = sizeof text - 1;
    }
    if (k < faults->n)
        snprintf(text + len, sizeof text - len, "; … and %d more", faults->n - k);
    return pqi_err(err, PQR_E_CONFIG, "%s", text);
}

static void be_strict(struct load *l)
{
    if (!l->o->strict_env)
        return;
    for (int k = 0; k < l->warnings.n; k++)
        fault(l, "%s", l->warnings.texts[k]);
}

static void read_all(struct load *l, const char *const *env)
{
    collect(l, env);
    set_defaults(l);
    read_pool_size(l);
    check_parts(l);
    read_urls(l);
    read_values(l);
    check_values(l);
    build(l);
    be_strict(l);
}

static void free_vars(struct load *l)
{
    for (int k = 0; k < l->nvars; k++) {
        pqi_mem_wipe(l->vars[k].text);
        pqi_shard_conf_free(&l->vars[k].conf);
    }
    pqi_mem_free(l->vars);
}

static struct pqi_options *new_options(void)
{
    struct pqi_options *o = pqi_mem_new(sizeof *o);
    if (o)
        o->sources = pqi_mem_array(OPTIONS, sizeof *o->sources);
    if (o && !o->sources) {
        pqi_mem_free(o);
        return NULL;
    }
    return o;
}

/* What came of it, told to both who want it short and who want it whole. */
static int conclude(struct load *l, char **faults, pqr_error *err)
{
    if (!l->nomem && l->faults.n == 0)
        return pqi_err_none(err);
    char *lines = l->nomem ? NULL : join_lines(&l->faults);
    if (!lines)
        return pqi_err(err, PQR_E_NOMEM, "no memory for the configuration");
    if (faults)
        *faults = lines;
    else
        pqi_mem_free(lines);
    return report(&l->faults, err);
}

int pqi_options_load(struct pqi_options **out, const char *const *env, char **faults,
                     pqr_error *err)
{
    struct load l = {.o = new_options()};
    if (faults)
        *faults = NULL;
    if (!l.o)
        return pqi_err(err, PQR_E_NOMEM, "no memory for the configuration");
    read_all(&l, env);
    l.o->warnings = l.warnings.texts;
    l.o->nwarnings = l.warnings.n;
    int rc = conclude(&l, faults, err);
    free_notes(&l.faults);
    free_vars(&l);
    if (rc == PQR_OK)
        *out = l.o;
    else
        pqi_options_free(l.o);
    return rc;
}

void pqi_options_free(struct pqi_options *o)
{
    if (!o)
        return;
    for (int i = 0; i < o->nshards; i++)
        pqi_shard_conf_free(&o->shards[i]);
    pqi_mem_free(o->shards);
    pqi_shard_conf_free(&o->control);
    for (int k = 0; k < o->nwarnings; k++)
        pqi_mem_free(o->warnings[k]);
    pqi_mem_free(o->warnings);
    pqi_mem_free(o->fleet_id);
    pqi_mem_free(o->application_name);
    pqi_mem_free(o->sources);
    pqi_mem_free(o);
}

/* ---- Settings ----------------------------------------------------------------------------- */

static void add_duration(struct pqi_buf *to, const struct option *option, int64_t ms)
{
    bool word = ms == 0 && option->word;
    pqi_buf_text(to, word ? option->word : pqi_show_duration(ms == INT64_MAX ? 0 : ms).text);
}

static void add_choice(struct pqi_buf *to, const struct option *option, int number)
{
    size_t len;
    const char *word = pqi_choice(option->choices, number, &len);
    pqi_buf_add(to, word, len);
}

/* A part of the one database; nothing, where URLs are used. */
static void add_part(struct pqi_buf *to, const struct pqi_options *o, const struct option *option)
{
    const struct pqi_target *t = o->shards[0].targets;
    if (strcmp(source_of(o, option), "unused") == 0)
        return;
    const char *text = option->part == PQI_HOST     ? t->host
                       : option->part == PQI_PORT   ? t->port
                       : option->part == PQI_DBNAME ? t->dbname
                       : option->part == PQI_USER   ? t->user
                       : t->password                ? "(set)"
                                                    : NULL;
    pqi_buf_text(to, text ? text : "");
}

/* The value in force, as one could write it. */
static char *value_of(const struct pqi_options *o, const struct option *option)
{
    const void *field = field_of(o, option);
    struct pqi_buf text = {0};
    if (option->kind == IS_WHOLE && (option->fallback || *(const int64_t *)field > 0))
        pqi_buf_format(&text, "%" PRId64, *(const int64_t *)field);
    else if (option->kind == IS_DURATION)
        add_duration(&text, option, *(const int64_t *)field);
    else if (option->kind == IS_CHOICE)
        add_choice(&text, option, *(const int *)field);
    else if (option->kind == IS_YES_NO)
        pqi_buf_text(&text, *(const bool *)field ? "yes" : "no");
    else if (option->kind == IS_TEXT && *(char *const *)field)
        pqi_buf_text(&text, *(char *const *)field);
    else if (option->kind == IS_PART)
        add_part(&text, o, option);
    return pqi_buf_take(&text);
}

struct list {
    struct pqi_setting *settings;
    size_t n;
    bool nomem;
};

/* Takes `value` over. */
static void add_setting(struct list *list, const char *name, char *value, const char *source)
{
    struct pqi_setting *more = pqi_mem_resize(list->settings, list->n + 1, sizeof *more);
    if (!more) {
        pqi_mem_free(value);
        list->nomem = true;
        return;
    }
    list->settings = more;
    struct pqi_setting *s = &more[list->n++];
    *s = (struct pqi_setting){pqi_mem_text(name), value, pqi_mem_text(source)};
    list->nomem |= !s->name || !s->value || !s->source;
}

static void add_targets(struct list *list, const struct pqi_shard_conf *conf)
{
    for (int k = 0; k < conf->n; k++) {
        const struct pqi_target *t = &conf->targets[k];
        if (strstr(t->variable, "_URL")) /* not the database whose parts have been told */
            add_setting(list, t->variable, pqi_mem_text(t->shown), "environment");
    }
}

size_t pqi_options_settings(const struct pqi_options *o, struct pqi_setting **out)
{
    struct list list = {0};
    const struct option *twin = option_named("DATABASE_POOL_SIZE"); /* of DB_CONNECTION_LIMIT */
    for (const struct option *option = options; option < options + OPTIONS; option++)
        if ((has_field(option) && option != twin) || option->kind == IS_PART)
            add_setting(&list, option->name, value_of(o, option), source_of(o, option));
    add_targets(&list, &o->control);
    for (int i = 0; i < o->nshards; i++)
        add_targets(&list, &o->shards[i]);
    if (list.nomem) {
        pqi_settings_free(list.settings, list.n);
        list = (struct list){0};
    }
    *out = list.settings;
    return list.n;
}

void pqi_settings_free(struct pqi_setting *s, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        pqi_mem_free(s[k].name);
        pqi_mem_free(s[k].value);
        pqi_mem_free(s[k].source);
    }
    pqi_mem_free(s);
}

/* ---- docs/options.md ---------------------------------------------------------------------- */

static void add_range(struct pqi_buf *to, const struct option *o)
{
    const char *zero = o->zero != NO_ZERO && o->min > 0 ? ", or 0" : "";
    if (o->kind == IS_WHOLE || o->max == 65535)
        pqi_buf_format(to, "%" PRId64 " to %" PRId64, o->min, o->max);
    else if (o->kind == IS_DURATION)
        pqi_buf_format(to, "%s to %s%s%s%s", pqi_show_duration(o->min).text,
                       pqi_show_duration(o->max).text, zero, o->word ? ", or " : "",
                       o->word ? o->word : "");
    else if (o->kind == IS_CHOICE)
        pqi_buf_text(to, o->choices);
    else if (o->kind == IS_YES_NO)
        pqi_buf_text(to, "yes, no");
    else if (o->kind == IS_TEXT)
        pqi_buf_format(to, "%" PRId64 " bytes", o->max);
    else
        pqi_buf_text(to, o->kind == IS_URL ? "a URL" : "a text");
}

static void add_row(struct pqi_buf *to, const struct option *o)
{
    pqi_buf_format(to, "| `%s`%s | ", o->name, o->secret ? " (`_FILE`)" : "");
    add_range(to, o);
    pqi_buf_format(to, " | %s | %s |\n", o->fallback ? o->fallback : "", o->help);
}

static void add_names(struct pqi_buf *to, enum kind kind)
{
    const char *before = "";
    for (const struct option *o = options; o < options + OPTIONS; o++)
        if (o->kind == kind) {
            pqi_buf_format(to, "%s`%s`", before, o->name);
            before = ", ";
        }
    pqi_buf_text(to, ".\n");
}

static const char beginning[] =
    "# Options\n\n"
    "All are environment variables, read once when the router is opened. This page is printed from\n"
    "`lib/plan/options.def` by `pqrouter options`.\n\n"
    "An empty value is none; blanks around one are ignored, with a warning. A duration is a number\n"
    "of seconds (`5`, `0.5`) or has a unit: `250ms`, `10s`, `2m`, `1h`. What is marked `_FILE` may\n"
    "also stand in a file: then `NAME_FILE` is the file's name, and `NAME` is not set. All faults\n"
    "are told together; no text ever shows a URL's password. `{i}` is a shard, from 0; `{n}` is a\n"
    "replica, from 1.\n";

static const char about_urls[] =
    "\n## URLs\n\n"
    "`postgresql://user:password@host:port/database?parameter=value&…`, as libpq has it: several\n"
    "hosts with commas between them are several servers, an IPv6 address stands in brackets, a\n"
    "socket's folder as `%2Fvar%2Frun%2Fpostgresql` or as the parameter `host`. `postgres://`,\n"
    "`pgsql://`, `jdbc:postgresql://` and a driver, as in `postgresql+psycopg2://`, are accepted\n"
    "too, and so is a keyword string: `host=… port=… dbname=… user=… password='…'`.\n\n"
    "- In users, passwords, hosts and databases write `@` as `%40`, `/` as `%2F`, `?` as `%3F`, a\n"
    "  blank as `%20`, `%` as `%25`; libpq guesses where it finds them bare, pqrouter refuses. A\n"
    "  `+` in a parameter of a `jdbc:` URL is refused: Java reads it as a blank, libpq does not.\n"
    "- A host that is not named is `localhost`; a port 5432; a database has its user's name.\n"
    "- `sslmode` is `verify-full` unless the URL says otherwise, and `prefer` for a socket,\n"
    "  `localhost`, `127.0.0.0/8` and `::1`. `ssl=true` asks for TLS on those too, `ssl=false` for\n"
    "  none; `sslaccept=strict` is `verify-full`.\n"
    "- `schema`, `search_path`, `currentSchema` and `schema_search_path` set the search path;\n"
    "  `socket` is `host`.\n"
    "- `connection_limit`, `pool_timeout`, `connect_timeout`, `socket_timeout` and\n"
    "  `application_name` set the option of that name where its variable is not set. Of several\n"
    "  URLs the first that has one counts.\n"
    "- `target_session_attrs` (but `any`), `load_balance_hosts`, `replication` and\n"
    "  `pgbouncer=true` are refused, and so is an encoding that is not UTF8.\n"
    "- The other keywords of libpq 15 to 17 are handed on to it. With `service` the host must be\n"
    "  named nevertheless, and port and `sslmode` are the URL's.\n"
    "- What frameworks keep in a URL for themselves, such as `pool` or `conn_max_age`, is ignored\n"
    "  with a warning; a parameter that nobody knows is a fault.\n";

char *pqi_options_markdown(void)
{
    struct pqi_buf text = {0};
    pqi_buf_text(&text, beginning);
    for (const struct option *o = options; o < options + OPTIONS; o++)
        if (o->kind == IS_SECTION)
            pqi_buf_format(&text,
                           "\n## %s\n\n| name | range | default | meaning |\n|---|---|---|---|\n",
                           o->name);
        else if (o->kind < IS_PLANNED)
            add_row(&text, o);
    pqi_buf_text(&text, about_urls);
    pqi_buf_text(&text, "\n## Not yet\n\nRefused by this version: ");
    add_names(&text, IS_PLANNED);
    pqi_buf_text(&text, "\nIgnored with a warning, since this version has no cache: ");
    add_names(&text, IS_IGNORED);
    return pqi_buf_take(&text);
}
