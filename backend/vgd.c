/* SPDX-License-Identifier: MIT */
/*
 * vgd: the supervisor. It owns the sockets and what the guest has been promised, links no GPU
 * library, and outlives every worker. One thread, one loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fd.h"
#include "frames.h"
#include "layer_env.h"
#include "log.h"
#include "record_file.h"
#include "render_server.h"
#include "vgd.h"

#define LISTEN_BACKLOG 1
/* Descriptors for all else: sockets, guest memory, requests on their way. */
#define OTHER_FDS_MAX 256u
/* In the host-visible region, however few descriptors there are. */
#define MAPS_LEAST 64u
/* A recording that runs when we end has this long to get into its file. */
#define QUIT_RECORDING_MS 2000u
#define NS_PER_MS 1000000ull

/* ---- sessions and workers ---------------------------------------------------------------------
 */

static bool recording_to_worker(void *user, enum vgd_link_type type, const void *payload,
                                size_t n_bytes, const int *fds, uint32_t n_fds)
{
    struct vgd *vgd = user;
    return vgd_worker_process_send(vgd->worker, type, payload, n_bytes, fds, n_fds);
}

static void quit_due(void *user)
{
    struct vgd *vgd = user;
    vgd_loop_quit(vgd->loop, vgd->quit_status);
}

static void recording_started(void *user)
{
    struct vgd *vgd = user;
    if (vgd->control != NULL) {
        vgd_control_trace_started(vgd->control);
    }
}

static void recording_over(void *user)
{
    struct vgd *vgd = user;
    if (vgd->quitting) {
        quit_due(vgd);
    }
    if (vgd->control != NULL) {
        vgd_control_trace_stopped(vgd->control);
    }
}

/* End, with what is recorded in its file. A second reason to end changes nothing: it is soon. */
static void quit(struct vgd *vgd, int status)
{
    if (vgd->quitting) {
        return;
    }
    vgd->quitting = true;
    vgd->quit_status = status;
    if (vgd_recording_stop(vgd->recording)) {
        vgd_timer_start(vgd->quit_timer, QUIT_RECORDING_MS * NS_PER_MS);
    } else {
        quit_due(vgd);
    }
}

static void worker_told(void *user)
{
    struct vgd *vgd = user;
    vgd_recording_worker_told(vgd->recording);
}

static void worker_ready(void *user, const struct vgd_link_ready *ready, bool again)
{
    struct vgd *vgd = user;
    if (vgd->session != NULL) {
        vgd_session_worker_ready(vgd->session, ready, again); /* calls worker_told */
    } else {
        worker_told(vgd);
    }
}

static void worker_message(void *user, struct vgd_link_message *msg)
{
    struct vgd *vgd = user;
    if (msg->type == VGD_LINK_TRACE_STATE) {
        if (vgd_recording_worker_state(vgd->recording, msg) != VGD_OK) {
            vgd_worker_process_kill(vgd->worker, "a TRACE_STATE that cannot be");
        }
    } else if (vgd->session != NULL) {
        vgd_session_worker_message(vgd->session, msg);
    }
}

static void worker_gone(void *user, const struct vgd_worker_end *end)
{
    struct vgd *vgd = user;
    vgd_recording_worker_gone(vgd->recording, end);
    if (vgd->session != NULL) {
        vgd_session_worker_gone(vgd->session);
    }
}

static void worker_failed(void *user)
{
    struct vgd *vgd = user;
    quit(vgd, EXIT_FAILURE);
}

static bool create_worker(struct vgd *vgd)
{
    struct vgd_worker_process_config config = {
        .loop = vgd->loop,
        .program = vgd->worker_program,
        .render_node = vgd->options.render_node != NULL ? vgd->options.render_node : "",
        .want_virgl = vgd->options.virgl,
        .want_venus = vgd->options.venus,
        .render_server = vgd->options.render_server,
        .layer_dir = vgd->layer_dir,
        .window_bytes = vgd->options.venus ? vgd->options.hostmem_bytes : 0,
        .require_hardware = vgd->options.require_hardware,
        .strict_streams = vgd->options.strict,
        .n_scanouts = VGD_MAX_SCANOUTS,
        .restart_window_ms = vgd->options.restart_window_ms,
        .frames_fd = vgd->frames_fd,
        .on_ready = worker_ready,
        .on_message = worker_message,
        .on_gone = worker_gone,
        .on_failed = worker_failed,
        .user = vgd,
        .n_earlier = vgd->n_earlier,
    };
    memcpy(config.earlier, vgd->earlier, sizeof(config.earlier));
    vgd->worker = vgd_worker_process_create(&config);
    return vgd->worker != NULL;
}

