/* SPDX-License-Identifier: MIT */
/* The supervisor's end of the display channel. The test plays both sides: the worker, and a VMM
 * that reads slowly, in pieces, not at all, answers late, wrong or never, and goes away. */
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

static void to_worker(void *user, enum vgd_link_type type, const void *payload, size_t n_bytes)
{
    struct rig *rig = user;
    cr_assert_lt(rig->told_count, TOLD_MAX);
    cr_assert_leq(n_bytes, sizeof(rig->told[0].body));
    rig->told[rig->told_count].type = type;
    memcpy(&rig->told[rig->told_count].body, payload, n_bytes);
    rig->told_count++;
}

static struct rig *rig_begin_with(bool pixels_only)
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

static void hang_up(struct rig *rig)
{
    vgd_fd_closep(&rig->vmm_fd);
    vgd_fd_closep(&rig->writers_fd);
}

static void rig_end(struct rig *rig)
{
    vgd_display_writer_destroy(rig->w);
    hang_up(rig);
    vgd_fd_closep(&rig->msg.fd);
    vgd_loop_destroy(rig->loop);
    (void)munmap(rig->frames, VGD_FRAMES_BYTES);
    free(rig->told);
    free(rig);
}

static void turn(struct rig *rig)
{
    for (unsigned i = 0; i < 8; i++) {
        vgd_loop_turn(rig->loop, 0);
    }
}

static uint32_t told(const struct rig *rig, uint32_t type)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < rig->told_count; i++) {
        n += rig->told[i].type == type;
    }
    return n;
}

/* The only message that the worker was told; it is forgotten by the next call. */
static const struct told *only_told(struct rig *rig, uint32_t type)
{
    cr_assert_eq(rig->told_count, 1, "%u messages; wanted type %u", rig->told_count, type);
    cr_assert_eq(rig->told[0].type, type, "type %u instead of %u", rig->told[0].type, type);
    rig->told_count = 0;
    return &rig->told[0];
}

/* --- The VMM. --- */

/* Read exactly @n bytes, driving the writer's loop. False: nothing more comes. */
static bool vmm_read(struct rig *rig, void *out, size_t n)
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
static bool vmm_next(struct rig *rig)
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
static const uint32_t *vmm_expect(struct rig *rig, uint32_t request, size_t n_bytes)
{
    cr_assert(vmm_next(rig), "no message; wanted %s", vgd_disp_request_name(request));
    cr_assert_eq(rig->msg.hdr.request, request, "%s instead of %s",
                 vgd_disp_request_name(rig->msg.hdr.request), vgd_disp_request_name(request));
    cr_assert_eq(rig->msg.hdr.size_bytes, n_bytes);
    return (const uint32_t *)(const void *)rig->msg.payload;
}

