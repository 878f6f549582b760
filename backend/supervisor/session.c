/* SPDX-License-Identifier: MIT */
#include "session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fd.h"
#include "log.h"
#include "session_priv.h"

/* Messages handled before other work of the loop gets its turn. */
#define MESSAGES_PER_TURN 32u

void vgd_session_end(struct vgd_session *s, enum vgd_session_end how)
{
    if (!s->ended) {
        s->ended = true;
        vgd_watch_remove(&s->watch);
        vgd_timer_stop(s->deadline);
        s->config.on_end(s->config.user, how);
    }
}

void vgd_session_refuse(struct vgd_session *s, const struct vgd_vu_hdr *hdr, const char *why)
{
    if (!s->ended) {
        vgd_log(VGD_LOG_WARNING, "session", "closing the front-end's connection: %s (%u): %s",
                vgd_vu_request_name(hdr->request), hdr->request, why);
    }
    vgd_session_end(s, VGD_SESSION_REFUSED);
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

void vgd_session_answer(struct vgd_session *s, const struct vgd_vu_hdr *hdr, const void *payload,
                        uint32_t n_bytes)
{
    if (s->ended) {
        return;
    }
    enum vgd_status st =
        vgd_channel_send(s->channel, hdr->request, VGD_VU_FLAG_REPLY, payload, n_bytes, NULL, 0);
    if (st == VGD_CLOSED) {
        vgd_session_end(s, VGD_SESSION_CLOSED);
    } else if (st != VGD_OK) {
        vgd_session_refuse(s, hdr, "it does not read its replies");
    }
    watch_channel(s);
}

void vgd_session_answer_u64(struct vgd_session *s, const struct vgd_vu_hdr *hdr, uint64_t value)
{
    uint8_t bytes[VGD_VU_U64_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_write_le64(&w, value);
    vgd_session_answer(s, hdr, bytes, sizeof(bytes));
}

void vgd_session_answer_vring_base(struct vgd_session *s, const struct vgd_vu_hdr *hdr,
                                   uint32_t idx)
{
    struct vgd_vring *v = &s->vrings[idx];
    v->returned_base = v->base;
    struct vgd_vu_vring_state state = {.idx = idx, .num = v->base};
    uint8_t bytes[VGD_VU_VRING_STATE_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_vu_vring_state_encode(&w, &state);
    vgd_session_answer(s, hdr, bytes, sizeof(bytes));
}

/* The reply of a message that has none of its own. */
void vgd_session_acknowledge(struct vgd_session *s, const struct vgd_vu_hdr *hdr)
{
    bool wanted = (hdr->flags & VGD_VU_FLAG_NEED_REPLY) != 0 &&
                  (s->protocol_features_acked & (1ull << VGD_VU_F_REPLY_ACK)) != 0;
    if (wanted) {
        vgd_session_answer_u64(s, hdr, 0);
    }
}

/* ---- the worker -------------------------------------------------------------------------------
 */

bool vgd_session_to_worker(struct vgd_session *s, enum vgd_link_type type, const void *payload,
                           size_t n_bytes, const int *fds, uint32_t n_fds)
{
    return vgd_worker_process_send(s->config.worker, type, payload, n_bytes, fds, n_fds);
}

static void writer_to_worker(void *user, enum vgd_link_type type, const void *payload,
                             size_t n_bytes)
{
    (void)vgd_session_to_worker(user, type, payload, n_bytes, NULL, 0);
}

static void window_done(void *user, uint64_t token, enum vgd_status status)
{
    struct vgd_link_window_done m = {.token = token, .status = status};
    (void)vgd_session_to_worker(user, VGD_LINK_WINDOW_DONE, &m, sizeof(m), NULL, 0);
}

uint32_t vgd_session_new_seq(struct vgd_session *s)
{
    s->next_seq++;
    return s->next_seq == 0 ? ++s->next_seq : s->next_seq; /* 0 is nobody's */
}

/*
 * Read no further until what was sent to a ready worker is confirmed. Where it could not be sent
 * the worker is dying and we have not been told yet: its end ends the wait, as that of one that
 * dies before it confirms.
 */
void vgd_session_wait_for(struct vgd_session *s, enum vgd_session_wait what,
                          const struct vgd_vu_hdr *hdr, uint32_t seq)
{
    s->wait = what;
    s->wait_hdr = *hdr;
    s->wait_seq = seq;
    if (what != WAIT_READY) {
        vgd_timer_start(s->deadline, VGD_STOP_DEADLINE_MS * VGD_NS_PER_MS);
    }
    watch_channel(s);
}

/* What was waited for has come, or will never come: answer and read on. */
static void wait_over(struct vgd_session *s)
{
    enum vgd_session_wait what = s->wait;
    struct vgd_vu_hdr hdr = s->wait_hdr;
    s->wait = WAIT_NONE;
    vgd_timer_stop(s->deadline);
    if (what == WAIT_READY) {
        vgd_session_answer_u64(s, &hdr, s->features_offered);
    } else if (hdr.request == VGD_VU_GET_VRING_BASE) {
        vgd_session_answer_vring_base(s, &hdr, s->wait_queue);
    } else {
        vgd_session_acknowledge(s, &hdr);
    }
    watch_channel(s);
}

static void deadline_passed(void *user)
{
    struct vgd_session *s = user;
    /* Once it is dead, or will never run again, vgd_session_worker_gone gives the answer. */
    vgd_worker_process_kill(s->config.worker, "it does not confirm within the stop deadline");
}

/* Ring may run: tell the worker, if there is one, all is known, and nothing of an earlier guest is
 * left: a ring that ran sooner would leave a record in a vault that is still to be forgotten. */
void vgd_session_start_if_due(struct vgd_session *s, uint32_t idx)
{
    struct vgd_vring *v = &s->vrings[idx];
    /* Without VHOST_USER_F_PROTOCOL_FEATURES rings are enabled from the start. */
    bool enabled = v->enabled || (s->features_acked & (1ull << VGD_VU_F_PROTOCOL_FEATURES)) == 0;
    if (v->running || !v->kicked || !enabled || !v->has_addr || v->size == 0 || s->reset_seq != 0 ||
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
        .event_idx = (s->features_acked & (1ull << VGD_F_EVENT_IDX)) != 0,
        .recover = v->recover,
        .has_call = v->call_fd >= 0,
    };
    int fds[2] = {v->kick_fd, v->call_fd};
    v->running =
        vgd_session_to_worker(s, VGD_LINK_QUEUE_START, &m, sizeof(m), fds, v->call_fd >= 0 ? 2 : 1);
    if (v->running) {
        v->recover = false; /* if this worker dies too, worker_gone sets it again */
        s->had_ring = true;
    }
}

void vgd_session_release_if_started(struct vgd_session *s)
{
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        if (!s->vrings[i].kicked || !s->vrings[i].enabled) {
            return;
        }
    }
    vgd_shmem_release(s->shmem);
}

uint32_t vgd_session_excess_maps(const struct vgd_session *s)
{
    return vgd_shmem_excess(s->shmem, s->n_regions, VGD_VU_MAX_MEM_REGIONS);
}

/*
 * QEMU 11.1 counts what it has mapped as guest memory and starts a device only with eight regions
 * in all. So with more, a paused VM goes on without its GPU: the start fails before its second
 * message. We cannot make room at the pause: it crashes on a request that it reads while the device
 * is stopped. After the failed start it does take requests: make room then, and the next pause and
 * continue succeeds; what was unmapped comes back at once.
 */
static void start_stalled(void *user)
{
    struct vgd_session *s = user;
    uint32_t excess = vgd_session_excess_maps(s);
    if (excess == 0) {
        return;
    }
    vgd_log(VGD_LOG_WARNING, "session",
            "the VMM could not start the device again: %u maps are more than it has room for. "
            "They are put aside: pause and continue the VM once more, and they come back",
            excess);
    vgd_shmem_park(s->shmem, excess);
}

/* Stop a ring in the worker; true: wait for its confirmation. */
bool vgd_session_stop(struct vgd_session *s, uint32_t idx, const struct vgd_vu_hdr *hdr)
{
    struct vgd_vring *v = &s->vrings[idx];
    if (!v->running) {
        return false;
    }
    struct vgd_link_request m = {.request_seq = vgd_session_new_seq(s), .queue_idx = idx};
    (void)vgd_session_to_worker(s, VGD_LINK_QUEUE_STOP, &m, sizeof(m), NULL,
                                0); /* or it is dying: see wait_for */
    s->wait_queue = idx;
    vgd_session_wait_for(s, WAIT_STOP, hdr, m.request_seq);
    return true;
}

/* Have the worker clear the vault. Nobody needs to wait for it. */
static void send_reset(struct vgd_session *s)
{
    struct vgd_link_request m = {.request_seq = vgd_session_new_seq(s)};
    s->reset_seq = m.request_seq;
    (void)vgd_session_to_worker(s, VGD_LINK_RESET, &m, sizeof(m), NULL, 0);
}

/* The guest starts from nothing. @hdr: the message that said so, answered when it is done. */
bool vgd_session_reset_device(struct vgd_session *s, const struct vgd_vu_hdr *hdr)
{
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct vgd_vring *v = &s->vrings[i];
        v->recover = false;
        v->running = false; /* RESET stops them in the worker */
        v->base = 0;
        v->returned_base = 0;
    }
    s->forget_vault = true;
    vgd_shmem_forget(s->shmem); /* a VMM drops all maps at a reset by itself; QEMU does */
    bool was_ready = vgd_worker_process_ready(s->config.worker);
    vgd_worker_process_forget(s->config.worker);
    if (!was_ready) {
        return false;
    }
    send_reset(s);
    vgd_session_wait_for(s, WAIT_CONFIRM, hdr, s->reset_seq);
    return true;
}

static void channel_ready(void *user, uint32_t events)
{
    struct vgd_session *s = user;
    if ((events & EPOLLOUT) != 0 && vgd_channel_flush(s->channel) != VGD_OK) {
        vgd_session_end(s, VGD_SESSION_CLOSED);
        return;
    }
    if (s->wait != WAIT_NONE && (events & (EPOLLHUP | EPOLLERR)) != 0) {
        vgd_session_end(s, VGD_SESSION_CLOSED); /* nobody is left to answer */
        return;
    }
    for (unsigned i = 0; i < MESSAGES_PER_TURN && s->wait == WAIT_NONE && !s->ended; i++) {
        struct vgd_vu_message msg;
        enum vgd_status st = vgd_channel_read(s->channel, &msg);
        if (st == VGD_AGAIN) {
            break;
        }
        if (st == VGD_CLOSED) {
            vgd_session_end(s, s->messages_count != 0 ? VGD_SESSION_CLOSED : VGD_SESSION_REFUSED);
            return;
        }
        if (st != VGD_OK) {
            vgd_log(VGD_LOG_WARNING, "session",
                    "closing the front-end's connection: not a vhost-user message");
            vgd_session_end(s, VGD_SESSION_REFUSED);
            return;
        }
        s->messages_count++;
        vgd_log(VGD_LOG_DEBUG, "session", "%s, %u bytes, %u fds",
                vgd_vu_request_name(msg.hdr.request), msg.hdr.size_bytes, msg.n_fds);
        vgd_session_dispatch(s, &msg);
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
        s->features_offered = (ready->features & VGD_DEVICE_FEATURES_MASK) |
                              (1ull << VGD_F_INDIRECT_DESC) | (1ull << VGD_F_EVENT_IDX) |
                              (1ull << VGD_VU_F_PROTOCOL_FEATURES) | (1ull << VGD_F_VERSION_1);
        s->num_capsets = ready->num_capsets;
        s->has_vulkan = ready->vulkan_name[0] != '\0';
    }
    if (s->features_set) {
        struct vgd_link_u64 m = {.value = s->features_acked};
        (void)vgd_session_to_worker(s, VGD_LINK_FEATURES, &m, sizeof(m), NULL, 0);
    }
    for (uint32_t i = 0; i < s->n_regions; i++) {
        (void)vgd_session_to_worker(s, VGD_LINK_MEM_ADD, &s->regions[i].region,
                                    sizeof(s->regions[i].region), &s->regions[i].fd, 1);
    }
    if (again && s->forget_vault) {
        send_reset(s);
    } else if (again) {
        (void)vgd_session_to_worker(s, VGD_LINK_RESTORE, NULL, 0, NULL, 0);
    } else {
        s->forget_vault = false; /* it has an empty one */
    }
    if (s->config.on_worker_told != NULL) {
        s->config.on_worker_told(s->config.user);
    }
    vgd_display_writer_worker_started(s->display);
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        vgd_session_start_if_due(s, i);
    }
    if (s->wait == WAIT_READY) {
        wait_over(s);
    }
    if (s->reset_seq != 0) { /* the rings wait for it */
        vgd_timer_start(s->deadline, VGD_STOP_DEADLINE_MS * VGD_NS_PER_MS);
    }
}

