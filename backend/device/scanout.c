/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "device.h"
#include "limits.h"

/* As the display and the renderer want it. */
static const struct vgd_image *image_of(const struct vgd_scanout *scanout)
{
    return scanout->res->kind == VGD_RESOURCE_BLOB ? &scanout->image : NULL;
}

/* Show a scanout's whole source again. */
static void show(struct vgd_gpu *gpu, uint32_t scanout_idx)
{
    struct vgd_display *display = gpu->config.display;
    const struct vgd_scanout *scanout = &gpu->scanouts[scanout_idx];
    struct vgd_rect whole = {.w_px = scanout->src.w_px, .h_px = scanout->src.h_px};
    display->ops->scanout_set(display, scanout_idx, scanout->res->id, image_of(scanout),
                              scanout->src);
    display->ops->flush(display, scanout_idx, whole);
}

static void turn_off(struct vgd_gpu *gpu, uint32_t scanout_idx)
{
    struct vgd_scanout *scanout = &gpu->scanouts[scanout_idx];
    *scanout = (struct vgd_scanout){0};
    if (!gpu->replaying) {
        struct vgd_display *display = gpu->config.display;
        display->ops->scanout_disable(display, scanout_idx);
    }
}

static void turn_on(struct vgd_gpu *gpu, uint32_t scanout_idx, const struct vgd_scanout *what)
{
    struct vgd_scanout *scanout = &gpu->scanouts[scanout_idx];
    *scanout = *what;
    scanout->fresh = true;
    if (!gpu->replaying) {
        struct vgd_display *display = gpu->config.display;
        display->ops->scanout_set(display, scanout_idx, scanout->res->id, image_of(scanout),
                                  scanout->src);
    }
}

void vgd_scanouts_forget_resource(struct vgd_gpu *gpu, struct vgd_resource *res)
{
    for (uint32_t i = 0; i < gpu->config.n_scanouts; i++) {
        if (gpu->scanouts[i].res == res) {
            turn_off(gpu, i);
        }
    }
}

/* A picture by itself, and not a buffer or a volume. */
static bool can_show(const struct vgd_resource *res)
{
    switch (res->kind) {
    case VGD_RESOURCE_2D:
        return true;
    case VGD_RESOURCE_3D:
        return res->as.args_3d.target == VGD_TARGET_2D || res->as.args_3d.target == VGD_TARGET_RECT;
    case VGD_RESOURCE_BLOB:
        break;
    }
    return false;
}

enum vgd_status vgd_do_set_scanout(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_set_scanout cmd;
    enum vgd_status st = vgd_cmd_set_scanout_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    if (cmd.scanout_id >= gpu->config.n_scanouts) {
        return VGD_REFUSE(call, VGD_NO_SCANOUT, "scanout %" PRIu32 " of %" PRIu32, cmd.scanout_id,
                          gpu->config.n_scanouts);
    }
    if (cmd.resource_id == 0) {
        turn_off(gpu, cmd.scanout_id);
        return VGD_OK;
    }
    struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL || !can_show(res)) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32 " is %s", cmd.resource_id,
                          res == NULL ? "unknown" : "no picture");
    }
    if (cmd.rect.w_px == 0 || cmd.rect.h_px == 0 ||
        !vgd_rect_fits(cmd.rect, res->w_px, res->h_px)) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " rect %" PRIu32 "x%" PRIu32 "+%" PRIu32 "+%" PRIu32
                          " of %" PRIu32 "x%" PRIu32,
                          res->id, cmd.rect.w_px, cmd.rect.h_px, cmd.rect.x_px, cmd.rect.y_px,
                          res->w_px, res->h_px);
    }
    if (!gpu->replaying && !res->in_renderer) {
        return VGD_REFUSE(call, VGD_LOST, "res=%" PRIu32 " is lost", res->id);
    }
    turn_on(gpu, cmd.scanout_id, &(struct vgd_scanout){.res = res, .src = cmd.rect});
    return VGD_OK;
}

bool vgd_image_fits(const struct vgd_image *image, uint64_t size_bytes)
{
    /* Sums of 32-bit numbers and their products do not reach 2^64. */
    uint64_t row_bytes = (uint64_t)image->w_px * VGD_BYTES_PER_PIXEL;
    uint64_t end = image->offset_bytes + (uint64_t)image->stride_bytes * (image->h_px - 1u);
    return vgd_format_2d_known(image->format) && image->w_px != 0 && image->h_px != 0 &&
           image->w_px <= VGD_RESOURCE_2D_SIDE_PX_MAX &&
           image->h_px <= VGD_RESOURCE_2D_SIDE_PX_MAX && image->stride_bytes >= row_bytes &&
           image->stride_bytes <= INT32_MAX && image->stride_bytes % VGD_BYTES_PER_PIXEL == 0 &&
           image->offset_bytes % VGD_BYTES_PER_PIXEL == 0 &&
           vgd_span_fits(end, row_bytes, size_bytes);
}