static void vmm_send(struct rig *rig, uint32_t request, uint32_t flags, const void *payload,
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

static void vmm_reply(struct rig *rig, uint32_t request, const void *payload, size_t n_bytes)
{
    vmm_send(rig, request, VGD_DISP_FLAG_REPLY, payload, n_bytes, 2048);
}

static void vmm_reply_info(struct rig *rig, uint32_t enabled)
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

static void vmm_reply_edid(struct rig *rig, uint8_t mark, uint32_t size_bytes)
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
static void give_channel(struct rig *rig)
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

static void negotiate(struct rig *rig, uint64_t features)
{
    (void)vmm_expect(rig, VGD_DISP_GET_PROTOCOL_FEATURES, 0);
    vmm_reply(rig, VGD_DISP_GET_PROTOCOL_FEATURES, &features, sizeof(features));
    const uint32_t *words = vmm_expect(rig, VGD_DISP_SET_PROTOCOL_FEATURES, 8);
    cr_assert(words[0] == (features & 3) && words[1] == 0);
}

/* A worker, and a channel of today's QEMU. */
static struct rig *rig_begin(void)
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

static enum vgd_status worker_sends_fds(struct rig *rig, uint32_t type, const void *payload,
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

static enum vgd_status worker_sends(struct rig *rig, uint32_t type, const void *payload, size_t n)
{
    return worker_sends_fds(rig, type, payload, n, -1);
}

static void scanout(struct rig *rig, uint32_t idx, uint32_t w, uint32_t h)
{
    struct vgd_link_scanout msg = {.scanout_idx = idx, .w_px = w, .h_px = h};
    cr_assert_eq(worker_sends(rig, VGD_LINK_SCANOUT, &msg, sizeof(msg)), VGD_OK);
}

static struct vgd_rect rect(uint32_t x, uint32_t y, uint32_t w, uint32_t h)
{
    return (struct vgd_rect){.x_px = x, .y_px = y, .w_px = w, .h_px = h};
}

static enum vgd_status update(struct rig *rig, uint32_t idx, struct vgd_rect r, uint32_t slot)
{
    struct vgd_link_update msg = {.scanout_idx = idx, .rect = r, .slot_idx = slot};
    return worker_sends(rig, VGD_LINK_UPDATE, &msg, sizeof(msg));
}

/* Fill a slot with pixels that tell their place. */
static void paint(struct rig *rig, uint32_t slot, uint32_t n_pixels, uint32_t first)
{
    uint32_t *at = (uint32_t *)(void *)(rig->frames + (size_t)slot * VGD_FRAME_SLOT_BYTES);
    for (uint32_t i = 0; i < n_pixels; i++) {
        at[i] = first + i;
    }
}

static enum vgd_status dmabuf_scanout(struct rig *rig, uint32_t idx, uint32_t mark)
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

static enum vgd_status dmabuf_update(struct rig *rig, uint32_t idx)
{
    struct vgd_link_damage msg = {.scanout_idx = idx, .rect = rect(1, 2, 3, 4)};
    return worker_sends(rig, VGD_LINK_DMABUF_UPDATE, &msg, sizeof(msg));
}

static void ask(struct rig *rig, uint32_t type, uint32_t question, uint32_t idx)
{
    struct vgd_link_question msg = {.question = question, .scanout_idx = idx};
    cr_assert_eq(worker_sends(rig, type, &msg, sizeof(msg)), VGD_OK);
}

/* Read UPDATEs of scanout @idx until @r is complete; other messages must not come between. Checks
 * what paint() wrote. Returns their number. */
static uint32_t expect_picture(struct rig *rig, uint32_t idx, struct vgd_rect r, uint32_t first)
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

/* --- Negotiation. --- */

TIDY_TEST(display_writer, negotiates_what_both_know)
{
    static const struct {
        uint64_t offered;
        bool edid;
    } cases[] = {{0, false}, {1, true}, {2, false}, {3, true}, {UINT64_MAX, true}};
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig *rig = rig_begin_with(false);
        vgd_display_writer_worker_started(rig->w);
        cr_assert(!vgd_display_writer_connected(rig->w));
        give_channel(rig);
        cr_assert(vgd_display_writer_connected(rig->w));
        cr_assert_eq(rig->told_count, 1, "the worker hears of it when it can be used");
        negotiate(rig, cases[i].offered);
        const struct vgd_link_display_state *s = &rig->told[1].body.state;
        cr_assert(s->connected && s->dmabuf && s->fresh && s->edid == cases[i].edid);
        rig_end(rig);
    }
}

TIDY_TEST(display_writer, a_vmm_without_features_is_used_without)
{
    struct rig *rig = rig_begin_with(false);
    vgd_display_writer_worker_started(rig->w);
    give_channel(rig);
    (void)vmm_expect(rig, VGD_DISP_GET_PROTOCOL_FEATURES, 0);
    rig->told_count = 0;
    uint64_t start_ns = vgd_now_ns();
    while (rig->told_count == 0 && vgd_now_ns() - start_ns < 5000 * MS) {
        vgd_loop_turn(rig->loop, 100);
    }
    const struct vgd_link_display_state *s = &only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state;
    cr_assert(s->connected && !s->edid);
    (void)vmm_expect(rig, VGD_DISP_SET_PROTOCOL_FEATURES, 8);
    ask(rig, VGD_LINK_GET_INFO, 5, 0); /* its answer is not taken for the one that never came */
    (void)vmm_expect(rig, VGD_DISP_GET_DISPLAY_INFO, 0);
    vmm_reply_info(rig, 1);
    cr_assert_eq(only_told(rig, VGD_LINK_INFO_REPLY)->body.info.question, 5);
    rig_end(rig);
}

TIDY_TEST(display_writer, pixels_only_is_told_to_the_worker)
{
    struct rig *rig = rig_begin_with(true);
    vgd_display_writer_worker_started(rig->w);
    give_channel(rig);
    negotiate(rig, 3);
    cr_assert(rig->told[1].body.state.connected && !rig->told[1].body.state.dmabuf);
    rig_end(rig);
}

/* --- Pixels. --- */

TIDY_TEST(display_writer, a_scanout_comes_before_its_first_update_and_after_off)
{
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < 2; i++) {
        scanout(rig, 1, 640, 480);
        paint(rig, 2, 100, 7);
        cr_assert_eq(update(rig, 1, rect(5, 6, 10, 10), 2), VGD_OK);
        const uint32_t *words = vmm_expect(rig, VGD_DISP_SCANOUT, 12);
        cr_assert(words[0] == 1 && words[1] == 640 && words[2] == 480);
        cr_assert_eq(expect_picture(rig, 1, rect(5, 6, 10, 10), 7), 1);
        cr_assert_eq(only_told(rig, VGD_LINK_FRAME_DONE)->body.number.value, 2);

        scanout(rig, 1, 640, 480); /* a flip: nothing new to the VMM */
        cr_assert_eq(update(rig, 1, rect(0, 0, 10, 10), 2), VGD_OK);
        (void)expect_picture(rig, 1, rect(0, 0, 10, 10), 7);
        rig->told_count = 0;

        scanout(rig, 1, 0, 0);
        words = vmm_expect(rig, VGD_DISP_SCANOUT, 12);
        cr_assert(words[0] == 1 && words[1] == 0);
        cr_assert_eq(update(rig, 1, rect(0, 0, 10, 10), 2), VGD_RANGE);
    }
    cr_assert(!vmm_next(rig));
    rig_end(rig);
}

TIDY_TEST(display_writer, large_updates_go_in_bands_from_the_frame_memory)
{
    static const size_t pieces[] = {0, 7919, 100000};
    for (uint32_t i = 0; i < 3; i++) {
        struct rig *rig = rig_begin();
        rig->piece_bytes = pieces[i];
        scanout(rig, 0, 1920, 1080);
        paint(rig, 3, 1920 * 1080, 1000);
        cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 3), VGD_OK);
        (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
        cr_assert_eq(rig->told_count, 0);
        uint32_t n = expect_picture(rig, 0, rect(0, 0, 1920, 1080), 1000);
        cr_assert_eq(n, (1080 + 16) / 17, "17 rows of 7680 bytes a band");
        cr_assert_eq(only_told(rig, VGD_LINK_FRAME_DONE)->body.number.value, 3);
        rig_end(rig);
    }
}

