// Preloaded into a program on a host that has no /dev/udmabuf: a memfd stands in for the dma-buf made of it.
//
// What callers do with a dma-buf of udmabuf's works on a memfd too: mmap, lseek for the size, passing it on. Only whole
// memfds from offset 0 (what virglrenderer, lavapipe and QEMU's contrib backend ask for); anything else is ENOTSUP.
// Not a dma-buf for the kernel: no GPU can import it. For tests only.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int open_standin(const char *path, int *out_fd)
{
    if (path == NULL || strcmp(path, "/dev/udmabuf") != 0 || access(path, F_OK) == 0) {
        return 0;
    }
    *out_fd = memfd_create("udmabuf-standin", MFD_CLOEXEC); // a number for ioctl() below to be called with
    return 1;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        int fd;                                                                                                        \
        if (open_standin(path, &fd)) {                                                                                 \
            return fd;                                                                                                 \
        }                                                                                                              \
        va_list args;                                                                                                  \
        va_start(args, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;                                      \
        va_end(args);                                                                                                  \
        int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);                \
        return real(path, flags, mode);                                                                                \
    }
OPEN(open)
OPEN(open64)

int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *arg = va_arg(args, void *);
    va_end(args);
    int (*real)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    int result = real(fd, request, arg);
    if (result == 0 || errno != ENOTTY) {
        return result;
    }
    if (request == UDMABUF_CREATE) {
        const struct udmabuf_create *create = arg;
        if (create->offset == 0) {
            return fcntl((int)create->memfd, F_DUPFD_CLOEXEC, 0);
        }
        errno = ENOTSUP;
    } else if (request == UDMABUF_CREATE_LIST) {
        const struct udmabuf_create_list *list = arg;
        if (list->count == 1 && list->list[0].offset == 0) {
            return fcntl((int)list->list[0].memfd, F_DUPFD_CLOEXEC, 0);
        }
        errno = ENOTSUP;
    } else if (request == DMA_BUF_IOCTL_SYNC) {
        return 0; // one memory, one cache
    }
    return -1;
}
