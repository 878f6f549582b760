/* SPDX-License-Identifier: MIT */
#include "vtest_fake.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fd.h"
#include "guest_heap.h"
#include "vtest_stream.h"

#define MEMORY_BYTES (64u << 20)
#define MEMORY_GPA UINT64_C(0x100000000)
#define WINDOW_BYTES (1u << 30)
#define IDS 70000u
#define PAGE 4096u

struct pending {
    struct pending *next;
    uint64_t number;
    bool is_awaited;
    bool is_carried_out, is_refused; /* done already, and how it went */
    struct vgd_vtest_send send;
    uint8_t body[VGD_VTEST_BODY_MAX];
};

struct resource {
    bool is_taken; /* by the bridge */
    bool is_there; /* on the device */
    bool is_blob;
    uint64_t blob_bytes;
    uint64_t gpa;
    uint32_t n_bytes; /* attached; 0: none */
    uint64_t window_offset;
    int window_fd; /* -1: not mapped */
    uint8_t host[VTEST_FAKE_HOST_BYTES];
};

struct vgd_vtest_device {
    uint8_t *memory;
    struct vgd_guest_heap *heap, *window;
    struct pending *first, **end;
    uint32_t n_pending, queue_commands;
    uint64_t next_number;
    struct resource *resources; /* by id, made as they are needed */
    uint32_t n_resources;
    bool contexts_taken[64], contexts_there[64];
    bool contexts_refused[64]; /* what was sent with their creation comes all the same */
    struct vgd_vtest_capset capsets[3];
    uint8_t capset_bytes[3][1408];
    bool has_window;
};

struct vgd_vtest_device *vtest_fake_create(uint32_t queue_commands)
{
    struct vgd_vtest_device *dev = calloc(1, sizeof(*dev));
    assert(dev != NULL);
    dev->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    dev->heap = vgd_guest_heap_create(MEMORY_BYTES);
    dev->window = vgd_guest_heap_create(WINDOW_BYTES);
    assert(dev->memory != MAP_FAILED && dev->heap != NULL && dev->window != NULL);
    dev->end = &dev->first;
    dev->queue_commands = queue_commands;
    static const uint32_t ids[3] = {VGD_CAPSET_VIRGL, VGD_CAPSET_VIRGL2, VGD_CAPSET_VENUS};
    static const uint32_t sizes[3] = {308, 1408, 160};
    for (uint32_t i = 0; i < 3; i++) {
        memset(dev->capset_bytes[i], (int)(0x10 + ids[i]), sizes[i]);
        dev->capsets[i] = (struct vgd_vtest_capset){.id = ids[i],
                                                    .max_version = i == 2 ? 0 : ids[i],
                                                    .n_bytes = sizes[i],
                                                    .bytes = dev->capset_bytes[i]};
    }
    dev->has_window = true;
    return dev;
}

void vtest_fake_destroy(struct vgd_vtest_device *dev)
{
    assert(dev->n_pending == 0);
    assert(vgd_guest_heap_used(dev->heap) == 0 && vgd_guest_heap_used(dev->window) == 0);
    for (uint32_t i = 0; i < dev->n_resources; i++) {
        assert(!dev->resources[i].is_taken && !dev->resources[i].is_there);
    }
    for (uint32_t i = 0; i < 64; i++) {
        assert(!dev->contexts_taken[i] && !dev->contexts_there[i]);
    }
    (void)munmap(dev->memory, MEMORY_BYTES);
    vgd_guest_heap_destroy(dev->heap);
    vgd_guest_heap_destroy(dev->window);
    free(dev->resources);
    free(dev);
}

/* --- what the bridge calls --- */

uint64_t vgd_vtest_device_send(struct vgd_vtest_device *dev, const struct vgd_vtest_send *send)
{
    assert(send->body_bytes <= VGD_VTEST_BODY_MAX && send->done != NULL);
    struct pending *p = calloc(1, sizeof(*p));
    assert(p != NULL);
    p->number = ++dev->next_number;
    p->send = *send;
    if (send->body_bytes > 0) {
        memcpy(p->body, send->body, send->body_bytes);
    }
    *dev->end = p;
    dev->end = &p->next;
    dev->n_pending++;
    return p->number;
}

bool vgd_vtest_device_has_room(const struct vgd_vtest_device *dev)
{
    return dev->n_pending < dev->queue_commands;
}

void vgd_vtest_device_await(struct vgd_vtest_device *dev, uint64_t number, bool is_stalled)
{
    (void)is_stalled; /* how to wait is the device's business */
    for (struct pending *p = dev->first; p != NULL; p = p->next) {
        p->is_awaited = p->is_awaited || p->number == number;
    }
}

