/* SPDX-License-Identifier: MIT */
/*
 * A session and its host-visible region, between a scripted front-end, message by message, and a
 * scripted worker: vgd_worker_process_* is replaced by functions that record. One file: these can
 * be replaced once in a program.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "channel.h"
#include "fd.h"
#include "leaks.h"
#include "log.h"
#include "session.h"
#include "virtio_gpu.h"

#define PAGE 4096ull
#define WINDOW (1ull << 30)
#define RAM_BYTES (64 * PAGE)
#define BAR_GPA 0xe0000000ull

/* ---- the worker -------------------------------------------------------------------------------
 */

struct vgd_worker_process {
    bool ready, killed;
};

static struct {
    struct vgd_worker_process worker;
    struct vgd_vault *vault;
    struct vgd_loop *loop;
    struct vgd_session *s;
    struct vgd_channel *fe; /* the front-end's end */
    int backend;            /* its end of the backend channel */
    int ram;
    unsigned ended;
    enum vgd_session_end how;
    /* Sent to the worker. */
    unsigned n_mem_tables, n_resets, n_restores, n_starts;
    struct vgd_link_mem_table mem_table;
    struct vgd_link_window_done done;
    struct vgd_link_queue_start queue_start; /* the last one */
    unsigned n_done;
    char told[256]; /* a letter for each message, and T when all had been told */
    bool confirm;   /* the worker confirms at once */
    unsigned fds_before;
} t;

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
    (void)why;
    p->killed = true;
}

void vgd_worker_process_forget(struct vgd_worker_process *p)
{
    (void)p;
}

void vgd_worker_process_get_status(struct vgd_worker_process *p,
                                   struct vgd_worker_process_status *out)
{
    (void)p;
    *out = (struct vgd_worker_process_status){.ready = {.features = 0x3b, /* with BLOB_ALIGNMENT */
                                                        .num_capsets = 3,
                                                        .vulkan_name = "a GPU"}};
}

const struct vgd_vault *vgd_worker_process_vault(const struct vgd_worker_process *p)
{
    (void)p;
    return t.vault;
}

static void from_worker(uint32_t type, const void *payload, size_t n_bytes, int fd)
{
    static struct vgd_link_message msg;
    msg = (struct vgd_link_message){.type = type, .payload_bytes = (uint32_t)n_bytes};
    memcpy(msg.payload, payload, n_bytes);
    msg.fds[0] = fd;
    msg.n_fds = fd >= 0 ? 1 : 0;
    vgd_session_worker_message(t.s, &msg);
    vgd_fds_close(msg.fds, msg.n_fds);
}

static bool sends_fail; /* the worker is dying, and nobody knows yet */
static uint32_t to_confirm[16];
static unsigned n_to_confirm;

static void note(char letter)
{
    size_t n = strlen(t.told);
    if (letter != '-' && n < sizeof(t.told) - 1) {
        t.told[n] = letter;
    }
}

bool vgd_worker_process_send(struct vgd_worker_process *p, enum vgd_link_type type,
                             const void *payload, size_t n_bytes, const int *fds, uint32_t n_fds)
{
    (void)fds;
    (void)n_fds;
    uint32_t seq = 0;
    if (sends_fail) {
        return false;
    }
    note(type == VGD_LINK_FEATURES      ? 'F'
         : type == VGD_LINK_MEM_ADD     ? 'M'
         : type == VGD_LINK_RESTORE     ? 'R'
         : type == VGD_LINK_RESET       ? 'Z'
         : type == VGD_LINK_QUEUE_START ? 'Q'
                                        : '-');
    switch (type) {
    case VGD_LINK_MEM_TABLE:
        cr_assert_eq(n_bytes, sizeof(t.mem_table));
        memcpy(&t.mem_table, payload, n_bytes);
        cr_assert_eq(n_fds, t.mem_table.n_regions);
        t.n_mem_tables++;
        seq = t.mem_table.request_seq;
        break;
    case VGD_LINK_RESET:
    case VGD_LINK_QUEUE_STOP:
        memcpy(&seq, payload, sizeof(seq));
        t.n_resets += type == VGD_LINK_RESET;
        break;
    case VGD_LINK_QUEUE_START:
        memcpy(&t.queue_start, payload, sizeof(t.queue_start));
        t.n_starts++;
        break;
    case VGD_LINK_RESTORE:
        t.n_restores++;
        break;
    case VGD_LINK_WINDOW_DONE:
        memcpy(&t.done, payload, sizeof(t.done));
        t.n_done++;
        break;
    default:
        break;
    }
    if (seq != 0) {
        to_confirm[n_to_confirm++] = seq;
    }
    return p->ready;
}

