/* SPDX-License-Identifier: MIT */
#include "guest_frontend_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fd.h"
#include "log.h"
#include "virtio_gpu.h"

#define REPLY_TIMEOUT_MS 10000u

/* What QEMU's vhost-user-gpu acks of what the backend offers (measured: 0x408229 and bit 13). */
#define PROTOCOL_COMMON                                                                            \
    (BIT(VGD_VU_F_MQ) | BIT(VGD_VU_F_REPLY_ACK) | BIT(VGD_VU_F_BACKEND_REQ) |                      \
     BIT(VGD_VU_F_CONFIG) | BIT(VGD_VU_F_BACKEND_SEND_FD) | BIT(VGD_VU_F_RESET_DEVICE) |           \
     BIT(VGD_VU_F_CONFIGURE_MEM_SLOTS))
#define RING_FEATURES                                                                              \
    (BIT(VGD_GUEST_F_INDIRECT_DESC) | BIT(VGD_GUEST_F_EVENT_IDX) | BIT(VGD_GUEST_F_VERSION_1) |    \
     BIT(VGD_GUEST_F_RING_RESET))
#define GPU_FEATURES (BIT(VGD_F_VIRGL) | BIT(VGD_F_EDID) | BIT(VGD_F_RESOURCE_UUID))
#define BLOB_FEATURES                                                                              \
    (BIT(VGD_F_RESOURCE_BLOB) | BIT(VGD_F_CONTEXT_INIT) | BIT(VGD_F_BLOB_ALIGNMENT))

struct vgd_guest_frontend *
vgd_guest_frontend_create(int *fd, const struct vgd_guest_frontend_config *config,
                          struct vgd_guest_ram *ram, struct vgd_guest_display *display,
                          struct vgd_guest_queue *const queues[VGD_GUEST_QUEUES_COUNT])
{
    struct vgd_guest_frontend *fe = calloc(1, sizeof(*fe));
    if (fe == NULL) {
        return NULL;
    }
    fe->config = *config;
    if (fe->config.reply_timeout_ms == 0) {
        fe->config.reply_timeout_ms = REPLY_TIMEOUT_MS;
    }
    fe->ram = ram;
    fe->display = display;
    bool whole = true;
    for (uint32_t i = 0; i < VGD_GUEST_QUEUES_COUNT; i++) {
        struct ring *ring = &fe->rings[i];
        ring->queue = queues[i];
        ring->kick_fd = vgd_eventfd_create();
        ring->call_fd = vgd_eventfd_create();
        ring->masked_fd = vgd_eventfd_create();
        ring->err_fd = vgd_eventfd_create();
        whole = whole && ring->kick_fd >= 0 && ring->call_fd >= 0 && ring->masked_fd >= 0 &&
                ring->err_fd >= 0;
    }
    fe->channel = whole ? vgd_channel_create(fd) : NULL;
    if (fe->channel == NULL) {
        vgd_guest_frontend_destroy(fe);
        return NULL;
    }
    return fe;
}

void vgd_guest_frontend_destroy(struct vgd_guest_frontend *fe)
{
    if (fe == NULL) {
        return;
    }
    vgd_channel_destroy(fe->channel);
    vgd_channel_destroy(fe->backend);
    if (fe->is_held) {
        vgd_vu_message_finish(&fe->held);
    }
    vgd_guest_shm_destroy(fe->shm);
    for (uint32_t i = 0; i < VGD_GUEST_QUEUES_COUNT; i++) {
        vgd_fd_closep(&fe->rings[i].kick_fd);
        vgd_fd_closep(&fe->rings[i].call_fd);
        vgd_fd_closep(&fe->rings[i].masked_fd);
        vgd_fd_closep(&fe->rings[i].err_fd);
    }
    free(fe);
}

bool vgd_guest_profile_named(const char *name, enum vgd_guest_profile *out)
{
    static const char *const names[] = {
        [VGD_GUEST_QEMU_11_1] = "qemu-11.1",
        [VGD_GUEST_QEMU_10_0] = "qemu-10.0",
        [VGD_GUEST_QEMU_GENERIC] = "qemu-generic",
        [VGD_GUEST_QEMU_11_2] = "qemu-11.2",
    };
    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum vgd_guest_profile)i;
            return true;
        }
    }
    return false;
}

