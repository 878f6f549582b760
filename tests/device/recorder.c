/* SPDX-License-Identifier: MIT */
/* The worker's recorder: what it writes of commands is what went by, whatever the file does. */
#include "tape.h"
#include "worker_record_priv.h"

DEVICE_TEST(recorded_commands_and_answers_are_those_that_went_by)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    start(t, VGD_LINK_TRACE_NEW);
    samples_prepare(&t->b);
    for (int fenced = 0; fenced < 2; fenced++) {
        for (size_t i = 0; i < samples_count; i++) {
            struct cmd c;
            struct sent s;
            sample_build(&samples[i], &t->b, &c, fenced != 0);
            cmd_send(&t->b, &s, &c);
            if (fenced) { /* most fail the second time, some wait for a fence */
                vgd_fake_signal_all(t->b.render);
            }
        }
    }
    cr_assert_gt(t->n_seen, 2 * samples_count);
    stop(t);
    cr_assert_eq(t->told.gaps, 0);
    cr_assert_eq(t->told.lost_records, 0);
    cr_assert_leq(t->told.memory_bytes, VGD_RECORDER_MEMORY_MAX_BYTES);
    expect_all(t);
    cr_assert_gt(count_of(t->fd, VGD_TRACE_KIND_FENCE), 0);
    tape_close(t);
    free(t);
}

DEVICE_TEST(recorded_file_begins_with_what_the_host_is)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    start(t, VGD_LINK_TRACE_NEW);
    stop(t);
    struct play p;
    play_open(&p, t->fd);
    bool has_fact[16] = {0};
    uint32_t capsets = 0, scanouts = 0, devices = 0;
    while (play_next(&p)) {
        const struct vgd_trace_record *record = &p.item.record;
        switch (record->kind) {
        case VGD_TRACE_KIND_FACT:
            cr_assert_lt(record->as.fact.fact, 16);
            has_fact[record->as.fact.fact] = true;
            if (record->as.fact.fact == VGD_TRACE_FACT_GUEST) {
                cr_assert_eq(p.item.data.total_bytes, strlen("a guest"));
                cr_assert_arr_eq(p.data, "a guest", strlen("a guest"));
            }
            break;
        case VGD_TRACE_KIND_DEVICE:
            devices++;
            cr_assert_eq(record->as.device.features, vgd_gpu_features(t->b.gpu));
            cr_assert_eq(record->as.device.window_bytes, WINDOW_BYTES);
            cr_assert_eq(record->as.device.n_scanouts, 4);
            cr_assert_eq(record->as.device.n_capsets, 2);
            break;
        case VGD_TRACE_KIND_CAPSET: {
            uint8_t want[CAPSET_VIRGL2_BYTES] = {0};
            size_t n_bytes = capsets == 0 ? CAPSET_VIRGL_BYTES : CAPSET_VIRGL2_BYTES;
            capsets++;
            cr_assert_eq(record->as.capset.capset_id, capsets);
            cr_assert_eq(record->as.capset.version, capsets);
            cr_assert_eq(
                t->b.render->ops->capset_fill(t->b.render, capsets, capsets, want, n_bytes),
                VGD_OK);
            cr_assert_eq(p.item.data.total_bytes, n_bytes);
            cr_assert_arr_eq(p.data, want, n_bytes);
            break;
        }
        case VGD_TRACE_KIND_SCANOUT:
            cr_assert_eq(record->as.scanout.scanout_id, scanouts);
            cr_assert_eq(record->as.scanout.enabled, scanouts == 0);
            cr_assert_eq(record->as.scanout.w_px, scanouts == 0 ? 1280 : 0);
            scanouts++;
            break;
        default:
            cr_assert_eq(record->kind, VGD_TRACE_KIND_END, "kind %u", record->kind);
            break;
        }
    }
    cr_assert(has_fact[VGD_TRACE_FACT_VGD_VERSION] && has_fact[VGD_TRACE_FACT_RENDERER] &&
              has_fact[VGD_TRACE_FACT_VIRGLRENDERER_VERSION] && has_fact[VGD_TRACE_FACT_KERNEL] &&
              has_fact[VGD_TRACE_FACT_GUEST]);
    cr_assert(devices == 1 && capsets == 2 && scanouts == 4);
    play_close(&p);
    tape_close(t);
    free(t);
}

