/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "iov.h"
#include "limits.h"

/*
 * Query buffers of Mesa's virgl driver. Each query has a buffer of its own, made for nothing but
 * this (bind exactly CUSTOM), whose first 16 bytes are the answer; the driver waits for the state
 * to become "done" by looking at guest memory again and again, with no time limit. The driver's
 * cache of buffers may hand out one of up to twice the size asked for.
 */
#define QUERY_BIND_CUSTOM (1u << 17)
#define QUERY_STATE_DONE 1u
#define QUERY_RESULT_BYTES 8u
#define QUERY_BYTES 16u
#define QUERY_BUFFER_BYTES_MAX (2 * QUERY_BYTES)

static bool may_be_query(const struct vgd_resource *res)
{
    const struct vgd_cmd_resource_create_3d *args = &res->as.args_3d;
    return res->kind == VGD_RESOURCE_3D && args->target == VGD_TARGET_BUFFER &&
           args->bind == QUERY_BIND_CUSTOM && args->width >= QUERY_BYTES &&
           args->width <= QUERY_BUFFER_BYTES_MAX;
}

void vgd_context_complete_queries(const struct vgd_context *ctx)
{
    if (ctx->queries_count == 0) {
        return;
    }
    uint8_t answer[QUERY_BYTES];
    struct vgd_writer w = vgd_writer_of(answer, sizeof(answer));
    vgd_write_le32(&w, QUERY_STATE_DONE);
    vgd_write_le32(&w, QUERY_RESULT_BYTES);
    vgd_write_le64(&w, 0); /* the result */
    uint32_t cursor = 0;
    const struct vgd_attachment *at;
    while ((at = vgd_idmap_next(&ctx->attachments, &cursor, NULL)) != NULL) {
        const struct vgd_backing *backing = &at->res->backing;
        if (!may_be_query(at->res) || backing->iov == NULL || backing->size_bytes < QUERY_BYTES) {
            continue;
        }
        /* The guest looks while we write: the state comes last. */
        (void)vgd_iov_copy_in(backing->iov, backing->n_iov, 4, answer + 4, sizeof(answer) - 4);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        (void)vgd_iov_copy_in(backing->iov, backing->n_iov, 0, answer, 4);
    }
}

struct vgd_context *vgd_context_find(const struct vgd_gpu *gpu, uint32_t id)
{
    return id == 0 ? NULL : vgd_idmap_find(&gpu->contexts, id);
}

enum vgd_status vgd_context_named(struct vgd_gpu_call *call, struct vgd_context **out)
{
    *out = vgd_context_find(call->gpu, call->hdr.ctx_id);
    return *out != NULL ? VGD_OK
                        : VGD_REFUSE(call, VGD_NO_CONTEXT, "ctx=%" PRIu32, call->hdr.ctx_id);
}

bool vgd_capset_offered(const struct vgd_gpu *gpu, uint32_t id)
{
    for (uint32_t i = 0; i < vgd_gpu_num_capsets(gpu); i++) {
        if (gpu->info.capsets[i].id == id) {
            return true;
        }
    }
    return false;
}

