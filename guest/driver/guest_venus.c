/* SPDX-License-Identifier: MIT */
#include "guest_venus.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "log.h"

#define REPLY_BYTES 4096u
#define STREAM_BYTES 1024u
#define MEMORY_TYPES 32u /* VK_MAX_MEMORY_TYPES and _HEAPS: the arrays are sent whole */
#define MEMORY_HEAPS 16u
#define HOST_VISIBLE_COHERENT 0x6u /* VkMemoryPropertyFlagBits */

/* Commands by their number in the protocol. */
enum {
    VK_CREATE_INSTANCE = 0,
    VK_ENUMERATE_PHYSICAL_DEVICES = 2,
    VK_GET_MEMORY_PROPERTIES = 8,
    VK_CREATE_DEVICE = 11,
    VK_QUEUE_SUBMIT = 18,
    VK_ALLOCATE_MEMORY = 21,
    VK_FREE_MEMORY = 22,
    VK_BIND_BUFFER_MEMORY = 28,
    VK_CREATE_BUFFER = 50,
    VK_DESTROY_BUFFER = 51,
    VK_CREATE_COMMAND_POOL = 85,
    VK_ALLOCATE_COMMAND_BUFFERS = 88,
    VK_BEGIN_COMMAND_BUFFER = 90,
    VK_END_COMMAND_BUFFER = 91,
    VK_CMD_FILL_BUFFER = 118,
    VK_ENUMERATE_INSTANCE_VERSION = 137,
    VK_GET_DEVICE_QUEUE_2 = 155,
    VK_SET_REPLY_STREAM = 178,
    VK_CREATE_RING = 188,
    VK_DESTROY_RING = 189,
    VK_NOTIFY_RING = 190,
};

/* VkStructureType */
enum {
    S_INSTANCE_CREATE_INFO = 1,
    S_DEVICE_QUEUE_CREATE_INFO = 2,
    S_DEVICE_CREATE_INFO = 3,
    S_SUBMIT_INFO = 4,
    S_MEMORY_ALLOCATE_INFO = 5,
    S_BUFFER_CREATE_INFO = 12,
    S_COMMAND_POOL_CREATE_INFO = 39,
    S_COMMAND_BUFFER_ALLOCATE_INFO = 40,
    S_COMMAND_BUFFER_BEGIN_INFO = 42,
    S_DEVICE_QUEUE_INFO_2 = 1000145003,
    S_RING_CREATE_INFO = 1000384000,
    S_DEVICE_QUEUE_TIMELINE_INFO = 1000384005,
};

/* The ring's blob. */
#define RING_TAIL_AT 64u
#define RING_STATUS_AT 128u
#define RING_EXTRA_AT 192u
#define RING_BUFFER_AT 4096u
#define RING_BUFFER_BYTES 4096u
#define RING_BYTES (RING_BUFFER_AT + RING_BUFFER_BYTES)
#define RING_IDLE_NS UINT64_C(5000000)
#define RING_STATUS_IDLE 1u
#define RING_STATUS_FATAL 2u

struct stream {
    uint8_t bytes[STREAM_BYTES];
    struct vgd_writer w;
};

static bool fail(struct vgd_venus *v, const char *what, uint32_t value)
{
    (void)snprintf(v->why, sizeof(v->why), "%s (0x%x)", what, value);
    return false;
}

static void start(struct stream *s)
{
    s->w = vgd_writer_of(s->bytes, sizeof(s->bytes));
}

static void put32(struct stream *s, uint32_t value)
{
    vgd_write_le32(&s->w, value);
}

static void put64(struct stream *s, uint64_t value)
{
    vgd_write_le64(&s->w, value);
}

static void command(struct stream *s, uint32_t number, bool wants_reply)
{
    put32(s, number);
    put32(s, wants_reply ? 1 : 0);
}

/* A pointer to one struct, with nothing chained to it. */
static void put_struct(struct stream *s, uint32_t type)
{
    put64(s, 1);
    put32(s, type);
    put64(s, 0);
}

