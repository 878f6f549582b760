/* SPDX-License-Identifier: MIT */
/*
 * A state in front of a cut: contexts, resources with their memory and their contents, the streams
 * that make what contexts hold, what is shown. Contents that the GPU has drawn are not in a trace:
 * a backend that has played it up to here is asked for them.
 */
#include <stdlib.h>
#include <string.h>

#include "cut.h"
#include "virgl_format.h"
#include "virgl_state.h"

#define PIXEL_BYTES 4u
#define STREAM_PART_DWORDS (1u << 16)
#define CONTENT_BYTES_MAX (VGD_TRACE_DATA_MAX / 2)

/* Gallium's pipe_texture_target. */
enum { TARGET_BUFFER, TARGET_1D, TARGET_2D, TARGET_3D, TARGET_CUBE };
#define LEVELS_MAX 16u

struct put {
    struct replay *r;
    struct vgd_trace_out *out;
    uint64_t time_ns;
    struct cut_missing *missing;
};

static bool from_memory(void *user, uint64_t offset_bytes, void *out, size_t n_bytes)
{
    memcpy(out, (const uint8_t *)user + offset_bytes, n_bytes);
    return true;
}

static bool put(struct put *p, struct vgd_trace_record record, const void *data, size_t n_bytes)
{
    record.time_ns = p->time_ns;
    return vgd_trace_out_put(p->out, &record, from_memory, (void *)(uintptr_t)data, n_bytes) ==
           VGD_OK;
}

static bool put_bytes(struct put *p, uint32_t queue, const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_COMMAND,
        .as.command = {.queue_idx = queue, .flags = VGD_TRACE_COMMAND_MADE_UP}};
    return put(p, record, bytes, n_bytes);
}

static bool put_kept(struct put *p, uint32_t queue, const struct model_command *command)
{
    return command->bytes == NULL || put_bytes(p, queue, command->bytes, command->n_bytes);
}

/* ---- streams ---- */

static bool put_stream(struct put *p, uint32_t ctx_id, const uint32_t *dwords, uint32_t n_dwords)
{
    size_t head_bytes = VGD_CTRL_HDR_SIZE + VGD_CMD_SUBMIT_3D_SIZE;
    uint8_t *bytes = p->r->bytes;
    if ((size_t)n_dwords * 4 > VGD_TRACE_DATA_MAX - head_bytes) {
        return false; /* longer than any command */
    }
    struct vgd_writer w = vgd_writer_of(bytes, head_bytes);
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_SUBMIT_3D, .ctx_id = ctx_id});
    vgd_cmd_submit_3d_encode(&w, &(struct vgd_cmd_submit_3d){.size_bytes = n_dwords * 4});
    memcpy(bytes + head_bytes, dwords, (size_t)n_dwords * 4);
    return put_bytes(p, 0, bytes, head_bytes + (size_t)n_dwords * 4);
}

struct stream_target {
    struct put *put;
    uint32_t ctx_id;
};

static bool take_stream(void *user, const uint32_t *dwords, uint32_t n_dwords)
{
    const struct stream_target *target = user;
    return put_stream(target->put, target->ctx_id, dwords, n_dwords);
}

static bool put_context_streams(struct put *p, const struct model_context *ctx)
{
    if (ctx->user == NULL) {
        return true;
    }
    struct stream_target target = {.put = p, .ctx_id = ctx->id};
    enum vgd_status st = vgd_virgl_state_emit(ctx->user, STREAM_PART_DWORDS, take_stream, &target);
    if (st == VGD_UNSUPPORTED) {
        p->missing->contexts++;
        return true;
    }
    return st == VGD_OK;
}

static bool put_attachments(struct put *p, const struct model_context *ctx)
{
    uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_CTX_RESOURCE_SIZE];
    for (uint32_t i = 0; i < ctx->n_attached; i++) {
        if (model_resource(&p->r->model, ctx->attached[i]) == NULL) {
            continue; /* gone since */
        }
        struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
        vgd_ctrl_hdr_encode(
            &w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_CTX_ATTACH_RESOURCE, .ctx_id = ctx->id});
        vgd_cmd_ctx_resource_encode(
            &w, &(struct vgd_cmd_ctx_resource){.resource_id = ctx->attached[i]});
        if (!put_bytes(p, 0, bytes, sizeof(bytes))) {
            return false;
        }
    }
    return true;
}