enum vgd_status vgd_do_set_scanout_blob(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_set_scanout_blob cmd;
    enum vgd_status st = vgd_cmd_set_scanout_blob_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    if (cmd.scanout_id >= gpu->config.n_scanouts) {
        return VGD_REFUSE(call, VGD_NO_SCANOUT, "scanout %" PRIu32 " of %" PRIu32, cmd.scanout_id,
                          gpu->config.n_scanouts);
    }
    if (cmd.resource_id == 0) {
        turn_off(gpu, cmd.scanout_id);
        return VGD_OK;
    }
    struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL || res->kind != VGD_RESOURCE_BLOB) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32 " is %s", cmd.resource_id,
                          res == NULL ? "unknown" : "no blob");
    }
    /* The formats have one plane; what the command says of others is nobody's. */
    struct vgd_image image = {.w_px = cmd.w_px,
                              .h_px = cmd.h_px,
                              .format = cmd.format,
                              .stride_bytes = cmd.strides_bytes[0],
                              .offset_bytes = cmd.offsets_bytes[0]};
    if (!vgd_image_fits(&image, res->as.blob.size_bytes)) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " of %" PRIu64 " bytes: %" PRIu32 "x%" PRIu32
                          " format %" PRIu32 " stride %" PRIu32 " offset %" PRIu64,
                          res->id, res->as.blob.size_bytes, image.w_px, image.h_px, image.format,
                          image.stride_bytes, image.offset_bytes);
    }
    if (cmd.rect.w_px == 0 || cmd.rect.h_px == 0 ||
        !vgd_rect_fits(cmd.rect, image.w_px, image.h_px)) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " rect %" PRIu32 "x%" PRIu32 "+%" PRIu32 "+%" PRIu32
                          " of %" PRIu32 "x%" PRIu32,
                          res->id, cmd.rect.w_px, cmd.rect.h_px, cmd.rect.x_px, cmd.rect.y_px,
                          image.w_px, image.h_px);
    }
    if (!gpu->replaying && !res->in_renderer) {
        return VGD_REFUSE(call, VGD_LOST, "res=%" PRIu32 " is lost", res->id);
    }
    if (vgd_blob_is_guest(res) && res->backing.n_entries == 0) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "res=%" PRIu32 " has no backing", res->id);
    }
    turn_on(gpu, cmd.scanout_id,
            &(struct vgd_scanout){.res = res, .image = image, .src = cmd.rect});
    return VGD_OK;
}

bool vgd_rect_intersect(struct vgd_rect a, struct vgd_rect b, struct vgd_rect *out)
{
    uint32_t left = a.x_px > b.x_px ? a.x_px : b.x_px;
    uint32_t top = a.y_px > b.y_px ? a.y_px : b.y_px;
    uint32_t a_right = a.x_px + a.w_px;
    uint32_t b_right = b.x_px + b.w_px;
    uint32_t a_bottom = a.y_px + a.h_px;
    uint32_t b_bottom = b.y_px + b.h_px;
    uint32_t right = a_right < b_right ? a_right : b_right;
    uint32_t bottom = a_bottom < b_bottom ? a_bottom : b_bottom;
    if (left >= right || top >= bottom) {
        return false;
    }
    *out = (struct vgd_rect){.x_px = left, .y_px = top, .w_px = right - left, .h_px = bottom - top};
    return true;
}

/* A blob has no size in pixels but the one of the scanouts that show it; on none, all is well. */
static bool fits_a_picture(const struct vgd_gpu *gpu, const struct vgd_resource *res,
                           struct vgd_rect rect)
{
    bool shown = false;
    for (uint32_t i = 0; i < gpu->config.n_scanouts; i++) {
        const struct vgd_scanout *scanout = &gpu->scanouts[i];
        if (scanout->res == res) {
            shown = true;
            if (vgd_rect_fits(rect, scanout->image.w_px, scanout->image.h_px)) {
                return true;
            }
        }
    }
    return !shown;
}

