/* SPDX-License-Identifier: MIT */
/* The virtual GPU on a vhost-user-gpu backend, through the user-space guest's driver. */
#include "vtest_backend.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fd.h"
#include "guest_gpu.h"
#include "guest_heap.h"
#include "log.h"
#include "loop.h"
#include "vtest_device.h"

#define QUEUE_SIZE 1024u             /* several times what one client may have in flight */
#define DRIVER_RAM_BYTES (64u << 20) /* rings, requests and responses */
#define ROOM_COMMANDS 64u            /* what one message of a client may need in the queue */
#define LAZY_ANSWERS 96u             /* so many may wait while nobody waits for any */
#define BIG_BYTES (256u << 10)       /* from here on memory goes back to the kernel when freed */
#define CAPSETS_MAX 16u
#define CAPSET_MAX_BYTES 4000u
#define IDS_MAX (1u << 30) /* more than clients may have, fences and all */
#define CONTEXTS_MAX 1000u

/* virgl_caps_v2 (virgl_hw.h): where capability_bits lies, and one bit of its highest byte. */
#define CAPS_V2_BITS_AT 392u
#define CAP_ARB_BUFFER_STORAGE_TOP 0x80u

/* A command sent, or waiting for room in the queue. */
struct pending {
    struct pending *next;
    struct vgd_guest_command *cmd; /* NULL: not in the queue yet */
    uint64_t number;
    bool is_awaited, is_stalled;
    struct vgd_vtest_send send;
    uint8_t body[VGD_VTEST_BODY_MAX];
};

struct list {
    struct pending *first, **end;
};

/* Numbers from 1 on: those given back, and the first that was never taken. */
struct ids {
    uint32_t *free_ids; /* owned */
    uint32_t n_free, room, next, max;
};

struct vgd_vtest_device {
    struct vgd_loop *loop;
    struct vgd_vtest_backend_events events;
    struct vgd_guest_gpu *gpu;
    struct vgd_watch *call_watch, *cursor_watch, *socket_watch, *backend_watch;
    int backend_fd; /* a copy, to watch */
    struct vgd_guest_heap *heap;
    uint8_t *memory; /* borrowed of the guest's RAM */
    uint64_t memory_gpa, memory_bytes;
    struct list in_flight, waiting;
    uint32_t n_waiting;
    struct pending *free_pending;
    uint64_t next_fence_id, next_number;
    struct ids resources, contexts;
    struct vgd_vtest_capset capsets[CAPSETS_MAX];
    uint32_t n_capsets;
    bool has_context_init, has_window;
    uint32_t calls_after; /* as the driver was told last */
    bool must_kick, is_gone, is_collecting, wants_room;
    uint64_t spin_ns, spin_until_ns; /* 0: not now */
};

static void list_add(struct list *list, struct pending *p)
{
    p->next = NULL;
    *list->end = p;
    list->end = &p->next;
}

static uint32_t take_id(struct ids *ids)
{
    if (ids->n_free > 0) {
        return ids->free_ids[--ids->n_free];
    }
    return ids->next > ids->max ? 0 : ids->next++;
}

static void give_id(struct ids *ids, uint32_t id)
{
    if (ids->n_free == ids->room) {
        uint32_t more = ids->room == 0 ? 64 : ids->room * 2;
        uint32_t *bigger = realloc(ids->free_ids, more * sizeof(*bigger));
        if (bigger == NULL) {
            return; /* a number less */
        }
        ids->free_ids = bigger;
        ids->room = more;
    }
    ids->free_ids[ids->n_free++] = id;
}

uint32_t vgd_vtest_device_take_resource_id(struct vgd_vtest_device *dev)
{
    return take_id(&dev->resources);
}

void vgd_vtest_device_give_resource_id(struct vgd_vtest_device *dev, uint32_t id)
{
    give_id(&dev->resources, id);
}

uint32_t vgd_vtest_device_take_context_id(struct vgd_vtest_device *dev)
{
    return take_id(&dev->contexts);
}

void vgd_vtest_device_give_context_id(struct vgd_vtest_device *dev, uint32_t id)
{
    give_id(&dev->contexts, id);
}