static bool is_generic(const struct vgd_guest_frontend *fe)
{
    return fe->config.profile == VGD_GUEST_QEMU_GENERIC;
}

enum vgd_status frontend_send_all(struct vgd_guest_frontend *fe, struct vgd_channel *ch,
                                  uint32_t request, uint32_t flags, const void *payload,
                                  uint32_t n_bytes, const int *fds, uint32_t n_fds)
{
    enum vgd_status st = vgd_channel_send(ch, request, flags, payload, n_bytes, fds, n_fds);
    uint64_t deadline_ns = vgd_now_ns() + (uint64_t)fe->config.reply_timeout_ms * 1000000;
    while (st == VGD_OK && vgd_channel_wants_write(ch)) {
        struct pollfd p = {.fd = vgd_channel_fd(ch), .events = POLLOUT};
        if (vgd_now_ns() >= deadline_ns) {
            return VGD_AGAIN;
        }
        (void)poll(&p, 1, 10);
        st = vgd_channel_flush(ch);
    }
    return st;
}

enum vgd_status vgd_guest_frontend_tell(struct vgd_guest_frontend *fe, uint32_t request,
                                        const void *payload, uint32_t n_bytes, const int *fds,
                                        uint32_t n_fds)
{
    fe->counters.messages++;
    fe->last_request = request;
    return frontend_send_all(fe, fe->channel, request, VGD_VU_FLAG_VERSION, payload, n_bytes, fds,
                             n_fds);
}

enum vgd_status vgd_guest_frontend_ask(struct vgd_guest_frontend *fe, uint32_t request,
                                       bool need_reply, const void *payload, uint32_t n_bytes,
                                       const int *fds, uint32_t n_fds, struct vgd_vu_message *reply)
{
    uint32_t flags = VGD_VU_FLAG_VERSION | (need_reply ? VGD_VU_FLAG_NEED_REPLY : 0);
    fe->counters.messages++;
    fe->last_request = request;
    enum vgd_status st =
        frontend_send_all(fe, fe->channel, request, flags, payload, n_bytes, fds, n_fds);
    if (st != VGD_OK) {
        return st;
    }
    uint64_t deadline_ns = vgd_now_ns() + (uint64_t)fe->config.reply_timeout_ms * 1000000;
    for (;;) {
        st = vgd_channel_read(fe->channel, reply);
        if (st == VGD_OK) {
            break;
        }
        if (st != VGD_AGAIN) {
            return st;
        }
        uint64_t now_ns = vgd_now_ns();
        if (now_ns >= deadline_ns) {
            return VGD_AGAIN;
        }
        struct pollfd p = {.fd = vgd_channel_fd(fe->channel), .events = POLLIN};
        (void)poll(&p, 1, (int)((deadline_ns - now_ns) / 1000000) + 1);
    }
    fe->counters.replies++;
    if (reply->hdr.request != request || (reply->hdr.flags & VGD_VU_FLAG_REPLY) == 0) {
        vgd_vu_message_finish(reply);
        return VGD_RANGE;
    }
    return VGD_OK;
}

/* Ask for a number. */
static enum vgd_status ask_u64(struct vgd_guest_frontend *fe, uint32_t request, uint64_t *out)
{
    struct vgd_vu_message reply;
    enum vgd_status st = vgd_guest_frontend_ask(fe, request, false, NULL, 0, NULL, 0, &reply);
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_reader r = vgd_reader_of(reply.payload, reply.hdr.size_bytes);
    struct vgd_vu_u64 value = {0};
    st = vgd_vu_u64_decode(&r, &value);
    vgd_vu_message_finish(&reply);
    if (st != VGD_OK || vgd_reader_finish(&r) != VGD_OK) {
        return VGD_RANGE;
    }
    *out = value.value;
    return VGD_OK;
}

enum vgd_status frontend_say(struct vgd_guest_frontend *fe, uint32_t request, bool wanted,
                             const void *payload, uint32_t n_bytes, const int *fds, uint32_t n_fds)
{
    if (!wanted || (fe->acked_protocol & BIT(VGD_VU_F_REPLY_ACK)) == 0) {
        return vgd_guest_frontend_tell(fe, request, payload, n_bytes, fds, n_fds);
    }
    struct vgd_vu_message reply;
    enum vgd_status st =
        vgd_guest_frontend_ask(fe, request, true, payload, n_bytes, fds, n_fds, &reply);
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_reader r = vgd_reader_of(reply.payload, reply.hdr.size_bytes);
    struct vgd_vu_u64 ack = {.value = 1};
    st = vgd_vu_u64_decode(&r, &ack);
    vgd_vu_message_finish(&reply);
    return st == VGD_OK && ack.value == 0 ? VGD_OK : VGD_RANGE;
}

