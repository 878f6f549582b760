/* SPDX-License-Identifier: MIT */
/*
 * The host-visible region when the VM is paused, when its start fails, when the guest is reset and
 * when a worker dies. Each test ends with as many descriptors as it began with.
 */
#include <fcntl.h>

#include "shmem_tests.h"

TestSuite(shmem_stops, .init = setup, .fini = teardown, .timeout = 30);
TestSuite(shmem_stops_late, .init = setup_quick, .fini = teardown, .timeout = 30);

/* ---- stops ------------------------------------------------------------------------------------
 */

Test(shmem_stops, nothing_is_asked_while_stopped)
{
    map_well(0, PAGE);
    vgd_shmem_hold(f.sh);
    uint64_t map = fix_map(PAGE, PAGE), unmap = fix_unmap(0, PAGE), bad = fix_map(PAGE, PAGE);
    expect_silence();
    /* The stop does not wait; a pause is no reason to fail; and the guest does not hear of a map
     * that is not there. */
    expect_answer(map, VGD_AGAIN);
    expect_answer(unmap, VGD_OK);
    expect_answer(bad, VGD_AGAIN);
    cr_assert_eq(fix_status().live_count, 0);
    cr_assert_eq(fix_status().quarantined_count, 1);
    vgd_shmem_release(f.sh);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 0);
    expect_silence();
    map_well(PAGE, PAGE);
    vgd_shmem_hold(f.sh);
    bad = fix_map(PAGE, 2 * PAGE);
    expect_answer(bad, VGD_RANGE); /* and never will be */
}

Test(shmem_stops, a_stop_overtakes_a_map)
{
    uint64_t map = fix_map(0, PAGE), queued = fix_map(PAGE, PAGE);
    fix_turn(); /* the first byte is on its way */
    vgd_shmem_hold(f.sh);
    expect_answer(map, VGD_AGAIN);
    expect_answer(queued, VGD_AGAIN);
    struct vmm_message m;
    cr_assert(vmm_begin(&m)); /* read while stopped: a map now is QEMU's end */
    vmm_finish(&m);
    cr_assert_eq(m.hdr.request, 0x100 | VGD_VU_BACKEND_SHMEM_MAP);
    cr_assert_eq(m.hdr.flags, VGD_VU_FLAG_VERSION);
    cr_assert_eq(m.hdr.size_bytes, 0);
    (void)close(m.fd);
    expect_silence();
    vgd_shmem_release(f.sh);
    expect_silence();
    map_well(0, PAGE);
    cr_assert_eq(fix_status().live_count, 1);
    cr_assert_eq(fix_status().withdrawn_total, 1);
}

Test(shmem_stops, a_stop_overtakes_an_unmap)
{
    map_well(0, PAGE);
    uint64_t unmap = fix_unmap(0, PAGE);
    fix_turn();
    vgd_shmem_hold(f.sh);
    expect_answer(unmap, VGD_OK);
    struct vmm_message m;
    cr_assert(vmm_take(&m));
    cr_assert_eq(m.hdr.request, 0x100 | VGD_VU_BACKEND_SHMEM_UNMAP);
    vgd_shmem_release(f.sh);
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 0);
    cr_assert_eq(fix_status().live_count + fix_status().quarantined_count, 0);
}

/* The worker has its answer, and the VMM has not looked at it when a stop comes, or another
 * channel: it is unmapped all the same, or nothing could ever be put there again. */
Test(shmem_stops_late, an_unmap_that_was_late_and_is_withdrawn)
{
    for (int channel = 0; channel < 2; channel++) {
        map_well(0, PAGE);
        uint64_t unmap = fix_unmap(0, PAGE);
        fix_turn();
        fix_wait_ms(2 * QUICK_DEADLINE_MS);
        expect_answer(unmap, VGD_HOST_FAILED);
        struct vmm_message m;
        if (channel != 0) {
            fix_channel();
        } else {
            vgd_shmem_hold(f.sh);
            cr_assert(vmm_take(&m));
            cr_assert_eq(m.hdr.request, 0x100 | VGD_VU_BACKEND_SHMEM_UNMAP);
            cr_assert_eq(fix_status().quarantined_count, 1);
            vgd_shmem_release(f.sh);
        }
        m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
        vmm_answer(&m, 0);
        cr_assert_eq(fix_status().live_count + fix_status().quarantined_count, 0);
    }
}

/* The first range, of @len bytes, is parked in a stop. */
static void park(uint64_t len)
{
    vgd_shmem_hold(f.sh);
    vgd_shmem_park(f.sh, 1);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, len);
    vmm_answer(&m, 0);
    cr_assert_eq(fix_status().parked_count, 1);
}

