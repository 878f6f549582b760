/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "checked.h"
#include "device.h"
#include "limits.h"
#include "texture.h"

struct vgd_resource *vgd_resource_find(const struct vgd_gpu *gpu, uint32_t id)
{
    return id == 0 ? NULL : vgd_idmap_find(&gpu->resources, id);
}

bool vgd_rect_fits(struct vgd_rect r, uint32_t w_px, uint32_t h_px)
{
    return r.x_px <= w_px && r.w_px <= w_px - r.x_px && r.y_px <= h_px && r.h_px <= h_px - r.y_px;
}

bool vgd_format_2d_known(uint32_t format)
{
    switch (format) {
    case VGD_FORMAT_B8G8R8A8_UNORM:
    case VGD_FORMAT_B8G8R8X8_UNORM:
    case VGD_FORMAT_A8R8G8B8_UNORM:
    case VGD_FORMAT_X8R8G8B8_UNORM:
    case VGD_FORMAT_R8G8B8A8_UNORM:
    case VGD_FORMAT_X8B8G8R8_UNORM:
    case VGD_FORMAT_A8B8G8R8_UNORM:
    case VGD_FORMAT_R8G8B8X8_UNORM:
        return true;
    default:
        return false;
    }
}

enum vgd_status vgd_resource_admit(struct vgd_gpu_call *call, uint32_t id, uint64_t size_bytes)
{
    const struct vgd_gpu *gpu = call->gpu;
    const struct vgd_gpu_limits *limits = &gpu->config.limits;
    if (id == 0 || vgd_resource_find(gpu, id) != NULL) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32 " is %s", id,
                          id == 0 ? "no id" : "in use");
    }
    if (gpu->resources.used_count >= limits->resources_max) {
        return VGD_REFUSE(call, VGD_LIMIT, "res=%" PRIu32 ": resources_max %" PRIu32, id,
                          limits->resources_max);
    }
    if (size_bytes > limits->resource_bytes_max - gpu->counters->resource_bytes_live) {
        return VGD_REFUSE(call, VGD_LIMIT,
                          "res=%" PRIu32 " of %" PRIu64 " bytes: resource_bytes_max %" PRIu64, id,
                          size_bytes, limits->resource_bytes_max);
    }
    return VGD_OK;
}

enum vgd_status vgd_resource_materialise(struct vgd_gpu *gpu, struct vgd_resource *res)
{
    enum vgd_status st = VGD_UNSUPPORTED;
    switch (res->kind) {
    case VGD_RESOURCE_2D:
        st = gpu->ops->resource_create_2d(gpu->render, res->id, res->as.format, res->w_px,
                                          res->h_px);
        break;
    case VGD_RESOURCE_3D:
        if (gpu->info.has_3d) { /* a new worker may have given it up */
            st = gpu->ops->resource_create_3d(gpu->render, &res->as.args_3d);
        }
        break;
    case VGD_RESOURCE_BLOB:
        if (vgd_blob_is_guest(res) && res->backing.iov != NULL &&
            (gpu->info.blob_mems >> VGD_BLOB_MEM_GUEST & 1) != 0) { /* a new worker may not */
            st = gpu->ops->resource_create_blob(
                gpu->render, &(struct vgd_render_blob){.res_id = res->id,
                                                       .mem = res->as.blob.mem,
                                                       .flags = res->as.blob.flags,
                                                       .size_bytes = res->as.blob.size_bytes,
                                                       .iov = res->backing.iov,
                                                       .n_iov = res->backing.n_iov});
        }
        break;
    }
    res->in_renderer = st == VGD_OK;
    return st;
}

enum vgd_status vgd_resource_add(struct vgd_gpu *gpu, const struct vgd_resource *made,
                                 struct vgd_resource **out)
{
    struct vgd_resource *res = malloc(sizeof(*res));
    if (res == NULL) {
        return VGD_NO_MEMORY;
    }
    *res = *made;
    enum vgd_status st = vgd_idmap_add(&gpu->resources, res->id, res);
    if (st != VGD_OK) {
        free(res);
        return st;
    }
    vgd_gauge(&gpu->counters->resources_live, gpu->resources.used_count);
    vgd_count(&gpu->counters->resource_bytes_live, res->size_bytes);
    vgd_count(&gpu->counters->backing_entries_live, res->backing.n_entries);
    vgd_count_resource(gpu, res, false);
    vgd_count_backing(gpu, res, false);
    *out = res;
    return VGD_OK;
}

void vgd_resource_drop(struct vgd_gpu *gpu, struct vgd_resource *res)
{
    vgd_backing_finish(gpu, res);
    (void)vgd_idmap_remove(&gpu->resources, res->id);
    vgd_gauge(&gpu->counters->resources_live, gpu->resources.used_count);
    vgd_count(&gpu->counters->resource_bytes_live, -res->size_bytes);
    vgd_count_resource(gpu, res, true);
    free(res);
}

