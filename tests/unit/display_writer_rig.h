/* SPDX-License-Identifier: MIT */
/* The supervisor's end of the display channel between both sides, which the test plays: the worker,
 * and a VMM that reads slowly, in pieces, not at all, answers late, wrong or never, and goes away.
 */
#ifndef DISPLAY_WRITER_RIG_H
#define DISPLAY_WRITER_RIG_H

#include "display_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "display_channel.h"
#include "display_writer.h"
#include "fd.h"
#include "frames.h"
#include "log.h"
#include "scanout_limits.h"

#define N_SCANOUTS 4u
#define TOLD_MAX 4096u
#define MESSAGE_BYTES_MAX (1u << 20)
#define MS 1000000ull

struct told {
    uint32_t type;
    union {
        struct vgd_link_display_state state;
        struct vgd_link_u64 number;
        struct vgd_link_info_reply info;
        struct vgd_link_edid_reply edid;
    } body;
};

/* One message as the VMM got it. */
struct message {
    struct vgd_disp_hdr hdr;
    uint8_t payload[MESSAGE_BYTES_MAX];
    int fd;
};

struct rig {
    struct vgd_loop *loop;
    uint8_t *frames;
    struct vgd_display_writer *w;
    int vmm_fd;        /* the VMM's end; -1 when closed */
    int writers_fd;    /* another handle of the writer's end */
    struct told *told; /* what the worker was told */
    uint32_t told_count;
    struct message msg; /* the last one read */
    size_t piece_bytes; /* the VMM reads so much at once; 0: as much as there is */
};

static inline void to_worker(void *user, enum vgd_link_type type, const void *payload,
                             size_t n_bytes)
{
    struct rig *rig = user;
    cr_assert_lt(rig->told_count, TOLD_MAX);
    cr_assert_leq(n_bytes, sizeof(rig->told[0].body));
    rig->told[rig->told_count].type = type;
    memcpy(&rig->told[rig->told_count].body, payload, n_bytes);
    rig->told_count++;
}

static inline struct rig *rig_begin_with(bool pixels_only)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    cr_assert_not_null(rig);
    rig->told = calloc(TOLD_MAX, sizeof(rig->told[0]));
    rig->loop = vgd_loop_create();
    rig->vmm_fd = rig->writers_fd = rig->msg.fd = -1;
    rig->frames = mmap(NULL, VGD_FRAMES_BYTES, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert_neq(rig->frames, MAP_FAILED);
    struct vgd_display_writer_config config = {.loop = rig->loop,
                                               .frames = rig->frames,
                                               .n_scanouts = N_SCANOUTS,
                                               .pixels_only = pixels_only,
                                               .to_worker = to_worker,
                                               .user = rig};
    rig->w = vgd_display_writer_create(&config);
    cr_assert_not_null(rig->w);
    return rig;
}

static inline void hang_up(struct rig *rig)
{
    vgd_fd_closep(&rig->vmm_fd);
    vgd_fd_closep(&rig->writers_fd);
}

static inline void rig_end(struct rig *rig)
{
    vgd_display_writer_destroy(rig->w);
    hang_up(rig);
    vgd_fd_closep(&rig->msg.fd);
    vgd_loop_destroy(rig->loop);
    (void)munmap(rig->frames, VGD_FRAMES_BYTES);
    free(rig->told);
    free(rig);
}

static inline void turn(struct rig *rig)
{
    for (unsigned i = 0; i < 8; i++) {
        vgd_loop_turn(rig->loop, 0);
    }
}

static inline uint32_t told(const struct rig *rig, uint32_t type)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < rig->told_count; i++) {
        n += rig->told[i].type == type;
    }
    return n;
}

/* The only message that the worker was told; it is forgotten by the next call. */
static inline const struct told *only_told(struct rig *rig, uint32_t type)
{
    cr_assert_eq(rig->told_count, 1, "%u messages; wanted type %u", rig->told_count, type);
    cr_assert_eq(rig->told[0].type, type, "type %u instead of %u", rig->told[0].type, type);
    rig->told_count = 0;
    return &rig->told[0];
}