static void turn(void)
{
    for (int i = 0; i < 6; i++) {
        vgd_loop_turn(t.loop, 0);
        for (; t.confirm && n_to_confirm > 0; n_to_confirm--) {
            struct vgd_link_done m = {.request_seq = to_confirm[n_to_confirm - 1]};
            from_worker(VGD_LINK_DONE, &m, sizeof(m), -1);
        }
    }
}

static void ask_map(uint64_t token, uint64_t offset, uint64_t len, int fd)
{
    struct vgd_link_window m = {.token = token, .offset_bytes = offset, .len_bytes = len};
    from_worker(VGD_LINK_WINDOW_MAP, &m, sizeof(m), fd);
}

/* ---- the front-end ----------------------------------------------------------------------------
 */

static void tell(uint32_t request, uint32_t flags, const void *payload, uint32_t n_bytes,
                 const int *fds, uint32_t n_fds)
{
    cr_assert_eq(vgd_channel_send(t.fe, request, flags, payload, n_bytes, fds, n_fds), VGD_OK);
    turn();
}

static struct vgd_vu_message reply_to(uint32_t request)
{
    struct vgd_vu_message msg;
    turn();
    cr_assert_eq(vgd_channel_read(t.fe, &msg), VGD_OK, "no reply to %s",
                 vgd_vu_request_name(request));
    cr_assert_eq(msg.hdr.request, request, "a reply to %s, not to %s",
                 vgd_vu_request_name(msg.hdr.request), vgd_vu_request_name(request));
    cr_assert(msg.hdr.flags & VGD_VU_FLAG_REPLY);
    return msg;
}

static uint64_t u64_of(const struct vgd_vu_message *msg)
{
    struct vgd_reader r = vgd_reader_of(msg->payload, msg->hdr.size_bytes);
    uint64_t value = vgd_read_le64(&r);
    cr_assert_eq(vgd_reader_finish(&r), VGD_OK);
    return value;
}

static uint64_t ask_u64(uint32_t request)
{
    tell(request, 0, NULL, 0, NULL, 0);
    struct vgd_vu_message msg = reply_to(request);
    return u64_of(&msg);
}

static void tell_u64(uint32_t request, uint64_t value)
{
    tell(request, 0, &value, sizeof(value), NULL, 0);
}

static void acknowledged(uint32_t request)
{
    struct vgd_vu_message msg = reply_to(request);
    cr_assert_eq(u64_of(&msg), 0);
}

static void tell_state(uint32_t request, uint32_t idx, uint32_t num, bool need_reply)
{
    uint32_t payload[2] = {idx, num};
    tell(request, need_reply ? VGD_VU_FLAG_NEED_REPLY : 0, payload, sizeof(payload), NULL, 0);
    if (need_reply) {
        acknowledged(request);
    }
}

static const uint64_t all_protocol = 1ull << VGD_VU_F_MQ | 1ull << VGD_VU_F_REPLY_ACK |
                                     1ull << VGD_VU_F_BACKEND_REQ | 1ull << VGD_VU_F_CONFIG |
                                     1ull << VGD_VU_F_BACKEND_SEND_FD | 1ull << VGD_VU_F_SHMEM;

static void backend_channel(void)
{
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    vgd_fd_closep(&t.backend);
    t.backend = pair[0];
    tell(VGD_VU_SET_BACKEND_REQ_FD, VGD_VU_FLAG_NEED_REPLY, NULL, 0, &pair[1], 1);
    acknowledged(VGD_VU_SET_BACKEND_REQ_FD);
    (void)close(pair[1]);
}

/* RAM, and @n_maps of ours in the BAR: one page each, at page i, of @files. */
static void memory_table(unsigned n_maps, const int *files)
{
    uint8_t payload[8 + 8 * 32];
    int fds[8];
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    struct vgd_vu_mem_table table = {.nregions = 1 + n_maps};
    vgd_vu_mem_table_encode(&w, &table);
    struct vgd_vu_mem_region ram = {.size_bytes = RAM_BYTES, .user_addr = 0x7f0000000000};
    vgd_vu_mem_region_encode(&w, &ram);
    fds[0] = t.ram;
    for (unsigned i = 0; i < n_maps; i++) {
        struct vgd_vu_mem_region map = {
            .gpa = BAR_GPA + i * PAGE, .size_bytes = PAGE, .user_addr = 0x7e0000000000 + i * PAGE};
        vgd_vu_mem_region_encode(&w, &map);
        fds[1 + i] = files[i];
    }
    tell(VGD_VU_SET_MEM_TABLE, VGD_VU_FLAG_NEED_REPLY, payload, (uint32_t)vgd_writer_used(&w), fds,
         1 + n_maps);
    acknowledged(VGD_VU_SET_MEM_TABLE);
}

