/* SPDX-License-Identifier: MIT */
#include "virtqueue.h"

#include <assert.h>
#include <endian.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "iov.h"

/* Each descriptor gives one entry, or one more for each border between regions that it crosses. */
#define IOV_MAX_COUNT (VGD_CHAIN_DESCRIPTORS_MAX + VGD_MEM_REGIONS_MAX)

struct vgd_virtqueue {
    /* The rings, in guest memory. NULL while stopped. */
    const struct vring_desc *desc;
    const struct vring_avail *avail;
    struct vring_used *used;

    struct vgd_mem *mem;
    struct vgd_inflight *inflight;
    struct iovec *iov; /* owned; IOV_MAX_COUNT, of the chain popped last */

    uint16_t size; /* power of two; valid while running */
    uint16_t last_avail;
    uint16_t seen_avail; /* avail->idx as last read */
    uint16_t used_idx;   /* used->idx; the guest's copy is never read back */
    bool running;
    bool event_idx;
    uint32_t taken_count;
    uint32_t unsignalled_count; /* pushes since should_notify was asked */
    bool signalled_once;        /* the guest was told about all that came before those */

    uint16_t n_recovered, next_recovered;
    uint16_t recovered[VGD_QUEUE_SIZE_MAX]; /* heads, oldest first */

    struct vgd_virtqueue_setup setup;
    struct vring_desc *table; /* owned; private copy of an indirect table, made when first needed */
};

/*
 * Guest memory is read and written with atomics only: each value is read once, because the
 * compiler may not go back to it, and a racing guest is no data race.
 */
