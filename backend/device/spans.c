/* SPDX-License-Identifier: MIT */
/*
 * What a command will read and write of guest memory, for recording: by the same rules as the
 * handlers and the renderer, but nothing is done and nothing is logged.
 *
 * Blobs of guest memory are what the renderer looks at where it lies, at any time. Told are the
 * times at which that shows: a flush, a new scanout, a cursor. A stream that draws from one (a
 * context that imported it) is told for what the stream names as memory to be read, and no more:
 * to tell every attached blob whole on every submit would cost more than the submit.
 */
#include "device.h"
#include "limits.h"
#include "stream.h"
#include "virgl_format.h"
#include "virgl_wire.h"

/* Rows closer than this are told as one span: a span of its own costs about as much. */
#define SPAN_GAP_BYTES 512u
/* A transfer of more rows than this is one span, with what lies between them. */
#define SPAN_ROWS_MAX 4096u
/* What one command is told of, at most: a stream may name the same memory again and again. */
#define COMMAND_BYTES_MAX ((uint64_t)256 << 20)

struct spans {
    const struct vgd_gpu *gpu;
    vgd_gpu_span_fn fn;
    void *user;
    uint64_t left_bytes; /* that may still be told */
    uint64_t untold_bytes;
};

/* A box in memory: rows of blocks, in layers. */
struct area {
    uint64_t offset_bytes;
    uint64_t row_bytes, stride_bytes, layer_stride_bytes;
    uint64_t n_rows, n_layers; /* not 0 */
};

static void tell(struct spans *s, const struct vgd_resource *res, uint64_t offset_bytes,
                 uint64_t n_bytes, bool is_write)
{
    const struct vgd_backing *backing = &res->backing;
    if (backing->iov == NULL || offset_bytes >= backing->size_bytes || n_bytes == 0) {
        return;
    }
    uint64_t there_bytes = backing->size_bytes - offset_bytes;
    n_bytes = n_bytes < there_bytes ? n_bytes : there_bytes;
    if (n_bytes > s->left_bytes) {
        s->untold_bytes += n_bytes;
        return;
    }
    s->left_bytes -= n_bytes;
    s->fn(s->user, res->id, backing->iov, backing->n_iov, offset_bytes, n_bytes, is_write);
}

static void tell_whole(struct spans *s, const struct vgd_resource *res, bool is_write)
{
    tell(s, res, 0, res->backing.size_bytes, is_write);
}

/* a * b + c, or UINT64_MAX: further than any memory. */
static uint64_t reach(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t sum;
    return __builtin_mul_overflow(a, b, &sum) || __builtin_add_overflow(sum, c, &sum) ? UINT64_MAX
                                                                                      : sum;
}

static void tell_area(struct spans *s, const struct vgd_resource *res, const struct area *a,
                      bool is_write)
{
    uint64_t layer_bytes = reach(a->n_rows - 1, a->stride_bytes, a->row_bytes);
    bool rows_apart = a->n_rows > 1 && a->stride_bytes > a->row_bytes + SPAN_GAP_BYTES;
    bool layers_apart =
        a->n_layers > 1 &&
        (rows_apart || a->layer_stride_bytes > reach(1, layer_bytes, SPAN_GAP_BYTES));
    if ((!rows_apart && !layers_apart) || a->n_rows > SPAN_ROWS_MAX / a->n_layers) {
        tell(s, res, a->offset_bytes, reach(a->n_layers - 1, a->layer_stride_bytes, layer_bytes),
             is_write);
        return;
    }
    for (uint64_t z = 0; z < a->n_layers; z++) {
        uint64_t at = reach(z, a->layer_stride_bytes, a->offset_bytes);
        if (!rows_apart) {
            tell(s, res, at, layer_bytes, is_write);
            continue;
        }
        for (uint64_t y = 0; y < a->n_rows; y++) {
            tell(s, res, reach(y, a->stride_bytes, at), a->row_bytes, is_write);
        }
    }
}

