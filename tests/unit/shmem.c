/* SPDX-License-Identifier: MIT */
/*
 * The host-visible region: what a worker may ask for, what a VMM may answer, and when. Each test
 * ends with as many descriptors as it began with. Stops, resets and deaths: shmem_stops.c.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"
#include "shmem_tests.h"

TestSuite(shmem, .init = setup, .fini = teardown, .timeout = 30);
TestSuite(shmem_late, .init = setup_quick, .fini = teardown, .timeout = 30);

Test(shmem, maps_and_unmaps)
{
    int fd = fix_file(4 * PAGE);
    uint64_t map = fix_map_file(8 * PAGE, 2 * PAGE, PAGE, fd);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 8 * PAGE, 2 * PAGE);
    cr_assert_eq(m.map.fd_offset_bytes, PAGE);
    expect_answer(map, -1);
    vmm_answer(&m, 0);
    expect_answer(map, VGD_OK);
    cr_assert_eq(fix_status().live_count, 1);
    cr_assert_eq(fix_status().live_bytes, 2 * PAGE);

    uint64_t unmap = fix_unmap(8 * PAGE, 2 * PAGE);
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 8 * PAGE, 2 * PAGE);
    expect_answer(unmap, -1);
    vmm_answer(&m, 0);
    expect_answer(unmap, VGD_OK);
    cr_assert_eq(fix_status().live_count, 0);
    cr_assert_eq(fix_status().live_bytes, 0);
}

/* QEMU answers a map before it carries it out; what follows is answered after that. */
Test(shmem, told_when_it_is_carried_out)
{
    for (uint64_t refused = 0; refused < 2; refused++) {
        uint64_t map = fix_map(refused * PAGE, PAGE);
        struct vmm_message m;
        cr_assert(vmm_take(&m));
        cr_assert(m.barrier);
        vmm_say(VGD_VU_BACKEND_SHMEM_MAP, 5, &refused, sizeof(refused));
        expect_answer(map, -1);
        static const uint64_t unknown = 1;
        vmm_say(VGD_VU_BACKEND_VRING_HOST_NOTIFIER_MSG, 5, &unknown, sizeof(unknown));
        expect_answer(map, refused != 0 ? VGD_HOST_FAILED : VGD_OK);
        (void)close(m.fd);
    }
    cr_assert_eq(fix_status().live_count, 1);
}

/* Answered and not carried out when the VM is paused: the guest is told, since the VMM does it
 * before it goes on, and what the guest does then counts. */
Test(shmem, a_stop_between_the_answer_and_its_end)
{
    uint64_t map = fix_map(0, PAGE);
    struct vmm_message m;
    cr_assert(vmm_take(&m));
    static const uint64_t zero;
    vmm_say(VGD_VU_BACKEND_SHMEM_MAP, 5, &zero, sizeof(zero));
    vgd_shmem_hold(f.sh);
    expect_answer(map, VGD_OK);
    uint64_t unmap = fix_unmap(0, PAGE), other = fix_map(0, 2 * PAGE);
    expect_answer(unmap, VGD_OK);
    expect_answer(other, VGD_AGAIN);
    vmm_answer_barrier();
    (void)close(m.fd);
    vgd_shmem_release(f.sh);
    other = fix_map(0, 2 * PAGE);
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 0);
    m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, 2 * PAGE);
    vmm_answer(&m, 0);
    expect_answer(other, VGD_OK);
    cr_assert_eq(fix_status().live_count, 1);
}

Test(shmem, a_worker_dies_between_the_answer_and_its_end)
{
    (void)fix_map(0, PAGE);
    struct vmm_message m;
    cr_assert(vmm_take(&m));
    static const uint64_t zero;
    vmm_say(VGD_VU_BACKEND_SHMEM_MAP, 5, &zero, sizeof(zero));
    vgd_shmem_worker_gone(f.sh);
    vmm_answer_barrier();
    (void)close(m.fd);
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 0);
    cr_assert_eq(fix_status().live_count, 0);
}

Test(shmem, one_request_at_a_time_in_order)
{
    uint64_t a = fix_map(0, PAGE), b = fix_map(PAGE, PAGE), c = fix_unmap(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    expect_silence();
    vmm_answer(&m, 0);
    expect_answer(a, VGD_OK);
    m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, PAGE, PAGE);
    expect_silence();
    vmm_answer(&m, 0);
    expect_answer(b, VGD_OK);
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 0);
    expect_answer(c, VGD_OK);
}

