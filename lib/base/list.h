/* An intrusive list: a link inside the thing. An empty list points at itself. */
#ifndef PQI_LIST_H
#define PQI_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct pqi_link {
    struct pqi_link *prev, *next;
};

#define pqi_container(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void pqi_list_init(struct pqi_link *list)
{
    list->prev = list->next = list;
}

static inline bool pqi_list_empty(const struct pqi_link *list)
{
    return list->next == list;
}

static inline void pqi_list_append(struct pqi_link *list, struct pqi_link *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

/* Behind `at`, which is a link or the list itself. */
static inline void pqi_list_insert(struct pqi_link *at, struct pqi_link *link)
{
    pqi_list_append(at->next, link);
}

/* Also for a link that was initialised and is in no list. */
static inline void pqi_list_remove(struct pqi_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    pqi_list_init(link);
}

#endif