/* ---- transfers --------------------------------------------------------------------------------
 */

/* What both kinds of 3D transfer say. */
struct transfer {
    struct vgd_box box;
    uint32_t level, stride_bytes, layer_stride_bytes;
    uint64_t offset_bytes;
};

/* How the box of a transfer lies in memory, in the format of @res. false: not known. */
static bool transfer_area(const struct vgd_resource *res, const struct transfer *t,
                          struct area *out)
{
    const struct vgd_box *box = &t->box;
    if (res->kind == VGD_RESOURCE_BLOB) {
        return false; /* what picture lies in it is between the driver and the renderer */
    }
    *out = (struct area){.offset_bytes = t->offset_bytes, .n_rows = 1, .n_layers = 1};
    if (res->kind == VGD_RESOURCE_3D && res->as.args_3d.target == VGD_TARGET_BUFFER) {
        out->row_bytes = box->w;
        return true;
    }
    uint32_t format = res->kind == VGD_RESOURCE_3D ? res->as.args_3d.format : res->as.format;
    uint32_t block_w, block_h, block_bytes;
    if (!vgd_virgl_format_block(format, &block_w, &block_h, &block_bytes)) {
        return false;
    }
    uint64_t level_w = vgd_minify(res->w_px, t->level);
    uint64_t level_h = vgd_minify(res->h_px, t->level);
    out->row_bytes = ((uint64_t)box->w + block_w - 1) / block_w * block_bytes;
    out->n_rows = ((uint64_t)box->h + block_h - 1) / block_h;
    out->n_layers = box->d;
    out->stride_bytes =
        t->stride_bytes != 0 ? t->stride_bytes : (level_w + block_w - 1) / block_w * block_bytes;
    out->layer_stride_bytes = t->layer_stride_bytes != 0
                                  ? t->layer_stride_bytes
                                  : (level_h + block_h - 1) / block_h * out->stride_bytes;
    return true;
}

static void tell_transfer(struct spans *s, const struct vgd_resource *shape,
                          const struct vgd_resource *memory, const struct transfer *t,
                          bool is_write)
{
    if (t->box.w == 0 || t->box.h == 0 || t->box.d == 0) {
        return;
    }
    struct area area;
    if (transfer_area(shape, t, &area)) {
        tell_area(s, memory, &area, is_write);
    } else {
        tell_whole(s, memory, is_write);
    }
}

static void transfer_2d(struct spans *s, struct vgd_reader *body)
{
    struct vgd_cmd_transfer_to_host_2d cmd;
    if (vgd_cmd_transfer_to_host_2d_decode(body, &cmd) != VGD_OK) {
        return;
    }
    const struct vgd_resource *res = vgd_resource_find(s->gpu, cmd.resource_id);
    if (res == NULL || res->kind != VGD_RESOURCE_2D || !res->in_renderer ||
        !vgd_rect_fits(cmd.rect, res->w_px, res->h_px) || cmd.rect.w_px == 0 ||
        cmd.rect.h_px == 0) {
        return;
    }
    struct area area = {
        .offset_bytes = cmd.offset_bytes,
        .row_bytes = (uint64_t)cmd.rect.w_px * VGD_BYTES_PER_PIXEL,
        .stride_bytes = (uint64_t)res->w_px * VGD_BYTES_PER_PIXEL,
        .n_rows = cmd.rect.h_px,
        .n_layers = 1,
    };
    if (cmd.offset_bytes < res->backing.size_bytes) {
        tell_area(s, res, &area, false);
    }
}

