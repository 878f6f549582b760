/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's end of the display channel, between a VMM that answers well, late, never, or
 * with anything, and a worker that says anything: the input is the list of what happens.
 *
 * Properties: what the VMM reads is whole messages that QEMU takes, with pixels inside what it was
 * told to show; a worker is answered what it asked, once, and nothing of a worker before it; each
 * frame slot and each dma-buf update ends once; a VMM that answers in order never has an EDID taken
 * for another scanout's; every descriptor is closed in the end.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "display_channel.h"
#include "display_writer.h"
#include "fd.h"
#include "frames.h"
#include "log.h"
#include "open_fds.h"
#include "own_clock.h"
#include "scanout_limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#define OPS_MAX 200u
#define N_SCANOUTS 3u
#define QUESTIONS_MAX 512u
#define SEEN_MAX 512u
#define HEAD_MAX 64u
#define NS_PER_S 1000000000ull

static struct {
    const uint8_t *pos, *end;
    struct vgd_loop *loop;
    const uint8_t *frames;
    struct vgd_display_writer *w;

    /* The VMM. */
    int vmm;
    bool slow;                     /* the socket holds little */
    bool honest;                   /* so far: it answered in order */
    uint8_t head[HEAD_MAX];        /* of the message being read: header, start of the payload */
    size_t head_bytes, left_bytes; /* left: of the payload, once the header is whole */
    int fd_with_it;
    struct {
        uint32_t request, scanout_idx;
    } seen[SEEN_MAX]; /* questions, unanswered */
    uint32_t seen_first, seen_count;
    struct {
        bool told, dmabuf;
        uint32_t w_px, h_px;
    } shown[N_SCANOUTS];

    /* The worker. */
    bool has_worker;
    struct {
        bool open, is_edid;
        uint32_t scanout_idx;
    } asked[QUESTIONS_MAX];
    uint32_t first_asked, asked_count; /* of this worker from first_asked on */
    bool slots[VGD_FRAME_SLOTS_COUNT];
    bool updates[N_SCANOUTS];
} s;

static uint8_t u8(void)
{
    return s.pos < s.end ? *s.pos++ : 0;
}

static uint32_t u32(void)
{
    uint32_t v = u8();
    v |= (uint32_t)u8() << 8;
    v |= (uint32_t)u8() << 16;
    return v | (uint32_t)u8() << 24;
}

static void turn(void)
{
    for (unsigned i = 0; i < 3; i++) {
        vgd_loop_turn(s.loop, 0);
    }
}

/* --- the worker --- */

static void to_worker(void *user, enum vgd_link_type type, const void *payload, size_t n_bytes)
{
    (void)user;
    assert(s.has_worker);
    switch (type) {
    case VGD_LINK_DISPLAY_STATE:
        assert(n_bytes == sizeof(struct vgd_link_display_state));
        break;
    case VGD_LINK_FRAME_DONE: {
        const struct vgd_link_u64 *m = payload;
        assert(n_bytes == sizeof(*m) && m->value < VGD_FRAME_SLOTS_COUNT && s.slots[m->value]);
        s.slots[m->value] = false;
        break;
    }
    case VGD_LINK_DMABUF_DONE: {
        const struct vgd_link_u64 *m = payload;
        assert(n_bytes == sizeof(*m) && m->value < N_SCANOUTS && s.updates[m->value]);
        s.updates[m->value] = false;
        break;
    }
    case VGD_LINK_INFO_REPLY: {
        const struct vgd_link_info_reply *m = payload;
        assert(n_bytes == sizeof(*m) && m->question >= s.first_asked);
        assert(m->question < s.asked_count && s.asked[m->question].open);
        assert(!s.asked[m->question].is_edid);
        s.asked[m->question].open = false;
        break;
    }
    case VGD_LINK_EDID_REPLY: {
        const struct vgd_link_edid_reply *m = payload;
        assert(n_bytes == sizeof(*m) && m->question >= s.first_asked);
        assert(m->question < s.asked_count && s.asked[m->question].open);
        assert(s.asked[m->question].is_edid && m->size_bytes <= sizeof(m->edid));
        assert(!s.honest || m->size_bytes == 0 ||
               m->edid[0] == s.asked[m->question].scanout_idx + 1);
        s.asked[m->question].open = false;
        break;
    }
    default:
        assert(false); /* a message that no worker knows */
    }
}