/* A RESET is done. One that answers a message starts no rings: that guest has none. */
static void reset_confirmed(struct vgd_session *s)
{
    s->forget_vault = false;
    bool is_answer = s->wait == WAIT_CONFIRM && s->wait_seq == s->reset_seq;
    s->reset_seq = 0;
    if (is_answer) {
        return;
    }
    if (s->wait == WAIT_NONE) {
        vgd_timer_stop(s->deadline);
    }
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        vgd_session_start_if_due(s, i);
    }
}

static void confirmed(struct vgd_session *s, const struct vgd_link_done *done)
{
    if (done->request_seq != 0 && done->request_seq == s->reset_seq) {
        reset_confirmed(s);
    }
    if (done->request_seq == 0 || s->wait == WAIT_NONE || done->request_seq != s->wait_seq) {
        return;
    }
    if (s->wait == WAIT_STOP) {
        struct vgd_vring *v = &s->vrings[s->wait_queue];
        v->running = false;
        v->base = (uint16_t)done->value;
    } else if (s->wait_hdr.request == VGD_VU_SET_MEM_TABLE && done->status != VGD_OK) {
        if (s->had_ring) {
            /* A worker that served a guest does not decide whether the VMM keeps its connection. */
            vgd_worker_process_kill(s->config.worker, "it cannot map guest memory");
        } else {
            vgd_session_refuse(s, &s->wait_hdr, "guest memory cannot be mapped");
        }
        return;
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
    case VGD_LINK_WINDOW_MAP:
    case VGD_LINK_WINDOW_UNMAP: {
        bool map = msg->type == VGD_LINK_WINDOW_MAP;
        const struct vgd_link_window *m = vgd_link_payload(msg, sizeof(*m));
        if (m == NULL || msg->n_fds != (map ? 1u : 0u)) {
            st = VGD_RANGE;
        } else if (map) {
            vgd_shmem_map(s->shmem, m, &msg->fds[0]);
        } else {
            vgd_shmem_unmap(s->shmem, m);
        }
        break;
    }
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
    vgd_shmem_worker_gone(s->shmem);
    s->reset_seq = 0; /* if it was not confirmed, the next one is told */
    vgd_timer_stop(s->deadline);
    const struct vgd_vault *vault = vgd_worker_process_vault(s->config.worker);
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct vgd_vring *v = &s->vrings[i];
        if (v->running) {
            v->running = false;
            v->recover = true;
            v->base = vgd_vault_queue_base(vault, i);
        } else if (!s->forget_vault && vgd_vault_queue_has_undone(vault, i)) {
            v->recover = true; /* a stop left commands undone, and nobody knows them any more */
        }
    }
    if (s->wait == WAIT_STOP || s->wait == WAIT_CONFIRM) {
        wait_over(s); /* it uses nothing any more */
    }
}

