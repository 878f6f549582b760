/* SPDX-License-Identifier: MIT */
#include "worker_record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "log.h"
#include "worker_record_priv.h"

/* How often is looked whether a file that is being ended has ended. */
#define ENDING_POLL_NS 10000000ull
#define MS_NS 1000000ull

/* ---- records ----------------------------------------------------------------------------------
 */

void vgd_recorder_put(struct vgd_recorder *r, const struct vgd_trace_record *record,
                      const void *data, size_t n_bytes)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = n_bytes};
    /* What does not fit is counted, and becomes a gap in the file. */
    (void)vgd_trace_writer_put(r->writer, record, &iov, 1, 0, n_bytes);
}

static void put_fact(struct vgd_recorder *r, uint32_t fact, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        return;
    }
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_FACT, .as.fact = {.fact = fact}};
    vgd_recorder_put(r, &record, text, strnlen(text, VGD_TRACE_INLINE_MAX));
}

static void put_facts(struct vgd_recorder *r)
{
    struct vgd_render_info info;
    r->config.render->ops->info(r->config.render, &info);
    put_fact(r, VGD_TRACE_FACT_VGD_VERSION, VGD_VERSION);
    put_fact(r, VGD_TRACE_FACT_RENDERER, info.name);
    put_fact(r, VGD_TRACE_FACT_VIRGLRENDERER_VERSION, r->config.virglrenderer_version);
    put_fact(r, VGD_TRACE_FACT_GPU, info.gpu_name);
    put_fact(r, VGD_TRACE_FACT_VULKAN_DEVICE, info.vulkan_name);
    struct utsname host;
    if (uname(&host) == 0) {
        char kernel[sizeof(host.sysname) + sizeof(host.release) + sizeof(host.machine) + 3];
        (void)snprintf(kernel, sizeof(kernel), "%s %s %s", host.sysname, host.release,
                       host.machine);
        put_fact(r, VGD_TRACE_FACT_KERNEL, kernel);
    }
    char guest[VGD_NAME_BYTES];
    (void)snprintf(guest, sizeof(guest), "%.*s", (int)sizeof(r->start.guest) - 1, r->start.guest);
    put_fact(r, VGD_TRACE_FACT_GUEST, guest);
}

static void put_device(struct vgd_recorder *r, uint64_t features)
{
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_DEVICE,
        .as.device = {.features = features,
                      .window_bytes = r->config.window_bytes,
                      .n_scanouts = r->config.n_scanouts,
                      .n_capsets = vgd_gpu_num_capsets(r->config.gpu)},
    };
    vgd_recorder_put(r, &record, NULL, 0);
}

static void put_capsets(struct vgd_recorder *r)
{
    struct vgd_render *render = r->config.render;
    struct vgd_render_info info;
    render->ops->info(render, &info);
    for (uint32_t i = 0; i < vgd_gpu_num_capsets(r->config.gpu); i++) {
        const struct vgd_capset *capset = &info.capsets[i];
        void *data = calloc(1, capset->size_bytes);
        if (data == NULL || render->ops->capset_fill(render, capset->id, capset->max_version, data,
                                                     capset->size_bytes) != VGD_OK) {
            free(data);
            continue;
        }
        struct vgd_trace_record record = {
            .kind = VGD_TRACE_KIND_CAPSET,
            .as.capset = {.capset_id = capset->id, .version = capset->max_version},
        };
        vgd_recorder_put(r, &record, data, capset->size_bytes);
        free(data);
    }
}

/* What the guest is told of its scanouts, as far as that is new. */
static void put_scanouts(struct vgd_recorder *r, const struct vgd_display_one *modes)
{
    for (uint32_t i = 0; i < r->config.n_scanouts; i++) {
        const struct vgd_display_one *mode = &modes[i];
        if (r->scanouts_known[i] && memcmp(mode, &r->scanouts[i], sizeof(*mode)) == 0) {
            continue;
        }
        r->scanouts_known[i] = true;
        r->scanouts[i] = *mode;
        struct vgd_trace_record record = {
            .kind = VGD_TRACE_KIND_SCANOUT,
            .as.scanout = {.scanout_id = i,
                           .enabled = mode->enabled != 0,
                           .x_px = mode->rect.x_px,
                           .y_px = mode->rect.y_px,
                           .w_px = mode->rect.w_px,
                           .h_px = mode->rect.h_px},
        };
        vgd_recorder_put(r, &record, NULL, 0);
    }
}

