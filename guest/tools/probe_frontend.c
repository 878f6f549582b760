/* SPDX-License-Identifier: MIT */
/*
 * A front-end that breaks the rules of vhost-user. The backend may close the connection; it must
 * neither crash nor hang, and its process must end once the connection is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"
#include "probe.h"

/* A connection that nobody parses for us. */
struct wire {
    struct probe *p;
    int fd;
    bool closed;
};

static bool wire_open(struct probe *p, struct wire *wire)
{
    *wire = (struct wire){.p = p, .fd = probe_connect(p)};
    return wire->fd >= 0;
}

static void wire_send(struct wire *wire, const void *data, size_t n_bytes, const int *fds,
                      uint32_t n_fds)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = n_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(64 * sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    if (sendmsg(wire->fd, &msg, MSG_NOSIGNAL) < 0 && (errno == EPIPE || errno == ECONNRESET)) {
        wire->closed = true;
    }
}

static void wire_message(struct wire *wire, uint32_t request, uint32_t flags, uint32_t said_bytes,
                         const void *payload, uint32_t n_bytes, const int *fds, uint32_t n_fds)
{
    uint8_t bytes[VGD_VU_HDR_SIZE + 4096];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    struct vgd_vu_hdr hdr = {.request = request, .flags = flags, .size_bytes = said_bytes};
    vgd_vu_hdr_encode(&w, &hdr);
    vgd_write_bytes(&w, payload, n_bytes);
    wire_send(wire, bytes, vgd_writer_used(&w), fds, n_fds);
}

static void wire_say(struct wire *wire, uint32_t request, const void *payload, uint32_t n_bytes,
                     const int *fds, uint32_t n_fds)
{
    wire_message(wire, request, VGD_VU_FLAG_VERSION, n_bytes, payload, n_bytes, fds, n_fds);
}

/* Read what comes for @ms; true when the other side closed. */
static bool wire_drain(struct wire *wire, int ms)
{
    uint64_t deadline_ns = vgd_now_ns() + (uint64_t)ms * 1000000;
    while (!wire->closed && vgd_now_ns() < deadline_ns) {
        struct pollfd poll_fd = {.fd = wire->fd, .events = POLLIN};
        if (poll(&poll_fd, 1, 5) <= 0) {
            continue;
        }
        uint8_t waste[4096];
        ssize_t got = recv(wire->fd, waste, sizeof(waste), MSG_DONTWAIT);
        wire->closed = got == 0 || (got < 0 && errno != EAGAIN);
    }
    return wire->closed;
}

/* Ask for the features: answered, or the connection is closed; anything else is a hang. */
static void wire_check(struct wire *wire, const char *what)
{
    (void)wire_drain(wire, 10);
    if (!wire->closed) {
        wire_say(wire, VGD_VU_GET_FEATURES, NULL, 0, NULL, 0);
        /* A worker may have to start first, on a busy machine. */
        uint64_t deadline_ns = vgd_now_ns() + UINT64_C(10000000000);
        bool answered = false;
        size_t have_bytes = 0; /* header and payload may come apart */
        while (!wire->closed && !answered && vgd_now_ns() < deadline_ns) {
            struct pollfd poll_fd = {.fd = wire->fd, .events = POLLIN};
            if (poll(&poll_fd, 1, 50) > 0) {
                uint8_t reply[64];
                ssize_t got = recv(wire->fd, reply, sizeof(reply), MSG_DONTWAIT);
                wire->closed = got == 0 || (got < 0 && errno != EAGAIN);
                have_bytes += got > 0 ? (size_t)got : 0;
                answered = have_bytes >= VGD_VU_HDR_SIZE + VGD_VU_U64_SIZE;
            }
        }
        if (!wire->closed && !answered) {
            probe_fail(wire->p, "%s: neither an answer nor a closed connection", what);
        }
    }
}

/* End this connection and backend; it must end, and not of a signal. */
static void wire_close(struct wire *wire, const char *what)
{
    vgd_fd_closep(&wire->fd);
    bool failed_before = wire->p->failed;
    probe_close(wire->p);
    if (wire->p->failed && !failed_before) {
        probe_note(wire->p, "by: %s", what);
    }
}