void vgd_vtest_device_await_all(struct vgd_vtest_device *dev, uint32_t ctx_id)
{
    for (struct pending *p = dev->first; p != NULL; p = p->next) {
        p->is_awaited = p->is_awaited || p->send.hdr.ctx_id == ctx_id;
    }
}

uint64_t vgd_vtest_device_memory_bytes(const struct vgd_vtest_device *dev)
{
    (void)dev;
    return MEMORY_BYTES;
}

uint8_t *vgd_vtest_device_alloc_raw(struct vgd_vtest_device *dev, uint64_t n_bytes,
                                    uint64_t *out_gpa)
{
    uint64_t offset;
    if (!vgd_guest_heap_alloc(dev->heap, n_bytes, &offset)) {
        return NULL;
    }
    *out_gpa = MEMORY_GPA + offset;
    return dev->memory + offset;
}

uint8_t *vgd_vtest_device_alloc(struct vgd_vtest_device *dev, uint64_t n_bytes, uint64_t *out_gpa)
{
    uint8_t *memory = vgd_vtest_device_alloc_raw(dev, n_bytes, out_gpa);
    if (memory != NULL) {
        memset(memory, 0, n_bytes);
    }
    return memory;
}

void vgd_vtest_device_free(struct vgd_vtest_device *dev, uint64_t gpa, uint64_t n_bytes)
{
    assert(gpa >= MEMORY_GPA && gpa - MEMORY_GPA + n_bytes <= MEMORY_BYTES);
    /* What is read from here on is not what somebody hopes for. */
    memset(dev->memory + (gpa - MEMORY_GPA), 0xdb, n_bytes);
    vgd_guest_heap_free(dev->heap, gpa - MEMORY_GPA, n_bytes);
}

static struct resource *resource_at(struct vgd_vtest_device *dev, uint32_t id)
{
    assert(id < IDS);
    if (id >= dev->n_resources) {
        uint32_t n = id + 64;
        dev->resources = realloc(dev->resources, n * sizeof(*dev->resources));
        assert(dev->resources != NULL);
        for (uint32_t i = dev->n_resources; i < n; i++) {
            dev->resources[i] = (struct resource){.window_fd = -1};
        }
        dev->n_resources = n;
    }
    return &dev->resources[id];
}

uint32_t vgd_vtest_device_take_resource_id(struct vgd_vtest_device *dev)
{
    for (uint32_t id = 1; id < IDS; id++) {
        struct resource *res = resource_at(dev, id);
        if (!res->is_taken) {
            assert(!res->is_there);
            res->is_taken = true;
            return id;
        }
    }
    return 0;
}

void vgd_vtest_device_give_resource_id(struct vgd_vtest_device *dev, uint32_t id)
{
    struct resource *res = resource_at(dev, id);
    assert(res->is_taken && !res->is_there); /* given back before the device let go of it */
    res->is_taken = false;
}

uint32_t vgd_vtest_device_take_context_id(struct vgd_vtest_device *dev)
{
    for (uint32_t id = 1; id < 64; id++) {
        if (!dev->contexts_taken[id]) {
            dev->contexts_taken[id] = true;
            return id;
        }
    }
    return 0;
}

void vgd_vtest_device_give_context_id(struct vgd_vtest_device *dev, uint32_t id)
{
    assert(dev->contexts_taken[id] && !dev->contexts_there[id]);
    dev->contexts_taken[id] = false;
    dev->contexts_refused[id] = false;
}

const struct vgd_vtest_capset *vgd_vtest_device_capset(const struct vgd_vtest_device *dev,
                                                       uint32_t id)
{
    for (uint32_t i = 0; i < 3; i++) {
        if (dev->capsets[i].id == id) {
            return &dev->capsets[i];
        }
    }
    return NULL;
}

bool vgd_vtest_device_has_context_init(const struct vgd_vtest_device *dev)
{
    (void)dev;
    return true;
}

uint64_t vgd_vtest_device_window_alloc(struct vgd_vtest_device *dev, uint64_t n_bytes)
{
    uint64_t offset;
    return dev->has_window && vgd_guest_heap_alloc(dev->window, n_bytes, &offset) ? offset
                                                                                  : UINT64_MAX;
}

void vgd_vtest_device_window_free(struct vgd_vtest_device *dev, uint64_t offset, uint64_t n_bytes)
{
    for (uint32_t i = 0; i < dev->n_resources; i++) {
        const struct resource *res = &dev->resources[i];
        assert(res->window_fd < 0 || res->window_offset != offset); /* something is mapped there */
    }
    vgd_guest_heap_free(dev->window, offset, n_bytes);
}

