/* SPDX-License-Identifier: MIT */
/* What the control socket is told: the supervisor's and its worker's state. */
#include <json-c/json.h>
#include <stdio.h>
#include <unistd.h>

#include "fd.h"
#include "live_json.h"
#include "log.h"
#include "vgd.h"

static void add_u64(struct json_object *to, const char *name, uint64_t value)
{
    (void)json_object_object_add(to, name, json_object_new_uint64(value));
}

static void add_string(struct json_object *to, const char *name, const char *text)
{
    (void)json_object_object_add(to, name, json_object_new_string(text));
}

static void add_bool(struct json_object *to, const char *name, bool value)
{
    (void)json_object_object_add(to, name, json_object_new_boolean(value));
}

static struct json_object *worker_status(const struct vgd *vgd)
{
    struct vgd_worker_process_status st;
    vgd_worker_process_get_status(vgd->worker, &st);
    struct json_object *out = json_object_new_object();
    add_u64(out, "pid", (uint64_t)st.pid);
    add_u64(out, "server_pid", (uint64_t)st.server_pid);
    add_string(out, "state", st.state);
    add_u64(out, "starts", st.starts_count);
    add_u64(out, "deaths", st.deaths_count);
    add_u64(out, "server_deaths", st.server_deaths_count);
    add_bool(out, "gave_up_3d", st.gave_up_3d);
    add_u64(out, "last_recovery_us", st.last_recovery_ns / 1000);
    add_string(out, "renderer", st.ready.renderer);
    add_string(out, "gpu", st.ready.gpu_name);
    add_bool(out, "3d", st.ready.has_3d);
    add_bool(out, "software", st.ready.is_software);
    add_u64(out, "capsets", st.ready.num_capsets);
    add_string(out, "note", st.ready.note);
    add_string(out, "vulkan", st.ready.vulkan_name);
    add_string(out, "vulkan_note", st.ready.vulkan_note);
    return out;
}

static struct json_object *device_status(const struct vgd *vgd)
{
    const struct vgd_gpu_counters *c = &vgd_worker_process_vault(vgd->worker)->counters;
    struct json_object *out = json_object_new_object();
    add_u64(out, "commands", c->commands);
    add_u64(out, "errors", c->errors);
    add_u64(out, "submits", c->submits);
    add_u64(out, "submit_bytes", c->submit_bytes);
    add_u64(out, "transfers", c->transfers);
    add_u64(out, "flushes", c->flushes);
    add_u64(out, "fences", c->fences);
    add_u64(out, "resources", c->resources_live);
    add_u64(out, "contexts", c->contexts_live);
    add_u64(out, "contexts_lost", c->contexts_lost);
    add_u64(out, "resource_bytes", c->resource_bytes_live);
    return out;
}

static struct json_object *window_status(const struct vgd_shmem_status *st, uint64_t size_bytes)
{
    struct json_object *out = json_object_new_object();
    add_u64(out, "bytes", size_bytes);
    add_bool(out, "usable", st->usable);
    add_u64(out, "live", st->live_count);
    add_u64(out, "live_bytes", st->live_bytes);
    add_u64(out, "waiting", st->waiting_count);
    add_u64(out, "parked", st->parked_count);
    add_u64(out, "quarantined", st->quarantined_count);
    add_u64(out, "maps", st->maps_total);
    add_u64(out, "refused", st->refused_total);
    add_u64(out, "withdrawn", st->withdrawn_total);
    return out;
}

static void add_trace(struct json_object *out, const struct vgd_recording_status *st)
{
    add_string(out, "state", st->name);
    add_string(out, "why", st->why);
    add_u64(out, "records", st->records);
    add_u64(out, "bytes_in", st->bytes_in);
    add_u64(out, "bytes_out", st->bytes_out);
    add_u64(out, "gaps", st->gaps);
    add_u64(out, "lost_records", st->lost_records);
    add_u64(out, "lost_bytes", st->lost_bytes);
    add_u64(out, "memory_bytes", st->memory_bytes);
    (void)json_object_object_add(out, "seconds", json_object_new_double(st->seconds));
}

static struct json_object *session_status(const struct vgd *vgd)
{
    struct json_object *out = json_object_new_object();
    add_bool(out, "connected", vgd->session != NULL);
    if (vgd->session == NULL) {
        return out;
    }
    struct vgd_session_status st;
    vgd_session_get_status(vgd->session, &st);
    char hex[32];
    (void)snprintf(hex, sizeof(hex), "0x%llx", (unsigned long long)st.features_acked);
    add_string(out, "features", hex);
    (void)snprintf(hex, sizeof(hex), "0x%llx", (unsigned long long)st.protocol_features_acked);
    add_string(out, "protocol_features", hex);
    add_u64(out, "memory_regions", st.regions_count);
    add_u64(out, "memory_bytes", st.memory_bytes);
    add_bool(out, "control_queue", st.queue_running[0]);
    add_bool(out, "cursor_queue", st.queue_running[1]);
    add_bool(out, "display", st.display_connected);
    add_u64(out, "messages", st.messages_count);
    if (vgd->options.venus) {
        (void)json_object_object_add(out, "window",
                                     window_status(&st.window, vgd->options.hostmem_bytes));
    }
    return out;
}

/* NULL: nothing has been recorded. */
static struct json_object *trace_status(const struct vgd *vgd)
{
    struct vgd_recording_status st;
    vgd_recording_get_status(vgd->recording, &st);
    if (st.state == VGD_RECORDING_NONE) {
        return NULL;
    }
    struct json_object *out = json_object_new_object();
    add_trace(out, &st);
    return out;
}

