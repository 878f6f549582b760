/* SPDX-License-Identifier: MIT */
/*
 * Bytes between guest memory, the shadow of a 2D resource and textures.
 *
 * 2D resources live in our own memory (the shadow). virglrenderer learns of one when it is first
 * attached to a context, or named by a 3D transfer. From then on the newer copy is tracked:
 *
 *   shadow only    no GL texture yet. Transfers and read-back are memory copies.
 *   shadow newer   a dirty rectangle waits; it is uploaded before GL can look (a submit or transfer
 *                  of a context that the resource is attached to).
 *   GL newer       a context that has it attached ran commands: read-back goes to GL; a 2D transfer
 *                  first brings the shadow up to date.
 *
 * So consoles and dumb buffers never pay for an upload and a read-back through GL.
 */
#include "virgl_priv.h"

#include "checked.h"
#include "texture_limits.h"

#define FORMAT_BYTES_MAX 16u            /* the widest format: 4 x 32 bits */
#define TRANSFER_SPAN_MAX 0xffffffffull /* the library's own bounds check counts in 32 bits */

static bool rect_is_empty(struct vgd_rect r)
{
    return r.w_px == 0 || r.h_px == 0;
}

/* Both are inside one resource, so sums cannot overflow. */
static struct vgd_rect rect_union(struct vgd_rect a, struct vgd_rect b)
{
    if (rect_is_empty(a)) {
        return b;
    }
    if (rect_is_empty(b)) {
        return a;
    }
    uint32_t x0 = a.x_px < b.x_px ? a.x_px : b.x_px;
    uint32_t y0 = a.y_px < b.y_px ? a.y_px : b.y_px;
    uint32_t ax1 = a.x_px + a.w_px;
    uint32_t ay1 = a.y_px + a.h_px;
    uint32_t bx1 = b.x_px + b.w_px;
    uint32_t by1 = b.y_px + b.h_px;
    uint32_t x1 = ax1 > bx1 ? ax1 : bx1;
    uint32_t y1 = ay1 > by1 ? ay1 : by1;
    return (struct vgd_rect){.x_px = x0, .y_px = y0, .w_px = x1 - x0, .h_px = y1 - y0};
}

static uint32_t minify(uint32_t side, uint32_t level)
{
    uint32_t small = level < 32 ? side >> level : 0;
    return small > 0 ? small : 1;
}

static struct virgl_box box_of(struct vgd_rect rect)
{
    return (struct virgl_box){
        .x = rect.x_px, .y = rect.y_px, .w = rect.w_px, .h = rect.h_px, .d = 1};
}

/* Shadow -> texture, what is dirty of it. */
enum vgd_status vgd_virgl_upload_dirty(struct resource *res)
{
    if (rect_is_empty(res->dirty)) {
        return VGD_OK;
    }
    struct iovec iov = {.iov_base = res->shadow.data,
                        .iov_len = res->shadow.stride_bytes * res->shadow.h_px};
    struct virgl_box box = box_of(res->dirty);
    uint64_t offset_bytes = (uint64_t)res->dirty.y_px * res->shadow.stride_bytes +
                            (uint64_t)res->dirty.x_px * VGD_BYTES_PER_PIXEL;
    int rc = virgl_renderer_transfer_write_iov(res->id, 0, 0, (uint32_t)res->shadow.stride_bytes, 0,
                                               &box, offset_bytes, &iov, 1);
    res->dirty = (struct vgd_rect){0};
    return rc == 0 ? VGD_OK : VGD_HOST_FAILED;
}

/* Texture -> @out, in the resource's own format. @rect is inside and not empty. */
static enum vgd_status read_texture(const struct resource *res, struct vgd_rect rect, void *out,
                                    size_t stride_bytes)
{
    struct iovec iov = {.iov_base = out,
                        .iov_len = stride_bytes * (rect.h_px - 1) +
                                   (size_t)rect.w_px * VGD_BYTES_PER_PIXEL};
    struct virgl_box box = box_of(rect);
    int rc = virgl_renderer_transfer_read_iov(res->id, 0, 0, (uint32_t)stride_bytes, 0, &box, 0,
                                              &iov, 1);
    return rc == 0 ? VGD_OK : VGD_HOST_FAILED;
}

/* Texture -> shadow, all of it. */
static enum vgd_status refresh_shadow(struct resource *res)
{
    struct vgd_rect all = {.w_px = res->w, .h_px = res->h};
    enum vgd_status st = read_texture(res, all, res->shadow.data, res->shadow.stride_bytes);
    if (st == VGD_OK) {
        res->gl_newer = false;
        res->shadow.changed = all; /* what the GPU drew may not have been shown yet */
    }
    return st;
}

