/* SPDX-License-Identifier: MIT */
/*
 * vhost-user framing over a unix stream socket: whole messages with their file descriptors in,
 * whole messages out, never blocking. Serves the front-end channel and the backend channel, and, in
 * the user-space guest, the other side of both.
 * Thread: loop.  Spec: vhost-user, "Message Specification".
 */
#ifndef VGD_CHANNEL_H
#define VGD_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"
#include "vhost_user.h"

#define VGD_VU_PAYLOAD_MAX 4096u /* the largest known is GET_SHMEM_CONFIG's reply, 2056 bytes */
#define VGD_VU_FDS_MAX 8u        /* SET_MEM_TABLE's regions */

/* What may wait for a peer that does not read; the socket's own buffer holds more. */
#define VGD_VU_QUEUED_BYTES_MAX 65536u
#define VGD_VU_QUEUED_FDS_MAX 64u

struct vgd_vu_message {
    struct vgd_vu_hdr hdr;
    uint8_t payload[VGD_VU_PAYLOAD_MAX]; /* hdr.size_bytes of it */
    int fds[VGD_VU_FDS_MAX];             /* owned by the holder; -1 in unused places */
    uint32_t n_fds;
};

/** Close the fds that nobody took (vgd_fd_take). */
void vgd_vu_message_finish(struct vgd_vu_message *msg);

struct vgd_channel;

/** Takes *@fd (a connected stream socket), makes it non-blocking. NULL when out of memory: *fd is
 * kept. */
struct vgd_channel *vgd_channel_create(int *fd);
void vgd_channel_destroy(struct vgd_channel *ch);
/** For the loop: read when readable; write-watch while vgd_channel_wants_write. Borrowed. */
int vgd_channel_fd(const struct vgd_channel *ch);

/**
 * Read one message. VGD_OK: *out is whole and owned by the caller (finish it). VGD_AGAIN: not whole
 * yet. VGD_CLOSED: end of file or error. VGD_RANGE: oversized, wrong version, or more fds than
 * VGD_VU_FDS_MAX: close this channel; every later call fails. Never reads beyond one message: fds
 * stay with theirs. Fds count with the header only; others are closed.
 * Read until VGD_AGAIN, or watch level-triggered: only some of *out is written, hdr.size_bytes of
 * the payload.
 */
VGD_MUST_CHECK enum vgd_status vgd_channel_read(struct vgd_channel *ch, struct vgd_vu_message *out);

/**
 * Send header + payload + fds, or queue what the socket does not take now (fds are duplicated; the
 * caller keeps its own). The version goes into @flags by itself. VGD_CLOSED; VGD_LIMIT (too much
 * queued: the peer does not read) and VGD_NO_MEMORY: nothing of it was sent or queued; VGD_RANGE:
 * more payload or fds than a message holds.
 */
VGD_MUST_CHECK enum vgd_status vgd_channel_send(struct vgd_channel *ch, uint32_t request,
                                                uint32_t flags, const void *payload,
                                                uint32_t payload_bytes, const int *fds,
                                                uint32_t n_fds);
bool vgd_channel_wants_write(const struct vgd_channel *ch);

/*
 * A message that can still be withdrawn, for a peer that must not get it at the wrong moment and
 * reads a message whole, blocking, once it has begun:
 *
 *   send_first --the peer reads the first byte (taken)--> send_rest: the message, or another one
 *   whose request has the same low byte
 */

/** Send the low byte of @request, with @fds. VGD_AGAIN: no room, or something is queued: nothing
 *  was sent. VGD_CLOSED; VGD_RANGE: more fds than a message holds. */
VGD_MUST_CHECK enum vgd_status vgd_channel_send_first(struct vgd_channel *ch, uint32_t request,
                                                      const int *fds, uint32_t n_fds);
/** Has the peer read every byte that was sent? Changes are told as EPOLLOUT | EPOLLET. */
bool vgd_channel_taken(const struct vgd_channel *ch);
/** What follows the first byte; @request has the same low byte. As vgd_channel_send, no fds. */
VGD_MUST_CHECK enum vgd_status vgd_channel_send_rest(struct vgd_channel *ch, uint32_t request,
                                                     uint32_t flags, const void *payload,
                                                     uint32_t payload_bytes);
/** Continue a partial send. VGD_OK or VGD_CLOSED. */
VGD_MUST_CHECK enum vgd_status vgd_channel_flush(struct vgd_channel *ch);

#endif
