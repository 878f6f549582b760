/* SPDX-License-Identifier: MIT */
/*
 * Hostile rings in a small guest memory. The input is a list of what guest and device do, in any
 * order; deaths of the device, with and without a record that lies, are among them, and a second
 * thread of the guest that rewrites a place of its rings while the device takes from them.
 *
 * Properties: a popped head is below the size and not in flight already; iovecs lie inside the
 * mappings and sum to what the chain says; what is pushed is what the guest finds, once.
 */
#include <assert.h>
#include <endian.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bytes.h"
#include "fd.h"
#include "guest_memory.h"
#include "virtqueue.h"

#define GPA 0x10000u
#define LOW_BYTES 0x2000u
#define HIGH_BYTES 0x1000u
#define USER 0x7f0000000000u
#define SIZE_MAX_LOG2 6u
#define OPS_MAX 300u

#define SCRIBBLES 0xf8u /* OP_NOTIFY with this or more: the second thread writes */
#define SCRIBBLED_MAX 8u

#define DESC_AT 0u /* 64 descriptors */
#define AVAIL_AT 0x400u
#define USED_AT 0x500u
#define TABLE_AT 0x800u

enum op {
    OP_WRITE,   /* any bytes anywhere in guest memory */
    OP_DESC,    /* a descriptor, rather well formed */
    OP_OFFER,   /* a head, made available */
    OP_AVAIL,   /* any available index */
    OP_POP,     /* the device takes one */
    OP_PUSH,    /* and returns one */
    OP_NOTIFY,  /* notifications asked about */
    OP_DIE,     /* a new device takes over */
    OP_LIE,     /* the same with a record somebody wrote to */
    OP_RESTART, /* stop and start */
    OP_REMAP,   /* the second region comes and goes */
    OP_COUNT,
};

static struct {
    int low_fd, high_fd;
    uint8_t *low, *high; /* the guest's view; touching in guest-physical addresses */
    struct vgd_inflight record;
    struct vgd_mem *mem;
    struct vgd_virtqueue *q;
    struct vgd_virtqueue_setup setup;
    uint16_t held[VGD_QUEUE_SIZE_MAX];
    uint32_t n_held;
    uint16_t used_idx; /* as it has to be while the device runs */
    bool high_mapped;
} f;

static const struct vgd_vu_mem_region low_region = {GPA, LOW_BYTES, USER, 0};
static const struct vgd_vu_mem_region high_region = {GPA + LOW_BYTES, HIGH_BYTES, USER + 0x100000,
                                                     0};

static void once(void)
{
    if (f.low != NULL) {
        return;
    }
    f.low_fd = vgd_memfd_create("low", LOW_BYTES);
    f.high_fd = vgd_memfd_create("high", HIGH_BYTES);
    assert(f.low_fd >= 0 && f.high_fd >= 0);
    f.low = mmap(NULL, LOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, f.low_fd, 0);
    f.high = mmap(NULL, HIGH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, f.high_fd, 0);
    assert(f.low != MAP_FAILED && f.high != MAP_FAILED);
    f.mem = vgd_mem_create();
    enum vgd_status st = vgd_mem_add(f.mem, &low_region, f.low_fd);
    assert(st == VGD_OK);
}

static void map_high(bool mapped)
{
    if (mapped != f.high_mapped) {
        enum vgd_status st = mapped ? vgd_mem_add(f.mem, &high_region, f.high_fd)
                                    : vgd_mem_remove(f.mem, &high_region);
        assert(st == VGD_OK);
        f.high_mapped = mapped;
    }
}

static struct vring_used *used(void)
{
    return (void *)(f.low + USED_AT);
}

static void put_low(uint32_t at, const void *data, size_t n_bytes)
{
    memcpy(f.low + at, data, n_bytes);
}

/* The device begins: whatever it believes to be taken is held. */
static void start(bool recover)
{
    f.setup.recover = recover;
    enum vgd_status st = vgd_virtqueue_start(f.q, &f.setup);
    assert(st == VGD_OK && vgd_virtqueue_running(f.q));
    f.n_held = 0;
    f.used_idx = le16toh(used()->idx);
}

