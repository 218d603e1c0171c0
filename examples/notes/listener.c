/* How to close a listening socket and cut nobody off. */
#include "listener.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>

void listener_allow_many(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* Closing a listening socket resets the connections that it has and nobody has accepted yet, so
 * first there must be none. A filter that drops what would begin a connection sees to that: whoever
 * comes now is not let in, and tries again, elsewhere or in a second. */
void listener_refuse(int listener)
{
    struct sock_filter drop_syn[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),             /* the flags of TCP: */
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, TH_SYN, 0, 1), /* is SYN among them? */
        BPF_STMT(BPF_RET | BPF_K, 0),                       /* then nothing of it is taken, */
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),              /* else all */
    };
    struct sock_fprog program = {.len = 4, .filter = drop_syn};
    if (setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
        perror("notes: connections that come just now may be reset");
}

bool listener_is_empty(int listener)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    return getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_unacked == 0;
}
