/* SPDX-License-Identifier: MIT */
/*
 * The state of the device, in front of what follows it: when a recording begins in mid-life, when a
 * worker goes on after a death, and when records were lost.
 *
 * Meanwhile no command is executed. What finds no room in the writer's buffer waits for the loop to
 * come round; after a limit texels and memory are left out, as a loss that the file tells of, and
 * the guest goes on.
 */
#include <time.h>

#include "log.h"
#include "worker_record_priv.h"

/* So much of the buffer is left for the guest's own commands. */
#define ROOM_KEPT_BYTES ((size_t)1 << 20)
#define TURN_NS 2000000ull
#define MS_NS 1000000ull
/* From a state after a gap to the next one: doubled each time, or a slow disk would get states and
 * nothing else. */
#define WAIT_FIRST_NS 2000000000ull
#define WAIT_MAX_NS 64000000000ull

static bool has_room(struct vgd_recorder *r, size_t n_bytes)
{
    return vgd_trace_writer_room_bytes(r->writer) >= n_bytes + ROOM_KEPT_BYTES;
}

static bool put_command(void *user, enum vgd_gpu_queue queue, const uint8_t *head,
                        size_t head_bytes, const void *tail, size_t tail_bytes)
{
    struct vgd_recorder *r = user;
    if (!has_room(r, head_bytes + tail_bytes)) {
        return false;
    }
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_COMMAND,
        .as.command = {.queue_idx = queue, .flags = VGD_TRACE_COMMAND_MADE_UP},
    };
    struct iovec iov[] = {
        {.iov_base = (void *)(uintptr_t)head, .iov_len = head_bytes},
        {.iov_base = (void *)(uintptr_t)tail, .iov_len = tail_bytes},
    };
    return vgd_trace_writer_put(r->writer, &record, iov, tail_bytes != 0 ? 2 : 1, 0,
                                head_bytes + tail_bytes);
}

static bool put_backing(void *user, uint32_t res_id, const struct iovec *iov, uint32_t n_iov,
                        uint64_t offset_bytes, uint64_t n_bytes)
{
    struct vgd_recorder *r = user;
    if (!has_room(r, (size_t)n_bytes)) {
        return false;
    }
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_BACKING,
        .as.backing = {.offset_bytes = offset_bytes,
                       .resource_id = res_id,
                       .reason = VGD_TRACE_BACKING_STATE},
    };
    return vgd_trace_writer_put(r->writer, &record, iov, n_iov, (size_t)offset_bytes,
                                (size_t)n_bytes);
}

static bool put_content(void *user, uint32_t res_id, uint32_t level, const struct vgd_box *box,
                        uint32_t stride_bytes, uint32_t layer_stride_bytes, const void *data,
                        size_t n_bytes)
{
    struct vgd_recorder *r = user;
    if (!has_room(r, n_bytes)) {
        return false;
    }
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_CONTENT,
        .as.content = {.resource_id = res_id,
                       .level = level,
                       .x = box->x,
                       .y = box->y,
                       .z = box->z,
                       .w = box->w,
                       .h = box->h,
                       .d = box->d,
                       .stride_bytes = stride_bytes,
                       .layer_stride_bytes = layer_stride_bytes},
    };
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = n_bytes};
    return vgd_trace_writer_put(r->writer, &record, &iov, 1, 0, n_bytes);
}

void vgd_recorder_state_end(struct vgd_recorder *r)
{
    if (r->state.active) {
        r->state.active = false;
        vgd_timer_stop(r->state_timer);
        r->config.hold(r->config.user, false);
    }
}

static void finish(struct vgd_recorder *r)
{
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_STATE_END};
    vgd_recorder_put(r, &record, NULL, 0);
    vgd_recorder_state_end(r);
}

