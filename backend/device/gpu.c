/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "limits.h"

#define NO_FEATURE 0xffu
#define REFUSAL_BYTES_MAX 256u

struct command {
    uint32_t type;
    enum vgd_gpu_queue queue;
    uint8_t feature; /* VGD_F_* that the guest must have acked */
    enum {
        NOT_RECORDED,
        RECORDED,       /* changes what a new worker must know: goes into the journal as sent */
        RECORDS_ITSELF, /* so does this, but not as sent, or not now */
    } recorded;
    enum vgd_status (*run)(struct vgd_gpu_call *call); /* the call's reader is behind the header */
};

/* On the control queue, but for the last two. */
#define CONTROL(name, feature, recorded, run)                                                      \
    {                                                                                              \
        VGD_CMD_##name, VGD_QUEUE_CONTROL, feature, recorded, run                                  \
    }

static const struct command commands[] = {
    CONTROL(GET_DISPLAY_INFO, NO_FEATURE, NOT_RECORDED, vgd_do_get_display_info),
    CONTROL(RESOURCE_CREATE_2D, NO_FEATURE, RECORDED, vgd_do_resource_create_2d),
    CONTROL(RESOURCE_UNREF, NO_FEATURE, RECORDED, vgd_do_resource_unref),
    CONTROL(SET_SCANOUT, NO_FEATURE, RECORDED, vgd_do_set_scanout),
    CONTROL(RESOURCE_FLUSH, NO_FEATURE, NOT_RECORDED, vgd_do_resource_flush),
    CONTROL(TRANSFER_TO_HOST_2D, NO_FEATURE, NOT_RECORDED, vgd_do_transfer_to_host_2d),
    CONTROL(RESOURCE_ATTACH_BACKING, NO_FEATURE, RECORDED, vgd_do_attach_backing),
    CONTROL(RESOURCE_DETACH_BACKING, NO_FEATURE, RECORDED, vgd_do_detach_backing),
    /* Checks for VIRGL itself: its error has a body. */
    CONTROL(GET_CAPSET_INFO, NO_FEATURE, NOT_RECORDED, vgd_do_get_capset_info),
    CONTROL(GET_CAPSET, VGD_F_VIRGL, NOT_RECORDED, vgd_do_get_capset),
    CONTROL(GET_EDID, VGD_F_EDID, NOT_RECORDED, vgd_do_get_edid),
    CONTROL(RESOURCE_ASSIGN_UUID, VGD_F_RESOURCE_UUID, RECORDS_ITSELF, vgd_do_assign_uuid),
    CONTROL(RESOURCE_CREATE_BLOB, VGD_F_RESOURCE_BLOB, RECORDED, vgd_do_create_blob),
    CONTROL(SET_SCANOUT_BLOB, VGD_F_RESOURCE_BLOB, RECORDED, vgd_do_set_scanout_blob),
    CONTROL(CTX_CREATE, VGD_F_VIRGL, RECORDED, vgd_do_ctx_create),
    CONTROL(CTX_DESTROY, VGD_F_VIRGL, RECORDED, vgd_do_ctx_destroy),
    CONTROL(CTX_ATTACH_RESOURCE, VGD_F_VIRGL, RECORDED, vgd_do_ctx_attach),
    CONTROL(CTX_DETACH_RESOURCE, VGD_F_VIRGL, RECORDED, vgd_do_ctx_detach),
    CONTROL(RESOURCE_CREATE_3D, VGD_F_VIRGL, RECORDED, vgd_do_resource_create_3d),
    CONTROL(TRANSFER_TO_HOST_3D, VGD_F_VIRGL, NOT_RECORDED, vgd_do_transfer_to_host_3d),
    CONTROL(TRANSFER_FROM_HOST_3D, VGD_F_VIRGL, NOT_RECORDED, vgd_do_transfer_from_host_3d),
    CONTROL(SUBMIT_3D, VGD_F_VIRGL, NOT_RECORDED, vgd_do_submit_3d),
    /* When it is there, which may be later. */
    CONTROL(RESOURCE_MAP_BLOB, VGD_F_RESOURCE_BLOB, RECORDS_ITSELF, vgd_do_map_blob),
    /* Before the window is asked; not while mapping, which has no record. */
    CONTROL(RESOURCE_UNMAP_BLOB, VGD_F_RESOURCE_BLOB, RECORDED, vgd_do_unmap_blob),
    /* A shape with its pixels. */
    {VGD_CMD_UPDATE_CURSOR, VGD_QUEUE_CURSOR, NO_FEATURE, RECORDS_ITSELF, vgd_do_cursor},
    {VGD_CMD_MOVE_CURSOR, VGD_QUEUE_CURSOR, NO_FEATURE, RECORDS_ITSELF, vgd_do_cursor},
};

