/* SPDX-License-Identifier: MIT */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"

_Noreturn static void child_main(vgd_child_fn fn, const void *question, void *answer,
                                 size_t answer_bytes, int pipe_fd)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd >= 0) {
        (void)dup2(null_fd, STDOUT_FILENO); /* drivers chat */
        (void)dup2(null_fd, STDERR_FILENO);
    }
    fn(question, answer);
    const uint8_t *left = answer;
    while (answer_bytes > 0) {
        ssize_t n = write(pipe_fd, left, answer_bytes);
        if (n <= 0) {
            _exit(1);
        }
        left += n;
        answer_bytes -= (size_t)n;
    }
    _exit(0); /* no destructor of a driver runs */
}

/* Read until all is there, the child is gone or the time is up. 1, 0, -1. */
static int read_answer(int fd, uint8_t *out, size_t n_bytes, int deadline_ms)
{
    uint64_t deadline_ns = vgd_now_ns() + (uint64_t)deadline_ms * 1000000u;
    while (n_bytes > 0) {
        uint64_t now_ns = vgd_now_ns();
        if (now_ns >= deadline_ns) {
            return -1;
        }
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, (int)((deadline_ns - now_ns) / 1000000u) + 1) <= 0) {
            continue; /* interrupted, or the deadline, seen above */
        }
        ssize_t n = read(fd, out, n_bytes);
        if (n <= 0) {
            return 0;
        }
        out += n;
        n_bytes -= (size_t)n;
    }
    return 1;
}

bool vgd_child_ask(vgd_child_fn fn, const void *question, void *answer, size_t answer_bytes,
                   int deadline_ms, char *reason)
{
    memset(answer, 0, answer_bytes);
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        (void)snprintf(reason, VGD_CHILD_REASON_BYTES, "pipe: %.40s", strerror(errno));
        return false;
    }
    (void)fflush(NULL); /* what is buffered is ours to write */
    pid_t pid = fork();
    if (pid == 0) {
        child_main(fn, question, answer, answer_bytes, fds[1]);
    }
    (void)close(fds[1]);
    VGD_AUTO_FD from_child = fds[0];
    if (pid < 0) {
        (void)snprintf(reason, VGD_CHILD_REASON_BYTES, "fork: %.40s", strerror(errno));
        return false;
    }
    int got = read_answer(from_child, answer, answer_bytes, deadline_ms);
    if (got != 0) {
        (void)kill(pid, SIGKILL); /* it has answered, or will not; else its own end tells why */
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (got == 1) {
        return true;
    }
    memset(answer, 0, answer_bytes);
    if (got < 0) {
        (void)snprintf(reason, VGD_CHILD_REASON_BYTES, "timed out after %d s", deadline_ms / 1000);
    } else if (WIFSIGNALED(status)) {
        (void)snprintf(reason, VGD_CHILD_REASON_BYTES, "crashed (signal %d)", WTERMSIG(status));
    } else {
        (void)snprintf(reason, VGD_CHILD_REASON_BYTES, "ended with status %d", WEXITSTATUS(status));
    }
    return false;
}