uint64_t vgd_vtest_device_memory_bytes(const struct vgd_vtest_device *dev)
{
    return dev->memory_bytes;
}

uint8_t *vgd_vtest_device_alloc_raw(struct vgd_vtest_device *dev, uint64_t n_bytes,
                                    uint64_t *out_gpa)
{
    uint64_t offset;
    if (!vgd_guest_heap_alloc(dev->heap, n_bytes, &offset)) {
        return NULL;
    }
    *out_gpa = dev->memory_gpa + offset;
    return dev->memory + offset;
}

uint8_t *vgd_vtest_device_alloc(struct vgd_vtest_device *dev, uint64_t n_bytes, uint64_t *out_gpa)
{
    uint8_t *memory = vgd_vtest_device_alloc_raw(dev, n_bytes, out_gpa);
    if (memory == NULL) {
        return NULL;
    }
    /* Whole pages in the middle of something big are given to the kernel, which zeroes them when
     * they are touched; the rest here. */
    uint64_t page = VGD_GUEST_PAGE_BYTES;
    uint64_t start = (uint64_t)(memory - dev->memory);
    uint64_t first = (start + page - 1) / page * page;
    uint64_t last = (start + n_bytes) / page * page;
    if (n_bytes >= BIG_BYTES && madvise(dev->memory + first, last - first, MADV_REMOVE) == 0) {
        memset(memory, 0, first - start);
        memset(dev->memory + last, 0, start + n_bytes - last);
    } else {
        memset(memory, 0, n_bytes);
    }
    return memory;
}

void vgd_vtest_device_free(struct vgd_vtest_device *dev, uint64_t gpa, uint64_t n_bytes)
{
    uint64_t offset = gpa - dev->memory_gpa;
    uint64_t page = VGD_GUEST_PAGE_BYTES;
    if (n_bytes >= BIG_BYTES) {
        uint64_t first = (offset + page - 1) / page * page;
        uint64_t last = (offset + n_bytes) / page * page;
        (void)madvise(dev->memory + first, last - first, MADV_REMOVE);
    }
    vgd_guest_heap_free(dev->heap, offset, n_bytes);
}

const struct vgd_vtest_capset *vgd_vtest_device_capset(const struct vgd_vtest_device *dev,
                                                       uint32_t id)
{
    for (uint32_t i = 0; i < dev->n_capsets; i++) {
        if (dev->capsets[i].id == id) {
            return &dev->capsets[i];
        }
    }
    return NULL;
}

bool vgd_vtest_device_has_context_init(const struct vgd_vtest_device *dev)
{
    return dev->has_context_init;
}

uint64_t vgd_vtest_device_window_alloc(struct vgd_vtest_device *dev, uint64_t n_bytes)
{
    return vgd_guest_window_alloc(dev->gpu, n_bytes);
}

void vgd_vtest_device_window_free(struct vgd_vtest_device *dev, uint64_t offset, uint64_t n_bytes)
{
    vgd_guest_window_free(dev->gpu, offset, n_bytes);
}