static void session_end(void *user, enum vgd_session_end how)
{
    struct vgd *vgd = user;
    vgd->ended = how;
    vgd_timer_start(vgd->end_timer, 0);
}

static bool open_session(struct vgd *vgd, int *fd)
{
    vgd->session = vgd_session_create(
        &(struct vgd_session_config){
            .loop = vgd->loop,
            .worker = vgd->worker,
            .frames = vgd->frames,
            .n_scanouts = VGD_MAX_SCANOUTS,
            .window_bytes = vgd->options.venus ? vgd->options.hostmem_bytes : 0,
            .maps_max = vgd->maps_max,
            .on_end = session_end,
            .on_worker_told = worker_told,
            .on_snapshot = vgd_control_session_snapshot,
            .user = vgd,
        },
        fd);
    return vgd->session != NULL;
}

/* A VMM that closes its socket ends us. One that was refused does not: the next may connect, and
 * finds nothing of it. */
static void end_due(void *user)
{
    struct vgd *vgd = user;
    vgd_session_destroy(vgd->session);
    vgd->session = NULL;
    bool listening = vgd->listen_fd >= 0;
    if (vgd->ended == VGD_SESSION_CLOSED || !listening) {
        vgd_log(VGD_LOG_INFO, "session", "the front-end is gone");
        quit(vgd, vgd->ended == VGD_SESSION_CLOSED ? EXIT_SUCCESS : EXIT_FAILURE);
        return;
    }
    vgd_worker_process_destroy(vgd->worker);
    vgd_recording_worker_gone(vgd->recording, &(struct vgd_worker_end){.replaced = true});
    if (!create_worker(vgd)) {
        quit(vgd, EXIT_FAILURE);
        return;
    }
    vgd_worker_process_start(vgd->worker);
    vgd_watch_set(vgd->listen_watch, EPOLLIN);
}

static void connection_waiting(void *user, uint32_t events)
{
    (void)events;
    struct vgd *vgd = user;
    VGD_AUTO_FD fd = accept4(vgd->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    if (open_session(vgd, &fd)) {
        vgd_watch_set(vgd->listen_watch, 0); /* one guest a process */
    }
}

static bool listen_on(struct vgd *vgd, const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(addr.sun_path)) {
        vgd_log(VGD_LOG_ERROR, "vgd", "--socket-path: longer than the %zu bytes of a socket's name",
                sizeof(addr.sun_path) - 1);
        return false;
    }
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) { /* of a backend that was killed? */
        VGD_AUTO_FD try_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(try_fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 && errno == ECONNREFUSED) {
            (void)unlink(path);
        }
    }
    vgd->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (vgd->listen_fd < 0 || bind(vgd->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
        listen(vgd->listen_fd, LISTEN_BACKLOG) != 0) {
        vgd_log(VGD_LOG_ERROR, "vgd", "--socket-path=%s: %s", path, strerror(errno));
        return false;
    }
    (void)lstat(path, &vgd->listen_stat);
    vgd->listen_watch = vgd_loop_watch(vgd->loop, vgd->listen_fd, EPOLLIN, connection_waiting, vgd);
    return vgd->listen_watch != NULL;
}

static void unlink_socket(const struct vgd *vgd)
{
    struct stat st;
    if (vgd->listen_fd >= 0 && lstat(vgd->options.socket_path, &st) == 0 &&
        st.st_dev == vgd->listen_stat.st_dev && st.st_ino == vgd->listen_stat.st_ino) {
        (void)unlink(vgd->options.socket_path);
    }
}

/* ---- main -------------------------------------------------------------------------------------
 */

