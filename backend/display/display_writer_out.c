/* SPDX-License-Identifier: MIT */
/* The bytes on their way to the VMM: which message is next, made of what is to be shown, and one
 * message at a time through the socket. */
#include "display_writer_priv.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "fd.h"

/* Bytes written before the loop gets its turn: the VMM may read as fast as we write. */
#define TURN_BYTES (1u << 20)

static struct vgd_writer begin(struct vgd_display_writer *w)
{
    struct outgoing *out = &w->out;
    assert(!out->active);
    *out = (struct outgoing){.fd = -1, .slot = NO_SLOT, .active = true};
    struct vgd_writer to = vgd_writer_of(out->head, sizeof(out->head));
    vgd_write_zeros(&to, VGD_DISP_HDR_SIZE); /* known at the end */
    return to;
}

static void end(struct vgd_display_writer *w, struct vgd_writer *to, uint32_t request)
{
    struct outgoing *out = &w->out;
    assert(to->status == VGD_OK); /* HEAD_BYTES_MAX holds each of our messages */
    out->head_bytes = vgd_writer_used(to);
    size_t n_bytes = out->head_bytes - VGD_DISP_HDR_SIZE + out->body_bytes;
    struct vgd_disp_hdr hdr = {.request = request, .size_bytes = (uint32_t)n_bytes};
    struct vgd_writer front = vgd_writer_of(out->head, VGD_DISP_HDR_SIZE);
    vgd_disp_hdr_encode(&front, &hdr);
}

static bool begin_question(struct vgd_display_writer *w)
{
    if (w->asked_count == w->questions_count) {
        return false;
    }
    const struct question *q = &w->questions[(w->questions_first + w->asked_count) % QUESTIONS_MAX];
    struct vgd_writer to = begin(w);
    if (q->request == VGD_DISP_GET_EDID) {
        struct vgd_disp_edid_request msg = {.scanout_id = q->scanout_idx};
        vgd_disp_edid_request_encode(&to, &msg);
    }
    end(w, &to, q->request);
    w->asked_count++;
    return true;
}

static bool begin_features(struct vgd_display_writer *w)
{
    if (!w->features_due) {
        return false;
    }
    w->features_due = false;
    struct vgd_disp_u64 msg = {.value = w->features};
    struct vgd_writer to = begin(w);
    vgd_disp_u64_encode(&to, &msg);
    end(w, &to, VGD_DISP_SET_PROTOCOL_FEATURES);
    return true;
}

static void begin_scanout(struct vgd_display_writer *w, uint32_t idx, uint32_t w_px, uint32_t h_px)
{
    struct scanout *s = &w->scanouts[idx];
    struct vgd_disp_scanout msg = {.scanout_id = idx, .w_px = w_px, .h_px = h_px};
    struct vgd_writer to = begin(w);
    vgd_disp_scanout_encode(&to, &msg);
    end(w, &to, VGD_DISP_SCANOUT);
    s->told = w_px != 0 ? SHOWS_PIXELS : SHOWS_NOTHING;
    s->told_w_px = w_px;
    s->told_h_px = h_px;
}

static void begin_dmabuf_end(struct vgd_display_writer *w, uint32_t idx)
{
    struct scanout *s = &w->scanouts[idx];
    struct vgd_disp_dmabuf_scanout msg = {.scanout_id = idx}; /* without an fd: no more */
    struct vgd_writer to = begin(w);
    vgd_disp_dmabuf_scanout_encode(&to, &msg);
    end(w, &to, VGD_DISP_DMABUF_SCANOUT);
    s->holds_dmabuf = false;
    s->told = SHOWS_UNKNOWN; /* a SCANOUT has to follow */
}

static void begin_dmabuf(struct vgd_display_writer *w, uint32_t idx)
{
    struct scanout *s = &w->scanouts[idx];
    struct vgd_disp_dmabuf_scanout2 msg = {
        .scanout =
            {
                .scanout_id = idx,
                .x_px = s->dmabuf.rect.x_px,
                .y_px = s->dmabuf.rect.y_px,
                .w_px = s->dmabuf.rect.w_px,
                .h_px = s->dmabuf.rect.h_px,
                .fd_w_px = s->dmabuf.fd_w_px,
                .fd_h_px = s->dmabuf.fd_h_px,
                .fd_stride_bytes = s->dmabuf.fd_stride_bytes,
                .fd_flags = s->dmabuf.y0_top ? VGD_DISP_DMABUF_Y_0_TOP : 0,
                .fd_fourcc = (int32_t)s->dmabuf.fourcc,
            },
        .modifier = s->dmabuf.modifier,
    };
    struct vgd_writer to = begin(w);
    w->out.fd = vgd_fd_take(&s->dmabuf_fd);
    if ((w->features >> VGD_DISP_F_DMABUF2 & 1) != 0) {
        vgd_disp_dmabuf_scanout2_encode(&to, &msg);
        end(w, &to, VGD_DISP_DMABUF_SCANOUT2);
    } else {
        vgd_disp_dmabuf_scanout_encode(&to, &msg.scanout);
        end(w, &to, VGD_DISP_DMABUF_SCANOUT);
    }
    s->holds_dmabuf = true;
    s->told = SHOWS_DMABUF;
}