static const struct command *command_find(uint32_t type)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (commands[i].type == type) {
            return &commands[i];
        }
    }
    return NULL;
}

uint32_t vgd_gpu_resp_of(enum vgd_status status)
{
    switch (status) {
    case VGD_OK:
        return VGD_RESP_OK_NODATA;
    case VGD_TRUNCATED:
    case VGD_TRAILING:
    case VGD_RANGE:
        return VGD_RESP_ERR_INVALID_PARAMETER;
    case VGD_NO_RESOURCE:
        return VGD_RESP_ERR_INVALID_RESOURCE_ID;
    case VGD_NO_CONTEXT:
        return VGD_RESP_ERR_INVALID_CONTEXT_ID;
    case VGD_NO_SCANOUT:
        return VGD_RESP_ERR_INVALID_SCANOUT_ID;
    case VGD_LIMIT:
    case VGD_NO_MEMORY:
        return VGD_RESP_ERR_OUT_OF_MEMORY;
    case VGD_UNSUPPORTED:
    case VGD_HOST_FAILED:
    case VGD_LOST:
    case VGD_CLOSED:
    case VGD_AGAIN:
        break;
    }
    return VGD_RESP_ERR_UNSPEC;
}

void vgd_gpu_reply(struct vgd_gpu *gpu, struct vgd_gpu_request *req, uint32_t type,
                   size_t body_bytes)
{
    assert(VGD_CTRL_HDR_SIZE + body_bytes <= gpu->resp_bytes);
    bool has_room = VGD_CTRL_HDR_SIZE <= req->resp_capacity_bytes; /* not for Linux's cursor */
    if (has_room && VGD_CTRL_HDR_SIZE + body_bytes > req->resp_capacity_bytes) {
        if (type < VGD_RESP_ERR_UNSPEC) {
            type = VGD_RESP_ERR_UNSPEC;
        }
        body_bytes = 0;
    }
    vgd_count_answer(gpu, req, type, has_room ? VGD_CTRL_HDR_SIZE + body_bytes : 0);
    if (!has_room) {
        gpu->config.complete(gpu->config.user, req, gpu->resp, 0);
        return;
    }

    const struct vgd_ctrl_hdr *cmd = &req->priv.hdr;
    struct vgd_ctrl_hdr hdr = {.type = type};
    if ((cmd->flags & VGD_FLAG_FENCE) != 0) {
        hdr.flags = VGD_FLAG_FENCE;
        hdr.fence_id = cmd->fence_id;
        hdr.ctx_id = cmd->ctx_id;
        if ((cmd->flags & VGD_FLAG_INFO_RING_IDX) != 0) {
            hdr.flags |= VGD_FLAG_INFO_RING_IDX;
            hdr.ring_idx = cmd->ring_idx;
        }
    }
    struct vgd_writer w = vgd_writer_of(gpu->resp, VGD_CTRL_HDR_SIZE);
    vgd_ctrl_hdr_encode(&w, &hdr);
    assert(w.status == VGD_OK && vgd_writer_used(&w) == VGD_CTRL_HDR_SIZE);
    gpu->config.complete(gpu->config.user, req, gpu->resp, VGD_CTRL_HDR_SIZE + body_bytes);
}