enum vgd_status vgd_do_resource_flush(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_resource_flush cmd;
    enum vgd_status st = vgd_cmd_resource_flush_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    const struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32, cmd.resource_id);
    }
    bool is_blob = res->kind == VGD_RESOURCE_BLOB;
    if (is_blob ? !fits_a_picture(gpu, res, cmd.rect)
                : !vgd_rect_fits(cmd.rect, res->w_px, res->h_px)) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " rect %" PRIu32 "x%" PRIu32 "+%" PRIu32 "+%" PRIu32
                          " outside %" PRIu32 "x%" PRIu32,
                          res->id, cmd.rect.w_px, cmd.rect.h_px, cmd.rect.x_px, cmd.rect.y_px,
                          res->w_px, res->h_px);
    }
    vgd_count(&gpu->counters->flushes, 1);
    struct vgd_render *render = gpu->config.render;
    struct vgd_rect changed = cmd.rect;
    if (!is_blob && res->in_renderer && render->ops->take_changed != NULL) {
        changed = render->ops->take_changed(render, res->id, cmd.rect);
    }
    for (uint32_t i = 0; i < gpu->config.n_scanouts; i++) {
        struct vgd_scanout *scanout = &gpu->scanouts[i];
        struct vgd_rect damage;
        /* A scanout that was just set shows something else, whatever changed in this resource. */
        struct vgd_rect look = scanout->fresh ? cmd.rect : changed;
        if (scanout->res != res || !vgd_rect_intersect(look, scanout->src, &damage)) {
            continue;
        }
        scanout->fresh = scanout->fresh && memcmp(&damage, &scanout->src, sizeof(damage)) != 0;
        damage.x_px -= scanout->src.x_px;
        damage.y_px -= scanout->src.y_px;
        gpu->config.display->ops->flush(gpu->config.display, i, damage);
    }
    return VGD_OK;
}

/* Tell the display what @scanout_idx's cursor looks like now. */
static void cursor_show(struct vgd_gpu *gpu, uint32_t scanout_idx)
{
    struct vgd_display *display = gpu->config.display;
    const struct vgd_cursor *cursor = &gpu->cursors[scanout_idx];
    display->ops->cursor_update(display, cursor->pos, cursor->hot_x_px, cursor->hot_y_px,
                                cursor->visible ? cursor->pixels : NULL);
}

/* Pixels of a new shape: the top left of @res, transparent where it is smaller. */
static enum vgd_status shape_read(struct vgd_gpu *gpu, const struct vgd_resource *res,
                                  uint8_t *pixels)
{
    static const uint32_t stride_bytes = VGD_CURSOR_SIDE_PX * VGD_BYTES_PER_PIXEL;
    if (res->kind == VGD_RESOURCE_BLOB) {
        /* The command has no word for what lies in it: QEMU and Linux take one whole cursor. */
        static const struct vgd_image image = {.w_px = VGD_CURSOR_SIDE_PX,
                                               .h_px = VGD_CURSOR_SIDE_PX,
                                               .format = VGD_FORMAT_B8G8R8A8_UNORM,
                                               .stride_bytes = stride_bytes};
        struct vgd_rect all = {.w_px = VGD_CURSOR_SIDE_PX, .h_px = VGD_CURSOR_SIDE_PX};
        return gpu->ops->read_pixels(gpu->render, res->id, &image, all, pixels, stride_bytes);
    }
    struct vgd_rect rect = {
        .w_px = res->w_px < VGD_CURSOR_SIDE_PX ? res->w_px : VGD_CURSOR_SIDE_PX,
        .h_px = res->h_px < VGD_CURSOR_SIDE_PX ? res->h_px : VGD_CURSOR_SIDE_PX,
    };
    memset(pixels, 0, VGD_CURSOR_BYTES);
    return gpu->ops->read_pixels(gpu->render, res->id, NULL, rect, pixels, stride_bytes);
}

/* UPDATE_CURSOR with a resource: its pixels are taken now, and the resource may go. */
static enum vgd_status shape_set(struct vgd_gpu_call *call, const struct vgd_cmd_update_cursor *cmd)
{
    struct vgd_gpu *gpu = call->gpu;
    const struct vgd_resource *res = vgd_resource_find(gpu, cmd->resource_id);
    bool is_blob = res != NULL && res->kind == VGD_RESOURCE_BLOB;
    if (res == NULL || (!is_blob && !can_show(res))) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32 " is %s", cmd->resource_id,
                          res == NULL ? "unknown" : "no picture");
    }
    if (is_blob && res->as.blob.size_bytes < VGD_CURSOR_BYTES) {
        return VGD_REFUSE(call, VGD_RANGE, "res=%" PRIu32 " of %" PRIu64 " bytes is no cursor",
                          res->id, res->as.blob.size_bytes);
    }
    if (!res->in_renderer) {
        return VGD_REFUSE(call, VGD_LOST, "res=%" PRIu32 " is lost", res->id);
    }
    enum vgd_status st = vgd_record_reserve(gpu, VGD_RECORD_CURSOR_BYTES);
    if (st != VGD_OK) {
        return VGD_REFUSE(call, st, "the journal has no room for a cursor");
    }
    uint8_t *pixels = malloc(VGD_CURSOR_BYTES);
    if (pixels == NULL) {
        return VGD_NO_MEMORY;
    }
    st = shape_read(gpu, res, pixels);
    if (st != VGD_OK) {
        free(pixels);
        return st;
    }
    struct vgd_cursor *cursor = &gpu->cursors[cmd->pos.scanout_id];
    free(cursor->pixels);
    *cursor = (struct vgd_cursor){
        .pixels = pixels,
        .pos = cmd->pos,
        .hot_x_px = cmd->hot_x_px,
        .hot_y_px = cmd->hot_y_px,
        .visible = true,
    };
    vgd_record_cursor(gpu, cmd->pos.scanout_id);
    cursor_show(gpu, cmd->pos.scanout_id);
    return VGD_OK;
}

