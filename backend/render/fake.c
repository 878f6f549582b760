/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_priv.h"
#include "iov.h"

static void call(struct fake *f, enum vgd_fake_op op)
{
    f->calls[op]++;
}

enum vgd_status vgd_fake_try(struct fake *f, enum vgd_fake_op op)
{
    call(f, op);
    if (f->fail_in > 0 && --f->fail_in == 0) {
        return f->fail_status;
    }
    return VGD_OK;
}

struct fake_resource *vgd_fake_resource(const struct fake *f, uint32_t res_id)
{
    struct fake_resource *res = vgd_idmap_find(&f->resources, res_id);
    assert(res != NULL); /* the device names only what it has created */
    return res;
}

static struct fake_context *context(const struct fake *f, uint32_t ctx_id)
{
    struct fake_context *ctx = vgd_idmap_find(&f->contexts, ctx_id);
    assert(ctx != NULL);
    return ctx;
}

static void fake_info(const struct vgd_render *r, struct vgd_render_info *out)
{
    const struct fake *f = fake_of(r);
    *out = (struct vgd_render_info){
        .name = "fake",
        .gpu_name = "",
        .has_3d = !f->config.no_3d,
        .is_software = true,
        .blob_mems = f->config.no_3d ? f->config.blob_mems & (1u << VGD_BLOB_MEM_GUEST)
                                     : f->config.blob_mems,
        .vulkan_name = "",
        .n_capsets = f->config.no_3d ? 0 : f->config.n_capsets,
    };
    memcpy(out->capsets, f->config.capsets, sizeof(out->capsets));
}

static enum vgd_status fake_capset_fill(struct vgd_render *r, uint32_t id, uint32_t version,
                                        void *out, size_t size_bytes)
{
    struct fake *f = fake_of(r);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_CAPSET_FILL);
    if (st != VGD_OK) {
        return st;
    }
    bool known = false;
    for (uint32_t i = 0; i < f->config.n_capsets; i++) {
        known =
            known || (f->config.capsets[i].id == id && version <= f->config.capsets[i].max_version);
    }
    assert(known);
    if (!f->config.capsets_are_zero && size_bytes > 0) {
        *(uint8_t *)out = (uint8_t)(id * 16 + version); /* the rest is as the device left it */
    }
    return VGD_OK;
}

static enum vgd_status fake_context_create(struct vgd_render *r, uint32_t ctx_id,
                                           uint32_t capset_id, const char *name, size_t name_len)
{
    struct fake *f = fake_of(r);
    assert(!f->config.no_3d && ctx_id != 0 && name_len <= 64 && name != NULL);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_CONTEXT_CREATE);
    if (st != VGD_OK) {
        return st;
    }
    struct fake_context *ctx = calloc(1, sizeof(*ctx));
    if (ctx == NULL) {
        return VGD_NO_MEMORY;
    }
    ctx->capset_id = capset_id;
    st = vgd_idmap_add(&f->contexts, ctx_id, ctx);
    assert(st != VGD_RANGE); /* no id twice */
    if (st != VGD_OK) {
        free(ctx);
    }
    return st;
}

static void context_free(struct fake_context *ctx)
{
    vgd_idmap_finish(&ctx->attached);
    uint32_t cursor = 0;
    struct fake_object *object;
    while ((object = vgd_idmap_next(&ctx->objects, &cursor, NULL)) != NULL) {
        free(object);
    }
    vgd_idmap_finish(&ctx->objects);
    free(ctx);
}

static void fake_context_destroy(struct vgd_render *r, uint32_t ctx_id)
{
    struct fake *f = fake_of(r);
    call(f, VGD_FAKE_CONTEXT_DESTROY);
    context_free(context(f, ctx_id));
    (void)vgd_idmap_remove(&f->contexts, ctx_id);
}

