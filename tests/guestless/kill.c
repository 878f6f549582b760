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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"
#include "scene.h"
#include "virgl_stream.h"

#define IN_FLIGHT 32u
#define GUESTS_MAX 32u
#define KILLS_MAX 1000u
#define ANSWER_MEDIAN_MS 300.0
#define ANSWER_MAX_MS 1000.0
#define GROWTH_MAX_KIB 2048

struct options {
    const char *vgd;
    bool virgl, sanitized;
    uint32_t kills, guests, spacing_ms;
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
    int fds_before, fds_after;
    int64_t kib_before, kib_after;
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
static int run_guest(const struct options *o, uint32_t guest, uint32_t kills, int report_fd)
{
    struct scene s;
    if (!scene_open(&s, o->vgd, o->virgl ? "--virgl" : "", "start")) {
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
    struct report first = {0};
    for (uint32_t i = 0; i < kills; i++) {
        struct report r = {.guest = guest, .is_last = i + 1 == kills};
        /* Staggered over the guests, and each beyond the window in which deaths count. */
        uint64_t wait_ns = (uint64_t)o->spacing_ms * 1000000;
        if (i == 0) {
            wait_ns += wait_ns * guest / o->guests;
        }
        uint64_t until_ns = vgd_now_ns() + wait_ns;
        while (vgd_now_ns() < until_ns) {
            vgd_guest_gpu_turn(s.gpu, 20);
        }
        if (i == 0) {
            first.fds_before = vgd_guest_fd_count(s.vgd.pid);
            first.kib_before = vgd_guest_private_dirty_kib(s.vgd.pid);
        }
        one_kill(&s, has_3d, &fence_id, &r);
        if (r.is_last) {
            vgd_guest_gpu_settle(s.gpu, 50);
            r.fds_before = first.fds_before;
            r.kib_before = first.kib_before;
            r.fds_after = vgd_guest_fd_count(s.vgd.pid);
            r.kib_after = vgd_guest_private_dirty_kib(s.vgd.pid);
        }
        if (write(report_fd, &r, sizeof(r)) != sizeof(r)) {
            break;
        }
    }
    bool ended = scene_close(&s);
    return ended ? 0 : 2;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"virgl", no_argument, NULL, 'v'},
        {"sanitized", no_argument, NULL, 's'},
        {"kills", required_argument, NULL, 'k'},
        {"guests", required_argument, NULL, 'g'},
        {"spacing-ms", required_argument, NULL, 'm'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.kills = 8, .guests = 4, .spacing_ms = 10500};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        uint32_t number = optarg != NULL ? (uint32_t)strtoul(optarg, NULL, 10) : 0;
        switch (option) {
        case 'v':
            o.virgl = true;
            break;
        case 's':
            o.sanitized = true;
            break;
        case 'k':
            o.kills = number;
            break;
        case 'g':
            o.guests = number;
            break;
        case 'm':
            o.spacing_ms = number;
            break;
        default:
            return 2;
        }
    }
    if (optind + 1 != argc || o.guests == 0 || o.guests > GUESTS_MAX || o.kills < o.guests ||
        o.kills > KILLS_MAX) {
        (void)fprintf(stderr, "usage: kill VGD [--virgl] [--kills=N] [--guests=N] "
                              "[--spacing-ms=N] [--sanitized]\n");
        return 2;
    }
    o.vgd = argv[optind];
    (void)signal(SIGPIPE, SIG_IGN);
    int pipe_fds[2];
    if (pipe(pipe_fds) != 0) {
        return 1;
    }
    pid_t children[GUESTS_MAX];
    for (uint32_t g = 0; g < o.guests; g++) {
        uint32_t kills = o.kills / o.guests + (g < o.kills % o.guests ? 1 : 0);
        (void)fflush(stdout);
        children[g] = fork();
        if (children[g] == 0) {
            (void)close(pipe_fds[0]);
            _exit(run_guest(&o, g, kills, pipe_fds[1]));
        }
    }
    (void)close(pipe_fds[1]);
    static double answers[KILLS_MAX];
    double whole_max = 0;
    uint32_t n = 0;
    uint32_t unanswered = 0;
    uint32_t spurious = 0;
    uint32_t no_picture = 0;
    uint32_t no_cursor = 0;
    uint32_t broken = 0;
    uint32_t bad_contexts = 0;
    uint32_t deaths = 0;
    uint32_t fd_leaks = 0;
    int64_t growth_kib = 0;
    struct report r;
    while (read(pipe_fds[0], &r, sizeof(r)) == sizeof(r)) {
        answers[n++] = r.answer_ms;
        whole_max = r.whole_ms > whole_max ? r.whole_ms : whole_max;
        unanswered += r.unanswered;
        spurious = r.spurious > spurious ? r.spurious : spurious;
        no_picture += !r.picture_back;
        no_cursor += !r.cursor_back;
        broken += !r.works;
        bad_contexts += !r.context_lost_right;
        deaths += r.died;
        if (r.is_last) {
            fd_leaks += r.fds_before != r.fds_after;
            int64_t growth = r.kib_after - r.kib_before;
            growth_kib = growth > growth_kib ? growth : growth_kib;
            tap_note("guest %u: supervisor fds %d -> %d, Private_Dirty %lld -> %lld KiB", r.guest,
                     r.fds_before, r.fds_after, (long long)r.kib_before, (long long)r.kib_after);
        }
    }
    uint32_t bad_ends = 0;
    for (uint32_t g = 0; g < o.guests; g++) {
        int status = 0;
        (void)waitpid(children[g], &status, 0);
        bad_ends += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    if (n == 0) {
        (void)tap_ok(false, "kills", "no kill was done");
        return tap_done();
    }
    qsort(answers, n, sizeof(answers[0]), compare_double);
    double median = answers[n / 2];
    double worst = answers[n - 1];
    tap_note("%u kills in %u guests, %u ms apart in each; SIGKILL to first answer: median %.1f ms, "
             "max %.1f ms; to a right picture: max %.1f ms",
             n, o.guests, o.spacing_ms, median, worst, whole_max);
    (void)tap_ok(n == o.kills, "every kill was done", "%u of %u", n, o.kills);
    (void)tap_ok(unanswered == 0, "every chain is answered", "%u are not", unanswered);
    (void)tap_ok(spurious == 0, "no chain is answered twice", "%u are", spurious);
    if (o.sanitized) {
        tap_skip("first answer in time", "sanitizers are slow");
    } else {
        (void)tap_ok(median <= ANSWER_MEDIAN_MS && worst <= ANSWER_MAX_MS, "first answer in time",
                     "median %.1f ms (at most %.0f), max %.1f ms (at most %.0f)", median,
                     ANSWER_MEDIAN_MS, worst, ANSWER_MAX_MS);
    }
    (void)tap_ok(no_picture == 0, "the picture comes back by itself", "not after %u kills",
                 no_picture);
    (void)tap_ok(no_cursor == 0, "the cursor comes back by itself", "not after %u kills",
                 no_cursor);
    if (o.virgl) {
        (void)tap_ok(bad_contexts == 0, "contexts are lost, can be destroyed and made anew",
                     "not after %u kills", bad_contexts);
    }
    (void)tap_ok(broken == 0, "the device works as before", "not after %u kills", broken);
    (void)tap_ok(deaths == 0, "the supervisor lives", "it died %u times", deaths);
    (void)tap_ok(fd_leaks == 0, "the supervisor's file descriptors are as many", "not in %u guests",
                 fd_leaks);
    if (o.sanitized) {
        tap_skip("the supervisor's memory", "sanitizers are large");
    } else {
        (void)tap_ok(growth_kib <= GROWTH_MAX_KIB, "the supervisor's memory", "grew by %lld KiB",
                     (long long)growth_kib);
    }
    (void)tap_ok(bad_ends == 0, "all end with their connections", "%u do not", bad_ends);
    return tap_done();
}
