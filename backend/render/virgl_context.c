/* SPDX-License-Identifier: MIT */
/* Contexts of the virgl renderer: what is attached to them, and their commands. */
#include "virgl_priv.h"

#include <stdlib.h>
#include <string.h>

void vgd_virgl_context_forget(struct context *ctx, const struct resource *res)
{
    for (uint32_t i = 0; res->is_2d && i < ctx->resources_2d_count; i++) {
        if (ctx->resources_2d[i] == res) {
            ctx->resources_2d[i] = ctx->resources_2d[--ctx->resources_2d_count];
            break;
        }
    }
}

enum vgd_status vgd_virgl_context_create(struct vgd_render *r, uint32_t ctx_id, uint32_t capset_id,
                                         const char *name, size_t name_len)
{
    struct virgl *v = virgl_of(r);
    if (capset_id != 0 && capset_id != VGD_CAPSET_VIRGL && capset_id != VGD_CAPSET_VIRGL2) {
        return VGD_UNSUPPORTED;
    }
    char text[65] = {0}; /* the library wants a terminator */
    memcpy(text, name, name_len < sizeof(text) - 1 ? name_len : sizeof(text) - 1);
    struct context *ctx = calloc(1, sizeof(*ctx));
    if (ctx == NULL) {
        return VGD_NO_MEMORY;
    }
    ctx->id = ctx_id;
    enum vgd_status st = vgd_idmap_add(&v->contexts, ctx_id, ctx);
    if (st != VGD_OK) {
        free(ctx);
        return st;
    }
    uint32_t text_len = (uint32_t)strlen(text);
    int rc = capset_id == 0
                 ? virgl_renderer_context_create(ctx_id, text_len, text)
                 : virgl_renderer_context_create_with_flags(ctx_id, capset_id, text_len, text);
    if (rc != 0) {
        (void)vgd_idmap_remove(&v->contexts, ctx_id);
        free(ctx);
        return VGD_HOST_FAILED;
    }
    return VGD_OK;
}

void vgd_virgl_context_free(struct context *ctx)
{
    uint32_t cursor = 0;
    struct resource *res;
    while ((res = vgd_idmap_next(&ctx->resources, &cursor, NULL)) != NULL) {
        res->contexts_count--;
    }
    vgd_idmap_finish(&ctx->resources);
    free(ctx->resources_2d);
    free(ctx);
}

void vgd_virgl_context_destroy(struct vgd_render *r, uint32_t ctx_id)
{
    struct context *ctx = vgd_idmap_remove(&virgl_of(r)->contexts, ctx_id);
    if (ctx != NULL) {
        virgl_renderer_context_destroy(ctx_id);
        vgd_virgl_context_free(ctx);
    }
}

enum vgd_status vgd_virgl_context_attach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id)
{
    struct virgl *v = virgl_of(r);
    struct context *ctx = vgd_idmap_find(&v->contexts, ctx_id);
    struct resource *res = vgd_virgl_resource_find(v, res_id);
    if (ctx == NULL) {
        return VGD_NO_CONTEXT;
    }
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (vgd_idmap_find(&ctx->resources, res_id) != NULL) {
        return VGD_OK;
    }
    if (res->is_2d) {
        enum vgd_status st = vgd_virgl_promote(res);
        if (st != VGD_OK) {
            return st;
        }
        if (ctx->resources_2d_count == ctx->resources_2d_capacity) {
            uint32_t capacity =
                ctx->resources_2d_capacity == 0 ? 4 : ctx->resources_2d_capacity * 2;
            struct resource **grown = reallocarray(ctx->resources_2d, capacity, sizeof(void *));
            if (grown == NULL) {
                return VGD_NO_MEMORY;
            }
            ctx->resources_2d = grown;
            ctx->resources_2d_capacity = capacity;
        }
    }
    enum vgd_status st = vgd_idmap_add(&ctx->resources, res_id, res);
    if (st != VGD_OK) {
        return st;
    }
    if (res->is_2d) {
        ctx->resources_2d[ctx->resources_2d_count++] = res;
    }
    res->contexts_count++;
    virgl_renderer_ctx_attach_resource((int)ctx_id, (int)res_id);
    return VGD_OK;
}

void vgd_virgl_context_detach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id)
{
    struct virgl *v = virgl_of(r);
    struct context *ctx = vgd_idmap_find(&v->contexts, ctx_id);
    struct resource *res = ctx != NULL ? vgd_idmap_remove(&ctx->resources, res_id) : NULL;
    if (res != NULL) {
        vgd_virgl_context_forget(ctx, res);
        res->contexts_count--;
        virgl_renderer_ctx_detach_resource((int)ctx_id, (int)res_id);
    }
}

enum vgd_status vgd_virgl_submit(struct vgd_render *r, uint32_t ctx_id, void *commands,
                                 size_t size_bytes)
{
    struct virgl *v = virgl_of(r);
    struct context *ctx = vgd_idmap_find(&v->contexts, ctx_id);
    if (ctx == NULL) {
        return VGD_NO_CONTEXT;
    }
    if (size_bytes == 0) {
        return VGD_OK; /* no reason to switch GL contexts, and nothing to fence */
    }
    for (uint32_t i = 0; i < ctx->resources_2d_count; i++) {
        struct resource *res = ctx->resources_2d[i];
        enum vgd_status st = vgd_virgl_upload_dirty(res);
        if (st != VGD_OK) {
            return st;
        }
        res->gl_newer = true; /* which of them the commands draw to is not known here */
    }
    v->gl_work = true;
    int rc = virgl_renderer_submit_cmd(commands, (int)ctx_id, (int)(size_bytes / 4));
    /* A bad stream: the library keeps the context and refuses what follows, as it sees fit. */
    return rc == 0 ? VGD_OK : VGD_RANGE;
}
