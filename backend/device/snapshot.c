/* SPDX-License-Identifier: MIT */
/*
 * The state with what it holds, as commands and contents: what a recording begun in mid-life starts
 * with. Contexts come first, since memory of the host is made of their objects; then each resource
 * with its texels, its pages and their bytes; attachments; what the contexts' streams had set up;
 * what is shown.
 *
 * A sink that has no room ends the walk. The next one takes the same way and passes over what was
 * done, without reading it: nothing has to be kept in between.
 */
#include <assert.h>
#include <stdlib.h>

#include "device.h"
#include "virgl_format.h"

#define CURSOR_FORMAT VGD_FORMAT_B8G8R8A8_UNORM
#define STREAM_PART_DWORDS 16384u

struct walk {
    struct vgd_gpu *gpu;
    const struct vgd_gpu_snapshot_sink *sink;
    uint64_t at, *position;
    uint8_t *texels; /* owned scratch; NULL before its first use */
};

/* Is the next call of the sink one that was done the last time? */
static bool pass_over(struct walk *w)
{
    if (w->at >= *w->position) {
        return false;
    }
    w->at++;
    return true;
}

static enum vgd_status done(struct walk *w, bool taken)
{
    if (!taken) {
        return VGD_CLOSED;
    }
    *w->position = ++w->at;
    return VGD_OK;
}

static enum vgd_status put_command(void *user, enum vgd_gpu_queue queue, const uint8_t *head,
                                   size_t head_bytes, const void *tail, size_t tail_bytes)
{
    struct walk *w = user;
    if (pass_over(w)) {
        return VGD_OK;
    }
    return done(w, w->sink->command(w->sink->user, queue, head, head_bytes, tail, tail_bytes));
}

/* A command of a header and a short body. */
static enum vgd_status put_short(struct walk *w, enum vgd_gpu_queue queue, const uint8_t *bytes,
                                 const struct vgd_writer *end)
{
    assert(end->status == VGD_OK);
    return put_command(w, queue, bytes, vgd_writer_used(end), NULL, 0);
}

/* A live context, or NULL: a lost one is no place to make anything in. */
static const struct vgd_context *live_context(const struct vgd_gpu *gpu, uint32_t ctx_id)
{
    const struct vgd_context *ctx = vgd_context_find(gpu, ctx_id);
    return ctx != NULL && !ctx->lost ? ctx : NULL;
}

static bool is_left_out(const struct vgd_gpu *gpu, const struct vgd_resource *res)
{
    return !res->in_renderer ||
           (vgd_blob_is_host(res) && live_context(gpu, res->as.blob.ctx_id) == NULL);
}

/* ---- contents ---------------------------------------------------------------------------------
 */

static enum vgd_status put_box(struct walk *w, const struct vgd_resource *res, uint32_t level,
                               const struct vgd_box *box, uint32_t stride_bytes, size_t n_bytes)
{
    if (pass_over(w)) {
        return VGD_OK;
    }
    if (w->sink->content == NULL) {
        return done(w, true);
    }
    if (w->texels == NULL) {
        w->texels = malloc(VGD_SNAPSHOT_PART_BYTES);
        if (w->texels == NULL) {
            return VGD_NO_MEMORY;
        }
    }
    enum vgd_status st =
        w->gpu->ops->content_read(w->gpu->render, res->id, level, box, w->texels,
                                  VGD_SNAPSHOT_PART_BYTES, stride_bytes, (uint32_t)n_bytes);
    if (st != VGD_OK) {
        return done(w, true); /* left out, and counted: the next walk passes over it */
    }
    return done(w, w->sink->content(w->sink->user, res->id, level, box, stride_bytes,
                                    (uint32_t)n_bytes, w->texels, n_bytes));
}

