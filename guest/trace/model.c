/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#define BODY(bytes, n_bytes) vgd_reader_of((bytes) + VGD_CTRL_HDR_SIZE, (n_bytes)-VGD_CTRL_HDR_SIZE)

static bool header_of(const uint8_t *bytes, size_t n_bytes, struct vgd_ctrl_hdr *out)
{
    if (n_bytes < VGD_CTRL_HDR_SIZE) {
        return false;
    }
    struct vgd_reader r = vgd_reader_of(bytes, VGD_CTRL_HDR_SIZE);
    return vgd_ctrl_hdr_decode(&r, out) == VGD_OK;
}

/* ---- commands that are kept ---- */

static void drop(struct model *m, struct model_command *command)
{
    m->kept_bytes -= command->n_bytes;
    free(command->bytes);
    *command = (struct model_command){0};
}

/* False, with the old one gone: no room. */
static bool keep(struct model *m, struct model_command *command, uint64_t id, const uint8_t *bytes,
                 size_t n_bytes)
{
    drop(m, command);
    if (n_bytes > MODEL_KEPT_BYTES_MAX - m->kept_bytes) {
        m->overflow_count++;
        return false;
    }
    command->bytes = malloc(n_bytes);
    if (command->bytes == NULL) {
        m->overflow_count++;
        return false;
    }
    memcpy(command->bytes, bytes, n_bytes);
    command->n_bytes = n_bytes;
    command->id = id;
    m->kept_bytes += n_bytes;
    return true;
}

bool model_entries(const uint8_t *bytes, size_t n_bytes, size_t *out_at, uint32_t *out_n)
{
    struct vgd_ctrl_hdr hdr;
    if (!header_of(bytes, n_bytes, &hdr)) {
        return false;
    }
    struct vgd_reader r = BODY(bytes, n_bytes);
    uint32_t n = 0;
    if (hdr.type == VGD_CMD_RESOURCE_ATTACH_BACKING) {
        struct vgd_cmd_resource_attach_backing cmd;
        if (vgd_cmd_resource_attach_backing_decode(&r, &cmd) != VGD_OK) {
            return false;
        }
        n = cmd.nr_entries;
        *out_at = VGD_CTRL_HDR_SIZE + VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE;
    } else if (hdr.type == VGD_CMD_RESOURCE_CREATE_BLOB) {
        struct vgd_cmd_resource_create_blob cmd;
        if (vgd_cmd_resource_create_blob_decode(&r, &cmd) != VGD_OK) {
            return false;
        }
        n = cmd.nr_entries;
        *out_at = VGD_CTRL_HDR_SIZE + VGD_CMD_RESOURCE_CREATE_BLOB_SIZE;
    } else {
        return false;
    }
    size_t there = (n_bytes - *out_at) / VGD_MEM_ENTRY_SIZE;
    *out_n = n < there ? n : (uint32_t)there;
    return true;
}

static uint64_t entries_bytes(const uint8_t *bytes, size_t n_bytes)
{
    size_t at = 0;
    uint32_t n = 0;
    uint64_t sum = 0;
    if (!model_entries(bytes, n_bytes, &at, &n)) {
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_reader r =
            vgd_reader_of(bytes + at + (size_t)i * VGD_MEM_ENTRY_SIZE, VGD_MEM_ENTRY_SIZE);
        struct vgd_mem_entry entry = {0};
        if (vgd_mem_entry_decode(&r, &entry) == VGD_OK) {
            sum += entry.len_bytes; /* at most 2^20 of 2^32 */
        }
    }
    return sum;
}

