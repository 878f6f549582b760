/* SPDX-License-Identifier: MIT */
/*
 * The supervisor between a hostile front-end and a hostile worker: vhost-user messages of any kind,
 * cut anywhere, with any descriptors, and packets on a real link. The input is the list of what
 * the two do, and of what becomes of the worker. vgd_worker_process_* is replaced by functions of
 * ours: no process is started.
 *
 * Properties: each message that wants a reply gets one, in order, once the worker has confirmed
 * what it was asked or is dead; the connection ends once; a worker is told of a ring only where
 * there is memory, and never starts one twice; every descriptor is closed in the end. One file:
 * what either side may say next depends on what the other one has said.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "fd.h"
#include "frames.h"
#include "log.h"
#include "open_fds.h"
#include "own_clock.h"
#include "session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#define OPS_MAX 150u
#define PAGE 4096ull
#define WINDOW (64 * PAGE)
#define REPLIES_MAX 256u
#define CONFIRMS_MAX 64u
#define PEERS_MAX 32u
#define FDS_AT_ONCE_MAX 10u
#define NS_PER_MS 1000000ull

struct vgd_worker_process {
    bool ready, condemned, again;
};

static struct {
    const uint8_t *pos, *end;
    struct vgd_loop *loop;
    struct vgd_session *session;
    struct vgd_worker_process worker;
    bool ended;
    int frontend;         /* the front-end's end */
    int peers[PEERS_MAX]; /* other ends of sockets handed over */
    uint32_t n_peers;

    /* What the front-end may expect, while what it sent was whole messages. */
    bool modelled;
    bool acks;
    uint32_t replies[REPLIES_MAX];
    uint32_t replies_first, replies_count;

    /* The worker's end. */
    struct vgd_link *link;
    int packets;
    bool link_closed;
    uint32_t confirms[CONFIRMS_MAX]; /* what it was asked, unanswered */
    uint32_t confirms_count;
    uint32_t n_regions;
    bool rings[VGD_QUEUES_COUNT];
    uint64_t last_token;
} s;

/* Descriptors of every kind, for both to send. */
static struct {
    int ram, shorter, read_only, event, pipe, folder, null, vault_fd;
    struct vgd_vault *vault;
    uint8_t *frames;
} kept;

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

/* --- the worker process, replaced --- */

bool vgd_worker_process_ready(const struct vgd_worker_process *p)
{
    return p->ready;
}

void vgd_worker_process_start(struct vgd_worker_process *p)
{
    (void)p;
}

void vgd_worker_process_kill(struct vgd_worker_process *p, const char *why)
{
    assert(why != NULL);
    p->condemned = p->condemned || p->ready;
}

void vgd_worker_process_forget(struct vgd_worker_process *p)
{
    p->condemned = p->condemned || (p->ready && (s.rings[0] || s.rings[1]));
}

void vgd_worker_process_get_status(struct vgd_worker_process *p,
                                   struct vgd_worker_process_status *out)
{
    (void)p;
    *out = (struct vgd_worker_process_status){.ready = {.features = 0x3b, .num_capsets = 3}};
}

const struct vgd_vault *vgd_worker_process_vault(const struct vgd_worker_process *p)
{
    (void)p;
    return kept.vault;
}

bool vgd_worker_process_send(struct vgd_worker_process *p, enum vgd_link_type type,
                             const void *payload, size_t n_bytes, const int *fds, uint32_t n_fds)
{
    if (!p->ready || p->condemned) {
        return false;
    }
    enum vgd_status st = vgd_link_send(s.link, type, payload, n_bytes, fds, n_fds);
    if (st != VGD_OK && st != VGD_CLOSED) {
        vgd_worker_process_kill(p, "it takes no messages");
    }
    return st == VGD_OK;
}

static void link_message(void *user, struct vgd_link_message *msg)
{
    (void)user;
    if (s.worker.ready) {
        vgd_session_worker_message(s.session, msg);
    }
}

static void link_closed(void *user, enum vgd_status why)
{
    (void)user;
    assert((why == VGD_CLOSED || why == VGD_RANGE) && !s.link_closed);
    s.link_closed = true;
    s.worker.condemned = true;
}