enum vgd_status vgd_do_ctx_create(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_ctx_create cmd;
    enum vgd_status st = vgd_cmd_ctx_create_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    if (!gpu->replaying && !gpu->info.has_3d) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "the renderer has no 3D");
    }
    uint32_t id = call->hdr.ctx_id;
    if (id == 0 || vgd_context_find(gpu, id) != NULL) {
        return VGD_REFUSE(call, VGD_NO_CONTEXT, "ctx=%" PRIu32 " is %s", id,
                          id == 0 ? "no id" : "in use");
    }
    if (cmd.name_len_bytes > VGD_DEBUG_NAME_BYTES) {
        return VGD_REFUSE(call, VGD_RANGE, "ctx=%" PRIu32 " name of %" PRIu32 " bytes", id,
                          cmd.name_len_bytes);
    }
    if (gpu->contexts.used_count >= gpu->config.limits.contexts_max) {
        return VGD_REFUSE(call, VGD_LIMIT, "ctx=%" PRIu32 ": contexts_max %" PRIu32, id,
                          gpu->config.limits.contexts_max);
    }
    /* Without the feature the field is padding. A record holds it as the guest sent it, and the
     * capset does not matter to a lost context. */
    uint32_t capset_id = 0;
    if (!gpu->replaying && (gpu->features >> VGD_F_CONTEXT_INIT & 1) != 0) {
        capset_id = cmd.context_init & VGD_CONTEXT_INIT_CAPSET_ID_MASK;
        if (cmd.context_init != capset_id ||
            (capset_id != 0 && !vgd_capset_offered(gpu, capset_id))) {
            return VGD_REFUSE(call, VGD_RANGE, "ctx=%" PRIu32 " context_init 0x%" PRIx32, id,
                              cmd.context_init);
        }
    }

    struct vgd_context *ctx = calloc(1, sizeof(*ctx));
    if (ctx == NULL) {
        return VGD_NO_MEMORY;
    }
    ctx->id = id;
    ctx->capset_id = capset_id;
    ctx->name_len_bytes = cmd.name_len_bytes;
    memcpy(ctx->name, cmd.debug_name, cmd.name_len_bytes);
    ctx->lost = gpu->replaying;
    st = gpu->replaying ? VGD_OK : vgd_stream_begin(gpu, ctx);
    if (st == VGD_OK) {
        st = vgd_idmap_add(&gpu->contexts, id, ctx);
    }
    if (st != VGD_OK) {
        vgd_stream_end(ctx);
        free(ctx);
        return st;
    }
    if (!gpu->replaying) {
        st = gpu->ops->context_create(gpu->render, id, capset_id, ctx->name, ctx->name_len_bytes);
        if (st != VGD_OK) {
            (void)vgd_idmap_remove(&gpu->contexts, id);
            vgd_stream_end(ctx);
            free(ctx);
            return st;
        }
        ctx->in_renderer = true;
    }
    gpu->counters->contexts_live = gpu->contexts.used_count;
    return VGD_OK;
}

/* Take @at off its resource's list and free it; the context's map is the caller's business. */
static void attachment_free(struct vgd_gpu *gpu, struct vgd_attachment *at)
{
    if (at->prev != NULL) {
        at->prev->next = at->next;
    } else {
        at->res->attachments = at->next;
    }
    if (at->next != NULL) {
        at->next->prev = at->prev;
    }
    at->ctx->queries_count -= may_be_query(at->res);
    if (at->ctx->stream != NULL) {
        vgd_virgl_state_forget_resource(at->ctx->stream, at->res->id);
    }
    gpu->attachments_count--;
    free(at);
}

/* Free a context that the renderer does not know any more. */
static void context_free(struct vgd_gpu *gpu, struct vgd_context *ctx)
{
    vgd_stream_end(ctx);
    uint32_t cursor = 0;
    struct vgd_attachment *at;
    while ((at = vgd_idmap_next(&ctx->attachments, &cursor, NULL)) != NULL) {
        attachment_free(gpu, at);
    }
    vgd_idmap_finish(&ctx->attachments);
    free(ctx->timelines);
    free(ctx);
}

enum vgd_status vgd_do_ctx_destroy(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    enum vgd_status st = vgd_cmd_ctx_destroy_decode(&call->body);
    struct vgd_context *ctx = NULL;
    if (st == VGD_OK) {
        st = vgd_context_named(call, &ctx);
    }
    if (st != VGD_OK) {
        return st;
    }
    if (ctx->in_renderer) {
        gpu->ops->context_destroy(gpu->render, ctx->id);
    }
    /* What waited on its rings was executed; nobody can see now whether the GPU finished it. */
    vgd_fence_drop_context(gpu, ctx, VGD_RESP_OK_NODATA);
    (void)vgd_idmap_remove(&gpu->contexts, ctx->id);
    context_free(gpu, ctx);
    gpu->counters->contexts_live = gpu->contexts.used_count;
    return VGD_OK;
}

void vgd_contexts_finish(struct vgd_gpu *gpu)
{
    uint32_t cursor = 0;
    struct vgd_context *ctx;
    while ((ctx = vgd_idmap_next(&gpu->contexts, &cursor, NULL)) != NULL) {
        context_free(gpu, ctx);
    }
    vgd_idmap_finish(&gpu->contexts);
    assert(gpu->attachments_count == 0);
    gpu->counters->contexts_live = 0;
}