/* ---- resources ---- */

static bool put_memory(struct put *p, const struct model_resource *res)
{
    const uint8_t *bytes = replay_memory(p->r, res);
    for (uint64_t at = 0; bytes != NULL && at < res->backing_bytes;) {
        uint64_t left = res->backing_bytes - at;
        size_t n_bytes = (size_t)(left < CONTENT_BYTES_MAX ? left : CONTENT_BYTES_MAX);
        struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_BACKING,
                                          .as.backing = {.offset_bytes = at,
                                                         .resource_id = res->id,
                                                         .reason = VGD_TRACE_BACKING_STATE}};
        if (!put(p, record, bytes + at, n_bytes)) {
            return false;
        }
        at += n_bytes;
    }
    return true;
}

static bool put_content(struct put *p, const struct vgd_trace_content *content, const void *texels,
                        size_t n_bytes)
{
    return put(p, (struct vgd_trace_record){.kind = VGD_TRACE_KIND_CONTENT, .as.content = *content},
               texels, n_bytes);
}

static bool put_pixels(struct put *p, const struct model_resource *res)
{
    const uint8_t *pixels = replay_pixels(res);
    size_t stride_bytes = (size_t)res->w_px * PIXEL_BYTES;
    uint32_t rows_max = (uint32_t)(CONTENT_BYTES_MAX / (stride_bytes != 0 ? stride_bytes : 1));
    for (uint32_t y = 0; pixels != NULL && y < res->h_px;) {
        uint32_t rows = res->h_px - y < rows_max ? res->h_px - y : rows_max;
        struct vgd_trace_content content = {.resource_id = res->id,
                                            .y = y,
                                            .w = res->w_px,
                                            .h = rows,
                                            .d = 1,
                                            .stride_bytes = (uint32_t)stride_bytes,
                                            .layer_stride_bytes = (uint32_t)stride_bytes * rows};
        if (!put_content(p, &content, pixels + y * stride_bytes, stride_bytes * rows)) {
            return false;
        }
        y += rows;
    }
    return true;
}

static uint32_t minify(uint32_t size, uint32_t level)
{
    return size >> level != 0 ? size >> level : 1;
}

/* One level of a 3D resource, in pieces of whole rows of blocks of one layer. */
static bool put_level(struct put *p, struct model_resource *res,
                      const struct vgd_cmd_resource_create_3d *create, uint32_t level)
{
    uint32_t block_w, block_h, block_bytes;
    uint64_t w = minify(create->width, level), h = minify(create->height, level);
    uint64_t layers = create->target == TARGET_3D     ? minify(create->depth, level)
                      : create->target == TARGET_CUBE ? 6
                      : create->array_size > 0        ? create->array_size
                                                      : 1;
    if (create->target == TARGET_BUFFER) {
        block_w = block_h = block_bytes = 1;
    } else if (!vgd_virgl_format_block(create->format, &block_w, &block_h, &block_bytes)) {
        p->missing->unread++;
        return true;
    }
    /* A buffer is one row, which may be longer than a record. */
    uint64_t step_w =
        create->target == TARGET_BUFFER && w > CONTENT_BYTES_MAX ? CONTENT_BYTES_MAX : w;
    uint64_t stride_bytes = (step_w + block_w - 1) / block_w * block_bytes;
    if (stride_bytes == 0 || stride_bytes > CONTENT_BYTES_MAX) {
        p->missing->unread++;
        return true;
    }
    uint64_t step_h = CONTENT_BYTES_MAX / stride_bytes * block_h;
    for (uint64_t z = 0; z < layers; z++) {
        for (uint64_t y = 0; y < h; y += step_h) {
            for (uint64_t x = 0; x < w; x += step_w) {
                uint64_t now_h = h - y < step_h ? h - y : step_h;
                uint64_t now_w = w - x < step_w ? w - x : step_w;
                uint64_t n_bytes = stride_bytes * ((now_h + block_h - 1) / block_h);
                struct vgd_trace_content content = {
                    .resource_id = res->id,
                    .level = level,
                    .x = (uint32_t)x,
                    .y = (uint32_t)y,
                    .z = (uint32_t)z,
                    .w = (uint32_t)now_w,
                    .h = (uint32_t)now_h,
                    .d = 1,
                    .stride_bytes = (uint32_t)stride_bytes,
                    .layer_stride_bytes = (uint32_t)n_bytes,
                };
                const uint8_t *texels;
                if (!replay_fetch(p->r, res, &content, (uint32_t)n_bytes, &texels)) {
                    return false;
                }
                if (texels == NULL) {
                    p->missing->unread++;
                    return true; /* the rest of it would be refused, too */
                }
                if (!put_content(p, &content, texels, (size_t)n_bytes)) {
                    return false;
                }
            }
        }
    }
    return true;
}

