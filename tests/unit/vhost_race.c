/* SPDX-License-Identifier: MIT */
/*
 * The device beside a guest that runs at the same time. A program of its own, not Criterion, so
 * that TSan can run it too; the guest's side is all atomics, and the device's has to be.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "log.h"
#include "vhost_fixture.h"

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("not ok - %s:%d " #cond " ", __func__, __LINE__);                               \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
            (void)fflush(stdout);                                                                  \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Long enough to meet most interleavings; longer only where the machine is too busy to run both. */
#define SCRIBBLE_NS 400000000ull
#define SCRIBBLE_CHAINS 20u
#define SCRIBBLE_MAX_NS (60 * SCRIBBLE_NS)
#define QUEUE_SIZE 16u

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- a guest that rewrites everything, all the time ---- */

struct scribbler {
    struct guest *g;
    atomic_bool stop;
};

static void *scribble(void *user)
{
    struct scribbler *s = user;
    struct guest *g = s->g;
    uint64_t seed = 0x123456789abcdef;
    uint16_t avail_idx = 0;
    while (!atomic_load(&s->stop)) {
        uint64_t r = random_next(&seed);
        static const uint64_t places[] = {LOW_GPA, HIGH_GPA - 64, HOLE_GPA - 64, LOW_GPA + TABLE_AT,
                                          HOLE_GPA};
        uint64_t gpa = places[r % 5] + (r >> 8) % 64;
        uint32_t len =
            (r >> 16) % 2 ? 16u * (uint32_t)((r >> 17) % 64) : (uint32_t)(r >> 17) % 4096;
        if ((r & 0x40) != 0) {
            gpa &= ~7ull; /* tables in place, without a copy that would be no atomic */
        }
        uint32_t table_at = (r >> 40) % 2 ? DESC_AT : TABLE_AT;
        uint16_t flags = (uint16_t)((r >> 41) % 8);
        if (table_at == DESC_AT && (flags & VRING_DESC_F_INDIRECT) != 0) {
            gpa = LOW_GPA + TABLE_AT + 16 * ((r >> 8) % 4);
        }
        guest_desc_at(g, table_at, (uint32_t)(r >> 44) % 64, gpa, len, flags,
                      (uint16_t)((r >> 50) % (QUEUE_SIZE + 2)));
        struct vring_avail *avail = guest_avail(g);
        put16(&avail->ring[(r >> 56) % QUEUE_SIZE], (uint16_t)((r >> 60) + (r >> 59) % 2));
        if ((r & 0x80) != 0) {
            uint16_t used = get16(&guest_used(g)->idx);
            avail_idx = (uint16_t)(used + (r >> 33) % (QUEUE_SIZE + 1));
        }
        __atomic_store_n(&avail->idx, htole16(avail_idx), __ATOMIC_RELEASE);
        put16(guest_used_event(g), (uint16_t)r);
    }
    return NULL;
}

static void check_iov(const struct iovec *iov, uint32_t n_iov, uint64_t want_bytes, uint8_t *low,
                      uint8_t *high)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < n_iov; i++) {
        const uint8_t *base = iov[i].iov_base;
        size_t len = iov[i].iov_len;
        bool in_low = base >= low && len <= LOW_BYTES && base + len <= low + LOW_BYTES;
        bool in_high = base >= high && len <= HIGH_BYTES && base + len <= high + HIGH_BYTES;
        CHECK(in_low || in_high, "an iovec leaves guest memory");
        CHECK(len > 0, "an iovec is empty");
        total += len;
    }
    CHECK(total == want_bytes, "sums differ");
}