static void start_rings(uint32_t base)
{
    for (uint32_t i = 0; i < 2; i++) {
        tell_state(VGD_VU_SET_VRING_NUM, i, 64, false);
        tell_state(VGD_VU_SET_VRING_BASE, i, i == 0 ? base : 0, false);
        uint8_t addr[VGD_VU_VRING_ADDR_SIZE];
        struct vgd_writer w = vgd_writer_of(addr, sizeof(addr));
        struct vgd_vu_vring_addr a = {.idx = i,
                                      .desc_user_addr = 0x7f0000000000,
                                      .used_user_addr = 0x7f0000001000,
                                      .avail_user_addr = 0x7f0000002000};
        vgd_vu_vring_addr_encode(&w, &a);
        tell(VGD_VU_SET_VRING_ADDR, 0, addr, sizeof(addr), NULL, 0);
        int kick = eventfd(0, EFD_CLOEXEC);
        uint64_t value = i;
        tell(VGD_VU_SET_VRING_KICK, VGD_VU_FLAG_NEED_REPLY, &value, sizeof(value), &kick, 1);
        acknowledged(VGD_VU_SET_VRING_KICK);
        (void)close(kick);
    }
    for (uint32_t i = 0; i < 2; i++) {
        tell_state(VGD_VU_SET_VRING_ENABLE, i, 1, true);
    }
}

static void stop_rings(void)
{
    for (uint32_t i = 0; i < 2; i++) {
        tell_state(VGD_VU_SET_VRING_ENABLE, i, 0, true);
    }
    for (uint32_t i = 0; i < 2; i++) {
        tell_state(VGD_VU_GET_VRING_BASE, i, 0, false);
        (void)reply_to(VGD_VU_GET_VRING_BASE);
    }
}

static void realize(uint64_t protocol)
{
    uint64_t offered = ask_u64(VGD_VU_GET_FEATURES);
    cr_assert(offered & 1ull << VGD_VU_F_PROTOCOL_FEATURES);
    tell_u64(VGD_VU_SET_PROTOCOL_FEATURES, protocol);
    if ((protocol & 1ull << VGD_VU_F_REPLY_ACK) != 0) {
        backend_channel();
    }
    tell_u64(VGD_VU_SET_FEATURES, offered);
}

/* One request on the backend channel as QEMU reads it: false, none is there. */
static bool backend_take(uint32_t *request, struct vgd_vu_shmem_map *map, int *fd)
{
    uint8_t bytes[12 + 40];
    struct iovec iov = {bytes, 1};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof(control)};
    turn();
    *fd = -1;
    if (recvmsg(t.backend, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1) {
        return false;
    }
    if (CMSG_FIRSTHDR(&mh) != NULL) {
        memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(*fd));
    }
    turn();
    cr_assert_eq(recv(t.backend, bytes + 1, 11, MSG_DONTWAIT), 11, "half a message");
    struct vgd_reader r = vgd_reader_of(bytes, 12);
    struct vgd_vu_hdr hdr;
    cr_assert_eq(vgd_vu_hdr_decode(&r, &hdr), VGD_OK);
    *request = hdr.request;
    if (hdr.size_bytes != 0) {
        cr_assert_eq(recv(t.backend, bytes + 12, 40, MSG_DONTWAIT), 40);
        r = vgd_reader_of(bytes + 12, 40);
        cr_assert_eq(vgd_vu_shmem_map_decode(&r, map), VGD_OK);
    }
    if (hdr.request == VGD_VU_BACKEND_SHMEM_MAP) { /* the barrier */
        cr_assert_eq(recv(t.backend, bytes, 12 + VGD_VU_VRING_AREA_SIZE, MSG_DONTWAIT),
                     12 + VGD_VU_VRING_AREA_SIZE);
    }
    return true;
}

static void backend_answer(uint32_t request, uint64_t value)
{
    struct {
        uint32_t request, flags, size_bytes;
    } hdr = {request, 5, 8};
    cr_assert_eq(send(t.backend, &hdr, 12, 0), 12);
    cr_assert_eq(send(t.backend, &value, 8, 0), 8);
    turn();
    if (request == VGD_VU_BACKEND_SHMEM_MAP) {
        backend_answer(VGD_VU_BACKEND_VRING_HOST_NOTIFIER_MSG, 1);
    }
}

/* All of them, well. How many of each. */
static void serve(unsigned *n_maps, unsigned *n_unmaps)
{
    uint32_t request;
    struct vgd_vu_shmem_map map;
    int fd;
    *n_maps = 0;
    *n_unmaps = 0;
    while (backend_take(&request, &map, &fd)) {
        *n_maps += request == VGD_VU_BACKEND_SHMEM_MAP;
        *n_unmaps += request == VGD_VU_BACKEND_SHMEM_UNMAP;
        vgd_fd_closep(&fd);
        if (request < 0x100) {
            backend_answer(request, 0);
        }
    }
}

