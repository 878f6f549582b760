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
    uint32_t calls_after; /* answers to the control queue for an interrupt; 0 is 1 */
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

uint32_t vgd_guest_gpu_timeout_ms(const struct vgd_guest_gpu *gpu)
{
    return gpu->config.command_timeout_ms;
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
        vgd_guest_queue_want_calls(gpu->queues[idx],
                                   idx == VGD_GUEST_CONTROL ? gpu->calls_after : 1);
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

uint32_t vgd_guest_gpu_poll(struct vgd_guest_gpu *gpu)
{
    return reap(gpu, VGD_GUEST_CONTROL) + reap(gpu, VGD_GUEST_CURSOR);
}

bool vgd_guest_gpu_calls_after(struct vgd_guest_gpu *gpu, uint32_t n_answers)
{
    gpu->calls_after = n_answers;
    vgd_guest_queue_want_calls(gpu->queues[VGD_GUEST_CONTROL], n_answers);
    return vgd_guest_queue_waiting_count(gpu->queues[VGD_GUEST_CONTROL]) < n_answers;
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
    int service_ms = vgd_guest_frontend_service_in_ms(gpu->frontend);
    if (service_ms >= 0 && service_ms < timeout_ms) {
        timeout_ms = service_ms;
    }
    int n = poll(fds, 5, timeout_ms);
    if (n > 0 && fds[2].revents != 0) {
        vgd_guest_display_service(gpu->display);
    }
    if ((n > 0 && fds[3].revents != 0) || vgd_guest_frontend_service_in_ms(gpu->frontend) == 0) {
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
                    pieces_count(req->data_bytes, req->data_piece_bytes) + 1 +
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
    add_pieces(segments, &n_readable, req->ram_gpa, req->ram_bytes, 0);
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
