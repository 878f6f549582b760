/* SPDX-License-Identifier: MIT */
/* The worker's recorder over the tests' device: a tape of what went by, and the file read back. */
#ifndef DEVICE_TAPE_H
#define DEVICE_TAPE_H

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

static inline uint8_t *copy_of(const void *data, size_t n_bytes)
{
    uint8_t *copy = malloc(n_bytes + 1);
    cr_assert_not_null(copy);
    memcpy(copy, data, n_bytes);
    return copy;
}

static inline uint64_t before(void *user, const struct vgd_gpu_request *req)
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

static inline void answered(void *user, uint64_t id, const uint8_t *resp, size_t n_bytes)
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

static inline void after(void *user, uint64_t id)
{
    struct tape *t = user;
    if (vgd_recorder_active(t->r)) {
        vgd_recorder_executed(t->r, id);
    }
}

static inline void tell(void *user, const struct vgd_link_trace_state *state)
{
    struct tape *t = user;
    t->told = *state;
    t->told_count++;
}

static inline void hold(void *user, bool held)
{
    struct tape *t = user;
    cr_assert_neq(t->held, held);
    t->held = held;
}

static inline void tape_open(struct tape *t)
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

static inline void start_on(struct tape *t, int fd, enum vgd_link_trace_why why)
{
    struct vgd_link_trace_start start = {
        .why = why, .picture_ms = t->picture_ms, .generation = 3, .signal = 9, .guest = "a guest"};
    int given = dup(fd);
    cr_assert_eq(vgd_recorder_start(t->r, &start, vgd_gpu_features(t->b.gpu), &given), VGD_OK);
    vgd_fd_closep(&given);
}

static inline void start(struct tape *t, enum vgd_link_trace_why why)
{
    start_on(t, t->fd, why);
    cr_assert_eq(t->told.state, VGD_TRACE_RUNNING, "at once");
    cr_assert(vgd_recorder_active(t->r));
}

static inline void turn_until_over(struct tape *t)
{
    uint64_t end_ns = vgd_now_ns() + ENDS_WITHIN_NS;
    while (t->told.state < VGD_TRACE_ENDED && vgd_now_ns() < end_ns) {
        vgd_loop_turn(t->loop, 50);
    }
    cr_assert_geq(t->told.state, VGD_TRACE_ENDED, "it ends");
    cr_assert_not(vgd_recorder_active(t->r));
}

static inline void stop(struct tape *t)
{
    vgd_recorder_stop(t->r);
    cr_assert_not(vgd_recorder_active(t->r), "no more is taken, at once");
    turn_until_over(t);
    cr_assert_eq(t->told.state, VGD_TRACE_ENDED, "error %d", t->told.error);
}

static inline void tape_forget(struct tape *t)
{
    for (uint32_t i = 0; i < t->n_seen; i++) {
        free(t->seen[i].cmd);
        free(t->seen[i].resp);
    }
    t->n_seen = 0;
}

static inline void tape_close(struct tape *t)
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

static inline void play_open(struct play *p, int fd)
{
    int given = dup(fd);
    struct vgd_trace_fault fault;
    *p = (struct play){0};
    cr_assert_eq(vgd_trace_reader_open(&given, &p->reader, &fault), VGD_OK, "%s", fault.text);
}

static inline bool play_next(struct play *p)
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

static inline void play_close(struct play *p)
{
    free(p->data);
    vgd_trace_reader_close(p->reader);
}

/* Up to the next record of @kind. */
static inline bool play_until(struct play *p, uint32_t kind)
{
    while (play_next(p)) {
        if (p->item.record.kind == kind) {
            return true;
        }
    }
    return false;
}

/* Behind the state that the recording began with. */
static inline void play_past_state(struct play *p, uint32_t reason)
{
    cr_assert(play_until(p, VGD_TRACE_KIND_STATE_BEGIN));
    cr_assert_eq(p->item.record.as.state_begin.reason, reason);
    cr_assert(play_until(p, VGD_TRACE_KIND_STATE_END));
}

static inline uint32_t count_of(int fd, uint32_t kind)
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
static inline void expect_all(struct tape *t)
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

static inline void noise(uint8_t *out, size_t n_bytes, uint64_t seed)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < n_bytes; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out[i] = (uint8_t)(x >> 24);
    }
}

#endif