/* The messages of realize, so that later ones are looked at. */
static void wire_greet(struct wire *wire)
{
    uint64_t protocol = 1u << VGD_VU_F_MQ | 1u << VGD_VU_F_REPLY_ACK | 1u << VGD_VU_F_BACKEND_REQ |
                        1u << VGD_VU_F_CONFIG;
    wire_say(wire, VGD_VU_GET_FEATURES, NULL, 0, NULL, 0);
    wire_say(wire, VGD_VU_GET_PROTOCOL_FEATURES, NULL, 0, NULL, 0);
    wire_say(wire, VGD_VU_SET_PROTOCOL_FEATURES, &protocol, 8, NULL, 0);
    wire_say(wire, VGD_VU_SET_OWNER, NULL, 0, NULL, 0);
    (void)wire_drain(wire, 10);
}

static void headers(struct probe *p)
{
    static const struct {
        const char *what;
        uint32_t request, flags, size;
    } table[] = {
        {"request 0", 0, 1, 0},
        {"request 45", 45, 1, 0},
        {"request 0xffffffff", 0xffffffff, 1, 0},
        {"version 0", VGD_VU_GET_FEATURES, 0, 0},
        {"version 3", VGD_VU_GET_FEATURES, 3, 0},
        {"a reply as a request", VGD_VU_GET_FEATURES, 5, 0},
        {"all flags", VGD_VU_GET_FEATURES, 0xffffffff, 0},
        {"a size of 4 GiB - 1", VGD_VU_SET_FEATURES, 1, 0xffffffff},
        {"a size of 1 MiB", VGD_VU_SET_FEATURES, 1, 1 << 20},
        {"a size of 4097", VGD_VU_SET_FEATURES, 1, 4097},
        {"SET_FEATURES with size 0", VGD_VU_SET_FEATURES, 1, 0},
        {"SET_VRING_NUM with size 0", VGD_VU_SET_VRING_NUM, 1, 0},
        {"SET_VRING_ADDR with size 0", VGD_VU_SET_VRING_ADDR, 1, 0},
        {"SET_MEM_TABLE with size 0", VGD_VU_SET_MEM_TABLE, 1, 0},
        {"GET_CONFIG with size 0", VGD_VU_GET_CONFIG, 1, 0},
        {"GPU_SET_SOCKET without a socket", VGD_VU_GPU_SET_SOCKET, 1, 0},
        {"SET_BACKEND_REQ_FD without a socket", VGD_VU_SET_BACKEND_REQ_FD, 1, 0},
        {"GET_INFLIGHT_FD unasked", VGD_VU_GET_INFLIGHT_FD, 1, 0},
        {"SET_LOG_FD unasked", VGD_VU_SET_LOG_FD, 1, 0},
        {"POSTCOPY_ADVISE unasked", VGD_VU_POSTCOPY_ADVISE, 1, 0},
        {"RESET_OWNER", VGD_VU_RESET_OWNER, 1, 0},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (uint32_t greeted = 0; greeted < 2; greeted++) {
            struct wire wire;
            PROBE_REQUIRE(p, wire_open(p, &wire));
            if (greeted != 0) {
                wire_greet(&wire);
            }
            wire_message(&wire, table[i].request, table[i].flags, table[i].size, NULL, 0, NULL, 0);
            if (table[i].size == 0) {
                wire_check(&wire, table[i].what);
            } else {
                (void)wire_drain(&wire, 50);
            }
            wire_close(&wire, table[i].what);
        }
    }
}

