/* SPDX-License-Identifier: MIT */
#include "guest_gpu.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "fd.h"
#include "log.h"

#define COMMAND_TIMEOUT_MS 10000u
#define REQ_BYTES 4096u
#define GAP_BYTES VGD_GUEST_PAGE_BYTES

struct vgd_guest_gpu {
    struct vgd_guest_gpu_config config;
    struct vgd_guest_ram *ram;
    struct vgd_guest_display *display;
    struct vgd_guest_queue *queues[VGD_GUEST_QUEUES_COUNT];
    struct vgd_guest_frontend *frontend;
    struct vgd_guest_command *free_commands;
    struct vgd_guest_command *all_commands[4096]; /* owned; buffers are reused */
    uint32_t n_commands;
    struct vgd_guest_gpu_counters counters;
    bool closed;
};

static void default_config(struct vgd_guest_gpu_config *c)
{
    if (c->ram_bytes == 0) {
        c->ram_bytes = 64u << 20;
    }
    if (c->n_regions == 0) {
        c->n_regions = 1;
    }
    if (c->n_scanouts == 0) {
        c->n_scanouts = 1;
    }
    if (c->w_px == 0) {
        c->w_px = 1280;
        c->h_px = 800;
    }
    if (c->command_timeout_ms == 0) {
        c->command_timeout_ms = COMMAND_TIMEOUT_MS;
    }
    if (c->no_event_idx) {
        c->frontend.drop_features |= UINT64_C(1) << VGD_GUEST_F_EVENT_IDX;
    }
    if (c->no_indirect) {
        c->frontend.drop_features |= UINT64_C(1) << VGD_GUEST_F_INDIRECT_DESC;
    }
}

struct vgd_guest_gpu *vgd_guest_gpu_open_raw(int *fd, const struct vgd_guest_gpu_config *config,
                                             enum vgd_status *out_status)
{
    *out_status = VGD_NO_MEMORY;
    struct vgd_guest_gpu *gpu = calloc(1, sizeof(*gpu));
    if (gpu == NULL) {
        return NULL;
    }
    gpu->config = *config;
    default_config(&gpu->config);
    struct vgd_guest_ram_layout layout = {
        .size_bytes = gpu->config.ram_bytes,
        .n_regions = gpu->config.n_regions,
        .hole_bytes = gpu->config.region_hole_bytes,
        .separate_files = gpu->config.separate_files,
    };
    gpu->ram = vgd_guest_ram_create(&layout);
    struct vgd_guest_display_config display = {
        .n_scanouts = gpu->config.n_scanouts,
        .w_px = gpu->config.w_px,
        .h_px = gpu->config.h_px,
        .features = 1u << VGD_DISP_F_EDID | 1u << VGD_DISP_F_DMABUF2,
    };
    gpu->display = vgd_guest_display_create(&display);
    if (gpu->ram == NULL || gpu->display == NULL ||
        (gpu->config.display_thread && vgd_guest_display_thread_start(gpu->display) != VGD_OK)) {
        vgd_guest_gpu_close(gpu);
        return NULL;
    }
    /* The control queue's size is known once the backend's features are: the larger one now. */
    uint32_t size = gpu->config.control_queue_size != 0 ? gpu->config.control_queue_size : 256;
    for (uint32_t i = 0; i < VGD_GUEST_QUEUES_COUNT; i++) {
        struct vgd_guest_queue_setup setup = {
            .size = i == VGD_GUEST_CONTROL ? size : 16,
            .indirect = !gpu->config.no_indirect,
            .event_idx = !gpu->config.no_event_idx,
        };
        gpu->queues[i] = vgd_guest_queue_create(gpu->ram, &setup);
        if (gpu->queues[i] == NULL) {
            vgd_guest_gpu_close(gpu);
            return NULL;
        }
    }
    gpu->frontend =
        vgd_guest_frontend_create(fd, &gpu->config.frontend, gpu->ram, gpu->display, gpu->queues);
    if (gpu->frontend == NULL) {
        vgd_guest_gpu_close(gpu);
        return NULL;
    }
    *out_status = VGD_OK;
    return gpu;
}

