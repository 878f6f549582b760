/* SPDX-License-Identifier: MIT */
/*
 * The state as commands. Each sub-context is made as it was: its tweaks, its objects in the order
 * in which they were made, its bindings, then what is half made or runs. What is made of a resource
 * that is not there any more is left out, and not bound.
 *
 * An orphan is made with a handle that nobody has, bound, and destroyed: it ends up as it was.
 */
#include <stdlib.h>
#include <string.h>

#include "virgl_state_priv.h"

struct emit {
    vgd_virgl_state_fn fn;
    void *user;
    uint32_t *part; /* owned; @capacity dwords */
    uint32_t capacity, n;
    enum vgd_status status; /* the first failure */

    /* Of the sub-context that is being made. */
    const struct sub_ctx *sub;
    uint32_t spare; /* the last handle that was given to an orphan */
    struct {
        uint32_t handle;
        uint8_t type;
    } spares[VGD_VIRGL_MAX_SAMPLER_VIEWS];
    uint32_t spares_count; /* to be destroyed */
};

static void send(struct emit *e, const uint32_t *dwords, uint32_t n)
{
    if (e->status == VGD_OK && n > 0 && !e->fn(e->user, dwords, n)) {
        e->status = VGD_CLOSED;
    }
}

static void flush(struct emit *e)
{
    send(e, e->part, e->n);
    e->n = 0;
}

/* A command whose header is @header and whose body comes in two pieces. */
static void command(struct emit *e, uint32_t header, const uint32_t *head, uint32_t n_head,
                    const uint32_t *body, uint32_t n_body)
{
    uint32_t n = 1 + n_head + n_body;
    if (n > e->capacity - e->n) {
        flush(e);
    }
    uint32_t *to = e->part + e->n;
    uint32_t *longer = NULL;
    if (n > e->capacity) {
        to = longer = malloc((size_t)n * 4);
        if (longer == NULL) {
            e->status = e->status == VGD_OK ? VGD_NO_MEMORY : e->status;
            return;
        }
    }
    to[0] = header;
    if (n_head > 0) {
        memcpy(to + 1, head, (size_t)n_head * 4);
    }
    if (n_body > 0) {
        memcpy(to + 1 + n_head, body, (size_t)n_body * 4);
    }
    if (longer != NULL) {
        send(e, longer, n);
        free(longer);
    } else {
        e->n += n;
    }
}

static void emit(struct emit *e, uint8_t opcode, uint8_t object, const uint32_t *head,
                 uint32_t n_head, const uint32_t *body, uint32_t n_body)
{
    command(e, (n_head + n_body) << 16 | (uint32_t)object << 8 | opcode, head, n_head, body,
            n_body);
}

static void emit_kept(struct emit *e, const struct kept_list *list)
{
    for (const struct kept *kept = list->first; kept != NULL; kept = kept->next) {
        command(e, kept->dwords[0], kept->dwords + 1, kept->n_dwords - 1, NULL, 0);
    }
}

/* --- objects ---------------------------------------------------------------------------------- */

static void emit_object(struct emit *e, const struct object *obj, uint32_t handle)
{
    command(e, obj->dwords[0], &handle, 1, obj->dwords + 2, obj->n_dwords - 2);
    for (const struct kept *piece = obj->more.first; piece != NULL; piece = piece->next) {
        command(e, piece->dwords[0], &handle, 1, piece->dwords + 2, piece->n_dwords - 2);
    }
}

/* The handle by which @obj can be bound; 0: there is nothing to bind. */
static uint32_t handle_of(struct emit *e, const struct object *obj)
{
    if (obj == NULL || obj->is_gone) {
        return 0;
    }
    if (obj->live) {
        return obj->handle;
    }
    do {
        e->spare++;
    } while (e->spare == 0 || vgd_idmap_find(&e->sub->objects, e->spare) != NULL);
    e->spares[e->spares_count].handle = e->spare;
    e->spares[e->spares_count++].type = obj->type;
    emit_object(e, obj, e->spare);
    return e->spare;
}

/* The orphans of the last command are bound. */
static void drop_spares(struct emit *e)
{
    for (uint32_t i = 0; i < e->spares_count; i++) {
        emit(e, VGD_VIRGL_CMD_DESTROY_OBJECT, e->spares[i].type, &e->spares[i].handle, 1, NULL, 0);
    }
    e->spares_count = 0;
}

static void emit_bind(struct emit *e, uint8_t type, const struct object *obj)
{
    uint32_t handle = handle_of(e, obj);
    if (handle != 0) {
        emit(e, VGD_VIRGL_CMD_BIND_OBJECT, type, &handle, 1, NULL, 0);
        drop_spares(e);
    }
}

