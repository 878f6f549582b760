/* SPDX-License-Identifier: MIT */
/* The channel itself: handed over, negotiated, dropped; the questions asked over it, and what comes
 * back. */
#include "display_writer_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "fd.h"
#include "log.h"

/*
 * The size of a band (VGD_DISPLAY_BAND_BYTES) and this size of the socket's buffer go together: a
 * band is begun only when three quarters of the buffer are free (the kernel's condition for
 * EPOLLOUT), so one sendmsg takes it whole, and not even our own death leaves the VMM with half a
 * message. The kernel doubles the number; where net.core.wmem_max has its default it makes it
 * 416 KiB, which still holds a band twice.
 *
 * Bands measured with a reader that does what QEMU's chardev does (2 cores, 1080p): 32 KiB take
 * 2.6 ms a frame and hold its main loop 0.1 ms at most, 128 KiB 1.8 ms and 0.2 ms, 1 MiB 2.1 ms and
 * 1.5 ms, the whole frame at once 2.4 ms and 8 ms.
 */
#define SEND_BUFFER_BYTES (256 << 10)

#define NS_PER_MS 1000000ull

/* --- Questions and replies. --- */

bool vgd_display_writer_push_question(struct vgd_display_writer *w, struct question q)
{
    if (w->questions_count == QUESTIONS_MAX) {
        return false;
    }
    w->questions[(w->questions_first + w->questions_count) % QUESTIONS_MAX] = q;
    w->questions_count++;
    return true;
}

void vgd_display_writer_answer_edid(struct vgd_display_writer *w, uint32_t id,
                                    const struct vgd_resp_edid *edid)
{
    struct vgd_link_edid_reply msg = {.question = id};
    if (edid != NULL) {
        msg.size_bytes = edid->size_bytes;
        memcpy(msg.edid, edid->edid, sizeof(msg.edid));
    }
    vgd_display_writer_tell_worker(w, VGD_LINK_EDID_REPLY, &msg, sizeof(msg));
}

/*
 * The question that a reply to @request answers. Replies come in the order of the questions, but a
 * GET_EDID may have none (QEMU does not answer for a scanout that it does not have). Behind each
 * GET_EDID we ask for the display info, which is always answered: if that comes first, the scanout
 * is not there. So no EDID is ever taken for another's.
 */
static bool match_reply(struct vgd_display_writer *w, uint32_t request, struct question *out)
{
    while (w->asked_count > 0) {
        struct question q = w->questions[w->questions_first];
        if (q.request != request && q.request == VGD_DISP_GET_DISPLAY_INFO) {
            return false;
        }
        w->questions_first = (w->questions_first + 1) % QUESTIONS_MAX;
        w->questions_count--;
        w->asked_count--;
        if (q.request == request) {
            *out = q;
            return true;
        }
        if (q.request != VGD_DISP_GET_EDID) {
            continue; /* the features, which this VMM does not tell */
        }
        if (q.scanout_idx < w->edid_end_idx) {
            w->edid_end_idx = q.scanout_idx;
        }
        if (q.for_them) {
            vgd_display_writer_answer_edid(w, q.id, NULL);
        }
    }
    return false;
}

static void became_ready(struct vgd_display_writer *w, uint64_t features)
{
    vgd_timer_stop(w->features_timer);
    w->features = features & (1u << VGD_DISP_F_EDID | 1u << VGD_DISP_F_DMABUF2);
    w->ready = true;
    w->features_due = true;
    vgd_display_writer_tell_state(w);
}

static enum vgd_status features_reply(struct vgd_display_writer *w, struct vgd_reader *r)
{
    struct vgd_disp_u64 reply;
    enum vgd_status st = vgd_disp_u64_decode(r, &reply);
    struct question q;
    if (st == VGD_OK && match_reply(w, VGD_DISP_GET_PROTOCOL_FEATURES, &q) && !w->ready) {
        became_ready(w, reply.value);
    }
    return st;
}

static enum vgd_status info_reply(struct vgd_display_writer *w, struct vgd_reader *r)
{
    struct vgd_ctrl_hdr hdr;
    struct vgd_link_info_reply msg = {0};
    enum vgd_status st = vgd_ctrl_hdr_decode(r, &hdr);
    if (st == VGD_OK) {
        st = vgd_resp_display_info_decode(r, &msg.info);
    }
    struct question q;
    if (st != VGD_OK || !match_reply(w, VGD_DISP_GET_DISPLAY_INFO, &q)) {
        return st;
    }
    w->enabled = 0;
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        w->enabled |= (uint16_t)((msg.info.pmodes[i].enabled != 0) << i);
    }
    if (q.for_them) {
        msg.question = q.id;
        vgd_display_writer_tell_worker(w, VGD_LINK_INFO_REPLY, &msg, sizeof(msg));
    }
    return VGD_OK;
}

