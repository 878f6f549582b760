/* SPDX-License-Identifier: MIT */
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/vfs.h>

/* Of /proc/self/fdinfo; the line that is looked for is among the first. */
#define FD_INFO_BYTES 1024

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

/* Does the kernel describe @fd as it describes a dma-buf, and nothing else? */
static bool is_described_as_dma_buf(int fd)
{
    char path[64], text[FD_INFO_BYTES];
    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    VGD_AUTO_FD info = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = info >= 0 ? read(info, text, sizeof(text) - 1) : -1;
    if (n < 0) {
        return false;
    }
    text[n] = '\0';
    return strstr(text, "\nexp_name:\t") != NULL;
}

enum vgd_fd_kind vgd_fd_kind(int fd)
{
    /* Only the kernel's memory has seals, and only then is statfs sure to come back. */
    bool has_seals = fcntl(fd, F_GET_SEALS) >= 0;
    struct statfs fs;
    if ((!has_seals && !is_described_as_dma_buf(fd)) || fstatfs(fd, &fs) != 0) {
        return VGD_FD_OTHER;
    }
    if (has_seals) {
        return fs.f_type == TMPFS_MAGIC ? VGD_FD_MEMORY : VGD_FD_OTHER;
    }
    return fs.f_type == DMA_BUF_MAGIC ? VGD_FD_DMA_BUF : VGD_FD_OTHER;
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
