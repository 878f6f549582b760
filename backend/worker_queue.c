/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fd.h"
#include "iov.h"

/* A command as long as the longest SUBMIT_3D, or the backing of the largest resource, with room for
 * its header. Longer chains are answered with an error. */
#define COMMAND_BYTES_MAX ((16u << 20) + 4096u)
#define COMMAND_BYTES_FIRST (64u << 10)
/* Looks into one queue's ring before other work of the loop gets its turn; each but the last of a
 * round finds a chain. */
#define LOOKS_PER_TURN 256u
/* In a long batch, answers are not held back longer than this. */
#define NOTIFY_INTERVAL_NS 100000u
/* A stop waits this long for the GPU, then what is pending is answered with an error. The
 * supervisor's patience (VGD_STOP_DEADLINE_MS) is longer. */
#define STOP_DRAIN_NS 1000000000ull
/* Commands that a stop left undone are tried so often once their ring runs, until the VMM answers
 * again or so long; then the answer is an error. */
#define RETRY_INTERVAL_NS 10000000ull
#define RETRY_NS_MAX 2000000000ull
/* Iovecs of a response that a request holds itself. */
#define RESPONSE_IOV_INLINE 2u
#define REQUESTS_COUNT (VGD_QUEUES_COUNT * VGD_QUEUE_SIZE_MAX)

/* One command between pop and push. */
struct request {
    struct vgd_gpu_request base;
    struct queue *queue;
    uint16_t head;
    uint64_t record; /* its id in a recording, or 0 */
    uint32_t n_iov;
    struct iovec *iov; /* inline_iov or owned */
    struct iovec inline_iov[RESPONSE_IOV_INLINE];
    struct request *next_free;
};

/* NULL: there are as many as the rings can hold. */
static struct request *request_take(struct worker *w)
{
    struct request *req = w->free_requests;
    if (req != NULL) {
        w->free_requests = req->next_free;
    } else if (w->requests_begun < REQUESTS_COUNT) {
        req = &w->requests[w->requests_begun++];
    }
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
    if (!q->stopping || vgd_virtqueue_inflight_count(q->vq) != q->n_postponed) {
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
    q->stopped_base = base;
    vgd_fd_closep(&q->kick_fd);
    vgd_fd_closep(&q->call_fd);
    vgd_worker_confirm(q->worker, q->stop_seq, VGD_OK, base);
}

/* @now_ns: if somebody has just looked at the clock; or 0. */
static void push(struct queue *q, uint16_t head, uint32_t written_bytes, uint64_t now_ns)
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
    now_ns = now_ns != 0 ? now_ns : vgd_now_ns();
    if (q->unnotified_ns == 0) {
        q->unnotified_ns = now_ns;
    } else if (now_ns - q->unnotified_ns > NOTIFY_INTERVAL_NS) {
        notify(q);
    }
}

void vgd_worker_complete(void *user, struct vgd_gpu_request *base, const uint8_t *resp,
                         size_t n_bytes)
{
    struct worker *w = user;
    struct request *req = (struct request *)base;
    struct queue *q = req->queue;
    if (w->recording != NULL) {
        vgd_recorder_response(w->recording, req->record, resp, n_bytes);
    }
    size_t written = vgd_iov_copy_in(req->iov, req->n_iov, 0, resp, n_bytes);
    uint16_t head = req->head;
    uint64_t now_ns = base->answered_ns;
    request_free(w, req);
    push(q, head, (uint32_t)written, now_ns);
}

void vgd_worker_postpone(void *user, struct vgd_gpu_request *base)
{
    struct worker *w = user;
    struct request *req = (struct request *)base;
    struct queue *q = req->queue;
    assert(q->n_postponed < VGD_QUEUE_SIZE_MAX); /* each is a chain of its own */
    q->postponed[q->n_postponed++] = req->head;
    q->postponed_records[req->head] = req->record;
    request_free(w, req);
    if (q->stopping) {
        finish_stop_if_drained(q);
    } else {
        vgd_timer_start(q->retry, RETRY_INTERVAL_NS);
    }
}

