/* SPDX-License-Identifier: MIT */
/*
 * The guest memory behind resources: one piece for each, however many entries the trace's guest
 * had. A trace says what is read of it before each command, so nothing of it has to be right
 * before; but it may only change when no command in flight reads or writes it any more.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checked.h"
#include "replay.h"

#define PAGE VGD_GUEST_PAGE_BYTES
#define PIXEL_BYTES 4u
/* Pieces that nobody has any more, but which commands in flight may still touch. */
#define FREED_MAX 1024u

struct memory {
    uint64_t offset, n_bytes; /* in the heap; whole pages */
    uint64_t flight;          /* the last one that may touch it, by number + 1; 0: none */
};

static struct {
    uint64_t offset, n_bytes, flight;
} freed[FREED_MAX];
static uint32_t n_freed;

static uint64_t pages(uint64_t n_bytes)
{
    return (n_bytes + PAGE - 1) / PAGE * PAGE;
}

/* Give back what no flight touches any more. */
static void sweep(struct replay *r)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n_freed; i++) {
        if (freed[i].flight <= r->first_flight) {
            vgd_guest_heap_free(r->heap, freed[i].offset, freed[i].n_bytes);
        } else {
            freed[kept++] = freed[i];
        }
    }
    n_freed = kept;
}

bool replay_memory_begin(struct replay *r)
{
    uint64_t n_bytes = r->config->ram_bytes;
    n_freed = 0;
    r->heap = vgd_guest_heap_create(n_bytes);
    if (r->dry) {
        void *map = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        r->heap_bytes = map != MAP_FAILED ? map : NULL;
    } else {
        r->heap_bytes = vgd_guest_ram_reserve(vgd_guest_gpu_ram(r->gpu), n_bytes, &r->heap_gpa);
    }
    return (r->heap != NULL && r->heap_bytes != NULL) || replay_fail(r, "no memory for a guest");
}

void replay_memory_end(struct replay *r)
{
    vgd_guest_heap_destroy(r->heap);
    r->heap = NULL;
    if (r->dry && r->heap_bytes != NULL) {
        (void)munmap(r->heap_bytes, r->config->ram_bytes);
    }
    r->heap_bytes = NULL; /* else it is the guest's RAM */
}

static bool alloc(struct replay *r, uint64_t n_bytes, uint64_t *out_offset)
{
    if (n_bytes <= r->config->ram_bytes) {
        sweep(r);
        if (vgd_guest_heap_alloc(r->heap, n_bytes, out_offset)) {
            return true;
        }
        if (!replay_wait_all(r)) {
            return false;
        }
        sweep(r);
        if (vgd_guest_heap_alloc(r->heap, n_bytes, out_offset)) {
            return true;
        }
    }
    return replay_fail(r, "the trace's guest gives its resources more than %llu MiB; see --ram",
                       (unsigned long long)(r->config->ram_bytes >> 20));
}

void replay_backing_gone(void *user, struct model_resource *res)
{
    struct replay *r = user;
    struct memory *memory = res->user;
    if (memory == NULL) {
        return;
    }
    res->user = NULL;
    if (r->heap != NULL) {
        if (n_freed == FREED_MAX) {
            (void)replay_wait_all(r); /* if it fails, the pass has */
            sweep(r);
        }
        if (n_freed < FREED_MAX) {
            freed[n_freed].offset = memory->offset;
            freed[n_freed].n_bytes = memory->n_bytes;
            freed[n_freed++].flight = r->next_flight;
        }
    }
    free(memory);
}

void replay_resource_gone(void *user, struct model_resource *res)
{
    replay_backing_gone(user, res); /* a blob's, which is no attached one */
    replay_follow_resource_gone(res);
}

bool replay_place_entries(struct replay *r, struct model_resource *res, uint8_t *bytes,
                          size_t n_bytes)
{
    size_t at = 0;
    uint32_t n = 0;
    if (!model_entries(bytes, n_bytes, &at, &n) || res->backing_bytes == 0) {
        return true;
    }
    struct memory *memory = res->user;
    if (memory == NULL) {
        uint64_t offset;
        uint64_t room = pages(res->backing_bytes);
        if (room < res->backing_bytes || !alloc(r, room, &offset)) {
            return replay_fail(r, "resource %u: %llu bytes of guest memory", res->id,
                               (unsigned long long)res->backing_bytes);
        }
        memory = calloc(1, sizeof(*memory));
        if (memory == NULL) {
            return replay_fail(r, "no memory");
        }
        memory->offset = offset;
        memory->n_bytes = room;
        res->user = memory;
    }
    uint64_t gpa = r->heap_gpa + memory->offset;
    for (uint32_t i = 0; i < n; i++, at += VGD_MEM_ENTRY_SIZE) {
        struct vgd_reader reader = vgd_reader_of(bytes + at, VGD_MEM_ENTRY_SIZE);
        struct vgd_mem_entry entry = {0};
        if (vgd_mem_entry_decode(&reader, &entry) != VGD_OK) {
            break;
        }
        entry.addr = gpa;
        gpa += entry.len_bytes;
        struct vgd_writer w = vgd_writer_of(bytes + at, VGD_MEM_ENTRY_SIZE);
        vgd_mem_entry_encode(&w, &entry);
    }
    return true;
}

