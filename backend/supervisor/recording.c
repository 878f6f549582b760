/* SPDX-License-Identifier: MIT */
#include "recording.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"
#include "record_file.h"

#define NS_PER_MS 1000000ull
#define NS_PER_SECOND 1e9
#define CLOSE_STACK_BYTES 65536u
#define ERRNO_MAX 4095 /* what the kernel returns as one */

struct vgd_recording {
    struct vgd_recording_config config;
    enum vgd_recording_state state;
    const char *why;
    int fd; /* -1: no recording is under way */
    bool can_resume;
    bool begun;      /* some worker was given the file */
    bool given;      /* this worker was, and has not said its last state */
    bool ever_given; /* this worker was, once: it may speak of it */
    bool told_loss;
    bool heard;             /* this worker has said that it records */
    uint32_t unheard_count; /* workers in a row that died before they did */
    uint32_t picture_ms;
    struct vgd_worker_end last_end; /* of the worker that had it before */
    struct vgd_timer *deadline;
    bool starting; /* on_started is still to come */
    struct vgd_timer *start_deadline;
    uint64_t start_ns, end_ns;
    struct vgd_link_trace_state earlier; /* sums of workers that are gone */
    struct vgd_link_trace_state now;
};

static bool is_over(const struct vgd_recording *r)
{
    return r->state == VGD_RECORDING_NONE || r->state == VGD_RECORDING_ENDED ||
           r->state == VGD_RECORDING_FAILED;
}

/* Once, whichever news comes first. */
static void started(struct vgd_recording *r)
{
    if (r->starting) {
        r->starting = false;
        vgd_timer_stop(r->start_deadline);
        r->config.on_started(r->config.user);
    }
}

static void start_deadline_passed(void *user)
{
    started(user); /* it goes on, and its state says how far it is */
}

static void *close_file(void *fd)
{
    (void)close((int)(intptr_t)fd);
    return NULL;
}

/*
 * To close a file of a network's, or of a program's, is to write all of it and to wait for that: by
 * a thread, which nobody waits for, since the guest waits for our loop. A server that never answers
 * keeps the thread, at most one for each recording. Without a thread the loop does it.
 */