int vgd_vtest_device_window_file(struct vgd_vtest_device *dev, uint64_t offset)
{
    for (uint32_t i = 0; i < dev->n_resources; i++) {
        const struct resource *res = &dev->resources[i];
        if (res->window_fd >= 0 && res->window_offset == offset) {
            return fcntl(res->window_fd, F_DUPFD_CLOEXEC, 0);
        }
    }
    return -1;
}

/* --- carrying out --- */

static uint8_t *attached(struct vgd_vtest_device *dev, const struct resource *res)
{
    return res->n_bytes == 0 ? NULL : dev->memory + (res->gpa - MEMORY_GPA);
}

/* A buffer's bytes [x, x + n) and the attached memory from @offset on. */
static bool move(struct vgd_vtest_device *dev, struct resource *pixels,
                 const struct resource *memory, uint64_t x, uint64_t n, uint64_t offset,
                 bool to_host)
{
    uint8_t *at = attached(dev, memory);
    if (at == NULL || x > VTEST_FAKE_HOST_BYTES || n > VTEST_FAKE_HOST_BYTES - x ||
        offset > memory->n_bytes || n > memory->n_bytes - offset) {
        return false;
    }
    if (to_host) {
        memcpy(pixels->host + x, at + offset, n);
    } else {
        memcpy(at + offset, pixels->host + x, n);
    }
    return true;
}

static void on_stream_transfer(void *user, const struct vgd_vtest_stream_transfer *t)
{
    struct vgd_vtest_device *dev = user;
    if (t->res_id >= IDS || t->memory_id >= IDS) {
        return;
    }
    (void)resource_at(dev, t->memory_id);
    struct resource *pixels = resource_at(dev, t->res_id);
    struct resource *memory = resource_at(dev, t->memory_id);
    pixels = resource_at(dev, t->res_id);
    if (pixels->is_there && memory->is_there) {
        (void)move(dev, pixels, memory, t->x, t->move.w_px, t->move.offset_bytes, t->to_host);
    }
}

static bool detach(struct resource *res)
{
    res->n_bytes = 0;
    return true;
}

static bool carry_out_blob(struct vgd_vtest_device *dev, const struct vgd_vtest_send *send,
                           struct vgd_reader *r)
{
    if (send->hdr.type == VGD_CMD_RESOURCE_CREATE_BLOB) {
        struct vgd_cmd_resource_create_blob c = {0};
        assert(vgd_cmd_resource_create_blob_decode(r, &c) == VGD_OK);
        struct resource *res = resource_at(dev, c.resource_id);
        assert(res->is_taken && !res->is_there && c.size_bytes % PAGE == 0);
        res->is_there = true;
        res->is_blob = true;
        res->blob_bytes = c.size_bytes;
        return true;
    }
    if (send->hdr.type == VGD_CMD_RESOURCE_MAP_BLOB) {
        struct vgd_cmd_resource_map_blob c = {0};
        assert(vgd_cmd_resource_map_blob_decode(r, &c) == VGD_OK);
        struct resource *res = resource_at(dev, c.resource_id);
        if (!res->is_there || !res->is_blob || res->window_fd >= 0) {
            return false;
        }
        res->window_offset = c.offset_bytes;
        res->window_fd = vgd_memfd_create("blob", res->blob_bytes);
        return res->window_fd >= 0;
    }
    struct vgd_cmd_resource_unmap_blob c = {0};
    assert(vgd_cmd_resource_unmap_blob_decode(r, &c) == VGD_OK);
    struct resource *res = resource_at(dev, c.resource_id);
    bool was_mapped = res->window_fd >= 0;
    vgd_fd_closep(&res->window_fd);
    return was_mapped;
}

static bool carry_out_transfer(struct vgd_vtest_device *dev, const struct vgd_vtest_send *send,
                               struct vgd_reader *r)
{
    struct vgd_cmd_transfer_host_3d c = {0};
    assert(vgd_cmd_transfer_host_3d_decode(r, &c) == VGD_OK);
    struct resource *res = resource_at(dev, c.resource_id);
    assert(res->is_taken);
    return res->is_there && move(dev, res, res, c.box.x, c.box.w, c.offset_bytes,
                                 send->hdr.type == VGD_CMD_TRANSFER_TO_HOST_3D);
}

