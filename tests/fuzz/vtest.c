/* SPDX-License-Identifier: MIT */
/*
 * Hostile vtest clients on the device of the tests: the input is a list of what they send, when the
 * device answers and how, and when they go.
 *
 * Properties: the bridge goes on whatever is sent (its device asserts what it is asked); a client
 * that does nothing wrong stays connected; when all are gone and everything is answered, nothing is
 * left of them: no memory, no number, no range, no descriptor.
 */
#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "fd.h"
#include "log.h"
#include "loop.h"
#include "open_fds.h"
#include "vtest.h"
#include "vtest_bridge.h"
#include "vtest_fake.h"

#define CLIENTS 3u
#define OPS_MAX 400u
#define PIECE_MAX 4096u
#define ROUNDS_MAX 3u /* of answers, before it is a client's turn */

enum op {
    OP_RAW,     /* bytes as they are */
    OP_REQUEST, /* a request with words of the input, its length right */
    OP_ANSWER,  /* the oldest command */
    OP_REFUSE,
    OP_ANSWER_ALL,
    OP_LATE, /* a command that is not the oldest, if it carries a fence */
    OP_DRAIN,
    OP_LEAVE,
    OP_FENCE, /* the oldest carries one: it is carried out, and answered after the next */
    OP_COUNT,
};

static struct {
    struct vgd_loop *loop;
    struct vgd_vtest_device *dev;
    struct vgd_vtest_bridge *bridge;
    int clients[CLIENTS];
} f;

static void turn(void)
{
    for (int i = 0; i < 3; i++) {
        vgd_loop_turn(f.loop, 0);
        vgd_vtest_bridge_on_room(f.bridge);
    }
}