/* No allocator, and where the new object's id comes back. */
static void put_new_object(struct stream *s, uint64_t id)
{
    put64(s, 0);
    put64(s, 1);
    put64(s, id);
}

/* Begin a command with a reply: the reply goes to the beginning of our blob. */
static void ask(const struct vgd_venus *v, struct stream *s, uint32_t number)
{
    start(s);
    command(s, VK_SET_REPLY_STREAM, false);
    put64(s, 1);
    put32(s, v->reply.res_id);
    put64(s, 0);
    put64(s, v->reply.size_bytes);
    command(s, number, true);
}

/* Submit, and wait until the render server has executed it. */
static bool run(struct vgd_venus *v, struct stream *s, uint8_t ring_idx)
{
    if (s->w.status != VGD_OK) {
        return fail(v, "the command is too long", 0);
    }
    uint32_t dwords[STREAM_BYTES / 4];
    uint32_t n_bytes = (uint32_t)vgd_writer_used(&s->w);
    memcpy(dwords, s->bytes, n_bytes);
    uint32_t got =
        vgd_guest_submit_ring(v->gpu, v->ctx_id, ring_idx, dwords, n_bytes / 4, ++v->fence_id);
    return got == VGD_RESP_OK_NODATA || fail(v, "SUBMIT_3D", got);
}

/* Run @s; its reply has to be one of @number, with VK_SUCCESS where it has a result. */
static bool run_and_check(struct vgd_venus *v, struct stream *s, uint32_t number, bool has_result,
                          struct vgd_reader *out)
{
    memset(v->reply.bytes, 0xff, 64);
    if (!run(v, s, 0)) {
        return false;
    }
    *out = vgd_reader_of(v->reply.bytes, v->reply.size_bytes);
    uint32_t answered = vgd_read_le32(out);
    if (answered != number) {
        return fail(v, "a reply of another command", answered);
    }
    uint32_t result = has_result ? vgd_read_le32(out) : 0;
    /* VK_INCOMPLETE: there are more physical devices than we asked for. */
    if (result != 0 && !(result == 5 && number == VK_ENUMERATE_PHYSICAL_DEVICES)) {
        (void)snprintf(v->why, sizeof(v->why), "command %u: VkResult %d", number, (int)result);
        return false;
    }
    return true;
}

bool vgd_venus_is_offered(struct vgd_guest_gpu *gpu)
{
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(gpu);
    uint64_t wanted = UINT64_C(1) << VGD_F_RESOURCE_BLOB | UINT64_C(1) << VGD_F_CONTEXT_INIT;
    if ((vgd_guest_frontend_acked_features(fe) & wanted) != wanted ||
        vgd_guest_window_bytes(gpu) == 0) {
        return false;
    }
    uint32_t n = vgd_guest_frontend_num_capsets(fe);
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_resp_capset_info info;
        if (vgd_guest_get_capset_info(gpu, i, &info) == VGD_RESP_OK_CAPSET_INFO &&
            info.capset_id == VGD_CAPSET_VENUS) {
            return true;
        }
    }
    return false;
}

bool vgd_venus_blob_create(struct vgd_venus *v, uint32_t res_id, uint64_t blob_id,
                           uint64_t size_bytes, struct vgd_venus_blob *out)
{
    struct vgd_cmd_resource_create_blob create = {
        .resource_id = res_id,
        .blob_mem = VGD_BLOB_MEM_HOST3D,
        .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
        .blob_id = blob_id,
        .size_bytes = size_bytes,
    };
    *out = (struct vgd_venus_blob){.size_bytes = size_bytes};
    uint32_t got = vgd_guest_create_blob(v->gpu, v->ctx_id, &create, NULL, 0);
    if (got != VGD_RESP_OK_NODATA) {
        return fail(v, "RESOURCE_CREATE_BLOB", got);
    }
    out->offset_bytes = vgd_guest_window_alloc(v->gpu, size_bytes);
    if (out->offset_bytes == UINT64_MAX) {
        (void)vgd_guest_unref(v->gpu, res_id);
        return fail(v, "no room in the region", 0);
    }
    got = vgd_guest_map_blob(v->gpu, res_id, out->offset_bytes, &out->map_info);
    if (got == VGD_RESP_OK_MAP_INFO) {
        got = vgd_guest_ctx_attach(v->gpu, v->ctx_id, res_id);
        if (got == VGD_RESP_OK_NODATA) {
            out->res_id = res_id;
            out->bytes = vgd_guest_window(v->gpu) + out->offset_bytes;
            return true;
        }
        (void)fail(v, "CTX_ATTACH_RESOURCE", got);
        (void)vgd_guest_unmap_blob(v->gpu, res_id);
    } else {
        (void)fail(v, "RESOURCE_MAP_BLOB", got);
    }
    (void)vgd_guest_unref(v->gpu, res_id);
    vgd_guest_window_free(v->gpu, out->offset_bytes, size_bytes);
    return false;
}

