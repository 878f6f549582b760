/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's end of the VMM's display channel (vhost-user-gpu protocol): whole messages only,
 * never blocking, replies matched in order. It outlives workers and is told of each channel that
 * the VMM hands over (a fresh one at every start).
 * Thread: loop.
 */
#ifndef VGD_DISPLAY_WRITER_H
#define VGD_DISPLAY_WRITER_H

#include "link.h"
#include "loop.h"

/* Pixels go in messages of about this size: whole rows, at least one. */
#define VGD_DISPLAY_BAND_BYTES (128u << 10)

struct vgd_display_writer;

struct vgd_display_writer_config {
    struct vgd_loop *loop;
    const uint8_t *frames; /* read-only mapping of VGD_FRAMES_BYTES */
    uint32_t n_scanouts;
    bool pixels_only; /* tell the worker that the channel takes no dma-bufs */
    /** A message for the worker: DISPLAY_STATE, FRAME_DONE, DMABUF_DONE, INFO_REPLY, EDID_REPLY.
     *  It must not call the writer. */
    void (*to_worker)(void *user, enum vgd_link_type type, const void *payload, size_t n_bytes);
    void *user;
};

struct vgd_display_writer *
vgd_display_writer_create(const struct vgd_display_writer_config *config);
/** What a worker still waits for is forgotten: it must not outlive its writer. NULL is fine. */
void vgd_display_writer_destroy(struct vgd_display_writer *w);

/** The VMM handed over a channel (GPU_SET_SOCKET). Takes *@fd; replaces the old one: a half-written
 *  message dies with it. Negotiates EDID and DMABUF2, then sends DISPLAY_STATE to the worker. */
void vgd_display_writer_connect(struct vgd_display_writer *w, int *fd);
/** Is there a channel? An end of file drops it quietly (normal before every stop). */
bool vgd_display_writer_connected(const struct vgd_display_writer *w);

/** A display message from the worker (SCANOUT .. GET_EDID). VGD_RANGE: it cannot be believed. */
VGD_MUST_CHECK enum vgd_status vgd_display_writer_message(struct vgd_display_writer *w,
                                                          struct vgd_link_message *msg);
/** The worker died: its slots and questions are forgotten at once, also by what is half sent, which
 *  goes to its end from the mapping. The VMM keeps the last picture. */
void vgd_display_writer_worker_gone(struct vgd_display_writer *w);
/** There is a worker: it gets a DISPLAY_STATE (fresh, if there is a channel). Call it behind
 *  RESTORE, so that the worker answers with the scanouts that it has brought back. */
void vgd_display_writer_worker_started(struct vgd_display_writer *w);

#endif
