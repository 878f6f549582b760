/* SPDX-License-Identifier: MIT */
/*
 * What a trace's guest had made at some point, learned from its commands one after the other:
 * resources, contexts, scanouts, cursors. For tools that have to know what a command is about; a
 * trace is untrusted, so this knows a bounded number of things and believes no size.
 *
 * A command is taken when it is seen. One that was then refused is taken back by its id.
 * Thread: one at a time.
 */
#ifndef VGD_TRACE_MODEL_H
#define VGD_TRACE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "idmap.h"
#include "status.h"
#include "virtio_gpu.h"

/* Live at a time, as the device bounds them; and in one context. */
#define MODEL_RESOURCES_MAX 65536u
#define MODEL_CONTEXTS_MAX 1024u
#define MODEL_ATTACHED_MAX 65536u
/* Bytes of commands that are kept, all together: backings of many entries. */
#define MODEL_KEPT_BYTES_MAX (UINT64_C(256) << 20)

/* A whole command as recorded, header first; owned. */
struct model_command {
    uint8_t *bytes; /* NULL: none */
    size_t n_bytes;
    uint64_t id; /* of the command in the trace; 0: it has none */
};

enum model_kind { MODEL_2D, MODEL_3D, MODEL_BLOB };

struct model_resource {
    uint32_t id;
    enum model_kind kind;
    uint32_t ctx_id;        /* blobs: in whose name it was made */
    uint32_t w_px, h_px;    /* 2D */
    uint32_t blob_mem;      /* blobs */
    uint64_t backing_bytes; /* what its entries add up to; 0: it has no guest memory */
    struct model_command create, attach, map;
    bool left_out; /* the user's: it is not there where the trace is played */
    void *user;    /* the user's, for its guest memory */
    void *content; /* the user's, for what is in it */
};

struct model_context {
    uint32_t id;
    uint32_t capset; /* 0 as the guest said: virgl */
    struct model_command create;
    uint32_t *attached; /* resource ids, in no order; owned */
    uint32_t n_attached, room;
    struct vgd_idmap attached_places; /* in `attached`, counted from 1, instead of objects */
    bool left_out;                    /* the user's */
    void *user;                       /* the user's */
};

struct model_scanout {
    uint32_t resource_id; /* 0: off */
    struct vgd_rect rect; /* of the resource */
    struct model_command set;
    uint64_t set_id; /* the command that made it so; 0: not known */
    /* What it was before that, for a command that turns out to be refused. */
    uint32_t before_resource_id;
    struct vgd_rect before_rect;
    struct model_command before;
};

struct model {
    struct vgd_idmap resources; /* of struct model_resource */
    struct vgd_idmap contexts;  /* of struct model_context */
    struct model_scanout scanouts[VGD_MAX_SCANOUTS];
    struct model_command cursors[VGD_MAX_SCANOUTS];      /* the last UPDATE_CURSOR */
    struct model_command cursor_moves[VGD_MAX_SCANOUTS]; /* and a MOVE_CURSOR after it */
    uint64_t kept_bytes;
    uint64_t overflow_count; /* commands that were not learned, for the limits above */
    /* Something goes, and its user pointer with it. May be NULL. */
    void (*resource_gone)(void *user, struct model_resource *res);
    /** Its guest memory is another one now, or none. */
    void (*backing_gone)(void *user, struct model_resource *res);
    void (*context_gone)(void *user, struct model_context *ctx);
    void *user;
};

/** Forget everything; the callbacks stay. A model that is all zeros is valid and empty. */
void model_clear(struct model *m);

struct model_resource *model_resource(const struct model *m, uint32_t id);
struct model_context *model_context(const struct model *m, uint32_t id);

/** Learn from command @bytes with the id @id. Commands that make no sense change nothing. */
void model_take(struct model *m, uint64_t id, const uint8_t *bytes, size_t n_bytes);
/** The command @id of this @type, which names @res_id and @ctx_id, was refused. */
void model_take_back(struct model *m, uint64_t id, uint32_t type, uint32_t res_id, uint32_t ctx_id);

/** The resource that a command names in its fixed part; 0: none. @bytes with the header. */
uint32_t model_named_resource(const uint8_t *bytes, size_t n_bytes);
/** Where the entries of an ATTACH_BACKING or CREATE_BLOB begin, and how many there are whole; false
 *  for other commands. */
bool model_entries(const uint8_t *bytes, size_t n_bytes, size_t *out_at, uint32_t *out_n);

/** Is resource @res_id attached to it? */
bool model_is_attached(const struct model_context *ctx, uint32_t res_id);

#endif
