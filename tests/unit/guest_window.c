/* SPDX-License-Identifier: MIT */
/* The user-space guest's host-visible region, against a scripted back-end in a thread. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "fd.h"
#include "guest_gpu.h"
#include "log.h"

#define PAGE 4096u
#define WINDOW_BYTES (UINT64_C(64) << 20)
#define BIT(n) (UINT64_C(1) << (n))

static int make_file(uint64_t n_bytes, const char *text)
{
    int fd = vgd_memfd_create("test", n_bytes);
    cr_assert(fd >= 0);
    cr_assert_eq(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
    return fd;
}

static struct vgd_vu_shmem_map a_map(uint64_t at, uint64_t len)
{
    return (struct vgd_vu_shmem_map){
        .shmid = VGD_SHM_ID_HOST_VISIBLE,
        .shm_offset_bytes = at,
        .len_bytes = len,
        .flags = VGD_VU_SHMEM_FLAG_RW,
    };
}

Test(shm, refuses_what_qemu_refuses)
{
    struct vgd_guest_shm *shm = vgd_guest_shm_create(WINDOW_BYTES);
    cr_assert_not_null(shm);
    const char *why;
    struct vgd_vu_shmem_map map = a_map(4 * PAGE, 4 * PAGE);
    VGD_AUTO_FD first = make_file(4 * PAGE, "first");
    cr_assert_eq(vgd_guest_shm_map(shm, &map, &first, &why), VGD_OK, "%s", why);
    cr_assert_eq(first, -1);
    static const struct {
        const char *name;
        uint8_t shmid;
        uint64_t at, len, file_offset;
        bool no_file;
    } bad[] = {
        {"another region", 0, 0, PAGE, 0, false},
        {"no file", 1, 0, PAGE, 0, true},
        {"length 0", 1, 0, 0, 0, false},
        {"one page past the end", 1, WINDOW_BYTES, PAGE, 0, false},
        {"longer than the region", 1, 0, WINDOW_BYTES + PAGE, 0, false},
        {"offset + length wraps", 1, UINT64_MAX - PAGE + 1, 2 * PAGE, 0, false},
        {"offset not a page", 1, 512, PAGE, 0, false},
        {"length not pages", 1, 0, PAGE + 1, 0, false},
        {"file offset not a page", 1, 0, PAGE, 1, false},
        {"the same again", 1, 4 * PAGE, 4 * PAGE, 0, false},
        {"overlaps the beginning", 1, 3 * PAGE, 2 * PAGE, 0, false},
        {"overlaps the end", 1, 7 * PAGE, 2 * PAGE, 0, false},
        {"around it", 1, 0, 16 * PAGE, 0, false},
        {"inside it", 1, 5 * PAGE, PAGE, 0, false},
        {"the file is a page short", 1, 32 * PAGE, 17 * PAGE, 0, false},
        {"a page beyond the file", 1, 32 * PAGE, PAGE, 16 * PAGE, false},
        {"file offset + length wraps", 1, 32 * PAGE, PAGE, UINT64_MAX - PAGE + 1, false},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct vgd_vu_shmem_map wrong = a_map(bad[i].at, bad[i].len);
        wrong.shmid = bad[i].shmid;
        wrong.fd_offset_bytes = bad[i].file_offset;
        int fd = bad[i].no_file ? -1 : make_file(16 * PAGE, "x");
        cr_assert_eq(vgd_guest_shm_map(shm, &wrong, &fd, &why), VGD_RANGE, "%s", bad[i].name);
        cr_assert_eq(fd, -1);
        cr_assert_eq(vgd_guest_shm_count(shm), 1);
    }
    /* Touching on both sides is no overlap. */
    struct vgd_vu_shmem_map before = a_map(3 * PAGE, PAGE);
    struct vgd_vu_shmem_map after = a_map(8 * PAGE, PAGE);
    int fd = make_file(PAGE, "before");
    cr_assert_eq(vgd_guest_shm_map(shm, &before, &fd, &why), VGD_OK, "%s", why);
    fd = make_file(PAGE, "after");
    cr_assert_eq(vgd_guest_shm_map(shm, &after, &fd, &why), VGD_OK, "%s", why);
    cr_assert_str_eq((char *)vgd_guest_shm_base(shm) + 3 * PAGE, "before");
    cr_assert_str_eq((char *)vgd_guest_shm_base(shm) + 4 * PAGE, "first");
    cr_assert_str_eq((char *)vgd_guest_shm_base(shm) + 8 * PAGE, "after");
    /* An UNMAP equals one mapping. */
    struct vgd_vu_shmem_map half = a_map(4 * PAGE, 2 * PAGE);
    struct vgd_vu_shmem_map both = a_map(3 * PAGE, 5 * PAGE);
    cr_assert_eq(vgd_guest_shm_unmap(shm, &half, &why), VGD_RANGE);
    cr_assert_eq(vgd_guest_shm_unmap(shm, &both, &why), VGD_RANGE);
    cr_assert_eq(vgd_guest_shm_unmap(shm, &map, &why), VGD_OK);
    cr_assert_eq(vgd_guest_shm_unmap(shm, &map, &why), VGD_RANGE);
    cr_assert_eq(vgd_guest_shm_count(shm), 2);
    vgd_guest_shm_reset(shm);
    cr_assert_eq(vgd_guest_shm_count(shm), 0);
    vgd_guest_shm_destroy(shm);
}