static void worker_gone(void)
{
    s.has_worker = false;
    memset(s.slots, 0, sizeof(s.slots));
    memset(s.updates, 0, sizeof(s.updates));
    s.first_asked = s.asked_count;
    vgd_display_writer_worker_gone(s.w);
}

static void worker_says(uint32_t type, const void *payload, size_t n_bytes, uint32_t n_fds)
{
    static struct vgd_link_message msg;
    msg.type = type;
    msg.payload_bytes = (uint32_t)n_bytes;
    memcpy(msg.payload, payload, n_bytes);
    msg.n_fds = n_fds;
    for (uint32_t i = 0; i < n_fds; i++) {
        msg.fds[i] = eventfd(0, EFD_CLOEXEC);
        assert(msg.fds[i] >= 0);
    }
    enum vgd_status st = vgd_display_writer_message(s.w, &msg);
    vgd_fds_close(msg.fds, msg.n_fds);
    if (st != VGD_OK) {
        assert(st == VGD_RANGE);
        worker_gone(); /* it dies of that */
    }
}

static uint32_t scanout_idx(void)
{
    uint8_t b = u8();
    return b < 0xf8 ? b % N_SCANOUTS : b - 0xf8u + N_SCANOUTS - 1;
}

static uint32_t side(void)
{
    uint8_t b = u8();
    static const uint32_t sides[] = {0, 1, 2, 16, 33, 64, 1024, 16384};
    return b < 0xf8 ? sides[b % 6] : b < 0xfc ? sides[6 + b % 2] : u32();
}

static struct vgd_rect rect(void)
{
    struct vgd_rect r;
    r.x_px = u8() < 0xf0 ? u8() % 4u : u32();
    r.y_px = u8() < 0xf0 ? u8() % 4u : u32();
    r.w_px = side();
    r.h_px = side();
    return r;
}

static void worker_scanout(void)
{
    struct vgd_link_scanout m = {.scanout_idx = scanout_idx()};
    m.w_px = side();
    m.h_px = side();
    worker_says(VGD_LINK_SCANOUT, &m, sizeof(m), 0);
}

static void worker_update(void)
{
    struct vgd_link_update m = {.scanout_idx = scanout_idx()};
    m.rect = rect();
    m.slot_idx = u8() % (VGD_FRAME_SLOTS_COUNT + 1);
    bool is_free = m.slot_idx < VGD_FRAME_SLOTS_COUNT && !s.slots[m.slot_idx];
    if (is_free) {
        s.slots[m.slot_idx] = true; /* its end may come at once */
    }
    worker_says(VGD_LINK_UPDATE, &m, sizeof(m), 0);
    assert(is_free || !s.has_worker);
}

static void worker_dmabuf(void)
{
    struct vgd_link_dmabuf_scanout m = {.scanout_idx = scanout_idx()};
    m.rect = rect();
    m.fd_w_px = side();
    m.fd_h_px = side();
    m.fd_stride_bytes = u8() < 0xf0 ? m.fd_w_px * 4 : u32();
    m.modifier = u8();
    m.y0_top = u8() % 2;
    uint8_t n_fds = u8();
    worker_says(VGD_LINK_DMABUF_SCANOUT, &m, sizeof(m), n_fds < 0xf0 ? 1 : n_fds % 3u);
}

static void worker_dmabuf_update(void)
{
    struct vgd_link_damage m = {.scanout_idx = scanout_idx()};
    m.rect = rect();
    bool waits = m.scanout_idx < N_SCANOUTS && s.updates[m.scanout_idx];
    if (m.scanout_idx < N_SCANOUTS) {
        s.updates[m.scanout_idx] = true;
    }
    worker_says(VGD_LINK_DMABUF_UPDATE, &m, sizeof(m), 0);
    assert(!waits || !s.has_worker);
}

