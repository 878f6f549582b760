/* SPDX-License-Identifier: MIT */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "fd.h"

#define HDR_BYTES 12u

/* A message, or what is left of it, that the socket did not take yet. */
struct pending {
    struct pending *next;
    uint32_t n_bytes, sent_bytes;
    uint32_t n_fds;          /* 0 once the first byte is out: they travel with it */
    int fds[VGD_VU_FDS_MAX]; /* owned; -1 in unused places */
    uint8_t bytes[];
};

/*
 * Reading: header (got < 12) --> payload (got < 12 + size) --> handed over --> header
 * Either direction failing ends both: broken is what every later call returns.
 */
struct vgd_channel {
    int fd;                 /* owned */
    enum vgd_status broken; /* VGD_OK while the channel works */

    uint32_t got_bytes; /* of the message being read, header included */
    uint8_t hdr_bytes[HDR_BYTES];
    struct vgd_vu_message in;

    struct pending *first, **last; /* owned */
    uint32_t queued_bytes, queued_fds;
};

static void fds_reset(int *fds)
{
    for (uint32_t i = 0; i < VGD_VU_FDS_MAX; i++) {
        fds[i] = -1;
    }
}

void vgd_vu_message_finish(struct vgd_vu_message *msg)
{
    vgd_fds_close(msg->fds, VGD_VU_FDS_MAX);
    msg->n_fds = 0;
}

struct vgd_channel *vgd_channel_create(int *fd)
{
    struct vgd_channel *ch = malloc(sizeof(*ch));
    if (ch == NULL) {
        return NULL;
    }
    ch->broken = VGD_OK;
    ch->got_bytes = 0;
    ch->in.n_fds = 0;
    fds_reset(ch->in.fds);
    ch->first = NULL;
    ch->last = &ch->first;
    ch->queued_bytes = 0;
    ch->queued_fds = 0;
    ch->fd = vgd_fd_take(fd);
    int flags = fcntl(ch->fd, F_GETFL);
    if (flags < 0 || fcntl(ch->fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        ch->broken = VGD_CLOSED; /* not an open fd: the first use says so */
    }
    return ch;
}

static void drop_first(struct vgd_channel *ch)
{
    struct pending *node = ch->first;
    ch->first = node->next;
    if (ch->first == NULL) {
        ch->last = &ch->first;
    }
    ch->queued_bytes -= node->n_bytes;
    ch->queued_fds -= node->n_fds;
    vgd_fds_close(node->fds, node->n_fds);
    free(node);
}

static enum vgd_status fail(struct vgd_channel *ch, enum vgd_status why)
{
    ch->broken = why;
    vgd_vu_message_finish(&ch->in);
    while (ch->first != NULL) {
        drop_first(ch);
    }
    return why;
}

void vgd_channel_destroy(struct vgd_channel *ch)
{
    if (ch != NULL) {
        (void)fail(ch, VGD_CLOSED);
        vgd_fd_closep(&ch->fd);
        free(ch);
    }
}

int vgd_channel_fd(const struct vgd_channel *ch)
{
    return ch->fd;
}

/* Room for exactly VGD_VU_FDS_MAX: the kernel closes what does not fit and says MSG_CTRUNC. */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(VGD_VU_FDS_MAX * sizeof(int))];
};

/* Adds to the message's fds. False if they do not fit: the rest is closed. */
static bool take_fds(struct msghdr *msg, struct vgd_vu_message *in)
{
    bool fits = (msg->msg_flags & MSG_CTRUNC) == 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (in->n_fds < VGD_VU_FDS_MAX) {
                in->fds[in->n_fds++] = fd;
            } else {
                (void)close(fd);
                fits = false;
            }
        }
    }
    return fits;
}

/* VGD_OK when @n_bytes arrived, VGD_AGAIN while they have not. */
static enum vgd_status receive(struct vgd_channel *ch, uint8_t *data, uint32_t have_bytes,
                               uint32_t n_bytes)
{
    while (have_bytes < n_bytes) {
        struct iovec iov = {.iov_base = data + have_bytes, .iov_len = n_bytes - have_bytes};
        union control control;
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        /* Fds come with the header. Without a control buffer the kernel closes those that do
         * not. */
        bool header = ch->got_bytes < HDR_BYTES;
        if (header) {
            msg.msg_control = control.bytes;
            msg.msg_controllen = sizeof(control.bytes);
        }
        ssize_t n = recvmsg(ch->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return VGD_AGAIN;
        }
        if (n <= 0) {
            return VGD_CLOSED;
        }
        if (header && !take_fds(&msg, &ch->in)) {
            return VGD_RANGE;
        }
        have_bytes += (uint32_t)n;
        ch->got_bytes += (uint32_t)n;
    }
    return VGD_OK;
}

