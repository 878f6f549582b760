/* SPDX-License-Identifier: MIT */
#include "scene.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "fd.h"
#include "log.h"

static unsigned tap_count, tap_failures;

bool tap_ok(bool ok, const char *name, const char *format, ...)
{
    tap_count++;
    tap_failures += !ok;
    (void)printf("%sok %u - %s\n", ok ? "" : "not ", tap_count, name);
    if (!ok && format != NULL) {
        va_list args;
        va_start(args, format);
        (void)printf("# ");
        (void)vprintf(format, args);
        (void)printf("\n");
        va_end(args);
    }
    (void)fflush(stdout);
    return ok;
}

void tap_skip(const char *name, const char *why)
{
    tap_count++;
    (void)printf("ok %u - %s # SKIP %s\n", tap_count, name, why);
}

void tap_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)printf("# ");
    (void)vprintf(format, args);
    (void)printf("\n");
    (void)fflush(stdout);
    va_end(args);
}

int tap_done(void)
{
    (void)printf("1..%u\n", tap_count);
    return tap_failures == 0 && tap_count > 0 ? 0 : 1;
}

void sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

bool scene_open(struct scene *s, const char *vgd, const char *options, const char *test_name)
{
    return scene_open_as(s, vgd, options, test_name,
                         &(struct vgd_guest_gpu_config){.n_scanouts = 1});
}

bool scene_options_read(int argc, char **argv, const char *name, struct scene_options *out)
{
    *out = (struct scene_options){.words = ""};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--virgl") == 0) {
            out->virgl = true;
            out->words = "--virgl";
        } else if (strcmp(argv[i], "--sanitized") == 0) {
            out->sanitized = true;
        } else {
            out->vgd = argv[i];
        }
    }
    if (out->vgd == NULL) {
        (void)fprintf(stderr, "usage: %s VGD [--virgl] [--sanitized]\n", name);
    }
    return out->vgd != NULL;
}

bool scene_open_as(struct scene *s, const char *vgd, const char *options, const char *test_name,
                   const struct vgd_guest_gpu_config *config)
{
    *s = (struct scene){.vgd.socket = -1};
    char command[2048];
    (void)snprintf(command, sizeof(command), "'%s' %s --fd={fd}", vgd, options);
    enum vgd_status st = vgd_guest_process_start(command, -1, &s->vgd);
    if (st == VGD_OK) {
        VGD_AUTO_FD fd = vgd_fd_take(&s->vgd.socket);
        s->gpu = vgd_guest_gpu_open(&fd, config, &st);
    }
    if (s->gpu == NULL) {
        (void)tap_ok(false, test_name, "vgd does not start: %s", vgd_status_text(st));
        scene_drop(s);
        return false;
    }
    return true;
}

void scene_paint(struct scene *s, uint32_t seed)
{
    for (uint32_t i = 0; i < SCENE_W_PX * SCENE_H_PX; i++) {
        s->pixels[i] = ((i + seed * 7919) * 2654435761u) >> 8;
    }
    vgd_guest_backing_write(s->gpu, &s->backing, 0, s->pixels,
                            (uint64_t)SCENE_W_PX * SCENE_H_PX * 4);
}

static bool is_ok(uint32_t got, const char *what)
{
    if (got != VGD_RESP_OK_NODATA) {
        tap_note("scene: %s got 0x%x", what, got);
    }
    return got == VGD_RESP_OK_NODATA;
}

bool scene_draw(struct scene *s)
{
    struct vgd_guest_gpu *gpu = s->gpu;
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    struct vgd_rect small = {.w_px = 64, .h_px = 64};
    s->pixels = malloc((size_t)SCENE_W_PX * SCENE_H_PX * 4);
    if (s->pixels == NULL ||
        !vgd_guest_backing_create(gpu, (uint64_t)SCENE_W_PX * SCENE_H_PX * 4, 9, &s->backing) ||
        !vgd_guest_backing_create(gpu, sizeof(s->cursor_pixels), 1, &s->cursor_backing)) {
        return false;
    }
    scene_paint(s, 1);
    for (uint32_t i = 0; i < 64 * 64; i++) {
        s->cursor_pixels[i] = i * 2654435761u;
    }
    vgd_guest_backing_write(gpu, &s->cursor_backing, 0, s->cursor_pixels, sizeof(s->cursor_pixels));
    struct vgd_cmd_update_cursor cursor = {
        .pos = {.x_px = SCENE_CURSOR_X_PX, .y_px = SCENE_CURSOR_Y_PX},
        .resource_id = SCENE_CURSOR_RES,
    };
    if (!is_ok(
            vgd_guest_create_2d(gpu, SCENE_RES, VGD_FORMAT_B8G8R8X8_UNORM, SCENE_W_PX, SCENE_H_PX),
            "create") ||
        !is_ok(vgd_guest_attach(gpu, SCENE_RES, s->backing.entries, s->backing.n_entries),
               "attach") ||
        !is_ok(vgd_guest_set_scanout(gpu, 0, SCENE_RES, whole), "scanout") ||
        !is_ok(vgd_guest_transfer_2d(gpu, SCENE_RES, whole, 0), "transfer") ||
        !is_ok(vgd_guest_flush(gpu, SCENE_RES, whole), "flush") ||
        !is_ok(vgd_guest_create_2d(gpu, SCENE_CURSOR_RES, VGD_FORMAT_B8G8R8A8_UNORM, 64, 64),
               "create cursor") ||
        !is_ok(vgd_guest_attach(gpu, SCENE_CURSOR_RES, s->cursor_backing.entries, 1),
               "attach cursor") ||
        !is_ok(vgd_guest_transfer_2d(gpu, SCENE_CURSOR_RES, small, 0), "transfer cursor")) {
        return false;
    }
    if (vgd_guest_cursor(gpu, VGD_CMD_UPDATE_CURSOR, &cursor) != 1) {
        tap_note("scene: the cursor command never comes back");
        return false;
    }
    if (!scene_is_shown(s, 5000)) {
        tap_note("scene: the picture never arrives");
        return false;
    }
    if (!scene_cursor_is_shown(s, 5000)) {
        tap_note("scene: the cursor never arrives");
        return false;
    }
    return true;
}

