/* SPDX-License-Identifier: MIT */
/*
 * vgd-worker: the expendable process that touches the GPU. It maps guest memory and the rings,
 * executes commands through the device, and confirms to the supervisor what ends their use. All it
 * knows that must outlive it lies in the vault.
 *
 *   hello --> ready --> (memory, restore) --> queues run <--> queues stopped
 *
 * One loop thread owns the device, the queues and every renderer call.
 */
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "fd.h"
#include "frames.h"
#include "gpu.h"
#include "iov.h"
#include "journal.h"
#include "link.h"
#include "log.h"
#include "presenter.h"
#include "probe.h"
#include "soft.h"
#include "vault.h"
#include "virgl.h"
#include "virtqueue.h"

/* A command as long as the longest SUBMIT_3D, or the backing of the largest resource, with room for
 * its header. Longer chains are answered with an error. */
#define COMMAND_BYTES_MAX ((16u << 20) + 4096u)
#define COMMAND_BYTES_FIRST (64u << 10)
/* Chains taken from one queue before other work of the loop gets its turn. */
#define CHAINS_PER_TURN 256u
/* In a long batch, answers are not held back longer than this. */
#define NOTIFY_INTERVAL_NS 100000u
/* A stop waits this long for the GPU, then what is pending is answered with an error. The
 * supervisor's patience (VGD_STOP_DEADLINE_MS) is longer. */
#define STOP_DRAIN_NS 1000000000ull
/* Iovecs of a response that a request holds itself. */
#define RESPONSE_IOV_INLINE 2u

struct worker;

struct queue {
    struct worker *worker;
    uint32_t idx;
    struct vgd_virtqueue *vq;
    int kick_fd, call_fd;
    struct vgd_watch *watch;
    struct vgd_timer *again; /* more is in the ring than one turn takes */
    uint64_t unnotified_ns;  /* when the oldest answer not yet told of was given; 0: none */
    bool in_batch;
    bool stopping;
    uint32_t stop_seq;
};

/* One command between pop and push. */
struct request {
    struct vgd_gpu_request base;
    struct queue *queue;
    uint16_t head;
    uint32_t n_iov;
    struct iovec *iov; /* inline_iov or owned */
    struct iovec inline_iov[RESPONSE_IOV_INLINE];
    struct request *next_free;
};

struct worker {
    struct vgd_loop *loop;
    struct vgd_link *link;
    bool greeted;
    struct vgd_vault *vault;
    uint8_t *frames;
    struct vgd_mem *mem;
    struct vgd_render *render;
    struct vgd_presenter *presenter;
    struct vgd_journal *journal;
    struct vgd_gpu *gpu;
    struct queue queues[VGD_QUEUES_COUNT];
    struct vgd_timer *drain;
    struct request *free_requests;
    uint8_t *command; /* private copy of the command being executed */
    size_t command_room_bytes;
    struct vgd_log_limit guest_log;
};

static void to_supervisor(struct worker *w, enum vgd_link_type type, const void *payload,
                          size_t n_bytes)
{
    enum vgd_status st = vgd_link_send(w->link, type, payload, n_bytes, NULL, 0);
    if (st != VGD_OK && st != VGD_CLOSED) {
        vgd_log(VGD_LOG_ERROR, "link", "message %u to the supervisor: %s", type,
                vgd_status_text(st));
        vgd_loop_quit(w->loop, EXIT_FAILURE);
    }
}

static void confirm(struct worker *w, uint32_t request_seq, enum vgd_status status, uint64_t value)
{
    struct vgd_link_done done = {.request_seq = request_seq, .status = status, .value = value};
    to_supervisor(w, VGD_LINK_DONE, &done, sizeof(done));
}

/* ---- requests ---------------------------------------------------------------------------------
 */

static struct request *request_take(struct worker *w)
{
    struct request *req = w->free_requests;
    if (req == NULL) {
        req = calloc(1, sizeof(*req));
        assert(req != NULL); /* a worker that has no memory for this starts afresh */
        return req;
    }
    w->free_requests = req->next_free;
    return req;
}

