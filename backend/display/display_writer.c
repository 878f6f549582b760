/* SPDX-License-Identifier: MIT */
/*
 * The channel: none -> asked for its features -> ready; an end of file, an error or a new channel
 * leads back to none. What workers say is accepted in every state, and is kept as state rather
 * than queued: for each scanout what is to be shown, one cursor, one dma-buf damage, and what waits
 * in frame slots. So nothing here can grow, and a slow VMM gets the newest of everything. Only
 * questions are a queue.
 *
 * One message is on its way at a time. Once its first byte is out it is always finished, from the
 * frame mapping if need be: the VMM reads the rest blocking, with its main loop.
 */
#include "display_writer.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "display_channel.h"
#include "fd.h"
#include "frames.h"
#include "log.h"
#include "scanout_limits.h"

/* Questions unanswered or unsent, ours included; a worker that asks more gets no answer. */
#define QUESTIONS_MAX 128u

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

/* Bytes written before the loop gets its turn: the VMM may read as fast as we write. */
#define TURN_BYTES (1u << 20)

#define NO_SLOT UINT32_MAX

#define NS_PER_MS 1000000ull
#define HEAD_BYTES_MAX 64u
#define REPLY_BYTES_MAX (VGD_DISP_HDR_SIZE + VGD_CTRL_HDR_SIZE + VGD_RESP_EDID_SIZE)
#define CURSOR_PICTURE_BYTES ((size_t)VGD_DISP_CURSOR_BYTES)

enum showing {
    SHOWS_NOTHING = 0,
    SHOWS_PIXELS,
    SHOWS_DMABUF,
    SHOWS_UNKNOWN, /* a picture that an earlier channel, or the VMM itself, left there */
};

struct scanout {
    /* What the worker wants. */
    enum showing want;
    uint32_t w_px, h_px;                   /* want != SHOWS_NOTHING */
    struct vgd_link_dmabuf_scanout dmabuf; /* want == SHOWS_DMABUF */
    int dmabuf_fd;                         /* until it is passed on */
    bool is_new;                           /* the channel is to be told */

    /* What the channel was told. */
    enum showing told;
    uint32_t told_w_px, told_h_px;
    bool holds_dmabuf; /* the VMM has a dma-buf of ours open, whatever became of the channel */

    struct vgd_rect damage; /* of the dma-buf */
    bool damaged;           /* waits to be sent; the worker waits for its DMABUF_DONE */

    /* The cursor, if the channel is to be told. */
    bool cursor_moved;
    struct vgd_link_cursor_pos cursor;
    uint32_t hot_x_px, hot_y_px;
    uint8_t *picture; /* owned; NULL: only the place changed */
};

/* What a frame slot is used for. */
struct slot {
    bool used; /* the worker waits for its FRAME_DONE */
    uint32_t scanout_idx;
    struct vgd_rect rect;
    uint32_t rows_sent;
    uint64_t order; /* the smaller goes first */
};

/* The message on its way. */
struct outgoing {
    uint8_t head[HEAD_BYTES_MAX];
    size_t head_bytes;
    const uint8_t *body; /* @owned or in the frame mapping */
    size_t body_bytes;
    uint8_t *owned;
    int fd;        /* goes with the first byte */
    uint32_t slot; /* NO_SLOT unless its end ends the use of the slot */
    size_t sent_bytes;
    bool active;
};

struct question {
    uint32_t request; /* VGD_DISP_GET_... */
    uint32_t scanout_idx;
    uint32_t id;   /* the worker's */
    bool for_them; /* a worker waits */
};

struct vgd_display_writer {
    struct vgd_display_writer_config config;
    bool has_worker;

    int fd;
    struct vgd_watch *watch;
    int send_buffer_bytes;
    bool wants_room;   /* pixels wait for room in the socket's buffer */
    bool ready;        /* negotiated */
    uint64_t features; /* once ready */
    bool features_due; /* to be told to the VMM */
    struct vgd_timer *features_timer;

    struct outgoing out;
    uint8_t in[REPLY_BYTES_MAX];
    size_t in_bytes;

    struct question questions[QUESTIONS_MAX]; /* a ring: first the asked ones, in order */
    uint32_t questions_first, questions_count, asked_count;
    uint32_t edid_end_idx; /* the VMM has no scanouts from here on */
    uint16_t enabled;      /* bits: scanouts that the last display info showed enabled */