static void transfer_3d(struct spans *s, const struct vgd_ctrl_hdr *hdr, struct vgd_reader *body)
{
    struct vgd_cmd_transfer_host_3d cmd;
    if (vgd_cmd_transfer_host_3d_decode(body, &cmd) != VGD_OK) {
        return;
    }
    const struct vgd_context *ctx = vgd_context_find(s->gpu, hdr->ctx_id);
    const struct vgd_resource *res = vgd_resource_find(s->gpu, cmd.resource_id);
    if (res == NULL || !res->in_renderer || vgd_blob_is_guest(res) || !s->gpu->info.has_3d ||
        (hdr->ctx_id != 0 &&
         (ctx == NULL || ctx->lost || vgd_idmap_find(&ctx->attachments, res->id) == NULL)) ||
        !vgd_transfer_box_fits(res, &cmd) || cmd.offset_bytes > res->backing.size_bytes) {
        return;
    }
    struct transfer t = {.box = cmd.box,
                         .level = cmd.level,
                         .stride_bytes = cmd.stride_bytes,
                         .layer_stride_bytes = cmd.layer_stride_bytes,
                         .offset_bytes = cmd.offset_bytes};
    tell_transfer(s, res, res, &t, hdr->type == VGD_CMD_TRANSFER_FROM_HOST_3D);
}

/* ---- streams ----------------------------------------------------------------------------------
 */

static const struct vgd_resource *attached(const struct vgd_context *ctx, uint32_t res_id)
{
    const struct vgd_attachment *at = vgd_idmap_find(&ctx->attachments, res_id);
    return at != NULL && at->in_renderer ? at->res : NULL;
}

static struct transfer stream_transfer(const struct vgd_virgl_box *box, uint32_t level,
                                       uint32_t stride_bytes, uint32_t layer_stride_bytes,
                                       uint32_t offset_bytes)
{
    return (struct transfer){
        .box = {.x = box->x, .y = box->y, .z = box->z, .w = box->w, .h = box->h, .d = box->d},
        .level = level < VGD_TEXTURE_LEVEL_MAX ? level : VGD_TEXTURE_LEVEL_MAX,
        .stride_bytes = stride_bytes,
        .layer_stride_bytes = layer_stride_bytes,
        .offset_bytes = offset_bytes,
    };
}

/* What other commands do to memory behind resources that they name. */
static void stream_refs(struct spans *s, const struct vgd_context *ctx,
                        const struct vgd_command *cmd)
{
    struct vgd_command_refs refs = vgd_command_refs_of(cmd);
    struct vgd_command_ref ref;
    while (vgd_command_refs_next(&refs, &ref)) {
        const struct vgd_resource *res =
            ref.space == VGD_REF_RESOURCE ? attached(ctx, ref.id) : NULL;
        if (res == NULL) {
            continue;
        }
        if ((ref.role & VGD_ROLE_BACKING_READ) != 0) {
            tell_whole(s, res, false);
        }
        if ((ref.role & VGD_ROLE_BACKING_WRITE) != 0) {
            tell_whole(s, res, true);
        }
    }
}

static bool box_fits(const struct vgd_resource *res, const struct vgd_virgl_box *box,
                     uint32_t level)
{
    struct vgd_cmd_transfer_host_3d t = {
        .box = {.x = box->x, .y = box->y, .z = box->z, .w = box->w, .h = box->h, .d = box->d},
        .level = level};
    return vgd_transfer_box_fits(res, &t);
}