/* The command's bytes into the private buffer. VGD_LIMIT: it is too long to be one; VGD_NO_MEMORY.
 * Then the buffer is as large as it was, and has its header only. */
static enum vgd_status copy_command(struct worker *w, const struct vgd_chain *chain)
{
    enum vgd_status st = chain->readable_bytes <= COMMAND_BYTES_MAX ? VGD_OK : VGD_LIMIT;
    size_t n_bytes = (size_t)chain->readable_bytes;
    if (st == VGD_OK && n_bytes > w->command_room_bytes) {
        size_t room = w->command_room_bytes;
        while (room < n_bytes) {
            room *= 2;
        }
        uint8_t *larger = malloc(room);
        if (larger != NULL) {
            free(w->command);
            w->command = larger;
            w->command_room_bytes = room;
        } else {
            st = VGD_NO_MEMORY;
        }
    }
    (void)vgd_iov_copy_out(chain->readable, chain->n_readable, 0, w->command,
                           st == VGD_OK ? n_bytes : VGD_CTRL_HDR_SIZE);
    return st;
}

/* Where the response goes. Without memory for all its pieces it has the first ones, which are
 * enough for an error: false. */
static bool take_response(struct request *req, const struct vgd_chain *chain)
{
    req->iov = req->inline_iov;
    req->n_iov = chain->n_writable;
    req->base.resp_capacity_bytes = (size_t)chain->writable_bytes;
    if (chain->n_writable > RESPONSE_IOV_INLINE) {
        struct iovec *iov = malloc(chain->n_writable * sizeof(*iov));
        if (iov == NULL) {
            req->n_iov = RESPONSE_IOV_INLINE;
            req->base.resp_capacity_bytes = 0;
            for (uint32_t i = 0; i < RESPONSE_IOV_INLINE; i++) {
                req->inline_iov[i] = chain->writable[i];
                req->base.resp_capacity_bytes += chain->writable[i].iov_len;
            }
            return false;
        }
        req->iov = iov;
    }
    if (chain->n_writable != 0) {
        memcpy(req->iov, chain->writable, chain->n_writable * sizeof(*req->iov));
    }
    return true;
}

/* Execute one chain; with @lost, answer that its effect is unknown. @record: of an earlier time,
 * when it was postponed, or 0. */
static void serve_chain(struct queue *q, const struct vgd_chain *chain, bool lost, uint64_t record)
{
    struct worker *w = q->worker;
    struct request *req = request_take(w);
    if (req == NULL) {
        push(q, chain->head, 0, 0);
        return;
    }
    enum vgd_status st = copy_command(w, chain);
    bool fits = st == VGD_OK;
    if (!fits) {
        vgd_log_guest(&w->guest_log, "queue", "queue %u: a command of %llu bytes, limit %u: %s",
                      q->idx, (unsigned long long)chain->readable_bytes, COMMAND_BYTES_MAX,
                      vgd_status_text(st));
    }
    if (!take_response(req, chain)) {
        vgd_log_guest(&w->guest_log, "queue", "queue %u: a response in %u pieces: %s", q->idx,
                      chain->n_writable, vgd_status_text(VGD_NO_MEMORY));
        lost = true;
    }
    req->queue = q;
    req->head = chain->head;
    req->base.cmd = w->command;
    req->base.cmd_bytes = fits ? (size_t)chain->readable_bytes : VGD_CTRL_HDR_SIZE;
    req->base.queue = q->idx == 0 ? VGD_QUEUE_CONTROL : VGD_QUEUE_CURSOR;
    req->record = 0;
    if (w->recording != NULL) {
        struct vgd_recorder_command told = {.cmd = w->command,
                                            .cmd_bytes = req->base.cmd_bytes,
                                            .response_room_bytes = chain->writable_bytes,
                                            .queue = req->base.queue,
                                            .again = record,
                                            .is_cut = !fits,
                                            .is_lost = lost};
        req->record = record = vgd_recorder_command(w->recording, &told);
    }
    if (lost || !fits) {
        vgd_gpu_fail(w->gpu, &req->base);
    } else {
        vgd_gpu_execute(w->gpu, &req->base);
    }
    if (w->recording != NULL) {
        vgd_recorder_executed(w->recording, record); /* the request may be gone */
    }
}

