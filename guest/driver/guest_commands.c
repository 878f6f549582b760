/* SPDX-License-Identifier: MIT */
/* The driver's commands one at a time, and the memory behind resources: on top of guest_gpu.c. */
#include <stdlib.h>
#include <string.h>

#include "guest_gpu.h"

#define GAP_BYTES VGD_GUEST_PAGE_BYTES

uint32_t vgd_guest_call_simple(struct vgd_guest_gpu *gpu, uint32_t type, uint32_t ctx_id,
                               const void *body, uint32_t body_bytes)
{
    struct vgd_guest_request req = {
        .hdr = {.type = type, .ctx_id = ctx_id},
        .body = body,
        .body_bytes = body_bytes,
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    return vgd_guest_gpu_call(gpu, &req, NULL, 0);
}

uint32_t vgd_guest_call_entries(struct vgd_guest_gpu *gpu, uint32_t type, uint32_t ctx_id,
                                const void *body, uint32_t body_bytes,
                                const struct vgd_mem_entry *entries, uint32_t n_entries)
{
    size_t data_bytes = (size_t)n_entries * VGD_MEM_ENTRY_SIZE;
    uint8_t *data = malloc(data_bytes == 0 ? 1 : data_bytes);
    if (data == NULL) {
        return 0;
    }
    struct vgd_writer w = vgd_writer_of(data, data_bytes);
    for (uint32_t i = 0; i < n_entries; i++) {
        vgd_mem_entry_encode(&w, &entries[i]);
    }
    struct vgd_guest_request req = {
        .hdr = {.type = type, .ctx_id = ctx_id},
        .body = body,
        .body_bytes = body_bytes,
        .data = data,
        .data_bytes = (uint32_t)data_bytes,
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    uint32_t answer = vgd_guest_gpu_call(gpu, &req, NULL, 0);
    free(data);
    return answer;
}

uint32_t vgd_guest_get_display_info(struct vgd_guest_gpu *gpu, struct vgd_resp_display_info *out)
{
    uint8_t body[VGD_RESP_DISPLAY_INFO_SIZE];
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_GET_DISPLAY_INFO},
        .resp_bytes = VGD_CTRL_HDR_SIZE + VGD_RESP_DISPLAY_INFO_SIZE,
    };
    uint32_t type = vgd_guest_gpu_call(gpu, &req, body, sizeof(body));
    struct vgd_reader r = vgd_reader_of(body, sizeof(body));
    if (vgd_resp_display_info_decode(&r, out) != VGD_OK) {
        return 0;
    }
    return type;
}

uint32_t vgd_guest_get_edid(struct vgd_guest_gpu *gpu, uint32_t scanout, struct vgd_resp_edid *out)
{
    uint8_t body[VGD_CMD_GET_EDID_SIZE];
    uint8_t resp[VGD_RESP_EDID_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_get_edid_encode(&w, &(struct vgd_cmd_get_edid){.scanout_id = scanout});
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_GET_EDID},
        .body = body,
        .body_bytes = sizeof(body),
        .resp_bytes = VGD_CTRL_HDR_SIZE + VGD_RESP_EDID_SIZE,
    };
    uint32_t type = vgd_guest_gpu_call(gpu, &req, resp, sizeof(resp));
    struct vgd_reader r = vgd_reader_of(resp, sizeof(resp));
    if (vgd_resp_edid_decode(&r, out) != VGD_OK) {
        return 0;
    }
    return type;
}

