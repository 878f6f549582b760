/* SPDX-License-Identifier: MIT */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fd.h"

/* What may wait for the other side; a side that is this far behind hangs. */
#define QUEUED_MESSAGES_MAX 4096u
#define QUEUED_BYTES_MAX (4u << 20)
/* Messages handled before other work of the loop gets its turn. */
#define MESSAGES_PER_TURN 64u
#define SOCKET_BUFFER_BYTES (512 << 10)
/* When the kernel has no memory, or too many descriptors are on their way for our user: nothing
 * tells when that has passed. Twice as long each time. */
#define RETRY_NS_MIN 1000000u
#define RETRY_NS_MAX 64000000u

struct queued {
    struct queued *next;
    struct vgd_link_hdr hdr;
    uint32_t n_fds;
    int fds[VGD_LINK_FDS_MAX]; /* ours */
    uint8_t payload[];
};

struct vgd_link {
    int fd;
    struct vgd_watch *watch;
    vgd_link_fn on_message;
    vgd_link_closed_fn on_closed;
    void *user;
    struct queued *first, **last;
    struct vgd_timer *retry; /* runs while the kernel refuses the first one */
    uint32_t retry_ns;
    uint32_t queued_count;
    size_t queued_bytes;
    bool *destroyed;              /* set while a callback runs: it may destroy us */
    struct vgd_link_message *msg; /* the one being delivered; kept, it is large */
};

enum vgd_status vgd_link_pair(int out_fds[2])
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        return VGD_HOST_FAILED;
    }
    int bytes = SOCKET_BUFFER_BYTES;
    for (unsigned i = 0; i < 2; i++) { /* the default serves too: this only saves queueing */
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
        out_fds[i] = fds[i];
    }
    return VGD_OK;
}

static void free_queued(struct queued *q)
{
    vgd_fds_close(q->fds, q->n_fds);
    free(q);
}

/* VGD_OK: taken by the socket; VGD_AGAIN: no room now; VGD_LIMIT: refused for now, for another
 * reason; VGD_CLOSED. A packet goes whole or not at all. */
static enum vgd_status send_now(int fd, const struct vgd_link_hdr *hdr, const void *payload,
                                const int *fds, uint32_t n_fds)
{
    struct iovec iov[2] = {
        {.iov_base = (void *)(uintptr_t)hdr, .iov_len = sizeof(*hdr)},
        {.iov_base = (void *)(uintptr_t)payload, .iov_len = hdr->payload_bytes},
    };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * VGD_LINK_FDS_MAX)];
    } control = {0};
    struct msghdr mh = {.msg_iov = iov, .msg_iovlen = 2};
    if (n_fds != 0) {
        mh.msg_control = control.bytes;
        mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    for (;;) {
        if (sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
            return VGD_OK;
        }
        if (errno == EAGAIN) {
            return VGD_AGAIN;
        }
        if (errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS) {
            return VGD_LIMIT;
        }
        if (errno != EINTR) {
            return VGD_CLOSED;
        }
    }
}

/* The first in the queue cannot go, for what send_now said: wait for room, or for better times. A
 * socket that has room would wake us again and again. */
static void wait_to_send(struct vgd_link *link, enum vgd_status why)
{
    if (why == VGD_AGAIN) {
        link->retry_ns = RETRY_NS_MIN;
        vgd_timer_stop(link->retry);
        vgd_watch_set(link->watch, EPOLLIN | EPOLLOUT);
        return;
    }
    vgd_watch_set(link->watch, EPOLLIN);
    vgd_timer_start(link->retry, link->retry_ns);
    link->retry_ns = link->retry_ns < RETRY_NS_MAX / 2 ? 2 * link->retry_ns : RETRY_NS_MAX;
}

static enum vgd_status enqueue(struct vgd_link *link, const struct vgd_link_hdr *hdr,
                               const void *payload, const int *fds, uint32_t n_fds)
{
    if (link->queued_count >= QUEUED_MESSAGES_MAX ||
        hdr->payload_bytes > QUEUED_BYTES_MAX - link->queued_bytes) {
        return VGD_LIMIT;
    }
    struct queued *q = calloc(1, sizeof(*q) + hdr->payload_bytes);
    if (q == NULL) {
        return VGD_NO_MEMORY;
    }
    q->hdr = *hdr;
    if (hdr->payload_bytes != 0) {
        memcpy(q->payload, payload, hdr->payload_bytes);
    }
    for (; q->n_fds < n_fds; q->n_fds++) {
        q->fds[q->n_fds] = fcntl(fds[q->n_fds], F_DUPFD_CLOEXEC, 0);
        if (q->fds[q->n_fds] < 0) {
            free_queued(q);
            return VGD_NO_MEMORY;
        }
    }
    *link->last = q;
    link->last = &q->next;
    link->queued_count++;
    link->queued_bytes += hdr->payload_bytes;
    return VGD_OK;
}

enum vgd_status vgd_link_send(struct vgd_link *link, enum vgd_link_type type, const void *payload,
                              size_t payload_bytes, const int *fds, uint32_t n_fds)
{
    if (link->watch == NULL) {
        return VGD_CLOSED;
    }
    if (payload_bytes > VGD_LINK_BYTES_MAX || n_fds > VGD_LINK_FDS_MAX) {
        return VGD_RANGE;
    }
    struct vgd_link_hdr hdr = {.type = type, .payload_bytes = (uint32_t)payload_bytes};
    if (link->first != NULL) {
        return enqueue(link, &hdr, payload, fds, n_fds);
    }
    enum vgd_status why = send_now(link->fd, &hdr, payload, fds, n_fds);
    if (why != VGD_AGAIN && why != VGD_LIMIT) {
        return why;
    }
    enum vgd_status st = enqueue(link, &hdr, payload, fds, n_fds);
    if (st == VGD_OK) {
        wait_to_send(link, why);
    }
    return st;
}

