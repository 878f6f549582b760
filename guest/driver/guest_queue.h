/* SPDX-License-Identifier: MIT */
/*
 * The driver's side of a split virtqueue (virtio-v1.3 2.7), with indirect descriptors and
 * EVENT_IDX. It watches the device: a used entry that names no chain in flight is counted, never
 * believed. Hostile tests write the rings themselves (vgd_guest_queue_raw).
 * Thread: one at a time.
 */
#ifndef VGD_GUEST_QUEUE_H
#define VGD_GUEST_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest_ram.h"
#include "status.h"

#define VGD_GUEST_SEGMENTS_MAX 16384u

/* Flags of a descriptor, and of the rings. */
#define VGD_GUEST_DESC_NEXT 1u
#define VGD_GUEST_DESC_WRITE 2u
#define VGD_GUEST_DESC_INDIRECT 4u

struct vgd_guest_desc {
    uint64_t gpa;
    uint32_t len_bytes;
    uint16_t flags;
    uint16_t next;
};
_Static_assert(sizeof(struct vgd_guest_desc) == 16, "virtio-v1.3 2.7.5");

struct vgd_guest_used_elem {
    uint32_t id;
    uint32_t len_bytes;
};

/* One buffer of a chain. */
struct vgd_guest_segment {
    uint64_t gpa;
    uint32_t len_bytes;
};

struct vgd_guest_queue_setup {
    uint32_t size; /* power of two, at most 32768 */
    bool indirect;
    bool event_idx;
};

struct vgd_guest_queue;

/** Rings are allocated in @ram (borrowed). NULL when there is no room. */
struct vgd_guest_queue *vgd_guest_queue_create(struct vgd_guest_ram *ram,
                                               const struct vgd_guest_queue_setup *setup);
void vgd_guest_queue_destroy(struct vgd_guest_queue *q);

/** Empty rings, indices 0, as a driver makes them after a device reset. Chains in flight are
 *  forgotten. */
void vgd_guest_queue_reset(struct vgd_guest_queue *q);
/** Features as negotiated; only while the queue is empty. */
void vgd_guest_queue_set_features(struct vgd_guest_queue *q, bool indirect, bool event_idx);

uint32_t vgd_guest_queue_size(const struct vgd_guest_queue *q);
/** Guest-physical addresses of the three rings. */
uint64_t vgd_guest_queue_desc_gpa(const struct vgd_guest_queue *q);
uint64_t vgd_guest_queue_avail_gpa(const struct vgd_guest_queue *q);
uint64_t vgd_guest_queue_used_gpa(const struct vgd_guest_queue *q);

/**
 * Make a chain available: @n_readable segments, then @n_writable. Published at once; the device is
 * told by vgd_guest_queue_kick. @token comes back with the used entry.
 * VGD_LIMIT: no free descriptors now. VGD_RANGE: it can never fit.
 */
VGD_MUST_CHECK enum vgd_status vgd_guest_queue_add(struct vgd_guest_queue *q,
                                                   const struct vgd_guest_segment *readable,
                                                   uint32_t n_readable,
                                                   const struct vgd_guest_segment *writable,
                                                   uint32_t n_writable, void *token);
/** Does the device want a kick for what was added since the last call? Remembers the answer. */
bool vgd_guest_queue_should_kick(struct vgd_guest_queue *q);
/** The next used entry: its token and length; false when there is none. */
bool vgd_guest_queue_next_used(struct vgd_guest_queue *q, void **out_token,
                               uint32_t *out_len_bytes);
/** Ask for an interrupt when @n_answers more used entries have come (EVENT_IDX; 0 is 1), or for
 *  every one. */
void vgd_guest_queue_want_calls(struct vgd_guest_queue *q, uint32_t n_answers);
/** Used entries that vgd_guest_queue_next_used has not looked at yet. */
uint32_t vgd_guest_queue_waiting_count(const struct vgd_guest_queue *q);

uint32_t vgd_guest_queue_inflight_count(const struct vgd_guest_queue *q);
/** Used entries that named no chain in flight (twice answered, or nonsense). */
uint32_t vgd_guest_queue_spurious_count(const struct vgd_guest_queue *q);

/* The rings themselves, for tests that break the rules. */
struct vgd_guest_queue_raw {
    struct vgd_guest_desc *desc;
    uint16_t *avail;      /* flags, idx, ring[size], used_event */
    uint16_t *used_words; /* flags, idx */
    struct vgd_guest_used_elem *used;
    uint16_t *avail_event; /* behind the used ring */
    uint32_t size;
};
struct vgd_guest_queue_raw vgd_guest_queue_raw(struct vgd_guest_queue *q);
/** Put @head in the available ring as it is, with no chain behind it known to us. The matching used
 *  entry is counted by vgd_guest_queue_raw_used_count, not as spurious. */
void vgd_guest_queue_raw_push(struct vgd_guest_queue *q, uint16_t head);
uint32_t vgd_guest_queue_raw_used_count(const struct vgd_guest_queue *q);
/** Reserve the first free descriptor for raw use (never given back before reset). */
uint16_t vgd_guest_queue_raw_take(struct vgd_guest_queue *q);

#endif