static void cut_messages(struct probe *p)
{
    /* A message ends at every byte, then the connection. */
    uint8_t bytes[VGD_VU_HDR_SIZE + VGD_VU_VRING_ADDR_SIZE] = {0};
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    struct vgd_vu_hdr hdr = {.request = VGD_VU_SET_VRING_ADDR,
                             .flags = VGD_VU_FLAG_VERSION,
                             .size_bytes = VGD_VU_VRING_ADDR_SIZE};
    vgd_vu_hdr_encode(&w, &hdr);
    for (size_t len = 1; len < sizeof(bytes); len += len < 14 ? 1 : 9) {
        struct wire wire;
        PROBE_REQUIRE(p, wire_open(p, &wire));
        wire_greet(&wire);
        wire_send(&wire, bytes, len, NULL, 0);
        (void)wire_drain(&wire, 2);
        wire_close(&wire, "a message cut short");
    }
}

static void slow_messages(struct probe *p)
{
    /* A message in single bytes is one message. */
    struct wire wire;
    PROBE_REQUIRE(p, wire_open(p, &wire));
    uint8_t bytes[VGD_VU_HDR_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    struct vgd_vu_hdr hdr = {.request = VGD_VU_GET_FEATURES, .flags = VGD_VU_FLAG_VERSION};
    vgd_vu_hdr_encode(&w, &hdr);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        wire_send(&wire, bytes + i, 1, NULL, 0);
        (void)poll(NULL, 0, 2);
    }
    wire_check(&wire, "a message in single bytes");
    PROBE_CHECK(p, !wire.closed);
    wire_close(&wire, "a message in single bytes");
}

static void file_descriptors(struct probe *p)
{
    /* Too many, too few, of the wrong kind. */
    int pipe_fds[2];
    PROBE_REQUIRE(p, pipe2(pipe_fds, O_CLOEXEC) == 0);
    VGD_AUTO_FD null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    VGD_AUTO_FD dir_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    VGD_AUTO_FD event_fd = vgd_eventfd_create();
    VGD_AUTO_FD pipe_in = pipe_fds[0];
    VGD_AUTO_FD pipe_out = pipe_fds[1];
    int many[64];
    for (size_t i = 0; i < 64; i++) {
        many[i] = null_fd;
    }
    const struct {
        const char *what;
        uint32_t request;
        uint32_t payload_bytes;
        int fd; /* -1: @n of /dev/null */
        uint32_t n;
    } table[] = {
        {"GET_FEATURES with 1 fd", VGD_VU_GET_FEATURES, 0, -1, 1},
        {"GET_FEATURES with 64 fds", VGD_VU_GET_FEATURES, 0, -1, 64},
        {"SET_FEATURES with 8 fds", VGD_VU_SET_FEATURES, 8, -1, 8},
        {"SET_VRING_KICK with 3 fds", VGD_VU_SET_VRING_KICK, 8, -1, 3},
        {"SET_VRING_KICK with a directory", VGD_VU_SET_VRING_KICK, 8, dir_fd, 1},
        {"SET_VRING_KICK with a pipe", VGD_VU_SET_VRING_KICK, 8, pipe_in, 1},
        {"SET_VRING_KICK with /dev/null", VGD_VU_SET_VRING_KICK, 8, null_fd, 1},
        {"SET_VRING_CALL with a pipe's wrong end", VGD_VU_SET_VRING_CALL, 8, pipe_in, 1},
        {"GPU_SET_SOCKET with an eventfd", VGD_VU_GPU_SET_SOCKET, 0, event_fd, 1},
        {"GPU_SET_SOCKET with a directory", VGD_VU_GPU_SET_SOCKET, 0, dir_fd, 1},
        {"GPU_SET_SOCKET with a pipe", VGD_VU_GPU_SET_SOCKET, 0, pipe_out, 1},
        {"GPU_SET_SOCKET with 5 fds", VGD_VU_GPU_SET_SOCKET, 0, -1, 5},
        {"SET_BACKEND_REQ_FD with an eventfd", VGD_VU_SET_BACKEND_REQ_FD, 0, event_fd, 1},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct wire wire;
        uint8_t payload[64] = {0};
        PROBE_REQUIRE(p, wire_open(p, &wire));
        wire_greet(&wire);
        wire_say(&wire, table[i].request, payload, table[i].payload_bytes,
                 table[i].fd >= 0 ? &table[i].fd : many, table[i].n);
        wire_check(&wire, table[i].what);
        wire_close(&wire, table[i].what);
    }
}

