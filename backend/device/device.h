/* SPDX-License-Identifier: MIT */
/*
 * What the files of the device share; nobody else includes it.
 *
 *   gpu.c       requests: header checks, dispatch, answers
 *   fence.c     timelines: what waits for the renderer
 *   resource.c  2D and 3D resources, 2D transfers, UUIDs
 *   blob.c      blob resources
 *   window.c    blobs in the host-visible region
 *   backing.c   guest pages of resources, memory changes
 *   context.c   contexts, 3D transfers, lost contexts
 *   submit.c    SUBMIT_3D: streams, followed on their way (virgl_state.h)
 *   scanout.c   scanouts, flush, cursor
 *   info.c      capsets, EDID, display information
 *   record.c    the state as records of the journal, and back
 *   journal.c   the memory that holds them
 *
 * Each command handler decodes, checks everything, and only then acts: a refused command leaves the
 * device as it was.
 */
#ifndef VGD_DEVICE_H
#define VGD_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "gpu.h"
#include "idmap.h"
#include "journal.h"
#include "log.h"
#include "virgl_state.h"

#define VGD_BYTES_PER_PIXEL 4u
/* Gallium's pipe_texture_target, as RESOURCE_CREATE_3D carries it. */
#define VGD_TARGET_BUFFER 0u
#define VGD_TARGET_2D 2u
#define VGD_TARGET_3D 3u
#define VGD_TARGET_RECT 5u
#define VGD_TARGET_MAX 8u

enum vgd_resource_kind {
    VGD_RESOURCE_2D,
    VGD_RESOURCE_3D,
    VGD_RESOURCE_BLOB,
};

/*
 * Guest pages of a resource.
 *
 *   none (n_entries 0) --attach--> mapped --memory goes--> unmapped --memory changed--> mapped
 *
 * Unmapped: the guest attached pages that are not in its memory (any more). Transfers are refused,
 * detaching is fine.
 */
struct vgd_backing {
    struct vgd_mem_entry *entries; /* owned; as the guest gave them */
    uint32_t n_entries;
    uint32_t n_iov;
    uint64_t size_bytes; /* sum over the entries */
    struct iovec *iov;   /* owned, lent to the renderer; NULL while unmapped */
};

/* A resource in a context. Owned by the context's map; also on the resource's list. */
struct vgd_attachment {
    struct vgd_context *ctx;
    struct vgd_resource *res;
    struct vgd_attachment *prev, *next; /* of the same resource */
    bool in_renderer;
};

/*
 * A resource lives from its create command to UNREF or reset; scanouts and contexts that use it
 * are told to let go first. One that a restore could not give to the renderer has no in_renderer:
 * only UNREF, DETACH_BACKING, CTX_DETACH and UNMAP_BLOB work on it.
 */
struct vgd_resource {
    uint32_t id;
    enum vgd_resource_kind kind;
    uint32_t w_px, h_px;
    uint64_t size_bytes; /* what it counts for against the guest's total */
    union {
        uint32_t format;                           /* 2D */
        struct vgd_cmd_resource_create_3d args_3d; /* 3D */
        struct {
            uint32_t mem, flags;
            uint64_t size_bytes;
            /* The PIPE_RESOURCE_CREATE that made it, which its context was sent before; 0: none */
            uint32_t made_by[VGD_VIRGL_PIPE_CREATE_DWORDS];
        } blob;
    } as;
    struct vgd_backing backing;
    struct vgd_attachment *attachments;
    struct vgd_map *map; /* owned by the device's list; NULL: not mapped */
    bool has_uuid;
    uint8_t uuid[VGD_RESP_RESOURCE_UUID_SIZE];
    bool in_renderer;
};

/*
 * A range of the host-visible region that a blob has, or had:
 *
 *   mapping --window--> mapped --UNMAP or UNREF--> going --window--> gone
 *      |                                             ^
 *      +--UNMAP or UNREF (asked at once) ------------+
 *      +--window refuses--> gone
 *
 * Going: nobody's any more. What is asked for after it may have the range, since the window works
 * in order. A map without resource that is still mapping is not wanted any more: it is unmapped if
 * it comes.
 */