Test(shm, hands_out_ranges_first_fit)
{
    struct vgd_guest_shm *shm = vgd_guest_shm_create(8 * PAGE);
    cr_assert_eq(vgd_guest_shm_alloc(shm, 1), 0);
    cr_assert_eq(vgd_guest_shm_alloc(shm, 2 * PAGE), PAGE);
    cr_assert_eq(vgd_guest_shm_alloc(shm, 2 * PAGE), 3 * PAGE);
    cr_assert_eq(vgd_guest_shm_alloc(shm, 4 * PAGE), UINT64_MAX);
    cr_assert_eq(vgd_guest_shm_alloc(shm, 0), UINT64_MAX);
    cr_assert_eq(vgd_guest_shm_alloc(shm, UINT64_MAX), UINT64_MAX);
    vgd_guest_shm_free(shm, PAGE, 2 * PAGE);
    cr_assert_eq(vgd_guest_shm_alloc(shm, 3 * PAGE), 5 * PAGE);
    cr_assert_eq(vgd_guest_shm_alloc(shm, PAGE + 1), PAGE);
    cr_assert_eq(vgd_guest_shm_alloc(shm, 1), UINT64_MAX);
    vgd_guest_shm_destroy(shm);
}

/* A back-end that says yes to everything. */
struct backend {
    struct vgd_channel *channel;
    pthread_t thread;
    uint64_t features, protocol, window_bytes;
    bool map_in_stop;          /* send a MAP while the VMM waits for GET_VRING_BASE */
    bool byte_before_stop_ack; /* send its first byte before the same */
    bool map_before_stop_ack;  /* send one before the answer to the stop's first message */
    atomic_int backend_fd;     /* to ask the VMM on */
    atomic_uint tables, last_regions, slots_added, slots_removed, shmem_questions;
    atomic_ullong acked;
};

static void ask(int backend_fd, uint32_t request, uint32_t flags,
                const struct vgd_vu_shmem_map *map, int fd)
{
    uint8_t message[VGD_VU_HDR_SIZE + VGD_VU_SHMEM_MAP_SIZE];
    struct vgd_writer w = vgd_writer_of(message, sizeof(message));
    struct vgd_vu_hdr hdr = {.request = request,
                             .flags = VGD_VU_FLAG_VERSION | flags,
                             .size_bytes = VGD_VU_SHMEM_MAP_SIZE};
    vgd_vu_hdr_encode(&w, &hdr);
    vgd_vu_shmem_map_encode(&w, map);
    struct iovec iov = {.iov_base = message, .iov_len = sizeof(message)};
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = control;
        msg.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    cr_assert_eq(sendmsg(backend_fd, &msg, 0), (ssize_t)sizeof(message));
}

static void send_map(int backend_fd, uint64_t at)
{
    struct vgd_vu_shmem_map map = a_map(at, PAGE);
    VGD_AUTO_FD file = make_file(PAGE, "mapped");
    ask(backend_fd, VGD_VU_BACKEND_SHMEM_MAP, VGD_VU_FLAG_NEED_REPLY, &map, file);
}

