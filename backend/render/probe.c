/* SPDX-License-Identifier: MIT */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "child.h"
#include "fd.h"
#include "log.h"
#include "loop.h"
#include "probe_report.h"
#include "virgl.h"

#define VIRGL_DEADLINE_MS 20000
#define VENUS_DEADLINE_MS 40000 /* the renderer's own limits come first */

/* Private_Dirty of this process. */
static uint64_t private_dirty_kib(void)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    if (f == NULL) {
        return 0;
    }
    char line[128];
    uint64_t kib = 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "Private_Dirty:", strlen("Private_Dirty:")) == 0) {
            kib = strtoull(line + strlen("Private_Dirty:"), NULL, 10);
        }
    }
    (void)fclose(f);
    return kib;
}

static void no_fence(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    (void)user;
    (void)ctx_id;
    (void)ring_idx;
    (void)seq;
}

static void no_loss(void *user, uint32_t ctx_id)
{
    (void)user;
    (void)ctx_id;
}

/* In a child: start the renderer for real. */
static void answer_virgl(const void *question, void *answer)
{
    struct vgd_probe_virgl *report = answer;
    struct vgd_virgl_options options = {
        .want_virgl = true,
        .choice = question,
        .loop = vgd_loop_create(),
        .callbacks = {.fence_done = no_fence, .context_lost = no_loss},
    };
    if (options.loop == NULL) {
        (void)snprintf(report->reason, sizeof(report->reason), "out of fds");
        return;
    }
    uint64_t before_kib = private_dirty_kib();
    uint64_t start_ns = vgd_now_ns();
    struct vgd_render *r = NULL;
    report->ok = vgd_virgl_create(&options, &r, report->reason, sizeof(report->reason)) == VGD_OK;
    report->start_us = (vgd_now_ns() - start_ns) / 1000u;
    if (!report->ok) {
        return;
    }
    report->private_dirty_kib = private_dirty_kib() - before_kib;
    struct vgd_render_info info;
    r->ops->info(r, &info);
    (void)snprintf(report->gpu_name, sizeof(report->gpu_name), "%s", info.gpu_name);
    report->is_software = info.is_software;
    report->exports_dmabuf = info.exports_dmabuf;
    report->n_capsets = info.n_capsets;
    memcpy(report->capsets, info.capsets, sizeof(report->capsets));
}

/* In a child: a render server with one context. */
static bool start_server(const char *path, int *out_fd)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        return false;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        char number[16];
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        int fd = fcntl(fds[1], F_DUPFD, 3); /* not close-on-exec */
        (void)snprintf(number, sizeof(number), "%d", fd);
        if (fd >= 0 && getppid() == parent) {
            (void)execl(path, path, "--socket-fd", number, (char *)NULL);
        }
        _exit(EXIT_FAILURE);
    }
    (void)close(fds[1]);
    *out_fd = fds[0];
    return pid > 0;
}

static void answer_venus(const void *question, void *answer)
{
    const struct vgd_probe_venus *asked = question;
    struct vgd_probe_venus *venus = answer;
    int server_fd = -1;
    *venus = *asked;
    struct vgd_virgl_options options = {
        .vulkan = &asked->choice,
        .server_fd = &server_fd,
        .loop = vgd_loop_create(),
        .callbacks = {.fence_done = no_fence, .context_lost = no_loss},
    };
    if (options.loop == NULL || !start_server(asked->server_path, &server_fd)) {
        (void)snprintf(venus->reason, sizeof(venus->reason), "out of fds or processes");
        return;
    }
    uint64_t start_ns = vgd_now_ns();
    struct vgd_render *r = NULL;
    venus->ok = vgd_virgl_create(&options, &r, venus->reason, sizeof(venus->reason)) == VGD_OK;
    venus->start_us = (vgd_now_ns() - start_ns) / 1000u;
}

/* Where distributions put it. */
static void find_server(const char *named, char *out)
{
    static const char *const places[] = {"/usr/libexec/virgl_render_server",
                                         "/usr/lib/virgl_render_server",
                                         "/usr/local/libexec/virgl_render_server"};
    if (named != NULL && named[0] != '\0') {
        (void)snprintf(out, VGD_PROBE_REASON_BYTES, "%s", named);
        return;
    }
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && out[0] == '\0'; i++) {
        if (access(places[i], X_OK) == 0) {
            (void)snprintf(out, VGD_PROBE_REASON_BYTES, "%s", places[i]);
        }
    }
}

static void probe_venus(const struct vgd_probe_options *options, struct vgd_probe_report *rep)
{
    struct vgd_probe_venus *venus = &rep->venus;
    struct vgd_gl_trial trial = {0};
    find_server(options->render_server, venus->server_path);
    if (rep->virgl.ok) {
        vgd_gl_try(rep->choice.platform, rep->choice.render_node, rep->choice.device_idx, &trial);
    }
    venus->chosen = vgd_vk_choose(options->render_node, trial.ok ? &rep->choice : NULL,
                                  trial.ok ? &trial : NULL, options->require_hardware,
                                  &venus->choice, venus->reason, sizeof(venus->reason)) == VGD_OK;
    if (!venus->chosen) {
        return;
    }
    if (venus->server_path[0] == '\0') {
        (void)snprintf(venus->reason, sizeof(venus->reason),
                       "there is no virgl_render_server: install it (Debian's package is "
                       "virgl-server), or give --render-server=PATH");
        return;
    }
    if (access(venus->server_path, X_OK) != 0) {
        int error = errno;
        (void)snprintf(venus->reason, sizeof(venus->reason),
                       "the render server %.160s cannot be run: %s", venus->server_path,
                       strerror(error));
        return;
    }
    bool needs_layer = venus->choice.host_memory || venus->choice.one_of_many;
    if (needs_layer && options->layer_manifest != NULL &&
        access(options->layer_manifest, R_OK) != 0) {
        (void)snprintf(venus->reason, sizeof(venus->reason),
                       "this host's Vulkan needs our layer, and %.140s is not there: install vgd "
                       "whole",
                       options->layer_manifest);
        return;
    }
    struct vgd_probe_venus asked = *venus;
    char reason[VGD_CHILD_REASON_BYTES];
    if (!vgd_child_ask(answer_venus, &asked, venus, sizeof(*venus), VENUS_DEADLINE_MS, reason)) {
        *venus = asked;
        (void)snprintf(venus->reason, sizeof(venus->reason), "virglrenderer %s", reason);
    }
}