/* The context and the resource of a CTX_ATTACH or CTX_DETACH. */
static enum vgd_status named_pair(struct vgd_gpu_call *call, struct vgd_context **out_ctx,
                                  struct vgd_resource **out_res)
{
    struct vgd_cmd_ctx_resource cmd;
    enum vgd_status st = vgd_cmd_ctx_resource_decode(&call->body, &cmd);
    if (st == VGD_OK) {
        st = vgd_context_named(call, out_ctx);
    }
    if (st != VGD_OK) {
        return st;
    }
    *out_res = vgd_resource_find(call->gpu, cmd.resource_id);
    return *out_res != NULL ? VGD_OK
                            : VGD_REFUSE(call, VGD_NO_RESOURCE, "ctx=%" PRIu32 " res=%" PRIu32,
                                         call->hdr.ctx_id, cmd.resource_id);
}

enum vgd_status vgd_do_ctx_attach(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_context *ctx = NULL;
    struct vgd_resource *res = NULL;
    enum vgd_status st = named_pair(call, &ctx, &res);
    if (st != VGD_OK) {
        return st;
    }
    if (vgd_idmap_find(&ctx->attachments, res->id) != NULL) {
        return VGD_OK; /* nothing counts: one detach ends it */
    }
    if (gpu->attachments_count >= gpu->config.limits.attachments_max) {
        return VGD_REFUSE(call, VGD_LIMIT,
                          "ctx=%" PRIu32 " res=%" PRIu32 ": attachments_max %" PRIu32, ctx->id,
                          res->id, gpu->config.limits.attachments_max);
    }
    struct vgd_attachment *at = calloc(1, sizeof(*at));
    if (at == NULL) {
        return VGD_NO_MEMORY;
    }
    st = vgd_idmap_add(&ctx->attachments, res->id, at);
    if (st != VGD_OK) {
        free(at);
        return st;
    }
    if (!ctx->lost && res->in_renderer) {
        st = gpu->ops->context_attach(gpu->render, ctx->id, res->id);
        if (st != VGD_OK) {
            (void)vgd_idmap_remove(&ctx->attachments, res->id);
            free(at);
            return st;
        }
        at->in_renderer = true;
    }
    at->ctx = ctx;
    at->res = res;
    at->next = res->attachments;
    if (at->next != NULL) {
        at->next->prev = at;
    }
    res->attachments = at;
    ctx->queries_count += may_be_query(res);
    gpu->attachments_count++;
    return VGD_OK;
}

/* End one attachment, everywhere. */
static void detach(struct vgd_gpu *gpu, struct vgd_attachment *at)
{
    if (at->in_renderer) {
        gpu->ops->context_detach(gpu->render, at->ctx->id, at->res->id);
    }
    (void)vgd_idmap_remove(&at->ctx->attachments, at->res->id);
    attachment_free(gpu, at);
}

enum vgd_status vgd_do_ctx_detach(struct vgd_gpu_call *call)
{
    struct vgd_context *ctx = NULL;
    struct vgd_resource *res = NULL;
    enum vgd_status st = named_pair(call, &ctx, &res);
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_attachment *at = vgd_idmap_find(&ctx->attachments, res->id);
    if (at != NULL) { /* Linux detaches buffers that it opened before it made the context */
        detach(call->gpu, at);
    }
    return VGD_OK;
}

void vgd_contexts_forget_resource(struct vgd_gpu *gpu, struct vgd_resource *res)
{
    while (res->attachments != NULL) {
        detach(gpu, res->attachments);
    }
}

/* Size of a level, as in GL: halved, rounded down, at least 1. */
static uint32_t minify(uint32_t size, uint32_t level)
{
    return size >> level != 0 ? size >> level : 1;
}

static bool box_fits(const struct vgd_resource *res, const struct vgd_cmd_transfer_host_3d *cmd)
{
    struct vgd_cmd_resource_create_3d args = {
        .target = VGD_TARGET_2D,
        .width = res->w_px,
        .height = res->h_px,
        .depth = 1,
        .array_size = 1,
    };
    if (res->kind == VGD_RESOURCE_3D) {
        args = res->as.args_3d;
    }
    if (res->kind == VGD_RESOURCE_BLOB) {
        /* What picture lies in it is between the guest's driver and the renderer, which checks. */
        return cmd->level <= VGD_TEXTURE_LEVEL_MAX && cmd->box.w <= UINT32_MAX - cmd->box.x &&
               cmd->box.h <= UINT32_MAX - cmd->box.y && cmd->box.d <= UINT32_MAX - cmd->box.z;
    }
    if (cmd->level > args.last_level) {
        return false;
    }
    uint32_t w = minify(args.width, cmd->level);
    uint32_t h = minify(args.height, cmd->level);
    uint32_t d = args.array_size != 0 ? args.array_size : 1;
    if (args.target == VGD_TARGET_3D) {
        d = minify(args.depth, cmd->level);
    }
    const struct vgd_box *box = &cmd->box;
    return box->x <= w && box->w <= w - box->x && box->y <= h && box->h <= h - box->y &&
           box->z <= d && box->d <= d - box->z;
}