static void send_unmap(int backend_fd, uint64_t at)
{
    struct vgd_vu_shmem_map map = a_map(at, PAGE);
    ask(backend_fd, VGD_VU_BACKEND_SHMEM_UNMAP, VGD_VU_FLAG_NEED_REPLY, &map, -1);
}

static void reply(struct backend *b, uint32_t request, const void *payload, uint32_t n_bytes)
{
    (void)!vgd_channel_send(b->channel, request, VGD_VU_FLAG_REPLY, payload, n_bytes, NULL, 0);
}

static void reply_u64(struct backend *b, uint32_t request, uint64_t value)
{
    reply(b, request, &value, sizeof(value));
}

static void answer(struct backend *b, struct vgd_vu_message *msg)
{
    switch (msg->hdr.request) {
    case VGD_VU_GET_FEATURES:
        reply_u64(b, msg->hdr.request, b->features);
        return;
    case VGD_VU_GET_PROTOCOL_FEATURES:
        reply_u64(b, msg->hdr.request, b->protocol);
        return;
    case VGD_VU_GET_QUEUE_NUM:
        reply_u64(b, msg->hdr.request, 2);
        return;
    case VGD_VU_GET_MAX_MEM_SLOTS:
        reply_u64(b, msg->hdr.request, 509);
        return;
    case VGD_VU_GET_CONFIG:
        msg->payload[12 + 12] = 2;    /* num_capsets */
        msg->payload[12 + 17] = 0x10; /* blob_alignment 4096, in the long form */
        reply(b, msg->hdr.request, msg->payload, msg->hdr.size_bytes);
        return;
    case VGD_VU_GET_SHMEM_CONFIG: {
        uint8_t payload[VGD_VU_SHMEM_CONFIG_SIZE];
        struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
        struct vgd_vu_shmem_config config = {.nregions = b->window_bytes != 0};
        config.sizes_bytes[VGD_SHM_ID_HOST_VISIBLE] = b->window_bytes;
        vgd_vu_shmem_config_encode(&w, &config);
        atomic_fetch_add(&b->shmem_questions, 1);
        reply(b, msg->hdr.request, payload, sizeof(payload));
        return;
    }
    case VGD_VU_GET_VRING_BASE:
        if (b->map_in_stop) {
            send_map(b->backend_fd, 0);
            b->map_in_stop = false;
        }
        reply(b, msg->hdr.request, msg->payload, VGD_VU_VRING_STATE_SIZE);
        return;
    case VGD_VU_SET_VRING_ENABLE:
        if (b->map_before_stop_ack && msg->payload[4] == 0) {
            send_map(b->backend_fd, 0);
            b->map_before_stop_ack = false;
        }
        if (b->byte_before_stop_ack && msg->payload[4] == 0) {
            uint8_t byte = VGD_VU_BACKEND_SHMEM_MAP;
            cr_assert_eq(send(b->backend_fd, &byte, 1, 0), 1);
            b->byte_before_stop_ack = false;
        }
        break;
    case VGD_VU_SET_FEATURES:
        memcpy(&b->acked, msg->payload, 8);
        break;
    case VGD_VU_SET_BACKEND_REQ_FD:
        b->backend_fd = vgd_fd_take(&msg->fds[0]);
        break;
    case VGD_VU_SET_MEM_TABLE:
        b->last_regions = msg->payload[0];
        atomic_fetch_add(&b->tables, 1);
        break;
    case VGD_VU_ADD_MEM_REG:
        atomic_fetch_add(&b->slots_added, 1);
        break;
    case VGD_VU_REM_MEM_REG:
        atomic_fetch_add(&b->slots_removed, 1);
        break;
    default:
        break;
    }
    if ((msg->hdr.flags & VGD_VU_FLAG_NEED_REPLY) != 0) {
        reply_u64(b, msg->hdr.request, 0);
    }
}

static void *backend_run(void *user)
{
    struct backend *b = user;
    for (;;) {
        struct pollfd p = {.fd = vgd_channel_fd(b->channel), .events = POLLIN};
        (void)poll(&p, 1, 1000);
        struct vgd_vu_message msg;
        enum vgd_status st = vgd_channel_read(b->channel, &msg);
        if (st == VGD_AGAIN) {
            continue;
        }
        if (st != VGD_OK) {
            return NULL;
        }
        answer(b, &msg);
        vgd_vu_message_finish(&msg);
    }
}

static struct backend backend;
static struct vgd_guest_gpu *gpu;
static struct vgd_guest_frontend *fe;