static void worker_start(void)
{
    if (s.worker.ready) {
        return;
    }
    int pair[2];
    enum vgd_status st = vgd_link_pair(pair);
    assert(st == VGD_OK);
    (void)st;
    s.link = vgd_link_create(s.loop, &pair[0], link_message, link_closed, NULL);
    assert(s.link != NULL);
    s.packets = pair[1];
    s.link_closed = false;
    s.confirms_count = 0;
    s.n_regions = 0;
    memset(s.rings, 0, sizeof(s.rings));
    s.worker.ready = true;
    s.worker.condemned = false;
    uint8_t how = u8();
    struct vgd_link_ready ready = {.features = how < 0xf0 ? 0x3b : u32(), .num_capsets = how % 4u};
    vgd_session_worker_ready(s.session, &ready, s.worker.again);
    s.worker.again = true;
}

/* It has ended, as the supervisor finds out. */
static void worker_reap(void)
{
    if (!s.worker.ready) {
        return;
    }
    s.worker.ready = false;
    vgd_link_destroy(s.link);
    s.link = NULL;
    vgd_fd_closep(&s.packets);
    s.confirms_count = 0;
    vgd_session_worker_gone(s.session);
}

static void turn(void)
{
    for (unsigned i = 0; i < 3; i++) {
        vgd_loop_turn(s.loop, 0);
    }
}

/* --- the worker's side --- */

static void worker_sees(const struct vgd_link_hdr *hdr, const uint8_t *payload, uint32_t n_fds)
{
    uint32_t seq = 0;
    switch (hdr->type) {
    case VGD_LINK_MEM_TABLE: {
        struct vgd_link_mem_table m;
        assert(hdr->payload_bytes == sizeof(m));
        memcpy(&m, payload, sizeof(m));
        assert(m.n_regions == n_fds && m.n_regions <= VGD_LINK_FDS_MAX);
        s.n_regions = m.n_regions;
        seq = m.request_seq;
        break;
    }
    case VGD_LINK_MEM_ADD:
        assert(hdr->payload_bytes == sizeof(struct vgd_vu_mem_region) && n_fds == 1);
        s.n_regions++;
        break;
    case VGD_LINK_MEM_REMOVE:
        assert(s.n_regions > 0 && n_fds == 0);
        s.n_regions--;
        memcpy(&seq, payload, sizeof(seq));
        break;
    case VGD_LINK_QUEUE_START: {
        struct vgd_link_queue_start m;
        assert(hdr->payload_bytes == sizeof(m));
        memcpy(&m, payload, sizeof(m));
        assert(m.queue_idx < VGD_QUEUES_COUNT && !s.rings[m.queue_idx] && s.n_regions > 0);
        assert(m.size > 0 && m.size <= VGD_QUEUE_SIZE_MAX && (m.size & (m.size - 1)) == 0);
        assert(n_fds == 1u + (m.has_call != 0));
        s.rings[m.queue_idx] = true;
        break;
    }
    case VGD_LINK_QUEUE_STOP: {
        struct vgd_link_request m;
        memcpy(&m, payload, sizeof(m));
        assert(m.queue_idx < VGD_QUEUES_COUNT && s.rings[m.queue_idx]);
        s.rings[m.queue_idx] = false;
        seq = m.request_seq;
        break;
    }
    case VGD_LINK_RESET:
        memcpy(&seq, payload, sizeof(seq));
        memset(s.rings, 0, sizeof(s.rings));
        break;
    default:
        assert(hdr->type < VGD_LINK_READY);
        break;
    }
    if (seq != 0) {
        assert(s.confirms_count < CONFIRMS_MAX);
        s.confirms[s.confirms_count++] = seq;
    }
}

static bool worker_reads(void)
{
    static _Alignas(8) uint8_t payload[VGD_LINK_BYTES_MAX];
    struct vgd_link_hdr hdr;
    if (s.packets < 0) {
        return false;
    }
    struct iovec iov[2] = {{&hdr, sizeof(hdr)}, {payload, sizeof(payload)}};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * VGD_LINK_FDS_MAX)];
    } control;
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = 2,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(s.packets, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n <= 0) {
        return false;
    }
    uint32_t n_fds = 0;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c != NULL) {
        int fds[VGD_LINK_FDS_MAX];
        n_fds = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), n_fds * sizeof(int));
        vgd_fds_close(fds, n_fds);
    }
    assert((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0);
    assert((size_t)n == sizeof(hdr) + hdr.payload_bytes);
    worker_sees(&hdr, payload, n_fds);
    return true;
}

