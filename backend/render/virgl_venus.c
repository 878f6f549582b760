/* SPDX-License-Identifier: MIT */
/*
 * Vulkan contexts (venus). Their commands do not come by here: guest and render server share a ring
 * of memory. What does come by is the making of contexts and blobs, fences, and few commands, each
 * a message to the context's own process, which the render server made. Creating a context or a
 * blob waits for the answer.
 *
 *   live --(its process ends, or does not answer within vulkan_call_ms)--> lost --> destroyed
 *
 * A context's process ends for a reason of the guest's own (a fence on a ring that it never bound,
 * a broken command), by a driver that crashes, or because somebody kills it. That is seen at once
 * on a duplicate of its socket. A lost context costs nothing else: its fences are the device's to
 * answer, what it shared stays mapped where it is mapped.
 *
 * Fences: the library has an eventfd for each context, or (where it was started without threads,
 * for the sake of OpenGL's fences) none; then a timer looks.
 */
#include "virgl_priv.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "call_guard.h"
#include "fd.h"
#include "log.h"

/* The render server makes 256 processes, those not yet gone among them, and 0.10's ends itself when
 * it is asked for one more. */
#define VENUS_CONTEXTS_MAX 192u
/* Looks without progress after which the library sees for itself whether the process is there. If
 * not, it says of every fence that it has signalled. */
#define LIB_STALLED_LOOKS 100u

/* ---- the processes on the other side ----------------------------------------------------------
 */

static bool is_seqpacket(int fd)
{
    int type = 0;
    int domain = 0;
    socklen_t type_bytes = sizeof(type);
    socklen_t domain_bytes = sizeof(domain);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) == 0 && type == SOCK_SEQPACKET &&
           getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_bytes) == 0 && domain == AF_UNIX;
}

static bool hung_up(int fd)
{
    struct pollfd p = {.fd = fd};
    return fd >= 0 && poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

static void server_begin(const struct virgl *v)
{
    vgd_call_guard_begin(v->server_socket_fd, v->venus_call_ms);
}

static void forget_server(struct virgl *v)
{
    vgd_watch_remove(&v->server_watch);
    vgd_fd_closep(&v->server_socket_fd);
}

static void server_ended(void *user, uint32_t events)
{
    struct virgl *v = user;
    (void)events;
    vgd_log(VGD_LOG_WARNING, "render", "the render server is gone: no new Vulkan contexts");
    forget_server(v);
}

static void server_end(struct virgl *v)
{
    if (vgd_call_guard_end()) {
        /* Without its server this process is half of what it should be: both are made anew. */
        vgd_log(VGD_LOG_ERROR, "render", "the render server did not answer for %d ms",
                v->venus_call_ms);
        forget_server(v);
        if (!v->venus_on_trial) { /* else there is no guest yet that would lose anything */
            vgd_loop_quit(v->loop, EXIT_FAILURE);
        }
    }
}

static void close_venus(struct venus *venus)
{
    vgd_watch_remove(&venus->socket_watch);
    vgd_watch_remove(&venus->fence_watch); /* before the library closes its descriptor */
    vgd_fd_closep(&venus->socket_fd);
}

/* End the library's context; the render server kills its process. */
static void end_context(struct virgl *v, struct context *ctx)
{
    if (ctx->lost) {
        return; /* ended already */
    }
    close_venus(ctx->venus);
    v->venus_count--;
    server_begin(v);
    virgl_renderer_context_destroy(ctx->id);
    server_end(v);
}

static void lose(struct virgl *v, struct context *ctx)
{
    if (ctx->lost) {
        return;
    }
    end_context(v, ctx);
    ctx->lost = true;
    ctx->venus->pending_rings = 0;
    vgd_timer_start(v->venus_timer, 0); /* the device is told from the loop, not from a call */
}

void vgd_virgl_venus_begin(struct virgl *v, const struct context *ctx)
{
    vgd_call_guard_begin(ctx->venus->socket_fd, v->venus_call_ms);
}

void vgd_virgl_venus_end(struct virgl *v, struct context *ctx)
{
    if (vgd_call_guard_end()) {
        vgd_log(VGD_LOG_WARNING, "render",
                "ctx=%u: its Vulkan process did not answer for %d ms and is ended", ctx->id,
                v->venus_call_ms);
        lose(v, ctx);
    }
}

bool vgd_virgl_venus_is_lost(struct virgl *v, struct context *ctx)
{
    if (!ctx->lost && hung_up(ctx->venus->socket_fd)) {
        lose(v, ctx);
    }
    return ctx->lost;
}

/* ---- fences -----------------------------------------------------------------------------------
 */

void vgd_virgl_write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t seq)
{
    struct virgl *v = cookie;
    struct context *ctx = vgd_idmap_find(&v->contexts, ctx_id);
    if (ctx == NULL || ctx->venus == NULL || ring_idx >= VENUS_RINGS) {
        return;
    }
    if (v->venus_looks - ctx->venus->looks_before >= LIB_STALLED_LOOKS &&
        hung_up(ctx->venus->socket_fd)) {
        return; /* given up, not signalled: it is answered when the device hears of the loss */
    }
    ctx->venus->rings[ring_idx].retired_seq = seq;
    v->venus_signalled = true;
}