static enum vgd_status flush_queue(struct vgd_link *link)
{
    while (link->first != NULL) {
        struct queued *q = link->first;
        enum vgd_status st = send_now(link->fd, &q->hdr, q->payload, q->fds, q->n_fds);
        if (st == VGD_AGAIN || st == VGD_LIMIT) {
            wait_to_send(link, st);
            return VGD_OK;
        }
        if (st != VGD_OK) {
            return st;
        }
        link->retry_ns = RETRY_NS_MIN;
        link->first = q->next;
        if (link->first == NULL) {
            link->last = &link->first;
        }
        link->queued_count--;
        link->queued_bytes -= q->hdr.payload_bytes;
        free_queued(q);
    }
    vgd_watch_set(link->watch, EPOLLIN);
    return VGD_OK;
}

static void retry_due(void *user)
{
    struct vgd_link *link = user;
    if (link->watch != NULL) {
        (void)flush_queue(link); /* a link that is broken says so when it is read */
    }
}

/* One packet with its descriptors into @msg. VGD_AGAIN: none; VGD_CLOSED; VGD_RANGE. */
static enum vgd_status receive(int fd, struct vgd_link_message *msg)
{
    struct vgd_link_hdr hdr = {0};
    struct iovec iov[2] = {
        {.iov_base = &hdr, .iov_len = sizeof(hdr)},
        {.iov_base = msg->payload, .iov_len = sizeof(msg->payload)},
    };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * VGD_LINK_FDS_MAX)];
    } control;
    struct msghdr mh = {
        .msg_iov = iov,
        .msg_iovlen = 2,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n;
    do {
        n = recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN ? VGD_AGAIN : VGD_CLOSED;
    }

    msg->n_fds = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c != NULL; c = CMSG_NXTHDR(&mh, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(msg->fds + msg->n_fds, CMSG_DATA(c), n_fds * sizeof(int));
        msg->n_fds += (uint32_t)n_fds;
    }
    if (n == 0) { /* the end, or an empty packet, which nobody of ours sends */
        vgd_fds_close(msg->fds, msg->n_fds);
        return VGD_CLOSED;
    }
    bool whole = (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 && (size_t)n >= sizeof(hdr) &&
                 hdr.payload_bytes == (size_t)n - sizeof(hdr);
    if (!whole) {
        vgd_fds_close(msg->fds, msg->n_fds);
        return VGD_RANGE;
    }
    msg->type = hdr.type;
    msg->payload_bytes = hdr.payload_bytes;
    return VGD_OK;
}

static void link_ready(void *user, uint32_t events)
{
    struct vgd_link *link = user;
    bool destroyed = false;
    link->destroyed = &destroyed;

    enum vgd_status st = VGD_OK;
    if ((events & EPOLLOUT) != 0) {
        st = flush_queue(link);
    }
    /* What was sent before the end still counts: read first, then believe the hang-up. */
    for (unsigned i = 0; i < MESSAGES_PER_TURN && st == VGD_OK; i++) {
        struct vgd_link_message *msg = link->msg;
        st = receive(link->fd, msg);
        if (st == VGD_OK) {
            link->on_message(link->user, msg);
            if (destroyed) {
                vgd_fds_close(msg->fds, msg->n_fds);
                free(msg);
                return;
            }
            vgd_fds_close(msg->fds, msg->n_fds);
        }
    }
    if (st != VGD_OK && st != VGD_AGAIN) {
        vgd_watch_remove(&link->watch);
        vgd_timer_stop(link->retry);
        link->on_closed(link->user, st);
        if (destroyed) {
            return;
        }
    }
    link->destroyed = NULL;
}

struct vgd_link *vgd_link_create(struct vgd_loop *loop, int *fd, vgd_link_fn on_message,
                                 vgd_link_closed_fn on_closed, void *user)
{
    struct vgd_link *link = calloc(1, sizeof(*link));
    struct vgd_link_message *msg = calloc(1, sizeof(*msg));
    if (link == NULL || msg == NULL) {
        free(link);
        free(msg);
        return NULL;
    }
    *link = (struct vgd_link){
        .fd = *fd, .on_message = on_message, .on_closed = on_closed, .user = user, .msg = msg};
    link->last = &link->first;
    link->retry_ns = RETRY_NS_MIN;
    link->retry = vgd_timer_create(loop, retry_due, link);
    link->watch = vgd_loop_watch(loop, link->fd, EPOLLIN, link_ready, link);
    if (link->watch == NULL || link->retry == NULL) {
        vgd_watch_remove(&link->watch);
        vgd_timer_destroy(&link->retry);
        free(msg);
        free(link);
        return NULL;
    }
    *fd = -1;
    return link;
}

void vgd_link_destroy(struct vgd_link *link)
{
    if (link == NULL) {
        return;
    }
    while (link->first != NULL) {
        struct queued *next = link->first->next;
        free_queued(link->first);
        link->first = next;
    }
    vgd_watch_remove(&link->watch);
    vgd_timer_destroy(&link->retry);
    vgd_fd_closep(&link->fd);
    if (link->destroyed != NULL) {
        *link->destroyed = true; /* the message being delivered is freed by who delivers it */
    } else {
        free(link->msg);
    }
    free(link);
}