static int any_fd(void)
{
    uint8_t b = u8();
    switch (b % 16) {
    case 8:
        return kept.shorter;
    case 9:
        return kept.read_only;
    case 10:
    case 11:
        return kept.event;
    case 12:
        return kept.pipe;
    case 13:
        return kept.folder;
    case 14:
        return kept.null;
    case 15: {
        int pair[2];
        if (s.n_peers + 2 > PEERS_MAX ||
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
            return kept.event;
        }
        s.peers[s.n_peers++] = pair[0];
        s.peers[s.n_peers++] = pair[1];
        return pair[1];
    }
    default:
        return kept.ram;
    }
}

/* One sendmsg, never waiting. */
static void send_bytes(int socket, const void *head, size_t head_bytes, const void *body,
                       size_t body_bytes, const int *fds, uint32_t n_fds)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)head, head_bytes},
                           {(void *)(uintptr_t)body, body_bytes}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS_AT_ONCE_MAX)];
    } control = {0};
    if (n_fds > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    if (socket >= 0 &&
        sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)(head_bytes + body_bytes)) {
        s.modelled = false; /* it was not all sent */
    }
}

static void packet(uint32_t type, const void *payload, size_t n_bytes, const int *fds,
                   uint32_t n_fds)
{
    struct vgd_link_hdr hdr = {.type = type, .payload_bytes = (uint32_t)n_bytes};
    send_bytes(s.packets, &hdr, sizeof(hdr), payload, n_bytes, fds, n_fds);
    turn();
}

static void worker_confirms(uint8_t how)
{
    while (worker_reads()) {
    }
    if (s.confirms_count == 0) {
        return;
    }
    struct vgd_link_done m = {.request_seq = s.confirms[0],
                              .status = how < 0xf0 ? VGD_OK : VGD_HOST_FAILED,
                              .value = how};
    s.confirms_count--;
    memmove(s.confirms, s.confirms + 1, s.confirms_count * sizeof(s.confirms[0]));
    packet(VGD_LINK_DONE, &m, sizeof(m), NULL, 0);
}

static void worker_asks_window(bool map)
{
    struct vgd_link_window m = {.token = ++s.last_token};
    m.offset_bytes = u8() % 66u * PAGE;
    m.len_bytes = (1u + u8() % 8u) * PAGE;
    m.file_offset_bytes = u8() < 0xf0 ? 0 : u32();
    int fd = map ? any_fd() : -1;
    packet(map ? VGD_LINK_WINDOW_MAP : VGD_LINK_WINDOW_UNMAP, &m, sizeof(m), &fd, map ? 1 : 0);
}

static void worker_display(void)
{
    static struct vgd_link_cursor_update cursor;
    int fd = kept.ram;
    switch (u8() % 8) {
    case 0: {
        struct vgd_link_scanout m = {.scanout_idx = u8() % 2, .w_px = u8(), .h_px = u8()};
        packet(VGD_LINK_SCANOUT, &m, sizeof(m), NULL, 0);
        break;
    }
    case 1: {
        struct vgd_link_update m = {.scanout_idx = u8() % 2};
        m.rect.w_px = u8();
        m.rect.h_px = u8();
        m.slot_idx = u8() % 5u;
        packet(VGD_LINK_UPDATE, &m, sizeof(m), NULL, 0);
        break;
    }
    case 2: {
        struct vgd_link_dmabuf_scanout m = {
            .rect = {.w_px = 16, .h_px = 16}, .fd_w_px = 16, .fd_h_px = 16, .fd_stride_bytes = 64};
        m.scanout_idx = u8() % 2;
        packet(VGD_LINK_DMABUF_SCANOUT, &m, sizeof(m), &fd, 1);
        break;
    }
    case 3: {
        struct vgd_link_damage m = {.rect = {.w_px = 16, .h_px = 16}};
        packet(VGD_LINK_DMABUF_UPDATE, &m, sizeof(m), NULL, 0);
        break;
    }
    case 4:
        packet(VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor), NULL, 0);
        break;
    case 5:
    case 6: {
        struct vgd_link_question m = {.question = u8(), .scanout_idx = u8() % 2};
        packet(u8() % 2 ? VGD_LINK_GET_INFO : VGD_LINK_GET_EDID, &m, sizeof(m), NULL, 0);
        break;
    }
    default: {
        struct vgd_link_snapshot_reply m = {.question = u8(), .status = u8() % 4u, .w_px = u8()};
        fd = any_fd();
        packet(VGD_LINK_SNAPSHOT_REPLY, &m, sizeof(m), &fd, u8() % 2);
        break;
    }
    }
}