    struct scanout scanouts[VGD_MAX_SCANOUTS];
    uint32_t turn;                             /* whose pixels go next */
    uint32_t dmabuf_updates[VGD_MAX_SCANOUTS]; /* scanouts whose update is unanswered, in order;
                                                 VGD_MAX_SCANOUTS: nobody waits any more */
    uint32_t dmabuf_updates_count;

    struct slot slots[VGD_FRAME_SLOTS_COUNT];
    uint64_t last_order;
};

static void tell_worker(struct vgd_display_writer *w, enum vgd_link_type type, const void *payload,
                        size_t n_bytes)
{
    if (w->has_worker) {
        w->config.to_worker(w->config.user, type, payload, n_bytes);
    }
}

static void tell_worker_u64(struct vgd_display_writer *w, enum vgd_link_type type, uint64_t value)
{
    struct vgd_link_u64 msg = {.value = value};
    tell_worker(w, type, &msg, sizeof(msg));
}

static void tell_state(struct vgd_display_writer *w)
{
    struct vgd_link_display_state msg = {
        .connected = w->ready,
        .dmabuf = w->ready && !w->config.pixels_only,
        .fresh = w->ready,
        .edid = w->ready && (w->features >> VGD_DISP_F_EDID & 1) != 0,
        .pending = w->fd >= 0 && !w->ready,
    };
    tell_worker(w, VGD_LINK_DISPLAY_STATE, &msg, sizeof(msg));
}

/* --- What waits. --- */

static void end_slot(struct vgd_display_writer *w, uint32_t slot)
{
    assert(w->slots[slot].used);
    w->slots[slot].used = false;
    tell_worker_u64(w, VGD_LINK_FRAME_DONE, slot);
}

/* The picture of @idx changes or there is no channel: what waits for the old one is in vain. What
 * has begun goes to its end; its slot is given back then. */
static void drop_pictures(struct vgd_display_writer *w, uint32_t idx)
{
    struct scanout *s = &w->scanouts[idx];
    for (uint32_t i = 0; i < VGD_FRAME_SLOTS_COUNT; i++) {
        struct slot *slot = &w->slots[i];
        if (!slot->used || slot->scanout_idx != idx) {
            continue;
        }
        const uint8_t *start = w->config.frames + (size_t)i * VGD_FRAME_SLOT_BYTES;
        bool is_going = w->out.active && w->out.owned == NULL && w->out.body >= start &&
                        w->out.body < start + VGD_FRAME_SLOT_BYTES;
        if (is_going) {
            slot->rows_sent = slot->rect.h_px;
            w->out.slot = i;
        } else {
            end_slot(w, i);
        }
    }
    if (s->damaged) {
        s->damaged = false;
        tell_worker_u64(w, VGD_LINK_DMABUF_DONE, idx);
    }
}

static void drop_cursor(struct scanout *s)
{
    s->cursor_moved = false;
    free(s->picture);
    s->picture = NULL;
}

/* --- Sending. --- */

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

static void end_outgoing(struct vgd_display_writer *w)
{
    struct outgoing *out = &w->out;
    vgd_fd_closep(&out->fd);
    free(out->owned);
    out->owned = NULL;
    out->active = false;
    uint32_t slot = out->slot;
    out->slot = NO_SLOT;
    if (slot != NO_SLOT) {
        end_slot(w, slot);
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

static void drop_channel(struct vgd_display_writer *w);

/* Write until there is nothing, the socket is full, or others want their turn. */
static void pump(struct vgd_display_writer *w)
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
            drop_channel(w);
            return;
        }
        if (w->out.sent_bytes == w->out.head_bytes + w->out.body_bytes) {
            end_outgoing(w);
        }
    }
    vgd_watch_set(w->watch, w->wants_room ? wait_for | EPOLLOUT : wait_for);
}

/* --- Questions and replies. --- */

static bool push_question(struct vgd_display_writer *w, struct question q)
{
    if (w->questions_count == QUESTIONS_MAX) {
        return false;
    }
    w->questions[(w->questions_first + w->questions_count) % QUESTIONS_MAX] = q;
    w->questions_count++;
    return true;
}

