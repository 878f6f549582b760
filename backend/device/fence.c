/* SPDX-License-Identifier: MIT */
/*
 * Timelines. One for the device, and one for each ring of each context. A fence is a number of our
 * own that only grows; the renderer says "all up to this one have signalled" for one timeline,
 * and timelines do not wait for each other.
 *
 * Answers of one timeline come in order, errors too: Linux takes the answer of a fence as the end
 * of every older fence of its timeline, so an error that overtook them would release buffers that
 * the GPU still uses. So a command that waits for the window as well (held) keeps its place, and
 * what is behind it waits too.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "device.h"

static bool is_timeline(const struct vgd_gpu *gpu, const struct vgd_gpu_waiters *list)
{
    return list != &gpu->questions && list != &gpu->window_waiters;
}

void vgd_list_append(struct vgd_gpu_waiters *list, struct vgd_gpu_request *req)
{
    struct vgd_gpu *gpu = req->priv.gpu;
    req->priv.list = list;
    req->priv.next = NULL;
    req->priv.prev = list->last;
    if (list->last != NULL) {
        list->last->priv.next = req;
    } else {
        list->first = req;
    }
    list->last = req;
    gpu->pending_count++;
    gpu->waiting_count += is_timeline(gpu, list);
}

void vgd_list_remove(struct vgd_gpu_request *req)
{
    struct vgd_gpu *gpu = req->priv.gpu;
    struct vgd_gpu_waiters *list = req->priv.list;
    if (req->priv.prev != NULL) {
        req->priv.prev->priv.next = req->priv.next;
    } else {
        list->first = req->priv.next;
    }
    if (req->priv.next != NULL) {
        req->priv.next->priv.prev = req->priv.prev;
    } else {
        list->last = req->priv.prev;
    }
    req->priv.prev = NULL;
    req->priv.next = NULL;
    req->priv.list = NULL;
    gpu->pending_count--;
    gpu->waiting_count -= is_timeline(gpu, list);
}

/* Which renderer timeline a header names. */
struct ring {
    uint32_t ctx_id;
    uint8_t idx;
};

static struct ring ring_of(const struct vgd_ctrl_hdr *hdr)
{
    if ((hdr->flags & VGD_FLAG_INFO_RING_IDX) != 0) {
        return (struct ring){.ctx_id = hdr->ctx_id, .idx = hdr->ring_idx};
    }
    return (struct ring){0};
}

/* The list of a fenced command's timeline; NULL if its context has gone, or there is none. */
static struct vgd_gpu_waiters *timeline_of(struct vgd_gpu *gpu, const struct vgd_ctrl_hdr *hdr)
{
    if ((hdr->flags & VGD_FLAG_INFO_RING_IDX) == 0) {
        return &gpu->device_timeline;
    }
    const struct vgd_context *ctx = vgd_context_find(gpu, hdr->ctx_id);
    bool there = ctx != NULL && ctx->timelines != NULL && hdr->ring_idx <= VGD_RING_IDX_MAX;
    return there ? &ctx->timelines[hdr->ring_idx] : NULL;
}

enum vgd_status vgd_fence_prepare(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    const struct vgd_ctrl_hdr *hdr = &call->hdr;
    if ((hdr->flags & VGD_FLAG_INFO_RING_IDX) != 0) {
        if ((gpu->features >> VGD_F_CONTEXT_INIT & 1) == 0) {
            return VGD_REFUSE(call, VGD_UNSUPPORTED, "ring %u without CONTEXT_INIT", hdr->ring_idx);
        }
        if (hdr->ring_idx > VGD_RING_IDX_MAX) {
            return VGD_REFUSE(call, VGD_RANGE, "ring %u of 0..%u", hdr->ring_idx, VGD_RING_IDX_MAX);
        }
    }
    if ((hdr->flags & VGD_FLAG_FENCE) == 0) {
        return VGD_OK;
    }
    if (gpu->waiting_count >= gpu->config.limits.fences_max) {
        return VGD_REFUSE(call, VGD_LIMIT, "fences_max %" PRIu32 " are pending",
                          gpu->config.limits.fences_max);
    }
    if ((hdr->flags & VGD_FLAG_INFO_RING_IDX) != 0) {
        struct vgd_context *ctx = vgd_context_find(gpu, hdr->ctx_id);
        if (ctx == NULL) {
            return VGD_REFUSE(call, VGD_NO_CONTEXT, "fence on a ring of unknown ctx=%" PRIu32,
                              hdr->ctx_id);
        }
        if (ctx->timelines == NULL) {
            ctx->timelines = calloc(VGD_RING_IDX_MAX + 1u, sizeof(*ctx->timelines));
            if (ctx->timelines == NULL) {
                return VGD_NO_MEMORY;
            }
        }
    }
    return VGD_OK;
}