/* A packet of any bytes, with any descriptors; also an empty one. */
static void worker_nonsense(void)
{
    uint8_t bytes[96];
    int fds[FDS_AT_ONCE_MAX];
    size_t n_bytes = u8() % sizeof(bytes);
    uint32_t n_fds = u8();
    n_fds = n_fds < 0x80 ? 0 : n_fds % FDS_AT_ONCE_MAX;
    uint8_t type = u8();
    for (size_t i = 0; i < n_bytes; i++) {
        bytes[i] = u8();
    }
    for (uint32_t i = 0; i < n_fds; i++) {
        fds[i] = any_fd();
    }
    if (type < 0xc0) {
        packet(type % 96u, bytes, n_bytes, fds, n_fds);
    } else {
        send_bytes(s.packets, bytes, n_bytes, NULL, 0, fds, n_fds);
        turn();
    }
}

/* --- the front-end's side --- */

static bool has_reply(uint32_t request)
{
    switch (request) {
    case VGD_VU_GET_FEATURES:
    case VGD_VU_GET_PROTOCOL_FEATURES:
    case VGD_VU_GET_QUEUE_NUM:
    case VGD_VU_GET_MAX_MEM_SLOTS:
    case VGD_VU_GET_VRING_BASE:
    case VGD_VU_GET_CONFIG:
    case VGD_VU_GET_SHMEM_CONFIG:
        return true;
    default:
        return false;
    }
}

static void tell(uint32_t request, const uint8_t *payload, uint32_t n_bytes, const int *fds,
                 uint32_t n_fds, uint8_t how)
{
    bool need_reply = how % 2 != 0;
    struct vgd_vu_hdr hdr = {.request = request,
                             .flags =
                                 VGD_VU_FLAG_VERSION | (need_reply ? VGD_VU_FLAG_NEED_REPLY : 0),
                             .size_bytes = n_bytes};
    uint8_t head[VGD_VU_HDR_SIZE];
    struct vgd_writer w = vgd_writer_of(head, sizeof(head));
    vgd_vu_hdr_encode(&w, &hdr);
    if (request == VGD_VU_SET_PROTOCOL_FEATURES && n_bytes == 8) {
        s.acks = (payload[0] >> VGD_VU_F_REPLY_ACK & 1) != 0;
    }
    if (has_reply(request) || (need_reply && s.acks)) {
        assert(s.replies_count < REPLIES_MAX);
        s.replies[(s.replies_first + s.replies_count++) % REPLIES_MAX] = request;
    }
    send_bytes(s.frontend, head, sizeof(head), payload, n_bytes, fds, n_fds);
    turn();
}

static void put_region(struct vgd_writer *w)
{
    uint8_t b = u8();
    struct vgd_vu_mem_region region = {.gpa = (b & 3u) * 16 * PAGE,
                                       .size_bytes = (1u + (b >> 2 & 7u)) * PAGE,
                                       .user_addr = 0x7f0000000000 + (b & 3u) * 16 * PAGE,
                                       .mmap_offset_bytes = (b >> 5 & 3u) * PAGE};
    if (b >= 0xf8) {
        region.size_bytes = (uint64_t)u32() << 32 | u32();
    }
    vgd_vu_mem_region_encode(w, &region);
}

static uint32_t ring_idx(void)
{
    uint8_t b = u8();
    return b < 0xf8 ? b % 2u : b;
}

