/* SPDX-License-Identifier: MIT */
/*
 * The state as commands, as records of the journal, and back.
 *
 * A restore has two steps: the records are replayed on the device's tables alone, and only what is
 * left at their end is given to the renderer and the display. So a long history costs no GPU
 * time, and whatever the history says, the renderer sees a state that all checks have passed.
 */
#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "limits.h"

/* What a record of @body_bytes takes in the journal. */
static size_t cost_bytes(size_t body_bytes)
{
    return (sizeof(uint32_t) + VGD_CTRL_HDR_SIZE + body_bytes + 7) / 8 * 8;
}

size_t vgd_gpu_journal_area_bytes(const struct vgd_gpu_limits *limits)
{
    struct vgd_gpu_limits full = *limits;
    vgd_gpu_limits_default(&full);
    /* A resource made by CREATE_3D takes more than a blob, but for the entries. */
    size_t live_bytes =
        full.contexts_max * cost_bytes(VGD_CMD_CTX_CREATE_SIZE) +
        full.resources_max * (cost_bytes(VGD_CMD_RESOURCE_CREATE_3D_SIZE) +
                              cost_bytes(VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE)) +
        full.backing_entries_max * VGD_MEM_ENTRY_SIZE +
        full.resources_max * cost_bytes(VGD_RECORD_UUID_BYTES - VGD_CTRL_HDR_SIZE) +
        full.maps_max * cost_bytes(VGD_CMD_RESOURCE_MAP_BLOB_SIZE) +
        full.attachments_max * cost_bytes(VGD_CMD_CTX_RESOURCE_SIZE) +
        VGD_MAX_SCANOUTS * (cost_bytes(VGD_CMD_SET_SCANOUT_BLOB_SIZE) +
                            cost_bytes(VGD_CMD_UPDATE_CURSOR_SIZE + VGD_CURSOR_BYTES));
    return vgd_journal_area_bytes(live_bytes);
}

/* ---- the state as commands --------------------------------------------------------------------
 */

/* Bytes of the longest command without its entries. */
#define HEAD_BYTES_MAX (VGD_CTRL_HDR_SIZE + VGD_CMD_SET_SCANOUT_BLOB_SIZE)
_Static_assert(HEAD_BYTES_MAX >= VGD_CTRL_HDR_SIZE + VGD_CMD_CTX_CREATE_SIZE, "the longest");
_Static_assert(HEAD_BYTES_MAX >= VGD_CTRL_HDR_SIZE + VGD_CMD_RESOURCE_CREATE_BLOB_SIZE,
               "the longest");
/* The entries of a backing go out as they lie. */
_Static_assert(sizeof(struct vgd_mem_entry) == VGD_MEM_ENTRY_SIZE, "as on the wire");
_Static_assert(offsetof(struct vgd_mem_entry, len_bytes) == 8, "as on the wire");

struct head {
    uint8_t bytes[HEAD_BYTES_MAX];
    struct vgd_writer w;
};

static void head_begin(struct head *head, uint32_t type, uint32_t ctx_id)
{
    head->w = vgd_writer_of(head->bytes, sizeof(head->bytes));
    struct vgd_ctrl_hdr hdr = {.type = type, .ctx_id = ctx_id};
    vgd_ctrl_hdr_encode(&head->w, &hdr);
}

static enum vgd_status head_end(struct head *head, const struct vgd_state_sink *sink,
                                const void *tail, size_t tail_bytes)
{
    assert(head->w.status == VGD_OK);
    return sink->put(sink->user, VGD_QUEUE_CONTROL, head->bytes, vgd_writer_used(&head->w), tail,
                     tail_bytes);
}

static enum vgd_status entries_end(struct head *head, const struct vgd_state_sink *sink,
                                   const struct vgd_backing *backing)
{
    return head_end(head, sink, backing->entries, (size_t)backing->n_entries * VGD_MEM_ENTRY_SIZE);
}

