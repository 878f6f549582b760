/* SPDX-License-Identifier: MIT */
#include "fd.h"
#include "shmem_priv.h"

/* Added to a request that is withdrawn: same low byte, and no message of the protocol. */
#define WITHDRAWN 0x100u
/* When to look again whether the VMM has read the first byte, if nothing woke us. */
#define LOOK_FIRST_NS 5000000ull

bool vgd_shmem_may_send(const struct vgd_shmem *sh)
{
    return sh->channel != NULL && sh->usable && (!sh->held || sh->parking);
}

void vgd_shmem_answer(struct vgd_shmem *sh, uint64_t token, enum vgd_status status)
{
    sh->refused_total += status != VGD_OK;
    sh->config.done(sh->config.user, token, status);
}

void vgd_shmem_answer_asked(struct vgd_shmem *sh, enum vgd_status status)
{
    if (sh->asked.has_token) {
        sh->asked.has_token = false;
        vgd_shmem_answer(sh, sh->asked.token, status);
    }
}

/* There is something to ask for, and the socket took nothing. */
static bool is_blocked(const struct vgd_shmem *sh)
{
    bool waits = sh->n_doomed > 0 || sh->n_parked > 0 || sh->parking || sh->first != NULL;
    return sh->asked.phase == VGD_SHMEM_NOTHING && vgd_shmem_may_send(sh) && waits;
}

void vgd_shmem_watch(struct vgd_shmem *sh)
{
    if (sh->watch != NULL) {
        uint32_t events = EPOLLIN;
        if (sh->asked.phase == VGD_SHMEM_BEGUN) {
            events |= EPOLLOUT | EPOLLET; /* told when the byte is read */
        } else if (vgd_channel_wants_write(sh->channel) || is_blocked(sh)) {
            events |= EPOLLOUT;
        }
        vgd_watch_set(sh->watch, events);
    }
}

void vgd_shmem_close_channel(struct vgd_shmem *sh)
{
    vgd_watch_remove(&sh->watch);
    vgd_channel_destroy(sh->channel);
    sh->channel = NULL;
    if (sh->asked.phase == VGD_SHMEM_NOTHING) {
        return;
    }
    /* Nobody will say what became of a request that was sent: the range stays ours to unmap. One
     * that was only begun was not carried out. */
    bool sent = sh->asked.phase == VGD_SHMEM_SENT;
    sh->asked.phase = VGD_SHMEM_NOTHING;
    struct vgd_shmem_entry *e =
        sh->asked.unmap ? vgd_shmem_find_mapped(sh, &sh->asked.range) : NULL;
    if (sent && e != NULL) {
        vgd_shmem_set_state(sh, e, VGD_SHMEM_DOOMED);
    } else if (sent && !sh->asked.unmap && !sh->asked.answered) {
        vgd_shmem_add(sh, &sh->asked.range, VGD_SHMEM_DOOMED);
        sh->asked.range.fd = -1;
    }
    vgd_fd_closep(&sh->asked.range.fd);
    vgd_shmem_take_back(sh);
    vgd_shmem_answer_asked(sh, VGD_HOST_FAILED);
}

static void channel_broken(struct vgd_shmem *sh, const char *why)
{
    vgd_log(VGD_LOG_WARNING, "window",
            "closing the backend channel, nothing can be mapped any more: %s", why);
    vgd_shmem_close_channel(sh);
}

/* Most often it is ending, and closes its socket next. */
static void channel_closed(struct vgd_shmem *sh)
{
    vgd_log(VGD_LOG_INFO, "window", "the VMM closed the backend channel");
    vgd_shmem_close_channel(sh);
}

static void payload_of(const struct vgd_shmem_entry *range, uint8_t bytes[VGD_VU_SHMEM_MAP_SIZE])
{
    struct vgd_vu_shmem_map m = {
        .shmid = VGD_SHMEM_ID,
        .fd_offset_bytes = range->file_offset_bytes,
        .shm_offset_bytes = range->offset_bytes,
        .len_bytes = range->len_bytes,
        .flags = VGD_VU_SHMEM_FLAG_RW,
    };
    struct vgd_writer w = vgd_writer_of(bytes, VGD_VU_SHMEM_MAP_SIZE);
    vgd_vu_shmem_map_encode(&w, &m);
}

