/* SPDX-License-Identifier: MIT */
/*
 * Blobs in the host-visible region (virtio-v1.3 5.7.6.9, "RESOURCE_MAP_BLOB"). The region is the
 * VMM's: each map and unmap is asked for through the configuration's window and answered later, and
 * the guest's command with it. Everything a guest can get wrong is refused before the window is
 * asked.
 *
 * Records: a map when it is there, an UNMAP_BLOB before it is asked for. So after a death the
 * journal holds nothing that the VMM may not have, but for an UNREF that was cut off in the middle:
 * it is in flight, and done again. A range that it has beyond that is taken back with the
 * command that the dead worker did not answer.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "checked.h"
#include "device.h"
#include "fd.h"

static struct vgd_map *map_add(struct vgd_gpu *gpu, struct vgd_resource *res, uint64_t offset_bytes)
{
    struct vgd_map *map = calloc(1, sizeof(*map));
    if (map == NULL) {
        return NULL;
    }
    map->offset_bytes = offset_bytes;
    map->len_bytes = res->as.blob.size_bytes;
    map->res = res;
    res->map = map;
    map->next = gpu->maps;
    if (map->next != NULL) {
        map->next->prev = map;
    }
    gpu->maps = map;
    vgd_gauge(&gpu->counters->maps_live, ++gpu->maps_count);
    return map;
}

/* Its resource does not have it any more. */
static void map_let_go(struct vgd_map *map)
{
    if (map->res != NULL) {
        map->res->map = NULL;
        map->res = NULL;
    }
}

/* Nobody waits for it any more. */
static void map_free(struct vgd_gpu *gpu, struct vgd_map *map)
{
    assert(map->map_req == NULL && map->unmap_req == NULL);
    map_let_go(map);
    if (map->prev != NULL) {
        map->prev->next = map->next;
    } else {
        gpu->maps = map->next;
    }
    if (map->next != NULL) {
        map->next->prev = map->prev;
    }
    vgd_gauge(&gpu->counters->maps_live, --gpu->maps_count);
    free(map);
}

/* Complete *@req, if there is one. */
static void release(struct vgd_gpu *gpu, struct vgd_gpu_request **req, enum vgd_status status)
{
    struct vgd_gpu_request *waits = *req;
    *req = NULL;
    if (waits != NULL) {
        if (status != VGD_OK) {
            vgd_count_error(gpu, waits, vgd_gpu_resp_of(status), "the host-visible region failed");
        }
        vgd_fence_release(gpu, waits, status);
    }
}

/* Ask for @map to be taken out. NULL if that is done already: then *out is how it went. */
static struct vgd_map *map_ask_unmap(struct vgd_gpu *gpu, struct vgd_map *map, enum vgd_status *out)
{
    const struct vgd_gpu_window *window = &gpu->config.window;
    map_let_go(map);
    map->state = VGD_MAP_GOING;
    map->unmap_token = ++gpu->window_token;
    map->asking = true;
    window->unmap(window->user, map->unmap_token, map->offset_bytes, map->len_bytes);
    map->asking = false;
    *out = VGD_OK;
    if (!map->answered) {
        return map;
    }
    *out = map->answer;
    release(gpu, &map->map_req, VGD_HOST_FAILED); /* asked for before, and never answered */
    map_free(gpu, map);
    return NULL;
}

/* --- MAP_BLOB --- */

static enum vgd_status check_resource(struct vgd_gpu_call *call, const struct vgd_resource *res)
{
    if ((res->as.blob.flags & VGD_BLOB_FLAG_USE_MAPPABLE) == 0 || vgd_blob_is_guest(res)) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "res=%" PRIu32 " is not mappable", res->id);
    }
    if (res->map != NULL) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "res=%" PRIu32 " is mapped at 0x%" PRIx64, res->id,
                          res->map->offset_bytes);
    }
    if (!res->in_renderer && !call->gpu->replaying) {
        return VGD_REFUSE(call, VGD_LOST, "res=%" PRIu32 " is lost", res->id);
    }
    return VGD_OK;
}

static enum vgd_status check_range(struct vgd_gpu_call *call, const struct vgd_resource *res,
                                   uint64_t offset_bytes)
{
    const struct vgd_gpu *gpu = call->gpu;
    uint64_t len_bytes = res->as.blob.size_bytes;
    if (offset_bytes % VGD_BLOB_ALIGNMENT_BYTES != 0 ||
        !vgd_span_fits(offset_bytes, len_bytes, gpu->config.window.size_bytes)) {
        return VGD_REFUSE(call, VGD_RANGE,
                          "res=%" PRIu32 " of %" PRIu64 " bytes at 0x%" PRIx64 " of %" PRIu64,
                          res->id, len_bytes, offset_bytes, gpu->config.window.size_bytes);
    }
    if (gpu->maps_count >= gpu->config.limits.maps_max) {
        return VGD_REFUSE(call, VGD_LIMIT, "res=%" PRIu32 ": maps_max %" PRIu32, res->id,
                          gpu->config.limits.maps_max);
    }
    for (const struct vgd_map *map = gpu->maps; map != NULL; map = map->next) {
        /* Both lie in the region: no sum wraps. */
        if (map->state != VGD_MAP_GOING && offset_bytes < map->offset_bytes + map->len_bytes &&
            map->offset_bytes < offset_bytes + len_bytes) {
            return VGD_REFUSE(call, VGD_RANGE,
                              "res=%" PRIu32 " of %" PRIu64 " bytes at 0x%" PRIx64
                              " overlaps %" PRIu64 " at 0x%" PRIx64,
                              res->id, len_bytes, offset_bytes, map->len_bytes, map->offset_bytes);
        }
    }
    return VGD_OK;
}

