/* SPDX-License-Identifier: MIT */
/* Rule: nothing that a front-end says about memory is believed before the file says the same, and
 * no translation leaves the mappings. U.. and Q.. are the cases of the security catalogue. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "vhost_fixture.h"

#define FILE_BYTES 0x10000u

static int plain_memfd(uint64_t n_bytes)
{
    int fd = memfd_create("ram", MFD_CLOEXEC);
    cr_assert(fd >= 0);
    cr_assert_eq(ftruncate(fd, (off_t)n_bytes), 0);
    return fd;
}

VHOST_TEST(vhost_memory, u08_u09_region_arithmetic)
{
    static const struct {
        const char *name;
        struct vgd_vu_mem_region region;
        enum vgd_status want;
    } cases[] = {
        {"whole file", {0, FILE_BYTES, 0x1000, 0}, VGD_OK},
        {"last byte", {0, 1, 0, FILE_BYTES - 1}, VGD_OK},
        {"offset off the page", {0, 0x100, 0, 0x123}, VGD_OK},
        {"ends at the last address", {UINT64_MAX - 0xfff, 0xfff, 0, 0}, VGD_OK},
        {"size 0", {0, 0, 0, 0}, VGD_RANGE},
        {"size 0 at the end", {0, 0, 0, FILE_BYTES}, VGD_RANGE},
        {"one byte too long", {0, FILE_BYTES + 1, 0, 0}, VGD_RANGE},
        {"offset makes it too long", {0, FILE_BYTES, 0, 1}, VGD_RANGE},
        {"offset past the file", {0, 1, 0, FILE_BYTES}, VGD_RANGE},
        {"size 2^64 - 1", {0, UINT64_MAX, 0, 0}, VGD_RANGE},
        {"gpa + size is 2^64", {UINT64_MAX - 0xfff, 0x1000, 0, 0}, VGD_RANGE},
        {"gpa + size wraps", {UINT64_MAX, 0x1000, 0, 0}, VGD_RANGE},
        {"user + size wraps", {0, 0x1000, UINT64_MAX - 1, 0}, VGD_RANGE},
        {"offset + size wraps", {0, 0x1000, 0, UINT64_MAX - 0xfff}, VGD_RANGE},
        {"offset beyond off_t", {0, 0x1000, 0, 1ull << 63}, VGD_RANGE},
    };
    int fd = plain_memfd(FILE_BYTES);
    struct vgd_mem *mem = vgd_mem_create();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *why = NULL;
        cr_assert_eq(vgd_mem_region_check(&cases[i].region, fd, &why), cases[i].want, "%s",
                     cases[i].name);
        cr_assert_eq(why != NULL, cases[i].want != VGD_OK, "%s", cases[i].name);
        cr_assert_eq(vgd_mem_add(mem, &cases[i].region, fd), cases[i].want, "%s", cases[i].name);
        if (cases[i].want == VGD_OK) {
            cr_assert_eq(vgd_mem_remove(mem, &cases[i].region), VGD_OK, "%s", cases[i].name);
        }
        cr_assert_eq(vgd_mem_region_count(mem), 0, "%s", cases[i].name);
    }
    vgd_mem_destroy(mem);
    (void)close(fd);
}

VHOST_TEST(vhost_memory, u05_fd_of_the_wrong_kind)
{
    int sockets[2], pipes[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
    int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int device = open("/dev/zero", O_RDWR | O_CLOEXEC);
    int event = eventfd(0, EFD_CLOEXEC);
    int empty = plain_memfd(0);
    int fds[] = {sockets[0], pipes[0], directory, device, event, empty, -1, 1000000};
    struct vgd_vu_mem_region region = {0, 0x1000, 0, 0};
    struct vgd_mem *mem = vgd_mem_create();
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        const char *why;
        cr_assert_eq(vgd_mem_region_check(&region, fds[i], &why), VGD_RANGE, "%zu", i);
        cr_assert_eq(vgd_mem_add(mem, &region, fds[i]), VGD_RANGE, "%zu", i);
    }
    vgd_mem_destroy(mem);
    vgd_fds_close(fds, 6);
    (void)close(sockets[1]);
    (void)close(pipes[1]);
}

VHOST_TEST(vhost_memory, read_only_file_is_refused_by_the_host)
{
    int fd = plain_memfd(FILE_BYTES);
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int read_only = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(read_only >= 0);
    struct vgd_vu_mem_region region = {0, 0x1000, 0, 0};
    struct vgd_mem *mem = vgd_mem_create();
    cr_assert_eq(vgd_mem_add(mem, &region, read_only), VGD_HOST_FAILED);
    cr_assert_eq(vgd_mem_region_count(mem), 0);
    vgd_mem_destroy(mem);
    (void)close(read_only);
    (void)close(fd);
}

VHOST_TEST(vhost_memory, u09_file_that_shrank_is_refused)
{
    int fd = plain_memfd(FILE_BYTES);
    struct vgd_vu_mem_region region = {0, FILE_BYTES, 0, 0};
    struct vgd_mem *mem = vgd_mem_create();
    bool changed;
    cr_assert_eq(vgd_mem_set_table(mem, &region, &fd, 1, &changed), VGD_OK);
    cr_assert_eq(ftruncate(fd, 0x1000), 0);
    const char *why;
    cr_assert_eq(vgd_mem_region_check(&region, fd, &why), VGD_RANGE);
    /* The mapping that exists is not kept either. */
    cr_assert_eq(vgd_mem_set_table(mem, &region, &fd, 1, &changed), VGD_RANGE);
    cr_assert_eq(vgd_mem_region_count(mem), 0);
    cr_assert(changed);
    vgd_mem_destroy(mem);
    (void)close(fd);
}