/* In front of the transfer lie the bytes that it reads, behind one from the host those it wrote. */
DEVICE_TEST(recorded_backing_is_what_transfers_read_and_write)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    start(t, VGD_LINK_TRACE_NEW);
    samples_prepare(&t->b);
    cr_assert_resp(create_2d(&t->b, 50, VGD_FORMAT_B8G8R8X8_UNORM, 512, 540), OK_NODATA);
    /* In two pieces of host memory, and more than one record can hold. */
    const uint32_t n_bytes = 512 * 540 * 4;
    cr_assert_resp(attach(&t->b, 50, MIDDLE_GPA - 65536, n_bytes), OK_NODATA);
    uint8_t *want = malloc(n_bytes);
    noise(want, n_bytes, 1);
    memcpy(ram_at(&t->b, MIDDLE_GPA - 65536), want, 65536);
    memcpy(ram_at(&t->b, MIDDLE_GPA), want + 65536, n_bytes - 65536);
    cr_assert_resp(transfer_2d(&t->b, 50, (struct vgd_rect){0, 0, 512, 540}, 0), OK_NODATA);
    uint32_t transfer = t->n_seen - 1;
    memset(ram_at(&t->b, MIDDLE_GPA), 0xff, 65536); /* the guest goes on */

    struct vgd_cmd_transfer_host_3d back = {
        .resource_id = RES_3D, .box = {.w = SAMPLE_SIDE_PX, .h = 2, .d = 1}, .offset_bytes = 512};
    cr_assert_resp(transfer_3d(&t->b, VGD_CMD_TRANSFER_FROM_HOST_3D, CTX, &back), OK_NODATA);
    stop(t);

    struct play p;
    play_open(&p, t->fd);
    uint64_t got_bytes = 0;
    while (play_next(&p) && p.item.record.kind != VGD_TRACE_KIND_BACKING) {
    }
    uint64_t id = p.item.record.as.backing.command_id;
    do {
        cr_assert_eq(p.item.record.as.backing.resource_id, 50);
        cr_assert_eq(p.item.record.as.backing.reason, VGD_TRACE_BACKING_READ);
        cr_assert_eq(p.item.record.as.backing.offset_bytes, got_bytes);
        cr_assert_arr_eq(p.data, want + got_bytes, (size_t)p.item.data.total_bytes);
        got_bytes += p.item.data.total_bytes;
        cr_assert(play_next(&p));
    } while (p.item.record.kind == VGD_TRACE_KIND_BACKING);
    cr_assert_eq(got_bytes, n_bytes);
    cr_assert_eq(p.item.record.kind, VGD_TRACE_KIND_COMMAND);
    cr_assert_eq(p.item.record.as.command.command_id, id);
    cr_assert_arr_eq(p.data, t->seen[transfer].cmd, t->seen[transfer].cmd_bytes);

    cr_assert(play_until(&p, VGD_TRACE_KIND_COMMAND));
    id = p.item.record.as.command.command_id;
    cr_assert(play_until(&p, VGD_TRACE_KIND_BACKING));
    cr_assert_eq(p.item.record.as.backing.reason, VGD_TRACE_BACKING_WRITTEN);
    cr_assert_eq(p.item.record.as.backing.command_id, id);
    cr_assert_eq(p.item.record.as.backing.offset_bytes, 512);
    cr_assert_eq(p.item.data.total_bytes, 2 * SAMPLE_SIDE_PX * 4);
    cr_assert_not(play_until(&p, VGD_TRACE_KIND_BACKING));
    play_close(&p);
    free(want);
    tape_close(t);
    free(t);
}

/* Streams, too; the renderer may write over the stream while it executes it. */
DEVICE_TEST(recorded_backing_that_a_stream_writes)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    samples_prepare(&t->b);
    start(t, VGD_LINK_TRACE_NEW);
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SUBMIT_3D, CTX);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){.size_bytes = 14 * 4});
    struct vgd_virgl_transfer3d transfer = {.resource = RES_3D,
                                            .box = {.w = SAMPLE_SIDE_PX, .h = 1, .d = 1},
                                            .offset_bytes = 256,
                                            .direction = VGD_VIRGL_TRANSFER_FROM_HOST};
    vgd_virgl_transfer3d_encode(&c.w, &transfer);
    cr_assert_resp(cmd_run(&t->b, &c), OK_NODATA);
    stop(t);
    struct play p;
    play_open(&p, t->fd);
    play_past_state(&p, VGD_TRACE_STATE_START);
    cr_assert(play_until(&p, VGD_TRACE_KIND_BACKING));
    cr_assert(p.item.record.as.backing.reason == VGD_TRACE_BACKING_WRITTEN &&
              p.item.record.as.backing.resource_id == RES_3D &&
              p.item.record.as.backing.offset_bytes == 256 &&
              p.item.data.total_bytes == SAMPLE_SIDE_PX * 4);
    play_close(&p);
    tape_close(t);
    free(t);
}

