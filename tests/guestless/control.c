/* SPDX-License-Identifier: MIT */
/*
 * Clients of the control socket that are no good, against a guest that draws: the guest's commands
 * and its screen go on, the clients are dropped, and nothing of them stays.
 *
 *   control VGD
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"
#include "scene.h"

#define CLIENTS 12u /* more than there is room for */
#define ATTACK_MS 1500u
#define SETTLE_MS 3000u
#define LATENCY_MAX_MS 1000.0 /* of a command with its picture; tens of ms are usual */
#define SLOWER_MAX 10.0       /* pictures in a second, against none of them */
#define FDS 250u
#define MS 1000000ull

static const char status_request[] = "{\"v\":1,\"cmd\":\"status\"}\n";
static const char start_request[] = "{\"v\":1,\"cmd\":\"trace-start\"}\n";
static char dir[32], socket_path[64];

/* ---- clients ----------------------------------------------------------------------------------
 */

static int client(bool blocking)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)strcpy(to.sun_path, socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0) {
        vgd_fd_closep(&fd);
    }
    return fd;
}

/* False: it was dropped. */
static bool send_with(int fd, const char *text, size_t n_bytes, int passed, unsigned n)
{
    static union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS)];
    } control;
    struct iovec iov = {.iov_base = (char *)(uintptr_t)text, .iov_len = n_bytes};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n > 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * n);
        for (unsigned i = 0; i < n; i++) {
            memcpy(CMSG_DATA(head) + i * sizeof(int), &passed, sizeof(int));
        }
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL) >= 0 || errno == EAGAIN || errno == ETOOMANYREFS;
}

static void swallow(int fd)
{
    char bytes[65536];
    while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
    }
}

/* Requests without end, whose replies are never read. */
static void flood_and_do_not_read(int fd, unsigned turn)
{
    (void)turn;
    while (send(fd, status_request, sizeof(status_request) - 1, MSG_NOSIGNAL) > 0) {
    }
}

/* Requests without end, in large pieces, whose replies are read. */
static void flood(int fd, unsigned turn)
{
    (void)turn;
    char many[4096];
    size_t n = 0;
    for (; n + sizeof(status_request) <= sizeof(many); n += sizeof(status_request) - 1) {
        memcpy(many + n, status_request, sizeof(status_request) - 1);
    }
    (void)send(fd, many, n, MSG_NOSIGNAL);
    swallow(fd);
}

static void half_a_line(int fd, unsigned turn)
{
    if (turn == 0) {
        (void)send(fd, status_request, 10, MSG_NOSIGNAL);
    }
}

static void endless_line(int fd, unsigned turn)
{
    static char line[4096];
    (void)turn;
    memset(line, 'x', sizeof(line));
    (void)send(fd, line, sizeof(line), MSG_NOSIGNAL);
    swallow(fd);
}

static void garbage(int fd, unsigned turn)
{
    char bytes[512];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        turn = turn * 1664525u + 1013904223u;
        bytes[i] = (char)(turn >> 24);
    }
    bytes[sizeof(bytes) - 1] = '\n';
    (void)send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
    swallow(fd);
}

static void many_descriptors(int fd, unsigned turn)
{
    (void)send_with(fd, turn % 2 != 0 ? status_request : start_request,
                    (turn % 2 != 0 ? sizeof(status_request) : sizeof(start_request)) - 1,
                    STDERR_FILENO, FDS);
    swallow(fd);
}

static void vanish(int fd, unsigned turn)
{
    /* With a descriptor on its way, in half a line, or with a recording just begun. */
    int file = memfd_create("trace", MFD_CLOEXEC);
    (void)send_with(fd, start_request, sizeof(start_request) - 1 - turn % 3 * 5, file, 1);
    vgd_fd_closep(&file);
    (void)shutdown(fd, SHUT_RDWR);
}

static void come_and_go(int fd, unsigned turn)
{
    (void)turn;
    (void)shutdown(fd, SHUT_RDWR);
}

struct attack {
    const char *name;
    void (*act)(int fd, unsigned turn);
};

static void attack_for_ever(const struct attack *a) __attribute__((noreturn));

