/* SPDX-License-Identifier: MIT */
/* Rule: whole messages with exactly their fds, or a status; every fd that nobody takes is closed.
 * U.. are the cases of the security catalogue. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bytes.h"
#include "channel.h"
#include "vhost_fixture.h"

#define HDR_BYTES 12u

/* @out_raw is the peer's end, a blocking socket. */
static struct vgd_channel *channel_begin(int *out_raw)
{
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    struct vgd_channel *ch = vgd_channel_create(&pair[0]);
    cr_assert_not_null(ch);
    cr_assert_eq(pair[0], -1, "taken");
    cr_assert((fcntl(vgd_channel_fd(ch), F_GETFL) & O_NONBLOCK) != 0);
    *out_raw = pair[1];
    return ch;
}

static void channel_end(struct vgd_channel *ch, int *raw)
{
    vgd_channel_destroy(ch);
    vgd_fd_closep(raw);
}

static size_t header(uint8_t *out, uint32_t request, uint32_t flags, uint32_t size_bytes)
{
    struct vgd_writer w = vgd_writer_of(out, HDR_BYTES);
    struct vgd_vu_hdr hdr = {.request = request, .flags = flags, .size_bytes = size_bytes};
    vgd_vu_hdr_encode(&w, &hdr);
    cr_assert_eq(w.status, VGD_OK);
    return HDR_BYTES;
}

static void send_raw(int raw, void *bytes, size_t n_bytes, const int *fds, size_t n_fds)
{
    struct iovec iov = {.iov_base = bytes, .iov_len = n_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(253 * sizeof(int))];
    } control = {0};
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
    cr_assert_eq(sendmsg(raw, &msg, MSG_NOSIGNAL), (ssize_t)n_bytes);
}

/* An fd that can be told from others: a memfd of @size_bytes. */
static int marked_fd(uint32_t size_bytes)
{
    int fd = memfd_create("mark", MFD_CLOEXEC);
    cr_assert(fd >= 0);
    cr_assert_eq(ftruncate(fd, size_bytes), 0);
    return fd;
}

static uint32_t mark_of(int fd)
{
    return (uint32_t)lseek(fd, 0, SEEK_END);
}

VHOST_TEST(vhost_channel, u01_sizes)
{
    static const struct {
        uint32_t size_bytes;
        enum vgd_status want;
    } cases[] = {
        {0, VGD_OK},
        {1, VGD_OK},
        {VGD_VU_PAYLOAD_MAX - 1, VGD_OK},
        {VGD_VU_PAYLOAD_MAX, VGD_OK},
        {VGD_VU_PAYLOAD_MAX + 1, VGD_RANGE},
        {0x80000000, VGD_RANGE},
        {0xffffffff, VGD_RANGE},
    };
    static uint8_t bytes[HDR_BYTES + VGD_VU_PAYLOAD_MAX];
    static struct vgd_vu_message msg;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int raw;
        struct vgd_channel *ch = channel_begin(&raw);
        size_t n =
            header(bytes, 7, VGD_VU_FLAG_VERSION | VGD_VU_FLAG_NEED_REPLY, cases[i].size_bytes);
        if (cases[i].want == VGD_OK) {
            for (uint32_t b = 0; b < cases[i].size_bytes; b++) {
                bytes[n++] = (uint8_t)(b * 31);
            }
        }
        int fd = marked_fd(1);
        send_raw(raw, bytes, n, &fd, 1);
        (void)close(fd);
        cr_assert_eq(vgd_channel_read(ch, &msg), cases[i].want, "%u", cases[i].size_bytes);
        if (cases[i].want == VGD_OK) {
            cr_assert_eq(msg.hdr.request, 7);
            cr_assert_eq(msg.hdr.flags, VGD_VU_FLAG_VERSION | VGD_VU_FLAG_NEED_REPLY);
            cr_assert_eq(msg.hdr.size_bytes, cases[i].size_bytes);
            cr_assert_arr_eq(msg.payload, bytes + HDR_BYTES, cases[i].size_bytes);
            cr_assert_eq(msg.n_fds, 1);
            vgd_vu_message_finish(&msg);
            cr_assert_eq(vgd_channel_read(ch, &msg), VGD_AGAIN);
        } else {
            cr_assert_eq(vgd_channel_read(ch, &msg), VGD_RANGE, "stays broken");
            cr_assert_eq(vgd_channel_send(ch, 1, 0, NULL, 0, NULL, 0), VGD_CLOSED);
        }
        channel_end(ch, &raw);
    }
}

