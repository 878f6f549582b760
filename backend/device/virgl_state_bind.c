/* SPDX-License-Identifier: MIT */
/*
 * Bindings: what stays in use from the command that names it to the next one for the same slot.
 * These are most of the commands of a stream, so what is bound again costs little: an id that is in
 * the slot already needs no second look, since forgetting and destroying empty the slots.
 */
#include <stdlib.h>
#include <string.h>

#include "virgl_state_priv.h"

const struct fixed_place vgd_virgl_fixed[FIXED_COUNT] = {
    [FIXED_NO_ATTACH] = {VGD_VIRGL_CMD_SET_FRAMEBUFFER_STATE_NO_ATTACH, 0, 2},
    [FIXED_STENCIL_REF] = {VGD_VIRGL_CMD_SET_STENCIL_REF, 2, 1},
    [FIXED_BLEND_COLOR] = {VGD_VIRGL_CMD_SET_BLEND_COLOR, 3, 4},
    [FIXED_POLYGON_STIPPLE] = {VGD_VIRGL_CMD_SET_POLYGON_STIPPLE, 7, 32},
    [FIXED_CLIP_STATE] = {VGD_VIRGL_CMD_SET_CLIP_STATE, 39, 32},
    [FIXED_SAMPLE_MASK] = {VGD_VIRGL_CMD_SET_SAMPLE_MASK, 71, 1},
    [FIXED_MIN_SAMPLES] = {VGD_VIRGL_CMD_SET_MIN_SAMPLES, 72, 1},
    [FIXED_TESS_STATE] = {VGD_VIRGL_CMD_SET_TESS_STATE, 73, 6},
};

void vgd_virgl_slot_set(struct vgd_virgl_state *state, struct object **slot, struct object *obj)
{
    struct object *old = *slot;
    if (old == obj) {
        return;
    }
    if (obj != NULL) {
        obj->refs++;
    }
    *slot = obj;
    if (old != NULL) {
        vgd_virgl_object_unref(state, old);
    }
}

/* --- objects ---------------------------------------------------------------------------------- */

/* The object that body[@i] names, which may be what @now is bound. 0 names none. */
static enum vgd_status object_of(const struct follow *f, uint32_t i, uint8_t type,
                                 struct object *now, struct object **out)
{
    uint32_t handle = f->cmd->body[i];
    if (now != NULL && now->handle == handle && now->live) {
        *out = now;
        return VGD_OK;
    }
    *out = handle != 0 ? vgd_virgl_object_named(f, i, type) : NULL;
    return handle == 0 || *out != NULL ? VGD_OK : vgd_virgl_wrong(f, VGD_RANGE, i + 1);
}

static enum vgd_status bind_object(struct follow *f)
{
    struct sub_ctx *sub = f->sub;
    struct object **slot = NULL;
    switch (f->cmd->object) {
    case VGD_VIRGL_OBJECT_BLEND:
        slot = &sub->blend;
        break;
    case VGD_VIRGL_OBJECT_RASTERIZER:
        slot = &sub->rasterizer;
        break;
    case VGD_VIRGL_OBJECT_DSA:
        slot = &sub->dsa;
        break;
    case VGD_VIRGL_OBJECT_VERTEX_ELEMENTS:
        slot = &sub->vertex_elements;
        break;
    default: /* newer */
        f->state->has_gaps = true;
        return VGD_OK;
    }
    struct object *obj = NULL;
    enum vgd_status st = object_of(f, 0, f->cmd->object, *slot, &obj);
    if (st == VGD_OK) {
        vgd_virgl_slot_set(f->state, slot, obj);
    }
    return st;
}

enum vgd_status vgd_virgl_link_check(struct follow *f)
{
    for (uint32_t i = 0; i < STAGES && i < f->cmd->n_dwords; i++) {
        const struct object *obj = vgd_virgl_object_named(f, i, VGD_VIRGL_OBJECT_SHADER);
        if (obj != NULL && vgd_virgl_is_half_made(f->sub, obj)) {
            return vgd_virgl_wrong(f, VGD_RANGE, i + 1);
        }
    }
    return VGD_OK; /* compiles ahead of time, and leaves nothing behind */
}

