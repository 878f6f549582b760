/* SPDX-License-Identifier: MIT */
/*
 * What one OpenGL context of the guest has made and what it has bound, learned from its streams: by
 * this they are checked on their way to the renderer, and from this the context can be made again
 * in another renderer. What is drawn is not kept here: that is the contents of resources.
 *
 * Kept: the sub-contexts and which is current; in each the live objects with the commands that made
 * them, and the last command for each thing that stays bound (engine.md lists them). An object that
 * was destroyed while it was bound lives on as the binding's.
 *
 * Bounded: VGD_VIRGL_OBJECTS_MAX live objects and VGD_VIRGL_STATE_BYTES_MAX bytes a context, with a
 * total for the guest. A context over its bytes goes on, but cannot be made again.
 * Thread: loop.
 */
#ifndef VGD_VIRGL_STATE_H
#define VGD_VIRGL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"
#include "stream.h"

struct vgd_virgl_state;

/* What a stream may name beside the context's own objects. */
struct vgd_virgl_state_config {
    /** Is resource @res_id attached to the context? */
    bool (*has_resource)(void *user, uint32_t res_id);
    void *user;
    uint64_t *total_bytes; /* borrowed: of all contexts of the guest; what this one takes is added
                              and taken off again */
    /* Borrowed: bytes of all resources of the guest, and how many there may be. What streams make
     * for blobs is added until it is a blob's or the context ends. NULL: not counted. */
    uint64_t *resource_bytes;
    uint64_t resource_bytes_max;
    bool strict; /* refuse what is newer than the decoder */
};

/* What was in a stream, as far as it went. */
struct vgd_virgl_tally {
    uint32_t commands, draws; /* draws: DRAW_VBO, CLEAR, blits, compute grids */
    uint32_t unknown;         /* newer than the decoder, passed on */
};

/** NULL: no memory. */
struct vgd_virgl_state *vgd_virgl_state_create(const struct vgd_virgl_state_config *config);
/** NULL is fine. */
void vgd_virgl_state_destroy(struct vgd_virgl_state *state);

/**
 * Check and follow a stream that is about to be executed (a private copy).
 *
 * @out_good_dwords  how many from the start are in order: all, or those before the first command
 *                   that is not. These are to be executed, and have been followed.
 *
 * VGD_OK; or why the first wrong command is wrong, with *@fault and *@out_wrong: VGD_RANGE,
 * VGD_TRUNCATED, VGD_UNSUPPORTED (strict), VGD_NO_RESOURCE (not attached), VGD_LIMIT (too many
 * objects, or too many bytes), VGD_NO_MEMORY.
 */
VGD_MUST_CHECK enum vgd_status
vgd_virgl_state_follow(struct vgd_virgl_state *state, const uint32_t *dwords, uint32_t n_dwords,
                       uint32_t *out_good_dwords, struct vgd_virgl_tally *tally,
                       struct vgd_command *out_wrong, struct vgd_command_fault *fault);

/** The resource is not the context's any more: bindings of it are not made again. */
void vgd_virgl_state_forget_resource(struct vgd_virgl_state *state, uint32_t res_id);

/** The renderer refused part of what was followed: what it did of it is not known. */
void vgd_virgl_state_spoil(struct vgd_virgl_state *state);

#define VGD_VIRGL_PIPE_CREATE_DWORDS 12u /* of a PIPE_RESOURCE_CREATE, with its header */
/** What is counted for that which the context made for @blob_id, and no blob has taken; or 0. */
uint64_t vgd_virgl_state_blob_bytes(const struct vgd_virgl_state *state, uint64_t blob_id);
/** A blob has been made of what the context made for @blob_id: it is the resource's from now on,
 * and *out is the command that made it; here it is counted no longer. False: there is no such
 * thing. */
bool vgd_virgl_state_take_blob(struct vgd_virgl_state *state, uint64_t blob_id,
                               uint32_t out[VGD_VIRGL_PIPE_CREATE_DWORDS]);

/** Takes part of a stream: whole commands. False ends it. */
typedef bool (*vgd_virgl_state_fn)(void *user, const uint32_t *dwords, uint32_t n_dwords);
/**
 * What makes this context from a fresh one whose resources are attached, in parts of at most
 * @part_dwords (but a longer command is a part of its own). VGD_UNSUPPORTED: too much was forgotten
 * (vgd_virgl_state_is_whole); VGD_CLOSED: @fn ended it; VGD_NO_MEMORY.
 */
VGD_MUST_CHECK enum vgd_status vgd_virgl_state_emit(const struct vgd_virgl_state *state,
                                                    uint32_t part_dwords, vgd_virgl_state_fn fn,
                                                    void *user);
bool vgd_virgl_state_is_whole(const struct vgd_virgl_state *state);
uint64_t vgd_virgl_state_bytes(const struct vgd_virgl_state *state);
uint32_t vgd_virgl_state_objects(const struct vgd_virgl_state *state);

#endif
