/* SPDX-License-Identifier: MIT */
/* The link between supervisor and worker, when the other end is not one of ours. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd.h"
#include "leaks.h"
#include "link.h"

#define FDS_MAX 16u

static struct vgd_loop *loop;
static struct vgd_link *ours;
static int theirs;
static unsigned fds_before, n_messages, n_closed, n_fds;
static enum vgd_status why_closed;

static void on_message(void *user, struct vgd_link_message *msg)
{
    (void)user;
    n_messages++;
    n_fds = msg->n_fds;
}

static void on_closed(void *user, enum vgd_status why)
{
    (void)user;
    n_closed++;
    why_closed = why;
}

static void set_up(void)
{
    int fds[2];
    fds_before = open_fds_count();
    n_messages = n_closed = n_fds = 0;
    loop = vgd_loop_create();
    cr_assert_not_null(loop);
    cr_assert_eq(vgd_link_pair(fds), VGD_OK);
    theirs = fds[1];
    ours = vgd_link_create(loop, &fds[0], on_message, on_closed, NULL);
    cr_assert_not_null(ours);
}

/* Nothing stays open, whatever was sent. */
static void tear_down(void)
{
    vgd_link_destroy(ours);
    vgd_fd_closep(&theirs);
    vgd_loop_destroy(loop);
    cr_assert_eq(open_fds_count(), fds_before, "descriptors stay open");
}

/* A packet of any bytes with @n descriptors. */
static void send_packet(const void *bytes, size_t n_bytes, uint32_t n)
{
    int fds[FDS_MAX];
    for (uint32_t i = 0; i < n; i++) {
        fds[i] = STDERR_FILENO;
    }
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(fds))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    }
    cr_assert_eq(sendmsg(theirs, &msg, MSG_DONTWAIT | MSG_NOSIGNAL), (ssize_t)n_bytes);
    vgd_loop_turn(loop, 0);
}

Test(link, descriptors_nobody_takes_are_closed)
{
    set_up();
    struct vgd_link_hdr hdr = {.type = 1};
    send_packet(&hdr, sizeof(hdr), VGD_LINK_FDS_MAX);
    cr_assert_eq(n_messages, 1);
    cr_assert_eq(n_fds, VGD_LINK_FDS_MAX);
    cr_assert_eq(n_closed, 0);
    tear_down();
}

Test(link, what_is_no_message_ends_it_and_leaves_nothing_open)
{
    static const struct {
        const char *name;
        uint32_t announced_bytes;
        size_t n_bytes; /* of the packet, header included */
        uint32_t n_fds;
        enum vgd_status why;
    } cases[] = {
        {"an empty packet", 0, 0, 0, VGD_CLOSED},
        {"an empty packet with descriptors", 0, 0, 3, VGD_CLOSED},
        {"half a header", 0, 4, 2, VGD_RANGE},
        {"more than it announced", 0, 12, 1, VGD_RANGE},
        {"less than it announced", 8, 8, 1, VGD_RANGE},
        {"a length of 2^32 - 1", UINT32_MAX, 16, 1, VGD_RANGE},
        {"more descriptors than a message has", 0, 8, VGD_LINK_FDS_MAX + 1, VGD_RANGE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[64] = {0};
        struct vgd_link_hdr hdr = {.type = 1, .payload_bytes = cases[i].announced_bytes};
        memcpy(bytes, &hdr, sizeof(hdr));
        set_up();
        send_packet(bytes, cases[i].n_bytes, cases[i].n_fds);
        cr_assert_eq(n_messages, 0, "%s", cases[i].name);
        cr_assert_eq(n_closed, 1, "%s", cases[i].name);
        cr_assert_eq(why_closed, cases[i].why, "%s: %d", cases[i].name, why_closed);
        tear_down();
    }
}

Test(link, a_side_that_does_not_read_is_found_out)
{
    set_up();
    static const uint8_t payload[VGD_LINK_BYTES_MAX];
    enum vgd_status st = VGD_OK;
    unsigned n = 0;
    while (st == VGD_OK && n < 100000) {
        st = vgd_link_send(ours, VGD_LINK_RESTORE, payload, sizeof(payload), (int[]){STDERR_FILENO},
                           1);
        n++;
    }
    cr_assert_eq(st, VGD_LIMIT);
    cr_assert_eq(vgd_link_send(ours, 1, payload, sizeof(payload) + 1, NULL, 0), VGD_RANGE);
    tear_down();
}