static void message(uint32_t request)
{
    uint8_t payload[512];
    int fds[FDS_AT_ONCE_MAX];
    uint32_t n_fds = 0;
    uint8_t how = u8();
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    switch (request) {
    case VGD_VU_SET_FEATURES:
        vgd_write_le64(&w,
                       how < 0x80 ? 0x17000003bull | 1ull << 30 : (uint64_t)u32() << 32 | u32());
        break;
    case VGD_VU_SET_PROTOCOL_FEATURES: {
        const uint64_t usual = 1ull << VGD_VU_F_MQ | 1ull << VGD_VU_F_REPLY_ACK |
                               1ull << VGD_VU_F_BACKEND_REQ | 1ull << VGD_VU_F_CONFIG |
                               1ull << VGD_VU_F_BACKEND_SEND_FD | 1ull << VGD_VU_F_SHMEM;
        vgd_write_le64(&w, how < 0xf0 ? usual : u32());
        break;
    }
    case VGD_VU_SET_MEM_TABLE: {
        uint32_t n_regions = 1u + (how >> 1) % 4u;
        n_fds = how < 0xf0 ? n_regions : how % FDS_AT_ONCE_MAX;
        struct vgd_vu_mem_table table = {.nregions = how < 0xf8 ? n_regions : u32()};
        vgd_vu_mem_table_encode(&w, &table);
        for (uint32_t i = 0; i < n_regions; i++) {
            put_region(&w);
        }
        break;
    }
    case VGD_VU_ADD_MEM_REG:
    case VGD_VU_REM_MEM_REG:
        vgd_write_zeros(&w, VGD_VU_MEM_SLOT_SIZE - VGD_VU_MEM_REGION_SIZE);
        put_region(&w);
        n_fds = request == VGD_VU_ADD_MEM_REG ? 1 : how / 0xf0;
        break;
    case VGD_VU_SET_VRING_NUM:
    case VGD_VU_SET_VRING_BASE:
    case VGD_VU_GET_VRING_BASE:
    case VGD_VU_SET_VRING_ENABLE: {
        struct vgd_vu_vring_state state = {.idx = ring_idx()};
        uint8_t b = u8();
        state.num = request == VGD_VU_SET_VRING_ENABLE ? (b < 0xf0 ? b % 2u : b)
                    : b < 0xe0                         ? 1u << b % 11u
                                                       : u32();
        state.num = request == VGD_VU_SET_VRING_BASE && b < 0x80 ? 0 : state.num;
        vgd_vu_vring_state_encode(&w, &state);
        break;
    }
    case VGD_VU_SET_VRING_ADDR: {
        struct vgd_vu_vring_addr addr = {.idx = ring_idx()};
        addr.desc_user_addr = 0x7f0000000000 + u8() * 64ull;
        addr.avail_user_addr = addr.desc_user_addr + PAGE;
        addr.used_user_addr = addr.desc_user_addr + 2 * PAGE;
        vgd_vu_vring_addr_encode(&w, &addr);
        break;
    }
    case VGD_VU_SET_VRING_KICK:
    case VGD_VU_SET_VRING_CALL:
    case VGD_VU_SET_VRING_ERR: {
        uint32_t idx = ring_idx();
        bool none = how >= 0xe0;
        vgd_write_le64(&w, idx | (none ? 0x100u : 0));
        n_fds = how < 0xf0 ? !none : how % 3u;
        break;
    }
    case VGD_VU_GET_CONFIG: {
        struct vgd_vu_config config = {.offset_bytes = how < 0xc0 ? 0 : u32(),
                                       .size_bytes = how < 0xc0 ? 1u + how : u32()};
        vgd_vu_config_encode(&w, &config);
        vgd_write_zeros(&w, how < 0xc0 ? config.size_bytes : how);
        break;
    }
    case VGD_VU_SET_BACKEND_REQ_FD:
    case VGD_VU_GPU_SET_SOCKET:
        n_fds = how < 0xf0 ? 1 : how % 3u;
        break;
    default:
        for (uint32_t n = how >= 0xe0 ? u8() % 64u : 0; n > 0; n--) {
            vgd_write_u8(&w, u8());
        }
        n_fds = how >= 0xf0 ? how % FDS_AT_ONCE_MAX : 0;
        break;
    }
    if (how >= 0xfc) {
        vgd_write_zeros(&w, how - 0xfbu);
    }
    for (uint32_t i = 0; i < n_fds; i++) {
        fds[i] = any_fd();
    }
    tell(request, payload, (uint32_t)vgd_writer_used(&w), fds, n_fds, how);
}

