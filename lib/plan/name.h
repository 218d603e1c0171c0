/* The names of variables: which option one belongs to, with which numbers in it; how one is
 * written; and which one was meant. */
#ifndef PQI_NAME_H
#define PQI_NAME_H

#include "option.h"

/* What "DATABASE_SHARD_3_REPLICA_1_URL_FILE" says. */
struct pqi_name {
    const struct pqi_option *option;
    int i, n;  /* the numbers in it, 0 where it has none */
    bool file; /* it is NAME_FILE */
};

/* `entry` is "NAME=…". False: no option has this name, and *out is as before. */
bool pqi_name_read(struct pqi_name *out, const char *entry);

/* The option's name with these numbers. */
void pqi_name_write(char name[PQI_NAME_BYTES], const struct pqi_option *option, int i, int n);

/* The name that was meant by one of `len` bytes that looks like one of ours but is none. False:
 * none is near. */
bool pqi_name_guess(char meant[PQI_NAME_BYTES], const char *entry, size_t len);

#endif