enum vgd_map_state {
    VGD_MAP_MAPPING,
    VGD_MAP_MAPPED,
    VGD_MAP_GOING,
};
struct vgd_map {
    struct vgd_map *prev, *next;
    struct vgd_resource *res; /* NULL: let go */
    enum vgd_map_state state;
    uint64_t offset_bytes, len_bytes;
    uint64_t map_token, unmap_token;   /* unanswered; 0: none */
    struct vgd_gpu_request *map_req;   /* the MAP_BLOB that waits; or NULL */
    struct vgd_gpu_request *unmap_req; /* the UNMAP_BLOB or UNREF that waits; or NULL */
    bool asking, answered;             /* the window is being asked; and has answered already */
    enum vgd_status answer;            /* when answered */
};

/* Requests that wait, oldest first. */
struct vgd_gpu_waiters {
    struct vgd_gpu_request *first, *last;
    uint64_t retired_seq; /* timelines: fences up to this one have signalled */
};

/*
 *   live --renderer fails, or restored from the journal--> lost
 *
 * Lost: commands that need the context are refused, queries that the guest may be spinning on are
 * completed, and detach and destroy work.
 */
struct vgd_context {
    uint32_t id;
    uint32_t capset_id;
    uint32_t name_len_bytes;
    char name[VGD_DEBUG_NAME_BYTES];
    bool lost;
    bool in_renderer;
    uint32_t queries_count;            /* attached resources that may be query buffers */
    struct vgd_idmap attachments;      /* resource id -> struct vgd_attachment, owned */
    struct vgd_gpu_waiters *timelines; /* owned; one per ring, NULL before the first ring fence */
    struct vgd_virgl_state *stream; /* owned; NULL of other than OpenGL contexts, and when lost */
    uint64_t submits, submit_bytes;
    uint64_t stream_commands, stream_draws, stream_unknown, stream_refused;
};

struct vgd_scanout {
    struct vgd_resource *res; /* NULL: off */
    struct vgd_image image;   /* of a blob: how it is a picture */
    struct vgd_rect src;
    bool fresh; /* set, and not flushed whole since */
};

struct vgd_cursor {
    uint8_t *pixels; /* owned, VGD_CURSOR_BYTES; NULL before the first shape */
    struct vgd_cursor_pos pos;
    uint32_t hot_x_px, hot_y_px;
    bool visible;
};

struct vgd_gpu {
    struct vgd_gpu_config config; /* limits filled in */
    const struct vgd_render_ops *ops;
    struct vgd_render *render;
    struct vgd_gpu_counters *counters; /* the config's, or our own */
    struct vgd_gpu_counters own_counters;
    struct vgd_render_info info;
    uint64_t features; /* acked and offered */

    struct vgd_idmap resources; /* struct vgd_resource, owned */
    struct vgd_idmap contexts;  /* struct vgd_context, owned */
    uint32_t attachments_count;
    struct vgd_scanout scanouts[VGD_MAX_SCANOUTS];
    struct vgd_cursor cursors[VGD_MAX_SCANOUTS];

    uint64_t fence_seq;                     /* the last one given to the renderer */
    uint32_t pending_count;                 /* on all lists */
    uint32_t waiting_count;                 /* of these, for a fence */
    struct vgd_gpu_waiters device_timeline; /* fences without a ring */
    struct vgd_gpu_waiters questions;       /* asked of the display */
    struct vgd_gpu_waiters window_waiters;  /* asked of the window, and in no timeline */

    uint64_t stream_state_bytes; /* of all contexts */

    struct vgd_map *maps; /* owned; the newest first */
    uint32_t maps_count;
    uint64_t window_token; /* the last one used; none is used twice */

    uint8_t *resp; /* owned scratch, for the largest response */
    size_t resp_bytes;
    bool replaying; /* records of a journal: tables only, no renderer, no display */
    struct vgd_log_limit log_limit;
};

/* One command on its way through a handler. */
struct vgd_gpu_call {
    struct vgd_gpu *gpu;
    struct vgd_gpu_request *req; /* NULL while replaying */
    const char *name;
    struct vgd_ctrl_hdr hdr;
    struct vgd_reader body;
    const uint8_t *cmd; /* whole, with its header */
    size_t cmd_bytes;
    bool logged;
    bool answered;         /* the handler completes the request itself, now or later */
    bool recorded;         /* the handler has appended the record itself, or wants none */
    struct vgd_map *going; /* the answer waits until this is unmapped */
};