static void worker_cursor(void)
{
    static struct vgd_link_cursor_update m;
    m.pos.scanout_idx = scanout_idx();
    m.pos.x_px = u8();
    m.pos.y_px = u8();
    m.pos.hide = u8() % 2;
    m.hot_x_px = u8();
    if (u8() % 2 == 0) {
        worker_says(VGD_LINK_CURSOR_UPDATE, &m, sizeof(m), 0);
    } else {
        worker_says(VGD_LINK_CURSOR_MOVE, &m.pos, sizeof(m.pos), 0);
    }
}

static void worker_asks(bool is_edid)
{
    if (s.asked_count == QUESTIONS_MAX) {
        return;
    }
    struct vgd_link_question m = {.question = s.asked_count};
    m.scanout_idx = is_edid ? scanout_idx() : 0;
    s.asked[s.asked_count].open = true;
    s.asked[s.asked_count].is_edid = is_edid;
    s.asked[s.asked_count].scanout_idx = m.scanout_idx;
    s.asked_count++;
    worker_says(is_edid ? VGD_LINK_GET_EDID : VGD_LINK_GET_INFO, &m, sizeof(m), 0);
}

static void worker_nonsense(void)
{
    uint8_t bytes[64];
    size_t n_bytes = u8() % sizeof(bytes);
    for (size_t i = 0; i < n_bytes; i++) {
        bytes[i] = u8();
    }
    uint32_t type = u8();
    worker_says(type, bytes, n_bytes, u8() % 3u);
}

/* --- the VMM --- */

static void vmm_reset(void)
{
    s.head_bytes = 0;
    s.left_bytes = 0;
    s.seen_count = 0;
    vgd_fd_closep(&s.fd_with_it);
}

static void vmm_hang_up(void)
{
    vgd_fd_closep(&s.vmm);
    vmm_reset();
}

static void vmm_connect(void)
{
    vmm_hang_up();
    int pair[2];
    int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    assert(rc == 0);
    (void)rc;
    s.vmm = pair[1];
    s.honest = true;
    memset(s.shown, 0, sizeof(s.shown));
    int writers_end = pair[0];
    vgd_display_writer_connect(s.w, &pair[0]);
    assert(pair[0] == -1);
    if (s.slow) { /* messages go in pieces, and wait */
        int n_bytes = 1;
        (void)setsockopt(writers_end, SOL_SOCKET, SO_SNDBUF, &n_bytes, sizeof(n_bytes));
    }
    turn();
}

