/* SPDX-License-Identifier: MIT */
/*
 * Where scanouts go, as the device sees it. The worker's display copies damage to the frame memory
 * (or passes dma-bufs) and never makes a command wait; tests use a recording one.
 * Thread: loop.
 */
#ifndef VGD_DISPLAY_H
#define VGD_DISPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"
#include "virtio_gpu.h"

/* The vhost-user-gpu display channel carries cursors of this one size. */
#define VGD_CURSOR_SIDE_PX 64u
#define VGD_CURSOR_BYTES (VGD_CURSOR_SIDE_PX * VGD_CURSOR_SIDE_PX * 4u)

struct vgd_display;
struct vgd_image;

/* Answers of the asynchronous questions. Each is called exactly once, maybe before the question
 * returns. */
typedef void (*vgd_display_info_fn)(void *user, const struct vgd_resp_display_info *info);
/** @edid is @size_bytes long (at most 1024), or size 0 when the scanout has none. */
typedef void (*vgd_display_edid_fn)(void *user, const uint8_t *edid, uint32_t size_bytes);

struct vgd_display_ops {
    /** Show @src (inside the resource, not empty) of resource @res_id on @scanout_idx. @image: the
     *  resource is a blob and this is how it is a picture (@src is inside that); else NULL.
     *  Borrowed during the call. The resource lives until the scanout is set again or disabled. */
    void (*scanout_set)(struct vgd_display *d, uint32_t scanout_idx, uint32_t res_id,
                        const struct vgd_image *image, struct vgd_rect src);
    void (*scanout_disable)(struct vgd_display *d, uint32_t scanout_idx);
    /** @damage is in scanout coordinates, inside it, not empty. Returns at once. */
    void (*flush)(struct vgd_display *d, uint32_t scanout_idx, struct vgd_rect damage);
    /** @pixels: VGD_CURSOR_BYTES of a8r8g8b8 (memory order B G R A); NULL hides the cursor. */
    void (*cursor_update)(struct vgd_display *d, struct vgd_cursor_pos pos, uint32_t hot_x_px,
                          uint32_t hot_y_px, const uint8_t *pixels);
    void (*cursor_move)(struct vgd_display *d, struct vgd_cursor_pos pos);
    /** Ask which scanouts there are. @user may be a command that the device resets meanwhile:
     *  cancel drops every unanswered question without a callback. */
    void (*get_info)(struct vgd_display *d, vgd_display_info_fn fn, void *user);
    void (*get_edid)(struct vgd_display *d, uint32_t scanout_idx, vgd_display_edid_fn fn,
                     void *user);
    void (*cancel)(struct vgd_display *d);
};

struct vgd_display {
    const struct vgd_display_ops *ops;
};

#endif
