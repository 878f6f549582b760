/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/stat.h>

#include "fd.h"
#include "log.h"
#include "session_priv.h"

#define CONFIG_BYTES_MAX 256u
#define VRING_FD_IDX_MASK 0xffu
#define VRING_FD_NONE 0x100u

/* A VMM that could not start the device says nothing; this long after SET_FEATURES we believe it.
 */
#define START_STALL_MS 300u
/* What its memory table holds, without CONFIGURE_MEM_SLOTS. */
#define VMM_REGIONS_MAX VGD_VU_MAX_MEM_REGIONS

static const uint64_t protocol_features =
    (1ull << VGD_VU_F_MQ) | (1ull << VGD_VU_F_REPLY_ACK) | (1ull << VGD_VU_F_BACKEND_REQ) |
    (1ull << VGD_VU_F_CONFIG) | (1ull << VGD_VU_F_BACKEND_SEND_FD) |
    (1ull << VGD_VU_F_RESET_DEVICE);

enum outcome {
    DONE,    /* acknowledge if that is wanted */
    REPLIED, /* the reply has been sent, or follows when the wait is over */
    REFUSED, /* the connection has been ended */
};

static enum outcome bad(struct vgd_session *s, const struct vgd_vu_message *msg, const char *why)
{
    vgd_session_refuse(s, &msg->hdr, why);
    return REFUSED;
}

static struct vgd_reader payload_of(const struct vgd_vu_message *msg)
{
    return vgd_reader_of(msg->payload, msg->hdr.size_bytes);
}

/* Never both of the last: with memory slots, QEMU 11.1 aborts at the 512th map and crashes when the
 * guest reboots while something is mapped. */
static uint64_t offered_protocol_features(const struct vgd_session *s)
{
    bool window = s->config.window_bytes != 0;
    return protocol_features | 1ull << (window ? VGD_VU_F_SHMEM : VGD_VU_F_CONFIGURE_MEM_SLOTS);
}

static enum outcome get_features(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    if (!s->has_report) {
        vgd_worker_process_start(s->config.worker);
        if (!s->has_report) {
            vgd_session_wait_for(s, WAIT_READY, &msg->hdr, 0);
            return REPLIED;
        }
    }
    vgd_session_answer_u64(s, &msg->hdr, s->features_offered);
    return REPLIED;
}

/* A guest's driver that takes OpenGL and not what Vulkan needs: say so, or the user looks for the
 * reason in the guest. Firmware takes neither. */
static void tell_if_no_vulkan(struct vgd_session *s)
{
    const uint64_t opengl = 1ull << VGD_F_VIRGL;
    const uint64_t vulkan = 1ull << VGD_F_RESOURCE_BLOB | 1ull << VGD_F_CONTEXT_INIT;
    if (s->has_vulkan && !s->told_no_vulkan && (s->features_acked & opengl) != 0 &&
        (s->features_acked & vulkan) != vulkan) {
        s->told_no_vulkan = true;
        vgd_log(VGD_LOG_WARNING, "session",
                "the guest's driver takes no Vulkan: either the VMM's device does not pass on what "
                "it needs (QEMU's vhost-user-gpu before 11.2: use the generic device of 11.1, see "
                "docs/guide-frontends.md), or the guest's kernel is older than 5.16");
    }
}

static enum outcome set_features(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_reader r = payload_of(msg);
    uint64_t features = vgd_read_le64(&r);
    if (vgd_reader_finish(&r) != VGD_OK) {
        return bad(s, msg, "payload is not a u64");
    }
    /* QEMU acks ring features whether they were offered or not: only the device's bits are held to
     * what we offer. */
    s->features_acked = features & (s->features_offered | ~VGD_DEVICE_FEATURES_MASK);
    s->features_set = true;
    tell_if_no_vulkan(s);
    struct vgd_link_u64 m = {.value = s->features_acked};
    (void)vgd_session_to_worker(s, VGD_LINK_FEATURES, &m, sizeof(m), NULL, 0);
    if (vgd_session_excess_maps(s) > 0) {
        vgd_timer_start(s->start_stall, START_STALL_MS * VGD_NS_PER_MS);
    }
    return DONE;
}