/* A whole message's head: what QEMU would say to it. */
static void vmm_look(void)
{
    struct vgd_reader r = vgd_reader_of(s.head, s.head_bytes);
    struct vgd_disp_hdr hdr;
    enum vgd_status st = vgd_disp_hdr_decode(&r, &hdr);
    assert(st == VGD_OK && hdr.flags == 0);
    (void)st;
    uint32_t idx = 0;
    if (hdr.size_bytes >= 4 && hdr.request != VGD_DISP_SET_PROTOCOL_FEATURES) {
        struct vgd_reader first = r;
        idx = vgd_read_le32(&first);
        assert(idx < N_SCANOUTS);
    }
    bool has_fd = s.fd_with_it >= 0;
    bool may_have_fd = false;
    switch (hdr.request) {
    case VGD_DISP_GET_PROTOCOL_FEATURES:
    case VGD_DISP_GET_DISPLAY_INFO:
    case VGD_DISP_GET_EDID:
        assert(hdr.size_bytes ==
               (hdr.request == VGD_DISP_GET_EDID ? VGD_DISP_EDID_REQUEST_SIZE : 0));
        assert(s.seen_count < SEEN_MAX);
        s.seen[(s.seen_first + s.seen_count) % SEEN_MAX].request = hdr.request;
        s.seen[(s.seen_first + s.seen_count) % SEEN_MAX].scanout_idx = idx;
        s.seen_count++;
        break;
    case VGD_DISP_SET_PROTOCOL_FEATURES:
        assert(hdr.size_bytes == VGD_DISP_U64_SIZE);
        break;
    case VGD_DISP_CURSOR_POS:
    case VGD_DISP_CURSOR_POS_HIDE:
        assert(hdr.size_bytes == VGD_DISP_CURSOR_POS_SIZE);
        break;
    case VGD_DISP_CURSOR_UPDATE:
        assert(hdr.size_bytes == VGD_DISP_CURSOR_UPDATE_SIZE + VGD_DISP_CURSOR_BYTES);
        break;
    case VGD_DISP_SCANOUT: {
        struct vgd_disp_scanout m;
        st = vgd_disp_scanout_decode(&r, &m);
        assert(st == VGD_OK &&
               ((m.w_px == 0 && m.h_px == 0) || vgd_scanout_size_ok(m.w_px, m.h_px)));
        s.shown[idx].told = m.w_px != 0;
        s.shown[idx].dmabuf = false;
        s.shown[idx].w_px = m.w_px;
        s.shown[idx].h_px = m.h_px;
        break;
    }
    case VGD_DISP_UPDATE:
    case VGD_DISP_DMABUF_UPDATE: {
        struct vgd_disp_update m;
        st = vgd_disp_update_decode(&r, &m);
        struct vgd_rect area = {m.x_px, m.y_px, m.w_px, m.h_px};
        assert(st == VGD_OK && s.shown[idx].told);
        assert(s.shown[idx].dmabuf == (hdr.request == VGD_DISP_DMABUF_UPDATE));
        assert(vgd_scanout_rect_ok(area, s.shown[idx].w_px, s.shown[idx].h_px));
        uint64_t pixels_bytes = s.shown[idx].dmabuf ? 0 : 4ull * m.w_px * m.h_px;
        assert(hdr.size_bytes == VGD_DISP_UPDATE_SIZE + pixels_bytes);
        if (s.shown[idx].dmabuf) {
            assert(s.seen_count < SEEN_MAX);
            s.seen[(s.seen_first + s.seen_count++) % SEEN_MAX].request = hdr.request;
        }
        break;
    }
    case VGD_DISP_DMABUF_SCANOUT:
    case VGD_DISP_DMABUF_SCANOUT2: {
        struct vgd_disp_dmabuf_scanout m;
        bool is_second = hdr.request == VGD_DISP_DMABUF_SCANOUT2;
        st = vgd_disp_dmabuf_scanout_decode(&(struct vgd_reader){r.pos, r.pos + 40, VGD_OK}, &m);
        assert(st == VGD_OK);
        assert(hdr.size_bytes ==
               (is_second ? VGD_DISP_DMABUF_SCANOUT2_SIZE : VGD_DISP_DMABUF_SCANOUT_SIZE));
        assert(has_fd == (m.fd_w_px != 0) && (has_fd || !is_second));
        assert(!has_fd || vgd_scanout_size_ok(m.fd_w_px, m.fd_h_px));
        s.shown[idx].told = has_fd;
        s.shown[idx].dmabuf = has_fd;
        s.shown[idx].w_px = m.w_px;
        s.shown[idx].h_px = m.h_px;
        may_have_fd = true;
        break;
    }
    default:
        assert(false); /* a message that QEMU does not know */
    }
    assert(may_have_fd || !has_fd);
    vgd_fd_closep(&s.fd_with_it);
}

/* Bytes that the message being read still has, as far as it is known: its header, then the rest. */
static size_t vmm_wants(void)
{
    if (s.head_bytes < VGD_DISP_HDR_SIZE) {
        return VGD_DISP_HDR_SIZE - s.head_bytes;
    }
    return s.left_bytes;
}

/* Keep the start of a message, count the rest. */
static void vmm_take(const uint8_t *bytes, size_t n_bytes)
{
    bool was_header = s.head_bytes < VGD_DISP_HDR_SIZE;
    size_t n = HEAD_MAX - s.head_bytes < n_bytes ? HEAD_MAX - s.head_bytes : n_bytes;
    memcpy(s.head + s.head_bytes, bytes, n);
    s.head_bytes += n;
    if (!was_header) {
        s.left_bytes -= n_bytes;
    } else if (s.head_bytes == VGD_DISP_HDR_SIZE) {
        struct vgd_reader r = vgd_reader_of(s.head + 8, 4);
        s.left_bytes = vgd_read_le32(&r);
    } else {
        return;
    }
    if (s.left_bytes == 0) {
        vmm_look();
        s.head_bytes = 0;
    }
}

/* Read at most @max bytes, and as QEMU no more than a header, or what it announced. False: nothing
 * is there. */