VHOST_TEST(vhost_channel, u02_cut_at_each_byte)
{
    uint8_t bytes[HDR_BYTES + 8];
    header(bytes, 1, VGD_VU_FLAG_VERSION, 8);
    memset(bytes + HDR_BYTES, 0x5a, 8);
    static struct vgd_vu_message msg;
    for (size_t len = 0; len < sizeof(bytes); len++) {
        int raw;
        struct vgd_channel *ch = channel_begin(&raw);
        msg.hdr.request = 0xdead;
        if (len > 0) {
            int fd = marked_fd(1);
            send_raw(raw, bytes, len, &fd, 1);
            (void)close(fd);
        }
        cr_assert_eq(vgd_channel_read(ch, &msg), VGD_AGAIN, "%zu", len);
        vgd_fd_closep(&raw);
        cr_assert_eq(vgd_channel_read(ch, &msg), VGD_CLOSED, "%zu", len);
        cr_assert_eq(vgd_channel_read(ch, &msg), VGD_CLOSED, "%zu", len);
        cr_assert_eq(msg.hdr.request, 0xdead, "output untouched");
        channel_end(ch, &raw);
    }
}

VHOST_TEST(vhost_channel, byte_by_byte)
{
    int raw;
    struct vgd_channel *ch = channel_begin(&raw);
    static struct vgd_vu_message msg;
    uint8_t bytes[HDR_BYTES + 5];
    header(bytes, 3, VGD_VU_FLAG_VERSION, 5);
    static const uint8_t text[5] = {'h', 'e', 'l', 'l', 'o'};
    memcpy(bytes + HDR_BYTES, text, sizeof(text));
    for (int round = 0; round < 3; round++) {
        int fd = marked_fd(9);
        for (size_t i = 0; i < sizeof(bytes); i++) {
            cr_assert_eq(vgd_channel_read(ch, &msg), VGD_AGAIN);
            send_raw(raw, bytes + i, 1, &fd, i == 0 ? 1 : 0);
        }
        (void)close(fd);
        cr_assert_eq(vgd_channel_read(ch, &msg), VGD_OK);
        cr_assert_arr_eq(msg.payload, text, sizeof(text));
        cr_assert_eq(msg.n_fds, 1);
        cr_assert_eq(mark_of(msg.fds[0]), 9);
        vgd_vu_message_finish(&msg);
    }
    channel_end(ch, &raw);
}

VHOST_TEST(vhost_channel, u03_version_bits)
{
    static struct vgd_vu_message msg;
    static const struct {
        uint32_t flags;
        enum vgd_status want;
    } cases[] = {
        {0, VGD_RANGE},          {1, VGD_OK},          {2, VGD_RANGE}, {3, VGD_RANGE},
        {5, VGD_OK /* reply */}, {0xfffffffd, VGD_OK}, {4, VGD_RANGE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int raw;
        struct vgd_channel *ch = channel_begin(&raw);
        uint8_t bytes[HDR_BYTES];
        send_raw(raw, bytes, header(bytes, 1, cases[i].flags, 0), NULL, 0);
        cr_assert_eq(vgd_channel_read(ch, &msg), cases[i].want, "%x", cases[i].flags);
        channel_end(ch, &raw);
    }
}

VHOST_TEST(vhost_channel, u04_fd_counts)
{
    static struct vgd_vu_message msg;
    static const struct {
        size_t n_fds;
        enum vgd_status want;
    } cases[] = {{0, VGD_OK}, {1, VGD_OK},    {7, VGD_OK},
                 {8, VGD_OK}, {9, VGD_RANGE}, {253, VGD_RANGE}};
    int fds[253];
    for (uint32_t i = 0; i < 253; i++) {
        fds[i] = marked_fd(100 + i);
    }
    unsigned open_before = open_fds_count();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int raw;
        struct vgd_channel *ch = channel_begin(&raw);
        uint8_t bytes[HDR_BYTES];
        send_raw(raw, bytes, header(bytes, 5, VGD_VU_FLAG_VERSION, 0), fds, cases[i].n_fds);
        cr_assert_eq(vgd_channel_read(ch, &msg), cases[i].want, "%zu", cases[i].n_fds);
        if (cases[i].want == VGD_OK) {
            cr_assert_eq(msg.n_fds, cases[i].n_fds);
            for (uint32_t f = 0; f < VGD_VU_FDS_MAX; f++) {
                if (f < msg.n_fds) {
                    cr_assert_eq(mark_of(msg.fds[f]), 100 + f, "in order");
                    cr_assert((fcntl(msg.fds[f], F_GETFD) & FD_CLOEXEC) != 0);
                } else {
                    cr_assert_eq(msg.fds[f], -1);
                }
            }
            if (msg.n_fds > 1) { /* what was taken is not closed */
                int taken = vgd_fd_take(&msg.fds[1]);
                vgd_vu_message_finish(&msg);
                cr_assert_eq(mark_of(taken), 101);
                (void)close(taken);
            }
            vgd_vu_message_finish(&msg);
            vgd_vu_message_finish(&msg); /* twice is fine */
        }
        channel_end(ch, &raw);
        cr_assert_eq(open_fds_count(), open_before, "%zu", cases[i].n_fds);
    }
    vgd_fds_close(fds, 253);
}