static void frontend_nonsense(void)
{
    uint8_t bytes[64];
    int fds[FDS_AT_ONCE_MAX];
    size_t n_bytes = u8() % sizeof(bytes);
    uint32_t n_fds = u8();
    n_fds = n_fds < 0x80 ? 0 : n_fds % FDS_AT_ONCE_MAX;
    for (size_t i = 0; i < n_bytes; i++) {
        bytes[i] = u8();
    }
    for (uint32_t i = 0; i < n_fds; i++) {
        fds[i] = any_fd();
    }
    s.modelled = false;
    send_bytes(s.frontend, bytes, n_bytes, NULL, 0, fds, n_fds);
    turn();
}

/* Read one reply, whole: we write them whole, and the socket has room. */
static bool frontend_reads(void)
{
    static uint8_t bytes[VGD_VU_HDR_SIZE + 4096];
    if (s.frontend < 0) {
        return false;
    }
    ssize_t n = recv(s.frontend, bytes, VGD_VU_HDR_SIZE, MSG_DONTWAIT);
    if (n != VGD_VU_HDR_SIZE) {
        assert(n <= 0);
        return false;
    }
    struct vgd_reader r = vgd_reader_of(bytes, VGD_VU_HDR_SIZE);
    struct vgd_vu_hdr hdr;
    enum vgd_status st = vgd_vu_hdr_decode(&r, &hdr);
    assert(st == VGD_OK && hdr.flags == (VGD_VU_FLAG_VERSION | VGD_VU_FLAG_REPLY));
    (void)st;
    assert(hdr.size_bytes <= 4096);
    n = hdr.size_bytes == 0 ? 0 : recv(s.frontend, bytes, hdr.size_bytes, MSG_DONTWAIT);
    assert(n == (ssize_t)hdr.size_bytes);
    if (s.modelled) {
        assert(s.replies_count > 0 && s.replies[s.replies_first] == hdr.request);
        s.replies_first = (s.replies_first + 1) % REPLIES_MAX;
        s.replies_count--;
    }
    return true;
}

/* What the supervisor sends on sockets that it was given is read, and answered with anything. */
static void peers_talk(uint8_t how)
{
    static uint8_t bytes[4096];
    for (uint32_t i = 0; i < s.n_peers; i += 2) {
        struct iovec iov = {bytes, sizeof(bytes)};
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(sizeof(int) * VGD_LINK_FDS_MAX)];
        } control;
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        ssize_t n = recvmsg(s.peers[i], &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
        if (c != NULL) {
            int fds[VGD_LINK_FDS_MAX];
            uint32_t n_fds = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(c), n_fds * sizeof(int));
            vgd_fds_close(fds, n_fds);
        }
        if (n >= 12 && how >= 0x40) { /* an ack, or what looks like one */
            struct vgd_vu_hdr hdr = {.request = how < 0xe0 ? bytes[0] : how,
                                     .flags = VGD_VU_FLAG_VERSION | VGD_VU_FLAG_REPLY,
                                     .size_bytes = how < 0xf0 ? 8 : how};
            struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
            vgd_vu_hdr_encode(&w, &hdr);
            vgd_write_le64(&w, how < 0xc0 ? 0 : how);
            send_bytes(s.peers[i], bytes, vgd_writer_used(&w), NULL, 0, NULL, 0);
        }
    }
    turn();
}

/* --- what happens --- */

