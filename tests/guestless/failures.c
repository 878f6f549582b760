/* SPDX-License-Identifier: MIT */
/*
 * Case F08: each call on a command's way by which the worker or the supervisor asks the host for
 * memory or a descriptor fails once, on real processes (tests/lib/failing.c). The command may get
 * an error; the ones after it work, the supervisor lives, nothing is left open.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "failing.h"
#include "fd.h"
#include "log.h"
#include "scene.h"

#define CALLS_MAX 400u /* more than there are: a test that never ends is none */
#define PLACES_MAX 64u
#define ID 50u
#define SIDE_PX 128u

struct options {
    const char *vgd, *library;
};

struct run {
    bool open;    /* the guest got as far as the commands */
    bool reached; /* there was such a call */
    bool answered, works, alive, ends;
    bool replaced; /* the worker died of it, and its contexts with it */
    uint64_t place;
};

static struct failing_plan *plan;

/* A command of each kind that takes memory or descriptors; all have to be answered. */
static bool commands(struct scene *s)
{
    struct vgd_guest_gpu *gpu = s->gpu;
    struct vgd_rect whole = {.w_px = SIDE_PX, .h_px = SIDE_PX};
    struct vgd_guest_backing backing;
    if (!vgd_guest_backing_create(gpu, SIDE_PX * SIDE_PX * 4, 16, &backing)) {
        return false;
    }
    bool answered = true;
    answered &= vgd_guest_create_2d(gpu, ID, VGD_FORMAT_B8G8R8X8_UNORM, SIDE_PX, SIDE_PX) != 0;
    answered &= vgd_guest_attach(gpu, ID, backing.entries, backing.n_entries) != 0;
    answered &= vgd_guest_transfer_2d(gpu, ID, whole, 0) != 0;
    answered &= vgd_guest_set_scanout(gpu, 0, ID, whole) != 0;
    answered &= vgd_guest_flush(gpu, ID, whole) != 0;
    struct vgd_cmd_update_cursor cursor = {.resource_id = SCENE_CURSOR_RES};
    answered &= vgd_guest_cursor(gpu, VGD_CMD_UPDATE_CURSOR, &cursor) != 0;
    struct vgd_resp_display_info info;
    struct vgd_resp_edid edid;
    answered &= vgd_guest_get_display_info(gpu, &info) != 0;
    answered &= vgd_guest_get_edid(gpu, 0, &edid) != 0;
    /* A response in more pieces than the worker has room for, and a command longer than any so far.
     */
    static uint8_t data[256u << 10];
    uint8_t body[VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE] = {0};
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_GET_EDID, .flags = VGD_FLAG_FENCE, .fence_id = 1},
        .body = body,
        .body_bytes = VGD_CMD_GET_EDID_SIZE,
        .resp_bytes = 1200,
        .resp_piece_bytes = 20,
    };
    answered &= vgd_guest_gpu_call(gpu, &req, NULL, 0) != 0;
    req = (struct vgd_guest_request){.hdr = {.type = VGD_CMD_RESOURCE_ATTACH_BACKING},
                                     .body = body,
                                     .body_bytes = sizeof(body),
                                     .data = data,
                                     .data_bytes = sizeof(data),
                                     .resp_bytes = VGD_CTRL_HDR_SIZE};
    answered &= vgd_guest_gpu_call(gpu, &req, NULL, 0) != 0;
    answered &= vgd_guest_detach(gpu, ID) != 0;
    answered &= vgd_guest_unref(gpu, ID) != 0;
    vgd_guest_backing_destroy(gpu, &backing);
    return answered;
}

