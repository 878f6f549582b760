/* SPDX-License-Identifier: MIT */
/*
 * The worker is killed while commands are in flight. Each chain is answered once, the time to the
 * first answer is measured, picture and cursor come back, the supervisor keeps nothing.
 *
 *   kill VGD [--virgl] [--kills=N] [--guests=N] [--spacing-ms=N] [--sanitized]
 *
 * Deaths within 10 s of a worker's READY count towards back-off: the spacing (10.5 s) keeps beyond
 * it. Several guests are killed in turns, so that 100 kills do not take 18 minutes.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kill_guests.h"
#include "log.h"
#include "scene.h"
#include "virgl_stream.h"

#define IN_FLIGHT 32u

struct options {
    struct kill_options kill;
    bool virgl;
};

/* What a guest's process reports for each kill; one write to a pipe. */
struct report {
    uint32_t guest;
    double answer_ms;    /* SIGKILL to the first command answered by the new worker */
    double whole_ms;     /* to a right picture */
    uint32_t unanswered; /* of those in flight */
    uint32_t spurious;   /* answers that name no chain */
    bool died;           /* the supervisor */
    bool picture_back, cursor_back, works, context_lost_right;
    struct kill_keeps keeps; /* of the last one */
    bool is_last;
};

/* Fill the control queue with transfers; how many began. */
static uint32_t put_in_flight(struct scene *s, struct vgd_guest_command *cmds[IN_FLIGHT],
                              uint64_t *fence_id)
{
    uint8_t body[VGD_CMD_TRANSFER_TO_HOST_2D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_transfer_to_host_2d transfer = {
        .rect = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX},
        .resource_id = SCENE_RES,
    };
    vgd_cmd_transfer_to_host_2d_encode(&w, &transfer);
    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        struct vgd_guest_request req = {
            .hdr = {.type = VGD_CMD_TRANSFER_TO_HOST_2D,
                    .flags = VGD_FLAG_FENCE,
                    .fence_id = ++*fence_id},
            .body = body,
            .body_bytes = sizeof(body),
            .resp_bytes = VGD_CTRL_HDR_SIZE,
        };
        cmds[i] = vgd_guest_gpu_begin(s->gpu, &req, true);
        if (cmds[i] == NULL) {
            return i;
        }
    }
    return IN_FLIGHT;
}

static bool any_new(struct vgd_guest_command *const *cmds, const bool *known, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (cmds[i]->done && !known[i]) {
            return true;
        }
    }
    return false;
}

/* Context 1 was there before the kill: submits fail, destroying it works, a new one works. */
static bool context_is_lost_right(struct scene *s)
{
    uint32_t nop = 0;
    uint32_t got = vgd_guest_submit_3d(s->gpu, 1, &nop, 1, 1);
    bool right = got >= VGD_RESP_ERR_UNSPEC;
    right = vgd_guest_ctx_destroy(s->gpu, 1) == VGD_RESP_OK_NODATA && right;
    right = vgd_guest_ctx_create(s->gpu, 1, 0, "after") == VGD_RESP_OK_NODATA && right;
    return vgd_guest_submit_3d(s->gpu, 1, &nop, 1, 2) == VGD_RESP_OK_NODATA && right;
}

