/* The stamp: whose database this is. */
#include "stamp.h"

#include "../base/err.h"
#include "env.h"
#include "slot.h"

#include <stdio.h>
#include <string.h>

/* The number of a shard; the control database's is below 0. */
static bool read_shard(const char *text, int64_t *out)
{
    bool control = strcmp(text, "-1") == 0;
    *out = control ? PQI_STAMP_CONTROL : *out;
    return control || pqi_read_whole(text, 0, PQI_SHARDS_MAX - 1, out);
}

bool pqi_stamp_read(const char *const row[4], struct pqi_stamp *out)
{
    struct pqi_stamp s = {.state = PQI_STAMP_READ};
    int64_t shard = 0, shards;
    size_t len = strlen(row[0]);
    if (len >= sizeof s.fleet || !read_shard(row[1], &shard) ||
        !pqi_read_whole(row[2], 0, PQI_SHARDS_MAX, &shards) ||
        !pqi_read_whole(row[3], 0, INT64_MAX, &s.map_version))
        return false;
    memcpy(s.fleet, row[0], len);
    s.shard = (int)shard;
    s.shards = (int)shards;
    *out = s;
    return true;
}

static const char *call_it(int shard, char *buf, size_t size)
{
    if (shard == PQI_STAMP_CONTROL)
        return "the control database";
    snprintf(buf, size, "shard %d", shard);
    return buf;
}

static int check_unstamped(const struct pqi_stamp_expected *e, bool write, pqr_error *err)
{
    char name[32];
    if (e->fleet)
        return pqi_err(
            err, PQR_E_UNSTAMPED,
            "%s is not stamped, and DATABASE_FLEET_ID expects fleet \"%s\": run pqrouter "
            "init, or apply the SQL of pqrouter init --sql",
            call_it(e->shard, name, sizeof name), e->fleet);
    if (write && e->shards >= 2 && e->shard != PQI_STAMP_CONTROL)
        return pqi_err(err, PQR_E_UNSTAMPED,
                       "%s is not stamped: run pqrouter init, or apply the SQL of pqrouter init "
                       "--sql",
                       call_it(e->shard, name, sizeof name));
    return PQR_OK;
}

static int check_read(const struct pqi_stamp *s, const struct pqi_stamp_expected *e, pqr_error *err)
{
    char name[32], other[32];
    if (e->fleet && strcmp(e->fleet, s->fleet) != 0)
        return pqi_err(
            err, PQR_E_WRONG_SHARD,
            "the database configured as %s is stamped as fleet \"%s\", not \"%s\": correct "
            "its URL or DATABASE_FLEET_ID",
            call_it(e->shard, name, sizeof name), s->fleet, e->fleet);
    if (s->shard != e->shard)
        return pqi_err(
            err, PQR_E_WRONG_SHARD,
            "the database configured as %s is stamped as %s of fleet \"%s\": correct its "
            "URL",
            call_it(e->shard, name, sizeof name), call_it(s->shard, other, sizeof other), s->fleet);
    if (e->shards < s->shards && e->shard != PQI_STAMP_CONTROL &&
        !(e->shards == 0 && s->shards == 1))
        return pqi_err(
            err, PQR_E_MAP,
            "the shard map has %d shards, but DATABASE_SHARD_COUNT is %d: shards that own "
            "tenants must be configured",
            s->shards, e->shards);
    return PQR_OK;
}

int pqi_stamp_check(const struct pqi_stamp *stamp, const struct pqi_stamp_expected *expected,
                    bool write, pqr_error *err)
{
    char name[32];
    switch (stamp->state) {
    case PQI_STAMP_UNREAD:
        break;
    case PQI_STAMP_NONE:
        return check_unstamped(expected, write, err);
    case PQI_STAMP_DENIED:
        return pqi_err(
            err, PQR_E_WRONG_SHARD,
            "%s: no right to read its stamp: grant usage on schema pqrouter and select on "
            "pqrouter.stamp to this role",
            call_it(expected->shard, name, sizeof name));
    case PQI_STAMP_READ:
        return check_read(stamp, expected, err);
    }
    return pqi_err(err, PQR_E_BUG, "a connection was used before its stamp was read");
}