/* One layer of a level, in bands of whole rows of blocks. */
static enum vgd_status put_layer(struct walk *w, const struct vgd_resource *res, uint32_t level,
                                 uint32_t z, struct vgd_rect size, uint32_t format)
{
    uint32_t block_w, block_h, block_bytes;
    if (!vgd_virgl_format_block(format, &block_w, &block_h, &block_bytes)) {
        return VGD_OK;
    }
    uint32_t stride_bytes = (size.w_px + block_w - 1) / block_w * block_bytes;
    uint32_t rows = (size.h_px + block_h - 1) / block_h;
    uint32_t at_once = VGD_SNAPSHOT_PART_BYTES / stride_bytes; /* at least 2: rows are limited */
    enum vgd_status st = VGD_OK;
    for (uint32_t row = 0; row < rows && st == VGD_OK; row += at_once) {
        uint32_t n = rows - row < at_once ? rows - row : at_once;
        struct vgd_box box = {.y = row * block_h, .z = z, .w = size.w_px, .d = 1};
        box.h = row + n == rows ? size.h_px - box.y : n * block_h;
        st = put_box(w, res, level, &box, stride_bytes, (size_t)n * stride_bytes);
    }
    return st;
}

static enum vgd_status put_buffer(struct walk *w, const struct vgd_resource *res)
{
    enum vgd_status st = VGD_OK;
    for (uint32_t x = 0; x < res->w_px && st == VGD_OK; x += VGD_SNAPSHOT_PART_BYTES) {
        uint32_t left = res->w_px - x;
        uint32_t n = left < VGD_SNAPSHOT_PART_BYTES ? left : VGD_SNAPSHOT_PART_BYTES;
        struct vgd_box box = {.x = x, .w = n, .h = 1, .d = 1};
        st = put_box(w, res, 0, &box, n, n);
    }
    return st;
}

static enum vgd_status put_content(struct walk *w, const struct vgd_resource *res)
{
    if (res->kind == VGD_RESOURCE_BLOB || w->gpu->ops->content_read == NULL) {
        return VGD_OK;
    }
    struct vgd_cmd_resource_create_3d args = {
        .target = VGD_TARGET_2D, .depth = 1, .array_size = 1, .format = res->as.format};
    if (res->kind == VGD_RESOURCE_3D) {
        args = res->as.args_3d;
        if (args.target == VGD_TARGET_BUFFER) {
            return put_buffer(w, res);
        }
        if (args.nr_samples > 1) {
            return VGD_OK;
        }
    }
    enum vgd_status st = VGD_OK;
    for (uint32_t level = 0; level <= args.last_level && st == VGD_OK; level++) {
        struct vgd_rect size = {.w_px = vgd_minify(res->w_px, level),
                                .h_px = vgd_minify(res->h_px, level)};
        uint32_t layers = args.array_size != 0 ? args.array_size : 1;
        if (args.target == VGD_TARGET_3D) {
            layers = vgd_minify(args.depth, level);
        }
        for (uint32_t z = 0; z < layers && st == VGD_OK; z++) {
            st = put_layer(w, res, level, z, size, args.format);
        }
    }
    return st;
}

static enum vgd_status put_memory(struct walk *w, const struct vgd_resource *res)
{
    const struct vgd_backing *backing = &res->backing;
    enum vgd_status st = VGD_OK;
    for (uint64_t at = 0; backing->iov != NULL && at < backing->size_bytes && st == VGD_OK;
         at += VGD_SNAPSHOT_PART_BYTES) {
        uint64_t left = backing->size_bytes - at;
        uint64_t n = left < VGD_SNAPSHOT_PART_BYTES ? left : VGD_SNAPSHOT_PART_BYTES;
        if (!pass_over(w)) {
            st = done(
                w, w->sink->backing(w->sink->user, res->id, backing->iov, backing->n_iov, at, n));
        }
    }
    return st;
}

/* ---- streams ----------------------------------------------------------------------------------
 */

static enum vgd_status put_stream(struct walk *w, uint32_t ctx_id, const uint32_t *dwords,
                                  uint32_t n_dwords)
{
    uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_SUBMIT_3D_SIZE];
    struct vgd_writer out = vgd_writer_of(bytes, sizeof(bytes));
    uint32_t n_bytes = n_dwords * (uint32_t)sizeof(*dwords);
    vgd_ctrl_hdr_encode(&out, &(struct vgd_ctrl_hdr){.type = VGD_CMD_SUBMIT_3D, .ctx_id = ctx_id});
    vgd_cmd_submit_3d_encode(&out, &(struct vgd_cmd_submit_3d){.size_bytes = n_bytes});
    assert(out.status == VGD_OK);
    return put_command(w, VGD_QUEUE_CONTROL, bytes, vgd_writer_used(&out), dwords, n_bytes);
}

struct stream {
    struct walk *walk;
    uint32_t ctx_id;
};

