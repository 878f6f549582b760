/* SPDX-License-Identifier: MIT */
/*
 * The host-visible region between a scripted worker (calls and recorded answers) and a scripted VMM
 * (the other end of the backend channel, read one message at a time and only when told to).
 */
#ifndef SHMEM_FIXTURE_H
#define SHMEM_FIXTURE_H

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "fd.h"
#include "shmem.h"

#define PAGE 4096ull
#define WINDOW (1ull << 30)
#define ANSWERS_MAX 8192u
#define QUICK_DEADLINE_MS 40u

static struct {
    struct vgd_loop *loop;
    struct vgd_shmem *sh;
    int vmm; /* its end of the backend channel */
    uint64_t next_token;
    int answers[ANSWERS_MAX]; /* by token: enum vgd_status, or -1 */
    unsigned n_answers;
} f;

static void fix_done(void *user, uint64_t token, enum vgd_status status)
{
    (void)user;
    assert(token < ANSWERS_MAX && f.answers[token] == -1); /* once */
    f.answers[token] = (int)status;
    f.n_answers++;
}

static void fix_channel(void)
{
    int pair[2];
    int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    assert(rc == 0);
    vgd_fd_closep(&f.vmm);
    f.vmm = pair[1];
    vgd_shmem_set_channel(f.sh, &pair[0]);
}

/* Negotiated, connected, running. */
static void fix_start(uint32_t maps_max, uint32_t deadline_ms)
{
    memset(&f, 0, sizeof(f));
    memset(f.answers, 0xff, sizeof(f.answers));
    f.vmm = -1;
    f.next_token = 1;
    f.loop = vgd_loop_create();
    f.sh = vgd_shmem_create(&(struct vgd_shmem_config){
        .loop = f.loop,
        .size_bytes = WINDOW,
        .maps_max = maps_max,
        .deadline_ms = deadline_ms,
        .done = fix_done,
    });
    assert(f.loop != NULL && f.sh != NULL);
    fix_channel();
    vgd_shmem_set_usable(f.sh, true);
    vgd_shmem_release(f.sh);
}

static void fix_end(void)
{
    vgd_shmem_destroy(f.sh);
    vgd_loop_destroy(f.loop);
    vgd_fd_closep(&f.vmm);
}

static void fix_turn(void)
{
    for (int i = 0; i < 4; i++) {
        vgd_loop_turn(f.loop, 0);
    }
}

static int fix_file(uint64_t n_bytes)
{
    int fd = vgd_memfd_create("shmem-test", n_bytes);
    assert(fd >= 0);
    return fd;
}

/* The worker asks; gives the token. */
static uint64_t fix_map_file(uint64_t offset, uint64_t len, uint64_t file_offset, int fd)
{
    struct vgd_link_window m = {.token = f.next_token++,
                                .offset_bytes = offset,
                                .len_bytes = len,
                                .file_offset_bytes = file_offset};
    vgd_shmem_map(f.sh, &m, &fd);
    assert(fd == -1); /* taken, whatever came of it */
    return m.token;
}

static inline uint64_t fix_map(uint64_t offset, uint64_t len)
{
    return fix_map_file(offset, len, 0, fix_file(len));
}

static uint64_t fix_unmap(uint64_t offset, uint64_t len)
{
    struct vgd_link_window m = {.token = f.next_token++, .offset_bytes = offset, .len_bytes = len};
    vgd_shmem_unmap(f.sh, &m);
    return m.token;
}

struct vmm_message {
    struct vgd_vu_hdr hdr;
    struct vgd_vu_shmem_map map;
    int fd;
    bool barrier; /* a message that asks for nothing followed */
};

static bool vmm_read(uint8_t *bytes, size_t n_bytes, int *fd)
{
    struct iovec iov = {.iov_base = bytes, .iov_len = n_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 4)];
    } control;
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(f.vmm, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n != (ssize_t)n_bytes) {
        assert(n <= 0);
        return false;
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
    if (c != NULL && fd != NULL) {
        assert(c->cmsg_len == CMSG_LEN(sizeof(int)));
        memcpy(fd, CMSG_DATA(c), sizeof(int));
    }
    return true;
}