bool vgd_venus_blob_destroy(struct vgd_venus *v, struct vgd_venus_blob *blob)
{
    if (blob->res_id == 0) {
        return true;
    }
    uint32_t detached = vgd_guest_ctx_detach(v->gpu, v->ctx_id, blob->res_id);
    uint32_t unmapped = vgd_guest_unmap_blob(v->gpu, blob->res_id);
    uint32_t unreffed = vgd_guest_unref(v->gpu, blob->res_id);
    vgd_guest_window_free(v->gpu, blob->offset_bytes, blob->size_bytes);
    *blob = (struct vgd_venus_blob){0};
    if (detached != VGD_RESP_OK_NODATA) {
        return fail(v, "CTX_DETACH_RESOURCE", detached);
    }
    if (unmapped != VGD_RESP_OK_NODATA) {
        return fail(v, "RESOURCE_UNMAP_BLOB", unmapped);
    }
    return unreffed == VGD_RESP_OK_NODATA || fail(v, "RESOURCE_UNREF", unreffed);
}

bool vgd_venus_open(struct vgd_venus *v, struct vgd_guest_gpu *gpu, uint32_t ctx_id,
                    uint32_t reply_res_id)
{
    *v = (struct vgd_venus){.gpu = gpu, .ctx_id = ctx_id};
    uint32_t got = vgd_guest_ctx_create(gpu, ctx_id, VGD_CAPSET_VENUS, "venus");
    if (got != VGD_RESP_OK_NODATA) {
        v->ctx_id = 0;
        return fail(v, "CTX_CREATE", got);
    }
    if (!vgd_venus_blob_create(v, reply_res_id, 0, REPLY_BYTES, &v->reply)) {
        (void)vgd_guest_ctx_destroy(gpu, ctx_id);
        v->ctx_id = 0;
        return false;
    }
    return true;
}

bool vgd_venus_close(struct vgd_venus *v)
{
    if (v->ctx_id == 0) {
        return true;
    }
    bool right = vgd_venus_blob_destroy(v, &v->reply);
    uint32_t got = vgd_guest_ctx_destroy(v->gpu, v->ctx_id);
    v->ctx_id = 0;
    return got == VGD_RESP_OK_NODATA ? right : fail(v, "CTX_DESTROY", got);
}

static bool create_instance(struct vgd_venus *v)
{
    struct stream s;
    struct vgd_reader r;
    v->instance = ++v->next_object;
    ask(v, &s, VK_CREATE_INSTANCE);
    put_struct(&s, S_INSTANCE_CREATE_INFO);
    put32(&s, 0); /* flags */
    put64(&s, 0); /* no application */
    put32(&s, 0); /* no layers */
    put64(&s, 0);
    put32(&s, 0); /* no extensions */
    put64(&s, 0);
    put_new_object(&s, v->instance);
    if (!run_and_check(v, &s, VK_CREATE_INSTANCE, true, &r)) {
        return false;
    }
    v->physical = ++v->next_object;
    ask(v, &s, VK_ENUMERATE_PHYSICAL_DEVICES);
    put64(&s, v->instance);
    put64(&s, 1);
    put32(&s, 1); /* one is enough */
    put64(&s, 1);
    put64(&s, v->physical);
    return run_and_check(v, &s, VK_ENUMERATE_PHYSICAL_DEVICES, true, &r);
}