static enum vgd_status edid_reply(struct vgd_display_writer *w, struct vgd_reader *r)
{
    struct vgd_ctrl_hdr hdr;
    struct vgd_resp_edid edid = {0};
    enum vgd_status st = vgd_ctrl_hdr_decode(r, &hdr);
    if (st == VGD_OK) {
        st = vgd_resp_edid_decode(r, &edid);
    }
    if (st == VGD_OK && edid.size_bytes > sizeof(edid.edid)) {
        st = VGD_RANGE;
    }
    struct question q;
    if (st == VGD_OK && match_reply(w, VGD_DISP_GET_EDID, &q) && q.for_them) {
        vgd_display_writer_answer_edid(w, q.id, &edid);
    }
    return st;
}

static void dmabuf_shown(struct vgd_display_writer *w)
{
    if (w->dmabuf_updates_count == 0) {
        return; /* QEMU may unblock a console once too often */
    }
    uint32_t idx = w->dmabuf_updates[0];
    w->dmabuf_updates_count--;
    memmove(w->dmabuf_updates, w->dmabuf_updates + 1,
            w->dmabuf_updates_count * sizeof(w->dmabuf_updates[0]));
    if (idx < VGD_MAX_SCANOUTS) {
        vgd_display_writer_tell_worker_u64(w, VGD_LINK_DMABUF_DONE, idx);
    }
}

/* Payload bytes of the reply to @request, or SIZE_MAX. */
static size_t reply_bytes(uint32_t request)
{
    switch (request) {
    case VGD_DISP_GET_PROTOCOL_FEATURES:
        return VGD_DISP_U64_SIZE;
    case VGD_DISP_GET_DISPLAY_INFO:
        return VGD_CTRL_HDR_SIZE + VGD_RESP_DISPLAY_INFO_SIZE;
    case VGD_DISP_GET_EDID:
        return VGD_CTRL_HDR_SIZE + VGD_RESP_EDID_SIZE;
    case VGD_DISP_DMABUF_UPDATE:
        return 0;
    default:
        return SIZE_MAX;
    }
}

static enum vgd_status take_reply(struct vgd_display_writer *w, uint32_t request, size_t n_bytes)
{
    struct vgd_reader r = vgd_reader_of(w->in + VGD_DISP_HDR_SIZE, n_bytes);
    switch (request) {
    case VGD_DISP_GET_PROTOCOL_FEATURES:
        return features_reply(w, &r);
    case VGD_DISP_GET_DISPLAY_INFO:
        return info_reply(w, &r);
    case VGD_DISP_GET_EDID:
        return edid_reply(w, &r);
    default:
        dmabuf_shown(w);
        return VGD_OK;
    }
}

/* One recv. VGD_OK: go on; VGD_AGAIN; VGD_CLOSED; others: not a reply that we know. */
static enum vgd_status receive_some(struct vgd_display_writer *w)
{
    size_t want_bytes = VGD_DISP_HDR_SIZE;
    struct vgd_disp_hdr hdr = {0};
    if (w->in_bytes >= VGD_DISP_HDR_SIZE) {
        struct vgd_reader r = vgd_reader_of(w->in, VGD_DISP_HDR_SIZE);
        enum vgd_status st = vgd_disp_hdr_decode(&r, &hdr);
        if (st != VGD_OK || (hdr.flags & VGD_DISP_FLAG_REPLY) == 0 ||
            hdr.size_bytes != reply_bytes(hdr.request)) {
            vgd_log(VGD_LOG_WARNING, "display", "channel: no reply of ours: %s flags=0x%x size=%u",
                    vgd_disp_request_name(hdr.request), hdr.flags, hdr.size_bytes);
            return VGD_RANGE;
        }
        want_bytes += hdr.size_bytes;
    }
    if (w->in_bytes < want_bytes) {
        ssize_t n = recv(w->fd, w->in + w->in_bytes, want_bytes - w->in_bytes, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return VGD_AGAIN;
        }
        if (n <= 0) {
            return VGD_CLOSED;
        }
        w->in_bytes += (size_t)n;
        return VGD_OK; /* look again: a header may be complete, or an empty message */
    }
    w->in_bytes = 0;
    return take_reply(w, hdr.request, hdr.size_bytes);
}

