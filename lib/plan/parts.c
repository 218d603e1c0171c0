/* A URL or keyword string taken apart: what it says, kept and freed. */
#include "parts.h"

#include "../base/err.h"
#include "../base/mem.h"

void pqi_url_free(struct pqi_url *url)
{
    for (int i = 0; i < PQI_PARTS; i++)
        pqi_mem_wipe(url->part[i]);
    for (int i = 0; i < url->nwishes; i++)
        pqi_mem_free(url->wish[i].value);
    pqi_keywords_free(url->extra, url->nextra);
    pqi_mem_free(url->dropped);
    *url = (struct pqi_url){0};
}

void pqi_url_take(struct pqi_url *url, enum pqi_part part, char **text)
{
    pqi_mem_wipe(url->part[part]);
    url->part[part] = *text;
    *text = NULL;
}

int pqi_url_keep_raw(struct pqi_url *url, struct pqi_slice password)
{
    char *copy = pqi_mem_bytes(password.at, password.len);
    pqi_url_take(url, PQI_PASSWORD_RAW, &copy);
    return url->part[PQI_PASSWORD_RAW] ? PQR_OK : PQR_E_NOMEM;
}

int pqi_url_refuse(struct pqi_url_fault *fault, const char *reason, const char *parameter)
{
    *fault = (struct pqi_url_fault){.reason = reason};
    pqi_copy_text(fault->parameter, sizeof fault->parameter, parameter);
    return PQR_E_CONFIG;
}
