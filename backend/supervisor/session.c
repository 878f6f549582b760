/* SPDX-License-Identifier: MIT */
#include "session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "display_writer.h"
#include "fd.h"
#include "guest_memory.h"
#include "log.h"

/* Virtio feature bits that belong to the rings and the transport (virtio-v1.3 6). */
#define F_INDIRECT_DESC 28
#define F_EVENT_IDX 29
#define F_VERSION_1 32
#define DEVICE_FEATURES_MASK 0xffffffull /* bits 0..23 are the device type's */

#define CONFIG_BYTES_MAX 256u
/* Messages handled before other work of the loop gets its turn. */
#define MESSAGES_PER_TURN 32u
#define NS_PER_MS 1000000ull
#define VRING_FD_IDX_MASK 0xffu
#define VRING_FD_NONE 0x100u

#define PROTOCOL_FEATURES                                                                          \
    ((1ull << VGD_VU_F_MQ) | (1ull << VGD_VU_F_REPLY_ACK) | (1ull << VGD_VU_F_BACKEND_REQ) |       \
     (1ull << VGD_VU_F_CONFIG) | (1ull << VGD_VU_F_BACKEND_SEND_FD) |                              \
     (1ull << VGD_VU_F_RESET_DEVICE) | (1ull << VGD_VU_F_CONFIGURE_MEM_SLOTS))

struct vring {
    uint32_t size;
    struct vgd_vu_vring_addr addr;
    bool has_addr;
    uint16_t base;
    uint16_t returned_base; /* what the last GET_VRING_BASE answered */
    int kick_fd, call_fd;
    bool kicked; /* has a kick descriptor: started, in the specification's words */
    bool enabled;
    bool running; /* the worker was told to */
    bool recover; /* a dead worker left its record in the vault */
};

struct region {
    struct vgd_vu_mem_region region;
    int fd;
};

/* What a waiting session waits for. */
enum wait {
    WAIT_NONE,
    WAIT_READY,   /* the first worker's report, for GET_FEATURES */
    WAIT_STOP,    /* QUEUE_STOP of wait_queue */
    WAIT_CONFIRM, /* memory or reset */
};

struct vgd_session {
    struct vgd_session_config config;
    struct vgd_channel *channel;
    struct vgd_watch *watch;
    struct vgd_channel *backend_channel; /* requests to the front-end; none are made yet */
    struct vgd_display_writer *display;
    uint64_t features_offered; /* of the device, from the first READY on */
    uint32_t num_capsets;
    bool has_report;
    uint64_t features_acked, protocol_features_acked;
    bool features_set;
    struct region regions[VGD_MEM_REGIONS_MAX];
    uint32_t n_regions;
    struct vring vrings[VGD_QUEUES_COUNT];
    bool forget_vault; /* the guest was reset and no worker has cleared the vault yet */

    enum wait wait;
    uint32_t wait_seq, wait_queue;
    struct vgd_vu_hdr wait_hdr; /* of the message to be answered */
    struct vgd_timer *deadline;
    uint32_t next_seq;
    uint64_t messages_count;
    bool ended;
};

static void channel_ready(void *user, uint32_t events);

static void end(struct vgd_session *s, enum vgd_session_end how)
{
    if (!s->ended) {
        s->ended = true;
        vgd_watch_remove(&s->watch);
        vgd_timer_stop(s->deadline);
        s->config.on_end(s->config.user, how);
    }
}

static void refuse(struct vgd_session *s, const struct vgd_vu_hdr *hdr, const char *why)
{
    if (!s->ended) {
        vgd_log(VGD_LOG_WARNING, "session", "closing the front-end's connection: %s (%u): %s",
                vgd_vu_request_name(hdr->request), hdr->request, why);
    }
    end(s, VGD_SESSION_REFUSED);
}

/* ---- answers ----------------------------------------------------------------------------------
 */

static void watch_channel(struct vgd_session *s)
{
    if (s->watch != NULL) {
        uint32_t events = s->wait == WAIT_NONE ? EPOLLIN : 0;
        vgd_watch_set(s->watch, events | (vgd_channel_wants_write(s->channel) ? EPOLLOUT : 0));
    }
}

