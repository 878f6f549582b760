/* SPDX-License-Identifier: MIT */
/* A render server for tests: what the supervisor does for the worker. */
#ifndef VGD_TESTS_RENDER_SERVER_H
#define VGD_TESTS_RENDER_SERVER_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static inline const char *render_server_path(void)
{
    static const char *const paths[] = {"/usr/libexec/virgl_render_server",
                                        "/usr/lib/virgl_render_server",
                                        "/usr/local/libexec/virgl_render_server"};
    const char *named = getenv("RENDER_SERVER_EXEC_PATH");
    if (named != NULL) {
        return named;
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (access(paths[i], X_OK) == 0) {
            return paths[i];
        }
    }
    return NULL;
}

/* Start @path; *out_fd is the other end of its socket, the caller's. Ends with the test. */
static inline pid_t render_server_start(const char *path, int *out_fd)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        return -1;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        char number[16];
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        int fd = dup(fds[1]); /* without close-on-exec */
        (void)snprintf(number, sizeof(number), "%d", fd);
        int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (getenv("VGD_TEST_SERVER_LOG") == NULL) {
            (void)dup2(null_fd, STDOUT_FILENO);
            (void)dup2(null_fd, STDERR_FILENO);
        }
        if (getppid() == parent) {
            (void)execl(path, path, "--socket-fd", number, (char *)NULL);
        }
        _exit(127);
    }
    (void)close(fds[1]);
    *out_fd = fds[0];
    return pid;
}

#endif