/* Handles of @slots to @out; returns how many there are up to the last that is not 0. */
static uint32_t handles_of(struct emit *e, struct object *const *slots, uint32_t n, uint32_t *out)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < n; i++) {
        out[i] = handle_of(e, slots[i]);
        used = out[i] != 0 ? i + 1 : used;
    }
    return used;
}

static void emit_framebuffer(struct emit *e)
{
    const struct sub_ctx *sub = e->sub;
    uint32_t colors[VGD_VIRGL_MAX_COLOR_BUFFERS];
    uint32_t head[2] = {0, handle_of(e, sub->depth_stencil)};
    uint32_t used = handles_of(e, sub->colors, sub->colors_count, colors);
    head[0] = used != 0 ? sub->colors_count : 0; /* the renderer takes offence at none of several */
    emit(e, VGD_VIRGL_CMD_SET_FRAMEBUFFER_STATE, 0, head, 2, colors, head[0]);
    drop_spares(e);
}

static void emit_shader(struct emit *e, uint32_t stage)
{
    uint32_t shader[2] = {handle_of(e, e->sub->shaders[stage]), stage};
    if (shader[0] != 0) {
        emit(e, VGD_VIRGL_CMD_BIND_SHADER, 0, shader, 2, NULL, 0);
        drop_spares(e);
    }
}

/* No other shader of its stage can be made after it, orphans neither: so they come last. */
static void emit_half_made(struct emit *e)
{
    for (uint32_t stage = 0; stage < STAGES; stage++) {
        const struct object *obj = e->sub->half_made[stage];
        if (obj != NULL) {
            emit_object(e, obj, obj->handle);
            if (e->sub->shaders[stage] == obj) {
                emit_shader(e, stage);
            }
        }
    }
}

static void emit_stage_objects(struct emit *e, uint32_t stage)
{
    const struct sub_ctx *sub = e->sub;
    if (sub->half_made[stage] == NULL || sub->shaders[stage] != sub->half_made[stage]) {
        emit_shader(e, stage);
    }
    uint32_t head[2] = {stage, 0}, handles[VGD_VIRGL_MAX_SAMPLER_VIEWS];
    uint32_t n = sub->views_count[stage];
    if (n > 0) {
        (void)handles_of(e, sub->views[stage], n, handles);
        emit(e, VGD_VIRGL_CMD_SET_SAMPLER_VIEWS, 0, head, 2, handles, n);
        drop_spares(e);
    }
    n = handles_of(e, sub->samplers[stage], VGD_VIRGL_MAX_SAMPLERS, handles);
    if (n > 0) {
        emit(e, VGD_VIRGL_CMD_BIND_SAMPLER_STATES, 0, head, 2, handles, n);
    }
}

/* --- values and resources --------------------------------------------------------------------- */

/* One command for each run of bits in @set: the slot, then @each dwords of every slot. */
static void emit_runs(struct emit *e, uint8_t opcode, const uint32_t *stage, uint32_t set,
                      const uint32_t *slots, uint32_t each, bool one_by_one)
{
    for (uint32_t i = 0; i < 32 && set >> i != 0; i++) {
        uint32_t n = 0;
        while (i + n < 32 && (set >> (i + n) & 1) != 0 && !(one_by_one && n == 1)) {
            n++;
        }
        if (n > 0) {
            uint32_t head[2] = {stage != NULL ? *stage : i, i};
            emit(e, opcode, 0, head, stage != NULL ? 2 : 1, slots + (size_t)i * each, n * each);
            i += n - 1;
        }
    }
}

static void emit_stage_values(struct emit *e, uint32_t stage)
{
    const struct sub_ctx *sub = e->sub;
    const struct constants *c = &sub->constants[stage];
    if (c->is_set) {
        const uint32_t head[2] = {stage, 0};
        emit(e, VGD_VIRGL_CMD_SET_CONSTANT_BUFFER, 0, head, 2, c->values, c->n);
    }
    emit_runs(e, VGD_VIRGL_CMD_SET_UNIFORM_BUFFER, &stage, sub->uniforms_used[stage],
              sub->uniforms[stage][0], BUFFER_DWORDS, true);
    emit_runs(e, VGD_VIRGL_CMD_SET_SHADER_BUFFERS, &stage, sub->buffers_used[stage],
              sub->buffers[stage][0], BUFFER_DWORDS, false);
    emit_runs(e, VGD_VIRGL_CMD_SET_SHADER_IMAGES, &stage, sub->images_used[stage],
              sub->images[stage][0], IMAGE_DWORDS, false);
}

