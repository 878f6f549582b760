/* SPDX-License-Identifier: MIT */
/*
 * What the vhost tests share: a test that must give back every fd and byte, and a guest that owns
 * RAM and drives one split ring by hand. The guest side is written with atomics, so that it may
 * run beside the device.
 */
#ifndef VHOST_FIXTURE_H
#define VHOST_FIXTURE_H

#include <assert.h>
#include <endian.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fd.h"
#include "guest_memory.h"
#include "leaks.h"
#include "virtqueue.h"

/* Mappings of files made by memfd_create: the leak checker does not know them. */
static inline unsigned memfd_mappings_count(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    assert(maps != NULL);
    char line[512];
    unsigned n = 0;
    while (fgets(line, sizeof(line), maps) != NULL) {
        n += strstr(line, "/memfd:") != NULL;
    }
    (void)fclose(maps);
    return n;
}

/* Criterion ignores failures in a fixture's end, so the checks wrap the body. */
#define VHOST_TEST(suite, name)                                                                    \
    static void suite##_##name(void);                                                              \
    Test(suite, name)                                                                              \
    {                                                                                              \
        unsigned fds_before = open_fds_count();                                                    \
        unsigned maps_before = memfd_mappings_count();                                             \
        suite##_##name();                                                                          \
        cr_assert_eq(open_fds_count(), fds_before, "fds leaked");                                  \
        cr_assert_eq(memfd_mappings_count(), maps_before, "mappings leaked");                      \
        cr_assert(!leaked(), "memory leaked");                                                     \
    }                                                                                              \
    static void suite##_##name(void)

/*
 * The guest's RAM. Two regions touch in guest-physical addresses but are of different files, far
 * apart in user addresses; then comes a hole.
 *
 *   gpa LOW .. LOW+LOW_BYTES   rings and buffers
 *   gpa HIGH = LOW+LOW_BYTES .. +HIGH_BYTES
 */
#define LOW_GPA 0x100000u
#define LOW_BYTES 0x40000u
#define HIGH_GPA (LOW_GPA + LOW_BYTES)
#define HIGH_BYTES 0x10000u
#define HOLE_GPA (HIGH_GPA + HIGH_BYTES)
#define LOW_USER 0x7f0000000000u
#define HIGH_USER 0x7e0000000000u

/* Offsets in the low region. */
#define DESC_AT 0x0u
#define AVAIL_AT 0x4000u
#define USED_AT 0x5000u
#define TABLE_AT 0x8000u /* indirect tables: 128 KiB + 16 fit */
#define BUFFERS_AT 0x30000u

struct guest {
    int low_fd, high_fd; /* owned */
    uint8_t *low, *high; /* the guest's own mappings */
    struct vgd_mem *mem; /* the device's */
    struct vgd_inflight *record;
    struct vgd_virtqueue *q;
    struct vgd_virtqueue_setup setup;
    uint16_t avail_idx, used_seen;
};

static inline uint8_t *guest_map(int fd, size_t n_bytes)
{
    void *map = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert(map != MAP_FAILED);
    return map;
}

static inline void guest_attach(struct guest *g)
{
    struct vgd_vu_mem_region low = {LOW_GPA, LOW_BYTES, LOW_USER, 0};
    struct vgd_vu_mem_region high = {HIGH_GPA, HIGH_BYTES, HIGH_USER, 0};
    g->mem = vgd_mem_create();
    assert(g->mem != NULL);
    enum vgd_status st = vgd_mem_add(g->mem, &low, g->low_fd);
    assert(st == VGD_OK);
    st = vgd_mem_add(g->mem, &high, g->high_fd);
    assert(st == VGD_OK);
    (void)st;
    g->q = vgd_virtqueue_create(g->mem, g->record);
    assert(g->q != NULL);
}

static inline void guest_detach(struct guest *g)
{
    vgd_virtqueue_destroy(g->q);
    vgd_mem_destroy(g->mem);
}