static uint16_t load16(const __virtio16 *p)
{
    return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static uint16_t load16_acquire(const __virtio16 *p)
{
    return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

static void store16(__virtio16 *p, uint16_t value)
{
    __atomic_store_n(p, htole16(value), __ATOMIC_RELAXED);
}

static void store16_release(__virtio16 *p, uint16_t value)
{
    __atomic_store_n(p, htole16(value), __ATOMIC_RELEASE);
}

/* EVENT_IDX and the notification flags are Dekker's algorithm: store mine, then load the other's.
 */
static void full_barrier(void)
{
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

/*
 * The record must be whole if this thread is killed between any two instructions. Release stores
 * are not reordered among themselves, and a killed thread's stores all arrive.
 */
#define RECORD(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)

struct vgd_virtqueue *vgd_virtqueue_create(struct vgd_mem *mem, struct vgd_inflight *inflight)
{
    struct vgd_virtqueue *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return NULL;
    }
    q->mem = mem;
    q->inflight = inflight;
    q->iov = malloc(IOV_MAX_COUNT * sizeof(q->iov[0]));
    if (q->iov == NULL) {
        free(q);
        return NULL;
    }
    return q;
}

void vgd_virtqueue_destroy(struct vgd_virtqueue *q)
{
    if (q != NULL) {
        free(q->table);
        free(q->iov);
        free(q);
    }
}

static void *ring_at(const struct vgd_mem *mem, uint64_t user_addr, size_t n_bytes, size_t align)
{
    void *host = vgd_mem_user_to_host(mem, user_addr, n_bytes);
    /* The host address counts: a region may lie at any offset of its file. */
    return (uintptr_t)host % align == 0 ? host : NULL;
}

static enum vgd_status map_rings(struct vgd_virtqueue *q)
{
    const struct vgd_virtqueue_setup *setup = &q->setup;
    size_t n = setup->size;
    size_t event_bytes = setup->event_idx ? sizeof(__virtio16) : 0;
    q->desc = ring_at(q->mem, setup->desc_user_addr, n * sizeof(struct vring_desc), 16);
    q->avail = ring_at(q->mem, setup->avail_user_addr,
                       sizeof(struct vring_avail) + n * sizeof(__virtio16) + event_bytes, 2);
    q->used =
        ring_at(q->mem, setup->used_user_addr,
                sizeof(struct vring_used) + n * sizeof(struct vring_used_elem) + event_bytes, 4);
    q->running = q->desc != NULL && q->avail != NULL && q->used != NULL;
    return q->running ? VGD_OK : VGD_RANGE;
}

/* A new record, empty. queue_size goes first and comes last: a kill in between leaves "never
 * started". */
static void record_clear(struct vgd_virtqueue *q, uint16_t base)
{
    struct vgd_inflight *record = q->inflight;
    RECORD(record->queue_size, 0);
    for (uint32_t i = 0; i < VGD_QUEUE_SIZE_MAX; i++) {
        RECORD(record->entries[i].taken, 0);
    }
    RECORD(record->next_counter, 0);
    RECORD(record->last_head, VGD_HEAD_NONE);
    RECORD(record->used_idx, q->used_idx);
    RECORD(record->lag, (uint16_t)(base - q->used_idx));
    RECORD(record->queue_size, q->size);
    q->last_avail = base;
}

struct taken {
    uint64_t counter;
    uint16_t head;
};

static int taken_compare(const void *a, const void *b)
{
    const struct taken *left = a, *right = b;
    if (left->counter != right->counter) {
        return left->counter < right->counter ? -1 : 1;
    }
    return (left->head > right->head) - (left->head < right->head);
}

/* False if the record cannot be of this ring: nothing was changed then. */
static bool record_recover(struct vgd_virtqueue *q)
{
    struct vgd_inflight *record = q->inflight;
    uint16_t pushed = (uint16_t)(q->used_idx - record->used_idx);
    if (record->queue_size != q->size || pushed > 1) {
        return false;
    }
    if (pushed == 1) {
        /* Killed after the guest was given last_head, before the record said so. */
        if (record->last_head < q->size) {
            RECORD(record->entries[record->last_head].taken, 0);
        }
        RECORD(record->used_idx, q->used_idx);
    }

    struct taken taken[VGD_QUEUE_SIZE_MAX];
    uint16_t n = 0;
    uint64_t next_counter = record->next_counter;
    for (uint16_t head = 0; head < q->size; head++) {
        const struct vgd_inflight_entry *entry = &record->entries[head];
        if (entry->taken != 0) {
            taken[n++] = (struct taken){.counter = entry->counter, .head = head};
            if (entry->counter >= next_counter) {
                next_counter = entry->counter + 1;
            }
        }
    }
    RECORD(record->next_counter, next_counter);
    qsort(taken, n, sizeof(taken[0]), taken_compare);
    for (uint16_t i = 0; i < n; i++) {
        q->recovered[i] = taken[i].head;
    }
    q->n_recovered = n;
    q->taken_count = n;
    q->last_avail = (uint16_t)(q->used_idx + n + record->lag);
    return true;
}

enum vgd_status vgd_virtqueue_start(struct vgd_virtqueue *q,
                                    const struct vgd_virtqueue_setup *setup)
{
    q->running = false;
    q->last_avail = setup->base; /* what stop answers if this fails */
    if (setup->size == 0 || setup->size > VGD_QUEUE_SIZE_MAX ||
        (setup->size & (setup->size - 1)) != 0) {
        return VGD_RANGE;
    }
    q->setup = *setup;
    enum vgd_status st = map_rings(q);
    if (st != VGD_OK) {
        return st;
    }
    q->size = (uint16_t)setup->size;
    q->event_idx = setup->event_idx;
    q->used_idx = load16(&q->used->idx);
    q->taken_count = 0;
    q->n_recovered = 0;
    q->next_recovered = 0;
    q->unsignalled_count = 0;
    q->signalled_once = false;
    if (!setup->recover || !record_recover(q)) {
        record_clear(q, setup->base);
    }
    q->seen_avail = q->last_avail;
    (void)vgd_virtqueue_want_kicks(q, true);
    return VGD_OK;
}

uint16_t vgd_virtqueue_stop(struct vgd_virtqueue *q)
{
    if (q->running && q->taken_count == 0) {
        /* Nothing to recover: whoever starts next, after whatever reset, begins afresh. */
        RECORD(q->inflight->queue_size, 0);
    }
    q->running = false;
    return q->last_avail;
}

bool vgd_virtqueue_running(const struct vgd_virtqueue *q)
{
    return q->running;
}

enum vgd_status vgd_virtqueue_remap(struct vgd_virtqueue *q)
{
    return q->running ? map_rings(q) : VGD_OK;
}

/* One descriptor, read once. Two loads instead of four: a descriptor is two aligned words. */
struct descriptor {
    uint64_t gpa;
    uint32_t len_bytes;
    uint16_t flags, next;
};

static struct descriptor load_desc(const struct vring_desc *desc)
{
    const uint64_t *words = (const void *)desc;
    uint64_t first = le64toh(__atomic_load_n(&words[0], __ATOMIC_RELAXED));
    uint64_t second = le64toh(__atomic_load_n(&words[1], __ATOMIC_RELAXED));
    return (struct descriptor){
        .gpa = first,
        .len_bytes = (uint32_t)second,
        .flags = (uint16_t)(second >> 32),
        .next = (uint16_t)(second >> 48),
    };
}

/* The indirect table at @d, in place if it can be read so, else copied. NULL if it is bad. */
static const struct vring_desc *indirect_table(struct vgd_virtqueue *q, const struct descriptor *d)
{
    if (d->len_bytes == 0 || d->len_bytes % sizeof(struct vring_desc) != 0 ||
        d->len_bytes / sizeof(struct vring_desc) > VGD_CHAIN_DESCRIPTORS_MAX) {
        return NULL;
    }
    struct iovec iov[VGD_MEM_REGIONS_MAX];
    uint32_t n_iov = 0;
    if (vgd_mem_translate(q->mem, d->gpa, d->len_bytes, iov, &n_iov, VGD_MEM_REGIONS_MAX) !=
        VGD_OK) {
        return NULL;
    }
    if (n_iov == 1 && (uintptr_t)iov[0].iov_base % sizeof(uint64_t) == 0) {
        return iov[0].iov_base;
    }
    if (q->table == NULL) {
        q->table = malloc(VGD_CHAIN_DESCRIPTORS_MAX * sizeof(q->table[0]));
        if (q->table == NULL) {
            return NULL;
        }
    }
    (void)vgd_iov_copy_out(iov, n_iov, 0, q->table, d->len_bytes);
    return q->table;
}

/* virtio-v1.3 2.7.5.3.2: direct descriptors, of which the last may refer to a table. */
static enum vgd_status read_chain(struct vgd_virtqueue *q, uint16_t head, struct vgd_chain *out)
{
    const struct vring_desc *table = q->desc;
    uint32_t table_count = q->size;
    uint32_t count = 0, max_count = table_count; /* more steps than entries is a loop */
    bool indirect = false;
    uint32_t n_iov = 0, n_readable = 0;
    uint64_t readable_bytes = 0, writable_bytes = 0;
    bool writable = false;
    uint32_t idx = head;

    for (;;) {
        if (idx >= table_count || count == max_count) {
            return VGD_RANGE;
        }
        struct descriptor d = load_desc(&table[idx]);
        if ((d.flags & VRING_DESC_F_INDIRECT) != 0) {
            if (indirect || (d.flags & VRING_DESC_F_NEXT) != 0) {
                return VGD_RANGE;
            }
            /* The write flag of this descriptor says nothing (2.7.5.3.2). */
            table = indirect_table(q, &d);
            if (table == NULL) {
                return VGD_RANGE;
            }
            table_count = (uint32_t)(d.len_bytes / sizeof(struct vring_desc));
            max_count = count + table_count;
            if (max_count > VGD_CHAIN_DESCRIPTORS_MAX) {
                max_count = VGD_CHAIN_DESCRIPTORS_MAX;
            }
            indirect = true;
            idx = 0;
            continue;
        }
        count++;
        if ((d.flags & VRING_DESC_F_WRITE) != 0) {
            if (!writable) {
                writable = true;
                n_readable = n_iov;
            }
            writable_bytes += d.len_bytes;
        } else if (!writable) {
            readable_bytes += d.len_bytes;
        } else {
            return VGD_RANGE; /* readable after writable (2.7.4.2) */
        }
        enum vgd_status st =
            vgd_mem_translate(q->mem, d.gpa, d.len_bytes, q->iov, &n_iov, IOV_MAX_COUNT);
        if (st != VGD_OK) {
            return st;
        }
        if ((d.flags & VRING_DESC_F_NEXT) == 0) {
            break;
        }
        idx = d.next;
    }
    if (!writable) {
        n_readable = n_iov;
    }
    *out = (struct vgd_chain){
        .head = head,
        .n_readable = n_readable,
        .n_writable = n_iov - n_readable,
        .readable = q->iov,
        .writable = q->iov + n_readable,
        .readable_bytes = readable_bytes,
        .writable_bytes = writable_bytes,
    };
    return VGD_OK;
}

static enum vgd_status bad_chain(uint16_t head, struct vgd_chain *out)
{
    *out = (struct vgd_chain){.head = head};
    return VGD_RANGE;
}

/* Give the guest one used element. */
static void put_used(struct vgd_virtqueue *q, uint16_t head, uint32_t written_bytes)
{
    struct vring_used_elem *elem = &q->used->ring[q->used_idx & (q->size - 1)];
    __atomic_store_n(&elem->id, htole32(head), __ATOMIC_RELAXED);
    __atomic_store_n(&elem->len, htole32(written_bytes), __ATOMIC_RELAXED);
    q->used_idx++;
    store16_release(&q->used->idx, q->used_idx);
    q->unsignalled_count++;
}

enum vgd_status vgd_virtqueue_pop(struct vgd_virtqueue *q, struct vgd_chain *out)
{
    if (!q->running) {
        return VGD_AGAIN;
    }
    if (q->seen_avail == q->last_avail) {
        q->seen_avail = load16_acquire(&q->avail->idx);
        uint16_t waiting = (uint16_t)(q->seen_avail - q->last_avail);
        if (waiting == 0) {
            return VGD_AGAIN;
        }
        if (waiting > q->size) {
            (void)vgd_virtqueue_stop(q);
            return VGD_CLOSED;
        }
    }
    uint16_t head = load16(&q->avail->ring[q->last_avail & (q->size - 1)]);
    struct vgd_inflight *record = q->inflight;
    if (head >= q->size || record->entries[head].taken != 0) {
        /* There is no chain to take: the index names none, or one that is in flight. Return the
         * slot at once, so that what is available and what is used keep adding up. */
        RECORD(record->last_head, VGD_HEAD_NONE);
        q->last_avail++;
        put_used(q, head, 0);
        RECORD(record->used_idx, q->used_idx);
        return bad_chain(VGD_HEAD_NONE, out);
    }

    RECORD(record->entries[head].counter, record->next_counter);
    RECORD(record->next_counter, record->next_counter + 1);
    RECORD(record->entries[head].taken, 1);
    q->taken_count++;
    q->last_avail++;
    return read_chain(q, head, out) == VGD_OK ? VGD_OK : bad_chain(head, out);
}

enum vgd_status vgd_virtqueue_pop_recovered(struct vgd_virtqueue *q, struct vgd_chain *out)
{
    while (q->running && q->next_recovered < q->n_recovered) {
        uint16_t head = q->recovered[q->next_recovered++];
        if (q->inflight->entries[head].taken != 0) {
            return read_chain(q, head, out) == VGD_OK ? VGD_OK : bad_chain(head, out);
        }
    }
    return VGD_AGAIN;
}

enum vgd_status vgd_virtqueue_read_again(struct vgd_virtqueue *q, uint16_t head,
                                         struct vgd_chain *out)
{
    assert(q->running && head < q->size && q->inflight->entries[head].taken != 0);
    return read_chain(q, head, out) == VGD_OK ? VGD_OK : bad_chain(head, out);
}

void vgd_virtqueue_push(struct vgd_virtqueue *q, uint16_t head, uint32_t written_bytes)
{
    if (!q->running || head == VGD_HEAD_NONE) {
        return;
    }
    struct vgd_inflight *record = q->inflight;
    assert(head < q->size && record->entries[head].taken != 0);
    /* The order is what record_recover reads back. */
    RECORD(record->last_head, head);
    put_used(q, head, written_bytes);
    RECORD(record->entries[head].taken, 0);
    RECORD(record->used_idx, q->used_idx);
    q->taken_count--;
}

bool vgd_virtqueue_should_notify(struct vgd_virtqueue *q)
{
    uint32_t n_new = q->unsignalled_count;
    if (!q->running || n_new == 0) {
        return false;
    }
    q->unsignalled_count = 0;
    full_barrier();
    if (!q->event_idx) {
        return (load16(&q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT) == 0;
    }
    uint16_t event = load16(&q->avail->ring[q->size]);
    /* The first time nobody knows what an earlier worker told; and after a whole turn of the
     * index the event was certainly passed. */
    bool sure = !q->signalled_once || n_new > UINT16_MAX;
    q->signalled_once = true;
    return sure || vring_need_event(event, q->used_idx, (uint16_t)(q->used_idx - n_new)) != 0;
}

bool vgd_virtqueue_want_kicks(struct vgd_virtqueue *q, bool wanted)
{
    if (!q->running) {
        return false;
    }
    if (q->event_idx) {
        if (!wanted) {
            return false; /* the event index stays behind: the guest is past it and keeps quiet */
        }
        __virtio16 *event = (void *)&q->used->ring[q->size];
        store16(event, q->last_avail);
    }
    store16(&q->used->flags, wanted ? 0 : VRING_USED_F_NO_NOTIFY);
    if (!wanted) {
        return false;
    }
    full_barrier();
    return load16(&q->avail->idx) != q->last_avail;
}

uint32_t vgd_virtqueue_inflight_count(const struct vgd_virtqueue *q)
{
    return q->taken_count;
}
