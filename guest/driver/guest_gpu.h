/* SPDX-License-Identifier: MIT */
/*
 * A whole user-space guest: RAM, front-end, queues, display and a virtio-gpu driver. No VM needed.
 *
 * Commands can be in flight in any number (begin, wait, end) or one at a time (the helpers). All
 * waiting goes through vgd_guest_gpu_turn, which also serves the display (unless it has a thread)
 * and the backend channel. The driver looks at the used rings only when it was called, so an
 * interrupt that never comes is noticed (counters.missed_calls).
 * Thread: one at a time.
 */
#ifndef VGD_GUEST_GPU_H
#define VGD_GUEST_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest_display.h"
#include "guest_frontend.h"
#include "guest_queue.h"
#include "guest_ram.h"
#include "status.h"
#include "virtio_gpu.h"

#define VGD_GUEST_CONTROL 0u
#define VGD_GUEST_CURSOR 1u
#define VGD_GUEST_BODY_MAX 3968u /* of a command, without its data */
#define VGD_GUEST_RESP_MAX 4096u

struct vgd_guest_gpu_config {
    struct vgd_guest_frontend_config frontend;
    uint64_t ram_bytes; /* 0: 64 MiB */
    uint32_t n_regions; /* 0: 1 */
    uint64_t region_hole_bytes;
    bool separate_files;
    uint32_t n_scanouts;         /* 0: 1 */
    uint32_t w_px, h_px;         /* 0: 1280x800 */
    uint32_t control_queue_size; /* 0: 256 with VIRGL, else 64, as QEMU */
    bool no_indirect;
    bool no_event_idx; /* not acked either */
    bool display_thread;
    uint32_t command_timeout_ms; /* of the helpers; 0: 10 s */
};

struct vgd_guest_gpu_counters {
    uint64_t commands;
    uint64_t missed_calls; /* used entries that came without the interrupt they were owed */
};

struct vgd_guest_gpu;

/** A command in flight or answered. */
struct vgd_guest_command {
    bool done;
    uint32_t used_bytes;      /* as the device said */
    struct vgd_ctrl_hdr resp; /* type 0 when fewer than 24 bytes came */
    const uint8_t *resp_body; /* behind the header; valid until end */
    uint32_t resp_body_bytes;
    uint64_t sent_ns, done_ns; /* CLOCK_MONOTONIC; done: when the driver saw it */

    /* The driver's own. */
    struct {
        struct vgd_guest_command *next;
        uint8_t *req, *resp;
        uint64_t req_gpa, resp_gpa;
        uint64_t data_gpa, data_bytes;
        bool ended, forgotten;
    } priv;
};

struct vgd_guest_request {
    uint32_t queue; /* VGD_GUEST_CONTROL or _CURSOR */
    struct vgd_ctrl_hdr hdr;
    const void *body; /* encoded, at most VGD_GUEST_BODY_MAX */
    uint32_t body_bytes;
    const void *data; /* more bytes behind the body, in a buffer of their own */
    uint32_t data_bytes;
    uint64_t ram_gpa;    /* bytes behind those that are in guest RAM already: not copied, and the */
    uint32_t ram_bytes;  /* caller's until the command is done */
    uint32_t resp_bytes; /* room for the response, at most VGD_GUEST_RESP_MAX; 0: none at all */
    /* Cut each buffer in pieces of this many bytes, a descriptor each; 0: one piece. */
    uint32_t req_piece_bytes, data_piece_bytes, resp_piece_bytes;
    uint32_t cut_bytes; /* leave this many bytes off the end of header and body */
};

/**
 * Take *@fd (a vhost-user socket), realize and start. On failure NULL, *out_status why and
 * *@fd closed or kept; either way the caller's vgd_fd_closep is right.
 */
struct vgd_guest_gpu *vgd_guest_gpu_open(int *fd, const struct vgd_guest_gpu_config *config,
                                         enum vgd_status *out_status);
/** The same without realize and start. */
struct vgd_guest_gpu *vgd_guest_gpu_open_raw(int *fd, const struct vgd_guest_gpu_config *config,
                                             enum vgd_status *out_status);
/** Closes every socket. NULL is fine. */
void vgd_guest_gpu_close(struct vgd_guest_gpu *gpu);

