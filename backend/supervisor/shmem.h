/* SPDX-License-Identifier: MIT */
/*
 * What the VMM has mapped into the host-visible region (virtio shared memory region 1), and the
 * requests that change it. The table here is the one that counts: a worker's requests are checked
 * against it as if a guest had sent them, and it outlives the worker, whose maps stay in the VMM.
 *
 *   worker: WINDOW_MAP, _UNMAP --> queue --> one SHMEM_MAP or _UNMAP at a time --> VMM
 *   worker: WINDOW_DONE <-- the VMM's answer, or VGD_SHMEM_DEADLINE_MS
 *
 * A range in the table is
 *
 *   live     mapped, and should be
 *   doomed   mapped, or it may be, and must not stay: its worker is gone or its answer came too
 *            late, or its guest let go of it in a stop. Unmapped before anything else is asked
 *            for; until then nothing is put there
 *   parked   not mapped, and should be: mapped again before anything new when the rings run
 *
 * Stock QEMU (11.1) reads a request whenever its main loop gets to it, and crashes when the device
 * is stopped then: from the first message of a stop until the next start it has no device to look
 * the region up in. A request that it has not read yet when a stop begins would so end the VM. So
 * a request is begun with one byte. QEMU reads messages blocking: once it has taken that byte it
 * neither stops nor starts the device before it has the rest. If no stop has begun by then, the
 * rest follows; else the message is ended as one that QEMU does not know, which it only logs.
 * Measured on 11.1: without this, pausing a VM whose guest is mapping things killed it at the first
 * attempt, each time; with it, 200 pauses in a row did nothing.
 *
 * Thread: loop.  Spec: vhost-user, "VHOST_USER_BACKEND_SHMEM_MAP".
 */
#ifndef VGD_SHMEM_H
#define VGD_SHMEM_H

#include <stdbool.h>
#include <stdint.h>

#include "link.h"
#include "loop.h"

#define VGD_SHMEM_ID 1u /* VIRTIO_GPU_SHM_ID_HOST_VISIBLE */
#define VGD_SHMEM_ALIGNMENT_BYTES 4096u
/* The worker has its answer within this, whatever the VMM does. */
#define VGD_SHMEM_DEADLINE_MS 2000u
/* Ranges at a time, and maps that wait: each holds a descriptor of ours. No honest worker has more
 * maps waiting than its control queue has places. */
#define VGD_SHMEM_MAPS_MAX 4096u
#define VGD_SHMEM_QUEUED_MAPS_MAX 1024u
/* Requests that wait, unmaps too. */
#define VGD_SHMEM_QUEUED_MAX 8192u

struct vgd_shmem;

struct vgd_shmem_config {
    struct vgd_loop *loop; /* borrowed */
    uint64_t size_bytes;   /* of the region; 0: there is none, every request is an error */
    uint32_t maps_max;     /* 0: VGD_SHMEM_MAPS_MAX; so many may be there, and as many wait, but no
                              more than VGD_SHMEM_QUEUED_MAPS_MAX */
    uint32_t deadline_ms;  /* 0: VGD_SHMEM_DEADLINE_MS */
    /** A worker's request is over. VGD_OK: as asked for, and the guest may be told so; VGD_AGAIN: a
     *  map came to nothing because of a stop, to be asked for again when the rings run; VGD_RANGE:
     *  it cannot be; VGD_LIMIT; VGD_UNSUPPORTED: this VMM maps nothing; VGD_HOST_FAILED: the VMM
     *  refused, or did not answer in time; VGD_LOST: the guest was reset. May come from inside any
     *  call. */
    void (*done)(void *user, uint64_t token, enum vgd_status status);
    void *user;
};

/** NULL when out of memory. Held until the first release. */
struct vgd_shmem *vgd_shmem_create(const struct vgd_shmem_config *config);
/** NULL is fine. The worker gets no answers any more. */
void vgd_shmem_destroy(struct vgd_shmem *sh);

/* ---- from the front-end -------------------------------------------------------------------------
 */

/** The backend channel (SET_BACKEND_REQ_FD): takes *@fd, an earlier one is closed. */
void vgd_shmem_set_channel(struct vgd_shmem *sh, int *fd);
/** Were SHMEM, BACKEND_REQ and REPLY_ACK negotiated? Without, every request is an error. */
void vgd_shmem_set_usable(struct vgd_shmem *sh, bool usable);

/** A stop has begun: from here on nothing is sent. What waits is settled at once, so that the stop
 *  does not wait for us: a map comes to nothing (VGD_AGAIN), an unmap's range is doomed. The guest
 *  must not hear of a map before it is there: QEMU lets its processors go on before it reads the
 *  first request after a stop. */
void vgd_shmem_hold(struct vgd_shmem *sh);
/** The rings run (again). */
void vgd_shmem_release(struct vgd_shmem *sh);
/** The guest was reset: VMMs drop all maps then. Nothing is sent. */
void vgd_shmem_forget(struct vgd_shmem *sh);

/** Is this region of guest memory one of our own maps, announced back by the VMM? (@fd: the file
 *  that came with it.) Remembers that this VMM does so. */
bool vgd_shmem_is_ours(struct vgd_shmem *sh, uint64_t size_bytes, uint64_t file_offset_bytes,
                       int fd);
/** How many maps must go before a VMM that announces them can start the device, when it has
 *  @n_regions of memory itself and room for @n_max in all; 0 where it does not announce them. */
uint32_t vgd_shmem_excess(const struct vgd_shmem *sh, uint32_t n_regions, uint32_t n_max);
/** Park that many, the largest first, although held: only for a VMM that tried to start the device
 *  and could not. */
void vgd_shmem_park(struct vgd_shmem *sh, uint32_t count);

/* ---- from the worker ----------------------------------------------------------------------------
 */

/** Takes *@fd. Not one word of @m is believed. */
void vgd_shmem_map(struct vgd_shmem *sh, const struct vgd_link_window *m, int *fd);
/** A range that is not there at all is VGD_OK: that is what was wanted. */
void vgd_shmem_unmap(struct vgd_shmem *sh, const struct vgd_link_window *m);
/** Its requests are dropped; what is mapped stays, for the next worker to know from its journal. */
void vgd_shmem_worker_gone(struct vgd_shmem *sh);

/* For status. */
struct vgd_shmem_status {
    bool usable; /* there is a VMM that maps */
    uint32_t live_count, quarantined_count, parked_count, waiting_count;
    uint64_t live_bytes;
    uint64_t maps_total, refused_total; /* refused: by us or the VMM */
    uint64_t withdrawn_total;           /* begun, and not finished because of a stop */
};
void vgd_shmem_get_status(const struct vgd_shmem *sh, struct vgd_shmem_status *out);

/* ---- shmem_check.c ------------------------------------------------------------------------------
 */

/** [@offset, + @len) is whole pages, not empty, and inside @size_bytes. */
bool vgd_shmem_range_ok(uint64_t size_bytes, uint64_t offset_bytes, uint64_t len_bytes);
/** Another process can map [@file_offset, + @len) of @fd, a memory file or a dma-buf, for reading
 * and writing and will not be surprised by a file that shrinks: seals it. *why: a literal. */
VGD_MUST_CHECK enum vgd_status vgd_shmem_file_check(int fd, uint64_t file_offset_bytes,
                                                    uint64_t len_bytes, const char **why);

#endif
