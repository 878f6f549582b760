/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"

/* One entry may cross regions of guest memory that touch; more pieces than that are refused. */
#define ENTRY_PIECES_MAX 64u

void vgd_backing_free(struct vgd_backing *backing)
{
    free(backing->iov);
    free(backing->entries);
    *backing = (struct vgd_backing){0};
}

void vgd_backing_finish(struct vgd_gpu *gpu, struct vgd_resource *res)
{
    vgd_count(&gpu->counters->backing_entries_live, -(uint64_t)res->backing.n_entries);
    vgd_count_backing(gpu, res, true);
    vgd_backing_free(&res->backing);
}

/* Add @piece to the list, joined to the last one where they touch: a guest's pages often do. */
static bool piece_add(struct iovec *iov, uint32_t *n_iov, uint32_t max, struct iovec piece)
{
    if (*n_iov > 0) {
        struct iovec *last = &iov[*n_iov - 1];
        if ((uint8_t *)last->iov_base + last->iov_len == (uint8_t *)piece.iov_base) {
            last->iov_len += piece.iov_len;
            return true;
        }
    }
    if (*n_iov == max) {
        return false;
    }
    iov[(*n_iov)++] = piece;
    return true;
}

/*
 * Host addresses of @entries. *out_iov is the caller's to free.
 * VGD_RANGE if any byte is outside guest memory, VGD_NO_MEMORY.
 */
static enum vgd_status translate(const struct vgd_gpu *gpu, const struct vgd_mem_entry *entries,
                                 uint32_t n_entries, struct iovec **out_iov, uint32_t *out_n_iov)
{
    const struct vgd_gpu_memory *memory = &gpu->config.memory;
    /* Room for each entry once more than the regions could cut it into in any sane table. */
    uint32_t max = 2 * n_entries + ENTRY_PIECES_MAX;
    struct iovec *iov = calloc(max, sizeof(*iov));
    if (iov == NULL) {
        return VGD_NO_MEMORY;
    }
    uint32_t n_iov = 0;
    for (uint32_t i = 0; i < n_entries; i++) {
        struct iovec pieces[ENTRY_PIECES_MAX];
        uint32_t n_pieces = 0;
        if (memory->translate(memory->user, entries[i].addr, entries[i].len_bytes, pieces,
                              &n_pieces, ENTRY_PIECES_MAX) != VGD_OK) {
            free(iov);
            return VGD_RANGE;
        }
        for (uint32_t p = 0; p < n_pieces; p++) {
            if (!piece_add(iov, &n_iov, max, pieces[p])) {
                free(iov);
                return VGD_RANGE;
            }
        }
    }
    struct iovec *exact = realloc(iov, n_iov * sizeof(*iov));
    *out_iov = exact != NULL ? exact : iov;
    *out_n_iov = n_iov;
    return VGD_OK;
}

/* Read the entries that follow the fixed part. *out is the caller's to free. */
static enum vgd_status entries_decode(struct vgd_gpu_call *call, uint32_t n_entries,
                                      struct vgd_mem_entry **out, uint64_t *out_bytes)
{
    struct vgd_mem_entry *entries = calloc(n_entries, sizeof(*entries));
    if (entries == NULL) {
        return VGD_NO_MEMORY;
    }
    uint64_t size_bytes = 0; /* cannot wrap: 2^20 entries below 2^32 bytes each */
    for (uint32_t i = 0; i < n_entries; i++) {
        struct vgd_reader one = vgd_reader_of(call->body.pos, VGD_MEM_ENTRY_SIZE);
        enum vgd_status st = vgd_mem_entry_decode(&one, &entries[i]);
        vgd_read_skip(&call->body, VGD_MEM_ENTRY_SIZE);
        if (st == VGD_OK && entries[i].len_bytes == 0) {
            st = VGD_REFUSE(call, VGD_RANGE, "entry %" PRIu32 " is empty", i);
        }
        if (st != VGD_OK) {
            free(entries);
            return st;
        }
        size_bytes += entries[i].len_bytes;
    }
    *out = entries;
    *out_bytes = size_bytes;
    return VGD_OK;
}

enum vgd_status vgd_backing_take(struct vgd_gpu_call *call, uint32_t res_id, uint32_t n_entries,
                                 struct vgd_backing *out)
{
    const struct vgd_gpu *gpu = call->gpu;
    *out = (struct vgd_backing){0};
    if (n_entries == 0) {
        return VGD_REFUSE(call, VGD_RANGE, "res=%" PRIu32 ": no entries", res_id);
    }
    uint64_t entries_max = gpu->config.limits.backing_entries_max;
    if (n_entries > entries_max - gpu->counters->backing_entries_live) {
        return VGD_REFUSE(call, VGD_LIMIT,
                          "res=%" PRIu32 " with %" PRIu32 " entries: backing_entries_max %" PRIu64,
                          res_id, n_entries, entries_max);
    }
    struct vgd_backing backing = {.n_entries = n_entries};
    enum vgd_status st = entries_decode(call, n_entries, &backing.entries, &backing.size_bytes);
    if (st == VGD_OK && !gpu->replaying) {
        st = translate(gpu, backing.entries, n_entries, &backing.iov, &backing.n_iov);
        if (st == VGD_RANGE) {
            (void)VGD_REFUSE(call, st, "res=%" PRIu32 ": entries outside guest memory", res_id);
        }
    }
    if (st != VGD_OK) {
        vgd_backing_free(&backing);
        return st;
    }
    *out = backing;
    return VGD_OK;
}

