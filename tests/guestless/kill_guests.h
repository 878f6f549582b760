/* SPDX-License-Identifier: MIT */
/*
 * What the tests that kill share: several guests, each with its vgd in a process of its own, killed
 * in turns; each kill is one report through a pipe.
 */
#ifndef VGD_TESTS_KILL_GUESTS_H
#define VGD_TESTS_KILL_GUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scene.h"

#define KILLS_MAX 1000u
#define ANSWER_MEDIAN_MS 300.0
#define ANSWER_MAX_MS 1000.0
#define GROWTH_MAX_KIB 2048

struct kill_options {
    const char *vgd;
    bool sanitized;
    uint32_t kills, guests, spacing_ms;
};

/* Entries of getopt_long's table: what kill_option_take knows. */
#define KILL_LONG_OPTIONS                                                                          \
    {"sanitized", no_argument, NULL, 's'}, {"kills", required_argument, NULL, 'k'},                \
        {"guests", required_argument, NULL, 'g'},                                                  \
    {                                                                                              \
        "spacing-ms", required_argument, NULL, 'm'                                                 \
    }

struct kill_options kill_options_default(void);
/** False: @option is not one of KILL_LONG_OPTIONS. */
bool kill_option_take(struct kill_options *o, int option, const char *value);
/** After the last option: the program is @argv[@first], and nothing else. False: they cannot be. */
bool kill_options_end(struct kill_options *o, int argc, char **argv, int first);

/* What a supervisor holds, before the first kill and after the last. */
struct kill_keeps {
    int fds_before, fds_after;
    int64_t kib_before, kib_after;
};
void kill_keeps_before(struct kill_keeps *k, const struct scene *s);
void kill_keeps_after(struct kill_keeps *k, const struct scene *s);
/** A line about @guest. Adds to *fd_leaks, and raises *growth_kib to what this one grew. */
void kill_keeps_add(const struct kill_keeps *k, uint32_t guest, uint32_t *fd_leaks,
                    int64_t *growth_kib);

/** The guest waits for its kill number @kill_idx: staggered over the guests, each beyond the window
 *  in which deaths count. */
void kill_wait(const struct kill_options *o, struct scene *s, uint32_t guest, uint32_t kill_idx);

/** In a process of its own: writes a report for each of @kills to @report_fd, whole. Its result is
 *  the process's status. */
typedef int (*kill_guest_fn)(const void *user, uint32_t guest, uint32_t kills, int report_fd);
typedef void (*kill_report_fn)(void *user, const void *report);
/**
 * All guests at once; @take gets each report of @report_bytes (at most PIPE_BUF) as it comes.
 *
 * Returns how many guests did not end with status 0; all of them if there is no pipe.
 */
uint32_t kill_guests(const struct kill_options *o, kill_guest_fn run, const void *run_user,
                     size_t report_bytes, kill_report_fn take, void *take_user);

/** For qsort of doubles. */
int kill_compare_double(const void *a, const void *b);

#endif