/* Say what the guest did wrong, once a command, and be @status. */
#define VGD_REFUSE(call, refuse_status, ...)                                                       \
    (vgd_log_guest(&(call)->gpu->log_limit, (call)->name, __VA_ARGS__), (call)->logged = true,     \
     (refuse_status))

/* gpu.c */
/** Fill in the limits left at zero. */
void vgd_gpu_limits_default(struct vgd_gpu_limits *limits);
uint32_t vgd_gpu_resp_of(enum vgd_status status);
/** Answer @req with @type and @body_bytes of body that already lie in gpu->resp behind the header;
 *  a response that does not fit becomes a bare ERR_UNSPEC, or nothing at all. Not on any list. */
void vgd_gpu_reply(struct vgd_gpu *gpu, struct vgd_gpu_request *req, uint32_t type,
                   size_t body_bytes);
/** Answer @req, which is on no list: with its own success if @type is VGD_RESP_OK_NODATA. */
void vgd_gpu_answer(struct vgd_gpu *gpu, struct vgd_gpu_request *req, uint32_t type);
/** Run the handler of call->hdr.type on call->body. */
VGD_MUST_CHECK enum vgd_status vgd_gpu_dispatch(struct vgd_gpu_call *call);

/* fence.c */
void vgd_list_append(struct vgd_gpu_waiters *list, struct vgd_gpu_request *req);
void vgd_list_remove(struct vgd_gpu_request *req);
/** May a command with this header be fenced? Makes the timeline ready, so that the fence itself
 *  cannot fail for want of memory or room. */
VGD_MUST_CHECK enum vgd_status vgd_fence_prepare(struct vgd_gpu_call *call);
/** The command is done with @status: answer it, or let it wait for its fence. */
void vgd_fence_finish(struct vgd_gpu *gpu, struct vgd_gpu_request *req, enum vgd_status status);
/**
 * Let a command that the window will answer take its place: in its timeline, with a fence of its
 * own, or among window_waiters. Fails as the renderer's fence does; then @req is on no list.
 */
VGD_MUST_CHECK enum vgd_status vgd_fence_hold(struct vgd_gpu *gpu, struct vgd_gpu_request *req);
/** The window has answered a held @req: complete it with @status as soon as its turn comes. */
void vgd_fence_release(struct vgd_gpu *gpu, struct vgd_gpu_request *req, enum vgd_status status);
/** A held @req is to be executed again, later: it leaves its place unanswered, and gets a new one.
 */
void vgd_fence_withdraw(struct vgd_gpu *gpu, struct vgd_gpu_request *req);
/** Answer everything that waits on the rings of @ctx; @type VGD_RESP_OK_NODATA keeps each
 *  command's own answer. What is held waits on without a ring. */
void vgd_fence_drop_context(struct vgd_gpu *gpu, struct vgd_context *ctx, uint32_t type);

/* resource.c */
enum vgd_status vgd_do_resource_create_2d(struct vgd_gpu_call *call);
enum vgd_status vgd_do_resource_create_3d(struct vgd_gpu_call *call);
enum vgd_status vgd_do_resource_unref(struct vgd_gpu_call *call);
enum vgd_status vgd_do_transfer_to_host_2d(struct vgd_gpu_call *call);
enum vgd_status vgd_do_assign_uuid(struct vgd_gpu_call *call);
enum vgd_status vgd_do_uuid_record(struct vgd_gpu_call *call);
struct vgd_resource *vgd_resource_find(const struct vgd_gpu *gpu, uint32_t id);
bool vgd_rect_fits(struct vgd_rect r, uint32_t w_px, uint32_t h_px);
/** Is @format one of the eight of RESOURCE_CREATE_2D, of 4 bytes a pixel? */
bool vgd_format_2d_known(uint32_t format);
/** May the guest have one more resource, with id @id, that takes @size_bytes of the host? */
VGD_MUST_CHECK enum vgd_status vgd_resource_admit(struct vgd_gpu_call *call, uint32_t id,
                                                  uint64_t size_bytes);