static bool put_texels(struct put *p, struct model_resource *res)
{
    struct vgd_cmd_resource_create_3d create;
    struct vgd_reader body = vgd_reader_of(res->create.bytes + VGD_CTRL_HDR_SIZE,
                                           res->create.n_bytes - VGD_CTRL_HDR_SIZE);
    if (p->r->dry) {
        p->missing->contents++;
        return true;
    }
    if (res->left_out || vgd_cmd_resource_create_3d_decode(&body, &create) != VGD_OK ||
        create.nr_samples > 1) {
        p->missing->unread++;
        return true;
    }
    for (uint32_t level = 0; level <= create.last_level && level < LEVELS_MAX; level++) {
        if (!put_level(p, res, &create, level)) {
            return false;
        }
    }
    return replay_fetched(p->r, res);
}

static bool put_resource(struct put *p, struct model_resource *res)
{
    uint32_t n_dwords;
    const uint32_t *dwords = replay_blob_stream(res, &n_dwords);
    return (dwords == NULL || put_stream(p, res->ctx_id, dwords, n_dwords)) &&
           put_kept(p, 0, &res->create) && put_kept(p, 0, &res->attach) && put_memory(p, res) &&
           (res->kind != MODEL_2D || put_pixels(p, res)) &&
           (res->kind != MODEL_3D || put_texels(p, res)) && put_kept(p, 0, &res->map);
}

static bool put_all(struct put *p)
{
    struct model *m = &p->r->model;
    uint32_t cursor = 0;
    struct model_context *ctx;
    struct model_resource *res;
    while ((ctx = vgd_idmap_next(&m->contexts, &cursor, NULL)) != NULL) {
        if (!put_kept(p, 0, &ctx->create)) {
            return false;
        }
    }
    for (cursor = 0; (res = vgd_idmap_next(&m->resources, &cursor, NULL)) != NULL;) {
        if (!put_resource(p, res)) {
            return false;
        }
    }
    for (cursor = 0; (ctx = vgd_idmap_next(&m->contexts, &cursor, NULL)) != NULL;) {
        if (!put_attachments(p, ctx) || !put_context_streams(p, ctx)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        if (!put_kept(p, 0, &m->scanouts[i].set) || !put_kept(p, 1, &m->cursors[i]) ||
            !put_kept(p, 1, &m->cursor_moves[i])) {
            return false;
        }
    }
    return true;
}

bool cut_put_state(struct replay *r, struct vgd_trace_out *out, uint64_t time_ns,
                   struct cut_missing *missing)
{
    struct put p = {.r = r, .out = out, .time_ns = time_ns, .missing = missing};
    struct vgd_trace_record begin = {.kind = VGD_TRACE_KIND_STATE_BEGIN,
                                     .as.state_begin = {.reason = VGD_TRACE_STATE_START}};
    struct vgd_trace_record end = {.kind = VGD_TRACE_KIND_STATE_END};
    return put(&p, begin, NULL, 0) && put_all(&p) && put(&p, end, NULL, 0);
}