static void let_go(struct vgd_recording *r)
{
    if (r->fd < 0) {
        return;
    }
    sigset_t all, before;
    pthread_t thread;
    pthread_attr_t detached;
    bool handed_over = false;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
    if (pthread_attr_init(&detached) == 0) {
        (void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        (void)pthread_attr_setstacksize(&detached, CLOSE_STACK_BYTES);
        handed_over =
            pthread_create(&thread, &detached, r->config.close_file, (void *)(intptr_t)r->fd) == 0;
        (void)pthread_attr_destroy(&detached);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (handed_over) {
        r->fd = -1;
    }
    vgd_fd_closep(&r->fd);
}

/* @why: NULL if all is well. */
static void over(struct vgd_recording *r, const char *why)
{
    r->state = why == NULL ? VGD_RECORDING_ENDED : VGD_RECORDING_FAILED;
    r->why = why;
    r->end_ns = vgd_now_ns();
    vgd_timer_stop(r->deadline);
    let_go(r);
    if (why == NULL) {
        vgd_log(VGD_LOG_INFO, "record", "the recording ended: %llu records, %llu bytes",
                (unsigned long long)(r->earlier.records + r->now.records),
                (unsigned long long)(r->earlier.bytes_out + r->now.bytes_out));
    } else {
        vgd_log(VGD_LOG_WARNING, "record",
                "the recording failed: %s; what was written before can be read", why);
    }
    started(r);
    r->config.on_over(r->config.user);
}

static void deadline_passed(void *user)
{
    over(user, "the file does not take what is left to write");
}

/* If there is a worker that takes it. One that is dying does not, and its end is on its way. */
static void give(struct vgd_recording *r)
{
    struct vgd_link_trace_start m = {.picture_ms = r->picture_ms};
    /* Is anything in it? A worker that died early may have left none; whether it has is for the
     * next one's writer to see, since the file may be slow to say so. */
    if (r->begun) {
        m.why = r->last_end.replaced ? VGD_LINK_TRACE_AFTER_RESET : VGD_LINK_TRACE_AFTER_DEATH;
        m.generation = r->last_end.generation;
        m.signal = r->last_end.signal;
        m.exit_status = r->last_end.exit_status;
    }
    if (r->config.to_worker(r->config.user, VGD_LINK_TRACE_START, &m, sizeof(m), &r->fd, 1)) {
        r->begun = true;
        r->given = true;
        r->heard = false;
        r->ever_given = true;
        r->state = VGD_RECORDING_RUNNING;
    }
}

enum vgd_status vgd_recording_start(struct vgd_recording *r, int *fd, uint32_t picture_ms,
                                    bool worker_served, const char **why)
{
    VGD_AUTO_FD file = vgd_fd_take(fd);
    bool can_resume = false;
    if (!is_over(r)) {
        *why = "a recording is running";
        return VGD_LIMIT;
    }
    if (r->given) {
        *why = "the last recording is still being written";
        return VGD_LIMIT;
    }
    if (!vgd_record_file_check(file, &can_resume, why)) {
        return VGD_RANGE;
    }
    r->state = VGD_RECORDING_WAITING;
    r->why = NULL;
    r->fd = vgd_fd_take(&file);
    (void)lseek(r->fd, 0, SEEK_SET); /* whoever opened it may have moved about in it */
    r->can_resume = can_resume;
    r->begun = false;
    r->told_loss = false;
    r->unheard_count = 0;
    r->picture_ms = picture_ms;
    r->start_ns = vgd_now_ns();
    r->earlier = (struct vgd_link_trace_state){0};
    r->now = (struct vgd_link_trace_state){0};
    vgd_log(VGD_LOG_INFO, "record", "recording what the guest does");
    if (worker_served) {
        give(r);
    }
    if (r->state != VGD_RECORDING_RUNNING) {
        return VGD_OK;
    }
    r->starting = true;
    vgd_timer_start(r->start_deadline, r->config.start_ms * NS_PER_MS);
    return VGD_AGAIN;
}

bool vgd_recording_stop(struct vgd_recording *r)
{
    if (r->state == VGD_RECORDING_WAITING) {
        over(r, r->begun ? NULL : "there was no worker to begin it");
    } else if (r->state == VGD_RECORDING_RUNNING) {
        r->state = VGD_RECORDING_STOPPING;
        vgd_timer_start(r->deadline, r->config.stop_ms * NS_PER_MS);
        /* A worker that does not take it is dying: its end ends the wait. */
        (void)r->config.to_worker(r->config.user, VGD_LINK_TRACE_STOP, NULL, 0, NULL, 0);
    } else {
        return r->state == VGD_RECORDING_STOPPING;
    }
    return true;
}

/* ---- the worker -------------------------------------------------------------------------------
 */

void vgd_recording_worker_told(struct vgd_recording *r)
{
    if (r->state == VGD_RECORDING_WAITING) {
        give(r);
    }
}

static const char *failure(int32_t error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return "the disk is full";
    case EPIPE:
    case ECONNRESET:
        return "nobody reads it any more";
    case EFBIG:
        return "the file may not grow any more";
    case EOPNOTSUPP:
        return "this vgd was built without recording: it needs zstd and xxHash";
    case EINVAL:
        return "what is in the file now is not what was recorded";
    default: {
        const char *text = strerrordesc_np(error);
        return text != NULL && error != 0 ? text : "the worker does not say why";
    }
    }
}

enum vgd_status vgd_recording_worker_state(struct vgd_recording *r,
                                           const struct vgd_link_message *msg)
{
    const struct vgd_link_trace_state *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL || msg->n_fds != 0 || !r->ever_given || m->state > VGD_LINK_WRITER_FAILED ||
        m->error < 0 || m->error > ERRNO_MAX) {
        return VGD_RANGE;
    }
    if (!r->given) {
        return VGD_OK; /* it has said its last, and perhaps says it again */
    }
    bool last = m->state == VGD_LINK_WRITER_ENDED || m->state == VGD_LINK_WRITER_FAILED;
    r->given = !last;
    r->now = *m;
    r->heard = true;
    r->unheard_count = 0;
    if (!last) {
        started(r); /* else over() tells, with what became of it */
    }
    if (r->state != VGD_RECORDING_RUNNING && r->state != VGD_RECORDING_STOPPING) {
        if (m->state ==
            VGD_LINK_WRITER_ENDED) { /* later than we wanted to wait, and whole all the same */
            r->state = VGD_RECORDING_ENDED;
            r->why = NULL;
        }
        return VGD_OK;
    }
    if (m->lost_records != 0 && !r->told_loss) {
        r->told_loss = true;
        vgd_log(VGD_LOG_WARNING, "record",
                "the file is slower than the guest: records are left out, and the gap is marked");
    }
    if (m->state == VGD_LINK_WRITER_FAILED) {
        over(r, failure(m->error));
    } else if (m->state == VGD_LINK_WRITER_ENDED) {
        over(r, r->state == VGD_RECORDING_STOPPING ? NULL : "the worker ended it by itself");
    }
    return VGD_OK;
}