void replay_touches(struct replay *r, struct model_resource *res, uint64_t flight)
{
    (void)r;
    struct memory *memory = res->user;
    if (memory != NULL) {
        memory->flight = flight + 1;
    }
}

bool replay_fill(struct replay *r, struct model_resource *res, const struct vgd_trace_item *item)
{
    struct memory *memory = res->user;
    uint64_t at = item->record.as.backing.offset_bytes;
    if (memory == NULL || !vgd_span_fits(at, item->data.total_bytes, memory->n_bytes)) {
        r->n_unplayable += !r->after_gap;
        return true;
    }
    if (memory->flight > r->first_flight && !replay_wait(r, memory->flight - 1)) {
        return false;
    }
    if (vgd_trace_reader_data(r->tool->reader, &item->data, 0, r->heap_bytes + memory->offset + at,
                              (size_t)item->data.total_bytes) != VGD_OK) {
        return replay_fail(r, "record %llu: its data cannot be had: %s",
                           (unsigned long long)item->number,
                           vgd_trace_reader_fault(r->tool->reader)->text);
    }
    return true;
}

/* ---- contents ---- */

static bool call_ok(struct replay *r, uint64_t number, const uint8_t *bytes, size_t n_bytes)
{
    uint32_t type = replay_call(r, bytes, n_bytes);
    if (type >= VGD_RESP_ERR_UNSPEC) {
        r->n_state_refused++;
        struct vgd_reader reader = vgd_reader_of(bytes, n_bytes);
        replay_differs(r, "record %llu: %s, which restores contents: %s",
                       (unsigned long long)number, vgd_cmd_name(vgd_read_le32(&reader)),
                       vgd_resp_name(type));
    }
    return type != 0;
}

static bool attach(struct replay *r, uint64_t number, uint32_t res_id, uint64_t gpa,
                   uint32_t n_bytes)
{
    uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE + VGD_MEM_ENTRY_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_ATTACH_BACKING});
    vgd_cmd_resource_attach_backing_encode(
        &w, &(struct vgd_cmd_resource_attach_backing){.resource_id = res_id, .nr_entries = 1});
    vgd_mem_entry_encode(&w, &(struct vgd_mem_entry){.addr = gpa, .len_bytes = n_bytes});
    return call_ok(r, number, bytes, vgd_writer_used(&w));
}

static bool detach(struct replay *r, uint64_t number, uint32_t res_id)
{
    uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_RESOURCE_DETACH_BACKING_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_DETACH_BACKING});
    vgd_cmd_resource_detach_backing_encode(
        &w, &(struct vgd_cmd_resource_detach_backing){.resource_id = res_id});
    return call_ok(r, number, bytes, vgd_writer_used(&w));
}

/* The transfer that brings @content to where it belongs from offset 0 of the backing. */
static bool transfer(struct replay *r, uint64_t number, const struct model_resource *res,
                     const struct vgd_trace_content *content)
{
    uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_TRANSFER_HOST_3D_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    if (res->kind == MODEL_2D) {
        vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_TRANSFER_TO_HOST_2D});
        vgd_cmd_transfer_to_host_2d_encode(
            &w,
            &(struct vgd_cmd_transfer_to_host_2d){
                .rect = {content->x, content->y, content->w, content->h}, .resource_id = res->id});
    } else {
        vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_TRANSFER_TO_HOST_3D});
        vgd_cmd_transfer_host_3d_encode(
            &w, &(struct vgd_cmd_transfer_host_3d){
                    .box = {content->x, content->y, content->z, content->w, content->h, content->d},
                    .resource_id = res->id,
                    .level = content->level,
                    .stride_bytes = content->stride_bytes,
                    .layer_stride_bytes = content->layer_stride_bytes});
    }
    return call_ok(r, number, bytes, vgd_writer_used(&w));
}

/* The record's texels to @out. A 2D transfer takes its rows as far apart as the resource's are. */
static bool lay_out(struct replay *r, const struct model_resource *res,
                    const struct vgd_trace_item *item, uint8_t *out)
{
    const struct vgd_trace_content *content = &item->record.as.content;
    struct vgd_trace_reader *reader = r->tool->reader;
    if (res->kind != MODEL_2D) {
        return vgd_trace_reader_data(reader, &item->data, 0, out, (size_t)item->data.total_bytes) ==
               VGD_OK;
    }
    size_t row_bytes = (size_t)content->w * PIXEL_BYTES;
    for (uint32_t y = 0; y < content->h; y++) {
        if (vgd_trace_reader_data(reader, &item->data, (uint64_t)y * content->stride_bytes,
                                  out + (size_t)y * res->w_px * PIXEL_BYTES, row_bytes) != VGD_OK) {
            return false;
        }
    }
    return true;
}