enum vgd_status vgd_guest_gpu_start(struct vgd_guest_gpu *gpu)
{
    enum vgd_status st = vgd_guest_frontend_realize(gpu->frontend);
    if (st == VGD_OK) {
        st = vgd_guest_frontend_start(gpu->frontend);
    }
    return st;
}

struct vgd_guest_gpu *vgd_guest_gpu_open(int *fd, const struct vgd_guest_gpu_config *config,
                                         enum vgd_status *out_status)
{
    struct vgd_guest_gpu *gpu = vgd_guest_gpu_open_raw(fd, config, out_status);
    if (gpu == NULL) {
        return NULL;
    }
    *out_status = vgd_guest_gpu_start(gpu);
    if (*out_status != VGD_OK) {
        vgd_guest_gpu_close(gpu);
        return NULL;
    }
    return gpu;
}

void vgd_guest_gpu_close(struct vgd_guest_gpu *gpu)
{
    if (gpu == NULL) {
        return;
    }
    vgd_guest_frontend_destroy(gpu->frontend);
    vgd_guest_display_destroy(gpu->display);
    for (uint32_t i = 0; i < VGD_GUEST_QUEUES_COUNT; i++) {
        vgd_guest_queue_destroy(gpu->queues[i]);
    }
    for (uint32_t i = 0; i < gpu->n_commands; i++) {
        free(gpu->all_commands[i]);
    }
    vgd_guest_ram_destroy(gpu->ram);
    free(gpu);
}

struct vgd_guest_ram *vgd_guest_gpu_ram(struct vgd_guest_gpu *gpu)
{
    return gpu->ram;
}

struct vgd_guest_frontend *vgd_guest_gpu_frontend(struct vgd_guest_gpu *gpu)
{
    return gpu->frontend;
}

struct vgd_guest_display *vgd_guest_gpu_display(struct vgd_guest_gpu *gpu)
{
    return gpu->display;
}

struct vgd_guest_queue *vgd_guest_gpu_queue(struct vgd_guest_gpu *gpu, uint32_t idx)
{
    return gpu->queues[idx];
}

struct vgd_guest_gpu_counters vgd_guest_gpu_counters(const struct vgd_guest_gpu *gpu)
{
    return gpu->counters;
}

bool vgd_guest_gpu_has_3d(const struct vgd_guest_gpu *gpu)
{
    return (vgd_guest_frontend_acked_features(gpu->frontend) & UINT64_C(1) << VGD_F_VIRGL) != 0;
}

enum vgd_status vgd_guest_gpu_pause(struct vgd_guest_gpu *gpu)
{
    return vgd_guest_frontend_stop(gpu->frontend);
}

enum vgd_status vgd_guest_gpu_resume(struct vgd_guest_gpu *gpu)
{
    return vgd_guest_frontend_start(gpu->frontend);
}

static void free_buffers_of_data(struct vgd_guest_gpu *gpu, struct vgd_guest_command *cmd)
{
    if (cmd->priv.data_bytes != 0) {
        vgd_guest_ram_free(gpu->ram, cmd->priv.data_gpa, cmd->priv.data_bytes);
        cmd->priv.data_bytes = 0;
    }
}

static void recycle(struct vgd_guest_gpu *gpu, struct vgd_guest_command *cmd)
{
    free_buffers_of_data(gpu, cmd);
    cmd->priv.next = gpu->free_commands;
    gpu->free_commands = cmd;
}

enum vgd_status vgd_guest_gpu_reset(struct vgd_guest_gpu *gpu)
{
    enum vgd_status st = vgd_guest_frontend_reset(gpu->frontend);
    /* Those that were ended while in flight will never be answered now. */
    for (uint32_t i = 0; i < gpu->n_commands; i++) {
        struct vgd_guest_command *cmd = gpu->all_commands[i];
        if (cmd->priv.ended && !cmd->done) {
            cmd->done = true;
            recycle(gpu, cmd);
        }
        cmd->priv.forgotten = true;
    }
    if (st == VGD_OK) {
        st = vgd_guest_frontend_start(gpu->frontend);
    }
    return st;
}