uint32_t model_named_resource(const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_ctrl_hdr hdr;
    if (!header_of(bytes, n_bytes, &hdr)) {
        return 0;
    }
    size_t at;
    switch (hdr.type) {
    case VGD_CMD_RESOURCE_CREATE_2D:
    case VGD_CMD_RESOURCE_UNREF:
    case VGD_CMD_RESOURCE_ATTACH_BACKING:
    case VGD_CMD_RESOURCE_DETACH_BACKING:
    case VGD_CMD_RESOURCE_ASSIGN_UUID:
    case VGD_CMD_RESOURCE_CREATE_BLOB:
    case VGD_CMD_CTX_ATTACH_RESOURCE:
    case VGD_CMD_CTX_DETACH_RESOURCE:
    case VGD_CMD_RESOURCE_CREATE_3D:
    case VGD_CMD_RESOURCE_MAP_BLOB:
    case VGD_CMD_RESOURCE_UNMAP_BLOB:
        at = 0; /* the first field of all of these */
        break;
    case VGD_CMD_RESOURCE_FLUSH:
    case VGD_CMD_UPDATE_CURSOR:
        at = VGD_RECT_SIZE; /* behind a rectangle, or a cursor's place of the same size */
        break;
    case VGD_CMD_SET_SCANOUT:
    case VGD_CMD_SET_SCANOUT_BLOB:
        at = VGD_RECT_SIZE + 4;
        break;
    case VGD_CMD_TRANSFER_TO_HOST_2D:
        at = VGD_RECT_SIZE + 8;
        break;
    case VGD_CMD_TRANSFER_TO_HOST_3D:
    case VGD_CMD_TRANSFER_FROM_HOST_3D:
        at = VGD_BOX_SIZE + 8;
        break;
    default:
        return 0;
    }
    struct vgd_reader r = BODY(bytes, n_bytes);
    vgd_read_skip(&r, at);
    return vgd_read_le32(&r);
}

/* ---- resources and contexts ---- */

struct model_resource *model_resource(const struct model *m, uint32_t id)
{
    return vgd_idmap_find(&m->resources, id);
}

struct model_context *model_context(const struct model *m, uint32_t id)
{
    return vgd_idmap_find(&m->contexts, id);
}

static void lose_backing(struct model *m, struct model_resource *res)
{
    if (res->backing_bytes != 0 && m->backing_gone != NULL) {
        m->backing_gone(m->user, res);
    }
    res->backing_bytes = 0;
    drop(m, &res->attach);
}

static void remove_resource(struct model *m, struct model_resource *res)
{
    (void)vgd_idmap_remove(&m->resources, res->id);
    lose_backing(m, res);
    if (m->resource_gone != NULL) {
        m->resource_gone(m->user, res);
    }
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        if (m->scanouts[i].resource_id == res->id) {
            m->scanouts[i].resource_id = 0;
            drop(m, &m->scanouts[i].set);
        }
        if (m->scanouts[i].before_resource_id == res->id) {
            m->scanouts[i].before_resource_id = 0;
            drop(m, &m->scanouts[i].before);
        }
    }
    drop(m, &res->create);
    drop(m, &res->map);
    free(res);
}

static void remove_context(struct model *m, struct model_context *ctx)
{
    (void)vgd_idmap_remove(&m->contexts, ctx->id);
    if (m->context_gone != NULL) {
        m->context_gone(m->user, ctx);
    }
    drop(m, &ctx->create);
    free(ctx->attached);
    vgd_idmap_finish(&ctx->attached_places);
    free(ctx);
}

void model_clear(struct model *m)
{
    for (;;) {
        uint32_t cursor = 0;
        struct model_resource *res = vgd_idmap_next(&m->resources, &cursor, NULL);
        if (res == NULL) {
            break;
        }
        remove_resource(m, res);
    }
    for (;;) {
        uint32_t cursor = 0;
        struct model_context *ctx = vgd_idmap_next(&m->contexts, &cursor, NULL);
        if (ctx == NULL) {
            break;
        }
        remove_context(m, ctx);
    }
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        drop(m, &m->scanouts[i].set);
        drop(m, &m->scanouts[i].before);
        m->scanouts[i] = (struct model_scanout){0};
        drop(m, &m->cursors[i]);
        drop(m, &m->cursor_moves[i]);
    }
    vgd_idmap_finish(&m->resources);
    vgd_idmap_finish(&m->contexts);
}