static enum vgd_status read_message(struct vgd_channel *ch)
{
    if (ch->got_bytes < HDR_BYTES) {
        enum vgd_status st = receive(ch, ch->hdr_bytes, ch->got_bytes, HDR_BYTES);
        if (st != VGD_OK) {
            return st;
        }
        struct vgd_reader r = vgd_reader_of(ch->hdr_bytes, HDR_BYTES);
        st = vgd_vu_hdr_decode(&r, &ch->in.hdr);
        if (st != VGD_OK || (ch->in.hdr.flags & VGD_VU_FLAG_VERSION_MASK) != VGD_VU_FLAG_VERSION ||
            ch->in.hdr.size_bytes > VGD_VU_PAYLOAD_MAX) {
            return VGD_RANGE;
        }
    }
    return receive(ch, ch->in.payload, ch->got_bytes - HDR_BYTES, ch->in.hdr.size_bytes);
}

enum vgd_status vgd_channel_read(struct vgd_channel *ch, struct vgd_vu_message *out)
{
    if (ch->broken != VGD_OK) {
        return ch->broken;
    }
    enum vgd_status st = read_message(ch);
    if (st == VGD_AGAIN) {
        return st;
    }
    if (st != VGD_OK) {
        return fail(ch, st);
    }
    out->hdr = ch->in.hdr;
    memcpy(out->payload, ch->in.payload, ch->in.hdr.size_bytes);
    memcpy(out->fds, ch->in.fds, sizeof(out->fds));
    out->n_fds = ch->in.n_fds;
    fds_reset(ch->in.fds);
    ch->in.n_fds = 0;
    ch->got_bytes = 0;
    return VGD_OK;
}