static void finish_command(struct vgd_guest_command *cmd, uint32_t used_bytes)
{
    cmd->done = true;
    cmd->done_ns = vgd_now_ns();
    cmd->used_bytes = used_bytes;
    if (used_bytes >= VGD_CTRL_HDR_SIZE && used_bytes <= VGD_GUEST_RESP_MAX) {
        struct vgd_reader r = vgd_reader_of(cmd->priv.resp, used_bytes);
        if (vgd_ctrl_hdr_decode(&r, &cmd->resp) != VGD_OK) {
            cmd->resp.type = 0;
        }
        cmd->resp_body = cmd->priv.resp + VGD_CTRL_HDR_SIZE;
        cmd->resp_body_bytes = used_bytes - VGD_CTRL_HDR_SIZE;
    }
}

/* Take every used entry of queue @idx; how many there were. */
static uint32_t reap(struct vgd_guest_gpu *gpu, uint32_t idx)
{
    void *token;
    uint32_t used_bytes;
    uint32_t n = 0;
    for (;;) {
        while (vgd_guest_queue_next_used(gpu->queues[idx], &token, &used_bytes)) {
            struct vgd_guest_command *cmd = token;
            finish_command(cmd, used_bytes);
            n++;
            if (cmd->priv.ended) {
                recycle(gpu, cmd);
            }
        }
        vgd_guest_queue_want_calls(gpu->queues[idx]);
        if (!vgd_guest_queue_next_used(gpu->queues[idx], &token, &used_bytes)) {
            return n;
        }
        struct vgd_guest_command *cmd = token;
        finish_command(cmd, used_bytes);
        n++;
        if (cmd->priv.ended) {
            recycle(gpu, cmd);
        }
    }
}

void vgd_guest_gpu_turn(struct vgd_guest_gpu *gpu, int timeout_ms)
{
    struct pollfd fds[5] = {
        {.fd = vgd_guest_frontend_call_fd(gpu->frontend, 0), .events = POLLIN},
        {.fd = vgd_guest_frontend_call_fd(gpu->frontend, 1), .events = POLLIN},
        {.fd = vgd_guest_display_fd(gpu->display), .events = POLLIN},
        {.fd = vgd_guest_frontend_backend_fd(gpu->frontend), .events = POLLIN},
        {.fd = gpu->closed ? -1 : vgd_guest_frontend_fd(gpu->frontend), .events = POLLRDHUP},
    };
    int n = poll(fds, 5, timeout_ms);
    if (n > 0 && fds[2].revents != 0) {
        vgd_guest_display_service(gpu->display);
    }
    if (n > 0 && fds[3].revents != 0) {
        vgd_guest_frontend_service(gpu->frontend);
    }
    if (n > 0 && fds[4].revents != 0) {
        gpu->closed = true;
    }
    for (uint32_t i = 0; i < VGD_GUEST_QUEUES_COUNT; i++) {
        if (n > 0 && fds[i].revents != 0) {
            (void)vgd_guest_frontend_calls(gpu->frontend, i);
            (void)reap(gpu, i);
        }
    }
}

void vgd_guest_gpu_settle(struct vgd_guest_gpu *gpu, int quiet_ms)
{
    struct vgd_guest_display_counters before;
    struct vgd_guest_display_counters after;
    for (int i = 0; i < 100; i++) {
        vgd_guest_display_counters(gpu->display, &before);
        uint64_t until_ns = vgd_now_ns() + (uint64_t)quiet_ms * 1000000;
        uint64_t now_ns;
        while ((now_ns = vgd_now_ns()) < until_ns) {
            vgd_guest_gpu_turn(gpu, (int)((until_ns - now_ns) / 1000000) + 1);
        }
        vgd_guest_display_counters(gpu->display, &after);
        if (before.bytes == after.bytes) {
            return;
        }
    }
}