/* --- The VMM. --- */

/* Read exactly @n bytes, driving the writer's loop. False: nothing more comes. */
static inline bool vmm_read(struct rig *rig, void *out, size_t n)
{
    uint8_t *at = out;
    for (unsigned idle = 0; n > 0 && idle < 50;) {
        size_t piece = rig->piece_bytes != 0 && rig->piece_bytes < n ? rig->piece_bytes : n;
        struct iovec iov = {.iov_base = at, .iov_len = piece};
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        ssize_t got = recvmsg(rig->vmm_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got <= 0) {
            cr_assert(got == 0 || errno == EAGAIN);
            idle++;
            vgd_loop_turn(rig->loop, 0);
            continue;
        }
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        if (head != NULL) {
            cr_assert_eq(at, out, "a descriptor belongs to the first byte of a message");
            vgd_fd_closep(&rig->msg.fd);
            memcpy(&rig->msg.fd, CMSG_DATA(head), sizeof(int));
        }
        at += got;
        n -= (size_t)got;
        idle = 0;
    }
    return n == 0;
}

/* The next message of the writer, or false. As QEMU does: the three words, then the payload. */
static inline bool vmm_next(struct rig *rig)
{
    vgd_fd_closep(&rig->msg.fd);
    uint32_t words[3];
    if (!vmm_read(rig, &words[0], 4)) {
        return false;
    }
    cr_assert(vmm_read(rig, &words[1], 4) && vmm_read(rig, &words[2], 4), "half a header");
    rig->msg.hdr = (struct vgd_disp_hdr){words[0], words[1], words[2]};
    cr_assert_eq(rig->msg.hdr.flags, 0);
    cr_assert_leq(rig->msg.hdr.size_bytes, MESSAGE_BYTES_MAX);
    cr_assert(vmm_read(rig, rig->msg.payload, rig->msg.hdr.size_bytes), "half a message");
    return true;
}

/* Read the next message, which has to be @request; its payload. */
static inline const uint32_t *vmm_expect(struct rig *rig, uint32_t request, size_t n_bytes)
{
    cr_assert(vmm_next(rig), "no message; wanted %s", vgd_disp_request_name(request));
    cr_assert_eq(rig->msg.hdr.request, request, "%s instead of %s",
                 vgd_disp_request_name(rig->msg.hdr.request), vgd_disp_request_name(request));
    cr_assert_eq(rig->msg.hdr.size_bytes, n_bytes);
    return (const uint32_t *)(const void *)rig->msg.payload;
}

static inline void vmm_send(struct rig *rig, uint32_t request, uint32_t flags, const void *payload,
                            size_t n_bytes, size_t piece_bytes)
{
    uint8_t bytes[2048];
    uint32_t words[3] = {request, flags, (uint32_t)n_bytes};
    memcpy(bytes, words, 12);
    if (n_bytes > 0) {
        memcpy(bytes + 12, payload, n_bytes);
    }
    for (size_t at = 0; at < n_bytes + 12; at += piece_bytes) {
        size_t left = n_bytes + 12 - at;
        size_t n = left < piece_bytes ? left : piece_bytes;
        if (send(rig->vmm_fd, bytes + at, n, MSG_NOSIGNAL) != (ssize_t)n) {
            break; /* the writer has hung up */
        }
        if (left > piece_bytes) {
            turn(rig);
        }
    }
    turn(rig);
}

static inline void vmm_reply(struct rig *rig, uint32_t request, const void *payload, size_t n_bytes)
{
    vmm_send(rig, request, VGD_DISP_FLAG_REPLY, payload, n_bytes, 2048);
}