/* Both directions; @run is the renderer's operation. */
static enum vgd_status transfer_3d(struct vgd_gpu_call *call,
                                   enum vgd_status (*run)(struct vgd_render *, uint32_t,
                                                          const struct vgd_cmd_transfer_host_3d *))
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_transfer_host_3d cmd;
    enum vgd_status st = vgd_cmd_transfer_host_3d_decode(&call->body, &cmd);
    struct vgd_context *ctx = NULL;
    if (st == VGD_OK && call->hdr.ctx_id != 0) {
        st = vgd_context_named(call, &ctx);
    }
    if (st != VGD_OK) {
        return st;
    }
    const struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32, cmd.resource_id);
    }
    if (ctx != NULL && vgd_idmap_find(&ctx->attachments, res->id) == NULL) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32 " is not attached to ctx=%" PRIu32,
                          res->id, ctx->id);
    }
    if (ctx != NULL && ctx->lost) {
        vgd_context_complete_queries(ctx);
        return VGD_REFUSE(call, VGD_LOST, "ctx=%" PRIu32 " is lost", ctx->id);
    }
    if (vgd_blob_is_guest(res)) {
        return VGD_OK; /* the guest's pages are all there is */
    }
    if (res->backing.iov == NULL || !res->in_renderer || !gpu->info.has_3d) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED,
                          "res=%" PRIu32 " has no backing, or there is no 3D", res->id);
    }
    if (!box_fits(res, &cmd) || cmd.offset_bytes > res->backing.size_bytes) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " level %" PRIu32 " box %" PRIu32 "x%" PRIu32 "x%" PRIu32
                          "+%" PRIu32 "+%" PRIu32 "+%" PRIu32 " offset %" PRIu64,
                          res->id, cmd.level, cmd.box.w, cmd.box.h, cmd.box.d, cmd.box.x, cmd.box.y,
                          cmd.box.z, cmd.offset_bytes);
    }
    if (cmd.box.w == 0 || cmd.box.h == 0 || cmd.box.d == 0) {
        return VGD_OK;
    }
    gpu->counters->transfers++;
    return run(gpu->render, call->hdr.ctx_id, &cmd);
}

enum vgd_status vgd_do_transfer_to_host_3d(struct vgd_gpu_call *call)
{
    return transfer_3d(call, call->gpu->ops->transfer_to_host_3d);
}

enum vgd_status vgd_do_transfer_from_host_3d(struct vgd_gpu_call *call)
{
    return transfer_3d(call, call->gpu->ops->transfer_from_host_3d);
}

/* The guest's name for @ctx as a log may show it: no terminal sequences, no new lines. */
static void printable(const struct vgd_context *ctx, char out[VGD_DEBUG_NAME_BYTES + 1])
{
    uint32_t n = 0;
    for (; n < ctx->name_len_bytes && ctx->name[n] != '\0'; n++) {
        out[n] = ctx->name[n] >= ' ' && ctx->name[n] <= '~' ? ctx->name[n] : '?';
    }
    out[n] = '\0';
}

void vgd_gpu_context_lost(struct vgd_gpu *gpu, uint32_t ctx_id)
{
    struct vgd_context *ctx = vgd_context_find(gpu, ctx_id);
    if (ctx == NULL || ctx->lost) {
        return;
    }
    ctx->lost = true;
    vgd_stream_end(ctx);
    gpu->counters->contexts_lost++;
    char name[VGD_DEBUG_NAME_BYTES + 1];
    printable(ctx, name);
    vgd_log_guest(&gpu->log_limit, "context", "ctx=%" PRIu32 " (%s) is lost", ctx->id, name);
    vgd_fence_drop_context(gpu, ctx, VGD_RESP_ERR_UNSPEC);
    vgd_context_complete_queries(ctx);
}