/* Whatever the shape: exact sizes, every row once. */
TIDY_TEST(display_writer, every_shape_of_update_is_whole)
{
    static const struct vgd_rect shapes[] = {
        {0, 0, 1, 1},    {8191, 0, 1, 8192},   {0, 8191, 8192, 1},  {1, 2, 3, 5000},
        {0, 0, 8192, 8}, {100, 100, 33, 1000}, {5000, 1, 1024, 33},
    };
    for (uint32_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct rig *rig = rig_begin();
        scanout(rig, 0, 8192, 8192);
        (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
        paint(rig, 0, shapes[i].w_px * shapes[i].h_px, i);
        cr_assert_eq(update(rig, 0, shapes[i], 0), VGD_OK);
        (void)expect_picture(rig, 0, shapes[i], i);
        (void)only_told(rig, VGD_LINK_FRAME_DONE);
        cr_assert(!vmm_next(rig));
        rig_end(rig);
    }
}

/* What lies in the socket when nobody reads, and we go, ends with a whole message. */
TIDY_TEST(display_writer, nobody_is_ever_left_with_half_a_message)
{
    for (uint32_t w_px = 200; w_px < 8192; w_px += 1111) { /* bands of many sizes */
        struct rig *rig = rig_begin();
        scanout(rig, 0, w_px, 2000);
        scanout(rig, 1, w_px, 2000);
        for (uint32_t slot = 0; slot < VGD_FRAME_SLOTS_COUNT; slot++) {
            cr_assert_eq(update(rig, slot % 2, rect(0, 0, w_px, 2000), slot), VGD_OK);
        }
        turn(rig);
        cr_assert_eq(told(rig, VGD_LINK_FRAME_DONE), 0);
        vgd_display_writer_destroy(rig->w); /* as if we were killed */
        rig->w = NULL;
        uint32_t n = 0;
        while (vmm_next(rig)) { /* asserts that none is half */
            n++;
        }
        cr_assert(n >= 3 && n < 30, "%u messages", n);
        rig_end(rig);
    }
}

TIDY_TEST(display_writer, small_messages_overtake_pixels)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    struct vgd_link_cursor_pos pos = {.scanout_idx = 0, .x_px = 5, .y_px = 6};
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_MOVE, &pos, sizeof(pos)), VGD_OK);
    uint32_t before = 0, after = 0;
    bool seen = false;
    while (vmm_next(rig)) {
        seen = seen || rig->msg.hdr.request == VGD_DISP_CURSOR_POS;
        before += !seen;
        after += seen;
    }
    cr_assert(seen && before < 8 && after > 50, "%u before, %u after", before, after);
    rig_end(rig);
}

TIDY_TEST(display_writer, two_scanouts_share_the_channel)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    scanout(rig, 1, 1920, 1080);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    cr_assert_eq(update(rig, 1, rect(0, 0, 1920, 1080), 1), VGD_OK);
    uint32_t rows[2] = {0, 0};
    while (vmm_next(rig)) {
        const uint32_t *words = (const uint32_t *)(const void *)rig->msg.payload;
        cr_assert_eq(rig->msg.hdr.request, VGD_DISP_UPDATE);
        rows[words[0]] += words[4];
        uint32_t ahead = rows[0] > rows[1] ? rows[0] - rows[1] : rows[1] - rows[0];
        cr_assert_lt(ahead, 200, "in turn");
    }
    cr_assert(rows[0] == 1080 && rows[1] == 1080);
    rig_end(rig);
}

TIDY_TEST(display_writer, a_new_size_drops_what_waits)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 1), VGD_OK);
    scanout(rig, 0, 64, 64);
    paint(rig, 2, 64 * 64, 3);
    cr_assert_eq(update(rig, 0, rect(0, 0, 64, 64), 2), VGD_OK);
    uint32_t old = 0;
    while (vmm_next(rig) && rig->msg.hdr.request == VGD_DISP_UPDATE) {
        old++;
    }
    cr_assert_lt(old, 8, "only what was in the socket already");
    cr_assert_eq(rig->msg.hdr.request, VGD_DISP_SCANOUT);
    (void)expect_picture(rig, 0, rect(0, 0, 64, 64), 3);
    bool done[3] = {false};
    cr_assert_eq(rig->told_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        done[rig->told[i].body.number.value] = true;
    }
    cr_assert(done[0] && done[1] && done[2], "each slot comes back once");
    rig_end(rig);
}

/* --- Channels go. --- */

/* Make the socket so small that a message goes in pieces, whatever the writer hopes for. */
static void squeeze(const struct rig *rig)
{
    int n = 1;
    cr_assert_eq(setsockopt(rig->writers_fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof(n)), 0);
}

TIDY_TEST(display_writer, a_channel_that_closes_mid_message_is_no_trouble)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    squeeze(rig);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 1), VGD_OK);
    uint8_t some[5000];
    cr_assert(vmm_read(rig, some, sizeof(some)));
    cr_assert_eq(rig->told_count, 0);
    hang_up(rig);
    turn(rig);
    cr_assert(!vgd_display_writer_connected(rig->w));
    cr_assert_eq(told(rig, VGD_LINK_FRAME_DONE), 2);
    cr_assert_eq(rig->told[2].type, VGD_LINK_DISPLAY_STATE);
    cr_assert_eq(rig->told[2].body.state.connected, 0);
    uint64_t start_ns = vgd_now_ns();
    vgd_loop_turn(rig->loop, 50);
    cr_assert_geq(vgd_now_ns() - start_ns, 45 * MS, "nothing wakes the loop any more");

    /* Told before the worker knew: answered at once. */
    rig->told_count = 0;
    cr_assert_eq(update(rig, 0, rect(0, 0, 10, 10), 0), VGD_OK);
    cr_assert_eq(only_told(rig, VGD_LINK_FRAME_DONE)->body.number.value, 0);
    ask(rig, VGD_LINK_GET_INFO, 1, 0);
    cr_assert_eq(rig->told_count, 0, "the worker answers by itself");

    give_channel(rig);
    negotiate(rig, 3);
    cr_assert_eq(only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state.fresh, 1);
    const uint32_t *words = vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    cr_assert(words[0] == 0 && words[1] == 1920, "a fresh channel starts with the scanout");
    paint(rig, 0, 100, 4);
    cr_assert_eq(update(rig, 0, rect(0, 0, 10, 10), 0), VGD_OK);
    (void)expect_picture(rig, 0, rect(0, 0, 10, 10), 4);
    rig_end(rig);
}