/* The renderer gets @res->backing, which is new. */
static enum vgd_status backing_give(struct vgd_gpu *gpu, struct vgd_resource *res)
{
    if (res->in_renderer) {
        return gpu->ops->resource_attach(gpu->render, res->id, res->backing.iov,
                                         res->backing.n_iov);
    }
    /* One that a restore could not make for want of pages; what else is lost stays lost. */
    return vgd_blob_is_guest(res) ? vgd_resource_materialise(gpu, res) : VGD_OK;
}

enum vgd_status vgd_do_attach_backing(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_resource_attach_backing cmd;
    enum vgd_status st = vgd_cmd_resource_attach_backing_decode(&call->body, &cmd);
    if (st == VGD_OK) {
        st = vgd_cmd_resource_attach_backing_tail_check(&call->body, &cmd);
    }
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32, cmd.resource_id);
    }
    bool is_blob = res->kind == VGD_RESOURCE_BLOB;
    if (res->backing.n_entries != 0 || (is_blob && res->as.blob.mem == VGD_BLOB_MEM_HOST3D)) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "res=%" PRIu32 " %s", res->id,
                          res->backing.n_entries != 0 ? "has backing already"
                                                      : "is memory of the host alone");
    }
    struct vgd_backing backing;
    st = vgd_backing_take(call, res->id, cmd.nr_entries, &backing);
    if (st != VGD_OK) {
        return st;
    }
    if (is_blob && backing.size_bytes < res->as.blob.size_bytes) {
        st =
            VGD_REFUSE(call, VGD_RANGE, "res=%" PRIu32 " of %" PRIu64 " bytes: entries of %" PRIu64,
                       res->id, res->as.blob.size_bytes, backing.size_bytes);
        vgd_backing_free(&backing);
        return st;
    }
    res->backing = backing;
    vgd_count(&gpu->counters->backing_entries_live, backing.n_entries);
    vgd_count_backing(gpu, res, false);
    if (!gpu->replaying) {
        st = backing_give(gpu, res);
        if (st != VGD_OK) {
            vgd_backing_finish(gpu, res);
        }
    }
    return st;
}

enum vgd_status vgd_do_detach_backing(struct vgd_gpu_call *call)
{
    struct vgd_gpu *gpu = call->gpu;
    struct vgd_cmd_resource_detach_backing cmd;
    enum vgd_status st = vgd_cmd_resource_detach_backing_decode(&call->body, &cmd);
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_resource *res = vgd_resource_find(gpu, cmd.resource_id);
    if (res == NULL) {
        return VGD_REFUSE(call, VGD_NO_RESOURCE, "res=%" PRIu32, cmd.resource_id);
    }
    if (res->backing.n_entries == 0) {
        return VGD_REFUSE(call, VGD_UNSUPPORTED, "res=%" PRIu32 " has no backing", res->id);
    }
    if (vgd_blob_is_guest(res)) {
        vgd_scanouts_forget_resource(gpu, res); /* they show these pages */
    }
    if (res->backing.iov != NULL && res->in_renderer) {
        gpu->ops->resource_detach(gpu->render, res->id);
    }
    vgd_backing_finish(gpu, res);
    return VGD_OK;
}

/* The renderer lets go of the pages; the guest's entries stay. */
static void backing_unmap(struct vgd_gpu *gpu, struct vgd_resource *res)
{
    if (res->backing.iov == NULL) {
        return;
    }
    if (res->in_renderer) {
        gpu->ops->resource_detach(gpu->render, res->id);
    }
    free(res->backing.iov);
    res->backing.iov = NULL;
    res->backing.n_iov = 0;
}

/* Translate again; on failure the backing is unmapped. */
static enum vgd_status backing_remap(struct vgd_gpu *gpu, struct vgd_resource *res)
{
    struct vgd_backing *backing = &res->backing;
    if (backing->n_entries == 0) {
        return VGD_OK;
    }
    struct iovec *iov = NULL;
    uint32_t n_iov = 0;
    enum vgd_status st = translate(gpu, backing->entries, backing->n_entries, &iov, &n_iov);
    if (st == VGD_OK && backing->iov != NULL && n_iov == backing->n_iov &&
        memcmp(iov, backing->iov, n_iov * sizeof(*iov)) == 0) {
        free(iov); /* the same memory at the same place: the renderer need not know */
        return VGD_OK;
    }
    backing_unmap(gpu, res);
    if (st != VGD_OK) {
        return st;
    }
    backing->iov = iov;
    backing->n_iov = n_iov;
    st = backing_give(gpu, res);
    if (st != VGD_OK) {
        free(iov);
        backing->iov = NULL;
        backing->n_iov = 0;
    }
    return st;
}

void vgd_gpu_memory_changed(struct vgd_gpu *gpu)
{
    uint32_t cursor = 0;
    uint32_t lost_count = 0;
    uint32_t lost_id = 0;
    struct vgd_resource *res;
    while ((res = vgd_idmap_next(&gpu->resources, &cursor, NULL)) != NULL) {
        if (backing_remap(gpu, res) != VGD_OK) {
            lost_count++;
            lost_id = res->id;
        }
    }
    if (lost_count != 0) {
        vgd_log(VGD_LOG_WARNING, "memory",
                "%" PRIu32 " resources (one is res=%" PRIu32
                ") have no backing in guest memory now",
                lost_count, lost_id);
    }
}

void vgd_gpu_memory_detach(struct vgd_gpu *gpu)
{
    uint32_t cursor = 0;
    struct vgd_resource *res;
    while ((res = vgd_idmap_next(&gpu->resources, &cursor, NULL)) != NULL) {
        backing_unmap(gpu, res);
    }
}