static void map_well(uint64_t offset, uint64_t len, int fd)
{
    unsigned n_maps, n_unmaps, before = t.n_done;
    ask_map(offset + 1, offset, len, fd);
    serve(&n_maps, &n_unmaps);
    cr_assert_eq(n_maps, 1);
    cr_assert_eq(t.n_done, before + 1);
    cr_assert_eq(t.done.token, offset + 1);
    cr_assert_eq(t.done.status, VGD_OK);
}

/* ---- the tests' frame -------------------------------------------------------------------------
 */

static void on_end(void *user, enum vgd_session_end how)
{
    (void)user;
    t.ended++;
    t.how = how;
}

static void on_worker_told(void *user)
{
    (void)user;
    note('T');
}

static void setup_with(uint64_t window_bytes)
{
    memset(&t, 0, sizeof(t));
    n_to_confirm = 0;
    sends_fail = false;
    vgd_log_setup("test", VGD_LOG_ERROR);
    t.fds_before = open_fds_count();
    t.vault = calloc(1, sizeof(*t.vault));
    t.backend = -1;
    t.confirm = true;
    t.worker.ready = true;
    t.loop = vgd_loop_create();
    t.ram = vgd_memfd_create("ram", RAM_BYTES);
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    t.fe = vgd_channel_create(&pair[0]);
    static const uint8_t frames[1];
    t.s = vgd_session_create(&(struct vgd_session_config){.loop = t.loop,
                                                          .worker = &t.worker,
                                                          .frames = frames,
                                                          .n_scanouts = 1,
                                                          .window_bytes = window_bytes,
                                                          .on_end = on_end,
                                                          .on_worker_told = on_worker_told},
                             &pair[1]);
    cr_assert_not_null(t.s);
}

static void setup(void)
{
    setup_with(WINDOW);
}

static void finish(void)
{
    vgd_session_destroy(t.s);
    vgd_channel_destroy(t.fe);
    vgd_loop_destroy(t.loop);
    vgd_fd_closep(&t.backend);
    vgd_fd_closep(&t.ram);
    free(t.vault);
    cr_assert_eq(open_fds_count(), t.fds_before, "descriptors left open");
}

TestSuite(session, .init = setup, .fini = finish, .timeout = 30);

static void running(void)
{
    realize(all_protocol);
    memory_table(0, NULL);
    start_rings(0);
}

static int page_file(void)
{
    return vgd_memfd_create("map", PAGE);
}

Test(session, offers_a_window_or_memory_slots)
{
    uint64_t offered = ask_u64(VGD_VU_GET_PROTOCOL_FEATURES);
    cr_assert(offered & 1ull << VGD_VU_F_SHMEM);
    cr_assert_not(offered & 1ull << VGD_VU_F_CONFIGURE_MEM_SLOTS);
    tell(VGD_VU_GET_SHMEM_CONFIG, 0, NULL, 0, NULL, 0);
    struct vgd_vu_message msg = reply_to(VGD_VU_GET_SHMEM_CONFIG);
    struct vgd_reader r = vgd_reader_of(msg.payload, msg.hdr.size_bytes);
    struct vgd_vu_shmem_config config;
    cr_assert_eq(vgd_vu_shmem_config_decode(&r, &config), VGD_OK);
    cr_assert_eq(config.nregions, 1);
    for (unsigned i = 0; i < VGD_VU_MAX_SHMEM_REGIONS; i++) {
        cr_assert_eq(config.sizes_bytes[i], i == 1 ? WINDOW : 0);
    }
    finish();
    setup_with(0);
    offered = ask_u64(VGD_VU_GET_PROTOCOL_FEATURES);
    cr_assert_not(offered & 1ull << VGD_VU_F_SHMEM);
    cr_assert(offered & 1ull << VGD_VU_F_CONFIGURE_MEM_SLOTS);
    tell(VGD_VU_GET_SHMEM_CONFIG, 0, NULL, 0, NULL, 0);
    cr_assert_eq(t.ended, 1);
}

Test(session, says_how_blobs_are_aligned)
{
    uint8_t payload[12 + 20] = {0, 0, 0, 0, 20};
    tell(VGD_VU_GET_CONFIG, 0, payload, sizeof(payload), NULL, 0);
    struct vgd_vu_message msg = reply_to(VGD_VU_GET_CONFIG);
    struct vgd_reader r = vgd_reader_of(msg.payload + 12, msg.hdr.size_bytes - 12);
    struct vgd_device_config config;
    cr_assert_eq(vgd_device_config_decode(&r, &config), VGD_OK);
    cr_assert_eq(config.blob_alignment_bytes, 4096);
    cr_assert_eq(config.num_capsets, 3);
}