struct vgd_guest_ram *vgd_guest_gpu_ram(struct vgd_guest_gpu *gpu);
struct vgd_guest_frontend *vgd_guest_gpu_frontend(struct vgd_guest_gpu *gpu);
struct vgd_guest_display *vgd_guest_gpu_display(struct vgd_guest_gpu *gpu);
struct vgd_guest_queue *vgd_guest_gpu_queue(struct vgd_guest_gpu *gpu, uint32_t idx);
struct vgd_guest_gpu_counters vgd_guest_gpu_counters(const struct vgd_guest_gpu *gpu);
/** How long the helpers wait for an answer. */
uint32_t vgd_guest_gpu_timeout_ms(const struct vgd_guest_gpu *gpu);
bool vgd_guest_gpu_has_3d(const struct vgd_guest_gpu *gpu);

/** Realize and start after vgd_guest_gpu_open_raw; tunes queues and features. */
VGD_MUST_CHECK enum vgd_status vgd_guest_gpu_start(struct vgd_guest_gpu *gpu);
/** QMP stop and cont. Commands in flight stay so. */
VGD_MUST_CHECK enum vgd_status vgd_guest_gpu_pause(struct vgd_guest_gpu *gpu);
VGD_MUST_CHECK enum vgd_status vgd_guest_gpu_resume(struct vgd_guest_gpu *gpu);
/** Guest reboot. Commands in flight are forgotten: end them first or after, they stay not done. */
VGD_MUST_CHECK enum vgd_status vgd_guest_gpu_reset(struct vgd_guest_gpu *gpu);

/** Wait at most @timeout_ms for anything, then serve all there is. */
void vgd_guest_gpu_turn(struct vgd_guest_gpu *gpu, int timeout_ms);
/** Serve until the display has nothing to read for @quiet_ms (bounded by 100 times that). */
void vgd_guest_gpu_settle(struct vgd_guest_gpu *gpu, int quiet_ms);
/** Look at the used rings without a system call. Returns how many answers there were. */
uint32_t vgd_guest_gpu_poll(struct vgd_guest_gpu *gpu);
/** For one who polls and sleeps by turns: until the next call of this, an answer to the control
 *  queue interrupts only when @n_answers have come (1: each, which is the default). False: some
 *  have come already, and no interrupt will tell of them: poll. Without EVENT_IDX each interrupts.
 */
bool vgd_guest_gpu_calls_after(struct vgd_guest_gpu *gpu, uint32_t n_answers);

/** Make @req available; with @kick the device is told. NULL: the queue or RAM is full now. */
struct vgd_guest_command *vgd_guest_gpu_begin(struct vgd_guest_gpu *gpu,
                                              const struct vgd_guest_request *req, bool kick);
/** Tell the device about what was begun without a kick. */
void vgd_guest_gpu_kick(struct vgd_guest_gpu *gpu, uint32_t queue);
/** True once @cmd is done; false after @timeout_ms, or when the backend is gone. */
bool vgd_guest_gpu_wait(struct vgd_guest_gpu *gpu, struct vgd_guest_command *cmd, int timeout_ms);
/** Give the command back (one in flight is kept until it is answered or the guest closes). */
void vgd_guest_gpu_end(struct vgd_guest_gpu *gpu, struct vgd_guest_command *cmd);

/** Begin, kick, wait. Returns the response's type, 0 when none came. @out_body may be NULL, else
 *  up to @body_max bytes of the response body, zero filled. */
uint32_t vgd_guest_gpu_call(struct vgd_guest_gpu *gpu, const struct vgd_guest_request *req,
                            void *out_body, uint32_t body_max);
/** A control command without data, whose response is only a header. */
uint32_t vgd_guest_call_simple(struct vgd_guest_gpu *gpu, uint32_t type, uint32_t ctx_id,
                               const void *body, uint32_t body_bytes);
/** The same with @entries as its data. */
uint32_t vgd_guest_call_entries(struct vgd_guest_gpu *gpu, uint32_t type, uint32_t ctx_id,
                                const void *body, uint32_t body_bytes,
                                const struct vgd_mem_entry *entries, uint32_t n_entries);