static void bad_chain(struct queue *q, const struct vgd_chain *chain)
{
    vgd_log_guest(&q->worker->guest_log, "queue", "queue %u: bad descriptor chain, head %u", q->idx,
                  chain->head);
    vgd_gpu_bad_chain(q->worker->gpu);
    push(q, chain->head, 0, 0);
}

/* ---- queues -----------------------------------------------------------------------------------
 */

static void unwatch(struct queue *q)
{
    vgd_watch_remove(&q->watch);
    vgd_timer_stop(q->again);
    vgd_timer_stop(q->retry);
}

/* Serves what is in the ring. Returns false once *looks_left is used up. */
static bool serve_batch(struct queue *q, uint32_t *looks_left)
{
    while (*looks_left != 0) {
        (*looks_left)--;
        struct vgd_chain chain;
        enum vgd_status st = vgd_virtqueue_pop(q->vq, &chain);
        if (st == VGD_AGAIN) {
            return true;
        }
        if (st == VGD_OK) {
            serve_chain(q, &chain, false, 0);
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
    if (w->held) {
        return; /* vgd_worker_queues_unhold brings us back */
    }
    q->in_batch = true;
    uint32_t looks_left = LOOKS_PER_TURN; /* for all rounds: a guest may refill the ring for ever */
    bool more;
    do {
        (void)vgd_virtqueue_want_kicks(q->vq, false);
        bool empty = serve_batch(q, &looks_left);
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

/* What a stop left undone, once more. */
static void queue_retry(void *user)
{
    struct queue *q = user;
    if (q->worker->held) {
        vgd_timer_start(q->retry, RETRY_INTERVAL_NS);
        return;
    }
    uint16_t heads[VGD_QUEUE_SIZE_MAX];
    uint32_t n = q->n_postponed;
    memcpy(heads, q->postponed, n * sizeof(heads[0]));
    q->n_postponed = 0;
    if (!vgd_virtqueue_running(q->vq) || n == 0) {
        return;
    }
    uint64_t now_ns = vgd_now_ns();
    if (q->postponed_ns == 0) {
        q->postponed_ns = now_ns;
    }
    bool lost = now_ns - q->postponed_ns > RETRY_NS_MAX;
    q->in_batch = true;
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_chain chain;
        if (vgd_virtqueue_read_again(q->vq, heads[i], &chain) == VGD_OK) {
            serve_chain(q, &chain, lost, q->postponed_records[heads[i]]);
        } else {
            bad_chain(q, &chain);
        }
    }
    q->in_batch = false;
    notify(q);
    if (q->n_postponed == 0) {
        q->postponed_ns = 0;
    }
}

/* Chains that were in flight: of a dead worker, answered once, with errors where the work is lost;
 * or our own that a stop left undone. */
static void serve_recovered(struct queue *q, bool lost)
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
            serve_chain(q, &chain, lost, lost ? 0 : q->postponed_records[chain.head]);
        } else {
            bad_chain(q, &chain);
        }
    }
    q->in_batch = false;
    notify(q);
    if (q->call_fd >= 0) {
        vgd_eventfd_signal(q->call_fd); /* the dead worker may have answered and not told */
    }
    vgd_log(VGD_LOG_INFO, "queue", "queue %u goes on: %u commands in flight were %s", q->idx, count,
            lost ? "answered" : "left undone by the stop");
}