DEVICE_TEST(recorded_special_ways_of_a_command)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    _Alignas(8) uint8_t bytes[VGD_CTRL_HDR_SIZE] = {0};
    struct vgd_recorder_command c = {.cmd = bytes, .cmd_bytes = sizeof(bytes)};
    start(t, VGD_LINK_TRACE_NEW);
    c.is_lost = true;
    uint64_t lost = vgd_recorder_command(t->r, &c);
    c.is_lost = false;
    c.is_cut = true;
    c.response_room_bytes = UINT64_MAX;
    (void)vgd_recorder_command(t->r, &c);
    c.is_cut = false;
    uint64_t postponed = vgd_recorder_command(t->r, &c);
    c.again = postponed;
    cr_assert_eq(vgd_recorder_command(t->r, &c), postponed, "it is in the file already");
    vgd_recorder_response(t->r, postponed, bytes, sizeof(bytes));
    vgd_recorder_response(t->r, 0, bytes, sizeof(bytes)); /* from before the recording */
    vgd_recorder_reset(t->r);
    vgd_recorder_features(t->r, 5);
    stop(t);
    cr_assert_eq(count_of(t->fd, VGD_TRACE_KIND_COMMAND), 3);
    cr_assert_eq(count_of(t->fd, VGD_TRACE_KIND_RESPONSE), 1);
    struct play p;
    play_open(&p, t->fd);
    cr_assert(play_until(&p, VGD_TRACE_KIND_COMMAND));
    cr_assert_eq(p.item.record.as.command.flags, VGD_TRACE_COMMAND_LOST);
    cr_assert(play_until(&p, VGD_TRACE_KIND_COMMAND));
    cr_assert_eq(p.item.record.as.command.flags, VGD_TRACE_COMMAND_CUT);
    cr_assert_eq(p.item.record.as.command.response_room_bytes, UINT32_MAX);
    cr_assert(play_until(&p, VGD_TRACE_KIND_RESET));
    cr_assert(play_until(&p, VGD_TRACE_KIND_DEVICE));
    cr_assert_eq(p.item.record.as.device.features, 5);
    play_close(&p);

    /* Another file: nothing of the first one is meant. */
    cr_assert_eq(ftruncate(t->fd, 0), 0);
    cr_assert_eq(lseek(t->fd, 0, SEEK_SET), 0);
    start(t, VGD_LINK_TRACE_NEW);
    vgd_recorder_response(t->r, lost, bytes, sizeof(bytes));
    c.again = postponed;
    cr_assert_neq(vgd_recorder_command(t->r, &c), postponed);
    stop(t);
    cr_assert_eq(count_of(t->fd, VGD_TRACE_KIND_COMMAND), 1);
    cr_assert_eq(count_of(t->fd, VGD_TRACE_KIND_RESPONSE), 0);
    tape_close(t);
    free(t);
}

/* A worker dies, another one goes on with the file: ids do not come twice. */
DEVICE_TEST(recorded_file_goes_on_behind_a_death)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    start(t, VGD_LINK_TRACE_NEW);
    samples_prepare(&t->b);
    stop(t);
    uint32_t first_count = t->n_seen;
    cr_assert_gt(lseek(t->fd, 0, SEEK_END), 0);
    start(t, VGD_LINK_TRACE_AFTER_DEATH);
    cr_assert_resp(create_2d(&t->b, 60, VGD_FORMAT_B8G8R8X8_UNORM, 8, 8), OK_NODATA);
    stop(t);
    cr_assert_gt(t->n_seen, first_count);
    expect_all(t);
    struct play p;
    play_open(&p, t->fd);
    cr_assert(play_until(&p, VGD_TRACE_KIND_WORKER_DEATH));
    cr_assert_eq(p.item.record.as.worker_death.generation, 3);
    cr_assert_eq(p.item.record.as.worker_death.signal, 9);
    play_past_state(&p, VGD_TRACE_STATE_AFTER_DEATH);
    cr_assert(play_until(&p, VGD_TRACE_KIND_COMMAND));
    cr_assert_eq(p.item.record.as.command.flags, 0);
    play_close(&p);
    tape_close(t);
    free(t);
}

