/* SPDX-License-Identifier: MIT */
/* What a descriptor is, told without asking somebody who may never answer. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"
#include "leaks.h"

#define MESSAGE_BYTES 65536u

static int disk_file(void)
{
    char path[] = "/var/tmp/vgd-kind.XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    cr_assert(fd >= 0 && unlink(path) == 0);
    return fd;
}

Test(fd_kind, table)
{
    unsigned fds = open_fds_count();
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    VGD_AUTO_FD memory = vgd_memfd_create("whole", 4096);
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
    struct {
        const char *name;
        int fd;
        enum vgd_fd_kind kind;
    } cases[] = {
        {"a sealed memory file", vgd_memfd_create("sealed", 4096), VGD_FD_MEMORY},
        {"one that takes no seals", memfd_create("open", MFD_CLOEXEC), VGD_FD_MEMORY},
        {"read-only", open(path, O_RDONLY | O_CLOEXEC), VGD_FD_MEMORY},
        {"huge pages", memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_ALLOW_SEALING),
         VGD_FD_OTHER},
        {"a path", open(path, O_PATH | O_CLOEXEC), VGD_FD_OTHER},
        {"a socket", pair[0], VGD_FD_OTHER},
        {"a file on a disk", disk_file(), VGD_FD_OTHER},
        {"a folder", open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), VGD_FD_OTHER},
        {"an eventfd", vgd_eventfd_create(), VGD_FD_OTHER},
        {"a device", open("/dev/zero", O_RDWR | O_CLOEXEC), VGD_FD_OTHER},
        {"not open", -1, VGD_FD_OTHER},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_expect_eq(vgd_fd_kind(cases[i].fd), cases[i].kind, "%s", cases[i].name);
        vgd_fd_closep(&cases[i].fd);
    }
    (void)close(pair[1]);
    vgd_fd_closep(&memory);
    cr_assert_eq(open_fds_count(), fds);
}

/* --- a file system that falls silent --- */

static struct {
    int device;
    bool is_silent;   /* read and written atomically */
    unsigned unheard; /* requests since; likewise */
} fuse;

static void answer(uint64_t unique, int error, const void *body, size_t n_bytes)
{
    static uint8_t out[4096];
    struct fuse_out_header hdr = {
        .len = (uint32_t)(sizeof(hdr) + n_bytes), .error = -error, .unique = unique};
    memcpy(out, &hdr, sizeof(hdr));
    memcpy(out + sizeof(hdr), body, n_bytes);
    (void)!write(fuse.device, out, hdr.len);
}

static struct fuse_attr attr_of(uint64_t node)
{
    return (struct fuse_attr){
        .ino = node,
        .size = 4096,
        .nlink = 1,
        .mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644,
    };
}

/* One folder with one file in it. */
static void *serve(void *unused)
{
    static _Alignas(8) uint8_t in[MESSAGE_BYTES];
    for (;;) {
        ssize_t n = read(fuse.device, in, sizeof(in));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < (ssize_t)sizeof(struct fuse_in_header)) {
            return unused;
        }
        const struct fuse_in_header *hdr = (const void *)in;
        if (__atomic_load_n(&fuse.is_silent, __ATOMIC_ACQUIRE)) {
            (void)__atomic_add_fetch(&fuse.unheard, 1, __ATOMIC_RELEASE);
            continue;
        }
        if (hdr->opcode == FUSE_INIT) {
            struct fuse_init_out init = {
                .major = FUSE_KERNEL_VERSION, .minor = 23, .max_write = 4096};
            answer(hdr->unique, 0, &init, FUSE_COMPAT_22_INIT_OUT_SIZE);
        } else if (hdr->opcode == FUSE_LOOKUP) {
            struct fuse_entry_out entry = {.nodeid = 2, .attr = attr_of(2)};
            answer(hdr->unique, 0, &entry, sizeof(entry));
        } else if (hdr->opcode == FUSE_GETATTR) {
            struct fuse_attr_out attr = {.attr = attr_of(hdr->nodeid)};
            answer(hdr->unique, 0, &attr, sizeof(attr));
        } else if (hdr->opcode == FUSE_OPEN) {
            struct fuse_open_out opened = {.fh = 1};
            answer(hdr->unique, 0, &opened, sizeof(opened));
        } else {
            answer(hdr->unique, ENOSYS, NULL, 0);
        }
    }
}

/* A file of such a file system, or -1. */
static int silent_file(pthread_t *thread)
{
    char folder[] = "/tmp/vgd-kind.XXXXXX";
    fuse.device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fuse.device < 0 || mkdtemp(folder) == NULL) {
        return -1;
    }
    char options[128], path[64];
    (void)snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u",
                   fuse.device, (unsigned)getuid(), (unsigned)getgid());
    int fd = -1;
    if (mount("vgd-test", folder, "fuse", MS_NOSUID | MS_NODEV, options) == 0) {
        cr_assert_eq(pthread_create(thread, NULL, serve, NULL), 0);
        (void)snprintf(path, sizeof(path), "%s/file", folder);
        fd = open(path, O_RDWR | O_CLOEXEC);
        (void)umount2(folder, MNT_DETACH);
    }
    (void)rmdir(folder);
    return fd;
}

Test(fd_kind, nobody_is_asked, .timeout = 20)
{
    pthread_t thread;
    int fd = silent_file(&thread);
    if (fd < 0) {
        cr_skip_test("no file system of one's own here (/dev/fuse, mount): %s", strerror(errno));
    }
    __atomic_store_n(&fuse.is_silent, true, __ATOMIC_RELEASE);
    cr_expect_eq(vgd_fd_kind(fd), VGD_FD_OTHER); /* and it comes back */
    cr_expect_eq(__atomic_load_n(&fuse.unheard, __ATOMIC_ACQUIRE), 0);
    /* So that nobody waits for it any more. */
    int device = vgd_fd_take(&fuse.device);
    (void)close(device);
    (void)close(fd);
}
