/* SPDX-License-Identifier: MIT */
/*
 * The VMM's end of the display channel, as strict as QEMU: it answers questions, keeps a picture
 * for each scanout from what arrives, counts, and remembers what was not allowed.
 *
 * It is serviced by its owner, or by a thread of its own (as QEMU's main loop is beside its vCPUs);
 * every function may be called in both cases.
 */
#ifndef VGD_GUEST_DISPLAY_H
#define VGD_GUEST_DISPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "display_channel.h"
#include "status.h"
#include "virtio_gpu.h"

#define VGD_GUEST_REQUESTS_MAX 16u /* message ids counted */

struct vgd_guest_display_config {
    uint32_t n_scanouts; /* enabled ones; GET_EDID of others is never answered, as in QEMU */
    uint32_t w_px, h_px; /* preferred size of each */
    uint64_t features;   /* protocol features offered; QEMU: EDID and DMABUF2 */
};

struct vgd_guest_display_counters {
    uint64_t messages[VGD_GUEST_REQUESTS_MAX]; /* by request; 0: unknown ones */
    uint64_t bytes;                            /* read, headers too */
    uint64_t pixel_bytes;                      /* of UPDATE */
    uint64_t violations;                       /* messages that QEMU would refuse */
    uint64_t unanswered;                       /* GET_EDID of a scanout that is not there */
    uint64_t connections;
    uint64_t closed_by_peer;
};

struct vgd_guest_cursor {
    uint32_t scanout_id, x_px, y_px, hot_x_px, hot_y_px;
    bool visible;
    uint32_t pixels[VGD_DISP_CURSOR_SIZE_PX * VGD_DISP_CURSOR_SIZE_PX]; /* a8r8g8b8 */
};

struct vgd_guest_display;

/** NULL when out of memory. */
struct vgd_guest_display *vgd_guest_display_create(const struct vgd_guest_display_config *config);
/** Ends its thread too. NULL is fine. */
void vgd_guest_display_destroy(struct vgd_guest_display *d);

/** A new channel in place of the old one; pictures stay. Returns the backend's end for
 *  GPU_SET_SOCKET, owned by the caller, or -1. */
int vgd_guest_display_connect(struct vgd_guest_display *d);
/** Close our end, as QEMU does before each stop. */
void vgd_guest_display_disconnect(struct vgd_guest_display *d);
bool vgd_guest_display_connected(struct vgd_guest_display *d);
/** To poll for input; -1 while stalled or not connected. */
int vgd_guest_display_fd(struct vgd_guest_display *d);
/** Read and act on all that is there. Not with a thread. */
void vgd_guest_display_service(struct vgd_guest_display *d);
/** Service it on a thread of its own from now on. */
VGD_MUST_CHECK enum vgd_status vgd_guest_display_thread_start(struct vgd_guest_display *d);

/** Stop (true) or go on (false) reading, as QEMU does while its console is blocked. */
void vgd_guest_display_stall(struct vgd_guest_display *d, bool stalled);
/** Keep (true) the replies to DMABUF_UPDATE back; false sends those kept and goes on. */
void vgd_guest_display_hold_dmabuf(struct vgd_guest_display *d, bool hold);
/** Change what GET_DISPLAY_INFO says from now on. */
void vgd_guest_display_resize(struct vgd_guest_display *d, uint32_t scanout, uint32_t w_px,
                              uint32_t h_px);

void vgd_guest_display_counters(struct vgd_guest_display *d,
                                struct vgd_guest_display_counters *out);
/** What was wrong with the last message that QEMU would refuse; "" if there was none. */
void vgd_guest_display_violation(struct vgd_guest_display *d, char *out, size_t n_bytes);

/** Size of scanout @idx; false when it is off. */
bool vgd_guest_display_scanout(struct vgd_guest_display *d, uint32_t idx, uint32_t *out_w_px,
                               uint32_t *out_h_px);
/** Was its last SCANOUT a dma-buf whose pixels we cannot read? */
bool vgd_guest_display_is_opaque(struct vgd_guest_display *d, uint32_t idx);
/** Pixel x8r8g8b8 of the picture; 0 outside. */
uint32_t vgd_guest_display_pixel(struct vgd_guest_display *d, uint32_t idx, uint32_t x_px,
                                 uint32_t y_px);
/**
 * Compare the low 24 bits of the rectangle with @pixels (rows of @stride_px): the number of
 * pixels that differ by more than @tolerance in any channel; all of them when the rectangle does
 * not fit.
 */
uint64_t vgd_guest_display_compare(struct vgd_guest_display *d, uint32_t idx, struct vgd_rect rect,
                                   const uint32_t *pixels, uint32_t stride_px, uint32_t tolerance);
/** Copy the rectangle to @out, rows of @rect.w_px pixels as they came (B, G, R, and a byte that
 *  means nothing). False: it does not fit, or its pixels cannot be read here. */
bool vgd_guest_display_read(struct vgd_guest_display *d, uint32_t idx, struct vgd_rect rect,
                            uint32_t *out);
/** Overwrite our own copy of every picture and of the cursor with rubbish: what is right afterwards
 *  was sent again. */
void vgd_guest_display_scribble(struct vgd_guest_display *d);
void vgd_guest_display_cursor(struct vgd_guest_display *d, struct vgd_guest_cursor *out);
/** The EDID of @scanout that GET_EDID is answered with: 128 bytes. */
void vgd_guest_display_edid(uint32_t scanout, uint8_t out[128]);

#endif