static bool put_part(void *user, const uint32_t *dwords, uint32_t n_dwords)
{
    const struct stream *stream = user;
    return put_stream(stream->walk, stream->ctx_id, dwords, n_dwords) == VGD_OK;
}

/* What each OpenGL context has made and bound. One of which too much was forgotten stays empty. */
static enum vgd_status put_streams(struct walk *w)
{
    uint32_t at = 0;
    const struct vgd_context *ctx;
    enum vgd_status st = VGD_OK;
    while (st == VGD_OK && (ctx = vgd_idmap_next(&w->gpu->contexts, &at, NULL)) != NULL) {
        if (!ctx->lost && ctx->stream != NULL && vgd_virgl_state_is_whole(ctx->stream)) {
            struct stream stream = {.walk = w, .ctx_id = ctx->id};
            st = vgd_virgl_state_emit(ctx->stream, STREAM_PART_DWORDS, put_part, &stream);
        }
    }
    return st;
}

/* ---- resources, contexts ----------------------------------------------------------------------
 */

static enum vgd_status put_uuid(struct walk *w, const struct vgd_resource *res)
{
    if (!res->has_uuid) {
        return VGD_OK;
    }
    uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_RESOURCE_ASSIGN_UUID_SIZE];
    struct vgd_writer out = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&out, &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_ASSIGN_UUID});
    vgd_cmd_resource_assign_uuid_encode(
        &out, &(struct vgd_cmd_resource_assign_uuid){.resource_id = res->id});
    return put_short(w, VGD_QUEUE_CONTROL, bytes, &out);
}

static enum vgd_status put_resource(struct walk *w, const struct vgd_resource *res,
                                    const struct vgd_state_sink *commands)
{
    enum vgd_status st = VGD_OK;
    if (vgd_blob_is_host(res) && res->as.blob.made_by[0] != 0) {
        st = put_stream(w, res->as.blob.ctx_id, res->as.blob.made_by, VGD_VIRGL_PIPE_CREATE_DWORDS);
    }
    if (st == VGD_OK) {
        st = vgd_state_create(res, commands);
    }
    if (st == VGD_OK) {
        st = put_content(w, res);
    }
    if (st == VGD_OK) {
        st = vgd_state_backing(res, commands);
    }
    if (st == VGD_OK) {
        st = put_memory(w, res);
    }
    if (st == VGD_OK) {
        st = put_uuid(w, res);
    }
    return st == VGD_OK ? vgd_state_map(res->map, commands) : st;
}

static enum vgd_status put_contexts(const struct vgd_gpu *gpu,
                                    const struct vgd_state_sink *commands)
{
    uint32_t at = 0;
    const struct vgd_context *ctx;
    enum vgd_status st = VGD_OK;
    while (st == VGD_OK && (ctx = vgd_idmap_next(&gpu->contexts, &at, NULL)) != NULL) {
        if (!ctx->lost) {
            st = vgd_state_context(ctx, commands);
        }
    }
    return st;
}

static enum vgd_status put_attachments(const struct vgd_gpu *gpu,
                                       const struct vgd_state_sink *commands)
{
    uint32_t at = 0;
    const struct vgd_context *ctx;
    enum vgd_status st = VGD_OK;
    while (st == VGD_OK && (ctx = vgd_idmap_next(&gpu->contexts, &at, NULL)) != NULL) {
        uint32_t next = 0;
        const struct vgd_attachment *attachment;
        while (st == VGD_OK && !ctx->lost &&
               (attachment = vgd_idmap_next(&ctx->attachments, &next, NULL)) != NULL) {
            if (!is_left_out(gpu, attachment->res)) {
                st = vgd_state_attachment(attachment, commands);
            }
        }
    }
    return st;
}

/* ---- what is shown ----------------------------------------------------------------------------
 */

/* An id that the guest does not use: from the top, where no guest counts to. */
static uint32_t free_id(const struct vgd_gpu *gpu)
{
    uint32_t id = UINT32_MAX - 1;
    while (vgd_resource_find(gpu, id) != NULL) {
        id--;
    }
    return id;
}

/* A cursor's shape is of the moment when the guest set it, and the resource that held it may be
 * gone: so it comes in one of its own. */