static enum vgd_status say_u64(struct vgd_guest_frontend *fe, uint32_t request, uint64_t value)
{
    return vgd_guest_frontend_tell(fe, request, &value, sizeof(value), NULL, 0);
}

static enum vgd_status say_state(struct vgd_guest_frontend *fe, uint32_t request, bool wanted,
                                 uint32_t idx, uint32_t num)
{
    uint8_t payload[VGD_VU_VRING_STATE_SIZE];
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    vgd_vu_vring_state_encode(&w, &(struct vgd_vu_vring_state){.idx = idx, .num = num});
    return frontend_say(fe, request, wanted, payload, sizeof(payload), NULL, 0);
}

static enum vgd_status say_vring_fd(struct vgd_guest_frontend *fe, uint32_t request, uint32_t idx,
                                    int fd)
{
    uint64_t payload = idx;
    bool wanted = fe->config.profile != VGD_GUEST_QEMU_10_0;
    return frontend_say(fe, request, wanted, &payload, sizeof(payload), &fd, 1);
}

/* Does this QEMU's device have a place for the host-visible region? */
static bool has_window_device(const struct vgd_guest_frontend *fe)
{
    return !fe->config.no_window && (is_generic(fe) || fe->config.profile == VGD_GUEST_QEMU_11_2);
}

static enum vgd_status open_backend_channel(struct vgd_guest_frontend *fe)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return VGD_HOST_FAILED;
    }
    VGD_AUTO_FD ours = pair[0];
    VGD_AUTO_FD theirs = pair[1];
    vgd_channel_destroy(fe->backend);
    fe->backend = vgd_channel_create(&ours);
    if (fe->backend == NULL) {
        return VGD_NO_MEMORY;
    }
    return frontend_say(fe, VGD_VU_SET_BACKEND_REQ_FD, true, NULL, 0, &theirs, 1);
}

enum vgd_status vgd_guest_frontend_realize(struct vgd_guest_frontend *fe)
{
    enum vgd_status st = ask_u64(fe, VGD_VU_GET_FEATURES, &fe->features);
    if (st == VGD_OK && (fe->features & BIT(VGD_VU_F_PROTOCOL_FEATURES)) == 0) {
        return VGD_RANGE; /* QEMU refuses a GPU backend without CONFIG */
    }
    if (st == VGD_OK) {
        st = ask_u64(fe, VGD_VU_GET_PROTOCOL_FEATURES, &fe->protocol);
    }
    if (st != VGD_OK) {
        return st;
    }
    uint64_t known = PROTOCOL_COMMON;
    if (fe->config.profile != VGD_GUEST_QEMU_10_0) {
        known |= BIT(VGD_VU_F_SHMEM);
    }
    if (is_generic(fe)) {
        known &= ~BIT(VGD_VU_F_RESET_DEVICE); /* never sent by it */
    }
    fe->acked_protocol = fe->protocol & known & ~fe->config.drop_protocol;
    st = say_u64(fe, VGD_VU_SET_PROTOCOL_FEATURES, fe->acked_protocol);
    uint64_t n_queues = VGD_GUEST_QUEUES_COUNT;
    if (st == VGD_OK && (fe->acked_protocol & BIT(VGD_VU_F_MQ)) != 0) {
        st = ask_u64(fe, VGD_VU_GET_QUEUE_NUM, &n_queues);
        if (st == VGD_OK && n_queues < VGD_GUEST_QUEUES_COUNT) {
            return VGD_RANGE;
        }
    }
    if (st == VGD_OK && (fe->acked_protocol & BIT(VGD_VU_F_CONFIGURE_MEM_SLOTS)) != 0) {
        st = ask_u64(fe, VGD_VU_GET_MAX_MEM_SLOTS, &fe->max_mem_slots);
    }
    if (st == VGD_OK && (fe->acked_protocol & BIT(VGD_VU_F_BACKEND_REQ)) != 0) {
        st = open_backend_channel(fe);
    }
    if (st == VGD_OK) {
        st = vgd_guest_frontend_tell(fe, VGD_VU_SET_OWNER, NULL, 0, NULL, 0);
    }
    if (st == VGD_OK) {
        st = ask_u64(fe, VGD_VU_GET_FEATURES, &fe->features);
    }
    for (uint32_t i = 0; st == VGD_OK && i < VGD_GUEST_QUEUES_COUNT; i++) {
        st = say_vring_fd(fe, VGD_VU_SET_VRING_CALL, i, fe->rings[i].masked_fd);
        if (st == VGD_OK) {
            st = say_vring_fd(fe, VGD_VU_SET_VRING_ERR, i, fe->rings[i].err_fd);
        }
    }
    if (st == VGD_OK && has_window_device(fe) && (fe->acked_protocol & BIT(VGD_VU_F_SHMEM)) != 0) {
        st = frontend_ask_shm(fe);
    }
    return st;
}