/* What was parked is not lost with the channel by which it was to come back. */
Test(shmem_stops, the_channel_is_replaced_before_a_parked_map_is_read)
{
    map_well(0, PAGE);
    park(PAGE);
    vgd_shmem_release(f.sh);
    fix_turn();
    fix_channel();
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    vmm_answer(&m, 0);
    cr_assert_eq(fix_status().live_count, 1);
}

/* While the VMM works on an unmap of the same range, which it has read. */
Test(shmem_stops, mapping_behind_an_unmap)
{
    map_well(0, 2 * PAGE);
    (void)fix_unmap(0, 2 * PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, 2 * PAGE);
    vgd_shmem_hold(f.sh);
    for (uint64_t len = PAGE; len <= 2 * PAGE; len += PAGE) {
        uint64_t map = fix_map(0, len), twice = fix_map(0, len), unmap = fix_unmap(0, len);
        expect_answer(map, VGD_AGAIN);
        expect_answer(twice, VGD_AGAIN);
        expect_answer(unmap, VGD_OK);
    }
    vmm_answer(&m, 0);
    vgd_shmem_release(f.sh);
    expect_silence();
    cr_assert_eq(fix_status().live_count + fix_status().quarantined_count, 0);
}

/* A map that the VMM is working on, and its guest wants it no more when a stop comes or its worker
 * dies: it does not stay. */
Test(shmem_stops, unmapping_what_is_being_mapped)
{
    for (int again = 0; again < 2; again++) {
        for (int dies = 0; dies < 2; dies++) {
            uint64_t map = fix_map(0, PAGE);
            if (again != 0) {
                (void)vmm_serve();
                park(PAGE);
                vgd_shmem_release(f.sh);
            }
            struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
            uint64_t unmap = fix_unmap(0, PAGE);
            if (dies != 0) {
                vgd_shmem_worker_gone(f.sh);
                expect_answer(unmap, -1);
            } else {
                vgd_shmem_hold(f.sh);
                expect_answer(map, VGD_OK);
                expect_answer(unmap, VGD_OK);
                uint64_t part = fix_unmap(0, 2 * PAGE);
                expect_answer(part, VGD_RANGE);
            }
            vmm_answer(&m, 0);
            vgd_shmem_release(f.sh);
            m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
            vmm_answer(&m, 0);
            cr_assert_eq(fix_status().live_count + fix_status().quarantined_count, 0);
        }
    }
}

/* What is withdrawn is in nobody's way. */
Test(shmem_stops, a_map_in_place_of_one_that_a_stop_overtook)
{
    (void)fix_map(0, PAGE);
    fix_turn();
    vgd_shmem_hold(f.sh);
    uint64_t unmap = fix_unmap(0, PAGE), other = fix_map(0, 2 * PAGE);
    expect_answer(unmap, VGD_OK);
    expect_answer(other, VGD_AGAIN);
    vgd_shmem_release(f.sh);
    other = fix_map(0, 2 * PAGE);
    cr_assert_eq(vmm_serve(), 2);
    expect_answer(other, VGD_OK);
    cr_assert_eq(fix_status().live_count, 1);
    cr_assert_eq(fix_status().live_bytes, 2 * PAGE);
}