/* The renderer passes over an unknown shader, and over one of another stage. */
static enum vgd_status bind_shader(struct follow *f)
{
    uint32_t stage = f->cmd->body[1];
    if (stage >= STAGES) {
        f->state->has_gaps = true;
        return VGD_OK;
    }
    struct object *obj = NULL;
    if (f->cmd->body[0] != 0) {
        obj = vgd_virgl_object_named(f, 0, VGD_VIRGL_OBJECT_SHADER);
        if (obj == NULL || obj->stage != stage) {
            return VGD_OK;
        }
        if (vgd_virgl_is_half_made(f->sub, obj)) {
            return vgd_virgl_wrong(f, VGD_RANGE, 1); /* a draw with it ends the renderer */
        }
    }
    vgd_virgl_slot_set(f->state, &f->sub->shaders[stage], obj);
    return VGD_OK;
}

static enum vgd_status set_framebuffer(struct follow *f)
{
    struct sub_ctx *sub = f->sub;
    struct object *depth_stencil = NULL, *colors[VGD_VIRGL_MAX_COLOR_BUFFERS] = {NULL};
    uint32_t n = f->cmd->n_dwords - 2u;
    enum vgd_status st =
        object_of(f, 1, VGD_VIRGL_OBJECT_SURFACE, sub->depth_stencil, &depth_stencil);
    for (uint32_t i = 0; st == VGD_OK && i < n; i++) {
        st = object_of(f, 2 + i, VGD_VIRGL_OBJECT_SURFACE, sub->colors[i], &colors[i]);
    }
    if (st != VGD_OK) {
        return st;
    }
    vgd_virgl_slot_set(f->state, &sub->depth_stencil, depth_stencil);
    for (uint32_t i = 0; i < VGD_VIRGL_MAX_COLOR_BUFFERS; i++) {
        vgd_virgl_slot_set(f->state, &sub->colors[i], colors[i]);
    }
    sub->colors_count = n;
    sub->has_framebuffer = true;
    return VGD_OK;
}