enum vgd_status vgd_state_context(const struct vgd_context *ctx, const struct vgd_state_sink *sink)
{
    struct head head;
    head_begin(&head, VGD_CMD_CTX_CREATE, ctx->id);
    struct vgd_cmd_ctx_create cmd = {
        .name_len_bytes = ctx->name_len_bytes,
        .context_init = ctx->capset_id,
    };
    memcpy(cmd.debug_name, ctx->name, sizeof(cmd.debug_name));
    vgd_cmd_ctx_create_encode(&head.w, &cmd);
    return head_end(&head, sink, NULL, 0);
}

enum vgd_status vgd_state_attachment(const struct vgd_attachment *at,
                                     const struct vgd_state_sink *sink)
{
    struct head head;
    head_begin(&head, VGD_CMD_CTX_ATTACH_RESOURCE, at->ctx->id);
    struct vgd_cmd_ctx_resource cmd = {.resource_id = at->res->id};
    vgd_cmd_ctx_resource_encode(&head.w, &cmd);
    return head_end(&head, sink, NULL, 0);
}

/* With its pages. */
static enum vgd_status create_blob(const struct vgd_resource *res,
                                   const struct vgd_state_sink *sink)
{
    struct head head;
    head_begin(&head, VGD_CMD_RESOURCE_CREATE_BLOB, res->as.blob.ctx_id);
    struct vgd_cmd_resource_create_blob cmd = {
        .resource_id = res->id,
        .blob_mem = res->as.blob.mem,
        .blob_flags = res->as.blob.flags,
        .nr_entries = res->backing.n_entries,
        .blob_id = res->as.blob.blob_id,
        .size_bytes = res->as.blob.size_bytes,
    };
    vgd_cmd_resource_create_blob_encode(&head.w, &cmd);
    return entries_end(&head, sink, &res->backing);
}

enum vgd_status vgd_state_create(const struct vgd_resource *res, const struct vgd_state_sink *sink)
{
    struct head head;
    switch (res->kind) {
    case VGD_RESOURCE_BLOB:
        return create_blob(res, sink);
    case VGD_RESOURCE_3D:
        head_begin(&head, VGD_CMD_RESOURCE_CREATE_3D, 0);
        vgd_cmd_resource_create_3d_encode(&head.w, &res->as.args_3d);
        break;
    case VGD_RESOURCE_2D:
        head_begin(&head, VGD_CMD_RESOURCE_CREATE_2D, 0);
        vgd_cmd_resource_create_2d_encode(
            &head.w, &(struct vgd_cmd_resource_create_2d){.resource_id = res->id,
                                                          .format = res->as.format,
                                                          .w_px = res->w_px,
                                                          .h_px = res->h_px});
        break;
    }
    return head_end(&head, sink, NULL, 0);
}

enum vgd_status vgd_state_backing(const struct vgd_resource *res, const struct vgd_state_sink *sink)
{
    if (res->backing.n_entries == 0 || res->kind == VGD_RESOURCE_BLOB) {
        return VGD_OK;
    }
    struct head head;
    head_begin(&head, VGD_CMD_RESOURCE_ATTACH_BACKING, 0);
    struct vgd_cmd_resource_attach_backing cmd = {
        .resource_id = res->id,
        .nr_entries = res->backing.n_entries,
    };
    vgd_cmd_resource_attach_backing_encode(&head.w, &cmd);
    return entries_end(&head, sink, &res->backing);
}

enum vgd_status vgd_state_map(const struct vgd_map *map, const struct vgd_state_sink *sink)
{
    if (map == NULL || map->state != VGD_MAP_MAPPED) {
        return VGD_OK;
    }
    struct head head;
    head_begin(&head, VGD_CMD_RESOURCE_MAP_BLOB, 0);
    struct vgd_cmd_resource_map_blob cmd = {
        .resource_id = map->res->id,
        .offset_bytes = map->offset_bytes,
    };
    vgd_cmd_resource_map_blob_encode(&head.w, &cmd);
    return head_end(&head, sink, NULL, 0);
}