static struct run run_with(const struct options *o, const char *program, uint32_t fail_at)
{
    struct run r = {0};
    struct scene s;
    (void)memset(plan->program, 0, sizeof(plan->program));
    (void)snprintf(plan->program, sizeof(plan->program), "%s", program);
    plan->fail_at = fail_at;
    atomic_store(&plan->armed, 0);
    atomic_store(&plan->calls, 0);
    atomic_store(&plan->failed_at, 0);
    (void)setenv("LD_PRELOAD", o->library, 1);
    bool open = scene_open(&s, o->vgd, "", "start");
    (void)unsetenv("LD_PRELOAD");
    if (!open) {
        return r;
    }
    r.open = scene_draw(&s);
    pid_t worker = scene_worker(&s, 0, 5000);
    atomic_store(&plan->armed, 1);
    if (strcmp(program, "vgd") == 0) {
        /* On a command's own way the supervisor asks for nothing; when the VMM replaces its display
         * it does, and may do without one. */
        r.open = vgd_guest_frontend_new_display(vgd_guest_gpu_frontend(s.gpu)) == VGD_OK && r.open;
    }
    r.answered = commands(&s);
    r.reached = atomic_load(&plan->failed_at) != 0;
    r.place = atomic_load(&plan->failed_at);
    atomic_store(&plan->armed, 0);
    r.alive = vgd_guest_process_alive(&s.vgd);
    r.replaced = scene_worker(&s, 0, 5000) != worker;
    if (strcmp(program, "vgd") == 0 && r.alive) {
        r.alive = vgd_guest_frontend_new_display(vgd_guest_gpu_frontend(s.gpu)) == VGD_OK;
    }
    /* And now without failures: all of it, and the picture. */
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    scene_paint(&s, fail_at);
    r.works = r.alive && commands(&s) &&
              vgd_guest_set_scanout(s.gpu, 0, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
              vgd_guest_transfer_2d(s.gpu, SCENE_RES, whole, 0) == VGD_RESP_OK_NODATA &&
              vgd_guest_flush(s.gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
              scene_is_shown(&s, 5000);
    r.ends = scene_close(&s);
    return r;
}

static void every_call(const struct options *o, const char *program)
{
    char name[96];
    uint32_t n = 0;
    uint32_t failed = 0;
    uint32_t replaced = 0;
    uint64_t places[PLACES_MAX];
    uint32_t n_places = 0;
    for (uint32_t at = 1; at < CALLS_MAX; at++) {
        struct run r = run_with(o, program, at);
        if (!r.open) {
            failed++;
            break;
        }
        if (!r.reached) {
            break;
        }
        n++;
        bool known = false;
        for (uint32_t i = 0; i < n_places; i++) {
            known = known || places[i] == r.place;
        }
        if (!known && n_places < PLACES_MAX) {
            places[n_places++] = r.place;
        }
        if (r.replaced && !known) {
            tap_note("%s: the worker dies of the call that returns to 0x%llx", program,
                     (unsigned long long)r.place);
        }
        replaced += r.replaced;
        if (!r.answered || !r.works || !r.alive || !r.ends || r.replaced) {
            failed++;
            tap_note("%s: call %u (returns to 0x%llx): answered %d, works after it %d, supervisor "
                     "lives %d, ends %d",
                     program, at, (unsigned long long)r.place, r.answered, r.works, r.alive,
                     r.ends);
        }
    }
    tap_note("%s: %u calls at %u places; the worker was replaced after %u", program, n, n_places,
             replaced);
    (void)snprintf(name, sizeof(name), "every failing call of %s costs one command at most",
                   program);
    (void)tap_ok(n > 1 && n + 1 < CALLS_MAX && failed == 0, name, "%u of %u do more", failed, n);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fprintf(stderr, "usage: failures LIBRARY VGD\n");
        return 2;
    }
    struct options o = {.library = argv[1], .vgd = argv[2]};
    char path[] = "/tmp/vgd-failing-XXXXXX";
    VGD_AUTO_FD fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0 || ftruncate(fd, sizeof(*plan)) != 0) {
        return 1;
    }
    plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (plan == MAP_FAILED) {
        return 1;
    }
    (void)setenv(FAILING_VARIABLE, path, 1);
    (void)signal(SIGPIPE, SIG_IGN);
    every_call(&o, "vgd-worker");
    every_call(&o, "vgd");
    (void)unlink(path);
    return tap_done();
}
