/* SPDX-License-Identifier: MIT */
/* What the guest asks before it does anything. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "device.h"

/* The body of the response, zeroed. */
static struct vgd_writer body_begin(struct vgd_gpu *gpu, size_t body_bytes)
{
    assert(VGD_CTRL_HDR_SIZE + body_bytes <= gpu->resp_bytes);
    memset(gpu->resp, 0, VGD_CTRL_HDR_SIZE + body_bytes);
    return vgd_writer_of(gpu->resp + VGD_CTRL_HDR_SIZE, body_bytes);
}

enum vgd_status vgd_room_for(struct vgd_gpu_call *call, size_t body_bytes)
{
    size_t resp_bytes = VGD_CTRL_HDR_SIZE + body_bytes;
    return call->req->resp_capacity_bytes >= resp_bytes
               ? VGD_OK
               : VGD_REFUSE(call, VGD_UNSUPPORTED, "%zu bytes for a response of %zu",
                            call->req->resp_capacity_bytes, resp_bytes);
}

static void display_info_answer(void *user, const struct vgd_resp_display_info *info)
{
    struct vgd_gpu_request *req = user;
    struct vgd_gpu *gpu = req->priv.gpu;
    vgd_list_remove(req);
    struct vgd_writer w = body_begin(gpu, VGD_RESP_DISPLAY_INFO_SIZE);
    vgd_resp_display_info_encode(&w, info);
    vgd_gpu_reply(gpu, req, VGD_RESP_OK_DISPLAY_INFO, VGD_RESP_DISPLAY_INFO_SIZE);
}

enum vgd_status vgd_do_get_display_info(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    enum vgd_status st = vgd_cmd_get_display_info_decode(&call->body);
    if (st == VGD_OK) {
        st = vgd_room_for(call, VGD_RESP_DISPLAY_INFO_SIZE);
    }
    if (st != VGD_OK) {
        return st;
    }
    call->answered = true;
    vgd_list_append(&gpu->questions, call->req);
    gpu->config.display->ops->get_info(gpu->config.display, display_info_answer, call->req);
    return VGD_OK;
}

static void edid_answer(void *user, const uint8_t *edid, uint32_t size_bytes)
{
    struct vgd_gpu_request *req = user;
    struct vgd_gpu *gpu = req->priv.gpu;
    vgd_list_remove(req);
    if (size_bytes == 0 || size_bytes > VGD_EDID_MAX_BYTES) {
        vgd_gpu_reply(gpu, req, VGD_RESP_ERR_UNSPEC, 0);
        return;
    }
    struct vgd_resp_edid resp = {.size_bytes = size_bytes};
    memcpy(resp.edid, edid, size_bytes);
    struct vgd_writer w = body_begin(gpu, VGD_RESP_EDID_SIZE);
    vgd_resp_edid_encode(&w, &resp);
    vgd_gpu_reply(gpu, req, VGD_RESP_OK_EDID, VGD_RESP_EDID_SIZE);
}

enum vgd_status vgd_do_get_edid(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_get_edid cmd;
    enum vgd_status st = vgd_cmd_get_edid_decode(&call->body, &cmd);
    if (st == VGD_OK) {
        st = vgd_room_for(call, VGD_RESP_EDID_SIZE);
    }
    if (st != VGD_OK) {
        return st;
    }
    if (cmd.scanout_id >= gpu->config.n_scanouts) {
        return VGD_REFUSE(call, VGD_NO_SCANOUT, "scanout %" PRIu32 " of %" PRIu32, cmd.scanout_id,
                          gpu->config.n_scanouts);
    }
    call->answered = true;
    vgd_list_append(&gpu->questions, call->req);
    gpu->config.display->ops->get_edid(gpu->config.display, cmd.scanout_id, edid_answer, call->req);
    return VGD_OK;
}

enum vgd_status vgd_do_get_capset_info(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_get_capset_info cmd = {0};
    enum vgd_status st = vgd_cmd_get_capset_info_decode(&call->body, &cmd);
    if (st == VGD_OK && (gpu->features >> VGD_F_VIRGL & 1) == 0) {
        st = VGD_REFUSE(call, VGD_UNSUPPORTED, "VIRGL was not negotiated");
    }
    if (st == VGD_OK && cmd.capset_idx >= vgd_gpu_num_capsets(gpu)) {
        st = VGD_REFUSE(call, VGD_RANGE, "index %" PRIu32 " of %" PRIu32, cmd.capset_idx,
                        vgd_gpu_num_capsets(gpu));
    }
    /* Linux reads the body of an error too, and waits 5 s for a capset whose id stays 0. */
    struct vgd_resp_capset_info resp = {.capset_id = UINT32_MAX};
    if (st == VGD_OK) {
        const struct vgd_capset *capset = &gpu->info.capsets[cmd.capset_idx];
        resp.capset_id = capset->id;
        resp.max_version = capset->max_version;
        resp.max_size_bytes = capset->size_bytes;
    }
    struct vgd_writer w = body_begin(gpu, VGD_RESP_CAPSET_INFO_SIZE);
    vgd_resp_capset_info_encode(&w, &resp);
    call->answered = true;
    vgd_gpu_reply(gpu, call->req, st == VGD_OK ? VGD_RESP_OK_CAPSET_INFO : vgd_gpu_resp_of(st),
                  VGD_RESP_CAPSET_INFO_SIZE);
    return VGD_OK;
}

static bool all_zero(const uint8_t *bytes, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

enum vgd_status vgd_do_get_capset(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_get_capset cmd;
    enum vgd_status st = vgd_cmd_get_capset_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    const struct vgd_capset *capset = NULL;
    for (uint32_t i = 0; i < vgd_gpu_num_capsets(gpu); i++) {
        if (gpu->info.capsets[i].id == cmd.capset_id) {
            capset = &gpu->info.capsets[i];
        }
    }
    if (capset == NULL || cmd.capset_version > capset->max_version) {
        return VGD_REFUSE(call, VGD_RANGE, "capset %" PRIu32 " version %" PRIu32, cmd.capset_id,
                          cmd.capset_version);
    }
    st = vgd_room_for(call, capset->size_bytes);
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_writer w = body_begin(gpu, capset->size_bytes);
    st = gpu->ops->capset_fill(gpu->render, capset->id, cmd.capset_version, w.pos,
                               capset->size_bytes);
    if (st == VGD_OK && all_zero(w.start, capset->size_bytes)) {
        st = VGD_HOST_FAILED; /* a renderer that is not there: no capset must look like that */
    }
    if (st != VGD_OK) {
        return st;
    }
    call->answered = true;
    vgd_gpu_reply(gpu, call->req, VGD_RESP_OK_CAPSET, capset->size_bytes);
    return VGD_OK;
}
