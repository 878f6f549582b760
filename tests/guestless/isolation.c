/* SPDX-License-Identifier: MIT */
/*
 * What keeps guests, workers and the supervisor apart, seen from outside, on real processes: memory
 * of one guest in another (case B15), workers that crash or run out of memory (I03), descriptors
 * that nobody passed (I05).
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "guest_venus.h"
#include "log.h"
#include "scene.h"
#include "venus_scene.h"
#include "virgl_stream.h"

#define MARK 0xa5
#define SIDE_PX 512u
#define PIECES 6u
#define FIRST_ID 100u
#define CTX 7u
#define BLOB_BYTES (4u << 20)
#define STRAY_FD 77 /* above those that a process of ours opens by itself */
#define FILES_MAX 4096u

/* --- B15 --- */

/* How much of @bytes looks like what another guest left. */
static uint64_t marks(const uint8_t *bytes, uint64_t n_bytes)
{
    uint64_t n = 0;
    for (uint64_t i = 15; i < n_bytes; i += 16) {
        bool all = true;
        for (uint64_t k = 0; k < 16 && all; k++) {
            all = bytes[i - k] == MARK;
        }
        n += all;
    }
    return n;
}

/* With 3D: textures of the guest, filled by it (@fill) or read as they are. Without: pictures. All
 * are freed. Returns how much of the mark was seen; UINT64_MAX: something failed. */
static uint64_t use_memory(struct vgd_guest_gpu *gpu, bool fill, bool has_3d)
{
    struct vgd_guest_backing backing;
    uint64_t n_bytes = (uint64_t)SIDE_PX * SIDE_PX * 4;
    uint64_t seen = 0;
    bool right = vgd_guest_backing_create(gpu, n_bytes, 1, &backing);
    if (!right) {
        return UINT64_MAX;
    }
    if (has_3d) {
        right = vgd_guest_ctx_create(gpu, CTX, 0, "memory") == VGD_RESP_OK_NODATA;
    }
    for (uint32_t i = 0; i < PIECES && right; i++) {
        uint32_t id = FIRST_ID + i;
        memset(backing.bytes, fill ? MARK : 0, n_bytes);
        struct vgd_rect whole = {.w_px = SIDE_PX, .h_px = SIDE_PX};
        if (!has_3d) {
            right = vgd_guest_create_2d(gpu, id, VGD_FORMAT_B8G8R8A8_UNORM, SIDE_PX, SIDE_PX) ==
                        VGD_RESP_OK_NODATA &&
                    vgd_guest_attach(gpu, id, backing.entries, 1) == VGD_RESP_OK_NODATA;
            if (right && fill) {
                right = vgd_guest_transfer_2d(gpu, id, whole, 0) == VGD_RESP_OK_NODATA;
            } else if (right) {
                /* Nothing was moved: what is shown is what it was made of. */
                right = vgd_guest_set_scanout(gpu, 0, id, whole) == VGD_RESP_OK_NODATA &&
                        vgd_guest_flush(gpu, id, whole) == VGD_RESP_OK_NODATA;
                vgd_guest_gpu_settle(gpu, 30);
                uint32_t w_px = 0;
                uint32_t h_px = 0;
                right = right &&
                        vgd_guest_display_scanout(vgd_guest_gpu_display(gpu), 0, &w_px, &h_px) &&
                        w_px == SIDE_PX && h_px == SIDE_PX;
                for (uint32_t at = 0; at < SIDE_PX * SIDE_PX && right; at++) {
                    seen += (vgd_guest_display_pixel(vgd_guest_gpu_display(gpu), 0, at % SIDE_PX,
                                                     at / SIDE_PX) &
                             0xffffff) != 0;
                }
            }
            continue;
        }
        struct vgd_cmd_resource_create_3d create = {.resource_id = id,
                                                    .target = VGD_VIRGL_TARGET_TEXTURE_2D,
                                                    .format = VGD_VIRGL_FORMAT_B8G8R8A8_UNORM,
                                                    .bind = VGD_VIRGL_BIND_RENDER_TARGET,
                                                    .width = SIDE_PX,
                                                    .height = SIDE_PX,
                                                    .depth = 1,
                                                    .array_size = 1};
        struct vgd_cmd_transfer_host_3d move = {.box = {.w = SIDE_PX, .h = SIDE_PX, .d = 1},
                                                .resource_id = id,
                                                .stride_bytes = SIDE_PX * 4};
        right = vgd_guest_create_3d(gpu, CTX, &create) == VGD_RESP_OK_NODATA &&
                vgd_guest_attach(gpu, id, backing.entries, 1) == VGD_RESP_OK_NODATA &&
                vgd_guest_ctx_attach(gpu, CTX, id) == VGD_RESP_OK_NODATA &&
                vgd_guest_transfer_3d(
                    gpu, fill ? VGD_CMD_TRANSFER_TO_HOST_3D : VGD_CMD_TRANSFER_FROM_HOST_3D, CTX,
                    &move) == VGD_RESP_OK_NODATA;
        seen += fill ? 0 : marks(backing.bytes, n_bytes);
    }
    if (has_3d) {
        (void)vgd_guest_ctx_destroy(gpu, CTX);
    }
    for (uint32_t i = 0; i < PIECES && right; i++) {
        right = vgd_guest_unref(gpu, FIRST_ID + i) == VGD_RESP_OK_NODATA;
    }
    vgd_guest_backing_destroy(gpu, &backing);
    return right ? seen : UINT64_MAX;
}

