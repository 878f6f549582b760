/* SPDX-License-Identifier: MIT */
/* The worker's recorder over the device: what it writes is what went by. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "fd.h"
#include "log.h"
#include "loop.h"
#include "samples.h"
#include "trace_reader.h"
#include "trace_writer.h"
#include "virgl_wire.h"
#include "worker_record.h"

#define SEEN_MAX 512u
#define ENDS_WITHIN_NS 10000000000ull

/* A command as it went by, kept apart from the recorder. */
struct seen {
    uint8_t *cmd, *resp; /* owned */
    size_t cmd_bytes, resp_bytes;
    uint64_t id;
    bool answered;
};

struct tape {
    struct bench b;
    struct vgd_loop *loop;
    struct vgd_recorder *r;
    struct vgd_link_trace_state told;
    uint32_t told_count;
    struct seen seen[SEEN_MAX];
    uint32_t n_seen;
    uint32_t picture_ms;
    bool held;
    int fd;
};

static uint8_t *copy_of(const void *data, size_t n_bytes)
{
    uint8_t *copy = malloc(n_bytes + 1);
    cr_assert_not_null(copy);
    memcpy(copy, data, n_bytes);
    return copy;
}

static uint64_t before(void *user, const struct vgd_gpu_request *req)
{
    struct tape *t = user;
    if (!vgd_recorder_active(t->r)) {
        return 0;
    }
    cr_assert_lt(t->n_seen, SEEN_MAX);
    struct vgd_recorder_command c = {.cmd = req->cmd,
                                     .cmd_bytes = req->cmd_bytes,
                                     .response_room_bytes = req->resp_capacity_bytes,
                                     .queue = req->queue};
    struct seen *seen = &t->seen[t->n_seen++];
    *seen = (struct seen){.cmd = copy_of(req->cmd, req->cmd_bytes),
                          .cmd_bytes = req->cmd_bytes,
                          .id = vgd_recorder_command(t->r, &c)};
    cr_assert_neq(seen->id, 0);
    return seen->id;
}

static void answered(void *user, uint64_t id, const uint8_t *resp, size_t n_bytes)
{
    struct tape *t = user;
    for (uint32_t i = 0; i < t->n_seen; i++) {
        if (t->seen[i].id == id) {
            cr_assert_not(t->seen[i].answered);
            t->seen[i].answered = true;
            t->seen[i].resp = copy_of(resp, n_bytes);
            t->seen[i].resp_bytes = n_bytes;
        }
    }
    if (vgd_recorder_active(t->r)) {
        vgd_recorder_response(t->r, id, resp, n_bytes);
    }
}

static void after(void *user, uint64_t id)
{
    struct tape *t = user;
    if (vgd_recorder_active(t->r)) {
        vgd_recorder_executed(t->r, id);
    }
}

static void tell(void *user, const struct vgd_link_trace_state *state)
{
    struct tape *t = user;
    t->told = *state;
    t->told_count++;
}

static void hold(void *user, bool held)
{
    struct tape *t = user;
    cr_assert_neq(t->held, held);
    t->held = held;
}

static void tape_open(struct tape *t)
{
    memset(t, 0, sizeof(*t));
    bench_open(&t->b, NULL);
    t->loop = vgd_loop_create();
    cr_assert_not_null(t->loop);
    t->r = vgd_recorder_create(&(struct vgd_recorder_config){.loop = t->loop,
                                                             .gpu = t->b.gpu,
                                                             .render = t->b.render,
                                                             .display = &t->b.display.base,
                                                             .window_bytes = WINDOW_BYTES,
                                                             .n_scanouts = 4,
                                                             .virglrenderer_version = "9.8",
                                                             .tell = tell,
                                                             .hold = hold,
                                                             .user = t});
    cr_assert_not_null(t->r);
    t->b.watcher =
        (struct watcher){.before = before, .answered = answered, .after = after, .user = t};
    t->picture_ms = VGD_LINK_TRACE_NO_PIXELS;
    t->fd = memfd_create("trace", MFD_CLOEXEC);
    cr_assert(t->fd >= 0);
}

static void start_on(struct tape *t, int fd, enum vgd_link_trace_why why)
{
    struct vgd_link_trace_start start = {
        .why = why, .picture_ms = t->picture_ms, .generation = 3, .signal = 9, .guest = "a guest"};
    int given = dup(fd);
    cr_assert_eq(vgd_recorder_start(t->r, &start, vgd_gpu_features(t->b.gpu), &given), VGD_OK);
    vgd_fd_closep(&given);
}