/* What lies behind the last view is unbound. */
static enum vgd_status set_sampler_views(struct follow *f)
{
    struct sub_ctx *sub = f->sub;
    uint32_t stage = f->cmd->body[0], start = f->cmd->body[1], n = f->cmd->n_dwords - 2u;
    if (stage >= STAGES) {
        f->state->has_gaps = true;
        return VGD_OK;
    }
    struct object **slots = sub->views[stage] + start;
    struct object *views[VGD_VIRGL_MAX_SAMPLER_VIEWS];
    for (uint32_t i = 0; i < n; i++) {
        enum vgd_status st =
            object_of(f, 2 + i, VGD_VIRGL_OBJECT_SAMPLER_VIEW, slots[i], &views[i]);
        if (st != VGD_OK) {
            return st;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        vgd_virgl_slot_set(f->state, &slots[i], views[i]);
    }
    for (uint32_t i = start + n; i < sub->views_count[stage]; i++) {
        vgd_virgl_slot_set(f->state, &sub->views[stage][i], NULL);
    }
    sub->views_count[stage] = start + n;
    return VGD_OK;
}

/* The renderer takes an unknown one for none. */
static enum vgd_status bind_sampler_states(struct follow *f)
{
    uint32_t stage = f->cmd->body[0], start = f->cmd->body[1], n = f->cmd->n_dwords - 2u;
    if (stage >= STAGES) {
        f->state->has_gaps = true;
        return VGD_OK;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct object **slot = &f->sub->samplers[stage][start + i];
        const struct object *now = *slot;
        if (now == NULL || now->handle != f->cmd->body[2 + i]) { /* only live ones are in slots */
            vgd_virgl_slot_set(f->state, slot,
                               vgd_virgl_object_named(f, 2 + i, VGD_VIRGL_OBJECT_SAMPLER_STATE));
        }
    }
    return VGD_OK;
}

static enum vgd_status set_streamout_targets(struct follow *f)
{
    struct sub_ctx *sub = f->sub;
    struct object *targets[VGD_VIRGL_MAX_STREAMOUT_TARGETS] = {NULL};
    uint32_t n = f->cmd->n_dwords - 1u;
    for (uint32_t i = 0; i < n; i++) {
        enum vgd_status st =
            object_of(f, 1 + i, VGD_VIRGL_OBJECT_STREAMOUT_TARGET, sub->targets[i], &targets[i]);
        if (st != VGD_OK) {
            return st;
        }
    }
    for (uint32_t i = 0; i < VGD_VIRGL_MAX_STREAMOUT_TARGETS; i++) {
        vgd_virgl_slot_set(f->state, &sub->targets[i], targets[i]);
    }
    sub->targets_count = n;
    sub->targets_append = f->cmd->body[0];
    return VGD_OK;
}

static void targets_clear(struct vgd_virgl_state *state, struct sub_ctx *sub)
{
    for (uint32_t i = 0; i < VGD_VIRGL_MAX_STREAMOUT_TARGETS; i++) {
        vgd_virgl_slot_set(state, &sub->targets[i], NULL);
    }
    sub->targets_count = 0;
}

/* The renderer closes the gap, in each stage. */
static void sampler_state_unbind(struct vgd_virgl_state *state, struct sub_ctx *sub,
                                 const struct object *obj)
{
    for (uint32_t stage = 0; stage < STAGES; stage++) {
        struct object **slots = sub->samplers[stage];
        uint32_t n_removed = 0;
        for (uint32_t i = 0; i < VGD_VIRGL_MAX_SAMPLERS; i++) {
            if (slots[i] == obj) {
                vgd_virgl_slot_set(state, &slots[i], NULL);
                n_removed++;
            } else if (n_removed > 0) {
                slots[i - n_removed] = slots[i];
                slots[i] = NULL;
            }
        }
    }
}

void vgd_virgl_unbind(struct vgd_virgl_state *state, struct sub_ctx *sub, struct object *obj)
{
    switch (obj->type) {
    case VGD_VIRGL_OBJECT_DSA:
        vgd_virgl_slot_set(state, &sub->dsa, NULL);
        break;
    case VGD_VIRGL_OBJECT_VERTEX_ELEMENTS:
        vgd_virgl_slot_set(state, &sub->vertex_elements, NULL);
        break;
    case VGD_VIRGL_OBJECT_SAMPLER_STATE:
        sampler_state_unbind(state, sub, obj);
        break;
    case VGD_VIRGL_OBJECT_STREAMOUT_TARGET:
        targets_clear(state, sub);
        break;
    default: /* the binding has its own hold on it */
        break;
    }
}

/* --- values ----------------------------------------------------------------------------------- */

static enum vgd_status set_constants(struct follow *f)
{
    uint32_t stage = f->cmd->body[0], n = f->cmd->n_dwords - 2u;
    if (stage >= STAGES) {
        f->state->has_gaps = true;
        return VGD_OK;
    }
    struct constants *c = &f->sub->constants[stage];
    if (n > c->capacity) {
        bool room = vgd_virgl_keep(f->state, (uint64_t)(n - c->capacity) * 4);
        uint32_t *bigger = room ? realloc(c->values, (size_t)n * 4) : NULL;
        if (room && bigger == NULL) {
            vgd_virgl_give_back(f->state, (uint64_t)(n - c->capacity) * 4);
            return vgd_virgl_wrong(f, VGD_NO_MEMORY, 0);
        }
        f->state->forgotten_count += !room && !c->is_lost;
        c->is_lost |= !room;
        if (!room) {
            return VGD_OK;
        }
        c->values = bigger;
        c->capacity = n;
    }
    f->state->forgotten_count -= c->is_lost;
    c->is_lost = false;
    c->is_set = true;
    c->n = n;
    if (n > 0) {
        memcpy(c->values, f->cmd->body + 2, (size_t)n * 4);
    }
    return VGD_OK;
}

static enum vgd_status set_fixed(struct follow *f, enum fixed_state which)
{
    const struct fixed_place *place = &vgd_virgl_fixed[which];
    f->state->has_gaps |= f->cmd->n_dwords > place->n_dwords; /* newer */
    memcpy(f->sub->fixed + place->at, f->cmd->body, (size_t)place->n_dwords * 4);
    f->sub->fixed_set |= 1u << which;
    return VGD_OK;
}

/* Bits @start to @start + @n - 1, of 32; @n is not 0. */
static uint32_t bits(uint32_t start, uint32_t n)
{
    return (n < 32 ? (1u << n) - 1 : UINT32_MAX) << start;
}

static enum vgd_status set_viewports(struct follow *f)
{
    uint32_t start = f->cmd->body[0], n = vgd_command_elements(f->cmd);
    if (n > 0) {
        memcpy(f->sub->viewports[start], f->cmd->body + 1, n * sizeof(f->sub->viewports[0]));
        f->sub->viewports_set |= bits(start, n);
    }
    return VGD_OK;
}

static enum vgd_status set_scissors(struct follow *f)
{
    uint32_t start = f->cmd->body[0], n = vgd_command_elements(f->cmd);
    if (n > 0) {
        memcpy(f->sub->scissors[start], f->cmd->body + 1, n * sizeof(f->sub->scissors[0]));
        f->sub->scissors_set |= bits(start, n);
    }
    return VGD_OK;
}

/* --- resources -------------------------------------------------------------------------------- */

/* The sub-context has, or may have, resources in its slots from now on. */
static void names_resources(const struct follow *f)
{
    if (!f->sub->names_resources) {
        f->sub->names_resources = true;
        f->sub->next_naming = f->state->first_naming;
        f->state->first_naming = f->sub;
    }
}

static enum vgd_status set_vertex_buffers(struct follow *f)
{
    struct sub_ctx *sub = f->sub;
    uint32_t n_dwords = f->cmd->n_dwords;
    for (uint32_t i = VERTEX_BUFFER_DWORDS - 1; i < n_dwords; i += VERTEX_BUFFER_DWORDS) {
        if (f->cmd->body[i] != sub->vertex_buffers[i]) {
            enum vgd_status st = vgd_virgl_resource_check(f, i);
            if (st != VGD_OK) {
                return st;
            }
        }
    }
    uint32_t n = n_dwords / VERTEX_BUFFER_DWORDS;
    names_resources(f);
    memcpy(sub->vertex_buffers, f->cmd->body, (size_t)n_dwords * 4);
    if (n < sub->vertex_buffers_count) { /* those that are unbound */
        memset(sub->vertex_buffers + n_dwords, 0,
               (size_t)(sub->vertex_buffers_count - n) * VERTEX_BUFFER_DWORDS * 4);
    }
    sub->vertex_buffers_count = n;
    return VGD_OK;
}

static enum vgd_status set_index_buffer(struct follow *f)
{
    struct sub_ctx *sub = f->sub;
    if (f->cmd->body[0] != sub->index[0]) {
        enum vgd_status st = vgd_virgl_resource_check(f, 0);
        if (st != VGD_OK) {
            return st;
        }
    }
    uint32_t n = f->cmd->n_dwords >= 3 ? 3 : 1;
    f->state->has_gaps |= f->cmd->n_dwords > 3; /* newer */
    names_resources(f);
    memset(sub->index, 0, sizeof(sub->index));
    memcpy(sub->index, f->cmd->body, (size_t)n * 4);
    sub->index_dwords = n;
    return VGD_OK;
}

/* Slots of one kind; the last dword of each is the resource. */
struct slots {
    uint32_t *dwords;
    uint32_t *used; /* a bit for each slot that has a resource */
    uint32_t each;  /* dwords of a slot */
};

/* Set @n slots from @start on by what body[@first] begins with. They are inside. */
static enum vgd_status set_resources(struct follow *f, struct slots to, uint32_t first,
                                     uint32_t start, uint32_t n)
{
    const uint32_t *body = f->cmd->body + first;
    uint32_t each = to.each;
    uint32_t *slots = to.dwords + (size_t)start * each;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i * each + each - 1;
        if (body[at] != slots[at]) {
            enum vgd_status st = vgd_virgl_resource_check(f, first + at);
            if (st != VGD_OK) {
                return st;
            }
        }
    }
    names_resources(f);
    memcpy(slots, body, (size_t)n * each * 4);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bit = 1u << (start + i);
        *to.used = body[i * each + each - 1] != 0 ? *to.used | bit : *to.used & ~bit;
    }
    return VGD_OK;
}