static inline void vmm_reply_info(struct rig *rig, uint32_t enabled)
{
    static uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_RESP_DISPLAY_INFO_SIZE];
    struct vgd_writer to = vgd_writer_of(bytes, sizeof(bytes));
    struct vgd_ctrl_hdr hdr = {.type = VGD_RESP_OK_DISPLAY_INFO};
    struct vgd_resp_display_info info = {0};
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        info.pmodes[i].enabled = enabled >> i & 1;
        info.pmodes[i].rect.w_px = 1000 + i;
    }
    vgd_ctrl_hdr_encode(&to, &hdr);
    vgd_resp_display_info_encode(&to, &info);
    cr_assert_eq(sizeof(bytes), 408);
    vmm_reply(rig, VGD_DISP_GET_DISPLAY_INFO, bytes, sizeof(bytes));
}

static inline void vmm_reply_edid(struct rig *rig, uint8_t mark, uint32_t size_bytes)
{
    static uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_RESP_EDID_SIZE];
    struct vgd_writer to = vgd_writer_of(bytes, sizeof(bytes));
    struct vgd_ctrl_hdr hdr = {.type = VGD_RESP_OK_EDID};
    struct vgd_resp_edid edid = {.size_bytes = size_bytes};
    memset(edid.edid, mark, sizeof(edid.edid));
    vgd_ctrl_hdr_encode(&to, &hdr);
    vgd_resp_edid_encode(&to, &edid);
    cr_assert_eq(sizeof(bytes), 1056);
    vmm_reply(rig, VGD_DISP_GET_EDID, bytes, sizeof(bytes));
}

/* A new channel, not negotiated. */
static inline void give_channel(struct rig *rig)
{
    hang_up(rig);
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    rig->vmm_fd = fds[0];
    rig->writers_fd = dup(fds[1]);
    vgd_display_writer_connect(rig->w, &fds[1]);
    cr_assert_eq(fds[1], -1);
    if (rig->told_count > 0) { /* there is a worker: it keeps its questions until we know more */
        const struct vgd_link_display_state *s = &rig->told[--rig->told_count].body.state;
        cr_assert_eq(rig->told[rig->told_count].type, VGD_LINK_DISPLAY_STATE);
        cr_assert(s->pending && !s->connected && !s->fresh);
    }
}

static inline void negotiate(struct rig *rig, uint64_t features)
{
    (void)vmm_expect(rig, VGD_DISP_GET_PROTOCOL_FEATURES, 0);
    vmm_reply(rig, VGD_DISP_GET_PROTOCOL_FEATURES, &features, sizeof(features));
    const uint32_t *words = vmm_expect(rig, VGD_DISP_SET_PROTOCOL_FEATURES, 8);
    cr_assert(words[0] == (features & 3) && words[1] == 0);
}

/* A worker, and a channel of today's QEMU. */
static inline struct rig *rig_begin(void)
{
    struct rig *rig = rig_begin_with(false);
    vgd_display_writer_worker_started(rig->w);
    cr_assert_eq(only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state.connected, 0);
    give_channel(rig);
    negotiate(rig, 3);
    const struct vgd_link_display_state *s = &only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state;
    cr_assert(s->connected && s->dmabuf && s->fresh && s->edid);
    return rig;
}

/* --- The worker. --- */

static inline enum vgd_status worker_sends_fds(struct rig *rig, uint32_t type, const void *payload,
                                               size_t n_bytes, int fd)
{
    static struct vgd_link_message msg;
    msg.type = type;
    msg.payload_bytes = (uint32_t)n_bytes;
    memset(msg.payload, 0xa5, sizeof(msg.payload));
    memcpy(msg.payload, payload, n_bytes);
    msg.n_fds = fd >= 0;
    msg.fds[0] = fd;
    enum vgd_status st = vgd_display_writer_message(rig->w, &msg);
    if (msg.n_fds > 0) {
        vgd_fds_close(msg.fds, 1);
    }
    return st;
}

static inline enum vgd_status worker_sends(struct rig *rig, uint32_t type, const void *payload,
                                           size_t n)
{
    return worker_sends_fds(rig, type, payload, n, -1);
}

static inline void scanout(struct rig *rig, uint32_t idx, uint32_t w, uint32_t h)
{
    struct vgd_link_scanout msg = {.scanout_idx = idx, .w_px = w, .h_px = h};
    cr_assert_eq(worker_sends(rig, VGD_LINK_SCANOUT, &msg, sizeof(msg)), VGD_OK);
}