static struct vgd_guest_command *command_take(struct vgd_guest_gpu *gpu)
{
    struct vgd_guest_command *cmd = gpu->free_commands;
    if (cmd != NULL) {
        gpu->free_commands = cmd->priv.next;
        struct vgd_guest_command fresh = {.priv = cmd->priv};
        fresh.priv.ended = false;
        fresh.priv.forgotten = false;
        *cmd = fresh;
        return cmd;
    }
    if (gpu->n_commands == sizeof(gpu->all_commands) / sizeof(gpu->all_commands[0])) {
        return NULL;
    }
    cmd = calloc(1, sizeof(*cmd));
    if (cmd == NULL) {
        return NULL;
    }
    cmd->priv.req = vgd_guest_ram_alloc(gpu->ram, REQ_BYTES, &cmd->priv.req_gpa);
    cmd->priv.resp = vgd_guest_ram_alloc(gpu->ram, VGD_GUEST_RESP_MAX, &cmd->priv.resp_gpa);
    if (cmd->priv.req == NULL || cmd->priv.resp == NULL) {
        if (cmd->priv.req != NULL) {
            vgd_guest_ram_free(gpu->ram, cmd->priv.req_gpa, REQ_BYTES);
        }
        free(cmd);
        return NULL;
    }
    gpu->all_commands[gpu->n_commands++] = cmd;
    return cmd;
}

/* Append [gpa, gpa + len) in pieces. */
static void add_pieces(struct vgd_guest_segment *segments, uint32_t *n, uint64_t gpa, uint32_t len,
                       uint32_t piece)
{
    if (piece == 0) {
        piece = len;
    }
    for (uint32_t at = 0; at < len; at += piece) {
        uint32_t now = len - at < piece ? len - at : piece;
        segments[(*n)++] = (struct vgd_guest_segment){.gpa = gpa + at, .len_bytes = now};
    }
}

static uint32_t pieces_count(uint32_t len, uint32_t piece)
{
    return piece == 0 ? 1 : len / piece + 1;
}

struct vgd_guest_command *vgd_guest_gpu_begin(struct vgd_guest_gpu *gpu,
                                              const struct vgd_guest_request *req, bool kick)
{
    assert(req->body_bytes <= VGD_GUEST_BODY_MAX && req->resp_bytes <= VGD_GUEST_RESP_MAX);
    struct vgd_guest_command *cmd = command_take(gpu);
    if (cmd == NULL) {
        return NULL;
    }
    struct vgd_writer w = vgd_writer_of(cmd->priv.req, REQ_BYTES);
    vgd_ctrl_hdr_encode(&w, &req->hdr);
    vgd_write_bytes(&w, req->body, req->body_bytes);
    memset(cmd->priv.resp, 0, VGD_CTRL_HDR_SIZE); /* an old answer must not look like a new one */
    if (req->data_bytes > 0) {
        uint8_t *data = vgd_guest_ram_alloc(gpu->ram, req->data_bytes, &cmd->priv.data_gpa);
        if (data == NULL) {
            recycle(gpu, cmd);
            return NULL;
        }
        cmd->priv.data_bytes = req->data_bytes;
        memcpy(data, req->data, req->data_bytes);
    }
    uint32_t req_bytes = (uint32_t)vgd_writer_used(&w);
    req_bytes -= req->cut_bytes < req_bytes ? req->cut_bytes : req_bytes;
    uint32_t most = pieces_count(req_bytes, req->req_piece_bytes) +
                    pieces_count(req->data_bytes, req->data_piece_bytes) +
                    pieces_count(req->resp_bytes, req->resp_piece_bytes);
    struct vgd_guest_segment few[8];
    struct vgd_guest_segment *segments = few;
    if (most > 8) {
        segments = calloc(most, sizeof(*segments));
        if (segments == NULL) {
            recycle(gpu, cmd);
            return NULL;
        }
    }
    uint32_t n_readable = 0;
    add_pieces(segments, &n_readable, cmd->priv.req_gpa, req_bytes, req->req_piece_bytes);
    add_pieces(segments, &n_readable, cmd->priv.data_gpa, req->data_bytes, req->data_piece_bytes);
    uint32_t n_all = n_readable;
    add_pieces(segments, &n_all, cmd->priv.resp_gpa, req->resp_bytes, req->resp_piece_bytes);
    cmd->sent_ns = vgd_now_ns();
    enum vgd_status st = vgd_guest_queue_add(gpu->queues[req->queue], segments, n_readable,
                                             segments + n_readable, n_all - n_readable, cmd);
    if (segments != few) {
        free(segments);
    }
    if (st != VGD_OK) {
        recycle(gpu, cmd);
        return NULL;
    }
    gpu->counters.commands++;
    if (kick) {
        vgd_guest_gpu_kick(gpu, req->queue);
    }
    return cmd;
}

