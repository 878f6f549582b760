/* SPDX-License-Identifier: MIT */
/* Contexts of the virgl renderer: what is attached to them, and their commands. */
#include "virgl_priv.h"

#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "virgl_wire.h"

/* Streams with this one attached are looked through before they are executed. */
static bool is_watched(const struct resource *res)
{
    return res->of_vulkan || res->nr_samples > 1;
}

/* A command of a Vulkan context is one packet on a socket, at most. Mesa sends hundreds of bytes.
 */
#define VENUS_SUBMIT_BYTES_MAX (128u << 10)

/* llvmpipe draws blocks of so many rows. */
#define CPU_BLOCK_ROWS 4u

void vgd_virgl_context_forget(struct context *ctx, const struct resource *res)
{
    ctx->watched_count -= is_watched(res);
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
    bool is_gl = capset_id == 0 || capset_id == VGD_CAPSET_VIRGL || capset_id == VGD_CAPSET_VIRGL2;
    if (is_gl ? !v->has_gl : capset_id != VGD_CAPSET_VENUS || !v->has_venus) {
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
    if (!is_gl) {
        st = vgd_virgl_venus_create(v, ctx, text, text_len);
    } else {
        int rc = capset_id == 0
                     ? virgl_renderer_context_create(ctx_id, text_len, text)
                     : virgl_renderer_context_create_with_flags(ctx_id, capset_id, text_len, text);
        st = rc == 0 ? VGD_OK : VGD_HOST_FAILED;
    }
    if (st != VGD_OK) {
        (void)vgd_idmap_remove(&v->contexts, ctx_id);
        free(ctx);
    }
    return st;
}

void vgd_virgl_context_end(struct virgl *v, struct context *ctx)
{
    if (ctx->venus != NULL) {
        vgd_virgl_venus_destroy(v, ctx);
    } else {
        virgl_renderer_context_destroy(ctx->id);
    }
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
    struct virgl *v = virgl_of(r);
    struct context *ctx = vgd_idmap_remove(&v->contexts, ctx_id);
    if (ctx != NULL) {
        vgd_virgl_context_end(v, ctx);
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
    bool list_2d = res->is_2d && ctx->venus == NULL; /* Vulkan cannot use these */
    if (list_2d) {
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
    if (list_2d) {
        ctx->resources_2d[ctx->resources_2d_count++] = res;
    }
    ctx->watched_count += is_watched(res);
    res->contexts_count++;
    if (ctx->venus == NULL) {
        virgl_renderer_ctx_attach_resource((int)ctx_id, (int)res_id);
    } else if (res->in_virgl && !ctx->lost) {
        /* A blob's file goes to the process; what has none stays unknown to it. */
        vgd_virgl_venus_begin(v, ctx);
        virgl_renderer_ctx_attach_resource((int)ctx_id, (int)res_id);
        vgd_virgl_venus_end(v, ctx);
    }
    return VGD_OK;
}

void vgd_virgl_context_drop(struct virgl *v, struct context *ctx, struct resource *res)
{
    if (ctx->venus == NULL) {
        virgl_renderer_ctx_detach_resource((int)ctx->id, (int)res->id);
    } else if (res->in_virgl && !ctx->lost) {
        vgd_virgl_venus_begin(v, ctx);
        virgl_renderer_ctx_detach_resource((int)ctx->id, (int)res->id);
        vgd_virgl_venus_end(v, ctx);
    }
}

void vgd_virgl_context_detach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id)
{
    struct virgl *v = virgl_of(r);
    struct context *ctx = vgd_idmap_find(&v->contexts, ctx_id);
    struct resource *res = ctx != NULL ? vgd_idmap_remove(&ctx->resources, res_id) : NULL;
    if (res != NULL) {
        vgd_virgl_context_forget(ctx, res);
        res->contexts_count--;
        vgd_virgl_context_drop(v, ctx, res);
    }
}

/* A bad stream ends the process, which shows a moment later. */
static enum vgd_status submit_venus(struct virgl *v, struct context *ctx, void *commands,
                                    size_t size_bytes)
{
    if (size_bytes > VENUS_SUBMIT_BYTES_MAX) {
        return VGD_RANGE;
    }
    if (vgd_virgl_venus_is_lost(v, ctx)) {
        return VGD_LOST;
    }
    vgd_virgl_venus_begin(v, ctx);
    int rc = virgl_renderer_submit_cmd(commands, (int)ctx->id, (int)(size_bytes / 4));
    vgd_virgl_venus_end(v, ctx);
    if (vgd_virgl_venus_is_lost(v, ctx)) {
        return VGD_LOST;
    }
    return rc == 0 ? VGD_OK : VGD_HOST_FAILED;
}

/* A PIPE_RESOURCE_SET_TYPE for a blob of Vulkan: does the picture lie in its file? What does not
 * say so in a way that we understand does not, where that matters. */
static bool texture_fits(const struct resource *res, const struct vgd_command *cmd, bool on_cpu)
{
    struct vgd_virgl_pipe_resource_set_type type;
    if (vgd_virgl_pipe_resource_set_type_decode(cmd, &type) != VGD_OK || type.n_planes != 1 ||
        vgd_virgl_linear_format(type.format) == 0) {
        return !on_cpu; /* several planes, or other than 4 bytes a pixel */
    }
    struct vgd_virgl_plane plane;
    vgd_virgl_plane_decode(type.planes, &plane);
    uint64_t row_bytes = (uint64_t)type.w * VGD_BYTES_PER_PIXEL;
    uint64_t rows = type.h;
    if (on_cpu) {
        rows = (rows + CPU_BLOCK_ROWS - 1) / CPU_BLOCK_ROWS * CPU_BLOCK_ROWS;
    }
    uint64_t end; /* no product of 32-bit numbers wraps; the sum might */
    return type.w <= VGD_PIXELS_SIDE_PX_MAX && type.h <= VGD_PIXELS_SIDE_PX_MAX &&
           plane.stride_bytes >= row_bytes && plane.stride_bytes <= INT32_MAX &&
           vgd_add_u64(plane.stride_bytes * rows, plane.offset_bytes, &end) &&
           vgd_virgl_blob_has_bytes(res, end);
}

/*
 * A driver believes whatever width, height and stride the guest tells of a blob that is to be a
 * texture. OpenGL on the CPU (llvmpipe) maps its file, and every pixel beyond that is memory of
 * this process. And what the library gives for a multisampled texture is its heap, as in the
 * queue's transfers (virgl_transfer.c). It goes by the opcode alone, and stops at a command that is
 * cut off.
 */
static bool stream_fits(const struct virgl *v, const uint32_t *dwords, uint32_t n_dwords)
{
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd;
    while (vgd_stream_next(&s, &cmd)) {
        bool is_type = cmd.opcode == VGD_VIRGL_CMD_PIPE_RESOURCE_SET_TYPE;
        bool is_transfer =
            cmd.opcode == VGD_VIRGL_CMD_TRANSFER3D || cmd.opcode == VGD_VIRGL_CMD_COPY_TRANSFER3D;
        if ((!is_type && !is_transfer) || cmd.n_dwords == 0) {
            continue;
        }
        const struct resource *res = vgd_virgl_resource_find(v, cmd.body[0]);
        if (res == NULL) {
            continue;
        }
        if (is_transfer ? res->nr_samples > 1
                        : res->of_vulkan && !texture_fits(res, &cmd, v->gl_is_software)) {
            return false;
        }
    }
    return true;
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
    if (ctx->venus != NULL) {
        return submit_venus(v, ctx, commands, size_bytes);
    }
    if (ctx->watched_count > 0 &&
        !stream_fits(v, commands, (uint32_t)(size_bytes / sizeof(uint32_t)))) {
        return VGD_RANGE;
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
