/* SPDX-License-Identifier: MIT */
/*
 * What the files of virgl_state.h share; nobody else includes it.
 *
 *   virgl_state.c        following a stream: what is checked, and in which order; sub-contexts
 *   virgl_state_object.c objects, and the commands that made them
 *   virgl_state_bind.c   bindings
 *   virgl_state_emit.c   all of it as commands again
 *
 * A command is checked whole before anything of it is followed, and what may fail for want of
 * memory comes first: a command is followed, or leaves no trace.
 */
#ifndef VGD_VIRGL_STATE_PRIV_H
#define VGD_VIRGL_STATE_PRIV_H

#include "idmap.h"
#include "limits.h"
#include "virgl_state.h"
#include "virgl_wire.h"

#define STAGES ((uint32_t)VGD_VIRGL_STAGE_COMPUTE + 1)
#define TWEAKS ((uint32_t)VGD_VIRGL_TWEAK_GLES_TF3_SAMPLES_PASSED_MULTIPLIER + 1)
#define VERTEX_BUFFER_DWORDS 3u
#define BUFFER_DWORDS 3u /* of uniform, shader and atomic buffers: offset, size, resource */
#define IMAGE_DWORDS 5u
#define PIPE_CREATE_BODY_DWORDS 11u

/* A command kept as it came. */
struct kept {
    struct kept *prev, *next;
    uint32_t id;       /* what it is found by */
    uint32_t n_dwords; /* header included */
    uint32_t dwords[];
};
struct kept_list {
    struct kept *first, *last; /* owned, oldest first */
    uint32_t count;
};

/*
 *   live: in its sub-context's table
 *     |  destroyed, or another one made with its handle
 *     v
 *   orphan: a binding still has it; gone with the last one
 */
struct object {
    struct object *prev, *next;         /* the live ones of a sub-context, oldest first */
    struct object *res_prev, *res_next; /* those made of the same resource */
    struct kept_list more;              /* a shader's further pieces */
    uint32_t refs;                      /* the table's, and one for each slot that has it */
    uint32_t handle;
    uint32_t res_id;                       /* what it is made of; 0: nothing, or it is gone */
    uint32_t text_dwords, all_text_dwords; /* of a shader: that came, and that were announced */
    uint8_t type;                          /* MSAA surfaces are SURFACE */
    uint8_t stage;                         /* of a shader */
    bool live;
    bool is_gone;   /* made of a resource that the context has not any more */
    bool is_active; /* a query between BEGIN and END */
    bool is_kept;   /* or there was no room for its commands */
    uint32_t n_dwords;
    uint32_t dwords[]; /* the command that made it, with its header */
};

/* State of a fixed size that a command sets whole, one behind the other in sub_ctx.fixed. */
enum fixed_state {
    FIXED_NO_ATTACH,
    FIXED_STENCIL_REF,
    FIXED_BLEND_COLOR,
    FIXED_POLYGON_STIPPLE,
    FIXED_CLIP_STATE,
    FIXED_SAMPLE_MASK,
    FIXED_MIN_SAMPLES,
    FIXED_TESS_STATE,
    FIXED_COUNT,
};
#define FIXED_DWORDS 79u /* of all */
struct fixed_place {
    uint8_t opcode, at, n_dwords;
};
extern const struct fixed_place vgd_virgl_fixed[FIXED_COUNT];

struct constants {
    uint32_t *values; /* owned */
    uint32_t n, capacity;
    bool is_set, is_lost; /* lost: there was no room for them */
};

/* Slots hold what a command said of them. Objects in slots are counted (object.refs); a resource
 * that the context has not any more is 0. */
struct sub_ctx {
    struct sub_ctx *next; /* oldest first; that with id 0 is the first */
    uint32_t id;
    bool names_resources; /* in its slots; then it is on the list of those that do */
    struct sub_ctx *next_naming;
    struct vgd_idmap objects; /* live ones */
    struct object *first, *last;
    struct object *half_made[STAGES]; /* a shader whose text is not whole; live */

