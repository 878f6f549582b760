/* SPDX-License-Identifier: MIT */
/*
 * From the supervisor's hello to our ready. With Vulkan the start is in two parts: the device is
 * chosen, then the supervisor is asked for a render server, which gets its environment by it.
 */
#include "worker.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fd.h"
#include "frames.h"
#include "soft.h"
#include "virgl.h"

struct worker_start {
    struct vgd_link_hello hello;
    struct vgd_link_ready ready;         /* as far as it is known */
    bool want_gl, want_vulkan;           /* and, so far, nothing speaks against it */
    bool gl_is_chosen, vulkan_is_chosen; /* by an earlier worker, or by now */
    struct vgd_gl_choice gl;
    struct vgd_vk_choice vulkan;
};

static void render_fence_done(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    struct worker *w = user;
    vgd_gpu_fence_done(w->gpu, ctx_id, ring_idx, seq);
}

static void render_context_lost(void *user, uint32_t ctx_id)
{
    struct worker *w = user;
    vgd_gpu_context_lost(w->gpu, ctx_id);
}

static enum vgd_status translate(void *user, uint64_t addr, uint64_t len_bytes, struct iovec *iov,
                                 uint32_t *n_iov, uint32_t max)
{
    struct worker *w = user;
    return vgd_mem_translate(w->mem, addr, len_bytes, iov, n_iov, max);
}

static void set_text(char *out, size_t room_bytes, const char *text)
{
    (void)snprintf(out, room_bytes, "%s", text);
}

/* ---- the host-visible region ------------------------------------------------------------------
 */

static void window_map(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes,
                       const struct vgd_blob_file *file)
{
    struct vgd_link_window m = {.token = token,
                                .offset_bytes = offset_bytes,
                                .len_bytes = len_bytes,
                                .file_offset_bytes = file->offset_bytes};
    vgd_worker_send_fd(user, VGD_LINK_WINDOW_MAP, &m, sizeof(m), file->fd);
}

static void window_unmap(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes)
{
    struct vgd_link_window m = {
        .token = token, .offset_bytes = offset_bytes, .len_bytes = len_bytes};
    vgd_worker_send(user, VGD_LINK_WINDOW_UNMAP, &m, sizeof(m));
}

/* ---- the GPU ----------------------------------------------------------------------------------
 */

/* OpenGL for Vulkan to follow: which way, and what it gives. false: there is none. */
static bool choose_gl(struct worker_start *start, struct vgd_gl_trial *out_trial)
{
    const struct vgd_link_hello *hello = &start->hello;
    struct vgd_link_ready *ready = &start->ready;
    if (!start->gl_is_chosen) {
        if (!vgd_gl_libraries_present(ready->note, sizeof(ready->note)) ||
            vgd_gl_choose(hello->render_node, VGD_GL_AUTO, &start->gl, ready->note,
                          sizeof(ready->note)) != VGD_OK) {
            return false;
        }
        start->gl_is_chosen = true;
    }
    vgd_gl_try(start->gl.platform, start->gl.render_node, start->gl.device_idx, out_trial);
    if (!out_trial->ok) {
        set_text(ready->note, sizeof(ready->note), out_trial->reason);
    }
    return out_trial->ok;
}

/* The Vulkan device, if it is wanted and can be had; else vulkan_note says why not. */
static void choose_vulkan(struct worker_start *start)
{
    const struct vgd_link_hello *hello = &start->hello;
    struct vgd_link_ready *ready = &start->ready;
    if (start->vulkan_is_chosen) {
        start->want_vulkan = true;
        return; /* and OpenGL goes the way that it went */
    }
    struct vgd_gl_trial trial = {0};
    bool has_gl = hello->want_virgl && choose_gl(start, &trial);
    if (hello->want_virgl && !has_gl) {
        vgd_log(VGD_LOG_WARNING, "render", "no OpenGL for the guest: %s", ready->note);
    }
    start->want_gl = has_gl;
    start->want_vulkan =
        vgd_vk_choose(hello->render_node, has_gl ? &start->gl : NULL, has_gl ? &trial : NULL,
                      hello->require_hardware != 0, &start->vulkan, ready->vulkan_note,
                      sizeof(ready->vulkan_note)) == VGD_OK;
}

static void take_choice(const struct vgd_link_vk_choice *from, struct vgd_vk_choice *out)
{
    *out = (struct vgd_vk_choice){.is_software = from->is_software != 0,
                                  .one_of_many = from->one_of_many != 0,
                                  .host_memory = from->host_memory != 0};
    memcpy(out->device_uuid, from->device_uuid, sizeof(out->device_uuid));
    (void)snprintf(out->name, sizeof(out->name), "%.*s", (int)sizeof(from->name) - 1, from->name);
    (void)snprintf(out->why, sizeof(out->why), "%.*s", (int)sizeof(from->why) - 1, from->why);
}