static void request_free(struct worker *w, struct request *req)
{
    if (req->iov != req->inline_iov) {
        free(req->iov);
    }
    req->iov = NULL;
    req->next_free = w->free_requests;
    w->free_requests = req;
}

static void notify(struct queue *q)
{
    q->unnotified_ns = 0;
    if (vgd_virtqueue_should_notify(q->vq) && q->call_fd >= 0) {
        vgd_eventfd_signal(q->call_fd);
    }
}

static void finish_stop_if_drained(struct queue *q)
{
    if (!q->stopping || vgd_virtqueue_inflight_count(q->vq) != 0) {
        return;
    }
    q->stopping = false;
    bool more = false;
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        more = more || q->worker->queues[i].stopping;
    }
    if (!more) {
        vgd_timer_stop(q->worker->drain); /* or it would fail what comes after a quick resume */
    }
    notify(q);
    uint16_t base = vgd_virtqueue_stop(q->vq);
    vgd_fd_closep(&q->kick_fd);
    vgd_fd_closep(&q->call_fd);
    confirm(q->worker, q->stop_seq, VGD_OK, base);
}

static void push(struct queue *q, uint16_t head, uint32_t written_bytes)
{
    vgd_virtqueue_push(q->vq, head, written_bytes);
    struct vgd_vault *vault = q->worker->vault;
    if (vault->answered_ns == 0) {
        vault->answered_ns = vgd_now_ns();
    }
    if (!q->in_batch) {
        notify(q);
        finish_stop_if_drained(q);
        return;
    }
    uint64_t now_ns = vgd_now_ns();
    if (q->unnotified_ns == 0) {
        q->unnotified_ns = now_ns;
    } else if (now_ns - q->unnotified_ns > NOTIFY_INTERVAL_NS) {
        notify(q);
    }
}

static void gpu_complete(void *user, struct vgd_gpu_request *base, const uint8_t *resp,
                         size_t n_bytes)
{
    struct worker *w = user;
    struct request *req = (struct request *)base;
    struct queue *q = req->queue;
    size_t written = vgd_iov_copy_in(req->iov, req->n_iov, 0, resp, n_bytes);
    uint16_t head = req->head;
    request_free(w, req);
    push(q, head, (uint32_t)written);
}

/* The command's bytes into the private buffer; false when it is too long to be one. */
static bool copy_command(struct worker *w, const struct vgd_chain *chain)
{
    if (chain->readable_bytes > COMMAND_BYTES_MAX) {
        return false;
    }
    size_t n_bytes = (size_t)chain->readable_bytes;
    if (n_bytes > w->command_room_bytes) {
        size_t room = w->command_room_bytes;
        while (room < n_bytes) {
            room *= 2;
        }
        free(w->command);
        w->command = malloc(room);
        assert(w->command != NULL);
        w->command_room_bytes = room;
    }
    (void)vgd_iov_copy_out(chain->readable, chain->n_readable, 0, w->command, n_bytes);
    return true;
}

/* Execute one chain; with @lost, answer that its effect is unknown. */
static void serve_chain(struct queue *q, const struct vgd_chain *chain, bool lost)
{
    struct worker *w = q->worker;
    bool fits = copy_command(w, chain);
    if (!fits) {
        vgd_log_guest(&w->guest_log, "queue", "queue %u: a command of %llu bytes, limit %u", q->idx,
                      (unsigned long long)chain->readable_bytes, COMMAND_BYTES_MAX);
        (void)vgd_iov_copy_out(chain->readable, chain->n_readable, 0, w->command,
                               VGD_CTRL_HDR_SIZE);
    }

    struct request *req = request_take(w);
    req->queue = q;
    req->head = chain->head;
    req->n_iov = chain->n_writable;
    req->iov = req->inline_iov;
    if (chain->n_writable > RESPONSE_IOV_INLINE) {
        req->iov = malloc(chain->n_writable * sizeof(*req->iov));
        assert(req->iov != NULL);
    }
    if (chain->n_writable != 0) {
        memcpy(req->iov, chain->writable, chain->n_writable * sizeof(*req->iov));
    }
    req->base.cmd = w->command;
    req->base.cmd_bytes = fits ? (size_t)chain->readable_bytes : VGD_CTRL_HDR_SIZE;
    req->base.resp_capacity_bytes = (size_t)chain->writable_bytes;
    req->base.queue = q->idx == 0 ? VGD_QUEUE_CONTROL : VGD_QUEUE_CURSOR;
    if (lost || !fits) {
        vgd_gpu_fail(w->gpu, &req->base);
    } else {
        vgd_gpu_execute(w->gpu, &req->base);
    }
}

