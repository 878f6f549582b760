/* SPDX-License-Identifier: MIT */
/*
 * vgd's processes from start to end: what they hold, what they use while idle, reboots, two guests
 * at once, a worker that dies over and over, and every way to end.
 *
 *   life VGD [--virgl] [--sanitized]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"
#include "scene.h"

#define SUPERVISOR_MAX_KIB 4096
#define WORKER_2D_MAX_KIB 20480
#define GROWTH_MAX_KIB 2048
#define IDLE_SECONDS 4u
#define IDLE_MAX_PERCENT 0.5

static void footprint(const struct scene_options *o)
{
    struct scene s;
    if (!scene_open(&s, o->vgd, o->words, "footprint")) {
        return;
    }
    bool drawn = scene_draw(&s);
    vgd_guest_gpu_settle(s.gpu, 200);
    pid_t worker = scene_worker(&s, 0, 1000);
    int64_t supervisor_kib = vgd_guest_private_dirty_kib(s.vgd.pid);
    int64_t worker_kib = vgd_guest_private_dirty_kib(worker);
    tap_note("Private_Dirty with a picture on screen: supervisor %lld KiB, worker %lld KiB",
             (long long)supervisor_kib, (long long)worker_kib);
    (void)tap_ok(drawn && worker != 0, "a picture and a cursor", NULL);
    if (o->sanitized) {
        tap_skip("memory", "sanitizers are large");
    } else {
        (void)tap_ok(supervisor_kib <= SUPERVISOR_MAX_KIB, "the supervisor's memory", "%lld KiB",
                     (long long)supervisor_kib);
        if (!o->virgl) {
            (void)tap_ok(worker_kib <= WORKER_2D_MAX_KIB, "a 2D worker's memory", "%lld KiB",
                         (long long)worker_kib);
        }
    }
    long before = process_ticks(s.vgd.pid) + process_ticks(worker);
    sleep_ms(IDLE_SECONDS * 1000);
    long used = process_ticks(s.vgd.pid) + process_ticks(worker) - before;
    double percent = (double)used * 100.0 / (double)sysconf(_SC_CLK_TCK) / IDLE_SECONDS;
    (void)tap_ok(percent < IDLE_MAX_PERCENT, "idle", "%.2f %% of a core", percent);
    (void)tap_ok(scene_close(&s), "everything ends when the connection closes", NULL);
}

/* A command of a stream that nobody knows yet: the library refuses it as wrong, vgd as not offered.
 */
static void strict(const struct scene_options *o)
{
    static const struct {
        const char *name, *words;
        uint32_t resp;
    } cases[] = {
        {"a newer command is passed on", "--virgl", VGD_RESP_ERR_INVALID_PARAMETER},
        {"with --strict it is refused", "--virgl --strict", VGD_RESP_ERR_UNSPEC},
    };
    for (size_t i = 0; o->virgl && i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scene s;
        if (!scene_open(&s, o->vgd, cases[i].words, cases[i].name)) {
            continue;
        }
        static const uint32_t newer[] = {0xee | 1u << 16, 0};
        bool made = vgd_guest_ctx_create(s.gpu, 1, 0, "strict") == VGD_RESP_OK_NODATA;
        uint32_t resp = vgd_guest_submit_3d(s.gpu, 1, newer, 2, 0);
        (void)tap_ok(made && resp == cases[i].resp, cases[i].name, "0x%x", resp);
        scene_drop(&s);
    }
}

static void end_by_signal(const struct scene_options *o)
{
    struct scene s;
    if (!scene_open(&s, o->vgd, o->words, "SIGTERM")) {
        return;
    }
    (void)scene_draw(&s);
    pid_t worker = scene_worker(&s, 0, 1000);
    (void)kill(s.vgd.pid, SIGTERM);
    bool ended = vgd_guest_process_wait(&s.vgd, 3000);
    sleep_ms(200);
    (void)tap_ok(ended && process_is_gone(worker), "SIGTERM ends both processes", NULL);
    scene_drop(&s);

    if (!scene_open(&s, o->vgd, o->words, "SIGKILL")) {
        return;
    }
    worker = scene_worker(&s, 0, 5000);
    (void)kill(s.vgd.pid, SIGKILL);
    (void)vgd_guest_process_wait(&s.vgd, 3000);
    for (uint32_t i = 0; i < 1000 && !process_is_gone(worker); i++) {
        sleep_ms(2);
    }
    (void)tap_ok(worker != 0 && process_is_gone(worker),
                 "the worker dies with a supervisor that is killed", NULL);
    scene_drop(&s);
}

