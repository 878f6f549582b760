/* SPDX-License-Identifier: MIT */
/* Blob commands one at a time, and the host-visible region as the guest's kernel sees it. */
#include <string.h>

#include "guest_gpu.h"

uint32_t vgd_guest_create_blob(struct vgd_guest_gpu *gpu, uint32_t ctx_id,
                               const struct vgd_cmd_resource_create_blob *cmd,
                               const struct vgd_mem_entry *entries, uint32_t n_entries)
{
    uint8_t body[VGD_CMD_RESOURCE_CREATE_BLOB_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_resource_create_blob_encode(&w, cmd);
    return vgd_guest_call_entries(gpu, VGD_CMD_RESOURCE_CREATE_BLOB, ctx_id, body, sizeof(body),
                                  entries, n_entries);
}

struct vgd_guest_request vgd_guest_map_request(uint32_t res_id, uint64_t offset_bytes,
                                               uint8_t body[VGD_CMD_RESOURCE_MAP_BLOB_SIZE])
{
    struct vgd_writer w = vgd_writer_of(body, VGD_CMD_RESOURCE_MAP_BLOB_SIZE);
    struct vgd_cmd_resource_map_blob cmd = {.resource_id = res_id, .offset_bytes = offset_bytes};
    vgd_cmd_resource_map_blob_encode(&w, &cmd);
    return (struct vgd_guest_request){
        .hdr = {.type = VGD_CMD_RESOURCE_MAP_BLOB},
        .body = body,
        .body_bytes = VGD_CMD_RESOURCE_MAP_BLOB_SIZE,
        .resp_bytes = VGD_CTRL_HDR_SIZE + VGD_RESP_MAP_INFO_SIZE,
    };
}

uint32_t vgd_guest_map_blob(struct vgd_guest_gpu *gpu, uint32_t res_id, uint64_t offset_bytes,
                            uint32_t *out_map_info)
{
    uint8_t body[VGD_CMD_RESOURCE_MAP_BLOB_SIZE];
    uint8_t resp[VGD_RESP_MAP_INFO_SIZE];
    struct vgd_guest_request req = vgd_guest_map_request(res_id, offset_bytes, body);
    uint32_t type = vgd_guest_gpu_call(gpu, &req, resp, sizeof(resp));
    struct vgd_reader r = vgd_reader_of(resp, sizeof(resp));
    struct vgd_resp_map_info info;
    if (vgd_resp_map_info_decode(&r, &info) != VGD_OK) {
        return 0;
    }
    if (out_map_info != NULL) {
        *out_map_info = info.map_info;
    }
    if (type == VGD_RESP_OK_MAP_INFO) {
        (void)vgd_guest_frontend_mapped_early(vgd_guest_gpu_frontend(gpu), offset_bytes);
    }
    return type;
}

uint32_t vgd_guest_unmap_blob(struct vgd_guest_gpu *gpu, uint32_t res_id)
{
    uint8_t body[VGD_CMD_RESOURCE_UNMAP_BLOB_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_unmap_blob cmd = {.resource_id = res_id};
    vgd_cmd_resource_unmap_blob_encode(&w, &cmd);
    return vgd_guest_call_simple(gpu, VGD_CMD_RESOURCE_UNMAP_BLOB, 0, body, sizeof(body));
}

uint32_t vgd_guest_assign_uuid(struct vgd_guest_gpu *gpu, uint32_t res_id, uint8_t out_uuid[16])
{
    uint8_t body[VGD_CMD_RESOURCE_ASSIGN_UUID_SIZE];
    uint8_t resp[VGD_RESP_RESOURCE_UUID_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_assign_uuid cmd = {.resource_id = res_id};
    vgd_cmd_resource_assign_uuid_encode(&w, &cmd);
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_RESOURCE_ASSIGN_UUID},
        .body = body,
        .body_bytes = sizeof(body),
        .resp_bytes = VGD_CTRL_HDR_SIZE + VGD_RESP_RESOURCE_UUID_SIZE,
    };
    uint32_t type = vgd_guest_gpu_call(gpu, &req, resp, sizeof(resp));
    struct vgd_reader r = vgd_reader_of(resp, sizeof(resp));
    struct vgd_resp_resource_uuid uuid;
    if (vgd_resp_resource_uuid_decode(&r, &uuid) != VGD_OK) {
        return 0;
    }
    memcpy(out_uuid, uuid.uuid, 16);
    return type;
}

uint32_t vgd_guest_set_scanout_blob(struct vgd_guest_gpu *gpu,
                                    const struct vgd_cmd_set_scanout_blob *cmd)
{
    uint8_t body[VGD_CMD_SET_SCANOUT_BLOB_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_set_scanout_blob_encode(&w, cmd);
    return vgd_guest_call_simple(gpu, VGD_CMD_SET_SCANOUT_BLOB, 0, body, sizeof(body));
}

struct vgd_guest_request vgd_guest_ring_request(uint32_t ctx_id, uint8_t ring_idx,
                                                const uint32_t *dwords, uint32_t n_dwords,
                                                uint64_t fence_id,
                                                uint8_t body[VGD_CMD_SUBMIT_3D_SIZE])
{
    struct vgd_guest_request req =
        vgd_guest_submit_request(ctx_id, dwords, n_dwords, fence_id, body);
    req.hdr.flags |= VGD_FLAG_FENCE | VGD_FLAG_INFO_RING_IDX;
    req.hdr.ring_idx = ring_idx;
    return req;
}

uint32_t vgd_guest_submit_ring(struct vgd_guest_gpu *gpu, uint32_t ctx_id, uint8_t ring_idx,
                               const uint32_t *dwords, uint32_t n_dwords, uint64_t fence_id)
{
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    struct vgd_guest_request req =
        vgd_guest_ring_request(ctx_id, ring_idx, dwords, n_dwords, fence_id, body);
    return vgd_guest_gpu_call(gpu, &req, NULL, 0);
}

static struct vgd_guest_shm *shm_of(const struct vgd_guest_gpu *gpu)
{
    return vgd_guest_frontend_shm(vgd_guest_gpu_frontend((struct vgd_guest_gpu *)gpu));
}

uint64_t vgd_guest_window_bytes(const struct vgd_guest_gpu *gpu)
{
    const struct vgd_guest_shm *shm = shm_of(gpu);
    return shm == NULL ? 0 : vgd_guest_shm_size(shm);
}

uint8_t *vgd_guest_window(struct vgd_guest_gpu *gpu)
{
    const struct vgd_guest_shm *shm = shm_of(gpu);
    return shm == NULL ? NULL : vgd_guest_shm_base(shm);
}

bool vgd_guest_window_file(struct vgd_guest_gpu *gpu, uint64_t offset_bytes, int *out_fd,
                           uint64_t *out_file_offset, uint64_t *out_len_bytes)
{
    const struct vgd_guest_shm *shm = shm_of(gpu);
    const struct vgd_guest_shm_map *map =
        shm == NULL ? NULL : vgd_guest_shm_find(shm, offset_bytes);
    if (map == NULL || !map->committed) {
        return false;
    }
    *out_fd = map->fd;
    *out_file_offset = map->file_offset_bytes;
    *out_len_bytes = map->len_bytes;
    return true;
}

uint32_t vgd_guest_window_maps_count(const struct vgd_guest_gpu *gpu)
{
    const struct vgd_guest_shm *shm = shm_of(gpu);
    return shm == NULL ? 0 : vgd_guest_shm_count(shm);
}

uint64_t vgd_guest_window_alloc(struct vgd_guest_gpu *gpu, uint64_t size_bytes)
{
    struct vgd_guest_shm *shm = shm_of(gpu);
    return shm == NULL ? UINT64_MAX : vgd_guest_shm_alloc(shm, size_bytes);
}

void vgd_guest_window_free(struct vgd_guest_gpu *gpu, uint64_t offset_bytes, uint64_t size_bytes)
{
    struct vgd_guest_shm *shm = shm_of(gpu);
    if (shm != NULL) {
        vgd_guest_shm_free(shm, offset_bytes, size_bytes);
    }
}
