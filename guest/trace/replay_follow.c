/* SPDX-License-Identifier: MIT */
/*
 * What makes a cut play by itself, beyond what the model knows: the state of each OpenGL context,
 * as the device follows it, and the pixels of 2D resources, which only transfers change.
 */
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "replay.h"
#include "virgl_state.h"

#define PIXEL_BYTES 4u
#define SIDE_MAX REPLAY_PICTURE_SIDE_MAX

/* Of a blob: the stream that makes what it is made of. */
struct blob_stream {
    uint32_t dwords[VGD_VIRGL_PIPE_CREATE_DWORDS];
};

static bool has_resource(void *user, uint32_t res_id)
{
    const struct model_context *ctx = user;
    return model_is_attached(ctx, res_id);
}

static bool is_virgl(const struct model_context *ctx)
{
    return ctx->capset == 0 || ctx->capset == VGD_CAPSET_VIRGL || ctx->capset == VGD_CAPSET_VIRGL2;
}

void replay_follow_context_gone(void *user, struct model_context *ctx)
{
    (void)user;
    vgd_virgl_state_destroy(ctx->user);
    ctx->user = NULL;
}

void replay_follow_resource_gone(struct model_resource *res)
{
    free(res->content);
    res->content = NULL;
}

const uint8_t *replay_pixels(const struct model_resource *res)
{
    return res->kind == MODEL_2D ? res->content : NULL;
}

const uint32_t *replay_blob_stream(const struct model_resource *res, uint32_t *out_dwords)
{
    if (res->kind != MODEL_BLOB || res->content == NULL) {
        return NULL;
    }
    *out_dwords = VGD_VIRGL_PIPE_CREATE_DWORDS;
    return ((const struct blob_stream *)res->content)->dwords;
}

/* ---- streams ---- */

static void follow_stream(struct replay *r, struct model_context *ctx, uint8_t *bytes,
                          size_t n_bytes)
{
    size_t at = VGD_CTRL_HDR_SIZE + VGD_CMD_SUBMIT_3D_SIZE;
    if (n_bytes <= at || !is_virgl(ctx)) {
        return;
    }
    if (ctx->user == NULL) {
        struct vgd_virgl_state_config config = {
            .has_resource = has_resource, .user = ctx, .total_bytes = &r->stream_bytes};
        ctx->user = vgd_virgl_state_create(&config);
    }
    if (ctx->user != NULL) {
        uint32_t good;
        struct vgd_virgl_tally tally = {0};
        struct vgd_command wrong;
        struct vgd_command_fault fault;
        /* What is wrong in a stream was not executed then either. */
        (void)!vgd_virgl_state_follow(ctx->user, (const uint32_t *)(bytes + at),
                                      (uint32_t)((n_bytes - at) / 4), &good, &tally, &wrong,
                                      &fault);
    }
}

static void follow_blob(struct replay *r, const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_reader body = vgd_reader_of(bytes + VGD_CTRL_HDR_SIZE, n_bytes - VGD_CTRL_HDR_SIZE);
    struct vgd_cmd_resource_create_blob cmd;
    if (vgd_cmd_resource_create_blob_decode(&body, &cmd) != VGD_OK ||
        cmd.blob_mem == VGD_BLOB_MEM_GUEST) {
        return;
    }
    struct model_resource *res = model_resource(&r->model, cmd.resource_id);
    struct model_context *ctx = res != NULL ? model_context(&r->model, res->ctx_id) : NULL;
    struct blob_stream *stream =
        ctx != NULL && ctx->user != NULL && is_virgl(ctx) && res->content == NULL
            ? calloc(1, sizeof(*stream))
            : NULL;
    if (stream != NULL && vgd_virgl_state_take_blob(ctx->user, cmd.blob_id, stream->dwords)) {
        res->content = stream;
    } else {
        free(stream);
    }
}

/* ---- pixels ---- */

