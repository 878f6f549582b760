/* SPDX-License-Identifier: MIT */
/* Between vgd-bench's runner (bench.c) and what it measures (bench_lines.c). */
#ifndef VGD_BENCH_H
#define VGD_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "guest_gpu.h"
#include "guest_process.h"
#include "guest_venus.h"
#include "virgl_stream.h"

#define BENCH_SCREEN_W_PX 1920u
#define BENCH_SCREEN_H_PX 1080u

/* One of the two. */
struct bench_subject {
    const char *exec;
    struct vgd_guest_process process;
    struct vgd_guest_gpu *gpu;
    bool screen_ready, context_ready, venus_ready;
    struct vgd_guest_backing screen;
    uint32_t *pixels; /* what the screen should show */
    struct vgd_virgl_stream draws;
    uint64_t fence_id;
    struct vgd_venus venus;
    uint64_t venus_at; /* a place in the host-visible region */
};

/* What one round of one line found. */
struct bench_result {
    double value;   /* in the line's unit */
    double p99;     /* of single iterations, 0: not known */
    double updates; /* display updates for each flush */
    double mib_per_flush;
    bool failed;
    const char *why;
};

struct bench_line {
    const char *name, *unit, *what;
    bool higher_is_better;
    bool needs_3d, needs_venus;
    bool has_pictures;
    uint32_t iterations;
    bool (*prepare)(struct bench_subject *s);
    struct bench_result (*run)(struct bench_subject *s, uint32_t iterations);
};

extern const struct bench_line bench_lines[];
extern const uint32_t bench_lines_count;

/* bench_venus.c */
bool bench_prepare_venus(struct bench_subject *s);
struct bench_result bench_run_map(struct bench_subject *s, uint32_t iterations);
struct bench_result bench_run_blob(struct bench_subject *s, uint32_t iterations);
struct bench_result bench_run_cpu_fence(struct bench_subject *s, uint32_t iterations);
struct bench_result bench_run_queue_fence(struct bench_subject *s, uint32_t iterations);

/** For qsort. */
int bench_compare_double(const void *a, const void *b);

#endif