enum vgd_status vgd_guest_frontend_config_read(struct vgd_guest_frontend *fe, uint32_t offset,
                                               uint32_t n_bytes, uint8_t *out_bytes)
{
    uint8_t payload[VGD_VU_CONFIG_SIZE + VGD_VU_CONFIG_MAX_BYTES];
    if (n_bytes > VGD_VU_CONFIG_MAX_BYTES) {
        return VGD_RANGE;
    }
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    struct vgd_vu_config config = {.offset_bytes = offset, .size_bytes = n_bytes};
    vgd_vu_config_encode(&w, &config);
    vgd_write_zeros(&w, n_bytes);
    struct vgd_vu_message reply;
    enum vgd_status st = vgd_guest_frontend_ask(fe, VGD_VU_GET_CONFIG, false, payload,
                                                (uint32_t)vgd_writer_used(&w), NULL, 0, &reply);
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_reader r = vgd_reader_of(reply.payload, reply.hdr.size_bytes);
    vgd_vu_message_finish(&reply);
    if (vgd_vu_config_decode(&r, &config) != VGD_OK || config.size_bytes != n_bytes ||
        vgd_reader_left(&r) != n_bytes) {
        return VGD_RANGE; /* QEMU: "Received bad msg size." */
    }
    vgd_read_bytes(&r, out_bytes, n_bytes);
    return VGD_OK;
}

static enum vgd_status read_config(struct vgd_guest_frontend *fe)
{
    uint8_t bytes[VGD_DEVICE_CONFIG_SIZE] = {0};
    uint32_t n_bytes = fe->config.profile == VGD_GUEST_QEMU_10_0 ? 16 : 20;
    enum vgd_status st = vgd_guest_frontend_config_read(fe, 0, n_bytes, bytes);
    if (st == VGD_OK) {
        struct vgd_reader r = vgd_reader_of(bytes, sizeof(bytes));
        struct vgd_device_config config;
        st = vgd_device_config_decode(&r, &config);
        fe->num_capsets = config.num_capsets;
        fe->blob_alignment_bytes = config.blob_alignment_bytes;
    }
    return st;
}

enum vgd_status vgd_guest_frontend_new_display(struct vgd_guest_frontend *fe)
{
    VGD_AUTO_FD theirs = vgd_guest_display_connect(fe->display);
    if (theirs < 0) {
        return VGD_HOST_FAILED;
    }
    return vgd_guest_frontend_tell(fe, VGD_VU_GPU_SET_SOCKET, NULL, 0, &theirs, 1);
}

static enum vgd_status start_ring(struct vgd_guest_frontend *fe, uint32_t idx)
{
    struct ring *ring = &fe->rings[idx];
    struct vgd_guest_queue *q = ring->queue;
    enum vgd_status st = say_state(fe, VGD_VU_SET_VRING_NUM, false, idx, vgd_guest_queue_size(q));
    if (st == VGD_OK) {
        st = say_state(fe, VGD_VU_SET_VRING_BASE, false, idx, ring->base);
    }
    if (st == VGD_OK) {
        uint8_t payload[VGD_VU_VRING_ADDR_SIZE];
        struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
        struct vgd_vu_vring_addr addr = {
            .idx = idx,
            .desc_user_addr = vgd_guest_ram_user_addr(fe->ram, vgd_guest_queue_desc_gpa(q)),
            .avail_user_addr = vgd_guest_ram_user_addr(fe->ram, vgd_guest_queue_avail_gpa(q)),
            .used_user_addr = vgd_guest_ram_user_addr(fe->ram, vgd_guest_queue_used_gpa(q)),
            .log_guest_addr = vgd_guest_queue_used_gpa(q),
        };
        vgd_vu_vring_addr_encode(&w, &addr);
        st = vgd_guest_frontend_tell(fe, VGD_VU_SET_VRING_ADDR, payload, sizeof(payload), NULL, 0);
    }
    if (st == VGD_OK) {
        st = say_vring_fd(fe, VGD_VU_SET_VRING_KICK, idx, ring->kick_fd);
    }
    if (st == VGD_OK) {
        st = say_vring_fd(fe, VGD_VU_SET_VRING_CALL, idx, ring->masked_fd);
    }
    return st;
}

