/* SPDX-License-Identifier: MIT */
/* One record of a trace file, decoded: the same form for the writer and the reader. */
#ifndef VGD_TRACE_RECORD_H
#define VGD_TRACE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "status.h"
#include "trace_file.h"

struct vgd_trace_record {
    uint32_t kind;    /* VGD_TRACE_KIND_*; which member of @as is valid */
    uint64_t time_ns; /* since the start of the file */
    union {
        struct vgd_trace_fact fact;
        struct vgd_trace_device device;
        struct vgd_trace_capset capset;
        struct vgd_trace_scanout scanout;
        struct vgd_trace_command command;
        struct vgd_trace_response response;
        struct vgd_trace_backing backing;
        struct vgd_trace_content content;
        struct vgd_trace_fence fence;
        struct vgd_trace_picture picture;
        struct vgd_trace_reset reset;
        struct vgd_trace_worker_death worker_death;
        struct vgd_trace_gap gap;
        struct vgd_trace_state_begin state_begin;
        struct vgd_trace_end end;
    } as;
};

/* Bytes of the largest fixed part of a record. */
#define VGD_TRACE_BODY_MAX VGD_TRACE_PICTURE_SIZE
/* Of a record as it lies in a frame: header, fixed part, head of the data, references to pieces. */
#define VGD_TRACE_PIECES_MAX (VGD_TRACE_DATA_MAX / VGD_TRACE_PIECE_MAX + 1u)
#define VGD_TRACE_RECORD_MAX                                                                       \
    (VGD_TRACE_RECORD_HEADER_SIZE + VGD_TRACE_BODY_MAX + VGD_TRACE_DATA_HEADER_SIZE +              \
     VGD_TRACE_INLINE_MAX + VGD_TRACE_PIECES_MAX * VGD_TRACE_PIECE_REF_SIZE)

/** Is @kind one that a record can have (not a piece), and that this version knows? */
bool vgd_trace_kind_known(uint32_t kind);
/** Do records of @kind carry data? False for kinds that are not known. */
bool vgd_trace_kind_has_data(uint32_t kind);
/** How many bytes of longer data stand in the record itself, so that a reader of the records alone
 *  sees them: the command's header and fixed part, a text whole. */
uint32_t vgd_trace_kind_head_bytes(uint32_t kind);

/** The fixed part of @record, without its header. The writer's status tells if it did not fit. */
void vgd_trace_record_encode(struct vgd_writer *w, const struct vgd_trace_record *record);

/**
 * The fixed part of a record of @kind from @r, into out->as and out->kind; time_ns is left alone.
 * The reader is left behind it, at the data if the kind has data.
 *
 * VGD_UNSUPPORTED: a kind that this version does not know. VGD_TRUNCATED; VGD_TRAILING where the
 * kind has no data and bytes remain.
 */
VGD_MUST_CHECK enum vgd_status vgd_trace_record_decode(struct vgd_reader *r, uint32_t kind,
                                                       struct vgd_trace_record *out);

#endif