/*
 * Helpers: one command each; each returns the response's type (VGD_RESP_*), 0 for no answer.
 */
uint32_t vgd_guest_get_display_info(struct vgd_guest_gpu *gpu, struct vgd_resp_display_info *out);
uint32_t vgd_guest_get_edid(struct vgd_guest_gpu *gpu, uint32_t scanout, struct vgd_resp_edid *out);
uint32_t vgd_guest_create_2d(struct vgd_guest_gpu *gpu, uint32_t res_id, uint32_t format,
                             uint32_t w_px, uint32_t h_px);
uint32_t vgd_guest_unref(struct vgd_guest_gpu *gpu, uint32_t res_id);
/** @entries as they are, not checked. */
uint32_t vgd_guest_attach(struct vgd_guest_gpu *gpu, uint32_t res_id,
                          const struct vgd_mem_entry *entries, uint32_t n_entries);
uint32_t vgd_guest_detach(struct vgd_guest_gpu *gpu, uint32_t res_id);
uint32_t vgd_guest_transfer_2d(struct vgd_guest_gpu *gpu, uint32_t res_id, struct vgd_rect rect,
                               uint64_t offset_bytes);
uint32_t vgd_guest_set_scanout(struct vgd_guest_gpu *gpu, uint32_t scanout, uint32_t res_id,
                               struct vgd_rect rect);
uint32_t vgd_guest_flush(struct vgd_guest_gpu *gpu, uint32_t res_id, struct vgd_rect rect);
/** @type UPDATE_CURSOR or MOVE_CURSOR. The cursor queue has no response: 1 when it came back. */
uint32_t vgd_guest_cursor(struct vgd_guest_gpu *gpu, uint32_t type,
                          const struct vgd_cmd_update_cursor *cursor);
uint32_t vgd_guest_get_capset_info(struct vgd_guest_gpu *gpu, uint32_t idx,
                                   struct vgd_resp_capset_info *out);
/** *out_bytes: how much the device wrote behind the header. */
uint32_t vgd_guest_get_capset(struct vgd_guest_gpu *gpu, uint32_t id, uint32_t version, void *out,
                              uint32_t max_bytes, uint32_t *out_bytes);
uint32_t vgd_guest_ctx_create(struct vgd_guest_gpu *gpu, uint32_t ctx_id, uint32_t context_init,
                              const char *name);
uint32_t vgd_guest_ctx_destroy(struct vgd_guest_gpu *gpu, uint32_t ctx_id);
uint32_t vgd_guest_ctx_attach(struct vgd_guest_gpu *gpu, uint32_t ctx_id, uint32_t res_id);
uint32_t vgd_guest_ctx_detach(struct vgd_guest_gpu *gpu, uint32_t ctx_id, uint32_t res_id);
uint32_t vgd_guest_create_3d(struct vgd_guest_gpu *gpu, uint32_t ctx_id,
                             const struct vgd_cmd_resource_create_3d *create);
/** @type TRANSFER_TO_HOST_3D or TRANSFER_FROM_HOST_3D. */
uint32_t vgd_guest_transfer_3d(struct vgd_guest_gpu *gpu, uint32_t type, uint32_t ctx_id,
                               const struct vgd_cmd_transfer_host_3d *transfer);
/** @fence_id 0: not fenced. */
uint32_t vgd_guest_submit_3d(struct vgd_guest_gpu *gpu, uint32_t ctx_id, const uint32_t *dwords,
                             uint32_t n_dwords, uint64_t fence_id);

/* A request of SUBMIT_3D for vgd_guest_gpu_begin; @body has to outlive the call to begin. */
struct vgd_guest_request vgd_guest_submit_request(uint32_t ctx_id, const uint32_t *dwords,
                                                  uint32_t n_dwords, uint64_t fence_id,
                                                  uint8_t body[VGD_CMD_SUBMIT_3D_SIZE]);

/*
 * Blobs and the host-visible region.
 */

/** RESOURCE_CREATE_BLOB in context @ctx_id. @cmd is sent as it is, with @entries behind it. */
uint32_t vgd_guest_create_blob(struct vgd_guest_gpu *gpu, uint32_t ctx_id,
                               const struct vgd_cmd_resource_create_blob *cmd,
                               const struct vgd_mem_entry *entries, uint32_t n_entries);