Test(shmem, unmap_then_map_at_the_same_place)
{
    map_well(0, 4 * PAGE);
    uint64_t a = fix_unmap(0, 4 * PAGE), b = fix_map(PAGE, PAGE);
    cr_assert_eq(vmm_serve(), 2);
    expect_answer(a, VGD_OK);
    expect_answer(b, VGD_OK);
    cr_assert_eq(fix_status().live_count, 1);
}

Test(shmem, ranges_that_cannot_be)
{
    map_well(16 * PAGE, 4 * PAGE);
    static const struct {
        const char *name;
        uint64_t offset, len, file_offset;
    } bad[] = {
        {"empty", 0, 0, 0},
        {"offset not of pages", 100, PAGE, 0},
        {"length not of pages", 0, PAGE + 1, 0},
        {"file offset not of pages", 0, PAGE, 17},
        {"one past the end", WINDOW, PAGE, 0},
        {"over the end", WINDOW - PAGE, 2 * PAGE, 0},
        {"longer than the region", 0, WINDOW + PAGE, 0},
        {"sum wraps", UINT64_MAX - PAGE + 1, PAGE, 0},
        {"length wraps", PAGE, UINT64_MAX - PAGE + 1, 0},
        {"file offset wraps", 0, PAGE, UINT64_MAX - PAGE + 1},
        {"behind the file", 0, PAGE, 8 * PAGE},
        {"over the file's end", 0, 2 * PAGE, 7 * PAGE},
        {"twice", 16 * PAGE, 4 * PAGE, 0},
        {"overlaps the start", 15 * PAGE, 2 * PAGE, 0},
        {"overlaps the end", 19 * PAGE, 2 * PAGE, 0},
        {"inside", 17 * PAGE, PAGE, 0},
        {"around", 8 * PAGE, 8 * PAGE + 4 * PAGE + PAGE, 0},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        bool around = strcmp(bad[i].name, "around") == 0;
        int fd = fix_file(around ? 64 * PAGE : 8 * PAGE);
        uint64_t token = fix_map_file(bad[i].offset, bad[i].len, bad[i].file_offset, fd);
        cr_assert_eq(f.answers[token], VGD_RANGE, "%s: %d", bad[i].name, f.answers[token]);
        expect_silence();
    }
    uint64_t at_the_end = fix_map(WINDOW - PAGE, PAGE), beside = fix_map(20 * PAGE, PAGE);
    cr_assert_eq(vmm_serve(), 2);
    expect_answer(at_the_end, VGD_OK);
    expect_answer(beside, VGD_OK);
}

/* Open for reading and writing, long enough, without a name; in the folder that the test runs in.
 */
static int disk_file(void)
{
    char path[] = "./shmem-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    cr_assert(fd >= 0 && unlink(path) == 0 && ftruncate(fd, 8 * PAGE) == 0);
    return fd;
}

Test(shmem, files_that_cannot_be)
{
    int memfd = memfd_create("open", MFD_CLOEXEC);
    cr_assert(ftruncate(memfd, 8 * PAGE) == 0);
    int written_once = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert(ftruncate(written_once, 8 * PAGE) == 0);
    cr_assert(fcntl(written_once, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK) == 0);
    int ends[2], pair[2];
    cr_assert(pipe2(ends, O_CLOEXEC) == 0);
    cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    int whole = fix_file(8 * PAGE);
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", whole);
    const struct {
        const char *name;
        int fd;
    } bad[] = {
        {"a memory file that can shrink and takes no seals", memfd},
        {"a memory file that nobody may write", written_once},
        {"a pipe", ends[0]},
        {"a socket", pair[0]},
        {"a folder", open("/tmp", O_RDONLY | O_CLOEXEC)},
        {"a device", open("/dev/zero", O_RDWR | O_CLOEXEC)},
        {"read-only", open(path, O_RDONLY | O_CLOEXEC)},
        {"a path", open(path, O_PATH | O_CLOEXEC)},
        {"a file on a disk, which can be made shorter", disk_file()},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert(bad[i].fd >= 0, "%s", bad[i].name);
        uint64_t token = fix_map_file(0, PAGE, 0, bad[i].fd);
        cr_assert_eq(f.answers[token], VGD_RANGE, "%s: %d", bad[i].name, f.answers[token]);
        expect_silence();
    }
    (void)close(ends[1]);
    (void)close(pair[1]);
    (void)close(whole);
}