/* The first memory type that the host can see, and without flushes. */
static bool choose_memory(struct vgd_venus *v)
{
    struct stream s;
    struct vgd_reader r;
    ask(v, &s, VK_GET_MEMORY_PROPERTIES);
    put64(&s, v->physical);
    put64(&s, 1);
    put64(&s, MEMORY_TYPES);
    put64(&s, MEMORY_HEAPS);
    if (!run_and_check(v, &s, VK_GET_MEMORY_PROPERTIES, false, &r)) {
        return false;
    }
    (void)vgd_read_le64(&r);
    uint32_t n_types = vgd_read_le32(&r);
    (void)vgd_read_le64(&r);
    for (uint32_t i = 0; i < n_types && i < MEMORY_TYPES; i++) {
        uint32_t flags = vgd_read_le32(&r);
        (void)vgd_read_le32(&r); /* its heap */
        if ((flags & HOST_VISIBLE_COHERENT) == HOST_VISIBLE_COHERENT) {
            v->memory_type = i;
            return true;
        }
    }
    return fail(v, "no host-visible memory type", n_types);
}

static bool create_device(struct vgd_venus *v, uint32_t ring_idx, uint64_t *out_device,
                          uint64_t *out_queue)
{
    static const float priority = 1.0f;
    uint32_t priority_bits;
    memcpy(&priority_bits, &priority, sizeof(priority_bits));
    struct stream s;
    struct vgd_reader r;
    uint64_t device = ++v->next_object;
    ask(v, &s, VK_CREATE_DEVICE);
    put64(&s, v->physical);
    put_struct(&s, S_DEVICE_CREATE_INFO);
    put32(&s, 0);                               /* flags */
    put32(&s, 1);                               /* one queue */
    put_struct(&s, S_DEVICE_QUEUE_CREATE_INFO); /* its 1 is the array's size */
    put32(&s, 0);                               /* flags */
    put32(&s, 0);                               /* family */
    put32(&s, 1);                               /* count */
    put64(&s, 1);
    put32(&s, priority_bits);
    put32(&s, 0); /* no layers */
    put64(&s, 0);
    put32(&s, 0); /* no extensions */
    put64(&s, 0);
    put64(&s, 0); /* no features */
    put_new_object(&s, device);
    if (!run_and_check(v, &s, VK_CREATE_DEVICE, true, &r)) {
        return false;
    }
    uint64_t queue = ++v->next_object;
    ask(v, &s, VK_GET_DEVICE_QUEUE_2);
    put64(&s, device);
    put64(&s, 1);
    put32(&s, S_DEVICE_QUEUE_INFO_2);
    put_struct(&s, S_DEVICE_QUEUE_TIMELINE_INFO);
    put32(&s, ring_idx);
    put32(&s, 0); /* flags */
    put32(&s, 0); /* family */
    put32(&s, 0); /* index */
    put64(&s, 1);
    put64(&s, queue);
    if (!run_and_check(v, &s, VK_GET_DEVICE_QUEUE_2, false, &r)) {
        return false;
    }
    *out_device = device;
    *out_queue = queue;
    return true;
}

static bool create_pool(struct vgd_venus *v)
{
    struct stream s;
    struct vgd_reader r;
    v->pool = ++v->next_object;
    ask(v, &s, VK_CREATE_COMMAND_POOL);
    put64(&s, v->device);
    put_struct(&s, S_COMMAND_POOL_CREATE_INFO);
    put32(&s, 0); /* flags */
    put32(&s, 0); /* family */
    put_new_object(&s, v->pool);
    return run_and_check(v, &s, VK_CREATE_COMMAND_POOL, true, &r);
}

bool vgd_venus_device(struct vgd_venus *v)
{
    return create_instance(v) && choose_memory(v) &&
           create_device(v, VGD_VENUS_QUEUE_RING, &v->device, &v->queue) && create_pool(v);
}