/* Whatever is on its way or waits: its memory and its descriptor go with the channel. */
TIDY_TEST(display_writer, a_channel_that_closes_takes_all_with_it)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct rig *rig = rig_begin();
        squeeze(rig);
        static struct vgd_link_cursor_update cursor;
        if (i == 0) { /* the picture is half sent */
            cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor)),
                         VGD_OK);
        }
        scanout(rig, 1, 1920, 1080);
        cr_assert_eq(update(rig, 1, rect(0, 0, 1920, 1080), 0), VGD_OK);
        if (i == 2) { /* one of its bands is whole: the dma-buf's message is next */
            uint8_t some[150000];
            cr_assert(vmm_read(rig, some, sizeof(some)));
        }
        cr_assert_eq(dmabuf_scanout(rig, 0, 1), VGD_OK);
        cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor)), VGD_OK);
        cr_assert_eq(dmabuf_update(rig, 0), VGD_OK);
        turn(rig);
        hang_up(rig);
        turn(rig);
        cr_assert_eq(told(rig, VGD_LINK_FRAME_DONE), 1);
        cr_assert_eq(told(rig, VGD_LINK_DMABUF_DONE), 1);
        rig_end(rig);
    }
}

TIDY_TEST(display_writer, a_fresh_channel_replaces_the_old_one)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    cr_assert_eq(dmabuf_scanout(rig, 1, 1), VGD_OK);
    cr_assert_eq(dmabuf_update(rig, 1), VGD_OK);
    int old_fd = vgd_fd_take(&rig->vmm_fd);
    vgd_fd_closep(&rig->writers_fd);
    give_channel(rig);
    cr_assert_eq(told(rig, VGD_LINK_FRAME_DONE), 1);
    cr_assert_eq(told(rig, VGD_LINK_DMABUF_DONE), 1);
    char byte;
    ssize_t n;
    while ((n = recv(old_fd, &byte, 1, MSG_DONTWAIT)) == 1) {
    }
    cr_assert_eq(n, 0, "the old one is closed");
    vgd_fd_closep(&old_fd);
    rig->told_count = 0;
    negotiate(rig, 3);
    cr_assert_eq(only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state.fresh, 1);
    rig_end(rig);
}

/* vhost-user-vga shows its own picture until a scanout is set: leave it alone. */
TIDY_TEST(display_writer, off_is_only_told_where_something_was_shown)
{
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < N_SCANOUTS; i++) {
        scanout(rig, i, 0, 0);
    }
    cr_assert(!vmm_next(rig));
    scanout(rig, 2, 640, 480);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    give_channel(rig);
    for (uint32_t i = 0; i < N_SCANOUTS; i++) {
        scanout(rig, i, 0, 0);
    }
    negotiate(rig, 3);
    const uint32_t *words = vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    cr_assert(words[0] == 2 && words[1] == 0, "the VMM may still show it");
    cr_assert(!vmm_next(rig));
    rig_end(rig);
}

/* --- Workers go. --- */

TIDY_TEST(display_writer, a_message_begun_is_finished_after_the_workers_death)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    squeeze(rig);
    paint(rig, 0, 1920 * 1080, 50);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 1), VGD_OK);
    vgd_display_writer_worker_gone(rig->w);
    cr_assert_eq(rig->told_count, 0, "nobody to tell");
    vgd_display_writer_worker_started(rig->w);
    cr_assert_eq(only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state.fresh, 1);

    cr_assert_eq(update(rig, 0, rect(0, 0, 10, 10), 0), VGD_RANGE, "it has shown nothing yet");
    scanout(rig, 0, 1920, 1080);
    cr_assert_eq(update(rig, 0, rect(100, 200, 10, 10), 0), VGD_OK, "its slots are free");
    cr_assert(vmm_next(rig));
    const uint32_t *words = (const uint32_t *)(const void *)rig->msg.payload;
    cr_assert(rig->msg.hdr.request == VGD_DISP_UPDATE && words[2] == 0 && words[4] == 17);
    for (uint32_t i = 0; i < 17 * 1920; i++) {
        cr_assert_eq(words[5 + i], 50 + i);
    }
    /* Then the new worker's; no SCANOUT of the same size, so the screen does not flicker. */
    (void)expect_picture(rig, 0, rect(100, 200, 10, 10), 50);
    cr_assert_eq(only_told(rig, VGD_LINK_FRAME_DONE)->body.number.value, 0);
    cr_assert(!vmm_next(rig));
    rig_end(rig);
}