void vgd_gpu_refuse(struct vgd_gpu_call *call, const char *format, ...)
{
    char line[REFUSAL_BYTES_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    vgd_log_guest(&call->gpu->log_limit, call->name, "%s", line);
    call->logged = true;
    _Static_assert(sizeof(line) >= sizeof(call->why), "all of it is written");
    memcpy(call->why, line, sizeof(call->why));
}

void vgd_gpu_answer(struct vgd_gpu *gpu, struct vgd_gpu_request *req, uint32_t type)
{
    size_t body_bytes = 0;
    if (type == VGD_RESP_OK_NODATA && req->priv.ok_type != VGD_RESP_OK_NODATA) {
        type = req->priv.ok_type;
        body_bytes = req->priv.ok_body_bytes;
        memcpy(gpu->resp + VGD_CTRL_HDR_SIZE, req->priv.ok_body, body_bytes);
    }
    vgd_gpu_reply(gpu, req, type, body_bytes);
}

enum vgd_status vgd_gpu_dispatch(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    const struct command *command = command_find(call->hdr.type);
    if (command == NULL) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "type 0x%" PRIx32, call->hdr.type);
    }
    if (gpu->replaying) {
        /* UUIDs are recorded as another type. */
        return command->recorded != NOT_RECORDED && command->type != VGD_CMD_RESOURCE_ASSIGN_UUID
                   ? command->run(call)
                   : VGD_RANGE;
    }
    if (command->queue != call->req->queue) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "on the %s queue",
                          call->req->queue == VGD_QUEUE_CURSOR ? "cursor" : "control");
    }
    if (command->feature != NO_FEATURE && (gpu->features >> command->feature & 1) == 0) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "feature bit %u was not negotiated",
                          command->feature);
    }
    if (command->recorded == RECORDED) {
        enum vgd_status st = vgd_record_reserve(gpu, call->cmd_bytes);
        if (st != VGD_OK) {
            return VGD_REFUSE(call, st, "the journal has no room for %zu bytes", call->cmd_bytes);
        }
    }
    enum vgd_status st = command->run(call);
    if (st == VGD_OK && command->recorded == RECORDED && !call->recorded) {
        vgd_record_append(gpu, call->cmd, call->cmd_bytes);
    }
    return st;
}

/* Start on @req: its header, and a call for the handlers. */
static enum vgd_status call_begin(struct vgd_gpu *gpu, struct vgd_gpu_request *req,
                                  struct vgd_gpu_call *out)
{
    *out = (struct vgd_gpu_call){
        .gpu = gpu,
        .req = req,
        .name = "short command",
        .cmd = req->cmd,
        .cmd_bytes = req->cmd_bytes,
        .body = vgd_reader_of(req->cmd, req->cmd_bytes),
    };
    memset(&req->priv, 0, sizeof(req->priv));
    req->priv.gpu = gpu;
    if (req->cmd_bytes < VGD_CTRL_HDR_SIZE) {
        return VGD_REFUSE(out, VGD_TRUNCATED, "%zu bytes", req->cmd_bytes);
    }
    struct vgd_reader header = vgd_reader_of(req->cmd, VGD_CTRL_HDR_SIZE);
    enum vgd_status st = vgd_ctrl_hdr_decode(&header, &out->hdr);
    assert(st == VGD_OK); /* every 24 bytes are a header */
    vgd_read_skip(&out->body, VGD_CTRL_HDR_SIZE);
    req->priv.hdr = out->hdr;
    req->priv.ok_type = VGD_RESP_OK_NODATA;
    out->name = vgd_cmd_name(out->hdr.type);
    return VGD_OK;
}

void vgd_gpu_execute(struct vgd_gpu *gpu, struct vgd_gpu_request *req)
{
    struct vgd_gpu_call call;
    enum vgd_status st = call_begin(gpu, req, &call);
    if (st != VGD_OK) {
        vgd_count_error(gpu, req, VGD_RESP_ERR_UNSPEC, call.why);
        vgd_gpu_reply(gpu, req, VGD_RESP_ERR_UNSPEC, 0);
        return;
    }
    /* Linux gives cursor commands no room for an answer; control commands always get one. */
    if (req->queue == VGD_QUEUE_CONTROL && req->resp_capacity_bytes < VGD_CTRL_HDR_SIZE) {
        vgd_gpu_refuse(&call, "%zu bytes for the response", req->resp_capacity_bytes);
        vgd_count_error(gpu, req, VGD_RESP_ERR_UNSPEC, call.why);
        vgd_gpu_reply(gpu, req, VGD_RESP_ERR_UNSPEC, 0);
        return;
    }
    st = vgd_fence_prepare(&call);
    bool fenceable = st == VGD_OK;
    if (st == VGD_OK) {
        st = vgd_gpu_dispatch(&call);
    }
    if (call.answered) {
        return;
    }
    if (st != VGD_OK && !call.logged) {
        vgd_gpu_refuse(&call, "ctx=%" PRIu32 ": %s", call.hdr.ctx_id, vgd_status_text(st));
    }
    if (st != VGD_OK) {
        vgd_count_error(gpu, req, vgd_gpu_resp_of(st), call.why);
    }
    if (st == VGD_OK && call.going != NULL) {
        vgd_window_wait(&call);
    } else if (fenceable) {
        vgd_fence_finish(gpu, req, st);
    } else {
        vgd_fence_refuse(gpu, req, vgd_gpu_resp_of(st));
    }
}