static void start(struct tape *t, enum vgd_link_trace_why why)
{
    start_on(t, t->fd, why);
    cr_assert_eq(t->told.state, VGD_TRACE_RUNNING, "at once");
    cr_assert(vgd_recorder_active(t->r));
}

static void turn_until_over(struct tape *t)
{
    uint64_t end_ns = vgd_now_ns() + ENDS_WITHIN_NS;
    while (t->told.state < VGD_TRACE_ENDED && vgd_now_ns() < end_ns) {
        vgd_loop_turn(t->loop, 50);
    }
    cr_assert_geq(t->told.state, VGD_TRACE_ENDED, "it ends");
    cr_assert_not(vgd_recorder_active(t->r));
}

static void stop(struct tape *t)
{
    vgd_recorder_stop(t->r);
    cr_assert_not(vgd_recorder_active(t->r), "no more is taken, at once");
    turn_until_over(t);
    cr_assert_eq(t->told.state, VGD_TRACE_ENDED, "error %d", t->told.error);
}

static void tape_forget(struct tape *t)
{
    for (uint32_t i = 0; i < t->n_seen; i++) {
        free(t->seen[i].cmd);
        free(t->seen[i].resp);
    }
    t->n_seen = 0;
}

static void tape_close(struct tape *t)
{
    tape_forget(t);
    vgd_recorder_destroy(t->r);
    bench_close(&t->b);
    vgd_loop_destroy(t->loop);
    (void)close(t->fd);
}

/* ---- reading back ---- */

struct play {
    struct vgd_trace_reader *reader;
    struct vgd_trace_item item;
    uint8_t *data; /* of the item; owned */
};

static void play_open(struct play *p, int fd)
{
    int given = dup(fd);
    struct vgd_trace_fault fault;
    *p = (struct play){0};
    cr_assert_eq(vgd_trace_reader_open(&given, &p->reader, &fault), VGD_OK, "%s", fault.text);
}

static bool play_next(struct play *p)
{
    free(p->data);
    p->data = NULL;
    enum vgd_status st = vgd_trace_reader_next(p->reader, &p->item);
    if (st == VGD_CLOSED) {
        return false;
    }
    cr_assert_eq(st, VGD_OK, "%s", vgd_trace_reader_fault(p->reader)->text);
    p->data = malloc((size_t)p->item.data.total_bytes + 1);
    cr_assert_not_null(p->data);
    cr_assert_eq(vgd_trace_reader_data(p->reader, &p->item.data, 0, p->data,
                                       (size_t)p->item.data.total_bytes),
                 VGD_OK);
    return true;
}

static void play_close(struct play *p)
{
    free(p->data);
    vgd_trace_reader_close(p->reader);
}

/* Up to the next record of @kind. */
static bool play_until(struct play *p, uint32_t kind)
{
    while (play_next(p)) {
        if (p->item.record.kind == kind) {
            return true;
        }
    }
    return false;
}

/* Behind the state that the recording began with. */
static void play_past_state(struct play *p, uint32_t reason)
{
    cr_assert(play_until(p, VGD_TRACE_KIND_STATE_BEGIN));
    cr_assert_eq(p->item.record.as.state_begin.reason, reason);
    cr_assert(play_until(p, VGD_TRACE_KIND_STATE_END));
}

static uint32_t count_of(int fd, uint32_t kind)
{
    struct play p;
    play_open(&p, fd);
    uint32_t n = 0;
    while (play_until(&p, kind)) {
        n++;
    }
    play_close(&p);
    return n;
}