/* Read the first byte, as a VMM whose main loop has come to it. */
static bool vmm_begin(struct vmm_message *out)
{
    fix_turn();
    out->fd = -1;
    uint8_t first;
    if (!vmm_read(&first, 1, &out->fd)) {
        return false;
    }
    out->hdr.request = first;
    return true;
}

/* The rest: it has to come by itself now. */
static void vmm_finish(struct vmm_message *out)
{
    fix_turn();
    uint8_t bytes[12 + 40];
    bytes[0] = (uint8_t)out->hdr.request;
    bool ok = vmm_read(bytes + 1, 11, NULL);
    assert(ok);
    struct vgd_reader r = vgd_reader_of(bytes, 12);
    enum vgd_status st = vgd_vu_hdr_decode(&r, &out->hdr);
    assert(st == VGD_OK && (out->hdr.size_bytes == 0 || out->hdr.size_bytes == 40));
    if (out->hdr.size_bytes == 40) {
        ok = vmm_read(bytes + 12, 40, NULL);
        r = vgd_reader_of(bytes + 12, 40);
        st = vgd_vu_shmem_map_decode(&r, &out->map);
        assert(ok && st == VGD_OK);
    }
    out->barrier = out->hdr.request == VGD_VU_BACKEND_SHMEM_MAP;
    if (out->barrier) { /* behind each map, to be answered when it is carried out */
        struct vgd_vu_hdr hdr;
        ok = vmm_read(bytes, 12 + VGD_VU_VRING_AREA_SIZE, NULL);
        r = vgd_reader_of(bytes, 12);
        st = vgd_vu_hdr_decode(&r, &hdr);
        assert(ok && st == VGD_OK && hdr.request == VGD_VU_BACKEND_VRING_HOST_NOTIFIER_MSG);
        assert(hdr.flags == (VGD_VU_FLAG_VERSION | VGD_VU_FLAG_NEED_REPLY));
    }
}

static bool vmm_take(struct vmm_message *out)
{
    if (!vmm_begin(out)) {
        return false;
    }
    vmm_finish(out);
    return true;
}

static bool fix_usable(void)
{
    struct vgd_shmem_status st;
    vgd_shmem_get_status(f.sh, &st);
    return st.usable;
}

static void vmm_say(uint32_t request, uint32_t flags, const void *payload, uint32_t n_bytes)
{
    uint8_t bytes[12 + 64];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    struct vgd_vu_hdr hdr = {.request = request, .flags = flags, .size_bytes = n_bytes};
    vgd_vu_hdr_encode(&w, &hdr);
    vgd_write_bytes(&w, payload, n_bytes);
    ssize_t n = send(f.vmm, bytes, 12 + n_bytes, MSG_NOSIGNAL);
    assert(n == 12 + (ssize_t)n_bytes);
    fix_turn();
}

static void vmm_answer_barrier(void)
{
    static const uint64_t refused = 1;
    if (fix_usable()) {
        vmm_say(VGD_VU_BACKEND_VRING_HOST_NOTIFIER_MSG, 5, &refused, sizeof(refused));
    }
}

static void vmm_answer(const struct vmm_message *m, uint64_t value)
{
    vmm_say(m->hdr.request, 5, &value, sizeof(value));
    if (m->barrier) {
        vmm_answer_barrier();
    }
    if (m->fd >= 0) {
        (void)close(m->fd);
    }
}

/* The VMM carries out all that is asked, well. Returns how many requests there were. */
static inline unsigned vmm_serve(void)
{
    unsigned n = 0;
    for (struct vmm_message m; vmm_take(&m); n++) {
        if ((m.hdr.flags & VGD_VU_FLAG_NEED_REPLY) != 0) {
            vmm_answer(&m, 0);
        } else if (m.fd >= 0) {
            (void)close(m.fd);
        }
    }
    return n;
}

static inline struct vgd_shmem_status fix_status(void)
{
    struct vgd_shmem_status st;
    vgd_shmem_get_status(f.sh, &st);
    return st;
}

/* Let the deadline pass. */
static inline void fix_wait_ms(unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        vgd_loop_turn(f.loop, 1);
        (void)usleep(500);
    }
    fix_turn();
}

#endif