static struct slots uniforms_of(struct sub_ctx *sub, uint32_t stage)
{
    return (struct slots){sub->uniforms[stage][0], &sub->uniforms_used[stage], BUFFER_DWORDS};
}

static struct slots buffers_of(struct sub_ctx *sub, uint32_t stage)
{
    return (struct slots){sub->buffers[stage][0], &sub->buffers_used[stage], BUFFER_DWORDS};
}

static struct slots images_of(struct sub_ctx *sub, uint32_t stage)
{
    return (struct slots){sub->images[stage][0], &sub->images_used[stage], IMAGE_DWORDS};
}

static struct slots atomics_of(struct sub_ctx *sub)
{
    return (struct slots){sub->atomics[0], &sub->atomics_used, BUFFER_DWORDS};
}

static enum vgd_status set_staged_resources(struct follow *f)
{
    struct sub_ctx *sub = f->sub;
    uint32_t stage = f->cmd->body[0], start = f->cmd->body[1];
    if (stage >= STAGES) {
        f->state->has_gaps = true;
        return VGD_OK;
    }
    if (f->cmd->opcode == VGD_VIRGL_CMD_SET_UNIFORM_BUFFER) {
        f->state->has_gaps |= f->cmd->n_dwords > 2 + BUFFER_DWORDS; /* newer */
        return set_resources(f, uniforms_of(sub, stage), 2, start, 1);
    }
    return set_resources(f,
                         f->cmd->opcode == VGD_VIRGL_CMD_SET_SHADER_BUFFERS ? buffers_of(sub, stage)
                                                                            : images_of(sub, stage),
                         2, start, vgd_command_elements(f->cmd));
}