/* Have the library look for fences of a context that have signalled. */
static void look(struct virgl *v, uint32_t ctx_id)
{
    v->venus_looks++;
    virgl_renderer_context_poll(ctx_id);
}

/* One fence of @ctx that has signalled and that the device was not told of. */
static bool next_signalled(struct context *ctx, uint8_t *out_ring_idx, uint64_t *out_seq)
{
    struct venus *venus = ctx->venus;
    for (uint64_t left = venus->pending_rings; left != 0; left &= left - 1) {
        uint8_t ring_idx = (uint8_t)__builtin_ctzll(left);
        struct venus_ring *ring = &venus->rings[ring_idx];
        if (ring->told_seq < ring->retired_seq) {
            ring->told_seq = ring->retired_seq;
            if (ring->told_seq >= ring->asked_seq) {
                venus->pending_rings &= ~(1ull << ring_idx);
            }
            *out_ring_idx = ring_idx;
            *out_seq = ring->told_seq;
            return true;
        }
    }
    return false;
}

/* The device may do anything while it is told, destroy the context too. */
static void deliver_context(struct virgl *v, uint32_t ctx_id)
{
    struct context *ctx;
    uint8_t ring_idx;
    uint64_t seq;
    while ((ctx = vgd_idmap_find(&v->contexts, ctx_id)) != NULL && ctx->venus != NULL &&
           next_signalled(ctx, &ring_idx, &seq)) {
        v->venus_wait_start_ns = vgd_now_ns();
        v->callbacks.fence_done(v->callbacks.user, ctx_id, ring_idx, seq);
    }
}

void vgd_virgl_venus_deliver(struct virgl *v)
{
    if (!v->venus_signalled) {
        return;
    }
    v->venus_signalled = false;
    uint32_t cursor = 0;
    uint32_t ctx_id;
    struct context *ctx;
    while ((ctx = vgd_idmap_next(&v->contexts, &cursor, &ctx_id)) != NULL) {
        uint8_t ring_idx;
        uint64_t seq;
        if (ctx->venus != NULL && next_signalled(ctx, &ring_idx, &seq)) {
            v->venus_wait_start_ns = vgd_now_ns();
            v->callbacks.fence_done(v->callbacks.user, ctx_id, ring_idx, seq);
            cursor = 0; /* the table may be another now */
        }
    }
}

static void fence_event(void *user, uint32_t events)
{
    struct virgl *v = vgd_virgl_instance;
    const struct context *ctx = user;
    (void)events;
    uint32_t ctx_id = ctx->id;
    look(v, ctx_id); /* clears the descriptor too */
    deliver_context(v, ctx_id);
}

static void process_ended(void *user, uint32_t events)
{
    struct virgl *v = vgd_virgl_instance;
    struct context *ctx = user;
    (void)events;
    uint32_t ctx_id = ctx->id;
    look(v, ctx_id); /* what it still finished */
    deliver_context(v, ctx_id);
    ctx = vgd_idmap_find(&v->contexts, ctx_id);
    if (ctx != NULL && ctx->venus != NULL && hung_up(ctx->venus->socket_fd)) {
        lose(v, ctx);
    }
}

static struct context *find_untold_loss(const struct virgl *v)
{
    uint32_t cursor = 0;
    struct context *ctx;
    while ((ctx = vgd_idmap_next(&v->contexts, &cursor, NULL)) != NULL) {
        if (ctx->lost && !ctx->loss_told) {
            return ctx;
        }
    }
    return NULL;
}

/* Poll contexts whose fences have no descriptor. Returns whether any is waited for. */
static bool poll_contexts(struct virgl *v)
{
    uint32_t cursor = 0;
    struct context *ctx;
    bool waiting = false;
    while ((ctx = vgd_idmap_next(&v->contexts, &cursor, NULL)) != NULL) {
        if (ctx->venus != NULL && !ctx->venus->has_fence_fd && ctx->venus->pending_rings != 0) {
            look(v, ctx->id);
            waiting = true;
        }
    }
    return waiting;
}

void vgd_virgl_venus_batch_end(struct virgl *v)
{
    if (!v->venus_asked) {
        return;
    }
    v->venus_asked = false;
    uint64_t end_ns = vgd_now_ns() + SPIN_NS;
    while (poll_contexts(v) && vgd_now_ns() < end_ns) {
        vgd_virgl_venus_deliver(v);
    }
    vgd_virgl_venus_deliver(v);
}