/** *out_map_info (may be NULL): VGD_MAP_CACHE_*. After VGD_RESP_OK_MAP_INFO the blob's bytes are at
 *  vgd_guest_window(gpu) + @offset_bytes. */
uint32_t vgd_guest_map_blob(struct vgd_guest_gpu *gpu, uint32_t res_id, uint64_t offset_bytes,
                            uint32_t *out_map_info);
uint32_t vgd_guest_unmap_blob(struct vgd_guest_gpu *gpu, uint32_t res_id);
uint32_t vgd_guest_assign_uuid(struct vgd_guest_gpu *gpu, uint32_t res_id, uint8_t out_uuid[16]);
uint32_t vgd_guest_set_scanout_blob(struct vgd_guest_gpu *gpu,
                                    const struct vgd_cmd_set_scanout_blob *cmd);
/** A fence on ring @ring_idx of @ctx_id (an empty SUBMIT_3D when @n_dwords is 0). */
uint32_t vgd_guest_submit_ring(struct vgd_guest_gpu *gpu, uint32_t ctx_id, uint8_t ring_idx,
                               const uint32_t *dwords, uint32_t n_dwords, uint64_t fence_id);

/* Requests of MAP_BLOB and of a ring's fence for vgd_guest_gpu_begin; as vgd_guest_submit_request.
 */
struct vgd_guest_request vgd_guest_map_request(uint32_t res_id, uint64_t offset_bytes,
                                               uint8_t body[VGD_CMD_RESOURCE_MAP_BLOB_SIZE]);
struct vgd_guest_request vgd_guest_ring_request(uint32_t ctx_id, uint8_t ring_idx,
                                                const uint32_t *dwords, uint32_t n_dwords,
                                                uint64_t fence_id,
                                                uint8_t body[VGD_CMD_SUBMIT_3D_SIZE]);

/** Bytes of the host-visible region as the backend said at realize; 0: there is none. */
uint64_t vgd_guest_window_bytes(const struct vgd_guest_gpu *gpu);
/** The region in our address space, reserved whole; only what is mapped may be touched. */
uint8_t *vgd_guest_window(struct vgd_guest_gpu *gpu);
/** The file behind the mapping that begins at @offset_bytes. *out_fd is borrowed until it is
 *  unmapped. False: nothing is mapped there. */
bool vgd_guest_window_file(struct vgd_guest_gpu *gpu, uint64_t offset_bytes, int *out_fd,
                           uint64_t *out_file_offset, uint64_t *out_len_bytes);
/** Mappings now: a test ends with the number it began with. */
uint32_t vgd_guest_window_maps_count(const struct vgd_guest_gpu *gpu);
/** A free range of the region, as a guest's kernel hands them out (first fit). UINT64_MAX: none. */
uint64_t vgd_guest_window_alloc(struct vgd_guest_gpu *gpu, uint64_t size_bytes);
void vgd_guest_window_free(struct vgd_guest_gpu *gpu, uint64_t offset_bytes, uint64_t size_bytes);

/* Pages in guest RAM that back a resource. */
struct vgd_guest_backing {
    uint8_t *bytes; /* when made of one piece; else NULL: use vgd_guest_backing_write */
    uint64_t size_bytes;
    uint32_t n_entries;
    bool gaps;
    struct vgd_mem_entry *entries; /* owned */
};
/** @n_entries pieces that are not neighbours (1: one piece). False: no room. */
bool vgd_guest_backing_create(struct vgd_guest_gpu *gpu, uint64_t size_bytes, uint32_t n_entries,
                              struct vgd_guest_backing *out);
void vgd_guest_backing_destroy(struct vgd_guest_gpu *gpu, struct vgd_guest_backing *backing);
void vgd_guest_backing_write(struct vgd_guest_gpu *gpu, const struct vgd_guest_backing *backing,
                             uint64_t offset_bytes, const void *data, uint64_t n_bytes);
void vgd_guest_backing_read(struct vgd_guest_gpu *gpu, const struct vgd_guest_backing *backing,
                            uint64_t offset_bytes, void *out, uint64_t n_bytes);

#endif