VHOST_TEST(vhost_channel, u04_fds_stay_with_their_message)
{
    static struct vgd_vu_message msg;
    int raw;
    struct vgd_channel *ch = channel_begin(&raw);
    uint8_t bytes[HDR_BYTES + 8] = {0};
    for (uint32_t i = 1; i <= 5; i++) { /* all queued before the first is read */
        int fds[2] = {marked_fd(i), marked_fd(10 * i)};
        header(bytes, i, VGD_VU_FLAG_VERSION, i % 2 ? 8 : 0);
        send_raw(raw, bytes, i % 2 ? HDR_BYTES + 8 : HDR_BYTES, fds, i % 3);
        vgd_fds_close(fds, 2);
    }
    for (uint32_t i = 1; i <= 5; i++) {
        cr_assert_eq(vgd_channel_read(ch, &msg), VGD_OK);
        cr_assert_eq(msg.hdr.request, i);
        cr_assert_eq(msg.n_fds, i % 3);
        for (uint32_t f = 0; f < msg.n_fds; f++) {
            cr_assert_eq(mark_of(msg.fds[f]), f == 0 ? i : 10 * i);
        }
        vgd_vu_message_finish(&msg);
    }
    cr_assert_eq(vgd_channel_read(ch, &msg), VGD_AGAIN);
    channel_end(ch, &raw);
}

VHOST_TEST(vhost_channel, u04_fds_in_pieces)
{
    static struct vgd_vu_message msg;
    int marks[9];
    for (uint32_t i = 0; i < 9; i++) {
        marks[i] = marked_fd(i + 1);
    }
    unsigned open_before = open_fds_count();
    for (int slowly = 0; slowly < 2; slowly++) { /* read at each piece, or once */
        int raw;
        struct vgd_channel *ch = channel_begin(&raw);
        uint8_t bytes[HDR_BYTES + 4] = {0};
        header(bytes, 1, VGD_VU_FLAG_VERSION, 4);
        send_raw(raw, bytes, 5, marks, 1);
        if (slowly) {
            cr_assert_eq(vgd_channel_read(ch, &msg), VGD_AGAIN);
        }
        send_raw(raw, bytes + 5, HDR_BYTES - 5, marks + 1, 7);
        if (slowly) {
            cr_assert_eq(vgd_channel_read(ch, &msg), VGD_AGAIN);
        }
        send_raw(raw, bytes + HDR_BYTES, 4, marks, 3); /* with the payload: closed */
        cr_assert_eq(vgd_channel_read(ch, &msg), VGD_OK);
        cr_assert_eq(msg.n_fds, 8);
        cr_assert_eq(mark_of(msg.fds[0]), 1);
        cr_assert_eq(mark_of(msg.fds[7]), 8);
        vgd_vu_message_finish(&msg);

        send_raw(raw, bytes, 5, marks, 2); /* one too many in all */
        if (slowly) {
            cr_assert_eq(vgd_channel_read(ch, &msg), VGD_AGAIN);
        }
        send_raw(raw, bytes + 5, HDR_BYTES - 5, marks + 2, 7);
        cr_assert_eq(vgd_channel_read(ch, &msg), VGD_RANGE);
        channel_end(ch, &raw);
        cr_assert_eq(open_fds_count(), open_before);
    }
    vgd_fds_close(marks, 9);
}

