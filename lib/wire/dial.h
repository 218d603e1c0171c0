/* The connection keywords of one server, built once: connect, reconnect, probe and lending all
 * use the same. Every security-relevant keyword is passed explicitly, since PGOPTIONS, PGSSLMODE
 * and their kin would otherwise apply silently. */
#ifndef PQI_DIAL_H
#define PQI_DIAL_H

#include "../plan/options.h"

#define PQI_DIAL_MAX 80

struct pqi_dial {
    const struct pqi_target *target;
    const char *keys[PQI_DIAL_MAX]; /* ended by NULL; texts live in the target and the options */
    const char *values[PQI_DIAL_MAX];
    int n;
    int hostaddr; /* where the address goes; -1: none is passed */
    char tcp_user_timeout[24];
    char root_certificate[4096]; /* the user's own; "": there is none */
};

/* `target` and `options` must outlive the dial. false: no memory, and it must not be used: keywords
 * that keep others' settings out would be missing. */
bool pqi_dial_init(struct pqi_dial *d, const struct pqi_target *target,
                   const struct pqi_options *options);

#endif