/* RAM and a stopped queue. The record is shared, so that it outlives a child that dies. */
static inline void guest_begin(struct guest *g, uint32_t size)
{
    *g = (struct guest){0};
    g->low_fd = vgd_memfd_create("low", LOW_BYTES);
    g->high_fd = vgd_memfd_create("high", HIGH_BYTES);
    assert(g->low_fd >= 0 && g->high_fd >= 0);
    g->low = guest_map(g->low_fd, LOW_BYTES);
    g->high = guest_map(g->high_fd, HIGH_BYTES);
    g->record =
        mmap(NULL, sizeof(*g->record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(g->record != MAP_FAILED);
    g->setup = (struct vgd_virtqueue_setup){
        .size = size,
        .desc_user_addr = LOW_USER + DESC_AT,
        .avail_user_addr = LOW_USER + AVAIL_AT,
        .used_user_addr = LOW_USER + USED_AT,
        .event_idx = true,
    };
    guest_attach(g);
}

static inline void guest_end(struct guest *g)
{
    guest_detach(g);
    (void)munmap(g->low, LOW_BYTES);
    (void)munmap(g->high, HIGH_BYTES);
    (void)munmap(g->record, sizeof(*g->record));
    vgd_fd_closep(&g->low_fd);
    vgd_fd_closep(&g->high_fd);
}

static inline struct vring_avail *guest_avail(struct guest *g)
{
    return (void *)(g->low + AVAIL_AT);
}

static inline struct vring_used *guest_used(struct guest *g)
{
    return (void *)(g->low + USED_AT);
}

static inline void put16(__virtio16 *p, uint16_t value)
{
    __atomic_store_n(p, htole16(value), __ATOMIC_RELAXED);
}

static inline uint16_t get16(const __virtio16 *p)
{
    return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

/* Write descriptor @at of the table at @table_bytes into the low region. */
static inline void guest_desc_at(struct guest *g, uint32_t table_at, uint32_t at, uint64_t gpa,
                                 uint32_t len_bytes, uint16_t flags, uint16_t next)
{
    uint64_t *words = (void *)(g->low + table_at + at * sizeof(struct vring_desc));
    __atomic_store_n(&words[0], htole64(gpa), __ATOMIC_RELAXED);
    __atomic_store_n(&words[1], htole64(len_bytes | (uint64_t)flags << 32 | (uint64_t)next << 48),
                     __ATOMIC_RELAXED);
}

static inline void guest_desc(struct guest *g, uint32_t at, uint64_t gpa, uint32_t len_bytes,
                              uint16_t flags, uint16_t next)
{
    guest_desc_at(g, DESC_AT, at, gpa, len_bytes, flags, next);
}

/* Make @head available. */
static inline void guest_offer(struct guest *g, uint16_t head)
{
    struct vring_avail *avail = guest_avail(g);
    put16(&avail->ring[g->avail_idx % g->setup.size], head);
    g->avail_idx++;
    __atomic_store_n(&avail->idx, htole16(g->avail_idx), __ATOMIC_RELEASE);
}

/* The next used element, if there is one. */
static inline bool guest_collect(struct guest *g, uint32_t *out_head, uint32_t *out_bytes)
{
    struct vring_used *used = guest_used(g);
    if (get16(&used->idx) == g->used_seen) {
        return false;
    }
    const struct vring_used_elem *elem = &used->ring[g->used_seen % g->setup.size];
    *out_head = le32toh(__atomic_load_n(&elem->id, __ATOMIC_RELAXED));
    *out_bytes = le32toh(__atomic_load_n(&elem->len, __ATOMIC_RELAXED));
    g->used_seen++;
    return true;
}

static inline __virtio16 *guest_used_event(struct guest *g)
{
    return &guest_avail(g)->ring[g->setup.size];
}

static inline __virtio16 *guest_avail_event(struct guest *g)
{
    return (void *)&guest_used(g)->ring[g->setup.size];
}

#endif