/* Every command and answer of the tape is in the file, in order, byte for byte; nothing else. */
static void expect_all(struct tape *t)
{
    struct play p;
    play_open(&p, t->fd);
    uint64_t ids[SEEN_MAX];
    bool has_answer[SEEN_MAX] = {0};
    uint32_t n = 0;
    while (play_next(&p)) {
        const struct vgd_trace_record *record = &p.item.record;
        if (record->kind == VGD_TRACE_KIND_COMMAND &&
            record->as.command.flags != VGD_TRACE_COMMAND_MADE_UP) {
            cr_assert_lt(n, t->n_seen);
            cr_assert_eq(p.item.data.total_bytes, t->seen[n].cmd_bytes);
            cr_assert_arr_eq(p.data, t->seen[n].cmd, t->seen[n].cmd_bytes, "command %u", n);
            cr_assert(n == 0 || record->as.command.command_id > ids[n - 1], "ids grow");
            ids[n++] = record->as.command.command_id;
        } else if (record->kind == VGD_TRACE_KIND_RESPONSE) {
            uint32_t i = 0;
            while (i < n && ids[i] != record->as.response.command_id) {
                i++;
            }
            cr_assert_lt(i, n, "an answer to what went before");
            cr_assert_not(has_answer[i], "one answer");
            has_answer[i] = true;
            cr_assert_eq(p.item.data.total_bytes, t->seen[i].resp_bytes);
            cr_assert_arr_eq(p.data, t->seen[i].resp, t->seen[i].resp_bytes, "answer %u", i);
        }
    }
    cr_assert_eq(n, t->n_seen);
    for (uint32_t i = 0; i < n; i++) {
        cr_assert_eq(has_answer[i], t->seen[i].answered, "command %u", i);
    }
    play_close(&p);
}

static void noise(uint8_t *out, size_t n_bytes, uint64_t seed)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < n_bytes; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out[i] = (uint8_t)(x >> 24);
    }
}

/* ---- the rules ---- */

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

/* The state with what it holds stands in front; it was put before start returned. */
DEVICE_TEST(recorded_from_mid_life_on)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    samples_prepare(&t->b);
    cr_assert_resp(create_2d(&t->b, 50, VGD_FORMAT_B8G8R8A8_UNORM, 512, 700), OK_NODATA);
    cr_assert_resp(attach(&t->b, 50, LOW_GPA, 512 * 700 * 4), OK_NODATA);
    noise(ram_at(&t->b, LOW_GPA), REGION_BYTES, 8);
    cr_assert_resp(transfer_2d(&t->b, 50, (struct vgd_rect){0, 0, 512, 100}, 0), OK_NODATA);
    start(t, VGD_LINK_TRACE_NEW);
    cr_assert_not(t->held, "there is room for all of it");
    cr_assert_resp(unref(&t->b, 50), OK_NODATA);
    stop(t);
    expect_all(t);
    struct play p;
    play_open(&p, t->fd);
    cr_assert(play_until(&p, VGD_TRACE_KIND_STATE_BEGIN));
    cr_assert_eq(p.item.record.as.state_begin.reason, VGD_TRACE_STATE_START);
    uint32_t made_up = 0;
    uint64_t texel_bytes = 0, page_bytes = 0;
    bool made = false;
    while (play_next(&p) && p.item.record.kind != VGD_TRACE_KIND_STATE_END) {
        const struct vgd_trace_record *record = &p.item.record;
        if (record->kind == VGD_TRACE_KIND_COMMAND) {
            cr_assert_eq(record->as.command.flags, VGD_TRACE_COMMAND_MADE_UP);
            made_up++;
            made = made || (p.item.data.total_bytes == VGD_CTRL_HDR_SIZE + 16 && p.data[24] == 50);
        } else if (record->kind == VGD_TRACE_KIND_CONTENT && record->as.content.resource_id == 50) {
            cr_assert(made && page_bytes == 0, "behind what makes it, before its pages");
            cr_assert_eq(record->as.content.y * 2048, texel_bytes);
            size_t loaded = texel_bytes < 512 * 100 * 4 ? 512 * 100 * 4 - texel_bytes : 0;
            loaded = loaded < p.item.data.total_bytes ? loaded : (size_t)p.item.data.total_bytes;
            cr_assert_eq(memcmp(p.data, ram_at(&t->b, LOW_GPA) + texel_bytes, loaded), 0);
            texel_bytes += p.item.data.total_bytes;
        } else if (record->kind == VGD_TRACE_KIND_BACKING && record->as.backing.resource_id == 50) {
            cr_assert_eq(record->as.backing.reason, VGD_TRACE_BACKING_STATE);
            cr_assert_eq(record->as.backing.offset_bytes, page_bytes);
            page_bytes += p.item.data.total_bytes;
        }
    }
    cr_assert_eq(p.item.record.kind, VGD_TRACE_KIND_STATE_END);
    cr_assert_gt(made_up, 10);
    cr_assert_eq(texel_bytes, 512 * 700 * 4);
    cr_assert_eq(page_bytes, 512 * 700 * 4);
    cr_assert(play_until(&p, VGD_TRACE_KIND_COMMAND));
    cr_assert_eq(p.item.record.as.command.flags, 0);
    play_close(&p);
    tape_close(t);
    free(t);
}