/* The pixels of @res, made if there are none. NULL: no memory, or a size that cannot be. */
static uint8_t *pixels_of(struct model_resource *res)
{
    if (res->content == NULL && res->w_px - 1 < SIDE_MAX && res->h_px - 1 < SIDE_MAX) {
        res->content = calloc((size_t)res->w_px * res->h_px, PIXEL_BYTES);
    }
    return res->content;
}

static bool fits(const struct model_resource *res, uint32_t x, uint32_t y, uint32_t w, uint32_t h)
{
    return vgd_span_fits(x, w, res->w_px) && vgd_span_fits(y, h, res->h_px);
}

static void follow_transfer(struct replay *r, const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_reader body = vgd_reader_of(bytes + VGD_CTRL_HDR_SIZE, n_bytes - VGD_CTRL_HDR_SIZE);
    struct vgd_cmd_transfer_to_host_2d cmd;
    if (vgd_cmd_transfer_to_host_2d_decode(&body, &cmd) != VGD_OK) {
        return;
    }
    struct model_resource *res = model_resource(&r->model, cmd.resource_id);
    const uint8_t *from = res != NULL ? replay_memory(r, res) : NULL;
    if (from == NULL || res->kind != MODEL_2D ||
        !fits(res, cmd.rect.x_px, cmd.rect.y_px, cmd.rect.w_px, cmd.rect.h_px)) {
        return;
    }
    uint8_t *to = pixels_of(res);
    size_t row_bytes = (size_t)cmd.rect.w_px * PIXEL_BYTES;
    size_t stride_bytes = (size_t)res->w_px * PIXEL_BYTES;
    for (uint32_t y = 0; to != NULL && y < cmd.rect.h_px; y++) {
        uint64_t at;
        if (!vgd_add_u64(cmd.offset_bytes, y * stride_bytes, &at) ||
            !vgd_span_fits(at, row_bytes, res->backing_bytes)) {
            return;
        }
        memcpy(to + (size_t)(cmd.rect.y_px + y) * stride_bytes + cmd.rect.x_px * PIXEL_BYTES,
               from + at, row_bytes);
    }
}

void replay_follow_content(struct replay *r, struct model_resource *res,
                           const struct vgd_trace_item *item)
{
    const struct vgd_trace_content *content = &item->record.as.content;
    if (!r->follows || res->kind != MODEL_2D ||
        !fits(res, content->x, content->y, content->w, content->h)) {
        return;
    }
    uint8_t *to = pixels_of(res);
    for (uint32_t y = 0; to != NULL && y < content->h; y++) {
        if (vgd_trace_reader_data(r->tool->reader, &item->data, (uint64_t)y * content->stride_bytes,
                                  to + ((size_t)(content->y + y) * res->w_px + content->x) *
                                           PIXEL_BYTES,
                                  (size_t)content->w * PIXEL_BYTES) != VGD_OK) {
            return;
        }
    }
}

void replay_follow(struct replay *r, const struct vgd_ctrl_hdr *hdr, uint8_t *bytes, size_t n_bytes)
{
    struct model_context *ctx = hdr->ctx_id != 0 ? model_context(&r->model, hdr->ctx_id) : NULL;
    switch (hdr->type) {
    case VGD_CMD_SUBMIT_3D:
        if (ctx != NULL) {
            follow_stream(r, ctx, bytes, n_bytes);
        }
        break;
    case VGD_CMD_CTX_DETACH_RESOURCE:
        if (ctx != NULL && ctx->user != NULL) {
            vgd_virgl_state_forget_resource(ctx->user, model_named_resource(bytes, n_bytes));
        }
        break;
    case VGD_CMD_RESOURCE_CREATE_BLOB:
        follow_blob(r, bytes, n_bytes);
        break;
    case VGD_CMD_TRANSFER_TO_HOST_2D:
        follow_transfer(r, bytes, n_bytes);
        break;
    default:
        break;
    }
}
