/* What a caller's statement may be. A small lexer of PostgreSQL's tokens, and one table of what
 * begins like what. */
#include "guard.h"

#include <stdio.h>
#include <string.h>

/* ---- Tokens: enough of the manual's "Lexical Structure" to find words and skip the rest ------ */

enum kind { END, WORD, QUOTED, OTHER };

struct token {
    enum kind kind;
    const char *at;
    size_t len;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool begins_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool continues_word(char c)
{
    return begins_word(c) || is_digit(c) || c == '$';
}

static const char *after_word(const char *p)
{
    while (continues_word(*p))
        p++;
    return p;
}

/* Comments of this kind nest; one that is not closed goes to the end, as everything below. */
static const char *after_block_comment(const char *p)
{
    int depth = 0;
    do {
        if (p[0] == '/' && p[1] == '*') {
            depth++;
            p += 2;
        } else if (p[0] == '*' && p[1] == '/') {
            depth--;
            p += 2;
        } else if (*p) {
            p++;
        }
    } while (depth > 0 && *p);
    return p;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static const char *after_blanks(const char *p)
{
    for (;;) {
        while (is_blank(*p))
            p++;
        if (p[0] == '-' && p[1] == '-')
            p += strcspn(p, "\n\r");
        else if (p[0] == '/' && p[1] == '*')
            p = after_block_comment(p);
        else
            return p;
    }
}

/* Behind a text in quotes; a doubled quote is read as the end of one text and the begin of the
 * next, which comes to the same. */
static const char *after_quotes(const char *p, bool backslashes)
{
    char quote = *p++;
    while (*p && *p != quote)
        p += backslashes && p[0] == '\\' && p[1] ? 2 : 1;
    return *p ? p + 1 : p;
}

/* Behind $tag$ … $tag$; behind the dollar if it begins no such text ($1). */
static const char *after_dollar(const char *p)
{
    const char *tag_end = p + 1;
    while (begins_word(*tag_end) || (tag_end > p + 1 && is_digit(*tag_end)))
        tag_end++;
    if (*tag_end != '$')
        return p + 1;
    size_t len = (size_t)(tag_end + 1 - p);
    for (const char *q = tag_end + 1; (q = strchr(q, '$')); q++)
        if (strncmp(q, p, len) == 0)
            return q + len;
    return p + strlen(p);
}

static struct token next(const char **sql)
{
    const char *p = after_blanks(*sql);
    struct token t = {.kind = OTHER, .at = p};
    if (!*p) {
        t.kind = END;
    } else if ((*p == 'e' || *p == 'E') && p[1] == '\'') {
        p = after_quotes(p + 1, true);
    } else if ((*p == 'u' || *p == 'U') && p[1] == '&' && p[2] == '"') {
        t.kind = QUOTED;
        p = after_quotes(p + 2, false);
    } else if (begins_word(*p)) {
        t.kind = WORD;
        p = after_word(p);
    } else if (*p == '"') {
        t.kind = QUOTED;
        p = after_quotes(p, false);
    } else if (*p == '\'') {
        p = after_quotes(p, false);
    } else {
        p = *p == '$' ? after_dollar(p) : p + 1;
    }
    t.len = (size_t)(p - t.at);
    *sql = p;
    return t;
}

static struct token peek(const char *sql)
{
    return next(&sql);
}

static bool is_char(struct token t, char c)
{
    return t.kind == OTHER && t.len == 1 && *t.at == c;
}

/* Not toupper: that one asks the locale. */
static char upper_of(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static bool same_word(const char *a, const char *upper, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (upper_of(a[i]) != upper[i])
            return false;
    return true;
}

static bool is_word(struct token t, const char *upper)
{
    return t.kind == WORD && t.len == strlen(upper) && same_word(t.at, upper, t.len);
}

static bool skip_word(const char **sql, const char *upper)
{
    const char *p = *sql;
    if (!is_word(next(&p), upper))
        return false;
    *sql = p;
    return true;
}

/* Does `sql` begin with these words? A word before a dot is a name: SET local.x = 1 sets x. Most are
 * told apart by their first letter. */
static bool begins(const char *sql, const char *words)
{
    if (upper_of(*sql) != *words) {
        if (begins_word(*sql))
            return false;
        sql = after_blanks(sql);
        if (upper_of(*sql) != *words)
            return false;
    }
    while (*words) {
        size_t len = strcspn(words, " ");
        struct token t = next(&sql);
        if (t.kind != WORD || t.len != len || !same_word(t.at, words, len))
            return false;
        words += len + (words[len] == ' ');
    }
    return !is_char(peek(sql), '.');
}

static bool begins_with_one_of(const char *sql, const char *const *words)
{
    while (*words && !begins(sql, *words))
        words++;
    return *words != NULL;
}

/* ---- What the statement is ------------------------------------------------------------------- */

static const char *const queries[] = {"SELECT", "WITH", "VALUES", "TABLE", NULL};

static const char *after_openings(const char *sql)
{
    const char *p = sql;
    for (struct token t = next(&p); is_char(t, '(') || is_char(t, ';'); t = next(&p))
        sql = p;
    return after_blanks(sql);
}

/* Behind EXPLAIN's options, which are words or stand in one pair of brackets. */
static const char *after_explain_options(const char *p)
{
    while (skip_word(&p, "ANALYZE") || skip_word(&p, "ANALYSE") || skip_word(&p, "VERBOSE"))
        ;
    const char *inside = p;
    if (!is_char(next(&inside), '(') || is_char(peek(inside), '(') ||
        begins_with_one_of(inside, queries))
        return p;
    for (struct token t = next(&inside); t.kind != END && !is_char(t, ')');)
        t = next(&inside);
    return inside;
}

/* The first word of what is to run: EXPLAIN ANALYZE runs what it explains. */
static const char *statement(const char *sql)
{
    const char *p = after_openings(sql);
    while (begins(p, "EXPLAIN")) {
        p += strlen("EXPLAIN");
        p = after_openings(after_explain_options(p));
    }
    return p;
}

static int hex_of(char c)
{
    if (is_digit(c))
        return c - '0';
    c = upper_of(c);
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Behind what follows an escape in U&"…": 005f, +00005f, or the escape once more. */
static const char *unescape(const char *p, char *out)
{
    int digits = *p == '+' ? 6 : 4, code = 0;
    *out = *p;
    if (hex_of(*p) < 0 && *p != '+')
        return p + 1;
    for (p += *p == '+'; digits > 0 && hex_of(*p) >= 0; digits--)
        code = code * 16 + hex_of(*p++);
    *out = (char)(code < 0x80 ? code : '?');
    return p;
}

/* The name that a word or a quoted one stands for, cut to fit. */
static void spell(struct token t, char escape, char *out, size_t size)
{
    const char *p = t.at, *end = t.at + t.len;
    bool escapes = t.kind == QUOTED && *p != '"';
    size_t n = 0;
    if (t.kind == QUOTED) {
        p += escapes ? 3 : 1;
        end--;
    }
    while (p < end && n + 1 < size) {
        char c = *p++;
        if (escapes && c == escape)
            p = unescape(p, &c);
        bool folds = t.kind == WORD && c >= 'A' && c <= 'Z';
        out[n++] = folds ? (char)(c - 'A' + 'a') : c;
    }
    out[n] = '\0';
}

/* Behind UESCAPE '!', which may follow U&"…". */
static const char *after_uescape(const char *p, char *escape)
{
    *escape = '\\';
    if (skip_word(&p, "UESCAPE")) {
        struct token t = next(&p);
        *escape = t.len == 3 ? t.at[1] : *escape;
    }
    return p;
}

/* pg_temp.x or pg_temp_3.x, however it is written. */
static bool is_temp_schema(struct token t, const char *after)
{
    char escape, name[32];
    if (t.kind != WORD && t.kind != QUOTED)
        return false;
    after = after_uescape(after, &escape);
    spell(t, escape, name, sizeof name);
    if (strncmp(name, "pg_temp", 7) != 0 || !is_char(peek(after), '.'))
        return false;
    return name[7] == '\0' || (name[7] == '_' && name[8 + strspn(name + 8, "0123456789")] == '\0');
}

static bool temporary_follows(const char *p)
{
    if (!skip_word(&p, "GLOBAL"))
        skip_word(&p, "LOCAL");
    struct token t = next(&p);
    if (is_word(t, "TEMP") || is_word(t, "TEMPORARY"))
        return true;
    if (is_word(t, "TABLE"))
        t = next(&p);
    return is_temp_schema(t, p);
}

static bool creates_temporary(const char *p)
{
    skip_word(&p, "CREATE");
    if (skip_word(&p, "OR"))
        skip_word(&p, "REPLACE");
    if (temporary_follows(p))
        return true;
    /* A view of a temporary table is temporary without saying so: look for the schema anywhere. */
    struct token t = next(&p);
    while (t.kind != END && !is_temp_schema(t, p))
        t = next(&p);
    return t.kind != END;
}

/* SELECT … INTO t (only `temporary` ones); but not WITH … AS (INSERT INTO t …). */
static bool selects_into(const char *p, bool temporary_only)
{
    struct token before = {0};
    for (struct token t = next(&p); t.kind != END; before = t, t = next(&p))
        if (is_word(t, "INTO") && !is_word(before, "INSERT") && !is_word(before, "MERGE") &&
            (!temporary_only || temporary_follows(p)))
            return true;
    return false;
}

/* ---- What functions leave behind -------------------------------------------------------------- */

/* Parts of the names of functions that leave something in the session. Looked for anywhere in the
 * text, since texts are run too (DO, query_to_xml); being wrong costs a connection. Not among them:
 * what ends with the transaction (pg_advisory_xact_lock, lo_open, pg_export_snapshot). */
static const char set_config[] = "SET_CONFIG";
static const char *const leaving[] = {
    set_config,
    "ADVISORY_LOCK",
    "SETSEED",
    "SET_LIMIT",
    "DBLINK_CONNECT",
    "PG_BACKUP_START",
    "PHYSICAL_REPLICATION_SLOT",
    "LOGICAL_REPLICATION_SLOT",
    "REPLICATION_ORIGIN_SESSION",
    NULL,
};

static bool begins_name(const char *p, const char *upper)
{
    while (*upper && upper_of(*p) == *upper)
        p++, upper++;
    return *upper == '\0';
}

/* Behind its name: is it (name, value, true)? That one ends with the transaction. */
static bool is_local_config(const char *p)
{
    int depth = 1, commas = 0, tokens = 0;
    bool is_true = false;
    if (!is_char(next(&p), '('))
        return false;
    for (struct token t = next(&p); t.kind != END; t = next(&p)) {
        depth += is_char(t, '(') - is_char(t, ')');
        if (depth == 0)
            return commas == 2 && tokens == 1 && is_true;
        bool comma = depth == 1 && is_char(t, ',');
        commas += comma;
        tokens = comma ? 0 : tokens + 1;
        is_true = is_word(t, "TRUE");
    }
    return false;
}

static int local_configs(const char *p)
{
    int n = 0;
    for (struct token t = next(&p); t.kind != END; t = next(&p))
        n += is_word(t, set_config) && is_local_config(p);
    return n;
}

/* What the session remembers of its sequences; on a shared connection they were somebody else's. */
static const char *const remembering[] = {"currval", "lastval"};

static bool calls(const char *p, const char *function)
{
    char name[32];
    for (struct token t = next(&p); t.kind != END; t = next(&p)) {
        if ((t.kind != WORD && t.kind != QUOTED) || !is_char(peek(p), '('))
            continue;
        spell(t, '\\', name, sizeof name);
        if (strcmp(name, function) == 0)
            return true;
    }
    return false;
}

/* The functions that the text may call. */
struct functions {
    const char *leaves;    /* the first of `leaving`; NULL: none */
    const char *remembers; /* one of `remembering`; NULL: none */
};

static const char *one_of(const char *p, const char *const *names)
{
    while (*names && !begins_name(p, *names))
        names++;
    return *names;
}

/* Every statement is searched, whole, and almost all of it is passed over by the letters that these
 * names begin with. */
static const bool first_letters[256] = {
    ['A'] = true, ['C'] = true, ['D'] = true, ['L'] = true, ['P'] = true,
    ['R'] = true, ['S'] = true, ['a'] = true, ['c'] = true, ['d'] = true,
    ['l'] = true, ['p'] = true, ['r'] = true, ['s'] = true,
};

static bool may_begin(const char *p)
{
    char second = (char)(p[1] & ~0x20); /* as a capital, if it is a letter */
    switch (p[0] & ~0x20) {
    case 'A':
        return second == 'D';
    case 'C':
        return second == 'U';
    case 'D':
        return second == 'B';
    case 'L':
        return second == 'A' || second == 'O';
    case 'P':
        return second == 'G' || second == 'H';
    default: /* R and S */
        return second == 'E';
    }
}

static struct functions functions_of(const char *sql)
{
    struct functions f = {NULL, NULL};
    int configs = 0;
    bool remembers = false;
    for (const char *p = sql; *p; p++) {
        if (!first_letters[(unsigned char)*p] || !may_begin(p))
            continue;
        const char *name = one_of(p, leaving);
        remembers |= begins_name(p, "CURRVAL") || begins_name(p, "LASTVAL");
        configs += name == set_config;
        if (name && name != set_config && !f.leaves)
            f.leaves = name;
    }
    if (!f.leaves && configs > 0 && configs > local_configs(sql))
        f.leaves = set_config;
    for (size_t i = 0; remembers && i < 2 && !f.remembers; i++)
        f.remembers = calls(sql, remembering[i]) ? remembering[i] : NULL;
    return f;
}

/* ---- The table ------------------------------------------------------------------------------- */

/* Why a statement that begins with `words` is refused, as a sentence that they begin; NULL: it is
 * allowed; TAINTS: allowed, and the connection is not used again. Longer words stand first. */
struct rule {
    const char *words;
    const char *outside;
    const char *in_tx;
};

static const char TAINTS[] = "may change the session: its connection is not used again";

#define BEGINS "would begin a transaction around other statements: use pqr_begin or pqr_transact"
#define NESTS "cannot begin a transaction inside one: use SAVEPOINT"
#define ENDS "belongs to a transaction, and this is none: use pqr_begin and pqr_commit"
#define OURS "would end the transaction unseen: use pqr_commit or pqr_rollback"
#define NAMES \
    "is for names on a shared connection: the router prepares statements itself; use pqr_lend"
#define DROPS "would drop the router's own prepared statements too: name the one"
#define CURSOR "needs a cursor, and cursors live in transactions: use pqr_begin, or pqr_lend"
#define COPIES "would take the connection over: use pqr_lend"
#define LISTENS "needs a connection of its own: use pqr_lend"
#define OUTLIVES "would outlive this call on a shared connection: "
#define LOCALLY "would end with this call: use it in a transaction (pqr_begin)"
#define SETS OUTLIVES "use set_config(name, value, true) in a transaction, or pqr_lend"

static const struct rule rules[] = {
    {"BEGIN", BEGINS, NESTS},
    {"START", BEGINS, NESTS},
    {"COMMIT", ENDS, OURS},
    {"END", ENDS, OURS},
    {"ABORT", ENDS, OURS},
    {"ROLLBACK TO", ENDS, NULL},
    {"ROLLBACK WORK TO", ENDS, NULL},
    {"ROLLBACK TRANSACTION TO", ENDS, NULL},
    {"ROLLBACK", ENDS, OURS},
    {"SAVEPOINT", ENDS, NULL},
    {"RELEASE", ENDS, NULL},
    {"LOCK", "would lock for this call only: use pqr_begin", NULL},

    {"PREPARE TRANSACTION", "needs a connection of its own: use pqr_lend",
     "would take the transaction away: for two-phase commit use pqr_lend"},
    {"PREPARE", NAMES, TAINTS},
    {"EXECUTE", NAMES, TAINTS},
    {"DEALLOCATE ALL", NAMES, DROPS},
    {"DEALLOCATE PREPARE ALL", NAMES, DROPS},
    {"DEALLOCATE", NAMES, TAINTS},

    /* WITH HOLD outlives the transaction; every cursor is taken for one. */
    {"DECLARE", CURSOR, TAINTS},
    {"FETCH", CURSOR, NULL},
    {"MOVE", CURSOR, NULL},
    {"CLOSE", CURSOR, NULL},

    {"DO", TAINTS, TAINTS},
    {"CALL", TAINTS, TAINTS},
    {"COPY", COPIES, COPIES},
    {"LISTEN", LISTENS, TAINTS},
    {"UNLISTEN", LISTENS, TAINTS},
    {"LOAD", OUTLIVES "use shared_preload_libraries or session_preload_libraries", TAINTS},
    {"DISCARD", "would drop what others use on a shared connection: use pqr_lend", TAINTS},
    {"RESET", SETS, TAINTS},
    {"SET LOCAL", LOCALLY, NULL},
    {"SET CONSTRAINTS", LOCALLY, NULL},
    {"SET TRANSACTION", "would end with this call: use pqr_begin with its options", NULL},
    {"SET", SETS, TAINTS},
};

static const struct rule temporary = {
    "A temporary table", OUTLIVES "use a transaction (pqr_begin) with ON COMMIT DROP, or pqr_lend",
    TAINTS};

static const struct rule *begins_like(const char *p)
{
    p = after_blanks(p);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (upper_of(*p) == *rules[i].words && begins(p, rules[i].words))
            return &rules[i];
    return NULL;
}

/* Reads need not be searched for INTO: a read-only transaction makes no table. */
static const struct rule *rule_of(const char *p, enum pqi_place place)
{
    if (begins(p, "CREATE"))
        return creates_temporary(p) ? &temporary : NULL;
    if (begins(p, "SELECT") || begins(p, "WITH"))
        return place != PQI_IN_READ && selects_into(p, true) ? &temporary : NULL;
    return begins_like(p);
}

static const char *reason(const struct rule *r, enum pqi_place place)
{
    if (!r)
        return NULL;
    return place == PQI_IN_TX ? r->in_tx : r->outside;
}

/* EXPLAIN ANALYZE runs what it explains, and in a read-only transaction too PostgreSQL lets it make
 * the table of CREATE … AS and SELECT INTO. */
static bool explains_making(const char *sql, const char *p)
{
    return p != after_openings(sql) && (begins(p, "CREATE") || selects_into(p, false));
}

/* What may go to a lane: what reads, and what the server refuses there as a write (25006), so that
 * the caller is told READ_ONLY. Everything else runs in read-only transactions too, more or less
 * (VACUUM, DO, NOTIFY, CHECKPOINT, ALTER SYSTEM; what later versions bring). */
static bool may_be_read(const char *p)
{
    static const char *const refused_by_server[] = {
        "INSERT",  "UPDATE", "DELETE", "MERGE",   "CREATE",   "ALTER",    "DROP",   "TRUNCATE",
        "COMMENT", "GRANT",  "REVOKE", "REFRESH", "SECURITY", "REASSIGN", "IMPORT", NULL};
    if (begins_with_one_of(p, queries) || begins(p, "SHOW"))
        return true;
    return begins_with_one_of(p, refused_by_server) && !begins(p, "ALTER SYSTEM");
}

/* ---- The two questions ----------------------------------------------------------------------- */

static enum pqi_verdict judge_begin(const char *sql, const char *p, enum pqi_place place, char *why,
                                    size_t why_size)
{
    const struct rule *rule = rule_of(p, place);
    const char *text = reason(rule, place);
    if (text && !(text == TAINTS && place == PQI_IN_READ)) { /* what is no read is refused below */
        snprintf(why, why_size, "%s %s", rule->words, text);
        return text == TAINTS ? PQI_TAINT : PQI_REFUSE;
    }
    if (place == PQI_IN_READ && explains_making(sql, p)) {
        snprintf(why, why_size, "EXPLAIN of what makes a table is not a read: use pqr_write");
        return PQI_REFUSE;
    }
    if (place == PQI_IN_READ && !may_be_read(p)) {
        struct token t = peek(p);
        bool shown = t.kind == WORD && t.len <= 32;
        snprintf(why, why_size, "%.*s is not a read: use pqr_write", shown ? (int)t.len : 4,
                 shown ? t.at : "this");
        return PQI_REFUSE;
    }
    return PQI_ALLOW;
}

static enum pqi_verdict judge_functions(const char *sql, enum pqi_place place, char *why,
                                        size_t why_size)
{
    const struct functions f = functions_of(sql);
    if (f.remembers && place != PQI_IN_TX) {
        snprintf(
            why, why_size,
            "%s would tell of another caller's sequence on a shared connection: use RETURNING, "
            "or a transaction (pqr_begin)",
            f.remembers);
        return PQI_REFUSE;
    }
    if (f.leaves) {
        snprintf(why, why_size, "%s %s", f.leaves, TAINTS);
        return PQI_TAINT;
    }
    return PQI_ALLOW;
}

enum pqi_verdict pqi_guard(const char *sql, enum pqi_place place, char *why, size_t why_size)
{
    if (why_size > 0)
        why[0] = '\0';
    /* Almost all reads: nothing else that is asked of how they begin can hold. */
    if (place == PQI_IN_READ && begins(sql, "SELECT"))
        return judge_functions(sql, place, why, why_size);
    const char *p = statement(sql);
    if (!*p) {
        snprintf(why, why_size, "the text holds no statement");
        return PQI_REFUSE;
    }
    enum pqi_verdict verdict = judge_begin(sql, p, place, why, why_size);
    return verdict == PQI_ALLOW ? judge_functions(sql, place, why, why_size) : verdict;
}

bool pqi_commits_inside(const char *sql)
{
    const char *p = statement(sql);
    return begins(p, "CALL") || begins(p, "DO");
}

bool pqi_takes_snapshot(const char *sql)
{
    static const char *const none[] = {"SET",     "RESET",    "SHOW",   "LOCK", "SAVEPOINT",
                                       "RELEASE", "ROLLBACK", "NOTIFY", NULL};
    return !begins_with_one_of(after_openings(sql), none);
}

/* Outside of all brackets, the next word that is one of these; NULL: none. Moves *p behind it. */
static const char *next_of(const char **p, const char *const *words)
{
    int depth = 0;
    for (struct token t = next(p); t.kind != END; t = next(p)) {
        depth += is_char(t, '(') - is_char(t, ')');
        for (const char *const *w = words; depth == 0 && *w; w++)
            if (is_word(t, *w))
                return *w;
    }
    return NULL;
}

bool pqi_returns_rows(const char *sql)
{
    static const char *const showing[] = {"SELECT", "VALUES", "TABLE", "SHOW", "EXPLAIN", NULL};
    static const char *const main_words[] = {"SELECT", "VALUES", "TABLE", "INSERT",
                                             "UPDATE", "DELETE", "MERGE", NULL};
    static const char *const changing[] = {"INSERT", "UPDATE", "DELETE", "MERGE", NULL};
    static const char *const returning[] = {"RETURNING", NULL};
    const char *p = after_openings(sql);
    if (begins(p, "WITH")) {
        const char *word = next_of(&p, main_words);
        bool changes = word && begins_with_one_of(word, changing);
        return !changes || next_of(&p, returning) != NULL;
    }
    if (begins_with_one_of(p, showing))
        return true;
    return begins_with_one_of(p, changing) && next_of(&p, returning) != NULL;
}

/* Names of settings have no case, quoted or not: these are compared as small letters. */
static bool is_name(struct token t, const char *name, size_t len)
{
    bool quoted = t.kind == QUOTED || (t.kind == OTHER && *t.at == '\'');
    const char *at = t.at + quoted;
    size_t n = t.len - (quoted ? 2 : 0);
    if (n != len || (t.kind == OTHER && !quoted))
        return false;
    for (size_t i = 0; i < len; i++)
        if (upper_of(at[i]) != upper_of(name[i]))
            return false;
    return true;
}

/* Does this setting's name stand here, as two words? */
static bool names_setting(const char *p, const char *setting)
{
    size_t first = strcspn(setting, ".");
    if (!is_name(next(&p), setting, first) || !is_char(next(&p), '.'))
        return false;
    return is_name(peek(p), setting + first + 1, strlen(setting + first + 1));
}

bool pqi_changes_setting(const char *sql, const char *setting)
{
    const char *p = statement(sql);
    if (begins(p, "SET") || begins(p, "RESET")) {
        const char *name = p;
        next(&name);
        if (begins(name, "LOCAL") || begins(name, "SESSION"))
            next(&name);
        return names_setting(name, setting);
    }
    for (struct token t = next(&p); t.kind != END; t = next(&p)) {
        const char *inside = p;
        if (is_name(t, set_config, sizeof set_config - 1) && is_char(next(&inside), '(') &&
            is_name(peek(inside), setting, strlen(setting)))
            return true;
    }
    return false;
}

bool pqi_tag_allowed(const char *command_tag, enum pqi_place place)
{
    /* VALUES, TABLE and WITH … SELECT answer SELECT too: almost all do. */
    static const char *const reads[] = {"SHOW", "EXPLAIN", NULL};
    if (strncmp(command_tag, "SELECT ", 7) == 0)
        return true;
    if (place == PQI_IN_READ)
        return begins_with_one_of(command_tag, reads);
    /* ROLLBACK TO SAVEPOINT answers ROLLBACK. */
    if (place == PQI_IN_TX && begins(command_tag, "ROLLBACK"))
        return true;
    const char *text = reason(begins_like(command_tag), place);
    return !text || text == TAINTS;
}
