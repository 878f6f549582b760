/* SPDX-License-Identifier: MIT */
/*
 * A very small Vulkan client: enough of Mesa's venus protocol to get device memory that the guest
 * maps, to have the GPU write to it, and to run a ring. Commands go through SUBMIT_3D, replies come
 * back in a blob of shared memory; only the ring bypasses the device, as Mesa's do.
 *
 * The wire (facts of virglrenderer's venus-protocol headers): little-endian, 4-byte aligned; each
 * command is its number, flags (1: reply wanted), arguments; a pointer is a 64-bit count of what
 * follows, 0 for NULL; handles and size_t are 64 bits.
 * Thread: one at a time.
 */
#ifndef VGD_GUEST_VENUS_H
#define VGD_GUEST_VENUS_H

#include <stdbool.h>
#include <stdint.h>

#include "guest_gpu.h"

#define VGD_VENUS_QUEUE_RING 1u /* ring_idx of the one queue */

/* A blob of the context that the guest has mapped, by Linux's steps: create, map, attach. */
struct vgd_venus_blob {
    uint32_t res_id; /* 0: none */
    uint64_t size_bytes, offset_bytes;
    uint32_t map_info;
    uint8_t *bytes; /* in the region; NULL: not mapped */
};

struct vgd_venus {
    struct vgd_guest_gpu *gpu;
    uint32_t ctx_id; /* 0: closed */
    struct vgd_venus_blob reply;
    uint64_t next_object, fence_id;
    uint64_t instance, physical, device, queue, pool;
    uint32_t memory_type; /* host-visible and coherent */
    char why[128];        /* what failed last */
};

/** Is the VENUS capset there, with blobs and a region to map them? */
bool vgd_venus_is_offered(struct vgd_guest_gpu *gpu);

/** A context and its reply blob as @reply_res_id. False: @v->why; @v is closed then. */
bool vgd_venus_open(struct vgd_venus *v, struct vgd_guest_gpu *gpu, uint32_t ctx_id,
                    uint32_t reply_res_id);
/** Blob and context go. False if the device refused a part of that. */
bool vgd_venus_close(struct vgd_venus *v);

/** Instance, the first physical device, a device with one queue on VGD_VENUS_QUEUE_RING. */
bool vgd_venus_device(struct vgd_venus *v);
/** One more device, with a queue on @ring_idx (1..63, not bound yet). */
bool vgd_venus_bind_ring(struct vgd_venus *v, uint32_t ring_idx);
/** vkAllocateMemory of a host-visible type: its object id, which is a blob_id too; 0: failed. */
uint64_t vgd_venus_allocate(struct vgd_venus *v, uint64_t size_bytes);
bool vgd_venus_free(struct vgd_venus *v, uint64_t memory);
/** The GPU writes @value to all of @memory (vkCmdFillBuffer); true once it has. */
bool vgd_venus_fill(struct vgd_venus *v, uint64_t memory, uint64_t size_bytes, uint32_t value);

/** Create, map and attach a blob: @blob_id 0 is shared memory. False: @v->why, and nothing is left.
 */
bool vgd_venus_blob_create(struct vgd_venus *v, uint32_t res_id, uint64_t blob_id,
                           uint64_t size_bytes, struct vgd_venus_blob *out);
/** Detach, unmap, unref; *blob is empty then. False if one of them is refused. */
bool vgd_venus_blob_destroy(struct vgd_venus *v, struct vgd_venus_blob *blob);

/* A ring in a blob of its own: the render server executes what is put there, with no command. */
struct vgd_venus_ring {
    struct vgd_venus_blob blob;
    uint64_t id;
    uint32_t tail;
};
bool vgd_venus_ring_create(struct vgd_venus *v, uint32_t res_id, struct vgd_venus_ring *out);
/** Put a vkEnumerateInstanceVersion in the ring and wait until its head says that it ran. */
bool vgd_venus_ring_turn(struct vgd_venus *v, struct vgd_venus_ring *ring, int timeout_ms);
bool vgd_venus_ring_destroy(struct vgd_venus *v, struct vgd_venus_ring *ring);

#endif
