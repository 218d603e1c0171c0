/* Positions in the write-ahead log. */
#include "lsn.h"

#define PAGE_BYTES 8192
#define PAGE_HEADER_BYTES 24
#define SEGMENT_HEADER_BYTES 40

/* Reads 1 to 8 hexadecimal digits; NULL: none, or too many. */
static const char *parse_half(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    int digits = 0;
    for (;; text++, digits++) {
        char c = *text;
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'A' && c <= 'F')
            digit = (unsigned)(c - 'A') + 10;
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            break;
        value = value << 4 | digit;
    }
    *out = value;
    return digits >= 1 && digits <= 8 ? text : NULL;
}

bool pqi_lsn_parse(const char *text, uint64_t *out)
{
    uint64_t high, low;
    if (!text || !(text = parse_half(text, &high)) || *text++ != '/')
        return false;
    text = parse_half(text, &low);
    if (!text || *text != '\0')
        return false;
    *out = high << 32 | low;
    return true;
}

uint64_t pqi_lsn_floor(uint64_t lsn, uint64_t segment_bytes)
{
    if (segment_bytes > 0 && lsn % segment_bytes == SEGMENT_HEADER_BYTES)
        return lsn - SEGMENT_HEADER_BYTES;
    if (lsn % PAGE_BYTES == PAGE_HEADER_BYTES)
        return lsn - PAGE_HEADER_BYTES;
    return lsn;
}

uint64_t pqi_lsn_shown(uint64_t replayed, uint64_t received)
{
    return received == replayed || replayed == UINT64_MAX ? replayed : replayed + 1;
}

void pqi_seen_raise(struct pqi_seen *seen, uint32_t timeline, uint64_t lsn)
{
    if (timeline > seen->timeline)
        *seen = (struct pqi_seen){timeline, lsn};
    else if ((timeline == seen->timeline || timeline == 0) && lsn > seen->lsn)
        seen->lsn = lsn;
}

bool pqi_seen_fresh(const struct pqi_seen *seen, uint32_t timeline, uint64_t replayed)
{
    return replayed >= seen->lsn && timeline >= seen->timeline;
}