TIDY_TEST(display_writer, answers_to_a_dead_worker_are_not_told_to_the_next)
{
    struct rig *rig = rig_begin();
    ask(rig, VGD_LINK_GET_INFO, 1, 0);
    ask(rig, VGD_LINK_GET_EDID, 2, 0);
    cr_assert_eq(dmabuf_scanout(rig, 0, 1), VGD_OK);
    cr_assert_eq(dmabuf_update(rig, 0), VGD_OK);
    (void)vmm_expect(rig, VGD_DISP_GET_DISPLAY_INFO, 0);
    vgd_display_writer_worker_gone(rig->w);
    vgd_display_writer_worker_started(rig->w);
    rig->told_count = 0;
    ask(rig, VGD_LINK_GET_INFO, 1, 0); /* it counts from 1 too */
    cr_assert_eq(dmabuf_scanout(rig, 0, 1), VGD_OK);
    cr_assert_eq(dmabuf_update(rig, 0), VGD_OK);
    uint32_t updates = 0;
    while (vmm_next(rig)) {
        updates += rig->msg.hdr.request == VGD_DISP_DMABUF_UPDATE;
    }
    cr_assert_eq(updates, 2);
    vmm_reply_info(rig, 1);                          /* the old worker's */
    vmm_reply_edid(rig, 9, 128);                     /* too */
    vmm_reply_info(rig, 1);                          /* behind its EDID */
    vmm_reply(rig, VGD_DISP_DMABUF_UPDATE, NULL, 0); /* its update */
    cr_assert_eq(rig->told_count, 0);
    vmm_reply_info(rig, 3);
    cr_assert_eq(only_told(rig, VGD_LINK_INFO_REPLY)->body.info.info.pmodes[1].enabled, 1);
    vmm_reply(rig, VGD_DISP_DMABUF_UPDATE, NULL, 0);
    cr_assert_eq(only_told(rig, VGD_LINK_DMABUF_DONE)->body.number.value, 0);
    rig_end(rig);
}

/* --- dma-bufs. --- */

static off_t size_of(int fd)
{
    struct stat info;
    cr_assert_eq(fstat(fd, &info), 0);
    return info.st_size;
}

TIDY_TEST(display_writer, dmabufs_go_with_their_descriptor)
{
    for (uint32_t features = 1; features <= 3; features += 2) {
        struct rig *rig = rig_begin_with(false);
        vgd_display_writer_worker_started(rig->w);
        give_channel(rig);
        negotiate(rig, features);
        rig->told_count = 0;
        cr_assert_eq(dmabuf_scanout(rig, 1, 3), VGD_OK);
        bool is_2 = features == 3;
        const uint32_t *words = vmm_expect(
            rig, is_2 ? VGD_DISP_DMABUF_SCANOUT2 : VGD_DISP_DMABUF_SCANOUT, is_2 ? 48 : 40);
        static const uint32_t want[] = {1, 0, 0, 600, 400, 640, 480, 2560, 1, 0x34325258};
        cr_assert_arr_eq(words, want, sizeof(want));
        cr_assert(!is_2 || (words[10] == 0x05060708 && words[11] == 0x01020304));
        cr_assert_eq(size_of(rig->msg.fd), 4096 * 3);

        cr_assert_eq(dmabuf_update(rig, 1), VGD_OK);
        words = vmm_expect(rig, VGD_DISP_DMABUF_UPDATE, 20);
        cr_assert(words[0] == 1 && words[1] == 1 && words[2] == 2 && words[3] == 3);
        cr_assert_eq(dmabuf_update(rig, 1), VGD_RANGE, "one at a time");
        cr_assert_eq(rig->told_count, 0);
        vmm_reply(rig, VGD_DISP_DMABUF_UPDATE, NULL, 0);
        cr_assert_eq(only_told(rig, VGD_LINK_DMABUF_DONE)->body.number.value, 1);
        vmm_reply(rig, VGD_DISP_DMABUF_UPDATE, NULL, 0); /* nobody asked */
        cr_assert(rig->told_count == 0 && vgd_display_writer_connected(rig->w));
        rig_end(rig);
    }
}

TIDY_TEST(display_writer, dmabuf_answers_are_taken_in_order)
{
    struct rig *rig = rig_begin();
    static const uint32_t order[] = {2, 0, 3};
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(dmabuf_scanout(rig, order[i], 1), VGD_OK);
        cr_assert_eq(dmabuf_update(rig, order[i]), VGD_OK);
    }
    for (uint32_t i = 0; i < 3; i++) {
        vmm_reply(rig, VGD_DISP_DMABUF_UPDATE, NULL, 0);
        cr_assert_eq(only_told(rig, VGD_LINK_DMABUF_DONE)->body.number.value, order[i]);
    }
    rig_end(rig);
}

TIDY_TEST(display_writer, from_dmabuf_to_pixels_and_off)
{
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert_eq(dmabuf_scanout(rig, 0, 1), VGD_OK);
        (void)vmm_expect(rig, VGD_DISP_DMABUF_SCANOUT2, 48);
        bool off = i == 1;
        scanout(rig, 0, off ? 0 : 600, off ? 0 : 400);
        const uint32_t *words = vmm_expect(rig, VGD_DISP_DMABUF_SCANOUT, 40);
        cr_assert(words[0] == 0 && words[3] == 0);
        cr_assert_eq(rig->msg.fd, -1, "without a descriptor: the VMM lets go of ours");
        words = vmm_expect(rig, VGD_DISP_SCANOUT, 12);
        cr_assert(words[1] == (off ? 0 : 600));
        cr_assert(!vmm_next(rig));
    }
    rig_end(rig);
}

