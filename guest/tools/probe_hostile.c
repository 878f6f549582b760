/* SPDX-License-Identifier: MIT */
/*
 * The attacks of --hostile: time-bounded, each in lives of fresh backends. After every batch the
 * backend has to live and to answer what is right; after every life it must not have grown, filled
 * its log, or be spinning.
 */
#include "probe_hostile.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "guest_venus.h"
#include "log.h"

#define BATCHES_PER_LIFE 100u
#define COMMANDS_PER_BATCH 24u
#define SPARE_BYTES (4u << 20)
#define SPARE_MARGIN_BYTES (1u << 20) /* behind it: entries may be longer than they should */
#define ANSWER_MS 4000
#define ANSWER_VENUS_MS 15000 /* a context's process may take 10 s before it is ended */
/* What a backend may take in a life: guest-sized things, caches, what a driver never gives back. */
#define GROWTH_KIB_MAX (768 * 1024)
#define LOG_BYTES_START (256u << 10)
#define LOG_BYTES_PER_S (16u << 10)
#define IDLE_MS 400
#define IDLE_CPU_PERCENT_MAX 50
#define PIDS_MAX 512u
#define SAID_MAX 4u

/* One attack, over all its lives. */
struct hostile {
    struct probe *p;
    struct hostile_rng rng; /* of this life */
    uint64_t deadline_ns;
    struct hostile_ram ram;
    bool over; /* this life is */
    uint32_t lives, deaths, hangs, wrong, workers;
    uint64_t batches, commands, well;
    int64_t grown_kib_max;
    uint64_t log_rate_max;
    pid_t worker;
    int answer_ms;
};