/* Send what the socket takes now. VGD_OK: *out_sent bytes went, maybe 0. */
static enum vgd_status send_some(struct vgd_channel *ch, uint8_t *bytes, uint32_t n_bytes,
                                 const int *fds, uint32_t n_fds, uint32_t *out_sent)
{
    *out_sent = 0;
    while (*out_sent < n_bytes) {
        struct iovec iov = {
            .iov_base = bytes + *out_sent, /* only read, but iovecs know no const */
            .iov_len = n_bytes - *out_sent,
        };
        union control control;
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        if (n_fds > 0 && *out_sent == 0) {
            memset(&control, 0, sizeof(control));
            msg.msg_control = control.bytes;
            msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
            struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
            memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
        }
        ssize_t n = sendmsg(ch->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            *out_sent += (uint32_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ETOOMANYREFS) {
            return VGD_OK; /* the last: this user has too many fds on their way, anywhere */
        } else if (errno != EINTR) {
            return VGD_CLOSED;
        }
    }
    return VGD_OK;
}

enum vgd_status vgd_channel_flush(struct vgd_channel *ch)
{
    if (ch->broken != VGD_OK) {
        return VGD_CLOSED;
    }
    while (ch->first != NULL) {
        struct pending *node = ch->first;
        uint32_t sent;
        enum vgd_status st =
            send_some(ch, node->bytes + node->sent_bytes, node->n_bytes - node->sent_bytes,
                      node->fds, node->n_fds, &sent);
        if (st != VGD_OK) {
            return fail(ch, st);
        }
        if (sent > 0) {
            vgd_fds_close(node->fds, node->n_fds);
            ch->queued_fds -= node->n_fds;
            node->n_fds = 0;
        }
        node->sent_bytes += sent;
        if (node->sent_bytes < node->n_bytes) {
            return VGD_OK;
        }
        drop_first(ch);
    }
    return VGD_OK;
}

static enum vgd_status enqueue(struct vgd_channel *ch, const uint8_t *bytes, uint32_t n_bytes,
                               const int *fds, uint32_t n_fds)
{
    struct pending *node = malloc(sizeof(*node) + n_bytes);
    if (node == NULL) {
        return VGD_NO_MEMORY;
    }
    fds_reset(node->fds);
    node->next = NULL;
    node->n_bytes = n_bytes;
    node->sent_bytes = 0;
    node->n_fds = n_fds;
    memcpy(node->bytes, bytes, n_bytes);
    for (uint32_t i = 0; i < n_fds; i++) {
        node->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (node->fds[i] < 0) {
            vgd_fds_close(node->fds, n_fds);
            free(node);
            return VGD_NO_MEMORY;
        }
    }
    *ch->last = node;
    ch->last = &node->next;
    ch->queued_bytes += n_bytes;
    ch->queued_fds += n_fds;
    return VGD_OK;
}

/* The message's bytes from @skip on, sent or queued behind what is queued. */
static enum vgd_status send_from(struct vgd_channel *ch, uint32_t skip_bytes, uint32_t request,
                                 uint32_t flags, const void *payload, uint32_t payload_bytes,
                                 const int *fds, uint32_t n_fds)
{
    if (payload_bytes > VGD_VU_PAYLOAD_MAX || n_fds > VGD_VU_FDS_MAX) {
        return VGD_RANGE;
    }
    enum vgd_status st = vgd_channel_flush(ch);
    if (st != VGD_OK) {
        return st;
    }

    uint8_t bytes[HDR_BYTES + VGD_VU_PAYLOAD_MAX];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    struct vgd_vu_hdr hdr = {
        .request = request,
        .flags = (flags & ~VGD_VU_FLAG_VERSION_MASK) | VGD_VU_FLAG_VERSION,
        .size_bytes = payload_bytes,
    };
    vgd_vu_hdr_encode(&w, &hdr);
    vgd_write_bytes(&w, payload, payload_bytes);
    uint8_t *start = bytes + skip_bytes;
    uint32_t n_bytes = HDR_BYTES + payload_bytes - skip_bytes, sent = 0;

    if (ch->first == NULL) {
        st = send_some(ch, start, n_bytes, fds, n_fds, &sent);
        if (st != VGD_OK) {
            return fail(ch, st);
        }
        if (sent == n_bytes) {
            return VGD_OK;
        }
    }
    if (sent > 0) {
        n_fds = 0; /* they went with the first byte */
    }
    if (ch->queued_bytes + (n_bytes - sent) > VGD_VU_QUEUED_BYTES_MAX ||
        ch->queued_fds + n_fds > VGD_VU_QUEUED_FDS_MAX) {
        return VGD_LIMIT; /* never after a partial send: the queue was empty then */
    }
    st = enqueue(ch, start + sent, n_bytes - sent, fds, n_fds);
    if (st != VGD_OK && sent + skip_bytes > 0) {
        return fail(ch, VGD_CLOSED); /* the peer has half a message and will never see the rest */
    }
    return st;
}

enum vgd_status vgd_channel_send(struct vgd_channel *ch, uint32_t request, uint32_t flags,
                                 const void *payload, uint32_t payload_bytes, const int *fds,
                                 uint32_t n_fds)
{
    return send_from(ch, 0, request, flags, payload, payload_bytes, fds, n_fds);
}

enum vgd_status vgd_channel_send_first(struct vgd_channel *ch, uint32_t request, const int *fds,
                                       uint32_t n_fds)
{
    if (n_fds > VGD_VU_FDS_MAX) {
        return VGD_RANGE;
    }
    enum vgd_status st = vgd_channel_flush(ch);
    if (st != VGD_OK) {
        return st;
    }
    if (ch->first != NULL) {
        return VGD_AGAIN;
    }
    uint8_t low_byte = (uint8_t)request;
    uint32_t sent;
    st = send_some(ch, &low_byte, 1, fds, n_fds, &sent);
    if (st != VGD_OK) {
        return fail(ch, st);
    }
    return sent == 1 ? VGD_OK : VGD_AGAIN;
}

bool vgd_channel_taken(const struct vgd_channel *ch)
{
    /* What is counted is the kernel's buffer, never as little as 1 for one that waits. While the
     * last one is given back, Linux wakes us before it takes off the last 1: no later wake-up would
     * come for that. */
    int unread = 0;
    return ch->first == NULL && ioctl(ch->fd, SIOCOUTQ, &unread) == 0 && unread <= 1;
}

enum vgd_status vgd_channel_send_rest(struct vgd_channel *ch, uint32_t request, uint32_t flags,
                                      const void *payload, uint32_t payload_bytes)
{
    return send_from(ch, 1, request, flags, payload, payload_bytes, NULL, 0);
}

bool vgd_channel_wants_write(const struct vgd_channel *ch)
{
    return ch->first != NULL;
}