    struct object *blend, *rasterizer, *dsa, *vertex_elements;
    struct object *shaders[STAGES];
    struct object *depth_stencil, *colors[VGD_VIRGL_MAX_COLOR_BUFFERS];
    uint32_t colors_count;
    struct object *targets[VGD_VIRGL_MAX_STREAMOUT_TARGETS];
    uint32_t targets_count, targets_append;
    struct object *views[STAGES][VGD_VIRGL_MAX_SAMPLER_VIEWS];
    uint32_t views_count[STAGES];
    struct object *samplers[STAGES][VGD_VIRGL_MAX_SAMPLERS];

    bool has_framebuffer;
    uint32_t fixed_set; /* a bit for each fixed_state */
    uint32_t fixed[FIXED_DWORDS];
    uint32_t viewports_set, scissors_set;
    uint32_t viewports[VGD_VIRGL_MAX_VIEWPORTS][6];
    uint32_t scissors[VGD_VIRGL_MAX_VIEWPORTS][2];
    uint32_t vertex_buffers[VGD_VIRGL_MAX_VERTEX_ATTRIBS * VERTEX_BUFFER_DWORDS];
    uint32_t vertex_buffers_count;
    uint32_t index_dwords; /* 0: never set */
    uint32_t index[3];
    struct constants constants[STAGES];
    /* A bit for each slot that has a resource. */
    uint32_t uniforms_used[STAGES], buffers_used[STAGES], images_used[STAGES], atomics_used;
    uint32_t uniforms[STAGES][VGD_VIRGL_MAX_UNIFORM_BUFFERS][BUFFER_DWORDS];
    uint32_t buffers[STAGES][VGD_VIRGL_MAX_SHADER_BUFFERS][BUFFER_DWORDS];
    uint32_t images[STAGES][VGD_VIRGL_MAX_SHADER_IMAGES][IMAGE_DWORDS];
    uint32_t atomics[VGD_VIRGL_MAX_ATOMIC_BUFFERS][BUFFER_DWORDS];
    uint32_t tweaks_set;
    uint32_t tweaks[TWEAKS];
};

struct vgd_virgl_state {
    struct vgd_virgl_state_config config;
    uint64_t bytes;
    uint32_t objects_count;   /* of all kinds: objects, orphans, and what is kept for the context */
    uint32_t forgotten_count; /* objects and constants that are not kept */
    bool has_gaps;            /* what is not kept, and does not go away */
    uint32_t sub_ctxs_count;
    struct sub_ctx *first, *last, *current; /* owned */
    struct vgd_idmap sub_ctxs;              /* the same, by id */
    struct sub_ctx *first_naming;           /* those with resources in their slots, newest first */
    struct vgd_idmap made_of;               /* resource id -> the first object made of it */
    struct kept_list blobs; /* PIPE_RESOURCE_CREATE that no blob has taken, by blob id */
    uint64_t blobs_bytes;   /* that these count for in *config.resource_bytes */
    struct kept_list types; /* SET_TYPE, by resource */
    struct vgd_idmap types_by_id;
    struct kept_list codecs, pictures; /* CREATE_VIDEO_CODEC and _BUFFER */
};

/* What a handler needs. */
struct follow {
    struct vgd_virgl_state *state;
    struct sub_ctx *sub;
    const struct vgd_command *cmd;
    struct vgd_command_fault *fault;
};