VHOST_TEST(vhost_memory, u08_overlap)
{
    static const struct {
        const char *name;
        uint64_t gpa, user;
        enum vgd_status want;
    } cases[] = {
        {"same", 0x10000, 0x50000, VGD_RANGE},
        {"gpa: last byte shared", 0x10fff, 0x90000, VGD_RANGE},
        {"gpa: first byte shared", 0xf001, 0x90000, VGD_RANGE},
        {"user: last byte shared", 0x90000, 0x50fff, VGD_RANGE},
        {"user: first byte shared", 0x90000, 0x4f001, VGD_RANGE},
        {"touches above", 0x11000, 0x51000, VGD_OK},
        {"touches below", 0xf000, 0x4f000, VGD_OK},
    };
    int fd = plain_memfd(FILE_BYTES);
    struct vgd_mem *mem = vgd_mem_create();
    struct vgd_vu_mem_region first = {0x10000, 0x1000, 0x50000, 0};
    cr_assert_eq(vgd_mem_add(mem, &first, fd), VGD_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vgd_vu_mem_region next = {cases[i].gpa, 0x1000, cases[i].user, 0};
        cr_assert_eq(vgd_mem_add(mem, &next, fd), cases[i].want, "%s", cases[i].name);
    }
    cr_assert_eq(vgd_mem_region_count(mem), 3);
    vgd_mem_destroy(mem);
    (void)close(fd);
}

VHOST_TEST(vhost_memory, region_limit)
{
    int fd = plain_memfd(FILE_BYTES);
    struct vgd_mem *mem = vgd_mem_create();
    for (uint64_t i = 0; i < VGD_MEM_REGIONS_MAX; i++) {
        struct vgd_vu_mem_region region = {i * 0x1000, 0x1000, i * 0x1000, 0};
        cr_assert_eq(vgd_mem_add(mem, &region, fd), VGD_OK);
    }
    struct vgd_vu_mem_region last = {0x1000000, 0x1000, 0x1000000, 0};
    cr_assert_eq(vgd_mem_add(mem, &last, fd), VGD_LIMIT);
    /* Contiguous in guest-physical addresses: one span crosses all of them, if there is room. */
    struct iovec iov[VGD_MEM_REGIONS_MAX];
    uint32_t n = 0;
    cr_assert_eq(vgd_mem_translate(mem, 0, VGD_MEM_REGIONS_MAX * 0x1000ull, iov, &n,
                                   VGD_MEM_REGIONS_MAX - 1),
                 VGD_RANGE);
    cr_assert_eq(n, 0);
    cr_assert_eq(
        vgd_mem_translate(mem, 0, VGD_MEM_REGIONS_MAX * 0x1000ull, iov, &n, VGD_MEM_REGIONS_MAX),
        VGD_OK);
    cr_assert_eq(n, VGD_MEM_REGIONS_MAX);
    vgd_mem_destroy(mem);
    (void)close(fd);
}