static void venus_timer_fired(void *user)
{
    struct virgl *v = user;
    struct context *ctx;
    while ((ctx = find_untold_loss(v)) != NULL) {
        ctx->loss_told = true;
        v->callbacks.context_lost(v->callbacks.user, ctx->id);
    }
    if (poll_contexts(v)) {
        vgd_virgl_venus_deliver(v);
        vgd_timer_start(v->venus_timer, vgd_virgl_look_delay_ns(v->venus_wait_start_ns));
    }
}

enum vgd_status vgd_virgl_venus_fence(struct virgl *v, struct context *ctx, uint8_t ring_idx,
                                      uint64_t seq, bool *out_done)
{
    if (ctx->lost) {
        return VGD_LOST;
    }
    if (ring_idx >= VENUS_RINGS) {
        return VGD_RANGE;
    }
    struct venus *venus = ctx->venus;
    vgd_virgl_venus_begin(v, ctx);
    /* The flag: only the newest of those that signalled together is told of. */
    int rc = virgl_renderer_context_create_fence(ctx->id, VIRGL_RENDERER_FENCE_FLAG_MERGEABLE,
                                                 ring_idx, seq);
    vgd_virgl_venus_end(v, ctx);
    if (rc != 0 && !ctx->lost) {
        lose(v, ctx); /* nothing but a closed socket fails here */
    }
    if (ctx->lost) {
        return VGD_LOST;
    }
    v->venus_asked = v->venus_asked || !venus->has_fence_fd;
    if (!venus->has_fence_fd && venus->pending_rings == 0) {
        v->venus_wait_start_ns = vgd_now_ns();
        vgd_timer_start(v->venus_timer, vgd_virgl_look_delay_ns(v->venus_wait_start_ns));
    }
    if (venus->pending_rings == 0) {
        venus->looks_before = v->venus_looks;
    }
    venus->rings[ring_idx].asked_seq = seq;
    venus->pending_rings |= 1ull << ring_idx;
    *out_done = false;
    return VGD_OK;
}

/* ---- contexts ---------------------------------------------------------------------------------
 */

/* The number that the kernel will give to the next descriptor of this process. */
static int next_fd(int any_fd)
{
    VGD_AUTO_FD fd = fcntl(any_fd, F_DUPFD_CLOEXEC, 0);
    return fd;
}

/* Learn what the library keeps to itself: the socket to the context's process was the first
 * descriptor that creating the context brought, so it has the number that was free before. */
static void learn_process(struct virgl *v, struct context *ctx, int free_before)
{
    struct venus *venus = ctx->venus;
    if (free_before >= 0 && is_seqpacket(free_before)) {
        venus->socket_fd = fcntl(free_before, F_DUPFD_CLOEXEC, 0);
    }
    if (venus->socket_fd >= 0) {
        venus->socket_watch = vgd_loop_watch(v->loop, venus->socket_fd, 0, process_ended, ctx);
    } else {
        vgd_log(VGD_LOG_DEBUG, "render", "ctx=%u: the socket to its process was not found",
                ctx->id);
    }
    int fence_fd = virgl_renderer_context_get_poll_fd(ctx->id);
    if (fence_fd >= 0) {
        venus->fence_watch = vgd_loop_watch(v->loop, fence_fd, EPOLLIN, fence_event, ctx);
    }
    /* Without the socket the library's own look, each time it is polled, must find a death. */
    venus->has_fence_fd = venus->fence_watch != NULL && venus->socket_watch != NULL;
}

enum vgd_status vgd_virgl_venus_create(struct virgl *v, struct context *ctx, const char *text,
                                       uint32_t text_len)
{
    if (v->server_socket_fd < 0) {
        return VGD_HOST_FAILED;
    }
    if (v->venus_count >= VENUS_CONTEXTS_MAX) {
        return VGD_LIMIT;
    }
    ctx->venus = calloc(1, sizeof(*ctx->venus));
    if (ctx->venus == NULL) {
        return VGD_NO_MEMORY;
    }
    ctx->venus->socket_fd = -1;
    int free_before = next_fd(v->server_socket_fd);
    server_begin(v);
    int rc = virgl_renderer_context_create_with_flags(ctx->id, VGD_CAPSET_VENUS, text_len, text);
    server_end(v);
    if (rc != 0) {
        free(ctx->venus);
        ctx->venus = NULL;
        return VGD_HOST_FAILED;
    }
    v->venus_count++;
    learn_process(v, ctx, free_before);
    return VGD_OK;
}

void vgd_virgl_venus_destroy(struct virgl *v, struct context *ctx)
{
    end_context(v, ctx);
    free(ctx->venus);
    ctx->venus = NULL;
}

/* ---- start ------------------------------------------------------------------------------------
 */

