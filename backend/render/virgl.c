/* SPDX-License-Identifier: MIT */
/*
 * The renderer over virglrenderer: the table of operations. Transfers, fences, contexts, resources
 * and the start are in files of their own.
 */
#include "virgl_priv.h"

#include <stdlib.h>
#include <string.h>

#include "fd.h"

struct virgl *vgd_virgl_instance;

static void virgl_info(const struct vgd_render *r, struct vgd_render_info *out)
{
    const struct virgl *v = (const struct virgl *)r;
    *out = (struct vgd_render_info){
        .name = "virgl",
        .gpu_name = v->has_gl ? v->gpu_name : v->vulkan_name,
        .has_3d = true,
        .is_software = v->is_software,
        .exports_dmabuf = v->exports_textures || v->has_venus, /* some blobs are dma-bufs */
        .blob_mems =
            1u << VGD_BLOB_MEM_GUEST | 1u << VGD_BLOB_MEM_HOST3D | 1u << VGD_BLOB_MEM_HOST3D_GUEST,
        .vulkan_name = v->vulkan_name,
        .n_capsets = v->n_capsets,
    };
    memcpy(out->capsets, v->capsets, sizeof(out->capsets));
}

static enum vgd_status virgl_capset_fill(struct vgd_render *r, uint32_t id, uint32_t version,
                                         void *out, size_t size_bytes)
{
    const struct virgl *v = virgl_of(r);
    for (uint32_t i = 0; i < v->n_capsets; i++) {
        const struct vgd_capset *c = &v->capsets[i];
        if (c->id == id && version <= c->max_version) {
            void *caps = calloc(1, c->size_bytes); /* the library fills its whole size */
            if (caps == NULL) {
                return VGD_NO_MEMORY;
            }
            virgl_renderer_fill_caps(id, version, caps);
            size_t n = size_bytes < c->size_bytes ? size_bytes : c->size_bytes;
            memcpy(out, caps, n);
            memset((uint8_t *)out + n, 0, size_bytes - n);
            free(caps);
            return VGD_OK;
        }
    }
    return VGD_HOST_FAILED;
}

/* Objects are dropped one by one: the library's own reset throws ctx0 away as well, which costs
 * and has been little used. Fences that it still holds retire unheard: their ids are older
 * than those of any fence asked for later. */
static void virgl_reset(struct vgd_render *r)
{
    struct virgl *v = virgl_of(r);
    uint32_t cursor = 0;
    struct context *ctx;
    while ((ctx = vgd_idmap_next(&v->contexts, &cursor, NULL)) != NULL) {
        vgd_virgl_context_end(v, ctx);
    }
    vgd_idmap_finish(&v->contexts);
    cursor = 0;
    struct resource *res;
    while ((res = vgd_idmap_next(&v->resources, &cursor, NULL)) != NULL) {
        if (res->in_virgl) {
            virgl_renderer_resource_detach_iov((int)res->id, NULL, NULL);
            virgl_renderer_resource_unref(res->id);
        }
        vgd_virgl_resource_free(res);
    }
    vgd_idmap_finish(&v->resources);
    v->fences_first = 0;
    v->fences_count = 0;
    v->new_fences_count = 0;
    vgd_timer_stop(v->poll_timer);
    if (v->venus_timer != NULL) {
        vgd_timer_stop(v->venus_timer);
    }
}

void vgd_virgl_destroy(struct vgd_render *r)
{
    if (r == NULL) {
        return;
    }
    struct virgl *v = virgl_of(r);
    virgl_reset(r);
    virgl_renderer_cleanup(v);
    vgd_virgl_venus_finish(v);
    vgd_fd_closep(&v->drm_fd);
    vgd_timer_destroy(&v->poll_timer);
    free(v->fences);
    vgd_virgl_instance = NULL;
    free(v);
}

const struct vgd_render_ops vgd_virgl_ops = {
    .info = virgl_info,
    .capset_fill = virgl_capset_fill,
    .context_create = vgd_virgl_context_create,
    .context_destroy = vgd_virgl_context_destroy,
    .context_attach = vgd_virgl_context_attach,
    .context_detach = vgd_virgl_context_detach,
    .resource_create_2d = vgd_virgl_resource_create_2d,
    .resource_create_3d = vgd_virgl_resource_create_3d,
    .resource_create_blob = vgd_virgl_resource_create_blob,
    .blob_export = vgd_virgl_blob_export,
    .resource_unref = vgd_virgl_resource_unref,
    .resource_attach = vgd_virgl_resource_attach,
    .resource_detach = vgd_virgl_resource_detach,
    .transfer_to_host_2d = vgd_virgl_transfer_to_host_2d,
    .transfer_to_host_3d = vgd_virgl_transfer_to_host_3d,
    .transfer_from_host_3d = vgd_virgl_transfer_from_host_3d,
    .submit = vgd_virgl_submit,
    .fence = vgd_virgl_fence,
    .read_pixels = vgd_virgl_read_pixels,
    .take_changed = vgd_virgl_take_changed,
    .content_read = vgd_virgl_content_read,
    .export_scanout = vgd_virgl_export_scanout,
    .batch_end = vgd_virgl_batch_end,
    .reset = virgl_reset,
    .destroy = vgd_virgl_destroy,
};