static void answer(struct vgd_session *s, const struct vgd_vu_hdr *hdr, const void *payload,
                   uint32_t n_bytes)
{
    if (s->ended) {
        return;
    }
    enum vgd_status st =
        vgd_channel_send(s->channel, hdr->request, VGD_VU_FLAG_REPLY, payload, n_bytes, NULL, 0);
    if (st == VGD_CLOSED) {
        end(s, VGD_SESSION_CLOSED);
    } else if (st != VGD_OK) {
        refuse(s, hdr, "it does not read its replies");
    }
    watch_channel(s);
}

static void answer_u64(struct vgd_session *s, const struct vgd_vu_hdr *hdr, uint64_t value)
{
    uint8_t bytes[VGD_VU_U64_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_write_le64(&w, value);
    answer(s, hdr, bytes, sizeof(bytes));
}

static void answer_vring_base(struct vgd_session *s, const struct vgd_vu_hdr *hdr, uint32_t idx)
{
    struct vring *v = &s->vrings[idx];
    v->returned_base = v->base;
    struct vgd_vu_vring_state state = {.idx = idx, .num = v->base};
    uint8_t bytes[VGD_VU_VRING_STATE_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_vu_vring_state_encode(&w, &state);
    answer(s, hdr, bytes, sizeof(bytes));
}

/* The reply of a message that has none of its own. */
static void acknowledge(struct vgd_session *s, const struct vgd_vu_hdr *hdr)
{
    bool wanted = (hdr->flags & VGD_VU_FLAG_NEED_REPLY) != 0 &&
                  (s->protocol_features_acked & (1ull << VGD_VU_F_REPLY_ACK)) != 0;
    if (wanted) {
        answer_u64(s, hdr, 0);
    }
}

/* ---- the worker -------------------------------------------------------------------------------
 */

static bool to_worker(struct vgd_session *s, enum vgd_link_type type, const void *payload,
                      size_t n_bytes, const int *fds, uint32_t n_fds)
{
    return vgd_worker_process_send(s->config.worker, type, payload, n_bytes, fds, n_fds);
}

static void writer_to_worker(void *user, enum vgd_link_type type, const void *payload,
                             size_t n_bytes)
{
    (void)to_worker(user, type, payload, n_bytes, NULL, 0);
}

static uint32_t new_seq(struct vgd_session *s)
{
    s->next_seq++;
    return s->next_seq == 0 ? ++s->next_seq : s->next_seq; /* 0 is nobody's */
}

/*
 * Read no further until what was sent to a ready worker is confirmed. Where it could not be sent
 * the worker is dying and we have not been told yet: its end ends the wait, as that of one that
 * dies before it confirms.
 */
static void wait_for(struct vgd_session *s, enum wait what, const struct vgd_vu_hdr *hdr,
                     uint32_t seq)
{
    s->wait = what;
    s->wait_hdr = *hdr;
    s->wait_seq = seq;
    if (what != WAIT_READY) {
        vgd_timer_start(s->deadline, VGD_STOP_DEADLINE_MS * NS_PER_MS);
    }
    watch_channel(s);
}

/* What was waited for has come, or will never come: answer and read on. */
static void wait_over(struct vgd_session *s)
{
    enum wait what = s->wait;
    struct vgd_vu_hdr hdr = s->wait_hdr;
    s->wait = WAIT_NONE;
    vgd_timer_stop(s->deadline);
    if (what == WAIT_READY) {
        answer_u64(s, &hdr, s->features_offered);
    } else if (hdr.request == VGD_VU_GET_VRING_BASE) {
        answer_vring_base(s, &hdr, s->wait_queue);
    } else {
        acknowledge(s, &hdr);
    }
    watch_channel(s);
}

static void deadline_passed(void *user)
{
    struct vgd_session *s = user;
    /* Once it is dead it uses nothing; vgd_session_worker_gone gives the answer. */
    vgd_worker_process_kill(s->config.worker, "it does not confirm within the stop deadline");
}

/* Ring may run: tell the worker, if there is one and all is known. */
static void start_if_due(struct vgd_session *s, uint32_t idx)
{
    struct vring *v = &s->vrings[idx];
    /* Without VHOST_USER_F_PROTOCOL_FEATURES rings are enabled from the start. */
    bool enabled = v->enabled || (s->features_acked & (1ull << VGD_VU_F_PROTOCOL_FEATURES)) == 0;
    if (v->running || !v->kicked || !enabled || !v->has_addr || v->size == 0 ||
        !vgd_worker_process_ready(s->config.worker)) {
        return;
    }
    if (s->n_regions == 0) {
        vgd_log(VGD_LOG_WARNING, "session",
                "queue %u was started and no guest memory is shared: give QEMU "
                "-object memory-backend-memfd,id=m,size=...,share=on -machine memory-backend=m",
                idx);
        return;
    }
    struct vgd_link_queue_start m = {
        .queue_idx = idx,
        .size = v->size,
        .desc_user_addr = v->addr.desc_user_addr,
        .avail_user_addr = v->addr.avail_user_addr,
        .used_user_addr = v->addr.used_user_addr,
        .base = v->base,
        .event_idx = (s->features_acked & (1ull << F_EVENT_IDX)) != 0,
        .recover = v->recover,
        .has_call = v->call_fd >= 0,
    };
    int fds[2] = {v->kick_fd, v->call_fd};
    v->running = to_worker(s, VGD_LINK_QUEUE_START, &m, sizeof(m), fds, v->call_fd >= 0 ? 2 : 1);
    v->recover = false; /* if this worker dies too, worker_gone sets it again */
}

/* Stop a ring in the worker; true: wait for its confirmation. */
static bool stop(struct vgd_session *s, uint32_t idx, const struct vgd_vu_hdr *hdr)
{
    struct vring *v = &s->vrings[idx];
    if (!v->running) {
        return false;
    }
    struct vgd_link_request m = {.request_seq = new_seq(s), .queue_idx = idx};
    (void)to_worker(s, VGD_LINK_QUEUE_STOP, &m, sizeof(m), NULL,
                    0); /* or it is dying: see wait_for */
    s->wait_queue = idx;
    wait_for(s, WAIT_STOP, hdr, m.request_seq);
    return true;
}

/* The guest starts from nothing. @hdr: the message that said so, answered when it is done. */
static bool reset_device(struct vgd_session *s, const struct vgd_vu_hdr *hdr)
{
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct vring *v = &s->vrings[i];
        v->recover = false;
        v->running = false; /* RESET stops them in the worker */
        v->base = 0;
        v->returned_base = 0;
    }
    s->forget_vault = true;
    bool was_ready = vgd_worker_process_ready(s->config.worker);
    vgd_worker_process_forget(s->config.worker);
    struct vgd_link_request m = {.request_seq = new_seq(s)};
    if (!was_ready) {
        return false;
    }
    (void)to_worker(s, VGD_LINK_RESET, &m, sizeof(m), NULL, 0);
    wait_for(s, WAIT_CONFIRM, hdr, m.request_seq);
    return true;
}

/* ---- messages ---------------------------------------------------------------------------------
 */

/* A handler's outcome. */
enum outcome {
    DONE,    /* acknowledge if that is wanted */
    REPLIED, /* the reply has been sent, or follows when the wait is over */
    REFUSED, /* the connection has been ended */
};

static enum outcome bad(struct vgd_session *s, const struct vgd_vu_message *msg, const char *why)
{
    refuse(s, &msg->hdr, why);
    return REFUSED;
}

static struct vgd_reader payload_of(const struct vgd_vu_message *msg)
{
    return vgd_reader_of(msg->payload, msg->hdr.size_bytes);
}

static enum outcome get_features(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    if (!s->has_report) {
        vgd_worker_process_start(s->config.worker);
        if (!s->has_report) {
            wait_for(s, WAIT_READY, &msg->hdr, 0);
            return REPLIED;
        }
    }
    answer_u64(s, &msg->hdr, s->features_offered);
    return REPLIED;
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
    s->features_acked = features & (s->features_offered | ~DEVICE_FEATURES_MASK);
    s->features_set = true;
    struct vgd_link_u64 m = {.value = s->features_acked};
    (void)to_worker(s, VGD_LINK_FEATURES, &m, sizeof(m), NULL, 0);
    return DONE;
}

static enum outcome set_protocol_features(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_reader r = payload_of(msg);
    uint64_t features = vgd_read_le64(&r);
    if (vgd_reader_finish(&r) != VGD_OK) {
        return bad(s, msg, "payload is not a u64");
    }
    if ((features & ~PROTOCOL_FEATURES) != 0) {
        return bad(s, msg, "protocol features that were not offered");
    }
    s->protocol_features_acked = features;
    return DONE;
}

static bool same_region(const struct vgd_vu_mem_region *a, const struct vgd_vu_mem_region *b)
{
    return a->gpa == b->gpa && a->user_addr == b->user_addr && a->size_bytes == b->size_bytes;
}

static void regions_clear(struct vgd_session *s)
{
    for (uint32_t i = 0; i < s->n_regions; i++) {
        vgd_fd_closep(&s->regions[i].fd);
    }
    s->n_regions = 0;
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
    struct vgd_link_mem_table m = {.request_seq = new_seq(s), .n_regions = table.nregions};
    for (uint32_t i = 0; i < table.nregions; i++) {
        const char *why;
        if (vgd_vu_mem_region_decode(&r, &m.regions[i]) != VGD_OK ||
            vgd_mem_region_check(&m.regions[i], msg->fds[i], &why) != VGD_OK) {
            return bad(s, msg, "a region that cannot be");
        }
    }
    regions_clear(s);
    for (uint32_t i = 0; i < table.nregions; i++) {
        s->regions[i] = (struct region){.region = m.regions[i], .fd = vgd_fd_take(&msg->fds[i])};
    }
    s->n_regions = table.nregions;

    int fds[VGD_LINK_FDS_MAX];
    for (uint32_t i = 0; i < s->n_regions; i++) {
        fds[i] = s->regions[i].fd;
    }
    if (!vgd_worker_process_ready(s->config.worker)) {
        return DONE;
    }
    (void)to_worker(s, VGD_LINK_MEM_TABLE, &m, sizeof(m), fds, s->n_regions);
    wait_for(s, WAIT_CONFIRM, &msg->hdr, m.request_seq);
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
    struct region *region = &s->regions[s->n_regions++];
    *region = (struct region){.region = slot.region, .fd = vgd_fd_take(&msg->fds[0])};
    (void)to_worker(s, VGD_LINK_MEM_ADD, &region->region, sizeof(region->region), &region->fd, 1);
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
    struct vgd_link_mem_remove m = {.request_seq = new_seq(s), .region = s->regions[at].region};
    vgd_fd_closep(&s->regions[at].fd);
    s->n_regions--;
    memmove(&s->regions[at], &s->regions[at + 1], (s->n_regions - at) * sizeof(s->regions[0]));
    if (!vgd_worker_process_ready(s->config.worker)) {
        return DONE;
    }
    (void)to_worker(s, VGD_LINK_MEM_REMOVE, &m, sizeof(m), NULL, 0);
    wait_for(s, WAIT_CONFIRM, &msg->hdr, m.request_seq);
    return REPLIED;
}

/* The ring that a vring message names, or NULL and the connection ended. */
static struct vring *vring_state(struct vgd_session *s, const struct vgd_vu_message *msg,
                                 struct vgd_vu_vring_state *out)
{
    struct vgd_reader r = payload_of(msg);
    if (vgd_vu_vring_state_decode(&r, out) != VGD_OK || vgd_reader_finish(&r) != VGD_OK ||
        out->idx >= VGD_QUEUES_COUNT) {
        refuse(s, &msg->hdr, "no such queue");
        return NULL;
    }
    return &s->vrings[out->idx];
}

static enum outcome set_vring_num(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_vu_vring_state state;
    struct vring *v = vring_state(s, msg, &state);
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
    struct vring *v = &s->vrings[addr.idx];
    v->addr = addr;
    v->has_addr = true;
    return DONE;
}

static enum outcome set_vring_base(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_vu_vring_state state;
    struct vring *v = vring_state(s, msg, &state);
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
    bool waits = was_reset && reset_device(s, &msg->hdr);
    v->base = base;
    return waits ? REPLIED : DONE;
}

static enum outcome get_vring_base(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_vu_vring_state state;
    struct vring *v = vring_state(s, msg, &state);
    if (v == NULL) {
        return REFUSED;
    }
    v->kicked = false;
    vgd_fd_closep(&v->kick_fd);
    if (!stop(s, state.idx, &msg->hdr)) {
        answer_vring_base(s, &msg->hdr, state.idx);
    }
    return REPLIED;
}

static enum outcome set_vring_enable(struct vgd_session *s, const struct vgd_vu_message *msg)
{
    struct vgd_vu_vring_state state;
    struct vring *v = vring_state(s, msg, &state);
    if (v == NULL) {
        return REFUSED;
    }
    if (state.num > 1) {
        return bad(s, msg, "neither 0 nor 1");
    }
    v->enabled = state.num == 1;
    if (v->enabled) {
        start_if_due(s, state.idx);
        return DONE;
    }
    return stop(s, state.idx, &msg->hdr) ? REPLIED : DONE;
}

/* SET_VRING_KICK, CALL and ERR: the ring, with *out_fd the descriptor (the caller's) or -1. */
static struct vring *vring_fd(struct vgd_session *s, struct vgd_vu_message *msg, int *out_fd,
                              uint32_t *out_idx)
{
    struct vgd_reader r = payload_of(msg);
    uint64_t value = vgd_read_le64(&r);
    bool has_fd = (value & VRING_FD_NONE) == 0;
    if (vgd_reader_finish(&r) != VGD_OK || (value & VRING_FD_IDX_MASK) >= VGD_QUEUES_COUNT ||
        value > (VRING_FD_IDX_MASK | VRING_FD_NONE) || msg->n_fds != (has_fd ? 1u : 0u)) {
        refuse(s, &msg->hdr, "no such queue, or not the one descriptor it speaks of");
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
    struct vring *v = vring_fd(s, msg, &fd, &idx);
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
    start_if_due(s, idx);
    return DONE;
}

static enum outcome set_vring_call(struct vgd_session *s, struct vgd_vu_message *msg)
{
    uint32_t idx;
    int fd;
    struct vring *v = vring_fd(s, msg, &fd, &idx);
    if (v == NULL) {
        return REFUSED;
    }
    vgd_fd_closep(&v->call_fd);
    v->call_fd = fd;
    if (v->running) {
        struct vgd_link_u64 m = {.value = idx};
        (void)to_worker(s, VGD_LINK_QUEUE_CALL, &m, sizeof(m), &v->call_fd, fd >= 0 ? 1 : 0);
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
    struct vgd_writer w = vgd_writer_of(space, sizeof(space));
    vgd_device_config_encode(&w, &config);

    uint8_t bytes[VGD_VU_CONFIG_SIZE + CONFIG_BYTES_MAX];
    w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_vu_config_encode(&w, &ask);
    vgd_write_bytes(&w, space + ask.offset_bytes, ask.size_bytes);
    answer(s, &msg->hdr, bytes, (uint32_t)vgd_writer_used(&w));
    return REPLIED;
}

static enum outcome set_backend_req_fd(struct vgd_session *s, struct vgd_vu_message *msg)
{
    if (msg->n_fds != 1) {
        return bad(s, msg, "not one descriptor");
    }
    vgd_channel_destroy(s->backend_channel);
    s->backend_channel = vgd_channel_create(&msg->fds[0]);
    return DONE;
}

static enum outcome gpu_set_socket(struct vgd_session *s, struct vgd_vu_message *msg)
{
    if (msg->n_fds != 1) {
        return bad(s, msg, "not one descriptor");
    }
    vgd_display_writer_connect(s->display, &msg->fds[0]);
    return DONE;
}

static enum outcome dispatch(struct vgd_session *s, struct vgd_vu_message *msg)
{
    switch (msg->hdr.request) {
    case VGD_VU_GET_FEATURES:
        return get_features(s, msg);
    case VGD_VU_SET_FEATURES:
        return set_features(s, msg);
    case VGD_VU_GET_PROTOCOL_FEATURES:
        answer_u64(s, &msg->hdr, PROTOCOL_FEATURES);
        return REPLIED;
    case VGD_VU_SET_PROTOCOL_FEATURES:
        return set_protocol_features(s, msg);
    case VGD_VU_SET_OWNER:
    case VGD_VU_RESET_OWNER: /* "no longer used": nothing depends on it */
    case VGD_VU_SET_CONFIG:  /* events_clear, which QEMU keeps itself */
        return DONE;
    case VGD_VU_GET_QUEUE_NUM:
        answer_u64(s, &msg->hdr, VGD_QUEUES_COUNT);
        return REPLIED;
    case VGD_VU_GET_MAX_MEM_SLOTS:
        answer_u64(s, &msg->hdr, VGD_MEM_REGIONS_MAX);
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
    case VGD_VU_RESET_DEVICE:
        for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
            s->vrings[i].enabled = false;
            s->vrings[i].kicked = false;
        }
        return reset_device(s, &msg->hdr) ? REPLIED : DONE;
    default:
        return bad(s, msg, "not a message of what was negotiated");
    }
}

static void channel_ready(void *user, uint32_t events)
{
    struct vgd_session *s = user;
    if ((events & EPOLLOUT) != 0 && vgd_channel_flush(s->channel) != VGD_OK) {
        end(s, VGD_SESSION_CLOSED);
        return;
    }
    if (s->wait != WAIT_NONE && (events & (EPOLLHUP | EPOLLERR)) != 0) {
        end(s, VGD_SESSION_CLOSED); /* nobody is left to answer */
        return;
    }
    for (unsigned i = 0; i < MESSAGES_PER_TURN && s->wait == WAIT_NONE && !s->ended; i++) {
        struct vgd_vu_message msg;
        enum vgd_status st = vgd_channel_read(s->channel, &msg);
        if (st == VGD_AGAIN) {
            break;
        }
        if (st == VGD_CLOSED) {
            end(s, s->messages_count != 0 ? VGD_SESSION_CLOSED : VGD_SESSION_REFUSED);
            return;
        }
        if (st != VGD_OK) {
            vgd_log(VGD_LOG_WARNING, "session",
                    "closing the front-end's connection: not a vhost-user message");
            end(s, VGD_SESSION_REFUSED);
            return;
        }
        s->messages_count++;
        vgd_log(VGD_LOG_DEBUG, "session", "%s, %u bytes, %u fds",
                vgd_vu_request_name(msg.hdr.request), msg.hdr.size_bytes, msg.n_fds);
        if ((msg.hdr.flags & VGD_VU_FLAG_REPLY) != 0) {
            (void)bad(s, &msg, "a reply where a request belongs");
        } else if (dispatch(s, &msg) == DONE) {
            acknowledge(s, &msg.hdr);
        }
        vgd_vu_message_finish(&msg);
    }
    watch_channel(s);
}

/* ---- from the worker --------------------------------------------------------------------------
 */

void vgd_session_worker_ready(struct vgd_session *s, const struct vgd_link_ready *ready, bool again)
{
    if (!s->has_report) {
        s->has_report = true;
        s->features_offered = (ready->features & DEVICE_FEATURES_MASK) | (1ull << F_INDIRECT_DESC) |
                              (1ull << F_EVENT_IDX) | (1ull << VGD_VU_F_PROTOCOL_FEATURES) |
                              (1ull << F_VERSION_1);
        s->num_capsets = ready->num_capsets;
    }
    if (s->features_set) {
        struct vgd_link_u64 m = {.value = s->features_acked};
        (void)to_worker(s, VGD_LINK_FEATURES, &m, sizeof(m), NULL, 0);
    }
    for (uint32_t i = 0; i < s->n_regions; i++) {
        (void)to_worker(s, VGD_LINK_MEM_ADD, &s->regions[i].region, sizeof(s->regions[i].region),
                        &s->regions[i].fd, 1);
    }
    if (again && s->forget_vault) {
        struct vgd_link_request m = {.request_seq = 0}; /* nobody waits for it */
        (void)to_worker(s, VGD_LINK_RESET, &m, sizeof(m), NULL, 0);
    } else if (again) {
        (void)to_worker(s, VGD_LINK_RESTORE, NULL, 0, NULL, 0);
    }
    s->forget_vault = false;
    vgd_display_writer_worker_started(s->display);
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        start_if_due(s, i);
    }
    if (s->wait == WAIT_READY) {
        wait_over(s);
    }
}

static void confirmed(struct vgd_session *s, const struct vgd_link_done *done)
{
    if (done->request_seq == 0 || s->wait == WAIT_NONE || done->request_seq != s->wait_seq) {
        return;
    }
    if (s->wait == WAIT_STOP) {
        struct vring *v = &s->vrings[s->wait_queue];
        v->running = false;
        v->base = (uint16_t)done->value;
    } else if (s->wait_hdr.request == VGD_VU_SET_MEM_TABLE && done->status != VGD_OK) {
        refuse(s, &s->wait_hdr, "guest memory cannot be mapped");
        return;
    } else {
        s->forget_vault = false; /* if it was a reset, it is done */
    }
    wait_over(s);
}

void vgd_session_worker_message(struct vgd_session *s, struct vgd_link_message *msg)
{
    enum vgd_status st = VGD_OK;
    switch (msg->type) {
    case VGD_LINK_DONE: {
        const struct vgd_link_done *done = vgd_link_payload(msg, sizeof(*done));
        if (done == NULL) {
            st = VGD_RANGE;
        } else {
            confirmed(s, done);
        }
        break;
    }
    case VGD_LINK_STARTED:
        break;
    case VGD_LINK_SNAPSHOT_REPLY: {
        const struct vgd_link_snapshot_reply *m = vgd_link_payload(msg, sizeof(*m));
        bool ok = m != NULL && m->status == VGD_OK;
        if (m == NULL || msg->n_fds != (ok ? 1u : 0u)) {
            st = VGD_RANGE;
        } else {
            int fd = ok ? vgd_fd_take(&msg->fds[0]) : -1;
            s->config.on_snapshot(s->config.user, m->question, (enum vgd_status)m->status, m->w_px,
                                  m->h_px, &fd);
            vgd_fd_closep(&fd);
        }
        break;
    }
    default:
        st = vgd_display_writer_message(s->display, msg);
        break;
    }
    if (st != VGD_OK) {
        vgd_worker_process_kill(s->config.worker, "it sent a message that cannot be believed");
    }
}

void vgd_session_worker_gone(struct vgd_session *s)
{
    vgd_display_writer_worker_gone(s->display);
    const struct vgd_vault *vault = vgd_worker_process_vault(s->config.worker);
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct vring *v = &s->vrings[i];
        if (v->running) {
            v->running = false;
            v->recover = true;
            v->base = vgd_vault_queue_base(vault, i);
        }
    }
    if (s->wait == WAIT_STOP || s->wait == WAIT_CONFIRM) {
        wait_over(s); /* it uses nothing any more */
    }
}