static void reboots(const struct scene_options *o)
{
    struct scene s;
    if (!scene_open(&s, o->vgd, o->words, "reboots")) {
        return;
    }
    bool right = true;
    int fds[11] = {0};
    int worker_fds[11] = {0};
    int64_t kib[11] = {0};
    int64_t worker_kib[11] = {0};
    for (uint32_t i = 1; i <= 10 && right; i++) {
        right = scene_draw(&s);
        if (vgd_guest_gpu_has_3d(s.gpu)) {
            right = vgd_guest_ctx_create(s.gpu, 3, 0, "boot") == VGD_RESP_OK_NODATA && right;
        }
        vgd_guest_gpu_settle(s.gpu, 50);
        pid_t worker = scene_worker(&s, 0, 1000);
        fds[i] = vgd_guest_fd_count(s.vgd.pid);
        worker_fds[i] = vgd_guest_fd_count(worker);
        kib[i] = vgd_guest_private_dirty_kib(s.vgd.pid);
        worker_kib[i] = vgd_guest_private_dirty_kib(worker);
        right = vgd_guest_gpu_reset(s.gpu) == VGD_OK && right;
        vgd_guest_backing_destroy(s.gpu, &s.backing);
        vgd_guest_backing_destroy(s.gpu, &s.cursor_backing);
        free(s.pixels);
        s.pixels = NULL;
    }
    (void)tap_ok(right, "10 reboots", NULL);
    (void)tap_ok(fds[2] == fds[10] && worker_fds[2] == worker_fds[10],
                 "file descriptors after 10 reboots as after 2",
                 "supervisor %d and %d, worker %d and %d", fds[2], fds[10], worker_fds[2],
                 worker_fds[10]);
    tap_note("Private_Dirty after 2 and 10 reboots: supervisor %lld and %lld KiB, worker %lld and "
             "%lld KiB",
             (long long)kib[2], (long long)kib[10], (long long)worker_kib[2],
             (long long)worker_kib[10]);
    if (o->sanitized) {
        tap_skip("memory after 10 reboots", "sanitizers keep freed memory");
    } else {
        (void)tap_ok(kib[10] - kib[2] <= GROWTH_MAX_KIB &&
                         worker_kib[10] - worker_kib[2] <= GROWTH_MAX_KIB,
                     "memory after 10 reboots", NULL);
    }
    (void)tap_ok(scene_close(&s), "it ends after reboots", NULL);
}

