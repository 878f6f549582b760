/* SPDX-License-Identifier: MIT */
/* Rule: a chain that is bad fails alone; what the rings say twice is read once; nothing leaves the
 * guest's memory. Q.. are the cases of the security catalogue. */
#include <criterion/criterion.h>

#include "iov.h"
#include "vhost_chains.h"

VHOST_TEST(vhost_queue, direct_chain)
{
    struct guest g;
    guest_begin(&g, 16);
    struct vgd_chain chain;
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_AGAIN, "stopped");
    start(&g);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_AGAIN, "empty");
    memcpy(g.low + BUFFERS_AT, "abcdef", 6);
    guest_desc(&g, 3, BUFFER(0), 4, N, 7);
    guest_desc(&g, 7, BUFFER(0) + 4, 2, N, 1);
    guest_desc(&g, 1, BUFFER(4), 100, N | W, 2);
    guest_desc(&g, 2, BUFFER(5), 28, W, 9 /* not a next: ignored */);
    guest_offer(&g, 3);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.head, 3);
    cr_assert_eq(chain.n_readable, 2);
    cr_assert_eq(chain.n_writable, 2);
    cr_assert_eq(chain.readable_bytes, 6);
    cr_assert_eq(chain.writable_bytes, 128);
    char text[6];
    cr_assert_eq(vgd_iov_copy_out(chain.readable, chain.n_readable, 0, text, 6), 6);
    cr_assert_arr_eq(text, "abcdef", 6);
    cr_assert_eq(vgd_iov_copy_in(chain.writable, chain.n_writable, 98, "WXYZ", 4), 4);
    cr_assert_arr_eq(g.low + BUFFERS_AT + 0x400 + 98, "WX", 2);
    cr_assert_arr_eq(g.low + BUFFERS_AT + 0x500, "YZ", 2);
    cr_assert_eq(vgd_virtqueue_inflight_count(g.q), 1);
    vgd_virtqueue_push(g.q, 3, 102);
    expect_used(&g, 3, 102);
    expect_goes_on(&g);
    cr_assert_eq(vgd_virtqueue_stop(g.q), 2);
    cr_assert(!vgd_virtqueue_running(g.q));
    guest_end(&g);
}

VHOST_TEST(vhost_queue, indirect_chain)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    /* 2.7.5.3.2: direct descriptors may come first; the write flag of the last says nothing. */
    guest_desc_at(&g, TABLE_AT, 0, BUFFER(1), 10, N, 5);
    guest_desc_at(&g, TABLE_AT, 5, BUFFER(2), 20, N | W, 1);
    guest_desc_at(&g, TABLE_AT, 1, BUFFER(3), 30, W, 0);
    guest_desc(&g, 0, LOW_GPA + TABLE_AT, 6 * DESC_BYTES, I, 0);
    guest_desc(&g, 1, LOW_GPA + TABLE_AT, 6 * DESC_BYTES, I | W, 0);
    guest_desc(&g, 2, BUFFER(4), 7, N, 0);
    static const struct {
        uint16_t head;
        uint32_t readable_bytes;
    } cases[] = {{0, 10}, {1, 10}, {2, 17}};
    for (size_t i = 0; i < 3; i++) {
        guest_offer(&g, cases[i].head);
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
        cr_assert_eq(chain.readable_bytes, cases[i].readable_bytes);
        cr_assert_eq(chain.writable_bytes, 50);
        cr_assert_eq(chain.n_writable, 2);
        vgd_virtqueue_push(g.q, chain.head, 50);
        expect_used(&g, cases[i].head, 50);
    }
    guest_end(&g);
}