Test(shmem, a_file_that_could_shrink_is_sealed)
{
    int fd = memfd_create("sealable", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert(ftruncate(fd, PAGE) == 0);
    int ours = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    uint64_t token = fix_map_file(0, PAGE, 0, fd);
    cr_assert_eq(vmm_serve(), 1);
    expect_answer(token, VGD_OK);
    cr_assert_neq(ftruncate(ours, 0), 0, "the VMM could be made to touch what is no more");
    (void)close(ours);
}

Test(shmem, unmaps_that_cannot_be)
{
    map_well(16 * PAGE, 4 * PAGE);
    uint64_t part = fix_unmap(16 * PAGE, PAGE);
    uint64_t more = fix_unmap(16 * PAGE, 5 * PAGE);
    uint64_t outside = fix_unmap(WINDOW, PAGE);
    uint64_t nothing = fix_unmap(0, PAGE);
    expect_silence();
    expect_answer(part, VGD_RANGE);
    expect_answer(more, VGD_RANGE);
    expect_answer(outside, VGD_RANGE);
    expect_answer(nothing, VGD_OK);
    uint64_t once = fix_unmap(16 * PAGE, 4 * PAGE), twice = fix_unmap(16 * PAGE, 4 * PAGE);
    cr_assert_eq(vmm_serve(), 1);
    expect_answer(once, VGD_OK);
    expect_answer(twice, VGD_OK);
}

Test(shmem, limit_of_maps)
{
    for (uint64_t i = 0; i < 16; i++) {
        map_well(i * PAGE, PAGE);
    }
    uint64_t token = fix_map(64 * PAGE, PAGE);
    expect_silence();
    expect_answer(token, VGD_LIMIT);
    uint64_t unmap = fix_unmap(3 * PAGE, PAGE), again = fix_map(64 * PAGE, PAGE);
    cr_assert_eq(vmm_serve(), 2);
    expect_answer(unmap, VGD_OK);
    expect_answer(again, VGD_OK);
}

/* Each holds a descriptor of ours, and the front-end's messages need some, too. */
Test(shmem, limit_of_waiting_maps)
{
    unsigned before = open_fds_count();
    (void)fix_map(0, PAGE); /* the VMM does not look */
    for (uint64_t i = 1; i <= 16; i++) {
        uint64_t token = fix_map(i * PAGE, PAGE);
        expect_answer(token, -1);
    }
    uint64_t unmap = fix_unmap(0, PAGE);
    expect_answer(unmap, -1);
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t token = fix_map((32 + i) * PAGE, PAGE);
        expect_answer(token, VGD_LIMIT);
    }
    cr_assert_leq(open_fds_count(), before + 17);
    (void)vmm_serve();
    uint64_t token = fix_map(200 * PAGE, PAGE);
    (void)vmm_serve();
    expect_answer(token, VGD_OK);
}

Test(shmem, refused_by_the_vmm)
{
    uint64_t map = fix_map(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    vmm_answer(&m, 1);
    expect_answer(map, VGD_HOST_FAILED);
    cr_assert_eq(fix_status().live_count, 0);
    map_well(0, PAGE); /* the range is free again */
    uint64_t unmap = fix_unmap(0, PAGE);
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 1);
    expect_answer(unmap, VGD_HOST_FAILED);
    map_well(0, PAGE);
}

Test(shmem_late, answered_late)
{
    uint64_t map = fix_map(0, PAGE), behind = fix_map(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    fix_wait_ms(2 * QUICK_DEADLINE_MS);
    expect_answer(map, VGD_HOST_FAILED);
    expect_answer(behind, VGD_HOST_FAILED);
    cr_assert_eq(fix_status().quarantined_count, 1);
    uint64_t same_place = fix_map(0, PAGE); /* waits: nothing is asked before that answer */
    expect_silence();
    expect_answer(same_place, -1);
    vmm_answer(&m, 0); /* mapped, and nobody wants it: it goes before anything takes its place */
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 0);
    m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    vmm_answer(&m, 0);
    expect_answer(same_place, VGD_OK);
    cr_assert_eq(fix_status().quarantined_count, 0);
}

