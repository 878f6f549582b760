/* SPDX-License-Identifier: MIT */
/*
 * vgd-worker: the expendable process that touches the GPU. It maps guest memory and the rings,
 * executes commands through the device, and confirms to the supervisor what ends their use. All it
 * knows that must outlive it lies in the vault.
 *
 *   hello --> (render server) --> ready --> (memory, restore) --> queues run <--> queues stopped
 *
 * One loop thread owns the device, the queues and every renderer call.
 */
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "probe.h"
#include "trace_writer.h"
#include "virgl.h"

/* A worker that ends waits for its recording's file so long. */
#define TRACE_LAST_MS 1000u

static void send_message(struct worker *w, enum vgd_link_type type, const void *payload,
                         size_t n_bytes, const int *fds, uint32_t n_fds)
{
    enum vgd_status st = vgd_link_send(w->link, type, payload, n_bytes, fds, n_fds);
    if (st != VGD_OK && st != VGD_CLOSED) {
        vgd_log(VGD_LOG_ERROR, "link", "message %u to the supervisor: %s", type,
                vgd_status_text(st));
        vgd_loop_quit(w->loop, EXIT_FAILURE);
    }
}

void vgd_worker_send(struct worker *w, enum vgd_link_type type, const void *payload, size_t n_bytes)
{
    send_message(w, type, payload, n_bytes, NULL, 0);
}

void vgd_worker_send_fd(struct worker *w, enum vgd_link_type type, const void *payload,
                        size_t n_bytes, int fd)
{
    send_message(w, type, payload, n_bytes, &fd, 1);
}

void vgd_worker_confirm(struct worker *w, uint32_t request_seq, enum vgd_status status,
                        uint64_t value)
{
    struct vgd_link_done done = {.request_seq = request_seq, .status = status, .value = value};
    vgd_worker_send(w, VGD_LINK_DONE, &done, sizeof(done));
}

/* ---- memory -----------------------------------------------------------------------------------
 */

static void memory_settled(struct worker *w)
{
    vgd_gpu_memory_changed(w->gpu);
    vgd_worker_queues_remap(w);
    if (w->recording != NULL) {
        vgd_recorder_changed(w->recording);
    }
}

static enum vgd_status mem_table(struct worker *w, const struct vgd_link_message *msg)
{
    const struct vgd_link_mem_table *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL || m->n_regions > VGD_LINK_FDS_MAX || m->n_regions != msg->n_fds) {
        return VGD_RANGE;
    }
    vgd_gpu_memory_detach(w->gpu);
    bool changed;
    enum vgd_status st = vgd_mem_set_table(w->mem, m->regions, msg->fds, m->n_regions, &changed);
    memory_settled(w);
    vgd_worker_confirm(w, m->request_seq, st, 0);
    return VGD_OK;
}

static enum vgd_status mem_add(struct worker *w, const struct vgd_link_message *msg)
{
    const struct vgd_vu_mem_region *region = vgd_link_payload(msg, sizeof(*region));
    if (region == NULL || msg->n_fds != 1) {
        return VGD_RANGE;
    }
    enum vgd_status st = vgd_mem_add(w->mem, region, msg->fds[0]);
    if (st != VGD_OK) {
        vgd_log(VGD_LOG_WARNING, "memory", "a region of guest memory cannot be mapped: %s",
                vgd_status_text(st));
        return VGD_OK;
    }
    vgd_gpu_memory_changed(w->gpu);
    if (w->recording != NULL) {
        vgd_recorder_changed(w->recording);
    }
    return VGD_OK;
}

static enum vgd_status mem_remove(struct worker *w, const struct vgd_link_message *msg)
{
    const struct vgd_link_mem_remove *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL) {
        return VGD_RANGE;
    }
    vgd_gpu_memory_detach(w->gpu);
    enum vgd_status st = vgd_mem_remove(w->mem, &m->region);
    memory_settled(w);
    vgd_worker_confirm(w, m->request_seq, st, 0);
    return VGD_OK;
}

/* ---- life -------------------------------------------------------------------------------------
 */

static enum vgd_status reset(struct worker *w, const struct vgd_link_message *msg)
{
    const struct vgd_link_request *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL) {
        return VGD_RANGE;
    }
    vgd_worker_queues_drop(w);
    vgd_gpu_fail_pending(w->gpu); /* gives the requests back; a stopped queue takes no answers */
    vgd_gpu_reset(w->gpu);
    memset(w->vault->inflight, 0, sizeof(w->vault->inflight));
    if (w->recording != NULL) {
        vgd_recorder_reset(w->recording);
    }
    vgd_worker_confirm(w, m->request_seq, VGD_OK, 0);
    return VGD_OK;
}