/* The byte was read before the stop: a VMM that reads blocking carries it out before it stops. */
Test(shmem_stops, a_map_that_was_read_before_the_stop)
{
    uint64_t map = fix_map(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    vgd_shmem_hold(f.sh);
    expect_answer(map, -1);
    vmm_answer(&m, 0);
    expect_answer(map, VGD_OK);
    cr_assert_eq(fix_status().live_count, 1);
    vgd_shmem_release(f.sh);
    expect_silence();
}

/* Stopped and running again before the VMM came to the byte: it can be carried out after all, or
 * withdrawn, but only once. */
Test(shmem_stops, stop_and_start_before_the_byte_is_read)
{
    uint64_t map = fix_map(0, PAGE);
    fix_turn();
    vgd_shmem_hold(f.sh);
    vgd_shmem_release(f.sh);
    expect_answer(map, VGD_AGAIN);
    map = fix_map(0, PAGE);
    cr_assert_eq(vmm_serve(), 2);
    expect_answer(map, VGD_OK);
    cr_assert_eq(fix_status().live_count, 1);
}

Test(shmem_stops, answered_late_while_stopped)
{
    fix_end();
    fix_start(16, QUICK_DEADLINE_MS);
    (void)fix_map(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    fix_wait_ms(2 * QUICK_DEADLINE_MS);
    vgd_shmem_hold(f.sh);
    vmm_answer(&m, 0);
    expect_silence();
    cr_assert_eq(fix_status().quarantined_count, 1);
    vgd_shmem_release(f.sh);
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 0);
    cr_assert_eq(fix_status().quarantined_count, 0);
}

/* ---- more maps than QEMU starts with ------------------------------------------------------------
 */

static bool announce(uint64_t len, int fd)
{
    return vgd_shmem_is_ours(f.sh, len, 0, fd);
}

Test(shmem_stops, twenty_maps_over_a_failed_start)
{
    fix_end();
    fix_start(32, 0);
    int file = fix_file(PAGE);
    (void)fix_map_file(0, PAGE, 0, fcntl(file, F_DUPFD_CLOEXEC, 0));
    cr_assert_eq(vmm_serve(), 1);
    for (uint64_t i = 1; i < 20; i++) {
        map_well(i * 64 * PAGE, (i + 1) * PAGE);
    }
    cr_assert_eq(vgd_shmem_excess(f.sh, 1, 8), 0, "of a VMM that keeps them to itself");
    cr_assert(announce(PAGE, file));
    cr_assert(!announce(2 * PAGE, file), "another size is another region");
    int other = fix_file(PAGE);
    cr_assert(!announce(PAGE, other), "another file is guest memory");
    (void)close(other);
    (void)close(file);
    cr_assert_eq(vgd_shmem_excess(f.sh, 1, 8), 13);

    vgd_shmem_hold(f.sh);
    expect_silence();
    vgd_shmem_park(f.sh, 13);
    for (unsigned i = 0; i < 13; i++) { /* the largest, so that small ones such as rings stay */
        struct vmm_message m;
        cr_assert(vmm_take(&m));
        cr_assert_eq(m.hdr.request, VGD_VU_BACKEND_SHMEM_UNMAP);
        cr_assert(m.map.len_bytes >= 8 * PAGE, "%u pages", (unsigned)(m.map.len_bytes / PAGE));
        vmm_answer(&m, 0);
    }
    expect_silence();
    cr_assert_eq(fix_status().parked_count, 13);
    cr_assert_eq(vgd_shmem_excess(f.sh, 1, 8), 0);

    vgd_shmem_release(f.sh); /* the second try: all come back */
    uint64_t fresh = fix_map(63 * 64 * PAGE, PAGE);
    for (unsigned i = 0; i < 13; i++) {
        struct vmm_message m;
        cr_assert(vmm_take(&m));
        cr_assert_eq(m.hdr.request, VGD_VU_BACKEND_SHMEM_MAP);
        cr_assert_eq(m.map.len_bytes, (m.map.shm_offset_bytes / (64 * PAGE) + 1) * PAGE);
        cr_assert_eq(lseek(m.fd, 0, SEEK_END), (off_t)m.map.len_bytes, "the same file");
        expect_answer(fresh, -1);
        vmm_answer(&m, 0);
    }
    cr_assert_eq(vmm_serve(), 1);
    expect_answer(fresh, VGD_OK);
    cr_assert_eq(fix_status().live_count, 21);
    cr_assert_eq(fix_status().parked_count, 0);
}

Test(shmem_stops, parking_is_interrupted)
{
    for (uint64_t i = 0; i < 12; i++) {
        map_well(i * PAGE, PAGE);
    }
    vgd_shmem_hold(f.sh);
    vgd_shmem_park(f.sh, 5);
    struct vmm_message m;
    cr_assert(vmm_take(&m)); /* one is asked for */
    vgd_shmem_release(f.sh); /* and the device started meanwhile */
    vmm_answer(&m, 0);
    (void)vmm_serve();
    cr_assert_eq(fix_status().live_count, 12);
    cr_assert_eq(fix_status().parked_count, 0);
    vgd_shmem_hold(f.sh);
    vgd_shmem_park(f.sh, 5);
    fix_turn(); /* the first byte is on its way */
    vgd_shmem_hold(f.sh);
    cr_assert(vmm_take(&m));
    cr_assert_eq(m.hdr.request, 0x100 | VGD_VU_BACKEND_SHMEM_UNMAP);
    expect_silence();
    vgd_shmem_release(f.sh);
    (void)vmm_serve();
    cr_assert_eq(fix_status().live_count, 12);
    vgd_shmem_hold(f.sh);
    vgd_shmem_park(f.sh, 5);
    fix_turn();
    vgd_shmem_release(f.sh); /* started before it was read: the guest uses what is there */
    cr_assert(vmm_take(&m));
    cr_assert_eq(m.hdr.request, 0x100 | VGD_VU_BACKEND_SHMEM_UNMAP);
    expect_silence();
    cr_assert_eq(fix_status().live_count, 12);
}

/* Told to park by a timer, when the device runs already. */
Test(shmem_stops, nothing_is_parked_while_running)
{
    map_well(0, PAGE);
    vgd_shmem_park(f.sh, 1);
    expect_silence();
    uint64_t unmap = fix_unmap(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 0);
    expect_answer(unmap, VGD_OK);
    expect_silence();
    cr_assert_eq(fix_status().parked_count, 0);
}

Test(shmem_stops, unmapping_what_is_parked)
{
    map_well(0, PAGE);
    park(PAGE);
    uint64_t unmap = fix_unmap(0, PAGE);
    expect_answer(unmap, VGD_OK);
    vgd_shmem_release(f.sh);
    expect_silence();
    cr_assert_eq(fix_status().live_count + fix_status().parked_count, 0);
}

/* ---- resets and workers -----------------------------------------------------------------------
 */

Test(shmem_stops, a_reset_forgets)
{
    map_well(0, PAGE);
    map_well(PAGE, PAGE);
    uint64_t queued = fix_map(2 * PAGE, PAGE), behind = fix_map(3 * PAGE, PAGE);
    vgd_shmem_hold(f.sh);
    (void)queued;
    (void)behind;
    vgd_shmem_forget(f.sh);
    cr_assert_eq(
        fix_status().live_count + fix_status().parked_count + fix_status().quarantined_count, 0);
    vgd_shmem_release(f.sh);
    struct vmm_message m;
    cr_assert(vmm_take(&m)); /* what was begun before */
    cr_assert_eq(m.hdr.request, 0x100 | VGD_VU_BACKEND_SHMEM_MAP);
    (void)close(m.fd);
    expect_silence();
    map_well(0, 2 * PAGE); /* all ranges can be had again */
}

Test(shmem_stops, a_reset_with_a_map_outstanding)
{
    uint64_t map = fix_map(0, PAGE), queued = fix_map(PAGE, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_MAP, 0, PAGE);
    vgd_shmem_forget(f.sh);
    expect_answer(map, VGD_LOST);
    expect_answer(queued, VGD_LOST);
    vmm_answer(&m, 0);
    m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vmm_answer(&m, 1); /* it has dropped it by itself */
    expect_silence();
    map_well(0, PAGE);
}

Test(shmem_stops, a_reset_with_an_unmap_outstanding)
{
    map_well(0, PAGE);
    (void)fix_unmap(0, PAGE);
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 0, PAGE);
    vgd_shmem_forget(f.sh);
    vmm_answer(&m, 0);
    map_well(0, PAGE);
}