/** Keep a copy of @made (admitted, unknown to the renderer yet) in the table. On failure what it
 *  owns is still the caller's. */
VGD_MUST_CHECK enum vgd_status
vgd_resource_add(struct vgd_gpu *gpu, const struct vgd_resource *made, struct vgd_resource **out);
/** Undo vgd_resource_add; what @res owns goes with it. */
void vgd_resource_drop(struct vgd_gpu *gpu, struct vgd_resource *res);
/** Make @res known to the renderer, as its create command says. Not for blobs of host memory: what
 *  they name is the context's, and goes with it. */
VGD_MUST_CHECK enum vgd_status vgd_resource_materialise(struct vgd_gpu *gpu,
                                                        struct vgd_resource *res);
/** Copy the whole backing of a 2D resource, as far as it reaches. */
void vgd_resource_refill(struct vgd_gpu *gpu, const struct vgd_resource *res);
/** Free every resource. Scanouts, contexts and the renderer know none any more. */
void vgd_resources_finish(struct vgd_gpu *gpu);

/* backing.c */
enum vgd_status vgd_do_attach_backing(struct vgd_gpu_call *call);
enum vgd_status vgd_do_detach_backing(struct vgd_gpu_call *call);
/** Take the @n_entries that are the rest of the command as pages of @res_id: limits, decoding, and
 *  translation unless replaying. *out is the caller's to free with vgd_backing_free; empty on
 *  failure. */
VGD_MUST_CHECK enum vgd_status vgd_backing_take(struct vgd_gpu_call *call, uint32_t res_id,
                                                uint32_t n_entries, struct vgd_backing *out);
/** Free one that is no resource's. */
void vgd_backing_free(struct vgd_backing *backing);
/** Free the backing; the renderer must not use it any more. */
void vgd_backing_finish(struct vgd_gpu *gpu, struct vgd_resource *res);

/* blob.c */
enum vgd_status vgd_do_create_blob(struct vgd_gpu_call *call);
/** Is @res a blob whose pages are the guest's, and nothing else? */
bool vgd_blob_is_guest(const struct vgd_resource *res);
/** Has @res memory of the host, which goes with the context that made it? */
bool vgd_blob_is_host(const struct vgd_resource *res);

/* window.c */
enum vgd_status vgd_do_map_blob(struct vgd_gpu_call *call);
enum vgd_status vgd_do_unmap_blob(struct vgd_gpu_call *call);
/** UNREF: take @res, which goes, out of the region. The command waits for it. */
void vgd_window_forget_resource(struct vgd_gpu_call *call, struct vgd_resource *res);
/** The command has succeeded, and call->going is not NULL: its answer comes when that is gone. */
void vgd_window_wait(struct vgd_gpu_call *call);
/** MAP_BLOB of a dead worker, answered with an error: what the VMM may have mapped is taken back.
 */
void vgd_window_fail_map(struct vgd_gpu_call *call);
/** Nobody waits for the window any more: what comes is unmapped, what goes goes. */
void vgd_window_fail_pending(struct vgd_gpu *gpu);
/** Free every map. Nobody waits for the window any more. */
void vgd_window_finish(struct vgd_gpu *gpu);

/* context.c */
enum vgd_status vgd_do_ctx_create(struct vgd_gpu_call *call);
enum vgd_status vgd_do_ctx_destroy(struct vgd_gpu_call *call);
enum vgd_status vgd_do_ctx_attach(struct vgd_gpu_call *call);
enum vgd_status vgd_do_ctx_detach(struct vgd_gpu_call *call);
enum vgd_status vgd_do_transfer_to_host_3d(struct vgd_gpu_call *call);
enum vgd_status vgd_do_transfer_from_host_3d(struct vgd_gpu_call *call);
struct vgd_context *vgd_context_find(const struct vgd_gpu *gpu, uint32_t id);
/** The context that the command's header names, live or lost. VGD_NO_CONTEXT. */
VGD_MUST_CHECK enum vgd_status vgd_context_named(struct vgd_gpu_call *call,
                                                 struct vgd_context **out);
