/* What is said when something does not work. Texts may come from a server: they are escaped. */
#include "say.h"

#include "environment.h"
#include "memory.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

static void say_text(const char *text)
{
    fputs("pqrouter: ", stderr);
    text_print(stderr, text);
    putc('\n', stderr);
}

static void sayv(const char *format, va_list args)
{
    char *text = format_textv(format, args);
    say_text(text);
    free(text);
}

void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    sayv(format, args);
    va_end(args);
}

int say_usage(const struct command *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    sayv(format, args);
    va_end(args);
    say("see pqrouter %s%s--help", command ? command->name : "", command ? " " : "");
    return CLI_USAGE;
}

/* ---- Errors --------------------------------------------------------------------------------- */

static int status_of(int code)
{
    return code == PQR_E_CONFIG ? CLI_CONFIG : code == PQR_E_USAGE ? CLI_USAGE : CLI_FAILED;
}

const char *advice_for(const pqr_error *err)
{
    if (strcmp(err->sqlstate, "53300") == 0 && err->code != PQR_E_SQL)
        return "see who holds them: select usename, application_name, count(*) from "
               "pg_stat_activity group by 1, 2";
    switch (err->code) {
    case PQR_E_NOMEM:
    case PQR_E_DEADLINE:
    case PQR_E_CONNECT:
    case PQR_E_AUTH:
    case PQR_E_NO_PRIMARY:
    case PQR_E_NO_REPLICA:
    case PQR_E_LOST:
    case PQR_E_MAP:
    case PQR_E_BUG:
        return pqr_code_advice(err->code);
    default: /* their messages say it */
        return NULL;
    }
}

static void json_error_and(struct json *j, const char *name, const pqr_error *err,
                           const char *advice)
{
    static const char *const retries[] = {"never", "safe", "unknown"};
    json_object(j, name);
    json_text(j, "code", pqr_code_name(err->code));
    json_text(j, "message", err->message);
    json_text(j, "advice", advice);
    json_text(j, "retry", retries[err->retry >= 0 && err->retry <= 2 ? err->retry : 0]);
    json_text(j, "sqlstate", err->sqlstate[0] ? err->sqlstate : NULL);
    json_text(j, "node", err->node[0] ? err->node : NULL);
    json_known(j, "shard", err->shard);
    json_text(j, "schema", err->schema[0] ? err->schema : NULL);
    json_text(j, "table", err->table[0] ? err->table : NULL);
    json_text(j, "column", err->column[0] ? err->column : NULL);
    json_text(j, "constraint", err->constraint[0] ? err->constraint : NULL);
    json_end_object(j);
}

void json_error(struct json *j, const char *name, const pqr_error *err)
{
    json_error_and(j, name, err, advice_for(err));
}

static int say_error_text_and(const pqr_error *err, const char *advice)
{
    bool state = err->sqlstate[0] && !strstr(err->message, err->sqlstate);
    say("%s%s%s%s", err->message, state ? " (SQLSTATE " : "", state ? err->sqlstate : "",
        state ? ")" : "");
    if (advice)
        say("what to do: %s", advice);
    return status_of(err->code);
}

int say_error_text(const pqr_error *err)
{
    return say_error_text_and(err, advice_for(err));
}

int say_error_and(const struct cli *cli, const pqr_error *err, const char *advice)
{
    if (err->code == PQR_E_CONFIG && pqr_config_faults(environment_list(cli->env), NULL, NULL) > 0)
        return say_faults(cli);
    if (cli->args.json) {
        struct json j = {stdout, false};
        json_object(&j, NULL);
        json_error_and(&j, "error", err, advice);
        json_end_object(&j);
        json_done(&j);
    }
    return say_error_text_and(err, advice);
}

int say_error(const struct cli *cli, const pqr_error *err)
{
    return say_error_and(cli, err, advice_for(err));
}

/* ---- Faults of the configuration ------------------------------------------------------------ */

static void say_fault(void *arg, const char *text)
{
    (void)arg;
    say_text(text);
}

static void json_fault(void *arg, const char *text)
{
    json_text(arg, NULL, text);
}

int say_faults(const struct cli *cli)
{
    pqr_config_faults(environment_list(cli->env), say_fault, NULL);
    if (!cli->args.json)
        return CLI_CONFIG;
    struct json j = {stdout, false};
    json_object(&j, NULL);
    json_object(&j, "error");
    json_text(&j, "code", pqr_code_name(PQR_E_CONFIG));
    json_list(&j, "faults");
    pqr_config_faults(environment_list(cli->env), json_fault, &j);
    json_end_list(&j);
    json_end_object(&j);
    json_end_object(&j);
    json_done(&j);
    return CLI_CONFIG;
}