uint32_t vgd_guest_create_2d(struct vgd_guest_gpu *gpu, uint32_t res_id, uint32_t format,
                             uint32_t w_px, uint32_t h_px)
{
    uint8_t body[VGD_CMD_RESOURCE_CREATE_2D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_create_2d cmd = {
        .resource_id = res_id, .format = format, .w_px = w_px, .h_px = h_px};
    vgd_cmd_resource_create_2d_encode(&w, &cmd);
    return vgd_guest_call_simple(gpu, VGD_CMD_RESOURCE_CREATE_2D, 0, body, sizeof(body));
}

uint32_t vgd_guest_unref(struct vgd_guest_gpu *gpu, uint32_t res_id)
{
    uint8_t body[VGD_CMD_RESOURCE_UNREF_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_resource_unref_encode(&w, &(struct vgd_cmd_resource_unref){.resource_id = res_id});
    return vgd_guest_call_simple(gpu, VGD_CMD_RESOURCE_UNREF, 0, body, sizeof(body));
}

uint32_t vgd_guest_attach(struct vgd_guest_gpu *gpu, uint32_t res_id,
                          const struct vgd_mem_entry *entries, uint32_t n_entries)
{
    uint8_t body[VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_attach_backing cmd = {.resource_id = res_id, .nr_entries = n_entries};
    vgd_cmd_resource_attach_backing_encode(&w, &cmd);
    return vgd_guest_call_entries(gpu, VGD_CMD_RESOURCE_ATTACH_BACKING, 0, body, sizeof(body),
                                  entries, n_entries);
}

uint32_t vgd_guest_detach(struct vgd_guest_gpu *gpu, uint32_t res_id)
{
    uint8_t body[VGD_CMD_RESOURCE_DETACH_BACKING_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_detach_backing cmd = {.resource_id = res_id};
    vgd_cmd_resource_detach_backing_encode(&w, &cmd);
    return vgd_guest_call_simple(gpu, VGD_CMD_RESOURCE_DETACH_BACKING, 0, body, sizeof(body));
}

uint32_t vgd_guest_transfer_2d(struct vgd_guest_gpu *gpu, uint32_t res_id, struct vgd_rect rect,
                               uint64_t offset_bytes)
{
    uint8_t body[VGD_CMD_TRANSFER_TO_HOST_2D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_transfer_to_host_2d cmd = {
        .rect = rect, .offset_bytes = offset_bytes, .resource_id = res_id};
    vgd_cmd_transfer_to_host_2d_encode(&w, &cmd);
    return vgd_guest_call_simple(gpu, VGD_CMD_TRANSFER_TO_HOST_2D, 0, body, sizeof(body));
}

uint32_t vgd_guest_set_scanout(struct vgd_guest_gpu *gpu, uint32_t scanout, uint32_t res_id,
                               struct vgd_rect rect)
{
    uint8_t body[VGD_CMD_SET_SCANOUT_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_set_scanout cmd = {.rect = rect, .scanout_id = scanout, .resource_id = res_id};
    vgd_cmd_set_scanout_encode(&w, &cmd);
    return vgd_guest_call_simple(gpu, VGD_CMD_SET_SCANOUT, 0, body, sizeof(body));
}

uint32_t vgd_guest_flush(struct vgd_guest_gpu *gpu, uint32_t res_id, struct vgd_rect rect)
{
    uint8_t body[VGD_CMD_RESOURCE_FLUSH_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_flush cmd = {.rect = rect, .resource_id = res_id};
    vgd_cmd_resource_flush_encode(&w, &cmd);
    return vgd_guest_call_simple(gpu, VGD_CMD_RESOURCE_FLUSH, 0, body, sizeof(body));
}

uint32_t vgd_guest_cursor(struct vgd_guest_gpu *gpu, uint32_t type,
                          const struct vgd_cmd_update_cursor *cursor)
{
    uint8_t body[VGD_CMD_UPDATE_CURSOR_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_update_cursor_encode(&w, cursor);
    struct vgd_guest_request req = {
        .queue = VGD_GUEST_CURSOR,
        .hdr = {.type = type},
        .body = body,
        .body_bytes = sizeof(body),
    };
    return vgd_guest_gpu_call(gpu, &req, NULL, 0);
}

uint32_t vgd_guest_get_capset_info(struct vgd_guest_gpu *gpu, uint32_t idx,
                                   struct vgd_resp_capset_info *out)
{
    uint8_t body[VGD_CMD_GET_CAPSET_INFO_SIZE];
    uint8_t resp[VGD_RESP_CAPSET_INFO_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_get_capset_info_encode(&w, &(struct vgd_cmd_get_capset_info){.capset_idx = idx});
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_GET_CAPSET_INFO},
        .body = body,
        .body_bytes = sizeof(body),
        .resp_bytes = VGD_CTRL_HDR_SIZE + VGD_RESP_CAPSET_INFO_SIZE,
    };
    uint32_t type = vgd_guest_gpu_call(gpu, &req, resp, sizeof(resp));
    struct vgd_reader r = vgd_reader_of(resp, sizeof(resp));
    if (vgd_resp_capset_info_decode(&r, out) != VGD_OK) {
        return 0;
    }
    return type;
}

uint32_t vgd_guest_get_capset(struct vgd_guest_gpu *gpu, uint32_t id, uint32_t version, void *out,
                              uint32_t max_bytes, uint32_t *out_bytes)
{
    uint8_t body[VGD_CMD_GET_CAPSET_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_get_capset get = {.capset_id = id, .capset_version = version};
    vgd_cmd_get_capset_encode(&w, &get);
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_GET_CAPSET},
        .body = body,
        .body_bytes = sizeof(body),
        .resp_bytes = VGD_CTRL_HDR_SIZE + max_bytes,
    };
    *out_bytes = 0;
    struct vgd_guest_command *cmd = vgd_guest_gpu_begin(gpu, &req, true);
    if (cmd == NULL) {
        return 0;
    }
    uint32_t type = 0;
    if (vgd_guest_gpu_wait(gpu, cmd, (int)vgd_guest_gpu_timeout_ms(gpu))) {
        type = cmd->resp.type;
        *out_bytes = cmd->resp_body_bytes;
        memcpy(out, cmd->priv.resp + VGD_CTRL_HDR_SIZE,
               cmd->resp_body_bytes < max_bytes ? cmd->resp_body_bytes : max_bytes);
    }
    vgd_guest_gpu_end(gpu, cmd);
    return type;
}

uint32_t vgd_guest_ctx_create(struct vgd_guest_gpu *gpu, uint32_t ctx_id, uint32_t context_init,
                              const char *name)
{
    uint8_t body[VGD_CMD_CTX_CREATE_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_ctx_create cmd = {.context_init = context_init};
    size_t len = strlen(name);
    cmd.name_len_bytes = (uint32_t)(len < sizeof(cmd.debug_name) ? len : sizeof(cmd.debug_name));
    memcpy(cmd.debug_name, name, cmd.name_len_bytes);
    vgd_cmd_ctx_create_encode(&w, &cmd);
    return vgd_guest_call_simple(gpu, VGD_CMD_CTX_CREATE, ctx_id, body, sizeof(body));
}

uint32_t vgd_guest_ctx_destroy(struct vgd_guest_gpu *gpu, uint32_t ctx_id)
{
    return vgd_guest_call_simple(gpu, VGD_CMD_CTX_DESTROY, ctx_id, NULL, 0);
}

static uint32_t ctx_resource(struct vgd_guest_gpu *gpu, uint32_t type, uint32_t ctx_id,
                             uint32_t res_id)
{
    uint8_t body[VGD_CMD_CTX_RESOURCE_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_ctx_resource_encode(&w, &(struct vgd_cmd_ctx_resource){.resource_id = res_id});
    return vgd_guest_call_simple(gpu, type, ctx_id, body, sizeof(body));
}

uint32_t vgd_guest_ctx_attach(struct vgd_guest_gpu *gpu, uint32_t ctx_id, uint32_t res_id)
{
    return ctx_resource(gpu, VGD_CMD_CTX_ATTACH_RESOURCE, ctx_id, res_id);
}

uint32_t vgd_guest_ctx_detach(struct vgd_guest_gpu *gpu, uint32_t ctx_id, uint32_t res_id)
{
    return ctx_resource(gpu, VGD_CMD_CTX_DETACH_RESOURCE, ctx_id, res_id);
}

uint32_t vgd_guest_create_3d(struct vgd_guest_gpu *gpu, uint32_t ctx_id,
                             const struct vgd_cmd_resource_create_3d *create)
{
    uint8_t body[VGD_CMD_RESOURCE_CREATE_3D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_resource_create_3d_encode(&w, create);
    return vgd_guest_call_simple(gpu, VGD_CMD_RESOURCE_CREATE_3D, ctx_id, body, sizeof(body));
}

uint32_t vgd_guest_transfer_3d(struct vgd_guest_gpu *gpu, uint32_t type, uint32_t ctx_id,
                               const struct vgd_cmd_transfer_host_3d *transfer)
{
    uint8_t body[VGD_CMD_TRANSFER_HOST_3D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_transfer_host_3d_encode(&w, transfer);
    struct vgd_guest_request req = {
        .hdr = {.type = type, .ctx_id = ctx_id, .flags = VGD_FLAG_FENCE, .fence_id = 1},
        .body = body,
        .body_bytes = sizeof(body),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    return vgd_guest_gpu_call(gpu, &req, NULL, 0);
}

struct vgd_guest_request vgd_guest_submit_request(uint32_t ctx_id, const uint32_t *dwords,
                                                  uint32_t n_dwords, uint64_t fence_id,
                                                  uint8_t body[VGD_CMD_SUBMIT_3D_SIZE])
{
    struct vgd_writer w = vgd_writer_of(body, VGD_CMD_SUBMIT_3D_SIZE);
    vgd_cmd_submit_3d_encode(&w, &(struct vgd_cmd_submit_3d){.size_bytes = n_dwords * 4});
    return (struct vgd_guest_request){
        .hdr = {.type = VGD_CMD_SUBMIT_3D,
                .ctx_id = ctx_id,
                .flags = fence_id != 0 ? VGD_FLAG_FENCE : 0,
                .fence_id = fence_id},
        .body = body,
        .body_bytes = VGD_CMD_SUBMIT_3D_SIZE,
        .data = dwords,
        .data_bytes = n_dwords * 4,
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
}

uint32_t vgd_guest_submit_3d(struct vgd_guest_gpu *gpu, uint32_t ctx_id, const uint32_t *dwords,
                             uint32_t n_dwords, uint64_t fence_id)
{
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    struct vgd_guest_request req =
        vgd_guest_submit_request(ctx_id, dwords, n_dwords, fence_id, body);
    return vgd_guest_gpu_call(gpu, &req, NULL, 0);
}

bool vgd_guest_backing_create(struct vgd_guest_gpu *gpu, uint64_t size_bytes, uint32_t n_entries,
                              struct vgd_guest_backing *out)
{
    struct vgd_guest_backing b = {.size_bytes = size_bytes, .gaps = n_entries > 1};
    b.entries = calloc(n_entries, sizeof(*b.entries));
    if (b.entries == NULL || n_entries == 0) {
        free(b.entries);
        return false;
    }
    uint64_t piece = (size_bytes + n_entries - 1) / n_entries;
    piece = (piece + VGD_GUEST_PAGE_BYTES - 1) / VGD_GUEST_PAGE_BYTES * VGD_GUEST_PAGE_BYTES;
    uint64_t left = size_bytes;
    while (left > 0) {
        uint64_t len = left < piece ? left : piece;
        uint64_t gpa;
        /* A page more behind each of several pieces, so that no two are neighbours. */
        void *bytes = vgd_guest_ram_alloc(vgd_guest_gpu_ram(gpu),
                                          len + (n_entries > 1 ? GAP_BYTES : 0), &gpa);
        if (bytes == NULL || len > UINT32_MAX) {
            vgd_guest_backing_destroy(gpu, &b);
            return false;
        }
        if (n_entries == 1) {
            b.bytes = bytes;
        }
        b.entries[b.n_entries++] = (struct vgd_mem_entry){.addr = gpa, .len_bytes = (uint32_t)len};
        left -= len;
    }
    /* Backwards: the order of entries is not the order of addresses. */
    for (uint32_t i = 0; i < b.n_entries / 2; i++) {
        struct vgd_mem_entry *a = &b.entries[i];
        struct vgd_mem_entry *z = &b.entries[b.n_entries - 1 - i];
        if (a->len_bytes == z->len_bytes) {
            struct vgd_mem_entry kept = *a;
            *a = *z;
            *z = kept;
        }
    }
    *out = b;
    return true;
}

void vgd_guest_backing_destroy(struct vgd_guest_gpu *gpu, struct vgd_guest_backing *backing)
{
    for (uint32_t i = 0; i < backing->n_entries; i++) {
        vgd_guest_ram_free(vgd_guest_gpu_ram(gpu), backing->entries[i].addr,
                           backing->entries[i].len_bytes + (backing->gaps ? GAP_BYTES : 0));
    }
    free(backing->entries);
    *backing = (struct vgd_guest_backing){0};
}

static void backing_copy(struct vgd_guest_gpu *gpu, const struct vgd_guest_backing *backing,
                         uint64_t offset_bytes, uint8_t *out, const uint8_t *in, uint64_t n_bytes)
{
    uint64_t start = 0;
    for (uint32_t i = 0; i < backing->n_entries && n_bytes > 0; i++) {
        uint64_t len = backing->entries[i].len_bytes;
        if (offset_bytes < start + len) {
            uint64_t skip = offset_bytes - start;
            uint64_t now = len - skip < n_bytes ? len - skip : n_bytes;
            uint8_t *at =
                vgd_guest_ram_at(vgd_guest_gpu_ram(gpu), backing->entries[i].addr + skip, now);
            if (in != NULL) {
                memcpy(at, in, now);
                in += now;
            } else {
                memcpy(out, at, now);
                out += now;
            }
            offset_bytes += now;
            n_bytes -= now;
        }
        start += len;
    }
}

void vgd_guest_backing_write(struct vgd_guest_gpu *gpu, const struct vgd_guest_backing *backing,
                             uint64_t offset_bytes, const void *data, uint64_t n_bytes)
{
    backing_copy(gpu, backing, offset_bytes, NULL, data, n_bytes);
}

void vgd_guest_backing_read(struct vgd_guest_gpu *gpu, const struct vgd_guest_backing *backing,
                            uint64_t offset_bytes, void *out, uint64_t n_bytes)
{
    backing_copy(gpu, backing, offset_bytes, out, NULL, n_bytes);
}