/* Time is up: what makes things, as far as there is room, and no more of what is in them. */
static void cut_short(struct vgd_recorder *r)
{
    /* Longer than any record: it is counted as lost, which tells the reader that this is not all.
     */
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_BACKING,
        .as.backing = {.reason = VGD_TRACE_BACKING_STATE},
    };
    (void)vgd_trace_writer_put(r->writer, &record, NULL, 0, 0, VGD_TRACE_DATA_MAX + 1);
    struct vgd_gpu_snapshot_sink sink = {.command = put_command, .user = r};
    enum vgd_status st = vgd_gpu_snapshot(r->config.gpu, &sink, &r->state.position);
    vgd_log(VGD_LOG_WARNING, "trace",
            "the file was too slow for the state of the guest: the recording has %s after %llu ms",
            st == VGD_OK ? "its objects without all that is in them" : "a part of it",
            (unsigned long long)(r->state.limit_ns / MS_NS));
}

/* Put what finds room. False: there is more. */
static bool put_some(struct vgd_recorder *r)
{
    struct vgd_gpu_snapshot_sink sink = {
        .command = put_command, .backing = put_backing, .content = put_content, .user = r};
    enum vgd_status st = vgd_gpu_snapshot(r->config.gpu, &sink, &r->state.position);
    if (st == VGD_CLOSED && vgd_trace_writer_stats(r->writer).state != VGD_TRACE_RUNNING) {
        vgd_recorder_state_end(r); /* the file takes nothing any more */
        return true;
    }
    if (st == VGD_CLOSED && vgd_now_ns() - r->state.begin_ns < r->state.limit_ns) {
        return false;
    }
    if (st != VGD_OK) {
        cut_short(r);
    }
    finish(r);
    return true;
}

void vgd_recorder_state_turn(void *user)
{
    struct vgd_recorder *r = user;
    if (r->state.active && !put_some(r)) {
        vgd_timer_start(r->state_timer, TURN_NS);
    }
}

static void put_begin(struct vgd_recorder *r, uint32_t reason)
{
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_STATE_BEGIN,
                                      .as.state_begin = {.reason = reason}};
    vgd_recorder_put(r, &record, NULL, 0);
    r->state.position = 0;
}

void vgd_recorder_state_begin(struct vgd_recorder *r, uint32_t reason)
{
    bool again = reason == VGD_TRACE_STATE_AFTER_GAP;
    r->state.active = true;
    r->state.reason = reason;
    r->state.begin_ns = vgd_now_ns();
    r->state.limit_ns = (again ? VGD_RECORDER_HOLD_AGAIN_MS : VGD_RECORDER_HOLD_MS) * MS_NS;
    put_begin(r, reason);
    r->config.hold(r->config.user, true);
    vgd_recorder_state_turn(r);
}

void vgd_recorder_state_look(struct vgd_recorder *r, const struct vgd_trace_writer_stats *stats)
{
    uint64_t now_ns = vgd_now_ns();
    if (r->state.active || r->stopping || stats->lost_records <= r->lost_known ||
        now_ns < r->next_state_ns || stats->buffer_used_bytes > stats->buffer_bytes / 4) {
        return;
    }
    r->lost_known = stats->lost_records;
    if (r->next_state_ns == 0 || now_ns - r->next_state_ns > WAIT_MAX_NS) {
        r->state_wait_ns = WAIT_FIRST_NS;
    } else if (r->state_wait_ns < WAIT_MAX_NS) {
        r->state_wait_ns *= 2;
    }
    r->next_state_ns = now_ns + r->state_wait_ns;
    vgd_recorder_state_begin(r, VGD_TRACE_STATE_AFTER_GAP);
}

void vgd_recorder_changed(struct vgd_recorder *r)
{
    if (r->state.active) {
        put_begin(r, r->state.reason); /* what was put may not be so any more */
    }
}

void vgd_recorder_settle(struct vgd_recorder *r)
{
    while (r->state.active && !put_some(r)) {
        struct timespec pause = {.tv_nsec = (long)TURN_NS};
        (void)nanosleep(&pause, NULL);
    }
}