VHOST_TEST(vhost_queue, many_in_flight_return_in_any_order)
{
    struct guest g;
    guest_begin(&g, 1024);
    g.setup.base = g.avail_idx = 65000; /* wraps on the way */
    put16(&guest_used(&g)->idx, 65000);
    g.used_seen = 65000;
    start(&g);
    struct vgd_chain chain;
    for (uint16_t round = 0; round < 4; round++) {
        for (uint16_t head = 0; head < 1024; head++) {
            guest_desc(&g, head, BUFFER(0), 64, 0, 0);
            guest_offer(&g, head);
        }
        for (uint16_t head = 0; head < 1024; head++) {
            cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
            cr_assert_eq(chain.head, head);
        }
        cr_assert_eq(vgd_virtqueue_inflight_count(g.q), 1024);
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_AGAIN);
        for (uint32_t i = 0; i < 1024; i++) {
            vgd_virtqueue_push(g.q, (uint16_t)(i * 389 % 1024), i);
        }
        for (uint32_t i = 0; i < 1024; i++) {
            expect_used(&g, i * 389 % 1024, i);
        }
        expect_none_used(&g);
    }
    cr_assert_eq(vgd_virtqueue_stop(g.q), (uint16_t)(65000 + 4 * 1024));
    guest_end(&g);
}

