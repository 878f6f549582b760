/* SPDX-License-Identifier: MIT */
/* Rule: whenever a worker dies, the next one answers each chain that was in flight, once. Q.. are
 * the cases of the security catalogue. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "log.h"
#include "vhost_chains.h"

/* ---- the record of chains in flight ---- */

/* A new worker: own mappings, own queue, the dead one's record. */
static enum vgd_status take_over(struct guest *g)
{
    guest_detach(g);
    guest_attach(g);
    g->setup.recover = true;
    return vgd_virtqueue_start(g->q, &g->setup);
}

VHOST_TEST(vhost_record, recovered_oldest_first)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    static const uint16_t heads[] = {6, 2, 9, 4, 1};
    for (size_t i = 0; i < 5; i++) {
        guest_desc(&g, heads[i], BUFFER(heads[i]), 4u + heads[i], 0, 0);
        guest_offer(&g, heads[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    }
    vgd_virtqueue_push(g.q, 2, 0);
    guest_desc(&g, 9, HOLE_GPA, 4, 0, 0); /* spoilt meanwhile */

    cr_assert_eq(take_over(&g), VGD_OK);
    cr_assert_eq(vgd_virtqueue_inflight_count(g.q), 3);
    cr_assert_eq(vgd_virtqueue_pop_recovered(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.head, 6);
    cr_assert_eq(chain.readable_bytes, 10);
    cr_assert_eq(vgd_virtqueue_pop_recovered(g.q, &chain), VGD_RANGE);
    cr_assert_eq(chain.head, 9);
    cr_assert_eq(vgd_virtqueue_pop_recovered(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.head, 4);
    cr_assert_eq(vgd_virtqueue_pop_recovered(g.q, &chain), VGD_AGAIN);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK, "and what was never taken");
    cr_assert_eq(chain.head, 1);
    vgd_virtqueue_push(g.q, 1, 1);
    vgd_virtqueue_push(g.q, 4, 4);
    vgd_virtqueue_push(g.q, 9, 0);
    cr_assert(vgd_virtqueue_should_notify(g.q), "the dead worker may not have said so");

    /* The next death: order is kept, new chains come after old ones. */
    guest_desc(&g, 3, BUFFER(3), 4, 0, 0);
    guest_offer(&g, 3);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    cr_assert_eq(take_over(&g), VGD_OK);
    cr_assert_eq(vgd_virtqueue_pop_recovered(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.head, 6);
    cr_assert_eq(vgd_virtqueue_pop_recovered(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.head, 3);
    vgd_virtqueue_push(g.q, 3, 3);
    vgd_virtqueue_push(g.q, 6, 6);
    static const uint16_t returned[] = {2, 1, 4, 9, 3, 6};
    for (size_t i = 0; i < 6; i++) {
        uint32_t head, n_bytes;
        cr_assert(guest_collect(&g, &head, &n_bytes));
        cr_assert_eq(head, returned[i]);
    }
    expect_goes_on(&g);
    guest_end(&g);
}

VHOST_TEST(vhost_record, recovered_head_pushed_before_it_was_popped)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    good_chain(&g, 0, 1);
    guest_offer(&g, 0);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    cr_assert_eq(take_over(&g), VGD_OK);
    vgd_virtqueue_push(g.q, 0, 0);
    cr_assert_eq(vgd_virtqueue_pop_recovered(g.q, &chain), VGD_AGAIN);
    expect_used(&g, 0, 0);
    expect_goes_on(&g);
    guest_end(&g);
}

/* Stopped with chains unreturned, started at the base that stop gave: the lag is part of the
 * record, so a death after that still finds its place. */
VHOST_TEST(vhost_record, lag_survives)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    struct vgd_chain chain;
    for (uint16_t head = 0; head < 6; head++) {
        guest_desc(&g, head, BUFFER(head), 4, 0, 0);
        guest_offer(&g, head);
    }
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    }
    g.setup.base = vgd_virtqueue_stop(g.q);
    cr_assert_eq(g.setup.base, 3);
    cr_assert_eq(g.record->queue_size, 16, "chains are taken");
    start(&g);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.head, 3);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    vgd_virtqueue_push(g.q, 4, 0);
    g.setup.base = 9999;
    cr_assert_eq(take_over(&g), VGD_OK);
    cr_assert_eq(vgd_virtqueue_pop_recovered(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.head, 3);
    cr_assert_eq(vgd_virtqueue_pop(g.q, &chain), VGD_OK);
    cr_assert_eq(chain.head, 5);
    guest_end(&g);
}

VHOST_TEST(vhost_record, q14_records_that_lie)
{
    static const struct {
        const char *name;
        uint64_t counter;
        uint16_t queue_size, used_idx, last_head, lag;
        uint8_t taken;
        bool recovers; /* else the record is cleared and the base counts */
    } cases[] = {
        {"zeroes", 0, 0, 0, 0, 0, 0, false},
        {"another size", 0, 8, 100, 0, 0, 1, false},
        {"size 65535", 0, 65535, 100, 0, 0, 1, false},
        {"used two behind", 0, 16, 98, 0, 0, 1, false},
        {"used ahead", 0, 16, 101, 0, 0, 1, false},
        {"everything taken, one counter", UINT64_MAX, 16, 100, 0, 0, 0xff, true},
        {"half pushed, head = size", 0, 16, 99, 16, 0, 0, true},
        {"half pushed, head 65535", 0, 16, 99, 65535, 0, 0, true},
        {"half pushed, head never taken", 0, 16, 99, 5, 0, 0, true},
        {"lag", 0, 16, 100, 0, 0x8000, 0, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct guest g;
        guest_begin(&g, 16);
        put16(&guest_used(&g)->idx, 100);
        g.used_seen = 100;
        g.avail_idx = 100;
        put16(&guest_avail(&g)->idx, 100);
        g.setup.base = 100;
        memset(g.record, 0xa5, sizeof(*g.record)); /* entries beyond the size are never looked at */
        g.record->queue_size = cases[i].queue_size;
        g.record->used_idx = cases[i].used_idx;
        g.record->last_head = cases[i].last_head;
        g.record->lag = cases[i].lag;
        g.record->next_counter = cases[i].counter;
        for (size_t e = 0; e < 16; e++) {
            g.record->entries[e].taken = cases[i].taken;
            g.record->entries[e].counter = cases[i].counter;
        }
        cr_assert_eq(take_over(&g), VGD_OK, "%s", cases[i].name);
        struct vgd_chain chain;
        uint32_t n_recovered = 0;
        for (;;) {
            enum vgd_status st = vgd_virtqueue_pop_recovered(g.q, &chain);
            if (st == VGD_AGAIN) {
                break;
            }
            cr_assert(chain.head < 16);
            vgd_virtqueue_push(g.q, chain.head, 0);
            n_recovered++;
        }
        cr_assert_eq(n_recovered, cases[i].recovers && cases[i].taken ? 16 : 0, "%s",
                     cases[i].name);
        cr_assert_eq(vgd_virtqueue_inflight_count(g.q), 0);
        enum vgd_status st = vgd_virtqueue_pop(g.q, &chain);
        bool sound = !cases[i].recovers || (cases[i].taken == 0 && cases[i].lag == 0);
        cr_assert_eq(st, sound ? VGD_AGAIN : VGD_CLOSED, "%s", cases[i].name);
        if (sound) {
            expect_goes_on(&g);
        } else {
            g.setup.recover = false;
            g.avail_idx = 0;
            put16(&guest_avail(&g)->idx, 0);
            g.setup.base = 0;
            g.used_seen = get16(&guest_used(&g)->idx);
            start(&g);
            expect_goes_on(&g);
        }
        guest_end(&g);
    }
}

VHOST_TEST(vhost_record, q14_stopped_record_is_not_recovered)
{
    struct guest g;
    guest_begin(&g, 16);
    start(&g);
    expect_goes_on(&g);
    uint16_t base = vgd_virtqueue_stop(g.q);
    cr_assert_eq(g.record->queue_size, 0);
    g.setup.base = base;
    cr_assert_eq(take_over(&g), VGD_OK, "a worker that died before it started the queue");
    expect_goes_on(&g);
    guest_end(&g);
}

/* ---- killed anywhere ---- */

/* What the child does while it is killed: chains out of order, one head twice, and a head that is
 * none. */
static void script(struct guest *g)
{
    struct vgd_chain chain;
    (void)!vgd_virtqueue_pop(g->q, &chain); /* 0 */
    (void)!vgd_virtqueue_pop(g->q, &chain); /* 2 */
    vgd_virtqueue_push(g->q, 2, 20);
    (void)!vgd_virtqueue_pop(g->q, &chain); /* 2 again: pushed last, and now in flight */
    (void)!vgd_virtqueue_pop(g->q, &chain); /* none */
    (void)!vgd_virtqueue_pop(g->q, &chain); /* 4 */
    vgd_virtqueue_push(g->q, 0, 0);
    (void)!vgd_virtqueue_pop(g->q, &chain); /* 6 */
    vgd_virtqueue_push(g->q, 6, 60);
    vgd_virtqueue_push(g->q, 4, 40);
    vgd_virtqueue_push(g->q, 2, 21);
}

#define SCRIPT_BAD_HEAD 0x300u

static void script_begin(struct guest *g)
{
    static const uint16_t heads[] = {0, 2, 2, SCRIPT_BAD_HEAD, 4, 6, 8};
    guest_begin(g, 16);
    g->setup.base = g->avail_idx = 65533; /* wraps on the way */
    put16(&guest_used(g)->idx, 65533);
    put16(&guest_avail(g)->idx, 65533);
    g->used_seen = 65533;
    start(g);
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        if (heads[i] < 16) {
            good_chain(g, heads[i], (uint16_t)(heads[i] + 1));
        }
        guest_offer(g, heads[i]);
    }
}

/* Take over from whatever state memory is in, finish everything, and see each chain once. */
static void expect_each_once(struct guest *g)
{
    struct vgd_chain chain;
    cr_assert_eq(take_over(g), VGD_OK);
    while (vgd_virtqueue_pop_recovered(g->q, &chain) == VGD_OK) {
        vgd_virtqueue_push(g->q, chain.head, 1);
    }
    for (;;) {
        enum vgd_status st = vgd_virtqueue_pop(g->q, &chain);
        if (st == VGD_AGAIN) {
            break;
        }
        cr_assert_neq(st, VGD_CLOSED);
        vgd_virtqueue_push(g->q, chain.head, 2);
    }
    cr_assert_eq(vgd_virtqueue_inflight_count(g->q), 0);
    uint32_t head, n_bytes, seen[9] = {0}, n_bad = 0, n = 0;
    while (guest_collect(g, &head, &n_bytes)) {
        n++;
        if (head == SCRIPT_BAD_HEAD) {
            n_bad++;
        } else {
            cr_assert(head <= 8);
            seen[head]++;
        }
    }
    cr_assert_eq(n, 7);
    cr_assert_eq(n_bad, 1);
    for (uint32_t i = 0; i <= 8; i += 2) {
        cr_assert_eq(seen[i], i == 2 ? 2 : 1, "head %u: %u times", i, seen[i]);
    }
    cr_assert_eq(vgd_virtqueue_stop(g->q), (uint16_t)(65533 + 7));
}

#define STEPS_MAX 200000

/*
 * The child is stopped after every single instruction. What memory holds then is what a new worker
 * would find had the child been killed there, so each new state is copied and recovered from.
 */
VHOST_TEST(vhost_record, killed_after_any_instruction)
{
    struct guest g, copy;
    script_begin(&g);
    guest_begin(&copy, 16);
    pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
            _exit(77);
        }
        (void)raise(SIGSTOP);
        script(&g);
        _exit(0);
    }
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
        guest_end(&g);
        guest_end(&copy);
        cr_skip("ptrace is not allowed here");
    }
    uint8_t *seen = malloc(TABLE_AT);
    struct vgd_inflight *seen_record = malloc(sizeof(*seen_record));
    cr_assert(seen != NULL && seen_record != NULL);
    memset(seen, 0, TABLE_AT);
    unsigned n_steps = 0, n_states = 0;
    while (WIFSTOPPED(status)) {
        if (memcmp(seen, g.low, TABLE_AT) != 0 ||
            memcmp(seen_record, g.record, sizeof(*g.record)) != 0) {
            memcpy(seen, g.low, TABLE_AT);
            memcpy(seen_record, g.record, sizeof(*g.record));
            memcpy(copy.low, seen, TABLE_AT); /* recovering writes: not on the child's memory */
            memcpy(copy.record, seen_record, sizeof(*g.record));
            copy.setup = g.setup;
            copy.setup.base = 4711; /* not needed */
            copy.avail_idx = g.avail_idx;
            copy.used_seen = 65533;
            expect_each_once(&copy);
            n_states++;
        }
        cr_assert(n_steps++ < STEPS_MAX);
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0) {
            break;
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
    }
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* Six pops and five pushes: each is several stores, and each store is a state. */
    cr_assert(n_states > 30, "%u states in %u steps", n_states, n_steps);
    free(seen);
    free(seen_record);
    guest_end(&g);
    guest_end(&copy);
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A worker's life: answer what the dead one left, then work the ring with some held back. */
static void worker_life(struct guest *g)
{
    struct vgd_chain chain;
    uint16_t held[4];
    uint32_t n_held = 0;
    if (take_over(g) != VGD_OK) {
        _exit(1);
    }
    while (vgd_virtqueue_pop_recovered(g->q, &chain) == VGD_OK) {
        vgd_virtqueue_push(g->q, chain.head, 0);
    }
    for (;;) {
        enum vgd_status st = vgd_virtqueue_pop(g->q, &chain);
        if (st == VGD_OK) {
            held[n_held++] = chain.head;
        } else if (st != VGD_AGAIN) {
            _exit(2);
        }
        if (n_held == 4 || (st == VGD_AGAIN && n_held > 0)) {
            n_held--;
            uint16_t head = held[0]; /* neither first in, first out, nor the opposite */
            held[0] = held[n_held];
            vgd_virtqueue_push(g->q, head, 0);
        }
    }
}