static enum vgd_status put_cursor(struct walk *w, const struct vgd_cursor *cursor, uint32_t id)
{
    uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_UPDATE_CURSOR_SIZE];
    struct vgd_writer out = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&out, &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_CREATE_2D});
    vgd_cmd_resource_create_2d_encode(
        &out, &(struct vgd_cmd_resource_create_2d){.resource_id = id,
                                                   .format = CURSOR_FORMAT,
                                                   .w_px = VGD_CURSOR_SIDE_PX,
                                                   .h_px = VGD_CURSOR_SIDE_PX});
    enum vgd_status st = put_short(w, VGD_QUEUE_CONTROL, bytes, &out);
    if (st == VGD_OK && !pass_over(w)) {
        struct vgd_box box = {.w = VGD_CURSOR_SIDE_PX, .h = VGD_CURSOR_SIDE_PX, .d = 1};
        st = done(w, w->sink->content == NULL ||
                         w->sink->content(w->sink->user, id, 0, &box,
                                          VGD_CURSOR_SIDE_PX * VGD_BYTES_PER_PIXEL,
                                          VGD_CURSOR_BYTES, cursor->pixels, VGD_CURSOR_BYTES));
    }
    if (st == VGD_OK) {
        out = vgd_writer_of(bytes, sizeof(bytes));
        vgd_ctrl_hdr_encode(&out, &(struct vgd_ctrl_hdr){.type = VGD_CMD_UPDATE_CURSOR});
        vgd_cmd_update_cursor_encode(&out,
                                     &(struct vgd_cmd_update_cursor){.pos = cursor->pos,
                                                                     .resource_id = id,
                                                                     .hot_x_px = cursor->hot_x_px,
                                                                     .hot_y_px = cursor->hot_y_px});
        st = put_short(w, VGD_QUEUE_CURSOR, bytes, &out);
    }
    if (st == VGD_OK) {
        out = vgd_writer_of(bytes, sizeof(bytes));
        vgd_ctrl_hdr_encode(&out, &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_UNREF});
        vgd_cmd_resource_unref_encode(&out, &(struct vgd_cmd_resource_unref){.resource_id = id});
        st = put_short(w, VGD_QUEUE_CONTROL, bytes, &out);
    }
    return st;
}

static enum vgd_status put_scanouts(struct walk *w, const struct vgd_state_sink *commands)
{
    const struct vgd_gpu *gpu = w->gpu;
    enum vgd_status st = VGD_OK;
    for (uint32_t i = 0; i < gpu->config.n_scanouts && st == VGD_OK; i++) {
        const struct vgd_scanout *scanout = &gpu->scanouts[i];
        if (scanout->res != NULL && !is_left_out(gpu, scanout->res)) {
            st = vgd_state_scanout(scanout, i, commands);
        }
        if (st == VGD_OK && gpu->cursors[i].visible) {
            st = put_cursor(w, &gpu->cursors[i], free_id(gpu));
        }
    }
    return st;
}

/* ---- all of it --------------------------------------------------------------------------------
 */

static enum vgd_status walk_all(struct walk *w)
{
    const struct vgd_gpu *gpu = w->gpu;
    const struct vgd_state_sink commands = {.put = put_command, .user = w};
    enum vgd_status st = put_contexts(gpu, &commands);
    uint32_t at = 0;
    const struct vgd_resource *res;
    while (st == VGD_OK && (res = vgd_idmap_next(&gpu->resources, &at, NULL)) != NULL) {
        if (!is_left_out(gpu, res)) {
            st = put_resource(w, res, &commands);
        }
    }
    if (st == VGD_OK) {
        st = put_attachments(gpu, &commands);
    }
    if (st == VGD_OK) {
        st = put_streams(w);
    }
    return st == VGD_OK ? put_scanouts(w, &commands) : st;
}

enum vgd_status vgd_gpu_snapshot(struct vgd_gpu *gpu, const struct vgd_gpu_snapshot_sink *sink,
                                 uint64_t *position)
{
    struct walk w = {.gpu = gpu, .sink = sink, .position = position};
    enum vgd_status st = walk_all(&w);
    free(w.texels);
    return st;
}

bool vgd_gpu_has_state(const struct vgd_gpu *gpu)
{
    bool shows = false;
    for (uint32_t i = 0; i < gpu->config.n_scanouts; i++) {
        shows = shows || gpu->cursors[i].visible;
    }
    return shows || gpu->resources.used_count != 0 || gpu->contexts.used_count != 0;
}
