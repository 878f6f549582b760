/* SPDX-License-Identifier: MIT */
#include "soft.h"

#include <stdlib.h>
#include <string.h>

#include "idmap.h"
#include "pixels.h"

struct soft_resource {
    bool is_blob;             /* guest pages, read where they lie; else: */
    struct vgd_pixels pixels; /* a copy, by transfers */
    const struct iovec *iov;  /* borrowed from the device; NULL: no backing */
    uint32_t n_iov;
};

struct soft {
    struct vgd_render base;
    struct vgd_idmap resources; /* struct soft_resource, owned */
};

static struct soft *soft_of(struct vgd_render *r)
{
    return (struct soft *)r; /* base is the first member */
}

static void soft_info(const struct vgd_render *r, struct vgd_render_info *out)
{
    (void)r;
    *out = (struct vgd_render_info){
        .name = "pixman",
        .gpu_name = "software 2D",
        .is_software = true,
        .blob_mems = 1u << VGD_BLOB_MEM_GUEST,
        .vulkan_name = "",
    };
}

static enum vgd_status soft_capset_fill(struct vgd_render *r, uint32_t id, uint32_t version,
                                        void *out, size_t size_bytes)
{
    (void)r;
    (void)id;
    (void)version;
    (void)out;
    (void)size_bytes;
    return VGD_UNSUPPORTED;
}

static enum vgd_status soft_context_create(struct vgd_render *r, uint32_t ctx_id,
                                           uint32_t capset_id, const char *name, size_t name_len)
{
    (void)r;
    (void)ctx_id;
    (void)capset_id;
    (void)name;
    (void)name_len;
    return VGD_UNSUPPORTED;
}

static void soft_context_destroy(struct vgd_render *r, uint32_t ctx_id)
{
    (void)r;
    (void)ctx_id;
}

static enum vgd_status soft_context_attach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id)
{
    (void)r;
    (void)ctx_id;
    (void)res_id;
    return VGD_UNSUPPORTED;
}

static void soft_context_detach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id)
{
    (void)r;
    (void)ctx_id;
    (void)res_id;
}

static enum vgd_status soft_resource_create_2d(struct vgd_render *r, uint32_t res_id,
                                               uint32_t format, uint32_t w_px, uint32_t h_px)
{
    struct soft *soft = soft_of(r);
    struct soft_resource *res = calloc(1, sizeof(*res));
    if (res == NULL) {
        return VGD_NO_MEMORY;
    }
    enum vgd_status st = vgd_pixels_init(&res->pixels, format, w_px, h_px);
    if (st == VGD_OK) {
        st = vgd_idmap_add(&soft->resources, res_id, res);
    }
    if (st != VGD_OK) {
        vgd_pixels_finish(&res->pixels);
        free(res);
    }
    return st;
}

static enum vgd_status soft_resource_create_3d(struct vgd_render *r,
                                               const struct vgd_cmd_resource_create_3d *cmd)
{
    (void)r;
    (void)cmd;
    return VGD_UNSUPPORTED;
}

static void soft_resource_unref(struct vgd_render *r, uint32_t res_id)
{
    struct soft_resource *res = vgd_idmap_remove(&soft_of(r)->resources, res_id);
    if (res != NULL) {
        vgd_pixels_finish(&res->pixels);
        free(res);
    }
}