/* What the session logs when the guest's driver has taken @features; the caller frees. */
static char *said_at_features(uint64_t features)
{
    FILE *log = tmpfile();
    cr_assert_not_null(log);
    int old = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    cr_assert(old >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
    vgd_log_setup("test", VGD_LOG_WARNING);
    tell_u64(VGD_VU_SET_FEATURES, features);
    vgd_log_setup("test", VGD_LOG_ERROR);
    cr_assert(dup2(old, STDERR_FILENO) >= 0);
    (void)close(old);
    char *text = calloc(1, 4096);
    rewind(log);
    cr_assert_not_null(text);
    (void)!fread(text, 1, 4095, log);
    (void)fclose(log);
    return text;
}

Test(session, says_why_the_guest_has_no_vulkan)
{
    const uint64_t virgl = 1ull << VGD_F_VIRGL, blob = 1ull << VGD_F_RESOURCE_BLOB,
                   init = 1ull << VGD_F_CONTEXT_INIT, firmware = 1ull << VGD_F_EDID;
    static const char hint[] = "takes no Vulkan";
    const struct {
        const char *name;
        uint64_t features;
        bool is_told;
    } cases[] = {
        {"firmware", firmware, false},
        {"all of it", virgl | blob | init, false},
        {"QEMU's vhost-user-gpu", virgl, true},
        {"the same once more", virgl, false},
    };
    (void)ask_u64(VGD_VU_GET_FEATURES);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = said_at_features(cases[i].features);
        cr_expect_eq(strstr(text, hint) != NULL, cases[i].is_told, "%s: %s", cases[i].name, text);
        free(text);
    }
    finish();
    setup();
    (void)ask_u64(VGD_VU_GET_FEATURES);
    char *text = said_at_features(virgl | blob);
    cr_expect_not_null(strstr(text, hint), "an old kernel: %s", text);
    free(text);
}

Test(session, maps_for_the_worker)
{
    running();
    map_well(8 * PAGE, PAGE, page_file());
    struct vgd_session_status st;
    vgd_session_get_status(t.s, &st);
    cr_assert_eq(st.window.live_count, 1);
}

Test(session, what_was_not_negotiated)
{
    static const unsigned without[] = {VGD_VU_F_SHMEM, VGD_VU_F_BACKEND_REQ, VGD_VU_F_REPLY_ACK};
    for (unsigned i = 0; i < 4; i++) {
        if (i > 0) {
            finish();
            setup();
        }
        if (i < 3) { /* and the fourth gave no backend channel */
            realize(all_protocol & ~(1ull << without[i]));
        } else {
            tell_u64(VGD_VU_SET_PROTOCOL_FEATURES, all_protocol);
        }
        ask_map(5, 0, PAGE, page_file());
        cr_assert_eq(t.n_done, 1, "no answer, case %u", i);
        cr_assert_eq(t.done.status, VGD_UNSUPPORTED);
    }
}

Test(session, a_worker_that_cannot_be_believed)
{
    running();
    struct vgd_link_window m = {.token = 1, .len_bytes = PAGE};
    from_worker(VGD_LINK_WINDOW_MAP, &m, sizeof(m), -1);
    cr_assert(t.worker.killed, "a map without a file");
    t.worker.killed = false;
    from_worker(VGD_LINK_WINDOW_MAP, &m, sizeof(m) - 1, page_file());
    cr_assert(t.worker.killed, "a short message");
    t.worker.killed = false;
    from_worker(VGD_LINK_WINDOW_UNMAP, &m, sizeof(m), page_file());
    cr_assert(t.worker.killed, "an unmap with a file");
    cr_assert_eq(t.n_done, 0);
}

/* QEMU announces our maps as guest memory, before or after we have read its answer to the map. */
Test(session, maps_that_come_back_as_guest_memory)
{
    running();
    cr_assert_eq(t.n_mem_tables, 1);
    int files[3];
    for (unsigned i = 0; i < 3; i++) {
        files[i] = page_file();
        map_well(i * PAGE, PAGE, fcntl(files[i], F_DUPFD_CLOEXEC, 0));
        memory_table(i + 1, files);
    }
    cr_assert_eq(t.n_mem_tables, 1, "the guest's memory is what it was");
    struct vgd_session_status st;
    vgd_session_get_status(t.s, &st);
    cr_assert_eq(st.regions_count, 1);
    cr_assert_eq(st.memory_bytes, RAM_BYTES);

    int early = page_file();
    uint32_t request;
    struct vgd_vu_shmem_map map;
    int fd;
    ask_map(77, 3 * PAGE, PAGE, fcntl(early, F_DUPFD_CLOEXEC, 0));
    cr_assert(backend_take(&request, &map, &fd));
    int four[4] = {files[0], files[1], files[2], fd};
    memory_table(4, four);
    cr_assert_eq(t.n_mem_tables, 1);
    backend_answer(request, 0);
    cr_assert_eq(t.done.token, 77);
    vgd_fd_closep(&fd);
    (void)close(early);

    /* Another file in the same place is memory of the guest's: a DIMM was plugged in. */
    int dimm = page_file();
    int with[4] = {files[0], files[1], files[2], dimm};
    memory_table(4, with);
    cr_assert_eq(t.n_mem_tables, 2);
    cr_assert_eq(t.mem_table.n_regions, 2);
    cr_assert_eq(t.mem_table.regions[1].gpa, BAR_GPA + 3 * PAGE);
    (void)close(dimm);
    vgd_fds_close(files, 3);
}