/* Keep a copy of @made, in the table and in the renderer. */
static enum vgd_status create(struct vgd_gpu_call *call, const struct vgd_resource *made)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_resource *res = NULL;
    enum vgd_status st = vgd_resource_add(gpu, made, &res);
    if (st == VGD_OK && !gpu->replaying) {
        st = vgd_resource_materialise(gpu, res);
        if (st != VGD_OK) {
            vgd_resource_drop(gpu, res);
        }
    }
    return st;
}

enum vgd_status vgd_do_resource_create_2d(struct vgd_gpu_call *call)
{
    struct vgd_cmd_resource_create_2d cmd;
    enum vgd_status st = vgd_cmd_resource_create_2d_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    if (!vgd_format_2d_known(cmd.format)) {
        return VGD_REFUSE(call, VGD_RANGE, "res=%" PRIu32 " format %" PRIu32, cmd.resource_id,
                          cmd.format);
    }
    if (cmd.w_px == 0 || cmd.h_px == 0 || cmd.w_px > VGD_RESOURCE_2D_SIDE_PX_MAX ||
        cmd.h_px > VGD_RESOURCE_2D_SIDE_PX_MAX) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " %" PRIu32 "x%" PRIu32 ", side_px_max %u",
                          cmd.resource_id, cmd.w_px, cmd.h_px, VGD_RESOURCE_2D_SIDE_PX_MAX);
    }
    struct vgd_resource made = {
        .id = cmd.resource_id,
        .kind = VGD_RESOURCE_2D,
        .w_px = cmd.w_px,
        .h_px = cmd.h_px,
        .size_bytes = (uint64_t)cmd.w_px * cmd.h_px * VGD_BYTES_PER_PIXEL,
        .as.format = cmd.format,
    };
    st = vgd_resource_admit(call, made.id, made.size_bytes);
    return st == VGD_OK ? create(call, &made) : st;
}

enum vgd_status vgd_do_resource_create_3d(struct vgd_gpu_call *call)
{
    struct vgd_cmd_resource_create_3d cmd;
    enum vgd_status st = vgd_cmd_resource_create_3d_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    if (!vgd_texture_in_limits(&cmd)) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " target %" PRIu32 " format %" PRIu32 " %" PRIu32
                          "x%" PRIu32 "x%" PRIu32 " array %" PRIu32 " level %" PRIu32
                          " samples %" PRIu32,
                          cmd.resource_id, cmd.target, cmd.format, cmd.width, cmd.height, cmd.depth,
                          cmd.array_size, cmd.last_level, cmd.nr_samples);
    }
    struct vgd_resource made = {
        .id = cmd.resource_id,
        .kind = VGD_RESOURCE_3D,
        .w_px = cmd.width,
        .h_px = cmd.height,
        .size_bytes = vgd_texture_bytes(&cmd),
        .as.args_3d = cmd,
    };
    st = vgd_resource_admit(call, made.id, made.size_bytes);
    return st == VGD_OK ? create(call, &made) : st;
}

enum vgd_status vgd_do_resource_unref(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_resource_unref cmd;
    enum vgd_status st = vgd_cmd_resource_unref_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32, cmd.resource_id);
    }
    vgd_scanouts_forget_resource(gpu, res);
    vgd_window_forget_resource(call, res);
    vgd_contexts_forget_resource(gpu, res);
    if (res->in_renderer) {
        gpu->ops->resource_unref(gpu->render, res->id);
    }
    vgd_resource_drop(gpu, res);
    return VGD_OK;
}

/* Where a transfer of @rect ends in the backing; false if that is beyond 2^64. */
static bool transfer_end(const struct vgd_resource *res, struct vgd_rect rect,
                         uint64_t offset_bytes, uint64_t *out)
{
    uint64_t stride_bytes = (uint64_t)res->w_px * VGD_BYTES_PER_PIXEL;
    uint64_t span_bytes =
        stride_bytes * (rect.h_px - 1) + (uint64_t)rect.w_px * VGD_BYTES_PER_PIXEL;
    return vgd_add_u64(offset_bytes, span_bytes, out);
}