VHOST_TEST(vhost_memory, offset_off_the_page_maps_the_right_bytes)
{
    int fd = plain_memfd(FILE_BYTES);
    uint8_t *file = guest_map(fd, FILE_BYTES);
    for (uint32_t i = 0; i < FILE_BYTES; i++) {
        file[i] = (uint8_t)(i ^ i >> 8);
    }
    static const uint64_t offsets[] = {0, 1, 0x800, 0xfff, 0x1000, 0x1234, 0xefff};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        struct vgd_vu_mem_region region = {0x5000, 0x1001, 0x9000, offsets[i]};
        struct vgd_mem *mem = vgd_mem_create();
        cr_assert_eq(vgd_mem_add(mem, &region, fd), VGD_OK);
        struct iovec iov[1];
        uint32_t n = 0;
        cr_assert_eq(vgd_mem_translate(mem, 0x5000, 0x1001, iov, &n, 1), VGD_OK);
        cr_assert_eq(n, 1);
        cr_assert_arr_eq(iov[0].iov_base, file + offsets[i], 0x1001);
        cr_assert_eq(vgd_mem_user_to_host(mem, 0x9000, 0x1001), iov[0].iov_base);
        vgd_mem_destroy(mem);
    }
    (void)munmap(file, FILE_BYTES);
    (void)close(fd);
}

VHOST_TEST(vhost_memory, q06_q07_translate)
{
    static const struct {
        const char *name;
        uint64_t gpa, len;
        enum vgd_status want;
        uint32_t n_iov;
    } cases[] = {
        {"whole low region", LOW_GPA, LOW_BYTES, VGD_OK, 1},
        {"last byte", HOLE_GPA - 1, 1, VGD_OK, 1},
        {"both regions", LOW_GPA, LOW_BYTES + HIGH_BYTES, VGD_OK, 2},
        {"two bytes over the border", HIGH_GPA - 1, 2, VGD_OK, 2},
        {"empty inside", LOW_GPA, 0, VGD_OK, 0},
        {"empty in the hole", HOLE_GPA, 0, VGD_OK, 0},
        {"before the first", LOW_GPA - 1, 1, VGD_RANGE, 0},
        {"begins before the first", LOW_GPA - 1, 2, VGD_RANGE, 0},
        {"hole", HOLE_GPA, 1, VGD_RANGE, 0},
        {"one byte into the hole", HOLE_GPA - 1, 2, VGD_RANGE, 0},
        {"both regions and one byte", LOW_GPA, LOW_BYTES + HIGH_BYTES + 1, VGD_RANGE, 0},
        {"0xffffffff", LOW_GPA, 0xffffffff, VGD_RANGE, 0},
        {"2^64 - 1", LOW_GPA, UINT64_MAX, VGD_RANGE, 0},
        {"wraps to the region's start", LOW_GPA, UINT64_MAX - LOW_GPA + 2, VGD_RANGE, 0},
        {"address 2^64 - 1", UINT64_MAX, 1, VGD_RANGE, 0},
        {"address 2^64 - 1, wraps", UINT64_MAX, 2, VGD_RANGE, 0},
    };
    struct guest g;
    guest_begin(&g, 16);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct iovec iov[4] = {{0}};
        uint32_t n = 1; /* appends behind what is there */
        cr_assert_eq(vgd_mem_translate(g.mem, cases[i].gpa, cases[i].len, iov, &n, 4),
                     cases[i].want, "%s", cases[i].name);
        cr_assert_eq(n, 1 + cases[i].n_iov, "%s", cases[i].name);
        cr_assert_null(iov[0].iov_base, "%s", cases[i].name);
        size_t total = 0;
        for (uint32_t j = 1; j < n; j++) {
            total += iov[j].iov_len;
        }
        cr_assert_eq(total, cases[i].n_iov > 0 ? cases[i].len : 0, "%s", cases[i].name);
    }
    struct iovec one[1];
    uint32_t n = 0;
    cr_assert_eq(vgd_mem_translate(g.mem, HIGH_GPA - 1, 2, one, &n, 1), VGD_RANGE, "no room");
    cr_assert_eq(n, 0);
    guest_end(&g);
}

