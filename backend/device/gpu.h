/* SPDX-License-Identifier: MIT */
/*
 * The virtio-gpu device (virtio-v1.3 5.7): commands in, responses out. Pure logic over a renderer,
 * a display and a view of guest memory; no sockets, no GPU library, no threads.
 *
 * A request is executed at once and may complete at once or later, in any order. Everything that
 * a guest does wrong gets the right VIRTIO_GPU_RESP_ERR_*, a counter and one rate-limited line.
 * Thread: loop.
 */
#ifndef VGD_GPU_H
#define VGD_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "display.h"
#include "gpu_counters.h"
#include "render.h"
#include "status.h"

struct vgd_gpu;
struct vgd_journal;

enum vgd_gpu_queue {
    VGD_QUEUE_CONTROL = 0,
    VGD_QUEUE_CURSOR = 1,
};

/*
 * One command. The caller owns the struct and keeps it (not @cmd) until complete() or
 * postpone() names it, or vgd_gpu_reset drops it. Embed it in whatever the completion needs.
 */
struct vgd_gpu_request {
    const uint8_t *cmd; /* private copy of the device-readable part; 8-byte aligned; only valid
                           during vgd_gpu_execute, which may write to it through the renderer */
    size_t cmd_bytes;
    size_t resp_capacity_bytes; /* of the device-writable part */
    enum vgd_gpu_queue queue;
    uint64_t answered_ns; /* set for complete(): CLOCK_MONOTONIC, if the device looked at it; or 0:
                             looking costs as much as a small command's share of a batch */

    /* The device's own, from execute to completion. */
    struct {
        struct vgd_gpu *gpu;
        struct vgd_gpu_request *prev, *next; /* in the list of what it waits for */
        struct vgd_gpu_waiters *list;
        struct vgd_ctrl_hdr hdr;
        uint64_t fence_seq; /* the renderer's fence that it waits for */
        uint32_t resp_type; /* the answer, once that fence has signalled */
        bool held;          /* the window has not answered: resp_type is not known yet */
        uint32_t ok_type;   /* what OK_NODATA becomes, with the body below */
        uint8_t ok_body[VGD_RESP_RESOURCE_UUID_SIZE];
        uint32_t ok_body_bytes;
        uint64_t
            executed_ns;    /* when its fence was asked for, or the renderer had done its stream */
        bool fenced;        /* counted as waiting for a fence */
        bool error_counted; /* what goes wrong with it is in the list */
    } priv;
};

/* Guest memory as the device sees it. */
struct vgd_gpu_memory {
    /**
     * Host mappings of the guest-physical span [addr, addr + len): appends to *iov from *n_iov on,
     * at most @max entries in all (a span may cross regions that touch). VGD_RANGE if any byte is
     * outside guest RAM or there is no room; then *n_iov is unchanged.
     */
    enum vgd_status (*translate)(void *user, uint64_t addr, uint64_t len_bytes, struct iovec *iov,
                                 uint32_t *n_iov, uint32_t max);
    void *user;
};

/*
 * The host-visible region (virtio-v1.3 5.7.4, shared memory region 1), as the device sees it. Each
 * request is answered once by vgd_gpu_window_done with its @token, later or before it returns;
 * requests are carried out in the order asked for. An unmap names the range of one map, and may be
 * asked for before that map is answered; then a map of the same range may follow at once. A map
 * that is answered with VGD_AGAIN was overtaken by a stop of the VM, and its command is postponed.
 */
struct vgd_gpu_window {
    uint64_t size_bytes; /* 0: there is none. The same for each worker of a VM: a journal with maps
                            beyond it is refused */
    /** Put [file->offset_bytes, + @len_bytes) at @offset_bytes of the region. @file is borrowed
     *  during the call. The device has checked bounds, alignment and overlaps. */
    void (*map)(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes,
                const struct vgd_blob_file *file);
    void (*unmap)(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes);
    void *user;
};

/* Per-guest limits; zero fields take the defaults of limits.h. */
struct vgd_gpu_limits {
    uint32_t resources_max;
    uint32_t contexts_max;
    uint32_t fences_max;          /* commands waiting for a fence */
    uint32_t attachments_max;     /* resources in contexts, all contexts together */
    uint64_t backing_entries_max; /* over all resources */
    uint64_t resource_bytes_max;  /* host bytes of all resources, by their declared size */
    uint32_t submit_bytes_max;    /* one SUBMIT_3D */
    uint32_t maps_max;            /* blobs in the host-visible region at a time */
};

