/* SPDX-License-Identifier: MIT */
/*
 * Which bytes of a resource's memory a transfer touches: pixels of a box, at an offset, with the
 * strides named or those of the whole picture. Formats are virgl's.
 * Thread: any.
 */
#ifndef VGD_VTEST_SPAN_H
#define VGD_VTEST_SPAN_H

#include <stdbool.h>
#include <stdint.h>

#define VGD_VTEST_TARGET_BUFFER 0u

struct vgd_vtest_picture {
    uint32_t target; /* VGD_VTEST_TARGET_BUFFER or a texture's */
    uint32_t format;
    uint32_t w_px, h_px;
};

struct vgd_vtest_move {
    uint32_t level;
    uint32_t stride_bytes, layer_stride_bytes; /* 0: of the whole level */
    uint32_t w_px, h_px, depth;
    uint64_t offset_bytes;
};

/* @layers times @rows rows of @row_bytes. */
struct vgd_vtest_span {
    uint64_t offset_bytes;
    uint64_t row_bytes, row_stride_bytes;
    uint64_t layer_stride_bytes;
    uint32_t rows, layers;
};

/**
 * @memory_bytes  size of the memory; every span returned lies inside
 *
 * False: the transfer reaches outside, and the device is going to refuse it. For a format without
 * a known size, and for strides that make no sense, everything from the offset on.
 */
bool vgd_vtest_span_of(const struct vgd_vtest_picture *picture, const struct vgd_vtest_move *move,
                       uint64_t memory_bytes, struct vgd_vtest_span *out);

/** Copy the span from one memory to the same place of the other. */
void vgd_vtest_span_copy(const struct vgd_vtest_span *span, uint8_t *to, const uint8_t *from);

#endif
