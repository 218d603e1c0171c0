/* Variables: collected from the environment, trimmed, read from their files, and found again. */
#include "variables.h"

#include "../base/mem.h"
#include "env.h"
#include "name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char BLANKS[] = " \t\r\n";

/* ---- Texts -------------------------------------------------------------------------------- */

/* A copy without outer blanks; NULL: nothing is left. */
static char *trim(struct pqi_notes *notes, const char *name, const char *value)
{
    size_t all = strlen(value), lead = strspn(value, BLANKS), len = all - lead;
    while (len > 0 && strchr(BLANKS, value[lead + len - 1]))
        len--;
    if (len == 0)
        pqi_note_warning(notes, "%s holds only blanks: taken as not set", name);
    else if (len < all)
        pqi_note_warning(notes, "%s: blanks around its value are ignored", name);
    char *copy = len > 0 ? pqi_mem_bytes(value + lead, len) : NULL;
    notes->nomem |= len > 0 && !copy;
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

/* The file is named where it cannot be the secret itself, put there by mistake. */
static void refuse_file(struct pqi_notes *notes, const struct pqi_var *v, const char *why)
{
    bool path = v->option->kind == PQI_IS_URL && v->text[0] == '/' && pqi_clean(v->text, 1024);
    pqi_note_fault(notes, "%s: %s cannot be read: %s", v->name, path ? v->text : "its file", why);
}

/* Puts in the place of a file's name what the file holds, without the newline at its end; NULL: at
 * fault. */
static void read_file(struct pqi_notes *notes, struct pqi_var *v)
{
    char bytes[PQI_URL_BYTES + 4];
    ssize_t len = read_bytes(v->text, bytes, sizeof bytes - 1);
    if (len < 0)
        refuse_file(notes, v, strerror(errno));
    pqi_mem_wipe(v->text);
    v->text = NULL;
    if (len < 0)
        return;
    bytes[len] = '\0';
    if (strlen(bytes) < (size_t)len) {
        pqi_note_bad_text(notes, v->name, PQI_URL_BYTES);
    } else {
        if (len > 0 && bytes[len - 1] == '\n')
            bytes[--len] = '\0';
        if (strspn(bytes, BLANKS) == (size_t)len)
            pqi_note_fault(notes, "%s: its file is empty", v->name);
        else
            v->text = trim(notes, v->name, bytes);
    }
    explicit_bzero(bytes, sizeof bytes);
}

/* ---- One variable ------------------------------------------------------------------------- */

static void keep(struct pqi_vars *vars, struct pqi_var *v, struct pqi_notes *notes)
{
    struct pqi_var *more = pqi_mem_resize(vars->list, (size_t)vars->n + 1, sizeof *more);
    if (!more) {
        pqi_mem_wipe(v->text);
        notes->nomem = true;
        return;
    }
    vars->list = more;
    more[vars->n++] = *v;
}

static bool numbered_right(struct pqi_notes *notes, const struct pqi_var *v)
{
    bool replica = v->option->kind == PQI_IS_URL && strstr(v->option->name, "{n}");
    if (!replica || (v->n >= 1 && v->n <= PQI_REPLICAS_MAX))
        return true;
    pqi_note_fault(notes, "%s is set, but replicas are numbered from 1 to %d", v->name,
                   PQI_REPLICAS_MAX);
    return false;
}

/* A name that only looks like one of ours. */
static void suggest(struct pqi_notes *notes, const char *entry, size_t len)
{
    char meant[PQI_NAME_BYTES];
    if (pqi_name_guess(meant, entry, len))
        pqi_note_warning(notes, "%.*s is not known: did you mean %s?", (int)len, entry, meant);
}

/* An option that nothing obeys; a value of blanks asks for nothing. */
static void turn_down(struct pqi_notes *notes, const struct pqi_var *v, const char *value)
{
    if (value[strspn(value, BLANKS)] == '\0')
        return;
    if (v->option->kind == PQI_IS_PLANNED)
        pqi_note_fault(notes, "%s is not supported by this version", v->name);
    else
        pqi_note_warning(notes, "%s is set, but this version has no %s: ignored", v->name,
                         v->option->lacking);
}

static void read_variable(struct pqi_vars *vars, const char *entry, size_t len, int position,
                          struct pqi_notes *notes)
{
    const char *value = entry + len + 1;
    struct pqi_name name;
    if (!*value)
        return;
    if (!pqi_name_read(&name, entry)) {
        suggest(notes, entry, len);
        return;
    }
    struct pqi_var v = {
        .option = name.option, .i = name.i, .n = name.n, .file = name.file, .position = position};
    memcpy(v.name, entry, len);
    if (v.option->kind == PQI_IS_PLANNED || v.option->kind == PQI_IS_IGNORED) {
        turn_down(notes, &v, value);
        return;
    }
    if (!numbered_right(notes, &v))
        return;
    v.text = trim(notes, v.name, value);
    if (v.text && v.file) {
        read_file(notes, &v);
        /* A URL whose file is no good is one all the same: none is missing. */
        if (!v.text && v.option->kind == PQI_IS_URL)
            v.text = pqi_mem_text("");
    }
    if (v.text)
        keep(vars, &v, notes);
}

/* ---- In order ----------------------------------------------------------------------------- */

static int compare_key(const void *a, const void *b)
{
    const struct pqi_var *v = a, *w = b;
    if (v->option != w->option)
        return v->option < w->option ? -1 : 1;
    return v->i != w->i ? (v->i < w->i ? -1 : 1) : v->n - w->n;
}

static int compare(const void *a, const void *b)
{
    const struct pqi_var *v = a, *w = b;
    int key = compare_key(v, w);
    if (key != 0)
        return key;
    return v->file != w->file ? v->file - w->file : v->position - w->position;
}

/* Of a variable that is there twice the first counts, as for getenv; NAME and NAME_FILE exclude
 * each other. */
static void drop_doubles(struct pqi_vars *vars, struct pqi_notes *notes)
{
    int kept = 0;
    for (int k = 0; k < vars->n; k++) {
        struct pqi_var *v = &vars->list[k], *last = kept > 0 ? &vars->list[kept - 1] : NULL;
        if (!last || compare_key(last, v) != 0) {
            vars->list[kept++] = *v;
            continue;
        }
        if (last->file != v->file)
            pqi_note_fault(notes, "%s and %s are both set: keep one", last->name, v->name);
        pqi_mem_wipe(v->text);
    }
    vars->n = kept;
}

void pqi_vars_read(struct pqi_vars *vars, const char *const *env, struct pqi_notes *notes)
{
    for (int position = 0; env[position]; position++) {
        size_t len = strcspn(env[position], "=");
        if (len > 0 && env[position][len] == '=')
            read_variable(vars, env[position], len, position, notes);
    }
    if (vars->n > 0)
        qsort(vars->list, (size_t)vars->n, sizeof *vars->list, compare);
    drop_doubles(vars, notes);
}

void pqi_vars_free(struct pqi_vars *vars)
{
    for (int k = 0; k < vars->n; k++) {
        pqi_mem_wipe(vars->list[k].text);
        pqi_shard_conf_free(&vars->list[k].conf);
    }
    pqi_mem_free(vars->list);
}

/* ---- Finding ------------------------------------------------------------------------------ */

struct pqi_var *pqi_vars_find(const struct pqi_vars *vars, const struct pqi_option *option, int i,
                              int n)
{
    struct pqi_var key = {.option = option, .i = i, .n = n}, *v = NULL;
    if (vars->n > 0)
        v = bsearch(&key, vars->list, (size_t)vars->n, sizeof key, compare_key);
    return v && v->text ? v : NULL;
}

struct pqi_var *pqi_vars_find_named(const struct pqi_vars *vars, const char *name)
{
    return pqi_vars_find(vars, pqi_option_named(name), 0, 0);
}

struct pqi_var *pqi_vars_find_any(const struct pqi_vars *vars, const struct pqi_option *option)
{
    for (int k = 0; k < vars->n; k++)
        if (vars->list[k].option == option)
            return &vars->list[k];
    return NULL;
}
