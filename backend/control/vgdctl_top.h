/* SPDX-License-Identifier: MIT */
/*
 * vgdctl top, in three: vgdctl_top.c asks again and again and owns the terminal;
 * vgdctl_top_sample.c turns replies into numbers; vgdctl_top_screen.c turns two samples into text.
 * Thread: there is one.
 */
#ifndef VGDCTL_TOP_H
#define VGDCTL_TOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "vgdctl.h"

#define TOP_NAME_BYTES 64u
#define TOP_TEXT_BYTES 160u
#define TOP_BUCKETS_MAX 64u
#define TOP_CONTEXTS_MAX 1024u
#define TOP_ERRORS_MAX 32u

/* Counts of durations, each up to le_ns and above the one before; one more for what is longer. */
struct top_histogram {
    unsigned n_buckets; /* with a limit */
    uint64_t le_ns[TOP_BUCKETS_MAX];
    uint64_t counts[TOP_BUCKETS_MAX + 1];
};

struct top_context {
    uint64_t id, submits, draws, resources, objects, state_bytes, busy_ns;
    bool lost;
    char name[TOP_NAME_BYTES], capset[TOP_NAME_BYTES];
};

struct top_error {
    uint64_t age_ms, ctx, count;
    char command[TOP_NAME_BYTES], response[TOP_NAME_BYTES], text[TOP_TEXT_BYTES];
};

/* What vgd said at one moment. Texts are ASCII that a terminal only prints. */
struct top_sample {
    uint64_t time_ns; /* CLOCK_MONOTONIC, here */
    char version[TOP_NAME_BYTES], renderer[TOP_NAME_BYTES], gpu[TOP_TEXT_BYTES];
    char worker_state[TOP_NAME_BYTES], trace_state[TOP_NAME_BYTES];
    uint64_t pid, uptime_ns;
    uint64_t worker_pid, worker_starts, worker_deaths;
    uint64_t trace_records, trace_bytes, trace_gaps;
    uint64_t commands, errors, submits, flushes;
    uint64_t bytes_commands, bytes_to_host, bytes_from_host, bytes_responses, bytes_pictures;
    uint64_t stream_commands, draws, stream_unknown, stream_refused;
    uint64_t fences_done, fences_outstanding;
    struct top_histogram fence_latency, submit_time;
    uint64_t memory_2d, memory_3d, memory_guest, memory_host, memory_backing, memory_state;
    uint64_t resources, contexts, contexts_lost, maps;
    unsigned n_contexts, n_errors;
    struct top_context context[TOP_CONTEXTS_MAX];
    struct top_error error[TOP_ERRORS_MAX]; /* newest first */
};

/** Ask on @fd. False and a complaint: a reply is missing or is none. */
bool vgdctl_top_sample(int fd, struct top_sample *out);

/**
 * Write what @now says, and how fast since @before, as lines.
 *
 * @rows  how many lines there is room for; 0: as many as there are
 */
void vgdctl_top_screen(FILE *to, const struct top_sample *before, const struct top_sample *now,
                       unsigned rows);

#endif
