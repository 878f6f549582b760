/* SPDX-License-Identifier: MIT */
/* What the tests of real processes share: TAP, a guest on a fresh vgd, and a scene on its screen.
 */
#ifndef VGD_TESTS_SCENE_H
#define VGD_TESTS_SCENE_H

#include <stdbool.h>
#include <stdint.h>

#include "guest_gpu.h"
#include "guest_process.h"

#define SCENE_W_PX 800u
#define SCENE_H_PX 600u
#define SCENE_RES 1u
#define SCENE_CURSOR_RES 2u
#define SCENE_CURSOR_X_PX 123u
#define SCENE_CURSOR_Y_PX 45u

/** One TAP line; @format (may be NULL) explains a failure. Returns @ok. */
bool tap_ok(bool ok, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void tap_skip(const char *name, const char *why);
void tap_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** The plan, and the exit status. */
int tap_done(void);

/* What a test program is told: VGD [--virgl] [--sanitized]. */
struct scene_options {
    const char *vgd;
    const char *words; /* more of its command line */
    bool virgl, sanitized;
};
/** False: that is not it, and the usage of @name is said on standard error. */
bool scene_options_read(int argc, char **argv, const char *name, struct scene_options *out);

struct scene {
    struct vgd_guest_process vgd;
    struct vgd_guest_gpu *gpu;
    struct vgd_guest_backing backing, cursor_backing;
    uint32_t *pixels;
    uint32_t cursor_pixels[64 * 64];
};

/** Start "@vgd --fd N" (@options: more words, "" for none) and a guest. False: said in TAP. */
bool scene_open(struct scene *s, const char *vgd, const char *options, const char *test_name);
/** The same with another guest than the usual one. */
bool scene_open_as(struct scene *s, const char *vgd, const char *options, const char *test_name,
                   const struct vgd_guest_gpu_config *config);
/** A picture on scanout 0 and a cursor, seen to arrive. */
bool scene_draw(struct scene *s);
/** New pixels in guest RAM only. */
void scene_paint(struct scene *s, uint32_t seed);
/** Is the display right within @timeout_ms? The guest does nothing but wait. */
bool scene_is_shown(struct scene *s, int timeout_ms);
bool scene_cursor_is_shown(struct scene *s, int timeout_ms);
/** Close the guest; the process must end by itself with status 0, its children too. */
bool scene_close(struct scene *s);
/** Same as scene_close, whatever happens. */
void scene_drop(struct scene *s);

/** The worker, waiting up to @timeout_ms for one that is not @not_pid. 0: none. */
pid_t scene_worker(const struct scene *s, pid_t not_pid, int timeout_ms);
/** SIGKILL to the worker once there is one, within @timeout_ms; its pid, or 0 if there was none. */
pid_t scene_kill_worker(const struct scene *s, int timeout_ms);
/** Is process @pid gone, or a zombie? */
bool process_is_gone(pid_t pid);
/** Its CPU time in ticks of sysconf(_SC_CLK_TCK); 0: it is gone. */
long process_ticks(pid_t pid);
void sleep_ms(unsigned ms);

#endif