static void check_iov(const struct iovec *iov, uint32_t n_iov, uint64_t want_bytes)
{
    const uint8_t *low = vgd_mem_user_to_host(f.mem, low_region.user_addr, LOW_BYTES);
    const uint8_t *high = vgd_mem_user_to_host(f.mem, high_region.user_addr, HIGH_BYTES);
    uint64_t total = 0;
    for (uint32_t i = 0; i < n_iov; i++) {
        const uint8_t *base = iov[i].iov_base;
        size_t len = iov[i].iov_len;
        bool in_low = base >= low && len <= LOW_BYTES && base - low <= (ptrdiff_t)(LOW_BYTES - len);
        bool in_high = high != NULL && base >= high && len <= HIGH_BYTES &&
                       base - high <= (ptrdiff_t)(HIGH_BYTES - len);
        assert(len > 0 && (in_low || in_high));
        total += len;
    }
    assert(total == want_bytes);
}

static void check_chain(enum vgd_status st, const struct vgd_chain *chain)
{
    if (st == VGD_OK) {
        check_iov(chain->readable, chain->n_readable, chain->readable_bytes);
        check_iov(chain->writable, chain->n_writable, chain->writable_bytes);
    } else {
        assert(st == VGD_RANGE);
        assert(chain->n_readable == 0 && chain->n_writable == 0);
        if (chain->head == VGD_HEAD_NONE) {
            f.used_idx++;
            assert(le16toh(used()->idx) == f.used_idx);
            return;
        }
    }
    assert(chain->head < f.setup.size);
    for (uint32_t i = 0; i < f.n_held; i++) {
        assert(f.held[i] != chain->head);
    }
    f.held[f.n_held++] = chain->head;
}

static void pop(void)
{
    struct vgd_chain chain;
    enum vgd_status st = vgd_virtqueue_pop(f.q, &chain);
    if (st == VGD_CLOSED) {
        assert(!vgd_virtqueue_running(f.q));
        start(false);
    } else if (st != VGD_AGAIN) {
        check_chain(st, &chain);
    }
    assert(vgd_virtqueue_inflight_count(f.q) == f.n_held);
}

static void push(uint32_t which, uint32_t n_bytes)
{
    if (f.n_held == 0) {
        return;
    }
    which %= f.n_held;
    uint16_t head = f.held[which];
    f.held[which] = f.held[--f.n_held];
    vgd_virtqueue_push(f.q, head, n_bytes);
    const struct vring_used_elem *elem = &used()->ring[f.used_idx % f.setup.size];
    assert(le32toh(elem->id) == head && le32toh(elem->len) == n_bytes);
    f.used_idx++;
    assert(le16toh(used()->idx) == f.used_idx);
    assert(vgd_virtqueue_inflight_count(f.q) == f.n_held);
}

/* Another device on the same memory: it finds exactly what this one had taken. */
static void die(bool honest)
{
    uint32_t n_before = f.n_held;
    uint16_t guest_idx = le16toh(used()->idx);
    bool matches = honest && guest_idx == f.used_idx;
    vgd_virtqueue_destroy(f.q);
    f.q = vgd_virtqueue_create(f.mem, &f.record);
    assert(f.q != NULL);
    start(true);
    struct vgd_chain chain;
    uint32_t n = vgd_virtqueue_inflight_count(f.q);
    assert(n <= f.setup.size);
    for (uint32_t i = 0; i < n; i++) {
        enum vgd_status st = vgd_virtqueue_pop_recovered(f.q, &chain);
        check_chain(st, &chain);
    }
    enum vgd_status st = vgd_virtqueue_pop_recovered(f.q, &chain);
    assert(st == VGD_AGAIN);
    assert(!matches || f.n_held == n_before);
}