/* The window has answered a map. */
static void map_done(struct vgd_gpu *gpu, struct vgd_map *map, enum vgd_status status)
{
    map->map_token = 0;
    if (map->state == VGD_MAP_GOING) {
        release(gpu, &map->map_req, status); /* the unmap's answer comes next */
        return;
    }
    if (status == VGD_AGAIN && map->map_req != NULL && gpu->config.postpone != NULL) {
        struct vgd_gpu_request *req = map->map_req;
        map->map_req = NULL;
        map_free(gpu, map);
        vgd_fence_withdraw(gpu, req);
        gpu->config.postpone(gpu->config.user, req);
        return;
    }
    if (status == VGD_OK && map->res == NULL) {
        assert(map->map_req == NULL);
        (void)map_ask_unmap(gpu, map, &status); /* nobody wants it any more */
        return;
    }
    if (status == VGD_OK) {
        status = vgd_record_reserve(gpu, VGD_RECORD_MAP_BYTES);
        if (status == VGD_OK) {
            map->state = VGD_MAP_MAPPED;
            vgd_record_map(gpu, map);
            release(gpu, &map->map_req, VGD_OK);
            return;
        }
        vgd_log_guest(&gpu->log_limit, "map", "res=%" PRIu32 ": the journal has no room",
                      map->res->id);
        release(gpu, &map->map_req, status);
        (void)map_ask_unmap(gpu, map, &status);
        return;
    }
    vgd_log_guest(&gpu->log_limit, "map", "%" PRIu64 " bytes at 0x%" PRIx64 ": %s", map->len_bytes,
                  map->offset_bytes, vgd_status_text(status));
    release(gpu, &map->map_req, status);
    map_free(gpu, map);
}

/* Everything is checked: ask the window, and let the command wait. */
static enum vgd_status map_ask(struct vgd_gpu_call *call, struct vgd_resource *res,
                               uint64_t offset_bytes)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_gpu_request *req = call->req;
    struct vgd_blob_file file = {.fd = -1};
    enum vgd_status st = gpu->ops->blob_export(gpu->render, res->id, &file);
    VGD_AUTO_FD fd = st == VGD_OK ? file.fd : -1;
    if (st != VGD_OK) {
        return VGD_REFUSE(call, st, "res=%" PRIu32 " cannot be exported: %s", res->id,
                          vgd_status_text(st));
    }
    if (fd < 0 || file.offset_bytes % VGD_BLOB_ALIGNMENT_BYTES != 0) {
        return VGD_HOST_FAILED;
    }
    struct vgd_map *map = map_add(gpu, res, offset_bytes);
    if (map == NULL) {
        return VGD_NO_MEMORY;
    }
    req->priv.ok_type = VGD_RESP_OK_MAP_INFO;
    req->priv.ok_body_bytes = VGD_RESP_MAP_INFO_SIZE;
    struct vgd_writer w = vgd_writer_of(req->priv.ok_body, VGD_RESP_MAP_INFO_SIZE);
    vgd_resp_map_info_encode(
        &w, &(struct vgd_resp_map_info){.map_info = file.map_info & VGD_MAP_CACHE_MASK});
    st = vgd_fence_hold(gpu, req);
    if (st != VGD_OK) {
        map_free(gpu, map);
        return st;
    }
    call->answered = true; /* from here on the window's answer is the command's */
    map->map_req = req;
    map->map_token = ++gpu->window_token;
    map->asking = true;
    const struct vgd_gpu_window *window = &gpu->config.window;
    window->map(window->user, map->map_token, map->offset_bytes, map->len_bytes, &file);
    map->asking = false;
    if (map->answered) {
        map->answered = false;
        map_done(gpu, map, map->answer);
    }
    return VGD_OK;
}

enum vgd_status vgd_do_map_blob(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_resource_map_blob cmd;
    enum vgd_status st = vgd_cmd_resource_map_blob_decode(&call->body, &cmd);
    if (st == VGD_OK && !gpu->replaying) {
        st = vgd_room_for(call, VGD_RESP_MAP_INFO_SIZE);
    }
    if (st != VGD_OK) {
        return st;
    }
    if (gpu->config.window.size_bytes == 0) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "there is no host-visible region");
    }
    struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL || res->kind != VGD_RESOURCE_BLOB) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32 " is %s", cmd.resource_id,
                          res == NULL ? "unknown" : "no blob");
    }
    st = check_resource(call, res);
    if (st == VGD_OK) {
        st = check_range(call, res, cmd.offset_bytes);
    }
    if (st != VGD_OK) {
        return st;
    }
    if (gpu->replaying) {
        struct vgd_map *map = map_add(gpu, res, cmd.offset_bytes);
        if (map == NULL) {
            return VGD_NO_MEMORY;
        }
        map->state = VGD_MAP_MAPPED;
        return VGD_OK;
    }
    return map_ask(call, res, cmd.offset_bytes);
}