enum vgd_status vgd_guest_frontend_start(struct vgd_guest_frontend *fe)
{
    enum vgd_status st = VGD_OK;
    vgd_guest_frontend_service(fe); /* what came while it was stopped was read then */
    if (!fe->was_reset) {
        st = vgd_guest_frontend_reset(fe); /* the guest's driver resets before it begins */
    }
    for (int i = 0; i < 2 && st == VGD_OK; i++) {
        st = read_config(fe);
    }
    if (st == VGD_OK && !is_generic(fe)) {
        st = vgd_guest_frontend_new_display(fe);
    }
    if (st == VGD_OK) {
        fe->acked_features = (fe->features & GPU_FEATURES) | RING_FEATURES;
        if (is_generic(fe)) {
            fe->acked_features = fe->features;
        } else if (fe->shm != NULL) {
            fe->acked_features |= fe->features & BLOB_FEATURES;
        }
        if (fe->config.ack_features != 0) {
            fe->acked_features &= ~(GPU_FEATURES | BLOB_FEATURES);
            fe->acked_features |=
                fe->features & fe->config.ack_features & (GPU_FEATURES | BLOB_FEATURES);
        }
        fe->acked_features |= BIT(VGD_VU_F_PROTOCOL_FEATURES);
        fe->acked_features &= ~fe->config.drop_features;
        for (uint32_t i = 0; i < VGD_GUEST_QUEUES_COUNT; i++) {
            vgd_guest_queue_set_features(fe->rings[i].queue,
                                         (fe->acked_features & BIT(VGD_GUEST_F_INDIRECT_DESC)) != 0,
                                         (fe->acked_features & BIT(VGD_GUEST_F_EVENT_IDX)) != 0);
        }
        st = say_u64(fe, VGD_VU_SET_FEATURES, fe->acked_features);
    }
    if (st == VGD_OK) {
        st = frontend_send_memory(fe);
        fe->half_started = st == VGD_LIMIT;
    }
    for (uint32_t i = 0; st == VGD_OK && i < VGD_GUEST_QUEUES_COUNT; i++) {
        st = start_ring(fe, i);
    }
    for (uint32_t i = 0; st == VGD_OK && i < VGD_GUEST_QUEUES_COUNT; i++) {
        st = say_state(fe, VGD_VU_SET_VRING_ENABLE, true, i, 1);
    }
    for (uint32_t i = 0; st == VGD_OK && i < VGD_GUEST_QUEUES_COUNT; i++) {
        st = say_vring_fd(fe, VGD_VU_SET_VRING_CALL, i, fe->rings[i].call_fd);
    }
    fe->running = st == VGD_OK;
    return st;
}

enum vgd_status vgd_guest_frontend_stop(struct vgd_guest_frontend *fe)
{
    if (!fe->running) {
        return VGD_OK;
    }
    vgd_guest_frontend_service(fe); /* the main loop had nothing else to do */
    frontend_commit(fe);
    fe->running = false;
    if (!is_generic(fe)) {
        vgd_guest_display_disconnect(fe->display);
    }
    enum vgd_status st = VGD_OK;
    for (uint32_t i = 0; st == VGD_OK && i < VGD_GUEST_QUEUES_COUNT; i++) {
        st = say_state(fe, VGD_VU_SET_VRING_ENABLE, true, i, 0);
    }
    for (uint32_t i = 0; st == VGD_OK && i < VGD_GUEST_QUEUES_COUNT; i++) {
        uint8_t payload[VGD_VU_VRING_STATE_SIZE];
        struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
        vgd_vu_vring_state_encode(&w, &(struct vgd_vu_vring_state){.idx = i});
        struct vgd_vu_message reply;
        st = vgd_guest_frontend_ask(fe, VGD_VU_GET_VRING_BASE, false, payload, sizeof(payload),
                                    NULL, 0, &reply);
        if (st != VGD_OK) {
            break;
        }
        struct vgd_reader r = vgd_reader_of(reply.payload, reply.hdr.size_bytes);
        struct vgd_vu_vring_state state = {0};
        st = vgd_vu_vring_state_decode(&r, &state);
        vgd_vu_message_finish(&reply);
        if (st != VGD_OK || state.idx != i) {
            return VGD_RANGE;
        }
        fe->rings[i].base = (uint16_t)state.num;
    }
    return st;
}