/* A head that is none, or is in flight, cannot be recorded: its slot is returned at once. */
VHOST_TEST(vhost_queue, q01_head_out_of_range)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    static const uint16_t heads[] = {16, 17, 1023, 1024, 0x8000, 0xffff};
    struct vgd_chain chain;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        guest_offer(&g, heads[i]);
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_RANGE);
        cr_assert_eq(chain.head, VGD_HEAD_NONE);
        vgd_virtqueue_push(g.q, chain.head, 0); /* what a caller does with any bad chain */
        expect_used(&g, heads[i], 0);
        cr_assert_eq(vgd_virtqueue_inflight_count(g.q), 0);
        expect_goes_on(&g);
    }
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q01_head_in_flight_twice)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    good_chain(&g, 4, 5);
    guest_offer(&g, 4);
    guest_offer(&g, 4);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_RANGE);
    cr_assert_eq(chain.head, VGD_HEAD_NONE);
    vgd_virtqueue_push(g.q, chain.head, 0);
    cr_assert_eq(vgd_virtqueue_inflight_count(g.q), 1);
    vgd_virtqueue_push(g.q, 4, 8);
    expect_used(&g, 4, 0);
    expect_used(&g, 4, 8);
    expect_goes_on(&g);
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q01_next_out_of_range)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    static const uint16_t nexts[] = {16, 1023, 0xffff};
    for (size_t i = 0; i < 3; i++) {
        guest_desc(&g, 0, BUFFER(0), 16, N, nexts[i]);
        expect_bad(&g, 0, "next");
    }
    guest_desc_at(&g, TABLE_AT, 0, BUFFER(0), 16, N, 2);
    guest_desc(&g, 0, LOW_GPA + TABLE_AT, 2 * DESC_BYTES, I, 0);
    expect_bad(&g, 0, "next beyond the table, inside the queue");
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q02_loops)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    guest_desc(&g, 0, BUFFER(0), 16, N, 0);
    expect_bad(&g, 0, "to itself");
    guest_desc(&g, 0, BUFFER(0), 16, N, 1);
    guest_desc(&g, 1, BUFFER(0), 16, N, 2);
    guest_desc(&g, 2, BUFFER(0), 16, N, 1);
    expect_bad(&g, 0, "to the second");
    guest_desc(&g, 0, BUFFER(0), 0, N, 0);
    expect_bad(&g, 0, "of empty descriptors");
    guest_desc_at(&g, TABLE_AT, 0, BUFFER(0), 16, N, 1);
    guest_desc_at(&g, TABLE_AT, 1, BUFFER(0), 16, N, 0);
    guest_desc(&g, 0, LOW_GPA + TABLE_AT, 2 * DESC_BYTES, I, 0);
    expect_bad(&g, 0, "in a table");
    for (uint16_t i = 0; i < 16; i++) {
        guest_desc(&g, i, BUFFER(0), 16, N, (uint16_t)((i + 1) % 16));
    }
    expect_bad(&g, 3, "of all descriptors");
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q02_longest_chains)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    for (uint16_t i = 0; i < 16; i++) {
        guest_desc(&g, i, BUFFER(0), 16, i < 15 ? N : 0, (uint16_t)(i + 1));
    }
    guest_offer(&g, 0);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK, "as long as the queue");
    cr_assert_eq(chain.n_readable, 16);
    vgd_virtqueue_push(g.q, 0, 0);
    expect_used(&g, 0, 0);

    /* A table may be longer than the queue: Linux makes such. */
    for (uint32_t i = 0; i < VGD_CHAIN_DESCRIPTORS_MAX; i++) {
        guest_desc_at(&g, TABLE_AT, i, BUFFER(0), 16, i + 1 < VGD_CHAIN_DESCRIPTORS_MAX ? N : 0,
                      (uint16_t)(i + 1));
    }
    guest_desc(&g, 0, LOW_GPA + TABLE_AT, VGD_CHAIN_DESCRIPTORS_MAX * DESC_BYTES, I, 0);
    guest_offer(&g, 0);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.n_readable, VGD_CHAIN_DESCRIPTORS_MAX);
    cr_assert_eq(chain.readable_bytes, 16ull * VGD_CHAIN_DESCRIPTORS_MAX);
    vgd_virtqueue_push(g.q, 0, 0);
    expect_used(&g, 0, 0);

    guest_desc(&g, 1, BUFFER(1), 1, N, 0);
    expect_bad(&g, 1, "one descriptor more than the limit");
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q03_indirect_table_sizes)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    static const uint32_t sizes[] = {
        0, 1, 15, 17, 31, (VGD_CHAIN_DESCRIPTORS_MAX + 1) * 16, 0xfffffff0, 0xffffffff,
    };
    guest_desc_at(&g, TABLE_AT, 0, BUFFER(0), 16, 0, 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        guest_desc(&g, 0, LOW_GPA + TABLE_AT, sizes[i], I, 0);
        expect_bad(&g, 0, "size");
    }
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q04_indirect_flags)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    guest_desc_at(&g, TABLE_AT, 0, BUFFER(0), 16, 0, 0);
    guest_desc(&g, 1, BUFFER(1), 16, 0, 0);
    guest_desc(&g, 0, LOW_GPA + TABLE_AT, DESC_BYTES, I | N, 1);
    expect_bad(&g, 0, "INDIRECT with NEXT");
    guest_desc(&g, 0, LOW_GPA + TABLE_AT, DESC_BYTES, I, 1);
    guest_desc_at(&g, TABLE_AT, 0, LOW_GPA + TABLE_AT, DESC_BYTES, I, 0);
    expect_bad(&g, 0, "a table of itself");
    guest_desc_at(&g, TABLE_AT, 0, LOW_GPA + TABLE_AT + DESC_BYTES, DESC_BYTES, I, 0);
    guest_desc_at(&g, TABLE_AT, 1, BUFFER(0), 16, 0, 0);
    expect_bad(&g, 0, "a table in a table");
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q05_indirect_table_addresses)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    static const uint64_t bad[] = {
        0,
        LOW_GPA - 1,
        LOW_GPA - DESC_BYTES,
        HOLE_GPA,
        HOLE_GPA - DESC_BYTES,
        UINT64_MAX,
        UINT64_MAX - 31,
        UINT64_MAX - 2ull * DESC_BYTES + 1,
        LOW_USER + TABLE_AT,
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        guest_desc(&g, 0, bad[i], 2 * DESC_BYTES, I, 0);
        expect_bad(&g, 0, "table outside memory");
    }
    /* Over the border of two regions, even in the middle of a descriptor: allowed. */
    for (uint32_t before = 1; before < 2 * DESC_BYTES; before++) {
        uint8_t table[2 * DESC_BYTES];
        struct vring_desc descs[2] = {
            {htole64(BUFFER(1)), htole32(11), htole16(N), htole16(1)},
            {htole64(BUFFER(2)), htole32(22), htole16(W), 0},
        };
        memcpy(table, descs, sizeof(table));
        memcpy(g.low + LOW_BYTES - before, table, before);
        memcpy(g.high, table + before, sizeof(table) - before);
        guest_desc(&g, 0, HIGH_GPA - before, 2 * DESC_BYTES, I, 0);
        guest_offer(&g, 0);
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK, "%u", before);
        cr_assert_eq(chain.readable_bytes, 11);
        cr_assert_eq(chain.writable_bytes, 22);
        vgd_virtqueue_push(g.q, 0, 0);
        expect_used(&g, 0, 0);
    }
    /* At an odd address: allowed, the specification asks for no alignment. */
    struct vring_desc desc = {htole64(BUFFER(1)), htole32(5), 0, 0};
    memcpy(g.low + TABLE_AT + 3, &desc, sizeof(desc));
    guest_desc(&g, 0, LOW_GPA + TABLE_AT + 3, DESC_BYTES, I, 0);
    guest_offer(&g, 0);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.readable_bytes, 5);
    vgd_virtqueue_push(g.q, 0, 0);
    expect_used(&g, 0, 0);
    expect_goes_on(&g);
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q06_q07_buffers)
{
    static const struct {
        const char *name;
        uint64_t gpa;
        uint32_t len;
        uint32_t n_iov; /* 0: bad */
    } cases[] = {
        {"address + length wraps", UINT64_MAX - 7, 16, 0},
        {"length 0xffffffff", LOW_GPA, 0xffffffff, 0},
        {"in the hole", HOLE_GPA, 1, 0},
        {"one byte into the hole", HOLE_GPA - 15, 16, 0},
        {"a user address", LOW_USER, 16, 0},
        {"over the border", HIGH_GPA - 8, 16, 2},
        {"all of memory", LOW_GPA, LOW_BYTES + HIGH_BYTES, 2},
        {"last byte", HOLE_GPA - 1, 1, 1},
    };
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (uint16_t write = 0; write <= W; write = (uint16_t)(write + W)) {
            guest_desc(&g, 0, cases[i].gpa, cases[i].len, write, 0);
            if (cases[i].n_iov == 0) {
                expect_bad(&g, 0, cases[i].name);
                continue;
            }
            guest_offer(&g, 0);
            cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK, "%s", cases[i].name);
            cr_assert_eq(write ? chain.n_writable : chain.n_readable, cases[i].n_iov);
            cr_assert_eq(write ? chain.n_readable : chain.n_writable, 0);
            cr_assert_eq(write ? chain.writable_bytes : chain.readable_bytes, cases[i].len);
            vgd_virtqueue_push(g.q, 0, 0);
            expect_used(&g, 0, 0);
        }
    }
    guest_end(&g);
}

