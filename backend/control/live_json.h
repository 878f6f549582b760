/* SPDX-License-Identifier: MIT */
/*
 * What a worker counts and lists in shared memory (gpu_counters.h), as JSON for the control socket.
 * Any bytes there are safe: they may change meanwhile, and a worker may have been taken over. Texts
 * of the guest become printable ASCII. Each function's result is the caller's; NULL: no memory.
 */
#ifndef VGD_LIVE_JSON_H
#define VGD_LIVE_JSON_H

#include <stdint.h>

#include "gpu_counters.h"

/* A context takes 460 bytes at most, and a reply VGD_CONTROL_REPLY_BYTES_MAX. */
#define VGD_LIVE_CONTEXTS_MAX 128u

struct json_object;

/* What the supervisor knows itself. */
struct vgd_live_worker {
    uint64_t uptime_ns; /* of the supervisor */
    uint64_t starts, deaths;
    uint64_t pid; /* 0: none now */
};

/** What "counters" answers. Names of commands and answers that never came are left out. */
struct json_object *vgd_live_counters(const struct vgd_gpu_counters *c,
                                      const struct vgd_live_worker *worker);
/**
 * Contexts with ids from @from_id on, by id, at most VGD_LIVE_CONTEXTS_MAX: an array.
 * *out_next_id: where the next part begins; -1: this is the last.
 */
struct json_object *vgd_live_contexts(const struct vgd_gpu_live *live, uint32_t from_id,
                                      int64_t *out_next_id);
/** The latest errors, newest first: an array. @now_ns: CLOCK_MONOTONIC. */
struct json_object *vgd_live_errors(const struct vgd_gpu_live *live, uint64_t now_ns);

#endif