static void forget_in(struct slots slots, uint32_t res_id)
{
    for (uint32_t left = *slots.used; left != 0; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(left);
        uint32_t *res = &slots.dwords[(size_t)i * slots.each + slots.each - 1];
        if (*res == res_id) {
            *res = 0;
            *slots.used &= ~(1u << i);
        }
    }
}

bool vgd_virgl_bindings_forget(struct sub_ctx *sub, uint32_t res_id)
{
    uint32_t others = 0;
    uint32_t n = sub->vertex_buffers_count * VERTEX_BUFFER_DWORDS;
    for (uint32_t i = VERTEX_BUFFER_DWORDS - 1; i < n; i += VERTEX_BUFFER_DWORDS) {
        if (sub->vertex_buffers[i] == res_id) {
            sub->vertex_buffers[i] = 0;
        }
        others |= sub->vertex_buffers[i];
    }
    if (sub->index[0] == res_id) {
        sub->index[0] = 0;
    }
    others |= sub->index[0];
    for (uint32_t stage = 0; stage < STAGES; stage++) {
        forget_in(uniforms_of(sub, stage), res_id);
        forget_in(buffers_of(sub, stage), res_id);
        forget_in(images_of(sub, stage), res_id);
        others |= sub->uniforms_used[stage] | sub->buffers_used[stage] | sub->images_used[stage];
    }
    forget_in(atomics_of(sub), res_id);
    return (others | sub->atomics_used) != 0;
}