static void queue_numbers(struct probe *p)
{
    static const uint32_t requests[] = {VGD_VU_SET_VRING_NUM,  VGD_VU_SET_VRING_BASE,
                                        VGD_VU_GET_VRING_BASE, VGD_VU_SET_VRING_ENABLE,
                                        VGD_VU_SET_VRING_ADDR, VGD_VU_SET_VRING_KICK,
                                        VGD_VU_SET_VRING_CALL, VGD_VU_SET_VRING_ERR};
    static const uint32_t idxs[] = {2, 3, 255, 0x80000000, 0xffffffff};
    VGD_AUTO_FD event_fd = vgd_eventfd_create();
    for (size_t r = 0; r < sizeof(requests) / sizeof(requests[0]); r++) {
        for (size_t i = 0; i < sizeof(idxs) / sizeof(idxs[0]); i++) {
            bool is_fd =
                requests[r] >= VGD_VU_SET_VRING_KICK && requests[r] <= VGD_VU_SET_VRING_ERR;
            uint32_t n_bytes = requests[r] == VGD_VU_SET_VRING_ADDR ? VGD_VU_VRING_ADDR_SIZE : 8;
            uint8_t payload[VGD_VU_VRING_ADDR_SIZE] = {0};
            memcpy(payload, &idxs[i], 4);
            struct wire wire;
            PROBE_REQUIRE(p, wire_open(p, &wire));
            wire_greet(&wire);
            wire_say(&wire, requests[r], payload, n_bytes, &event_fd, is_fd ? 1 : 0);
            wire_check(&wire, vgd_vu_request_name(requests[r]));
            wire_close(&wire, vgd_vu_request_name(requests[r]));
        }
    }
}

static void queue_sizes(struct probe *p)
{
    static const uint32_t sizes[] = {0, 3, 255, 1025, 32768, 65535, 65536, 0xffffffff};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct wire wire;
        uint32_t state[2] = {0, sizes[i]};
        uint32_t enable[2] = {0, 1};
        VGD_AUTO_FD event_fd = vgd_eventfd_create();
        uint64_t ring = 0;
        PROBE_REQUIRE(p, wire_open(p, &wire));
        wire_greet(&wire);
        wire_say(&wire, VGD_VU_SET_VRING_NUM, state, 8, NULL, 0);
        wire_say(&wire, VGD_VU_SET_VRING_KICK, &ring, 8, &event_fd, 1);
        wire_say(&wire, VGD_VU_SET_VRING_ENABLE, enable, 8, NULL, 0);
        vgd_eventfd_signal(event_fd);
        wire_check(&wire, "a queue of a strange size");
        wire_close(&wire, "a queue of a strange size");
    }
}

static void put_region(struct vgd_writer *w, uint64_t gpa, uint64_t size, uint64_t user,
                       uint64_t offset)
{
    struct vgd_vu_mem_region region = {
        .gpa = gpa, .size_bytes = size, .user_addr = user, .mmap_offset_bytes = offset};
    vgd_vu_mem_region_encode(w, &region);
}