enum vgd_status vgd_virgl_transfer_to_host_2d(struct vgd_render *r, uint32_t res_id,
                                              struct vgd_rect rect, uint64_t offset_bytes)
{
    struct resource *res = vgd_virgl_resource_find(virgl_of(r), res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (!vgd_pixels_rect_fits(rect, res->w, res->h)) {
        return VGD_RANGE;
    }
    if (res->is_blob) {
        return VGD_UNSUPPORTED; /* its bytes are the guest's already, or no picture */
    }
    if (!res->is_2d) {
        /* Linux does this to 3D resources that it scans out from the CPU. */
        if (res->target != TARGET_2D || res->nr_samples > 1 ||
            vgd_virgl_linear_format(res->format) == 0) {
            return VGD_RANGE;
        }
        uint64_t stride_bytes = (uint64_t)res->w * VGD_BYTES_PER_PIXEL;
        uint64_t span = rect_is_empty(rect) ? 0
                                            : (rect.h_px - 1) * stride_bytes +
                                                  (uint64_t)rect.w_px * VGD_BYTES_PER_PIXEL;
        if (!vgd_span_fits(offset_bytes, span, res->iov_bytes)) {
            return VGD_RANGE;
        }
        if (span == 0) {
            return VGD_OK;
        }
        struct virgl_box box = box_of(rect);
        int rc =
            virgl_renderer_transfer_write_iov(res_id, 0, 0, (uint32_t)stride_bytes, 0, &box,
                                              offset_bytes, (struct iovec *)res->iov, res->n_iov);
        return rc == 0 ? VGD_OK : VGD_HOST_FAILED;
    }
    if (res->gl_newer) {
        enum vgd_status st = refresh_shadow(res);
        if (st != VGD_OK) {
            return st;
        }
    }
    enum vgd_status st = vgd_pixels_load(&res->shadow, res->iov, res->n_iov, rect, offset_bytes);
    if (st == VGD_OK && res->in_virgl) {
        res->dirty = rect_union(res->dirty, rect);
    }
    return st;
}

/*
 * A transfer that the library refuses puts the guest's whole context in an error state, and its
 * bounds check counts in 32 bits: so what is wrong is refused here. Formats wider than they are
 * believed to be cannot overflow it either, since all sums stay below 2^32 at the widest format.
 */
static enum vgd_status check_transfer(const struct resource *res,
                                      const struct vgd_cmd_transfer_host_3d *cmd, bool *out_empty)
{
    const struct vgd_box *b = &cmd->box;
    if (cmd->level > res->last_level) {
        return VGD_RANGE;
    }
    if (res->nr_samples > 1) {
        return VGD_RANGE; /* GL has no such transfer; the library's reads would give its heap away
                           */
    }
    bool buffer = res->target == TARGET_BUFFER;
    uint32_t w = minify(res->w, cmd->level);
    uint32_t h = buffer ? 1 : minify(res->h, cmd->level);
    uint32_t d = 1;
    if (res->target == TARGET_3D) {
        d = minify(res->depth, cmd->level);
    } else if (vgd_gl_target_is_layered(res->target)) {
        d = res->array_size;
    }
    if (!vgd_span_fits(b->x, b->w, w) || !vgd_span_fits(b->y, b->h, h) ||
        !vgd_span_fits(b->z, b->d, d)) {
        return VGD_RANGE;
    }
    *out_empty = b->w == 0 || b->h == 0 || b->d == 0;
    if (*out_empty) {
        return VGD_OK;
    }
    /* Bytes from the first to behind the last, at least what the library will compute. */
    uint64_t texel = buffer ? 1 : vgd_virgl_linear_format(res->format) != 0 ? 4 : FORMAT_BYTES_MAX;
    uint64_t stride = cmd->stride_bytes != 0 ? cmd->stride_bytes : w * texel;
    uint64_t layer = cmd->layer_stride_bytes != 0 ? cmd->layer_stride_bytes : stride * h;
    uint64_t span = 0;
    uint64_t layers = 0;
    uint64_t rows = 0;
    if (!vgd_mul_u64(layer, b->d - 1, &layers) || !vgd_mul_u64(stride, b->h - 1, &rows) ||
        !vgd_add_u64(layers, rows, &span) || !vgd_add_u64(span, b->w * texel, &span) ||
        span > TRANSFER_SPAN_MAX || layer > TRANSFER_SPAN_MAX ||
        cmd->offset_bytes > res->iov_bytes || cmd->offset_bytes > TRANSFER_SPAN_MAX) {
        return VGD_RANGE;
    }
    if (texel != FORMAT_BYTES_MAX && !vgd_span_fits(cmd->offset_bytes, span, res->iov_bytes)) {
        return VGD_RANGE; /* exactly known; for other formats the library's own check decides */
    }
    return VGD_OK;
}

/* Everything before the library's transfer: *out_res is ready for it, or *out_empty says that there
 * is nothing to do. */
static enum vgd_status prepare_transfer(struct virgl *v, uint32_t ctx_id,
                                        const struct vgd_cmd_transfer_host_3d *cmd,
                                        struct resource **out_res, bool *out_empty)
{
    struct resource *res = vgd_virgl_resource_find(v, cmd->resource_id);
    if (res == NULL || res->iov == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (res->is_blob) {
        return VGD_UNSUPPORTED; /* its shape is known to the context's commands alone */
    }
    if (ctx_id != 0) {
        const struct context *ctx = vgd_idmap_find(&v->contexts, ctx_id);
        if (ctx == NULL) {
            return VGD_NO_CONTEXT;
        }
        if (vgd_idmap_find(&ctx->resources, res->id) == NULL) {
            return VGD_RANGE; /* the library would put the context in its error state */
        }
    }
    enum vgd_status st = check_transfer(res, cmd, out_empty);
    if (st != VGD_OK || *out_empty) {
        return st;
    }
    if (res->is_2d) {
        st = vgd_virgl_promote(res);
        if (st == VGD_OK) {
            st = vgd_virgl_upload_dirty(res);
        }
    }
    *out_res = res;
    return st;
}

enum vgd_status vgd_virgl_transfer_to_host_3d(struct vgd_render *r, uint32_t ctx_id,
                                              const struct vgd_cmd_transfer_host_3d *cmd)
{
    struct resource *res = NULL;
    bool empty = false;
    enum vgd_status st = prepare_transfer(virgl_of(r), ctx_id, cmd, &res, &empty);
    if (st != VGD_OK || empty) {
        return st;
    }
    struct virgl_box box = {cmd->box.x, cmd->box.y, cmd->box.z, cmd->box.w, cmd->box.h, cmd->box.d};
    int rc = virgl_renderer_transfer_write_iov(res->id, ctx_id, (int)cmd->level, cmd->stride_bytes,
                                               cmd->layer_stride_bytes, &box, cmd->offset_bytes,
                                               (struct iovec *)res->iov, res->n_iov);
    res->gl_newer = res->is_2d;
    /* No GL fence is owed: the guest's pages have been read when this returns. */
    return rc == 0 ? VGD_OK : VGD_RANGE;
}

enum vgd_status vgd_virgl_transfer_from_host_3d(struct vgd_render *r, uint32_t ctx_id,
                                                const struct vgd_cmd_transfer_host_3d *cmd)
{
    struct resource *res = NULL;
    bool empty = false;
    enum vgd_status st = prepare_transfer(virgl_of(r), ctx_id, cmd, &res, &empty);
    if (st != VGD_OK || empty) {
        return st;
    }
    struct virgl_box box = {cmd->box.x, cmd->box.y, cmd->box.z, cmd->box.w, cmd->box.h, cmd->box.d};
    int rc = virgl_renderer_transfer_read_iov(res->id, ctx_id, cmd->level, cmd->stride_bytes,
                                              cmd->layer_stride_bytes, &box, cmd->offset_bytes,
                                              (struct iovec *)res->iov, (int)res->n_iov);
    return rc == 0 ? VGD_OK : VGD_RANGE;
}

enum vgd_status vgd_virgl_read_pixels(struct vgd_render *r, uint32_t res_id,
                                      const struct vgd_image *image, struct vgd_rect rect,
                                      void *out, size_t stride_bytes)
{
    struct resource *res = vgd_virgl_resource_find(virgl_of(r), res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (res->is_blob) {
        return image != NULL ? vgd_virgl_blob_read_pixels(res, image, rect, out, stride_bytes)
                             : VGD_RANGE;
    }
    if (res->is_2d && !res->gl_newer) {
        return vgd_pixels_read(&res->shadow, rect, out, stride_bytes);
    }
    uint32_t format = vgd_virgl_linear_format(res->format);
    if (format == 0 || res->nr_samples > 1 ||
        (res->target != TARGET_2D && res->target != TARGET_RECT)) {
        return VGD_UNSUPPORTED;
    }
    if (!vgd_pixels_rect_fits(rect, res->w, res->h) || stride_bytes > UINT32_MAX) {
        return VGD_RANGE;
    }
    if (rect_is_empty(rect)) {
        return VGD_OK;
    }
    /* Transfers count rows from the top whichever way up the texture is stored: the library turns
     * Y_0_TOP ones over, and displays take row 0 of the others for the top. */
    enum vgd_status st = read_texture(res, rect, out, stride_bytes);
    if (st == VGD_OK) {
        vgd_pixels_convert(format, rect.w_px, rect.h_px, out, stride_bytes, out, stride_bytes);
    }
    return st;
}

struct vgd_rect vgd_virgl_take_changed(struct vgd_render *r, uint32_t res_id, struct vgd_rect rect)
{
    struct resource *res = vgd_virgl_resource_find(virgl_of(r), res_id);
    bool ours = res != NULL && res->is_2d && !res->gl_newer;
    return ours ? vgd_pixels_take_changed(&res->shadow, rect) : rect;
}