static void begin(enum vgd_guest_profile profile, uint64_t protocol,
                  enum vgd_guest_announce announce_maps)
{
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    backend = (struct backend){
        .features = BIT(VGD_F_VIRGL) | BIT(VGD_F_EDID) | BIT(VGD_F_RESOURCE_UUID) |
                    BIT(VGD_F_RESOURCE_BLOB) | BIT(VGD_F_CONTEXT_INIT) | BIT(VGD_F_BLOB_ALIGNMENT) |
                    BIT(VGD_GUEST_F_VERSION_1) | BIT(VGD_VU_F_PROTOCOL_FEATURES),
        .protocol = BIT(VGD_VU_F_MQ) | BIT(VGD_VU_F_REPLY_ACK) | BIT(VGD_VU_F_BACKEND_REQ) |
                    BIT(VGD_VU_F_CONFIG) | BIT(VGD_VU_F_BACKEND_SEND_FD) | protocol,
        .window_bytes = WINDOW_BYTES,
        .backend_fd = -1,
    };
    backend.channel = vgd_channel_create(&pair[1]);
    cr_assert_not_null(backend.channel);
    cr_assert_eq(pthread_create(&backend.thread, NULL, backend_run, &backend), 0);
    struct vgd_guest_gpu_config config = {
        .frontend = {.profile = profile, .announce_maps = announce_maps}};
    enum vgd_status st;
    gpu = vgd_guest_gpu_open(&pair[0], &config, &st);
    cr_assert_not_null(gpu, "%s", vgd_status_text(st));
    fe = vgd_guest_gpu_frontend(gpu);
}

static void end(void)
{
    vgd_guest_gpu_close(gpu);
    (void)pthread_join(backend.thread, NULL);
    vgd_channel_destroy(backend.channel);
    int fd = backend.backend_fd;
    vgd_fd_closep(&fd);
}

/* The VMM's answer to the request sent last, -1: none within @timeout_ms while the guest turns. */
static int answered(int timeout_ms)
{
    uint64_t until_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    for (;;) {
        struct pollfd p = {.fd = backend.backend_fd, .events = POLLIN};
        if (poll(&p, 1, 0) > 0) {
            uint8_t bytes[VGD_VU_HDR_SIZE + 8];
            ssize_t n = recv(backend.backend_fd, bytes, sizeof(bytes), 0);
            return n == (ssize_t)sizeof(bytes) ? bytes[VGD_VU_HDR_SIZE] : n == 0 ? -2 : -3;
        }
        if (vgd_now_ns() >= until_ns) {
            return -1;
        }
        vgd_guest_gpu_turn(gpu, 1);
    }
}

static void expect_violations(uint64_t n)
{
    char text[160];
    vgd_guest_frontend_violation(fe, text, sizeof(text));
    cr_assert_eq(vgd_guest_frontend_counters(fe).violations, n, "the last: %s", text);
}

Test(window, is_asked_for_where_qemu_has_a_place_for_it)
{
    static const struct {
        enum vgd_guest_profile profile;
        bool has;
    } cases[] = {
        {VGD_GUEST_QEMU_11_1, false},
        {VGD_GUEST_QEMU_10_0, false},
        {VGD_GUEST_QEMU_GENERIC, true},
        {VGD_GUEST_QEMU_11_2, true},
    };
    uint64_t blob = BIT(VGD_F_RESOURCE_BLOB) | BIT(VGD_F_CONTEXT_INIT) | BIT(VGD_F_BLOB_ALIGNMENT);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin(cases[i].profile, BIT(VGD_VU_F_SHMEM), VGD_GUEST_ANNOUNCE_DEFAULT);
        cr_assert_eq(backend.shmem_questions, cases[i].has, "case %zu", i);
        cr_assert_eq(vgd_guest_window_bytes(gpu), cases[i].has ? WINDOW_BYTES : 0);
        cr_assert_eq((vgd_guest_frontend_acked_features(fe) & blob), cases[i].has ? blob : 0);
        cr_assert_eq(vgd_guest_frontend_acked_features(fe) & backend.features,
                     backend.acked & backend.features);
        cr_assert_eq(vgd_guest_frontend_blob_alignment(fe),
                     cases[i].profile == VGD_GUEST_QEMU_10_0 ? 0 : PAGE);
        cr_assert_eq(vgd_guest_window_alloc(gpu, 1), cases[i].has ? 0 : UINT64_MAX);
        expect_violations(0);
        end();
    }
}

