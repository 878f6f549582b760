/* SPDX-License-Identifier: MIT */
/*
 * What a scanout shown by the VMM may measure. The worker keeps to it, the supervisor believes
 * nothing else: the VMM allocates a surface of that size and aborts where it cannot.
 */
#ifndef VGD_SCANOUT_LIMITS_H
#define VGD_SCANOUT_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio_gpu.h"

#define VGD_SCANOUT_SIDE_PX_MAX 16384u
#define VGD_SCANOUT_BYTES_MAX (256u << 20) /* 8192 x 8192 */
#define VGD_SCANOUT_PIXEL_BYTES 4u

/* How long the VMM may take for the answer to a question; then we go on without it. */
#define VGD_DISPLAY_REPLY_MS 1000u

static inline bool vgd_scanout_size_ok(uint32_t w_px, uint32_t h_px)
{
    return w_px > 0 && h_px > 0 && w_px <= VGD_SCANOUT_SIDE_PX_MAX &&
           h_px <= VGD_SCANOUT_SIDE_PX_MAX &&
           (uint64_t)w_px * h_px * VGD_SCANOUT_PIXEL_BYTES <= VGD_SCANOUT_BYTES_MAX;
}

/** Is @rect not empty and inside @w_px x @h_px? */
static inline bool vgd_scanout_rect_ok(struct vgd_rect rect, uint32_t w_px, uint32_t h_px)
{
    return rect.w_px > 0 && rect.h_px > 0 && rect.x_px <= w_px && rect.w_px <= w_px - rect.x_px &&
           rect.y_px <= h_px && rect.h_px <= h_px - rect.y_px;
}

#endif