/* @n resources with 1 MiB of texels each, none like the other. */
static void make_much(struct tape *t, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        cr_assert_resp(create_2d(&t->b, 50 + i, VGD_FORMAT_B8G8R8A8_UNORM, 512, 512), OK_NODATA);
        cr_assert_resp(attach(&t->b, 50 + i, LOW_GPA, 512 * 512 * 4), OK_NODATA);
        noise(ram_at(&t->b, LOW_GPA), REGION_BYTES, i);
        cr_assert_resp(transfer_2d(&t->b, 50 + i, (struct vgd_rect){0, 0, 512, 512}, 0), OK_NODATA);
        cr_assert_resp(detach(&t->b, 50 + i), OK_NODATA);
    }
}

/* More state than the buffer takes, and a file that takes none: the rings are held for a while, and
 * then the guest goes on. Once the file takes records again, a state follows the gap. */
DEVICE_TEST(recorded_state_that_finds_no_room)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    const uint32_t n = 100;
    make_much(t, n);
    int fds[2];
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    uint64_t begin_ns = vgd_now_ns();
    start_on(t, fds[1], VGD_LINK_TRACE_NEW);
    cr_assert(t->held, "there is more than fits");
    cr_assert_lt(vgd_now_ns() - begin_ns, 1000000000, "the loop goes on meanwhile");
    vgd_recorder_changed(t->r); /* begins again */
    while (t->held && vgd_now_ns() - begin_ns < 5000000000) {
        vgd_loop_turn(t->loop, 10);
    }
    cr_assert_not(t->held);
    uint64_t held_ns = vgd_now_ns() - begin_ns;
    cr_assert(held_ns > 1500000000 && held_ns < 3500000000, "%llu ms",
              (unsigned long long)held_ns / 1000000);
    /* Somebody reads, at last. */
    char path[] = "/tmp/vgd-recorder-XXXXXX";
    int file = mkstemp(path);
    cr_assert(file >= 0);
    (void)unlink(path);
    (void)close(fds[1]);
    cr_assert_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    static uint8_t bytes[1 << 20];
    uint64_t drain_ns = vgd_now_ns();
    bool again = false, stopped = false;
    ssize_t got = -1;
    while (got != 0 && vgd_now_ns() - drain_ns < 20000000000) {
        vgd_loop_turn(t->loop, 1);
        again = again || t->told.gaps > 0;
        if (again && !t->held && !stopped && vgd_now_ns() - drain_ns > 1500000000) {
            stopped = true;
            vgd_recorder_stop(t->r);
        }
        while ((got = read(fds[0], bytes, sizeof(bytes))) > 0) {
            cr_assert_eq(write(file, bytes, (size_t)got), got);
        }
    }
    cr_assert(stopped);
    turn_until_over(t);
    cr_assert_eq(t->told.state, VGD_TRACE_ENDED);
    (void)close(fds[0]);
    cr_assert_gt(count_of(file, VGD_TRACE_KIND_GAP), 0);
    struct play p;
    play_open(&p, file);
    cr_assert(play_until(&p, VGD_TRACE_KIND_STATE_BEGIN));
    cr_assert_eq(p.item.record.as.state_begin.reason, VGD_TRACE_STATE_START);
    cr_assert(play_until(&p, VGD_TRACE_KIND_STATE_BEGIN), "it began again");
    cr_assert(play_until(&p, VGD_TRACE_KIND_GAP), "and is not whole");
    cr_assert(play_until(&p, VGD_TRACE_KIND_STATE_BEGIN));
    cr_assert_eq(p.item.record.as.state_begin.reason, VGD_TRACE_STATE_AFTER_GAP);
    uint32_t commands = 0;
    while (play_next(&p) && p.item.record.kind != VGD_TRACE_KIND_STATE_END) {
        commands += p.item.record.kind == VGD_TRACE_KIND_COMMAND;
    }
    cr_assert_eq(commands, n);
    play_close(&p);
    (void)close(file);
    tape_close(t);
    free(t);
}