void vgd_recording_worker_gone(struct vgd_recording *r, const struct vgd_worker_end *end)
{
    bool had_it = r->given;
    r->given = false;
    r->ever_given = false;
    if (!had_it || is_over(r)) {
        return;
    }
    struct vgd_link_trace_state *sum = &r->earlier;
    sum->records += r->now.records;
    sum->bytes_in += r->now.bytes_in;
    sum->bytes_out += r->now.bytes_out;
    sum->gaps += r->now.gaps;
    sum->lost_records += r->now.lost_records;
    sum->lost_bytes += r->now.lost_bytes;
    r->now = (struct vgd_link_trace_state){0};
    r->last_end = *end;
    r->unheard_count += !r->heard && !end->replaced;
    if (r->state == VGD_RECORDING_STOPPING) {
        over(r, "the worker ended before it had written all");
    } else if (end->left_behind) {
        over(r, "the worker hangs, and may still write to the file");
    } else if (!r->can_resume) {
        over(r, "the worker is gone, and only a regular file can be gone on with");
    } else if (r->unheard_count >= VGD_RECORDING_UNHEARD_MAX) {
        over(r, "worker after worker ended as soon as it recorded");
    } else {
        r->state = VGD_RECORDING_WAITING;
        started(r);
    }
}

void vgd_recording_get_status(const struct vgd_recording *r, struct vgd_recording_status *out)
{
    static const char *const names[] = {"none",     "waiting", "running",
                                        "stopping", "ended",   "failed"};
    uint64_t end_ns = is_over(r) ? r->end_ns : vgd_now_ns();
    *out = (struct vgd_recording_status){
        .state = r->state,
        .name = names[r->state],
        .why = r->why != NULL ? r->why : "",
        .records = r->earlier.records + r->now.records,
        .bytes_in = r->earlier.bytes_in + r->now.bytes_in,
        .bytes_out = r->earlier.bytes_out + r->now.bytes_out,
        .gaps = r->earlier.gaps + r->now.gaps,
        .lost_records = r->earlier.lost_records + r->now.lost_records,
        .lost_bytes = r->earlier.lost_bytes + r->now.lost_bytes,
        .memory_bytes = is_over(r) ? 0 : r->now.memory_bytes,
        .seconds = (double)(end_ns - r->start_ns) / NS_PER_SECOND,
    };
}

struct vgd_recording *vgd_recording_create(const struct vgd_recording_config *config)
{
    struct vgd_recording *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return NULL;
    }
    r->config = *config;
    r->config.stop_ms = config->stop_ms != 0 ? config->stop_ms : VGD_RECORDING_STOP_MS;
    r->config.start_ms = config->start_ms != 0 ? config->start_ms : VGD_RECORDING_START_MS;
    r->config.close_file = config->close_file != NULL ? config->close_file : close_file;
    r->fd = -1;
    r->deadline = vgd_timer_create(config->loop, deadline_passed, r);
    r->start_deadline = vgd_timer_create(config->loop, start_deadline_passed, r);
    if (r->deadline == NULL || r->start_deadline == NULL) {
        vgd_recording_destroy(r);
        return NULL;
    }
    return r;
}

void vgd_recording_destroy(struct vgd_recording *r)
{
    if (r == NULL) {
        return;
    }
    vgd_timer_destroy(&r->deadline);
    vgd_timer_destroy(&r->start_deadline);
    let_go(r);
    free(r);
}