DEVICE_TEST(recorded_to_a_pipe_that_nobody_reads)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    int fds[2];
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    start_on(t, fds[1], VGD_LINK_TRACE_NEW);
    (void)close(fds[1]);
    samples_prepare(&t->b);
    cr_assert_resp(create_2d(&t->b, 50, VGD_FORMAT_B8G8R8X8_UNORM, 256, 256), OK_NODATA);
    cr_assert_resp(attach(&t->b, 50, HIGH_GPA, 256 * 256 * 4), OK_NODATA);
    uint64_t begin_ns = vgd_now_ns();
    uint64_t slowest_ns = 0;
    for (unsigned i = 0; i < 400; i++) { /* 100 MiB */
        noise(ram_at(&t->b, HIGH_GPA), 4096, i);
        tape_forget(t);
        uint64_t ns = vgd_now_ns();
        cr_assert_resp(transfer_2d(&t->b, 50, (struct vgd_rect){0, 0, 256, 256}, 0), OK_NODATA);
        ns = vgd_now_ns() - ns;
        slowest_ns = ns > slowest_ns ? ns : slowest_ns;
    }
    cr_assert_lt(slowest_ns, 500000000, "it does not wait for the pipe");
    cr_assert_lt(vgd_now_ns() - begin_ns, 10000000000, "nor in all");
    t->told_count = 0;
    uint64_t end_ns = vgd_now_ns() + 3000000000;
    while (t->told.lost_records == 0 && vgd_now_ns() < end_ns) {
        vgd_loop_turn(t->loop, 50);
    }
    cr_assert_gt(t->told.lost_records, 0, "the loss is reported");
    cr_assert_gt(t->told.lost_bytes, (uint64_t)20 << 20);
    cr_assert_leq(t->told.memory_bytes, VGD_RECORDER_MEMORY_MAX_BYTES);
    vgd_recorder_stop(t->r);
    vgd_loop_turn(t->loop, 50);
    cr_assert_lt(t->told.state, VGD_TRACE_ENDED, "it cannot end");
    /* While it hangs no other begins: memory stays bounded. */
    start_on(t, t->fd, VGD_LINK_TRACE_NEW);
    cr_assert_eq(t->told.state, VGD_TRACE_FAILED);
    cr_assert_eq(t->told.error, EBUSY);
    t->told.state = VGD_TRACE_STOPPING;
    (void)close(fds[0]);
    turn_until_over(t);
    cr_assert_eq(t->told.state, VGD_TRACE_FAILED);
    cr_assert_eq(t->told.error, EPIPE);
    tape_close(t);
    free(t);
}

DEVICE_TEST(recorded_to_a_file_that_is_full)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    struct rlimit old, small = {.rlim_cur = 200000, .rlim_max = RLIM_INFINITY};
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    char path[] = "/tmp/vgd-recorder-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    (void)unlink(path);
    start_on(t, fd, VGD_LINK_TRACE_NEW);
    samples_prepare(&t->b);
    cr_assert_resp(create_2d(&t->b, 50, VGD_FORMAT_B8G8R8X8_UNORM, 256, 256), OK_NODATA);
    cr_assert_resp(attach(&t->b, 50, HIGH_GPA, 256 * 256 * 4), OK_NODATA);
    for (unsigned i = 0; i < 20; i++) {
        noise(ram_at(&t->b, HIGH_GPA), 256 * 256 * 4, i);
        cr_assert_resp(transfer_2d(&t->b, 50, (struct vgd_rect){0, 0, 256, 256}, 0), OK_NODATA);
    }
    turn_until_over(t);
    cr_assert_eq(t->told.state, VGD_TRACE_FAILED);
    cr_assert_eq(t->told.error, EFBIG);
    /* The guest goes on. */
    cr_assert_resp(transfer_2d(&t->b, 50, (struct vgd_rect){0, 0, 256, 256}, 0), OK_NODATA);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    (void)close(fd);
    tape_close(t);
    free(t);
}