static bool is_named(const struct vgd_probe_options *options)
{
    return options->render_node != NULL && options->render_node[0] != '\0';
}

static void probe_nodes(const struct vgd_probe_options *options, struct vgd_probe_report *rep)
{
    char paths[VGD_RENDER_NODES_MAX][64];
    uint32_t n;
    if (is_named(options)) {
        n = 1; /* the only one that is opened, wherever it lies */
        (void)snprintf(paths[0], sizeof(paths[0]), "%.63s", options->render_node);
    } else {
        n = vgd_render_nodes_list(paths);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_probe_node *node = &rep->nodes[rep->n_nodes++];
        memcpy(node->path, paths[i], sizeof(node->path));
        vgd_render_node_driver(node->path, node->driver, sizeof(node->driver));
        if (access(node->path, R_OK | W_OK) != 0) {
            (void)snprintf(node->denied, sizeof(node->denied), "%s", strerror(errno));
        } else {
            vgd_gl_try(VGD_GL_GBM, node->path, -1, &node->trial);
        }
    }
}

static void probe_udmabuf(struct vgd_probe_report *rep)
{
    VGD_AUTO_FD fd = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        (void)snprintf(rep->udmabuf, sizeof(rep->udmabuf), "%s",
                       errno == ENOENT ? "no /dev/udmabuf: load the kernel module udmabuf"
                                       : strerror(errno));
    }
}

static void probe_virgl(const struct vgd_probe_options *options, struct vgd_probe_report *rep)
{
    struct vgd_probe_virgl *virgl = &rep->virgl;
    if (rep->libraries[0] != '\0') {
        memcpy(virgl->reason, rep->libraries, sizeof(virgl->reason));
        rep->chosen = VGD_HOST_FAILED;
        return;
    }
    char why[VGD_PROBE_REASON_BYTES] = "";
    rep->chosen =
        vgd_gl_choose(options->render_node, options->platform, &rep->choice, why, sizeof(why));
    if (rep->chosen != VGD_OK) {
        memcpy(virgl->reason, why, sizeof(virgl->reason));
        return;
    }
    char reason[VGD_CHILD_REASON_BYTES];
    if (!vgd_child_ask(answer_virgl, &rep->choice, virgl, sizeof(*virgl), VIRGL_DEADLINE_MS,
                       reason)) {
        (void)snprintf(virgl->reason, sizeof(virgl->reason), "virglrenderer %s", reason);
    }
    if (virgl->ok && virgl->is_software && options->require_hardware) {
        virgl->ok = false;
        (void)snprintf(virgl->reason, sizeof(virgl->reason),
                       "only software GL here (%.128s) and hardware is required", virgl->gpu_name);
    }
}

static void probe_all(const struct vgd_probe_options *options, struct vgd_probe_report *rep)
{
    probe_nodes(options, rep);
    if (!is_named(options)) {
        /* These open whatever nodes the vendor's library likes. */
        vgd_gl_try(VGD_GL_SURFACELESS, NULL, -1, &rep->surfaceless);
        rep->n_devices = vgd_egl_device_count();
        for (uint32_t i = 0; i < rep->n_devices; i++) {
            vgd_gl_try(VGD_GL_DEVICE, NULL, (int)i, &rep->devices[i]);
        }
        vgd_vk_list(&rep->vulkan);
    } else {
        static const char skipped[] = "not tried: a render node was named";
        memcpy(rep->surfaceless.reason, skipped, sizeof(skipped));
        memcpy(rep->vulkan.reason, skipped, sizeof(skipped));
    }
    probe_udmabuf(rep);
    (void)vgd_gl_libraries_present(rep->libraries, sizeof(rep->libraries));
    probe_virgl(options, rep);
    if (!is_named(options) || options->venus) {
        probe_venus(options, rep);
    } else {
        (void)snprintf(rep->venus.reason, sizeof(rep->venus.reason),
                       "not tried, since drivers look at every GPU: ask with --venus");
    }
}

int vgd_probe_run(const struct vgd_probe_options *options, bool json, FILE *out)
{
    struct vgd_probe_report *rep = calloc(1, sizeof(*rep));
    if (rep == NULL) {
        return 1;
    }
    probe_all(options, rep);
    if (json) {
        vgd_probe_write_json(rep, out);
    } else {
        vgd_probe_write_text(rep, out);
    }
    bool asked = options->require_hardware || options->platform != VGD_GL_AUTO || is_named(options);
    bool failed = (asked && !rep->virgl.ok) || (options->venus && !rep->venus.ok);
    free(rep);
    return fflush(out) != 0 || ferror(out) || failed ? 1 : 0;
}
