/* SPDX-License-Identifier: MIT */
/*
 * The worker's display: damage of each scanout -> frame slots or dma-bufs -> the supervisor. Never
 * makes a command wait: damage that finds no free slot, or comes faster than the pace, is merged,
 * and the newest pixels go when there is room. Without a display channel nothing is read back, and
 * questions are answered here.
 * Thread: loop.
 */
#ifndef VGD_PRESENTER_H
#define VGD_PRESENTER_H

#include "display.h"
#include "gpu_counters.h"
#include "link.h"
#include "loop.h"
#include "render.h"

/* Damage after a quiet time goes at once; then pictures as pixels follow at this pace. */
#define VGD_FRAME_INTERVAL_NS 16600000ull

struct vgd_presenter_config {
    struct vgd_loop *loop; /* borrowed, as all below */
    struct vgd_render *render;
    struct vgd_link *link;
    uint8_t *frames; /* mapping of VGD_FRAMES_BYTES; NULL: as if there were no display channel */
    uint32_t n_scanouts;
    struct vgd_gpu_counters *counters; /* NULL: pictures are not counted */
};

/* A part of a scanout, as it is now. */
struct vgd_presenter_look {
    uint32_t scanout_idx;
    uint32_t res_id;
    const struct vgd_image *image; /* of a blob: how it is a picture; else NULL */
    struct vgd_rect src;           /* of the resource, shown */
    struct vgd_rect rect;          /* the part, in the scanout */
    const uint8_t *pixels;         /* that were read of it for the display, w_px * 4 bytes a row,
                                      x8r8g8b8; NULL: it was flushed, and nothing reads it (a dma-buf,
                                      or no display channel) */
};
typedef void (*vgd_presenter_look_fn)(void *user, const struct vgd_presenter_look *look);

/** NULL when out of memory. */
struct vgd_presenter *vgd_presenter_create(const struct vgd_presenter_config *config);
void vgd_presenter_destroy(struct vgd_presenter *p);
/** What the device is given. Borrowed. */
struct vgd_display *vgd_presenter_display(struct vgd_presenter *p);
/** Tell @fn of every part that is read, and of every flush that is not. NULL: nobody any more. What
 *  it is given is borrowed during the call; it may use the renderer. */
void vgd_presenter_watch(struct vgd_presenter *p, vgd_presenter_look_fn fn, void *user);
/** A DISPLAY_STATE, FRAME_DONE, DMABUF_DONE, INFO_REPLY, EDID_REPLY or SNAPSHOT from the
 * supervisor. A fresh display channel gets the scanouts again by itself; for the cursor the caller
 * calls vgd_gpu_redisplay. VGD_RANGE: nonsense. */
VGD_MUST_CHECK enum vgd_status vgd_presenter_message(struct vgd_presenter *p,
                                                     struct vgd_link_message *msg);

#endif