/* --- all of them ------------------------------------------------------------------------------ */

enum vgd_status vgd_virgl_bind(struct follow *f)
{
    switch (f->cmd->opcode) {
    case VGD_VIRGL_CMD_SET_CONSTANT_BUFFER:
        return set_constants(f);
    case VGD_VIRGL_CMD_SET_VERTEX_BUFFERS:
        return set_vertex_buffers(f);
    case VGD_VIRGL_CMD_BIND_OBJECT:
        return bind_object(f);
    case VGD_VIRGL_CMD_BIND_SHADER:
        return bind_shader(f);
    case VGD_VIRGL_CMD_SET_SAMPLER_VIEWS:
        return set_sampler_views(f);
    case VGD_VIRGL_CMD_BIND_SAMPLER_STATES:
        return bind_sampler_states(f);
    case VGD_VIRGL_CMD_SET_FRAMEBUFFER_STATE:
        return set_framebuffer(f);
    case VGD_VIRGL_CMD_SET_INDEX_BUFFER:
        return set_index_buffer(f);
    case VGD_VIRGL_CMD_SET_UNIFORM_BUFFER:
    case VGD_VIRGL_CMD_SET_SHADER_BUFFERS:
    case VGD_VIRGL_CMD_SET_SHADER_IMAGES:
        return set_staged_resources(f);
    case VGD_VIRGL_CMD_SET_ATOMIC_BUFFERS:
        return set_resources(f, atomics_of(f->sub), 1, f->cmd->body[0],
                             vgd_command_elements(f->cmd));
    case VGD_VIRGL_CMD_SET_STREAMOUT_TARGETS:
        return set_streamout_targets(f);
    case VGD_VIRGL_CMD_SET_VIEWPORT_STATE:
        return set_viewports(f);
    case VGD_VIRGL_CMD_SET_SCISSOR_STATE:
        return set_scissors(f);
    default:
        break;
    }
    for (uint32_t i = 0; i < FIXED_COUNT; i++) {
        if (vgd_virgl_fixed[i].opcode == f->cmd->opcode) {
            return set_fixed(f, (enum fixed_state)i);
        }
    }
    f->state->has_gaps = true; /* the schema has grown, and this has not */
    return VGD_OK;
}

void vgd_virgl_bindings_finish(struct vgd_virgl_state *state, struct sub_ctx *sub)
{
    vgd_virgl_slot_set(state, &sub->blend, NULL);
    vgd_virgl_slot_set(state, &sub->rasterizer, NULL);
    vgd_virgl_slot_set(state, &sub->dsa, NULL);
    vgd_virgl_slot_set(state, &sub->vertex_elements, NULL);
    vgd_virgl_slot_set(state, &sub->depth_stencil, NULL);
    for (uint32_t i = 0; i < VGD_VIRGL_MAX_COLOR_BUFFERS; i++) {
        vgd_virgl_slot_set(state, &sub->colors[i], NULL);
    }
    targets_clear(state, sub);
    for (uint32_t stage = 0; stage < STAGES; stage++) {
        vgd_virgl_slot_set(state, &sub->shaders[stage], NULL);
        for (uint32_t i = 0; i < sub->views_count[stage]; i++) {
            vgd_virgl_slot_set(state, &sub->views[stage][i], NULL);
        }
        for (uint32_t i = 0; i < VGD_VIRGL_MAX_SAMPLERS; i++) {
            vgd_virgl_slot_set(state, &sub->samplers[stage][i], NULL);
        }
        struct constants *c = &sub->constants[stage];
        state->forgotten_count -= c->is_lost;
        vgd_virgl_give_back(state, (uint64_t)c->capacity * 4);
        free(c->values);
        *c = (struct constants){.values = NULL};
    }
}