/* QEMU (11.1) answers a map before it carries it out: a guest that is told at once writes into
 * nothing for a moment. It reads the next message only when it is done, so one that asks for
 * nothing follows each map, and its answer is what counts. QEMU refuses this one without a word,
 * also when the device is stopped: we never offer HOST_NOTIFIER. */
static enum vgd_status send_barrier(struct vgd_shmem *sh)
{
    uint8_t bytes[VGD_VU_VRING_AREA_SIZE];
    struct vgd_vu_vring_area nothing = {.ring = VGD_VU_VRING_NO_FD};
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_vu_vring_area_encode(&w, &nothing);
    return vgd_channel_send(sh->channel, VGD_VU_BACKEND_VRING_HOST_NOTIFIER_MSG,
                            VGD_VU_FLAG_NEED_REPLY, bytes, sizeof(bytes), NULL, 0);
}

/* The VMM has read the first byte: send the rest, or make the message one that does nothing. */
static void go_on(struct vgd_shmem *sh)
{
    uint32_t request = sh->asked.unmap ? VGD_VU_BACKEND_SHMEM_UNMAP : VGD_VU_BACKEND_SHMEM_MAP;
    enum vgd_status st;
    if (sh->asked.wanted && vgd_shmem_may_send(sh)) {
        uint8_t bytes[VGD_VU_SHMEM_MAP_SIZE];
        payload_of(&sh->asked.range, bytes);
        st = vgd_channel_send_rest(sh->channel, request, VGD_VU_FLAG_NEED_REPLY, bytes,
                                   sizeof(bytes));
        if (st == VGD_OK && !sh->asked.unmap) {
            st = send_barrier(sh);
        }
        sh->asked.phase = VGD_SHMEM_SENT;
    } else {
        st = vgd_channel_send_rest(sh->channel, request | WITHDRAWN, 0, NULL, 0);
        sh->withdrawn_total++;
        sh->asked.phase = VGD_SHMEM_NOTHING;
        vgd_fd_closep(&sh->asked.range.fd);
        vgd_shmem_answer_asked(sh, VGD_HOST_FAILED);
    }
    if (st != VGD_OK) {
        channel_broken(sh, "it takes no requests");
    }
}

void vgd_shmem_take_back(struct vgd_shmem *sh)
{
    if (!sh->asked.has_token || sh->asked.unmap) {
        return;
    }
    sh->asked.wanted = false;
    struct vgd_shmem_entry *e =
        sh->asked.answered && sh->asked.ok ? vgd_shmem_find_mapped(sh, &sh->asked.range) : NULL;
    if (e != NULL) {
        vgd_shmem_set_state(sh, e, VGD_SHMEM_DOOMED);
    }
}

void vgd_shmem_look(struct vgd_shmem *sh)
{
    if (sh->channel != NULL && sh->asked.phase == VGD_SHMEM_BEGUN &&
        vgd_channel_taken(sh->channel)) {
        go_on(sh);
    }
}

bool vgd_shmem_ask(struct vgd_shmem *sh, bool unmap, struct vgd_shmem_entry *range)
{
    enum vgd_status st = vgd_channel_send_first(
        sh->channel, unmap ? VGD_VU_BACKEND_SHMEM_UNMAP : VGD_VU_BACKEND_SHMEM_MAP, &range->fd,
        unmap ? 0 : 1);
    if (st == VGD_AGAIN) {
        return false;
    }
    if (st != VGD_OK) {
        channel_closed(sh);
        return false;
    }
    sh->asked.phase = VGD_SHMEM_BEGUN;
    sh->asked.unmap = unmap;
    sh->asked.wanted = true;
    sh->asked.has_token = false;
    sh->asked.answered = false;
    sh->asked.deadline_ns = UINT64_MAX;
    sh->asked.range = *range;
    if (unmap) {
        sh->asked.range.fd = -1;
    } else {
        range->fd = -1;
    }
    sh->asked.look_ns = LOOK_FIRST_NS;
    vgd_shmem_look(sh);
    return true;
}