static bool carry_out_attach(struct vgd_vtest_device *dev, const struct vgd_vtest_send *send,
                             struct vgd_reader *r)
{
    (void)send;
    struct vgd_cmd_resource_attach_backing c = {0};
    struct vgd_mem_entry entry = {0};
    assert(vgd_cmd_resource_attach_backing_decode(r, &c) == VGD_OK && c.nr_entries == 1);
    assert(vgd_mem_entry_decode(r, &entry) == VGD_OK && vgd_reader_left(r) == 0);
    assert(entry.addr >= MEMORY_GPA && entry.addr - MEMORY_GPA + entry.len_bytes <= MEMORY_BYTES);
    struct resource *res = resource_at(dev, c.resource_id);
    if (!res->is_there || res->n_bytes != 0) {
        return false;
    }
    res->gpa = entry.addr;
    res->n_bytes = entry.len_bytes;
    return true;
}

static bool carry_out(struct vgd_vtest_device *dev, struct pending *p)
{
    struct vgd_vtest_send *send = &p->send;
    struct vgd_reader r = vgd_reader_of(p->body, send->body_bytes);
    switch (send->hdr.type) {
    case VGD_CMD_CTX_CREATE:
        assert(send->hdr.ctx_id < 64 && dev->contexts_taken[send->hdr.ctx_id]);
        dev->contexts_there[send->hdr.ctx_id] = true;
        return true;
    case VGD_CMD_CTX_DESTROY:
        dev->contexts_there[send->hdr.ctx_id] = false;
        return true;
    case VGD_CMD_RESOURCE_CREATE_3D: {
        struct vgd_cmd_resource_create_3d c = {0};
        assert(vgd_cmd_resource_create_3d_decode(&r, &c) == VGD_OK);
        struct resource *res = resource_at(dev, c.resource_id);
        assert(res->is_taken && !res->is_there);
        *res = (struct resource){.is_taken = true, .is_there = true, .window_fd = -1};
        return true;
    }
    case VGD_CMD_RESOURCE_UNREF: {
        struct vgd_cmd_resource_unref c = {0};
        assert(vgd_cmd_resource_unref_decode(&r, &c) == VGD_OK);
        struct resource *res = resource_at(dev, c.resource_id);
        assert(res->is_taken);
        bool was_there = res->is_there;
        vgd_fd_closep(&res->window_fd);
        *res = (struct resource){.is_taken = true, .window_fd = -1};
        return was_there;
    }
    case VGD_CMD_RESOURCE_ATTACH_BACKING:
        return carry_out_attach(dev, send, &r);
    case VGD_CMD_RESOURCE_DETACH_BACKING: {
        struct vgd_cmd_resource_detach_backing c = {0};
        assert(vgd_cmd_resource_detach_backing_decode(&r, &c) == VGD_OK);
        return detach(resource_at(dev, c.resource_id));
    }
    case VGD_CMD_TRANSFER_TO_HOST_3D:
    case VGD_CMD_TRANSFER_FROM_HOST_3D:
        assert(dev->contexts_there[send->hdr.ctx_id] || dev->contexts_refused[send->hdr.ctx_id]);
        return dev->contexts_there[send->hdr.ctx_id] && carry_out_transfer(dev, send, &r);
    case VGD_CMD_SUBMIT_3D: {
        assert(send->data_bytes == 0 ||
               (send->data_gpa >= MEMORY_GPA &&
                send->data_gpa - MEMORY_GPA + send->data_bytes <= MEMORY_BYTES));
        if (!dev->contexts_there[send->hdr.ctx_id]) {
            return false;
        }
        struct vgd_vtest_stream_ops ops = {.transfer = on_stream_transfer};
        uint8_t *at = dev->memory + (send->data_bytes == 0 ? 0 : send->data_gpa - MEMORY_GPA);
        vgd_vtest_stream_walk((uint32_t *)(void *)at, send->data_bytes / 4, &ops, dev);
        return true;
    }
    case VGD_CMD_CTX_ATTACH_RESOURCE:
        return true;
    case VGD_CMD_RESOURCE_CREATE_BLOB:
    case VGD_CMD_RESOURCE_MAP_BLOB:
    case VGD_CMD_RESOURCE_UNMAP_BLOB:
        return carry_out_blob(dev, send, &r);
    default:
        assert(false); /* the bridge has no use for any other */
        return false;
    }
}

/* --- what tests call --- */

static struct pending *pending_at(const struct vgd_vtest_device *dev, uint32_t idx)
{
    struct pending *p = dev->first;
    while (p != NULL && idx-- > 0) {
        p = p->next;
    }
    assert(p != NULL);
    return p;
}

uint32_t vtest_fake_pending(const struct vgd_vtest_device *dev)
{
    return dev->n_pending;
}