struct vgd_gpu_config {
    struct vgd_render *render;   /* borrowed */
    struct vgd_display *display; /* borrowed */
    struct vgd_gpu_memory memory;
    struct vgd_gpu_window window;
    struct vgd_journal *journal;       /* borrowed; NULL: nothing is recorded (tests) */
    struct vgd_gpu_counters *counters; /* borrowed; may live in shared memory */
    struct vgd_gpu_live *live;         /* the same; NULL: nothing is listed */
    uint32_t n_scanouts;               /* 1..VGD_MAX_SCANOUTS: ids that SET_SCANOUT accepts */
    struct vgd_gpu_limits limits;
    bool strict_streams; /* refuse commands in streams that are newer than the decoder */
    /** The response of @req, @n_bytes at most its capacity. The request is the caller's again.
     *  Must not call the device. */
    void (*complete)(void *user, struct vgd_gpu_request *req, const uint8_t *resp, size_t n_bytes);
    /** @req cannot be carried out now and had no effect: the rings are being stopped. To be
     * executed again once they run. It is the caller's again. Must not call the device. NULL: such
     * a command is answered with an error. */
    void (*postpone)(void *user, struct vgd_gpu_request *req);
    void *user;
};

/** Size of the journal area for a device with these limits. */
size_t vgd_gpu_journal_area_bytes(const struct vgd_gpu_limits *limits);

/** NULL when out of memory. Installs itself as the target of the renderer's callbacks through
 *  vgd_gpu_fence_done and vgd_gpu_context_lost, which the owner of the renderer forwards. */
struct vgd_gpu *vgd_gpu_create(const struct vgd_gpu_config *config);
void vgd_gpu_destroy(struct vgd_gpu *gpu);

/** The virtio feature bits (0..5) that this device can offer over its renderer. */
uint64_t vgd_gpu_features(const struct vgd_gpu *gpu);
/** What the guest acked (any bits). Commands of features not acked get ERR_UNSPEC. */
void vgd_gpu_set_features(struct vgd_gpu *gpu, uint64_t features);
uint32_t vgd_gpu_num_capsets(const struct vgd_gpu *gpu);

/** Execute @req; complete() may be called before this returns. */
void vgd_gpu_execute(struct vgd_gpu *gpu, struct vgd_gpu_request *req);

/**
 * Answer a command that a dead worker had taken: its effect is unknown, so the response is
 * ERR_UNSPEC with the header's fence, context and ring echoed. Commands with which the guest lets
 * go of something (UNREF, DETACH_BACKING, CTX_DETACH, CTX_DESTROY, UNMAP_BLOB) are done if they
 * were not, and get OK: the guest will use the id again whatever we answer. What a MAP_BLOB may
 * have brought into the region is taken out again. Call after vgd_gpu_restore and
 * vgd_gpu_set_features, oldest first; or for one command that cannot be executed. Uses complete(),
 * and with a fence only after what is before it on its timeline.
 */
void vgd_gpu_fail(struct vgd_gpu *gpu, struct vgd_gpu_request *req);

/** A chain in which there is no command was given back to the guest. */
void vgd_gpu_bad_chain(struct vgd_gpu *gpu);

/* --- for recording ---------------------------------------------------------------------------- */

/** Guest memory that a command touches: bytes [@offset_bytes, + @n_bytes) of the backing of
 *  @res_id, whose pages are @iov; borrowed until the command is executed, which itself changes no
 *  backing that it writes to. */
typedef void (*vgd_gpu_span_fn)(void *user, uint32_t res_id, const struct iovec *iov,
                                uint32_t n_iov, uint64_t offset_bytes, uint64_t n_bytes,
                                bool is_write);
/**
 * Tell @fn what the command @cmd, not executed yet, will read and write of guest memory: at least
 * that, and always inside the backing. Also what a stream's own transfers name, up to the first
 * command that is refused. Nothing for a command that will be refused. Changes nothing.
 *
 * Returns how many bytes it did not tell, since one command is worth a limited time: 0 but for
 * streams that name memory of the same resources again and again, or one of more than 256 MiB.
 */
uint64_t vgd_gpu_command_spans(const struct vgd_gpu *gpu, enum vgd_gpu_queue queue,
                               const uint8_t *cmd, size_t cmd_bytes, vgd_gpu_span_fn fn,
                               void *user);

/** Likewise, what reading @rect of @image, a picture in a blob, reads of guest memory: nothing
 *  where the blob is the host's. */