/* Tell the channel the next thing that it does not know of @idx. */
static bool begin_change(struct vgd_display_writer *w, uint32_t idx)
{
    struct scanout *s = &w->scanouts[idx];
    if (!s->is_new) {
        return false;
    }
    if (s->want != SHOWS_DMABUF && s->holds_dmabuf) {
        begin_dmabuf_end(w, idx);
        return true;
    }
    s->is_new = false;
    switch (s->want) {
    case SHOWS_PIXELS:
        /* Not again for an equal size: the VMM would make, and show, a new surface. */
        if (s->told != SHOWS_PIXELS || s->told_w_px != s->w_px || s->told_h_px != s->h_px) {
            begin_scanout(w, idx, s->w_px, s->h_px);
            return true;
        }
        return false;
    case SHOWS_DMABUF:
        if (s->dmabuf_fd >= 0) {
            begin_dmabuf(w, idx);
            return true;
        }
        return false;
    default:
        if (s->told != SHOWS_NOTHING) {
            begin_scanout(w, idx, 0, 0);
            return true;
        }
        return false;
    }
}

static bool begin_cursor(struct vgd_display_writer *w, uint32_t idx)
{
    struct scanout *s = &w->scanouts[idx];
    if (!s->cursor_moved) {
        return false;
    }
    struct vgd_disp_cursor_update msg = {
        .pos = {.scanout_id = idx, .x_px = s->cursor.x_px, .y_px = s->cursor.y_px},
        .hot_x_px = s->hot_x_px,
        .hot_y_px = s->hot_y_px,
    };
    struct vgd_writer to = begin(w);
    if (s->picture != NULL) {
        vgd_disp_cursor_update_encode(&to, &msg);
        w->out.owned = s->picture;
        w->out.body = s->picture;
        w->out.body_bytes = CURSOR_PICTURE_BYTES;
        s->picture = NULL;
        s->cursor_moved = s->cursor.hide; /* then a POS_HIDE follows */
        end(w, &to, VGD_DISP_CURSOR_UPDATE);
    } else {
        vgd_disp_cursor_pos_encode(&to, &msg.pos);
        s->cursor_moved = false;
        end(w, &to, s->cursor.hide ? VGD_DISP_CURSOR_POS_HIDE : VGD_DISP_CURSOR_POS);
    }
    return true;
}

static bool begin_dmabuf_update(struct vgd_display_writer *w, uint32_t idx)
{
    struct scanout *s = &w->scanouts[idx];
    if (!s->damaged || w->dmabuf_updates_count == VGD_MAX_SCANOUTS) {
        return false;
    }
    struct vgd_disp_update msg = {.scanout_id = idx,
                                  .x_px = s->damage.x_px,
                                  .y_px = s->damage.y_px,
                                  .w_px = s->damage.w_px,
                                  .h_px = s->damage.h_px};
    struct vgd_writer to = begin(w);
    vgd_disp_update_encode(&to, &msg);
    end(w, &to, VGD_DISP_DMABUF_UPDATE);
    s->damaged = false;
    w->dmabuf_updates[w->dmabuf_updates_count++] = idx;
    return true;
}

/* The slot of @idx that goes first, or NO_SLOT. */
static uint32_t next_slot(const struct vgd_display_writer *w, uint32_t idx)
{
    uint32_t first = NO_SLOT;
    for (uint32_t i = 0; i < VGD_FRAME_SLOTS_COUNT; i++) {
        const struct slot *slot = &w->slots[i];
        if (slot->used && slot->scanout_idx == idx &&
            (first == NO_SLOT || slot->order < w->slots[first].order)) {
            first = i;
        }
    }
    return first;
}