Test(shmem_stops, a_worker_dies_with_maps)
{
    map_well(0, PAGE);
    map_well(PAGE, PAGE);
    map_well(8 * PAGE, PAGE);
    vgd_shmem_worker_gone(f.sh);
    expect_silence();
    cr_assert_eq(fix_status().live_count, 3, "they stay: a guest looks at them");
    uint64_t unmap = fix_unmap(8 * PAGE, PAGE); /* the next one knows it from its journal */
    struct vmm_message m = expect_request(VGD_VU_BACKEND_SHMEM_UNMAP, 8 * PAGE, PAGE);
    vmm_answer(&m, 0);
    expect_answer(unmap, VGD_OK);
    uint64_t map = fix_map(0, 2 * PAGE); /* and does not know these */
    cr_assert_eq(vmm_serve(), 3, "two unmaps, one map");
    expect_answer(map, VGD_OK);
    cr_assert_eq(fix_status().live_count, 1);
}

/* At each point of a map's way, and of an unmap's. */
Test(shmem_stops, a_worker_dies_at_each_point)
{
    for (int unmap = 0; unmap < 2; unmap++) {
        for (int point = 0; point < 4; point++) {
            fix_end();
            fix_start(16, 0);
            if (unmap != 0) {
                map_well(0, PAGE);
            }
            uint64_t ahead = point == 0 ? fix_map(8 * PAGE, PAGE) : 0;
            uint64_t token = unmap != 0 ? fix_unmap(0, PAGE) : fix_map(0, PAGE);
            struct vmm_message m = {.fd = -1};
            if (point == 1) {
                fix_turn(); /* the byte is not read */
            } else if (point >= 2) {
                cr_assert(vmm_take(&m));
                if (point == 3) {
                    vmm_answer(&m, 0);
                }
            }
            vgd_shmem_worker_gone(f.sh);
            if (point == 2) {
                vmm_answer(&m, 0);
            }
            (void)vmm_serve();
            if (point < 3) {
                expect_answer(token, -1); /* nobody is told */
            }
            struct vgd_shmem_status st = fix_status();
            cr_assert_eq(st.quarantined_count + st.waiting_count, 0);
            /* A map that no worker knows of is taken back; an unmap is done, also one that was
             * still in the queue. */
            unsigned live = unmap == 0 && point == 3 ? 1 : 0;
            cr_assert_eq(st.live_count, live, "unmap %d, point %d: %u live", unmap, point,
                         st.live_count);
            (void)ahead;
            uint64_t next = fix_map(0, PAGE);
            (void)vmm_serve();
            expect_answer(next, VGD_OK);
        }
    }
}