static inline struct vgd_rect rect(uint32_t x, uint32_t y, uint32_t w, uint32_t h)
{
    return (struct vgd_rect){.x_px = x, .y_px = y, .w_px = w, .h_px = h};
}

static inline enum vgd_status update(struct rig *rig, uint32_t idx, struct vgd_rect r,
                                     uint32_t slot)
{
    struct vgd_link_update msg = {.scanout_idx = idx, .rect = r, .slot_idx = slot};
    return worker_sends(rig, VGD_LINK_UPDATE, &msg, sizeof(msg));
}

/* Fill a slot with pixels that tell their place. */
static inline void paint(struct rig *rig, uint32_t slot, uint32_t n_pixels, uint32_t first)
{
    uint32_t *at = (uint32_t *)(void *)(rig->frames + (size_t)slot * VGD_FRAME_SLOT_BYTES);
    for (uint32_t i = 0; i < n_pixels; i++) {
        at[i] = first + i;
    }
}

static inline enum vgd_status dmabuf_scanout(struct rig *rig, uint32_t idx, uint32_t mark)
{
    struct vgd_link_dmabuf_scanout msg = {.scanout_idx = idx,
                                          .rect = rect(0, 0, 600, 400),
                                          .fd_w_px = 640,
                                          .fd_h_px = 480,
                                          .fd_stride_bytes = 2560,
                                          .fourcc = 0x34325258,
                                          .modifier = 0x0102030405060708ull,
                                          .y0_top = 1};
    int fd = vgd_memfd_create("dmabuf", 4096 * mark);
    return worker_sends_fds(rig, VGD_LINK_DMABUF_SCANOUT, &msg, sizeof(msg), fd);
}

static inline enum vgd_status dmabuf_update(struct rig *rig, uint32_t idx)
{
    struct vgd_link_damage msg = {.scanout_idx = idx, .rect = rect(1, 2, 3, 4)};
    return worker_sends(rig, VGD_LINK_DMABUF_UPDATE, &msg, sizeof(msg));
}

static inline void ask(struct rig *rig, uint32_t type, uint32_t question, uint32_t idx)
{
    struct vgd_link_question msg = {.question = question, .scanout_idx = idx};
    cr_assert_eq(worker_sends(rig, type, &msg, sizeof(msg)), VGD_OK);
}

/* Read UPDATEs of scanout @idx until @r is complete; other messages must not come between. Checks
 * what paint() wrote. Returns their number. */
static inline uint32_t expect_picture(struct rig *rig, uint32_t idx, struct vgd_rect r,
                                      uint32_t first)
{
    uint32_t n = 0;
    for (uint32_t y = r.y_px; y < r.y_px + r.h_px; n++) {
        cr_assert(vmm_next(rig), "row %u of %u is missing", y, r.h_px);
        const uint32_t *words = (const uint32_t *)(const void *)rig->msg.payload;
        cr_assert_eq(rig->msg.hdr.request, VGD_DISP_UPDATE);
        cr_assert(words[0] == idx && words[1] == r.x_px && words[2] == y && words[3] == r.w_px);
        uint32_t rows = words[4];
        cr_assert(rows > 0 && rows <= r.y_px + r.h_px - y);
        cr_assert_eq(rig->msg.hdr.size_bytes, 20 + rows * r.w_px * 4, "exact, or QEMU drops it");
        cr_assert(rows == 1 || rows * r.w_px * 4 <= VGD_DISPLAY_BAND_BYTES);
        for (uint32_t i = 0; i < rows * r.w_px; i++) {
            cr_assert_eq(words[5 + i], first + (y - r.y_px) * r.w_px + i);
        }
        y += rows;
    }
    return n;
}

/* Make the socket so small that a message goes in pieces, whatever the writer hopes for. */
static inline void squeeze(const struct rig *rig)
{
    int n = 1;
    cr_assert_eq(setsockopt(rig->writers_fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof(n)), 0);
}

#endif