static void scanout_blob(struct head *head, const struct vgd_scanout *scanout, uint32_t scanout_idx)
{
    head_begin(head, VGD_CMD_SET_SCANOUT_BLOB, 0);
    struct vgd_cmd_set_scanout_blob cmd = {
        .rect = scanout->src,
        .scanout_id = scanout_idx,
        .resource_id = scanout->res->id,
        .w_px = scanout->image.w_px,
        .h_px = scanout->image.h_px,
        .format = scanout->image.format,
        .strides_bytes = {scanout->image.stride_bytes},
        .offsets_bytes = {(uint32_t)scanout->image.offset_bytes}, /* as it came */
    };
    vgd_cmd_set_scanout_blob_encode(&head->w, &cmd);
}

enum vgd_status vgd_state_scanout(const struct vgd_scanout *scanout, uint32_t scanout_idx,
                                  const struct vgd_state_sink *sink)
{
    if (scanout->res == NULL) {
        return VGD_OK;
    }
    struct head head;
    if (scanout->res->kind == VGD_RESOURCE_BLOB) {
        scanout_blob(&head, scanout, scanout_idx);
    } else {
        head_begin(&head, VGD_CMD_SET_SCANOUT, 0);
        struct vgd_cmd_set_scanout cmd = {
            .rect = scanout->src,
            .scanout_id = scanout_idx,
            .resource_id = scanout->res->id,
        };
        vgd_cmd_set_scanout_encode(&head.w, &cmd);
    }
    return head_end(&head, sink, NULL, 0);
}

/* ---- and what the journal has in its own way --------------------------------------------------
 */

static enum vgd_status write_uuid(const struct vgd_resource *res, const struct vgd_state_sink *sink)
{
    if (!res->has_uuid) {
        return VGD_OK;
    }
    struct head head;
    head_begin(&head, VGD_RECORD_UUID, 0);
    vgd_write_le32(&head.w, res->id);
    vgd_write_bytes(&head.w, res->uuid, sizeof(res->uuid));
    return head_end(&head, sink, NULL, 0);
}

static enum vgd_status write_cursor(const struct vgd_cursor *cursor,
                                    const struct vgd_state_sink *sink)
{
    if (!cursor->visible) {
        return VGD_OK;
    }
    struct head head;
    head_begin(&head, VGD_RECORD_CURSOR, 0);
    struct vgd_cmd_update_cursor cmd = {
        .pos = cursor->pos,
        .hot_x_px = cursor->hot_x_px,
        .hot_y_px = cursor->hot_y_px,
    };
    vgd_cmd_update_cursor_encode(&head.w, &cmd);
    return head_end(&head, sink, cursor->pixels, VGD_CURSOR_BYTES);
}

static enum vgd_status put_in_journal(void *user, enum vgd_gpu_queue queue, const uint8_t *head,
                                      size_t head_bytes, const void *tail, size_t tail_bytes)
{
    (void)queue;
    struct vgd_journal *journal = user;
    uint8_t *at = vgd_journal_append_begin(journal, head_bytes + tail_bytes);
    if (at == NULL) {
        return VGD_LIMIT;
    }
    memcpy(at, head, head_bytes);
    if (tail_bytes != 0) {
        memcpy(at + head_bytes, tail, tail_bytes);
    }
    vgd_journal_append_end(journal, head_bytes + tail_bytes);
    return VGD_OK;
}

static struct vgd_state_sink sink_of(struct vgd_journal *journal)
{
    return (struct vgd_state_sink){.put = put_in_journal, .user = journal};
}