static void attack_for_ever(const struct attack *a)
{
    int fds[CLIENTS];
    unsigned turns[CLIENTS] = {0};
    for (unsigned i = 0; i < CLIENTS; i++) {
        fds[i] = -1;
    }
    for (;;) {
        for (unsigned i = 0; i < CLIENTS; i++) {
            char byte;
            bool gone = fds[i] < 0 || (recv(fds[i], &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0) ||
                        send(fds[i], "", 0, MSG_NOSIGNAL) < 0;
            if (gone) {
                vgd_fd_closep(&fds[i]);
                fds[i] = client(false);
                turns[i] = 0;
            }
            if (fds[i] >= 0) {
                a->act(fds[i], turns[i]++);
            }
        }
        sleep_ms(1); /* all cores are ours, not the attackers': that is another matter */
    }
}

/* ---- the guest --------------------------------------------------------------------------------
 */

struct pace {
    unsigned pictures;
    double per_second, slowest_ms;
    bool right;
};

/* Pictures, each drawn, flushed and seen, for @ms. */
static struct pace draw_for(struct scene *s, unsigned ms)
{
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    struct pace p = {.right = true};
    uint64_t start_ns = vgd_now_ns(), now_ns = start_ns;
    while (p.right && now_ns - start_ns < ms * MS) {
        scene_paint(s, p.pictures);
        uint64_t before_ns = vgd_now_ns();
        p.right = vgd_guest_transfer_2d(s->gpu, SCENE_RES, whole, 0) == VGD_RESP_OK_NODATA &&
                  vgd_guest_flush(s->gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
                  scene_is_shown(s, 5000);
        now_ns = vgd_now_ns();
        double took_ms = (double)(now_ns - before_ns) / (double)MS;
        p.slowest_ms = took_ms > p.slowest_ms ? took_ms : p.slowest_ms;
        p.pictures++;
    }
    p.per_second = (double)p.pictures * 1e9 / (double)(now_ns - start_ns);
    return p;
}

/* Does it answer somebody who behaves? */
static bool is_answered(void)
{
    for (unsigned tries = 0; tries < 100; tries++) {
        char reply[65536];
        struct timeval timeout = {.tv_sec = 2};
        VGD_AUTO_FD fd = client(true);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
        if (fd >= 0 && send(fd, status_request, sizeof(status_request) - 1, MSG_NOSIGNAL) > 0) {
            ssize_t n = recv(fd, reply, sizeof(reply) - 1, 0);
            reply[n > 0 ? n : 0] = '\0';
            if (strstr(reply, "\"status\"") != NULL) {
                return true;
            }
        }
        sleep_ms(20); /* there was no room */
    }
    return false;
}

static void stop_recording(void)
{
    VGD_AUTO_FD fd = client(true);
    static const char stop[] = "{\"v\":1,\"cmd\":\"trace-stop\"}\n";
    char reply[4096];
    struct timeval timeout = {.tv_sec = 15};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    (void)send(fd, stop, sizeof(stop) - 1, MSG_NOSIGNAL);
    (void)!recv(fd, reply, sizeof(reply), 0);
}

static void attack_with(struct scene *s, const struct attack *a, const struct pace *usual,
                        int fds_before)
{
    pid_t pid = fork();
    if (pid == 0) {
        attack_for_ever(a);
    }
    struct pace p = draw_for(s, ATTACK_MS);
    bool attacked = waitpid(pid, NULL, WNOHANG) == 0;
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    bool answered = is_answered();
    stop_recording(); /* if one was begun */
    int fds = -1;
    for (uint64_t end_ns = vgd_now_ns() + SETTLE_MS * MS;
         fds != fds_before && vgd_now_ns() < end_ns; vgd_guest_gpu_settle(s->gpu, 20)) {
        fds = vgd_guest_fd_count(s->vgd.pid);
    }
    tap_note("%s: %.0f pictures/s, the slowest %.1f ms; without: %.0f, %.1f", a->name, p.per_second,
             p.slowest_ms, usual->per_second, usual->slowest_ms);
    (void)tap_ok(attacked && p.right && p.slowest_ms < LATENCY_MAX_MS &&
                     p.per_second * SLOWER_MAX > usual->per_second && answered && fds == fds_before,
                 a->name, "attacked %d, right %d, answered %d, %d descriptors of %d", attacked,
                 p.right, answered, fds, fds_before);
}

int main(int argc, char **argv)
{
    static const struct attack attacks[] = {
        {"requests whose replies nobody reads", flood_and_do_not_read},
        {"requests by the hundred", flood},
        {"half a line", half_a_line},
        {"a line without an end", endless_line},
        {"garbage", garbage},
        {"250 descriptors with each request", many_descriptors},
        {"clients that vanish in trace-start", vanish},
        {"clients that come and go", come_and_go},
    };
    if (argc != 2) {
        (void)fprintf(stderr, "usage: control VGD\n");
        return 2;
    }
    struct scene s;
    char options[128];
    (void)strcpy(dir, "/tmp/vgd-control-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return 2;
    }
    (void)snprintf(socket_path, sizeof(socket_path), "%s/control", dir);
    (void)snprintf(options, sizeof(options), "--control-path=%s", socket_path);
    if (scene_open(&s, argv[1], options, "a guest")) {
        bool drawn = scene_draw(&s);
        pid_t worker = scene_worker(&s, 0, 1000);
        struct pace usual = draw_for(&s, ATTACK_MS);
        (void)tap_ok(drawn && usual.right && is_answered(), "a guest that draws", NULL);
        vgd_guest_gpu_settle(s.gpu, 100);
        int fds_before = vgd_guest_fd_count(s.vgd.pid);
        for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
            attack_with(&s, &attacks[i], &usual, fds_before);
        }
        (void)tap_ok(scene_worker(&s, 0, 0) == worker, "the worker is the same", NULL);
        (void)tap_ok(scene_close(&s), "all ends", NULL);
    }
    (void)rmdir(dir);
    return tap_done();
}
