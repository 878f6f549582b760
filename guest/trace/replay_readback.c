/* SPDX-License-Identifier: MIT */
/*
 * What the guest read back, compared where it is pixels: by a transfer from the host, or by a
 * stream that copies to a staging buffer. The trace has what was written to guest memory then; the
 * rest of that memory is nobody's affair, so only the rows of the box are looked at.
 */
#include <math.h>

#include "checked.h"
#include "replay.h"
#include "virgl_wire.h"

#define PIXEL_BYTES 4u

/* Where the fields of a COPY_TRANSFER3D are in its body. */
enum {
    COPY_STRIDE = 3,
    COPY_BOX_W = 8,
    COPY_BOX_H,
    COPY_BOX_D,
    COPY_STAGING,
    COPY_OFFSET,
    COPY_FLAGS
};
enum { COPY_DWORDS = COPY_FLAGS + 1 };

static void note(struct replay *r, const struct replay_transfer *transfer)
{
    r->transfers[r->n_transfers++ % REPLAY_TRANSFERS] = *transfer;
}

void replay_reads_back(struct replay *r, uint64_t command_id, const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_reader body = vgd_reader_of(bytes + VGD_CTRL_HDR_SIZE, n_bytes - VGD_CTRL_HDR_SIZE);
    struct vgd_cmd_transfer_host_3d cmd;
    if (r->config->compare && vgd_cmd_transfer_host_3d_decode(&body, &cmd) == VGD_OK &&
        cmd.box.d == 1) {
        note(r, &(struct replay_transfer){.command_id = command_id,
                                          .memory_id = cmd.resource_id,
                                          .texels_id = cmd.resource_id,
                                          .level = cmd.level,
                                          .w = cmd.box.w,
                                          .h = cmd.box.h,
                                          .stride_bytes = cmd.stride_bytes,
                                          .offset_bytes = cmd.offset_bytes});
    }
}

void replay_copies_back(struct replay *r, uint64_t command_id, const struct vgd_command *cmd)
{
    if (!r->config->compare || cmd->n_dwords < COPY_DWORDS || cmd->body[COPY_BOX_D] != 1 ||
        (cmd->body[COPY_FLAGS] & VGD_VIRGL_COPY_READ_FROM_HOST) == 0) {
        return;
    }
    note(r, &(struct replay_transfer){.command_id = command_id,
                                      .memory_id = cmd->body[COPY_STAGING],
                                      .texels_id = cmd->body[0],
                                      .level = cmd->body[1],
                                      .w = cmd->body[COPY_BOX_W],
                                      .h = cmd->body[COPY_BOX_H],
                                      .stride_bytes = cmd->body[COPY_STRIDE],
                                      .offset_bytes = cmd->body[COPY_OFFSET]});
}

/* Are the texels 4 bytes, a channel each? And how far apart are the rows that were written? */
static bool is_pixels(const struct replay *r, const struct replay_transfer *transfer,
                      uint32_t *out_stride_bytes)
{
    const struct model_resource *res = model_resource(&r->model, transfer->texels_id);
    struct vgd_cmd_resource_create_3d create;
    if (res == NULL || res->kind != MODEL_3D) {
        return false;
    }
    struct vgd_reader body = vgd_reader_of(res->create.bytes + VGD_CTRL_HDR_SIZE,
                                           res->create.n_bytes - VGD_CTRL_HDR_SIZE);
    if (vgd_cmd_resource_create_3d_decode(&body, &create) != VGD_OK || create.target == 0 ||
        transfer->level >= 32) {
        return false;
    }
    uint32_t w = create.width >> transfer->level != 0 ? create.width >> transfer->level : 1;
    *out_stride_bytes = transfer->stride_bytes != 0 ? transfer->stride_bytes : w * PIXEL_BYTES;
    /* The formats that a scanout may have are those; any other code is called "unknown". */
    return w <= REPLAY_PICTURE_SIDE_MAX && transfer->w <= REPLAY_PICTURE_SIDE_MAX &&
           transfer->h <= REPLAY_PICTURE_SIDE_MAX &&
           *out_stride_bytes >= transfer->w * PIXEL_BYTES &&
           vgd_format_name(create.format)[0] != 'u';
}

/* Rows of @transfer that are whole in the record: a long one is in several, which may part a row.
 */
static void compare(struct replay *r, const struct vgd_trace_item *item,
                    const struct replay_transfer *transfer, uint32_t stride_bytes)
{
    const struct vgd_trace_backing *backing = &item->record.as.backing;
    const struct model_resource *res = model_resource(&r->model, backing->resource_id);
    const uint8_t *memory = replay_memory(r, res);
    uint64_t row_bytes = (uint64_t)transfer->w * PIXEL_BYTES;
    uint64_t sum = 0, n_pixels = 0;
    for (uint32_t y = 0; memory != NULL && y < transfer->h; y++) {
        uint64_t at;
        if (vgd_add_u64(transfer->offset_bytes, (uint64_t)y * stride_bytes, &at) &&
            at >= backing->offset_bytes &&
            vgd_span_fits(at - backing->offset_bytes, row_bytes, item->data.total_bytes) &&
            vgd_span_fits(at, row_bytes, res->backing_bytes)) {
            sum +=
                replay_squares(memory + at, r->bytes + (at - backing->offset_bytes), transfer->w);
            n_pixels += transfer->w;
        }
    }
    if (n_pixels == 0) {
        return;
    }
    double db = replay_db(sum, n_pixels);
    r->pictures.readbacks++;
    r->pictures.readbacks_exact += isinf(db);
    if (db < r->config->psnr_db) {
        r->pictures.readbacks_below++;
        replay_differs(r, "record %llu: what the guest read back of resource %u: %.1f dB",
                       (unsigned long long)item->number, transfer->texels_id, db);
    }
}

bool replay_readback(struct replay *r, const struct vgd_trace_item *item)
{
    const struct vgd_trace_backing *backing = &item->record.as.backing;
    if (!r->config->compare || backing->command_id == 0 ||
        model_resource(&r->model, backing->resource_id) == NULL) {
        return true;
    }
    bool ready = false;
    for (uint32_t i = 0; i < REPLAY_TRANSFERS; i++) {
        const struct replay_transfer *transfer = &r->transfers[i];
        uint32_t stride_bytes;
        if (transfer->command_id != backing->command_id ||
            transfer->memory_id != backing->resource_id || !is_pixels(r, transfer, &stride_bytes)) {
            continue;
        }
        /* Its command is the last one that was sent. */
        if (!ready && (!replay_wait_all(r) || !replay_data(r, item))) {
            return false;
        }
        ready = true;
        compare(r, item, transfer, stride_bytes);
    }
    return true;
}
