/* SPDX-License-Identifier: MIT */
/*
 * Blob resources: a range of bytes. Those of guest memory are the guest's pages, which the renderer
 * looks at where they lie; those of host memory belong to a context's object and count against the
 * guest's total. What of them is in the host-visible region is window.c's affair.
 */
#include <inttypes.h>

#include "device.h"
#include "limits.h"

#define BLOB_FLAGS                                                                                 \
    (VGD_BLOB_FLAG_USE_MAPPABLE | VGD_BLOB_FLAG_USE_SHAREABLE | VGD_BLOB_FLAG_USE_CROSS_DEVICE)

bool vgd_blob_is_guest(const struct vgd_resource *res)
{
    return res->kind == VGD_RESOURCE_BLOB && res->as.blob.mem == VGD_BLOB_MEM_GUEST;
}

bool vgd_blob_is_host(const struct vgd_resource *res)
{
    return res->kind == VGD_RESOURCE_BLOB && res->as.blob.mem != VGD_BLOB_MEM_GUEST;
}

/* What the fields say, by themselves. */
static enum vgd_status check_fields(struct vgd_gpu_call *call,
                                    const struct vgd_cmd_resource_create_blob *cmd)
{
    if (cmd->blob_mem < VGD_BLOB_MEM_GUEST || cmd->blob_mem > VGD_BLOB_MEM_HOST3D_GUEST ||
        (cmd->blob_flags & ~(uint32_t)BLOB_FLAGS) != 0) {
        return VGD_REFUSE(call, VGD_RANGE, "res=%" PRIu32 " blob_mem %" PRIu32 " flags 0x%" PRIx32,
                          cmd->resource_id, cmd->blob_mem, cmd->blob_flags);
    }
    if (cmd->size_bytes == 0 || cmd->size_bytes % VGD_BLOB_ALIGNMENT_BYTES != 0) {
        return VGD_REFUSE(call, VGD_RANGE, "res=%" PRIu32 " of %" PRIu64 " bytes, alignment %u",
                          cmd->resource_id, cmd->size_bytes, VGD_BLOB_ALIGNMENT_BYTES);
    }
    if (cmd->blob_mem == VGD_BLOB_MEM_HOST3D && cmd->nr_entries != 0) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " of host memory with %" PRIu32 " entries",
                          cmd->resource_id, cmd->nr_entries);
    }
    return VGD_OK;
}

/* What the renderer and the context can. Not asked of a journal: what it names is lost. */
static enum vgd_status check_maker(struct vgd_gpu_call *call,
                                   const struct vgd_cmd_resource_create_blob *cmd)
{
    if ((call->gpu->info.blob_mems >> cmd->blob_mem & 1) == 0) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED,
                          "res=%" PRIu32 ": the renderer has no blob_mem %" PRIu32,
                          cmd->resource_id, cmd->blob_mem);
    }
    if (cmd->blob_mem == VGD_BLOB_MEM_GUEST) {
        return VGD_OK;
    }
    struct vgd_context *ctx = NULL;
    enum vgd_status st = vgd_context_named(call, &ctx);
    if (st == VGD_OK && ctx->lost) {
        st = VGD_REFUSE(call, VGD_LOST, "ctx=%" PRIu32 " is lost", ctx->id);
    }
    return st;
}