static void memory_tables(struct probe *p)
{
    VGD_AUTO_FD ram = vgd_memfd_create("ram", 1u << 20);
    VGD_AUTO_FD null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    VGD_AUTO_FD dir_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    VGD_AUTO_FD event_fd = vgd_eventfd_create();
    PROBE_REQUIRE(p, ram >= 0);
    const uint64_t mib = 1u << 20;
    const uint64_t user = UINT64_C(0x7f0000000000);
    const struct {
        const char *what;
        uint32_t says;
        struct {
            uint64_t gpa, size, user, offset;
            int fd;
        } regions[2];
        uint32_t n;
    } table[] = {
        {"0 regions", 0, {{0}}, 0},
        {"9 regions announced", 9, {{0, mib, user, 0, ram}}, 1},
        {"0xffffffff regions announced", 0xffffffff, {{0, mib, user, 0, ram}}, 1},
        {"2 announced, 1 sent", 2, {{0, mib, user, 0, ram}}, 1},
        {"a region of size 0", 1, {{0, 0, user, 0, ram}}, 1},
        {"gpa + size wraps", 1, {{UINT64_MAX - 4095, mib, user, 0, ram}}, 1},
        {"user + size wraps", 1, {{0, mib, UINT64_MAX - 4095, 0, ram}}, 1},
        {"offset + size wraps", 1, {{0, mib, user, UINT64_MAX - 4095, ram}}, 1},
        {"a region larger than its file", 1, {{0, 16 * mib, user, 0, ram}}, 1},
        {"an offset behind the file", 1, {{0, mib, user, mib, ram}}, 1},
        {"an odd offset", 1, {{0, 4096, user, 123, ram}}, 1},
        {"regions that overlap", 2, {{0, mib, user, 0, ram}, {4096, mib, user + mib, 0, ram}}, 2},
        {"user addresses that overlap",
         2,
         {{0, mib, user, 0, ram}, {mib, mib, user + 4096, 0, ram}},
         2},
        {"a region of 2^63", 1, {{0, UINT64_C(1) << 63, user, 0, ram}}, 1},
        {"/dev/null as memory", 1, {{0, mib, user, 0, null_fd}}, 1},
        {"a directory as memory", 1, {{0, mib, user, 0, dir_fd}}, 1},
        {"an eventfd as memory", 1, {{0, mib, user, 0, event_fd}}, 1},
        {"a region without a file", 1, {{0, mib, user, 0, -1}}, 1},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (uint32_t slots = 0; slots < 2; slots++) {
            if (slots == 1 && table[i].n != 1) {
                continue;
            }
            struct wire wire;
            uint8_t payload[256];
            struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
            int fds[2];
            uint32_t n_fds = 0;
            if (slots == 0) {
                vgd_vu_mem_table_encode(&w, &(struct vgd_vu_mem_table){.nregions = table[i].says});
            } else {
                vgd_write_le64(&w, 0);
            }
            for (uint32_t r = 0; r < table[i].n; r++) {
                put_region(&w, table[i].regions[r].gpa, table[i].regions[r].size,
                           table[i].regions[r].user, table[i].regions[r].offset);
                if (table[i].regions[r].fd >= 0) {
                    fds[n_fds++] = table[i].regions[r].fd;
                }
            }
            PROBE_REQUIRE(p, wire_open(p, &wire));
            wire_greet(&wire);
            wire_say(&wire, slots == 0 ? VGD_VU_SET_MEM_TABLE : VGD_VU_ADD_MEM_REG, payload,
                     (uint32_t)vgd_writer_used(&w), fds, n_fds);
            wire_check(&wire, table[i].what);
            wire_close(&wire, table[i].what);
        }
    }
}

