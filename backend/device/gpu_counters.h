/* SPDX-License-Identifier: MIT */
/* What a device counts: one writer, in memory that another process may read with plain loads. */
#ifndef VGD_GPU_COUNTERS_H
#define VGD_GPU_COUNTERS_H

#include <stdint.h>

struct vgd_gpu_counters {
    uint64_t commands, errors, submits, submit_bytes, transfers, flushes, fences;
    uint64_t resources_live, contexts_live, resource_bytes_live, backing_entries_live;
    uint64_t contexts_lost;
    uint64_t maps_live; /* blobs in the host-visible region, and on their way in or out */
    /* Commands in streams (SUBMIT_3D): all that were passed on, of these draws and those newer than
     * the decoder; and streams with something wrong. */
    uint64_t stream_commands, stream_draws, stream_unknown, stream_refused;
};

#endif
