/* SPDX-License-Identifier: MIT */
/*
 * What a device counts, laid out for memory that another process reads while it is written.
 *
 * One writer, the device (count.c, and the presenter its pictures): 64-bit fields, stored whole,
 * never locked. A reader loads each field by itself, so two of them may be a moment apart. What is
 * longer than a field has a sequence number, odd while it changes. A reader takes any bytes: a
 * writer may have been taken over.
 *
 * Counters (no word beside them) only grow, over all workers of a VM and its resets. Gauges
 * ("now") are what is; a new worker begins them at 0.
 */
#ifndef VGD_GPU_COUNTERS_H
#define VGD_GPU_COUNTERS_H

#include <stdint.h>

#include "virtio_gpu.h"

/* Bucket i counts what took at most 1024 ns << i: 1 us to 8.6 s. The last: what took longer. */
#define VGD_HISTOGRAM_LE_COUNT 24u
#define VGD_HISTOGRAM_LE_FIRST_SHIFT 10u
struct vgd_histogram {
    uint64_t counts[VGD_HISTOGRAM_LE_COUNT + 1u];
    uint64_t sum_ns;
};

/* A place for each command and each answer, and a last one for all others. */
#define VGD_COMMAND_PLACES 49u
#define VGD_RESPONSE_PLACES 33u

enum vgd_memory_kind {
    VGD_MEMORY_2D, /* resources; by their declared size, as the limits count */
    VGD_MEMORY_3D,
    VGD_MEMORY_BLOBS_GUEST, /* blobs that are pages of the guest */
    VGD_MEMORY_BLOBS_HOST,
    VGD_MEMORY_BACKING,       /* pages of the guest behind all other resources */
    VGD_MEMORY_CONTEXT_STATE, /* what is kept of each context's streams */
    VGD_MEMORY_KINDS_COUNT,
};

struct vgd_gpu_counters {
    /* Of commands that were answered; one whose worker died is answered, and counted, by the
     * next. */
    uint64_t commands, errors;
    uint64_t by_command[VGD_COMMAND_PLACES];
    uint64_t by_response[VGD_RESPONSE_PLACES];
    uint64_t bad_chains; /* nothing in them could be a command; in errors, not in commands */
    uint64_t command_bytes, response_bytes;

    /* Of what was given to the renderer. */
    uint64_t submits, submit_bytes, transfers, flushes;
    uint64_t to_host_bytes, from_host_bytes; /* that transfers of a command of their own moved */
    uint64_t pictures, picture_bytes;        /* read back for the display; not as a dma-buf */
    struct vgd_histogram submit_time;        /* how long the renderer had a SUBMIT_3D */

    /* Commands in streams: all that were passed on, of these draws and those newer than the
     * decoder; and streams with something wrong. */
    uint64_t stream_commands, stream_draws, stream_unknown, stream_refused;

    /* Commands that waited for a fence: created - done of them wait now. */
    uint64_t fences, fences_done;
    struct vgd_histogram fence_latency; /* from its fence being asked for to its answer */

    uint64_t contexts_created, contexts_lost;

    uint64_t resources_live, contexts_live, resource_bytes_live, backing_entries_live; /* now */
    uint64_t contexts_lost_live;                                                       /* now */
    uint64_t maps_live; /* now: blobs in the host-visible region, and on their way in or out */
    uint64_t memory_bytes[VGD_MEMORY_KINDS_COUNT]; /* now */
};

/* As many as a guest may have at a time (VGD_CONTEXTS_MAX). Where a device has a higher limit, the
 * contexts beyond are not listed. */
#define VGD_CONTEXT_SLOTS_COUNT 1024u
#define VGD_CONTEXT_NAME_WORDS (VGD_DEBUG_NAME_BYTES / 8u)

/* A context. Counters begin with it, and go on when a new worker finds it again, lost. */
struct vgd_gpu_context_slot {
    uint64_t seq; /* odd: being given to another context */
    uint64_t id;  /* 0: free */
    uint64_t capset_id;
    uint64_t name[VGD_CONTEXT_NAME_WORDS];   /* bytes as the guest gave them, then zeroes */
    uint64_t lost;                           /* now */
    uint64_t submits, submit_bytes, busy_ns; /* busy: the renderer had a SUBMIT_3D of it */
    uint64_t commands, draws;                /* in its streams */
    uint64_t resources;                      /* now: attached to it */
    uint64_t objects, state_bytes;           /* now: kept of its streams */
};

#define VGD_ERRORS_COUNT 32u
#define VGD_ERROR_TEXT_BYTES 96u /* not ended when full */
#define VGD_ERROR_TEXT_WORDS (VGD_ERROR_TEXT_BYTES / 8u)

/* Answers of one kind to one kind of command in one context; the latest of them. */
struct vgd_gpu_error_slot {
    uint64_t seq; /* odd: being changed */
    uint64_t command, response;
    uint64_t ctx_id;
    uint64_t count;   /* 0: free */
    uint64_t last_ns; /* CLOCK_MONOTONIC */
    uint64_t text[VGD_ERROR_TEXT_WORDS];
};

/* Tables: nothing but what is shown. */
struct vgd_gpu_live {
    struct vgd_gpu_error_slot errors[VGD_ERRORS_COUNT];
    struct vgd_gpu_context_slot contexts[VGD_CONTEXT_SLOTS_COUNT];
};

/** The place of a type in by_command, and the type of a place: 0 for the last. Places without a
 *  name (vgd_cmd_name) count with the last. */
static inline uint32_t vgd_command_place(uint32_t type)
{
    uint32_t family = (type >> 8) - 1; /* 0x01xx, 0x02xx, 0x03xx */
    uint32_t at = type & 0xff;
    return family < 3 && at < 16 ? family * 16 + at : VGD_COMMAND_PLACES - 1;
}

static inline uint32_t vgd_command_at_place(uint32_t place)
{
    return place < VGD_COMMAND_PLACES - 1 ? (place / 16 + 1) << 8 | place % 16 : 0;
}

/** The same for by_response. */
static inline uint32_t vgd_response_place(uint32_t type)
{
    uint32_t family = (type >> 8) - 0x11; /* 0x11xx, 0x12xx */
    uint32_t at = type & 0xff;
    return family < 2 && at < 16 ? family * 16 + at : VGD_RESPONSE_PLACES - 1;
}

static inline uint32_t vgd_response_at_place(uint32_t place)
{
    return place < VGD_RESPONSE_PLACES - 1 ? (place / 16 + 0x11) << 8 | place % 16 : 0;
}

static inline void vgd_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline void vgd_gauge(uint64_t *gauge, uint64_t value)
{
    __atomic_store_n(gauge, value, __ATOMIC_RELAXED);
}

static inline uint64_t vgd_counter_load(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static inline void vgd_histogram_add(struct vgd_histogram *h, uint64_t ns)
{
    uint32_t bits = ns <= 1 ? 0 : 64u - (uint32_t)__builtin_clzll(ns - 1); /* ns <= 1 << bits */
    uint32_t i = bits <= VGD_HISTOGRAM_LE_FIRST_SHIFT ? 0 : bits - VGD_HISTOGRAM_LE_FIRST_SHIFT;
    vgd_count(&h->counts[i < VGD_HISTOGRAM_LE_COUNT ? i : VGD_HISTOGRAM_LE_COUNT], 1);
    vgd_count(&h->sum_ns, ns);
}

#endif