static uint64_t log_bytes(const struct probe *p)
{
    struct stat st;
    return p->log_fd >= 0 && fstat(p->log_fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* Private_Dirty, or CPU time, of the backend and all that it started. */
static int64_t of_all(const struct probe *p, int64_t (*what)(pid_t pid))
{
    static pid_t pids[PIDS_MAX];
    uint32_t n = vgd_guest_descendants(p->process.pid, pids, PIDS_MAX);
    int64_t sum = what(p->process.pid);
    for (uint32_t i = 0; i < n; i++) {
        int64_t one = what(pids[i]);
        sum += one > 0 ? one : 0;
    }
    return sum;
}

/* What went wrong, and how to see it again. Only the first few are told in full. */
static void report(struct hostile *h, uint64_t seed, const char *what)
{
    h->over = true;
    if (h->deaths + h->hangs + h->wrong <= SAID_MAX) {
        probe_fail(h->p, "%s, in life %u after %llu commands in all; --seed=%llu begins with it",
                   what, h->lives, (unsigned long long)h->commands, (unsigned long long)seed);
    }
    h->p->failed = true;
}

static bool is_dead(struct hostile *h)
{
    return !vgd_guest_process_alive(&h->p->process);
}

/* The backend is alive, and does what is right when it is asked to. */
static bool check_2d(struct hostile *h, uint64_t seed)
{
    struct probe *p = h->p;
    bool failed_before = p->failed;
    size_t notes_before = strlen(p->notes);
    p->failed = false;
    struct probe_image img = {0};
    bool right =
        probe_image_create(p, &img, VGD_FORMAT_B8G8R8X8_UNORM, 64, 48, 2,
                           hostile_below(&h->rng, 1000)) &&
        vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)) == VGD_RESP_OK_NODATA &&
        probe_image_show(p, &img, probe_whole(&img)) &&
        probe_expect_picture(p, 0, &img, probe_whole(&img)) &&
        vgd_guest_unref(p->gpu, img.res_id) == VGD_RESP_OK_NODATA && !p->failed;
    probe_image_forget(p, &img);
    p->failed = failed_before;
    if (p->skipped) { /* a dma-buf that nobody can look into here */
        p->skipped = false;
        p->notes[0] = '\0';
        right = true;
    }
    if (is_dead(h) || h->deaths + h->hangs + h->wrong >= SAID_MAX) {
        p->notes[notes_before] = '\0'; /* what failed only says that it is dead */
    }
    if (is_dead(h)) {
        h->deaths++;
        char what[64];
        int status = h->p->process.wait_status;
        (void)snprintf(what, sizeof(what), "the backend died (%s %d)",
                       WIFSIGNALED(status) ? "signal" : "status",
                       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        report(h, seed, what);
        return false;
    }
    if (!right) {
        h->wrong++;
        report(h, seed, "a picture is not shown as it should be");
    }
    return right;
}

/* Workers of vgd that were replaced since the last look: it survives that, and should not need to.
 */
static void count_workers(struct hostile *h)
{
    pid_t worker = vgd_guest_child_named(h->p->process.pid, "vgd-worker");
    if (worker != 0 && worker != h->worker) {
        h->workers += h->worker != 0;
        h->worker = worker;
    }
}

static void let_go(struct hostile *h)
{
    struct vgd_guest_gpu *gpu = h->p->gpu;
    for (uint32_t i = 0; i < HOSTILE_IDS && !is_dead(h); i++) {
        (void)vgd_guest_unref(gpu, i);
    }
    for (uint32_t i = 0; i < HOSTILE_CONTEXTS && vgd_guest_gpu_has_3d(gpu) && !is_dead(h); i++) {
        (void)vgd_guest_ctx_destroy(gpu, i);
    }
}

/* Send one after the other without waiting, then wait for each. */
static void batch_of_commands(struct hostile *h, uint64_t seed)
{
    static struct hostile_command command;
    struct vgd_guest_gpu *gpu = h->p->gpu;
    struct vgd_guest_command *sent[COMMANDS_PER_BATCH];
    uint32_t rooms[COMMANDS_PER_BATCH];
    uint32_t n = 0;
    for (uint32_t i = 0; i < COMMANDS_PER_BATCH; i++) {
        hostile_command_make(&h->rng, &h->ram, vgd_guest_gpu_has_3d(gpu), &command);
        struct vgd_guest_command *cmd = vgd_guest_gpu_begin(gpu, &command.req, true);
        if (cmd != NULL) {
            rooms[n] = command.req.resp_bytes;
            sent[n++] = cmd;
        }
    }
    h->commands += n;
    for (uint32_t i = 0; i < n; i++) {
        if (!h->over && !vgd_guest_gpu_wait(gpu, sent[i], h->answer_ms) && !is_dead(h)) {
            h->hangs++;
            report(h, seed, "a command is never answered");
        } else if (sent[i]->done && sent[i]->used_bytes > rooms[i]) {
            h->wrong++;
            report(h, seed, "the device says that it wrote more than there was room for");
        }
        h->well += sent[i]->done && sent[i]->resp.type >= VGD_RESP_OK_NODATA &&
                   sent[i]->resp.type < VGD_RESP_ERR_UNSPEC;
        vgd_guest_gpu_end(gpu, sent[i]);
    }
}

static void life_of_commands(struct hostile *h, uint64_t seed)
{
    for (uint32_t i = 0; i < BATCHES_PER_LIFE && !h->over && vgd_now_ns() < h->deadline_ns; i++) {
        batch_of_commands(h, seed);
        h->batches++;
        if (!h->over || is_dead(h)) {
            (void)check_2d(h, seed);
        }
        if (i % 20 == 19 && !h->over) {
            let_go(h);
        }
    }
}

/* A context of its own draws what it should, whatever the others sent. */
static bool check_3d(struct hostile *h)
{
    struct vgd_guest_gpu *gpu = h->p->gpu;
    uint32_t id = probe_id(h->p);
    float color[4] = {0.0f, (float)hostile_below(&h->rng, 2), 1.0f, 1.0f};
    struct vgd_guest_backing backing;
    struct vgd_virgl_stream s = {0};
    struct vgd_cmd_resource_create_3d create = {.resource_id = id,
                                                .target = VGD_VIRGL_TARGET_TEXTURE_2D,
                                                .format = VGD_VIRGL_FORMAT_B8G8R8A8_UNORM,
                                                .bind = VGD_VIRGL_BIND_RENDER_TARGET,
                                                .width = 16,
                                                .height = 16,
                                                .depth = 1,
                                                .array_size = 1};
    struct vgd_cmd_transfer_host_3d transfer = {
        .box = {.w = 16, .h = 16, .d = 1}, .resource_id = id, .stride_bytes = 64};
    if (!vgd_guest_backing_create(gpu, 16 * 16 * 4, 1, &backing)) {
        return false;
    }
    memset(backing.bytes, 0x77, backing.size_bytes);
    vgd_virgl_create_sub_ctx(&s, 1);
    vgd_virgl_set_sub_ctx(&s, 1);
    vgd_virgl_create_surface(&s, 1, id, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM);
    vgd_virgl_set_framebuffer(&s, 1);
    vgd_virgl_clear_color(&s, color);
    bool right =
        vgd_guest_ctx_create(gpu, HOSTILE_OWN_CTX, 0, "good") == VGD_RESP_OK_NODATA &&
        vgd_guest_create_3d(gpu, HOSTILE_OWN_CTX, &create) == VGD_RESP_OK_NODATA &&
        vgd_guest_ctx_attach(gpu, HOSTILE_OWN_CTX, id) == VGD_RESP_OK_NODATA &&
        vgd_guest_attach(gpu, id, backing.entries, 1) == VGD_RESP_OK_NODATA &&
        vgd_guest_submit_3d(gpu, HOSTILE_OWN_CTX, s.dwords, s.n_dwords, 1) == VGD_RESP_OK_NODATA &&
        vgd_guest_transfer_3d(gpu, VGD_CMD_TRANSFER_FROM_HOST_3D, HOSTILE_OWN_CTX, &transfer) ==
            VGD_RESP_OK_NODATA;
    for (uint32_t i = 0; i < 16 * 16 && right; i++) {
        right = backing.bytes[4 * i] == 0xff && backing.bytes[4 * i + 1] == 0xff * (int)color[1] &&
                backing.bytes[4 * i + 2] == 0;
    }
    (void)vgd_guest_unref(gpu, id);
    (void)vgd_guest_ctx_destroy(gpu, HOSTILE_OWN_CTX);
    vgd_guest_backing_destroy(gpu, &backing);
    vgd_virgl_stream_finish(&s);
    return right;
}

/* Textures and buffers with backing, in contexts: something for streams to name. */
static void furnish(struct hostile *h, uint32_t ctx_id)
{
    struct vgd_guest_gpu *gpu = h->p->gpu;
    (void)vgd_guest_ctx_create(gpu, ctx_id, 0, "hostile");
    for (uint32_t id = 1; id < 9; id++) {
        bool buffer = id % 2 == 0;
        struct vgd_cmd_resource_create_3d create = {
            .resource_id = id,
            .target = buffer ? VGD_VIRGL_TARGET_BUFFER : VGD_VIRGL_TARGET_TEXTURE_2D,
            .format = buffer ? VGD_VIRGL_FORMAT_R8_UNORM : VGD_VIRGL_FORMAT_B8G8R8A8_UNORM,
            .bind = buffer ? VGD_VIRGL_BIND_VERTEX_BUFFER
                           : VGD_VIRGL_BIND_RENDER_TARGET | VGD_VIRGL_BIND_SAMPLER_VIEW,
            .width = buffer ? 4096 : 64,
            .height = buffer ? 1 : 64,
            .depth = 1,
            .array_size = 1,
        };
        struct vgd_mem_entry entry = {h->ram.gpa + UINT64_C(65536) * id, 64 * 64 * 4};
        if (vgd_guest_create_3d(gpu, ctx_id, &create) == VGD_RESP_OK_NODATA) {
            (void)vgd_guest_attach(gpu, id, &entry, 1);
        }
        (void)vgd_guest_ctx_attach(gpu, ctx_id, id);
    }
}

static void life_of_streams(struct hostile *h, uint64_t seed)
{
    static uint32_t dwords[HOSTILE_STREAM_DWORDS];
    struct vgd_guest_gpu *gpu = h->p->gpu;
    for (uint32_t ctx = 1; ctx < 4; ctx++) {
        furnish(h, ctx);
    }
    for (uint32_t i = 0; i < BATCHES_PER_LIFE && !h->over && vgd_now_ns() < h->deadline_ns; i++) {
        for (uint32_t k = 0; k < 8 && !h->over; k++) {
            uint32_t n = hostile_stream_make(&h->rng, dwords);
            uint32_t ctx = 1 + hostile_below(&h->rng, 3);
            uint32_t got = vgd_guest_submit_3d(gpu, ctx, dwords, n, 1 + h->commands);
            h->commands++;
            h->well += got == VGD_RESP_OK_NODATA;
            if (got == 0 && !is_dead(h)) {
                h->hangs++;
                report(h, seed, "a stream is never answered");
            }
            if (got >= VGD_RESP_ERR_UNSPEC && hostile_one_in(&h->rng, 2)) {
                (void)vgd_guest_ctx_destroy(gpu, ctx);
                furnish(h, ctx);
            }
        }
        h->batches++;
        count_workers(h);
        if (check_2d(h, seed) && !check_3d(h)) {
            /* Lost with its worker, perhaps: once more. */
            if (!check_3d(h)) {
                h->wrong++;
                report(h, seed, "a good context does not draw what it should");
            }
        }
    }
}

static void life_of_rings(struct hostile *h, uint64_t seed)
{
    enum { N = 8, TABLE = 32 };
    struct probe *p = h->p;
    struct vgd_guest_queue *q = vgd_guest_gpu_queue(p->gpu, VGD_GUEST_CONTROL);
    struct vgd_guest_queue_raw ring = vgd_guest_queue_raw(q);
    struct vgd_guest_desc *table =
        (void *)vgd_guest_ram_at(vgd_guest_gpu_ram(p->gpu), h->ram.gpa, TABLE * sizeof(*table));
    uint16_t heads[N];
    for (uint32_t i = 0; i < N; i++) {
        heads[i] = vgd_guest_queue_raw_take(q);
    }
    for (uint32_t i = 0; i < BATCHES_PER_LIFE && !h->over && vgd_now_ns() < h->deadline_ns; i++) {
        for (uint32_t k = 0; k < 6; k++) {
            for (uint32_t d = 0; d < N; d++) {
                struct vgd_guest_desc made = hostile_desc_make(&h->rng, &h->ram, N);
                made.next = made.next < N ? heads[made.next] : made.next;
                ring.desc[heads[d]] = made;
            }
            for (uint32_t d = 0; d < TABLE; d++) {
                table[d] = hostile_desc_make(&h->rng, &h->ram, TABLE);
            }
            uint16_t head = heads[hostile_below(&h->rng, N)];
            if (hostile_one_in(&h->rng, 20)) {
                head = (uint16_t)hostile_next(&h->rng);
                head = head < ring.size ? heads[0] : head; /* not one of the driver's own */
            }
            vgd_guest_queue_raw_push(q, head);
            vgd_guest_gpu_kick(p->gpu, VGD_GUEST_CONTROL);
            for (uint32_t writes = hostile_below(&h->rng, 3000); writes > 0; writes--) {
                volatile struct vgd_guest_desc *d = &ring.desc[heads[writes % N]];
                d->len_bytes = writes % 3 == 0 ? UINT32_MAX : 24;
                d->flags = (uint16_t)(writes & 7);
            }
            h->commands++;
        }
        h->batches++;
        if (hostile_one_in(&h->rng, 25)) {
            __atomic_store_n(&ring.avail[1],
                             (uint16_t)(ring.avail[1] + ring.size + hostile_below(&h->rng, 9999)),
                             __ATOMIC_RELEASE);
            vgd_guest_frontend_kick(vgd_guest_gpu_frontend(p->gpu), VGD_GUEST_CONTROL);
            vgd_guest_gpu_turn(p->gpu, 20);
            if (vgd_guest_gpu_reset(p->gpu) != VGD_OK && !is_dead(h)) {
                h->hangs++;
                report(h, seed, "no reset after a broken ring");
            }
            h->worker = 0; /* it may be another one now, as it should */
            count_workers(h);
            ring = vgd_guest_queue_raw(q);
            for (uint32_t d = 0; d < N; d++) {
                heads[d] = vgd_guest_queue_raw_take(q);
            }
        }
        if (!h->over || is_dead(h)) {
            (void)check_2d(h, seed);
        }
    }
}

/* Messages to @fd, with files of every kind. */
static void send_messages(struct hostile *h, int fd, uint32_t n)
{
    VGD_AUTO_FD ram = vgd_memfd_create("ram", 1u << 20);
    VGD_AUTO_FD event = vgd_eventfd_create();
    VGD_AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
    VGD_AUTO_FD folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int pair[2] = {-1, -1};
    (void)socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    VGD_AUTO_FD one = pair[0];
    VGD_AUTO_FD other = pair[1];
    int kinds[] = {ram, event, null, folder, one, other};
    for (uint32_t i = 0; i < n; i++) {
        uint8_t bytes[VGD_VU_HDR_SIZE + 512];
        struct vgd_vu_hdr hdr;
        uint32_t n_fds;
        uint32_t said;
        uint32_t n_bytes = hostile_message_make(&h->rng, &hdr.request, &hdr.flags, &said,
                                                bytes + VGD_VU_HDR_SIZE, &n_fds);
        hdr.size_bytes = said;
        struct vgd_writer w = vgd_writer_of(bytes, VGD_VU_HDR_SIZE);
        vgd_vu_hdr_encode(&w, &hdr);
        union {
            struct cmsghdr align;
            char room[CMSG_SPACE(8 * sizeof(int))];
        } control;
        memset(&control, 0, sizeof(control));
        struct iovec iov = {bytes, VGD_VU_HDR_SIZE + n_bytes};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        if (n_fds != 0) {
            msg.msg_control = control.room;
            msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
            struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
            for (uint32_t k = 0; k < n_fds; k++) {
                int fd_of = kinds[hostile_below(&h->rng, sizeof(kinds) / sizeof(kinds[0]))];
                memcpy(CMSG_DATA(c) + k * sizeof(int), &fd_of, sizeof(int));
            }
        }
        h->commands++;
        if (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            return; /* closed, or full: either will do */
        }
        uint8_t waste[4096];
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        while (poll(&ready, 1, 1) > 0 && recv(fd, waste, sizeof(waste), MSG_DONTWAIT) > 0) {
        }
    }
}

/* A connection that says anything, or that begins well and then does. The backend may close it. */
static void life_of_frontend(struct hostile *h, uint64_t seed)
{
    int fd = h->p->gpu != NULL ? vgd_guest_frontend_fd(vgd_guest_gpu_frontend(h->p->gpu))
                               : h->p->process.socket;
    send_messages(h, fd, 1 + hostile_below(&h->rng, 30));
    h->batches++;
    (void)poll(NULL, 0, 2);
    if (is_dead(h) && WIFSIGNALED(h->p->process.wait_status)) {
        h->deaths++;
        report(h, seed, "the backend died of a signal");
    }
}

enum attack { ATTACK_COMMANDS, ATTACK_STREAMS, ATTACK_RINGS, ATTACK_FRONTEND };

static void check_after_life(struct hostile *h, uint64_t seed, int64_t before_kib,
                             uint64_t log_before, uint64_t began_ns)
{
    char what[120];
    let_go(h);
    int64_t grown_kib = of_all(h->p, vgd_guest_private_dirty_kib) - before_kib;
    h->grown_kib_max = grown_kib > h->grown_kib_max ? grown_kib : h->grown_kib_max;
    if (grown_kib > GROWTH_KIB_MAX) {
        h->wrong++;
        (void)snprintf(what, sizeof(what), "it grew by %lld KiB", (long long)grown_kib);
        report(h, seed, what);
    }
    uint64_t said = log_bytes(h->p) - log_before;
    uint64_t ms = (vgd_now_ns() - began_ns) / 1000000 + 1;
    if (ms > 2000) { /* a backend says some things once, when it starts */
        h->log_rate_max = said * 1000 / ms > h->log_rate_max ? said * 1000 / ms : h->log_rate_max;
    }
    if (said > LOG_BYTES_START + LOG_BYTES_PER_S * ms / 1000) {
        h->wrong++;
        (void)snprintf(what, sizeof(what), "it wrote %llu KiB to its log in %llu ms",
                       (unsigned long long)said / 1024, (unsigned long long)ms);
        report(h, seed, what);
    }
    int64_t cpu_ms = of_all(h->p, vgd_guest_cpu_ms);
    vgd_guest_gpu_settle(h->p->gpu, 20);
    uint64_t idle_ns = vgd_now_ns();
    (void)poll(NULL, 0, IDLE_MS);
    cpu_ms = of_all(h->p, vgd_guest_cpu_ms) - cpu_ms;
    uint64_t idle_ms = (vgd_now_ns() - idle_ns) / 1000000 + 1;
    if (cpu_ms * 100 > (int64_t)(IDLE_CPU_PERCENT_MAX * idle_ms)) {
        h->wrong++;
        (void)snprintf(what, sizeof(what), "it used %lld ms of CPU in %llu ms of nothing to do",
                       (long long)cpu_ms, (unsigned long long)idle_ms);
        report(h, seed, what);
    }
}

static bool begin_life(struct hostile *h, bool guest)
{
    struct probe *p = h->p;
    if (!guest) {
        p->process.socket = probe_connect(p);
        return p->process.socket >= 0;
    }
    if (!probe_open(p, &(struct vgd_guest_gpu_config){.command_timeout_ms = ANSWER_VENUS_MS})) {
        return false;
    }
    struct vgd_guest_ram *ram = vgd_guest_gpu_ram(p->gpu);
    if (vgd_guest_ram_alloc(ram, SPARE_BYTES + SPARE_MARGIN_BYTES, &h->ram.gpa) == NULL) {
        return false;
    }
    h->ram.n_bytes = SPARE_BYTES;
    h->ram.end = vgd_guest_ram_end(ram);
    h->answer_ms = vgd_venus_is_offered(p->gpu) ? ANSWER_VENUS_MS : ANSWER_MS;
    h->worker = 0;
    count_workers(h);
    return true;
}

/* The next life's seed; the first one's is what --seed says. */
static uint64_t seed_after(uint64_t seed)
{
    struct hostile_rng r = {.state = seed};
    return hostile_next(&r) >> 16; /* short enough to be typed */
}

static void attack(struct probe *p, enum attack which)
{
    struct hostile h = {.p = p};
    uint64_t seed = p->seed;
    uint32_t ids = p->next_id;
    uint64_t began_ns = vgd_now_ns();
    h.deadline_ns = began_ns + (uint64_t)p->seconds * 1000000000 / p->attacks_count;
    p->lost_ring_allowed = true;
    while (vgd_now_ns() < h.deadline_ns) {
        h.rng = (struct hostile_rng){.state = seed ^ (uint64_t)which << 60};
        h.over = false;
        p->next_id = HOSTILE_OWN_RES;
        bool guest = which != ATTACK_FRONTEND || hostile_one_in(&h.rng, 2);
        if (!begin_life(&h, guest)) {
            break;
        }
        if (which == ATTACK_STREAMS && !vgd_guest_gpu_has_3d(p->gpu)) {
            probe_close(p);
            probe_skip(p, "the backend offers no 3D");
            break;
        }
        h.lives++;
        int64_t before_kib = of_all(p, vgd_guest_private_dirty_kib);
        uint64_t log_before = log_bytes(p);
        uint64_t life_ns = vgd_now_ns();
        switch (which) {
        case ATTACK_COMMANDS:
            life_of_commands(&h, seed);
            break;
        case ATTACK_STREAMS:
            life_of_streams(&h, seed);
            break;
        case ATTACK_RINGS:
            life_of_rings(&h, seed);
            break;
        case ATTACK_FRONTEND:
            life_of_frontend(&h, seed);
            break;
        }
        if (which != ATTACK_FRONTEND && !is_dead(&h)) {
            count_workers(&h);
            if (h.hangs == 0) {
                check_after_life(&h, seed, before_kib, log_before, life_ns);
            }
        }
        /* A death was told above, with its seed. */
        bool failed_before = p->failed;
        char notes[sizeof(p->notes)];
        memcpy(notes, p->notes, sizeof(notes));
        vgd_fd_closep(&p->process.socket);
        probe_close(p);
        if (failed_before) {
            memcpy(p->notes, notes, sizeof(notes));
        } else if (p->failed) {
            h.deaths++;
            report(&h, seed, "it does not end as it should");
        }
        seed = seed_after(seed);
    }
    p->next_id = ids;
    if (!p->skipped) {
        if (h.well != 0) {
            probe_note(p, "%llu of %llu were answered well", (unsigned long long)h.well,
                       (unsigned long long)h.commands);
        }
        probe_note(p,
                   "%s: %.0f s, %u lives, %llu batches, %llu %s; died %u times, hung %u, wrong %u",
                   h.lives != 0 && h.deaths + h.hangs + h.wrong == 0 ? "survived" : "NOT survived",
                   (double)(vgd_now_ns() - began_ns) / 1e9, h.lives, (unsigned long long)h.batches,
                   (unsigned long long)h.commands,
                   which == ATTACK_FRONTEND  ? "messages"
                   : which == ATTACK_STREAMS ? "streams"
                   : which == ATTACK_RINGS   ? "chains"
                                             : "commands",
                   h.deaths, h.hangs, h.wrong);
        if (which != ATTACK_FRONTEND) {
            probe_note(p,
                       "workers replaced: %u; memory %+lld KiB at most; log %llu bytes/s at most",
                       h.workers, (long long)h.grown_kib_max, (unsigned long long)h.log_rate_max);
        }
    }
    if (h.workers != 0 && which != ATTACK_STREAMS) {
        probe_fail(p, "%u workers died", h.workers);
    }
    if (h.lives == 0 && !p->skipped) {
        probe_fail(p, "no life was begun");
    }
}

static void commands(struct probe *p)
{
    attack(p, ATTACK_COMMANDS);
}

static void streams(struct probe *p)
{
    attack(p, ATTACK_STREAMS);
}

static void rings(struct probe *p)
{
    attack(p, ATTACK_RINGS);
}

static void frontend(struct probe *p)
{
    attack(p, ATTACK_FRONTEND);
}

static const struct probe_test tests[] = {
    {"hostile/commands", commands, PROBE_RAW | PROBE_HOSTILE},
    {"hostile/streams", streams, PROBE_RAW | PROBE_HOSTILE},
    {"hostile/rings", rings, PROBE_RAW | PROBE_HOSTILE},
    {"hostile/frontend", frontend, PROBE_RAW | PROBE_HOSTILE},
};

const struct probe_suite probe_hostile = {tests, sizeof(tests) / sizeof(tests[0])};