/* A new resource named @id, or NULL: there is one, or too many. */
static struct model_resource *add_resource(struct model *m, uint32_t res_id, enum model_kind kind,
                                           uint64_t id, const uint8_t *bytes, size_t n_bytes)
{
    if (res_id == 0 || model_resource(m, res_id) != NULL) {
        return NULL;
    }
    struct model_resource *res =
        m->resources.used_count < MODEL_RESOURCES_MAX ? calloc(1, sizeof(*res)) : NULL;
    if (res == NULL) {
        m->overflow_count++;
        return NULL;
    }
    res->id = res_id;
    res->kind = kind;
    if (!keep(m, &res->create, id, bytes, n_bytes) ||
        vgd_idmap_add(&m->resources, res_id, res) != VGD_OK) {
        drop(m, &res->create);
        free(res);
        return NULL;
    }
    return res;
}

static void take_create_2d(struct model *m, uint64_t id, const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_reader r = BODY(bytes, n_bytes);
    struct vgd_cmd_resource_create_2d cmd;
    if (vgd_cmd_resource_create_2d_decode(&r, &cmd) == VGD_OK) {
        struct model_resource *res = add_resource(m, cmd.resource_id, MODEL_2D, id, bytes, n_bytes);
        if (res != NULL) {
            res->w_px = cmd.w_px;
            res->h_px = cmd.h_px;
        }
    }
}

static void take_create_blob(struct model *m, uint64_t id, const struct vgd_ctrl_hdr *hdr,
                             const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_reader r = BODY(bytes, n_bytes);
    struct vgd_cmd_resource_create_blob cmd;
    if (vgd_cmd_resource_create_blob_decode(&r, &cmd) != VGD_OK) {
        return;
    }
    struct model_resource *res = add_resource(m, cmd.resource_id, MODEL_BLOB, id, bytes, n_bytes);
    if (res != NULL) {
        res->ctx_id = hdr->ctx_id;
        res->blob_mem = cmd.blob_mem;
        res->backing_bytes = entries_bytes(bytes, n_bytes);
    }
}

static void take_attach(struct model *m, uint64_t id, const uint8_t *bytes, size_t n_bytes)
{
    struct model_resource *res = model_resource(m, model_named_resource(bytes, n_bytes));
    if (res != NULL) {
        lose_backing(m, res);
        if (keep(m, &res->attach, id, bytes, n_bytes)) {
            res->backing_bytes = entries_bytes(bytes, n_bytes);
        }
    }
}

static void take_ctx_create(struct model *m, uint64_t id, const struct vgd_ctrl_hdr *hdr,
                            const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_reader r = BODY(bytes, n_bytes);
    struct vgd_cmd_ctx_create cmd;
    if (hdr->ctx_id == 0 || vgd_cmd_ctx_create_decode(&r, &cmd) != VGD_OK ||
        model_context(m, hdr->ctx_id) != NULL) {
        return;
    }
    struct model_context *ctx =
        m->contexts.used_count < MODEL_CONTEXTS_MAX ? calloc(1, sizeof(*ctx)) : NULL;
    if (ctx == NULL) {
        m->overflow_count++;
        return;
    }
    ctx->id = hdr->ctx_id;
    ctx->capset = cmd.context_init & VGD_CONTEXT_INIT_CAPSET_ID_MASK;
    if (!keep(m, &ctx->create, id, bytes, n_bytes) ||
        vgd_idmap_add(&m->contexts, ctx->id, ctx) != VGD_OK) {
        drop(m, &ctx->create);
        free(ctx);
    }
}

bool model_is_attached(const struct model_context *ctx, uint32_t res_id)
{
    return vgd_idmap_find(&ctx->attached_places, res_id) != NULL;
}

