/* SPDX-License-Identifier: MIT */
/*
 * A stand-in for two programs, for the tests of their supervision: vgd-worker (--link-fd N), which
 * does what VGD_TEST_WORKER says, and virgl_render_server (--socket-fd N), which does what
 * VGD_TEST_SERVER says. Both are lists of words.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"

extern char **environ;

static bool told(const char *list, const char *word)
{
    const char *text = getenv(list);
    return text != NULL && strstr(text, word) != NULL;
}

/* One packet; its descriptor, if one came, in *fd. False: the other side is gone. */
static bool receive(int link, struct vgd_link_hdr *hdr, void *payload, size_t max_bytes, int *fd)
{
    struct iovec iov[2] = {{hdr, sizeof(*hdr)}, {payload, max_bytes}};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * VGD_LINK_FDS_MAX)];
    } control;
    struct msghdr mh = {.msg_iov = iov,
                        .msg_iovlen = 2,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof(control)};
    if (recvmsg(link, &mh, 0) <= 0) {
        return false;
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
    if (c != NULL && fd != NULL) {
        memcpy(fd, CMSG_DATA(c), sizeof(int));
    }
    return true;
}

static void say(int link, enum vgd_link_type type, const void *payload, size_t n_bytes)
{
    struct vgd_link_hdr hdr = {.type = type, .payload_bytes = (uint32_t)n_bytes};
    struct iovec iov[2] = {{&hdr, sizeof(hdr)}, {(void *)(uintptr_t)payload, n_bytes}};
    struct msghdr mh = {.msg_iov = iov, .msg_iovlen = 2};
    (void)sendmsg(link, &mh, MSG_NOSIGNAL);
}

static int worker(int link)
{
    static union {
        struct vgd_link_hello hello;
        struct vgd_link_server server;
        uint8_t bytes[VGD_LINK_BYTES_MAX];
    } in;
    struct vgd_link_hdr hdr;
    struct vgd_link_ready ready = {.features = 3, .num_capsets = 1};
    if (!receive(link, &hdr, &in, sizeof(in), NULL) || hdr.type != VGD_LINK_HELLO) {
        return 3;
    }
    (void)snprintf(ready.renderer, sizeof(ready.renderer), "venus %u, window %llu",
                   in.hello.want_venus, (unsigned long long)in.hello.window_bytes);
    if (told("VGD_TEST_WORKER", "leave-child") && fork() == 0) {
        (void)pause();
        _exit(0);
    }
    if (told("VGD_TEST_WORKER", "distrust") && in.hello.choice.platform != 0) {
        return 5; /* the way of the one before is none */
    }
    if (told("VGD_TEST_WORKER", "chosen")) {
        ready.has_3d = 1;
        ready.choice.platform = 1;
        ready.vulkan.known = 1;
    }
    struct vgd_link_want_server want = {.host_memory = told("VGD_TEST_WORKER", "layer"),
                                        .one_device = told("VGD_TEST_WORKER", "layer")};
    memset(want.device_uuid, 0xa5, sizeof(want.device_uuid));
    int server = -1;
    if (told("VGD_TEST_WORKER", "want")) {
        bool cut = told("VGD_TEST_WORKER", "short");
        say(link, VGD_LINK_WANT_SERVER, &want, sizeof(want) - (cut ? 1 : 0));
        if (told("VGD_TEST_WORKER", "twice")) {
            say(link, VGD_LINK_WANT_SERVER, &want, sizeof(want));
        }
        if (!receive(link, &hdr, &in, sizeof(in), &server) || hdr.type != VGD_LINK_SERVER) {
            return 4;
        }
        (void)snprintf(ready.vulkan_note, sizeof(ready.vulkan_note), "%s", in.server.why);
    }
    char greeting[32] = "";
    if (server >= 0) {
        (void)send(server, "hello", 6, MSG_NOSIGNAL);
        if (recv(server, greeting, sizeof(greeting) - 1, 0) > 0) {
            (void)snprintf(ready.vulkan_name, sizeof(ready.vulkan_name), "%s", greeting);
        } else if (told("VGD_TEST_WORKER", "slow")) {
            (void)usleep(500000); /* others see the end of the server first */
        }
    }
    if (told("VGD_TEST_WORKER", "opengl")) {
        ready.choice.platform = 1;
    }
    say(link, VGD_LINK_READY, &ready, sizeof(ready));
    for (int i = 0; told("VGD_TEST_WORKER", "late") && i < 40; i++) {
        say(link, VGD_LINK_WANT_SERVER, &want, sizeof(want));
    }
    while (receive(link, &hdr, &in, sizeof(in), NULL)) {
        if (told("VGD_TEST_WORKER", "status-127")) {
            return 127; /* as a child that could not become a worker */
        }
    }
    while (told("VGD_TEST_WORKER", "stay")) {
        (void)pause();
    }
    return 0;
}

/* What it was given, for the test to look at. */
static void dump(const char *path)
{
    FILE *out = fopen(path, "we");
    if (out == NULL) {
        return;
    }
    DIR *d = opendir("/proc/self/fd");
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        int fd = atoi(e->d_name);
        if (e->d_name[0] != '.' && fd != fileno(out) && fd != dirfd(d)) {
            (void)fprintf(out, "fd %d\n", fd);
        }
    }
    (void)closedir(d);
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        char link[64], target[256] = "";
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        (void)!readlink(link, target, sizeof(target) - 1);
        (void)fprintf(out, "%d is %s\n", fd, target);
    }
    (void)fprintf(out, "group %d\n", getpgrp() == getpid());
    (void)fprintf(out, "no_new_privs %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    int death_signal = 0;
    (void)prctl(PR_GET_PDEATHSIG, &death_signal);
    (void)fprintf(out, "death_signal %d\n", death_signal);
    for (char **e = environ; *e != NULL; e++) {
        (void)fprintf(out, "env %s\n", *e);
    }
    (void)fclose(out);
}

static int server(int socket)
{
    if (told("VGD_TEST_SERVER", "exit")) {
        return 7;
    }
    if (getenv("VGD_TEST_DUMP") != NULL) {
        dump(getenv("VGD_TEST_DUMP"));
    }
    for (int i = 0; told("VGD_TEST_SERVER", "fork") && i < 3; i++) {
        if (fork() == 0) {
            if (i == 1) {
                (void)setsid(); /* out of the group */
            }
            (void)signal(SIGTERM, SIG_IGN);
            for (;;) {
                (void)pause();
            }
        }
    }
    char greeting[32];
    while (recv(socket, greeting, sizeof(greeting), 0) > 0) {
        bool silent = told("VGD_TEST_SERVER", "silent");
        (void)send(socket, silent ? "" : "a device", silent ? 1 : 9, MSG_NOSIGNAL);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--link-fd") == 0) {
        return worker(atoi(argv[2]));
    }
    if (argc == 3 && strcmp(argv[1], "--socket-fd") == 0) {
        return server(atoi(argv[2]));
    }
    return 2;
}
