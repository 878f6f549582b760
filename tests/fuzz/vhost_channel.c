/* SPDX-License-Identifier: MIT */
/*
 * A hostile peer on a vhost-user channel: the input is a list of what it sends (bytes, cut
 * anywhere, with any number of fds), when we read, and what we send back.
 *
 * Properties: a message is never larger than its buffers; its fds are open and are ours; the bytes
 * are those that were sent, in order; nothing is handed over after a failure; every fd is closed in
 * the end.
 */
#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "channel.h"
#include "fd.h"
#include "open_fds.h"

#define OPS_MAX 200u
#define SENT_MAX ((size_t)64 * 1024)
#define PEER_FDS_MAX 12u

enum op {
    OP_RAW,    /* a few bytes as they are */
    OP_HEADER, /* a header, rather well formed */
    OP_FILL,   /* many bytes */
    OP_READ,
    OP_SEND,  /* our side answers */
    OP_DRAIN, /* the peer reads what we sent */
    OP_CLOSE, /* the peer goes away */
    OP_COUNT,
};

static struct {
    struct vgd_channel *ch;
    int peer;
    uint8_t sent[SENT_MAX]; /* by the peer */
    size_t n_sent, n_read;  /* n_read: as messages, by us */
    bool failed;
} f;

static void peer_send(uint8_t *bytes, size_t n_bytes, uint32_t n_fds)
{
    if (f.peer < 0 || n_bytes == 0 || n_bytes > SENT_MAX - f.n_sent) {
        return;
    }
    int fds[PEER_FDS_MAX];
    for (uint32_t i = 0; i < n_fds; i++) {
        fds[i] = f.peer;
    }
    struct iovec iov = {.iov_base = bytes, .iov_len = n_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(fds))];
    } control;
    memset(&control, 0, sizeof(control));
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    ssize_t n = sendmsg(f.peer, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
        memcpy(f.sent + f.n_sent, bytes, (size_t)n);
        f.n_sent += (size_t)n;
    }
}

static void read_one(void)
{
    static struct vgd_vu_message msg;
    memset(&msg, 0xa5, sizeof(msg));
    enum vgd_status st = vgd_channel_read(f.ch, &msg);
    if (st != VGD_OK) {
        assert(st == VGD_AGAIN || st == VGD_CLOSED || st == VGD_RANGE);
        assert(st != VGD_AGAIN || !f.failed);
        f.failed |= st != VGD_AGAIN;
        return;
    }
    assert(!f.failed);
    assert(msg.hdr.size_bytes <= VGD_VU_PAYLOAD_MAX && msg.n_fds <= VGD_VU_FDS_MAX);
    assert((msg.hdr.flags & VGD_VU_FLAG_VERSION_MASK) == VGD_VU_FLAG_VERSION);
    for (uint32_t i = 0; i < VGD_VU_FDS_MAX; i++) {
        assert(i < msg.n_fds ? (fcntl(msg.fds[i], F_GETFD) & FD_CLOEXEC) != 0 : msg.fds[i] == -1);
    }
    assert(f.n_read + 12 + msg.hdr.size_bytes <= f.n_sent);
    struct vgd_reader r = vgd_reader_of(f.sent + f.n_read, 12);
    struct vgd_vu_hdr hdr;
    enum vgd_status hdr_st = vgd_vu_hdr_decode(&r, &hdr);
    assert(hdr_st == VGD_OK);
    assert(hdr.request == msg.hdr.request && hdr.size_bytes == msg.hdr.size_bytes);
    assert(memcmp(f.sent + f.n_read + 12, msg.payload, msg.hdr.size_bytes) == 0);
    f.n_read += 12 + msg.hdr.size_bytes;
    vgd_vu_message_finish(&msg);
}

static void step(enum op op, struct vgd_reader *r)
{
    static uint8_t bytes[VGD_VU_PAYLOAD_MAX];
    switch (op) {
    case OP_RAW: {
        size_t n = vgd_read_u8(r) % 40u;
        uint32_t n_fds = vgd_read_u8(r) % PEER_FDS_MAX;
        vgd_read_bytes(r, bytes, n);
        peer_send(bytes, n, n_fds);
        break;
    }
    case OP_HEADER: {
        uint8_t what = vgd_read_u8(r);
        struct vgd_vu_hdr hdr = {
            .request = what % 48u,
            .flags = what < 250 ? 1 : what,
            .size_bytes = vgd_read_le16(r) % (VGD_VU_PAYLOAD_MAX + 2),
        };
        struct vgd_writer w = vgd_writer_of(bytes, 12);
        vgd_vu_hdr_encode(&w, &hdr);
        peer_send(bytes, 12, vgd_read_u8(r) % PEER_FDS_MAX);
        break;
    }
    case OP_FILL: {
        size_t n = vgd_read_le16(r) % (sizeof(bytes) + 1);
        memset(bytes, vgd_read_u8(r), n);
        peer_send(bytes, n, 0);
        break;
    }
    case OP_READ:
        read_one();
        break;
    case OP_SEND: {
        uint32_t n = vgd_read_le16(r) % (VGD_VU_PAYLOAD_MAX + 8);
        uint32_t n_fds = vgd_read_u8(r) % (VGD_VU_FDS_MAX + 2);
        int fds[VGD_VU_FDS_MAX + 2];
        int own = vgd_channel_fd(f.ch);
        for (uint32_t i = 0; i < VGD_VU_FDS_MAX + 2; i++) {
            fds[i] = own;
        }
        memset(bytes, 0x77, sizeof(bytes));
        enum vgd_status st = vgd_channel_send(f.ch, n, 0, bytes, n, fds, n_fds);
        assert((st == VGD_RANGE) == (n > VGD_VU_PAYLOAD_MAX || n_fds > VGD_VU_FDS_MAX));
        f.failed |= st == VGD_CLOSED;
        break;
    }
    case OP_DRAIN:
        while (f.peer >= 0 && recv(f.peer, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
        }
        f.failed |= vgd_channel_flush(f.ch) != VGD_OK;
        break;
    case OP_CLOSE:
        vgd_fd_closep(&f.peer);
        break;
    case OP_COUNT:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    struct vgd_reader r = vgd_reader_of(data, len_bytes);
    uint64_t fds_before = open_fds();
    int pair[2];
    int made = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    assert(made == 0);
    f.ch = vgd_channel_create(&pair[0]);
    assert(f.ch != NULL);
    f.peer = pair[1];
    f.n_sent = 0;
    f.n_read = 0;
    f.failed = false;
    for (uint32_t i = 0; i < OPS_MAX && vgd_reader_left(&r) > 0; i++) {
        step((enum op)(vgd_read_u8(&r) % OP_COUNT), &r);
    }
    vgd_channel_destroy(f.ch);
    vgd_fd_closep(&f.peer);
    assert(open_fds() == fds_before);
    return 0;
}