static void ring_addresses(struct probe *p)
{
    VGD_AUTO_FD ram = vgd_memfd_create("ram", 1u << 20);
    VGD_AUTO_FD event_fd = vgd_eventfd_create();
    PROBE_REQUIRE(p, ram >= 0 && event_fd >= 0);
    const uint64_t user = UINT64_C(0x7f0000000000);
    const struct {
        const char *what;
        uint64_t desc, avail, used;
    } table[] = {
        {"rings outside memory", 0x1000, 0x2000, 0x3000},
        {"rings at 2^64 - 16", UINT64_MAX - 15, UINT64_MAX - 15, UINT64_MAX - 15},
        {"descriptors across the end", user + (1u << 20) - 16, user, user + 8192},
        {"used ring across the end", user, user + 8192, user + (1u << 20) - 8},
        {"available ring across the end", user, user + (1u << 20) - 8, user + 8192},
        {"misaligned descriptors", user + 1, user + 8192, user + 16384},
        {"misaligned rings", user, user + 8193, user + 16385},
        {"all rings at one place", user, user, user},
        {"rings at 0", 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct wire wire;
        uint8_t payload[256];
        struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
        vgd_vu_mem_table_encode(&w, &(struct vgd_vu_mem_table){.nregions = 1});
        put_region(&w, 0, 1u << 20, user, 0);
        uint32_t num[2] = {0, 64};
        uint32_t base[2] = {0, 0};
        uint32_t enable[2] = {0, 1};
        uint64_t ring = 0;
        uint64_t features = UINT64_C(1) << 32 | 1u << 30;
        PROBE_REQUIRE(p, wire_open(p, &wire));
        wire_greet(&wire);
        wire_say(&wire, VGD_VU_SET_FEATURES, &features, 8, NULL, 0);
        wire_say(&wire, VGD_VU_SET_MEM_TABLE, payload, (uint32_t)vgd_writer_used(&w), &ram, 1);
        wire_say(&wire, VGD_VU_SET_VRING_NUM, num, 8, NULL, 0);
        wire_say(&wire, VGD_VU_SET_VRING_BASE, base, 8, NULL, 0);
        w = vgd_writer_of(payload, sizeof(payload));
        struct vgd_vu_vring_addr addr = {.desc_user_addr = table[i].desc,
                                         .avail_user_addr = table[i].avail,
                                         .used_user_addr = table[i].used};
        vgd_vu_vring_addr_encode(&w, &addr);
        wire_say(&wire, VGD_VU_SET_VRING_ADDR, payload, (uint32_t)vgd_writer_used(&w), NULL, 0);
        wire_say(&wire, VGD_VU_SET_VRING_KICK, &ring, 8, &event_fd, 1);
        wire_say(&wire, VGD_VU_SET_VRING_CALL, &ring, 8, &event_fd, 1);
        wire_say(&wire, VGD_VU_SET_VRING_ENABLE, enable, 8, NULL, 0);
        vgd_eventfd_signal(event_fd);
        wire_check(&wire, table[i].what);
        wire_close(&wire, table[i].what);
    }
}

static void config_reads(struct probe *p)
{
    static const struct {
        uint32_t offset, says, has;
    } table[] = {
        {0, 0, 0},  {0, 257, 257},       {256, 1, 1},    {0xffffffff, 16, 16}, {250, 16, 16},
        {0, 16, 0}, {0, 0xffffffff, 16}, {16, 240, 240}, {0, 16, 300},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct wire wire;
        uint8_t payload[512] = {0};
        struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
        struct vgd_vu_config config = {.offset_bytes = table[i].offset,
                                       .size_bytes = table[i].says};
        vgd_vu_config_encode(&w, &config);
        for (uint32_t write = 0; write < 2; write++) {
            PROBE_REQUIRE(p, wire_open(p, &wire));
            wire_greet(&wire);
            wire_say(&wire, write != 0 ? VGD_VU_SET_CONFIG : VGD_VU_GET_CONFIG, payload,
                     VGD_VU_CONFIG_SIZE + table[i].has, NULL, 0);
            wire_check(&wire, "a strange configuration access");
            wire_close(&wire, "a strange configuration access");
        }
    }
}

static void wrong_order(struct probe *p)
{
    /* Queue before memory, enable before kick, base of a ring that never ran, features last. */
    struct wire wire;
    uint32_t state[2] = {0, 1};
    uint64_t ring = 0;
    VGD_AUTO_FD event_fd = vgd_eventfd_create();
    PROBE_REQUIRE(p, wire_open(p, &wire));
    wire_say(&wire, VGD_VU_SET_VRING_ENABLE, state, 8, NULL, 0);
    wire_check(&wire, "enable first of all");
    wire_close(&wire, "enable first of all");

    PROBE_REQUIRE(p, wire_open(p, &wire));
    wire_greet(&wire);
    wire_say(&wire, VGD_VU_GET_VRING_BASE, state, 8, NULL, 0);
    wire_check(&wire, "the base of a ring that never ran");
    wire_close(&wire, "the base of a ring that never ran");

    PROBE_REQUIRE(p, wire_open(p, &wire));
    wire_greet(&wire);
    wire_say(&wire, VGD_VU_SET_VRING_KICK, &ring, 8, &event_fd, 1);
    wire_say(&wire, VGD_VU_SET_VRING_ENABLE, state, 8, NULL, 0);
    vgd_eventfd_signal(event_fd);
    wire_check(&wire, "a kick before memory and rings");
    uint64_t features = UINT64_C(1) << 32;
    wire_say(&wire, VGD_VU_SET_FEATURES, &features, 8, NULL, 0);
    wire_check(&wire, "features after the kick");
    wire_close(&wire, "a kick before memory and rings");
}

static void feature_bits(struct probe *p)
{
    static const uint64_t bits[] = {UINT64_MAX, 0, UINT64_C(1) << 63, 1u << 26};
    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        struct wire wire;
        PROBE_REQUIRE(p, wire_open(p, &wire));
        wire_greet(&wire);
        wire_say(&wire, VGD_VU_SET_FEATURES, &bits[i], 8, NULL, 0);
        wire_check(&wire, "features that were not offered");
        wire_say(&wire, VGD_VU_SET_PROTOCOL_FEATURES, &bits[i], 8, NULL, 0);
        wire_check(&wire, "protocol features that were not offered");
        wire_close(&wire, "features that were not offered");
    }
}