/* A worker that has the guest's own memory mapped: it does not become its map by that. */
Test(session, guest_memory_as_a_map)
{
    running();
    map_well(0, RAM_BYTES, fcntl(t.ram, F_DUPFD_CLOEXEC, 0));
    memory_table(0, NULL);
    int other = page_file();
    memory_table(1, &other);
    cr_assert_eq(t.mem_table.n_regions, 2);
    cr_assert_eq(t.mem_table.regions[0].size_bytes, RAM_BYTES);
    (void)close(other);
}

/* A worker that says so ends itself, not the VM's GPU; at the start the operator wants to know. */
Test(session, a_worker_that_cannot_map_guest_memory)
{
    for (int has_run = 0; has_run < 2; has_run++) {
        if (has_run != 0) {
            finish();
            setup();
            running();
        } else {
            realize(all_protocol);
        }
        t.confirm = false;
        uint8_t payload[8 + 32];
        struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
        vgd_vu_mem_table_encode(&w, &(struct vgd_vu_mem_table){.nregions = 1});
        vgd_vu_mem_region_encode(&w, &(struct vgd_vu_mem_region){.size_bytes = PAGE});
        tell(VGD_VU_SET_MEM_TABLE, VGD_VU_FLAG_NEED_REPLY, payload, sizeof(payload), &t.ram, 1);
        struct vgd_link_done m = {.request_seq = t.mem_table.request_seq,
                                  .status = VGD_HOST_FAILED};
        from_worker(VGD_LINK_DONE, &m, sizeof(m), -1);
        cr_assert_eq(t.worker.killed, has_run != 0);
        cr_assert_eq(t.ended, has_run != 0 ? 0 : 1);
        if (has_run != 0) {
            t.worker.ready = false;
            vgd_session_worker_gone(t.s);
            acknowledged(VGD_VU_SET_MEM_TABLE);
        }
    }
}

/* A worker dies so soon that its rings do not reach it: the next one still has the record of the
 * one before to go on from. */
Test(session, two_workers_die)
{
    running();
    cr_assert_not(t.queue_start.recover);
    t.worker.ready = false;
    vgd_session_worker_gone(t.s);
    struct vgd_link_ready ready = {.features = 0x3b};
    t.worker.ready = true;
    sends_fail = true;
    vgd_session_worker_ready(t.s, &ready, true);
    t.worker.ready = false;
    vgd_session_worker_gone(t.s);
    t.worker.ready = true;
    sends_fail = false;
    vgd_session_worker_ready(t.s, &ready, true);
    cr_assert(t.queue_start.recover, "its commands would never be answered");
}

/* What a stop left undone is of the worker that was stopped: another one answers it. */
Test(session, a_worker_dies_while_paused)
{
    for (int undone = 0; undone < 2; undone++) {
        running();
        stop_rings();
        t.vault->inflight[1].queue_size =
            undone != 0 ? 64 : 0; /* as vgd_virtqueue_stop leaves it */
        t.worker.ready = false;
        vgd_session_worker_gone(t.s);
        t.worker.ready = true;
        vgd_session_worker_ready(t.s, &(struct vgd_link_ready){.features = 0x3b}, true);
        start_rings(0);
        cr_assert_eq(t.queue_start.queue_idx, 1);
        cr_assert_eq(t.queue_start.recover, undone);
        stop_rings();
    }
}

/* The same table with other RAM behind it is another table. */
Test(session, other_memory_in_the_same_place)
{
    running();
    memory_table(0, NULL);
    cr_assert_eq(t.n_mem_tables, 1);
    vgd_fd_closep(&t.ram);
    t.ram = vgd_memfd_create("other-ram", RAM_BYTES);
    memory_table(0, NULL);
    cr_assert_eq(t.n_mem_tables, 2);
}

Test(session, a_stop_does_not_wait_for_a_map)
{
    running();
    uint32_t request;
    struct vgd_vu_shmem_map map;
    int fd;
    ask_map(1, 0, PAGE, page_file());
    cr_assert(backend_take(&request, &map, &fd));
    stop_rings(); /* answered, although the map is not */
    cr_assert_eq(t.n_done, 0);
    backend_answer(request, 0);
    cr_assert_eq(t.n_done, 1);
    vgd_fd_closep(&fd);
    ask_map(2, PAGE, PAGE, page_file());
    cr_assert_not(backend_take(&request, &map, &fd), "asked while stopped");
    cr_assert_eq(t.n_done, 2);
    cr_assert_eq(t.done.status, VGD_AGAIN);
    start_rings(0);
    unsigned n_maps, n_unmaps;
    serve(&n_maps, &n_unmaps);
    cr_assert_eq(n_maps, 0, "the worker asks again");
}