enum vgd_status vgd_worker_queue_start(struct worker *w, struct vgd_link_message *msg)
{
    const struct vgd_link_queue_start *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL || m->queue_idx >= VGD_QUEUES_COUNT ||
        msg->n_fds != 1u + (m->has_call ? 1u : 0u)) {
        return VGD_RANGE;
    }
    if (w->held) {
        vgd_recorder_settle(w->recorder); /* what was in flight is served at once */
    }
    struct queue *q = &w->queues[m->queue_idx];
    unwatch(q);
    vgd_fd_closep(&q->kick_fd);
    vgd_fd_closep(&q->call_fd);
    q->kick_fd = vgd_fd_take(&msg->fds[0]);
    q->call_fd = m->has_call ? vgd_fd_take(&msg->fds[1]) : -1;
    q->stopping = false;
    /* A start from anywhere else is another guest's, or this one's after a reset. */
    bool has_undone = q->n_postponed != 0 && !m->recover && m->base == q->stopped_base;
    q->n_postponed = 0;
    q->postponed_ns = 0;
    struct vgd_virtqueue_setup setup = {
        .size = m->size,
        .desc_user_addr = m->desc_user_addr,
        .avail_user_addr = m->avail_user_addr,
        .used_user_addr = m->used_user_addr,
        .base = m->base,
        .event_idx = m->event_idx != 0,
        .recover = m->recover != 0 || has_undone,
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
        serve_recovered(q, !has_undone);
    }
    struct vgd_link_u64 started = {.value = q->idx};
    vgd_worker_send(w, VGD_LINK_STARTED, &started, sizeof(started));
    serve(q); /* without waiting for a kick: it may have come before us */
    return VGD_OK;
}

enum vgd_status vgd_worker_queue_call(struct worker *w, struct vgd_link_message *msg)
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

enum vgd_status vgd_worker_queue_stop(struct worker *w, const struct vgd_link_message *msg)
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

/* ---- all of them ------------------------------------------------------------------------------
 */

enum vgd_status vgd_worker_queues_create(struct worker *w)
{
    w->drain = vgd_timer_create(w->loop, drain_over, w);
    w->command_room_bytes = COMMAND_BYTES_FIRST;
    w->command = malloc(w->command_room_bytes);
    w->requests = calloc(REQUESTS_COUNT, sizeof(*w->requests)); /* pages come with their use */
    if (w->drain == NULL || w->command == NULL || w->requests == NULL) {
        return VGD_NO_MEMORY;
    }
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct queue *q = &w->queues[i];
        *q = (struct queue){.worker = w, .idx = i, .kick_fd = -1, .call_fd = -1};
        q->vq = vgd_virtqueue_create(w->mem, &w->vault->inflight[i]);
        q->again = vgd_timer_create(w->loop, queue_again, q);
        q->retry = vgd_timer_create(w->loop, queue_retry, q);
        if (q->vq == NULL || q->again == NULL || q->retry == NULL) {
            return VGD_NO_MEMORY;
        }
    }
    return VGD_OK;
}

void vgd_worker_queues_unhold(struct worker *w)
{
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct queue *q = &w->queues[i];
        if (vgd_virtqueue_running(q->vq) && !q->stopping && q->watch != NULL) {
            vgd_timer_start(q->again, 0);
        }
    }
}

void vgd_worker_queues_remap(struct worker *w)
{
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct queue *q = &w->queues[i];
        if (vgd_virtqueue_remap(q->vq) != VGD_OK) {
            vgd_log(VGD_LOG_WARNING, "queue", "queue %u: its memory went away; stopped", i);
            unwatch(q);
        }
    }
}

void vgd_worker_queues_drop(struct worker *w)
{
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct queue *q = &w->queues[i];
        unwatch(q);
        q->stopping = false;
        q->n_postponed = 0;
        (void)vgd_virtqueue_stop(q->vq);
    }
    vgd_timer_stop(w->drain);
}
