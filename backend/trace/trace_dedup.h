/* SPDX-License-Identifier: MIT */
/*
 * Which pieces a trace file has already, and where. Fixed memory: when it is full, the piece that
 * was not asked for the longest is forgotten, and is written again if it comes again.
 *
 * Two pieces count as equal if their length, a 128-bit hash and a 64-bit hash under another seed
 * are equal. A collision of the first alone is no hit, so the bytes are stored; a reference to a
 * piece carries the second, so a reader finds what this let through. Thread: the writer's own.
 */
#ifndef VGD_TRACE_DEDUP_H
#define VGD_TRACE_DEDUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace_file.h"

struct vgd_trace_dedup;

struct vgd_trace_dedup_key {
    uint64_t name_low, name_high, check;
    uint32_t size_bytes;
};

/** Memory that a table of @capacity_count pieces takes. */
size_t vgd_trace_dedup_bytes(uint32_t capacity_count);
/** @capacity_count is a power of two, at least 2. NULL: no memory. */
struct vgd_trace_dedup *vgd_trace_dedup_create(uint32_t capacity_count);
void vgd_trace_dedup_destroy(struct vgd_trace_dedup *table);

struct vgd_trace_dedup_key vgd_trace_dedup_key_of(const void *data, uint32_t size_bytes,
                                                  uint64_t name_seed, uint64_t check_seed);
/** True with *@out, the reference to a piece with the same key, which counts as used now. */
bool vgd_trace_dedup_find(struct vgd_trace_dedup *table, const struct vgd_trace_dedup_key *key,
                          struct vgd_trace_piece_ref *out);
/** Remember a piece that find did not find. */
void vgd_trace_dedup_add(struct vgd_trace_dedup *table, const struct vgd_trace_dedup_key *key,
                         uint64_t frame_offset_bytes, uint32_t at_bytes);

#endif