static enum outcome set_protocol_features(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_reader r = payload_of(msg);
    uint64_t features = vgd_read_le64(&r);
    if (vgd_reader_finish(&r) != VGD_OK) {
        return bad(s, msg, "payload is not a u64");
    }
    if ((features & ~offered_protocol_features(s)) != 0) {
        return bad(s, msg, "protocol features that were not offered");
    }
    s->protocol_features_acked = features;
    const uint64_t needed =
        1ull << VGD_VU_F_SHMEM | 1ull << VGD_VU_F_BACKEND_REQ | 1ull << VGD_VU_F_REPLY_ACK;
    vgd_shmem_set_usable(s->shmem, (features & needed) == needed);
    return DONE;
}

static bool same_region(const struct vgd_vu_mem_region *a, const struct vgd_vu_mem_region *b)
{
    return a->gpa == b->gpa && a->user_addr == b->user_addr && a->size_bytes == b->size_bytes;
}

void vgd_session_regions_clear(struct vgd_session *s)
{
    for (uint32_t i = 0; i < s->n_regions; i++) {
        vgd_fd_closep(&s->regions[i].fd);
    }
    s->n_regions = 0;
}

static bool same_file(int a, int b)
{
    struct stat sa, sb;
    return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

/* Is @m (with the fds of @msg at @from) the memory that we have? */
static bool same_table(const struct vgd_session *s, const struct vgd_link_mem_table *m,
                       const uint32_t *from, const struct vgd_vu_message *msg)
{
    bool same = m->n_regions == s->n_regions && m->n_regions > 0;
    for (uint32_t i = 0; same && i < m->n_regions; i++) {
        const struct vgd_session_region *have = &s->regions[i];
        same = same_region(&have->region, &m->regions[i]) &&
               have->region.mmap_offset_bytes == m->regions[i].mmap_offset_bytes &&
               same_file(have->fd, msg->fds[from[i]]);
    }
    return same;
}

static enum outcome set_mem_table(struct vgd_session *s, struct vgd_vu_message *msg)
{
    struct vgd_reader r = payload_of(msg);
    struct vgd_vu_mem_table table;
    if (vgd_vu_mem_table_decode(&r, &table) != VGD_OK ||
        vgd_vu_mem_table_tail_check(&r, &table) != VGD_OK) {
        return bad(s, msg, "payload does not hold its regions");
    }
    if (table.nregions > VGD_VU_FDS_MAX || table.nregions != msg->n_fds) {
        return bad(s, msg, "not one descriptor for each of at most 8 regions");
    }
    /* QEMU announces what it has mapped for us as if it were guest memory. Those regions are none:
     * not for the worker to map, and not to be counted as the guest's. */
    struct vgd_link_mem_table m = {.n_regions = 0};
    uint32_t from[VGD_VU_FDS_MAX];
    for (uint32_t i = 0; i < table.nregions; i++) {
        struct vgd_vu_mem_region region;
        const char *why;
        if (vgd_vu_mem_region_decode(&r, &region) != VGD_OK) {
            return bad(s, msg, "payload does not hold its regions");
        }
        if (vgd_shmem_is_ours(s->shmem, region.size_bytes, region.mmap_offset_bytes, msg->fds[i])) {
            continue;
        }
        if (vgd_mem_region_check(&region, msg->fds[i], &why) != VGD_OK) {
            return bad(s, msg, why);
        }
        from[m.n_regions] = i;
        m.regions[m.n_regions++] = region;
    }
    if (same_table(s, &m, from, msg)) {
        return DONE; /* each map and unmap brings it again */
    }
    vgd_session_regions_clear(s);
    for (uint32_t i = 0; i < m.n_regions; i++) {
        s->regions[i] = (struct vgd_session_region){.region = m.regions[i],
                                                    .fd = vgd_fd_take(&msg->fds[from[i]])};
    }
    s->n_regions = m.n_regions;

    int fds[VGD_LINK_FDS_MAX];
    for (uint32_t i = 0; i < s->n_regions; i++) {
        fds[i] = s->regions[i].fd;
    }
    if (!vgd_worker_process_ready(s->config.worker)) {
        return DONE;
    }
    m.request_seq = vgd_session_new_seq(s);
    (void)vgd_session_to_worker(s, VGD_LINK_MEM_TABLE, &m, sizeof(m), fds, s->n_regions);
    vgd_session_wait_for(s, WAIT_CONFIRM, &msg->hdr, m.request_seq);
    return REPLIED;
}

static enum outcome add_mem_reg(struct vgd_session *s, struct vgd_vu_message *msg)
{
    struct vgd_reader r = payload_of(msg);
    struct vgd_vu_mem_slot slot;
    const char *why = "not one region with one descriptor";
    if (vgd_vu_mem_slot_decode(&r, &slot) != VGD_OK || vgd_reader_finish(&r) != VGD_OK ||
        msg->n_fds != 1 || vgd_mem_region_check(&slot.region, msg->fds[0], &why) != VGD_OK) {
        return bad(s, msg, why);
    }
    if (s->n_regions == VGD_MEM_REGIONS_MAX) {
        return bad(s, msg, "more regions than GET_MAX_MEM_SLOTS said");
    }
    for (uint32_t i = 0; i < s->n_regions; i++) {
        if (same_region(&s->regions[i].region, &slot.region)) {
            return bad(s, msg, "the region is there already");
        }
    }
    struct vgd_session_region *region = &s->regions[s->n_regions++];
    *region = (struct vgd_session_region){.region = slot.region, .fd = vgd_fd_take(&msg->fds[0])};
    (void)vgd_session_to_worker(s, VGD_LINK_MEM_ADD, &region->region, sizeof(region->region),
                                &region->fd, 1);
    return DONE;
}

static enum outcome rem_mem_reg(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_reader r = payload_of(msg);
    struct vgd_vu_mem_slot slot;
    if (vgd_vu_mem_slot_decode(&r, &slot) != VGD_OK || vgd_reader_finish(&r) != VGD_OK) {
        return bad(s, msg, "not one region");
    }
    uint32_t at = 0;
    while (at < s->n_regions && !same_region(&s->regions[at].region, &slot.region)) {
        at++;
    }
    if (at == s->n_regions) {
        return bad(s, msg, "no such region");
    }
    struct vgd_link_mem_remove m = {.request_seq = vgd_session_new_seq(s),
                                    .region = s->regions[at].region};
    vgd_fd_closep(&s->regions[at].fd);
    s->n_regions--;
    memmove(&s->regions[at], &s->regions[at + 1], (s->n_regions - at) * sizeof(s->regions[0]));
    if (!vgd_worker_process_ready(s->config.worker)) {
        return DONE;
    }
    (void)vgd_session_to_worker(s, VGD_LINK_MEM_REMOVE, &m, sizeof(m), NULL, 0);
    vgd_session_wait_for(s, WAIT_CONFIRM, &msg->hdr, m.request_seq);
    return REPLIED;
}

/* The ring that a vring message names, or NULL and the connection ended. */
static struct vgd_vring *vring_state(struct vgd_session *s, const struct vgd_vu_message *msg,
                                     struct vgd_vu_vring_state *out)
{
    struct vgd_reader r = payload_of(msg);
    if (vgd_vu_vring_state_decode(&r, out) != VGD_OK || vgd_reader_finish(&r) != VGD_OK ||
        out->idx >= VGD_QUEUES_COUNT) {
        vgd_session_refuse(s, &msg->hdr, "no such queue");
        return NULL;
    }
    return &s->vrings[out->idx];
}

static enum outcome set_vring_num(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_vu_vring_state state;
    struct vgd_vring *v = vring_state(s, msg, &state);
    if (v == NULL) {
        return REFUSED;
    }
    if (state.num == 0 || state.num > VGD_QUEUE_SIZE_MAX || (state.num & (state.num - 1)) != 0) {
        return bad(s, msg, "queue size is not a power of two of at most 1024");
    }
    v->size = state.num;
    return DONE;
}

static enum outcome set_vring_addr(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_reader r = payload_of(msg);
    struct vgd_vu_vring_addr addr;
    if (vgd_vu_vring_addr_decode(&r, &addr) != VGD_OK || vgd_reader_finish(&r) != VGD_OK ||
        addr.idx >= VGD_QUEUES_COUNT) {
        return bad(s, msg, "no such queue");
    }
    struct vgd_vring *v = &s->vrings[addr.idx];
    v->addr = addr;
    v->has_addr = true;
    return DONE;
}

static enum outcome set_vring_base(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_vu_vring_state state;
    struct vgd_vring *v = vring_state(s, msg, &state);
    if (v == NULL) {
        return REFUSED;
    }
    if (v->running) {
        return bad(s, msg, "the queue is running");
    }
    uint16_t base = (uint16_t)state.num;
    /* A front-end that never sends RESET_DEVICE (QEMU's generic device) tells of a reset only so: a
     * pause gives back the base that we answered, a reset starts the control queue from 0. */
    bool was_reset = state.idx == 0 && base == 0 && v->returned_base != 0;
    if (base != v->returned_base) {
        v->recover = false;
    }
    bool waits = was_reset && vgd_session_reset_device(s, &msg->hdr);
    v->base = base;
    return waits ? REPLIED : DONE;
}

static enum outcome get_vring_base(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_vu_vring_state state;
    struct vgd_vring *v = vring_state(s, msg, &state);
    if (v == NULL) {
        return REFUSED;
    }
    vgd_shmem_hold(s->shmem);
    v->kicked = false;
    vgd_fd_closep(&v->kick_fd);
    if (!vgd_session_stop(s, state.idx, &msg->hdr)) {
        vgd_session_answer_vring_base(s, &msg->hdr, state.idx);
    }
    return REPLIED;
}

static enum outcome set_vring_enable(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_vu_vring_state state;
    struct vgd_vring *v = vring_state(s, msg, &state);
    if (v == NULL) {
        return REFUSED;
    }
    if (state.num > 1) {
        return bad(s, msg, "neither 0 nor 1");
    }
    v->enabled = state.num == 1;
    if (v->enabled) {
        vgd_session_start_if_due(s, state.idx);
        vgd_session_release_if_started(s);
        return DONE;
    }
    vgd_shmem_hold(s->shmem);
    return vgd_session_stop(s, state.idx, &msg->hdr) ? REPLIED : DONE;
}

/* SET_VRING_KICK, CALL and ERR: the ring, with *out_fd the descriptor (the caller's) or -1. */
static struct vgd_vring *vring_fd(struct vgd_session *s, struct vgd_vu_message *msg, int *out_fd,
                                  uint32_t *out_idx)
{
    struct vgd_reader r = payload_of(msg);
    uint64_t value = vgd_read_le64(&r);
    bool has_fd = (value & VRING_FD_NONE) == 0;
    if (vgd_reader_finish(&r) != VGD_OK || (value & VRING_FD_IDX_MASK) >= VGD_QUEUES_COUNT ||
        value > (VRING_FD_IDX_MASK | VRING_FD_NONE) || msg->n_fds != (has_fd ? 1u : 0u)) {
        vgd_session_refuse(s, &msg->hdr, "no such queue, or not the one descriptor it speaks of");
        return NULL;
    }
    *out_idx = (uint32_t)(value & VRING_FD_IDX_MASK);
    *out_fd = has_fd ? vgd_fd_take(&msg->fds[0]) : -1;
    return &s->vrings[*out_idx];
}

static enum outcome set_vring_kick(struct vgd_session *s, struct vgd_vu_message *msg)
{
    uint32_t idx;
    int fd;
    struct vgd_vring *v = vring_fd(s, msg, &fd, &idx);
    if (v == NULL) {
        return REFUSED;
    }
    if (v->running) {
        vgd_fd_closep(&fd);
        return bad(s, msg, "the queue is running");
    }
    if (fd < 0) {
        return bad(s, msg, "a queue without kicks would have to be polled");
    }
    vgd_fd_closep(&v->kick_fd);
    v->kick_fd = fd;
    v->kicked = true;
    vgd_session_start_if_due(s, idx);
    vgd_session_release_if_started(s);
    return DONE;
}

static enum outcome set_vring_call(struct vgd_session *s, struct vgd_vu_message *msg)
{
    uint32_t idx;
    int fd;
    struct vgd_vring *v = vring_fd(s, msg, &fd, &idx);
    if (v == NULL) {
        return REFUSED;
    }
    vgd_fd_closep(&v->call_fd);
    v->call_fd = fd;
    if (v->running) {
        struct vgd_link_u64 m = {.value = idx};
        (void)vgd_session_to_worker(s, VGD_LINK_QUEUE_CALL, &m, sizeof(m), &v->call_fd,
                                    fd >= 0 ? 1 : 0);
    }
    return DONE;
}

static enum outcome set_vring_err(struct vgd_session *s, struct vgd_vu_message *msg)
{
    uint32_t idx;
    int fd;
    if (vring_fd(s, msg, &fd, &idx) == NULL) {
        return REFUSED;
    }
    vgd_fd_closep(&fd); /* nobody reads it: QEMU does not, and our errors go to the log */
    return DONE;
}

static enum outcome get_config(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_reader r = payload_of(msg);
    struct vgd_vu_config ask;
    if (vgd_vu_config_decode(&r, &ask) != VGD_OK || ask.size_bytes > CONFIG_BYTES_MAX ||
        ask.offset_bytes > CONFIG_BYTES_MAX - ask.size_bytes) {
        return bad(s, msg, "more than 256 bytes of configuration");
    }
    uint8_t space[CONFIG_BYTES_MAX] = {0}; /* any length, zero-padded: QEMU's header may be newer */
    struct vgd_device_config config = {.num_scanouts = 1, .num_capsets = s->num_capsets};
    if ((s->features_offered & 1ull << VGD_F_BLOB_ALIGNMENT) != 0) {
        config.blob_alignment_bytes = VGD_SHMEM_ALIGNMENT_BYTES;
    }
    struct vgd_writer w = vgd_writer_of(space, sizeof(space));
    vgd_device_config_encode(&w, &config);

    uint8_t bytes[VGD_VU_CONFIG_SIZE + CONFIG_BYTES_MAX];
    w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_vu_config_encode(&w, &ask);
    vgd_write_bytes(&w, space + ask.offset_bytes, ask.size_bytes);
    vgd_session_answer(s, &msg->hdr, bytes, (uint32_t)vgd_writer_used(&w));
    return REPLIED;
}

static enum outcome set_backend_req_fd(struct vgd_session *s, struct vgd_vu_message *msg)
{
    if (msg->n_fds != 1) {
        return bad(s, msg, "not one descriptor");
    }
    vgd_shmem_set_channel(s->shmem, &msg->fds[0]);
    return DONE;
}

static enum outcome get_shmem_config(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    if (s->config.window_bytes == 0) {
        return bad(s, msg, "not a message of what was negotiated");
    }
    struct vgd_vu_shmem_config config = {.nregions = 1};
    config.sizes_bytes[VGD_SHMEM_ID] = s->config.window_bytes;
    uint8_t bytes[VGD_VU_SHMEM_CONFIG_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_vu_shmem_config_encode(&w, &config);
    vgd_session_answer(s, &msg->hdr, bytes, sizeof(bytes));
    return REPLIED;
}

static enum outcome gpu_set_socket(struct vgd_session *s, struct vgd_vu_message *msg)
{
    if (msg->n_fds != 1) {
        return bad(s, msg, "not one descriptor");
    }
    vgd_display_writer_connect(s->display, &msg->fds[0]);
    return DONE;
}

static enum outcome handle(struct vgd_session *s, struct vgd_vu_message *msg)
{
    switch (msg->hdr.request) {
    case VGD_VU_GET_FEATURES:
        return get_features(s, msg);
    case VGD_VU_SET_FEATURES:
        return set_features(s, msg);
    case VGD_VU_GET_PROTOCOL_FEATURES:
        vgd_session_answer_u64(s, &msg->hdr, offered_protocol_features(s));
        return REPLIED;
    case VGD_VU_SET_PROTOCOL_FEATURES:
        return set_protocol_features(s, msg);
    case VGD_VU_SET_OWNER:
    case VGD_VU_RESET_OWNER: /* "no longer used": nothing depends on it */
    case VGD_VU_SET_CONFIG:  /* events_clear, which QEMU keeps itself */
        return DONE;
    case VGD_VU_GET_QUEUE_NUM:
        vgd_session_answer_u64(s, &msg->hdr, VGD_QUEUES_COUNT);
        return REPLIED;
    case VGD_VU_GET_MAX_MEM_SLOTS:
        vgd_session_answer_u64(s, &msg->hdr, VGD_MEM_REGIONS_MAX);
        return REPLIED;
    case VGD_VU_SET_MEM_TABLE:
        return set_mem_table(s, msg);
    case VGD_VU_ADD_MEM_REG:
        return add_mem_reg(s, msg);
    case VGD_VU_REM_MEM_REG:
        return rem_mem_reg(s, msg);
    case VGD_VU_SET_VRING_NUM:
        return set_vring_num(s, msg);
    case VGD_VU_SET_VRING_ADDR:
        return set_vring_addr(s, msg);
    case VGD_VU_SET_VRING_BASE:
        return set_vring_base(s, msg);
    case VGD_VU_GET_VRING_BASE:
        return get_vring_base(s, msg);
    case VGD_VU_SET_VRING_KICK:
        return set_vring_kick(s, msg);
    case VGD_VU_SET_VRING_CALL:
        return set_vring_call(s, msg);
    case VGD_VU_SET_VRING_ERR:
        return set_vring_err(s, msg);
    case VGD_VU_SET_VRING_ENABLE:
        return set_vring_enable(s, msg);
    case VGD_VU_GET_CONFIG:
        return get_config(s, msg);
    case VGD_VU_SET_BACKEND_REQ_FD:
        return set_backend_req_fd(s, msg);
    case VGD_VU_GPU_SET_SOCKET:
        return gpu_set_socket(s, msg);
    case VGD_VU_GET_SHMEM_CONFIG:
        return get_shmem_config(s, msg);
    case VGD_VU_RESET_DEVICE:
        vgd_shmem_hold(s->shmem);
        for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
            s->vrings[i].enabled = false;
            s->vrings[i].kicked = false;
        }
        return vgd_session_reset_device(s, &msg->hdr) ? REPLIED : DONE;
    default:
        return bad(s, msg, "not a message of what was negotiated");
    }
}

void vgd_session_dispatch(struct vgd_session *s, struct vgd_vu_message *msg)
{
    switch (msg->hdr.request) {
    case VGD_VU_SET_MEM_TABLE:
    case VGD_VU_SET_VRING_NUM:
    case VGD_VU_SET_VRING_ADDR:
    case VGD_VU_SET_VRING_BASE:
        vgd_timer_stop(s->start_stall); /* it is starting */
        break;
    default:
        break;
    }
    if ((msg->hdr.flags & VGD_VU_FLAG_REPLY) != 0) {
        (void)bad(s, msg, "a reply where a request belongs");
    } else if (handle(s, msg) == DONE) {
        vgd_session_acknowledge(s, &msg->hdr);
    }
}
