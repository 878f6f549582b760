/* SPDX-License-Identifier: MIT */
/*
 * Walks a virgl command stream, for what the bridge has to know of it: which resources it names,
 * and where memory shared with the client is read or written. Everything else passes as it is;
 * whether a command makes sense is the device's business.
 * Thread: any.
 */
#ifndef VGD_VTEST_STREAM_H
#define VGD_VTEST_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "vtest_span.h"

struct vgd_vtest_stream_transfer {
    uint32_t res_id;    /* the resource that has the pixels */
    uint32_t memory_id; /* the one whose memory is read or written; the same, or a staging buffer */
    bool to_host;
    uint32_t x;
    struct vgd_vtest_move move;
};

/* Called in the order of the stream; any may be NULL. Ids are the client's. */
struct vgd_vtest_stream_ops {
    /* What the device calls resource @res_id; written into the stream. */
    uint32_t (*device_id)(void *user, uint32_t res_id);
    void (*transfer)(void *user, const struct vgd_vtest_stream_transfer *transfer);
    /* Query @handle puts its results into @res_id from @offset_bytes on. */
    void (*query_made)(void *user, uint32_t handle, uint32_t res_id, uint32_t offset_bytes);
    void (*query_gone)(void *user, uint32_t handle);
    /* The result of @handle is going to be written. */
    void (*query_asked)(void *user, uint32_t handle);
    /* The host is going to write the memory of @res_id from its start. */
    void (*host_writes)(void *user, uint32_t res_id);
};

/** @dwords  the stream, in memory that only we write; changed where device_id says so */
void vgd_vtest_stream_walk(uint32_t *dwords, uint32_t n_dwords,
                           const struct vgd_vtest_stream_ops *ops, void *user);

#endif