static void control_status(void *user, struct json_object *out)
{
    const struct vgd *vgd = user;
    add_string(out, "version", VGD_VERSION);
    add_u64(out, "pid", (uint64_t)getpid());
    (void)json_object_object_add(out, "worker", worker_status(vgd));
    (void)json_object_object_add(out, "session", session_status(vgd));
    (void)json_object_object_add(out, "device", device_status(vgd));
    (void)json_object_object_add(out, "trace", trace_status(vgd));
}

static struct json_object *control_counters(void *user)
{
    const struct vgd *vgd = user;
    struct vgd_worker_process_status st;
    vgd_worker_process_get_status(vgd->worker, &st);
    struct vgd_live_worker worker = {
        .uptime_ns = vgd_now_ns() - vgd->started_ns,
        .starts = st.starts_count,
        .deaths = st.deaths_count,
        .pid = (uint64_t)st.pid,
    };
    return vgd_live_counters(&vgd_worker_process_vault(vgd->worker)->counters, &worker);
}

static struct json_object *control_contexts(void *user, uint32_t from_id, int64_t *out_next_id)
{
    const struct vgd *vgd = user;
    return vgd_live_contexts(&vgd_worker_process_vault(vgd->worker)->live, from_id, out_next_id);
}

static struct json_object *control_errors(void *user)
{
    const struct vgd *vgd = user;
    return vgd_live_errors(&vgd_worker_process_vault(vgd->worker)->live, vgd_now_ns());
}

static enum vgd_status control_screenshot(void *user, uint32_t scanout_idx, uint64_t token)
{
    struct vgd *vgd = user;
    if (vgd->session == NULL) {
        return VGD_NO_SCANOUT; /* no guest, no screen */
    }
    uint32_t question = vgd->last_question + 1;
    question += question == 0;
    enum vgd_status st = vgd_session_snapshot(vgd->session, scanout_idx, question);
    if (st == VGD_OK) {
        vgd->last_question = question;
        vgd->snapshot_tokens[question % VGD_CONTROL_CLIENTS_MAX] = token;
        vgd->snapshot_questions[question % VGD_CONTROL_CLIENTS_MAX] = question;
    }
    return st; /* a worker that dies with the question: the control socket has its own deadline */
}

void vgd_control_session_snapshot(void *user, uint32_t question, enum vgd_status status,
                                  uint32_t w_px, uint32_t h_px, int *fd)
{
    struct vgd *vgd = user;
    uint32_t slot = question % VGD_CONTROL_CLIENTS_MAX;
    if (vgd->control != NULL && question != 0 && vgd->snapshot_questions[slot] == question) {
        vgd->snapshot_questions[slot] = 0;
        vgd_control_screenshot_reply(vgd->control, vgd->snapshot_tokens[slot], status, w_px, h_px,
                                     fd);
    }
}

static enum vgd_status control_trace_start(void *user, int *fd, uint32_t picture_ms,
                                           const char **why)
{
    struct vgd *vgd = user;
    if (vgd->quitting) {
        vgd_fd_closep(fd);
        *why = "this vgd is about to end";
        return VGD_CLOSED;
    }
    uint32_t ms = picture_ms == VGD_CONTROL_NO_PICTURES ? VGD_LINK_TRACE_NO_PIXELS : picture_ms;
    return vgd_recording_start(vgd->recording, fd, ms, vgd_worker_process_ready(vgd->worker), why);
}

static enum vgd_status control_trace_stop(void *user)
{
    struct vgd *vgd = user;
    struct vgd_recording_status st;
    if (!vgd_recording_stop(vgd->recording)) {
        return VGD_UNSUPPORTED;
    }
    vgd_recording_get_status(vgd->recording, &st);
    return st.state == VGD_RECORDING_STOPPING ? VGD_AGAIN : VGD_OK;
}

static void control_trace(void *user, struct json_object *out)
{
    const struct vgd *vgd = user;
    struct vgd_recording_status st;
    vgd_recording_get_status(vgd->recording, &st);
    add_trace(out, &st);
}

/* The worker that there is, and through our own level all that come. */
static void control_log_level(void *user, enum vgd_log_level level)
{
    struct vgd *vgd = user;
    vgd_log_set_level(level);
    struct vgd_link_u64 m = {.value = level};
    (void)vgd_worker_process_send(vgd->worker, VGD_LINK_LOG_LEVEL, &m, sizeof(m), NULL, 0);
}

void vgd_control_open(struct vgd *vgd)
{
    char path[VGD_PATH_BYTES];
    if (vgd->options.no_control) {
        return;
    }
    if (vgd->options.control_path != NULL) {
        (void)snprintf(path, sizeof(path), "%s", vgd->options.control_path);
    } else if (vgd_control_default_path(path, sizeof(path)) != VGD_OK) {
        vgd_log(VGD_LOG_INFO, "control",
                "no control socket for vgdctl: set XDG_RUNTIME_DIR or give --control-path=PATH");
        return;
    }
    vgd->started_ns = vgd_now_ns();
    struct vgd_control_config config = {
        .loop = vgd->loop,
        .path = path,
        .ops = {.status = control_status,
                .screenshot = control_screenshot,
                .trace_start = control_trace_start,
                .trace_stop = control_trace_stop,
                .trace = control_trace,
                .log_level = control_log_level,
                .counters = control_counters,
                .contexts = control_contexts,
                .errors = control_errors},
        .user = vgd,
    };
    (void)!vgd_control_create(&config, &vgd->control); /* says why itself */
}
