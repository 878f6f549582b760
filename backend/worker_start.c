/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include <assert.h>
#include <stdio.h>
#include <sys/mman.h>

#include "frames.h"
#include "soft.h"
#include "virgl.h"

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

static enum vgd_status create_render(struct worker *w, const struct vgd_link_hello *hello,
                                     struct vgd_link_ready *ready)
{
    struct vgd_render_callbacks callbacks = {
        .fence_done = render_fence_done, .context_lost = render_context_lost, .user = w};
    if (hello->want_virgl) {
        struct vgd_gl_choice choice = {
            .platform = (enum vgd_gl_platform)hello->choice.platform,
            .device_idx = hello->choice.device_idx,
        };
        set_text(choice.render_node, sizeof(choice.render_node), hello->choice.render_node);
        struct vgd_virgl_options options = {
            .want_virgl = true,
            .render_node = hello->render_node,
            .choice = hello->choice.platform != 0 ? &choice : NULL,
            .require_hardware = hello->require_hardware != 0,
            .loop = w->loop,
            .callbacks = callbacks,
        };
        enum vgd_status st =
            vgd_virgl_create(&options, &w->render, ready->note, sizeof(ready->note));
        if (st == VGD_OK) {
            const struct vgd_gl_choice *made = vgd_virgl_choice(w->render);
            ready->choice.platform = made->platform;
            ready->choice.device_idx = made->device_idx;
            set_text(ready->choice.render_node, sizeof(ready->choice.render_node),
                     made->render_node);
            set_text(ready->note, sizeof(ready->note), made->why);
            return VGD_OK;
        }
    }
    w->render = vgd_soft_create(&callbacks);
    return w->render != NULL ? VGD_OK : VGD_NO_MEMORY;
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
    vgd_worker_send(w, VGD_LINK_READY, ready, sizeof(*ready));
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
    if (w->vault == NULL || frames == MAP_FAILED || w->mem == NULL) {
        return VGD_NO_MEMORY;
    }
    w->frames = frames;
    w->vault->answered_ns = 0;

    struct vgd_link_ready ready = {0};
    enum vgd_status st = create_render(w, m, &ready);
    if (st != VGD_OK) {
        return st;
    }
    w->presenter = vgd_presenter_create(&(struct vgd_presenter_config){
        .loop = w->loop,
        .render = w->render,
        .link = w->link,
        .frames = w->frames,
        .n_scanouts = m->n_scanouts,
    });
    w->journal = vgd_journal_open(w->vault->journal, sizeof(w->vault->journal));
    if (w->presenter == NULL || w->journal == NULL) {
        return VGD_NO_MEMORY;
    }
    w->gpu = vgd_gpu_create(&(struct vgd_gpu_config){
        .render = w->render,
        .display = vgd_presenter_display(w->presenter),
        .memory = {.translate = translate, .user = w},
        .journal = w->journal,
        .counters = &w->vault->counters,
        .n_scanouts = m->n_scanouts,
        .complete = vgd_worker_complete,
        .user = w,
    });
    if (w->gpu == NULL) {
        return VGD_NO_MEMORY;
    }
    st = vgd_worker_queues_create(w);
    if (st != VGD_OK) {
        return st;
    }
    report_ready(w, &ready);
    return VGD_OK;
}