static void noise(struct probe *p)
{
    uint32_t seed = 12345;
    for (uint32_t round = 0; round < 30; round++) {
        struct wire wire;
        uint8_t bytes[512];
        PROBE_REQUIRE(p, wire_open(p, &wire));
        if (round % 2 == 1) {
            wire_greet(&wire);
        }
        for (uint32_t i = 0; i < sizeof(bytes); i++) {
            seed = seed * 1664525 + 1013904223;
            bytes[i] = (uint8_t)(seed >> 24);
        }
        if (round % 3 != 0) {
            /* A header that is nearly right, noise behind it. */
            uint32_t hdr[3] = {round % 46, VGD_VU_FLAG_VERSION, round * 8};
            memcpy(bytes, hdr, sizeof(hdr));
        }
        wire_send(&wire, bytes, sizeof(bytes), NULL, 0);
        (void)wire_drain(&wire, 5);
        wire_close(&wire, "noise");
    }
}

static void memory_truncated(struct probe *p)
{
    /* The front-end cuts the file while the device runs on it: no SIGBUS may end the process that
     * owns the sockets. Connection or device may be given up. */
    VGD_AUTO_FD fd = probe_connect(p);
    PROBE_REQUIRE(p, fd >= 0);
    enum vgd_status st;
    struct vgd_guest_gpu_config with = {.frontend.profile = p->profile, .command_timeout_ms = 2000};
    p->gpu = vgd_guest_gpu_open_raw(&fd, &with, &st);
    PROBE_REQUIRE(p, p->gpu != NULL);
    /* A second region in a file of ours that nothing seals. */
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(p->gpu);
    PROBE_REQUIRE(p, vgd_guest_gpu_start(p->gpu) == VGD_OK);
    VGD_AUTO_FD soft = memfd_create("soft", MFD_CLOEXEC);
    const uint64_t n_bytes = 1u << 20;
    PROBE_REQUIRE(p, soft >= 0 && ftruncate(soft, (off_t)n_bytes) == 0);
    const struct vgd_guest_region *first = vgd_guest_ram_region(vgd_guest_gpu_ram(p->gpu), 0);
    uint64_t gpa = UINT64_C(1) << 40;
    uint64_t user = (uint64_t)(uintptr_t)first->map + (UINT64_C(1) << 38);
    uint8_t payload[128];
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    vgd_vu_mem_table_encode(&w, &(struct vgd_vu_mem_table){.nregions = 2});
    put_region(&w, first->gpa, first->size_bytes, (uint64_t)(uintptr_t)first->map,
               first->file_offset);
    put_region(&w, gpa, n_bytes, user, 0);
    int fds[2] = {first->fd, soft};
    struct vgd_vu_message reply;
    st = vgd_guest_frontend_ask(fe, VGD_VU_SET_MEM_TABLE, true, payload,
                                (uint32_t)vgd_writer_used(&w), fds, 2, &reply);
    if (st != VGD_OK) {
        probe_note(p, "the second region was refused");
        return;
    }
    vgd_vu_message_finish(&reply);
    struct vgd_mem_entry entry = {gpa, (uint32_t)n_bytes};
    struct vgd_rect rect = {.w_px = 256, .h_px = 256};
    (void)vgd_guest_create_2d(p->gpu, 1, VGD_FORMAT_B8G8R8X8_UNORM, 256, 256);
    (void)vgd_guest_attach(p->gpu, 1, &entry, 1);
    (void)vgd_guest_transfer_2d(p->gpu, 1, rect, 0);
    PROBE_REQUIRE(p, ftruncate(soft, 0) == 0);
    (void)vgd_guest_transfer_2d(p->gpu, 1, rect, 0);
    if (p->exec != NULL && !vgd_guest_process_alive(&p->process)) {
        return; /* probe_close says of what it died */
    }
    if (!vgd_guest_frontend_is_closed(fe)) {
        uint8_t bytes[16];
        PROBE_CHECK(p, vgd_guest_frontend_config_read(fe, 0, 16, bytes) == VGD_OK);
        probe_goes_on(p);
    }
}