/* Only the newest waits: no descriptors pile up. */
TIDY_TEST(display_writer, a_vmm_that_does_not_read_gets_the_newest_dmabuf)
{
    struct rig *rig = rig_begin();
    squeeze(rig);
    scanout(rig, 1, 1920, 1080);
    cr_assert_eq(update(rig, 1, rect(0, 0, 1920, 1080), 0), VGD_OK); /* clogs it */
    unsigned fds_before = open_fds_count();
    for (uint32_t i = 1; i <= 100; i++) {
        cr_assert_eq(dmabuf_scanout(rig, 0, i), VGD_OK);
        cr_assert_eq(dmabuf_update(rig, 0), VGD_OK);
        cr_assert_eq(told(rig, VGD_LINK_DMABUF_DONE), i - 1, "a dropped one is answered");
    }
    cr_assert_leq(open_fds_count(), fds_before + 1);
    uint32_t n = 0;
    off_t newest = 0;
    while (vmm_next(rig)) {
        if (rig->msg.fd >= 0) {
            n++;
            newest = size_of(rig->msg.fd);
        }
    }
    cr_assert(n == 1 && newest == 4096 * 100, "%u, %ld", n, (long)newest);
    rig_end(rig);
}

/* --- Cursor. --- */

TIDY_TEST(display_writer, cursor)
{
    struct rig *rig = rig_begin();
    static struct vgd_link_cursor_update cursor;
    cursor.pos = (struct vgd_link_cursor_pos){.scanout_idx = 2, .x_px = 10, .y_px = 20};
    cursor.hot_x_px = 3;
    cursor.hot_y_px = 4;
    memset(cursor.pixels, 0x77, sizeof(cursor.pixels));
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor)), VGD_OK);
    const uint32_t *words = vmm_expect(rig, VGD_DISP_CURSOR_UPDATE, 16404);
    static const uint32_t want[] = {2, 10, 20, 3, 4, 0x77777777};
    cr_assert_arr_eq(words, want, sizeof(want));
    cr_assert_eq(words[4100], 0x77777777);

    struct vgd_link_cursor_pos pos = {.scanout_idx = 2, .x_px = 11, .y_px = 21};
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_MOVE, &pos, sizeof(pos)), VGD_OK);
    words = vmm_expect(rig, VGD_DISP_CURSOR_POS, 12);
    cr_assert(words[0] == 2 && words[1] == 11 && words[2] == 21);
    pos.hide = 1;
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_MOVE, &pos, sizeof(pos)), VGD_OK);
    (void)vmm_expect(rig, VGD_DISP_CURSOR_POS_HIDE, 12);
    rig_end(rig);
}

TIDY_TEST(display_writer, a_vmm_that_does_not_read_gets_the_newest_cursor)
{
    struct rig *rig = rig_begin();
    squeeze(rig);
    scanout(rig, 1, 1920, 1080);
    cr_assert_eq(update(rig, 1, rect(0, 0, 1920, 1080), 0), VGD_OK);
    static struct vgd_link_cursor_update cursor;
    for (uint32_t i = 0; i < 1000; i++) {
        memset(cursor.pixels, (int)(i & 0xff), sizeof(cursor.pixels));
        cursor.pos.x_px = i;
        cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor)), VGD_OK);
        cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_MOVE, &cursor.pos, sizeof(cursor.pos)),
                     VGD_OK);
    }
    uint32_t n = 0;
    while (vmm_next(rig)) {
        if (rig->msg.hdr.request == VGD_DISP_CURSOR_UPDATE) {
            const uint32_t *words = (const uint32_t *)(const void *)rig->msg.payload;
            cr_assert(words[1] == 999 && rig->msg.payload[20] == (999 & 0xff));
            n++;
        }
    }
    cr_assert_eq(n, 1);
    rig_end(rig);
}

/* --- Questions. --- */

TIDY_TEST(display_writer, questions_and_answers)
{
    struct rig *rig = rig_begin();
    ask(rig, VGD_LINK_GET_INFO, 41, 0);
    (void)vmm_expect(rig, VGD_DISP_GET_DISPLAY_INFO, 0);
    vmm_reply_info(rig, 5);
    const struct vgd_link_info_reply *info = &only_told(rig, VGD_LINK_INFO_REPLY)->body.info;
    cr_assert(info->question == 41 && info->info.pmodes[2].enabled == 1);
    cr_assert(info->info.pmodes[1].enabled == 0 && info->info.pmodes[15].rect.w_px == 1015);

    ask(rig, VGD_LINK_GET_EDID, 42, 1);
    cr_assert_eq(vmm_expect(rig, VGD_DISP_GET_EDID, 4)[0], 1);
    vmm_reply_edid(rig, 9, 256);
    const struct vgd_link_edid_reply *edid = &only_told(rig, VGD_LINK_EDID_REPLY)->body.edid;
    cr_assert(edid->question == 42 && edid->size_bytes == 256 && edid->edid[255] == 9);
    (void)vmm_expect(rig, VGD_DISP_GET_DISPLAY_INFO, 0);
    vmm_reply_info(rig, 5);
    cr_assert_eq(rig->told_count, 0, "that one was our own");
    rig_end(rig);
}