static void bad_chain(struct queue *q, const struct vgd_chain *chain)
{
    vgd_log_guest(&q->worker->guest_log, "queue", "queue %u: bad descriptor chain, head %u", q->idx,
                  chain->head);
    q->worker->vault->counters.errors++;
    push(q, chain->head, 0);
}

/* ---- queues -----------------------------------------------------------------------------------
 */

static void unwatch(struct queue *q)
{
    vgd_watch_remove(&q->watch);
    vgd_timer_stop(q->again);
}

/* Returns false once the turn's share is used up. */
static bool serve_batch(struct queue *q)
{
    for (uint32_t n = 0; n < CHAINS_PER_TURN; n++) {
        struct vgd_chain chain;
        enum vgd_status st = vgd_virtqueue_pop(q->vq, &chain);
        if (st == VGD_AGAIN) {
            return true;
        }
        if (st == VGD_OK) {
            serve_chain(q, &chain, false);
        } else if (st == VGD_RANGE) {
            bad_chain(q, &chain);
        } else {
            vgd_log(VGD_LOG_WARNING, "queue",
                    "queue %u: the guest's available ring is broken; stopped until it is set up "
                    "again",
                    q->idx);
            unwatch(q);
            return true;
        }
    }
    return false;
}

static void serve(struct queue *q)
{
    struct worker *w = q->worker;
    q->in_batch = true;
    bool more;
    do {
        (void)vgd_virtqueue_want_kicks(q->vq, false);
        bool empty = serve_batch(q);
        if (w->render->ops->batch_end != NULL) {
            w->render->ops->batch_end(w->render);
        }
        notify(q);
        if (!empty) {
            vgd_timer_start(q->again, 0);
            break;
        }
        more = vgd_virtqueue_running(q->vq) && vgd_virtqueue_want_kicks(q->vq, true);
    } while (more);
    q->in_batch = false;
}

static void queue_kicked(void *user, uint32_t events)
{
    struct queue *q = user;
    vgd_eventfd_clear(q->kick_fd);
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) { /* not an eventfd, and its other end is gone */
        vgd_watch_remove(&q->watch);
    }
    serve(q);
}

static void queue_again(void *user)
{
    serve(user);
}

/* Chains that a dead worker had taken: answered once, with errors where the work is lost. */
static void answer_recovered(struct queue *q)
{
    uint32_t count = 0;
    q->in_batch = true;
    for (;; count++) {
        struct vgd_chain chain;
        enum vgd_status st = vgd_virtqueue_pop_recovered(q->vq, &chain);
        if (st == VGD_AGAIN) {
            break;
        }
        if (st == VGD_OK) {
            serve_chain(q, &chain, true);
        } else {
            bad_chain(q, &chain);
        }
    }
    q->in_batch = false;
    notify(q);
    if (q->call_fd >= 0) {
        vgd_eventfd_signal(q->call_fd); /* the dead worker may have answered and not told */
    }
    vgd_log(VGD_LOG_INFO, "queue", "queue %u goes on: %u commands in flight were answered", q->idx,
            count);
}