void vgd_guest_gpu_kick(struct vgd_guest_gpu *gpu, uint32_t queue)
{
    if (vgd_guest_queue_should_kick(gpu->queues[queue])) {
        vgd_guest_frontend_kick(gpu->frontend, queue);
    }
}

bool vgd_guest_gpu_wait(struct vgd_guest_gpu *gpu, struct vgd_guest_command *cmd, int timeout_ms)
{
    uint64_t until_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    while (!cmd->done) {
        uint64_t now_ns = vgd_now_ns();
        if (gpu->closed || now_ns >= until_ns) {
            /* Was it answered and we were not told? That is a defect of its own. */
            uint32_t n = reap(gpu, 0) + reap(gpu, 1);
            gpu->counters.missed_calls += n;
            return cmd->done;
        }
        vgd_guest_gpu_turn(gpu, (int)((until_ns - now_ns) / 1000000) + 1);
    }
    return true;
}

void vgd_guest_gpu_end(struct vgd_guest_gpu *gpu, struct vgd_guest_command *cmd)
{
    if (cmd == NULL) {
        return;
    }
    if (cmd->done || cmd->priv.forgotten) {
        recycle(gpu, cmd);
    } else {
        cmd->priv.ended = true;
    }
}

uint32_t vgd_guest_gpu_call(struct vgd_guest_gpu *gpu, const struct vgd_guest_request *req,
                            void *out_body, uint32_t body_max)
{
    if (out_body != NULL) {
        memset(out_body, 0, body_max);
    }
    struct vgd_guest_command *cmd = vgd_guest_gpu_begin(gpu, req, true);
    if (cmd == NULL) {
        return 0;
    }
    uint32_t type = 0;
    if (vgd_guest_gpu_wait(gpu, cmd, (int)gpu->config.command_timeout_ms)) {
        type = req->resp_bytes == 0 ? 1 : cmd->resp.type;
        if (out_body != NULL && cmd->resp_body_bytes > 0) {
            memcpy(out_body, cmd->resp_body,
                   cmd->resp_body_bytes < body_max ? cmd->resp_body_bytes : body_max);
        }
    }
    vgd_guest_gpu_end(gpu, cmd);
    return type;
}