static void scribbled_rings(void)
{
    struct guest g;
    guest_begin(&g, QUEUE_SIZE);
    uint8_t *low = vgd_mem_user_to_host(g.mem, LOW_USER, 1);
    uint8_t *high = vgd_mem_user_to_host(g.mem, HIGH_USER, 1);
    struct scribbler s = {.g = &g};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, scribble, &s) == 0, "%s", "");

    uint64_t n_good = 0, n_bad = 0, n_closed = 0, seed = 42;
    uint16_t held[QUEUE_SIZE];
    uint32_t n_held = 0;
    uint64_t begin_ns = vgd_now_ns(), spent_ns = 0;
    while (spent_ns < SCRIBBLE_NS ||
           ((n_good < SCRIBBLE_CHAINS || n_bad < SCRIBBLE_CHAINS) && spent_ns < SCRIBBLE_MAX_NS)) {
        spent_ns = vgd_now_ns() - begin_ns;
        if (!vgd_virtqueue_running(g.q)) {
            g.setup.base = get16(&guest_used(&g)->idx);
            enum vgd_status st = vgd_virtqueue_start(g.q, &g.setup);
            CHECK(st == VGD_OK, "%d", st);
            n_held = 0;
        }
        struct vgd_chain chain;
        enum vgd_status st = vgd_virtqueue_pop(g.q, &chain);
        if (st == VGD_OK || st == VGD_RANGE) {
            if (st == VGD_OK) {
                check_iov(chain.readable, chain.n_readable, chain.readable_bytes, low, high);
                check_iov(chain.writable, chain.n_writable, chain.writable_bytes, low, high);
                n_good++;
            } else {
                CHECK(chain.n_readable == 0 && chain.n_writable == 0, "%s", "");
                n_bad++;
            }
            if (chain.head != VGD_HEAD_NONE) {
                CHECK(chain.head < QUEUE_SIZE, "head %u", chain.head);
                held[n_held++] = chain.head;
            }
        } else if (st == VGD_CLOSED) {
            n_closed++;
        }
        CHECK(!vgd_virtqueue_running(g.q) || vgd_virtqueue_inflight_count(g.q) == n_held,
              "%u in flight, %u held", vgd_virtqueue_inflight_count(g.q), n_held);
        if (n_held > 0 && (st == VGD_AGAIN || n_held == QUEUE_SIZE || random_next(&seed) % 2)) {
            uint32_t at = (uint32_t)(random_next(&seed) % n_held);
            vgd_virtqueue_push(g.q, held[at], 1);
            held[at] = held[--n_held];
        }
        (void)vgd_virtqueue_should_notify(g.q);
        if (!vgd_virtqueue_want_kicks(g.q, true) && st == VGD_AGAIN) {
            (void)sched_yield();
        }
    }
    atomic_store(&s.stop, true);
    (void)pthread_join(thread, NULL);
    CHECK(n_good >= SCRIBBLE_CHAINS && n_bad >= SCRIBBLE_CHAINS, "%llu good, %llu bad",
          (unsigned long long)n_good, (unsigned long long)n_bad);
    printf("# %llu good, %llu bad, %llu times closed\n", (unsigned long long)n_good,
           (unsigned long long)n_bad, (unsigned long long)n_closed);
    guest_end(&g);
}

/* ---- a guest that sleeps until it is interrupted, and a device that sleeps until it is kicked
 * ---- */

#define N_CHAINS 150000u /* two turns of the indices and more */
#define STALL_MS 5000

struct sleeper {
    struct guest *g;
    int kick, call; /* eventfds */
};

static void wait_for(int fd, const char *what)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, STALL_MS);
    CHECK(n == 1, "no %s came: a notification was lost", what);
    vgd_eventfd_clear(fd);
}