static enum vgd_status display_message(struct worker *w, struct vgd_link_message *msg)
{
    enum vgd_status st = vgd_presenter_message(w->presenter, msg);
    const struct vgd_link_display_state *state = vgd_link_payload(msg, sizeof(*state));
    if (st == VGD_OK && msg->type == VGD_LINK_DISPLAY_STATE && state != NULL && state->connected &&
        state->fresh) {
        vgd_gpu_redisplay(w->gpu);
    }
    return st;
}

/* ---- recording --------------------------------------------------------------------------------
 */

static void shown(void *user, const struct vgd_presenter_look *look)
{
    struct worker *w = user;
    vgd_recorder_shown(w->recording, look);
}

static void hold(void *user, bool held)
{
    struct worker *w = user;
    w->held = held;
    if (!held) {
        vgd_worker_queues_unhold(w);
    }
}

/* Who records is asked by everything that goes by. */
static void recording_changed(struct worker *w)
{
    w->recording = w->recorder != NULL && vgd_recorder_active(w->recorder) ? w->recorder : NULL;
    vgd_presenter_watch(w->presenter, w->recording != NULL ? shown : NULL, w);
}

static void trace_state(void *user, const struct vgd_link_trace_state *state)
{
    struct worker *w = user;
    recording_changed(w);
    vgd_worker_send(w, VGD_LINK_TRACE_STATE, state, sizeof(*state));
}

static enum vgd_status trace_start(struct worker *w, struct vgd_link_message *msg)
{
    const struct vgd_link_trace_start *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL || msg->n_fds != 1) {
        return VGD_RANGE;
    }
    if (w->recorder == NULL) {
        w->recorder = vgd_recorder_create(&(struct vgd_recorder_config){
            .loop = w->loop,
            .gpu = w->gpu,
            .render = w->render,
            .display = vgd_presenter_display(w->presenter),
            .window_bytes = w->window_bytes,
            .n_scanouts = w->n_scanouts,
            .virglrenderer_version = vgd_virgl_runtime_version(),
            .tell = trace_state,
            .hold = hold,
            .user = w,
        });
        if (w->recorder == NULL) { /* the guest goes on without */
            struct vgd_link_trace_state failed = {.state = VGD_TRACE_FAILED, .error = ENOMEM};
            trace_state(w, &failed);
            return VGD_OK;
        }
    }
    enum vgd_status st = vgd_recorder_start(w->recorder, m, w->features, &msg->fds[0]);
    recording_changed(w);
    return st;
}

static enum vgd_status trace_stop(struct worker *w)
{
    if (w->recording != NULL) {
        vgd_recorder_stop(w->recorder);
        recording_changed(w);
    }
    return VGD_OK;
}

static enum vgd_status features(struct worker *w, const struct vgd_link_message *msg)
{
    const struct vgd_link_u64 *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL) {
        return VGD_RANGE;
    }
    w->features = m->value;
    vgd_gpu_set_features(w->gpu, m->value);
    if (w->recording != NULL) {
        vgd_recorder_features(w->recording, m->value);
    }
    return VGD_OK;
}