Test(window, maps_unmaps_and_tells_of_it)
{
    begin(VGD_GUEST_QEMU_GENERIC, BIT(VGD_VU_F_SHMEM), VGD_GUEST_ANNOUNCE_DEFAULT);
    cr_assert_eq(backend.last_regions, 1);
    int fd;
    uint64_t file_offset;
    uint64_t len;
    cr_assert(!vgd_guest_window_file(gpu, PAGE, &fd, &file_offset, &len));
    send_map(backend.backend_fd, PAGE);
    cr_assert_eq(answered(1000), 0);
    vgd_guest_gpu_settle(gpu, 5);
    cr_assert(vgd_guest_window_file(gpu, PAGE, &fd, &file_offset, &len));
    cr_assert_eq(len, PAGE);
    cr_assert_str_eq((char *)vgd_guest_window(gpu) + PAGE, "mapped");
    /* Both ways: through the region and through the file. */
    memcpy(vgd_guest_window(gpu) + PAGE, "window", 7);
    char text[8];
    cr_assert_eq(pread(fd, text, sizeof(text), 0), (ssize_t)sizeof(text));
    cr_assert_str_eq(text, "window");
    cr_assert_eq(backend.last_regions, 2);
    /* The table has room for eight; beyond that it stays as it is, and maps work. */
    for (uint32_t i = 2; i <= 10; i++) {
        send_map(backend.backend_fd, i * PAGE);
        cr_assert_eq(answered(1000), 0);
        cr_assert_eq(backend.last_regions, i < 8 ? i + 1 : 8);
    }
    cr_assert_eq(vgd_guest_window_maps_count(gpu), 10);
    send_unmap(backend.backend_fd, PAGE);
    cr_assert_eq(answered(1000), 0);
    send_map(backend.backend_fd, 3 * PAGE);
    cr_assert_eq(answered(1000), 1);
    expect_violations(1);
    cr_assert_eq(vgd_guest_frontend_counters(fe).maps, 10);
    cr_assert_eq(vgd_guest_frontend_counters(fe).unmaps, 1);
    cr_assert_eq(vgd_guest_frontend_counters(fe).refused, 1);
    /* D1: nine maps and RAM do not fit at a start. */
    cr_assert_eq(vgd_guest_gpu_pause(gpu), VGD_OK);
    cr_assert_eq(vgd_guest_gpu_resume(gpu), VGD_LIMIT);
    /* QEMU reads requests again then; with fewer regions the next start goes well. */
    send_unmap(backend.backend_fd, 9 * PAGE);
    cr_assert_eq(answered(1000), 0);
    send_unmap(backend.backend_fd, 10 * PAGE);
    cr_assert_eq(answered(1000), 0);
    expect_violations(1);
    cr_assert_eq(vgd_guest_gpu_pause(gpu), VGD_OK);
    cr_assert_eq(vgd_guest_gpu_resume(gpu), VGD_OK);
    cr_assert_eq(backend.last_regions, 8);
    end();
}

Test(window, a_reset_drops_everything)
{
    begin(VGD_GUEST_QEMU_GENERIC, BIT(VGD_VU_F_SHMEM), VGD_GUEST_ANNOUNCE_DEFAULT);
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_eq(vgd_guest_window_alloc(gpu, PAGE), i * PAGE);
        send_map(backend.backend_fd, i * PAGE);
        cr_assert_eq(answered(1000), 0);
    }
    cr_assert_eq(vgd_guest_gpu_reset(gpu), VGD_OK);
    cr_assert_eq(vgd_guest_window_maps_count(gpu), 0);
    cr_assert_eq(vgd_guest_window_alloc(gpu, PAGE), 0);
    cr_assert_eq(backend.last_regions, 1);
    expect_violations(0);
    end();
}