static void signalled(void *user, uint32_t events)
{
    (void)events;
    struct vgd *vgd = user;
    struct signalfd_siginfo info;
    if (read(vgd->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        vgd_log(VGD_LOG_INFO, "vgd", "ended by signal %u", info.ssi_signo);
        quit(vgd, EXIT_SUCCESS);
    }
}

/* vgd-worker lies beside us in a build folder, in libexec when installed. */
static bool find_worker(struct vgd *vgd)
{
    ssize_t n = readlink("/proc/self/exe", vgd->worker_program, sizeof(vgd->worker_program) - 16);
    if (n > 0) {
        vgd->worker_program[n] = '\0';
        char *slash = strrchr(vgd->worker_program, '/');
        (void)snprintf(slash + 1, sizeof("vgd-worker"), "vgd-worker");
        if (access(vgd->worker_program, X_OK) == 0) {
            return true;
        }
    }
    (void)snprintf(vgd->worker_program, sizeof(vgd->worker_program), "%s/vgd-worker",
                   VGD_LIBEXECDIR);
    if (access(vgd->worker_program, X_OK) == 0) {
        return true;
    }
    vgd_log(VGD_LOG_ERROR, "vgd", "vgd-worker is neither beside vgd nor in %s: install vgd whole",
            VGD_LIBEXECDIR);
    return false;
}

/* Our Vulkan layer: beside us in a build folder, in the library folder when installed. */
static void find_layer(struct vgd *vgd)
{
    size_t n = 0;
    const char *slash = strrchr(vgd->worker_program, '/');
    if (slash != NULL) {
        n = (size_t)(slash - vgd->worker_program);
    }
    char manifest[sizeof(vgd->layer_dir) + sizeof(VGD_LAYER_MANIFEST)];
    (void)snprintf(vgd->layer_dir, sizeof(vgd->layer_dir), "%.*s/vulkan-layer", (int)n,
                   vgd->worker_program);
    (void)snprintf(manifest, sizeof(manifest), "%s/%s", vgd->layer_dir, VGD_LAYER_MANIFEST);
    if (access(manifest, R_OK) != 0) { /* whoever needs it says what is missing */
        (void)snprintf(vgd->layer_dir, sizeof(vgd->layer_dir), "%s/%s", VGD_LIBDIR,
                       VGD_LAYER_SUBFOLDER);
    }
}

/* Each map keeps a descriptor open, here and in the worker, which inherits the limit. */
static void make_room_for_maps(struct vgd *vgd)
{
    struct rlimit limit;
    vgd->maps_max = VGD_SHMEM_MAPS_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    rlim_t wanted = VGD_SHMEM_MAPS_MAX + VGD_SHMEM_QUEUED_MAPS_MAX + OTHER_FDS_MAX;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < wanted) {
        uint32_t least = OTHER_FDS_MAX + 2 * MAPS_LEAST;
        uint32_t room = (limit.rlim_cur > least ? (uint32_t)limit.rlim_cur : least) - OTHER_FDS_MAX;
        vgd->maps_max = room > 2 * VGD_SHMEM_QUEUED_MAPS_MAX ? room - VGD_SHMEM_QUEUED_MAPS_MAX
                                                             : room / 2; /* as many may wait */
        vgd_log(VGD_LOG_WARNING, "vgd",
                "at most %u maps: the limit of open files is %llu (ulimit -Hn)", vgd->maps_max,
                (unsigned long long)limit.rlim_cur);
    }
}

static int probe(const struct vgd *vgd)
{
    char manifest[sizeof(vgd->layer_dir) + sizeof(VGD_LAYER_MANIFEST)];
    (void)snprintf(manifest, sizeof(manifest), "%s/%s", vgd->layer_dir, VGD_LAYER_MANIFEST);
    const char *argv[16] = {"vgd-worker", "--probe", "--layer", manifest};
    int n = 4;
    if (vgd->options.json) {
        argv[n++] = "--json";
    }
    if (vgd->options.require_hardware) {
        argv[n++] = "--require-hardware";
    }
    if (vgd->options.venus) {
        argv[n++] = "--venus";
    }
    if (vgd->options.render_server != NULL) {
        argv[n++] = "--render-server";
        argv[n++] = vgd->options.render_server;
    }
    if (vgd->options.render_node != NULL) {
        argv[n++] = "--render-node";
        argv[n++] = vgd->options.render_node;
    }
    (void)execv(vgd->worker_program, (char *const *)(uintptr_t)argv);
    vgd_log(VGD_LOG_ERROR, "vgd", "%s: %s", vgd->worker_program, strerror(errno));
    return EXIT_FAILURE;
}

