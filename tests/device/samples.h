/* SPDX-License-Identifier: MIT */
/* One good command of each type, for tests that do the same to every command. */
#ifndef DEVICE_SAMPLES_H
#define DEVICE_SAMPLES_H

#include "fixture.h"

struct sample {
    const char *name;
    uint32_t type;
    uint32_t ctx_id;
    enum vgd_gpu_queue queue;
    uint32_t resp_type;
    size_t resp_bytes;
    void (*body)(struct vgd_writer *w);
};
extern const struct sample samples[];
extern const size_t samples_count;

/* Ids that samples_prepare makes: 2D with and without backing, 3D in a context and outside; blobs
 * of guest memory, of host memory, and of host memory that is mapped at offset 0. */
#define RES_2D 1u
#define RES_2D_BARE 2u
#define RES_3D 3u
#define RES_3D_OUTSIDE 4u
#define RES_BLOB_GUEST 5u
#define RES_BLOB 6u
#define RES_BLOB_MAPPED 8u
#define SAMPLE_RESOURCES 7u
#define CTX 7u
#define SAMPLE_SIDE_PX 64u
#define SAMPLE_BYTES (SAMPLE_SIDE_PX * SAMPLE_SIDE_PX * 4u)

/** A state in which each sample succeeds once. */
void samples_prepare(struct bench *b);
void sample_build(const struct sample *sample, struct bench *b, struct cmd *c, bool fenced);

#endif