static void *device_side(void *user)
{
    struct sleeper *s = user;
    struct guest *g = s->g;
    uint32_t n_done = 0;
    while (n_done < N_CHAINS) {
        (void)vgd_virtqueue_want_kicks(g->q, false);
        do {
            struct vgd_chain chain;
            while (vgd_virtqueue_pop(g->q, &chain) == VGD_OK) {
                CHECK(chain.readable_bytes == 16, "%s", "");
                vgd_virtqueue_push(g->q, chain.head, n_done++);
                if (n_done % 3 == 0 && vgd_virtqueue_should_notify(g->q)) {
                    vgd_eventfd_signal(s->call);
                }
            }
            if (vgd_virtqueue_should_notify(g->q)) {
                vgd_eventfd_signal(s->call);
            }
        } while (vgd_virtqueue_want_kicks(g->q, true));
        if (n_done < N_CHAINS) {
            wait_for(s->kick, "kick");
        }
    }
    return NULL;
}

/* As Linux does it: kick when the device asked for one, sleep after asking for an interrupt. */
static void guest_side(struct sleeper *s)
{
    struct guest *g = s->g;
    uint64_t seed = 7;
    uint32_t n_offered = 0, n_returned = 0;
    bool busy[QUEUE_SIZE] = {false};
    while (n_returned < N_CHAINS) {
        uint16_t before = g->avail_idx;
        uint32_t burst = (uint32_t)(random_next(&seed) % QUEUE_SIZE) + 1;
        for (uint16_t head = 0; head < QUEUE_SIZE && burst > 0 && n_offered < N_CHAINS; head++) {
            if (!busy[head]) {
                busy[head] = true;
                guest_offer(g, head);
                n_offered++;
                burst--;
            }
        }
        __sync_synchronize();
        bool kick = g->setup.event_idx
                        ? vring_need_event(get16(guest_avail_event(g)), g->avail_idx, before) != 0
                        : (get16(&guest_used(g)->flags) & VRING_USED_F_NO_NOTIFY) == 0;
        if (kick && g->avail_idx != before) {
            vgd_eventfd_signal(s->kick);
        }
        uint32_t head, n_bytes;
        while (guest_collect(g, &head, &n_bytes)) {
            CHECK(head < QUEUE_SIZE && busy[head], "head %u was not out", head);
            CHECK(n_bytes == n_returned, "%u", n_bytes);
            busy[head] = false;
            n_returned++;
        }
        bool full = n_offered - n_returned == QUEUE_SIZE || n_offered == N_CHAINS;
        if (full && n_returned < N_CHAINS) {
            put16(&guest_avail(g)->flags, 0);
            put16(guest_used_event(g), g->used_seen);
            __sync_synchronize();
            if (get16(&guest_used(g)->idx) == g->used_seen) {
                wait_for(s->call, "interrupt");
            }
            put16(&guest_avail(g)->flags, VRING_AVAIL_F_NO_INTERRUPT);
        }
    }
}

static void nobody_oversleeps(bool event_idx)
{
    struct guest g;
    guest_begin(&g, QUEUE_SIZE);
    g.setup.event_idx = event_idx;
    for (uint16_t head = 0; head < QUEUE_SIZE; head++) {
        guest_desc(&g, head, LOW_GPA + BUFFERS_AT, 16, 0, 0);
    }
    enum vgd_status st = vgd_virtqueue_start(g.q, &g.setup);
    CHECK(st == VGD_OK, "%d", st);
    struct sleeper s = {.g = &g, .kick = vgd_eventfd_create(), .call = vgd_eventfd_create()};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, device_side, &s) == 0, "%s", "");
    guest_side(&s);
    (void)pthread_join(thread, NULL);
    vgd_fd_closep(&s.kick);
    vgd_fd_closep(&s.call);
    guest_end(&g);
}

int main(void)
{
    printf("1..3\n");
    unsigned fds_before = open_fds_count();
    scribbled_rings();
    printf("ok - q13 rings rewritten at any time\n");
    nobody_oversleeps(true);
    printf("ok - q12 no notification is lost with EVENT_IDX\n");
    nobody_oversleeps(false);
    CHECK(open_fds_count() == fds_before, "%s", "fds leaked");
    printf("ok - q12 no notification is lost without EVENT_IDX\n");
    return 0;
}