/* Fences of @list up to @seq have signalled: answer whose turn it is. */
static void retire(struct vgd_gpu *gpu, struct vgd_gpu_waiters *list, uint64_t seq)
{
    if (seq > gpu->fence_seq) {
        seq = gpu->fence_seq; /* no more than was asked for */
    }
    if (seq > list->retired_seq) {
        list->retired_seq = seq;
    }
    while (list->first != NULL && !list->first->priv.held &&
           list->first->priv.fence_seq <= list->retired_seq) {
        struct vgd_gpu_request *req = list->first;
        vgd_list_remove(req);
        vgd_gpu_answer(gpu, req, req->priv.resp_type);
    }
}

/* Ask for a fence on the timeline of @req. *out_done: it has signalled. */
static enum vgd_status fence_ask(struct vgd_gpu *gpu, struct vgd_gpu_request *req, bool *out_done)
{
    struct ring ring = ring_of(&req->priv.hdr);
    uint64_t seq = gpu->fence_seq + 1;
    *out_done = false;
    enum vgd_status st = gpu->ops->fence(gpu->render, ring.ctx_id, ring.idx, seq, out_done);
    if (st != VGD_OK) {
        vgd_log_guest(&gpu->log_limit, vgd_cmd_name(req->priv.hdr.type),
                      "fence on ctx=%" PRIu32 " ring=%u: %s", ring.ctx_id, ring.idx,
                      vgd_status_text(st));
        vgd_count_error(gpu, req, vgd_gpu_resp_of(st), "its fence failed");
        return st;
    }
    gpu->fence_seq = seq;
    req->priv.fence_seq = seq;
    vgd_count_fence(gpu, req);
    return VGD_OK;
}

/* The list in which the fence of @req waits. NULL: there is no fence, or its context is lost (it
 * has nothing in the GPU, and what waited on its rings has been answered), or this very command
 * destroyed it. */
static struct vgd_gpu_waiters *fence_list(struct vgd_gpu *gpu, const struct vgd_gpu_request *req)
{
    const struct vgd_ctrl_hdr *hdr = &req->priv.hdr;
    if ((hdr->flags & VGD_FLAG_FENCE) == 0) {
        return NULL;
    }
    uint32_t ctx_id = ring_of(hdr).ctx_id;
    const struct vgd_context *ctx = ctx_id != 0 ? vgd_context_find(gpu, ctx_id) : NULL;
    return ctx != NULL && ctx->lost ? NULL : timeline_of(gpu, hdr);
}

/* There is nothing to wait for but what is before it. */
static void answer_behind(struct vgd_gpu *gpu, struct vgd_gpu_waiters *list,
                          struct vgd_gpu_request *req, uint32_t type)
{
    if (list == NULL || list->last == NULL) {
        vgd_gpu_answer(gpu, req, type);
        return;
    }
    req->priv.fence_seq = list->last->priv.fence_seq;
    req->priv.resp_type = type;
    vgd_list_append(list, req);
}

void vgd_fence_refuse(struct vgd_gpu *gpu, struct vgd_gpu_request *req, uint32_t type)
{
    answer_behind(gpu, fence_list(gpu, req), req, type);
}

void vgd_fence_finish(struct vgd_gpu *gpu, struct vgd_gpu_request *req, enum vgd_status status)
{
    struct vgd_gpu_waiters *list = fence_list(gpu, req);
    if (list == NULL) {
        vgd_gpu_answer(gpu, req, vgd_gpu_resp_of(status));
        return;
    }
    if (status == VGD_OK) {
        bool done = false;
        status = fence_ask(gpu, req, &done);
        if (status == VGD_OK && done) {
            retire(gpu, list, req->priv.fence_seq);
        }
        if (status == VGD_OK && !done) {
            req->priv.resp_type = VGD_RESP_OK_NODATA;
            vgd_list_append(list, req);
            return;
        }
    }
    answer_behind(gpu, list, req, vgd_gpu_resp_of(status));
}