enum vgd_status vgd_session_snapshot(struct vgd_session *s, uint32_t scanout_idx, uint32_t question)
{
    struct vgd_link_question m = {.question = question, .scanout_idx = scanout_idx};
    return to_worker(s, VGD_LINK_SNAPSHOT, &m, sizeof(m), NULL, 0) ? VGD_OK : VGD_LOST;
}

void vgd_session_get_status(const struct vgd_session *s, struct vgd_session_status *out)
{
    *out = (struct vgd_session_status){
        .features_acked = s->features_acked,
        .protocol_features_acked = s->protocol_features_acked,
        .regions_count = s->n_regions,
        .display_connected = vgd_display_writer_connected(s->display),
        .messages_count = s->messages_count,
    };
    for (uint32_t i = 0; i < s->n_regions; i++) {
        out->memory_bytes += s->regions[i].region.size_bytes;
    }
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        out->queue_running[i] = s->vrings[i].running;
    }
}

struct vgd_session *vgd_session_create(const struct vgd_session_config *config, int *fd)
{
    struct vgd_session *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->config = *config;
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        s->vrings[i].kick_fd = -1;
        s->vrings[i].call_fd = -1;
    }
    s->deadline = vgd_timer_create(config->loop, deadline_passed, s);
    s->display = vgd_display_writer_create(&(struct vgd_display_writer_config){
        .loop = config->loop,
        .frames = config->frames,
        .n_scanouts = config->n_scanouts,
        .to_worker = writer_to_worker,
        .user = s,
    });
    s->channel = s->deadline != NULL && s->display != NULL ? vgd_channel_create(fd) : NULL;
    if (s->channel != NULL) {
        s->watch =
            vgd_loop_watch(config->loop, vgd_channel_fd(s->channel), EPOLLIN, channel_ready, s);
    }
    if (s->watch == NULL) {
        vgd_session_destroy(s);
        return NULL;
    }
    struct vgd_worker_process_status worker;
    vgd_worker_process_get_status(config->worker, &worker);
    if (vgd_worker_process_ready(config->worker)) {
        vgd_session_worker_ready(s, &worker.ready, false);
    }
    return s;
}

void vgd_session_destroy(struct vgd_session *s)
{
    if (s == NULL) {
        return;
    }
    vgd_watch_remove(&s->watch);
    vgd_timer_destroy(&s->deadline);
    vgd_channel_destroy(s->channel);
    vgd_channel_destroy(s->backend_channel);
    vgd_display_writer_destroy(s->display);
    regions_clear(s);
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        vgd_fd_closep(&s->vrings[i].kick_fd);
        vgd_fd_closep(&s->vrings[i].call_fd);
    }
    free(s);
}