static enum vgd_status soft_resource_attach(struct vgd_render *r, uint32_t res_id,
                                            const struct iovec *iov, uint32_t n_iov)
{
    struct soft_resource *res = vgd_idmap_find(&soft_of(r)->resources, res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    res->iov = iov;
    res->n_iov = n_iov;
    return VGD_OK;
}

static void soft_resource_detach(struct vgd_render *r, uint32_t res_id)
{
    struct soft_resource *res = vgd_idmap_find(&soft_of(r)->resources, res_id);
    if (res != NULL) {
        res->iov = NULL;
        res->n_iov = 0;
    }
}

static enum vgd_status soft_transfer_to_host_2d(struct vgd_render *r, uint32_t res_id,
                                                struct vgd_rect rect, uint64_t offset_bytes)
{
    struct soft_resource *res = vgd_idmap_find(&soft_of(r)->resources, res_id);
    if (res == NULL || res->is_blob) {
        return VGD_NO_RESOURCE;
    }
    return vgd_pixels_load(&res->pixels, res->iov, res->n_iov, rect, offset_bytes);
}

static enum vgd_status soft_transfer_3d(struct vgd_render *r, uint32_t ctx_id,
                                        const struct vgd_cmd_transfer_host_3d *cmd)
{
    (void)r;
    (void)ctx_id;
    (void)cmd;
    return VGD_UNSUPPORTED;
}

static enum vgd_status soft_submit(struct vgd_render *r, uint32_t ctx_id, void *commands,
                                   size_t size_bytes)
{
    (void)r;
    (void)ctx_id;
    (void)commands;
    (void)size_bytes;
    return VGD_UNSUPPORTED;
}

/* Every operation is finished when it returns. */
static enum vgd_status soft_fence(struct vgd_render *r, uint32_t ctx_id, uint8_t ring_idx,
                                  uint64_t seq, bool *out_done)
{
    (void)r;
    (void)ctx_id;
    (void)ring_idx;
    (void)seq;
    *out_done = true;
    return VGD_OK;
}

static enum vgd_status soft_read_pixels(struct vgd_render *r, uint32_t res_id,
                                        const struct vgd_image *image, struct vgd_rect rect,
                                        void *out, size_t stride_bytes)
{
    const struct soft_resource *res = vgd_idmap_find(&soft_of(r)->resources, res_id);
    if (res == NULL || res->is_blob != (image != NULL)) {
        return VGD_NO_RESOURCE;
    }
    if (!res->is_blob) {
        return vgd_pixels_read(&res->pixels, rect, out, stride_bytes);
    }
    return res->iov != NULL
               ? vgd_pixels_read_image(image, res->iov, res->n_iov, rect, out, stride_bytes)
               : VGD_UNSUPPORTED; /* its pages have gone */
}

static enum vgd_status soft_content_read(struct vgd_render *r, uint32_t res_id, uint32_t level,
                                         const struct vgd_box *box, void *out, size_t out_bytes,
                                         uint32_t stride_bytes, uint32_t layer_stride_bytes)
{
    (void)layer_stride_bytes; /* there is one layer */
    const struct soft_resource *res = vgd_idmap_find(&soft_of(r)->resources, res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (res->is_blob || level != 0 || box->z != 0 || box->d != 1) {
        return VGD_UNSUPPORTED;
    }
    struct vgd_rect rect = {.x_px = box->x, .y_px = box->y, .w_px = box->w, .h_px = box->h};
    uint64_t row_bytes = (uint64_t)box->w * VGD_BYTES_PER_PIXEL;
    if (box->h == 0 || (uint64_t)stride_bytes * (box->h - 1) + row_bytes > out_bytes) {
        return VGD_RANGE;
    }
    return vgd_pixels_copy(&res->pixels, rect, out, stride_bytes);
}

static enum vgd_status soft_resource_create_blob(struct vgd_render *r,
                                                 const struct vgd_render_blob *blob)
{
    if (blob->mem != VGD_BLOB_MEM_GUEST) {
        return VGD_UNSUPPORTED;
    }
    struct soft_resource *res = calloc(1, sizeof(*res));
    if (res == NULL) {
        return VGD_NO_MEMORY;
    }
    *res = (struct soft_resource){.is_blob = true, .iov = blob->iov, .n_iov = blob->n_iov};
    enum vgd_status st = vgd_idmap_add(&soft_of(r)->resources, blob->res_id, res);
    if (st != VGD_OK) {
        free(res);
    }
    return st;
}

static enum vgd_status soft_blob_export(struct vgd_render *r, uint32_t res_id,
                                        struct vgd_blob_file *out)
{
    (void)r;
    (void)res_id;
    (void)out;
    return VGD_UNSUPPORTED;
}

static struct vgd_rect soft_take_changed(struct vgd_render *r, uint32_t res_id,
                                         struct vgd_rect rect)
{
    struct soft_resource *res = vgd_idmap_find(&soft_of(r)->resources, res_id);
    return res != NULL && !res->is_blob ? vgd_pixels_take_changed(&res->pixels, rect) : rect;
}

static enum vgd_status soft_export_scanout(struct vgd_render *r, uint32_t res_id,
                                           const struct vgd_image *image, struct vgd_dmabuf *out)
{
    (void)image;
    (void)r;
    (void)res_id;
    (void)out;
    return VGD_UNSUPPORTED;
}

static void soft_reset(struct vgd_render *r)
{
    struct soft *soft = soft_of(r);
    uint32_t cursor = 0;
    struct soft_resource *res;
    while ((res = vgd_idmap_next(&soft->resources, &cursor, NULL)) != NULL) {
        vgd_pixels_finish(&res->pixels);
        free(res);
    }
    vgd_idmap_finish(&soft->resources);
    soft->resources = (struct vgd_idmap){0};
}

static void soft_destroy(struct vgd_render *r)
{
    if (r != NULL) {
        soft_reset(r);
        free(r);
    }
}

static const struct vgd_render_ops soft_ops = {
    .info = soft_info,
    .capset_fill = soft_capset_fill,
    .context_create = soft_context_create,
    .context_destroy = soft_context_destroy,
    .context_attach = soft_context_attach,
    .context_detach = soft_context_detach,
    .resource_create_2d = soft_resource_create_2d,
    .resource_create_3d = soft_resource_create_3d,
    .resource_create_blob = soft_resource_create_blob,
    .blob_export = soft_blob_export,
    .resource_unref = soft_resource_unref,
    .resource_attach = soft_resource_attach,
    .resource_detach = soft_resource_detach,
    .transfer_to_host_2d = soft_transfer_to_host_2d,
    .transfer_to_host_3d = soft_transfer_3d,
    .transfer_from_host_3d = soft_transfer_3d,
    .submit = soft_submit,
    .fence = soft_fence,
    .read_pixels = soft_read_pixels,
    .take_changed = soft_take_changed,
    .content_read = soft_content_read,
    .export_scanout = soft_export_scanout,
    .batch_end = NULL,
    .reset = soft_reset,
    .destroy = soft_destroy,
};

struct vgd_render *vgd_soft_create(const struct vgd_render_callbacks *callbacks)
{
    (void)callbacks;
    struct soft *soft = calloc(1, sizeof(*soft));
    if (soft == NULL) {
        return NULL;
    }
    soft->base.ops = &soft_ops;
    return &soft->base;
}
