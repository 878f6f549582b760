/* SPDX-License-Identifier: MIT */
/*
 * The recorder: what the worker does, put into a trace file (docs/trace-format.md) that the
 * supervisor opened. Built without zstd or xxHash it says so to whoever starts it.
 *
 *   idle --start--> recording --stop, or the file takes no more--> ending --all is written--> idle
 *
 * Commands are told in three steps, for each chain: vgd_recorder_command between copying and
 * executing it, vgd_recorder_executed behind that, vgd_recorder_response when it is answered, which
 * may be in between. While idle none of these is called (vgd_recorder_active is one test).
 * Thread: loop.
 */
#ifndef VGD_WORKER_RECORD_H
#define VGD_WORKER_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "display.h"
#include "gpu.h"
#include "link.h"
#include "loop.h"
#include "presenter.h"
#include "render.h"

/* Writer, buffer, and what the recorder itself needs. */
#define VGD_RECORDER_MEMORY_MAX_BYTES ((size_t)64 << 20)

struct vgd_recorder;

struct vgd_recorder_config {
    struct vgd_loop *loop; /* borrowed, as all below */
    struct vgd_gpu *gpu;
    struct vgd_render *render;
    struct vgd_display *display;
    uint64_t window_bytes; /* of the host-visible region */
    uint32_t n_scanouts;
    const char *virglrenderer_version; /* "": it is not used */
    /** Once each VGD_LINK_TRACE_STATE_MS while it records or ends, and once when it has ended or
     *  failed: then nothing is recorded any more. May be called from start. */
    void (*tell)(void *user, const struct vgd_link_trace_state *state);
    /** While held no command may be executed: the state is put. At most VGD_RECORDER_HOLD_MS. */
    void (*hold)(void *user, bool held);
    void *user;
};

/* One command, as it came. */
struct vgd_recorder_command {
    const uint8_t *cmd; /* 8-byte aligned */
    size_t cmd_bytes;
    uint64_t response_room_bytes;
    enum vgd_gpu_queue queue;
    uint64_t again; /* the id that it got before it was postponed, or 0: then it is put once */
    bool is_cut;    /* longer than any command: only its header is there */
    bool is_lost;   /* it is not executed, only answered: with an error, but for what lets go */
};

/** NULL when out of memory. */
struct vgd_recorder *vgd_recorder_create(const struct vgd_recorder_config *config);
/** Ends what is recorded, without waiting: vgd_recorder_finish does that. NULL is fine. */
void vgd_recorder_destroy(struct vgd_recorder *r);

/**
 * Record into *@fd, which is taken. The answer is tell: with VGD_TRACE_FAILED and an errno at once
 * if it cannot be (EBUSY: the last one has not ended). @features: what the guest acked.
 *
 * VGD_RANGE: the message cannot be.
 */
VGD_MUST_CHECK enum vgd_status vgd_recorder_start(struct vgd_recorder *r,
                                                  const struct vgd_link_trace_start *start,
                                                  uint64_t features, int *fd);
/** End the file; tell says when it is whole. Nothing while idle. */
void vgd_recorder_stop(struct vgd_recorder *r);
/** Stop, and wait for the file, at most @timeout_ms: the process ends. */
void vgd_recorder_finish(struct vgd_recorder *r, uint32_t timeout_ms);
/** Is there something to be told? */
bool vgd_recorder_active(const struct vgd_recorder *r);

/** @c is about to be executed. An id for it, for the two calls below; never 0. */
uint64_t vgd_recorder_command(struct vgd_recorder *r, const struct vgd_recorder_command *c);
/** Command @id was given to the device, and maybe answered. */
void vgd_recorder_executed(struct vgd_recorder *r, uint64_t id);
/** Command @id is answered. 0, and ids from before this recording, are nothing. */
void vgd_recorder_response(struct vgd_recorder *r, uint64_t id, const uint8_t *resp,
                           size_t n_bytes);
/** A part of a scanout was read for the display, or flushed and not read. */
void vgd_recorder_shown(struct vgd_recorder *r, const struct vgd_presenter_look *look);
/** Something else than a command changed the device, or guest memory. */
void vgd_recorder_changed(struct vgd_recorder *r);
/** Nothing may be held any longer: put what is left of the state now. Waits for the file, as long
 * as the rings may be held. */
void vgd_recorder_settle(struct vgd_recorder *r);
/** The guest's driver negotiated anew. */
void vgd_recorder_features(struct vgd_recorder *r, uint64_t features);
/** The device was reset by the guest. */
void vgd_recorder_reset(struct vgd_recorder *r);

#endif
