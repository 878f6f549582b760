/* SPDX-License-Identifier: MIT */
/* Between guest_display.c (the object, its thread, what tests ask) and guest_display_wire.c (what
 * arrives on the channel). Everything here is called with the lock held. */
#ifndef VGD_GUEST_DISPLAY_PRIV_H
#define VGD_GUEST_DISPLAY_PRIV_H

#include <pthread.h>

#include "guest_display.h"

#define PAYLOAD_MAX (VGD_DISP_CURSOR_UPDATE_SIZE + VGD_DISP_CURSOR_BYTES)

struct dmabuf {
    int fd;
    const uint8_t *map;
    size_t map_bytes;
    uint32_t stride_bytes, w_px, h_px, fourcc;
    bool bottom_up; /* the first row in memory is the lowest of the picture */
};

struct scanout {
    uint32_t w_px, h_px; /* of the picture; 0: off */
    uint32_t *pixels;
    struct dmabuf dmabuf; /* fd -1: none */
    bool opaque;
    uint32_t info_w_px, info_h_px;
};

enum rx_state {
    RX_HEADER,
    RX_PAYLOAD,
    RX_PIXELS, /* of an UPDATE, straight into the picture */
    RX_SKIP,   /* pixels of an UPDATE that is not allowed */
};

struct vgd_guest_display {
    pthread_mutex_t lock; /* guards everything below */
    struct vgd_guest_display_config config;
    int fd;
    bool stalled, hold_dmabuf;
    uint32_t held_dmabuf_count;
    struct vgd_guest_display_counters counters;
    char violation[160];
    struct scanout scanouts[VGD_MAX_SCANOUTS];
    struct vgd_guest_cursor cursor;

    enum rx_state state;
    struct vgd_disp_hdr hdr;
    uint8_t bytes[PAYLOAD_MAX]; /* header, then payload */
    size_t have_bytes, want_bytes;
    int msg_fd;
    struct vgd_disp_update update;
    uint64_t update_done_bytes, update_bytes;

    bool threaded;
    bool quit;
    pthread_t thread;
    int wake_fd;
};

/** Ready for the header of the next message. */
void vgd_guest_display_start_message(struct vgd_guest_display *d);
/** One read and what follows from it. False when there is nothing more to read now. */
bool vgd_guest_display_step(struct vgd_guest_display *d);
void vgd_guest_display_reply(struct vgd_guest_display *d, uint32_t request, const void *payload,
                             uint32_t n_bytes);
/** Forget the dma-buf of a scanout. */
void vgd_guest_display_drop_dmabuf(struct scanout *s);

#endif
