/* The command line's options. */
#include "args.h"

#include "memory.h"
#include "say.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum kind { IS_SWITCH, IS_TEXT, IS_TEXTS, IS_SECONDS, IS_MS };

enum { OF_ANY = 1, OF_NONE = 2 }; /* taken by every command; taken without one */

static const struct flag {
    const char *name;
    const char *value; /* what it takes, for people; NULL: nothing */
    enum kind kind;
    size_t field;
    int common;
    const char *help;
} flags[] = {
#define AT(name) offsetof(struct args, name)
    {"timeout", "S", IS_SECONDS, AT(timeout_ms), 0, "wait this many seconds at most"},
    {"watch", "S", IS_SECONDS, AT(watch_ms), 0, "show it anew every S seconds, until Ctrl-C"},
    {"sql", NULL, IS_SWITCH, AT(sql), 0, "print the SQL instead of running it"},
    {"write", NULL, IS_SWITCH, AT(write), 0, "run it on the primary, and commit it"},
    {"control", NULL, IS_SWITCH, AT(control), 0,
     "the control database, in place of a tenant or shard"},
    {"older-than", "AGE", IS_TEXT, AT(older_than), 0, "how long ago at least, such as 36h"},
    {"shard", "N", IS_TEXT, AT(shard), 0, "of this shard"},
    {"param", "TEXT", IS_TEXTS, AT(params), 0, "the next of $1, $2, …; may be repeated"},
    {"level", "LEVEL", IS_TEXT, AT(level), 0, "how fresh: session (as is usual), any, primary"},
    {"deadline", "MS", IS_MS, AT(deadline_ms), 0, "give up after this many milliseconds"},
    {"json", NULL, IS_SWITCH, AT(json), OF_ANY | OF_NONE, "print JSON"},
    {"env-file", "FILE", IS_TEXT, AT(env_file), OF_ANY | OF_NONE,
     "take variables from lines NAME=value of FILE first"},
    {"help", NULL, IS_SWITCH, AT(help), OF_ANY | OF_NONE, "print this"},
    {"version", NULL, IS_SWITCH, AT(version), OF_NONE, "print the version"},
#undef AT
};

enum { FLAGS = sizeof flags / sizeof *flags };

/* Is the name among these, which have blanks between them? */
static bool listed(const char *names, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = names; (at = strstr(at, name)); at += len)
        if ((at == names || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
            return true;
    return false;
}

static bool taken(const struct command *command, const struct flag *flag)
{
    if (!command)
        return flag->common & OF_NONE;
    return (flag->common & OF_ANY) || listed(command->flags, flag->name);
}

/* ---- Reading -------------------------------------------------------------------------------- */

/* A positive number of units, as milliseconds; at most a week. */
static bool read_time(const char *text, double unit_ms, int64_t *ms)
{
    char *end;
    double number = strtod(text, &end);
    bool digits = strspn(text, "0123456789.") == strlen(text);
    if (!digits || end == text || *end != '\0')
        return false;
    *ms = number * unit_ms > 604800e3 ? 0 : (int64_t)(number * unit_ms);
    return *ms > 0;
}

static int take(struct args *args, const struct command *command, const struct flag *flag,
                const char *value)
{
    void *field = (char *)args + flag->field;
    switch (flag->kind) {
    case IS_SWITCH:
        *(bool *)field = true;
        return CLI_OK;
    case IS_TEXT:
        *(const char **)field = value;
        return CLI_OK;
    case IS_TEXTS:
        args->params = more_memory(args->params, args->nparams + 1, sizeof *args->params);
        args->params[args->nparams++] = value;
        return CLI_OK;
    case IS_SECONDS:
    case IS_MS:
        if (read_time(value, flag->kind == IS_MS ? 1 : 1000, field))
            return CLI_OK;
        return say_usage(command, "--%s takes a number of %sseconds, such as %s, not \"%s\"",
                         flag->name, flag->kind == IS_MS ? "milli" : "",
                         flag->kind == IS_MS ? "500" : "2.5", value);
    }
    return CLI_OK;
}

/* Without what stands behind its '=': that may be a secret. */
static int refuse(const struct command *command, const char *what, const char *given)
{
    return say_usage(command, "%s %.*s", what, (int)strcspn(given, "="), given);
}

int args_read(struct args *args, const struct command *command, int argc, char **argv)
{
    struct option options[FLAGS + 1] = {0};
    const struct flag *of[FLAGS];
    int n = 0, status = CLI_OK;
    for (const struct flag *f = flags; f < flags + FLAGS; f++)
        if (taken(command, f)) {
            of[n] = f;
            options[n++] = (struct option){f->name, f->value ? required_argument : no_argument,
                                           NULL, 0};
        }
    optind = 0; /* from the beginning, also the second time */
    opterr = 0;
    while (status == CLI_OK) {
        int index = -1;
        int found = getopt_long(argc, argv, command ? ":h" : "+:h", options, &index);
        if (found == -1)
            break;
        if (found == 0)
            status = take(args, command, of[index], optarg);
        else if (found == 'h')
            args->help = true;
        else if (found == ':')
            status = refuse(command, "a value is missing after", argv[optind - 1]);
        else if (optopt > 0)
            status = say_usage(command, "unknown option -%c", optopt);
        else
            status = refuse(command,
                            "unknown option, or one that takes no value:", argv[optind - 1]);
    }
    args->rest = argv + optind;
    args->nrest = argc - optind;
    return status;
}

void args_free(struct args *args)
{
    free(args->params);
}

/* ---- Help ----------------------------------------------------------------------------------- */

void args_help(FILE *out, const struct command *command)
{
    for (const struct flag *f = flags; f < flags + FLAGS; f++)
        if (taken(command, f))
            fprintf(out, "  --%s%s%-*s  %s\n", f->name, f->value ? " " : "",
                    (int)(16 - strlen(f->name) - (f->value ? 1 : 0)), f->value ? f->value : "",
                    f->help);
}
