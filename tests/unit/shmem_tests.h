/* SPDX-License-Identifier: MIT */
/* What the tests of the host-visible region share, above the fixture. */
#ifndef SHMEM_TESTS_H
#define SHMEM_TESTS_H

#include <criterion/criterion.h>

#include "leaks.h"
#include "shmem_fixture.h"

static unsigned fds_before;

static inline void setup(void)
{
    fds_before = open_fds_count();
    fix_start(16, 0);
}

static inline void teardown(void)
{
    fix_end();
    cr_assert_eq(open_fds_count(), fds_before, "descriptors left open");
}

static inline void expect_answer(uint64_t token, int status)
{
    cr_assert_eq(f.answers[token], status, "request %u answered %d, not %d", (unsigned)token,
                 f.answers[token], status);
}

/* One request of the VMM's channel, and what it is. */
static inline struct vmm_message expect_request(uint32_t request, uint64_t offset, uint64_t len)
{
    struct vmm_message m;
    cr_assert(vmm_take(&m), "nothing is asked");
    cr_assert_eq(m.hdr.request, request, "request %u", m.hdr.request);
    cr_assert_eq(m.hdr.flags, VGD_VU_FLAG_VERSION | VGD_VU_FLAG_NEED_REPLY);
    cr_assert_eq(m.map.shmid, 1);
    cr_assert_eq(m.map.shm_offset_bytes, offset);
    cr_assert_eq(m.map.len_bytes, len);
    cr_assert_eq(m.map.flags, 1);
    cr_assert_eq(m.fd >= 0, request == VGD_VU_BACKEND_SHMEM_MAP);
    return m;
}

static inline void expect_silence(void)
{
    struct vmm_message m;
    cr_assert(!vmm_begin(&m), "request %u", m.hdr.request);
}

/* Mapped and answered. */
static inline void map_well(uint64_t offset, uint64_t len)
{
    uint64_t token = fix_map(offset, len);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, offset, len);
    vmm_answer(&m, 0);
    expect_answer(token, VGD_OK);
}

static inline void setup_quick(void)
{
    fds_before = open_fds_count();
    fix_start(16, QUICK_DEADLINE_MS);
}

#endif
