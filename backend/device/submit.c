/* SPDX-License-Identifier: MIT */
/*
 * SUBMIT_3D: each stream is followed on its way to the renderer (virgl_state.h), so that what is
 * wrong in it does not get there, and what it leaves behind is known.
 */
#include <inttypes.h>

#include "device.h"
#include "limits.h"
#include "venus_stream.h"

static bool has_resource(void *user, uint32_t res_id)
{
    const struct vgd_context *ctx = user;
    return vgd_idmap_find(&ctx->attachments, res_id) != NULL;
}

enum vgd_status vgd_stream_begin(struct vgd_gpu *gpu, struct vgd_context *ctx)
{
    bool is_virgl = ctx->capset_id == 0 || ctx->capset_id == VGD_CAPSET_VIRGL ||
                    ctx->capset_id == VGD_CAPSET_VIRGL2;
    if (!is_virgl) {
        return VGD_OK;
    }
    ctx->stream = vgd_virgl_state_create(&(struct vgd_virgl_state_config){
        .has_resource = has_resource,
        .user = ctx,
        .total_bytes = &gpu->stream_state_bytes,
        .resource_bytes = &gpu->counters->resource_bytes_live,
        .resource_bytes_max = gpu->config.limits.resource_bytes_max,
        .strict = gpu->config.strict_streams,
    });
    return ctx->stream != NULL ? VGD_OK : VGD_NO_MEMORY;
}

void vgd_stream_end(struct vgd_context *ctx)
{
    vgd_virgl_state_destroy(ctx->stream);
    ctx->stream = NULL;
}

/* To the renderer, which may write to @stream. */
static enum vgd_status give(struct vgd_gpu_call *call, struct vgd_context *ctx, void *stream,
                            size_t n_bytes)
{
    struct vgd_gpu *gpu = call->gpu;
    uint64_t begin_ns = vgd_now_ns();
    enum vgd_status st = gpu->ops->submit(gpu->render, ctx->id, stream, n_bytes);
    vgd_count_submit_done(gpu, ctx, call->req, begin_ns);
    return st;
}

/* What is in order of the stream is executed, also in front of what is not. */
static enum vgd_status submit_virgl(struct vgd_gpu_call *call, struct vgd_context *ctx,
                                    void *stream, uint32_t size_bytes)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_virgl_tally seen;
    struct vgd_command wrong;
    struct vgd_command_fault fault;
    uint32_t good_dwords = 0;
    enum vgd_status st = vgd_virgl_state_follow(ctx->stream, stream, size_bytes / 4, &good_dwords,
                                                &seen, &wrong, &fault);
    vgd_count_stream(gpu, ctx, &seen);
    if (st != VGD_OK) {
        vgd_count(&gpu->counters->stream_refused, 1);
        (void)VGD_REFUSE(call, st,
                         "ctx=%" PRIu32 " dword %" PRIu32 " %s: %s %" PRIu32 " (0x%" PRIx32 "): %s",
                         ctx->id, wrong.at + fault.dword, vgd_command_name(&wrong), fault.what,
                         fault.value, fault.value, vgd_status_text(st));
    }
    if (good_dwords != 0) {
        enum vgd_status done = give(call, ctx, stream, (size_t)good_dwords * 4);
        if (done != VGD_OK && ctx->stream != NULL) {
            vgd_virgl_state_spoil(ctx->stream);
        }
        st = st == VGD_OK ? done : st;
    }
    return st;
}

/* A ring's contents do not come by here. What ends in the middle of a command would cost the guest
 * the whole context: it does not get that far. */
static enum vgd_status submit_venus(struct vgd_gpu_call *call, struct vgd_context *ctx,
                                    void *stream, uint32_t size_bytes)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_virgl_tally seen = {0};
    struct vgd_venus_stream s = vgd_venus_stream_of(stream, size_bytes);
    struct vgd_venus_command cmd;
    while (vgd_venus_next(&s, &cmd)) {
        seen.commands++;
    }
    vgd_count_stream(gpu, ctx, &seen);
    if (s.status == VGD_TRUNCATED) {
        vgd_count(&gpu->counters->stream_refused, 1);
        return VGD_REFUSE(call, s.status, "ctx=%" PRIu32 " %" PRIu32 " bytes: %s", ctx->id,
                          size_bytes, vgd_status_text(s.status));
    }
    return give(call, ctx, stream, size_bytes);
}

enum vgd_status vgd_do_submit_3d(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_submit_3d cmd;
    enum vgd_status st = vgd_cmd_submit_3d_decode(&call->body, &cmd);
    if (st == VGD_OK) {
        st = vgd_cmd_submit_3d_tail_check(&call->body, &cmd);
    }
    struct vgd_context *ctx = NULL;
    if (st == VGD_OK) {
        st = vgd_context_named(call, &ctx);
    }
    if (st != VGD_OK) {
        return st;
    }
    if (ctx->lost) {
        vgd_context_complete_queries(ctx);
        return VGD_REFUSE(call, VGD_LOST, "ctx=%" PRIu32 " is lost", ctx->id);
    }
    if (cmd.size_bytes > gpu->config.limits.submit_bytes_max) {
        return VGD_REFUSE(call, VGD_LIMIT,
                          "ctx=%" PRIu32 " %" PRIu32 " bytes: submit_bytes_max %" PRIu32, ctx->id,
                          cmd.size_bytes, gpu->config.limits.submit_bytes_max);
    }
    if (cmd.size_bytes % 4 != 0) {
        return VGD_REFUSE(call, VGD_RANGE, "ctx=%" PRIu32 " %" PRIu32 " bytes", ctx->id,
                          cmd.size_bytes);
    }
    vgd_count_submit(gpu, ctx, cmd.size_bytes);
    if (cmd.size_bytes == 0) {
        return VGD_OK; /* only a fence */
    }
    /* The command is our private copy, and the request's owner lets the renderer write to it. */
    void *stream = (void *)(uintptr_t)call->body.pos;
    if (ctx->stream != NULL) {
        return submit_virgl(call, ctx, stream, cmd.size_bytes);
    }
    if (ctx->capset_id == VGD_CAPSET_VENUS) {
        return submit_venus(call, ctx, stream, cmd.size_bytes);
    }
    return give(call, ctx, stream, cmd.size_bytes);
}