static void one_kill(struct scene *s, bool has_3d, uint64_t *fence_id, struct report *r)
{
    struct vgd_guest_command *cmds[IN_FLIGHT];
    bool known[IN_FLIGHT] = {false};
    pid_t worker = scene_worker(s, 0, 5000);
    if (worker == 0) {
        r->unanswered = IN_FLIGHT;
        return;
    }
    uint32_t n = put_in_flight(s, cmds, fence_id);
    /* At another moment each time: none taken yet, some answered, all answered. */
    struct timespec pause = {.tv_nsec = (long)(*fence_id * 7919 % 23) * 400000};
    (void)nanosleep(&pause, NULL);
    uint64_t start_ns = vgd_now_ns();
    (void)kill(worker, SIGKILL);
    while (!process_is_gone(worker)) {
    }
    vgd_guest_display_scribble(vgd_guest_gpu_display(s->gpu));
    /* What the dying worker still answered does not count. */
    vgd_guest_gpu_turn(s->gpu, 0);
    for (uint32_t i = 0; i < n; i++) {
        known[i] = cmds[i]->done;
    }
    /* All were answered before it died: one more, that nobody has taken. */
    struct vgd_guest_command *extra = NULL;
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_RESOURCE_UNREF, .flags = VGD_FLAG_FENCE, .fence_id = ++*fence_id},
        .body = "\x00\xff\xff\x7f\0\0\0",
        .body_bytes = VGD_CMD_RESOURCE_UNREF_SIZE,
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    extra = vgd_guest_gpu_begin(s->gpu, &req, true);
    uint64_t deadline_ns = start_ns + UINT64_C(10000000000);
    while (!any_new(cmds, known, n) && extra != NULL && !extra->done &&
           vgd_now_ns() < deadline_ns) {
        vgd_guest_gpu_turn(s->gpu, 10);
    }
    r->answer_ms = (double)(vgd_now_ns() - start_ns) / 1e6;
    for (uint32_t i = 0; i < n; i++) {
        r->unanswered += !vgd_guest_gpu_wait(s->gpu, cmds[i], 5000);
        vgd_guest_gpu_end(s->gpu, cmds[i]);
    }
    r->unanswered += extra == NULL || !vgd_guest_gpu_wait(s->gpu, extra, 5000);
    vgd_guest_gpu_end(s->gpu, extra);
    /* The guest does nothing: picture and cursor come back by themselves. */
    r->picture_back = scene_is_shown(s, 3000);
    r->whole_ms = (double)(vgd_now_ns() - start_ns) / 1e6;
    r->cursor_back = scene_cursor_is_shown(s, 3000);
    r->context_lost_right = !has_3d || context_is_lost_right(s);
    /* And it works as before. */
    scene_paint(s, (uint32_t)*fence_id);
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    r->works = vgd_guest_transfer_2d(s->gpu, SCENE_RES, whole, 0) == VGD_RESP_OK_NODATA &&
               vgd_guest_flush(s->gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
               scene_is_shown(s, 3000);
    r->spurious = vgd_guest_queue_spurious_count(vgd_guest_gpu_queue(s->gpu, 0)) +
                  vgd_guest_queue_spurious_count(vgd_guest_gpu_queue(s->gpu, 1));
    r->died = !vgd_guest_process_alive(&s->vgd);
}

/* One guest with its vgd, in a process of its own. */
static int run_guest(const void *user, uint32_t guest, uint32_t kills, int report_fd)
{
    const struct options *o = user;
    struct scene s;
    if (!scene_open(&s, o->kill.vgd, o->virgl ? "--virgl" : "", "start")) {
        return 1;
    }
    bool has_3d = vgd_guest_gpu_has_3d(s.gpu);
    if (!scene_draw(&s) ||
        (has_3d && vgd_guest_ctx_create(s.gpu, 1, 0, "before") != VGD_RESP_OK_NODATA)) {
        (void)tap_ok(false, "start", "the scene cannot be drawn");
        scene_drop(&s);
        return 1;
    }
    uint64_t fence_id = 0;
    struct kill_keeps keeps = {0};
    for (uint32_t i = 0; i < kills; i++) {
        struct report r = {.guest = guest, .is_last = i + 1 == kills};
        kill_wait(&o->kill, &s, guest, i);
        if (i == 0) {
            kill_keeps_before(&keeps, &s);
        }
        one_kill(&s, has_3d, &fence_id, &r);
        if (r.is_last) {
            vgd_guest_gpu_settle(s.gpu, 50);
            kill_keeps_after(&keeps, &s);
            r.keeps = keeps;
        }
        if (write(report_fd, &r, sizeof(r)) != sizeof(r)) {
            break;
        }
    }
    bool ended = scene_close(&s);
    return ended ? 0 : 2;
}

/* What the reports of all guests add up to. */
struct sums {
    double answers[KILLS_MAX];
    double whole_max;
    uint32_t n, unanswered, spurious, no_picture, no_cursor, broken, bad_contexts, deaths, fd_leaks;
    int64_t growth_kib;
};