int vgd_vtest_device_window_file(struct vgd_vtest_device *dev, uint64_t offset)
{
    int fd;
    uint64_t file_offset;
    uint64_t n_bytes;
    if (!vgd_guest_window_file(dev->gpu, offset, &fd, &file_offset, &n_bytes) || file_offset != 0) {
        return -1;
    }
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/* Put @p in the queue. False: it is full now. */
static bool begin(struct vgd_vtest_device *dev, struct pending *p)
{
    struct vgd_guest_request req = {
        .queue = VGD_GUEST_CONTROL,
        .hdr = p->send.hdr,
        .body = p->body,
        .body_bytes = p->send.body_bytes,
        .ram_gpa = p->send.data_gpa,
        .ram_bytes = p->send.data_bytes,
        .resp_bytes = VGD_CTRL_HDR_SIZE + p->send.resp_bytes,
    };
    p->cmd = vgd_guest_gpu_begin(dev->gpu, &req, false);
    if (p->cmd == NULL) {
        return false;
    }
    list_add(&dev->in_flight, p);
    dev->must_kick = true;
    return true;
}

uint64_t vgd_vtest_device_send(struct vgd_vtest_device *dev, const struct vgd_vtest_send *send)
{
    assert(send->body_bytes <= VGD_VTEST_BODY_MAX);
    struct pending *p = dev->free_pending;
    if (p != NULL) {
        dev->free_pending = p->next;
    } else {
        p = malloc(sizeof(*p));
        assert(p != NULL); /* a hundred bytes: the bridge cannot go on without */
    }
    p->cmd = NULL;
    p->number = ++dev->next_number;
    p->is_awaited = p->is_stalled = false;
    p->send = *send;
    if ((p->send.hdr.flags & VGD_FLAG_FENCE) != 0) {
        p->send.hdr.fence_id = ++dev->next_fence_id;
    }
    if (send->body_bytes > 0) {
        memcpy(p->body, send->body, send->body_bytes);
    }
    if (dev->is_gone || dev->n_waiting > 0 || !begin(dev, p)) {
        list_add(&dev->waiting, p);
        dev->n_waiting++;
    }
    return p->number;
}

bool vgd_vtest_device_has_room(const struct vgd_vtest_device *dev)
{
    if (dev->n_waiting == 0 && !dev->is_gone &&
        vgd_guest_queue_inflight_count(vgd_guest_gpu_queue(dev->gpu, VGD_GUEST_CONTROL)) +
                ROOM_COMMANDS <=
            QUEUE_SIZE) {
        return true;
    }
    ((struct vgd_vtest_device *)(uintptr_t)dev)->wants_room = true;
    return false;
}

static void await(struct list *list, uint64_t number, uint32_t ctx_id, bool is_stalled)
{
    for (struct pending *p = list->first; p != NULL; p = p->next) {
        if (p->number == number || (number == 0 && p->send.hdr.ctx_id == ctx_id)) {
            p->is_awaited = true;
            p->is_stalled = is_stalled;
        }
    }
}

void vgd_vtest_device_await(struct vgd_vtest_device *dev, uint64_t number, bool is_stalled)
{
    await(&dev->in_flight, number, 0, is_stalled);
    await(&dev->waiting, number, 0, is_stalled);
    if (is_stalled && dev->spin_ns != 0) {
        dev->spin_until_ns = vgd_now_ns() + dev->spin_ns;
    }
}

void vgd_vtest_device_await_all(struct vgd_vtest_device *dev, uint32_t ctx_id)
{
    await(&dev->in_flight, 0, ctx_id, false);
    await(&dev->waiting, 0, ctx_id, false);
}

static void answer(struct vgd_vtest_device *dev, struct pending *p)
{
    struct vgd_vtest_answer a = {0};
    if (p->cmd != NULL && p->cmd->done) {
        a.type = p->cmd->resp.type;
        a.body = p->cmd->resp_body;
        a.body_bytes = p->cmd->resp_body_bytes;
    }
    p->send.done(p->send.user, &a);
    if (p->cmd != NULL) {
        vgd_guest_gpu_end(dev->gpu, p->cmd);
    }
    p->next = dev->free_pending;
    dev->free_pending = p;
}

/* Hand out answers that have come. Returns how many. */
static uint32_t collect(struct vgd_vtest_device *dev)
{
    uint32_t n = 0;
    if (dev->is_collecting) {
        return 0;
    }
    dev->is_collecting = true;
    struct pending **at = &dev->in_flight.first;
    while (*at != NULL) {
        struct pending *p = *at;
        if (!p->cmd->done) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        if (dev->in_flight.end == &p->next) {
            dev->in_flight.end = at;
        }
        answer(dev, p);
        n++;
    }
    dev->is_collecting = false;
    return n;
}

static void fill_queue(struct vgd_vtest_device *dev)
{
    while (dev->waiting.first != NULL && !dev->is_gone) {
        struct pending *p = dev->waiting.first;
        struct pending *next = p->next;
        if (!begin(dev, p)) {
            return;
        }
        dev->waiting.first = next;
        if (next == NULL) {
            dev->waiting.end = &dev->waiting.first;
        }
        dev->n_waiting--;
    }
}

/* Everything that is outstanding gets its answer: there is none. */
static void give_up(struct vgd_vtest_device *dev)
{
    while (dev->in_flight.first != NULL || dev->waiting.first != NULL) {
        struct list *list = dev->in_flight.first != NULL ? &dev->in_flight : &dev->waiting;
        struct pending *p = list->first;
        list->first = p->next;
        if (list->first == NULL) {
            list->end = &list->first;
        }
        answer(dev, p);
    }
    dev->n_waiting = 0;
}

static void on_gone(struct vgd_vtest_device *dev)
{
    if (!dev->is_gone) {
        dev->is_gone = true;
        vgd_watch_remove(&dev->call_watch);
        vgd_watch_remove(&dev->cursor_watch);
        vgd_watch_remove(&dev->socket_watch);
        vgd_watch_remove(&dev->backend_watch);
        dev->events.on_gone(dev->events.user);
    }
}

static void on_call(void *user, uint32_t events)
{
    (void)events;
    struct vgd_vtest_device *dev = user; /* the answers are collected after this turn */
    (void)vgd_guest_frontend_calls(vgd_guest_gpu_frontend(dev->gpu), VGD_GUEST_CONTROL);
}

static void on_event(void *user, uint32_t events)
{
    (void)events;
    struct vgd_vtest_device *dev = user;
    vgd_guest_gpu_turn(dev->gpu, 0);
    if (vgd_guest_frontend_backend_fd(vgd_guest_gpu_frontend(dev->gpu)) < 0) {
        vgd_watch_remove(&dev->backend_watch);
        vgd_fd_closep(&dev->backend_fd);
    }
    (void)collect(dev);
}

static void on_socket(void *user, uint32_t events)
{
    struct vgd_vtest_device *dev = user;
    if ((events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0) {
        on_gone(dev);
    }
}

static bool is_same_timeline(const struct vgd_ctrl_hdr *a, const struct vgd_ctrl_hdr *b)
{
    return a->flags == b->flags && a->ctx_id == b->ctx_id && a->ring_idx == b->ring_idx;
}

/* After how many answers is the first here that somebody waits for, at the earliest? What is before
 * it without a fence, or on its timeline, is certainly answered before. */
static uint32_t answers_until_awaited(const struct vgd_vtest_device *dev)
{
    const struct pending *awaited = dev->in_flight.first;
    while (awaited != NULL && !awaited->is_awaited) {
        awaited = awaited->next;
    }
    if (awaited == NULL) {
        return dev->n_waiting > 0 || dev->wants_room ? 1 : LAZY_ANSWERS;
    }
    uint32_t n = 1;
    for (const struct pending *p = dev->in_flight.first; p != awaited; p = p->next) {
        n += (p->send.hdr.flags & VGD_FLAG_FENCE) == 0 ||
             is_same_timeline(&p->send.hdr, &awaited->send.hdr);
    }
    return n < LAZY_ANSWERS ? n : LAZY_ANSWERS;
}

/* An answer often comes sooner than a wake-up takes, so where a client does nothing but wait it is
 * looked for. Once for each wait: others are held up no longer than this. */
static bool is_spinning(struct vgd_vtest_device *dev)
{
    const struct pending *p = dev->spin_until_ns == 0 ? NULL : dev->in_flight.first;
    while (p != NULL && !p->is_stalled) {
        p = p->next;
    }
    if (p == NULL || vgd_now_ns() >= dev->spin_until_ns) {
        dev->spin_until_ns = 0;
        return false;
    }
    return true;
}

void vgd_vtest_device_turn(struct vgd_vtest_device *dev)
{
    if (dev->is_gone) {
        give_up(dev);
        return;
    }
    for (;;) {
        fill_queue(dev);
        if (dev->must_kick) {
            dev->must_kick = false;
            vgd_guest_gpu_kick(dev->gpu, VGD_GUEST_CONTROL);
        }
        if (vgd_guest_gpu_poll(dev->gpu) > 0 && collect(dev) > 0 && dev->n_waiting > 0) {
            continue; /* there is room; and with nothing in the queue nobody would call again */
        }
        if (dev->wants_room && vgd_vtest_device_has_room(dev)) {
            dev->wants_room = false;
            dev->events.on_room(dev->events.user);
        }
        if (dev->must_kick || dev->is_gone || is_spinning(dev)) {
            continue;
        }
        uint32_t calls_after = answers_until_awaited(dev);
        if (calls_after != dev->calls_after) {
            dev->calls_after = calls_after;
            if (!vgd_guest_gpu_calls_after(dev->gpu, calls_after)) {
                continue; /* they have come meanwhile */
            }
        }
        if (vgd_guest_queue_waiting_count(vgd_guest_gpu_queue(dev->gpu, VGD_GUEST_CONTROL)) > 0) {
            continue;
        }
        return;
    }
}

/* Coherent buffers are blobs that the client maps: not without a host-visible region. A guest's
 * driver asks the kernel for one; a vtest client has only the capset to go by. */
static void mask_capset(const struct vgd_vtest_device *dev, uint32_t id, uint8_t *bytes,
                        uint32_t n_bytes)
{
    if (id == VGD_CAPSET_VIRGL2 && !dev->has_window && n_bytes >= CAPS_V2_BITS_AT + 4) {
        bytes[CAPS_V2_BITS_AT + 3] &= (uint8_t)~CAP_ARB_BUFFER_STORAGE_TOP;
    }
}

/* What contexts there can be, and what each of them can do. False: the device did not answer. */
static bool ask_capsets(struct vgd_vtest_device *dev)
{
    uint32_t n = vgd_guest_frontend_num_capsets(vgd_guest_gpu_frontend(dev->gpu));
    for (uint32_t i = 0; i < n && dev->n_capsets < CAPSETS_MAX; i++) {
        struct vgd_resp_capset_info info;
        if (vgd_guest_get_capset_info(dev->gpu, i, &info) != VGD_RESP_OK_CAPSET_INFO) {
            return false;
        }
        uint32_t max_bytes = info.max_size_bytes;
        if (info.capset_id == 0 || max_bytes == 0 || max_bytes > CAPSET_MAX_BYTES) {
            continue;
        }
        uint8_t *bytes = calloc(1, max_bytes);
        uint32_t n_bytes = 0;
        if (bytes == NULL || vgd_guest_get_capset(dev->gpu, info.capset_id, info.max_version, bytes,
                                                  max_bytes, &n_bytes) != VGD_RESP_OK_CAPSET) {
            free(bytes);
            return false;
        }
        mask_capset(dev, info.capset_id, bytes, n_bytes < max_bytes ? n_bytes : max_bytes);
        dev->capsets[dev->n_capsets++] = (struct vgd_vtest_capset){
            .id = info.capset_id,
            .max_version = info.max_version,
            .n_bytes = n_bytes < max_bytes ? n_bytes : max_bytes,
            .bytes = bytes,
        };
    }
    return true;
}

static struct vgd_watch *watch(struct vgd_vtest_device *dev, int fd, vgd_watch_fn fn)
{
    return vgd_loop_watch(dev->loop, fd, EPOLLIN, fn, dev);
}

static enum vgd_status bring_up(struct vgd_vtest_device *dev, int *fd,
                                const struct vgd_vtest_backend_config *config)
{
    enum vgd_status st;
    struct vgd_guest_gpu_config gpu_config = {
        .frontend = {.profile = VGD_GUEST_QEMU_GENERIC,
                     .reply_timeout_ms = config->timeout_ms,
                     .announce_maps = VGD_GUEST_ANNOUNCE_NEVER},
        .ram_bytes = DRIVER_RAM_BYTES + config->memory_bytes,
        .control_queue_size = QUEUE_SIZE,
    };
    dev->gpu = vgd_guest_gpu_open(fd, &gpu_config, &st);
    if (dev->gpu == NULL) {
        return st;
    }
    if (!vgd_guest_gpu_has_3d(dev->gpu)) {
        vgd_log(VGD_LOG_ERROR, "device", "the backend has no 3D");
        return VGD_RANGE;
    }
    dev->memory =
        vgd_guest_ram_reserve(vgd_guest_gpu_ram(dev->gpu), config->memory_bytes, &dev->memory_gpa);
    dev->memory_bytes = config->memory_bytes;
    dev->heap = vgd_guest_heap_create(config->memory_bytes);
    if (dev->memory == NULL || dev->heap == NULL) {
        return VGD_NO_MEMORY;
    }
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(dev->gpu);
    uint64_t features = vgd_guest_frontend_acked_features(fe);
    dev->has_context_init = (features & UINT64_C(1) << VGD_F_CONTEXT_INIT) != 0;
    dev->has_window = vgd_guest_window_bytes(dev->gpu) != 0;
    if (!ask_capsets(dev)) {
        vgd_log(VGD_LOG_ERROR, "device", "the backend does not say what it can do");
        return VGD_RANGE;
    }
    /* The driver closes the backend channel by itself, so a copy is watched. */
    int backend_fd = vgd_guest_frontend_backend_fd(fe);
    dev->backend_fd = backend_fd < 0 ? -1 : fcntl(backend_fd, F_DUPFD_CLOEXEC, 0);
    dev->call_watch = watch(dev, vgd_guest_frontend_call_fd(fe, VGD_GUEST_CONTROL), on_call);
    dev->cursor_watch = watch(dev, vgd_guest_frontend_call_fd(fe, VGD_GUEST_CURSOR), on_event);
    dev->socket_watch =
        vgd_loop_watch(dev->loop, vgd_guest_frontend_fd(fe), EPOLLRDHUP, on_socket, dev);
    dev->backend_watch = dev->backend_fd < 0 ? NULL : watch(dev, dev->backend_fd, on_event);
    bool is_watched = dev->call_watch != NULL && dev->cursor_watch != NULL &&
                      dev->socket_watch != NULL &&
                      (dev->backend_fd < 0 || dev->backend_watch != NULL);
    return is_watched ? VGD_OK : VGD_NO_MEMORY;
}

struct vgd_vtest_device *vgd_vtest_device_open(struct vgd_loop *loop, int *fd,
                                               const struct vgd_vtest_backend_config *config,
                                               const struct vgd_vtest_backend_events *events,
                                               enum vgd_status *out_status)
{
    struct vgd_vtest_device *dev = calloc(1, sizeof(*dev));
    if (dev == NULL) {
        *out_status = VGD_NO_MEMORY;
        return NULL;
    }
    dev->loop = loop;
    dev->events = *events;
    dev->backend_fd = -1;
    dev->spin_ns = (uint64_t)config->spin_us * 1000;
    dev->in_flight.end = &dev->in_flight.first;
    dev->waiting.end = &dev->waiting.first;
    dev->resources = (struct ids){.next = 1, .max = IDS_MAX};
    dev->contexts = (struct ids){.next = 1, .max = CONTEXTS_MAX};
    *out_status = bring_up(dev, fd, config);
    if (*out_status != VGD_OK) {
        vgd_vtest_device_close(dev);
        return NULL;
    }
    return dev;
}

void vgd_vtest_device_close(struct vgd_vtest_device *dev)
{
    if (dev == NULL) {
        return;
    }
    vgd_watch_remove(&dev->call_watch);
    vgd_watch_remove(&dev->cursor_watch);
    vgd_watch_remove(&dev->socket_watch);
    vgd_watch_remove(&dev->backend_watch);
    vgd_fd_closep(&dev->backend_fd);
    give_up(dev);
    while (dev->free_pending != NULL) {
        struct pending *p = dev->free_pending;
        dev->free_pending = p->next;
        free(p);
    }
    for (uint32_t i = 0; i < dev->n_capsets; i++) {
        free((void *)(uintptr_t)dev->capsets[i].bytes);
    }
    vgd_guest_gpu_close(dev->gpu);
    vgd_guest_heap_destroy(dev->heap);
    free(dev->resources.free_ids);
    free(dev->contexts.free_ids);
    free(dev);
}