static const uint8_t requests[] = {
    VGD_VU_GET_FEATURES,
    VGD_VU_SET_FEATURES,
    VGD_VU_GET_PROTOCOL_FEATURES,
    VGD_VU_SET_PROTOCOL_FEATURES,
    VGD_VU_SET_OWNER,
    VGD_VU_SET_MEM_TABLE,
    VGD_VU_SET_MEM_TABLE,
    VGD_VU_ADD_MEM_REG,
    VGD_VU_REM_MEM_REG,
    VGD_VU_SET_VRING_NUM,
    VGD_VU_SET_VRING_ADDR,
    VGD_VU_SET_VRING_BASE,
    VGD_VU_GET_VRING_BASE,
    VGD_VU_SET_VRING_KICK,
    VGD_VU_SET_VRING_CALL,
    VGD_VU_SET_VRING_ERR,
    VGD_VU_SET_VRING_ENABLE,
    VGD_VU_SET_VRING_ENABLE,
    VGD_VU_GET_CONFIG,
    VGD_VU_SET_CONFIG,
    VGD_VU_GET_QUEUE_NUM,
    VGD_VU_GET_MAX_MEM_SLOTS,
    VGD_VU_SET_BACKEND_REQ_FD,
    VGD_VU_GPU_SET_SOCKET,
    VGD_VU_GET_SHMEM_CONFIG,
    VGD_VU_RESET_DEVICE,
    VGD_VU_RESET_OWNER,
};
#define REQUESTS_COUNT (sizeof(requests) / sizeof(requests[0]))

/* All that a well-behaved front-end says before a ring runs. */
static void usual_start(void)
{
    const uint64_t base = 0x7f0000000000;
    uint8_t payload[64];
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    struct vgd_vu_mem_table table = {.nregions = 1};
    struct vgd_vu_mem_region region = {.size_bytes = 16 * PAGE, .user_addr = base};
    vgd_vu_mem_table_encode(&w, &table);
    vgd_vu_mem_region_encode(&w, &region);
    tell(VGD_VU_SET_MEM_TABLE, payload, (uint32_t)vgd_writer_used(&w), &kept.ram, 1, 1);
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct vgd_vu_vring_state state = {.idx = i, .num = 64};
        struct vgd_vu_vring_addr addr = {.idx = i,
                                         .desc_user_addr = base,
                                         .avail_user_addr = base + PAGE,
                                         .used_user_addr = base + 2 * PAGE};
        w = vgd_writer_of(payload, sizeof(payload));
        vgd_vu_vring_state_encode(&w, &state);
        tell(VGD_VU_SET_VRING_NUM, payload, VGD_VU_VRING_STATE_SIZE, NULL, 0, 0);
        w = vgd_writer_of(payload, sizeof(payload));
        vgd_vu_vring_addr_encode(&w, &addr);
        tell(VGD_VU_SET_VRING_ADDR, payload, VGD_VU_VRING_ADDR_SIZE, NULL, 0, 0);
        w = vgd_writer_of(payload, sizeof(payload));
        vgd_write_le64(&w, i);
        tell(VGD_VU_SET_VRING_KICK, payload, 8, &kept.event, 1, 0);
        state.num = 1;
        w = vgd_writer_of(payload, sizeof(payload));
        vgd_vu_vring_state_encode(&w, &state);
        tell(VGD_VU_SET_VRING_ENABLE, payload, VGD_VU_VRING_STATE_SIZE, NULL, 0, 0);
    }
}

static void step(uint8_t op)
{
    if (op < REQUESTS_COUNT * 5) {
        message(requests[op % REQUESTS_COUNT]);
        return;
    }
    switch (op % 24) {
    case 0:
        worker_start();
        break;
    case 1:
        worker_reap();
        break;
    case 2:
    case 3:
    case 4:
        worker_confirms(u8());
        break;
    case 5:
    case 6:
        worker_asks_window(true);
        break;
    case 7:
        worker_asks_window(false);
        break;
    case 8:
        worker_display();
        break;
    case 9:
        worker_nonsense();
        break;
    case 10:
        frontend_nonsense();
        break;
    case 11:
    case 12:
        while (frontend_reads()) {
        }
        break;
    case 13:
    case 14:
        peers_talk(u8());
        break;
    case 15:
        own_clock_advance(100 * NS_PER_MS * (1u + u8() % 32u));
        break;
    case 16:
        vgd_fd_closep(&s.packets); /* it exits */
        break;
    case 17:
        vgd_fd_closep(&s.frontend);
        break;
    case 18:
        usual_start();
        break;
    case 19: {
        enum vgd_status st = vgd_session_snapshot(s.session, u8() % 2u, u8());
        assert(st == VGD_OK || st == VGD_LOST);
        (void)st;
        break;
    }
    case 20:
        message(u8());
        break;
    case 21: { /* the record of a worker that died */
        uint32_t at = u32() % sizeof(kept.vault->inflight);
        ((uint8_t *)kept.vault->inflight)[at] = u8();
        break;
    }
    default:
        if (s.worker.condemned) {
            worker_reap();
        } else {
            worker_start();
        }
        break;
    }
    turn();
}