enum vgd_status vgd_record_state(struct vgd_gpu *gpu, struct vgd_journal *journal)
{
    const struct vgd_state_sink sink = sink_of(journal);
    enum vgd_status st = VGD_OK;
    uint32_t at = 0;
    const struct vgd_resource *res;
    while (st == VGD_OK && (res = vgd_idmap_next(&gpu->resources, &at, NULL)) != NULL) {
        st = vgd_state_create(res, &sink);
        if (st == VGD_OK) {
            st = vgd_state_backing(res, &sink);
        }
        if (st == VGD_OK) {
            st = vgd_state_map(res->map, &sink);
        }
        if (st == VGD_OK) {
            st = write_uuid(res, &sink);
        }
    }
    at = 0;
    const struct vgd_context *ctx;
    while (st == VGD_OK && (ctx = vgd_idmap_next(&gpu->contexts, &at, NULL)) != NULL) {
        st = vgd_state_context(ctx, &sink);
        uint32_t next = 0;
        const struct vgd_attachment *attachment;
        while (st == VGD_OK &&
               (attachment = vgd_idmap_next(&ctx->attachments, &next, NULL)) != NULL) {
            st = vgd_state_attachment(attachment, &sink);
        }
    }
    for (uint32_t i = 0; st == VGD_OK && i < gpu->config.n_scanouts; i++) {
        st = vgd_state_scanout(&gpu->scanouts[i], i, &sink);
        if (st == VGD_OK) {
            st = write_cursor(&gpu->cursors[i], &sink);
        }
    }
    return st;
}

static void compact(struct vgd_gpu *gpu)
{
    struct vgd_journal *journal = gpu->config.journal;
    vgd_journal_compact_begin(journal);
    if (vgd_record_state(gpu, journal) == VGD_OK) {
        vgd_journal_compact_commit(journal);
    } else {
        vgd_journal_compact_abort(journal);
    }
}

enum vgd_status vgd_record_reserve(struct vgd_gpu *gpu, size_t n_bytes)
{
    struct vgd_journal *journal = gpu->config.journal;
    if (journal == NULL) {
        return VGD_OK;
    }
    if (vgd_journal_wants_compaction(journal) || !vgd_journal_has_room(journal, n_bytes)) {
        compact(gpu);
    }
    return vgd_journal_has_room(journal, n_bytes) ? VGD_OK : VGD_LIMIT;
}

void vgd_record_append(struct vgd_gpu *gpu, const void *record, size_t n_bytes)
{
    if (gpu->config.journal != NULL) {
        enum vgd_status st = vgd_journal_append(gpu->config.journal, record, n_bytes);
        assert(st == VGD_OK); /* reserved before the command was executed */
    }
}

void vgd_record_cursor(struct vgd_gpu *gpu, uint32_t scanout_idx)
{
    if (gpu->config.journal != NULL) {
        const struct vgd_state_sink sink = sink_of(gpu->config.journal);
        enum vgd_status st = write_cursor(&gpu->cursors[scanout_idx], &sink);
        assert(st == VGD_OK);
    }
}

void vgd_record_map(struct vgd_gpu *gpu, const struct vgd_map *map)
{
    if (gpu->config.journal != NULL) {
        const struct vgd_state_sink sink = sink_of(gpu->config.journal);
        enum vgd_status st = vgd_state_map(map, &sink);
        assert(st == VGD_OK);
    }
}

void vgd_record_uuid(struct vgd_gpu *gpu, const struct vgd_resource *res)
{
    if (gpu->config.journal != NULL) {
        const struct vgd_state_sink sink = sink_of(gpu->config.journal);
        enum vgd_status st = write_uuid(res, &sink);
        assert(st == VGD_OK);
    }
}