void vgd_gpu_picture_spans(const struct vgd_gpu *gpu, uint32_t res_id,
                           const struct vgd_image *image, struct vgd_rect rect, vgd_gpu_span_fn fn,
                           void *user);

/*
 * Takes what makes the present state from nothing, in an order in which it can be executed. A
 * resource's contents come behind the command that makes it and before the one that gives it pages,
 * so that who executes this can give it pages of its own meanwhile. False: not now. backing and
 * content may be NULL: not wanted.
 */
struct vgd_gpu_snapshot_sink {
    /** A command as a guest would send it: @head_bytes at @head, then @tail_bytes at @tail (4-byte
     *  aligned; may be none). */
    bool (*command)(void *user, enum vgd_gpu_queue queue, const uint8_t *head, size_t head_bytes,
                    const void *tail, size_t tail_bytes);
    /** A part of the backing of @res_id that is in guest memory now: at most
     *  VGD_SNAPSHOT_PART_BYTES from @offset_bytes on. */
    bool (*backing)(void *user, uint32_t res_id, const struct iovec *iov, uint32_t n_iov,
                    uint64_t offset_bytes, uint64_t n_bytes);
    /** Texels, as render.h's content_read gave them; at most VGD_SNAPSHOT_PART_BYTES. */
    bool (*content)(void *user, uint32_t res_id, uint32_t level, const struct vgd_box *box,
                    uint32_t stride_bytes, uint32_t layer_stride_bytes, const void *data,
                    size_t n_bytes);
    void *user;
};
#define VGD_SNAPSHOT_PART_BYTES (1u << 20)
/**
 * @position  how many calls of the sink are done, 0 at first. When the sink said "not now", the
 *            same number goes on there; as long as no command is executed and guest memory stays.
 *
 * VGD_OK: all of it. VGD_CLOSED: the sink said "not now". VGD_NO_MEMORY. What cannot be made again
 * is left out, and what refers to it: lost contexts and resources, memory of the host whose context
 * is gone, texels that the renderer cannot read. Commands in flight are in it as far as they were
 * executed. A cursor's shape is set from a resource that is made for it, and goes at the end.
 */
VGD_MUST_CHECK enum vgd_status
vgd_gpu_snapshot(struct vgd_gpu *gpu, const struct vgd_gpu_snapshot_sink *sink, uint64_t *position);
/** Is there anything that a snapshot would make? */
bool vgd_gpu_has_state(const struct vgd_gpu *gpu);

/** Forwarded from the renderer. */
void vgd_gpu_fence_done(struct vgd_gpu *gpu, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq);
void vgd_gpu_context_lost(struct vgd_gpu *gpu, uint32_t ctx_id);

/** The answer of a window request. A token that is not waited for (any more) is ignored. */
void vgd_gpu_window_done(struct vgd_gpu *gpu, uint64_t token, enum vgd_status status);

/** Guest memory was remapped: every backing is translated again; one that no longer resolves is
 *  detached. Call before any other command. */
void vgd_gpu_memory_changed(struct vgd_gpu *gpu);
/** Guest memory is about to go away: no iovec is used until vgd_gpu_memory_changed. */
void vgd_gpu_memory_detach(struct vgd_gpu *gpu);

/** Requests not yet completed. */
uint32_t vgd_gpu_pending_count(const struct vgd_gpu *gpu);
/** Complete every pending request with ERR_UNSPEC now (a stop whose fences do not come). A map that
 *  was waited for is unmapped if it comes after all; until then its range stays taken. */
void vgd_gpu_fail_pending(struct vgd_gpu *gpu);

/** Device reset: contexts, resources, scanouts and cursor are gone, pending requests are dropped
 *  without completion, the journal is empty. */
void vgd_gpu_reset(struct vgd_gpu *gpu);

/**
 * Rebuild from the journal that a dead worker left: 2D resources refilled from guest memory,
 * scanouts shown and flushed whole, cursor; 3D resources empty with their backing; blobs of guest
 * memory whole, blobs of host memory lost, those that were in the window still there (their memory
 * lives on in the VMM's mapping); contexts lost.
 * Decoded and limited like guest commands. VGD_OK, or why the journal was refused: then the device
 * is empty. Call once, on a fresh device, after guest memory is there.
 */
VGD_MUST_CHECK enum vgd_status vgd_gpu_restore(struct vgd_gpu *gpu);

/** Send scanouts (whole) and cursor to the display again: it is a new one, or was replaced. */
void vgd_gpu_redisplay(struct vgd_gpu *gpu);

#endif