static void detach(struct model_context *ctx, uint32_t res_id)
{
    uintptr_t place = (uintptr_t)vgd_idmap_remove(&ctx->attached_places, res_id);
    if (place == 0) {
        return;
    }
    uint32_t last_id = ctx->attached[--ctx->n_attached];
    if (last_id != res_id) {
        ctx->attached[place - 1] = last_id;
        (void)vgd_idmap_remove(&ctx->attached_places, last_id);
        /* Has room: two are gone. */
        (void)!vgd_idmap_add(&ctx->attached_places, last_id, (void *)place);
    }
}

static void take_ctx_resource(struct model *m, const struct vgd_ctrl_hdr *hdr, uint32_t res_id)
{
    struct model_context *ctx = model_context(m, hdr->ctx_id);
    if (ctx == NULL) {
        return;
    }
    if (hdr->type == VGD_CMD_CTX_DETACH_RESOURCE) {
        detach(ctx, res_id);
        return;
    }
    if (model_is_attached(ctx, res_id)) {
        return;
    }
    if (ctx->n_attached == ctx->room) {
        uint32_t room = ctx->room == 0 ? 64 : ctx->room * 2;
        uint32_t *bigger =
            room <= MODEL_ATTACHED_MAX ? realloc(ctx->attached, room * sizeof(*bigger)) : NULL;
        if (bigger == NULL) {
            m->overflow_count++;
            return;
        }
        ctx->attached = bigger;
        ctx->room = room;
    }
    uintptr_t place = ctx->n_attached + 1;
    if (vgd_idmap_add(&ctx->attached_places, res_id, (void *)place) != VGD_OK) {
        m->overflow_count++;
        return;
    }
    ctx->attached[ctx->n_attached++] = res_id;
}

/* SET_SCANOUT and SET_SCANOUT_BLOB begin alike: rectangle, scanout, resource. */
static void take_scanout(struct model *m, uint64_t id, const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_reader r = BODY(bytes, n_bytes);
    struct vgd_rect rect = {0};
    if (vgd_rect_decode(&r, &rect) != VGD_OK) {
        return;
    }
    uint32_t scanout_id = vgd_read_le32(&r), res_id = vgd_read_le32(&r);
    if (r.status != VGD_OK || scanout_id >= VGD_MAX_SCANOUTS ||
        (res_id != 0 && model_resource(m, res_id) == NULL)) {
        return;
    }
    struct model_scanout *scanout = &m->scanouts[scanout_id];
    drop(m, &scanout->before);
    scanout->before = scanout->set;
    scanout->set = (struct model_command){0};
    scanout->before_resource_id = scanout->resource_id;
    scanout->before_rect = scanout->rect;
    scanout->resource_id = res_id;
    scanout->rect = rect;
    scanout->set_id = id;
    if (res_id != 0) {
        (void)keep(m, &scanout->set, id, bytes, n_bytes);
    }
}

static void take_cursor(struct model *m, uint64_t id, const struct vgd_ctrl_hdr *hdr,
                        const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_reader r = BODY(bytes, n_bytes);
    struct vgd_cmd_update_cursor cmd;
    if (vgd_cmd_update_cursor_decode(&r, &cmd) != VGD_OK ||
        cmd.pos.scanout_id >= VGD_MAX_SCANOUTS) {
        return;
    }
    uint32_t at = cmd.pos.scanout_id;
    drop(m, &m->cursor_moves[at]);
    (void)keep(m, hdr->type == VGD_CMD_UPDATE_CURSOR ? &m->cursors[at] : &m->cursor_moves[at], id,
               bytes, n_bytes);
}