static void info_came(void *user, const struct vgd_resp_display_info *info)
{
    struct vgd_recorder *r = user;
    if (vgd_recorder_active(r)) {
        put_scanouts(r, info->pmodes);
    }
}

/* ---- its life ---------------------------------------------------------------------------------
 */

_Static_assert((int)VGD_LINK_WRITER_RUNNING == (int)VGD_TRACE_RUNNING &&
                   (int)VGD_LINK_WRITER_STOPPING == (int)VGD_TRACE_STOPPING &&
                   (int)VGD_LINK_WRITER_ENDED == (int)VGD_TRACE_ENDED &&
                   (int)VGD_LINK_WRITER_FAILED == (int)VGD_TRACE_FAILED,
               "the link carries the writer's states as they are");

static void tell(struct vgd_recorder *r, const struct vgd_trace_writer_stats *stats)
{
    struct vgd_link_trace_state state = {
        .state = stats->state,
        .error = stats->error,
        .records = stats->out.records,
        .bytes_in = stats->out.bytes_in,
        .bytes_out = stats->out.bytes_out,
        .gaps = stats->gaps,
        .lost_records = stats->lost_records,
        .lost_bytes = stats->lost_bytes,
        .memory_bytes = stats->memory_bytes + sizeof(*r) + r->picture_bytes,
    };
    r->config.tell(r->config.user, &state);
}

static void idle(struct vgd_recorder *r)
{
    vgd_timer_stop(r->timer); /* a stop that ends at once comes before its time */
    vgd_recorder_state_end(r);
    vgd_trace_writer_destroy(r->writer);
    r->writer = NULL;
    free(r->picture);
    r->picture = NULL;
    r->picture_bytes = 0;
}

static void look(void *user)
{
    struct vgd_recorder *r = user;
    struct vgd_trace_writer_stats stats = vgd_trace_writer_stats(r->writer);
    bool is_over = stats.state == VGD_TRACE_ENDED || stats.state == VGD_TRACE_FAILED;
    if (is_over) {
        idle(r);
        if (stats.state == VGD_TRACE_FAILED) {
            vgd_log(VGD_LOG_WARNING, "trace", "the recording ended, the file cannot be written: %s",
                    strerror(stats.error));
        }
    } else {
        vgd_timer_start(r->timer, r->stopping ? ENDING_POLL_NS : VGD_LINK_TRACE_STATE_MS * MS_NS);
    }
    if (is_over || !r->stopping) {
        tell(r, &stats);
    }
    if (!is_over) {
        vgd_recorder_state_look(r, &stats);
    }
}

static void refuse(struct vgd_recorder *r, int error)
{
    struct vgd_link_trace_state state = {.state = VGD_TRACE_FAILED, .error = error};
    r->config.tell(r->config.user, &state);
}

static void begin(struct vgd_recorder *r, uint64_t features)
{
    const struct vgd_link_trace_start *start = &r->start;
    if (start->why == VGD_LINK_TRACE_AFTER_DEATH) {
        struct vgd_trace_record record = {
            .kind = VGD_TRACE_KIND_WORKER_DEATH,
            .as.worker_death = {.generation = start->generation,
                                .signal = start->signal,
                                .exit_status = start->exit_status},
        };
        vgd_recorder_put(r, &record, NULL, 0);
    } else if (start->why == VGD_LINK_TRACE_AFTER_RESET) {
        vgd_recorder_reset(r);
    }
    put_facts(r);
    put_device(r, features);
    put_capsets(r);
    memset(r->scanouts_known, 0, sizeof(r->scanouts_known));
    memset(r->pixels_ns, 0, sizeof(r->pixels_ns));
    r->config.display->ops->get_info(r->config.display, info_came, r);
    bool after_death = start->why == VGD_LINK_TRACE_AFTER_DEATH;
    if (after_death || vgd_gpu_has_state(r->config.gpu)) {
        vgd_recorder_state_begin(r,
                                 after_death ? VGD_TRACE_STATE_AFTER_DEATH : VGD_TRACE_STATE_START);
    }
}