static void begin_band(struct vgd_display_writer *w, uint32_t idx, uint32_t first)
{
    struct slot *slot = &w->slots[first];
    size_t stride_bytes = (size_t)slot->rect.w_px * VGD_SCANOUT_PIXEL_BYTES;
    uint32_t rows = (uint32_t)(VGD_DISPLAY_BAND_BYTES / stride_bytes);
    uint32_t left = slot->rect.h_px - slot->rows_sent;
    rows = rows == 0 ? 1 : rows;
    rows = rows < left ? rows : left;
    struct vgd_disp_update msg = {.scanout_id = idx,
                                  .x_px = slot->rect.x_px,
                                  .y_px = slot->rect.y_px + slot->rows_sent,
                                  .w_px = slot->rect.w_px,
                                  .h_px = rows};
    struct vgd_writer to = begin(w);
    vgd_disp_update_encode(&to, &msg);
    w->out.body =
        w->config.frames + (size_t)first * VGD_FRAME_SLOT_BYTES + slot->rows_sent * stride_bytes;
    w->out.body_bytes = rows * stride_bytes;
    slot->rows_sent += rows;
    if (slot->rows_sent == slot->rect.h_px) {
        w->out.slot = first;
    }
    end(w, &to, VGD_DISP_UPDATE);
}

static bool has_room(const struct vgd_display_writer *w)
{
    int queued_bytes;
    return ioctl(w->fd, SIOCOUTQ, &queued_bytes) != 0 || queued_bytes <= w->send_buffer_bytes / 4;
}

/* Put the next message in w->out, if there is any. Small things first: a cursor does not wait for
 * eight megabytes of pixels. */
static bool begin_next(struct vgd_display_writer *w)
{
    if (begin_features(w) || begin_question(w)) {
        return true;
    }
    if (!w->ready) {
        return false;
    }
    uint32_t n = w->config.n_scanouts;
    for (uint32_t idx = 0; idx < n; idx++) {
        if (begin_change(w, idx) || begin_cursor(w, idx) || begin_dmabuf_update(w, idx)) {
            return true;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t idx = (w->turn + i) % n;
        uint32_t slot = next_slot(w, idx);
        if (slot == NO_SLOT) {
            continue;
        }
        w->wants_room = !has_room(w);
        if (w->wants_room) {
            return false;
        }
        begin_band(w, idx, slot);
        w->turn = (idx + 1) % n;
        return true;
    }
    return false;
}

void vgd_display_writer_end_outgoing(struct vgd_display_writer *w)
{
    struct outgoing *out = &w->out;
    vgd_fd_closep(&out->fd);
    free(out->owned);
    out->owned = NULL;
    out->active = false;
    uint32_t slot = out->slot;
    out->slot = NO_SLOT;
    if (slot != NO_SLOT) {
        vgd_display_writer_end_slot(w, slot);
    }
}

/* One sendmsg. VGD_OK: some bytes went; VGD_AGAIN; VGD_CLOSED. */
static enum vgd_status send_some(struct vgd_display_writer *w, size_t *n_bytes)
{
    struct outgoing *out = &w->out;
    struct iovec iov[2];
    size_t n_iov = 0;
    size_t skip = out->sent_bytes;
    if (skip < out->head_bytes) {
        iov[n_iov++] =
            (struct iovec){.iov_base = out->head + skip, .iov_len = out->head_bytes - skip};
        skip = out->head_bytes;
    }
    size_t body_sent = skip - out->head_bytes;
    if (body_sent < out->body_bytes) {
        iov[n_iov++] = (struct iovec){.iov_base = (void *)(out->body + body_sent),
                                      .iov_len = out->body_bytes - body_sent};
    }
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n_iov};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    if (out->fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &out->fd, sizeof(int));
    }
    ssize_t n = sendmsg(w->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? VGD_AGAIN : VGD_CLOSED;
    }
    vgd_fd_closep(&out->fd); /* it went with the first byte */
    out->sent_bytes += (size_t)n;
    *n_bytes += (size_t)n;
    return VGD_OK;
}

void vgd_display_writer_pump(struct vgd_display_writer *w)
{
    if (w->fd < 0) {
        return;
    }
    size_t n_bytes = 0;
    uint32_t wait_for = EPOLLIN;
    w->wants_room = false;
    while (w->out.active || begin_next(w)) {
        if (n_bytes >= TURN_BYTES) {
            wait_for |= EPOLLOUT;
            break;
        }
        enum vgd_status st = send_some(w, &n_bytes);
        if (st == VGD_AGAIN) {
            wait_for |= EPOLLOUT;
            break;
        }
        if (st != VGD_OK) {
            vgd_display_writer_drop_channel(w);
            return;
        }
        if (w->out.sent_bytes == w->out.head_bytes + w->out.body_bytes) {
            vgd_display_writer_end_outgoing(w);
        }
    }
    vgd_watch_set(w->watch, w->wants_room ? wait_for | EPOLLOUT : wait_for);
}
