/* SPDX-License-Identifier: MIT */
/*
 * The device side of a split virtqueue (virtio-v1.3 2.7), with indirect descriptors, EVENT_IDX, and
 * a record of chains in flight that survives this process.
 *
 *   stopped --start--> running --stop--> stopped
 *
 * Guest memory is hostile: each descriptor is read once, loops and long chains are cut at named
 * limits, a bad chain is reported with its head so that it can be returned; the ring goes on.
 * Thread: loop.
 */
#ifndef VGD_VIRTQUEUE_H
#define VGD_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "guest_memory.h"
#include "status.h"

#define VGD_QUEUE_SIZE_MAX 1024u
/* Descriptors of one chain, an indirect table's included: Linux sends a submit of 1 MiB as up to
 * 256 pages and does not keep to the queue's size when it uses a table. */
#define VGD_CHAIN_DESCRIPTORS_MAX 8192u
/* No chain. Not below any queue's size, so never the head of one. */
#define VGD_HEAD_NONE 0xffffu

/*
 * Chains taken and not yet returned: the split-ring algorithm of the vhost-user specification
 * ("Inflight I/O tracking"), in memory of our own (the vault). Fixed layout, no pointers; believed
 * only after checks. Zeroes are a valid empty record.
 */
struct vgd_inflight_entry {
    uint8_t taken;
    uint8_t pad[7];
    uint64_t counter; /* order in which chains were taken */
};
struct vgd_inflight {
    uint64_t next_counter;
    uint16_t queue_size; /* as of the last start; 0: never started, or stopped with nothing taken */
    uint16_t used_idx;   /* our own count of used->idx, as last stored */
    uint16_t last_head;  /* head of the push that may be half done, or VGD_HEAD_NONE */
    uint16_t lag;        /* base - used_idx at the start: chains that an earlier run never returned.
                            So next available = used_idx + number taken + lag, at any instant. */
    struct vgd_inflight_entry entries[VGD_QUEUE_SIZE_MAX]; /* by head index */
};

/* A chain as iovecs into guest memory. The arrays belong to the queue and are valid until the next
 * pop. */
struct vgd_chain {
    uint16_t head;
    uint32_t n_readable, n_writable;
    const struct iovec *readable, *writable;
    uint64_t readable_bytes, writable_bytes;
};

struct vgd_virtqueue;

/** @inflight is borrowed and outlives the queue. NULL when out of memory. */
struct vgd_virtqueue *vgd_virtqueue_create(struct vgd_mem *mem, struct vgd_inflight *inflight);
void vgd_virtqueue_destroy(struct vgd_virtqueue *q);

struct vgd_virtqueue_setup {
    uint32_t size; /* power of two, at most VGD_QUEUE_SIZE_MAX */
    uint64_t desc_user_addr, avail_user_addr,
        used_user_addr; /* front-end user addresses; 16, 2, 4 aligned */
    uint16_t base;      /* next available index to look at */
    bool event_idx;
    bool recover; /* take over @inflight of a dead worker: base is computed from the used ring and
                     the record, as the specification says. @base counts only where the record is
                     not of this ring: that worker died before it started the queue, or the record
                     lies. Then it is cleared. */
};

/**
 * Translate the rings and begin; kicks are wanted. Without recover the record is cleared. A running
 * queue starts anew. VGD_RANGE: a size or an address that cannot be; the queue is stopped.
 */
VGD_MUST_CHECK enum vgd_status vgd_virtqueue_start(struct vgd_virtqueue *q,
                                                   const struct vgd_virtqueue_setup *setup);
/** Stop using guest memory. Returns the next available index (of the last run when not running).
 *  Chains not pushed stay in the record; a record without any is marked as not started. */
uint16_t vgd_virtqueue_stop(struct vgd_virtqueue *q);
bool vgd_virtqueue_running(const struct vgd_virtqueue *q);
/** Memory was remapped while running: translate the rings again; VGD_RANGE stops the queue. VGD_OK
 *  when not running. */
VGD_MUST_CHECK enum vgd_status vgd_virtqueue_remap(struct vgd_virtqueue *q);

/**
 * Take the next chain and record it as in flight.
 * VGD_OK; VGD_AGAIN: nothing there (or not running); VGD_RANGE: a bad chain with no iovecs,
 * out->head must be pushed with 0 bytes (it is recorded too); VGD_CLOSED: the available ring itself
 * is broken (index jumped by more than the size): the queue has stopped itself until the next
 * start.
 *
 * Where the available ring names no chain at all (head >= size, or one already in flight), the slot
 * is returned here, and the answer is VGD_RANGE with VGD_HEAD_NONE, which push ignores.
 */
VGD_MUST_CHECK enum vgd_status vgd_virtqueue_pop(struct vgd_virtqueue *q, struct vgd_chain *out);

/**
 * After a recovering start: the chains that the dead worker had taken, oldest first, read again
 * from guest memory. Call until VGD_AGAIN. VGD_RANGE as in pop. They are in the record already.
 */
VGD_MUST_CHECK enum vgd_status vgd_virtqueue_pop_recovered(struct vgd_virtqueue *q,
                                                           struct vgd_chain *out);

/** The chain of @head, which was popped and not pushed, read again from guest memory. VGD_RANGE as
 * in pop. */
VGD_MUST_CHECK enum vgd_status vgd_virtqueue_read_again(struct vgd_virtqueue *q, uint16_t head,
                                                        struct vgd_chain *out);

/** Return @head with @written_bytes, once for each pop since the last start, in any order. No
 * effect when stopped. Pushing what was not popped is our own fault: assert. */
void vgd_virtqueue_push(struct vgd_virtqueue *q, uint16_t head, uint32_t written_bytes);

/** After pushes: must the guest be interrupted (EVENT_IDX and NO_INTERRUPT honoured)? Clears. Ask
 *  also after pops that ended in VGD_RANGE. The first push after a start always interrupts. */
bool vgd_virtqueue_should_notify(struct vgd_virtqueue *q);

/** Ask for kicks (true), or say that none are needed while we look anyway (false). Asking returns
 *  true if something arrived meanwhile: pop once more, no kick will come for it. */
bool vgd_virtqueue_want_kicks(struct vgd_virtqueue *q, bool wanted);

/** Chains popped and not pushed. */
uint32_t vgd_virtqueue_inflight_count(const struct vgd_virtqueue *q);

#endif
