/* SPDX-License-Identifier: MIT */
/* Resources of the virgl renderer: making, backing and exporting them. */
#include "virgl_priv.h"

#include <stdlib.h>
#include <string.h>

#include "fd.h"
#include "texture_limits.h"

#define FORMAT_B8G8R8A8_SRGB 100u
#define FORMAT_B8G8R8X8_SRGB 101u
#define FORMAT_R8G8B8A8_SRGB 104u
#define FORMAT_R8G8B8X8_SRGB 230u

/*
 * struct virgl_renderer_resource_info grew under one SONAME and 1.x always writes all of it, so a
 * program built with 0.10.4's header must not pass that header's struct. The same for the
 * extended form, which 0.10.4's header lacks.
 */
union resource_info {
    struct virgl_renderer_resource_info info;
    struct {
        int32_t version;
        uint32_t base[10];
        bool has_dmabuf_export;
        int32_t planes;
        uint64_t modifier;
        void *d3d_tex2d;
    } ext;
    uint8_t room[256];
};
#define EXT_FOURCC 8 /* index in base[] of drm_fourcc */

/* The plain format whose bytes lie as @format's do, or 0: 4-byte formats only. */
uint32_t vgd_virgl_linear_format(uint32_t format)
{
    switch (format) {
    case FORMAT_B8G8R8A8_SRGB:
        return VGD_FORMAT_B8G8R8A8_UNORM;
    case FORMAT_B8G8R8X8_SRGB:
        return VGD_FORMAT_B8G8R8X8_UNORM;
    case FORMAT_R8G8B8A8_SRGB:
        return VGD_FORMAT_R8G8B8A8_UNORM;
    case FORMAT_R8G8B8X8_SRGB:
        return VGD_FORMAT_R8G8B8X8_UNORM;
    default:
        return vgd_pixels_known_format(format) ? format : 0;
    }
}

uint64_t vgd_virgl_iov_total(const struct iovec *iov, uint32_t n_iov)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < n_iov; i++) {
        n += iov[i].iov_len;
    }
    return n;
}

struct resource *vgd_virgl_resource_find(const struct virgl *v, uint32_t res_id)
{
    return vgd_idmap_find(&v->resources, res_id);
}

void vgd_virgl_resource_free(struct resource *res)
{
    if (res != NULL) {
        vgd_virgl_blob_finish(res);
        vgd_pixels_finish(&res->shadow);
        free(res);
    }
}

enum vgd_status vgd_virgl_resource_create_2d(struct vgd_render *r, uint32_t res_id, uint32_t format,
                                             uint32_t w_px, uint32_t h_px)
{
    struct virgl *v = virgl_of(r);
    struct resource *res = calloc(1, sizeof(*res));
    if (res == NULL) {
        return VGD_NO_MEMORY;
    }
    *res = (struct resource){
        .id = res_id,
        .is_2d = true,
        .format = format,
        .target = TARGET_2D,
        .w = w_px,
        .h = h_px,
        .depth = 1,
        .array_size = 1,
    };
    enum vgd_status st = vgd_pixels_init(&res->shadow, format, w_px, h_px);
    if (st == VGD_OK) {
        st = vgd_idmap_add(&v->resources, res_id, res);
    }
    if (st != VGD_OK) {
        vgd_virgl_resource_free(res);
    }
    return st;
}