static enum vgd_status fake_context_attach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id)
{
    struct fake *f = fake_of(r);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_CONTEXT_ATTACH);
    if (st != VGD_OK) {
        return st;
    }
    st = vgd_idmap_add(&context(f, ctx_id)->attached, res_id, vgd_fake_resource(f, res_id));
    assert(st != VGD_RANGE); /* attached once */
    return st;
}

static void fake_context_detach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id)
{
    struct fake *f = fake_of(r);
    call(f, VGD_FAKE_CONTEXT_DETACH);
    void *res = vgd_idmap_remove(&context(f, ctx_id)->attached, res_id);
    assert(res != NULL);
}

void vgd_fake_resource_free(struct fake_resource *res)
{
    free(res->pixels);
    if (res->fd >= 0) {
        (void)close(res->fd);
    }
    free(res);
}

enum vgd_status vgd_fake_resource_add(struct fake *f, uint32_t res_id, struct fake_resource made)
{
    assert(res_id != 0);
    struct fake_resource *res = malloc(sizeof(*res));
    if (res == NULL) {
        free(made.pixels);
        if (made.fd >= 0) {
            (void)close(made.fd);
        }
        return VGD_NO_MEMORY;
    }
    *res = made;
    enum vgd_status st = vgd_idmap_add(&f->resources, res_id, res);
    assert(st != VGD_RANGE);
    if (st != VGD_OK) {
        vgd_fake_resource_free(res);
    }
    return st;
}

/* One with pixels of its own. */
static enum vgd_status texture_add(struct fake *f, uint32_t res_id, struct fake_resource made)
{
    made.fd = -1;
    made.pixels = calloc(made.h_px, (size_t)made.w_px * made.texel_bytes);
    return made.pixels != NULL ? vgd_fake_resource_add(f, res_id, made) : VGD_NO_MEMORY;
}

static enum vgd_status fake_create_2d(struct vgd_render *r, uint32_t res_id, uint32_t format,
                                      uint32_t w_px, uint32_t h_px)
{
    struct fake *f = fake_of(r);
    assert(w_px > 0 && h_px > 0);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_CREATE_2D);
    if (st != VGD_OK) {
        return st;
    }
    return texture_add(f, res_id,
                       (struct fake_resource){.is_2d = true,
                                              .format = format,
                                              .texel_bytes = BYTES_PER_PIXEL,
                                              .w_px = w_px,
                                              .h_px = h_px});
}

static enum vgd_status fake_create_3d(struct vgd_render *r,
                                      const struct vgd_cmd_resource_create_3d *cmd)
{
    struct fake *f = fake_of(r);
    assert(!f->config.no_3d);
    assert(cmd->width > 0 && cmd->height > 0 && cmd->depth > 0);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_CREATE_3D);
    if (st != VGD_OK) {
        return st;
    }
    uint32_t texel_bytes = cmd->target == TARGET_BUFFER ? 1 : BYTES_PER_PIXEL;
    return texture_add(f, cmd->resource_id,
                       (struct fake_resource){
                           .texel_bytes = texel_bytes, .w_px = cmd->width, .h_px = cmd->height});
}

static void fake_unref(struct vgd_render *r, uint32_t res_id)
{
    struct fake *f = fake_of(r);
    call(f, VGD_FAKE_UNREF);
    struct fake_resource *res = vgd_fake_resource(f, res_id);
    uint32_t cursor = 0;
    const struct fake_context *ctx;
    while ((ctx = vgd_idmap_next(&f->contexts, &cursor, NULL)) != NULL) {
        assert(vgd_idmap_find(&ctx->attached, res_id) == NULL); /* detached before */
    }
    vgd_fake_blob_forget(f, res);
    (void)vgd_idmap_remove(&f->resources, res_id);
    vgd_fake_resource_free(res);
}