enum vgd_status vgd_do_cursor(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_update_cursor cmd;
    enum vgd_status st = vgd_cmd_update_cursor_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    if (cmd.pos.scanout_id >= gpu->config.n_scanouts) {
        return VGD_REFUSE(call, VGD_NO_SCANOUT, "scanout %" PRIu32 " of %" PRIu32,
                          cmd.pos.scanout_id, gpu->config.n_scanouts);
    }
    bool moves = call->hdr.type == VGD_CMD_MOVE_CURSOR;
    if (!moves && cmd.resource_id != 0) {
        /* A journal has these with their pixels instead. */
        return gpu->replaying ? VGD_RANGE : shape_set(call, &cmd);
    }
    if (!gpu->replaying) {
        st = vgd_record_reserve(gpu, call->cmd_bytes);
        if (st != VGD_OK) {
            return VGD_REFUSE(call, st, "the journal has no room for %zu bytes", call->cmd_bytes);
        }
    }
    struct vgd_cursor *cursor = &gpu->cursors[cmd.pos.scanout_id];
    cursor->pos = cmd.pos;
    if (!moves) {
        cursor->visible = false;
    }
    if (gpu->replaying) {
        return VGD_OK;
    }
    vgd_record_append(gpu, call->cmd, call->cmd_bytes);
    if (moves) {
        gpu->config.display->ops->cursor_move(gpu->config.display, cmd.pos);
    } else {
        cursor_show(gpu, cmd.pos.scanout_id);
    }
    return VGD_OK;
}

enum vgd_status vgd_do_cursor_record(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_reader fixed =
        vgd_reader_of(call->body.pos, vgd_reader_left(&call->body) < VGD_CMD_UPDATE_CURSOR_SIZE
                                          ? vgd_reader_left(&call->body)
                                          : VGD_CMD_UPDATE_CURSOR_SIZE);
    struct vgd_cmd_update_cursor cmd;
    enum vgd_status st = vgd_cmd_update_cursor_decode(&fixed, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    vgd_read_skip(&call->body, VGD_CMD_UPDATE_CURSOR_SIZE);
    if (cmd.pos.scanout_id >= gpu->config.n_scanouts) {
        return VGD_NO_SCANOUT;
    }
    uint8_t *pixels = malloc(VGD_CURSOR_BYTES);
    if (pixels == NULL) {
        return VGD_NO_MEMORY;
    }
    vgd_read_bytes(&call->body, pixels, VGD_CURSOR_BYTES);
    st = vgd_reader_finish(&call->body);
    if (st != VGD_OK) {
        free(pixels);
        return st;
    }
    struct vgd_cursor *cursor = &gpu->cursors[cmd.pos.scanout_id];
    free(cursor->pixels);
    *cursor = (struct vgd_cursor){
        .pixels = pixels,
        .pos = cmd.pos,
        .hot_x_px = cmd.hot_x_px,
        .hot_y_px = cmd.hot_y_px,
        .visible = true,
    };
    return VGD_OK;
}

void vgd_scanouts_finish(struct vgd_gpu *gpu)
{
    struct vgd_display *display = gpu->config.display;
    for (uint32_t i = 0; i < gpu->config.n_scanouts; i++) {
        if (gpu->scanouts[i].res != NULL) {
            turn_off(gpu, i);
        }
        struct vgd_cursor *cursor = &gpu->cursors[i];
        if (cursor->visible) {
            display->ops->cursor_update(display, cursor->pos, 0, 0, NULL);
        }
        free(cursor->pixels);
        *cursor = (struct vgd_cursor){0};
    }
}

void vgd_gpu_redisplay(struct vgd_gpu *gpu)
{
    for (uint32_t i = 0; i < gpu->config.n_scanouts; i++) {
        if (gpu->scanouts[i].res != NULL) {
            show(gpu, i);
        }
        if (gpu->cursors[i].visible) {
            cursor_show(gpu, i);
        }
    }
}
