/* SPDX-License-Identifier: MIT */
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

void vgd_fds_close(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        vgd_fd_closep(&fds[i]);
    }
}

int vgd_memfd_create(const char *name, uint64_t size_bytes)
{
    VGD_AUTO_FD fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size_bytes) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return -1;
    }
    return vgd_fd_take(&fd);
}

int vgd_eventfd_create(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void vgd_eventfd_signal(int fd)
{
    uint64_t one = 1;
    /* EAGAIN means the counter is full: the reader has been told often enough. */
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

void vgd_eventfd_clear(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR) {
    }
}