static void add_up(void *user, const void *report)
{
    struct sums *sum = user;
    const struct report *r = report;
    if (sum->n == KILLS_MAX) {
        return;
    }
    sum->answers[sum->n++] = r->answer_ms;
    sum->whole_max = r->whole_ms > sum->whole_max ? r->whole_ms : sum->whole_max;
    sum->unanswered += r->unanswered;
    sum->spurious = r->spurious > sum->spurious ? r->spurious : sum->spurious;
    sum->no_picture += !r->picture_back;
    sum->no_cursor += !r->cursor_back;
    sum->broken += !r->works;
    sum->bad_contexts += !r->context_lost_right;
    sum->deaths += r->died;
    if (r->is_last) {
        kill_keeps_add(&r->keeps, r->guest, &sum->fd_leaks, &sum->growth_kib);
    }
}

static int say(const struct options *o, struct sums *sum, uint32_t bad_ends)
{
    if (sum->n == 0) {
        (void)tap_ok(false, "kills", "no kill was done");
        return tap_done();
    }
    qsort(sum->answers, sum->n, sizeof(sum->answers[0]), kill_compare_double);
    double median = sum->answers[sum->n / 2];
    double worst = sum->answers[sum->n - 1];
    tap_note("%u kills in %u guests, %u ms apart in each; SIGKILL to first answer: median %.1f ms, "
             "max %.1f ms; to a right picture: max %.1f ms",
             sum->n, o->kill.guests, o->kill.spacing_ms, median, worst, sum->whole_max);
    (void)tap_ok(sum->n == o->kill.kills, "every kill was done", "%u of %u", sum->n, o->kill.kills);
    (void)tap_ok(sum->unanswered == 0, "every chain is answered", "%u are not", sum->unanswered);
    (void)tap_ok(sum->spurious == 0, "no chain is answered twice", "%u are", sum->spurious);
    if (o->kill.sanitized) {
        tap_skip("first answer in time", "sanitizers are slow");
    } else {
        (void)tap_ok(median <= ANSWER_MEDIAN_MS && worst <= ANSWER_MAX_MS, "first answer in time",
                     "median %.1f ms (at most %.0f), max %.1f ms (at most %.0f)", median,
                     ANSWER_MEDIAN_MS, worst, ANSWER_MAX_MS);
    }
    (void)tap_ok(sum->no_picture == 0, "the picture comes back by itself", "not after %u kills",
                 sum->no_picture);
    (void)tap_ok(sum->no_cursor == 0, "the cursor comes back by itself", "not after %u kills",
                 sum->no_cursor);
    if (o->virgl) {
        (void)tap_ok(sum->bad_contexts == 0, "contexts are lost, can be destroyed and made anew",
                     "not after %u kills", sum->bad_contexts);
    }
    (void)tap_ok(sum->broken == 0, "the device works as before", "not after %u kills", sum->broken);
    (void)tap_ok(sum->deaths == 0, "the supervisor lives", "it died %u times", sum->deaths);
    (void)tap_ok(sum->fd_leaks == 0, "the supervisor's file descriptors are as many",
                 "not in %u guests", sum->fd_leaks);
    if (o->kill.sanitized) {
        tap_skip("the supervisor's memory", "sanitizers are large");
    } else {
        (void)tap_ok(sum->growth_kib <= GROWTH_MAX_KIB, "the supervisor's memory",
                     "grew by %lld KiB", (long long)sum->growth_kib);
    }
    (void)tap_ok(bad_ends == 0, "all end with their connections", "%u do not", bad_ends);
    return tap_done();
}

static bool read_options(int argc, char **argv, struct options *o)
{
    static const struct option long_options[] = {
        {"virgl", no_argument, NULL, 'v'},
        KILL_LONG_OPTIONS,
        {NULL, 0, NULL, 0},
    };
    *o = (struct options){.kill = kill_options_default()};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == 'v') {
            o->virgl = true;
        } else if (!kill_option_take(&o->kill, option, optarg)) {
            return false;
        }
    }
    return kill_options_end(&o->kill, argc, argv, optind);
}

int main(int argc, char **argv)
{
    struct options o;
    if (!read_options(argc, argv, &o)) {
        (void)fprintf(stderr, "usage: kill VGD [--virgl] [--kills=N] [--guests=N] "
                              "[--spacing-ms=N] [--sanitized]\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    static struct sums sum;
    uint32_t bad_ends = kill_guests(&o.kill, run_guest, &o, sizeof(struct report), add_up, &sum);
    return say(&o, &sum, bad_ends);
}