/* Harmless, so allowed, wherever it points: it gives no bytes. */
VHOST_TEST(vhost_queue, q06_empty_descriptor)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    guest_desc(&g, 0, UINT64_MAX, 0, N, 1);
    guest_desc(&g, 1, BUFFER(0), 5, N, 2);
    guest_desc(&g, 2, HOLE_GPA, 0, W, 0);
    guest_offer(&g, 0);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.n_readable, 1);
    cr_assert_eq(chain.readable_bytes, 5);
    cr_assert_eq(chain.n_writable, 0);
    vgd_virtqueue_push(g.q, 0, 0);
    expect_used(&g, 0, 0);
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q08_readable_after_writable)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    guest_desc(&g, 0, BUFFER(0), 16, N | W, 1);
    guest_desc(&g, 1, BUFFER(1), 16, 0, 0);
    expect_bad(&g, 0, "direct");
    guest_desc_at(&g, TABLE_AT, 0, BUFFER(0), 16, 0, 0);
    guest_desc(&g, 1, LOW_GPA + TABLE_AT, DESC_BYTES, I, 0);
    expect_bad(&g, 0, "readable in a table behind a writable one");
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q09_avail_index_jumps)
{
    static const uint16_t jumps[] = {17, 1000, 0x7fff, 0x8000, 0xffff};
    for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
        struct guest g;
        guest_begin(&g, 16);
        start(&g);
        struct vgd_chain chain;
        expect_goes_on(&g); /* avail 1 */
        put16(&guest_avail(&g)->idx, (uint16_t)(1 + jumps[i]));
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_CLOSED);
        cr_assert(!vgd_virtqueue_running(g.q));
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_AGAIN);
        vgd_virtqueue_push(g.q, 0, 0); /* no effect */
        cr_assert(!vgd_virtqueue_should_notify(g.q));
        cr_assert(!vgd_virtqueue_want_kicks(g.q, true));
        expect_none_used(&g);
        cr_assert_eq(vgd_virtqueue_stop(g.q), 1);

        g.setup.base = 1; /* the next start works */
        put16(&guest_avail(&g)->idx, 1);
        start(&g);
        expect_goes_on(&g);
        guest_end(&g);
    }
}