static void on_end(void *user, enum vgd_session_end end)
{
    (void)user;
    assert(!s.ended && (end == VGD_SESSION_CLOSED || end == VGD_SESSION_REFUSED));
    s.ended = true;
}

static void on_snapshot(void *user, uint32_t question, enum vgd_status status, uint32_t w_px,
                        uint32_t h_px, int *fd)
{
    (void)user;
    (void)question;
    (void)w_px;
    (void)h_px;
    assert((*fd >= 0) == (status == VGD_OK));
    vgd_fd_closep(fd);
}

/* Everything that was asked is confirmed: all replies are there. */
static void settle(void)
{
    bool was_ready = s.worker.ready;
    for (unsigned i = 0; i < 2 * REPLIES_MAX && !s.ended; i++) {
        if (s.worker.condemned) {
            worker_reap();
            was_ready = true;
        }
        while (frontend_reads()) {
        }
        worker_confirms(0);
        turn();
        if (s.replies_count == 0 || !s.modelled) {
            break;
        }
        if (!s.worker.ready && !was_ready) {
            worker_start(); /* GET_FEATURES waits for the first one */
            was_ready = true;
        }
    }
    while (frontend_reads()) {
    }
    assert(s.ended || !s.modelled || s.frontend < 0 || s.replies_count == 0);
}

static void once(void)
{
    if (kept.frames != NULL) {
        return;
    }
    int fds[2];
    kept.ram = vgd_memfd_create("ram", 64 * PAGE);
    kept.shorter = vgd_memfd_create("shorter", PAGE);
    kept.read_only = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    kept.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = pipe2(fds, O_CLOEXEC | O_NONBLOCK);
    kept.pipe = fds[0];
    kept.folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    kept.null = open("/dev/null", O_RDWR | O_CLOEXEC);
    kept.vault_fd = vgd_vault_create();
    kept.vault = vgd_vault_map(kept.vault_fd);
    kept.frames =
        mmap(NULL, VGD_FRAMES_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(rc == 0 && kept.ram >= 0 && kept.event >= 0 && kept.vault != NULL);
    assert(kept.frames != MAP_FAILED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    vgd_log_setup("fuzz", VGD_LOG_ERROR);
    once();
    uint64_t fds_before = open_fds();
    memset(&s, 0, sizeof(s));
    memset(kept.vault->inflight, 0, sizeof(kept.vault->inflight[0]) / 64);
    s.pos = data;
    s.end = data + len_bytes;
    s.packets = -1;
    s.modelled = true;
    s.loop = vgd_loop_create();
    int pair[2];
    int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    assert(rc == 0);
    s.frontend = pair[1];
    const struct vgd_session_config config = {
        .loop = s.loop,
        .worker = &s.worker,
        .frames = kept.frames,
        .n_scanouts = 1,
        .window_bytes = u8() < 0xe0 ? WINDOW : 0,
        .maps_max = 8,
        .on_end = on_end,
        .on_snapshot = on_snapshot,
    };
    s.session = vgd_session_create(&config, &pair[0]);
    assert(s.session != NULL);
    for (uint32_t i = 0; i < OPS_MAX && s.pos < s.end; i++) {
        step(u8());
    }
    settle();
    worker_reap();
    vgd_session_destroy(s.session);
    vgd_fd_closep(&s.frontend);
    vgd_fds_close(s.peers, s.n_peers);
    vgd_loop_destroy(s.loop);
    own_clock_reset();
    assert(open_fds() == fds_before);
    return 0;
}
