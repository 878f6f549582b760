/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into vgd by tests (guestless/failures.c): the n-th call by which one program asks its
 * host for memory or a descriptor fails. Only calls that stand in the program itself count, not
 * those of its libraries; only in the process whose name the plan has; only while it is armed.
 */
#include "failing.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

void *__libc_malloc(size_t n_bytes);
void *__libc_calloc(size_t n, size_t n_bytes);
void *__libc_realloc(void *p, size_t n_bytes);

static struct failing_plan *plan;
static uintptr_t text_begin, text_end;

static int find_text(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size;
    (void)user;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) != 0) {
            text_begin = info->dlpi_addr + ph->p_vaddr;
            text_end = text_begin + ph->p_memsz;
        }
    }
    return 1; /* the first one is the program */
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv(FAILING_VARIABLE);
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    void *map =
        (void *)syscall(SYS_mmap, NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (map == MAP_FAILED) {
        return;
    }
    struct failing_plan *p = map;
    if (strcmp(p->program, program_invocation_short_name) == 0) {
        (void)dl_iterate_phdr(find_text, NULL);
        plan = p;
    }
}

/* Does this call, which returns to @caller, have to fail? */
static int fails(const void *caller)
{
    if (plan == NULL || (uintptr_t)caller < text_begin || (uintptr_t)caller >= text_end ||
        !atomic_load(&plan->armed)) {
        return 0;
    }
    uint32_t call = atomic_fetch_add(&plan->calls, 1) + 1;
    if (call != plan->fail_at) {
        return 0;
    }
    atomic_store(&plan->failed_at, (uint64_t)((uintptr_t)caller - text_begin));
    return 1;
}
#define FAILS() fails(__builtin_return_address(0))

void *malloc(size_t n_bytes)
{
    if (FAILS()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_malloc(n_bytes);
}

void *calloc(size_t n, size_t n_bytes)
{
    if (FAILS()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_calloc(n, n_bytes);
}

void *realloc(void *p, size_t n_bytes)
{
    if (FAILS()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(p, n_bytes);
}

void *mmap(void *at, size_t n_bytes, int prot, int flags, int fd, off_t offset)
{
    if (FAILS()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, n_bytes, prot, flags, fd, offset);
}

int memfd_create(const char *name, unsigned flags)
{
    if (FAILS()) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_memfd_create, name, flags);
}

int eventfd(unsigned count, int flags)
{
    if (FAILS()) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_eventfd2, count, flags);
}

int dup(int fd)
{
    if (FAILS()) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_dup, fd);
}

int fcntl(int fd, int cmd, ...)
{
    va_list args;
    va_start(args, cmd);
    long arg = va_arg(args, long);
    va_end(args);
    if ((cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) && FAILS()) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, cmd, arg);
}

int epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD && FAILS()) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, epoll_fd, op, fd, event);
}

int timerfd_create(clockid_t clock, int flags)
{
    if (FAILS()) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_timerfd_create, clock, flags);
}

int socketpair(int domain, int type, int protocol, int out[2])
{
    if (FAILS()) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_socketpair, domain, type, protocol, out);
}