enum vgd_status vgd_guest_frontend_reset(struct vgd_guest_frontend *fe)
{
    enum vgd_status st = vgd_guest_frontend_stop(fe);
    uint32_t times = fe->was_reset ? 3 : 1;
    fe->was_reset = true;
    if ((fe->acked_protocol & BIT(VGD_VU_F_RESET_DEVICE)) != 0) {
        for (uint32_t i = 0; st == VGD_OK && i < times; i++) {
            st = vgd_guest_frontend_tell(fe, VGD_VU_RESET_DEVICE, NULL, 0, NULL, 0);
        }
    }
    for (uint32_t i = 0; i < VGD_GUEST_QUEUES_COUNT; i++) {
        vgd_guest_queue_reset(fe->rings[i].queue);
        fe->rings[i].base = 0;
    }
    frontend_shm_reset(fe);
    return st;
}

void vgd_guest_frontend_kick(struct vgd_guest_frontend *fe, uint32_t idx)
{
    vgd_eventfd_signal(fe->rings[idx].kick_fd);
}

int vgd_guest_frontend_call_fd(const struct vgd_guest_frontend *fe, uint32_t idx)
{
    return fe->rings[idx].call_fd;
}

uint64_t vgd_guest_frontend_calls(struct vgd_guest_frontend *fe, uint32_t idx)
{
    uint64_t n;
    if (read(fe->rings[idx].call_fd, &n, sizeof(n)) == sizeof(n)) {
        fe->rings[idx].calls += n;
    }
    return fe->rings[idx].calls;
}

int vgd_guest_frontend_fd(const struct vgd_guest_frontend *fe)
{
    return vgd_channel_fd(fe->channel);
}

bool vgd_guest_frontend_is_closed(struct vgd_guest_frontend *fe)
{
    struct pollfd p = {.fd = vgd_channel_fd(fe->channel), .events = POLLIN | POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0;
}

void vgd_guest_frontend_set_ack(struct vgd_guest_frontend *fe, uint64_t ack_features)
{
    fe->config.ack_features = ack_features;
}

uint64_t vgd_guest_frontend_features(const struct vgd_guest_frontend *fe)
{
    return fe->features;
}

uint64_t vgd_guest_frontend_acked_features(const struct vgd_guest_frontend *fe)
{
    return fe->acked_features;
}

uint64_t vgd_guest_frontend_protocol_features(const struct vgd_guest_frontend *fe)
{
    return fe->protocol;
}

uint64_t vgd_guest_frontend_acked_protocol(const struct vgd_guest_frontend *fe)
{
    return fe->acked_protocol;
}

bool vgd_guest_frontend_running(const struct vgd_guest_frontend *fe)
{
    return fe->running;
}

uint16_t vgd_guest_frontend_base(const struct vgd_guest_frontend *fe, uint32_t idx)
{
    return fe->rings[idx].base;
}

uint32_t vgd_guest_frontend_num_capsets(const struct vgd_guest_frontend *fe)
{
    return fe->num_capsets;
}

uint32_t vgd_guest_frontend_blob_alignment(const struct vgd_guest_frontend *fe)
{
    return fe->blob_alignment_bytes;
}

struct vgd_guest_shm *vgd_guest_frontend_shm(const struct vgd_guest_frontend *fe)
{
    return fe->shm;
}

const char *vgd_guest_frontend_last_request(const struct vgd_guest_frontend *fe)
{
    return fe->last_request == 0 ? "" : vgd_vu_request_name(fe->last_request);
}

struct vgd_guest_frontend_counters vgd_guest_frontend_counters(const struct vgd_guest_frontend *fe)
{
    return fe->counters;
}
