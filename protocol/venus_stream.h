/* SPDX-License-Identifier: MIT */
/*
 * What a venus context sends through SUBMIT_3D. It is little: the commands that make rings and wake
 * them. What programs do with Vulkan goes through those rings, in memory that the guest shares with
 * the renderer's process, and never passes us.
 *
 * Commands do not say how long they are. Those of the transport are known here; behind any other
 * the rest of the bytes can only be counted.
 *
 * Thread: any; there is no state beside the caller's.
 */
#ifndef VGD_PROTOCOL_VENUS_STREAM_H
#define VGD_PROTOCOL_VENUS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "status.h"

#define VGD_VENUS_CHAIN_MAX 4u    /* of infos that extend a CREATE_RING */
#define VGD_VENUS_STREAMS_MAX 64u /* of an EXECUTE_COMMAND_STREAMS; more are not looked into */

struct vgd_venus_stream {
    struct vgd_reader reader; /* private */
    const uint8_t *start;     /* private */
    enum vgd_status status;
};

struct vgd_venus_command {
    uint32_t type, flags;
    size_t at_bytes;      /* of its header in the stream */
    const uint8_t *body;  /* borrowed from the stream */
    size_t n_body_bytes;  /* with @opaque, all that was left */
    bool opaque;          /* not one whose body we know: others may follow in these bytes */
    uint64_t ring;        /* what it names; 0 if it names none */
    uint64_t seqno;       /* likewise */
    uint32_t resource_id; /* the memory of a new ring, or for replies; 0 if it names none */
};

/** A stream of @n_bytes at @bytes, which must outlive it and all commands taken from it. */
struct vgd_venus_stream vgd_venus_stream_of(const void *bytes, size_t n_bytes);

/**
 * The next command of @s.
 *
 * Returns false at the end, and when the bytes end inside a command that we know: then s->status is
 * VGD_TRUNCATED. *out is untouched by that.
 */
bool vgd_venus_next(struct vgd_venus_stream *s, struct vgd_venus_command *out);

/** One line like vgd_command_print's: the same limits, and any command is safe to pass. */
size_t vgd_venus_print(const struct vgd_venus_command *cmd, char *out, size_t n_bytes);

#endif