DEVICE_TEST(recorded_reset_ends_a_state)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    make_much(t, 100);
    int fds[2];
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    start_on(t, fds[1], VGD_LINK_TRACE_NEW);
    (void)close(fds[1]);
    cr_assert(t->held);
    vgd_recorder_reset(t->r);
    cr_assert_not(t->held);
    (void)close(fds[0]);
    turn_until_over(t);

    /* And a start of the rings does not wait for longer than they may be held. */
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    start_on(t, fds[1], VGD_LINK_TRACE_NEW);
    (void)close(fds[1]);
    cr_assert(t->held);
    uint64_t begin_ns = vgd_now_ns();
    vgd_recorder_settle(t->r);
    cr_assert_not(t->held);
    cr_assert_lt(vgd_now_ns() - begin_ns, 3500000000);
    (void)close(fds[0]);
    turn_until_over(t);
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

static struct vgd_presenter_look look_of(uint32_t res_id, struct vgd_rect src, struct vgd_rect rect,
                                         const uint8_t *pixels)
{
    return (struct vgd_presenter_look){
        .scanout_idx = 1, .res_id = res_id, .src = src, .rect = rect, .pixels = pixels};
}

static void expect_hash(const struct play *p, const uint8_t *pixels, size_t n_bytes)
{
    XXH128_canonical_t want;
    XXH128_canonicalFromHash(&want, XXH3_128bits(pixels, n_bytes));
    cr_assert_eq(p->item.record.as.picture.flags, VGD_TRACE_PICTURE_HASHED);
    cr_assert_arr_eq(p->item.record.as.picture.hash, want.digest, sizeof(want.digest));
}

/* The hash of all that the display reads, pixels at their pace. */
DEVICE_TEST(recorded_pictures_that_the_display_reads)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    t->picture_ms = 100;
    start(t, VGD_LINK_TRACE_NEW);
    /* Larger than one record takes. */
    const struct vgd_rect src = {0, 0, 2048, 1500};
    const size_t n_bytes = 2048 * 1500 * 4;
    uint8_t *pixels = malloc(n_bytes);
    noise(pixels, n_bytes, 4);
    struct vgd_presenter_look look = look_of(77, src, src, pixels);
    vgd_recorder_shown(t->r, &look);
    vgd_recorder_shown(t->r, &look);
    struct timespec pause = {.tv_nsec = 110000000};
    (void)nanosleep(&pause, NULL);
    struct vgd_rect part = {10, 20, 30, 40};
    look = look_of(77, src, part, pixels);
    vgd_recorder_shown(t->r, &look);
    stop(t);

    struct play p;
    play_open(&p, t->fd);
    uint32_t y_px = 0;
    while (y_px < src.h_px) {
        cr_assert(play_until(&p, VGD_TRACE_KIND_PICTURE));
        const struct vgd_trace_picture *picture = &p.item.record.as.picture;
        cr_assert(picture->scanout_id == 1 && picture->resource_id == 77 &&
                  picture->command_id == 0 && picture->format == VGD_FORMAT_B8G8R8X8_UNORM);
        cr_assert(picture->x_px == 0 && picture->y_px == y_px && picture->w_px == 2048);
        cr_assert_eq(p.item.data.total_bytes, (uint64_t)2048 * 4 * picture->h_px);
        const uint8_t *want = pixels + (size_t)y_px * 2048 * 4;
        cr_assert_eq(memcmp(p.data, want, (size_t)p.item.data.total_bytes), 0);
        expect_hash(&p, want, (size_t)p.item.data.total_bytes);
        y_px += picture->h_px;
    }
    cr_assert_eq(y_px, src.h_px);
    cr_assert(play_until(&p, VGD_TRACE_KIND_PICTURE));
    cr_assert_eq(p.item.data.total_bytes, 0, "too soon for pixels");
    cr_assert(p.item.record.as.picture.h_px == 1500);
    expect_hash(&p, pixels, n_bytes);
    cr_assert(play_until(&p, VGD_TRACE_KIND_PICTURE));
    cr_assert_eq(p.item.data.total_bytes, 30 * 40 * 4);
    cr_assert(p.item.record.as.picture.x_px == 10 && p.item.record.as.picture.y_px == 20);
    cr_assert_not(play_until(&p, VGD_TRACE_KIND_PICTURE));
    play_close(&p);
    free(pixels);
    tape_close(t);
    free(t);
}