static void memory_of_another(const struct scene_options *o)
{
    struct scene a;
    struct scene b;
    struct scene c;
    if (!scene_open(&a, o->vgd, o->words, "two guests")) {
        return;
    }
    bool has_3d = vgd_guest_gpu_has_3d(a.gpu);
    bool right = use_memory(a.gpu, true, has_3d) == 0;
    /* One beside it, and one after it. */
    if (!scene_open(&b, o->vgd, o->words, "two guests")) {
        scene_drop(&a);
        return;
    }
    uint64_t beside = use_memory(b.gpu, false, has_3d);
    right = scene_close(&a) && right;
    right = scene_close(&b) && right;
    if (!scene_open(&c, o->vgd, o->words, "two guests")) {
        return;
    }
    uint64_t after = use_memory(c.gpu, false, has_3d);
    right = scene_close(&c) && right;
    (void)tap_ok(right && beside == 0 && after == 0,
                 "memory that one guest filled and freed holds nothing of it for another",
                 "beside it %llu, after it %llu", (unsigned long long)beside,
                 (unsigned long long)after);
}

/* A blob of Vulkan's, filled, or looked at. */
static bool use_blob(struct scene *s, bool fill, uint64_t *out_marks)
{
    struct vgd_venus v;
    struct vgd_venus_blob blob;
    bool right = vgd_venus_open(&v, s->gpu, CTX, FIRST_ID) &&
                 vgd_venus_blob_create(&v, FIRST_ID + 1, 0, BLOB_BYTES, &blob);
    if (right && fill) {
        memset(blob.bytes, MARK, BLOB_BYTES);
    } else if (right) {
        for (uint64_t i = 0; i < BLOB_BYTES; i++) {
            *out_marks += blob.bytes[i] != 0;
        }
    }
    right = right && vgd_venus_blob_destroy(&v, &blob);
    return vgd_venus_close(&v) && right;
}

static void mapped_memory_of_another(const struct scene_options *o)
{
    static const char name[] = "mapped memory of one guest holds nothing of it for another";
    struct scene a;
    struct scene b;
    bool offered;
    if (!o->virgl) {
        tap_skip(name, "no Vulkan without --virgl");
        return;
    }
    if (!venus_scene_open(&a, o->vgd, name, &offered)) {
        return;
    }
    if (!offered) {
        tap_skip(name, "this vgd offers no Vulkan here");
        scene_drop(&a);
        return;
    }
    if (!venus_scene_open(&b, o->vgd, name, &offered)) {
        scene_drop(&a);
        return;
    }
    uint64_t beside = 0;
    bool right = true;
    for (uint32_t i = 0; i < 4; i++) {
        right = use_blob(&a, true, &beside) && use_blob(&b, false, &beside) && right;
    }
    right = scene_close(&a) && right;
    right = scene_close(&b) && right;
    (void)tap_ok(right && beside == 0, name, "%llu bytes of it", (unsigned long long)beside);
}