static enum vgd_status fake_attach(struct vgd_render *r, uint32_t res_id, const struct iovec *iov,
                                   uint32_t n_iov)
{
    struct fake *f = fake_of(r);
    struct fake_resource *res = vgd_fake_resource(f, res_id);
    assert(n_iov > 0 && iov != NULL);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_ATTACH);
    if (st == VGD_OK) {
        res->iov = iov;
        res->n_iov = n_iov;
    }
    return st;
}

static void fake_detach(struct vgd_render *r, uint32_t res_id)
{
    struct fake *f = fake_of(r);
    call(f, VGD_FAKE_DETACH);
    struct fake_resource *res = vgd_fake_resource(f, res_id);
    assert(res->iov != NULL);
    res->iov = NULL;
    res->n_iov = 0;
}

static enum vgd_status fake_transfer_2d(struct vgd_render *r, uint32_t res_id, struct vgd_rect rect,
                                        uint64_t offset_bytes)
{
    struct fake *f = fake_of(r);
    struct fake_resource *res = vgd_fake_resource(f, res_id);
    assert(res->is_2d && res->iov != NULL && rect.w_px > 0 && rect.h_px > 0);
    assert(rect.x_px + rect.w_px <= res->w_px && rect.y_px + rect.h_px <= res->h_px);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_TRANSFER_2D);
    if (st != VGD_OK) {
        return st;
    }
    size_t stride_bytes = (size_t)res->w_px * BYTES_PER_PIXEL;
    size_t row_bytes = (size_t)rect.w_px * BYTES_PER_PIXEL;
    for (uint32_t y = 0; y < rect.h_px; y++) {
        uint8_t *to = res->pixels + (rect.y_px + y) * stride_bytes + rect.x_px * BYTES_PER_PIXEL;
        size_t copied =
            vgd_iov_copy_out(res->iov, res->n_iov, offset_bytes + y * stride_bytes, to, row_bytes);
        assert(copied == row_bytes); /* the device has checked */
    }
    return VGD_OK;
}

static enum vgd_status transfer_3d(struct fake *f, enum vgd_fake_op op, uint32_t ctx_id,
                                   const struct vgd_cmd_transfer_host_3d *cmd, bool to_host)
{
    struct fake_resource *res = vgd_fake_resource(f, cmd->resource_id);
    assert(!f->config.no_3d && res->iov != NULL);
    assert(ctx_id == 0 || vgd_idmap_find(&context(f, ctx_id)->attached, cmd->resource_id) != NULL);
    enum vgd_status st = vgd_fake_try(f, op);
    if (st == VGD_OK && res->is_blob) {
        return vgd_fake_blob_transfer(res, cmd, to_host);
    }
    if (st != VGD_OK || cmd->level != 0 || cmd->box.z != 0) {
        return st;
    }
    size_t row_bytes = (size_t)cmd->box.w * res->texel_bytes;
    size_t stride_bytes = cmd->stride_bytes != 0 ? cmd->stride_bytes : row_bytes;
    for (uint32_t y = 0; y < cmd->box.h; y++) {
        size_t row = (size_t)(cmd->box.y + y) * res->w_px + cmd->box.x;
        uint8_t *pixels = res->pixels + row * res->texel_bytes;
        size_t offset_bytes = cmd->offset_bytes + y * stride_bytes;
        if (to_host) {
            (void)vgd_iov_copy_out(res->iov, res->n_iov, offset_bytes, pixels, row_bytes);
        } else {
            (void)vgd_iov_copy_in(res->iov, res->n_iov, offset_bytes, pixels, row_bytes);
        }
    }
    return VGD_OK;
}

static enum vgd_status fake_to_host_3d(struct vgd_render *r, uint32_t ctx_id,
                                       const struct vgd_cmd_transfer_host_3d *cmd)
{
    return transfer_3d(fake_of(r), VGD_FAKE_TO_HOST_3D, ctx_id, cmd, true);
}

static enum vgd_status fake_from_host_3d(struct vgd_render *r, uint32_t ctx_id,
                                         const struct vgd_cmd_transfer_host_3d *cmd)
{
    return transfer_3d(fake_of(r), VGD_FAKE_FROM_HOST_3D, ctx_id, cmd, false);
}