Test(window, with_memory_slots_each_map_is_one)
{
    begin(VGD_GUEST_QEMU_GENERIC, BIT(VGD_VU_F_SHMEM) | BIT(VGD_VU_F_CONFIGURE_MEM_SLOTS),
          VGD_GUEST_ANNOUNCE_DEFAULT);
    cr_assert_eq(backend.slots_added, 1);
    send_map(backend.backend_fd, 0);
    cr_assert_eq(answered(1000), 0);
    cr_assert_eq(backend.slots_added, 2);
    send_unmap(backend.backend_fd, 0);
    cr_assert_eq(answered(1000), 0);
    cr_assert_eq(backend.slots_removed, 1);
    send_map(backend.backend_fd, 0);
    cr_assert_eq(answered(1000), 0);
    expect_violations(0);
    cr_assert_eq(vgd_guest_gpu_reset(gpu), VGD_OK);
    expect_violations(1); /* D3 */
    end();
}

Test(window, requests_around_a_stop)
{
    begin(VGD_GUEST_QEMU_11_2, BIT(VGD_VU_F_SHMEM), VGD_GUEST_ANNOUNCE_DEFAULT);
    /* One that the stop overtakes on its way, one while it is stopped, one while it waits for
     * GET_VRING_BASE: they are all read when it is stopped (D6). */
    backend.map_before_stop_ack = true;
    cr_assert_eq(vgd_guest_gpu_pause(gpu), VGD_OK);
    cr_assert_eq(answered(1000), 0);
    expect_violations(1);
    send_unmap(backend.backend_fd, 0);
    cr_assert_eq(answered(1000), 0);
    expect_violations(2);
    cr_assert_eq(vgd_guest_gpu_resume(gpu), VGD_OK);
    backend.map_in_stop = true;
    cr_assert_eq(vgd_guest_gpu_pause(gpu), VGD_OK);
    cr_assert_eq(vgd_guest_gpu_resume(gpu), VGD_OK);
    expect_violations(3);
    end();
}

Test(window, a_request_begun_before_a_stop_can_become_another)
{
    begin(VGD_GUEST_QEMU_11_2, BIT(VGD_VU_F_SHMEM), VGD_GUEST_ANNOUNCE_DEFAULT);
    uint8_t hdr[VGD_VU_HDR_SIZE];
    struct vgd_writer w = vgd_writer_of(hdr, sizeof(hdr));
    vgd_vu_hdr_encode(&w, &(struct vgd_vu_hdr){.request = 0x100 | VGD_VU_BACKEND_SHMEM_MAP,
                                               .flags = VGD_VU_FLAG_VERSION});
    /* The first byte of a SHMEM_MAP, and a stop; the rest makes it a request that nobody knows. */
    backend.byte_before_stop_ack = true;
    cr_assert_eq(vgd_guest_gpu_pause(gpu), VGD_OK);
    cr_assert_eq(send(backend.backend_fd, hdr + 1, sizeof(hdr) - 1, 0), (ssize_t)sizeof(hdr) - 1);
    cr_assert_eq(vgd_guest_gpu_resume(gpu), VGD_OK);
    expect_violations(0);
    cr_assert_eq(vgd_guest_frontend_counters(fe).backend_messages, 1);
    send_map(backend.backend_fd, 0);
    cr_assert_eq(answered(1000), 0);
    expect_violations(0);
    end();
}

static void send_barrier(int backend_fd)
{
    uint8_t message[VGD_VU_HDR_SIZE + VGD_VU_UUID_SIZE] = {0};
    struct vgd_writer w = vgd_writer_of(message, sizeof(message));
    vgd_vu_hdr_encode(&w,
                      &(struct vgd_vu_hdr){.request = VGD_VU_BACKEND_SHARED_OBJECT_REMOVE,
                                           .flags = VGD_VU_FLAG_VERSION | VGD_VU_FLAG_NEED_REPLY,
                                           .size_bytes = VGD_VU_UUID_SIZE});
    cr_assert_eq(send(backend_fd, message, sizeof(message), 0), (ssize_t)sizeof(message));
}