static void tell_choice(const struct vgd_vk_choice *from, bool works,
                        struct vgd_link_vk_choice *out)
{
    *out = (struct vgd_link_vk_choice){.known = works,
                                       .is_software = from->is_software,
                                       .one_of_many = from->one_of_many,
                                       .host_memory = from->host_memory};
    memcpy(out->device_uuid, from->device_uuid, sizeof(out->device_uuid));
    set_text(out->name, sizeof(out->name), from->name);
    set_text(out->why, sizeof(out->why), from->why);
}

static void no_vulkan(struct worker_start *start, const char *why)
{
    start->want_vulkan = false;
    set_text(start->ready.vulkan_note, sizeof(start->ready.vulkan_note), why);
}

/* One try, with OpenGL or without. @server_fd is taken. */
static enum vgd_status create_virgl(struct worker *w, struct worker_start *start, bool with_gl,
                                    int *server_fd, char *why, size_t why_bytes)
{
    struct vgd_virgl_options options = {
        .render_node = start->hello.render_node,
        .choice = start->gl_is_chosen ? &start->gl : NULL,
        .require_hardware = start->hello.require_hardware != 0,
        .want_virgl = with_gl,
        .vulkan = start->want_vulkan ? &start->vulkan : NULL,
        .server_fd = server_fd,
        .loop = w->loop,
        .callbacks = {.fence_done = render_fence_done,
                      .context_lost = render_context_lost,
                      .user = w},
    };
    return vgd_virgl_create(&options, &w->render, why, why_bytes);
}

/* OpenGL and Vulkan, either of them, or plain 2D: as much as there is. */
static enum vgd_status create_render(struct worker *w, struct worker_start *start, int *server_fd)
{
    struct vgd_link_ready *ready = &start->ready;
    char why[VGD_PATH_BYTES] = "";
    VGD_AUTO_FD second = *server_fd >= 0 ? fcntl(*server_fd, F_DUPFD_CLOEXEC, 0) : -1;
    enum vgd_status st = VGD_UNSUPPORTED;
    bool has_gl = start->want_gl;
    if (start->want_gl || start->want_vulkan) {
        st = create_virgl(w, start, start->want_gl, server_fd, why, sizeof(why));
    }
    if (st != VGD_OK && start->want_gl) {
        set_text(ready->note, sizeof(ready->note), why);
        has_gl = false;
        if (start->want_vulkan) {
            /* OpenGL is made first, so the render server has not been spoken to. */
            st = create_virgl(w, start, false, &second, why, sizeof(why));
        }
    }
    if (st != VGD_OK) {
        if (start->want_vulkan) {
            no_vulkan(start, why);
        }
        struct vgd_render_callbacks callbacks = {
            .fence_done = render_fence_done, .context_lost = render_context_lost, .user = w};
        w->render = vgd_soft_create(&callbacks);
        return w->render != NULL ? VGD_OK : VGD_NO_MEMORY;
    }
    if (has_gl) {
        const struct vgd_gl_choice *made = vgd_virgl_choice(w->render);
        ready->choice.platform = made->platform;
        ready->choice.device_idx = made->device_idx;
        set_text(ready->choice.render_node, sizeof(ready->choice.render_node), made->render_node);
        set_text(ready->note, sizeof(ready->note), made->why);
    }
    if (start->want_vulkan) {
        set_text(ready->vulkan_note, sizeof(ready->vulkan_note),
                 why[0] != '\0' ? why : start->vulkan.why);
        tell_choice(&start->vulkan, why[0] == '\0', &ready->vulkan);
    }
    return VGD_OK;
}

static void report_ready(struct worker *w, struct vgd_link_ready *ready)
{
    struct vgd_render_info info;
    w->render->ops->info(w->render, &info);
    ready->features = vgd_gpu_features(w->gpu);
    ready->num_capsets = vgd_gpu_num_capsets(w->gpu);
    ready->has_3d = info.has_3d;
    ready->is_software = info.is_software;
    set_text(ready->renderer, sizeof(ready->renderer), info.name);
    set_text(ready->gpu_name, sizeof(ready->gpu_name), info.gpu_name);
    set_text(ready->vulkan_name, sizeof(ready->vulkan_name),
             info.vulkan_name != NULL ? info.vulkan_name : "");
    vgd_worker_send(w, VGD_LINK_READY, ready, sizeof(*ready));
}