enum vgd_status vgd_fence_hold(struct vgd_gpu *gpu, struct vgd_gpu_request *req)
{
    struct vgd_gpu_waiters *list = fence_list(gpu, req);
    if (list == NULL) {
        list = &gpu->window_waiters;
    } else {
        bool done = false;
        enum vgd_status st = fence_ask(gpu, req, &done);
        if (st != VGD_OK) {
            return st;
        }
        if (done) {
            retire(gpu, list, req->priv.fence_seq);
        }
    }
    req->priv.held = true;
    vgd_list_append(list, req);
    return VGD_OK;
}

void vgd_fence_release(struct vgd_gpu *gpu, struct vgd_gpu_request *req, enum vgd_status status)
{
    assert(req->priv.held);
    req->priv.held = false;
    req->priv.resp_type = vgd_gpu_resp_of(status);
    struct vgd_gpu_waiters *list = req->priv.list;
    if (list == &gpu->window_waiters) {
        vgd_list_remove(req);
        vgd_gpu_answer(gpu, req, req->priv.resp_type);
    } else {
        retire(gpu, list, list->retired_seq);
    }
}

void vgd_fence_withdraw(struct vgd_gpu *gpu, struct vgd_gpu_request *req)
{
    assert(req->priv.held);
    struct vgd_gpu_waiters *list = req->priv.list;
    req->priv.held = false;
    vgd_list_remove(req);
    vgd_count_fence_dropped(gpu, req);
    if (list != &gpu->window_waiters) {
        retire(gpu, list, list->retired_seq); /* what is behind it waits no longer for it */
    }
}

void vgd_gpu_fence_done(struct vgd_gpu *gpu, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    if (ctx_id == 0) {
        retire(gpu, &gpu->device_timeline, seq);
        return;
    }
    /* The context may have gone, or be a new one with the same id: then its fences are newer than
     * @seq, since no number is used twice. */
    struct vgd_context *ctx = vgd_context_find(gpu, ctx_id);
    if (ctx != NULL && ctx->timelines != NULL && ring_idx <= VGD_RING_IDX_MAX) {
        retire(gpu, &ctx->timelines[ring_idx], seq);
    }
}

/* Answer all of @list; @type OK_NODATA: each with its own answer. What the window will answer waits
 * on without a timeline. */
static void list_answer(struct vgd_gpu *gpu, struct vgd_gpu_waiters *list, uint32_t type)
{
    while (list->first != NULL) {
        struct vgd_gpu_request *req = list->first;
        vgd_list_remove(req);
        if (req->priv.held) {
            vgd_list_append(&gpu->window_waiters, req);
        } else {
            vgd_gpu_answer(gpu, req, type == VGD_RESP_OK_NODATA ? req->priv.resp_type : type);
        }
    }
}

void vgd_fence_drop_context(struct vgd_gpu *gpu, struct vgd_context *ctx, uint32_t type)
{
    for (uint32_t ring = 0; ctx->timelines != NULL && ring <= VGD_RING_IDX_MAX; ring++) {
        list_answer(gpu, &ctx->timelines[ring], type);
    }
}

void vgd_gpu_fail_pending(struct vgd_gpu *gpu)
{
    gpu->failing = "pending when the rings were stopped";
    gpu->config.display->ops->cancel(gpu->config.display);
    vgd_window_fail_pending(gpu);
    list_answer(gpu, &gpu->questions, VGD_RESP_ERR_UNSPEC);
    list_answer(gpu, &gpu->window_waiters, VGD_RESP_ERR_UNSPEC);
    list_answer(gpu, &gpu->device_timeline, VGD_RESP_ERR_UNSPEC);
    uint32_t cursor = 0;
    struct vgd_context *ctx;
    while ((ctx = vgd_idmap_next(&gpu->contexts, &cursor, NULL)) != NULL) {
        vgd_fence_drop_context(gpu, ctx, VGD_RESP_ERR_UNSPEC);
    }
    gpu->failing = NULL;
    assert(gpu->pending_count == 0);
}
