/* SPDX-License-Identifier: MIT */
/* The display channel's messages, taken as strictly as QEMU takes them. */
#include <errno.h>
#include <linux/dma-buf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "fd.h"
#include "guest_display_priv.h"

#define ROWS_AT_ONCE 64u
#define SIDE_MAX_PX 16384u
#define FOURCC(a, b, c, d)                                                                         \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

static void violate(struct vgd_guest_display *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void violate(struct vgd_guest_display *d, const char *format, ...)
{
    d->counters.violations++;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(d->violation, sizeof(d->violation), format, args);
    va_end(args);
}

void vgd_guest_display_drop_dmabuf(struct scanout *s)
{
    if (s->dmabuf.map != NULL) {
        (void)munmap((void *)(uintptr_t)s->dmabuf.map, s->dmabuf.map_bytes);
    }
    vgd_fd_closep(&s->dmabuf.fd);
    s->dmabuf = (struct dmabuf){.fd = -1};
    s->opaque = false;
}

void vgd_guest_display_start_message(struct vgd_guest_display *d)
{
    vgd_fd_closep(&d->msg_fd);
    d->state = RX_HEADER;
    d->have_bytes = 0;
    d->want_bytes = VGD_DISP_HDR_SIZE;
}

/* Replies are small: the peer never lets so many collect that the socket fills. */
void vgd_guest_display_reply(struct vgd_guest_display *d, uint32_t request, const void *payload,
                             uint32_t n_bytes)
{
    uint8_t message[VGD_DISP_HDR_SIZE + 2048];
    struct vgd_writer w = vgd_writer_of(message, sizeof(message));
    struct vgd_disp_hdr hdr = {
        .request = request, .flags = VGD_DISP_FLAG_REPLY, .size_bytes = n_bytes};
    vgd_disp_hdr_encode(&w, &hdr);
    vgd_write_bytes(&w, payload, n_bytes);
    (void)send(d->fd, message, vgd_writer_used(&w), MSG_NOSIGNAL);
}

static void answer_display_info(struct vgd_guest_display *d)
{
    uint8_t payload[VGD_CTRL_HDR_SIZE + VGD_RESP_DISPLAY_INFO_SIZE];
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    struct vgd_ctrl_hdr hdr = {.type = VGD_RESP_OK_DISPLAY_INFO};
    struct vgd_resp_display_info info = {0};
    for (uint32_t i = 0; i < d->config.n_scanouts; i++) {
        info.pmodes[i].enabled = 1;
        info.pmodes[i].rect.w_px = d->scanouts[i].info_w_px;
        info.pmodes[i].rect.h_px = d->scanouts[i].info_h_px;
    }
    vgd_ctrl_hdr_encode(&w, &hdr);
    vgd_resp_display_info_encode(&w, &info);
    vgd_guest_display_reply(d, VGD_DISP_GET_DISPLAY_INFO, payload, sizeof(payload));
}

static void answer_edid(struct vgd_guest_display *d, struct vgd_reader *r)
{
    struct vgd_disp_edid_request request;
    if (vgd_disp_edid_request_decode(r, &request) != VGD_OK || vgd_reader_left(r) != 0) {
        violate(d, "GET_EDID of %u bytes", d->hdr.size_bytes);
        return;
    }
    if (request.scanout_id >= d->config.n_scanouts) {
        d->counters.unanswered++; /* as QEMU: no reply at all */
        return;
    }
    struct vgd_resp_edid edid = {.size_bytes = 128};
    vgd_guest_display_edid(request.scanout_id, edid.edid);
    uint8_t payload[VGD_CTRL_HDR_SIZE + VGD_RESP_EDID_SIZE];
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    struct vgd_ctrl_hdr hdr = {.type = VGD_RESP_OK_EDID};
    vgd_ctrl_hdr_encode(&w, &hdr);
    vgd_resp_edid_encode(&w, &edid);
    vgd_guest_display_reply(d, VGD_DISP_GET_EDID, payload, sizeof(payload));
}

/* A picture of this size; the old pixels go when the size changes. */
static bool set_picture(struct vgd_guest_display *d, struct scanout *s, uint32_t w_px,
                        uint32_t h_px)
{
    if (w_px == s->w_px && h_px == s->h_px && s->pixels != NULL) {
        return true;
    }
    free(s->pixels);
    s->pixels = NULL;
    s->w_px = s->h_px = 0;
    if (w_px == 0 || h_px == 0) {
        return true;
    }
    if (w_px > SIDE_MAX_PX || h_px > SIDE_MAX_PX) {
        violate(d, "SCANOUT of %ux%u", w_px, h_px);
        return false;
    }
    s->pixels = calloc((size_t)w_px * h_px, sizeof(uint32_t));
    if (s->pixels == NULL) {
        return false;
    }
    s->w_px = w_px;
    s->h_px = h_px;
    return true;
}

static void on_scanout(struct vgd_guest_display *d, struct vgd_reader *r)
{
    struct vgd_disp_scanout msg;
    if (vgd_disp_scanout_decode(r, &msg) != VGD_OK || vgd_reader_left(r) != 0) {
        violate(d, "SCANOUT of %u bytes", d->hdr.size_bytes);
        return;
    }
    if (msg.scanout_id >= VGD_MAX_SCANOUTS) {
        violate(d, "SCANOUT of scanout %u", msg.scanout_id);
        return;
    }
    struct scanout *s = &d->scanouts[msg.scanout_id];
    vgd_guest_display_drop_dmabuf(s);
    (void)set_picture(d, s, msg.w_px, msg.h_px);
}

static void copy_dmabuf(struct scanout *s, struct vgd_rect rect)
{
    const struct dmabuf *b = &s->dmabuf;
    if (b->map == NULL || s->pixels == NULL) {
        return;
    }
    struct dma_buf_sync sync = {.flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ};
    (void)ioctl(b->fd, DMA_BUF_IOCTL_SYNC, &sync);
    bool swap_red_blue =
        b->fourcc == FOURCC('X', 'B', '2', '4') || b->fourcc == FOURCC('A', 'B', '2', '4');
    for (uint32_t y = rect.y_px; y < rect.y_px + rect.h_px && y < s->h_px && y < b->h_px; y++) {
        uint32_t from_y = b->bottom_up ? b->h_px - 1 - y : y;
        const uint8_t *from = b->map + (size_t)from_y * b->stride_bytes;
        uint32_t *to = s->pixels + (size_t)y * s->w_px;
        for (uint32_t x = rect.x_px; x < rect.x_px + rect.w_px && x < s->w_px && x < b->w_px; x++) {
            uint32_t pixel;
            memcpy(&pixel, from + (size_t)x * 4, 4);
            if (swap_red_blue) {
                pixel = (pixel & 0xff00ff00) | (pixel & 0xff) << 16 | (pixel >> 16 & 0xff);
            }
            to[x] = pixel;
        }
    }
    sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ;
    (void)ioctl(b->fd, DMA_BUF_IOCTL_SYNC, &sync);
}

static void on_dmabuf_scanout(struct vgd_guest_display *d, struct vgd_reader *r)
{
    struct vgd_disp_dmabuf_scanout msg;
    bool second = d->hdr.request == VGD_DISP_DMABUF_SCANOUT2;
    enum vgd_status st;
    if (second) {
        struct vgd_disp_dmabuf_scanout2 msg2 = {0};
        st = vgd_disp_dmabuf_scanout2_decode(r, &msg2);
        msg = msg2.scanout;
    } else {
        st = vgd_disp_dmabuf_scanout_decode(r, &msg);
    }
    if (st != VGD_OK || vgd_reader_left(r) != 0) {
        violate(d, "%s of %u bytes", vgd_disp_request_name(d->hdr.request), d->hdr.size_bytes);
        return;
    }
    if (msg.scanout_id >= VGD_MAX_SCANOUTS) {
        violate(d, "DMABUF_SCANOUT of scanout %u", msg.scanout_id);
        return;
    }
    if (second && (d->config.features & 1u << VGD_DISP_F_DMABUF2) == 0) {
        violate(d, "DMABUF_SCANOUT2 without having been offered");
    }
    struct scanout *s = &d->scanouts[msg.scanout_id];
    vgd_guest_display_drop_dmabuf(s);
    if (d->msg_fd < 0) {
        if (msg.w_px != 0) {
            violate(d, "DMABUF_SCANOUT of %ux%u without a file descriptor", msg.w_px, msg.h_px);
        }
        (void)set_picture(d, s, 0, 0);
        return;
    }
    if (!set_picture(d, s, msg.w_px, msg.h_px)) {
        return;
    }
    s->dmabuf = (struct dmabuf){
        .fd = vgd_fd_take(&d->msg_fd),
        .map_bytes = (size_t)msg.fd_stride_bytes * msg.fd_h_px,
        .stride_bytes = msg.fd_stride_bytes,
        .w_px = msg.fd_w_px,
        .h_px = msg.fd_h_px,
        .fourcc = (uint32_t)msg.fd_fourcc,
        /* Whatever the name says: QEMU's windows put the first row at the bottom when the flag is
         * set (GL counts rows upwards) and at the top when it is not. */
        .bottom_up = (msg.fd_flags & VGD_DISP_DMABUF_Y_0_TOP) != 0,
    };
    void *map = MAP_FAILED;
    if (s->dmabuf.map_bytes > 0) {
        map = mmap(NULL, s->dmabuf.map_bytes, PROT_READ, MAP_SHARED, s->dmabuf.fd, 0);
    }
    if (map == MAP_FAILED) {
        s->opaque = true;
        return;
    }
    s->dmabuf.map = map;
    copy_dmabuf(s, (struct vgd_rect){.w_px = s->w_px, .h_px = s->h_px});
}

static bool update_allowed(struct vgd_guest_display *d, const struct vgd_disp_update *u)
{
    const char *name = vgd_disp_request_name(d->hdr.request);
    if (u->scanout_id >= VGD_MAX_SCANOUTS) {
        violate(d, "%s of scanout %u", name, u->scanout_id);
        return false;
    }
    const struct scanout *s = &d->scanouts[u->scanout_id];
    if (s->pixels == NULL) {
        violate(d, "%s before SCANOUT on scanout %u", name, u->scanout_id);
        return false;
    }
    if (u->x_px > s->w_px || u->w_px > s->w_px - u->x_px || u->y_px > s->h_px ||
        u->h_px > s->h_px - u->y_px) {
        violate(d, "%s %ux%u+%u+%u outside %ux%u", name, u->w_px, u->h_px, u->x_px, u->y_px,
                s->w_px, s->h_px);
        return false;
    }
    return true;
}

static void on_dmabuf_update(struct vgd_guest_display *d, struct vgd_reader *r)
{
    struct vgd_disp_update u;
    if (vgd_disp_update_decode(r, &u) != VGD_OK || vgd_reader_left(r) != 0) {
        violate(d, "DMABUF_UPDATE of %u bytes", d->hdr.size_bytes);
        return;
    }
    if (update_allowed(d, &u)) {
        struct scanout *s = &d->scanouts[u.scanout_id];
        if (s->dmabuf.fd < 0) {
            violate(d, "DMABUF_UPDATE of scanout %u, which is no dma-buf", u.scanout_id);
        }
        copy_dmabuf(
            s, (struct vgd_rect){.x_px = u.x_px, .y_px = u.y_px, .w_px = u.w_px, .h_px = u.h_px});
    }
    if (d->hold_dmabuf) {
        d->held_dmabuf_count++;
    } else {
        vgd_guest_display_reply(d, VGD_DISP_DMABUF_UPDATE, NULL, 0);
    }
}

static void on_cursor_pos(struct vgd_guest_display *d, struct vgd_reader *r)
{
    struct vgd_disp_cursor_pos pos;
    if (vgd_disp_cursor_pos_decode(r, &pos) != VGD_OK || vgd_reader_left(r) != 0) {
        violate(d, "%s of %u bytes", vgd_disp_request_name(d->hdr.request), d->hdr.size_bytes);
        return;
    }
    d->cursor.scanout_id = pos.scanout_id;
    d->cursor.x_px = pos.x_px;
    d->cursor.y_px = pos.y_px;
    d->cursor.visible = d->hdr.request == VGD_DISP_CURSOR_POS;
}

static void on_cursor_update(struct vgd_guest_display *d, struct vgd_reader *r)
{
    struct vgd_disp_cursor_update msg;
    if (vgd_disp_cursor_update_decode(r, &msg) != VGD_OK ||
        vgd_reader_left(r) != VGD_DISP_CURSOR_BYTES) {
        violate(d, "CURSOR_UPDATE of %u bytes", d->hdr.size_bytes);
        return;
    }
    d->cursor.scanout_id = msg.pos.scanout_id;
    d->cursor.x_px = msg.pos.x_px;
    d->cursor.y_px = msg.pos.y_px;
    d->cursor.hot_x_px = msg.hot_x_px;
    d->cursor.hot_y_px = msg.hot_y_px;
    d->cursor.visible = true;
    vgd_read_bytes(r, d->cursor.pixels, VGD_DISP_CURSOR_BYTES);
}

static void on_message(struct vgd_guest_display *d)
{
    struct vgd_reader r = vgd_reader_of(d->bytes, d->hdr.size_bytes);
    switch (d->hdr.request) {
    case VGD_DISP_GET_PROTOCOL_FEATURES:
        vgd_guest_display_reply(d, VGD_DISP_GET_PROTOCOL_FEATURES, &d->config.features,
                                sizeof(uint64_t));
        break;
    case VGD_DISP_SET_PROTOCOL_FEATURES:
        if (d->hdr.size_bytes != VGD_DISP_U64_SIZE) {
            violate(d, "SET_PROTOCOL_FEATURES of %u bytes", d->hdr.size_bytes);
        }
        break;
    case VGD_DISP_GET_DISPLAY_INFO:
        answer_display_info(d);
        break;
    case VGD_DISP_GET_EDID:
        answer_edid(d, &r);
        break;
    case VGD_DISP_CURSOR_POS:
    case VGD_DISP_CURSOR_POS_HIDE:
        on_cursor_pos(d, &r);
        break;
    case VGD_DISP_CURSOR_UPDATE:
        on_cursor_update(d, &r);
        break;
    case VGD_DISP_SCANOUT:
        on_scanout(d, &r);
        break;
    case VGD_DISP_DMABUF_SCANOUT:
    case VGD_DISP_DMABUF_SCANOUT2:
        on_dmabuf_scanout(d, &r);
        break;
    case VGD_DISP_DMABUF_UPDATE:
        on_dmabuf_update(d, &r);
        break;
    default:
        violate(d, "unknown request %u", d->hdr.request);
        break;
    }
}

/* The fixed part of an UPDATE is here: pixels follow. */
static void start_update(struct vgd_guest_display *d)
{
    struct vgd_reader r = vgd_reader_of(d->bytes, VGD_DISP_UPDATE_SIZE);
    enum vgd_status st = vgd_disp_update_decode(&r, &d->update);
    d->update_done_bytes = 0;
    d->update_bytes = d->hdr.size_bytes - VGD_DISP_UPDATE_SIZE;
    uint64_t announced = (uint64_t)d->update.w_px * d->update.h_px * 4;
    bool allowed = st == VGD_OK && update_allowed(d, &d->update);
    if (allowed && announced != d->update_bytes) {
        violate(d, "UPDATE of %ux%u with %llu bytes", d->update.w_px, d->update.h_px,
                (unsigned long long)d->update_bytes);
        allowed = false;
    }
    if (allowed && d->scanouts[d->update.scanout_id].dmabuf.fd >= 0) {
        violate(d, "UPDATE of scanout %u, which is a dma-buf", d->update.scanout_id);
        allowed = false;
    }
    d->state = allowed ? RX_PIXELS : RX_SKIP;
}

static ssize_t read_pixels(struct vgd_guest_display *d)
{
    struct scanout *s = &d->scanouts[d->update.scanout_id];
    uint64_t row_bytes = (uint64_t)d->update.w_px * 4;
    struct iovec rows[ROWS_AT_ONCE];
    uint32_t n = 0;
    uint64_t at = d->update_done_bytes;
    bool whole_rows = d->update.w_px == s->w_px;
    while (n < ROWS_AT_ONCE && at < d->update_bytes) {
        uint64_t row = at / row_bytes;
        uint64_t in_row = at % row_bytes;
        uint8_t *to =
            (uint8_t *)(s->pixels + (d->update.y_px + row) * s->w_px + d->update.x_px) + in_row;
        uint64_t len = whole_rows ? d->update_bytes - at : row_bytes - in_row;
        rows[n++] = (struct iovec){.iov_base = to, .iov_len = len};
        at += len;
    }
    struct msghdr msg = {.msg_iov = rows, .msg_iovlen = n};
    return recvmsg(d->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
}

static ssize_t read_header(struct vgd_guest_display *d)
{
    struct iovec iov = {.iov_base = d->bytes + d->have_bytes,
                        .iov_len = d->want_bytes - d->have_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t got = recvmsg(d->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got <= 0) {
        return got;
    }
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n_fds; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (d->msg_fd < 0) {
                d->msg_fd = fd;
            } else {
                violate(d, "more than one file descriptor");
                vgd_fd_closep(&fd);
            }
        }
    }
    return got;
}

/* A whole header is here. False: the channel is beyond repair. */
static bool on_header(struct vgd_guest_display *d)
{
    struct vgd_reader r = vgd_reader_of(d->bytes, VGD_DISP_HDR_SIZE);
    if (vgd_disp_hdr_decode(&r, &d->hdr) != VGD_OK) {
        return false;
    }
    uint32_t id = d->hdr.request < VGD_GUEST_REQUESTS_MAX ? d->hdr.request : 0;
    d->counters.messages[id]++;
    d->have_bytes = 0;
    d->state = RX_PAYLOAD;
    if (d->hdr.request == VGD_DISP_UPDATE) {
        if (d->hdr.size_bytes < VGD_DISP_UPDATE_SIZE) {
            violate(d, "UPDATE of %u bytes", d->hdr.size_bytes);
            return false;
        }
        d->want_bytes = VGD_DISP_UPDATE_SIZE;
        return true;
    }
    d->want_bytes = d->hdr.size_bytes;
    if (d->hdr.size_bytes > PAYLOAD_MAX) {
        violate(d, "request %u of %u bytes", d->hdr.request, d->hdr.size_bytes);
        return false;
    }
    return true;
}

bool vgd_guest_display_step(struct vgd_guest_display *d)
{
    ssize_t got;
    switch (d->state) {
    case RX_HEADER:
        got = read_header(d);
        break;
    case RX_PAYLOAD:
        got = d->want_bytes == d->have_bytes ? 0
                                             : recv(d->fd, d->bytes + d->have_bytes,
                                                    d->want_bytes - d->have_bytes, MSG_DONTWAIT);
        break;
    case RX_PIXELS:
        got = d->update_done_bytes == d->update_bytes ? 0 : read_pixels(d);
        break;
    case RX_SKIP:
    default: {
        uint8_t waste[4096];
        uint64_t left = d->update_bytes - d->update_done_bytes;
        got = left == 0
                  ? 0
                  : recv(d->fd, waste, left < sizeof(waste) ? left : sizeof(waste), MSG_DONTWAIT);
        break;
    }
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    bool in_pixels = d->state == RX_PIXELS || d->state == RX_SKIP;
    bool whole = in_pixels ? d->update_done_bytes == d->update_bytes
                           : d->state == RX_PAYLOAD && d->have_bytes == d->want_bytes;
    if (got <= 0 && !whole) {
        if (d->state != RX_HEADER || d->have_bytes != 0) {
            violate(d, "closed inside a message (%s)", vgd_disp_request_name(d->hdr.request));
        }
        d->counters.closed_by_peer++;
        vgd_fd_closep(&d->fd);
        return false;
    }
    d->counters.bytes += (uint64_t)got;
    if (in_pixels) {
        d->update_done_bytes += (uint64_t)got;
        d->counters.pixel_bytes += (uint64_t)got;
        if (d->update_done_bytes == d->update_bytes) {
            vgd_guest_display_start_message(d);
        }
        return true;
    }
    d->have_bytes += (size_t)got;
    if (d->have_bytes < d->want_bytes) {
        return true;
    }
    if (d->state == RX_HEADER) {
        if (!on_header(d)) {
            vgd_fd_closep(&d->fd);
            return false;
        }
        if (d->want_bytes > 0) {
            return true;
        }
    }
    if (d->hdr.request == VGD_DISP_UPDATE) {
        start_update(d);
        if (d->update_bytes == 0) {
            vgd_guest_display_start_message(d);
        }
    } else {
        on_message(d);
        if (d->fd >= 0) {
            vgd_guest_display_start_message(d);
        }
    }
    return d->fd >= 0;
}