int vgd_virgl_get_server_fd(void *cookie, uint32_t version)
{
    struct virgl *v = cookie;
    (void)version;
    return vgd_fd_take(&v->server_fd);
}

bool vgd_virgl_venus_prepare(struct virgl *v, int *server_fd, char *why, size_t why_bytes)
{
    v->venus_timer = vgd_timer_create(v->loop, venus_timer_fired, v);
    if (v->venus_timer == NULL) {
        (void)snprintf(why, why_bytes, "out of memory");
        return false;
    }
    if (server_fd == NULL || *server_fd < 0 || !is_seqpacket(*server_fd)) {
        (void)snprintf(why, why_bytes, "there is no connection to a render server");
        return false;
    }
    v->server_fd = vgd_fd_take(server_fd);
    v->server_socket_fd = fcntl(v->server_fd, F_DUPFD_CLOEXEC, 0);
    if (v->server_socket_fd >= 0) {
        v->server_watch = vgd_loop_watch(v->loop, v->server_socket_fd, 0, server_ended, v);
    }
    if (v->server_watch == NULL) {
        (void)snprintf(why, why_bytes, "out of descriptors or memory");
        return false;
    }
    return true;
}

void vgd_virgl_venus_finish(struct virgl *v)
{
    forget_server(v);
    vgd_fd_closep(&v->server_fd);
    vgd_timer_destroy(&v->venus_timer);
}

/* Wait for a fence without the loop: there is no device yet that could be told. */
static bool trial_fence(struct virgl *v)
{
    bool done = false;
    struct context *ctx = vgd_idmap_find(&v->contexts, PROBE_CONTEXT_ID);
    if (vgd_virgl_venus_fence(v, ctx, 0, 1, &done) != VGD_OK) {
        return false;
    }
    uint64_t end_ns = vgd_now_ns() + (uint64_t)v->venus_call_ms * 1000000u;
    while (ctx->venus->rings[0].retired_seq == 0 && vgd_now_ns() < end_ns &&
           !hung_up(ctx->venus->socket_fd)) {
        struct pollfd p = {.fd = virgl_renderer_context_get_poll_fd(ctx->id), .events = POLLIN};
        (void)poll(&p, 1, 1); /* a negative fd is ignored: then this only sleeps */
        look(v, ctx->id);
    }
    return ctx->venus->rings[0].retired_seq != 0;
}

/* Memory that the context's process made, seen from here. */
static bool trial_blob(struct virgl *v)
{
    struct vgd_render *r = &v->base;
    struct vgd_render_blob blob = {
        .res_id = PROBE_RESOURCE_ID,
        .ctx_id = PROBE_CONTEXT_ID,
        .mem = VGD_BLOB_MEM_HOST3D,
        .flags = VGD_BLOB_FLAG_USE_MAPPABLE,
        .size_bytes = VGD_BLOB_ALIGNMENT_BYTES,
    };
    struct vgd_blob_file file = {.fd = -1};
    void *mapped = MAP_FAILED;
    if (vgd_virgl_resource_create_blob(r, &blob) == VGD_OK &&
        vgd_virgl_blob_export(r, PROBE_RESOURCE_ID, &file) == VGD_OK) {
        mapped = mmap(NULL, blob.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
    }
    bool ok = mapped != MAP_FAILED;
    if (ok) {
        *(volatile uint8_t *)mapped = 1;
        (void)munmap(mapped, blob.size_bytes);
    }
    vgd_fd_closep(&file.fd);
    vgd_virgl_resource_unref(r, PROBE_RESOURCE_ID);
    return ok;
}

/* What does not work, or NULL. */
static const char *try_context(struct virgl *v)
{
    struct vgd_render *r = &v->base;
    static const char name[] = "vgd trial";
    if (vgd_virgl_context_create(r, PROBE_CONTEXT_ID, VGD_CAPSET_VENUS, name, sizeof(name) - 1) !=
        VGD_OK) {
        return v->server_socket_fd < 0 ? "the render server does not answer"
                                       : "the render server makes no Vulkan context";
    }
    const char *failed = NULL;
    if (!trial_fence(v)) {
        failed = "a Vulkan context's process does not answer";
    } else if (!trial_blob(v)) {
        failed = "a Vulkan context shares no memory";
    }
    vgd_virgl_context_destroy(r, PROBE_CONTEXT_ID);
    return failed;
}

bool vgd_virgl_venus_trial(struct virgl *v, char *why, size_t why_bytes)
{
    v->venus_on_trial = true;
    const char *failed = try_context(v);
    v->venus_on_trial = false;
    if (failed != NULL) {
        forget_server(v); /* its end is of no interest any more */
        (void)snprintf(why, why_bytes,
                       "%s: is virgl_render_server of the same version as libvirglrenderer "
                       "(package virgl-server)?",
                       failed);
    }
    return failed == NULL;
}
