/* SPDX-License-Identifier: MIT */
/*
 * One line per event, on standard error: "vgd[PID] level: where: text". Guests cannot flood it:
 * what a guest causes goes through a rate limiter of its own.
 */
#ifndef VGD_BASE_LOG_H
#define VGD_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum vgd_log_level {
    VGD_LOG_ERROR = 0,
    VGD_LOG_WARNING,
    VGD_LOG_INFO,
    VGD_LOG_DEBUG,
};

/** Set the program word in front of each line ("vgd", "vgd-worker") and the most verbose level
 * shown. */
void vgd_log_setup(const char *program, enum vgd_log_level level);
/** The level set, so that a child can be given the same one. Any thread. */
enum vgd_log_level vgd_log_level(void);
/** Another level from now on. Any thread. */
void vgd_log_set_level(enum vgd_log_level level);
/** "error", "warning", "info" or "debug". */
const char *vgd_log_level_name(enum vgd_log_level level);
/** Parse "error", "warning", "info" or "debug"; false leaves *out untouched. */
bool vgd_log_level_parse(const char *text, enum vgd_log_level *out);

/** One line. @where is a literal such as "session". Safe on any thread; one write(2) a line. */
void vgd_log(enum vgd_log_level level, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* At most VGD_LOG_GUEST_BURST lines at once and VGD_LOG_GUEST_PER_SECOND on average for each
 * limiter. */
#define VGD_LOG_GUEST_BURST 10u
#define VGD_LOG_GUEST_PER_SECOND 1u

/** A token bucket; zero-initialised is full. One thread. */
struct vgd_log_limit {
    uint64_t filled_ns;     /* when tokens were last added; 0 before the first use */
    uint32_t tokens_count;  /* lines that may be printed now */
    uint32_t dropped_count; /* lines suppressed since the last printed one */
};

/** What a guest did wrong: printed at warning level while @limit allows, else counted; the next
 *  printed line says how many were suppressed. */
void vgd_log_guest(struct vgd_log_limit *limit, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** Nanoseconds of CLOCK_MONOTONIC. */
uint64_t vgd_now_ns(void);

#endif