/* Into the table, and into the renderer. @made's backing goes with it, also on failure. */
static enum vgd_status create(struct vgd_gpu_call *call, struct vgd_resource *made,
                              uint64_t blob_id)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_resource *res = NULL;
    enum vgd_status st = vgd_resource_add(gpu, made, &res);
    if (st != VGD_OK) {
        vgd_backing_free(&made->backing);
        return st;
    }
    if (gpu->replaying) {
        return VGD_OK;
    }
    if (vgd_blob_is_guest(res)) {
        st = vgd_resource_materialise(gpu, res);
    } else {
        st = gpu->ops->resource_create_blob(
            gpu->render, &(struct vgd_render_blob){.res_id = res->id,
                                                   .ctx_id = call->hdr.ctx_id,
                                                   .mem = res->as.blob.mem,
                                                   .flags = res->as.blob.flags,
                                                   .blob_id = blob_id,
                                                   .size_bytes = res->as.blob.size_bytes,
                                                   .iov = res->backing.iov,
                                                   .n_iov = res->backing.n_iov});
        res->in_renderer = st == VGD_OK;
        const struct vgd_context *ctx = vgd_context_find(gpu, call->hdr.ctx_id);
        if (st == VGD_OK && ctx->stream != NULL) {
            (void)vgd_virgl_state_take_blob(ctx->stream, blob_id, res->as.blob.made_by);
        }
    }
    if (st != VGD_OK) {
        (void)VGD_REFUSE(call, st, "res=%" PRIu32 " ctx=%" PRIu32 " blob_id %" PRIu64 ": %s",
                         res->id, call->hdr.ctx_id, blob_id, vgd_status_text(st));
        vgd_resource_drop(gpu, res);
    }
    return st;
}

/* What the blob is made of counts already, if a stream has made it; it may be more than what the
 * blob says, and counts until the resource goes. */
static uint64_t counted_for(const struct vgd_gpu_call *call,
                            const struct vgd_cmd_resource_create_blob *cmd)
{
    if (call->gpu->replaying || cmd->blob_mem == VGD_BLOB_MEM_GUEST) {
        return 0;
    }
    const struct vgd_context *ctx = vgd_context_find(call->gpu, call->hdr.ctx_id);
    return ctx->stream != NULL ? vgd_virgl_state_blob_bytes(ctx->stream, cmd->blob_id) : 0;
}

enum vgd_status vgd_do_create_blob(struct vgd_gpu_call *call)
{
    const struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_resource_create_blob cmd;
    enum vgd_status st = vgd_cmd_resource_create_blob_decode(&call->body, &cmd);
    if (st == VGD_OK) {
        st = vgd_cmd_resource_create_blob_tail_check(&call->body, &cmd);
    }
    if (st == VGD_OK) {
        st = check_fields(call, &cmd);
    }
    if (st == VGD_OK && !gpu->replaying) {
        st = check_maker(call, &cmd);
    }
    if (st != VGD_OK) {
        return st;
    }
    uint64_t counted_bytes = counted_for(call, &cmd);
    uint64_t size_bytes = counted_bytes > cmd.size_bytes ? counted_bytes : cmd.size_bytes;
    struct vgd_resource made = {
        .id = cmd.resource_id,
        .kind = VGD_RESOURCE_BLOB,
        .size_bytes = cmd.blob_mem != VGD_BLOB_MEM_GUEST ? size_bytes : 0,
        .as.blob = {.mem = cmd.blob_mem,
                    .flags = cmd.blob_flags,
                    .size_bytes = cmd.size_bytes,
                    .ctx_id = cmd.blob_mem != VGD_BLOB_MEM_GUEST ? call->hdr.ctx_id : 0,
                    .blob_id = cmd.blob_id},
    };
    st = vgd_resource_admit(call, made.id, made.size_bytes - counted_bytes);
    /* One whose pages the guest has detached is written to a journal without any. */
    bool has_pages = cmd.blob_mem != VGD_BLOB_MEM_HOST3D;
    if (st == VGD_OK && has_pages && !(gpu->replaying && cmd.nr_entries == 0)) {
        st = vgd_backing_take(call, made.id, cmd.nr_entries, &made.backing);
        if (st == VGD_OK && made.backing.size_bytes < cmd.size_bytes) {
            st = VGD_REFUSE(call, VGD_RANGE,
                            "res=%" PRIu32 " of %" PRIu64 " bytes: entries of %" PRIu64, made.id,
                            cmd.size_bytes, made.backing.size_bytes);
            vgd_backing_free(&made.backing);
        }
    }
    return st == VGD_OK ? create(call, &made, cmd.blob_id) : st;
}