static enum vgd_status fake_content_read(struct vgd_render *r, uint32_t res_id, uint32_t level,
                                         const struct vgd_box *box, void *out, size_t out_bytes,
                                         uint32_t stride_bytes, uint32_t layer_stride_bytes)
{
    (void)layer_stride_bytes;
    struct fake *f = fake_of(r);
    const struct fake_resource *res = vgd_fake_resource(f, res_id);
    assert(!res->is_blob && box->w > 0 && box->h > 0 && box->d == 1); /* one layer at a time */
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_CONTENT_READ);
    if (st != VGD_OK) {
        return st;
    }
    if (level != 0 || box->z != 0) {
        return VGD_UNSUPPORTED; /* not kept */
    }
    assert(box->x + box->w <= res->w_px && box->y + box->h <= res->h_px);
    size_t row_bytes = (size_t)box->w * res->texel_bytes;
    assert((size_t)stride_bytes * (box->h - 1) + row_bytes <= out_bytes);
    for (uint32_t y = 0; y < box->h; y++) {
        size_t from = ((size_t)(box->y + y) * res->w_px + box->x) * res->texel_bytes;
        memcpy((uint8_t *)out + (size_t)y * stride_bytes, res->pixels + from, row_bytes);
    }
    return VGD_OK;
}

static enum vgd_status fake_submit(struct vgd_render *r, uint32_t ctx_id, void *commands,
                                   size_t size_bytes)
{
    struct fake *f = fake_of(r);
    assert(!context(f, ctx_id)->lost && size_bytes > 0 && size_bytes % 4 == 0);
    assert((uintptr_t)commands % 8 == 0);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_SUBMIT);
    if (st != VGD_OK) {
        return st;
    }
    f->last_submit_bytes = size_bytes;
    memcpy(&f->last_submit_word, commands, sizeof(f->last_submit_word));
    memset(commands, 0x5a, size_bytes); /* a renderer may write to it */
    return VGD_OK;
}

static enum vgd_status fake_fence(struct vgd_render *r, uint32_t ctx_id, uint8_t ring_idx,
                                  uint64_t seq, bool *out_done)
{
    struct fake *f = fake_of(r);
    assert(seq > f->last_seq); /* grows */
    assert(ctx_id != 0 ? !context(f, ctx_id)->lost : ring_idx == 0);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_FENCE);
    if (st != VGD_OK) {
        return st;
    }
    bool unbound = ring_idx >= (f->config.rings_count != 0 ? f->config.rings_count : RINGS_MAX);
    if (unbound && !f->config.unbound_kills) {
        return VGD_RANGE;
    }
    f->last_seq = seq;
    if (unbound) { /* as the process of a venus context: it ends, and nothing signals */
        context(f, ctx_id)->dies = true;
        return VGD_OK;
    }
    *out_done = !f->hold;
    if (!f->hold) {
        return VGD_OK;
    }
    struct held_fence *held = calloc(1, sizeof(*held));
    if (held == NULL) {
        return VGD_NO_MEMORY;
    }
    held->fence = (struct vgd_fake_fence){.ctx_id = ctx_id, .ring_idx = ring_idx, .seq = seq};
    struct held_fence **end = &f->held;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = held;
    return VGD_OK;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static struct vgd_rect fake_take_changed(struct vgd_render *r, uint32_t res_id,
                                         struct vgd_rect rect)
{
    const struct fake *f = fake_of(r);
    const struct fake_resource *res = vgd_fake_resource(f, res_id);
    assert(!res->is_blob && rect.x_px + rect.w_px <= res->w_px &&
           rect.y_px + rect.h_px <= res->h_px);
    if (!f->some_changed) {
        return rect;
    }
    const struct vgd_rect *changed = &f->changed;
    uint32_t right = min_u32(rect.x_px + rect.w_px, changed->x_px + changed->w_px);
    uint32_t bottom = min_u32(rect.y_px + rect.h_px, changed->y_px + changed->h_px);
    struct vgd_rect both = {.x_px = max_u32(rect.x_px, changed->x_px),
                            .y_px = max_u32(rect.y_px, changed->y_px)};
    if (both.x_px < right && both.y_px < bottom) {
        both.w_px = right - both.x_px;
        both.h_px = bottom - both.y_px;
    }
    return both;
}

