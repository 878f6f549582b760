/* SPDX-License-Identifier: MIT */
/* The private channel when the kernel does not take a message: kept, sent later, in order, and the
 * loop sleeps meanwhile. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fd.h"
#include "leaks.h"
#include "link.h"
#include "log.h"

#define MESSAGES 20u

static int refusal; /* errno of what a message with a descriptor gets; 0: none */
static unsigned n_refused;

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    if (refusal != 0 && msg->msg_controllen != 0) {
        n_refused++;
        errno = refusal;
        return -1;
    }
    return syscall(SYS_sendmsg, fd, msg, flags);
}

static struct {
    struct vgd_loop *loop;
    struct vgd_link *from, *to;
    uint64_t next; /* value of the next message */
    unsigned n_fds, n_closed, turns;
} t;

static void on_message(void *user, struct vgd_link_message *msg)
{
    (void)user;
    const struct vgd_link_u64 *m = vgd_link_payload(msg, sizeof(*m));
    cr_assert(m != NULL && m->value == t.next, "out of order");
    t.next++;
    t.n_fds += msg->n_fds;
}

static void on_closed(void *user, enum vgd_status why)
{
    (void)user;
    (void)why;
    t.n_closed++;
}

static void open_links(void)
{
    int fds[2];
    t.loop = vgd_loop_create();
    cr_assert_eq(vgd_link_pair(fds), VGD_OK);
    t.from = vgd_link_create(t.loop, &fds[0], on_message, on_closed, NULL);
    t.to = vgd_link_create(t.loop, &fds[1], on_message, on_closed, NULL);
    cr_assert(t.from != NULL && t.to != NULL);
}

static void close_links(void)
{
    vgd_link_destroy(t.from);
    vgd_link_destroy(t.to);
    vgd_loop_destroy(t.loop);
}

/* The second of them carries a descriptor. */
static void send_all(void)
{
    VGD_AUTO_FD fd = vgd_eventfd_create();
    for (uint64_t i = 0; i < MESSAGES; i++) {
        struct vgd_link_u64 m = {.value = i};
        cr_assert_eq(vgd_link_send(t.from, VGD_LINK_QUEUE_CALL, &m, sizeof(m), &fd, i == 1),
                     VGD_OK);
    }
}

static void turn_for_ms(unsigned ms)
{
    for (uint64_t end_ns = vgd_now_ns() + ms * 1000000ull; vgd_now_ns() < end_ns;) {
        vgd_loop_turn(t.loop, 20);
        t.turns++;
    }
}

static void refused_for_a_while(int with)
{
    unsigned fds = open_fds_count();
    open_links();
    refusal = with;
    send_all();
    turn_for_ms(300);
    cr_assert_eq(t.next, 1);
    cr_assert_geq(n_refused, 4);
    cr_assert_leq(n_refused, 20, "asked %u times", n_refused);
    cr_assert_leq(t.turns, 60, "woken %u times", t.turns);
    refusal = 0;
    turn_for_ms(150);
    cr_assert_eq(t.next, MESSAGES);
    cr_assert(t.n_fds == 1 && t.n_closed == 0);
    close_links();
    cr_assert_eq(open_fds_count(), fds);
}

Test(link_refused, too_many_descriptors_on_their_way)
{
    refused_for_a_while(ETOOMANYREFS);
}

Test(link_refused, no_memory_for_messages)
{
    refused_for_a_while(ENOBUFS);
}

Test(link_refused, ended_while_it_waits)
{
    unsigned fds = open_fds_count();
    open_links();
    refusal = ETOOMANYREFS;
    send_all();
    vgd_link_destroy(t.to); /* the other side */
    t.to = NULL;
    turn_for_ms(100);
    cr_assert_eq(t.n_closed, 1);
    close_links();
    cr_assert_eq(open_fds_count(), fds);
}