/* QEMU says nothing to GET_EDID for a scanout that it does not have. */
TIDY_TEST(display_writer, an_edid_that_is_never_answered_confuses_nothing)
{
    struct rig *rig = rig_begin();
    ask(rig, VGD_LINK_GET_EDID, 1, 0);
    ask(rig, VGD_LINK_GET_EDID, 2, 2); /* not there */
    ask(rig, VGD_LINK_GET_EDID, 3, 1);
    ask(rig, VGD_LINK_GET_INFO, 4, 0);
    uint32_t asked = 0;
    while (vmm_next(rig)) {
        asked++;
        if (rig->msg.hdr.request == VGD_DISP_GET_DISPLAY_INFO) {
            vmm_reply_info(rig, 1);
        } else if (rig->msg.payload[0] != 2) {
            vmm_reply_edid(rig, (uint8_t)(10 + rig->msg.payload[0]), 128);
        }
    }
    cr_assert_eq(asked, 7);
    cr_assert_eq(rig->told_count, 4);
    for (uint32_t i = 0; i < 3; i++) {
        const struct vgd_link_edid_reply *edid = &rig->told[i].body.edid;
        cr_assert_eq(edid->question, i + 1);
        cr_assert_eq(edid->size_bytes, i == 1 ? 0 : 128);
        cr_assert_eq(edid->edid[0], i == 0 ? 10 : i == 1 ? 0 : 11);
    }
    cr_assert_eq(rig->told[3].body.info.question, 4);

    /* And it is not asked again, nor what comes behind it: QEMU prints a line for each. */
    rig->told_count = 0;
    ask(rig, VGD_LINK_GET_EDID, 5, 2);
    cr_assert_eq(only_told(rig, VGD_LINK_EDID_REPLY)->body.edid.size_bytes, 0);
    ask(rig, VGD_LINK_GET_EDID, 6, 3);
    cr_assert_eq(only_told(rig, VGD_LINK_EDID_REPLY)->body.edid.question, 6);
    cr_assert(!vmm_next(rig));
    ask(rig, VGD_LINK_GET_EDID, 7, 1);
    (void)vmm_expect(rig, VGD_DISP_GET_EDID, 4);
    rig_end(rig);
}

TIDY_TEST(display_writer, a_reply_may_come_byte_by_byte)
{
    struct rig *rig = rig_begin_with(false);
    vgd_display_writer_worker_started(rig->w);
    give_channel(rig);
    uint64_t features = 3;
    vmm_send(rig, VGD_DISP_GET_PROTOCOL_FEATURES, VGD_DISP_FLAG_REPLY, &features, 8, 1);
    cr_assert(rig->told_count == 2 && rig->told[1].body.state.connected);
    rig_end(rig);
}

TIDY_TEST(display_writer, what_is_no_reply_ends_the_channel)
{
    static const struct {
        const char *name;
        uint32_t request, flags, n_bytes;
    } cases[] = {
        {"not a reply", VGD_DISP_GET_DISPLAY_INFO, 0, 408},
        {"short info", VGD_DISP_GET_DISPLAY_INFO, 4, 407},
        {"long info", VGD_DISP_GET_DISPLAY_INFO, 4, 409},
        {"short edid", VGD_DISP_GET_EDID, 4, 0},
        {"a payload where none is", VGD_DISP_DMABUF_UPDATE, 4, 4},
        {"a kind without replies", VGD_DISP_SCANOUT, 4, 0},
        {"no such kind", 99, 4, 0},
        {"kind 0", 0, 4, 0},
    };
    static const uint8_t payload[512];
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig *rig = rig_begin();
        ask(rig, VGD_LINK_GET_INFO, 1, 0);
        vmm_send(rig, cases[i].request, cases[i].flags, payload, cases[i].n_bytes, 2048);
        cr_assert(!vgd_display_writer_connected(rig->w), "%s", cases[i].name);
        cr_assert_eq(only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state.connected, 0);
        rig_end(rig);
    }
    /* A size of 4 GiB allocates nothing and waits for nothing. */
    struct rig *rig = rig_begin();
    static const uint32_t huge[3] = {VGD_DISP_GET_EDID, 4, UINT32_MAX};
    cr_assert_eq(send(rig->vmm_fd, huge, sizeof(huge), 0), sizeof(huge));
    turn(rig);
    cr_assert(!vgd_display_writer_connected(rig->w));
    rig_end(rig);
    /* An EDID that says it is longer than its field. */
    rig = rig_begin();
    ask(rig, VGD_LINK_GET_EDID, 1, 0);
    vmm_reply_edid(rig, 1, 1025);
    cr_assert(!vgd_display_writer_connected(rig->w));
    rig_end(rig);
}

TIDY_TEST(display_writer, replies_that_nobody_asked_for_are_dropped)
{
    struct rig *rig = rig_begin();
    vmm_reply_info(rig, 1);
    vmm_reply_edid(rig, 1, 128);
    uint64_t features = 0;
    vmm_reply(rig, VGD_DISP_GET_PROTOCOL_FEATURES, &features, 8);
    ask(rig, VGD_LINK_GET_INFO, 7, 0);
    vmm_reply_edid(rig, 1, 128); /* not what is due */
    cr_assert_eq(rig->told_count, 0);
    vmm_reply_info(rig, 1);
    cr_assert_eq(only_told(rig, VGD_LINK_INFO_REPLY)->body.info.question, 7);
    rig_end(rig);
}

TIDY_TEST(display_writer, a_flood_of_questions_is_bounded)
{
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < 10000; i++) {
        ask(rig, i % 2 ? VGD_LINK_GET_INFO : VGD_LINK_GET_EDID, i, i % N_SCANOUTS);
    }
    uint32_t n = 0;
    while (vmm_next(rig)) {
        n++;
    }
    cr_assert_leq(n, 128);
    rig_end(rig);
}

/* --- A worker that was taken over. --- */