VHOST_TEST(vhost_memory, user_addresses)
{
    struct guest g;
    guest_begin(&g, 16);
    g.low[0x123] = 0xa5;
    const uint8_t *host = vgd_mem_user_to_host(g.mem, LOW_USER + 0x123, 1);
    cr_assert_not_null(host);
    cr_assert_eq(*host, 0xa5);
    cr_assert_not_null(vgd_mem_user_to_host(g.mem, LOW_USER, LOW_BYTES));
    cr_assert_null(vgd_mem_user_to_host(g.mem, LOW_USER, LOW_BYTES + 1));
    cr_assert_null(vgd_mem_user_to_host(g.mem, LOW_USER - 1, 1));
    cr_assert_null(vgd_mem_user_to_host(g.mem, LOW_USER + LOW_BYTES, 1));
    cr_assert_null(vgd_mem_user_to_host(g.mem, LOW_USER + 1, UINT64_MAX));
    cr_assert_null(vgd_mem_user_to_host(g.mem, LOW_GPA, 1), "a gpa is no user address");
    cr_assert_null(vgd_mem_user_to_host(g.mem, UINT64_MAX, 1));
    guest_end(&g);
}

VHOST_TEST(vhost_memory, u13_add_twice_and_remove_unknown)
{
    int fd = plain_memfd(FILE_BYTES);
    struct vgd_mem *mem = vgd_mem_create();
    struct vgd_vu_mem_region region = {0x1000, 0x1000, 0x2000, 0};
    cr_assert_eq(vgd_mem_remove(mem, &region), VGD_RANGE);
    cr_assert_eq(vgd_mem_add(mem, &region, fd), VGD_OK);
    cr_assert_eq(vgd_mem_add(mem, &region, fd), VGD_RANGE);
    struct vgd_vu_mem_region other = region;
    other.size_bytes--;
    cr_assert_eq(vgd_mem_remove(mem, &other), VGD_RANGE);
    other = region;
    other.user_addr++;
    cr_assert_eq(vgd_mem_remove(mem, &other), VGD_RANGE);
    other = region;
    other.mmap_offset_bytes = 77; /* says nothing in a removal */
    cr_assert_eq(vgd_mem_remove(mem, &other), VGD_OK);
    struct iovec iov[1];
    uint32_t n = 0;
    cr_assert_eq(vgd_mem_translate(mem, 0x1000, 1, iov, &n, 1), VGD_RANGE);
    cr_assert_eq(vgd_mem_remove(mem, &region), VGD_RANGE);
    vgd_mem_destroy(mem);
    vgd_mem_destroy(NULL);
    (void)close(fd);
}

/* Adding and removing in any order keeps the table searchable. */
VHOST_TEST(vhost_memory, every_order_translates)
{
    static const uint8_t orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}, {1, 3, 0, 2}};
    int fd = plain_memfd(FILE_BYTES);
    for (size_t o = 0; o < 4; o++) {
        struct vgd_mem *mem = vgd_mem_create();
        struct vgd_vu_mem_region regions[4];
        for (size_t i = 0; i < 4; i++) {
            uint64_t at = orders[o][i];
            regions[i] = (struct vgd_vu_mem_region){at * 0x4000, 0x1000, at * 0x2000, at * 0x1000};
            cr_assert_eq(vgd_mem_add(mem, &regions[i], fd), VGD_OK);
        }
        for (size_t gone = 0; gone <= 4; gone++) {
            for (size_t i = 0; i < 4; i++) {
                struct iovec iov[1];
                uint32_t n = 0;
                enum vgd_status want = i < gone ? VGD_RANGE : VGD_OK;
                cr_assert_eq(vgd_mem_translate(mem, regions[i].gpa + 0xfff, 1, iov, &n, 1), want);
                cr_assert_eq(vgd_mem_translate(mem, regions[i].gpa + 0x1000, 1, iov, &n, 1),
                             VGD_RANGE);
            }
            if (gone < 4) {
                cr_assert_eq(vgd_mem_remove(mem, &regions[gone]), VGD_OK);
            }
        }
        vgd_mem_destroy(mem);
    }
    (void)close(fd);
}