void vgd_gpu_fail(struct vgd_gpu *gpu, struct vgd_gpu_request *req)
{
    struct vgd_gpu_call call;
    uint32_t type = VGD_RESP_ERR_UNSPEC;
    if (call_begin(gpu, req, &call) == VGD_OK) {
        switch (call.hdr.type) {
        case VGD_CMD_RESOURCE_UNREF:
        case VGD_CMD_RESOURCE_DETACH_BACKING:
        case VGD_CMD_CTX_DETACH_RESOURCE:
        case VGD_CMD_CTX_DESTROY:
        case VGD_CMD_RESOURCE_UNMAP_BLOB:
            /* The guest lets go whatever we answer, and will use the id again. If the dead worker
             * got that far, the object is gone already, and this finds nothing. */
            switch (vgd_gpu_dispatch(&call)) {
            case VGD_OK:
            case VGD_NO_RESOURCE:
            case VGD_NO_CONTEXT:
            case VGD_UNSUPPORTED: /* no backing, or not mapped */
                type = VGD_RESP_OK_NODATA;
                break;
            default:
                break;
            }
            break;
        case VGD_CMD_RESOURCE_MAP_BLOB:
            vgd_window_fail_map(&call);
            break;
        default:
            break;
        }
    }
    if (type >= VGD_RESP_ERR_UNSPEC) {
        vgd_count_error(gpu, req, type,
                        call.logged ? call.why
                                    : "taken by a worker that died, too long, or no memory for it");
    }
    vgd_fence_refuse(gpu, req, type);
}

void vgd_gpu_limits_default(struct vgd_gpu_limits *limits)
{
    if (limits->resources_max == 0) {
        limits->resources_max = VGD_RESOURCES_MAX;
    }
    if (limits->contexts_max == 0) {
        limits->contexts_max = VGD_CONTEXTS_MAX;
    }
    if (limits->fences_max == 0) {
        limits->fences_max = VGD_FENCES_MAX;
    }
    if (limits->attachments_max == 0) {
        limits->attachments_max = VGD_ATTACHMENTS_MAX;
    }
    if (limits->backing_entries_max == 0) {
        limits->backing_entries_max = VGD_BACKING_ENTRIES_MAX;
    }
    if (limits->resource_bytes_max == 0) {
        limits->resource_bytes_max = VGD_RESOURCE_BYTES_MAX;
    }
    if (limits->submit_bytes_max == 0) {
        limits->submit_bytes_max = VGD_SUBMIT_BYTES_MAX;
    }
    if (limits->maps_max == 0) {
        limits->maps_max = VGD_MAPS_MAX;
    }
}

static size_t largest_response(const struct vgd_render_info *info)
{
    size_t body_bytes = VGD_RESP_EDID_SIZE;
    for (uint32_t i = 0; i < info->n_capsets; i++) {
        if (info->capsets[i].size_bytes > body_bytes) {
            body_bytes = info->capsets[i].size_bytes;
        }
    }
    return VGD_CTRL_HDR_SIZE + body_bytes;
}

