/* SPDX-License-Identifier: MIT */
/* What the tests of the virtqueue share: chains, and what has to come back. */
#ifndef VHOST_CHAINS_H
#define VHOST_CHAINS_H

#include <criterion/criterion.h>

#include "vhost_fixture.h"

#define N VRING_DESC_F_NEXT
#define W VRING_DESC_F_WRITE
#define I VRING_DESC_F_INDIRECT
#define DESC_BYTES ((uint32_t)sizeof(struct vring_desc))
#define BUFFER(i) (LOW_GPA + BUFFERS_AT + 0x100u * (i))

static inline void start(struct guest *g)
{
    cr_assert_eq(vgd_virtqueue_start(g->q, &g->setup), VGD_OK);
    cr_assert(vgd_virtqueue_running(g->q));
}

/* Head @head: 16 bytes to read, 8 to write. */
static inline void good_chain(struct guest *g, uint16_t head, uint16_t tail)
{
    guest_desc(g, head, BUFFER(head), 16, N, tail);
    guest_desc(g, tail, BUFFER(tail), 8, W, 0);
}

static inline void expect_used(struct guest *g, uint32_t want_head, uint32_t want_bytes)
{
    uint32_t head, n_bytes;
    cr_assert(guest_collect(g, &head, &n_bytes));
    cr_assert_eq(head, want_head);
    cr_assert_eq(n_bytes, want_bytes);
}

static inline void expect_none_used(struct guest *g)
{
    uint32_t head, n_bytes;
    cr_assert(!guest_collect(g, &head, &n_bytes));
}

/* After whatever came before, the ring still works. */
static inline void expect_goes_on(struct guest *g)
{
    struct vgd_chain chain;
    good_chain(g, 10, 11);
    guest_offer(g, 10);
    cr_assert_eq(vgd_virtqueue_pop(g->q, &chain), VGD_OK);
    cr_assert_eq(chain.head, 10);
    cr_assert_eq(chain.readable_bytes, 16);
    cr_assert_eq(chain.writable_bytes, 8);
    vgd_virtqueue_push(g->q, 10, 8);
    expect_used(g, 10, 8);
    expect_none_used(g);
    cr_assert_eq(vgd_virtqueue_pop(g->q, &chain), VGD_AGAIN);
    cr_assert_eq(vgd_virtqueue_inflight_count(g->q), 0);
}

/* Offer @head, and expect its chain to fail, be returned, and nothing else to happen. */
static inline void expect_bad(struct guest *g, uint16_t head, const char *name)
{
    struct vgd_chain chain = {.n_readable = 99};
    guest_offer(g, head);
    cr_assert_eq(vgd_virtqueue_pop(g->q, &chain), VGD_RANGE, "%s", name);
    cr_assert_eq(chain.head, head, "%s", name);
    cr_assert_eq(chain.n_readable + chain.n_writable, 0, "%s", name);
    cr_assert_eq(g->record->entries[head].taken, 1, "%s", name);
    vgd_virtqueue_push(g->q, head, 0);
    expect_used(g, head, 0);
    expect_goes_on(g);
}

#endif