/* False: the renderer refuses it, and what is behind it. */
static bool stream_command(struct spans *s, const struct vgd_context *ctx,
                           const struct vgd_command *cmd)
{
    if (cmd->opcode == VGD_VIRGL_CMD_TRANSFER3D) {
        struct vgd_virgl_transfer3d t;
        const struct vgd_resource *res;
        if (vgd_virgl_transfer3d_decode(cmd, &t) == VGD_OK &&
            (res = attached(ctx, t.resource)) != NULL) {
            if (!box_fits(res, &t.box, t.level)) {
                return false;
            }
            struct transfer transfer = stream_transfer(&t.box, t.level, t.stride_bytes,
                                                       t.layer_stride_bytes, t.offset_bytes);
            tell_transfer(s, res, res, &transfer, t.direction != VGD_VIRGL_TRANSFER_TO_HOST);
        }
    } else if (cmd->opcode == VGD_VIRGL_CMD_COPY_TRANSFER3D) {
        struct vgd_virgl_copy_transfer3d t;
        const struct vgd_resource *res, *staging;
        if (vgd_virgl_copy_transfer3d_decode(cmd, &t) == VGD_OK &&
            (res = attached(ctx, t.resource)) != NULL &&
            (staging = attached(ctx, t.staging)) != NULL) {
            if (!box_fits(res, &t.box, t.level)) {
                return false;
            }
            struct transfer transfer = stream_transfer(
                &t.box, t.level, t.stride_bytes, t.layer_stride_bytes, t.staging_offset_bytes);
            tell_transfer(s, res, staging, &transfer,
                          (t.flags & VGD_VIRGL_COPY_READ_FROM_HOST) != 0);
        }
    } else {
        stream_refs(s, ctx, cmd);
    }
    return true;
}

static bool speaks_virgl(const struct vgd_context *ctx)
{
    return ctx->capset_id == 0 || ctx->capset_id == VGD_CAPSET_VIRGL ||
           ctx->capset_id == VGD_CAPSET_VIRGL2;
}

static void submit_3d(struct spans *s, const struct vgd_ctrl_hdr *hdr, struct vgd_reader *body)
{
    struct vgd_cmd_submit_3d cmd;
    const struct vgd_context *ctx = vgd_context_find(s->gpu, hdr->ctx_id);
    if (vgd_cmd_submit_3d_decode(body, &cmd) != VGD_OK ||
        vgd_cmd_submit_3d_tail_check(body, &cmd) != VGD_OK || ctx == NULL || ctx->lost ||
        !speaks_virgl(ctx) || cmd.size_bytes > s->gpu->config.limits.submit_bytes_max ||
        cmd.size_bytes % sizeof(uint32_t) != 0) {
        return;
    }
    /* The command is 8-byte aligned, and so is what follows its fixed part. */
    struct vgd_stream stream =
        vgd_stream_of(&vgd_virgl_stream, (const uint32_t *)(const void *)body->pos,
                      cmd.size_bytes / (uint32_t)sizeof(uint32_t));
    struct vgd_command command;
    struct vgd_command_fault fault;
    while (vgd_stream_next(&stream, &command) &&
           vgd_command_passes(vgd_command_check(&command, &fault), s->gpu->config.strict_streams) &&
           stream_command(s, ctx, &command)) {
    }
}

/* ---- guest memory that is shown ---------------------------------------------------------------
 */

static void tell_picture(struct spans *s, const struct vgd_resource *res,
                         const struct vgd_image *image, struct vgd_rect rect)
{
    if (rect.w_px == 0 || rect.h_px == 0 || !vgd_rect_fits(rect, image->w_px, image->h_px)) {
        return;
    }
    struct area area = {
        .offset_bytes = image->offset_bytes + (uint64_t)rect.y_px * image->stride_bytes +
                        (uint64_t)rect.x_px * VGD_BYTES_PER_PIXEL,
        .row_bytes = (uint64_t)rect.w_px * VGD_BYTES_PER_PIXEL,
        .stride_bytes = image->stride_bytes,
        .n_rows = rect.h_px,
        .n_layers = 1,
    };
    tell_area(s, res, &area, false);
}

static void set_scanout_blob(struct spans *s, struct vgd_reader *body)
{
    struct vgd_cmd_set_scanout_blob cmd;
    if (vgd_cmd_set_scanout_blob_decode(body, &cmd) != VGD_OK) {
        return;
    }
    const struct vgd_resource *res = vgd_resource_find(s->gpu, cmd.resource_id);
    if (res == NULL || !vgd_blob_is_guest(res) || !res->in_renderer) {
        return;
    }
    struct vgd_image image = {.w_px = cmd.w_px,
                              .h_px = cmd.h_px,
                              .format = cmd.format,
                              .stride_bytes = cmd.strides_bytes[0],
                              .offset_bytes = cmd.offsets_bytes[0]};
    if (vgd_image_fits(&image, res->as.blob.size_bytes)) {
        tell_picture(s, res, &image, cmd.rect);
    }
}