enum vgd_status vgd_recorder_start(struct vgd_recorder *r, const struct vgd_link_trace_start *start,
                                   uint64_t features, int *fd)
{
    if (start->why > VGD_LINK_TRACE_AFTER_RESET) {
        return VGD_RANGE;
    }
    if (r->writer != NULL) {
        refuse(r, EBUSY);
        return VGD_OK;
    }
    struct vgd_trace_writer_config config = {
        .memory_max_bytes = VGD_RECORDER_WRITER_BYTES,
        .resume = start->why != VGD_LINK_TRACE_NEW,
    };
    enum vgd_status st = vgd_trace_writer_create(&config, fd, &r->writer);
    if (st != VGD_OK) {
        r->writer = NULL;
        refuse(r, st == VGD_NO_MEMORY ? ENOMEM : EAGAIN);
        return VGD_OK;
    }
    r->start = *start;
    r->stopping = false;
    r->lost_known = 0;
    r->next_state_ns = 0;
    r->first_id = r->last_id + 1;
    /* Behind everything that the file counted so far: no worker takes a command each microsecond,
     * and the clock goes on with the next one. */
    r->file_first_id = config.resume ? vgd_now_ns() / 1000 : 1;
    begin(r, features);
    look(r);
    return VGD_OK;
}

void vgd_recorder_stop(struct vgd_recorder *r)
{
    if (vgd_recorder_active(r)) {
        vgd_recorder_state_end(r);
        r->stopping = true;
        vgd_trace_writer_stop(r->writer);
        look(r);
    }
}

void vgd_recorder_finish(struct vgd_recorder *r, uint32_t timeout_ms)
{
    if (r->writer != NULL) {
        vgd_trace_writer_stop(r->writer);
        if (!vgd_trace_writer_wait(r->writer, timeout_ms)) {
            vgd_log(VGD_LOG_WARNING, "trace", "the recording is cut off: its file is too slow");
        }
    }
}

bool vgd_recorder_active(const struct vgd_recorder *r)
{
    return r->writer != NULL && !r->stopping;
}

struct vgd_recorder *vgd_recorder_create(const struct vgd_recorder_config *config)
{
    struct vgd_recorder *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return NULL;
    }
    r->config = *config;
    r->timer = vgd_timer_create(config->loop, look, r);
    r->state_timer = vgd_timer_create(config->loop, vgd_recorder_state_turn, r);
    if (r->timer == NULL || r->state_timer == NULL) {
        vgd_timer_destroy(&r->timer);
        vgd_timer_destroy(&r->state_timer);
        free(r);
        return NULL;
    }
    return r;
}

void vgd_recorder_destroy(struct vgd_recorder *r)
{
    if (r != NULL) {
        r->state.active = false; /* who holds the rings goes with us */
        idle(r);
        vgd_timer_destroy(&r->timer);
        vgd_timer_destroy(&r->state_timer);
        free(r);
    }
}

/* ---- commands ---------------------------------------------------------------------------------
 */

static uint64_t file_id(const struct vgd_recorder *r, uint64_t id)
{
    return id - r->first_id + r->file_first_id;
}

static void put_backing(struct vgd_recorder *r, const struct vgd_trace_backing *what,
                        const struct iovec *iov, uint32_t n_iov, uint64_t n_bytes)
{
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_BACKING, .as.backing = *what};
    uint64_t *at = &record.as.backing.offset_bytes;
    uint64_t end = *at + n_bytes;
    while (*at < end) {
        uint64_t left = end - *at;
        uint64_t part = left < VGD_RECORDER_SPAN_BYTES ? left : VGD_RECORDER_SPAN_BYTES;
        (void)vgd_trace_writer_put(r->writer, &record, iov, n_iov, *at, part);
        *at += part;
    }
}

void vgd_recorder_put_span(void *user, uint32_t res_id, const struct iovec *iov, uint32_t n_iov,
                           uint64_t offset_bytes, uint64_t n_bytes, bool is_write)
{
    const struct vgd_recorder_spans *spans = user;
    struct vgd_recorder *r = spans->recorder;
    if (is_write) {
        if (r->writes_count < VGD_RECORDER_WRITES_MAX) {
            uint32_t i = r->writes_count++;
            r->writes[i].res_id = res_id;
            r->writes[i].iov = iov;
            r->writes[i].n_iov = n_iov;
            r->writes[i].offset_bytes = offset_bytes;
            r->writes[i].n_bytes = n_bytes;
        } else { /* so that a replay knows why it differs */
            vgd_trace_writer_lose(r->writer, n_bytes);
        }
        return;
    }
    struct vgd_trace_backing what = {.command_id = spans->command_id,
                                     .offset_bytes = offset_bytes,
                                     .resource_id = res_id,
                                     .reason = spans->reason};
    put_backing(r, &what, iov, n_iov, n_bytes);
    r->read_bytes += n_bytes;
}