/* virgl_state.c */
/** Take @n_bytes for what has to be. VGD_LIMIT: the guest's contexts have all they may have. */
VGD_MUST_CHECK enum vgd_status vgd_virgl_charge(struct vgd_virgl_state *state, uint64_t n_bytes);
/** Is there room to keep @n_bytes? Then they are taken. */
bool vgd_virgl_keep(struct vgd_virgl_state *state, uint64_t n_bytes);
void vgd_virgl_give_back(struct vgd_virgl_state *state, uint64_t n_bytes);
/** The name in the schema of what @dword (0 is the header) of @cmd is. */
const char *vgd_virgl_field_name(const struct vgd_command *cmd, uint32_t dword);
static inline enum vgd_status vgd_virgl_wrong(const struct follow *f, enum vgd_status status,
                                              uint32_t dword)
{
    *f->fault = (struct vgd_command_fault){
        .what = vgd_virgl_field_name(f->cmd, dword),
        .dword = dword,
        .value = dword == 0 ? f->cmd->n_dwords : f->cmd->body[dword - 1],
    };
    return status;
}
/** Is resource @id, which body[@i] names, attached? 0 is. VGD_NO_RESOURCE. */
static inline enum vgd_status vgd_virgl_resource_check(const struct follow *f, uint32_t i)
{
    uint32_t id = f->cmd->body[i];
    return id == 0 || f->state->config.has_resource(f->state->config.user, id)
               ? VGD_OK
               : vgd_virgl_wrong(f, VGD_NO_RESOURCE, i + 1);
}

/* virgl_state_object.c */
enum vgd_status vgd_virgl_object_create(struct follow *f);
void vgd_virgl_object_destroy(struct vgd_virgl_state *state, struct sub_ctx *sub,
                              struct object *obj);
void vgd_virgl_object_unref(struct vgd_virgl_state *state, struct object *obj);
/** Does a shader's text go on? Then its handle is taken: a renderer would lose track. */
bool vgd_virgl_is_half_made(const struct sub_ctx *sub, const struct object *obj);
/** A LINK_SHADER: no shader that is half made. */
enum vgd_status vgd_virgl_link_check(struct follow *f);
/** The live object of @type that body[@i] names; NULL: there is none. */
struct object *vgd_virgl_object_named(const struct follow *f, uint32_t i, uint8_t type);
/** The type that the renderer's table has for what the guest calls @type. */
static inline uint8_t vgd_virgl_object_type(uint8_t type)
{
    return type == VGD_VIRGL_OBJECT_MSAA_SURFACE ? VGD_VIRGL_OBJECT_SURFACE : type;
}
/** Keep @cmd under @id at the end of @list. *out is NULL where there is no room for it.
 *  VGD_NO_MEMORY. */
VGD_MUST_CHECK enum vgd_status vgd_virgl_kept_add(struct vgd_virgl_state *state,
                                                  struct kept_list *list,
                                                  const struct vgd_command *cmd, uint32_t id,
                                                  struct kept **out);
/** The same for what cannot be passed over: VGD_LIMIT where there is no room. */
VGD_MUST_CHECK enum vgd_status vgd_virgl_kept_must_add(struct vgd_virgl_state *state,
                                                       struct kept_list *list,
                                                       const struct vgd_command *cmd, uint32_t id);
struct kept *vgd_virgl_kept_find(const struct kept_list *list, uint32_t id);
void vgd_virgl_kept_drop(struct vgd_virgl_state *state, struct kept_list *list, struct kept *kept);
void vgd_virgl_kept_finish(struct vgd_virgl_state *state, struct kept_list *list);

/* virgl_state_bind.c: each checks and follows one command. */
enum vgd_status vgd_virgl_bind(struct follow *f);
/** Let @slot have @obj (or NULL). */
void vgd_virgl_slot_set(struct vgd_virgl_state *state, struct object **slot, struct object *obj);
/** @obj is about to be destroyed: what the renderer unbinds then is unbound. */
void vgd_virgl_unbind(struct vgd_virgl_state *state, struct sub_ctx *sub, struct object *obj);
void vgd_virgl_bindings_finish(struct vgd_virgl_state *state, struct sub_ctx *sub);
/** @res_id in no slot any more. Is there another resource in one? */
bool vgd_virgl_bindings_forget(struct sub_ctx *sub, uint32_t res_id);

#endif