Test(shmem_late, refused_late)
{
    uint64_t map = fix_map(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    fix_wait_ms(2 * QUICK_DEADLINE_MS);
    expect_answer(map, VGD_HOST_FAILED);
    vmm_answer(&m, 1);
    expect_silence();
    map_well(0, PAGE);
}

Test(shmem_late, never_answered)
{
    uint64_t first = fix_map(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    fix_wait_ms(2 * QUICK_DEADLINE_MS);
    expect_answer(first, VGD_HOST_FAILED);
    for (int i = 0; i < 3; i++) { /* each in bounded time */
        uint64_t token = fix_map(8 * PAGE, PAGE), unmap = fix_unmap(0, PAGE);
        fix_wait_ms(2 * QUICK_DEADLINE_MS);
        expect_answer(token, VGD_HOST_FAILED);
        expect_answer(unmap, VGD_HOST_FAILED);
        expect_silence();
    }
    (void)close(m.fd);
}

Test(shmem_late, unmap_answered_late)
{
    map_well(0, PAGE);
    uint64_t unmap = fix_unmap(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    fix_wait_ms(2 * QUICK_DEADLINE_MS);
    expect_answer(unmap, VGD_HOST_FAILED);
    vmm_answer(&m, 0);
    expect_silence();
    map_well(0, PAGE);
}

/* It has not even read the first byte: nothing is mapped, and nothing has to be undone. */
Test(shmem_late, not_read_in_time)
{
    uint64_t map = fix_map(0, PAGE);
    fix_turn();
    fix_wait_ms(2 * QUICK_DEADLINE_MS);
    expect_answer(map, VGD_HOST_FAILED);
    cr_assert_eq(fix_status().quarantined_count, 0);
    struct vmm_message m;
    cr_assert(vmm_take(&m));
    cr_assert_eq(m.hdr.request, 0x100 | VGD_VU_BACKEND_SHMEM_MAP, "made into nothing");
    cr_assert_eq(m.hdr.flags, VGD_VU_FLAG_VERSION, "and no answer is wanted");
    (void)close(m.fd);
    map_well(0, PAGE);
}

/* ---- the channel ------------------------------------------------------------------------------
 */

Test(shmem, a_vmm_that_maps_nothing)
{
    vgd_shmem_set_usable(f.sh, false);
    uint64_t map = fix_map(0, PAGE), unmap = fix_unmap(0, PAGE);
    expect_answer(map, VGD_UNSUPPORTED);
    expect_answer(unmap, VGD_UNSUPPORTED);
    expect_silence();
}

/* Nobody can be asked, and yet it is nobody's: the range can be had again. */
Test(shmem, an_unmap_without_a_channel)
{
    map_well(0, PAGE);
    vgd_fd_closep(&f.vmm);
    fix_turn();
    uint64_t unmap = fix_unmap(0, PAGE);
    expect_answer(unmap, VGD_UNSUPPORTED);
    fix_channel();
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 0);
    map_well(0, PAGE);
}

Test(shmem, no_channel)
{
    fix_end();
    fds_before = open_fds_count();
    memset(&f, 0, sizeof(f));
    memset(f.answers, 0xff, sizeof(f.answers));
    f.vmm = -1;
    f.next_token = 1;
    f.loop = vgd_loop_create();
    f.sh = vgd_shmem_create(
        &(struct vgd_shmem_config){.loop = f.loop, .size_bytes = WINDOW, .done = fix_done});
    vgd_shmem_set_usable(f.sh, true);
    vgd_shmem_release(f.sh);
    uint64_t map = fix_map(0, PAGE);
    expect_answer(map, VGD_UNSUPPORTED);
}

Test(shmem, the_channel_ends)
{
    map_well(PAGE, PAGE);
    uint64_t map = fix_map(0, PAGE), queued = fix_map(8 * PAGE, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    (void)close(m.fd);
    vgd_fd_closep(&f.vmm);
    fix_turn();
    expect_answer(map, VGD_HOST_FAILED);
    expect_answer(queued, VGD_UNSUPPORTED);
    uint64_t later = fix_map(16 * PAGE, PAGE);
    expect_answer(later, VGD_UNSUPPORTED);
    /* Another one: what may be mapped is unmapped first. */
    fix_channel();
    uint64_t again = fix_map(0, PAGE);
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 1);
    m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    vmm_answer(&m, 0);
    expect_answer(again, VGD_OK);
    cr_assert_eq(fix_status().live_count, 2);
}

Test(shmem, the_channel_is_replaced)
{
    uint64_t begun = fix_map(0, PAGE);
    fix_turn();
    fix_channel();
    expect_answer(begun, VGD_HOST_FAILED);
    map_well(0, PAGE);
    uint64_t unmap = fix_unmap(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    (void)m;
    fix_channel();
    expect_answer(unmap, VGD_HOST_FAILED);
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 1);
    map_well(0, PAGE);
}

Test(shmem, answers_that_are_none)
{
    static const struct {
        const char *name;
        uint32_t request, flags, n_bytes;
        bool asked;
    } bad[] = {
        {"not asked for", 9, 5, 8, false},
        {"to another request", 10, 5, 8, true},
        {"to what follows it, too early", 3, 5, 8, true},
        {"a request", 9, 1, 8, true},
        {"too short", 9, 5, 4, true},
        {"too long", 9, 5, 16, true},
        {"without payload", 9, 5, 0, true},
        {"another version", 9, 6, 8, true},
        {"an unknown request", 77, 9, 0, true},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fix_channel();
        (void)vmm_serve(); /* what the last one left */
        uint64_t token = bad[i].asked ? fix_map(i * PAGE, PAGE) : 0;
        struct vmm_message m = {.fd = -1};
        if (bad[i].asked) {
            m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, i * PAGE, PAGE);
            (void)close(m.fd);
        }
        static const uint8_t zeros[16];
        vmm_say(bad[i].request, bad[i].flags, zeros, bad[i].n_bytes);
        if (bad[i].asked) {
            cr_assert_eq(f.answers[token], VGD_HOST_FAILED, "%s: %d", bad[i].name,
                         f.answers[token]);
        }
        cr_assert(!fix_status().usable, "%s", bad[i].name);
    }
}

/* A VMM that does not read: the worker gets its answers, we do not spin, and it goes on after. */
Test(shmem_late, the_channel_is_full)
{
    int small = 4608; /* the kernel's least */
    fix_end();
    fix_start(16, QUICK_DEADLINE_MS);
    int pair[2];
    cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    cr_assert(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
    static const uint8_t junk[256];
    while (send(pair[0], junk, sizeof(junk), MSG_DONTWAIT) > 0) {
    }
    vgd_fd_closep(&f.vmm);
    f.vmm = pair[1];
    vgd_shmem_set_channel(f.sh, &pair[0]);
    uint64_t token = fix_map(0, PAGE);
    uint64_t begin_ns = vgd_now_ns();
    fix_wait_ms(2 * QUICK_DEADLINE_MS);
    expect_answer(token, VGD_HOST_FAILED);
    cr_assert(vgd_now_ns() - begin_ns < 5000000000u);
    uint8_t sink[4096];
    while (recv(f.vmm, sink, sizeof(sink), MSG_DONTWAIT) > 0) {
    }
    map_well(0, PAGE);
}

Test(shmem, a_thousand_maps_and_unmaps_leave_nothing)
{
    map_well(0, PAGE);
    unsigned before = open_fds_count();
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t offset = (1 + i % 8) * 64 * PAGE, len = (1 + i % 5) * PAGE;
        uint64_t map = fix_map(offset, len);
        if (i % 7 == 0) {
            fix_turn();
            vgd_shmem_hold(f.sh); /* pauses in between */
            (void)vmm_serve();
            vgd_shmem_release(f.sh);
            expect_answer(map, VGD_AGAIN);
            map = fix_map(offset, len);
        }
        (void)vmm_serve();
        uint64_t unmap = fix_unmap(offset, len);
        (void)vmm_serve();
        expect_answer(map, VGD_OK);
        expect_answer(unmap, VGD_OK);
    }
    cr_assert_eq(open_fds_count(), before);
    cr_assert_eq(fix_status().live_count, 1);
}

Test(shmem, a_thousand_live_maps)
{
    fix_end();
    fix_start(1001, 0);
    uint64_t first = f.next_token;
    int file = fix_file(PAGE);
    for (uint64_t i = 0; i < 900; i++) { /* below a usual limit of open files */
        (void)fix_map_file(i * PAGE, PAGE, 0, fcntl(file, F_DUPFD_CLOEXEC, 0));
        if (i % 50 == 0) {
            (void)vmm_serve();
        }
    }
    (void)vmm_serve();
    for (uint64_t i = 0; i < 900; i++) {
        expect_answer(first + i, VGD_OK);
    }
    cr_assert_eq(fix_status().live_count, 900);
    vgd_shmem_forget(f.sh);
    (void)close(file);
}