static void answer_edid(struct vgd_display_writer *w, uint32_t id, const struct vgd_resp_edid *edid)
{
    struct vgd_link_edid_reply msg = {.question = id};
    if (edid != NULL) {
        msg.size_bytes = edid->size_bytes;
        memcpy(msg.edid, edid->edid, sizeof(msg.edid));
    }
    tell_worker(w, VGD_LINK_EDID_REPLY, &msg, sizeof(msg));
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
            answer_edid(w, q.id, NULL);
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
    tell_state(w);
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
        tell_worker(w, VGD_LINK_INFO_REPLY, &msg, sizeof(msg));
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
        answer_edid(w, q.id, &edid);
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
        tell_worker_u64(w, VGD_LINK_DMABUF_DONE, idx);
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
            drop_channel(w);
            return;
        }
    }
    pump(w);
}

/* --- Channels. --- */

static void drop_channel(struct vgd_display_writer *w)
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
        end_outgoing(w);
    }
    w->questions_count = 0;
    w->asked_count = 0;
    for (uint32_t i = 0; i < w->dmabuf_updates_count; i++) {
        if (w->dmabuf_updates[i] < VGD_MAX_SCANOUTS) {
            tell_worker_u64(w, VGD_LINK_DMABUF_DONE, w->dmabuf_updates[i]);
        }
    }
    w->dmabuf_updates_count = 0;
    for (uint32_t idx = 0; idx < VGD_MAX_SCANOUTS; idx++) {
        struct scanout *s = &w->scanouts[idx];
        drop_pictures(w, idx);
        drop_cursor(s);
        vgd_fd_closep(&s->dmabuf_fd);
        s->is_new = s->want == SHOWS_PIXELS;
        /* Nothing was ever shown there: it stays the VMM's (vhost-user-vga's own picture). */
        s->told = s->told == SHOWS_NOTHING ? SHOWS_NOTHING : SHOWS_UNKNOWN;
    }
    tell_state(w);
    vgd_log(VGD_LOG_DEBUG, "display", "channel closed");
}

static void features_late(void *user)
{
    struct vgd_display_writer *w = user;
    vgd_log(VGD_LOG_INFO, "display", "channel: no answer to GET_PROTOCOL_FEATURES; using none");
    became_ready(w, 0);
    pump(w);
}

void vgd_display_writer_connect(struct vgd_display_writer *w, int *fd)
{
    drop_channel(w);
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
    (void)push_question(w, (struct question){.request = VGD_DISP_GET_PROTOCOL_FEATURES});
    vgd_timer_start(w->features_timer, VGD_DISPLAY_REPLY_MS * NS_PER_MS);
    tell_state(w); /* a guest that asks at once gets this display's answers, not ours */
    pump(w);
}

bool vgd_display_writer_connected(const struct vgd_display_writer *w)
{
    return w->fd >= 0;
}

/* --- Messages from the worker. --- */

static enum vgd_status scanout_message(struct vgd_display_writer *w,
                                       const struct vgd_link_scanout *msg)
{
    if (msg->scanout_idx >= w->config.n_scanouts) {
        return VGD_RANGE;
    }
    struct scanout *s = &w->scanouts[msg->scanout_idx];
    if (msg->w_px != 0 && !vgd_scanout_size_ok(msg->w_px, msg->h_px)) {
        return VGD_RANGE;
    }
    drop_pictures(w, msg->scanout_idx);
    vgd_fd_closep(&s->dmabuf_fd);
    s->want = msg->w_px != 0 ? SHOWS_PIXELS : SHOWS_NOTHING;
    s->w_px = msg->w_px;
    s->h_px = msg->h_px;
    s->is_new = true;
    return VGD_OK;
}

static enum vgd_status dmabuf_scanout_message(struct vgd_display_writer *w,
                                              struct vgd_link_message *from,
                                              const struct vgd_link_dmabuf_scanout *msg)
{
    if (msg->scanout_idx >= w->config.n_scanouts || from->n_fds != 1 ||
        !vgd_scanout_size_ok(msg->fd_w_px, msg->fd_h_px) ||
        !vgd_scanout_rect_ok(msg->rect, msg->fd_w_px, msg->fd_h_px) || msg->fd_stride_bytes == 0) {
        return VGD_RANGE;
    }
    struct scanout *s = &w->scanouts[msg->scanout_idx];
    drop_pictures(w, msg->scanout_idx);
    vgd_fd_closep(&s->dmabuf_fd);
    s->want = SHOWS_DMABUF;
    s->w_px = msg->rect.w_px;
    s->h_px = msg->rect.h_px;
    s->dmabuf = *msg;
    s->is_new = w->ready && !w->config.pixels_only;
    if (s->is_new) {
        s->dmabuf_fd = vgd_fd_take(&from->fds[0]);
    }
    return VGD_OK;
}