void model_take(struct model *m, uint64_t id, const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_ctrl_hdr hdr;
    if (!header_of(bytes, n_bytes, &hdr)) {
        return;
    }
    uint32_t res_id = model_named_resource(bytes, n_bytes);
    struct model_resource *res = res_id != 0 ? model_resource(m, res_id) : NULL;
    struct model_context *ctx;
    switch (hdr.type) {
    case VGD_CMD_RESOURCE_CREATE_2D:
        take_create_2d(m, id, bytes, n_bytes);
        break;
    case VGD_CMD_RESOURCE_CREATE_3D:
        (void)add_resource(m, res_id, MODEL_3D, id, bytes, n_bytes);
        break;
    case VGD_CMD_RESOURCE_CREATE_BLOB:
        take_create_blob(m, id, &hdr, bytes, n_bytes);
        break;
    case VGD_CMD_RESOURCE_UNREF:
        if (res != NULL) {
            remove_resource(m, res);
        }
        break;
    case VGD_CMD_RESOURCE_ATTACH_BACKING:
        take_attach(m, id, bytes, n_bytes);
        break;
    case VGD_CMD_RESOURCE_DETACH_BACKING:
        if (res != NULL) {
            lose_backing(m, res);
        }
        break;
    case VGD_CMD_RESOURCE_MAP_BLOB:
        if (res != NULL) {
            (void)keep(m, &res->map, id, bytes, n_bytes);
        }
        break;
    case VGD_CMD_RESOURCE_UNMAP_BLOB:
        if (res != NULL) {
            drop(m, &res->map);
        }
        break;
    case VGD_CMD_CTX_CREATE:
        take_ctx_create(m, id, &hdr, bytes, n_bytes);
        break;
    case VGD_CMD_CTX_DESTROY:
        ctx = model_context(m, hdr.ctx_id);
        if (ctx != NULL) {
            remove_context(m, ctx);
        }
        break;
    case VGD_CMD_CTX_ATTACH_RESOURCE:
    case VGD_CMD_CTX_DETACH_RESOURCE:
        take_ctx_resource(m, &hdr, res_id);
        break;
    case VGD_CMD_SET_SCANOUT:
    case VGD_CMD_SET_SCANOUT_BLOB:
        take_scanout(m, id, bytes, n_bytes);
        break;
    case VGD_CMD_UPDATE_CURSOR:
    case VGD_CMD_MOVE_CURSOR:
        take_cursor(m, id, &hdr, bytes, n_bytes);
        break;
    default:
        break;
    }
}

static void take_back_scanout(struct model *m, uint64_t id)
{
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        struct model_scanout *scanout = &m->scanouts[i];
        if (scanout->set_id == id) {
            drop(m, &scanout->set);
            scanout->set = scanout->before;
            scanout->before = (struct model_command){0};
            scanout->resource_id = scanout->before_resource_id;
            scanout->rect = scanout->before_rect;
            scanout->set_id = 0;
        }
    }
}

void model_take_back(struct model *m, uint64_t id, uint32_t type, uint32_t res_id, uint32_t ctx_id)
{
    if (id == 0) {
        return;
    }
    struct model_resource *res = res_id != 0 ? model_resource(m, res_id) : NULL;
    struct model_context *ctx = model_context(m, ctx_id);
    switch (type) {
    case VGD_CMD_RESOURCE_CREATE_2D:
    case VGD_CMD_RESOURCE_CREATE_3D:
    case VGD_CMD_RESOURCE_CREATE_BLOB:
        if (res != NULL && res->create.id == id) {
            remove_resource(m, res);
        }
        break;
    case VGD_CMD_RESOURCE_ATTACH_BACKING:
        if (res != NULL && res->attach.id == id) {
            lose_backing(m, res);
        }
        break;
    case VGD_CMD_RESOURCE_MAP_BLOB:
        if (res != NULL && res->map.id == id) {
            drop(m, &res->map);
        }
        break;
    case VGD_CMD_CTX_CREATE:
        if (ctx != NULL && ctx->create.id == id) {
            remove_context(m, ctx);
        }
        break;
    case VGD_CMD_SET_SCANOUT:
    case VGD_CMD_SET_SCANOUT_BLOB:
        take_back_scanout(m, id);
        break;
    default:
        break; /* what was there before is not known, and hardly ever asked for */
    }
}
