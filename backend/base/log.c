/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024
#define NS_PER_SECOND 1000000000ull

static const char *log_program = "vgd";
static _Atomic enum vgd_log_level log_level = VGD_LOG_INFO; /* orders nothing */
static const char *const level_names[] = {"error", "warning", "info", "debug"};

void vgd_log_setup(const char *program, enum vgd_log_level level)
{
    log_program = program;
    vgd_log_set_level(level);
}

enum vgd_log_level vgd_log_level(void)
{
    return atomic_load_explicit(&log_level, memory_order_relaxed);
}

void vgd_log_set_level(enum vgd_log_level level)
{
    atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

const char *vgd_log_level_name(enum vgd_log_level level)
{
    return level_names[level];
}

bool vgd_log_level_parse(const char *text, enum vgd_log_level *out)
{
    for (unsigned i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *out = (enum vgd_log_level)i;
            return true;
        }
    }
    return false;
}

uint64_t vgd_now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SECOND + (uint64_t)ts.tv_nsec;
}

static void vlog(enum vgd_log_level level, const char *where, uint32_t dropped_count,
                 const char *format, va_list args) __attribute__((format(printf, 4, 0)));

static void vlog(enum vgd_log_level level, const char *where, uint32_t dropped_count,
                 const char *format, va_list args)
{
    char line[LINE_MAX_BYTES];
    int at = snprintf(line, sizeof(line), "%s[%d] %s: %s: ", log_program, (int)getpid(),
                      level_names[level], where);
    int n = vsnprintf(line + at, sizeof(line) - (size_t)at, format, args);
    at = n < 0 || n >= (int)sizeof(line) - at ? (int)sizeof(line) - 1 : at + n;
    for (int i = 0; i < at; i++) { /* guest-chosen names must not forge lines or move the cursor */
        if ((unsigned char)line[i] < ' ' || line[i] == 127) {
            line[i] = '?';
        }
    }
    if (dropped_count != 0) {
        n = snprintf(line + at, sizeof(line) - (size_t)at, " (%u like it not shown)",
                     dropped_count);
        at = n < 0 || n >= (int)sizeof(line) - at ? (int)sizeof(line) - 1 : at + n;
    }
    if (at >= (int)sizeof(line) - 1) {
        at = (int)sizeof(line) - 1;
    }
    line[at++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, (size_t)at);
    (void)written; /* nowhere left to report it */
}

void vgd_log(enum vgd_log_level level, const char *where, const char *format, ...)
{
    if (level > log_level) {
        return;
    }
    va_list args;
    va_start(args, format);
    vlog(level, where, 0, format, args);
    va_end(args);
}

void vgd_log_guest(struct vgd_log_limit *limit, const char *where, const char *format, ...)
{
    uint64_t now_ns = vgd_now_ns();
    if (limit->filled_ns == 0) {
        limit->filled_ns = now_ns;
        limit->tokens_count = VGD_LOG_GUEST_BURST;
    }
    uint64_t earned = (now_ns - limit->filled_ns) / (NS_PER_SECOND / VGD_LOG_GUEST_PER_SECOND);
    if (earned > 0) {
        limit->filled_ns += earned * (NS_PER_SECOND / VGD_LOG_GUEST_PER_SECOND);
        uint64_t tokens = limit->tokens_count + earned;
        limit->tokens_count = tokens > VGD_LOG_GUEST_BURST ? VGD_LOG_GUEST_BURST : (uint32_t)tokens;
    }
    if (limit->tokens_count == 0) {
        limit->dropped_count++;
        return;
    }
    limit->tokens_count--;
    if (log_level >= VGD_LOG_WARNING) {
        va_list args;
        va_start(args, format);
        vlog(VGD_LOG_WARNING, where, limit->dropped_count, format, args);
        va_end(args);
    }
    limit->dropped_count = 0;
}