/** Take @res out of every context. */
void vgd_contexts_forget_resource(struct vgd_gpu *gpu, struct vgd_resource *res);
/** Write "done, result 0" to the query buffers attached to @ctx. */
void vgd_context_complete_queries(const struct vgd_context *ctx);
/** Free every context; the renderer knows none any more, and nothing waits on a ring. */
void vgd_contexts_finish(struct vgd_gpu *gpu);

/* submit.c */
enum vgd_status vgd_do_submit_3d(struct vgd_gpu_call *call);
/** Begin to follow what a new context is sent, if it is one of OpenGL. VGD_NO_MEMORY. */
VGD_MUST_CHECK enum vgd_status vgd_stream_begin(struct vgd_gpu *gpu, struct vgd_context *ctx);
/** Forget what was sent. */
void vgd_stream_end(struct vgd_context *ctx);

/* scanout.c */
enum vgd_status vgd_do_set_scanout(struct vgd_gpu_call *call);
enum vgd_status vgd_do_set_scanout_blob(struct vgd_gpu_call *call);
enum vgd_status vgd_do_resource_flush(struct vgd_gpu_call *call);
enum vgd_status vgd_do_cursor(struct vgd_gpu_call *call); /* update and move */
enum vgd_status vgd_do_cursor_record(struct vgd_gpu_call *call);
/** Turn off every scanout that shows @res. */
void vgd_scanouts_forget_resource(struct vgd_gpu *gpu, struct vgd_resource *res);
/** Turn everything off and free the cursors. */
void vgd_scanouts_finish(struct vgd_gpu *gpu);

/* info.c */
enum vgd_status vgd_do_get_display_info(struct vgd_gpu_call *call);
enum vgd_status vgd_do_get_edid(struct vgd_gpu_call *call);
enum vgd_status vgd_do_get_capset_info(struct vgd_gpu_call *call);
enum vgd_status vgd_do_get_capset(struct vgd_gpu_call *call);
bool vgd_capset_offered(const struct vgd_gpu *gpu, uint32_t id);
/** Is there room for the response? Asked before the command acts. VGD_UNSUPPORTED. */
VGD_MUST_CHECK enum vgd_status vgd_room_for(struct vgd_gpu_call *call, size_t body_bytes);

/* record.c */
/* Our own record: a cursor with its pixels, since the resource that held them may be gone or
 * changed. Its type is outside what a guest's command may be; the body is an update_cursor body
 * and VGD_CURSOR_BYTES of pixels. */
#define VGD_RECORD_CURSOR 0xffff0300u
#define VGD_RECORD_CURSOR_BYTES                                                                    \
    (VGD_CTRL_HDR_SIZE + VGD_CMD_UPDATE_CURSOR_SIZE + (size_t)VGD_CURSOR_BYTES)
/* And the UUID of a resource, which is random: u32 resource id, the UUID. */
#define VGD_RECORD_UUID 0xffff0301u
#define VGD_RECORD_UUID_BYTES (VGD_CTRL_HDR_SIZE + 4u + VGD_RESP_RESOURCE_UUID_SIZE)
#define VGD_RECORD_MAP_BYTES (VGD_CTRL_HDR_SIZE + VGD_CMD_RESOURCE_MAP_BLOB_SIZE)
/** Make sure that a record of @n_bytes will fit, compacting if need be. Before acting. */
VGD_MUST_CHECK enum vgd_status vgd_record_reserve(struct vgd_gpu *gpu, size_t n_bytes);
/** Append; cannot fail after a reserve of the same size. After acting. */
void vgd_record_append(struct vgd_gpu *gpu, const void *record, size_t n_bytes);
/** Append the cursor of @scanout_idx with its pixels. */
void vgd_record_cursor(struct vgd_gpu *gpu, uint32_t scanout_idx);
/** Append the map of @map->res. */
void vgd_record_map(struct vgd_gpu *gpu, const struct vgd_map *map);
/** Append the UUID of @res. */
void vgd_record_uuid(struct vgd_gpu *gpu, const struct vgd_resource *res);
/** Write the whole state as records to the journal's current target. */
VGD_MUST_CHECK enum vgd_status vgd_record_state(struct vgd_gpu *gpu, struct vgd_journal *journal);

#endif
