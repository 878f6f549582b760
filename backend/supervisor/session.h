/* SPDX-License-Identifier: MIT */
/*
 * One front-end's vhost-user connection: what it negotiated, its memory table, its rings, its
 * display channel. Everything here can be told again to a new worker.
 *
 *   reading --message that needs the worker--> waiting --confirmed, deadline or death--> reading
 *
 * While waiting, later messages stay in the socket, so answers keep their order. The session never
 * waits for the front-end.
 * Thread: loop.  Spec: vhost-user, "Communication".
 */
#ifndef VGD_SESSION_H
#define VGD_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "link.h"
#include "loop.h"
#include "shmem.h"
#include "worker_process.h"

/* What ends the use of memory or of a ring is confirmed within this, or the worker is killed. */
#define VGD_STOP_DEADLINE_MS 2500u

struct vgd_session;

enum vgd_session_end {
    VGD_SESSION_CLOSED,  /* the front-end closed its end in good order */
    VGD_SESSION_REFUSED, /* it sent what cannot be believed, or nothing at all; said in the log */
};

struct vgd_session_config {
    struct vgd_loop *loop; /* borrowed, as all below */
    struct vgd_worker_process *worker;
    const uint8_t *frames; /* read-only mapping of VGD_FRAMES_BYTES */
    uint32_t n_scanouts;   /* that the device accepts */
    uint64_t window_bytes; /* of the host-visible region; 0: none is offered */
    uint32_t maps_max;     /* in it; 0: VGD_SHMEM_MAPS_MAX */
    /** The connection is over; destroy the session from the loop, not from inside. */
    void (*on_end)(void *user, enum vgd_session_end end);
    /** A ready worker has been told all it has to know of the guest; its rings start behind this.
     * NULL: nobody wants to know. */
    void (*on_worker_told)(void *user);
    /** A snapshot that vgd_session_snapshot asked for. Takes *fd. */
    void (*on_snapshot)(void *user, uint32_t question, enum vgd_status status, uint32_t w_px,
                        uint32_t h_px, int *fd);
    void *user;
};

/** Takes *@fd, a connected stream socket. NULL on failure: *fd is kept. */
struct vgd_session *vgd_session_create(const struct vgd_session_config *config, int *fd);
/** NULL is fine. */
void vgd_session_destroy(struct vgd_session *s);

/* Forwarded from the worker process. */
void vgd_session_worker_ready(struct vgd_session *s, const struct vgd_link_ready *ready,
                              bool again);
void vgd_session_worker_message(struct vgd_session *s, struct vgd_link_message *msg);
void vgd_session_worker_gone(struct vgd_session *s);

/** Read a scanout back. VGD_LOST: no worker now. */
VGD_MUST_CHECK enum vgd_status vgd_session_snapshot(struct vgd_session *s, uint32_t scanout_idx,
                                                    uint32_t question);

struct vgd_session_status {
    uint64_t features_acked, protocol_features_acked;
    uint32_t regions_count;
    uint64_t memory_bytes;
    bool queue_running[VGD_QUEUES_COUNT];
    bool display_connected;
    uint64_t messages_count;
    struct vgd_shmem_status window;
};
void vgd_session_get_status(const struct vgd_session *s, struct vgd_session_status *out);

#endif