/* Only when all rings run, as the front-end sees it, worker or not. */
Test(session, asked_again_when_all_rings_run)
{
    running();
    stop_rings();
    uint32_t request;
    struct vgd_vu_shmem_map map;
    int fd;
    for (uint32_t i = 0; i < 2; i++) {
        int kick = eventfd(0, EFD_CLOEXEC);
        uint64_t value = i;
        tell(VGD_VU_SET_VRING_KICK, 0, &value, sizeof(value), &kick, 1);
        (void)close(kick);
    }
    tell_state(VGD_VU_SET_VRING_ENABLE, 0, 1, true);
    ask_map(1, 0, PAGE, page_file());
    cr_assert_not(backend_take(&request, &map, &fd));
    t.worker.ready = false;
    tell_state(VGD_VU_SET_VRING_ENABLE, 1, 1, true);
    ask_map(1, 0, PAGE, page_file());
    cr_assert(backend_take(&request, &map, &fd));
    vgd_fd_closep(&fd);
}

static struct vgd_shmem_status window(void)
{
    struct vgd_session_status st;
    vgd_session_get_status(t.s, &st);
    return st.window;
}

Test(session, a_reset_forgets_maps)
{
    running();
    map_well(0, PAGE, page_file());
    stop_rings();
    tell(VGD_VU_RESET_DEVICE, 0, NULL, 0, NULL, 0);
    cr_assert_eq(t.n_resets, 1);
    cr_assert_eq(window().live_count, 0);
    memory_table(0, NULL);
    start_rings(0);
    map_well(0, 2 * PAGE, vgd_memfd_create("map", 2 * PAGE));
}

Test(session, a_reset_that_only_a_ring_tells_of)
{
    running();
    map_well(0, PAGE, page_file());
    t.confirm = false;
    for (uint32_t i = 0; i < 2; i++) {
        tell_state(VGD_VU_GET_VRING_BASE, i, 0, false);
        struct vgd_link_done m = {.request_seq = to_confirm[--n_to_confirm], .value = 17};
        from_worker(VGD_LINK_DONE, &m, sizeof(m), -1);
        (void)reply_to(VGD_VU_GET_VRING_BASE);
    }
    t.confirm = true;
    cr_assert_eq(window().live_count, 1);
    start_rings(0); /* not 17 */
    cr_assert_eq(t.n_resets, 1);
    cr_assert_eq(window().live_count, 0);
    uint32_t request;
    struct vgd_vu_shmem_map map;
    int fd;
    cr_assert_not(backend_take(&request, &map, &fd), "the VMM dropped them by itself");
}

static void worker_dies(void)
{
    t.worker.ready = false;
    vgd_session_worker_gone(t.s);
}

static void worker_follows(void)
{
    t.worker.ready = true;
    vgd_session_worker_ready(t.s, &(struct vgd_link_ready){.features = 0x3b}, true);
}

/* The guest is reset while no worker is there. What the dead one left is forgotten once a worker
 * says so, not once it was told; and until then no ring of the new guest writes to it. */
Test(session, a_reset_counts_when_a_worker_has_done_it)
{
    running();
    stop_rings();
    worker_dies();
    tell(VGD_VU_RESET_DEVICE, 0, NULL, 0, NULL, 0);
    cr_assert_eq(t.n_resets, 0, "nobody is there to be told");
    t.confirm = false;
    worker_follows();
    cr_assert_eq(t.n_resets, 1);
    cr_assert_eq(t.n_restores, 0);
    worker_dies(); /* before it did */
    worker_follows();
    cr_assert_eq(t.n_resets, 2);
    cr_assert_eq(t.n_restores, 0, "an earlier guest's device comes back");

    worker_dies();
    memory_table(0, NULL); /* the next guest's driver */
    start_rings(0);
    t.n_starts = 0;
    worker_follows();
    cr_assert_eq(t.n_resets, 3);
    turn();
    cr_assert_eq(t.n_starts, 0, "a ring runs on what is still to be forgotten");
    t.confirm = true;
    turn();
    cr_assert_eq(t.n_starts, 2);
    cr_assert_not(t.queue_start.recover);

    worker_dies();
    worker_follows();
    cr_assert_eq(t.n_resets, 3);
    cr_assert_eq(t.n_restores, 1);
    cr_assert_not(t.worker.killed);
}