static enum vgd_status fake_export(struct vgd_render *r, uint32_t res_id,
                                   const struct vgd_image *image, struct vgd_dmabuf *out)
{
    (void)image;
    struct fake *f = fake_of(r);
    (void)out;
    (void)vgd_fake_resource(f, res_id);
    call(f, VGD_FAKE_EXPORT);
    return VGD_UNSUPPORTED;
}

static void held_free(struct fake *f)
{
    while (f->held != NULL) {
        struct held_fence *held = f->held;
        f->held = held->next;
        free(held);
    }
}

static void fake_reset(struct vgd_render *r)
{
    struct fake *f = fake_of(r);
    call(f, VGD_FAKE_RESET);
    uint32_t cursor = 0;
    struct fake_context *ctx;
    while ((ctx = vgd_idmap_next(&f->contexts, &cursor, NULL)) != NULL) {
        context_free(ctx);
    }
    vgd_idmap_finish(&f->contexts);
    cursor = 0;
    struct fake_resource *res;
    while ((res = vgd_idmap_next(&f->resources, &cursor, NULL)) != NULL) {
        vgd_fake_resource_free(res);
    }
    vgd_idmap_finish(&f->resources);
    held_free(f);
}

static void fake_destroy(struct vgd_render *r)
{
    fake_reset(r);
    free(fake_of(r));
}

static void fake_batch_end(struct vgd_render *r)
{
    struct fake *f = fake_of(r);
    uint32_t cursor = 0;
    uint32_t ctx_id;
    struct fake_context *ctx;
    while ((ctx = vgd_idmap_next(&f->contexts, &cursor, &ctx_id)) != NULL) {
        if (ctx->dies && !ctx->lost) {
            vgd_fake_lose_context(r, ctx_id);
        }
    }
}

static const struct vgd_render_ops fake_ops = {
    .info = fake_info,
    .capset_fill = fake_capset_fill,
    .context_create = fake_context_create,
    .context_destroy = fake_context_destroy,
    .context_attach = fake_context_attach,
    .context_detach = fake_context_detach,
    .resource_create_2d = fake_create_2d,
    .resource_create_3d = fake_create_3d,
    .resource_create_blob = vgd_fake_create_blob,
    .blob_export = vgd_fake_blob_export,
    .resource_unref = fake_unref,
    .resource_attach = fake_attach,
    .resource_detach = fake_detach,
    .transfer_to_host_2d = fake_transfer_2d,
    .transfer_to_host_3d = fake_to_host_3d,
    .transfer_from_host_3d = fake_from_host_3d,
    .submit = fake_submit,
    .fence = fake_fence,
    .read_pixels = vgd_fake_read_pixels,
    .take_changed = fake_take_changed,
    .content_read = fake_content_read,
    .export_scanout = fake_export,
    .batch_end = fake_batch_end,
    .reset = fake_reset,
    .destroy = fake_destroy,
};

struct vgd_render *vgd_fake_create(const struct vgd_fake_config *config)
{
    struct fake *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return NULL;
    }
    f->base.ops = &fake_ops;
    f->config = *config;
    return &f->base;
}

uint32_t vgd_fake_calls(const struct vgd_render *r, enum vgd_fake_op op)
{
    return fake_of(r)->calls[op];
}

void vgd_fake_calls_clear(struct vgd_render *r)
{
    memset(fake_of(r)->calls, 0, sizeof(fake_of(r)->calls));
}