/* The same with real kills at random times, generation after generation, under a busy guest. */
VHOST_TEST(vhost_record, killed_at_random)
{
    enum { ROUNDS = 150 };
    const uint64_t give_up_ns = vgd_now_ns() + 1500000000; /* fewer rounds on a busy machine */
    struct guest g;
    guest_begin(&g, 64);
    bool out[64] = {false};
    uint64_t n_rounds = 0, n_offered = 0, n_returned = 0, seed = 0x9e3779b97f4a7c15;
    for (uint16_t head = 0; head < 64; head++) {
        guest_desc(&g, head, BUFFER(0), 16, 0, 0);
    }
    start(&g);
    (void)vgd_virtqueue_stop(g.q);
    for (bool last = false; !last; n_rounds++) {
        last = n_rounds == ROUNDS || vgd_now_ns() > give_up_ns;
        pid_t child = fork();
        cr_assert(child >= 0);
        if (child == 0) {
            worker_life(&g);
        }
        uint64_t ends_ns = vgd_now_ns() + random_next(&seed) % 8000000;
        for (uint64_t turn = 0; last ? n_returned < n_offered : vgd_now_ns() < ends_ns; turn++) {
            uint16_t head = (uint16_t)(random_next(&seed) % 64);
            if (!out[head] && !last) {
                out[head] = true;
                n_offered++;
                guest_offer(&g, head);
            }
            uint32_t used_head, n_bytes;
            while (guest_collect(&g, &used_head, &n_bytes)) {
                cr_assert(used_head < 64);
                cr_assert(out[used_head], "head %u was returned twice", used_head);
                out[used_head] = false;
                n_returned++;
            }
            if (last) {
                cr_assert(turn < 100000, "%" PRIu64 " chains were lost", n_offered - n_returned);
                (void)usleep(100);
            }
        }
        (void)kill(child, SIGKILL);
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSIGNALED(status), "worker gave up with %d", WEXITSTATUS(status));
    }
    cr_assert_eq(n_returned, n_offered);
    cr_assert(n_returned > 64, "the workers worked");
    uint32_t head, n_bytes;
    cr_assert(!guest_collect(&g, &head, &n_bytes));
    guest_end(&g);
}