static enum vgd_status dispatch(struct worker *w, struct vgd_link_message *msg)
{
    if (w->gpu == NULL && msg->type != VGD_LINK_HELLO && msg->type != VGD_LINK_SERVER) {
        return VGD_RANGE;
    }
    switch (msg->type) {
    case VGD_LINK_HELLO:
        return vgd_worker_hello(w, msg);
    case VGD_LINK_SERVER:
        return vgd_worker_server(w, msg);
    case VGD_LINK_FEATURES:
        return features(w, msg);
    case VGD_LINK_MEM_TABLE:
        return mem_table(w, msg);
    case VGD_LINK_MEM_ADD:
        return mem_add(w, msg);
    case VGD_LINK_MEM_REMOVE:
        return mem_remove(w, msg);
    case VGD_LINK_QUEUE_START:
        return vgd_worker_queue_start(w, msg);
    case VGD_LINK_QUEUE_CALL:
        return vgd_worker_queue_call(w, msg);
    case VGD_LINK_QUEUE_STOP:
        return vgd_worker_queue_stop(w, msg);
    case VGD_LINK_RESET:
        return reset(w, msg);
    case VGD_LINK_RESTORE: {
        enum vgd_status st = vgd_gpu_restore(w->gpu);
        if (st != VGD_OK) {
            vgd_log(VGD_LOG_WARNING, "vault", "device lost, starting empty: the journal: %s",
                    vgd_status_text(st));
        }
        return VGD_OK;
    }
    case VGD_LINK_WINDOW_DONE: {
        const struct vgd_link_window_done *m = vgd_link_payload(msg, sizeof(*m));
        if (m == NULL) {
            return VGD_RANGE;
        }
        vgd_gpu_window_done(w->gpu, m->token, (enum vgd_status)m->status);
        if (w->recording != NULL) {
            vgd_recorder_changed(w->recording);
        }
        return VGD_OK;
    }
    case VGD_LINK_TRACE_START:
        return trace_start(w, msg);
    case VGD_LINK_TRACE_STOP:
        return trace_stop(w);
    case VGD_LINK_DISPLAY_STATE:
    case VGD_LINK_FRAME_DONE:
    case VGD_LINK_DMABUF_DONE:
    case VGD_LINK_INFO_REPLY:
    case VGD_LINK_EDID_REPLY:
    case VGD_LINK_SNAPSHOT:
        return display_message(w, msg);
    case VGD_LINK_LOG_LEVEL: {
        const struct vgd_link_u64 *m = vgd_link_payload(msg, sizeof(*m));
        if (m == NULL || m->value > VGD_LOG_DEBUG) {
            return VGD_RANGE;
        }
        vgd_log_set_level((enum vgd_log_level)m->value);
        return VGD_OK;
    }
    default:
        return VGD_RANGE;
    }
}

static void link_message(void *user, struct vgd_link_message *msg)
{
    struct worker *w = user;
    enum vgd_status st = dispatch(w, msg);
    if (st != VGD_OK) {
        vgd_log(VGD_LOG_ERROR, "link", "message %u from the supervisor: %s", msg->type,
                vgd_status_text(st));
        vgd_loop_quit(w->loop, EXIT_FAILURE);
    }
}

static void link_closed(void *user, enum vgd_status why)
{
    (void)why; /* the supervisor ended, or wants us gone */
    struct worker *w = user;
    vgd_loop_quit(w->loop, EXIT_SUCCESS);
}

/* Each blob and each Vulkan context of the guest is some descriptors. */
static void raise_fd_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int run(int link_fd)
{
    raise_fd_limit();
    (void)signal(SIGPIPE, SIG_IGN);
    /* A terminal, or whoever ends a service, sends these to both; the supervisor decides, and lets
     * a recording be written first. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    struct worker w = {.loop = vgd_loop_create()};
    if (w.loop == NULL) {
        return EXIT_FAILURE;
    }
    w.link = vgd_link_create(w.loop, &link_fd, link_message, link_closed, &w);
    if (w.link == NULL) {
        return EXIT_FAILURE;
    }
    int rc = vgd_loop_run(w.loop);
    if (w.recorder != NULL) {
        vgd_recorder_finish(w.recorder, TRACE_LAST_MS);
    }
    /* Guest memory, rings and the GPU go with the process; a driver's tear-down could only hang. */
    _exit(rc);
}

static int probe(int argc, char **argv)
{
    struct vgd_probe_options options = {0};
    bool json = false;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            json = true;
        } else if (strcmp(argv[i], "--require-hardware") == 0) {
            options.require_hardware = true;
        } else if (strcmp(argv[i], "--venus") == 0) {
            options.venus = true;
        } else if (strcmp(argv[i], "--render-server") == 0 && i + 1 < argc) {
            options.render_server = argv[++i];
        } else if (strcmp(argv[i], "--layer") == 0 && i + 1 < argc) {
            options.layer_manifest = argv[++i];
        } else if (strcmp(argv[i], "--render-node") == 0 && i + 1 < argc) {
            options.render_node = argv[++i];
        } else {
            return EXIT_FAILURE;
        }
    }
    return vgd_probe_run(&options, json, stdout);
}

int main(int argc, char **argv)
{
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    vgd_log_setup("vgd-worker", VGD_LOG_INFO);
    if (argc >= 2 && strcmp(argv[1], "--probe") == 0) {
        return probe(argc, argv);
    }
    if (argc == 3 && strcmp(argv[1], "--link-fd") == 0) {
        char *end;
        long fd = strtol(argv[2], &end, 10);
        if (*end == '\0' && fd >= 3 && fd < 1 << 20) {
            return run((int)fd);
        }
    }
    (void)fprintf(stderr, "vgd-worker is started by vgd; run vgd --help instead\n");
    return EXIT_FAILURE;
}