/* One that does not do it at all is as one that does not stop. */
Test(session, a_reset_that_no_worker_does)
{
    running();
    stop_rings();
    worker_dies();
    tell(VGD_VU_RESET_DEVICE, 0, NULL, 0, NULL, 0);
    t.confirm = false;
    worker_follows();
    worker_dies(); /* in time: its deadline is not the next one's */
    uint64_t until_ns = vgd_now_ns() + (VGD_STOP_DEADLINE_MS + 200) * 1000000ull;
    while (vgd_now_ns() < until_ns) {
        vgd_loop_turn(t.loop, 50);
    }
    cr_assert_not(t.worker.killed);
    worker_follows();
    until_ns = vgd_now_ns() + (VGD_STOP_DEADLINE_MS + 2000) * 1000000ull;
    while (!t.worker.killed && vgd_now_ns() < until_ns) {
        vgd_loop_turn(t.loop, 50);
    }
    cr_assert(t.worker.killed);
}

Test(session, a_worker_dies_with_maps)
{
    running();
    map_well(0, PAGE, page_file());
    ask_map(2, PAGE, PAGE, page_file());
    t.worker.ready = false;
    vgd_session_worker_gone(t.s);
    unsigned n_maps, n_unmaps;
    serve(&n_maps, &n_unmaps);
    cr_assert_eq(n_maps, 0, "withdrawn");
    cr_assert_eq(window().live_count, 1);
    t.worker.ready = true;
    struct vgd_link_ready ready = {.features = 0x3b};
    vgd_session_worker_ready(t.s, &ready, true);
    map_well(PAGE, PAGE, page_file());
}

/* QEMU 11.1 with more maps than its memory table holds: the start that fails after SET_FEATURES. */
Test(session, pause_with_twenty_maps)
{
    running();
    int first = page_file();
    map_well(0, PAGE, fcntl(first, F_DUPFD_CLOEXEC, 0));
    memory_table(1, &first);
    for (uint64_t i = 1; i < 20; i++) {
        map_well(i * 32 * PAGE, (1 + i) * PAGE, vgd_memfd_create("map", (1 + i) * PAGE));
    }
    stop_rings();
    uint32_t request;
    struct vgd_vu_shmem_map map;
    int fd;
    cr_assert_not(backend_take(&request, &map, &fd));
    tell_u64(VGD_VU_SET_FEATURES, 0);
    uint64_t begin_ns = vgd_now_ns();
    for (unsigned i = 0; i < 500 && window().parked_count < 13; i++) {
        vgd_loop_turn(t.loop, 2);
        unsigned n_maps, n_unmaps;
        serve(&n_maps, &n_unmaps);
        cr_assert_eq(n_maps, 0);
        cr_assert(vgd_now_ns() - begin_ns > 200000000u || n_unmaps == 0,
                  "too early: it may be starting well");
    }
    cr_assert_eq(window().parked_count, 13);
    cr_assert_eq(window().live_count, 7);
    /* Continued once more. */
    tell_u64(VGD_VU_SET_FEATURES, 0);
    memory_table(1, &first);
    start_rings(0);
    unsigned n_maps, n_unmaps;
    serve(&n_maps, &n_unmaps);
    cr_assert_eq(n_maps, 13);
    cr_assert_eq(n_unmaps, 0);
    cr_assert_eq(window().live_count, 20);
    cr_assert_eq(t.n_mem_tables, 1);
    (void)close(first);
}

/* A start that goes well, or a VMM that keeps maps to itself: nothing is put aside. */
Test(session, pause_with_twenty_maps_and_a_good_vmm)
{
    running();
    for (uint64_t i = 0; i < 20; i++) {
        map_well(i * PAGE, PAGE, page_file());
    }
    stop_rings();
    tell_u64(VGD_VU_SET_FEATURES, 0);
    for (unsigned i = 0; i < 250; i++) {
        vgd_loop_turn(t.loop, 2);
    }
    cr_assert_eq(window().live_count, 20);
    memory_table(0, NULL);
    start_rings(0);
    uint32_t request;
    struct vgd_vu_shmem_map map;
    int fd;
    cr_assert_not(backend_take(&request, &map, &fd));
}

/* A recording begins with a worker that knows the guest's state and serves no ring yet. */
Test(session, a_recording_begins_between_state_and_rings)
{
    static const struct vgd_link_ready ready = {.features = 0x3b};
    cr_assert_str_eq(t.told, "T", "a worker that was ready before");
    running();
    memset(t.told, 0, sizeof(t.told));
    t.worker.ready = false;
    vgd_session_worker_gone(t.s);
    t.worker.ready = true;
    vgd_session_worker_ready(t.s, &ready, true);
    cr_assert_str_eq(t.told, "FMRTQQ", "%s", t.told);

    memset(t.told, 0, sizeof(t.told));
    t.worker.ready = false;
    vgd_session_worker_gone(t.s);
    tell_u64(VGD_VU_RESET_DEVICE, 0);
    t.worker.ready = true;
    vgd_session_worker_ready(t.s, &ready, true);
    cr_assert_eq(strncmp(t.told, "FMZT", 4), 0, "%s", t.told);
}
