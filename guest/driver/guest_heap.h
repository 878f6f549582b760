/* SPDX-License-Identifier: MIT */
/*
 * Spans of a range of bytes: who has which. First fit, so that what is in use stays together and
 * the far end is never touched. Only numbers: the memory is the caller's.
 * Thread: one at a time.
 */
#ifndef VGD_GUEST_HEAP_H
#define VGD_GUEST_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#define VGD_GUEST_HEAP_GRAIN_BYTES 256u /* sizes are rounded up to this */

struct vgd_guest_heap;

/** @size_bytes a multiple of the grain. NULL when out of memory. */
struct vgd_guest_heap *vgd_guest_heap_create(uint64_t size_bytes);
/** NULL is fine. */
void vgd_guest_heap_destroy(struct vgd_guest_heap *heap);
/** False: no span of this size is free. 0 bytes get a grain. */
bool vgd_guest_heap_alloc(struct vgd_guest_heap *heap, uint64_t n_bytes, uint64_t *out_offset);
/** As allocated. */
void vgd_guest_heap_free(struct vgd_guest_heap *heap, uint64_t offset, uint64_t n_bytes);
uint64_t vgd_guest_heap_used(const struct vgd_guest_heap *heap);

#endif