static enum vgd_status queue_start(struct worker *w, struct vgd_link_message *msg)
{
    const struct vgd_link_queue_start *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL || m->queue_idx >= VGD_QUEUES_COUNT ||
        msg->n_fds != 1u + (m->has_call ? 1u : 0u)) {
        return VGD_RANGE;
    }
    struct queue *q = &w->queues[m->queue_idx];
    unwatch(q);
    vgd_fd_closep(&q->kick_fd);
    vgd_fd_closep(&q->call_fd);
    q->kick_fd = vgd_fd_take(&msg->fds[0]);
    q->call_fd = m->has_call ? vgd_fd_take(&msg->fds[1]) : -1;
    q->stopping = false;
    struct vgd_virtqueue_setup setup = {
        .size = m->size,
        .desc_user_addr = m->desc_user_addr,
        .avail_user_addr = m->avail_user_addr,
        .used_user_addr = m->used_user_addr,
        .base = m->base,
        .event_idx = m->event_idx != 0,
        .recover = m->recover != 0,
    };
    enum vgd_status st = vgd_virtqueue_start(q->vq, &setup);
    if (st != VGD_OK) {
        vgd_log(VGD_LOG_WARNING, "queue", "queue %u cannot start: ring addresses: %s", q->idx,
                vgd_status_text(st));
        return VGD_OK; /* the front-end's fault; the queue stays stopped */
    }
    q->watch = vgd_loop_watch(w->loop, q->kick_fd, EPOLLIN, queue_kicked, q);
    if (q->watch == NULL) {
        vgd_log(VGD_LOG_WARNING, "queue", "queue %u: its kick descriptor cannot be waited on",
                q->idx);
    }
    if (setup.recover) {
        answer_recovered(q);
    }
    struct vgd_link_u64 started = {.value = q->idx};
    to_supervisor(w, VGD_LINK_STARTED, &started, sizeof(started));
    serve(q); /* without waiting for a kick: it may have come before us */
    return VGD_OK;
}

static enum vgd_status queue_call(struct worker *w, struct vgd_link_message *msg)
{
    const struct vgd_link_u64 *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL || m->value >= VGD_QUEUES_COUNT || msg->n_fds > 1) {
        return VGD_RANGE;
    }
    struct queue *q = &w->queues[m->value];
    vgd_fd_closep(&q->call_fd);
    if (msg->n_fds == 1) {
        q->call_fd = vgd_fd_take(&msg->fds[0]);
        vgd_eventfd_signal(q->call_fd); /* what came before may have gone to the old one */
    }
    return VGD_OK;
}

static enum vgd_status queue_stop(struct worker *w, const struct vgd_link_message *msg)
{
    const struct vgd_link_request *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL || m->queue_idx >= VGD_QUEUES_COUNT) {
        return VGD_RANGE;
    }
    struct queue *q = &w->queues[m->queue_idx];
    unwatch(q);
    q->stopping = true;
    q->stop_seq = m->request_seq;
    if (vgd_virtqueue_inflight_count(q->vq) != 0) {
        vgd_timer_start(w->drain, STOP_DRAIN_NS);
    }
    finish_stop_if_drained(q);
    return VGD_OK;
}

static void drain_over(void *user)
{
    struct worker *w = user;
    vgd_log(VGD_LOG_WARNING, "queue", "stop: %u commands still pending after %llu ms, failed",
            vgd_gpu_pending_count(w->gpu), STOP_DRAIN_NS / 1000000);
    vgd_gpu_fail_pending(w->gpu);
}

/* ---- memory -----------------------------------------------------------------------------------
 */

static enum vgd_status translate(void *user, uint64_t addr, uint64_t len_bytes, struct iovec *iov,
                                 uint32_t *n_iov, uint32_t max)
{
    struct worker *w = user;
    return vgd_mem_translate(w->mem, addr, len_bytes, iov, n_iov, max);
}