TIDY_TEST(display_writer, what_cannot_be_believed_is_refused)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 640, 480);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    scanout(rig, 1, 8192, 8192);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    squeeze(rig);
    paint(rig, 1, 640 * 480, 8);
    cr_assert_eq(update(rig, 0, rect(0, 0, 640, 480), 1), VGD_OK);

    static const struct {
        const char *name;
        struct vgd_link_update msg;
    } updates[] = {
        {"scanout", {N_SCANOUTS, {0, 0, 1, 1}, 0}},
        {"scanout all ones", {UINT32_MAX, {0, 0, 1, 1}, 0}},
        {"a scanout that is off", {2, {0, 0, 1, 1}, 0}},
        {"slot", {0, {0, 0, 1, 1}, VGD_FRAME_SLOTS_COUNT}},
        {"slot all ones", {0, {0, 0, 1, 1}, UINT32_MAX}},
        {"a slot in flight", {0, {0, 0, 1, 1}, 1}},
        {"empty", {0, {0, 0, 0, 1}, 0}},
        {"no rows", {0, {0, 0, 1, 0}, 0}},
        {"one past the right", {0, {1, 0, 640, 480}, 0}},
        {"one past the bottom", {0, {0, 1, 640, 480}, 0}},
        {"x past the edge", {0, {641, 0, 1, 1}, 0}},
        {"x + w wraps", {0, {UINT32_MAX, 0, 2, 1}, 0}},
        {"y + h wraps", {0, {0, UINT32_MAX, 1, 2}, 0}},
        {"w * h wraps", {0, {0, 0, 0x80000000u, 2}, 0}},
        {"larger than a slot", {1, {0, 0, 8192, 2049}, 0}},
    };
    for (uint32_t i = 0; i < sizeof(updates) / sizeof(updates[0]); i++) {
        cr_assert_eq(worker_sends(rig, VGD_LINK_UPDATE, &updates[i].msg, sizeof(updates[i].msg)),
                     VGD_RANGE, "update: %s", updates[i].name);
    }

    static const struct {
        const char *name;
        struct vgd_link_scanout msg;
    } scanouts[] = {
        {"scanout", {N_SCANOUTS, 640, 480}},
        {"no height", {0, 640, 0}},
        {"wide", {0, 16385, 1}},
        {"high", {0, 1, 16385}},
        {"256 MiB and a row", {0, 8192, 8193}},
        {"all ones", {0, UINT32_MAX, UINT32_MAX}},
    };
    for (uint32_t i = 0; i < sizeof(scanouts) / sizeof(scanouts[0]); i++) {
        cr_assert_eq(worker_sends(rig, VGD_LINK_SCANOUT, &scanouts[i].msg, sizeof(scanouts[i].msg)),
                     VGD_RANGE, "scanout: %s", scanouts[i].name);
    }

    static const struct {
        const char *name;
        struct vgd_link_dmabuf_scanout msg;
        bool has_fd;
    } dmabufs[] = {
        {"scanout", {N_SCANOUTS, {0, 0, 4, 4}, 4, 4, 16, 1, 0, 1, {0}}, true},
        {"no fd", {0, {0, 0, 4, 4}, 4, 4, 16, 1, 0, 1, {0}}, false},
        {"no size", {0, {0, 0, 4, 4}, 0, 4, 16, 1, 0, 1, {0}}, true},
        {"empty", {0, {0, 0, 0, 4}, 4, 4, 16, 1, 0, 1, {0}}, true},
        {"outside", {0, {0, 0, 5, 4}, 4, 4, 16, 1, 0, 1, {0}}, true},
        {"x wraps", {0, {UINT32_MAX, 0, 4, 4}, 4, 4, 16, 1, 0, 1, {0}}, true},
        {"no stride", {0, {0, 0, 4, 4}, 4, 4, 0, 1, 0, 1, {0}}, true},
        {"too large", {0, {0, 0, 4, 4}, 16385, 4, 16, 1, 0, 1, {0}}, true},
    };
    for (uint32_t i = 0; i < sizeof(dmabufs) / sizeof(dmabufs[0]); i++) {
        int fd = dmabufs[i].has_fd ? vgd_memfd_create("dmabuf", 4096) : -1;
        cr_assert_eq(worker_sends_fds(rig, VGD_LINK_DMABUF_SCANOUT, &dmabufs[i].msg,
                                      sizeof(dmabufs[i].msg), fd),
                     VGD_RANGE, "dmabuf: %s", dmabufs[i].name);
    }
    cr_assert_eq(dmabuf_update(rig, 0), VGD_RANGE, "it shows pixels");
    cr_assert_eq(dmabuf_update(rig, N_SCANOUTS), VGD_RANGE);

    struct vgd_link_cursor_pos pos = {.scanout_idx = N_SCANOUTS};
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_MOVE, &pos, sizeof(pos)), VGD_RANGE);
    static struct vgd_link_cursor_update cursor = {.pos = {.scanout_idx = UINT32_MAX}};
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor)), VGD_RANGE);
    struct vgd_link_question question = {.question = 1, .scanout_idx = N_SCANOUTS};
    cr_assert_eq(worker_sends(rig, VGD_LINK_GET_EDID, &question, sizeof(question)), VGD_RANGE);

    /* Every wrong size of every message, and types that are not of the display. */
    static const uint8_t bytes[VGD_LINK_BYTES_MAX];
    for (uint32_t type = 0; type < 256; type++) {
        for (size_t n = 0; n < 64; n++) {
            bool right = (type == VGD_LINK_SCANOUT && n == sizeof(struct vgd_link_scanout)) ||
                         (type == VGD_LINK_CURSOR_MOVE && n == sizeof(pos)) ||
                         (type == VGD_LINK_GET_INFO && n == sizeof(question)) ||
                         (type == VGD_LINK_GET_EDID && n == sizeof(question));
            if (!right) {
                cr_assert_eq(worker_sends(rig, type, bytes, n), VGD_RANGE, "%u, %zu", type, n);
            }
        }
    }
    cr_assert_eq(rig->told_count, 0);
    (void)expect_picture(rig, 0, rect(0, 0, 640, 480), 8); /* unharmed */
    rig_end(rig);
}