/* --- I03 --- */

static void crashes(const struct scene_options *o)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL};
    struct scene s;
    if (!scene_open(&s, o->vgd, o->words, "crashes")) {
        return;
    }
    bool right = scene_draw(&s);
    pid_t worker = 0;
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]) && right; i++) {
        worker = scene_worker(&s, worker, 5000);
        right = worker != 0 && kill(worker, signals[i]) == 0;
        scene_paint(&s, 10 + (uint32_t)i);
        struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
        /* The command on its way may get an error; the next ones do not. */
        (void)vgd_guest_transfer_2d(s.gpu, SCENE_RES, whole, 0);
        right = right && vgd_guest_transfer_2d(s.gpu, SCENE_RES, whole, 0) == VGD_RESP_OK_NODATA &&
                vgd_guest_flush(s.gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
                scene_is_shown(&s, 5000);
        if (!right) {
            tap_note("signal %d", signals[i]);
        }
    }
    (void)tap_ok(right && vgd_guest_process_alive(&s.vgd),
                 "the device comes back after each way to crash", NULL);
    (void)tap_ok(scene_close(&s), "it ends after crashes", NULL);
}

static uint64_t virtual_bytes(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "re");
    unsigned long pages = 0;
    if (file != NULL) {
        if (fscanf(file, "%lu", &pages) != 1) {
            pages = 0;
        }
        (void)fclose(file);
    }
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The worker gets no more memory from the host: errors, or its end and another worker. */
static void no_memory(const struct scene_options *o)
{
    static const char name[] = "a worker that gets no memory costs no more than errors";
    if (o->sanitized) {
        tap_skip(name, "sanitizers need address space without end");
        return;
    }
    struct scene s;
    if (!scene_open(&s, o->vgd, o->words, name)) {
        return;
    }
    bool right = scene_draw(&s);
    pid_t worker = scene_worker(&s, 0, 5000);
    uint64_t limit_bytes = virtual_bytes(worker) + (256u << 10);
    struct rlimit limit = {.rlim_cur = limit_bytes, .rlim_max = limit_bytes};
    right = worker != 0 && prlimit(worker, RLIMIT_AS, &limit, NULL) == 0 && right;
    uint32_t n_errors = 0;
    bool answered = true;
    struct vgd_guest_backing backing;
    right = vgd_guest_backing_create(s.gpu, 16u << 20, 64, &backing) && right;
    for (uint32_t id = 10; id < 30 && right; id++) {
        struct vgd_rect all = {.w_px = 2048, .h_px = 2048};
        uint32_t got[3] = {
            vgd_guest_create_2d(s.gpu, id, VGD_FORMAT_B8G8R8A8_UNORM, 2048, 2048),
            vgd_guest_attach(s.gpu, id, backing.entries, backing.n_entries),
            vgd_guest_transfer_2d(s.gpu, id, all, 0),
        };
        for (size_t i = 0; i < 3; i++) {
            answered = answered && got[i] != 0;
            n_errors += got[i] >= VGD_RESP_ERR_UNSPEC;
        }
    }
    /* More than any command has been so far: the worker's own buffer has to grow for it. */
    static uint32_t words[1u << 18];
    answered = answered && (!o->virgl || vgd_guest_submit_3d(s.gpu, 1, words, 1u << 18, 0) != 0);
    pid_t worker_after = scene_worker(&s, 0, 5000);
    tap_note("%u errors; the worker %s", n_errors,
             worker == worker_after ? "lives" : "was replaced");
    for (uint32_t id = 10; id < 30; id++) {
        (void)vgd_guest_unref(s.gpu, id);
    }
    scene_paint(&s, 77);
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    bool shown = vgd_guest_transfer_2d(s.gpu, SCENE_RES, whole, 0) == VGD_RESP_OK_NODATA &&
                 vgd_guest_flush(s.gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
                 scene_is_shown(&s, 5000);
    (void)tap_ok(right && answered && n_errors > 0 && shown, name,
                 "answered: %d, errors: %u, shown: %d", answered, n_errors, shown);
    vgd_guest_backing_destroy(s.gpu, &backing);
    (void)tap_ok(scene_close(&s), "it ends without memory", NULL);
}

/* --- I05 --- */

/* What the descriptors of @pid name, as /proc tells; how many. */
static uint32_t files_of(pid_t pid, char out[][96], int fds[], uint32_t max)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    uint32_t n = 0;
    struct dirent *entry;
    while (dir != NULL && n < max && (entry = readdir(dir)) != NULL) {
        char link[384];
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(link, sizeof(link), "%s/%s", path, entry->d_name);
        ssize_t got = readlink(link, out[n], 95);
        out[n][got > 0 ? got : 0] = '\0';
        fds[n++] = atoi(entry->d_name);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return n;
}

static void descriptors(const struct scene_options *o)
{
    static char theirs[FILES_MAX][96];
    static char its[FILES_MAX][96];
    static int their_fds[FILES_MAX];
    static int its_fds[FILES_MAX];
    struct scene s;
    int stray[2];
    char stray_name[96] = "";
    if (pipe(stray) != 0 || dup2(stray[0], STRAY_FD) < 0) { /* no close-on-exec, on purpose */
        (void)tap_ok(false, "descriptors", "no pipe");
        return;
    }
    ssize_t got = readlink("/proc/self/fd/77", stray_name, sizeof(stray_name) - 1);
    bool open = got > 0 && scene_open(&s, o->vgd, o->words, "descriptors");
    (void)close(STRAY_FD);
    (void)close(stray[0]);
    (void)close(stray[1]);
    if (!open) {
        return;
    }
    bool drawn = scene_draw(&s);
    pid_t worker = scene_worker(&s, 0, 5000);
    uint32_t n_theirs = files_of(s.vgd.pid, theirs, their_fds, FILES_MAX);
    uint32_t n_its = files_of(worker, its, its_fds, FILES_MAX);
    uint32_t strays = 0;
    uint32_t shared = 0;
    bool supervisor_has_it = false;
    for (uint32_t i = 0; i < n_theirs; i++) {
        supervisor_has_it = supervisor_has_it || strcmp(theirs[i], stray_name) == 0;
    }
    for (uint32_t i = 0; i < n_its; i++) {
        strays += strcmp(its[i], stray_name) == 0;
        /* Each end of a socket has a number of its own: none is open in both. */
        for (uint32_t k = 0; k < n_theirs; k++) {
            if (its_fds[i] > 2 && strncmp(its[i], "socket:", 7) == 0 &&
                strcmp(its[i], theirs[k]) == 0) {
                tap_note("descriptor %d of the worker is %d of the supervisor: %s", its_fds[i],
                         their_fds[k], its[i]);
                shared++;
            }
        }
    }
    (void)tap_ok(drawn && n_its > 3 && supervisor_has_it,
                 "the supervisor was given a descriptor too many", "it was not: nothing is tested");
    (void)tap_ok(strays == 0, "the worker does not inherit what the supervisor was given too much",
                 NULL);
    (void)tap_ok(shared == 0, "no socket of the supervisor's is open in the worker", "%u are",
                 shared);
    (void)tap_ok(scene_close(&s), "it ends after a look at descriptors", NULL);
}

int main(int argc, char **argv)
{
    struct scene_options o;
    if (!scene_options_read(argc, argv, "isolation", &o)) {
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    vgd_guest_raise_files();
    memory_of_another(&o);
    mapped_memory_of_another(&o);
    crashes(&o);
    no_memory(&o);
    descriptors(&o);
    return tap_done();
}