bool vgd_venus_bind_ring(struct vgd_venus *v, uint32_t ring_idx)
{
    uint64_t device;
    uint64_t queue;
    return create_device(v, ring_idx, &device, &queue);
}

uint64_t vgd_venus_allocate(struct vgd_venus *v, uint64_t size_bytes)
{
    struct stream s;
    struct vgd_reader r;
    uint64_t memory = ++v->next_object;
    ask(v, &s, VK_ALLOCATE_MEMORY);
    put64(&s, v->device);
    put_struct(&s, S_MEMORY_ALLOCATE_INFO);
    put64(&s, size_bytes);
    put32(&s, v->memory_type);
    put_new_object(&s, memory);
    return run_and_check(v, &s, VK_ALLOCATE_MEMORY, true, &r) ? memory : 0;
}

bool vgd_venus_free(struct vgd_venus *v, uint64_t memory)
{
    struct stream s;
    start(&s);
    command(&s, VK_FREE_MEMORY, false);
    put64(&s, v->device);
    put64(&s, memory);
    put64(&s, 0);
    return run(v, &s, 0);
}

/* A command buffer's recording of the fill, and its submission. */
static bool record_and_submit(struct vgd_venus *v, uint64_t buffer, uint64_t size_bytes,
                              uint32_t value)
{
    struct stream s;
    struct vgd_reader r;
    uint64_t commands = ++v->next_object;
    ask(v, &s, VK_ALLOCATE_COMMAND_BUFFERS);
    put64(&s, v->device);
    put_struct(&s, S_COMMAND_BUFFER_ALLOCATE_INFO);
    put64(&s, v->pool);
    put32(&s, 0); /* primary */
    put32(&s, 1);
    put64(&s, 1);
    put64(&s, commands);
    if (!run_and_check(v, &s, VK_ALLOCATE_COMMAND_BUFFERS, true, &r)) {
        return false;
    }
    start(&s);
    command(&s, VK_BEGIN_COMMAND_BUFFER, false);
    put64(&s, commands);
    put_struct(&s, S_COMMAND_BUFFER_BEGIN_INFO);
    put32(&s, 1); /* one time */
    put64(&s, 0);
    command(&s, VK_CMD_FILL_BUFFER, false);
    put64(&s, commands);
    put64(&s, buffer);
    put64(&s, 0);
    put64(&s, size_bytes);
    put32(&s, value);
    command(&s, VK_END_COMMAND_BUFFER, false);
    put64(&s, commands);
    if (!run(v, &s, 0)) {
        return false;
    }
    ask(v, &s, VK_QUEUE_SUBMIT);
    put64(&s, v->queue);
    put32(&s, 1);
    put_struct(&s, S_SUBMIT_INFO); /* its 1 is the array's size */
    put32(&s, 0);                  /* no wait semaphores, no stages */
    put64(&s, 0);
    put64(&s, 0);
    put32(&s, 1);
    put64(&s, 1);
    put64(&s, commands);
    put32(&s, 0); /* none to signal */
    put64(&s, 0);
    put64(&s, 0); /* no fence: the ring's does */
    if (!run_and_check(v, &s, VK_QUEUE_SUBMIT, true, &r)) {
        return false;
    }
    start(&s);
    return run(v, &s, VGD_VENUS_QUEUE_RING);
}

bool vgd_venus_fill(struct vgd_venus *v, uint64_t memory, uint64_t size_bytes, uint32_t value)
{
    struct stream s;
    struct vgd_reader r;
    uint64_t buffer = ++v->next_object;
    ask(v, &s, VK_CREATE_BUFFER);
    put64(&s, v->device);
    put_struct(&s, S_BUFFER_CREATE_INFO);
    put32(&s, 0); /* flags */
    put64(&s, size_bytes);
    put32(&s, 2); /* transfer destination */
    put32(&s, 0); /* exclusive */
    put32(&s, 0);
    put64(&s, 0);
    put_new_object(&s, buffer);
    if (!run_and_check(v, &s, VK_CREATE_BUFFER, true, &r)) {
        return false;
    }
    ask(v, &s, VK_BIND_BUFFER_MEMORY);
    put64(&s, v->device);
    put64(&s, buffer);
    put64(&s, memory);
    put64(&s, 0);
    bool right = run_and_check(v, &s, VK_BIND_BUFFER_MEMORY, true, &r) &&
                 record_and_submit(v, buffer, size_bytes, value);
    start(&s);
    command(&s, VK_DESTROY_BUFFER, false);
    put64(&s, v->device);
    put64(&s, buffer);
    put64(&s, 0);
    return run(v, &s, 0) && right;
}