static void write_guest(struct vgd_reader *r)
{
    uint32_t at = vgd_read_le16(r) % (LOW_BYTES + HIGH_BYTES);
    size_t n_bytes = vgd_read_u8(r) % 32u;
    uint8_t bytes[32];
    vgd_read_bytes(r, bytes, n_bytes);
    for (size_t i = 0; i < n_bytes && at + i < LOW_BYTES + HIGH_BYTES; i++) {
        uint32_t to = at + (uint32_t)i;
        *(to < LOW_BYTES ? f.low + to : f.high + (to - LOW_BYTES)) = bytes[i];
    }
}

static void write_desc(struct vgd_reader *r)
{
    uint32_t where = vgd_read_u8(r);
    uint32_t table_at = where < 128 ? DESC_AT : TABLE_AT;
    uint16_t at = vgd_read_le16(r);
    struct vring_desc desc = {
        .addr = htole64(GPA + (uint64_t)at),
        .flags = htole16(vgd_read_u8(r) % 8u),
        .next = htole16(vgd_read_u8(r) % 66u),
    };
    uint16_t len = vgd_read_le16(r);
    if ((le16toh(desc.flags) & VRING_DESC_F_INDIRECT) != 0) {
        desc.addr = htole64(GPA + TABLE_AT + at % 32u);
        len = (uint16_t)(len % 40u * 16u);
    }
    desc.len = htole32(len);
    put_low(table_at + where % 64u * (uint32_t)sizeof(desc), &desc, sizeof(desc));
}

static void offer(struct vgd_reader *r)
{
    struct vring_avail *avail = (void *)(f.low + AVAIL_AT);
    uint16_t idx = le16toh(avail->idx);
    avail->ring[idx % f.setup.size] = htole16(vgd_read_u8(r) % 70u);
    avail->idx = htole16((uint16_t)(idx + 1));
}

/* --- the second thread --- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool there, wanted, writing; /* under the lock */
    atomic_bool stop;
    uint16_t *at; /* n places, which become values[0], values[1], and so on */
    uint32_t n;
    uint16_t values[2][SCRIBBLED_MAX];
} second = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *scribble(void *user)
{
    (void)user;
    for (;;) {
        (void)pthread_mutex_lock(&second.lock);
        second.writing = false;
        (void)pthread_cond_broadcast(&second.changed);
        while (!second.wanted) {
            (void)pthread_cond_wait(&second.changed, &second.lock);
        }
        second.wanted = false;
        second.writing = true;
        (void)pthread_cond_broadcast(&second.changed);
        (void)pthread_mutex_unlock(&second.lock);
        for (uint32_t round = 0; !atomic_load(&second.stop); round++) {
            for (uint32_t i = 0; i < second.n; i++) {
                __atomic_store_n(&second.at[i], second.values[round % 2][i], __ATOMIC_RELAXED);
            }
        }
    }
    return NULL;
}

/* The device takes chains while a few places change to and fro. The used ring is left alone: what
 * is in it is compared. */
static void pop_while_scribbled(struct vgd_reader *r)
{
    static const uint32_t areas[] = {DESC_AT, DESC_AT, AVAIL_AT, TABLE_AT};
    uint32_t where = vgd_read_u8(r);
    uint32_t pops = 1 + vgd_read_u8(r) % 32u;
    second.n = 1 + where % SCRIBBLED_MAX;
    second.at = (uint16_t *)(void *)(f.low + areas[where / 64] + 2 * (where % 64u));
    for (uint32_t i = 0; i < second.n; i++) {
        second.values[0][i] = __atomic_load_n(&second.at[i], __ATOMIC_RELAXED);
        second.values[1][i] = htole16(vgd_read_le16(r));
    }
    atomic_store(&second.stop, false);
    (void)pthread_mutex_lock(&second.lock);
    if (!second.there) {
        pthread_t thread;
        int rc = pthread_create(&thread, NULL, scribble, NULL);
        assert(rc == 0);
        (void)pthread_detach(thread);
        second.there = true;
    }
    second.wanted = true;
    (void)pthread_cond_broadcast(&second.changed);
    while (!second.writing) {
        (void)pthread_cond_wait(&second.changed, &second.lock);
    }
    (void)pthread_mutex_unlock(&second.lock);
    for (; pops > 0 && f.n_held < VGD_QUEUE_SIZE_MAX; pops--) {
        pop();
        if (pops % 4 == 0) {
            push(pops, 0);
        }
    }
    atomic_store(&second.stop, true);
    (void)pthread_mutex_lock(&second.lock);
    while (second.writing) {
        (void)pthread_cond_wait(&second.changed, &second.lock);
    }
    (void)pthread_mutex_unlock(&second.lock);
}