void vgd_fake_fail_nth(struct vgd_render *r, uint32_t nth, enum vgd_status status)
{
    fake_of(r)->fail_in = nth;
    fake_of(r)->fail_status = status;
}

void vgd_fake_hold_fences(struct vgd_render *r, bool hold)
{
    fake_of(r)->hold = hold;
}

bool vgd_fake_held(const struct vgd_render *r, uint32_t nth, struct vgd_fake_fence *out)
{
    const struct held_fence *held = fake_of(r)->held;
    for (; held != NULL && nth > 0; nth--) {
        held = held->next;
    }
    if (held != NULL) {
        *out = held->fence;
    }
    return held != NULL;
}

void vgd_fake_signal(struct vgd_render *r, uint32_t nth)
{
    struct fake *f = fake_of(r);
    struct vgd_fake_fence up_to;
    if (!vgd_fake_held(r, nth, &up_to)) {
        return;
    }
    struct held_fence **link = &f->held;
    while (*link != NULL) {
        struct held_fence *held = *link;
        if (held->fence.ctx_id == up_to.ctx_id && held->fence.ring_idx == up_to.ring_idx &&
            held->fence.seq <= up_to.seq) {
            *link = held->next;
            free(held);
        } else {
            link = &held->next;
        }
    }
    f->config.callbacks.fence_done(f->config.callbacks.user, up_to.ctx_id, up_to.ring_idx,
                                   up_to.seq);
}

void vgd_fake_signal_all(struct vgd_render *r)
{
    struct vgd_fake_fence fence;
    while (vgd_fake_held(r, 0, &fence)) {
        uint32_t last = 0;
        while (vgd_fake_held(r, last + 1, &fence)) {
            last++;
        }
        vgd_fake_signal(r, last);
    }
}

void vgd_fake_set_changed(struct vgd_render *r, const struct vgd_rect *changed)
{
    fake_of(r)->some_changed = changed != NULL;
    if (changed != NULL) {
        fake_of(r)->changed = *changed;
    }
}

void vgd_fake_lose_context(struct vgd_render *r, uint32_t ctx_id)
{
    struct fake *f = fake_of(r);
    struct fake_context *ctx = vgd_idmap_find(&f->contexts, ctx_id);
    if (ctx != NULL) {
        ctx->lost = true;
    }
    f->config.callbacks.context_lost(f->config.callbacks.user, ctx_id);
}

uint32_t vgd_fake_resource_count(const struct vgd_render *r)
{
    return fake_of(r)->resources.used_count;
}

uint32_t vgd_fake_context_count(const struct vgd_render *r)
{
    return fake_of(r)->contexts.used_count;
}

bool vgd_fake_has_resource(const struct vgd_render *r, uint32_t res_id)
{
    return vgd_idmap_find(&fake_of(r)->resources, res_id) != NULL;
}

bool vgd_fake_has_backing(const struct vgd_render *r, uint32_t res_id)
{
    const struct fake_resource *res = vgd_idmap_find(&fake_of(r)->resources, res_id);
    return res != NULL && res->iov != NULL;
}

bool vgd_fake_is_attached(const struct vgd_render *r, uint32_t ctx_id, uint32_t res_id)
{
    const struct fake_context *ctx = vgd_idmap_find(&fake_of(r)->contexts, ctx_id);
    return ctx != NULL && vgd_idmap_find(&ctx->attached, res_id) != NULL;
}

uint32_t vgd_fake_context_capset(const struct vgd_render *r, uint32_t ctx_id)
{
    const struct fake_context *ctx = vgd_idmap_find(&fake_of(r)->contexts, ctx_id);
    return ctx == NULL ? UINT32_MAX : ctx->capset_id;
}

size_t vgd_fake_last_submit(const struct vgd_render *r, uint32_t *out_word)
{
    *out_word = fake_of(r)->last_submit_word;
    return fake_of(r)->last_submit_bytes;
}