bool vgd_venus_ring_create(struct vgd_venus *v, uint32_t res_id, struct vgd_venus_ring *out)
{
    *out = (struct vgd_venus_ring){.id = ++v->next_object};
    if (!vgd_venus_blob_create(v, res_id, 0, RING_BYTES, &out->blob)) {
        return false;
    }
    struct stream s;
    start(&s);
    command(&s, VK_CREATE_RING, false);
    put64(&s, out->id);
    put_struct(&s, S_RING_CREATE_INFO);
    put32(&s, 0); /* flags */
    put32(&s, res_id);
    put64(&s, 0);
    put64(&s, RING_BYTES);
    put64(&s, RING_IDLE_NS);
    put64(&s, 0); /* head */
    put64(&s, RING_TAIL_AT);
    put64(&s, RING_STATUS_AT);
    put64(&s, RING_BUFFER_AT);
    put64(&s, RING_BUFFER_BYTES);
    put64(&s, RING_EXTRA_AT);
    put64(&s, 4);
    if (!run(v, &s, 0)) {
        (void)vgd_venus_blob_destroy(v, &out->blob);
        return false;
    }
    return true;
}

static uint32_t ring_load(const struct vgd_venus_ring *ring, uint32_t at)
{
    return __atomic_load_n((uint32_t *)(void *)(ring->blob.bytes + at), __ATOMIC_SEQ_CST);
}

bool vgd_venus_ring_turn(struct vgd_venus *v, struct vgd_venus_ring *ring, int timeout_ms)
{
    struct stream s;
    start(&s);
    command(&s, VK_ENUMERATE_INSTANCE_VERSION, false);
    put64(&s, 1);
    size_t n_bytes = vgd_writer_used(&s.w);
    for (size_t i = 0; i < n_bytes; i++) {
        ring->blob.bytes[RING_BUFFER_AT + (ring->tail + i) % RING_BUFFER_BYTES] = s.bytes[i];
    }
    ring->tail += (uint32_t)n_bytes;
    __atomic_store_n((uint32_t *)(void *)(ring->blob.bytes + RING_TAIL_AT), ring->tail,
                     __ATOMIC_SEQ_CST);
    if ((ring_load(ring, RING_STATUS_AT) & RING_STATUS_IDLE) != 0) {
        start(&s);
        command(&s, VK_NOTIFY_RING, false);
        put64(&s, ring->id);
        put32(&s, ring->tail);
        put32(&s, 0);
        if (!run(v, &s, 0)) {
            return false;
        }
    }
    uint64_t until_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    while (ring_load(ring, 0) != ring->tail) {
        if ((ring_load(ring, RING_STATUS_AT) & RING_STATUS_FATAL) != 0) {
            return fail(v, "the ring is in error", ring_load(ring, RING_STATUS_AT));
        }
        if (vgd_now_ns() >= until_ns) {
            return fail(v, "the ring does not move", ring_load(ring, 0));
        }
        vgd_guest_gpu_turn(v->gpu, 0);
        struct timespec pause = {.tv_nsec = 20000};
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

bool vgd_venus_ring_destroy(struct vgd_venus *v, struct vgd_venus_ring *ring)
{
    if (ring->blob.res_id == 0) {
        return true;
    }
    struct stream s;
    start(&s);
    command(&s, VK_DESTROY_RING, false);
    put64(&s, ring->id);
    bool right = run(v, &s, 0);
    return vgd_venus_blob_destroy(v, &ring->blob) && right;
}