enum vgd_status vgd_virgl_resource_create_3d(struct vgd_render *r,
                                             const struct vgd_cmd_resource_create_3d *cmd)
{
    struct virgl *v = virgl_of(r);
    if (!v->has_gl) {
        return VGD_UNSUPPORTED;
    }
    if (cmd->resource_id == 0 || !vgd_gl_texture_fits(cmd)) {
        return VGD_RANGE;
    }
    struct resource *res = calloc(1, sizeof(*res));
    if (res == NULL) {
        return VGD_NO_MEMORY;
    }
    *res = (struct resource){
        .id = cmd->resource_id,
        .in_virgl = true,
        .format = cmd->format,
        .target = cmd->target,
        .w = cmd->width,
        .h = cmd->height,
        .depth = cmd->depth,
        .array_size = cmd->array_size,
        .last_level = cmd->last_level,
        .nr_samples = cmd->nr_samples,
        .bind = cmd->bind,
    };
    enum vgd_status st = vgd_idmap_add(&v->resources, cmd->resource_id, res);
    if (st != VGD_OK) {
        vgd_virgl_resource_free(res);
        return st;
    }
    struct virgl_renderer_resource_create_args args = {
        .handle = cmd->resource_id,
        .target = cmd->target,
        .format = cmd->format,
        .bind = cmd->bind,
        .width = cmd->width,
        .height = cmd->height,
        .depth = cmd->depth,
        .array_size = cmd->array_size,
        .last_level = cmd->last_level,
        .nr_samples = cmd->nr_samples,
        .flags = cmd->flags,
    };
    if (virgl_renderer_resource_create(&args, NULL, 0) != 0) {
        (void)vgd_idmap_remove(&v->resources, cmd->resource_id);
        vgd_virgl_resource_free(res);
        return VGD_RANGE; /* nearly always the guest's: the library logs which */
    }
    return VGD_OK;
}

/* Give a 2D resource its texture. */
enum vgd_status vgd_virgl_promote(struct resource *res)
{
    if (res->in_virgl) {
        return VGD_OK;
    }
    struct virgl_renderer_resource_create_args args = {
        .handle = res->id,
        .target = TARGET_2D,
        .format = res->format,
        .bind = VIRGL_RES_BIND_RENDER_TARGET | VIRGL_RES_BIND_SAMPLER_VIEW,
        .width = res->w,
        .height = res->h,
        .depth = 1,
        .array_size = 1,
        .flags = RESOURCE_Y_0_TOP,
    };
    if (virgl_renderer_resource_create(&args, NULL, 0) != 0) {
        return VGD_HOST_FAILED; /* a byte order that GL does not have */
    }
    res->in_virgl = true;
    res->dirty = (struct vgd_rect){.w_px = res->w, .h_px = res->h};
    if (res->iov != NULL) {
        (void)virgl_renderer_resource_attach_iov((int)res->id, (struct iovec *)res->iov,
                                                 (int)res->n_iov);
    }
    return VGD_OK;
}

void vgd_virgl_resource_unref(struct vgd_render *r, uint32_t res_id)
{
    struct virgl *v = virgl_of(r);
    struct resource *res = vgd_idmap_remove(&v->resources, res_id);
    if (res == NULL) {
        return;
    }
    /* One by one, so that each context's process has its own time limit. The one that made a blob
     * has it attached whether the guest did so or not. */
    uint32_t cursor = 0;
    struct context *ctx = vgd_idmap_find(&v->contexts, res->blob_ctx_id);
    if (res->is_blob && ctx != NULL) {
        vgd_virgl_context_drop(v, ctx, res);
    }
    while (res->contexts_count > 0 && (ctx = vgd_idmap_next(&v->contexts, &cursor, NULL)) != NULL) {
        if (vgd_idmap_remove(&ctx->resources, res_id) != NULL) {
            vgd_virgl_context_forget(ctx, res);
            vgd_virgl_context_drop(v, ctx, res);
            res->contexts_count--;
        }
    }
    if (res->in_virgl) {
        virgl_renderer_resource_detach_iov((int)res_id, NULL, NULL);
        virgl_renderer_resource_unref(res_id); /* detaches it from the library's contexts */
    }
    vgd_virgl_resource_free(res);
}

void vgd_virgl_resource_detach(struct vgd_render *r, uint32_t res_id)
{
    struct resource *res = vgd_virgl_resource_find(virgl_of(r), res_id);
    if (res == NULL || res->iov == NULL) {
        return;
    }
    if (res->in_virgl) {
        virgl_renderer_resource_detach_iov((int)res_id, NULL, NULL);
    }
    res->iov = NULL;
    res->n_iov = 0;
    res->iov_bytes = 0;
}