static void display_talks_back(struct probe *p)
{
    /* The display channel answers what was not asked, short, and with nonsense. */
    static const uint32_t replies[][4] = {
        {VGD_DISP_GET_EDID, 4, 1056, 0},
        {VGD_DISP_DMABUF_UPDATE, 4, 0, 0},
        {99, 4, 0xffffffff, 0},
        {VGD_DISP_GET_DISPLAY_INFO, 0, 408, 0},
        {0xffffffff, 0xffffffff, 0xffffffff, 0},
    };
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        VGD_AUTO_FD fd = probe_connect(p);
        PROBE_REQUIRE(p, fd >= 0);
        enum vgd_status st;
        p->gpu = vgd_guest_gpu_open_raw(
            &fd, &(struct vgd_guest_gpu_config){.frontend.profile = p->profile}, &st);
        PROBE_REQUIRE(p, p->gpu != NULL);
        PROBE_REQUIRE(p, vgd_guest_gpu_start(p->gpu) == VGD_OK);
        int pair[2];
        PROBE_REQUIRE(p, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        VGD_AUTO_FD ours = pair[0];
        VGD_AUTO_FD theirs = pair[1];
        PROBE_CHECK(p,
                    vgd_guest_frontend_tell(vgd_guest_gpu_frontend(p->gpu), VGD_VU_GPU_SET_SOCKET,
                                            NULL, 0, &theirs, 1) == VGD_OK);
        vgd_fd_closep(&theirs);
        uint8_t bytes[1200] = {0};
        memcpy(bytes, replies[i], 12);
        (void)send(ours, bytes, sizeof(bytes), MSG_NOSIGNAL);
        (void)poll(NULL, 0, 20);
        probe_goes_on(p);
        struct vgd_resp_display_info info;
        PROBE_CHECK(p, vgd_guest_get_display_info(p->gpu, &info) != 0);
        probe_goes_on(p);
        probe_close(p);
    }
}

static const struct probe_test tests[] = {
    {"frontend/headers", headers, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/cut-messages", cut_messages, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/slow-messages", slow_messages, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/file-descriptors", file_descriptors, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/queue-numbers", queue_numbers, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/queue-sizes", queue_sizes, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/memory-tables", memory_tables, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/memory-truncated", memory_truncated, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/ring-addresses", ring_addresses, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/config-reads", config_reads, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/wrong-order", wrong_order, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/feature-bits", feature_bits, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/noise", noise, PROBE_RAW | PROBE_HOSTILE},
    {"frontend/display-talks-back", display_talks_back, PROBE_RAW | PROBE_HOSTILE},
};

const struct probe_suite probe_hostile_frontend = {tests, sizeof(tests) / sizeof(tests[0])};