bool scene_is_shown(struct scene *s, int timeout_ms)
{
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    uint64_t deadline_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    for (;;) {
        if (vgd_guest_display_compare(vgd_guest_gpu_display(s->gpu), 0, whole, s->pixels,
                                      SCENE_W_PX, 0) == 0) {
            return true;
        }
        if (vgd_now_ns() >= deadline_ns) {
            return false;
        }
        vgd_guest_gpu_turn(s->gpu, 5);
    }
}

bool scene_cursor_is_shown(struct scene *s, int timeout_ms)
{
    uint64_t deadline_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    struct vgd_guest_cursor cursor;
    for (;;) {
        vgd_guest_display_cursor(vgd_guest_gpu_display(s->gpu), &cursor);
        if (cursor.visible && cursor.x_px == SCENE_CURSOR_X_PX &&
            cursor.y_px == SCENE_CURSOR_Y_PX &&
            memcmp(cursor.pixels, s->cursor_pixels, sizeof(s->cursor_pixels)) == 0) {
            return true;
        }
        if (vgd_now_ns() >= deadline_ns) {
            return false;
        }
        vgd_guest_gpu_turn(s->gpu, 5);
    }
}

bool process_is_gone(pid_t pid)
{
    char path[64];
    char text[256] = "";
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return true;
    }
    size_t got = fread(text, 1, sizeof(text) - 1, file);
    text[got] = '\0';
    (void)fclose(file);
    const char *close_at = strrchr(text, ')');
    return close_at == NULL || close_at[1] == '\0' || close_at[2] == 'Z' || close_at[2] == 'X';
}

long process_ticks(pid_t pid)
{
    char path[64];
    char text[1024] = "";
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    size_t got = fread(text, 1, sizeof(text) - 1, file);
    text[got] = '\0';
    (void)fclose(file);
    const char *at = strrchr(text, ')');
    long user = 0;
    long kernel = 0;
    if (at == NULL || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user,
                             &kernel) != 2) {
        return 0;
    }
    return user + kernel;
}

pid_t scene_worker(const struct scene *s, pid_t not_pid, int timeout_ms)
{
    uint64_t deadline_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    if (s->vgd.pid <= 0) {
        return 0;
    }
    for (;;) {
        pid_t pid = vgd_guest_child_named(s->vgd.pid, "vgd-worker");
        if (pid != 0 && pid != not_pid) {
            return pid;
        }
        if (vgd_now_ns() >= deadline_ns) {
            return 0;
        }
        sleep_ms(2);
    }
}

pid_t scene_kill_worker(const struct scene *s, int timeout_ms)
{
    pid_t pid = scene_worker(s, 0, timeout_ms);
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
    }
    return pid;
}

void scene_drop(struct scene *s)
{
    vgd_guest_gpu_close(s->gpu);
    s->gpu = NULL;
    (void)vgd_guest_process_stop(&s->vgd);
    free(s->backing.entries);
    free(s->cursor_backing.entries);
    free(s->pixels);
    *s = (struct scene){.vgd = {.socket = -1, .wait_status = s->vgd.wait_status}};
}

bool scene_close(struct scene *s)
{
    pid_t worker = scene_worker(s, 0, 0);
    vgd_guest_gpu_close(s->gpu);
    s->gpu = NULL;
    bool ended = vgd_guest_process_wait(&s->vgd, 5000);
    int status = s->vgd.wait_status;
    scene_drop(s);
    for (uint32_t i = 0; worker != 0 && i < 500 && !process_is_gone(worker); i++) {
        sleep_ms(2);
    }
    return ended && WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
           (worker == 0 || process_is_gone(worker));
}