struct vgd_gpu *vgd_gpu_create(const struct vgd_gpu_config *config)
{
    assert(config->n_scanouts >= 1 && config->n_scanouts <= VGD_MAX_SCANOUTS);
    assert(config->window.size_bytes == 0 ||
           (config->window.map != NULL && config->window.unmap != NULL));
    struct vgd_gpu *gpu = calloc(1, sizeof(*gpu));
    if (gpu == NULL) {
        return NULL;
    }
    gpu->config = *config;
    vgd_gpu_limits_default(&gpu->config.limits);
    gpu->render = config->render;
    gpu->ops = config->render->ops;
    gpu->counters = config->counters != NULL ? config->counters : &gpu->own_counters;
    gpu->ops->info(gpu->render, &gpu->info);
    assert(gpu->info.n_capsets <= VGD_RENDER_CAPSETS_MAX);
    gpu->resp_bytes = largest_response(&gpu->info);
    gpu->resp = calloc(1, gpu->resp_bytes);
    if (gpu->resp == NULL) {
        free(gpu);
        return NULL;
    }
    vgd_count_begin(gpu);
    return gpu;
}

/* Forget requests without answering them: their owner does not want to hear of them again. */
static void list_forget(struct vgd_gpu *gpu, struct vgd_gpu_waiters *list)
{
    while (list->first != NULL) {
        vgd_count_fence_dropped(gpu, list->first);
        vgd_list_remove(list->first);
    }
}

static void drop_everything(struct vgd_gpu *gpu)
{
    gpu->config.display->ops->cancel(gpu->config.display);
    list_forget(gpu, &gpu->questions);
    list_forget(gpu, &gpu->device_timeline);
    list_forget(gpu, &gpu->window_waiters);
    uint32_t cursor = 0;
    const struct vgd_context *ctx;
    while ((ctx = vgd_idmap_next(&gpu->contexts, &cursor, NULL)) != NULL) {
        for (uint32_t ring = 0; ctx->timelines != NULL && ring <= VGD_RING_IDX_MAX; ring++) {
            list_forget(gpu, &ctx->timelines[ring]);
        }
    }
    assert(gpu->pending_count == 0);
    vgd_window_finish(gpu);
    vgd_scanouts_finish(gpu);
    gpu->ops->reset(gpu->render);
    vgd_contexts_finish(gpu);
    vgd_resources_finish(gpu);
}

void vgd_gpu_destroy(struct vgd_gpu *gpu)
{
    if (gpu == NULL) {
        return;
    }
    drop_everything(gpu);
    free(gpu->resp);
    free(gpu);
}

void vgd_gpu_reset(struct vgd_gpu *gpu)
{
    drop_everything(gpu);
    vgd_count_restored(gpu);
    if (gpu->config.journal != NULL) {
        vgd_journal_clear(gpu->config.journal);
    }
}

uint64_t vgd_gpu_features(const struct vgd_gpu *gpu)
{
    uint64_t features = UINT64_C(1) << VGD_F_EDID;
    if (gpu->info.has_3d) {
        features |= UINT64_C(1) << VGD_F_VIRGL | UINT64_C(1) << VGD_F_CONTEXT_INIT;
    }
    if (gpu->info.blob_mems != 0) {
        features |= UINT64_C(1) << VGD_F_RESOURCE_BLOB | UINT64_C(1) << VGD_F_RESOURCE_UUID |
                    UINT64_C(1) << VGD_F_BLOB_ALIGNMENT;
    }
    return features;
}

void vgd_gpu_set_features(struct vgd_gpu *gpu, uint64_t features)
{
    /* Not what we offer now: a guest that acked 3D keeps its lost contexts when a new worker has no
     * 3D any more, and must be able to let them go; blobs likewise. Handlers ask the renderer what
     * there is. */
    const uint64_t known = UINT64_C(1) << VGD_F_VIRGL | UINT64_C(1) << VGD_F_EDID |
                           UINT64_C(1) << VGD_F_RESOURCE_UUID | UINT64_C(1) << VGD_F_RESOURCE_BLOB |
                           UINT64_C(1) << VGD_F_CONTEXT_INIT | UINT64_C(1) << VGD_F_BLOB_ALIGNMENT;
    gpu->features = features & known;
}

uint32_t vgd_gpu_num_capsets(const struct vgd_gpu *gpu)
{
    return gpu->info.has_3d ? gpu->info.n_capsets : 0;
}

uint32_t vgd_gpu_pending_count(const struct vgd_gpu *gpu)
{
    return gpu->pending_count;
}