uint64_t vgd_recorder_command(struct vgd_recorder *r, const struct vgd_recorder_command *c)
{
    r->writes_count = 0;
    r->read_bytes = 0;
    if (c->again >= r->first_id) {
        r->executing = file_id(r, c->again);
        return c->again;
    }
    uint64_t id = ++r->last_id;
    if (!c->is_cut && !c->is_lost) {
        struct vgd_recorder_spans spans = {
            .recorder = r, .command_id = file_id(r, id), .reason = VGD_TRACE_BACKING_READ};
        uint64_t untold_bytes = vgd_gpu_command_spans(r->config.gpu, c->queue, c->cmd, c->cmd_bytes,
                                                      vgd_recorder_put_span, &spans);
        if (untold_bytes != 0) {
            vgd_trace_writer_lose(r->writer, untold_bytes);
        }
    }
    uint64_t room_bytes = c->response_room_bytes;
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_COMMAND,
        .as.command = {.command_id = file_id(r, id),
                       .queue_idx = c->queue,
                       .flags = (c->is_cut ? VGD_TRACE_COMMAND_CUT : 0) |
                                (c->is_lost ? VGD_TRACE_COMMAND_LOST : 0),
                       .response_room_bytes =
                           room_bytes < UINT32_MAX ? (uint32_t)room_bytes : UINT32_MAX},
    };
    vgd_recorder_put(r, &record, c->cmd, c->cmd_bytes);
    r->executing = file_id(r, id);
    return id;
}

void vgd_recorder_executed(struct vgd_recorder *r, uint64_t id)
{
    for (uint32_t i = 0; i < r->writes_count && vgd_recorder_active(r); i++) {
        struct vgd_trace_backing what = {.command_id = file_id(r, id),
                                         .offset_bytes = r->writes[i].offset_bytes,
                                         .resource_id = r->writes[i].res_id,
                                         .reason = VGD_TRACE_BACKING_WRITTEN};
        put_backing(r, &what, r->writes[i].iov, r->writes[i].n_iov, r->writes[i].n_bytes);
    }
    r->writes_count = 0;
    r->executing = 0;
}

void vgd_recorder_response(struct vgd_recorder *r, uint64_t id, const uint8_t *resp, size_t n_bytes)
{
    if (id < r->first_id) {
        return;
    }
    struct vgd_reader reader = vgd_reader_of(resp, n_bytes);
    struct vgd_reader header =
        vgd_reader_of(resp, n_bytes < VGD_CTRL_HDR_SIZE ? n_bytes : VGD_CTRL_HDR_SIZE);
    struct vgd_ctrl_hdr hdr;
    bool has_header = vgd_ctrl_hdr_decode(&header, &hdr) == VGD_OK;
    if (has_header && (hdr.flags & VGD_FLAG_FENCE) != 0 && hdr.type < VGD_RESP_ERR_UNSPEC) {
        bool has_ring = (hdr.flags & VGD_FLAG_INFO_RING_IDX) != 0;
        struct vgd_trace_record fence = {
            .kind = VGD_TRACE_KIND_FENCE,
            .as.fence = {.fence_id = hdr.fence_id,
                         .ctx_id = hdr.ctx_id,
                         .ring_idx = has_ring ? hdr.ring_idx : 0,
                         .flags = has_ring ? VGD_TRACE_FENCE_RING : 0},
        };
        vgd_recorder_put(r, &fence, NULL, 0);
    }
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_RESPONSE,
        .as.response = {.command_id = file_id(r, id)},
    };
    vgd_recorder_put(r, &record, resp, n_bytes);
    struct vgd_resp_display_info info;
    if (has_header && hdr.type == VGD_RESP_OK_DISPLAY_INFO) {
        vgd_read_skip(&reader, VGD_CTRL_HDR_SIZE);
        if (vgd_resp_display_info_decode(&reader, &info) == VGD_OK) {
            put_scanouts(r, info.pmodes);
        }
    }
}

void vgd_recorder_features(struct vgd_recorder *r, uint64_t features)
{
    put_device(r, features);
}

void vgd_recorder_reset(struct vgd_recorder *r)
{
    vgd_recorder_state_end(r); /* there is none any more */
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_RESET,
                                      .as.reset = {.reason = VGD_TRACE_RESET_GUEST}};
    vgd_recorder_put(r, &record, NULL, 0);
}
