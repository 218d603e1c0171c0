/* The history: a line of JSON before each call and one after it. Times are CLOCK_MONOTONIC, which
 * is the same clock in all processes of a machine. */
#include "driver.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const labels[LABELS] = {"OK", "FAILED", "UNKNOWN"};
static const char *const levels[] = {"session", "any", "primary"};

struct line {
    char text[8192];
    size_t len;
};

int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The second number of the kernel's file; 0 where there is none. */
int64_t kept_waiting_ns(void)
{
    static _Thread_local int fd = -1;
    char text[96] = "";
    long long ran, waited;
    if (fd < 0)
        fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (pread(fd, text, sizeof text - 1, 0) <= 0 || sscanf(text, "%lld %lld", &ran, &waited) != 2)
        return 0;
    return waited;
}

static void add(struct line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->text + l->len, sizeof l->text - l->len, format, args);
    va_end(args);
    l->len += (size_t)n;
    if (l->len >= sizeof l->text)
        l->len = sizeof l->text - 1;
}

static void add_text(struct line *l, const char *name, const char *text)
{
    add(l, ",\"%s\":\"", name);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            add(l, "\\%c", *text);
        else if ((unsigned char)*text < ' ')
            add(l, "\\u%04x", (unsigned)*text);
        else
            add(l, "%c", *text);
    }
    add(l, "\"");
}

/* In one write: lines of threads do not mix, and what is written stays if we are killed. */
static void put(struct driver *d, struct line *l)
{
    l->text[l->len++] = '\n';
    if (write(d->fd, l->text, l->len) != (ssize_t)l->len) {
        perror("history");
        exit(1);
    }
}

void history_head(struct driver *d)
{
    struct line l = {.len = 0};
    add(&l, "{\"e\":\"head\",\"t\":%lld", (long long)now_ns());
    add_text(&l, "version", pqr_version());
    add_text(&l, "run", d->set.run);
    add(&l, ",\"seed\":%llu,\"mutant\":%d", (unsigned long long)d->set.seed, (int)d->set.mutant);
    add(&l, ",\"tenants\":%d,\"keys\":%d}", (int)d->set.tenants, (int)d->set.keys);
    put(d, &l);
}

void history_call(struct driver *d, struct op *op)
{
    struct line l = {.len = 0};
    op->called_ns = now_ns();
    op->kept_ns = kept_waiting_ns();
    add(&l, "{\"e\":\"call\",\"t\":%lld", (long long)op->called_ns);
    add_text(&l, "id", op->uid);
    add_text(&l, "s", op->session);
    add_text(&l, "kind", op_names[op->kind]);
    add_text(&l, "tenant", op->tenant);
    add(&l, ",\"key\":%d,\"dl\":%d", (int)op->key, (int)op->deadline_ms);
    if (!op_is_write(op->kind))
        add_text(&l, "level", levels[op->level]);
    if (op->kind == CAS)
        add(&l, ",\"ver\":%lld", (long long)op->ver);
    if (op->once)
        add_text(&l, "row", op->row);
    if (op_is_transaction(op->kind))
        add(&l, ",\"to\":%d,\"amount\":%d", (int)op->to, (int)op->amount);
    add(&l, "}");
    put(d, &l);
}

static void add_number(struct line *l, const pqr_result *res, const char *name, const char *as)
{
    int column = pqr_column(res, name);
    if (column >= 0 && !pqr_is_null(res, 0, (size_t)column))
        add(l, ",\"%s\":%lld", as, (long long)pqr_int64(res, 0, (size_t)column));
}

static void add_column(struct line *l, const pqr_result *res, const char *name, const char *as)
{
    int column = pqr_column(res, name);
    if (column >= 0 && !pqr_is_null(res, 0, (size_t)column))
        add_text(l, as, pqr_text(res, 0, (size_t)column));
}

/* What an answer showed: its echo, number, count, digest and value, as far as it has them. */
static void add_answer(struct line *l, const pqr_result *res)
{
    add(l, "{\"rows\":%d", (int)pqr_rows(res));
    if (pqr_rows(res) > 0) {
        add_column(l, res, "echo", "echo");
        add_number(l, res, "n", "n");
        add_number(l, res, "ver", "n");
        add_number(l, res, "c", "c");
        add_column(l, res, "h", "h");
        add_column(l, res, "v", "v");
        add_column(l, res, "val", "v");
    }
    add(l, "}");
}

void history_end(struct driver *d, const struct op *op, enum label label, int code,
                 const pqr_error *err, pqr_result *const *res, int n)
{
    struct line l = {.len = 0};
    const char *node = n > 0 && res[0] ? pqr_source(res[0]) : err->node;
    add(&l, "{\"e\":\"end\",\"t\":%lld", (long long)now_ns());
    add_text(&l, "id", op->uid);
    add_text(&l, "l", labels[label]);
    add_text(&l, "code", pqr_code_name(code));
    add(&l, ",\"rt\":%d,\"kept\":%lld", (int)err->retry,
        (long long)(kept_waiting_ns() - op->kept_ns));
    add_text(&l, "node", node);
    if (op->cancelled)
        add(&l, ",\"cancelled\":true");
    if (code != PQR_OK) {
        add_text(&l, "st", err->sqlstate);
        add_text(&l, "msg", err->message);
    }
    add(&l, ",\"got\":[");
    for (int i = 0; i < n; i++) {
        add(&l, "%s", i > 0 ? "," : "");
        if (res[i])
            add_answer(&l, res[i]);
    }
    add(&l, "]}");
    put(d, &l);
}

void history_stall(struct driver *d, int64_t from_ns, int64_t until_ns)
{
    struct line l = {.len = 0};
    add(&l, "{\"e\":\"stall\",\"t\":%lld,\"until\":%lld}", (long long)from_ns, (long long)until_ns);
    put(d, &l);
}