VHOST_TEST(vhost_channel, destroy_closes_half_a_message)
{
    static struct vgd_vu_message msg;
    int raw;
    struct vgd_channel *ch = channel_begin(&raw);
    int fd = marked_fd(1);
    uint8_t bytes[HDR_BYTES];
    header(bytes, 1, VGD_VU_FLAG_VERSION, 4);
    send_raw(raw, bytes, HDR_BYTES, &fd, 1);
    (void)close(fd);
    cr_assert_eq(vgd_channel_read(ch, &msg), VGD_AGAIN);
    channel_end(ch, &raw);
    vgd_channel_destroy(NULL);
}

VHOST_TEST(vhost_channel, sent_is_what_is_read)
{
    static struct vgd_vu_message msg;
    static uint8_t payload[VGD_VU_PAYLOAD_MAX];
    int raw;
    struct vgd_channel *ch = channel_begin(&raw);
    struct vgd_channel *peer = vgd_channel_create(&raw);
    for (uint32_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (uint8_t)(i % 251);
    }
    static const uint32_t sizes[] = {0, 1, 8, 2056, VGD_VU_PAYLOAD_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int fds[VGD_VU_FDS_MAX];
        for (uint32_t f = 0; f < VGD_VU_FDS_MAX; f++) {
            fds[f] = marked_fd(f + 1);
        }
        cr_assert_eq(
            vgd_channel_send(ch, 40, VGD_VU_FLAG_REPLY, payload, sizes[i], fds, (uint32_t)(2 * i)),
            VGD_OK);
        vgd_fds_close(fds, VGD_VU_FDS_MAX);
        cr_assert(!vgd_channel_wants_write(ch));
        cr_assert_eq(vgd_channel_read(peer, &msg), VGD_OK);
        cr_assert_eq(msg.hdr.request, 40);
        cr_assert_eq(msg.hdr.flags, VGD_VU_FLAG_VERSION | VGD_VU_FLAG_REPLY);
        cr_assert_eq(msg.hdr.size_bytes, sizes[i]);
        cr_assert_arr_eq(msg.payload, payload, sizes[i]);
        cr_assert_eq(msg.n_fds, 2 * i);
        for (uint32_t f = 0; f < msg.n_fds; f++) {
            cr_assert_eq(mark_of(msg.fds[f]), f + 1);
        }
        vgd_vu_message_finish(&msg);
    }
    cr_assert_eq(vgd_channel_send(ch, 1, 0, payload, VGD_VU_PAYLOAD_MAX + 1, NULL, 0), VGD_RANGE);
    cr_assert_eq(vgd_channel_send(ch, 1, 0, NULL, 0, NULL, VGD_VU_FDS_MAX + 1), VGD_RANGE);
    vgd_channel_destroy(peer);
    vgd_channel_destroy(ch);
}

/* A peer that does not read: nothing blocks, a named limit holds, and once it reads again every
 * accepted message arrives whole, in order, with its fds. */