static void memory_settled(struct worker *w)
{
    vgd_gpu_memory_changed(w->gpu);
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct queue *q = &w->queues[i];
        if (vgd_virtqueue_remap(q->vq) != VGD_OK) {
            vgd_log(VGD_LOG_WARNING, "queue", "queue %u: its memory went away; stopped", i);
            unwatch(q);
        }
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
    confirm(w, m->request_seq, st, 0);
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
    confirm(w, m->request_seq, st, 0);
    return VGD_OK;
}

/* ---- life -------------------------------------------------------------------------------------
 */

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
    to_supervisor(w, VGD_LINK_READY, ready, sizeof(*ready));
}

static enum vgd_status hello(struct worker *w, const struct vgd_link_message *msg)
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
        .complete = gpu_complete,
        .user = w,
    });
    w->drain = vgd_timer_create(w->loop, drain_over, w);
    if (w->gpu == NULL || w->drain == NULL) {
        return VGD_NO_MEMORY;
    }
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct queue *q = &w->queues[i];
        q->vq = vgd_virtqueue_create(w->mem, &w->vault->inflight[i]);
        q->again = vgd_timer_create(w->loop, queue_again, q);
        if (q->vq == NULL || q->again == NULL) {
            return VGD_NO_MEMORY;
        }
    }
    report_ready(w, &ready);
    return VGD_OK;
}

static enum vgd_status reset(struct worker *w, const struct vgd_link_message *msg)
{
    const struct vgd_link_request *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL) {
        return VGD_RANGE;
    }
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct queue *q = &w->queues[i];
        unwatch(q);
        q->stopping = false;
        (void)vgd_virtqueue_stop(q->vq);
    }
    vgd_timer_stop(w->drain);
    vgd_gpu_fail_pending(w->gpu); /* gives the requests back; a stopped queue takes no answers */
    vgd_gpu_reset(w->gpu);
    memset(w->vault->inflight, 0, sizeof(w->vault->inflight));
    confirm(w, m->request_seq, VGD_OK, 0);
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

static enum vgd_status dispatch(struct worker *w, struct vgd_link_message *msg)
{
    if (!w->greeted && msg->type != VGD_LINK_HELLO) {
        return VGD_RANGE;
    }
    switch (msg->type) {
    case VGD_LINK_HELLO:
        return hello(w, msg);
    case VGD_LINK_FEATURES: {
        const struct vgd_link_u64 *m = vgd_link_payload(msg, sizeof(*m));
        if (m == NULL) {
            return VGD_RANGE;
        }
        vgd_gpu_set_features(w->gpu, m->value);
        return VGD_OK;
    }
    case VGD_LINK_MEM_TABLE:
        return mem_table(w, msg);
    case VGD_LINK_MEM_ADD:
        return mem_add(w, msg);
    case VGD_LINK_MEM_REMOVE:
        return mem_remove(w, msg);
    case VGD_LINK_QUEUE_START:
        return queue_start(w, msg);
    case VGD_LINK_QUEUE_CALL:
        return queue_call(w, msg);
    case VGD_LINK_QUEUE_STOP:
        return queue_stop(w, msg);
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
    case VGD_LINK_DISPLAY_STATE:
    case VGD_LINK_FRAME_DONE:
    case VGD_LINK_DMABUF_DONE:
    case VGD_LINK_INFO_REPLY:
    case VGD_LINK_EDID_REPLY:
    case VGD_LINK_SNAPSHOT:
        return display_message(w, msg);
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

static int run(int link_fd)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN); /* a terminal sends it to both; the supervisor decides */
    struct worker w = {.loop = vgd_loop_create(), .command_room_bytes = COMMAND_BYTES_FIRST};
    w.command = malloc(w.command_room_bytes);
    if (w.loop == NULL || w.command == NULL) {
        return EXIT_FAILURE;
    }
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        w.queues[i] = (struct queue){.worker = &w, .idx = i, .kick_fd = -1, .call_fd = -1};
    }
    w.link = vgd_link_create(w.loop, &link_fd, link_message, link_closed, &w);
    if (w.link == NULL) {
        return EXIT_FAILURE;
    }
    int rc = vgd_loop_run(w.loop);
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