VHOST_TEST(vhost_queue, q09_full_ring_is_no_jump)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    for (uint16_t i = 0; i < 16; i++) {
        guest_desc(&g, i, BUFFER(i), 4, 0, 0);
        guest_offer(&g, i);
    }
    for (uint16_t i = 0; i < 16; i++) {
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    }
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_AGAIN);
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q10_ring_addresses)
{
    struct guest g;
    guest_begin(&g, 16);
    uint64_t *fields[3] = {&g.setup.desc_user_addr, &g.setup.avail_user_addr,
                           &g.setup.used_user_addr};
    static const uint32_t ring_bytes[3] = {16 * 16, 4 + 2 * 16 + 2, 4 + 8 * 16 + 2};
    static const uint32_t aligns[3] = {16, 2, 4};
    for (size_t i = 0; i < 3; i++) {
        uint64_t good = *fields[i];
        /* The last place where it fits. */
        uint64_t last = (LOW_USER + LOW_BYTES - ring_bytes[i]) & ~(uint64_t)(aligns[i] - 1);
        const uint64_t bad[] = {
            0,
            LOW_GPA + DESC_AT, /* guest-physical: ring addresses are the front-end's */
            LOW_USER - aligns[i],
            LOW_USER + LOW_BYTES,
            last + aligns[i],
            good + 1,
            good + aligns[i] / 2,
            UINT64_MAX & ~(uint64_t)15,
            UINT64_MAX,
        };
        for (size_t b = 0; b < sizeof(bad) / sizeof(bad[0]); b++) {
            *fields[i] = bad[b];
            cr_assert_eq(vgd_virtqueue_start(g.q, &g.setup), VGD_RANGE, "%zu %zu", i, b);
            cr_assert(!vgd_virtqueue_running(g.q));
        }
        *fields[i] = last;
        start(&g);
        *fields[i] = good;
    }
    /* The event fields are only there with EVENT_IDX. */
    g.setup.event_idx = false;
    g.setup.avail_user_addr = LOW_USER + LOW_BYTES - ring_bytes[1] + 2;
    start(&g);
    g.setup.event_idx = true;
    cr_assert_eq(vgd_virtqueue_start(g.q, &g.setup), VGD_RANGE);
    guest_end(&g);
}