static void resource_flush(struct spans *s, struct vgd_reader *body)
{
    struct vgd_cmd_resource_flush cmd;
    if (vgd_cmd_resource_flush_decode(body, &cmd) != VGD_OK) {
        return;
    }
    const struct vgd_resource *res = vgd_resource_find(s->gpu, cmd.resource_id);
    if (res == NULL || !vgd_blob_is_guest(res)) {
        return;
    }
    for (uint32_t i = 0; i < s->gpu->config.n_scanouts; i++) {
        const struct vgd_scanout *scanout = &s->gpu->scanouts[i];
        struct vgd_rect shown;
        if (scanout->res == res && vgd_rect_intersect(cmd.rect, scanout->src, &shown)) {
            tell_picture(s, res, &scanout->image, shown);
        }
    }
}

static void update_cursor(struct spans *s, struct vgd_reader *body)
{
    struct vgd_cmd_update_cursor cmd;
    if (vgd_cmd_update_cursor_decode(body, &cmd) != VGD_OK) {
        return;
    }
    const struct vgd_resource *res = vgd_resource_find(s->gpu, cmd.resource_id);
    if (res != NULL && vgd_blob_is_guest(res)) {
        tell(s, res, 0, VGD_CURSOR_BYTES, false);
    }
}

void vgd_gpu_picture_spans(const struct vgd_gpu *gpu, uint32_t res_id,
                           const struct vgd_image *image, struct vgd_rect rect, vgd_gpu_span_fn fn,
                           void *user)
{
    struct spans s = {.gpu = gpu, .fn = fn, .user = user, .left_bytes = COMMAND_BYTES_MAX};
    const struct vgd_resource *res = vgd_resource_find(gpu, res_id);
    if (res != NULL && vgd_blob_is_guest(res)) {
        tell_picture(&s, res, image, rect);
    }
}

uint64_t vgd_gpu_command_spans(const struct vgd_gpu *gpu, enum vgd_gpu_queue queue,
                               const uint8_t *cmd, size_t cmd_bytes, vgd_gpu_span_fn fn, void *user)
{
    struct spans s = {.gpu = gpu, .fn = fn, .user = user, .left_bytes = COMMAND_BYTES_MAX};
    if (cmd_bytes < VGD_CTRL_HDR_SIZE) {
        return 0;
    }
    struct vgd_reader header = vgd_reader_of(cmd, VGD_CTRL_HDR_SIZE);
    struct vgd_reader body = vgd_reader_of(cmd, cmd_bytes);
    struct vgd_ctrl_hdr hdr;
    if (vgd_ctrl_hdr_decode(&header, &hdr) != VGD_OK ||
        (hdr.type == VGD_CMD_UPDATE_CURSOR) != (queue == VGD_QUEUE_CURSOR)) {
        return 0;
    }
    vgd_read_skip(&body, VGD_CTRL_HDR_SIZE);
    switch (hdr.type) {
    case VGD_CMD_TRANSFER_TO_HOST_2D:
        transfer_2d(&s, &body);
        break;
    case VGD_CMD_TRANSFER_TO_HOST_3D:
    case VGD_CMD_TRANSFER_FROM_HOST_3D:
        transfer_3d(&s, &hdr, &body);
        break;
    case VGD_CMD_SUBMIT_3D:
        submit_3d(&s, &hdr, &body);
        break;
    case VGD_CMD_SET_SCANOUT_BLOB:
        set_scanout_blob(&s, &body);
        break;
    case VGD_CMD_RESOURCE_FLUSH:
        resource_flush(&s, &body);
        break;
    case VGD_CMD_UPDATE_CURSOR:
        update_cursor(&s, &body);
        break;
    default:
        break;
    }
    return s.untold_bytes;
}