static void mapped(struct vgd_shmem *sh, bool ok)
{
    struct vgd_shmem_entry *r = &sh->asked.range;
    if (ok) {
        sh->maps_total++;
        vgd_shmem_add(sh, r, sh->asked.wanted ? VGD_SHMEM_LIVE : VGD_SHMEM_DOOMED);
        r->fd = -1;
    } else {
        vgd_log_guest(&sh->limit, "window", "the VMM does not map [%#llx, +%#llx)%s",
                      (unsigned long long)r->offset_bytes, (unsigned long long)r->len_bytes,
                      sh->asked.wanted && !sh->asked.has_token ? " again" : "");
        sh->refused_total += !sh->asked.has_token;
        vgd_fd_closep(&r->fd);
    }
}

static void unmapped(struct vgd_shmem *sh, bool ok)
{
    struct vgd_shmem_entry *e = vgd_shmem_find_mapped(sh, &sh->asked.range);
    if (e == NULL) {
        return; /* the guest was reset meanwhile */
    }
    if (e->to_park && ok) {
        vgd_shmem_set_state(sh, e, VGD_SHMEM_PARKED);
    } else {
        vgd_shmem_drop(sh, e); /* refused: the VMM does not have it */
    }
}

/* False: the channel is gone. */
static bool take_reply(struct vgd_shmem *sh, const struct vgd_vu_message *msg)
{
    uint32_t request = sh->asked.unmap      ? VGD_VU_BACKEND_SHMEM_UNMAP
                       : sh->asked.answered ? VGD_VU_BACKEND_VRING_HOST_NOTIFIER_MSG
                                            : VGD_VU_BACKEND_SHMEM_MAP;
    if (sh->asked.phase != VGD_SHMEM_SENT || (msg->hdr.flags & VGD_VU_FLAG_REPLY) == 0 ||
        msg->hdr.request != request || msg->hdr.size_bytes != VGD_VU_U64_SIZE || msg->n_fds != 0) {
        channel_broken(sh, "the VMM sent what is no answer to our request");
        return false;
    }
    struct vgd_reader r = vgd_reader_of(msg->payload, msg->hdr.size_bytes);
    bool ok = vgd_read_le64(&r) == 0;
    if (!sh->asked.unmap && !sh->asked.answered) {
        mapped(sh, ok);
        sh->asked.answered = true;
        sh->asked.ok = ok;
        if (sh->held) {
            vgd_shmem_answer_asked(sh, ok ? VGD_OK : VGD_HOST_FAILED); /* as vgd_shmem_hold */
        }
        return true;
    }
    ok = sh->asked.unmap ? ok : sh->asked.ok;
    sh->asked.phase = VGD_SHMEM_NOTHING;
    if (sh->asked.unmap) {
        unmapped(sh, ok);
    }
    vgd_shmem_answer_asked(sh, ok ? VGD_OK : VGD_HOST_FAILED);
    return true;
}

void vgd_shmem_channel_ready(void *user, uint32_t events)
{
    (void)events;
    struct vgd_shmem *sh = user;
    for (;;) {
        struct vgd_vu_message msg;
        enum vgd_status st = vgd_channel_read(sh->channel, &msg);
        if (st == VGD_AGAIN) {
            break;
        }
        bool alive = st == VGD_OK;
        if (alive) {
            alive = take_reply(sh, &msg);
            vgd_vu_message_finish(&msg);
        } else {
            if (st == VGD_CLOSED) {
                channel_closed(sh);
            } else {
                channel_broken(sh, "not a vhost-user message");
            }
        }
        if (!alive) {
            break;
        }
        vgd_shmem_advance(sh);
        if (sh->channel == NULL) {
            break;
        }
    }
    if (sh->channel != NULL && vgd_channel_flush(sh->channel) != VGD_OK) {
        channel_closed(sh);
    }
    vgd_shmem_look(sh);
    vgd_shmem_advance(sh);
}