enum vgd_status vgd_session_snapshot(struct vgd_session *s, uint32_t scanout_idx, uint32_t question)
{
    struct vgd_link_question m = {.question = question, .scanout_idx = scanout_idx};
    return vgd_session_to_worker(s, VGD_LINK_SNAPSHOT, &m, sizeof(m), NULL, 0) ? VGD_OK : VGD_LOST;
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
    vgd_shmem_get_status(s->shmem, &out->window);
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
    s->start_stall = vgd_timer_create(config->loop, start_stalled, s);
    s->shmem = vgd_shmem_create(&(struct vgd_shmem_config){
        .loop = config->loop,
        .size_bytes = config->window_bytes,
        .maps_max = config->maps_max,
        .done = window_done,
        .user = s,
    });
    bool ready =
        s->deadline != NULL && s->start_stall != NULL && s->display != NULL && s->shmem != NULL;
    s->channel = ready ? vgd_channel_create(fd) : NULL;
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
    vgd_timer_destroy(&s->start_stall);
    vgd_shmem_destroy(s->shmem);
    vgd_display_writer_destroy(s->display);
    vgd_session_regions_clear(s);
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        vgd_fd_closep(&s->vrings[i].kick_fd);
        vgd_fd_closep(&s->vrings[i].call_fd);
    }
    free(s);
}