static enum vgd_status update_message(struct vgd_display_writer *w,
                                      const struct vgd_link_update *msg)
{
    if (msg->scanout_idx >= w->config.n_scanouts || msg->slot_idx >= VGD_FRAME_SLOTS_COUNT) {
        return VGD_RANGE;
    }
    const struct scanout *s = &w->scanouts[msg->scanout_idx];
    struct slot *slot = &w->slots[msg->slot_idx];
    uint64_t n_bytes = (uint64_t)msg->rect.w_px * msg->rect.h_px * VGD_SCANOUT_PIXEL_BYTES;
    if (slot->used || s->want != SHOWS_PIXELS ||
        !vgd_scanout_rect_ok(msg->rect, s->w_px, s->h_px) || n_bytes > VGD_FRAME_SLOT_BYTES) {
        return VGD_RANGE;
    }
    *slot = (struct slot){
        .used = true, .scanout_idx = msg->scanout_idx, .rect = msg->rect, .order = ++w->last_order};
    if (!w->ready) {
        end_slot(w, msg->slot_idx); /* sent before the worker knew that there is no channel */
    }
    return VGD_OK;
}

static enum vgd_status dmabuf_update_message(struct vgd_display_writer *w,
                                             const struct vgd_link_damage *msg)
{
    if (msg->scanout_idx >= w->config.n_scanouts) {
        return VGD_RANGE;
    }
    struct scanout *s = &w->scanouts[msg->scanout_idx];
    bool is_busy = s->damaged;
    for (uint32_t i = 0; i < w->dmabuf_updates_count; i++) {
        is_busy = is_busy || w->dmabuf_updates[i] == msg->scanout_idx;
    }
    if (is_busy || s->want != SHOWS_DMABUF || !vgd_scanout_rect_ok(msg->rect, s->w_px, s->h_px)) {
        return VGD_RANGE;
    }
    bool may_be_shown = s->is_new || s->told == SHOWS_DMABUF;
    if (w->ready && may_be_shown) {
        s->damaged = true;
        s->damage = msg->rect;
    } else {
        tell_worker_u64(w, VGD_LINK_DMABUF_DONE, msg->scanout_idx);
    }
    return VGD_OK;
}

static enum vgd_status cursor_message(struct vgd_display_writer *w,
                                      const struct vgd_link_cursor_pos *pos,
                                      const struct vgd_link_cursor_update *update)
{
    if (pos->scanout_idx >= w->config.n_scanouts) {
        return VGD_RANGE;
    }
    struct scanout *s = &w->scanouts[pos->scanout_idx];
    if (!w->ready) {
        return VGD_OK;
    }
    if (update != NULL && s->picture == NULL) {
        s->picture = malloc(CURSOR_PICTURE_BYTES);
    }
    if (update != NULL && s->picture != NULL) {
        memcpy(s->picture, update->pixels, CURSOR_PICTURE_BYTES);
        s->hot_x_px = update->hot_x_px;
        s->hot_y_px = update->hot_y_px;
    }
    s->cursor = *pos;
    s->cursor_moved = true;
    return VGD_OK;
}

static enum vgd_status question_message(struct vgd_display_writer *w, uint32_t request,
                                        const struct vgd_link_question *msg)
{
    struct question q = {.request = request, .id = msg->question, .for_them = true};
    if (!w->ready) {
        return VGD_OK; /* the worker answers by itself as soon as it knows */
    }
    if (request == VGD_DISP_GET_DISPLAY_INFO) {
        (void)push_question(w, q);
        return VGD_OK;
    }
    if (msg->scanout_idx >= w->config.n_scanouts) {
        return VGD_RANGE;
    }
    q.scanout_idx = msg->scanout_idx;
    bool may_exist =
        msg->scanout_idx < w->edid_end_idx || (w->enabled >> msg->scanout_idx & 1) != 0;
    if (!may_exist || (w->features >> VGD_DISP_F_EDID & 1) == 0) {
        answer_edid(w, q.id, NULL);
    } else if (w->questions_count + 2 <= QUESTIONS_MAX) {
        (void)push_question(w, q);
        (void)push_question(w, (struct question){.request = VGD_DISP_GET_DISPLAY_INFO});
    }
    return VGD_OK;
}