static enum vgd_status replay_one(struct vgd_gpu *gpu, const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_gpu_call call = {
        .gpu = gpu,
        .name = "journal",
        .cmd = bytes,
        .cmd_bytes = n_bytes,
        .body = vgd_reader_of(bytes, n_bytes),
    };
    if (n_bytes < VGD_CTRL_HDR_SIZE) {
        return VGD_TRUNCATED;
    }
    struct vgd_reader header = vgd_reader_of(bytes, VGD_CTRL_HDR_SIZE);
    enum vgd_status st = vgd_ctrl_hdr_decode(&header, &call.hdr);
    if (st != VGD_OK) {
        return st;
    }
    vgd_read_skip(&call.body, VGD_CTRL_HDR_SIZE);
    switch (call.hdr.type) {
    case VGD_RECORD_CURSOR:
        return vgd_do_cursor_record(&call);
    case VGD_RECORD_UUID:
        return vgd_do_uuid_record(&call);
    default:
        return vgd_gpu_dispatch(&call);
    }
}

static enum vgd_status replay(struct vgd_gpu *gpu, uint32_t *out_count)
{
    uint8_t *copy = NULL;
    size_t copy_bytes = 0;
    size_t cursor = 0;
    const uint8_t *record;
    size_t n_bytes;
    enum vgd_status st;
    while ((st = vgd_journal_next(gpu->config.journal, &cursor, &record, &n_bytes)) == VGD_OK) {
        if (n_bytes > copy_bytes) {
            uint8_t *bigger = realloc(copy, n_bytes);
            if (bigger == NULL) {
                st = VGD_NO_MEMORY;
                break;
            }
            copy = bigger;
            copy_bytes = n_bytes;
        }
        memcpy(copy, record, n_bytes);
        st = replay_one(gpu, copy, n_bytes);
        if (st != VGD_OK) {
            break;
        }
        (*out_count)++;
    }
    free(copy);
    return st == VGD_AGAIN ? VGD_OK : st;
}

/* Tables to renderer, guest memory and display. What the renderer refuses stays in the tables as
 * lost, for the guest to let go. */
static void materialise(struct vgd_gpu *gpu)
{
    uint32_t at = 0;
    uint32_t lost_count = 0;
    struct vgd_resource *res;
    while ((res = vgd_idmap_next(&gpu->resources, &at, NULL)) != NULL) {
        if (res->kind != VGD_RESOURCE_BLOB && vgd_resource_materialise(gpu, res) != VGD_OK) {
            lost_count++;
        }
    }
    /* This makes the blobs of guest memory, too; those of host memory went with their contexts. */
    vgd_gpu_memory_changed(gpu);
    at = 0;
    while ((res = vgd_idmap_next(&gpu->resources, &at, NULL)) != NULL) {
        if (!res->in_renderer) {
            vgd_scanouts_forget_resource(gpu, res);
            lost_count += vgd_blob_is_host(res);
        }
    }
    at = 0;
    struct vgd_context *ctx;
    while ((ctx = vgd_idmap_next(&gpu->contexts, &at, NULL)) != NULL) {
        vgd_count_context_lost(gpu, ctx);
        vgd_context_complete_queries(ctx);
    }
    at = 0;
    while ((res = vgd_idmap_next(&gpu->resources, &at, NULL)) != NULL) {
        vgd_resource_refill(gpu, res);
    }
    vgd_gpu_redisplay(gpu);
    if (lost_count != 0) {
        vgd_log(VGD_LOG_WARNING, "restore", "%" PRIu32 " of %" PRIu32 " resources are lost",
                lost_count, gpu->resources.used_count);
    }
}

enum vgd_status vgd_gpu_restore(struct vgd_gpu *gpu)
{
    if (gpu->config.journal == NULL) {
        return VGD_OK;
    }
    uint32_t records_count = 0;
    gpu->replaying = true;
    enum vgd_status st = replay(gpu, &records_count);
    gpu->replaying = false;
    if (st != VGD_OK) {
        vgd_log(VGD_LOG_WARNING, "restore", "journal refused after %" PRIu32 " records: %s",
                records_count, vgd_status_text(st));
        vgd_gpu_reset(gpu);
        return st;
    }
    vgd_count_restored(gpu);
    materialise(gpu);
    compact(gpu);
    return VGD_OK;
}
