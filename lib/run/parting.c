/* Connections that were closed here and still count at their server. */
#include "parting.h"

#include "../base/mem.h"

#include <sys/epoll.h>
#include <unistd.h>

struct parting {
    struct pqi_link link;
    struct pqi_pool *pool;
    int fd;
};

struct pqi_partings {
    pthread_mutex_t lock;
    struct pqi_link list;
    int epoll;
    bool ended;
};

struct pqi_partings *pqi_partings_new(void)
{
    struct pqi_partings *p = pqi_mem_new(sizeof *p);
    if (!p)
        return NULL;
    pthread_mutex_init(&p->lock, NULL);
    pqi_list_init(&p->list);
    p->epoll = -1;
    return p;
}

bool pqi_partings_begin(struct pqi_partings *p)
{
    if (p->epoll < 0)
        p->epoll = epoll_create1(EPOLL_CLOEXEC);
    return p->epoll >= 0;
}

int pqi_partings_fd(const struct pqi_partings *p)
{
    return p->epoll;
}

void pqi_part(struct pqi_partings *p, struct pqi_pool *pool, int fd)
{
    struct parting *one = fd >= 0 ? pqi_mem_new(sizeof *one) : NULL;
    pqi_pool_parts(pool);
    pthread_mutex_lock(&p->lock);
    bool keep = one && !p->ended;
    if (keep) {
        *one = (struct parting){.pool = pool, .fd = fd};
        pqi_list_append(&p->list, &one->link);
        struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP};
        epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &ev);
    }
    pthread_mutex_unlock(&p->lock);
    if (keep)
        return;
    pqi_mem_free(one);
    if (fd >= 0)
        close(fd);
    pqi_pool_parted(pool);
}

/* The first that has parted out of the list; NULL: none. */
static struct parting *take_parted(struct pqi_partings *p)
{
    struct parting *found = NULL;
    pthread_mutex_lock(&p->lock);
    for (struct pqi_link *l = p->list.next; l != &p->list && !found; l = l->next) {
        struct parting *one = pqi_container(l, struct parting, link);
        if (p->ended || pqi_parted(one->fd))
            found = one;
    }
    if (found)
        pqi_list_remove(&found->link);
    pthread_mutex_unlock(&p->lock);
    return found;
}

/* Closing it would not take it out of the epoll while a child of fork() holds it. */
static void let_go(struct pqi_partings *p, struct parting *one)
{
    epoll_ctl(p->epoll, EPOLL_CTL_DEL, one->fd, NULL);
    close(one->fd);
}

void pqi_partings_step(struct pqi_partings *p)
{
    for (struct parting *one; (one = take_parted(p));) {
        let_go(p, one);
        pqi_pool_parted(one->pool);
        pqi_mem_free(one);
    }
}

void pqi_partings_end(struct pqi_partings *p)
{
    pthread_mutex_lock(&p->lock);
    p->ended = true;
    pthread_mutex_unlock(&p->lock);
    pqi_partings_step(p);
}

void pqi_partings_free(struct pqi_partings *p)
{
    if (!p)
        return;
    if (p->epoll >= 0)
        close(p->epoll);
    /* Some are left only in a child of fork(), where nobody waits for them. */
    if (pthread_mutex_trylock(&p->lock) == 0) {
        while (!pqi_list_empty(&p->list)) {
            struct parting *one = pqi_container(p->list.next, struct parting, link);
            pqi_list_remove(&one->link);
            close(one->fd);
            pqi_mem_free(one);
        }
        pthread_mutex_unlock(&p->lock);
    }
    pthread_mutex_destroy(&p->lock);
    pqi_mem_free(p);
}