static void channel_event(void *user, uint32_t events)
{
    struct vgd_display_writer *w = user;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        enum vgd_status st = VGD_OK;
        /* Bounded, so that a VMM that floods us with replies does not keep the loop. */
        for (unsigned i = 0; i < 64 && st == VGD_OK; i++) {
            st = receive_some(w);
        }
        /* An error or a hang-up that leaves nothing to read would wake us for ever. */
        bool is_over = (events & (EPOLLHUP | EPOLLERR)) != 0 && st == VGD_AGAIN;
        if ((st != VGD_OK && st != VGD_AGAIN) || is_over) {
            vgd_display_writer_drop_channel(w);
            return;
        }
    }
    vgd_display_writer_pump(w);
}

/* --- Channels. --- */

void vgd_display_writer_drop_channel(struct vgd_display_writer *w)
{
    if (w->fd < 0) {
        return;
    }
    vgd_watch_remove(&w->watch);
    vgd_fd_closep(&w->fd);
    vgd_timer_stop(w->features_timer);
    w->ready = false;
    w->features_due = false;
    w->in_bytes = 0;
    if (w->out.active) {
        vgd_display_writer_end_outgoing(w);
    }
    w->questions_count = 0;
    w->asked_count = 0;
    for (uint32_t i = 0; i < w->dmabuf_updates_count; i++) {
        if (w->dmabuf_updates[i] < VGD_MAX_SCANOUTS) {
            vgd_display_writer_tell_worker_u64(w, VGD_LINK_DMABUF_DONE, w->dmabuf_updates[i]);
        }
    }
    w->dmabuf_updates_count = 0;
    for (uint32_t idx = 0; idx < VGD_MAX_SCANOUTS; idx++) {
        struct scanout *s = &w->scanouts[idx];
        vgd_display_writer_drop_pictures(w, idx);
        vgd_display_writer_drop_cursor(s);
        vgd_fd_closep(&s->dmabuf_fd);
        s->is_new = s->want == SHOWS_PIXELS;
        /* Nothing was ever shown there: it stays the VMM's (vhost-user-vga's own picture). */
        s->told = s->told == SHOWS_NOTHING ? SHOWS_NOTHING : SHOWS_UNKNOWN;
    }
    vgd_display_writer_tell_state(w);
    vgd_log(VGD_LOG_DEBUG, "display", "channel closed");
}

void vgd_display_writer_features_late(void *user)
{
    struct vgd_display_writer *w = user;
    vgd_log(VGD_LOG_INFO, "display", "channel: no answer to GET_PROTOCOL_FEATURES; using none");
    became_ready(w, 0);
    vgd_display_writer_pump(w);
}

void vgd_display_writer_connect(struct vgd_display_writer *w, int *fd)
{
    vgd_display_writer_drop_channel(w);
    w->fd = vgd_fd_take(fd);
    w->watch = vgd_loop_watch(w->config.loop, w->fd, EPOLLIN, channel_event, w);
    if (w->watch == NULL) {
        vgd_log(VGD_LOG_ERROR, "display", "channel: not a descriptor that can be waited for");
        vgd_fd_closep(&w->fd);
        return;
    }
    int n_bytes = SEND_BUFFER_BYTES;
    socklen_t len = sizeof(n_bytes);
    (void)setsockopt(w->fd, SOL_SOCKET, SO_SNDBUF, &n_bytes, len); /* an aid, not a need */
    (void)getsockopt(w->fd, SOL_SOCKET, SO_SNDBUF, &n_bytes, &len);
    w->send_buffer_bytes = n_bytes;
    w->edid_end_idx = VGD_MAX_SCANOUTS;
    w->enabled = 0;
    (void)vgd_display_writer_push_question(
        w, (struct question){.request = VGD_DISP_GET_PROTOCOL_FEATURES});
    vgd_timer_start(w->features_timer, VGD_DISPLAY_REPLY_MS * NS_PER_MS);
    vgd_display_writer_tell_state(
        w); /* a guest that asks at once gets this display's answers, not ours */
    vgd_display_writer_pump(w);
}

bool vgd_display_writer_connected(const struct vgd_display_writer *w)
{
    return w->fd >= 0;
}