enum vgd_status vgd_do_transfer_to_host_2d(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_transfer_to_host_2d cmd;
    enum vgd_status st = vgd_cmd_transfer_to_host_2d_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    const struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res != NULL && vgd_blob_is_guest(res)) {
        return VGD_OK; /* the guest's pages are all there is; Linux asks for a cursor's */
    }
    if (res == NULL || res->kind != VGD_RESOURCE_2D) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32 " is %s", cmd.resource_id,
                          res == NULL ? "unknown" : "not 2D");
    }
    if (res->backing.iov == NULL || !res->in_renderer) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "res=%" PRIu32 " has no backing", res->id);
    }
    if (!vgd_rect_fits(cmd.rect, res->w_px, res->h_px)) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " rect %" PRIu32 "x%" PRIu32 "+%" PRIu32 "+%" PRIu32
                          " outside %" PRIu32 "x%" PRIu32,
                          res->id, cmd.rect.w_px, cmd.rect.h_px, cmd.rect.x_px, cmd.rect.y_px,
                          res->w_px, res->h_px);
    }
    if (cmd.rect.w_px == 0 || cmd.rect.h_px == 0) {
        return VGD_OK;
    }
    uint64_t end;
    if (!transfer_end(res, cmd.rect, cmd.offset_bytes, &end) || end > res->backing.size_bytes) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " %" PRIu32 "x%" PRIu32 " at offset %" PRIu64
                          " of a backing of %" PRIu64 " bytes",
                          res->id, cmd.rect.w_px, cmd.rect.h_px, cmd.offset_bytes,
                          res->backing.size_bytes);
    }
    vgd_count(&gpu->counters->transfers, 1);
    st = gpu->ops->transfer_to_host_2d(gpu->render, res->id, cmd.rect, cmd.offset_bytes);
    if (st == VGD_OK) {
        vgd_count_transfer(gpu, true,
                           (uint64_t)cmd.rect.w_px * cmd.rect.h_px * VGD_BYTES_PER_PIXEL);
    }
    return st;
}

/* A random one (RFC 9562, version 4). */
static enum vgd_status uuid_make(uint8_t uuid[VGD_RESP_RESOURCE_UUID_SIZE])
{
    if (getrandom(uuid, VGD_RESP_RESOURCE_UUID_SIZE, GRND_NONBLOCK) !=
        VGD_RESP_RESOURCE_UUID_SIZE) {
        return VGD_HOST_FAILED;
    }
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
    return VGD_OK;
}

enum vgd_status vgd_do_assign_uuid(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_resource_assign_uuid cmd;
    enum vgd_status st = vgd_cmd_resource_assign_uuid_decode(&call->body, &cmd);
    if (st == VGD_OK) {
        st = vgd_room_for(call, VGD_RESP_RESOURCE_UUID_SIZE);
    }
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32, cmd.resource_id);
    }
    if (!res->has_uuid) {
        st = vgd_record_reserve(gpu, VGD_RECORD_UUID_BYTES);
        if (st != VGD_OK) {
            return VGD_REFUSE(call, st, "the journal has no room for a UUID");
        }
        st = uuid_make(res->uuid);
        if (st != VGD_OK) {
            return st;
        }
        res->has_uuid = true;
        vgd_record_uuid(gpu, res);
    }
    struct vgd_gpu_request *req = call->req;
    req->priv.ok_type = VGD_RESP_OK_RESOURCE_UUID;
    req->priv.ok_body_bytes = VGD_RESP_RESOURCE_UUID_SIZE;
    memcpy(req->priv.ok_body, res->uuid, sizeof(res->uuid));
    return VGD_OK;
}

enum vgd_status vgd_do_uuid_record(struct vgd_gpu_call *call)
{
    struct vgd_resource *res = vgd_resource_find(call->gpu, vgd_read_le32(&call->body));
    uint8_t uuid[VGD_RESP_RESOURCE_UUID_SIZE];
    vgd_read_bytes(&call->body, uuid, sizeof(uuid));
    enum vgd_status st = vgd_reader_finish(&call->body);
    if (st != VGD_OK) {
        return st;
    }
    if (res == NULL || res->has_uuid) {
        return VGD_NO_RESOURCE;
    }
    res->has_uuid = true;
    memcpy(res->uuid, uuid, sizeof(uuid));
    return VGD_OK;
}

void vgd_resource_refill(struct vgd_gpu *gpu, const struct vgd_resource *res)
{
    if (res->kind != VGD_RESOURCE_2D || !res->in_renderer || res->backing.iov == NULL) {
        return;
    }
    uint64_t rows = res->backing.size_bytes / ((uint64_t)res->w_px * VGD_BYTES_PER_PIXEL);
    if (rows == 0) {
        return;
    }
    struct vgd_rect rect = {
        .w_px = res->w_px,
        .h_px = rows < res->h_px ? (uint32_t)rows : res->h_px,
    };
    enum vgd_status st = gpu->ops->transfer_to_host_2d(gpu->render, res->id, rect, 0);
    if (st != VGD_OK) {
        vgd_log(VGD_LOG_WARNING, "restore", "res=%" PRIu32 " stays black: %s", res->id,
                vgd_status_text(st));
    }
}

void vgd_resources_finish(struct vgd_gpu *gpu)
{
    uint32_t cursor = 0;
    struct vgd_resource *res;
    while ((res = vgd_idmap_next(&gpu->resources, &cursor, NULL)) != NULL) {
        vgd_backing_finish(gpu, res);
        vgd_count_resource(gpu, res, true);
        free(res);
    }
    vgd_idmap_finish(&gpu->resources);
    vgd_gauge(&gpu->counters->resources_live, 0);
    vgd_gauge(&gpu->counters->resource_bytes_live, 0);
}