VHOST_TEST(vhost_channel, full_socket_queues_up_to_the_limit)
{
    static struct vgd_vu_message msg;
    static uint8_t payload[3001]; /* odd, so that the socket cuts messages anywhere */
    int raw;
    struct vgd_channel *ch = channel_begin(&raw);
    int small = 1; /* the kernel raises it to its minimum */
    cr_assert_eq(setsockopt(vgd_channel_fd(ch), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    struct vgd_channel *peer = vgd_channel_create(&raw);

    uint32_t n_sent = 0, n_queued = 0;
    enum vgd_status st;
    for (;;) {
        int fd = marked_fd(n_sent + 1);
        memset(payload, (int)(n_sent & 0xff), sizeof(payload));
        st = vgd_channel_send(ch, n_sent, 0, payload, sizeof(payload), &fd, n_sent % 2);
        (void)close(fd); /* ours: the channel keeps a duplicate */
        if (st != VGD_OK) {
            break;
        }
        n_sent++;
        n_queued += vgd_channel_wants_write(ch) ? 1 : 0;
        cr_assert(n_sent < 1000);
    }
    cr_assert_eq(st, VGD_LIMIT);
    cr_assert(n_queued >= VGD_VU_QUEUED_BYTES_MAX / (sizeof(payload) + HDR_BYTES));
    cr_assert(n_queued <= 1 + VGD_VU_QUEUED_BYTES_MAX / (sizeof(payload) + HDR_BYTES));

    for (uint32_t i = 0; i < n_sent;) {
        st = vgd_channel_read(peer, &msg);
        if (st == VGD_AGAIN) {
            cr_assert(vgd_channel_wants_write(ch));
            cr_assert_eq(vgd_channel_flush(ch), VGD_OK);
            continue;
        }
        cr_assert_eq(st, VGD_OK);
        cr_assert_eq(msg.hdr.request, i);
        cr_assert_eq(msg.hdr.size_bytes, sizeof(payload));
        memset(payload, (int)(i & 0xff), sizeof(payload));
        cr_assert_arr_eq(msg.payload, payload, sizeof(payload));
        cr_assert_eq(msg.n_fds, i % 2);
        if (msg.n_fds > 0) {
            cr_assert_eq(mark_of(msg.fds[0]), i + 1);
        }
        vgd_vu_message_finish(&msg);
        i++;
    }
    cr_assert(!vgd_channel_wants_write(ch));
    cr_assert_eq(vgd_channel_send(ch, 77, 0, NULL, 0, NULL, 0), VGD_OK, "usable again");
    cr_assert_eq(vgd_channel_read(peer, &msg), VGD_OK);
    cr_assert_eq(msg.hdr.request, 77);
    vgd_channel_destroy(peer);
    vgd_channel_destroy(ch);
}

/* Read whatever is there; counts fds too. */
static size_t drain_raw(int raw, size_t *n_fds)
{
    size_t n_bytes = 0;
    for (;;) {
        uint8_t bytes[HDR_BYTES + VGD_VU_PAYLOAD_MAX];
        struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(VGD_VU_FDS_MAX * sizeof(int))];
        } control;
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        ssize_t n = recvmsg(raw, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n <= 0) {
            return n_bytes;
        }
        n_bytes += (size_t)n;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
            int got;
            memcpy(&got, CMSG_DATA(c), sizeof(got));
            (void)close(got);
            (*n_fds)++;
        }
    }
}

/* Where the socket takes half a message, its fds go with that half and not again with the rest.
 * How much it takes is the kernel's affair: fill it to different levels first. */