/* Bytes of memory that the transfer of @item needs; 0: it makes no sense. */
static uint64_t scratch_bytes(const struct model_resource *res, const struct vgd_trace_item *item)
{
    const struct vgd_trace_content *content = &item->record.as.content;
    if (res->kind == MODEL_BLOB) {
        return 0;
    }
    if (res->kind != MODEL_2D) {
        return item->data.total_bytes;
    }
    uint64_t row_bytes = (uint64_t)content->w * PIXEL_BYTES;
    if (content->w == 0 || content->h == 0 || content->stride_bytes < row_bytes ||
        res->w_px > REPLAY_PICTURE_SIDE_MAX || res->h_px > REPLAY_PICTURE_SIDE_MAX ||
        content->w > res->w_px || content->h > res->h_px ||
        item->data.total_bytes < (uint64_t)content->stride_bytes * (content->h - 1) + row_bytes) {
        return 0;
    }
    return (uint64_t)res->w_px * content->h * PIXEL_BYTES;
}

static bool attach_own(struct replay *r, uint64_t number, struct model_resource *res)
{
    size_t n_bytes = res->attach.n_bytes;
    memcpy(r->bytes, res->attach.bytes, n_bytes);
    return replay_place_entries(r, res, r->bytes, n_bytes) && call_ok(r, number, r->bytes, n_bytes);
}

static bool is_attached(const struct model_resource *res)
{
    return res->attach.bytes != NULL && res->backing_bytes != 0;
}

const uint8_t *replay_memory(const struct replay *r, const struct model_resource *res)
{
    const struct memory *memory = res->user;
    return memory != NULL ? r->heap_bytes + memory->offset : NULL;
}

/* Memory of what is being fetched, from the first piece on to the last. */
static struct {
    uint32_t res_id; /* 0: none */
    uint64_t offset, n_bytes;
} scratch;

bool replay_fetch(struct replay *r, struct model_resource *res,
                  const struct vgd_trace_content *content, uint32_t n_bytes,
                  const uint8_t **out_bytes)
{
    *out_bytes = NULL;
    if (scratch.res_id != res->id) {
        scratch.n_bytes = pages(VGD_TRACE_DATA_MAX);
        if (!alloc(r, scratch.n_bytes, &scratch.offset)) {
            return false;
        }
        scratch.res_id = res->id;
        if ((is_attached(res) && !detach(r, 0, res->id)) ||
            !attach(r, 0, res->id, r->heap_gpa + scratch.offset, (uint32_t)scratch.n_bytes)) {
            return false;
        }
    }
    uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_TRANSFER_HOST_3D_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_TRANSFER_FROM_HOST_3D,
                                                   .flags = VGD_FLAG_FENCE,
                                                   .fence_id = 1});
    vgd_cmd_transfer_host_3d_encode(
        &w, &(struct vgd_cmd_transfer_host_3d){
                .box = {content->x, content->y, content->z, content->w, content->h, content->d},
                .resource_id = res->id,
                .level = content->level,
                .stride_bytes = content->stride_bytes,
                .layer_stride_bytes = content->layer_stride_bytes});
    memset(r->heap_bytes + scratch.offset, 0, n_bytes);
    uint32_t type = replay_call(r, bytes, sizeof(bytes));
    if (type == VGD_RESP_OK_NODATA) {
        *out_bytes = r->heap_bytes + scratch.offset;
    }
    return type != 0;
}

bool replay_fetched(struct replay *r, struct model_resource *res)
{
    if (scratch.res_id != res->id) {
        return true;
    }
    scratch.res_id = 0;
    vgd_guest_heap_free(r->heap, scratch.offset, scratch.n_bytes);
    return detach(r, 0, res->id) && (!is_attached(res) || attach_own(r, 0, res));
}

bool replay_content(struct replay *r, const struct vgd_trace_item *item)
{
    struct model_resource *res = model_resource(&r->model, item->record.as.content.resource_id);
    if (res == NULL || res->left_out) {
        r->n_unplayable += res == NULL && !r->after_gap;
        return true;
    }
    uint64_t n_bytes = scratch_bytes(res, item), offset = 0;
    if (n_bytes == 0 || n_bytes > UINT32_MAX) {
        r->n_unplayable++;
        return true;
    }
    replay_follow_content(r, res, item);
    if (r->dry) {
        return true;
    }
    if (!replay_wait_all(r) || !alloc(r, pages(n_bytes), &offset)) {
        return false;
    }
    bool ok = true;
    if (!lay_out(r, res, item, r->heap_bytes + offset)) {
        ok =
            replay_fail(r, "record %llu: its data cannot be had", (unsigned long long)item->number);
    }
    bool was_attached = is_attached(res);
    ok = ok && (!was_attached || detach(r, item->number, res->id)) &&
         attach(r, item->number, res->id, r->heap_gpa + offset, (uint32_t)n_bytes) &&
         transfer(r, item->number, res, &item->record.as.content) &&
         detach(r, item->number, res->id);
    ok = ok && (!was_attached || attach_own(r, item->number, res));
    vgd_guest_heap_free(r->heap, offset, pages(n_bytes));
    r->n_content++;
    return ok;
}