Test(window, a_map_is_answered_before_it_is_there)
{
    begin(VGD_GUEST_QEMU_GENERIC, BIT(VGD_VU_F_SHMEM), VGD_GUEST_ANNOUNCE_DEFAULT);
    int fd;
    uint64_t file_offset;
    uint64_t len;
    send_map(backend.backend_fd, 0);
    cr_assert_eq(answered(1000), 0);
    cr_assert(!vgd_guest_window_file(gpu, 0, &fd, &file_offset, &len));
    cr_assert(vgd_guest_frontend_mapped_early(fe, 0)); /* D7 */
    expect_violations(1);
    /* The answer to anything else proves that it is. */
    send_barrier(backend.backend_fd);
    cr_assert_eq(answered(1000), 1);
    cr_assert(vgd_guest_window_file(gpu, 0, &fd, &file_offset, &len));
    cr_assert(!vgd_guest_frontend_mapped_early(fe, 0));
    /* So does some time. */
    send_map(backend.backend_fd, PAGE);
    cr_assert_eq(answered(1000), 0);
    vgd_guest_gpu_settle(gpu, 5);
    cr_assert(!vgd_guest_frontend_mapped_early(fe, PAGE));
    expect_violations(1);
    end();
}

Test(window, two_requests_at_once_are_a_fault)
{
    begin(VGD_GUEST_QEMU_11_2, BIT(VGD_VU_F_SHMEM), VGD_GUEST_ANNOUNCE_DEFAULT);
    send_map(backend.backend_fd, 0);
    send_map(backend.backend_fd, PAGE);
    cr_assert_eq(answered(1000), 0);
    cr_assert_eq(answered(1000), 0);
    expect_violations(1);
    end();
}

Test(window, a_vmm_that_behaves_badly)
{
    begin(VGD_GUEST_QEMU_11_2, BIT(VGD_VU_F_SHMEM), VGD_GUEST_ANNOUNCE_DEFAULT);
    vgd_guest_frontend_trouble(
        fe, &(struct vgd_guest_trouble){.answer = VGD_GUEST_ANSWER_REFUSE, .n_maps = 1});
    send_map(backend.backend_fd, 0);
    cr_assert_eq(answered(1000), 1);
    cr_assert_eq(vgd_guest_window_maps_count(gpu), 0);
    send_map(backend.backend_fd, 0); /* only the next one */
    cr_assert_eq(answered(1000), 0);

    vgd_guest_frontend_trouble(fe, &(struct vgd_guest_trouble){.answer = VGD_GUEST_ANSWER_LATE,
                                                               .n_unmaps = 1,
                                                               .late_ms = 100});
    send_map(backend.backend_fd, PAGE); /* maps are not meant */
    cr_assert_eq(answered(1000), 0);
    uint64_t start_ns = vgd_now_ns();
    send_unmap(backend.backend_fd, PAGE);
    cr_assert_eq(answered(20), -1);
    cr_assert_eq(vgd_guest_window_maps_count(gpu), 2);
    cr_assert_eq(answered(1000), 0);
    cr_assert_geq(vgd_now_ns() - start_ns, UINT64_C(100000000));
    cr_assert_eq(vgd_guest_window_maps_count(gpu), 1);

    vgd_guest_frontend_trouble(
        fe, &(struct vgd_guest_trouble){.answer = VGD_GUEST_ANSWER_NEVER, .n_maps = 1});
    send_map(backend.backend_fd, PAGE);
    cr_assert_eq(answered(100), -1);
    cr_assert(vgd_guest_frontend_is_holding(fe));
    cr_assert_eq(vgd_guest_gpu_pause(gpu), VGD_OK); /* no stop waits for it */
    cr_assert_eq(vgd_guest_gpu_resume(gpu), VGD_OK);
    vgd_guest_frontend_release(fe);
    cr_assert_eq(answered(1000), 0);
    cr_assert_eq(vgd_guest_window_maps_count(gpu), 2);

    vgd_guest_frontend_trouble(
        fe, &(struct vgd_guest_trouble){.answer = VGD_GUEST_ANSWER_LOSE, .n_maps = 1});
    send_map(backend.backend_fd, 2 * PAGE);
    cr_assert_eq(answered(100), -1);
    cr_assert_eq(vgd_guest_window_maps_count(gpu), 3);

    vgd_guest_frontend_trouble(
        fe, &(struct vgd_guest_trouble){.answer = VGD_GUEST_ANSWER_RUBBISH, .n_maps = 1});
    send_map(backend.backend_fd, 3 * PAGE);
    cr_assert_eq(answered(1000), -3);

    vgd_guest_frontend_trouble(
        fe, &(struct vgd_guest_trouble){.answer = VGD_GUEST_ANSWER_CLOSE, .n_maps = 1});
    send_map(backend.backend_fd, 4 * PAGE);
    cr_assert_eq(answered(1000), -2);
    expect_violations(0);
    end();
}