/* A control command without data; the response is only a header. */
static uint32_t simple(struct vgd_guest_gpu *gpu, uint32_t type, uint32_t ctx_id, const void *body,
                       uint32_t body_bytes)
{
    struct vgd_guest_request req = {
        .hdr = {.type = type, .ctx_id = ctx_id},
        .body = body,
        .body_bytes = body_bytes,
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    return vgd_guest_gpu_call(gpu, &req, NULL, 0);
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
    return simple(gpu, VGD_CMD_RESOURCE_CREATE_2D, 0, body, sizeof(body));
}

uint32_t vgd_guest_unref(struct vgd_guest_gpu *gpu, uint32_t res_id)
{
    uint8_t body[VGD_CMD_RESOURCE_UNREF_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_resource_unref_encode(&w, &(struct vgd_cmd_resource_unref){.resource_id = res_id});
    return simple(gpu, VGD_CMD_RESOURCE_UNREF, 0, body, sizeof(body));
}

uint32_t vgd_guest_attach(struct vgd_guest_gpu *gpu, uint32_t res_id,
                          const struct vgd_mem_entry *entries, uint32_t n_entries)
{
    uint8_t body[VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_attach_backing cmd = {.resource_id = res_id, .nr_entries = n_entries};
    vgd_cmd_resource_attach_backing_encode(&w, &cmd);
    size_t data_bytes = (size_t)n_entries * VGD_MEM_ENTRY_SIZE;
    uint8_t *data = malloc(data_bytes == 0 ? 1 : data_bytes);
    if (data == NULL) {
        return 0;
    }
    struct vgd_writer data_w = vgd_writer_of(data, data_bytes);
    for (uint32_t i = 0; i < n_entries; i++) {
        vgd_mem_entry_encode(&data_w, &entries[i]);
    }
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_RESOURCE_ATTACH_BACKING},
        .body = body,
        .body_bytes = sizeof(body),
        .data = data,
        .data_bytes = (uint32_t)data_bytes,
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    uint32_t type = vgd_guest_gpu_call(gpu, &req, NULL, 0);
    free(data);
    return type;
}

uint32_t vgd_guest_detach(struct vgd_guest_gpu *gpu, uint32_t res_id)
{
    uint8_t body[VGD_CMD_RESOURCE_DETACH_BACKING_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_detach_backing cmd = {.resource_id = res_id};
    vgd_cmd_resource_detach_backing_encode(&w, &cmd);
    return simple(gpu, VGD_CMD_RESOURCE_DETACH_BACKING, 0, body, sizeof(body));
}

uint32_t vgd_guest_transfer_2d(struct vgd_guest_gpu *gpu, uint32_t res_id, struct vgd_rect rect,
                               uint64_t offset_bytes)
{
    uint8_t body[VGD_CMD_TRANSFER_TO_HOST_2D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_transfer_to_host_2d cmd = {
        .rect = rect, .offset_bytes = offset_bytes, .resource_id = res_id};
    vgd_cmd_transfer_to_host_2d_encode(&w, &cmd);
    return simple(gpu, VGD_CMD_TRANSFER_TO_HOST_2D, 0, body, sizeof(body));
}

uint32_t vgd_guest_set_scanout(struct vgd_guest_gpu *gpu, uint32_t scanout, uint32_t res_id,
                               struct vgd_rect rect)
{
    uint8_t body[VGD_CMD_SET_SCANOUT_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_set_scanout cmd = {.rect = rect, .scanout_id = scanout, .resource_id = res_id};
    vgd_cmd_set_scanout_encode(&w, &cmd);
    return simple(gpu, VGD_CMD_SET_SCANOUT, 0, body, sizeof(body));
}

uint32_t vgd_guest_flush(struct vgd_guest_gpu *gpu, uint32_t res_id, struct vgd_rect rect)
{
    uint8_t body[VGD_CMD_RESOURCE_FLUSH_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_flush cmd = {.rect = rect, .resource_id = res_id};
    vgd_cmd_resource_flush_encode(&w, &cmd);
    return simple(gpu, VGD_CMD_RESOURCE_FLUSH, 0, body, sizeof(body));
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
    if (vgd_guest_gpu_wait(gpu, cmd, (int)gpu->config.command_timeout_ms)) {
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
    return simple(gpu, VGD_CMD_CTX_CREATE, ctx_id, body, sizeof(body));
}

uint32_t vgd_guest_ctx_destroy(struct vgd_guest_gpu *gpu, uint32_t ctx_id)
{
    return simple(gpu, VGD_CMD_CTX_DESTROY, ctx_id, NULL, 0);
}

static uint32_t ctx_resource(struct vgd_guest_gpu *gpu, uint32_t type, uint32_t ctx_id,
                             uint32_t res_id)
{
    uint8_t body[VGD_CMD_CTX_RESOURCE_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_ctx_resource_encode(&w, &(struct vgd_cmd_ctx_resource){.resource_id = res_id});
    return simple(gpu, type, ctx_id, body, sizeof(body));
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
    return simple(gpu, VGD_CMD_RESOURCE_CREATE_3D, ctx_id, body, sizeof(body));
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
        void *bytes = vgd_guest_ram_alloc(gpu->ram, len + (n_entries > 1 ? GAP_BYTES : 0), &gpa);
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
        vgd_guest_ram_free(gpu->ram, backing->entries[i].addr,
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
            uint8_t *at = vgd_guest_ram_at(gpu->ram, backing->entries[i].addr + skip, now);
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
