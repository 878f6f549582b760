/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "fd.h"
#include "replay.h"

#define DEFAULT_PLAIN "vgd --virgl --no-control --fd={fd}"
#define DEFAULT_WINDOW "vgd --virgl --venus --no-control --fd={fd}"

static const struct {
    uint32_t bit;
    const char *name;
} features[] = {
    {VGD_F_VIRGL, "VIRGL"},
    {VGD_F_EDID, "EDID"},
    {VGD_F_RESOURCE_UUID, "RESOURCE_UUID"},
    {VGD_F_RESOURCE_BLOB, "RESOURCE_BLOB"},
    {VGD_F_CONTEXT_INIT, "CONTEXT_INIT"},
    {VGD_F_BLOB_ALIGNMENT, "BLOB_ALIGNMENT"},
};
#define N_FEATURES (sizeof(features) / sizeof(features[0]))

bool replay_has(const struct replay *r, uint32_t feature)
{
    return r->gpu != NULL && (vgd_guest_frontend_acked_features(vgd_guest_gpu_frontend(r->gpu)) &
                              UINT64_C(1) << feature) != 0;
}

void replay_disconnect(struct replay *r)
{
    replay_drop_flights(r);
    model_clear(&r->model);
    vgd_guest_gpu_close(r->gpu);
    r->gpu = NULL;
    replay_memory_end(r);
    if (r->process.pid != 0) {
        (void)vgd_guest_process_stop(&r->process);
        r->process = (struct vgd_guest_process){.socket = -1};
    }
}

/* The bits to ack. One that is not the device's own is always there: 0 would mean the profile's. */
static uint64_t ack_of(const struct replay *r)
{
    return r->ack_features | UINT64_C(1) << VGD_GUEST_F_VERSION_1;
}

static void say_features(struct replay *r)
{
    for (size_t i = 0; i < N_FEATURES && !r->told_features; i++) {
        uint64_t bit = UINT64_C(1) << features[i].bit;
        if ((r->ack_features & bit) != 0 && !replay_has(r, features[i].bit)) {
            tool_complain("the backend has no %s, which the trace's guest had", features[i].name);
        }
    }
    uint64_t window_bytes = vgd_guest_window_bytes(r->gpu);
    if (r->window_bytes > window_bytes && !r->told_features) {
        tool_complain("the backend's host-visible region has %llu MiB, the trace's had %llu",
                      (unsigned long long)(window_bytes >> 20),
                      (unsigned long long)(r->window_bytes >> 20));
    }
    r->told_features = true;
}

static int backend_socket(struct replay *r)
{
    const struct tool_replay *config = r->config;
    if (config->socket_path != NULL) {
        int fd = vgd_guest_connect(config->socket_path);
        if (fd < 0) {
            (void)replay_fail(r, "cannot connect to %s", config->socket_path);
        }
        return fd;
    }
    const char *command = config->exec != NULL  ? config->exec
                          : r->window_bytes > 0 ? DEFAULT_WINDOW
                                                : DEFAULT_PLAIN;
    enum vgd_status st = vgd_guest_process_start(command, config->log_fd, &r->process);
    if (st != VGD_OK) {
        (void)replay_fail(r, "the backend does not start: %s: %s", command, vgd_status_text(st));
        return -1;
    }
    return vgd_fd_take(&r->process.socket);
}

static bool open_guest(struct replay *r)
{
    VGD_AUTO_FD fd = backend_socket(r);
    if (fd < 0) {
        return false;
    }
    struct vgd_guest_gpu_config config = {
        .frontend = {.profile = r->config->profile,
                     .ack_features = ack_of(r),
                     .no_window = r->window_bytes == 0},
        .ram_bytes = r->config->ram_bytes + REPLAY_COMMAND_RAM_BYTES,
        .n_scanouts = r->n_scanouts,
        .w_px = r->scanouts[0].w_px,
        .h_px = r->scanouts[0].h_px,
        .command_timeout_ms = r->config->timeout_ms,
    };
    enum vgd_status st;
    r->gpu = vgd_guest_gpu_open_raw(&fd, &config, &st);
    if (r->gpu == NULL || !replay_memory_begin(r)) {
        return replay_fail(r, "no guest: %s", vgd_status_text(st));
    }
    for (uint32_t i = 0; i < r->n_scanouts; i++) {
        if (r->scanouts[i].w_px != 0) {
            vgd_guest_display_resize(vgd_guest_gpu_display(r->gpu), i, r->scanouts[i].w_px,
                                     r->scanouts[i].h_px);
        }
    }
    st = vgd_guest_gpu_start(r->gpu);
    if (st != VGD_OK) {
        return replay_fail(r, "the device does not start: %s: %s",
                           vgd_guest_frontend_last_request(vgd_guest_gpu_frontend(r->gpu)),
                           vgd_status_text(st));
    }
    return true;
}

bool replay_fresh(struct replay *r)
{
    if (r->dry) {
        model_clear(&r->model);
        r->fresh_features = r->ack_features;
        r->fresh_window_bytes = r->window_bytes;
        r->needs_fresh = r->played = r->misses = false;
        return r->heap != NULL || replay_memory_begin(r);
    }
    if (r->gpu != NULL) {
        struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(r->gpu);
        bool resets =
            (vgd_guest_frontend_acked_protocol(fe) & UINT64_C(1) << VGD_VU_F_RESET_DEVICE) != 0 &&
            (vgd_guest_window_bytes(r->gpu) != 0) == (r->window_bytes != 0);
        if (resets) {
            replay_drop_flights(r);
            model_clear(&r->model);
            vgd_guest_frontend_set_ack(fe, ack_of(r));
            enum vgd_status st = vgd_guest_gpu_reset(r->gpu);
            if (st != VGD_OK) {
                return replay_fail(r, "the reset failed: %s", vgd_status_text(st));
            }
        } else {
            replay_disconnect(r);
        }
    }
    if (r->gpu == NULL && !open_guest(r)) {
        return false;
    }
    if (r->fresh_features != r->ack_features || r->fresh_window_bytes != r->window_bytes) {
        r->told_features = false;
    }
    r->fresh_features = r->ack_features;
    r->fresh_window_bytes = r->window_bytes;
    say_features(r);
    r->needs_fresh = false;
    r->played = false;
    r->misses = false;
    return true;
}

bool replay_ready(struct replay *r)
{
    /* Features are chosen when a device is reset. */
    bool fits = (r->dry ? r->heap != NULL : r->gpu != NULL) && !r->needs_fresh &&
                r->fresh_features == r->ack_features && r->fresh_window_bytes == r->window_bytes;
    return fits || (replay_wait_all(r) && replay_fresh(r));
}