/* --- and out again --- */

enum vgd_status vgd_do_unmap_blob(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_resource_unmap_blob cmd;
    enum vgd_status st = vgd_cmd_resource_unmap_blob_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    const struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL || res->kind != VGD_RESOURCE_BLOB) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32 " is %s", cmd.resource_id,
                          res == NULL ? "unknown" : "no blob");
    }
    struct vgd_map *map = res->map;
    if (map == NULL) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "res=%" PRIu32 " is not mapped", res->id);
    }
    if (gpu->replaying) {
        map_free(gpu, map);
        return VGD_OK;
    }
    if (map->state == VGD_MAP_MAPPED) {
        vgd_record_append(gpu, call->cmd, call->cmd_bytes);
    }
    call->recorded = true;
    call->going = map_ask_unmap(gpu, map, &st);
    return st;
}

void vgd_window_forget_resource(struct vgd_gpu_call *call, struct vgd_resource *res)
{
    struct vgd_gpu *gpu = call->gpu;
    if (res->map == NULL) {
        return;
    }
    if (gpu->replaying) {
        map_free(gpu, res->map);
        return;
    }
    enum vgd_status st;
    call->going = map_ask_unmap(gpu, res->map, &st);
    if (st != VGD_OK) { /* the guest lets go whatever we answer */
        vgd_log_guest(&gpu->log_limit, "map", "res=%" PRIu32 " stays in the region: %s", res->id,
                      vgd_status_text(st));
    }
}

void vgd_window_wait(struct vgd_gpu_call *call)
{
    enum vgd_status st = vgd_fence_hold(call->gpu, call->req);
    if (st == VGD_OK) {
        call->going->unmap_req = call->req;
    } else {
        vgd_fence_finish(call->gpu, call->req, st);
    }
}

void vgd_window_fail_map(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_resource_map_blob cmd;
    if (vgd_cmd_resource_map_blob_decode(&call->body, &cmd) != VGD_OK) {
        return;
    }
    struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL || res->kind != VGD_RESOURCE_BLOB || res->map != NULL ||
        check_range(call, res, cmd.offset_bytes) != VGD_OK) {
        return; /* where the journal has it mapped, UNMAP_BLOB or UNREF will find it */
    }
    struct vgd_map *map = map_add(gpu, res, cmd.offset_bytes);
    if (map != NULL) {
        enum vgd_status st;
        (void)map_ask_unmap(gpu, map, &st); /* there may be nothing: then that is the answer */
    }
}

static void unmap_done(struct vgd_gpu *gpu, struct vgd_map *map, enum vgd_status status)
{
    map->unmap_token = 0;
    struct vgd_gpu_request *req = map->unmap_req;
    if (status != VGD_OK) {
        vgd_log_guest(&gpu->log_limit, "map", "%" PRIu64 " bytes at 0x%" PRIx64 " stay: %s",
                      map->len_bytes, map->offset_bytes, vgd_status_text(status));
    }
    release(gpu, &map->map_req, VGD_HOST_FAILED); /* asked for before, and never answered */
    bool is_unref = req != NULL && req->priv.hdr.type == VGD_CMD_RESOURCE_UNREF;
    release(gpu, &map->unmap_req, is_unref ? VGD_OK : status);
    map_free(gpu, map);
}

void vgd_gpu_window_done(struct vgd_gpu *gpu, uint64_t token, enum vgd_status status)
{
    struct vgd_map *map = gpu->maps;
    while (map != NULL && (token == 0 || (map->map_token != token && map->unmap_token != token))) {
        map = map->next;
    }
    if (map == NULL) {
        return; /* of before a reset */
    }
    bool of_unmap = map->unmap_token == token;
    if (map->asking && of_unmap == (map->state == VGD_MAP_GOING)) {
        map->answered = true; /* whoever asks goes on from there */
        map->answer = status;
    } else if (of_unmap) {
        unmap_done(gpu, map, status);
    } else {
        map_done(gpu, map, status);
    }
}

void vgd_window_fail_pending(struct vgd_gpu *gpu)
{
    for (struct vgd_map *map = gpu->maps; map != NULL; map = map->next) {
        if (map->map_req != NULL) {
            map->map_req->priv.held = false;
            map->map_req = NULL;
        }
        if (map->unmap_req != NULL) {
            map->unmap_req->priv.held = false;
            map->unmap_req = NULL;
        }
        if (map->state == VGD_MAP_MAPPING) {
            map_let_go(map);
        }
    }
}

void vgd_window_finish(struct vgd_gpu *gpu)
{
    while (gpu->maps != NULL) {
        gpu->maps->map_req = NULL; /* dropped by now */
        gpu->maps->unmap_req = NULL;
        map_free(gpu, gpu->maps);
    }
}
