/* SPDX-License-Identifier: MIT */
/*
 * A 2D resource's pixels in our own memory, in the guest's format: 4 bytes a pixel, rows without
 * padding. Shared by the pixman renderer and by virgl's 2D resources. And pictures in blobs, which
 * are read where they lie.
 * Thread: loop.
 */
#ifndef VGD_PIXELS_H
#define VGD_PIXELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "render.h"
#include "status.h"
#include "virtio_gpu.h"

#define VGD_PIXELS_SIDE_PX_MAX 16384u
#define VGD_BYTES_PER_PIXEL 4u

struct vgd_pixels {
    uint8_t *data; /* owned; NULL before init and after finish */
    uint32_t format, w_px, h_px;
    size_t stride_bytes; /* w_px * 4 */
    /* Where loads changed something since vgd_pixels_take_changed; empty: nowhere. */
    struct vgd_rect changed;
};

/** Is @format one of the eight 4-byte formats of RESOURCE_CREATE_2D? */
bool vgd_pixels_known_format(uint32_t format);

/** Zeroed pixels; host memory is taken as they are touched. VGD_RANGE (format, or a side that is 0
 *  or above VGD_PIXELS_SIDE_PX_MAX), VGD_NO_MEMORY; *p is zeroed on failure. */
VGD_MUST_CHECK enum vgd_status vgd_pixels_init(struct vgd_pixels *p, uint32_t format, uint32_t w_px,
                                               uint32_t h_px);
void vgd_pixels_finish(struct vgd_pixels *p);

/** Is @rect inside @w_px x @h_px? */
static inline bool vgd_pixels_rect_fits(struct vgd_rect rect, uint32_t w_px, uint32_t h_px)
{
    return rect.x_px <= w_px && rect.w_px <= w_px - rect.x_px && /* never an addition */
           rect.y_px <= h_px && rect.h_px <= h_px - rect.y_px;
}

/**
 * Copy @rect from a guest's scatter list whose byte @offset_bytes is the rectangle's first pixel
 * and whose rows are as long as ours. What the list does not hold is left as it was.
 * VGD_RANGE: @rect is outside.
 */
VGD_MUST_CHECK enum vgd_status vgd_pixels_load(struct vgd_pixels *p, const struct iovec *iov,
                                               uint32_t n_iov, struct vgd_rect rect,
                                               uint64_t offset_bytes);

/**
 * The part of @rect whose pixels may differ from what the last call over it saw; empty if none.
 * A guest's console flushes the whole screen for a blinking cursor: this is the cursor's rows.
 */
struct vgd_rect vgd_pixels_take_changed(struct vgd_pixels *p, struct vgd_rect rect);

/** Convert @rect to B G R A/X at @out, @stride_bytes a row. VGD_RANGE: @rect is outside. */
VGD_MUST_CHECK enum vgd_status vgd_pixels_read(const struct vgd_pixels *p, struct vgd_rect rect,
                                               void *out, size_t stride_bytes);

/** Copy @rect in its own format to @out, @stride_bytes a row. VGD_RANGE: @rect is outside. */
VGD_MUST_CHECK enum vgd_status vgd_pixels_copy(const struct vgd_pixels *p, struct vgd_rect rect,
                                               void *out, size_t stride_bytes);

/** Convert @w_px x @h_px pixels of @format (known) to B G R A/X. @in may equal @out when the
 * strides are equal. Strides are multiples of 4. */
void vgd_pixels_convert(uint32_t format, uint32_t w_px, uint32_t h_px, const void *in,
                        size_t in_stride_bytes, void *out, size_t out_stride_bytes);

/**
 * Read @rect of the picture that @image says lies in a scatter list (a blob's guest pages, or one
 * entry over mapped memory) as B G R A/X to @out, @stride_bytes a row (a multiple of 4). Each byte
 * is copied once; it may change meanwhile.
 * VGD_RANGE: a format that is not known, @rect outside of @image, or rows that the list does not
 * hold; then what @out holds is not defined.
 */
VGD_MUST_CHECK enum vgd_status vgd_pixels_read_image(const struct vgd_image *image,
                                                     const struct iovec *iov, uint32_t n_iov,
                                                     struct vgd_rect rect, void *out,
                                                     size_t stride_bytes);

#endif