VHOST_TEST(vhost_memory, u07_set_table)
{
    int a = plain_memfd(FILE_BYTES), b = plain_memfd(FILE_BYTES);
    int a_again = fcntl(a, F_DUPFD_CLOEXEC, 0);
    struct vgd_vu_mem_region regions[2] = {
        {0x1000, 0x1000, 0x1000, 0},
        {0x8000, 0x2000, 0x8000, 0x1000},
    };
    int fds[2] = {a, b};
    bool changed;
    struct vgd_mem *mem = vgd_mem_create();
    cr_assert_eq(vgd_mem_set_table(mem, regions, fds, 2, &changed), VGD_OK);
    cr_assert(changed);
    void *first = vgd_mem_user_to_host(mem, 0x1000, 1);
    void *second = vgd_mem_user_to_host(mem, 0x8000, 1);

    fds[0] = a_again; /* another fd of the same file, as each SET_MEM_TABLE brings */
    cr_assert_eq(vgd_mem_set_table(mem, regions, fds, 2, &changed), VGD_OK);
    cr_assert(!changed);
    cr_assert_eq(vgd_mem_user_to_host(mem, 0x1000, 1), first);

    fds[0] = b; /* another file at the same addresses */
    cr_assert_eq(vgd_mem_set_table(mem, regions, fds, 2, &changed), VGD_OK);
    cr_assert(changed);
    cr_assert_eq(vgd_mem_user_to_host(mem, 0x8000, 1), second, "the other one stays");

    cr_assert_eq(vgd_mem_set_table(mem, &regions[1], &fds[1], 1, &changed), VGD_OK);
    cr_assert(changed, "one was dropped");
    cr_assert_eq(vgd_mem_user_to_host(mem, 0x8000, 1), second);
    cr_assert_eq(vgd_mem_region_count(mem), 1);

    cr_assert_eq(vgd_mem_set_table(mem, NULL, NULL, 0, &changed), VGD_OK);
    cr_assert(changed);
    cr_assert_eq(vgd_mem_set_table(mem, NULL, NULL, 0, &changed), VGD_OK);
    cr_assert(!changed);

    /* A table that is bad anywhere leaves nothing. */
    cr_assert_eq(vgd_mem_set_table(mem, regions, fds, 2, &changed), VGD_OK);
    struct vgd_vu_mem_region twice[2] = {regions[0], regions[0]};
    cr_assert_eq(vgd_mem_set_table(mem, twice, fds, 2, &changed), VGD_RANGE);
    cr_assert(changed);
    cr_assert_eq(vgd_mem_region_count(mem), 0);

    static struct vgd_vu_mem_region many[VGD_MEM_REGIONS_MAX + 1];
    static int many_fds[VGD_MEM_REGIONS_MAX + 1];
    for (uint64_t i = 0; i <= VGD_MEM_REGIONS_MAX; i++) {
        many[i] = (struct vgd_vu_mem_region){i * 0x1000, 0x1000, i * 0x1000, 0};
        many_fds[i] = a;
    }
    cr_assert_eq(vgd_mem_set_table(mem, many, many_fds, VGD_MEM_REGIONS_MAX, &changed), VGD_OK);
    cr_assert_eq(vgd_mem_set_table(mem, many, many_fds, VGD_MEM_REGIONS_MAX + 1, &changed),
                 VGD_LIMIT);
    cr_assert_eq(vgd_mem_set_table(mem, many, many_fds, UINT32_MAX, &changed), VGD_LIMIT);
    cr_assert_eq(vgd_mem_region_count(mem), 0);
    vgd_mem_destroy(mem);
    (void)close(a);
    (void)close(b);
    (void)close(a_again);
}