static void two_guests(const struct scene_options *o)
{
    struct scene a;
    struct scene b;
    if (!scene_open(&a, o->vgd, o->words, "two guests")) {
        return;
    }
    if (!scene_open(&b, o->vgd, o->words, "two guests")) {
        scene_drop(&a);
        return;
    }
    bool right = scene_draw(&a) && scene_draw(&b);
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    for (uint32_t i = 0; i < 20 && right; i++) {
        struct scene *s = i % 2 == 0 ? &a : &b;
        scene_paint(s, i + 2);
        right = vgd_guest_transfer_2d(s->gpu, SCENE_RES, whole, 0) == VGD_RESP_OK_NODATA &&
                vgd_guest_flush(s->gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
                scene_is_shown(s, 3000);
    }
    /* One worker dies: the other guest does not notice. */
    pid_t worker = scene_worker(&b, 0, 1000);
    (void)scene_kill_worker(&a, 1000);
    right = vgd_guest_transfer_2d(b.gpu, SCENE_RES, whole, 0) == VGD_RESP_OK_NODATA && right;
    right = scene_worker(&b, 0, 0) == worker && right;
    (void)tap_ok(right, "two guests at once", NULL);
    bool first = scene_close(&a);
    (void)tap_ok(scene_close(&b) && first, "two guests end", NULL);
}

static void crash_loop(const struct scene_options *o)
{
    /* Each new worker is killed at once: it backs off, but everything is answered in the end, and
     * the supervisor neither spins nor gives up. */
    struct scene s;
    if (!scene_open(&s, o->vgd, o->words, "crash loop")) {
        return;
    }
    bool right = scene_draw(&s);
    uint32_t kills = 0;
    pid_t last = 0;
    uint64_t until_ns = vgd_now_ns() + UINT64_C(5000000000);
    long before = process_ticks(s.vgd.pid);
    while (vgd_now_ns() < until_ns) {
        pid_t worker = scene_worker(&s, last, 200);
        if (worker != 0) {
            (void)kill(worker, SIGKILL); /* not 0: that would be our own group */
            last = worker;
            kills++;
        }
        vgd_guest_gpu_turn(s.gpu, 1);
    }
    long used = process_ticks(s.vgd.pid) - before;
    tap_note("%u workers killed in 5 s; the supervisor used %.0f ms of CPU", kills,
             (double)used * 1000.0 / (double)sysconf(_SC_CLK_TCK));
    (void)tap_ok(kills >= 3 && kills <= 40, "a crash loop backs off", "%u workers in 5 s", kills);
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    uint32_t got = 0;
    uint64_t start_ns = vgd_now_ns();
    for (uint32_t i = 0; i < 3 && got != VGD_RESP_OK_NODATA; i++) {
        got = vgd_guest_transfer_2d(s.gpu, SCENE_RES, whole, 0);
    }
    tap_note("after the loop the next command is answered in %.1f s",
             (double)(vgd_now_ns() - start_ns) / 1e9);
    (void)tap_ok(right && got == VGD_RESP_OK_NODATA, "the device comes back after a crash loop",
                 "the transfer gets 0x%x", got);
    (void)vgd_guest_flush(s.gpu, SCENE_RES, whole);
    (void)tap_ok(scene_is_shown(&s, 5000), "the picture after a crash loop", NULL);
    (void)tap_ok(vgd_guest_queue_spurious_count(vgd_guest_gpu_queue(s.gpu, 0)) == 0,
                 "no chain is answered twice in a crash loop", NULL);
    (void)tap_ok(scene_close(&s), "it ends after a crash loop", NULL);
}

static void killed_at_odd_moments(const struct scene_options *o)
{
    /* The worker dies while the VMM stops, starts, or resets. */
    struct scene s;
    if (!scene_open(&s, o->vgd, o->words, "odd moments")) {
        return;
    }
    bool right = scene_draw(&s);
    (void)scene_kill_worker(&s, 1000);
    uint64_t start_ns = vgd_now_ns();
    enum vgd_status paused = vgd_guest_gpu_pause(s.gpu);
    right = right && paused == VGD_OK;
    tap_note("a pause right after a death takes %.1f ms", (double)(vgd_now_ns() - start_ns) / 1e6);
    right = right && vgd_guest_gpu_resume(s.gpu) == VGD_OK;
    vgd_guest_display_scribble(vgd_guest_gpu_display(s.gpu));
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    right = right && vgd_guest_flush(s.gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA;
    (void)tap_ok(right && scene_is_shown(&s, 5000), "the worker dies before a pause",
                 "pause: %s, at %s", vgd_status_text(paused),
                 vgd_guest_frontend_last_request(vgd_guest_gpu_frontend(s.gpu)));

    right = vgd_guest_gpu_pause(s.gpu) == VGD_OK;
    (void)scene_kill_worker(&s, 5000);
    right = right && vgd_guest_gpu_resume(s.gpu) == VGD_OK;
    vgd_guest_display_scribble(vgd_guest_gpu_display(s.gpu));
    right = right && vgd_guest_flush(s.gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA;
    (void)tap_ok(right && scene_is_shown(&s, 5000), "the worker dies during a pause", NULL);

    (void)scene_kill_worker(&s, 5000);
    right = vgd_guest_gpu_reset(s.gpu) == VGD_OK;
    right = right && vgd_guest_unref(s.gpu, SCENE_RES) == VGD_RESP_ERR_INVALID_RESOURCE_ID;
    (void)tap_ok(right, "the worker dies before a reset", NULL);
    (void)tap_ok(scene_close(&s), "it ends after odd moments", NULL);
}

static void many_connections(const struct scene_options *o)
{
    /* --fd with a connection that closes before a word is said, and one that says half a word. */
    bool right = true;
    for (uint32_t i = 0; i < 10; i++) {
        char command[2048];
        (void)snprintf(command, sizeof(command), "'%s' %s --fd={fd}", o->vgd, o->words);
        struct vgd_guest_process p;
        if (vgd_guest_process_start(command, -1, &p) != VGD_OK) {
            right = false;
            break;
        }
        (void)send(p.socket, "\x01\0\0\0\x01", i % 6, MSG_NOSIGNAL);
        vgd_fd_closep(&p.socket);
        right = vgd_guest_process_wait(&p, 3000) && WIFEXITED(p.wait_status) && right;
        (void)vgd_guest_process_stop(&p);
    }
    (void)tap_ok(right, "connections that close at once", NULL);
}

int main(int argc, char **argv)
{
    struct scene_options o;
    if (!scene_options_read(argc, argv, "life", &o)) {
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    footprint(&o);
    strict(&o);
    end_by_signal(&o);
    reboots(&o);
    two_guests(&o);
    killed_at_odd_moments(&o);
    many_connections(&o);
    crash_loop(&o);
    return tap_done();
}
