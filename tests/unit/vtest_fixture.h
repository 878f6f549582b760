/* SPDX-License-Identifier: MIT */
/* A client of the vtest bridge, on the device of the tests. */
#ifndef VGD_TEST_VTEST_FIXTURE_H
#define VGD_TEST_VTEST_FIXTURE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "fd.h"
#include "leaks.h"
#include "loop.h"
#include "vtest.h"
#include "vtest_bridge.h"
#include "vtest_fake.h"

struct bed {
    struct vgd_loop *loop;
    struct vgd_vtest_device *dev;
    struct vgd_vtest_bridge *bridge;
    unsigned fds_before;
};

static inline struct bed bed_begin(void)
{
    struct bed b = {.fds_before = open_fds_count()};
    b.loop = vgd_loop_create();
    b.dev = vtest_fake_create(64);
    b.bridge = vgd_vtest_bridge_create(b.loop, b.dev);
    cr_assert(b.loop != NULL && b.bridge != NULL);
    return b;
}

static inline void pump(struct bed *b)
{
    for (int i = 0; i < 8; i++) {
        vgd_loop_turn(b->loop, 0);
        vgd_vtest_bridge_on_room(b->bridge);
    }
}

/* The device answers everything, and what comes of that. */
static inline void settle(struct bed *b)
{
    do {
        vtest_fake_answer_all(b->dev);
        pump(b);
    } while (vtest_fake_pending(b->dev) > 0);
}

/* Nothing may be left of any client. */
static inline void bed_end(struct bed *b)
{
    vgd_vtest_bridge_drop_all(b->bridge, "the test ends");
    settle(b);
    cr_assert_eq(vgd_vtest_bridge_object_count(b->bridge), 0);
    cr_assert_eq(vtest_fake_memory_used(b->dev), 0);
    vgd_vtest_bridge_destroy(b->bridge);
    vtest_fake_destroy(b->dev);
    vgd_loop_destroy(b->loop);
    cr_assert_eq(open_fds_count(), b->fds_before, "%d descriptors, %d before", open_fds_count(),
                 b->fds_before);
}

static inline void put(int fd, const void *bytes, size_t n_bytes)
{
    cr_assert_eq(send(fd, bytes, n_bytes, MSG_NOSIGNAL), (ssize_t)n_bytes);
}

/* A request of words. */
#define ASK(fd, cmd, ...)                                                                          \
    do {                                                                                           \
        const uint32_t words_[] = {__VA_ARGS__};                                                   \
        ask(fd, cmd, words_, sizeof(words_) / 4);                                                  \
    } while (0)

static inline void ask(int fd, uint32_t cmd, const uint32_t *words, uint32_t n)
{
    uint32_t hdr[2] = {n, cmd};
    put(fd, hdr, sizeof(hdr));
    if (n > 0) {
        put(fd, words, n * 4);
    }
}

static inline int client_begin_raw(struct bed *b)
{
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    vgd_vtest_bridge_add(b->bridge, &pair[1]);
    cr_assert_eq(pair[1], -1, "taken");
    return pair[0];
}

/* Exactly @n_bytes have to be there. */
static inline void get(int fd, void *out, size_t n_bytes)
{
    cr_assert_eq(recv(fd, out, n_bytes, MSG_DONTWAIT), (ssize_t)n_bytes);
}

static inline bool is_silent(int fd)
{
    uint8_t byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0;
}

static inline bool is_dropped(int fd)
{
    uint8_t byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/* The header of a reply, as Mesa reads it: then its words. */
static inline void get_reply(int fd, uint32_t cmd, uint32_t *words, uint32_t n)
{
    uint32_t hdr[2];
    get(fd, hdr, sizeof(hdr));
    cr_assert(hdr[0] == n && hdr[1] == cmd, "length %u of %s", hdr[0],
              vgd_vtest_request_name(hdr[1]));
    if (n > 0) {
        get(fd, words, n * 4);
    }
}

static inline int get_fd(int fd)
{
    uint8_t byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    cr_assert_eq(recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC), 1);
    const struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    cr_assert(cmsg != NULL && cmsg->cmsg_type == SCM_RIGHTS);
    int got;
    memcpy(&got, CMSG_DATA(cmsg), sizeof(got));
    return got;
}

static inline void say_name(int fd)
{
    uint32_t hdr[2] = {5, VGD_VTEST_CREATE_RENDERER};
    put(fd, hdr, sizeof(hdr));
    put(fd, "test", 5);
}

/* A client that has said hello and agreed on @version. */
static inline int client_begin(struct bed *b, uint32_t version)
{
    int fd = client_begin_raw(b);
    say_name(fd);
    if (version > 0) {
        ASK(fd, VGD_VTEST_PROTOCOL_VERSION, version);
    }
    pump(b);
    uint32_t agreed = 0;
    if (version > 0) {
        get_reply(fd, VGD_VTEST_PROTOCOL_VERSION, &agreed, 1);
    }
    cr_assert_eq(agreed, version);
    return fd;
}

/* A buffer of @n_bytes that is shared. Returns its number; *out_memory is mapped. */
static inline uint32_t make_buffer(struct bed *b, int fd, uint32_t n_bytes, uint8_t **out_memory)
{
    ASK(fd, VGD_VTEST_RESOURCE_CREATE2, 0, 0, 64, 1u << 4, n_bytes, 1, 1, 1, 0, 0, n_bytes);
    pump(b);
    uint32_t id = 0;
    get_reply(fd, VGD_VTEST_RESOURCE_CREATE2, &id, 1);
    VGD_AUTO_FD file = get_fd(fd);
    *out_memory = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    cr_assert(*out_memory != MAP_FAILED && id != 0);
    return id;
}

static inline uint32_t make_sync(struct bed *b, int fd, uint32_t value)
{
    ASK(fd, VGD_VTEST_SYNC_CREATE, value, 0);
    pump(b);
    uint32_t id = 0;
    get_reply(fd, VGD_VTEST_SYNC_CREATE, &id, 1);
    return id;
}

/* A test on a bed of its own. What it holds is closed when it returns, and then nothing is left. */
#define RULE(name)                                                                                 \
    static void name(struct bed *b);                                                               \
    Test(vtest, name)                                                                              \
    {                                                                                              \
        struct bed b = bed_begin();                                                                \
        name(&b);                                                                                  \
        bed_end(&b);                                                                               \
    }                                                                                              \
    static void name(struct bed *b)

#endif
