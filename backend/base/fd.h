/* SPDX-License-Identifier: MIT */
/* File descriptors with one owner. -1 means "none". Everything is opened close-on-exec. */
#ifndef VGD_BASE_FD_H
#define VGD_BASE_FD_H

#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "status.h"

/** Close *@fd if it is open and leave -1. */
static inline void vgd_fd_closep(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

#define VGD_AUTO_FD __attribute__((cleanup(vgd_fd_closep))) int

/** Give *@fd to the caller and leave -1. */
static inline int vgd_fd_take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

/** Close @n fds and leave -1 in each. */
void vgd_fds_close(int *fds, size_t n);

/**
 * A sealed memfd of @size_bytes: it can neither shrink nor grow.
 *
 * @name  shown in /proc; a literal
 * Returns the fd, owned by the caller, or -1 with errno.
 */
int vgd_memfd_create(const char *name, uint64_t size_bytes);

enum vgd_fd_kind {
    VGD_FD_OTHER,
    VGD_FD_MEMORY, /* of the kernel's, with seals: a memfd, not of huge pages, which can run out
                      when one is touched */
    VGD_FD_DMA_BUF,
};
/**
 * What somebody who is not trusted has sent. Never asks a file system that could keep us waiting:
 * a file of FUSE's is answered by whom it pleases.
 */
enum vgd_fd_kind vgd_fd_kind(int fd);

/** Non-blocking, close-on-exec eventfd; -1 with errno on failure. */
int vgd_eventfd_create(void);
/** Add one to an eventfd. Never blocks; a full counter counts as signalled. */
void vgd_eventfd_signal(int fd);
/** Read an eventfd back to zero; anything else that the fd may be is ignored. Never blocks on
 * O_NONBLOCK fds. */
void vgd_eventfd_clear(int fd);

#endif