/* A region may lie at any offset of its file, so a user address can be aligned and ours not. */
VHOST_TEST(vhost_queue, q10_host_alignment_counts)
{
    struct guest g;
    guest_begin(&g, 16);
    struct vgd_vu_mem_region odd = {0x900000, 0x1000, 0x900000, 0x8};
    cr_assert_eq(vgd_mem_add(g.mem, &odd, g.high_fd), VGD_OK);
    g.setup.desc_user_addr = 0x900000;
    cr_assert_eq(vgd_virtqueue_start(g.q, &g.setup), VGD_RANGE);
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q10_addresses_change_while_running)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    expect_goes_on(&g);
    struct vgd_chain chain;
    good_chain(&g, 0, 1);
    guest_offer(&g, 0);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);

    /* The same memory somewhere else: the chain in flight is returned there. */
    struct vgd_vu_mem_region low = {LOW_GPA, LOW_BYTES, LOW_USER, 0};
    cr_assert_eq(vgd_mem_remove(g.mem, &low), VGD_OK);
    void *old = guest_map(g.low_fd, LOW_BYTES); /* likely takes the old place */
    cr_assert_eq(vgd_mem_add(g.mem, &low, g.low_fd), VGD_OK);
    cr_assert_eq(vgd_virtqueue_remap(g.q), VGD_OK);
    vgd_virtqueue_push(g.q, 0, 3);
    expect_used(&g, 0, 3);
    expect_goes_on(&g);

    cr_assert_eq(vgd_mem_remove(g.mem, &low), VGD_OK);
    cr_assert_eq(vgd_virtqueue_remap(g.q), VGD_RANGE, "the rings are gone");
    cr_assert(!vgd_virtqueue_running(g.q));
    vgd_virtqueue_push(g.q, 0, 0);
    cr_assert_eq(vgd_virtqueue_remap(g.q), VGD_OK, "nothing to do");
    cr_assert_eq(vgd_virtqueue_stop(g.q), 3);
    (void)munmap(old, LOW_BYTES);
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q11_sizes)
{
    struct guest g;
    guest_begin(&g, 16);
    static const uint32_t bad[] = {0, 3, 15, 17, 1023, 2048, 65535, 65536, 0x80000000, UINT32_MAX};
    g.setup.base = 77;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        g.setup.size = bad[i];
        cr_assert_eq(vgd_virtqueue_start(g.q, &g.setup), VGD_RANGE);
        cr_assert(!vgd_virtqueue_running(g.q));
        cr_assert_eq(vgd_virtqueue_stop(g.q), 77);
    }
    for (uint32_t size = 1; size <= VGD_QUEUE_SIZE_MAX; size *= 2) {
        g.setup.size = size;
        start(&g);
    }
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q11_queue_of_one)
{
    struct guest g;
    guest_begin(&g, 1);
    start(&g);
    struct vgd_chain chain;
    guest_desc(&g, 0, BUFFER(0), 4, 0, 0);
    for (uint32_t i = 0; i < 70000; i++) {
        guest_offer(&g, 0);
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
        vgd_virtqueue_push(g.q, 0, i);
        expect_used(&g, 0, i);
    }
    guest_end(&g);
}

/* One chain at a time over the wrap of every index, both sides asleep in between: each kick and
 * each interrupt that is due is asked for, and only those. */
VHOST_TEST(vhost_queue, q12_event_idx_wraps)
{
    struct guest g;
    guest_begin(&g, 16);
    g.setup.base = g.avail_idx = g.used_seen = 65530;
    put16(&guest_used(&g)->idx, 65530);
    put16(guest_used_event(&g), 65530);
    start(&g);
    good_chain(&g, 10, 11);
    struct vgd_chain chain;
    for (uint32_t i = 0; i < 20; i++) {
        uint16_t before = g.avail_idx;
        cr_assert_eq(get16(guest_avail_event(&g)), before, "asks for the next kick");
        guest_offer(&g, 10);
        cr_assert(vring_need_event(get16(guest_avail_event(&g)), g.avail_idx, before), "kick");
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_AGAIN);
        cr_assert(!vgd_virtqueue_should_notify(g.q), "nothing pushed");
        put16(guest_used_event(&g), g.used_seen);
        vgd_virtqueue_push(g.q, 10, 8);
        cr_assert(vgd_virtqueue_should_notify(g.q), "%u", i);
        cr_assert(!vgd_virtqueue_should_notify(g.q), "once");
        expect_used(&g, 10, 8);
        cr_assert(!vgd_virtqueue_want_kicks(g.q, true));
    }
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q12_event_idx_batches)
{
    struct guest g;
    guest_begin(&g, 16);
    g.setup.base = g.avail_idx = g.used_seen = 65530;
    put16(&guest_used(&g)->idx, 65530);
    start(&g);
    struct vgd_chain chain;
    for (uint16_t head = 0; head < 16; head++) {
        guest_desc(&g, head, BUFFER(head), 4, 0, 0);
        guest_offer(&g, head);
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    }
    put16(guest_used_event(&g), (uint16_t)(65530 + 100));
    vgd_virtqueue_push(g.q, 0, 0);
    cr_assert(vgd_virtqueue_should_notify(g.q), "the first after a start always interrupts");
    vgd_virtqueue_push(g.q, 1, 0);
    cr_assert(!vgd_virtqueue_should_notify(g.q), "far from the event");
    put16(guest_used_event(&g), (uint16_t)(65530 + 9)); /* past the wrap */
    for (uint16_t head = 2; head < 16; head++) {
        vgd_virtqueue_push(g.q, head, 0);
        cr_assert_eq(vgd_virtqueue_should_notify(g.q), head == 9, "%u", head);
    }
    guest_end(&g);
}