enum vgd_status vgd_display_writer_message(struct vgd_display_writer *w,
                                           struct vgd_link_message *msg)
{
    static const struct {
        uint32_t type;
        size_t n_bytes;
    } known[] = {
        {VGD_LINK_SCANOUT, sizeof(struct vgd_link_scanout)},
        {VGD_LINK_UPDATE, sizeof(struct vgd_link_update)},
        {VGD_LINK_DMABUF_SCANOUT, sizeof(struct vgd_link_dmabuf_scanout)},
        {VGD_LINK_DMABUF_UPDATE, sizeof(struct vgd_link_damage)},
        {VGD_LINK_CURSOR_UPDATE, sizeof(struct vgd_link_cursor_update)},
        {VGD_LINK_CURSOR_MOVE, sizeof(struct vgd_link_cursor_pos)},
        {VGD_LINK_GET_INFO, sizeof(struct vgd_link_question)},
        {VGD_LINK_GET_EDID, sizeof(struct vgd_link_question)},
    };
    const void *payload = NULL;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && payload == NULL; i++) {
        if (known[i].type == msg->type) {
            payload = vgd_link_payload(msg, known[i].n_bytes);
        }
    }
    if (payload == NULL) {
        return VGD_RANGE;
    }
    enum vgd_status st = VGD_OK;
    switch (msg->type) {
    case VGD_LINK_SCANOUT:
        st = scanout_message(w, payload);
        break;
    case VGD_LINK_UPDATE:
        st = update_message(w, payload);
        break;
    case VGD_LINK_DMABUF_SCANOUT:
        st = dmabuf_scanout_message(w, msg, payload);
        break;
    case VGD_LINK_DMABUF_UPDATE:
        st = dmabuf_update_message(w, payload);
        break;
    case VGD_LINK_CURSOR_UPDATE: {
        const struct vgd_link_cursor_update *update = payload;
        st = cursor_message(w, &update->pos, update);
        break;
    }
    case VGD_LINK_CURSOR_MOVE:
        st = cursor_message(w, payload, NULL);
        break;
    case VGD_LINK_GET_INFO:
        st = question_message(w, VGD_DISP_GET_DISPLAY_INFO, payload);
        break;
    default:
        st = question_message(w, VGD_DISP_GET_EDID, payload);
        break;
    }
    pump(w);
    return st;
}

/* --- Life. --- */

void vgd_display_writer_worker_gone(struct vgd_display_writer *w)
{
    w->has_worker = false;
    for (uint32_t idx = 0; idx < VGD_MAX_SCANOUTS; idx++) {
        struct scanout *s = &w->scanouts[idx];
        drop_pictures(w, idx);
        drop_cursor(s);
        vgd_fd_closep(&s->dmabuf_fd);
        /* The VMM keeps showing the last picture until the next worker says otherwise. */
        s->want = SHOWS_NOTHING;
        s->is_new = false;
    }
    /* A message from a slot goes to its end by itself; the next worker may have the slot. */
    w->out.slot = NO_SLOT;
    for (uint32_t i = 0; i < VGD_FRAME_SLOTS_COUNT; i++) {
        w->slots[i].used = false;
    }
    for (uint32_t i = 0; i < w->questions_count; i++) {
        w->questions[(w->questions_first + i) % QUESTIONS_MAX].for_them = false;
    }
    for (uint32_t i = 0; i < w->dmabuf_updates_count; i++) {
        w->dmabuf_updates[i] = VGD_MAX_SCANOUTS;
    }
}

void vgd_display_writer_worker_started(struct vgd_display_writer *w)
{
    w->has_worker = true;
    tell_state(w);
}

struct vgd_display_writer *vgd_display_writer_create(const struct vgd_display_writer_config *config)
{
    struct vgd_display_writer *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return NULL;
    }
    w->config = *config;
    w->fd = -1;
    w->out.fd = -1;
    w->out.slot = NO_SLOT;
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        w->scanouts[i].dmabuf_fd = -1;
    }
    w->features_timer = vgd_timer_create(config->loop, features_late, w);
    if (w->features_timer == NULL) {
        vgd_display_writer_destroy(w);
        return NULL;
    }
    return w;
}

void vgd_display_writer_destroy(struct vgd_display_writer *w)
{
    if (w == NULL) {
        return;
    }
    w->has_worker = false;
    if (w->features_timer != NULL) {
        drop_channel(w);
    }
    vgd_timer_destroy(&w->features_timer);
    free(w);
}