static bool prepare(struct vgd *vgd)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);

    vgd->loop = vgd_loop_create();
    vgd->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    vgd->frames_fd = vgd_memfd_create("vgd-frames", VGD_FRAMES_BYTES);
    if (vgd->loop == NULL || vgd->signal_fd < 0 || vgd->frames_fd < 0) {
        return false;
    }
    void *frames = mmap(NULL, VGD_FRAMES_BYTES, PROT_READ, MAP_SHARED, vgd->frames_fd, 0);
    vgd->signal_watch = vgd_loop_watch(vgd->loop, vgd->signal_fd, EPOLLIN, signalled, vgd);
    vgd->end_timer = vgd_timer_create(vgd->loop, end_due, vgd);
    vgd->quit_timer = vgd_timer_create(vgd->loop, quit_due, vgd);
    vgd->recording = vgd_recording_create(&(struct vgd_recording_config){
        .loop = vgd->loop,
        .to_worker = recording_to_worker,
        .on_started = recording_started,
        .on_over = recording_over,
        .user = vgd,
    });
    if (frames == MAP_FAILED || vgd->signal_watch == NULL || vgd->end_timer == NULL ||
        vgd->quit_timer == NULL || vgd->recording == NULL) {
        return false;
    }
    vgd->frames = frames;
    return create_worker(vgd);
}

static void finish(struct vgd *vgd)
{
    vgd_control_destroy(vgd->control);
    vgd_session_destroy(vgd->session);
    vgd_worker_process_destroy(vgd->worker);
    unlink_socket(vgd);
    vgd_watch_remove(&vgd->listen_watch);
    vgd_watch_remove(&vgd->signal_watch);
    vgd_timer_destroy(&vgd->end_timer);
    vgd_timer_destroy(&vgd->quit_timer);
    vgd_recording_destroy(vgd->recording);
    vgd_fd_closep(&vgd->listen_fd);
    vgd_fd_closep(&vgd->signal_fd);
    if (vgd->frames != NULL) {
        (void)munmap((void *)(uintptr_t)vgd->frames, VGD_FRAMES_BYTES);
    }
    vgd_fd_closep(&vgd->frames_fd);
    vgd_loop_destroy(vgd->loop);
}

/* Of --record. What cannot be recorded into is the operator's to mend, before a guest is there. */
static bool start_recording(struct vgd *vgd)
{
    const char *path = vgd->options.record_path;
    const char *why = NULL;
    bool created;
    if (path == NULL) {
        return true;
    }
    int fd = vgd_record_file_open(path, &created, &why);
    if (fd < 0 || vgd_recording_start(vgd->recording, &fd, vgd->options.record_picture_ms, false,
                                      &why) != VGD_OK) {
        vgd_log(VGD_LOG_ERROR, "vgd", "--record=%s: %s", path, why);
        return false;
    }
    return true;
}

static int run(struct vgd *vgd)
{
    int rc = EXIT_FAILURE;
    if (!prepare(vgd)) {
        vgd_log(VGD_LOG_ERROR, "vgd", "no memory or descriptors: %s", strerror(errno));
    } else if (!start_recording(vgd)) {
        /* said */
    } else if (vgd->options.fd >= 0) {
        /* libvirt hands one socketpair end and drops privileges: the worker starts on the first
         * message. */
        int fd = vgd->options.fd;
        struct stat st;
        if (fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode) ||
            fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) { /* no worker inherits the VMM's socket */
            vgd_log(VGD_LOG_ERROR, "vgd", "--fd=%d: not an open socket; pass a connected one", fd);
        } else if (open_session(vgd, &fd)) {
            vgd_control_open(vgd);
            rc = vgd_loop_run(vgd->loop);
        }
    } else if (listen_on(vgd, vgd->options.socket_path)) {
        vgd_control_open(vgd);
        vgd_worker_process_start(vgd->worker); /* early: what fails fails before the VMM starts */
        rc = vgd_loop_run(vgd->loop);
    }
    finish(vgd);
    return rc;
}

int main(int argc, char **argv)
{
    struct vgd vgd = {
        .options = {.fd = -1,
                    .record_picture_ms = VGD_RECORDING_PICTURE_MS,
                    .restart_window_ms = VGD_RESTART_WINDOW_MS,
                    .log_level = VGD_LOG_INFO},
        .listen_fd = -1,
        .frames_fd = -1,
        .signal_fd = -1,
    };
    int rc = vgd_options_parse(argc, argv, &vgd.options);
    if (rc >= 0) {
        return rc;
    }
    vgd_log_setup("vgd", vgd.options.log_level);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    vgd.n_earlier = vgd_children(vgd.earlier, VGD_EARLIER_CHILDREN_MAX);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* to find what dead processes leave */
    if (!find_worker(&vgd)) {
        return EXIT_FAILURE;
    }
    find_layer(&vgd);
    if (vgd.options.venus) {
        make_room_for_maps(&vgd);
    }
    return vgd.options.probe ? probe(&vgd) : run(&vgd);
}