/* All that was asked for is known: make the device. @server_fd is taken. */
static enum vgd_status finish_start(struct worker *w, int *server_fd)
{
    struct worker_start *start = w->start;
    enum vgd_status st = create_render(w, start, server_fd);
    if (st != VGD_OK) {
        return st;
    }
    w->presenter = vgd_presenter_create(&(struct vgd_presenter_config){
        .loop = w->loop,
        .render = w->render,
        .link = w->link,
        .frames = w->frames,
        .n_scanouts = start->hello.n_scanouts,
    });
    w->journal = vgd_journal_open(w->vault->journal, sizeof(w->vault->journal));
    if (w->presenter == NULL || w->journal == NULL) {
        return VGD_NO_MEMORY;
    }
    w->gpu = vgd_gpu_create(&(struct vgd_gpu_config){
        .render = w->render,
        .display = vgd_presenter_display(w->presenter),
        .memory = {.translate = translate, .user = w},
        .window = {.size_bytes = start->hello.window_bytes,
                   .map = window_map,
                   .unmap = window_unmap,
                   .user = w},
        .journal = w->journal,
        .counters = &w->vault->counters,
        .n_scanouts = start->hello.n_scanouts,
        .strict_streams = start->hello.strict_streams != 0,
        .complete = vgd_worker_complete,
        .postpone = vgd_worker_postpone,
        .user = w,
    });
    if (w->gpu == NULL) {
        return VGD_NO_MEMORY;
    }
    st = vgd_worker_queues_create(w);
    if (st == VGD_OK) {
        report_ready(w, &start->ready);
    }
    free(start);
    w->start = NULL;
    return st;
}

enum vgd_status vgd_worker_server(struct worker *w, struct vgd_link_message *msg)
{
    const struct vgd_link_server *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL || w->start == NULL || msg->n_fds != (m->status == VGD_OK ? 1u : 0u)) {
        return VGD_RANGE;
    }
    VGD_AUTO_FD server_fd = -1;
    if (m->status == VGD_OK) {
        server_fd = vgd_fd_take(&msg->fds[0]);
    } else {
        char why[VGD_PATH_BYTES];
        (void)snprintf(why, sizeof(why), "%.*s", (int)sizeof(m->why) - 1, m->why);
        no_vulkan(w->start, why);
    }
    return finish_start(w, &server_fd);
}

enum vgd_status vgd_worker_hello(struct worker *w, const struct vgd_link_message *msg)
{
    const struct vgd_link_hello *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL || w->greeted || m->version != VGD_LINK_VERSION || msg->n_fds != 2) {
        return VGD_RANGE;
    }
    w->greeted = true;
    vgd_log_setup("vgd-worker", (enum vgd_log_level)m->log_level);
    w->vault = vgd_vault_map(msg->fds[0]);
    void *frames = mmap(NULL, VGD_FRAMES_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, msg->fds[1], 0);
    struct vgd_gpu_limits limits = {0};
    assert(sizeof(w->vault->journal) >= vgd_gpu_journal_area_bytes(&limits));
    w->mem = vgd_mem_create();
    struct worker_start *start = calloc(1, sizeof(*start));
    w->start = start;
    if (w->vault == NULL || frames == MAP_FAILED || w->mem == NULL || start == NULL) {
        return VGD_NO_MEMORY;
    }
    w->frames = frames;
    w->vault->answered_ns = 0;

    start->hello = *m;
    start->hello.render_node[sizeof(start->hello.render_node) - 1] = '\0';
    start->want_gl = m->want_virgl != 0;
    start->gl_is_chosen = m->choice.platform > VGD_GL_AUTO && m->choice.platform <= VGD_GL_DEVICE;
    start->gl = (struct vgd_gl_choice){.platform = (enum vgd_gl_platform)m->choice.platform,
                                       .device_idx = m->choice.device_idx};
    (void)snprintf(start->gl.render_node, sizeof(start->gl.render_node), "%.*s",
                   (int)sizeof(m->choice.render_node) - 1, m->choice.render_node);
    start->vulkan_is_chosen = m->vulkan.known != 0;
    take_choice(&m->vulkan, &start->vulkan);
    if (m->want_venus) {
        choose_vulkan(start);
    }
    if (!start->want_vulkan) {
        int none = -1;
        return finish_start(w, &none);
    }
    struct vgd_link_want_server want = {.host_memory = start->vulkan.host_memory,
                                        .one_device = start->vulkan.one_of_many};
    memcpy(want.device_uuid, start->vulkan.device_uuid, sizeof(want.device_uuid));
    vgd_worker_send(w, VGD_LINK_WANT_SERVER, &want, sizeof(want));
    return VGD_OK; /* goes on in vgd_worker_server */
}