static bool vmm_read(size_t max)
{
    static uint8_t bytes[65536];
    if (s.vmm < 0) {
        return false;
    }
    size_t n_bytes = vmm_wants() < max ? vmm_wants() : max;
    struct iovec iov = {.iov_base = bytes,
                        .iov_len = n_bytes < sizeof(bytes) ? n_bytes : sizeof(bytes)};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(s.vmm, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) {
            vmm_hang_up();
        }
        return false;
    }
    assert((msg.msg_flags & MSG_CTRUNC) == 0);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    int fd = -1;
    if (c != NULL) {
        assert(c->cmsg_len == CMSG_LEN(sizeof(int)));
        memcpy(&fd, CMSG_DATA(c), sizeof(int));
        assert(s.head_bytes == 0); /* it came with the message's first byte */
        s.fd_with_it = fd;
    }
    vmm_take(bytes, (size_t)n);
    return true;
}

static void vmm_send(const uint8_t *bytes, size_t n_bytes)
{
    if (s.vmm >= 0 && n_bytes > 0) {
        (void)send(s.vmm, bytes, n_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    turn();
}

/* Answer the next question. @how: 0 well; EDIDs may be left out; else wrongly. */
static void vmm_answer(uint8_t how)
{
    if (s.seen_count == 0) {
        return;
    }
    uint32_t request = s.seen[s.seen_first].request;
    uint32_t idx = s.seen[s.seen_first].scanout_idx;
    s.seen_first = (s.seen_first + 1) % SEEN_MAX;
    s.seen_count--;
    if ((how & 0x80) != 0) {
        s.honest = s.honest && request == VGD_DISP_GET_EDID;
        return;
    }
    static uint8_t bytes[VGD_DISP_HDR_SIZE + VGD_CTRL_HDR_SIZE + VGD_RESP_EDID_SIZE];
    struct vgd_disp_hdr hdr = {.request = request, .flags = VGD_DISP_FLAG_REPLY};
    struct vgd_ctrl_hdr ctrl = {.type = VGD_RESP_OK_EDID};
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_write_zeros(&w, VGD_DISP_HDR_SIZE);
    if (request == VGD_DISP_GET_PROTOCOL_FEATURES) {
        struct vgd_disp_u64 m = {.value = how % 4u};
        vgd_disp_u64_encode(&w, &m);
    } else if (request == VGD_DISP_GET_DISPLAY_INFO) {
        static struct vgd_resp_display_info info;
        for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
            info.pmodes[i].enabled = how >> i % 4 & 1u;
            info.pmodes[i].rect.w_px = 640;
        }
        vgd_ctrl_hdr_encode(&w, &ctrl);
        vgd_resp_display_info_encode(&w, &info);
    } else if (request == VGD_DISP_GET_EDID) {
        static struct vgd_resp_edid edid;
        edid.size_bytes = how < 0x70 ? 128 : u32();
        edid.edid[0] = (uint8_t)(idx + 1);
        vgd_ctrl_hdr_encode(&w, &ctrl);
        vgd_resp_edid_encode(&w, &edid);
    }
    hdr.size_bytes = (uint32_t)(vgd_writer_used(&w) - VGD_DISP_HDR_SIZE);
    size_t n_bytes = vgd_writer_used(&w);
    w = vgd_writer_of(bytes, VGD_DISP_HDR_SIZE);
    vgd_disp_hdr_encode(&w, &hdr);
    if ((how & 0x40) != 0 && how < 0x50) { /* in two pieces */
        size_t cut = u8() % n_bytes;
        vmm_send(bytes, cut);
        vmm_send(bytes + cut, n_bytes - cut);
        return;
    }
    vmm_send(bytes, n_bytes);
}

static void vmm_nonsense(void)
{
    uint8_t bytes[64];
    uint8_t shape = u8();
    s.honest = false;
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    if (shape >= 0x40) {
        static const uint32_t sizes[] = {0, 8, 408, 1056, 24, 20, 407, UINT32_MAX};
        struct vgd_disp_hdr hdr = {.request = shape % 16u,
                                   .flags = shape < 0xf0 ? VGD_DISP_FLAG_REPLY : shape,
                                   .size_bytes = sizes[u8() % 8]};
        vgd_disp_hdr_encode(&w, &hdr);
    }
    for (uint32_t n = u8() % 48u; n > 0; n--) {
        vgd_write_u8(&w, u8());
    }
    vmm_send(bytes, vgd_writer_used(&w));
}

static void vmm_floods(void)
{
    static uint8_t bytes[2048];
    s.honest = false;
    memset(bytes, 0, sizeof(bytes));
    struct vgd_disp_hdr hdr = {.request = VGD_DISP_DMABUF_UPDATE, .flags = VGD_DISP_FLAG_REPLY};
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    for (uint32_t n = u8() % 128u; n > 0; n--) {
        vgd_disp_hdr_encode(&w, &hdr);
    }
    vmm_send(bytes, vgd_writer_used(&w));
}

/* --- what happens --- */

static void step(uint8_t op)
{
    if (op % 32 >= 16 && !s.has_worker) {
        op = 5;
    }
    switch (op % 32) {
    case 0:
    case 1:
        (void)vmm_read(u8() < 0xc0 ? SIZE_MAX : 1u + u8());
        break;
    case 2:
    case 3:
        vmm_answer(u8());
        break;
    case 4:
        vmm_nonsense();
        break;
    case 5:
        if (s.has_worker) {
            worker_gone();
        } else {
            s.has_worker = true;
            vgd_display_writer_worker_started(s.w);
        }
        break;
    case 6:
        vmm_connect();
        break;
    case 7:
        vmm_hang_up();
        break;
    case 8:
        own_clock_advance(NS_PER_S / 4 * (1u + u8() % 8u));
        break;
    case 9:
        vmm_floods();
        break;
    case 10: {
        int fd = eventfd(0, EFD_CLOEXEC); /* a descriptor that is no channel */
        assert(fd >= 0);
        vmm_hang_up();
        vgd_display_writer_connect(s.w, &fd);
        break;
    }
    case 11:
        while (vmm_read(SIZE_MAX)) {
            turn();
        }
        break;
    case 16:
    case 17:
    case 18:
        worker_scanout();
        break;
    case 19:
    case 20:
    case 21:
        worker_update();
        break;
    case 22:
    case 23:
        worker_dmabuf();
        break;
    case 24:
    case 25:
        worker_dmabuf_update();
        break;
    case 26:
    case 27:
        worker_cursor();
        break;
    case 28:
        worker_asks(false);
        break;
    case 29:
    case 30:
        worker_asks(true);
        break;
    case 31:
        worker_nonsense();
        break;
    default:
        break;
    }
    turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    static uint8_t *frames;
    vgd_log_setup("fuzz", VGD_LOG_ERROR);
    if (frames == NULL) {
        frames = mmap(NULL, VGD_FRAMES_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert(frames != MAP_FAILED);
    }
    uint64_t fds_before = open_fds();
    memset(&s, 0, sizeof(s));
    s.pos = data;
    s.end = data + len_bytes;
    s.frames = frames;
    s.vmm = -1;
    s.fd_with_it = -1;
    s.loop = vgd_loop_create();
    s.has_worker = true;
    uint8_t how = u8();
    s.slow = how % 2 != 0;
    s.w = vgd_display_writer_create(&(struct vgd_display_writer_config){
        .loop = s.loop,
        .frames = frames,
        .n_scanouts = N_SCANOUTS,
        .pixels_only = how >= 0xf0,
        .to_worker = to_worker,
    });
    assert(s.loop != NULL && s.w != NULL);
    vgd_display_writer_worker_started(s.w);
    vmm_connect();
    for (uint32_t i = 0; i < OPS_MAX && s.pos < s.end; i++) {
        step(u8());
    }
    /* A VMM that reads and a worker that waits: all slots come back. */
    for (unsigned i = 0; i < 200 && vmm_read(SIZE_MAX); i++) {
        turn();
    }
    vmm_hang_up();
    turn();
    for (uint32_t i = 0; i < VGD_FRAME_SLOTS_COUNT; i++) {
        assert(!s.slots[i]);
    }
    for (uint32_t i = 0; i < N_SCANOUTS; i++) {
        assert(!s.updates[i]);
    }
    vgd_display_writer_destroy(s.w);
    vgd_loop_destroy(s.loop);
    own_clock_reset();
    assert(open_fds() == fds_before);
    return 0;
}