/* Read everything that client @c was sent, and close what came with it. */
static void drain(uint32_t c)
{
    static uint8_t bytes[65536];
    for (;;) {
        struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
        union {
            struct cmsghdr align;
            uint8_t bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        ssize_t n =
            f.clients[c] < 0 ? -1 : recvmsg(f.clients[c], &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n <= 0) {
            return;
        }
        const struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        if (cmsg != NULL && cmsg->cmsg_type == SCM_RIGHTS) {
            int fd;
            memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
            vgd_fd_closep(&fd);
        }
        turn();
    }
}

static void client_send(uint32_t c, const void *bytes, size_t n_bytes)
{
    if (f.clients[c] < 0) {
        int pair[2];
        int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
        assert(rc == 0);
        (void)rc;
        f.clients[c] = pair[0];
        vgd_vtest_bridge_add(f.bridge, &pair[1]);
        /* Most inputs should get past the greeting. */
        const uint32_t hello[] = {4, VGD_VTEST_CREATE_RENDERER,  0x7a7a7566,
                                  1, VGD_VTEST_PROTOCOL_VERSION, c == 0 ? 4 : c == 1 ? 3 : 2};
        (void)send(f.clients[c], hello, sizeof(hello), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    (void)send(f.clients[c], bytes, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void request(uint32_t c, struct vgd_reader *r)
{
    static const uint8_t words_of[39] = {
        [1] = 0,  [2] = 10, [3] = 1,   [4] = 11,  [5] = 11,  [6] = 0,  [7] = 2,  [8] = 1,  [9] = 0,
        [10] = 0, [11] = 1, [12] = 11, [13] = 10, [14] = 10, [15] = 1, [16] = 2, [17] = 1, [18] = 6,
        [19] = 2, [20] = 1, [21] = 1,  [22] = 3,  [23] = 0,  [24] = 0, [38] = 1};
    uint32_t words[2 + 64] = {0};
    uint32_t cmd = vgd_read_u8(r) % 40;
    uint32_t n = cmd < 39 ? words_of[cmd] : 0;
    if (cmd == VGD_VTEST_SUBMIT_CMD || cmd == VGD_VTEST_SUBMIT_CMD2 || cmd == VGD_VTEST_SYNC_WAIT) {
        n = vgd_read_u8(r) % 64;
    }
    words[0] = n;
    words[1] = cmd;
    for (uint32_t i = 0; i < n; i++) {
        /* Mostly small numbers: those that make sense are small. */
        uint8_t small = vgd_read_u8(r);
        words[2 + i] = small == 0xff ? vgd_read_le32(r) : small == 0xfe ? vgd_read_le16(r) : small;
    }
    client_send(c, words, (2 + n) * sizeof(words[0]));
}

static void answer_late(uint8_t which)
{
    uint32_t n = vtest_fake_pending(f.dev);
    uint32_t idx = n == 0 ? 0 : which % n;
    if (idx > 0 && (vtest_fake_header(f.dev, idx)->flags & VGD_FLAG_FENCE) == 0) {
        return; /* a device answers those in order */
    }
    if (n > 0 && vtest_fake_type(f.dev, idx) == VGD_CMD_SUBMIT_3D) {
        /* Carried out before others that are older? Only where nothing depends on it. */
        for (uint32_t i = 0; i < idx; i++) {
            if (vtest_fake_type(f.dev, i) != VGD_CMD_SUBMIT_3D) {
                return;
            }
        }
        vtest_fake_answer(f.dev, idx, 0);
    }
}

static void answer_behind_a_fence(void)
{
    if (vtest_fake_pending(f.dev) > 1 &&
        (vtest_fake_header(f.dev, 0)->flags & VGD_FLAG_FENCE) != 0) {
        vtest_fake_carry_out(f.dev, 0);
        vtest_fake_answer(f.dev, 1, 0);
    }
}

static void one_op(struct vgd_reader *r)
{
    uint8_t op = vgd_read_u8(r);
    uint32_t c = (op >> 4) % CLIENTS;
    switch (op % 16 % OP_COUNT) {
    case OP_RAW: {
        uint8_t bytes[PIECE_MAX];
        size_t n = vgd_read_le16(r) % PIECE_MAX;
        n = n < vgd_reader_left(r) ? n : vgd_reader_left(r);
        vgd_read_bytes(r, bytes, n);
        client_send(c, bytes, n);
        break;
    }
    case OP_REQUEST:
        request(c, r);
        break;
    case OP_ANSWER:
        if (vtest_fake_pending(f.dev) > 0) {
            vtest_fake_answer(f.dev, 0, 0);
        }
        break;
    case OP_REFUSE:
        /* An unmap that fails keeps its range for good; that is tested elsewhere. */
        if (vtest_fake_pending(f.dev) > 0 &&
            vtest_fake_type(f.dev, 0) != VGD_CMD_RESOURCE_UNMAP_BLOB) {
            vtest_fake_answer(f.dev, 0, VGD_RESP_ERR_UNSPEC);
        }
        break;
    case OP_ANSWER_ALL:
        vtest_fake_answer_all(f.dev);
        break;
    case OP_LATE:
        answer_late(vgd_read_u8(r));
        break;
    case OP_FENCE:
        answer_behind_a_fence();
        break;
    case OP_DRAIN:
        drain(c);
        break;
    default:
        vgd_fd_closep(&f.clients[c]);
        break;
    }
    turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    vgd_log_setup("fuzz", VGD_LOG_ERROR);
    uint64_t fds_before = open_fds();
    f.loop = vgd_loop_create();
    f.dev = vtest_fake_create(16);
    f.bridge = vgd_vtest_bridge_create(f.loop, f.dev);
    assert(f.loop != NULL && f.bridge != NULL);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        f.clients[i] = -1;
    }
    int witness[2];
    int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, witness);
    assert(rc == 0);
    vgd_vtest_bridge_add(f.bridge, &witness[1]);

    struct vgd_reader r = vgd_reader_of(data, len_bytes);
    for (uint32_t i = 0; i < OPS_MAX && vgd_reader_left(&r) > 0; i++) {
        one_op(&r);
    }

    const uint32_t hello[] = {0, VGD_VTEST_CREATE_RENDERER, 0, VGD_VTEST_PING_PROTOCOL_VERSION};
    uint32_t pong[2] = {9, 9};
    rc = (int)send(witness[0], hello, sizeof(hello), MSG_NOSIGNAL);
    assert(rc == sizeof(hello));
    rc = -1;
    for (uint32_t i = 0; i < ROUNDS_MAX && rc < 0;
         i++) { /* others may be before it, and fill the queue */
        vtest_fake_answer_all(f.dev);
        turn();
        rc = (int)recv(witness[0], pong, sizeof(pong), MSG_DONTWAIT);
    }
    assert(rc == sizeof(pong) && pong[1] == VGD_VTEST_PING_PROTOCOL_VERSION);

    for (uint32_t i = 0; i < CLIENTS; i++) {
        vgd_fd_closep(&f.clients[i]);
    }
    vgd_fd_closep(&witness[0]);
    do {
        vtest_fake_answer_all(f.dev);
        turn();
    } while (vtest_fake_pending(f.dev) > 0);
    assert(vgd_vtest_bridge_object_count(f.bridge) == 0);
    assert(vtest_fake_memory_used(f.dev) == 0);
    vgd_vtest_bridge_destroy(f.bridge);
    vtest_fake_destroy(f.dev);
    vgd_loop_destroy(f.loop);
    assert(open_fds() == fds_before);
    return 0;
}