enum vgd_status vgd_virgl_resource_attach(struct vgd_render *r, uint32_t res_id,
                                          const struct iovec *iov, uint32_t n_iov)
{
    struct resource *res = vgd_virgl_resource_find(virgl_of(r), res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    vgd_virgl_resource_detach(r, res_id); /* the library refuses a second backing */
    if (n_iov == 0) {
        return VGD_OK;
    }
    if (res->in_virgl &&
        virgl_renderer_resource_attach_iov((int)res_id, (struct iovec *)iov, (int)n_iov) != 0) {
        return VGD_HOST_FAILED;
    }
    res->iov = iov;
    res->n_iov = n_iov;
    res->iov_bytes = vgd_virgl_iov_total(iov, n_iov);
    return VGD_OK;
}

/* Layout of a texture, by the newer call where the library has it. */
static bool texture_info(uint32_t res_id, union resource_info *u, uint32_t *out_fourcc,
                         int *out_planes, uint64_t *out_modifier, uint32_t *out_tex_id,
                         uint32_t *out_flags)
{
    static int (*info_ext)(int, void *);
    static bool looked_up;
    if (!looked_up) {
        vgd_dl_function(RTLD_DEFAULT, "virgl_renderer_resource_get_info_ext", &info_ext);
        looked_up = true;
    }
    memset(u, 0, sizeof(*u));
    if (info_ext != NULL) {
        if (info_ext((int)res_id, u) != 0 || !u->ext.has_dmabuf_export) {
            return false;
        }
        *out_fourcc = u->ext.base[EXT_FOURCC];
        *out_planes = u->ext.planes;
        *out_modifier = u->ext.modifier;
        *out_tex_id = u->ext.base[6];
        *out_flags = u->ext.base[5];
        return true;
    }
    if (virgl_renderer_resource_get_info((int)res_id, &u->info) != 0) {
        return false;
    }
    *out_fourcc = (uint32_t)u->info.drm_fourcc;
    *out_planes = 1;
    *out_modifier = MOD_INVALID;
    *out_tex_id = u->info.tex_id;
    *out_flags = u->info.flags;
    return true;
}

enum vgd_status vgd_virgl_export_texture(uint32_t res_id, uint32_t w, uint32_t h,
                                         struct vgd_dmabuf *out)
{
    union resource_info u;
    uint32_t fourcc;
    uint32_t tex_id;
    uint32_t flags;
    int planes;
    uint64_t modifier;
    virgl_renderer_force_ctx_0(); /* a live GL context, and everything drawn so far is flushed */
    if (!texture_info(res_id, &u, &fourcc, &planes, &modifier, &tex_id, &flags) || planes != 1 ||
        fourcc == 0) {
        return VGD_UNSUPPORTED;
    }
    int fd = -1;
    int stride = 0;
    int offset = 0;
    int rc = virgl_renderer_get_fd_for_texture2(tex_id, &fd, &stride, &offset);
    if (rc != 0 || fd < 0 || stride <= 0 || offset < 0) { /* software GL: rc 0 and no fd */
        vgd_fd_closep(&fd);
        return VGD_UNSUPPORTED;
    }
    *out = (struct vgd_dmabuf){
        .fd = fd,
        .w_px = w,
        .h_px = h,
        .stride_bytes = (uint32_t)stride,
        .offset_bytes = (uint32_t)offset,
        .fourcc = fourcc,
        .modifier = modifier,
        .y0_top = (flags & RESOURCE_Y_0_TOP) != 0,
    };
    return VGD_OK;
}

enum vgd_status vgd_virgl_export_scanout(struct vgd_render *r, uint32_t res_id,
                                         const struct vgd_image *image, struct vgd_dmabuf *out)
{
    const struct virgl *v = virgl_of(r);
    struct resource *res = vgd_virgl_resource_find(v, res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (res->is_blob) {
        return vgd_virgl_blob_export_scanout(res, image, out);
    }
    if (!v->exports_textures || res->is_2d || res->export_failed || res->target != TARGET_2D) {
        return VGD_UNSUPPORTED;
    }
    enum vgd_status st = vgd_virgl_export_texture(res_id, res->w, res->h, out);
    res->export_failed = st != VGD_OK;
    return st;
}