VHOST_TEST(vhost_channel, partial_send_passes_fds_once)
{
    static uint8_t payload[VGD_VU_PAYLOAD_MAX];
    const size_t total = HDR_BYTES + sizeof(payload);
    uint32_t n_partial = 0;
    for (uint32_t n_fill = 0; n_fill < 24; n_fill++) {
        int raw;
        struct vgd_channel *ch = channel_begin(&raw);
        int small = 1;
        cr_assert_eq(setsockopt(vgd_channel_fd(ch), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
                     0);
        size_t n_before = 0, n_fds = 0;
        for (uint32_t i = 0; i < n_fill; i++) {
            ssize_t n = send(vgd_channel_fd(ch), payload, 1, MSG_DONTWAIT);
            n_before += n > 0 ? 1 : 0;
        }
        int fd = marked_fd(1);
        cr_assert_eq(vgd_channel_send(ch, 1, 0, payload, sizeof(payload), &fd, 1), VGD_OK);
        (void)close(fd);
        size_t n_bytes = drain_raw(raw, &n_fds) - n_before;
        n_partial += n_bytes > 0 && n_bytes < total ? 1 : 0;
        while (vgd_channel_wants_write(ch)) {
            cr_assert_eq(vgd_channel_flush(ch), VGD_OK);
            n_bytes += drain_raw(raw, &n_fds);
        }
        cr_assert_eq(n_bytes, total, "%u", n_fill);
        cr_assert_eq(n_fds, 1, "%u", n_fill);
        channel_end(ch, &raw);
    }
    cr_assert(n_partial > 0, "the socket never took half a message");
}

VHOST_TEST(vhost_channel, queued_fds_are_limited_and_closed)
{
    int raw;
    struct vgd_channel *ch = channel_begin(&raw);
    uint8_t filler[4000] = {0};
    ssize_t n;
    do { /* fill the socket behind the channel's back */
        n = send(vgd_channel_fd(ch), filler, sizeof(filler), MSG_DONTWAIT);
    } while (n > 0);
    do {
        n = send(vgd_channel_fd(ch), filler, 1, MSG_DONTWAIT);
    } while (n > 0);
    unsigned open_before = open_fds_count();
    int fds[VGD_VU_FDS_MAX];
    for (uint32_t f = 0; f < VGD_VU_FDS_MAX; f++) {
        fds[f] = raw;
    }
    for (uint32_t i = 0; i < VGD_VU_QUEUED_FDS_MAX / VGD_VU_FDS_MAX; i++) {
        cr_assert_eq(vgd_channel_send(ch, 1, 0, NULL, 0, fds, VGD_VU_FDS_MAX), VGD_OK);
    }
    cr_assert_eq(open_fds_count(), open_before + VGD_VU_QUEUED_FDS_MAX);
    cr_assert_eq(vgd_channel_send(ch, 1, 0, NULL, 0, fds, 1), VGD_LIMIT);
    cr_assert_eq(vgd_channel_send(ch, 1, 0, NULL, 0, NULL, 0), VGD_OK, "one without fds goes on");
    cr_assert_eq(vgd_channel_flush(ch), VGD_OK, "still full");
    channel_end(ch, &raw); /* the test's end checks that the queued fds are closed */
}

static int send_with_many_on_their_way(void)
{
    struct rlimit limit = {.rlim_cur = 64, .rlim_max = 64};
    int mine[2], others[2], fds[30];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, mine) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, others) != 0 ||
        setrlimit(RLIMIT_NOFILE, &limit) != 0 || setresuid(65534, 65534, 65534) != 0) {
        return 1;
    }
    struct vgd_channel *ch = vgd_channel_create(&mine[0]);
    for (int i = 0; i < 30; i++) {
        fds[i] = others[0];
    }
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(fds))];
    } control = {0};
    struct iovec iov = {"x", 1};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(c), fds, sizeof(fds));
    unsigned n = 0;
    for (; n < 10 && sendmsg(others[0], &mh, MSG_DONTWAIT) == 1; n++) {
    }
    if (n == 10) {
        return 77; /* this user may */
    }
    if (vgd_channel_send_first(ch, 9, &others[1], 1) != VGD_AGAIN) {
        return 2;
    }
    char byte;
    while (n-- > 0) { /* read without room for them: they are closed */
        (void)!recv(others[1], &byte, 1, 0);
    }
    return vgd_channel_send_first(ch, 9, &others[1], 1) == VGD_OK ? 0 : 3;
}

/* The kernel counts a user's descriptors that are on their way, in all of its processes. That there
 * are too many passes, and is not the end of a channel. */
VHOST_TEST(vhost_channel, too_many_fds_on_their_way)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(send_with_many_on_their_way());
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        cr_skip("the kernel does not limit this user");
    }
    cr_assert_eq(WEXITSTATUS(status), 0, "step %d", WEXITSTATUS(status));
}

VHOST_TEST(vhost_channel, peer_gone)
{
    int raw;
    struct vgd_channel *ch = channel_begin(&raw);
    vgd_fd_closep(&raw);
    cr_assert_eq(vgd_channel_send(ch, 1, 0, NULL, 0, NULL, 0), VGD_CLOSED, "and no SIGPIPE");
    cr_assert_eq(vgd_channel_flush(ch), VGD_CLOSED);
    static struct vgd_vu_message msg;
    cr_assert_eq(vgd_channel_read(ch, &msg), VGD_CLOSED);
    cr_assert(!vgd_channel_wants_write(ch));
    channel_end(ch, &raw);
}