/* More than a turn of the used index between two questions: the event was passed for certain. */
VHOST_TEST(vhost_queue, q12_event_idx_whole_turn)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    good_chain(&g, 10, 11);
    struct vgd_chain chain;
    vgd_virtqueue_should_notify(g.q);
    for (uint32_t i = 0; i < 65536 + 3; i++) {
        guest_offer(&g, 10);
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
        vgd_virtqueue_push(g.q, 10, 8);
        if (i == 1) {
            cr_assert(vgd_virtqueue_should_notify(g.q));
        }
    }
    put16(guest_used_event(&g), 1000);
    cr_assert(vgd_virtqueue_should_notify(g.q));
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q12_no_event_idx)
{
    struct guest g;
    guest_begin(&g, 16);
    g.setup.event_idx = false;
    start(&g);
    good_chain(&g, 10, 11);
    struct vgd_chain chain;
    cr_assert_eq(get16(&guest_used(&g)->flags), 0);
    cr_assert(!vgd_virtqueue_want_kicks(g.q, false));
    cr_assert_eq(get16(&guest_used(&g)->flags), VRING_USED_F_NO_NOTIFY);
    guest_offer(&g, 10);
    cr_assert(vgd_virtqueue_want_kicks(g.q, true), "it came while no kick was wanted");
    cr_assert_eq(get16(&guest_used(&g)->flags), 0);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    cr_assert(!vgd_virtqueue_want_kicks(g.q, true));

    vgd_virtqueue_push(g.q, 10, 8);
    put16(&guest_avail(&g)->flags, VRING_AVAIL_F_NO_INTERRUPT);
    cr_assert(!vgd_virtqueue_should_notify(g.q));
    put16(&guest_avail(&g)->flags, 0);
    cr_assert(!vgd_virtqueue_should_notify(g.q), "that one was waived");
    expect_used(&g, 10, 8);
    expect_goes_on(&g);
    cr_assert(vgd_virtqueue_should_notify(g.q));
    guest_end(&g);
}

VHOST_TEST(vhost_queue, q13_only_the_first_read_counts)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    guest_desc_at(&g, TABLE_AT, 0, BUFFER(1), 16, N, 1);
    guest_desc_at(&g, TABLE_AT, 1, BUFFER(2), 8, W, 0);
    guest_desc(&g, 0, LOW_GPA + TABLE_AT, 2 * DESC_BYTES, I, 0);
    guest_offer(&g, 0);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    memset(g.low + DESC_AT, 0xff, (size_t)16 * DESC_BYTES);
    memset(g.low + TABLE_AT, 0xff, (size_t)2 * DESC_BYTES);
    memset(g.low + AVAIL_AT, 0xff, 64);
    guest_used(&g)->idx = htole16(500); /* ours to write: what the guest puts there is ignored */
    cr_assert_eq(vgd_iov_size(chain.readable, chain.n_readable), 16);
    cr_assert_eq(vgd_iov_size(chain.writable, chain.n_writable), 8);
    vgd_virtqueue_push(g.q, chain.head, 8);
    expect_used(&g, 0, 8);
    expect_none_used(&g);
    guest_end(&g);
}
