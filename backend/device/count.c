/* SPDX-License-Identifier: MIT */
/*
 * Numbers and tables for those who watch (gpu_counters.h). They lie in shared memory and are
 * written as things happen; nothing here is asked back but our own last value of a counter, so what
 * a worker before us left in them changes only what is shown.
 */
#include <string.h>

#include "device.h"
#include "limits.h"

_Static_assert(VGD_CONTEXT_SLOTS_COUNT >= VGD_CONTEXTS_MAX, "each context has a place");

/* @n_bytes of @text into words, the rest zeroes: whole words are stored, so that a reader in
 * another process sees old or new, byte for byte. */
static void words_store(uint64_t *words, uint32_t n_words, const char *text, size_t n_bytes)
{
    for (uint32_t i = 0; i < n_words; i++) {
        uint64_t word = 0;
        size_t at = (size_t)i * sizeof(word);
        if (at < n_bytes) {
            memcpy(&word, text + at, n_bytes - at < sizeof(word) ? n_bytes - at : sizeof(word));
        }
        vgd_gauge(&words[i], word);
    }
}

/* Readers that see an even, equal number before and after have read one state. */
static void change_begin(uint64_t *seq)
{
    vgd_gauge(seq, vgd_counter_load(seq) | 1);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static void change_end(uint64_t *seq)
{
    __atomic_store_n(seq, vgd_counter_load(seq) + 1, __ATOMIC_RELEASE);
}

void vgd_count_begin(struct vgd_gpu *gpu)
{
    struct vgd_gpu_counters *c = gpu->counters;
    vgd_gauge(&c->resources_live, 0);
    vgd_gauge(&c->contexts_live, 0);
    vgd_gauge(&c->contexts_lost_live, 0);
    vgd_gauge(&c->resource_bytes_live, 0);
    vgd_gauge(&c->backing_entries_live, 0);
    vgd_gauge(&c->maps_live, 0);
    for (uint32_t i = 0; i < VGD_MEMORY_KINDS_COUNT; i++) {
        vgd_gauge(&c->memory_bytes[i], 0);
    }
    vgd_gauge(&c->fences_done, c->fences); /* those of a dead worker are answered with errors */
}

/* --- answers and errors --- */

static struct vgd_gpu_error_slot *error_slot(struct vgd_gpu_live *live, uint32_t command,
                                             uint32_t response, uint32_t ctx_id)
{
    struct vgd_gpu_error_slot *oldest = &live->errors[0];
    for (uint32_t i = 0; i < VGD_ERRORS_COUNT; i++) {
        struct vgd_gpu_error_slot *e = &live->errors[i];
        if (e->count != 0 && e->command == command && e->response == response &&
            e->ctx_id == ctx_id) {
            return e;
        }
        if (oldest->count != 0 && (e->count == 0 || e->last_ns < oldest->last_ns)) {
            oldest = e;
        }
    }
    change_begin(&oldest->seq);
    vgd_gauge(&oldest->command, command);
    vgd_gauge(&oldest->response, response);
    vgd_gauge(&oldest->ctx_id, ctx_id);
    vgd_gauge(&oldest->count, 0);
    return oldest;
}

static void error_add(struct vgd_gpu *gpu, uint32_t command, uint32_t response, uint32_t ctx_id,
                      const char *text)
{
    if (gpu->config.live == NULL) {
        return;
    }
    struct vgd_gpu_error_slot *e = error_slot(gpu->config.live, command, response, ctx_id);
    change_begin(&e->seq);
    vgd_count(&e->count, 1);
    vgd_gauge(&e->last_ns, vgd_now_ns());
    words_store(e->text, VGD_ERROR_TEXT_WORDS, text, strnlen(text, VGD_ERROR_TEXT_BYTES));
    change_end(&e->seq);
}

void vgd_count_error(struct vgd_gpu *gpu, struct vgd_gpu_request *req, uint32_t type,
                     const char *text)
{
    if (!req->priv.error_counted) {
        req->priv.error_counted = true;
        error_add(gpu, req->priv.hdr.type, type, req->priv.hdr.ctx_id, text);
    }
}

void vgd_gpu_bad_chain(struct vgd_gpu *gpu)
{
    vgd_count(&gpu->counters->errors, 1);
    vgd_count(&gpu->counters->bad_chains, 1);
    error_add(gpu, 0, 0, 0, "bad descriptor chain");
}

void vgd_count_fence(struct vgd_gpu *gpu, struct vgd_gpu_request *req)
{
    vgd_count(&gpu->counters->fences, 1);
    req->priv.fenced = true;
    if (req->priv.executed_ns == 0) {
        req->priv.executed_ns = vgd_now_ns();
    }
}

void vgd_count_fence_dropped(struct vgd_gpu *gpu, struct vgd_gpu_request *req)
{
    if (req->priv.fenced) {
        req->priv.fenced = false;
        vgd_count(&gpu->counters->fences_done, 1);
    }
}

void vgd_count_answer(struct vgd_gpu *gpu, struct vgd_gpu_request *req, uint32_t type,
                      size_t n_bytes)
{
    struct vgd_gpu_counters *c = gpu->counters;
    vgd_count(&c->commands, 1);
    vgd_count(&c->by_command[vgd_command_place(req->priv.hdr.type)], 1);
    vgd_count(&c->by_response[vgd_response_place(type)], 1);
    vgd_count(&c->command_bytes, req->cmd_bytes);
    vgd_count(&c->response_bytes, n_bytes);
    if (type >= VGD_RESP_ERR_UNSPEC) {
        vgd_count(&c->errors, 1);
        vgd_count_error(gpu, req, type, gpu->failing != NULL ? gpu->failing : "");
    }
    req->answered_ns = 0;
    if (req->priv.fenced) {
        req->priv.fenced = false;
        req->answered_ns = vgd_now_ns();
        vgd_count(&c->fences_done, 1);
        vgd_histogram_add(&c->fence_latency, req->answered_ns - req->priv.executed_ns);
    }
}

/* --- memory --- */

static void memory_change(struct vgd_gpu *gpu, enum vgd_memory_kind kind, uint64_t n_bytes,
                          bool goes)
{
    vgd_count(&gpu->counters->memory_bytes[kind], goes ? -n_bytes : n_bytes);
}

void vgd_count_resource(struct vgd_gpu *gpu, const struct vgd_resource *res, bool goes)
{
    switch (res->kind) {
    case VGD_RESOURCE_2D:
        memory_change(gpu, VGD_MEMORY_2D, res->size_bytes, goes);
        break;
    case VGD_RESOURCE_3D:
        memory_change(gpu, VGD_MEMORY_3D, res->size_bytes, goes);
        break;
    case VGD_RESOURCE_BLOB:
        memory_change(gpu, vgd_blob_is_guest(res) ? VGD_MEMORY_BLOBS_GUEST : VGD_MEMORY_BLOBS_HOST,
                      res->as.blob.size_bytes, goes);
        break;
    }
}

void vgd_count_backing(struct vgd_gpu *gpu, const struct vgd_resource *res, bool goes)
{
    if (!vgd_blob_is_guest(res)) { /* those are the resource itself */
        memory_change(gpu, VGD_MEMORY_BACKING, res->backing.size_bytes, goes);
    }
}

/* --- contexts --- */

static void slot_name(struct vgd_gpu_context_slot *slot, const struct vgd_context *ctx)
{
    vgd_gauge(&slot->id, ctx->id);
    words_store(slot->name, VGD_CONTEXT_NAME_WORDS, ctx->name, ctx->name_len_bytes);
}

/* Counters at 0. */
static void slot_clear(struct vgd_gpu_context_slot *slot)
{
    for (uint64_t *word = &slot->lost; word < (uint64_t *)(slot + 1); word++) {
        vgd_gauge(word, 0);
    }
}

static void slot_free(struct vgd_gpu_context_slot *slot)
{
    change_begin(&slot->seq);
    vgd_gauge(&slot->id, 0);
    change_end(&slot->seq);
}

static void slot_take(struct vgd_gpu *gpu, struct vgd_context *ctx)
{
    struct vgd_gpu_live *live = gpu->config.live;
    ctx->slot = &ctx->own_slot;
    for (uint32_t i = 0; live != NULL && i < VGD_CONTEXT_SLOTS_COUNT; i++) {
        if (gpu->slots_used[i] == 0) {
            gpu->slots_used[i] = 1;
            ctx->slot = &live->contexts[i];
            break;
        }
    }
    change_begin(&ctx->slot->seq);
    slot_name(ctx->slot, ctx);
    vgd_gauge(&ctx->slot->capset_id, ctx->capset_id);
    slot_clear(ctx->slot);
    change_end(&ctx->slot->seq);
}

void vgd_count_context(struct vgd_gpu *gpu, struct vgd_context *ctx)
{
    if (gpu->replaying) {
        ctx->slot = &ctx->own_slot;
        return;
    }
    vgd_count(&gpu->counters->contexts_created, 1);
    slot_take(gpu, ctx);
}

void vgd_count_context_gone(struct vgd_gpu *gpu, struct vgd_context *ctx)
{
    vgd_gauge(&gpu->counters->memory_bytes[VGD_MEMORY_CONTEXT_STATE], gpu->stream_state_bytes);
    if (ctx->slot->lost != 0 && !gpu->replaying) {
        vgd_count(&gpu->counters->contexts_lost_live, UINT64_MAX);
    }
    if (ctx->slot != &ctx->own_slot) {
        slot_free(ctx->slot);
        gpu->slots_used[ctx->slot - gpu->config.live->contexts] = 0;
    }
}

void vgd_count_context_lost(struct vgd_gpu *gpu, struct vgd_context *ctx)
{
    vgd_count(&gpu->counters->contexts_lost, ctx->slot->lost == 0); /* not with each worker again */
    vgd_count(&gpu->counters->contexts_lost_live, 1);
    vgd_gauge(&ctx->slot->lost, 1);
}

/* Where a worker before us had @ctx, NULL: nowhere. What it wrote is not believed: at worst the
 * context gets another's numbers. */
static struct vgd_gpu_context_slot *slot_before(struct vgd_gpu *gpu, const struct vgd_context *ctx)
{
    for (uint32_t i = 0; i < VGD_CONTEXT_SLOTS_COUNT; i++) {
        struct vgd_gpu_context_slot *slot = &gpu->config.live->contexts[i];
        if (gpu->slots_used[i] == 0 && vgd_counter_load(&slot->id) == ctx->id) {
            gpu->slots_used[i] = 1;
            return slot;
        }
    }
    return NULL;
}

void vgd_count_restored(struct vgd_gpu *gpu)
{
    struct vgd_gpu_live *live = gpu->config.live;
    uint32_t at = 0;
    struct vgd_context *ctx;
    while (live != NULL && (ctx = vgd_idmap_next(&gpu->contexts, &at, NULL)) != NULL) {
        struct vgd_gpu_context_slot *slot = slot_before(gpu, ctx);
        if (slot != NULL) {
            ctx->slot = slot;
            change_begin(&slot->seq);
            slot_name(slot, ctx); /* its capset is not in the journal */
            vgd_gauge(&slot->resources, ctx->attachments.used_count);
            vgd_gauge(&slot->objects, 0);
            vgd_gauge(&slot->state_bytes, 0);
            change_end(&slot->seq);
        }
    }
    at = 0;
    while (live != NULL && (ctx = vgd_idmap_next(&gpu->contexts, &at, NULL)) != NULL) {
        if (ctx->slot == &ctx->own_slot) {
            slot_take(gpu, ctx);
            vgd_gauge(&ctx->slot->resources, ctx->attachments.used_count);
        }
    }
    for (uint32_t i = 0; live != NULL && i < VGD_CONTEXT_SLOTS_COUNT; i++) {
        if (gpu->slots_used[i] == 0 && live->contexts[i].id != 0) {
            slot_free(&live->contexts[i]);
        }
    }
}

void vgd_count_submit(struct vgd_gpu *gpu, struct vgd_context *ctx, size_t n_bytes)
{
    vgd_count(&gpu->counters->submits, 1);
    vgd_count(&gpu->counters->submit_bytes, n_bytes);
    vgd_count(&ctx->slot->submits, 1);
    vgd_count(&ctx->slot->submit_bytes, n_bytes);
}

void vgd_count_submit_done(struct vgd_gpu *gpu, struct vgd_context *ctx,
                           struct vgd_gpu_request *req, uint64_t begin_ns)
{
    uint64_t now_ns = vgd_now_ns();
    vgd_histogram_add(&gpu->counters->submit_time, now_ns - begin_ns);
    vgd_count(&ctx->slot->busy_ns, now_ns - begin_ns);
    req->priv.executed_ns = now_ns;
}

void vgd_count_stream(struct vgd_gpu *gpu, struct vgd_context *ctx,
                      const struct vgd_virgl_tally *seen)
{
    struct vgd_gpu_counters *c = gpu->counters;
    if (seen != NULL) {
        vgd_count(&c->stream_commands, seen->commands);
        vgd_count(&c->stream_draws, seen->draws);
        vgd_count(&c->stream_unknown, seen->unknown);
        vgd_count(&ctx->slot->commands, seen->commands);
        vgd_count(&ctx->slot->draws, seen->draws);
    }
    vgd_gauge(&ctx->slot->objects, ctx->stream != NULL ? vgd_virgl_state_objects(ctx->stream) : 0);
    vgd_gauge(&ctx->slot->state_bytes,
              ctx->stream != NULL ? vgd_virgl_state_bytes(ctx->stream) : 0);
    vgd_gauge(&c->memory_bytes[VGD_MEMORY_CONTEXT_STATE], gpu->stream_state_bytes);
}

void vgd_count_transfer(struct vgd_gpu *gpu, bool to_host, uint64_t n_bytes)
{
    vgd_count(to_host ? &gpu->counters->to_host_bytes : &gpu->counters->from_host_bytes, n_bytes);
}