static void step(enum op op, struct vgd_reader *r)
{
    switch (op) {
    case OP_WRITE:
        write_guest(r);
        break;
    case OP_DESC:
        write_desc(r);
        break;
    case OP_OFFER:
        offer(r);
        break;
    case OP_AVAIL: {
        uint16_t idx = htole16(vgd_read_le16(r));
        put_low(AVAIL_AT + 2, &idx, sizeof(idx));
        break;
    }
    case OP_POP:
        pop();
        break;
    case OP_PUSH:
        push(vgd_read_u8(r), vgd_read_le16(r));
        break;
    case OP_NOTIFY: {
        uint8_t how = vgd_read_u8(r);
        if (how >= SCRIBBLES) {
            pop_while_scribbled(r);
            break;
        }
        bool wanted = how % 2 == 0;
        (void)vgd_virtqueue_should_notify(f.q);
        bool twice = vgd_virtqueue_should_notify(f.q);
        assert(!twice);
        (void)vgd_virtqueue_want_kicks(f.q, wanted);
        break;
    }
    case OP_DIE:
        die(true);
        break;
    case OP_LIE: {
        size_t at = vgd_read_le16(r) % sizeof(f.record);
        size_t n_bytes = vgd_read_u8(r) % 16u;
        if (n_bytes > sizeof(f.record) - at) {
            n_bytes = sizeof(f.record) - at;
        }
        vgd_read_bytes(r, (uint8_t *)&f.record + at, n_bytes);
        die(false);
        break;
    }
    case OP_RESTART: {
        uint16_t next = vgd_virtqueue_stop(f.q);
        uint8_t how = vgd_read_u8(r);
        f.setup.base = how % 4 == 0 ? vgd_read_le16(r) : next;
        f.setup.event_idx = how % 2 == 0;
        start(false);
        break;
    }
    case OP_REMAP: {
        map_high(!f.high_mapped);
        enum vgd_status st = vgd_virtqueue_remap(f.q);
        assert(st == VGD_OK);
        break;
    }
    case OP_COUNT:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    once();
    struct vgd_reader r = vgd_reader_of(data, len_bytes);
    memset(f.low, 0, LOW_BYTES);
    memset(f.high, 0, HIGH_BYTES);
    memset(&f.record, 0, sizeof(f.record));
    map_high(true);
    uint8_t how = vgd_read_u8(&r);
    uint16_t base = vgd_read_le16(&r);
    f.setup = (struct vgd_virtqueue_setup){
        .size = 1u << how % (SIZE_MAX_LOG2 + 1),
        .desc_user_addr = USER + DESC_AT,
        .avail_user_addr = USER + AVAIL_AT,
        .used_user_addr = USER + USED_AT,
        .base = base,
        .event_idx = how >= 128,
    };
    uint16_t wire_base = htole16(base);
    put_low(AVAIL_AT + 2, &wire_base, sizeof(wire_base));
    put_low(USED_AT + 2, &wire_base, sizeof(wire_base));
    f.q = vgd_virtqueue_create(f.mem, &f.record);
    assert(f.q != NULL);
    start(false);
    for (uint32_t i = 0; i < OPS_MAX && vgd_reader_left(&r) > 0; i++) {
        step((enum op)(vgd_read_u8(&r) % OP_COUNT), &r);
    }
    while (f.n_held > 0) {
        push(0, 0);
    }
    vgd_virtqueue_destroy(f.q);
    return 0;
}