static void emit_bindings(struct emit *e)
{
    const struct sub_ctx *sub = e->sub;
    if (sub->has_framebuffer) {
        emit_framebuffer(e);
    }
    emit_bind(e, VGD_VIRGL_OBJECT_BLEND, sub->blend);
    emit_bind(e, VGD_VIRGL_OBJECT_DSA, sub->dsa);
    /* Before the viewports: how their depth is taken depends on it. */
    emit_bind(e, VGD_VIRGL_OBJECT_RASTERIZER, sub->rasterizer);
    emit_bind(e, VGD_VIRGL_OBJECT_VERTEX_ELEMENTS, sub->vertex_elements);
    for (uint32_t i = 0; i < FIXED_COUNT; i++) {
        const struct fixed_place *place = &vgd_virgl_fixed[i];
        if ((sub->fixed_set >> i & 1) != 0) {
            emit(e, place->opcode, 0, sub->fixed + place->at, place->n_dwords, NULL, 0);
        }
    }
    emit_runs(e, VGD_VIRGL_CMD_SET_VIEWPORT_STATE, NULL, sub->viewports_set, sub->viewports[0], 6,
              false);
    emit_runs(e, VGD_VIRGL_CMD_SET_SCISSOR_STATE, NULL, sub->scissors_set, sub->scissors[0], 2,
              false);
    if (sub->vertex_buffers_count > 0) {
        emit(e, VGD_VIRGL_CMD_SET_VERTEX_BUFFERS, 0, sub->vertex_buffers,
             sub->vertex_buffers_count * VERTEX_BUFFER_DWORDS, NULL, 0);
    }
    if (sub->index_dwords > 0) {
        emit(e, VGD_VIRGL_CMD_SET_INDEX_BUFFER, 0, sub->index, sub->index_dwords, NULL, 0);
    }
    emit_runs(e, VGD_VIRGL_CMD_SET_ATOMIC_BUFFERS, NULL, sub->atomics_used, sub->atomics[0],
              BUFFER_DWORDS, false);
    for (uint32_t stage = 0; stage < STAGES; stage++) {
        emit_stage_objects(e, stage);
        emit_stage_values(e, stage);
    }
    uint32_t targets[VGD_VIRGL_MAX_STREAMOUT_TARGETS];
    if (handles_of(e, sub->targets, sub->targets_count, targets) > 0) {
        emit(e, VGD_VIRGL_CMD_SET_STREAMOUT_TARGETS, 0, &sub->targets_append, 1, targets,
             sub->targets_count);
    }
}

static void emit_sub_ctx(struct emit *e, const struct sub_ctx *sub)
{
    e->sub = sub;
    e->spare = 0;
    if (sub->id != 0) { /* which makes it the current one; the first is there, and is current */
        emit(e, VGD_VIRGL_CMD_CREATE_SUB_CTX, 0, &sub->id, 1, NULL, 0);
    }
    for (uint32_t i = 0; i < TWEAKS; i++) {
        const uint32_t tweak[2] = {i, sub->tweaks[i]};
        if ((sub->tweaks_set >> i & 1) != 0) {
            emit(e, VGD_VIRGL_CMD_SET_TWEAKS, 0, tweak, 2, NULL, 0);
        }
    }
    for (const struct object *obj = sub->first; obj != NULL; obj = obj->next) {
        if (!obj->is_gone && !vgd_virgl_is_half_made(sub, obj)) {
            emit_object(e, obj, obj->handle);
        }
    }
    emit_bindings(e);
    emit_half_made(e);
    for (const struct object *obj = sub->first; obj != NULL; obj = obj->next) {
        if (obj->is_active && !obj->is_gone) {
            emit(e, VGD_VIRGL_CMD_BEGIN_QUERY, 0, &obj->handle, 1, NULL, 0);
        }
    }
}

enum vgd_status vgd_virgl_state_emit(const struct vgd_virgl_state *state, uint32_t part_dwords,
                                     vgd_virgl_state_fn fn, void *user)
{
    if (!vgd_virgl_state_is_whole(state)) {
        return VGD_UNSUPPORTED;
    }
    struct emit e = {.fn = fn, .user = user, .capacity = part_dwords != 0 ? part_dwords : 1};
    e.part = malloc((size_t)e.capacity * 4);
    if (e.part == NULL) {
        return VGD_NO_MEMORY;
    }
    emit_kept(&e, &state->types);
    emit_kept(&e, &state->blobs);
    emit_kept(&e, &state->codecs);
    emit_kept(&e, &state->pictures);
    for (const struct sub_ctx *sub = state->first; sub != NULL && e.status == VGD_OK;
         sub = sub->next) {
        emit_sub_ctx(&e, sub);
    }
    emit(&e, VGD_VIRGL_CMD_SET_SUB_CTX, 0, &state->current->id, 1, NULL, 0);
    flush(&e);
    free(e.part);
    return e.status;
}