uint32_t vtest_fake_type(const struct vgd_vtest_device *dev, uint32_t idx)
{
    return idx < dev->n_pending ? pending_at(dev, idx)->send.hdr.type : 0;
}

const struct vgd_ctrl_hdr *vtest_fake_header(const struct vgd_vtest_device *dev, uint32_t idx)
{
    return &pending_at(dev, idx)->send.hdr;
}

const uint8_t *vtest_fake_data(const struct vgd_vtest_device *dev, uint32_t idx,
                               uint32_t *out_bytes)
{
    const struct pending *p = pending_at(dev, idx);
    *out_bytes = p->send.data_bytes;
    return p->send.data_bytes == 0 ? NULL : dev->memory + (p->send.data_gpa - MEMORY_GPA);
}

bool vtest_fake_is_awaited(const struct vgd_vtest_device *dev, uint32_t idx)
{
    return pending_at(dev, idx)->is_awaited;
}

static void finish(struct vgd_vtest_device *dev, uint32_t idx, uint32_t type)
{
    struct pending **at = &dev->first;
    while (idx-- > 0) {
        at = &(*at)->next;
    }
    struct pending *p = *at;
    *at = p->next;
    if (dev->end == &p->next) {
        dev->end = at;
    }
    dev->n_pending--;
    static const uint8_t nothing[64];
    struct vgd_vtest_answer answer = {
        .type = type, .body = nothing, .body_bytes = p->send.resp_bytes};
    p->send.done(p->send.user, &answer);
    free(p);
}

/* Commands with which something is let go of: they take effect whatever a test makes of them. */
static bool is_letting_go(uint32_t type)
{
    return type == VGD_CMD_RESOURCE_UNREF || type == VGD_CMD_CTX_DESTROY;
}

void vtest_fake_answer(struct vgd_vtest_device *dev, uint32_t idx, uint32_t error)
{
    struct pending *p = pending_at(dev, idx);
    uint32_t type = error;
    if (error != 0 && p->send.hdr.type == VGD_CMD_CTX_CREATE) {
        dev->contexts_refused[p->send.hdr.ctx_id] = true;
    }
    if (error == 0 || is_letting_go(p->send.hdr.type)) {
        bool is_done = p->is_carried_out ? !p->is_refused : carry_out(dev, p);
        type = !is_done                                        ? VGD_RESP_ERR_UNSPEC
               : p->send.hdr.type == VGD_CMD_RESOURCE_MAP_BLOB ? VGD_RESP_OK_MAP_INFO
                                                               : VGD_RESP_OK_NODATA;
    }
    finish(dev, idx, type);
}

void vtest_fake_carry_out(struct vgd_vtest_device *dev, uint32_t idx)
{
    struct pending *p = pending_at(dev, idx);
    if (!p->is_carried_out) {
        p->is_refused = !carry_out(dev, p);
        p->is_carried_out = true;
    }
}

void vtest_fake_answer_all(struct vgd_vtest_device *dev)
{
    while (dev->n_pending > 0) {
        vtest_fake_answer(dev, 0, 0);
    }
}

void vtest_fake_lose_all(struct vgd_vtest_device *dev)
{
    while (dev->n_pending > 0) {
        if (is_letting_go(dev->first->send.hdr.type) && !dev->first->is_carried_out) {
            (void)carry_out(dev, dev->first); /* the device went, and with it everything */
        }
        finish(dev, 0, 0);
    }
}

uint8_t *vtest_fake_host(struct vgd_vtest_device *dev, uint32_t dev_id)
{
    struct resource *res = resource_at(dev, dev_id);
    return res->is_there ? res->host : NULL;
}

uint8_t *vtest_fake_backing(struct vgd_vtest_device *dev, uint32_t dev_id)
{
    return attached(dev, resource_at(dev, dev_id));
}

uint32_t vtest_fake_resources(const struct vgd_vtest_device *dev)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < dev->n_resources; i++) {
        n += dev->resources[i].is_there;
    }
    return n;
}

uint32_t vtest_fake_contexts(const struct vgd_vtest_device *dev)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < 64; i++) {
        n += dev->contexts_there[i];
    }
    return n;
}

uint64_t vtest_fake_memory_used(const struct vgd_vtest_device *dev)
{
    return vgd_guest_heap_used(dev->heap);
}

void vtest_fake_set_queue(struct vgd_vtest_device *dev, uint32_t queue_commands)
{
    dev->queue_commands = queue_commands;
}

void vtest_fake_set_window(struct vgd_vtest_device *dev, bool is_there)
{
    dev->has_window = is_there;
}