DEVICE_TEST(recorded_starts_that_cannot_be)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    struct vgd_link_trace_start bad = {.why = VGD_LINK_TRACE_AFTER_RESET + 1};
    int fd = dup(t->fd);
    cr_assert_eq(vgd_recorder_start(t->r, &bad, 0, &fd), VGD_RANGE);
    cr_assert(fd >= 0, "kept");
    cr_assert_eq(t->told_count, 0);
    (void)close(fd);

    cr_assert_eq(pwrite(t->fd, "no trace", 8, 0), 8);
    start_on(t, t->fd, VGD_LINK_TRACE_AFTER_DEATH);
    turn_until_over(t);
    cr_assert_eq(t->told.state, VGD_TRACE_FAILED);
    cr_assert_eq(t->told.error, EINVAL);
    start_on(t, t->fd, VGD_LINK_TRACE_NEW);
    turn_until_over(t);
    cr_assert_eq(t->told.state, VGD_TRACE_FAILED);
    cr_assert_eq(t->told.error, EEXIST);
    vgd_recorder_stop(t->r); /* idle: nothing */
    tape_close(t);
    free(t);
}

#define STARTS_MAX 200

/* The file was over before anybody looked: the look that was due then has nothing to look at. */
DEVICE_TEST(recorded_file_that_is_over_when_it_is_stopped)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    cr_assert_eq(pwrite(t->fd, "no trace", 8, 0), 8);
    /* The writer's thread may be so fast that the start itself finds it over. */
    for (int tries = 0; tries < STARTS_MAX && !vgd_recorder_active(t->r); tries++) {
        start_on(t, t->fd, VGD_LINK_TRACE_NEW);
    }
    cr_assert(vgd_recorder_active(t->r));
    cr_assert(vgd_trace_writer_wait(t->r->writer, ENDS_WITHIN_NS / 1000000));
    vgd_recorder_stop(t->r);
    cr_assert_eq(t->told.state, VGD_TRACE_FAILED, "the stop itself finds it over");
    uint32_t told_count = t->told_count;
    uint64_t end_ns = vgd_now_ns() + 2 * VGD_LINK_TRACE_STATE_MS * UINT64_C(1000000);
    while (vgd_now_ns() < end_ns) {
        vgd_loop_turn(t->loop, 50);
    }
    cr_assert_eq(t->told_count, told_count, "said once");
    tape_close(t);
    free(t);
}

/* What is not recorded of a command's memory is a gap. */
DEVICE_TEST(recorded_command_that_writes_too_often)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    samples_prepare(&t->b);
    start(t, VGD_LINK_TRACE_NEW);
    const uint32_t count = VGD_RECORDER_WRITES_MAX + 3;
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SUBMIT_3D, CTX);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){.size_bytes = count * 14 * 4});
    for (uint32_t i = 0; i < count; i++) {
        vgd_virgl_transfer3d_encode(
            &c.w, &(struct vgd_virgl_transfer3d){.resource = RES_3D,
                                                 .box = {.w = 4, .h = 1, .d = 1},
                                                 .direction = VGD_VIRGL_TRANSFER_FROM_HOST});
    }
    struct sent s;
    cmd_send(&t->b, &s, &c);
    stop(t);
    cr_assert_eq(t->told.lost_records, 3);
    cr_assert_eq(t->told.lost_bytes, 3 * 16);
    cr_assert_eq(t->told.gaps, 1);
    cr_assert_eq(count_of(t->fd, VGD_TRACE_KIND_GAP), 1);
    tape_close(t);
    free(t);
}

/* A worker died before its first byte: the next one's file begins with that death. */
DEVICE_TEST(recorded_file_that_is_empty_behind_a_death)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    start(t, VGD_LINK_TRACE_AFTER_DEATH);
    samples_prepare(&t->b);
    stop(t);
    expect_all(t);
    struct play p;
    play_open(&p, t->fd);
    cr_assert(play_next(&p));
    cr_assert_eq(p.item.record.kind, VGD_TRACE_KIND_WORKER_DEATH);
    play_past_state(&p, VGD_TRACE_STATE_AFTER_DEATH);
    play_close(&p);
    tape_close(t);
    free(t);
}