/* Where nothing is read for the display the recorder reads, at the pace of pixels. */
DEVICE_TEST(recorded_pictures_that_nobody_reads)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    for (int with_pixels = 0; with_pixels < 2; with_pixels++) {
        t->picture_ms = with_pixels ? 60000 : VGD_LINK_TRACE_NO_PIXELS;
        cr_assert_eq(ftruncate(t->fd, 0), 0);
        cr_assert_eq(lseek(t->fd, 0, SEEK_SET), 0);
        start(t, VGD_LINK_TRACE_NEW);
        uint32_t id = 60 + (uint32_t)with_pixels;
        cr_assert_resp(create_2d(&t->b, id, VGD_FORMAT_B8G8R8A8_UNORM, 64, 32), OK_NODATA);
        cr_assert_resp(attach(&t->b, id, LOW_GPA, 64 * 32 * 4), OK_NODATA);
        noise(ram_at(&t->b, LOW_GPA), 64 * 32 * 4, 9);
        cr_assert_resp(transfer_2d(&t->b, id, (struct vgd_rect){0, 0, 64, 32}, 0), OK_NODATA);
        struct vgd_presenter_look look =
            look_of(id, (struct vgd_rect){8, 4, 32, 16}, (struct vgd_rect){0, 0, 1, 1}, NULL);
        vgd_recorder_shown(t->r, &look);
        vgd_recorder_shown(t->r, &look); /* too soon */
        look.scanout_idx = 2;
        vgd_fake_fail_nth(t->b.render, 1, VGD_UNSUPPORTED); /* a blob that cannot be read */
        vgd_recorder_shown(t->r, &look);
        vgd_fake_fail_nth(t->b.render, 0, VGD_OK);
        stop(t);
        cr_assert_eq(count_of(t->fd, VGD_TRACE_KIND_PICTURE), (uint32_t)with_pixels);
        cr_assert_leq(t->told.memory_bytes, VGD_RECORDER_MEMORY_MAX_BYTES);
    }
    struct play p;
    play_open(&p, t->fd);
    cr_assert(play_until(&p, VGD_TRACE_KIND_PICTURE));
    cr_assert_eq(p.item.data.total_bytes, 32 * 16 * 4);
    for (uint32_t y = 0; y < 16; y++) {
        cr_assert_eq(memcmp(p.data + y * 32 * 4, ram_at(&t->b, LOW_GPA) + (y + 4) * 256 + 32, 128),
                     0, "row %u", y);
    }
    expect_hash(&p, p.data, 32 * 16 * 4);
    play_close(&p);
    tape_close(t);
    free(t);
}

/* A blob of guest memory: what the picture is made of stands in front of it. */
DEVICE_TEST(recorded_pictures_of_guest_memory)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    start(t, VGD_LINK_TRACE_NEW);
    cr_assert_resp(create_guest_blob(&t->b, 70, LOW_GPA, 0x4000), OK_NODATA);
    struct vgd_image image = {
        .w_px = 64, .h_px = 64, .format = VGD_FORMAT_B8G8R8X8_UNORM, .stride_bytes = 256};
    noise(ram_at(&t->b, LOW_GPA), 0x4000, 3);
    struct vgd_rect whole = {0, 0, 64, 64};
    struct vgd_rect part = {0, 8, 64, 4};
    struct vgd_presenter_look look = look_of(70, whole, part, ram_at(&t->b, LOW_GPA) + 8 * 256);
    look.image = &image;
    vgd_recorder_shown(t->r, &look);
    stop(t);
    struct play p;
    play_open(&p, t->fd);
    cr_assert(play_until(&p, VGD_TRACE_KIND_BACKING));
    cr_assert_eq(p.item.record.as.backing.command_id, 0);
    cr_assert_eq(p.item.record.as.backing.offset_bytes, 8 * 256);
    cr_assert_eq(p.item.data.total_bytes, 4 * 256);
    cr_assert_eq(memcmp(p.data, ram_at(&t->b, LOW_GPA) + 8 * 256, 4 * 256), 0);
    cr_assert(play_next(&p));
    cr_assert_eq(p.item.record.kind, VGD_TRACE_KIND_PICTURE);
    play_close(&p);
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
